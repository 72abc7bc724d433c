"""The package's own exceptions.

Every error that a caller can cause derives from `BertZooError`, so that a command or a service
catches one class and prints one line. The kinds also derive from the built-in that Python users
expect.
"""

__all__ = ["BertZooError", "CheckpointError", "ConfigError", "DataError", "ExportError"]


class BertZooError(Exception):
    """Base of every error that keras_bert_zoo raises on purpose."""


class ConfigError(BertZooError, ValueError):
    """An option or a field of a configuration is unknown, malformed or contradicts another."""


class DataError(BertZooError, ValueError):
    """A data file or value cannot be used; the message names file and line where there are any."""


class CheckpointError(BertZooError, ValueError):
    """A checkpoint or preset directory is missing, damaged, or does not fit the model."""


class ExportError(BertZooError, RuntimeError):
    """An export could not be written, or did not answer as the model does."""
