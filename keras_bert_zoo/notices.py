"""Warnings that are given once."""

from __future__ import annotations

import logging

_given: set[str] = set()
_MOST = 10_000  # messages that are remembered; a service that loads for ever forgets them then


def warn_once(logger: logging.Logger, message: str) -> None:
    """Logs a warning, unless this process has logged the same one before.

    A model's files are read more than once while it is loaded.

    Args:
        logger: of the module that warns.
        message: str.

    >>> import sys
    >>> logger = logging.getLogger("example")
    >>> logger.propagate = False
    >>> logger.addHandler(logging.StreamHandler(sys.stdout))
    >>> warn_once(logger, "a.txt has blank lines.")
    a.txt has blank lines.
    >>> warn_once(logger, "a.txt has blank lines.")
    >>> logger.handlers.clear()
    >>> forget()
    """
    if message in _given:
        return
    if len(_given) >= _MOST:
        _given.clear()
    _given.add(message)
    logger.warning("%s", message)


def forget() -> None:
    """Lets every warning be given again; for tests."""
    _given.clear()
