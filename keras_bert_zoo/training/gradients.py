"""Sums, norms and clipping of gradients, dense or sparse, on one or several replicas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

__all__ = ["Gradient", "clip_gradients", "mean_of_gradients", "multiply", "sum_gradients"]

Gradient = Any
"""tf.Tensor, or tf.IndexedSlices for a table of embeddings."""


def sum_gradients(gradients: Sequence[Gradient]) -> list[Gradient]:
    """Sums the gradients of all replicas in one operation; each replica calls this.

    Args:
        gradients: of this replica.

    Returns:
        list. The sums; outside of a replica, and with a single one, the gradients.
    """
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return list(gradients)
    return list(replica.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients)))


def mean_of_gradients(gradients: Sequence[Gradient]) -> Gradient:
    """Averages the gradients of several losses for one variable.

    Args:
        gradients: all dense, all sparse, or all None.

    Returns:
        the mean; the rows of sparse gradients are not merged.
    """
    first = gradients[0]
    if first is None:
        return None
    if isinstance(first, tf.IndexedSlices):
        values = tf.concat([gradient.values for gradient in gradients], axis=0) / len(gradients)
        rows = tf.concat([gradient.indices for gradient in gradients], axis=0)
        return tf.IndexedSlices(values, rows, first.dense_shape)
    return tf.add_n(list(gradients)) / len(gradients)


def clip_gradients(
    optimizer: keras.optimizers.Optimizer, gradients: Sequence[Gradient]
) -> tuple[list[Gradient], tf.Tensor]:
    """Clips gradients by `clipnorm`, `global_clipnorm` or `clipvalue` of an optimizer.

    Args:
        optimizer: Keras optimizer.
        gradients: summed over the replicas.

    Returns:
        the gradients, and whether they were finite, bool ().
    """
    merged = [_merge_rows(g) if isinstance(g, tf.IndexedSlices) else g for g in gradients]
    norm = tf.linalg.global_norm(merged)
    if optimizer.clipnorm:
        limit = optimizer.clipnorm
        merged = [multiply(g, _factor(limit, tf.linalg.global_norm([g]))) for g in merged]
    elif optimizer.global_clipnorm:
        factor = _factor(optimizer.global_clipnorm, norm)
        merged = [multiply(g, factor) for g in merged]
    elif optimizer.clipvalue:
        limit = optimizer.clipvalue
        merged = [_mapped(g, lambda v: tf.clip_by_value(v, -limit, limit)) for g in merged]
    return merged, tf.math.is_finite(norm)


def multiply(gradient: Gradient, factor: Any) -> Gradient:
    """Multiplies a gradient with a number."""
    return _mapped(gradient, lambda values: values * tf.cast(factor, values.dtype))


def _merge_rows(gradient: tf.IndexedSlices) -> tf.IndexedSlices:
    # A repeated token has several rows. The norm needs their sum, and so do squares in Adam.
    rows, places = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, places, tf.size(rows))
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


def _factor(limit: float, norm: tf.Tensor) -> tf.Tensor:
    return limit / tf.maximum(norm, limit)


def _mapped(gradient: Gradient, function: Callable[[tf.Tensor], tf.Tensor]) -> Gradient:
    if isinstance(gradient, tf.IndexedSlices):
        values = function(gradient.values)
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return function(gradient)
