"""Atomic writing of directories."""
