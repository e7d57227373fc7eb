"""The workshop: data, synthesis, training, evaluation. Never imported by the daemon."""
