"""Argument checks: valid values are returned, invalid ones raise one form of message."""

import re

import numpy as np
import pytest

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.validation import (
    check_choice,
    check_flag,
    check_integer,
    check_number,
    is_integer,
    is_number,
)


def test_valid_values_become_plain_python_values():
    assert type(check_integer("rank", np.int64(3), minimum=3, maximum=3)) is int
    assert type(check_number("rate", np.float32(0.5), minimum=0.5, maximum=0.5)) is float
    assert check_flag("normalize", False) is False
    assert check_choice("pooling", "cls", ("cls", "mean")) == "cls"


def test_booleans_are_not_numbers():
    for value in (True, np.True_, "1", None):
        assert not is_integer(value)
        assert not is_number(value)
    assert not is_integer(1.0)
    assert not is_number(10**400)
    assert not is_number(float("inf"))


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (
            lambda: check_integer("rank", 9, minimum=1, maximum=8),
            "Expected `rank` to be an integer from 1 to 8, received 9.",
        ),
        (
            lambda: check_integer("rank", True, minimum=1),
            "Expected `rank` to be an integer of at least 1, received True.",
        ),
        (
            lambda: check_integer("rank", 2_000, maximum=1_024),
            "Expected `rank` to be an integer of at most 1,024, received 2000.",
        ),
        (lambda: check_integer("rank", 1.5), "Expected `rank` to be an integer, received 1.5."),
        (
            lambda: check_number("rate", float("nan")),
            "Expected `rate` to be a number, received nan.",
        ),
        (
            lambda: check_number("rate", 0, minimum=0, exclusive=True),
            "Expected `rate` to be a number greater than 0, received 0.",
        ),
        (
            lambda: check_number("rate", 1, maximum=1, exclusive=True),
            "Expected `rate` to be a number less than 1, received 1.",
        ),
        (
            lambda: check_number("rate", 1, minimum=0, maximum=1, exclusive=True),
            "Expected `rate` to be a number between 0 and 1 (exclusive), received 1.",
        ),
        (
            lambda: check_flag("normalize", 1),
            "Expected `normalize` to be True or False, received 1.",
        ),
        (
            lambda: check_choice("pooling", ["cls"], ("cls", "mean")),
            "Expected `pooling` to be one of 'cls', 'mean', received ['cls'].",
        ),
    ],
)
def test_messages(check, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        check()
