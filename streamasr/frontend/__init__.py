"""Samples to log-mel frames."""
