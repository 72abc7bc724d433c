"""Examples: lengths, slices and splits."""

from collections import Counter

import pytest

from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.errors import ConfigError, DataError


def make(labels) -> Examples:
    count = len(labels)
    texts = [f"text {index}" for index in range(count)]
    return Examples(texts, labels=labels, rows=list(range(2, count + 2)), path="a.csv")


def test_lengths_must_agree():
    with pytest.raises(DataError, match="expected 2 labels, one per text, received 1"):
        Examples(["a", "b"], labels=["x"])


def test_rows_without_a_file():
    examples = Examples(["a", "b"])
    assert examples.rows == [1, 2]
    assert examples.where(1) == "example 2"


def test_slices_and_subsets_keep_everything_together():
    examples = Examples(["a", "b", "c"], ["d", "e", "f"], ["x", "y", "z"], [2, 4, 5], "a.csv")
    assert examples[1:] == Examples(["b", "c"], ["e", "f"], ["y", "z"], [4, 5], "a.csv")
    assert examples.subset([2, 0]).labels == ["z", "x"]
    assert len(examples[3:]) == 0
    assert examples[3:].rows == []
    with pytest.raises(TypeError, match="Examples take a slice, received int"):
        examples[0]


@pytest.mark.parametrize(
    ("labels", "kind"),
    [(["a"], "single"), ([["a"]], "multi"), ([[]], "multi"), ([0.5], "float"), (None, None)],
)
def test_label_kind(labels, kind):
    assert Examples(["t"], labels=labels).label_kind == kind


def test_split_is_a_partition_in_the_order_of_the_file_and_repeatable():
    examples = make(["a", "b", "c"] * 20)
    rest, held_out = examples.split(0.2, seed=3)
    assert (len(rest), len(held_out)) == (48, 12)
    assert sorted(rest.rows + held_out.rows) == examples.rows
    assert rest.rows == sorted(rest.rows)
    assert held_out.rows == sorted(held_out.rows)
    assert examples.split(0.2, seed=3) == (rest, held_out)
    assert examples.split(0.2, seed=4)[1] != held_out


def test_stratified_split_gives_each_label_its_share():
    labels = ["common"] * 70 + ["rare"] * 30 + ["once"]
    rest, held_out = make(labels).split(0.1, seed=0)
    assert Counter(held_out.labels) == {"common": 7, "rare": 3}
    assert Counter(rest.labels)["once"] == 1


def test_stratified_split_hands_out_remainders_to_reach_the_wanted_size():
    labels = [f"label {index % 10}" for index in range(50)]  # 0.1 of each label is half an example
    _, held_out = make(labels).split(0.1, seed=0)
    assert len(held_out) == 5


@pytest.mark.parametrize("labels", [[0.5] * 10, [["a"], []] * 5, None])
def test_other_labels_are_split_at_random(labels):
    examples = Examples(list("abcdefghij"), labels=labels)
    rest, held_out = examples.split(0.3, seed=1)
    assert (len(rest), len(held_out)) == (7, 3)
    assert sorted(rest.texts + held_out.texts) == examples.texts


def test_split_errors():
    with pytest.raises(
        ConfigError, match="expected a fraction between 0 and 1 to hold out, received 1"
    ):
        make(["a", "b"]).split(1.0, seed=0)
    with pytest.raises(DataError, match="cannot hold out 0.1 of 2 examples: one part would be"):
        make(["a", "b"]).split(0.1, seed=0)
    with pytest.raises(DataError, match="every label has a single example"):
        make(["a", "b"]).split(0.5, seed=0)
