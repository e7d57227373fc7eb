"""Log-mel frames to log-probabilities: the only torch at run time."""
