"""A toy family, head, task and data format, each in one file."""
