"""Viewers: live captions in the terminal."""
