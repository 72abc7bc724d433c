"""Relative position bias: a learned number per head and bucket of distances, added to scores."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.layers.attention_groups import Layout, distinct_positions
from keras_bert_zoo.layers.initializers import TruncatedNormal

# T5's default. MPNet uses it and ignores the value in its config.
NUM_BUCKETS = 32

# All distances from this one on share the last bucket of their side.
_LAST_DISTANCE = 91


@keras.saving.register_keras_serializable("keras_bert_zoo")
class RelativePositionBias(keras.layers.Layer):
    """Computes the biases that all blocks of an encoder add to their attention scores.

    Half of the buckets are for keys after the query, the others for keys before it or at its
    position. On each side, the distances 0 to 7 have one bucket each. From 8 on there are two
    buckets per octave. The last bucket contains all distances from 91 on.

    Args:
        num_heads: int.
        rows: int. Rows of the table, at least 32. Only the first 32 are used.
        initializer_range: float. Standard deviation of the table's truncated normal initializer.

    Call arguments:
        layout: the output of `TokenLayout`.

    Returns:
        dict: `attention_bias`, a list of float32 (n, N, s, s), one per group of the layout, the
        mask included.

    Source: arXiv 1910.10683, section 2.1; Hugging Face's modeling_mpnet.py, MPNetEncoder.
    """

    def __init__(
        self,
        num_heads: int,
        *,
        rows: int = NUM_BUCKETS,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        # With autocast, Keras would cast the masks, but biases are summed in float32.
        super().__init__(autocast=False, **kwargs)
        self.table = self.add_weight(
            name="table",
            shape=(rows, num_heads),
            initializer=TruncatedNormal(stddev=initializer_range),
            autocast=False,
        )

    def compute_output_spec(self, layout: Layout) -> Layout:
        """Returns the shapes and dtypes of `call`'s output, without a graph."""
        shape = (None, self.table.shape[1], None, None)
        # Keras identifies a tensor by its object, so each needs one.
        biases = [keras.KerasTensor(shape, dtype="float32") for _ in layout["attend"]]
        return {"attention_bias": biases}

    def call(self, layout: Layout) -> Layout:
        """Computes the biases; see the class."""
        distances = np.arange(-_LAST_DISTANCE, _LAST_DISTANCE + 1)
        by_distance = tf.gather(tf.transpose(self.table.value), buckets(distances), axis=1)
        biases = []
        for positions, mask in zip(distinct_positions(layout), layout["attend"], strict=True):
            key_minus_query = positions[:, tf.newaxis] - positions[:, :, tf.newaxis]  # (n, s, s)
            near = tf.clip_by_value(key_minus_query, -_LAST_DISTANCE, _LAST_DISTANCE)
            bias = tf.gather(by_distance, near + _LAST_DISTANCE, axis=1)  # (N, n or 1, s, s)
            biases.append(tf.transpose(bias, [1, 0, 2, 3]) + mask)
        return {"attention_bias": biases}


def buckets(distances: np.ndarray) -> np.ndarray:
    """Returns the bucket of each distance, the key's position minus the query's.

    It uses integers: the logarithms of the original are close to a rounding step at every octave.

    Args:
        distances: int array.

    Returns:
        int32 array of the same shape, in [0, 32).

    >>> buckets(np.array([0, -7, -8, -11, -12, -16, -91, -5000, 1, 7, 8, 5000]))
    array([ 0,  7,  8,  8,  9, 10, 15, 15, 17, 23, 24, 31], dtype=int32)
    """
    side = NUM_BUCKETS // 2
    exact = side // 2
    away = np.minimum(np.abs(distances), _LAST_DISTANCE)
    # exact + floor(log2(away / exact) * 2): T5's formula for the maximum distance 16 * exact = 128.
    halves = [int(d * d // exact**2).bit_length() - 1 for d in range(_LAST_DISTANCE + 1)]
    by_distance = np.where(
        np.arange(_LAST_DISTANCE + 1) < exact,
        np.arange(_LAST_DISTANCE + 1),
        np.minimum(exact + np.array(halves), side - 1),
    )
    return (by_distance[away] + side * (distances > 0)).astype(np.int32)
