"""Labels of tf.data datasets: `LabelMap.id_of` in TensorFlow ops. B batch, L labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.label_names import WHOLE, is_whole
from keras_bert_zoo.data.labels import LabelMap
from keras_bert_zoo.errors import DataError

_MULTI_HOT = "Multi-hot labels must be 0 or 1, received"
_ONE_HOT = (
    "One-hot labels must be 0 or 1 (shares need a task that is compiled with a loss such as "
    "'categorical_crossentropy'), received"
)


def label_targets(y: Any, labels: LabelMap, *, multi_label: bool) -> tf.Tensor:
    """Converts a batch of labels to targets, as `LabelMap.targets` does.

    Args:
        y: Single-label: (B,) or (B, 1), strings, integers, booleans or floats; or one-hot rows,
            numbers (B, L). Multi-label: multi-hot rows, numbers (B, L); a RaggedTensor of labels
            (B, None); or one label per text, strings (B,).
        labels: LabelMap.
        multi_label: bool.

    Returns:
        int32 (B,), ids; multi-label: float32 (B, L).

    Raises:
        DataError: labels cannot have this shape or dtype. An unknown label raises
            tf.errors.InvalidArgumentError when the graph runs.
    """
    count = len(labels)
    if isinstance(y, tf.RaggedTensor) and multi_label and y.shape.rank == 2:
        hot = tf.one_hot(_ids(y.flat_values, labels), count)
        return tf.minimum(tf.reduce_sum(y.with_flat_values(hot), axis=1), 1.0)
    if isinstance(y, tf.Tensor) and y.shape.rank is None:
        y = tf.ensure_shape(y, [None, count] if multi_label else [None])
    if not isinstance(y, tf.Tensor) or y.shape.rank not in (1, 2):
        raise DataError(
            f"Expected labels of shape (B,) or (B, {count}) in a dataset, received {y}."
        )
    width = y.shape[-1] if y.shape.rank == 2 else None
    numbers = y.dtype.is_integer or y.dtype.is_floating or y.dtype == tf.bool
    if width == 1 and not multi_label:
        return _ids(y[:, 0], labels)
    if y.shape.rank == 2 and numbers and width in (None, count):
        return _hot(y, count, _MULTI_HOT) if multi_label else _of_one_hot(y, count)
    if y.shape.rank == 2 or (multi_label and y.dtype != tf.string and labels.takes_ids):
        raise DataError(
            f"Expected labels of {'shape' if multi_label else 'shape (B,) or'} (B, {count}) in a "
            f"dataset, received {y.dtype.name} {y.shape}"
            f"{'; lists of labels come as a RaggedTensor' if multi_label else ''}."
        )
    return tf.one_hot(_ids(y, labels), count) if multi_label else _ids(y, labels)


def _hot(y: tf.Tensor, count: int, rule: str) -> tf.Tensor:
    """Checks rows of 0 and 1."""
    hot = tf.ensure_shape(tf.cast(y, tf.float32), [None, count])
    fits = tf.reduce_all((hot == 0) | (hot == 1))
    check = tf.debugging.Assert(fits, [rule, y])
    with tf.control_dependencies([check]):
        return tf.identity(hot)


def _of_one_hot(y: tf.Tensor, count: int) -> tf.Tensor:
    """Returns the ids of one-hot rows."""
    hot = _hot(y, count, _ONE_HOT)
    single = tf.reduce_all(tf.reduce_sum(hot, axis=1) == 1)
    check = tf.debugging.Assert(single, ["One-hot rows must have a single 1, received", y])
    with tf.control_dependencies([check]):
        return tf.argmax(hot, axis=1, output_type=tf.int32)


def _ids(y: tf.Tensor, labels: LabelMap) -> tf.Tensor:
    """Returns the ids, int32 (B,), of labels (B,) of any dtype."""
    names: dict[Any, int]
    if y.dtype == tf.bool:
        if labels.booleans:
            names = {int(value): index for value, index in labels.booleans.items()}
            return _checked(_matches(tf.cast(y, tf.int32), names), y)
        if len(labels) != 2 and not labels.numbers:
            raise DataError(
                "Booleans are ids of two labels, or names if the labels are named true and false; "
                f"the labels are {', '.join(labels.names)}."
            )
        return _ids(tf.cast(y, tf.int32), labels)
    if y.dtype == tf.string:
        names = {name: index for index, name in enumerate(labels.names)}
        matches = _matches(y, names)
        whole = {name.partition(".")[0]: index for name, index in names.items() if is_whole(name)}
        if whole:  # "1.0" is "1", unless both are names
            number = tf.strings.regex_replace(y, WHOLE, r"\1", replace_global=False)
            matches = tf.where(matches < 0, _matches(number, whole), matches)
        words = {str(value).lower(): index for value, index in labels.booleans.items()}
        if words:
            matches = tf.where(matches < 0, _matches(tf.strings.lower(y), words), matches)
        return _checked(matches, y)
    if y.dtype.is_integer:
        y = tf.cast(y, tf.int64)
    if labels.numbers:
        names = dict(labels.numbers)
        if y.dtype.is_integer:
            names = {n: i for n, i in names.items() if n == int(n) and abs(n) < 2**63}
        return _checked(_matches(y, names), y)
    if not labels.takes_ids:
        raise DataError(
            "Labels that are booleans have no number ids: give booleans or names in the "
            f"dataset; the labels are {', '.join(labels.names)}."
        )
    # Invalid ids become -1, also NaN and fractions.
    in_range = (y >= 0) & (y < tf.cast(len(labels), y.dtype))
    ids = tf.cast(tf.where(in_range, y, tf.zeros_like(y)), tf.int32)
    return _checked(tf.where(in_range & (tf.cast(ids, y.dtype) == y), ids, -1), y)


def _matches(y: tf.Tensor, names: dict[Any, int]) -> tf.Tensor:
    """Returns the ids, int32 (B,), of labels among the names; -1 for other labels."""
    if not names:
        return tf.fill(tf.shape(y), -1)
    same = y[:, tf.newaxis] == tf.constant(list(names), y.dtype)  # (B, names)
    ids = tf.constant(np.array(list(names.values()), np.int32))
    first = tf.gather(ids, tf.argmax(same, axis=1))
    return tf.where(tf.reduce_any(same, axis=1), first, -1)


def _checked(ids: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Raises an error in the graph if an id is -1: its label is unknown."""
    unknown = tf.boolean_mask(y, ids < 0)
    check = tf.debugging.Assert(tf.reduce_all(ids >= 0), ["Unknown labels:", unknown])
    with tf.control_dependencies([check]):
        return tf.identity(ids)
