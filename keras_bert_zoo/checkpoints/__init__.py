"""Checkpoint formats: name tables as data, and strict reading and writing."""
