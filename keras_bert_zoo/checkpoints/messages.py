"""Values from files, shortened for error messages."""

from __future__ import annotations

from collections.abc import Sequence

_LISTED = 12  # items in a message
_SHOWN = 200  # characters of a name or a message
_DIMENSIONS_SHOWN = 17
_SHAPE_SHOWN = 256  # characters of a shape


def show_shape(shape: Sequence[int]) -> str:
    """Returns a shape for a message, shortened if it is too long for a tensor.

    >>> show_shape([2, 3])
    '(2, 3)'
    """
    return str(tuple(shape[:_DIMENSIONS_SHOWN]))[:_SHAPE_SHOWN]


def show_name(name: str) -> str:
    r"""Returns a name from a file for a message, on one line and shortened.

    >>> show_name("hidden_size"), show_name("a\nb")
    ('hidden_size', 'a\\nb')
    """
    name = name[:_SHOWN]
    return name if name.isprintable() else ascii(name)[1:-1]


def one_line(error: BaseException) -> str:
    r"""Returns the message of an error on one line, shortened.

    >>> one_line(ValueError("no\n  file. "))
    'no file'
    """
    return " ".join(str(error).split())[:_SHOWN].rstrip(".") or type(error).__name__


def list_some(items: list[str]) -> str:
    """Returns the first items for a message, and the number of the others.

    >>> list_some(["a", "b"])
    'a, b'
    """
    rest = len(items) - _LISTED
    return ", ".join(items[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")
