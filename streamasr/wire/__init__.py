"""Bytes to events and back, without a socket."""
