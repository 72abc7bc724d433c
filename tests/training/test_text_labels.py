"""Targets and weights from the labels of texts."""

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.labels import LabelMap
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.training.outputs import Outputs, resolve_loss
from keras_bert_zoo.training.text_labels import dataset_labels, label_weights, labels_of

LABELS = LabelMap(("a", "b", "c"))
TARGETS = np.array([0, 2, 0, 0], np.int32)


def test_given_labels_come_before_those_of_the_examples():
    examples = Examples(["x", "y"], labels=["a", "b"])
    assert labels_of(examples, None) == ["a", "b"]
    assert labels_of(examples, np.array([[1], [0]])) == [1, 0]
    with pytest.raises(DataError, match="There are 2 texts but 1 targets"):
        labels_of(examples, [1.0], "targets")
    with pytest.raises(DataError, match="There are no targets: pass `y`, or Examples with targets"):
        labels_of(Examples(["x"]), None, "targets")


def test_balanced_labels_have_the_same_total_weight():
    weights = label_weights("balanced", TARGETS, LABELS)
    assert weights[TARGETS == 0].sum() == pytest.approx(weights[TARGETS == 2].sum())
    assert weights.dtype == np.float32
    assert label_weights([1, 2, 3], TARGETS, LABELS).tolist() == [1, 3, 1, 1]


def test_invalid_class_weights_are_refused():
    with pytest.raises(ConfigError, match="unknown label: 'd'. The labels are 'a', 'b', 'c'"):
        label_weights({"d": 1.0}, TARGETS, LABELS)
    with pytest.raises(ConfigError, match="a number of at least 0"):
        label_weights({"a": "much"}, TARGETS, LABELS)
    with pytest.raises(ConfigError, match="needs one label per text"):
        label_weights({"a": 1.0}, np.eye(3, dtype=np.float32), LABELS)


@pytest.mark.parametrize("loss", [None, "sparse_categorical_crossentropy"])
def test_soft_rows_need_a_loss_for_them(loss):
    soft, hot = tf.constant([[0.5, 0.5, 0.0]]), tf.constant([[0, 1, 0]])
    outputs = Outputs("label", "TextClassifier", 3)
    resolved = None if loss is None else resolve_loss(loss, outputs)
    assert dataset_labels(hot, LABELS, multi_label=False, loss=resolved).numpy().tolist() == [1]
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be 0 or 1"):
        dataset_labels(soft, LABELS, multi_label=False, loss=resolved)
    rows = resolve_loss("categorical_crossentropy", outputs)
    targets = dataset_labels(soft, LABELS, multi_label=False, loss=rows)
    np.testing.assert_array_equal(targets, soft)
