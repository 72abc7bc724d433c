"""LabelMap: the learned order, ids, and errors for unknown labels."""

import re

import numpy as np
import pytest

from keras_bert_zoo import notices
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.labels import LabelMap
from keras_bert_zoo.errors import ConfigError, DataError
from tests.frames import NA


def labelled(*labels, path="a.csv") -> Examples:
    return Examples(["t"] * len(labels), labels=list(labels), path=path)


def test_the_learned_order_does_not_depend_on_rows():
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
        ({-1: "a", 0: "b"}, "expected distinct ids of at least 0 in id2label, received [-1, 0]"),
        ({"0": "a", "00": "b"}, "expected distinct ids of at least 0 in id2label"),
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
    assert "id2label has no names for the ids [1]" in caplog.text
    assert ("no output has the names 'b'" in caplog.text) == (count == 2)


def test_unknown_labels_are_all_listed_with_their_first_place():
    examples = Examples(
        ["t"] * 4, labels=["cats", "dog", "bird", "cats"], rows=[2, 3, 5, 9], path="test.csv"
    )
    with pytest.raises(DataError) as caught:
        LabelMap(("cat", "dog")).to_ids(examples)
    assert str(caught.value) == (
        "test.csv: expected labels of 'cat', 'dog'; "
        "received 'cats' (first at test.csv:2, did you mean "
        "'cat'?), 'bird' (first at test.csv:5)"
    )


def test_long_lists_are_cut():
    labels = LabelMap(tuple(f"known{index}" for index in range(30)))
    with pytest.raises(DataError, match=r"'known19' and 10 more; received .* and 10 more"):
        labels.to_ids(labelled(*[f"{index}" for index in range(30)]))


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (labelled("a", "a"), "a.csv: expected at least two labels, received only 'a'"),
        (labelled([], []), "a.csv: expected labels, received none in any example"),
        (labelled(0.5), "a.csv: expected label names to learn, received numbers"),
        (Examples(["t"]), "expected label names to learn, received none"),
    ],
)
def test_nothing_to_learn(examples, message):
    with pytest.raises(DataError, match=message):
        LabelMap.learn(examples)


def test_names_from_a_caller():
    assert LabelMap.of(["no", 1]).names == ("no", "1")
    assert LabelMap.of(name for name in "ab").names == ("a", "b")


@pytest.mark.parametrize("labels", ["no, yes", b"no, yes"])
def test_a_string_is_not_a_list_of_labels(labels):
    expected = re.escape("a list of names, such as ['no', 'yes'], received 'no, yes'")
    with pytest.raises(ConfigError, match=expected):
        LabelMap.of(labels)


@pytest.mark.parametrize("labels", [{"a", "b"}, {"a": 0}, 3, None])
def test_labels_need_an_order(labels):
    with pytest.raises(ConfigError, match="expected `labels` to be a list of names in the order"):
        LabelMap.of(labels)


def test_a_map_of_a_string_is_refused():
    with pytest.raises(ConfigError, match="received 'ab'"):
        LabelMap("ab")


# === The rules that map values to labels ===


@pytest.mark.parametrize(
    ("names", "value", "expected"),
    [
        (("no", "yes"), "yes", 1),
        (("no", "yes"), b"yes", 1),
        (("no", "yes"), np.str_("yes"), 1),
        (("no", "yes"), "1", None),  # strings are never ids
        # If no name is a number, integers are ids.
        (("no", "yes"), 1, 1),
        (("no", "yes"), np.int8(1), 1),
        (("no", "yes"), 1.0, 1),
        (("no", "yes"), 2, None),
        (("no", "yes"), -1, None),
        (("no", "yes"), 0.5, None),
        (("no", "yes"), float("inf"), None),
        (("no", "yes"), True, 1),
        (("no", "yes"), np.False_, 0),
        (("a", "b", "c"), True, None),  # booleans are ids only for two labels
        # If some names are numbers, numbers are names and never ids.
        (("1", "2", "3"), 1, 0),
        (("1", "2", "3"), 3.0, 2),
        (("1", "2", "3"), 0, None),
        (("1", "2", "3"), "1", 0),
        (("1", "2", "3"), "1.0", 0),
        (("1", "0"), 1, 0),
        (("1", "0"), 0, 1),
        (("1", "0"), True, 0),
        (("1", "0"), np.False_, 1),
        (("1", "other"), 1, 0),
        (("1", "other"), 0, None),
        (("1.0", "0.0"), 1, 0),  # as pandas writes integers with a gap
        (("1.0", "0.0"), np.float32(0), 1),
        (("01", "1"), 1, 1),
        (("01", "02"), 2, 1),
        (("0.1", "0.5"), np.float32(0.1), 0),
        (("-1", "1"), -1, 0),
        # Booleans in the forms of different files.
        (("True", "False"), True, 0),
        (("True", "False"), np.False_, 1),
        (("True", "False"), "true", 0),
        (("true", "false"), True, 0),
        (("true", "false"), "False", 1),
        (("FALSE", "TRUE"), True, 1),
        (("True", "true"), True, 0),
        (("true", "True"), "True", 1),
        (("True", "other"), False, None),
        (("True", "False"), 1, None),  # ambiguous: the value of "True", the id of "False"
        (("False", "True"), 1, 1),
        (("False", "True"), 0.0, 0),
        (("yes", "TRUE"), "no", None),
    ],
)
def test_values_are_mapped_to_labels(names, value, expected):
    assert LabelMap(names).id_of(value) == expected


def targets(names, values, multi_label=False):
    examples = Examples(["t"] * len(values))
    return LabelMap(names).targets(values, examples, multi_label=multi_label).tolist()


def test_label_names_that_are_not_strings():
    assert LabelMap.of([b"a", 1, True, 0.5]).names == ("a", "1", "True", "0.5")
    assert LabelMap.of(np.array([2, 1])).names == ("2", "1")
    for missing in (None, float("nan")):
        with pytest.raises(
            ConfigError,
            match=r"`labels` to be names, "
            r"received (None|nan) at index 1",
        ):
            LabelMap.of(["a", missing])


def test_one_hot_rows_are_ids():
    rows = np.eye(3)[[2, 0, 1]]
    assert targets(("a", "b", "c"), list(rows)) == [2, 0, 1]
    assert targets(("a", "b", "c"), rows.astype(bool).tolist()) == [2, 0, 1]
    with pytest.raises(DataError, match=r"one-hot rows with a single 1, received .* at example 2"):
        targets(("a", "b", "c"), [[0, 0, 1], [0, 1, 1]])
    with pytest.raises(DataError, match="one-hot rows with a single 1"):
        targets(("a", "b"), [[0.7, 0.3]])


@pytest.mark.parametrize(
    ("values", "hot"),
    [
        ([[0, 1, 1], [1, 0, 0]], [[0, 1, 1], [1, 0, 0]]),
        (list(np.array([[True, False, True]])), [[1, 0, 1]]),
        ([[0.0, 1.0, 0.0]], [[0, 1, 0]]),
        ([[0, 1, 2], [0, 1, 2]], [[1, 1, 1], [1, 1, 1]]),  # ids
        ([[0, 2], [1]], [[1, 0, 1], [0, 1, 0]]),
        ([["a", "c"], []], [[1, 0, 1], [0, 0, 0]]),
        ([{"b"}, ("c", "a")], [[0, 1, 0], [1, 0, 1]]),
        ([["a", 1]], [[1, 1, 0]]),
        ([[], [], []], [[0, 0, 0]] * 3),
        (["b", ["a"]], [[0, 1, 0], [1, 0, 0]]),
        (["['a', 'b']", "[]", "['c' 'b']", "a"], [[1, 1, 0], [0, 0, 0], [0, 1, 1], [1, 0, 0]]),
        ([np.array(["a", "b"], object)], [[1, 1, 0]]),
        ([["a", "a"]], [[1, 0, 0]]),
        ([], []),
    ],
)
def test_several_labels_in_every_form(values, hot):
    assert targets(("a", "b", "c"), values, multi_label=True) == hot


def test_several_labels_whose_names_are_numbers():
    names = ("1", "2", "3")
    assert targets(names, [[1, 3], [2]], multi_label=True) == [[1, 0, 1], [0, 1, 0]]
    assert targets(names, [3, 1], multi_label=True) == [[0, 0, 1], [1, 0, 0]]
    assert targets(names, [[0, 1, 1]], multi_label=True) == [[0, 1, 1]]
    assert targets(names, [[1, 2, 3]], multi_label=True) == [[1, 1, 1]]
    assert targets(("[]", "a"), ["[]"], multi_label=True) == [[1, 0]]  # a name comes first


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            [[0, 1, 3]],
            "expected labels of 'a', 'b', 'c'; received '3' (first at example 1); label ids",
        ),
        ([[0, 1, 0, 0]], "must be of shape (texts, 3) with values 0 and 1"),
        ([[0.5, 0, 1]], "Multi-hot labels must be 0 or 1, received 0.5 at example 1"),
        ([1, 0], "must be of shape (texts, 3), received a single number at example 1"),
        ([["a"], None], "1 of 2 labels are missing (None or NaN): example 2; leave these rows out"),
        ([["a", None]], "1 of 1 labels are missing"),
        (["['a'"], "received \"['a'\""),
        (["['a', 'd']"], "received 'd'"),
    ],
)
def test_invalid_multi_labels(values, message):
    with pytest.raises(DataError, match=re.escape(message)):
        targets(("a", "b", "c"), values, multi_label=True)


@pytest.mark.parametrize(
    ("names", "values", "message"),
    [
        (("1", "2"), [1, 0], "numbers are read as names, not as ids, because some names"),
        (("True", "False"), [1, 0], "the labels are booleans in another order than false, true"),
        (("a", "b", "c"), [True], "booleans need two labels, or labels named true and false"),
        (("a", "b"), ["a", float("nan"), NA], "2 of 3 labels are missing (None or NaN): example 2"),
        (("a", "b"), [["a"], ["b"]], "Expected one label per text, received lists"),
    ],
)
def test_invalid_single_labels(names, values, message):
    with pytest.raises(DataError, match=re.escape(message)):
        targets(names, values)


def test_many_labels():
    names = tuple(f"label {index}" for index in range(30_000))
    with pytest.raises(ConfigError, match="these repeat: 'label 0', 'label 1', .* and 29980 more"):
        LabelMap(names + names)
    with pytest.raises(DataError, match="and 29980 more; received") as caught:
        LabelMap(names).to_ids(labelled(*(name.upper() * 50 for name in names)))
    assert len(str(caught.value)) < 20_000


def test_hints_are_for_names_of_usual_length():
    with pytest.raises(DataError, match="did you mean 'blue'"):
        LabelMap(("blue", "red")).to_ids(labelled("bleu"))


def test_numbers_of_many_digits_are_names():
    """int() takes 4,300 digits."""
    long = "1" * 5000
    assert LabelMap.learn(labelled(long, "2")).names == (long, "2")
    labels = LabelMap((long, "2"))
    assert (labels.id_of(long), labels.id_of(2), labels.id_of("3" * 5000)) == (0, 1, None)
    assert labels.id_of(10**5000) is None
    with pytest.raises(DataError, match="expected labels of .* received "):
        labels.targets([10**5000], labelled("x"), multi_label=False)


@pytest.mark.parametrize("key", ["1" * 5000, "1_0", "a", "1.0", ""])
def test_keys_of_id2label(key):
    with pytest.raises(ConfigError, match="expected the keys of id2label to be integers") as caught:
        LabelMap.from_id2label({"0": "a", key: "b"})
    assert len(str(caught.value)) < 300


def test_all_forms_of_a_whole_number_are_one_label(caplog):
    assert LabelMap.learn(labelled("1", "0.0", "1.0", "0")).names == ("0", "1")
    assert "The labels '0.0', '1.0' are read as the same numbers" in caplog.text
    for names in (("0", "1"), ("0.0", "1.0")):
        label_map = LabelMap(names)
        assert [label_map.id_of(value) for value in ("1", "1.0", "1.00", 1, 1.0)] == [1] * 5
        assert label_map.id_of("01") is None
        assert label_map.id_of("1.5") is None
    assert LabelMap(("1", "1.0")).id_of("1.0") == 1
    assert LabelMap.learn(labelled("a", "1.0", "1")).names == ("1", "a")
