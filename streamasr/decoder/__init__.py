"""Log-probabilities to words."""
