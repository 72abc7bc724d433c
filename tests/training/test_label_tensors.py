"""Labels of datasets: TensorFlow ops give the same targets as labels in memory."""

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.data.columns import listed
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.labels import LabelMap
from keras_bert_zoo.errors import DataError
from keras_bert_zoo.training.label_tensors import label_targets


def targets(names, y, *, multi_label=False):
    labels = LabelMap(tuple(names))
    return label_targets(tf.convert_to_tensor(y), labels, multi_label=multi_label).numpy().tolist()


@pytest.mark.parametrize(
    ("names", "y", "ids"),
    [
        (["1", "2", "3"], [1, 3, 2], [0, 2, 1]),
        (["1", "2", "3"], np.array([1, 3, 2], np.uint8), [0, 2, 1]),
        (["1", "2", "3"], [1.0, 3.0, 2.0], [0, 2, 1]),
        (["1", "2", "3"], ["1", "3", "2"], [0, 2, 1]),
        (["0.1", "0.5", "2"], np.array([0.5, 0.1, 2], np.float32), [1, 0, 2]),
        (["01", "1.0", "x"], [1, 1, 1], [0, 0, 0]),
        (["a", "b", "c"], [1, 2, 0], [1, 2, 0]),
        (["a", "b", "c"], np.array([1, 2, 0], np.float64), [1, 2, 0]),
        (["a", "b", "c"], np.array([[1], [2], [0]]), [1, 2, 0]),
        (["a", "b", "c"], np.eye(3)[[1, 2, 0]], [1, 2, 0]),
        (["a", "b", "c"], np.eye(3, dtype=bool)[[1, 2, 0]], [1, 2, 0]),
        (["True", "False"], [True, False, True], [0, 1, 0]),
        (["True", "False"], ["true", "False", "TRUE"], [0, 1, 0]),
        (["False", "True"], [1, 0, 1], [1, 0, 1]),
        (["a", "b"], [True, False, True], [1, 0, 1]),
        (["1", "0"], [True, False, True], [0, 1, 0]),
        ([f"l{i}" for i in range(300)], np.array([200, 0, 255], np.uint8), [200, 0, 255]),
    ],
)
def test_single_labels(names, y, ids):
    assert targets(names, y) == ids
    examples = Examples(["a"] * 3)
    in_memory = listed(np.array(y), flatten=True)
    assert LabelMap(tuple(names)).targets(in_memory, examples, multi_label=False).tolist() == ids


@pytest.mark.parametrize(
    ("names", "y"),
    [
        (["1", "2", "3"], [0, 1, 2]),
        (["a", "b", "c"], [1, 3, 0]),
        (["a", "b", "c"], [-1, 0, 0]),
        (["a", "b", "c"], [1.0, np.nan, 0]),
        (["a", "b", "c"], [1.0, 0.5, 0]),
        (["a", "b", "c"], [[0, 1, 1]] * 3),
        (["a", "b", "c"], [[0.5, 0.5, 0.0]] * 3),
        (["a", "b", "c"], ["a", "b", "d"]),
        (["True", "x"], [True, False, True]),
    ],
)
def test_unknown_labels(names, y):
    with pytest.raises(tf.errors.InvalidArgumentError, match="Unknown labels|One-hot"):
        targets(names, y)


def test_several_labels():
    names, hot = ["a", "b", "c"], [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert targets(names, hot, multi_label=True) == hot
    assert targets(names, np.array(hot, bool), multi_label=True) == hot
    assert targets(names, ["b", "a"], multi_label=True) == [[0, 1, 0], [1, 0, 0]]
    labels = LabelMap(("a", "b", "c"))
    for lists in ([["a", "c"], [], ["b"]], [[0, 2], [], [1]]):
        ragged = tf.ragged.constant(lists)
        assert label_targets(ragged, labels, multi_label=True).numpy().tolist() == hot
    with pytest.raises(tf.errors.InvalidArgumentError, match="Multi-hot labels must be 0 or 1"):
        targets(names, [[0, 1, 2]], multi_label=True)


@pytest.mark.parametrize(
    ("names", "y", "multi_label", "message"),
    [
        (["True", "False"], [1], False, "Labels that are booleans have no number ids"),
        (["a", "b", "c"], [True], False, "Booleans are ids of two labels"),
        (["a", "b", "c"], [[0, 1]], False, r"Expected labels of shape \(B,\) or \(B, 3\)"),
        (["a", "b", "c"], [["a", "b"]], False, "Expected labels of shape"),
        (["a", "b", "c"], [0], True, r"shape \(B, 3\) in a dataset, received int32 .*RaggedTensor"),
        (["a", "b", "c"], [[0, 1]], True, r"Expected labels of shape \(B, 3\)"),
    ],
)
def test_invalid_shapes_and_dtypes_are_refused(names, y, multi_label, message):
    with pytest.raises(DataError, match=message):
        targets(names, y, multi_label=multi_label)


def test_strings_of_one_whole_number_are_one_label():
    for names in (("0", "1"), ("0.0", "1.0")):
        assert targets(names, ["1", "1.0", "0.0", "0"]) == [1, 1, 0, 0]
    assert targets(("1.0", "1"), ["1", "1.0"]) == [1, 0]
    with pytest.raises(tf.errors.InvalidArgumentError, match="Unknown labels"):
        targets(("0", "1"), ["01"])
