"""LabelMap: the order it learns, the ids it gives, and what it says of unknown labels."""

import re

import numpy as np
import pytest

from keras_bert_zoo import notices
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.labels import LabelMap
from keras_bert_zoo.errors import ConfigError, DataError


def labelled(*labels, path="a.csv") -> Examples:
    return Examples(["t"] * len(labels), labels=list(labels), path=path)


def test_learns_in_an_order_that_rows_do_not_change():
    assert LabelMap.learn(labelled("b", "a", "c", "a")).names == ("a", "b", "c")
    assert LabelMap.learn(labelled("c", "b", "a")).names == ("a", "b", "c")


def test_integers_are_sorted_by_value():
    assert LabelMap.learn(labelled("10", "2", "-1")).names == ("-1", "2", "10")
    assert LabelMap.learn(labelled("10", "2", "x")).names == ("10", "2", "x")


def test_single_ids():
    ids = LabelMap(("a", "b")).to_ids(labelled("b", "a", "b"))
    assert ids.dtype == np.int32
    assert ids.tolist() == [1, 0, 1]


def test_multi_labels_become_ones_and_zeros():
    examples = labelled([], ["b", "a"], ["b"])
    labels = LabelMap.learn(examples)
    hot = labels.to_ids(examples)
    assert hot.dtype == np.float32
    assert hot.tolist() == [[0, 0], [1, 1], [0, 1]]


def test_config_round_trip():
    labels = LabelMap(("x", "y"))
    assert labels.id2label() == {0: "x", 1: "y"}
    assert labels.label2id() == {"x": 0, "y": 1}
    assert LabelMap.from_id2label({"1": "y", "0": "x"}) == labels
    assert LabelMap.from_id2label(labels.id2label()) == labels


@pytest.mark.parametrize(
    ("id2label", "message"),
    [
        ({-1: "a", 0: "b"}, "expected different ids of at least 0 in id2label, got [-1, 0]"),
        ({"0": "a", "00": "b"}, "expected different ids of at least 0 in id2label"),
        ({"a": "0"}, "expected the keys of id2label to be integers"),
        ({0: "a", 1: "a"}, "expected each label once, but these repeat: 'a'"),
    ],
)
def test_bad_id2label(id2label, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        LabelMap.from_id2label(id2label)


@pytest.mark.parametrize(
    ("count", "names"),
    [(None, ("a", "LABEL_1", "b")), (3, ("a", "LABEL_1", "b")), (2, ("a", "LABEL_1"))],
)
def test_gaps_in_id2label_get_default_names(caplog, count, names):
    notices.forget()
    assert LabelMap.from_id2label({"0": "a", "2": "b"}, count).names == names
    assert "no label of the ids [1]" in caplog.text
    assert ("no output has the names 'b'" in caplog.text) == (count == 2)


def test_unknown_labels_are_all_listed_with_their_first_place():
    examples = Examples(
        ["t"] * 4, labels=["cats", "dog", "bird", "cats"], rows=[2, 3, 5, 9], path="test.csv"
    )
    with pytest.raises(DataError) as caught:
        LabelMap(("cat", "dog")).to_ids(examples)
    assert str(caught.value) == (
        "test.csv: labels that the model does not know: 'cats' (first at test.csv:2, did you mean "
        "'cat'?), 'bird' (first at test.csv:5); it knows 'cat', 'dog'"
    )


def test_long_lists_are_cut():
    labels = LabelMap(tuple(f"known{index}" for index in range(30)))
    with pytest.raises(DataError, match=r"and 10 more; it knows .*'known19' and 10 more"):
        labels.to_ids(labelled(*[f"{index}" for index in range(30)]))


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (labelled("a", "a"), "a.csv: expected at least two labels to tell apart, but all examples"),
        (labelled([], []), "a.csv: expected labels, but no example has any"),
        (labelled(0.5), "a.csv: expected label names to learn, got numbers"),
        (Examples(["t"]), "expected label names to learn, got none"),
    ],
)
def test_nothing_to_learn(examples, message):
    with pytest.raises(DataError, match=message):
        LabelMap.learn(examples)


def test_takes_names_as_a_caller_gives_them():
    assert LabelMap.of(["no", 1]).names == ("no", "1")
    assert LabelMap.of(name for name in "ab").names == ("a", "b")


@pytest.mark.parametrize("labels", ["no, yes", b"no, yes"])
def test_a_string_is_no_list_of_labels(labels):
    expected = re.escape("must be a list of names, such as ['no', 'yes'], got the string 'no, yes'")
    with pytest.raises(ConfigError, match=expected):
        LabelMap.of(labels)


@pytest.mark.parametrize("labels", [{"a", "b"}, {"a": 0}, 3, None])
def test_labels_need_an_order(labels):
    with pytest.raises(ConfigError, match="must be a list of names in the order of their ids"):
        LabelMap.of(labels)


def test_a_map_of_a_string_is_refused_too():
    with pytest.raises(ConfigError, match="got the string 'ab'"):
        LabelMap("ab")
