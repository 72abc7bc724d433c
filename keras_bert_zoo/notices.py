"""Logs warnings only once."""

from __future__ import annotations

import logging

_logged: set[str] = set()
_MOST = 10_000  # remembered messages; bounds the memory of a service that loads many models


def warn_once(logger: logging.Logger, message: str) -> None:
    """Logs a warning, unless this process has logged the same one before.

    Loading a model reads some files more than once.

    Args:
        logger: the logger of the calling module.
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
    if message in _logged:
        return
    if len(_logged) >= _MOST:
        _logged.clear()
    _logged.add(message)
    logger.warning("%s", message)


def forget() -> None:
    """Forgets all logged warnings; for tests."""
    _logged.clear()
