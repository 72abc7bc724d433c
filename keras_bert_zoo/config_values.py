"""Checks of single values of a configuration."""

from __future__ import annotations

from keras_bert_zoo.validation import is_integer, is_number, show

MOST = 1 << 24
"""The largest integer in a configuration. No model has more rows or a larger width."""
MOST_LAYERS = 256
"""The largest number of layers. The largest DeBERTa has 48. Keras cannot build 1,000."""


def check_integers(config: object, *names: str, least: int = 1, most: int = MOST) -> list[str]:
    """Describes the fields that are not integers from `least` to `most`."""
    expected = "a positive integer" if least == 1 else f"an integer of at least {least}"
    problems = []
    for name in names:
        value = getattr(config, name)
        if not is_integer(value) or value < least:
            problems.append(f"`{name}` must be {expected}, received {show(value)}")
        elif value > most:
            problems.append(f"`{name}` must be at most {most:,}, received {show(value)}")
    return problems


def check_rates(config: object, *names: str) -> list[str]:
    """Describes the fields that are not numbers in [0, 1)."""
    values = {name: getattr(config, name) for name in names}
    return [
        f"`{name}` must be a number in [0, 1), received {show(value)}"
        for name, value in values.items()
        if not is_number(value) or not 0 <= value < 1
    ]


def check_flags(config: object, *names: str) -> list[str]:
    """Describes the fields that are not booleans."""
    values = {name: getattr(config, name) for name in names}
    return [
        f"`{name}` must be true or false, received {show(value)}"
        for name, value in values.items()
        if not isinstance(value, bool)
    ]


def check_strings(config: object, *names: str) -> list[str]:
    """Describes the fields that are not strings."""
    values = {name: getattr(config, name) for name in names}
    return [
        f"`{name}` must be a string, received {show(value)}"
        for name, value in values.items()
        if not isinstance(value, str)
    ]


def check_positive(config: object, *names: str) -> list[str]:
    """Describes the fields that are not positive numbers."""
    values = {name: getattr(config, name) for name in names}
    return [
        f"`{name}` must be a positive number, received {show(value)}"
        for name, value in values.items()
        if not is_number(value) or not value > 0
    ]
