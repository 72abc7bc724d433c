"""Checks of argument values, with one form of error message.

Each `check_*` function returns the value as a plain Python object, or raises `ConfigError`:

>>> check_integer("rank", 9, minimum=1, maximum=8)
Traceback (most recent call last):
...
keras_bert_zoo.errors.ConfigError: Expected `rank` to be an integer from 1 to 8, received 9.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection, Mapping
from typing import Any

from keras_bert_zoo.errors import ConfigError

__all__ = [
    "changed_options",
    "check_choice",
    "check_flag",
    "check_integer",
    "check_number",
    "is_integer",
    "is_number",
    "show",
]

_SHOWN = 80  # characters of a value in a message


def is_integer(value: Any) -> bool:
    """Returns whether a value is an integer. Booleans are not integers; NumPy integers are.

    Example:
    >>> is_integer(3), is_integer(True), is_integer(3.0)
    (True, False, False)
    """
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Returns whether a value is a finite number. Booleans are not numbers; NumPy numbers are.

    Example:
    >>> is_number(0.5), is_number(True), is_number(float("nan"))
    (True, False, False)
    """
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer larger than the largest float
        return False


def check_integer(
    name: str, value: Any, *, minimum: int | None = None, maximum: int | None = None
) -> int:
    """Checks an integer.

    Args:
        name: str. The argument's name, for the message.
        value: the argument's value.
        minimum: int or None. Smallest valid value.
        maximum: int or None. Largest valid value.

    Returns:
        int.

    Raises:
        ConfigError: the value is not an integer, or is out of range.

    Example:
    >>> check_integer("stride", 64, minimum=0)
    64
    """
    low = minimum is None or (is_integer(value) and value >= minimum)
    high = maximum is None or (is_integer(value) and value <= maximum)
    if not is_integer(value) or not (low and high):
        raise _error(name, f"an integer{_range(minimum, maximum)}", value)
    return int(value)


def check_number(
    name: str,
    value: Any,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    exclusive: bool = False,
) -> float:
    """Checks a finite number.

    Args:
        name: str. The argument's name, for the message.
        value: the argument's value.
        minimum: float or None. Smallest valid value.
        maximum: float or None. Largest valid value.
        exclusive: bool. Whether the bounds themselves are invalid.

    Returns:
        float.

    Raises:
        ConfigError: the value is not a finite number, or is out of range.

    Example:
    >>> check_number("threshold", 0.5, minimum=0, maximum=1, exclusive=True)
    0.5
    """
    valid = is_number(value)
    if valid and minimum is not None:
        valid = value > minimum if exclusive else value >= minimum
    if valid and maximum is not None:
        valid = value < maximum if exclusive else value <= maximum
    if not valid:
        raise _error(name, f"a number{_range(minimum, maximum, exclusive)}", value)
    return float(value)


def check_flag(name: str, value: Any) -> bool:
    """Checks a boolean.

    Args:
        name: str. The argument's name, for the message.
        value: the argument's value.

    Returns:
        bool.

    Raises:
        ConfigError: the value is not True or False.

    Example:
    >>> check_flag("normalize", True)
    True
    """
    if not isinstance(value, bool):
        raise _error(name, "True or False", value)
    return value


def check_choice(name: str, value: Any, choices: Collection[str]) -> str:
    """Checks a string that names one of several options.

    Args:
        name: str. The argument's name, for the message.
        value: the argument's value.
        choices: the valid strings.

    Returns:
        str.

    Raises:
        ConfigError: the value is not a valid string.

    Example:
    >>> check_choice("pooling", "mean", ["cls", "mean"])
    'mean'
    """
    if not isinstance(value, str) or value not in choices:
        raise _error(name, f"one of {', '.join(map(repr, choices))}", value)
    return value


def show(value: Any) -> str:
    """Formats a value for a message: on one line, truncated to 80 characters.

    Example:
    >>> show([1, "a"]), len(show("x" * 9999))
    ("[1, 'a']", 83)
    """
    try:
        text = ascii(value)
    except (ValueError, RecursionError):  # Python does not print integers of thousands of digits
        is_large = isinstance(value, int)
        text = f"a number of {value.bit_length():,} bits" if is_large else type(value).__name__
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _error(name: str, expected: str, value: Any) -> ConfigError:
    return ConfigError(f"Expected `{name}` to be {expected}, received {show(value)}.")


def _range(minimum: float | None, maximum: float | None, exclusive: bool = False) -> str:
    if minimum is not None and maximum is not None:
        if exclusive:
            return f" between {minimum:,} and {maximum:,} (exclusive)"
        return f" from {minimum:,} to {maximum:,}"
    if minimum is not None:
        return f" greater than {minimum:,}" if exclusive else f" of at least {minimum:,}"
    if maximum is not None:
        return f" less than {maximum:,}" if exclusive else f" of at most {maximum:,}"
    return ""


def changed_options(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Lists the options that differ between two runs, for messages.

    Args:
        earlier: name -> value of the first run.
        now: likewise, of the second one.

    Example:
        >>> changed_options({"epochs": 3, "seed": 0}, {"epochs": 5, "seed": 0})
        'epochs 5, before 3'
    """
    return "; ".join(
        f"{name} {now.get(name, 'not given')}, before {earlier.get(name, 'not given')}"
        for name in {**earlier, **now}
        if earlier.get(name) != now.get(name)
    )
