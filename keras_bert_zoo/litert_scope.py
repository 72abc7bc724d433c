"""The scope in which graphs for LiteRT are built."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["is_for_litert", "litert_scope"]

_OPEN: ContextVar[bool] = ContextVar("litert", default=False)


@contextmanager
def litert_scope() -> Iterator[None]:
    """Builds graphs of ops that LiteRT has, and that its XNNPACK kernels compute.

    Most code needs no difference. Some has one form for TensorFlow's fusions, or for its memory,
    and another for LiteRT; it asks `is_for_litert`.

    Yields:
        None.

    Example:
        >>> with litert_scope():
        ...     is_for_litert()
        True
    """
    token = _OPEN.set(True)
    try:
        yield
    finally:
        _OPEN.reset(token)


def is_for_litert() -> bool:
    """Returns whether a `litert_scope` is open.

    Returns:
        bool.

    Example:
        >>> is_for_litert()
        False
    """
    return _OPEN.get()
