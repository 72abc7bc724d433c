"""Damaged files for every reader of the package; see `__main__`."""
