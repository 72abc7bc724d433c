"""Columns of values: accepted types and errors."""

import re

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.data.columns import is_missing, listed, numbers, rows_of_columns
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.pairs import TextGroups
from keras_bert_zoo.errors import DataError
from tests.frames import NA, DataFrame, Series


@pytest.mark.parametrize(
    "column",
    [
        ["a", "b"],
        ("a", "b"),
        np.array(["a", "b"]),
        np.array(["a", "b"], object),
        Series(["a", "b"]),
        {"x": "a", "y": "b"}.values(),
    ],
)
def test_columns_are_taken_by_position(column):
    assert listed(column) == ["a", "b"]


def test_bytes_and_tensors_and_matrices():
    assert listed(np.array([b"a", b"b"])) == [b"a", b"b"]
    assert listed(tf.constant(["a", "b"])) == [b"a", b"b"]
    assert listed(tf.ragged.constant([[1], []])) == [[1], []]
    assert [row.tolist() for row in listed(np.eye(2))] == [[1, 0], [0, 1]]
    assert listed(np.array([[1], [2]]), flatten=True) == [1, 2]
    assert list(map(str, listed(np.array([0.1], np.float32)))) == ["0.1"]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("text", "received one string. Put it in a list"),
        (b"text", "received one string. Put it in a list"),
        (tf.constant("text"), "received one string. Put it in a list"),
        (np.array("text"), "received a single value. Put it in a list"),
        (
            DataFrame({"text": ["a"], "label": ["b"]}),
            "received a DataFrame with the columns 'text', 'label': pass one of its columns",
        ),
        ({"text": ["a"]}, "received a dict with the keys 'text': pass one of its values, such as"),
        ({}, "received a dict with the keys none"),
        ({"a", "b"}, "received a set: it has no order; pass a list"),
        ({"a": 1}.keys(), "received a dict_keys: it has no order"),
        (iter(["a"]), "received a list_iterator: it can be read only once; pass a list"),
        (map(str, [1]), "received a map: it can be read only once"),
        ((text for text in "ab"), "received a generator: it can be read only once"),
        (
            tf.data.Dataset.from_tensors(["a"]),
            "received a tf.data.Dataset: collect the contents of",
        ),
        (None, "received None"),
        (3, "received an int"),
        (TextGroups((["a"],)), "received a TextGroups"),
        (np.str_, "received a type"),
    ],
)
def test_errors_name_the_type_and_the_fix(column, message):
    with pytest.raises(DataError, match=f"Expected a list of labels, {re.escape(message)}"):
        listed(column, "labels")


def test_an_endless_generator_is_refused_at_once():
    def endless():
        while True:
            yield "a"

    with pytest.raises(DataError, match="received a generator"):
        listed(endless())


def test_missing_values():
    missing = [None, float("nan"), np.nan, np.float32("nan"), NA]
    assert all(map(is_missing, missing))
    assert not any(map(is_missing, ["", "nan", 0, False, np.int64(0), [], np.zeros(2)]))


def test_numbers_name_invalid_rows():
    examples = Examples(["t"] * 3, rows=[2, 3, 9], path="a.csv")
    assert numbers([1, "2.5", np.float32(3)], "Scores", examples).tolist() == [1, 2.5, 3]
    with pytest.raises(DataError, match=r"2 of 3 are missing \(None or NaN\): a\.csv:3, a\.csv:9"):
        numbers([1.0, None, NA], "Scores", examples)
    with pytest.raises(
        DataError,
        match=r"must be numbers, one per example; "
        r"received 'x' at a\.csv:3",
    ):
        numbers([1.0, "x", 2], "Scores", examples)
    with pytest.raises(DataError, match="finite numbers, received 1e\\+40 at a.csv:2"):
        numbers([1e40, 1, 2], "Scores", examples)


def test_a_table_with_a_column_for_each_label():
    table = DataFrame({"b": [1, 0], "a": [0, 1]})
    assert rows_of_columns(table, ["a", "b"]).tolist() == [[0, 1], [1, 0]]
    assert rows_of_columns(table, ["a", "b", "c"]) is table
    assert rows_of_columns([1, 2], ["a", "b"]) == [1, 2]
