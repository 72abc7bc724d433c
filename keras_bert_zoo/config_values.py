"""Checks of single values of a configuration."""

from __future__ import annotations

import math
from typing import Any

MOST = 1 << 24
"""The largest integer in a configuration. No model has more rows or a larger width."""
MOST_LAYERS = 256
"""The most layers. The largest DeBERTa has 48. Keras cannot build a graph of 1,000."""

_SHOWN = 80  # characters of a value in a message


def check_integers(config: object, *names: str, least: int = 1, most: int = MOST) -> list[str]:
    """Describes the fields that are not integers from `least` to `most`."""
    expected = "a positive integer" if least == 1 else f"an integer of at least {least}"
    problems = []
    for name in names:
        value = getattr(config, name)
        if not is_integer(value) or value < least:
            problems.append(f"`{name}` must be {expected}, received {short(value)}")
        elif value > most:
            problems.append(f"`{name}` must be at most {most:,}, received {short(value)}")
    return problems


def check_rates(config: object, *names: str) -> list[str]:
    """Describes the fields that are not numbers in [0, 1)."""
    values = {name: getattr(config, name) for name in names}
    return [
        f"`{name}` must be a number in [0, 1), received {short(value)}"
        for name, value in values.items()
        if not is_number(value) or not 0 <= value < 1
    ]


def check_flags(config: object, *names: str) -> list[str]:
    """Describes the fields that are not booleans."""
    values = {name: getattr(config, name) for name in names}
    return [
        f"`{name}` must be true or false, received {short(value)}"
        for name, value in values.items()
        if not isinstance(value, bool)
    ]


def check_strings(config: object, *names: str) -> list[str]:
    """Describes the fields that are not strings."""
    values = {name: getattr(config, name) for name in names}
    return [
        f"`{name}` must be a string, received {short(value)}"
        for name, value in values.items()
        if not isinstance(value, str)
    ]


def check_positive(config: object, *names: str) -> list[str]:
    """Describes the fields that are not positive numbers."""
    values = {name: getattr(config, name) for name in names}
    return [
        f"`{name}` must be a positive number, received {short(value)}"
        for name, value in values.items()
        if not is_number(value) or not value > 0
    ]


def short(value: Any) -> str:
    """Returns the repr of a value for a message, shortened.

    >>> short("a" * 90)[-4:]
    'a...'
    """
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print an integer of thousands of digits
        return f"a number of {value.bit_length():,} bits"
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def is_integer(value: Any) -> bool:
    """Whether a value is an integer, and not a boolean.

    >>> is_integer(1), is_integer(True)
    (True, False)
    """
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, and not a boolean.

    >>> is_number(0.5), is_number(float("nan")), is_number(True)
    (True, False, False)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer above all floats
        return False
