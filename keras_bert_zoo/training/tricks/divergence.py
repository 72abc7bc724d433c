"""Divergences between two outputs of a model for the same examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_bert_zoo.data.pipeline import NO_LABEL
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training.outputs import OutputKind, Outputs
from keras_bert_zoo.training.replicas import Part

__all__ = ["divergence", "shared_mean"]


def divergence(first: tf.Tensor, second: tf.Tensor, outputs: Outputs) -> tf.Tensor:
    """Computes the symmetric divergence of outputs: the mean of both directions.

    It is the Kullback-Leibler divergence of the distributions of labels; with several labels per
    text, the mean over the labels; and for numbers, the squared difference.

    Args:
        first: float, outputs of a model; see `Outputs`.
        second: float, the same shape.
        outputs: Outputs. Their kind is not "other".

    Returns:
        float32 (B,); (B, S) for outputs of tokens.

    Raises:
        ConfigError: outputs of another kind.

    Source: arXiv 2106.14448, equation 3.

    Example:
        >>> p, q = tf.math.log([[0.5, 0.5]]), tf.math.log([[0.8, 0.2]])
        >>> round(float(divergence(p, q, Outputs("label", "TextClassifier", 2))[0]), 4)
        0.2079
    """
    function = _DIVERGENCES.get(outputs.kind)
    if function is None:
        raise ConfigError(
            f"Expected outputs that are distributions or numbers, received those of a "
            f"{outputs.task}."
        )
    if outputs.scores is not None:
        first, second = outputs.scores(first), outputs.scores(second)
    return function(tf.cast(first, tf.float32), tf.cast(second, tf.float32))


def _of_labels(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    logs, others = tf.nn.log_softmax(first), tf.nn.log_softmax(second)
    return 0.5 * tf.reduce_sum((tf.exp(logs) - tf.exp(others)) * (logs - others), axis=-1)


def _of_several_labels(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    difference = tf.sigmoid(first) - tf.sigmoid(second)
    return 0.5 * tf.reduce_mean(difference * (first - second), axis=-1)


def _of_numbers(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.math.squared_difference(first, second), axis=-1)


_DIVERGENCES: dict[OutputKind, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "label": _of_labels,
    "labels": _of_several_labels,
    "number": _of_numbers,
    "tokens": _of_labels,
}


def shared_mean(part: Part, values: tf.Tensor) -> tf.Tensor:
    """Computes a share of the mean of values over the rows or labelled tokens of a batch.

    The sum of the shares of all replicas and parts is the mean, in which copies of rows do not
    count. The weights of the examples apply, as in the loss.

    Args:
        part: Part.
        values: float32 (B,), or (B, S) for the mean over the tokens with a label.

    Returns:
        float32 ().
    """
    share = part.share
    counted = tf.ones_like(values)
    if share is not None:
        real = tf.cast(share.real, values.dtype)
        counted *= real if values.shape.rank == 1 else real[:, tf.newaxis]
    if values.shape.rank == 1:
        total: Any = tf.reduce_sum(counted) if share is None else share.rows
    else:
        counted *= tf.cast(part.y != tf.cast(NO_LABEL, part.y.dtype), values.dtype)
        total = tf.reduce_sum(counted) if share is None else share.tokens
    if part.weight is not None:
        weight = tf.cast(tf.reshape(part.weight, [-1]), values.dtype)
        counted *= weight if values.shape.rank == 1 else weight[:, tf.newaxis]
    return tf.math.divide_no_nan(tf.reduce_sum(values * counted), tf.cast(total, values.dtype))
