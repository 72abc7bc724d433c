"""Reads damaged files with every reader of the package; see `__main__`."""
