"""DeBERTa's disentangled attention: scores of contents plus scores of relative positions.

Legend, in addition to that of `layers`: P relative distances (buckets) that occur in a batch.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.layers.attention import SelfAttention
from keras_bert_zoo.layers.attention_groups import Layout, group_positions
from keras_bert_zoo.layers.configured import ConfiguredLayer
from keras_bert_zoo.layers.dense import Dense
from keras_bert_zoo.layers.dropout import Dropout
from keras_bert_zoo.layers.initializers import TruncatedNormal
from keras_bert_zoo.layers.normalization import LayerNormalization


@keras.saving.register_keras_serializable("keras_bert_zoo")
class RelativeDistances(ConfiguredLayer):
    """The embeddings of relative distances, and the row of the table for each pair of tokens.

    All blocks share them. The output contains only the distances that occur in the batch, so that
    the blocks project fewer rows for a short batch.

    Args:
        span: int. Each distance from -span to span - 1 has a row. `span` is the number of buckets
            or, without buckets, the largest distance.
        num_buckets: int. Positive: distances beyond half of it share logarithmic buckets.
        max_distance: int. The distance at which the last bucket ends.
        hidden_dim: int.
        normalize: bool. Whether the table is layer-normalized before it is used.
        epsilon: float. Of that normalization.
        initializer_range: float.

    Call arguments:
        layout: the output of `TokenLayout`.
        training: bool.

    Returns:
        dict: `distance_table` float (P, H), compute dtype; `distances`, a list of int32
        (n, s, s), one per group: the row of the table for each query and key;
        `distances_of_keys`: the same for each key and query.

    Source: arXiv 2006.03654, section 3.1; microsoft/DeBERTa, disentangled_attention.py.
    """

    def __init__(
        self,
        *,
        span: int,
        num_buckets: int,
        max_distance: int,
        hidden_dim: int,
        normalize: bool,
        epsilon: float,
        initializer_range: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.span = span
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.table = self.add_weight(
            name="table",
            shape=(2 * span, hidden_dim),
            initializer=TruncatedNormal(stddev=initializer_range),
            autocast=False,
        )
        self.norm = (
            LayerNormalization(epsilon=epsilon, dtype="float32", name="norm") if normalize else None
        )

    def build(self, *_: Any) -> None:
        """Creates the weights of the norm."""
        if self.norm is not None:
            self.norm.build(self.table.shape)

    def compute_output_spec(self, layout: Layout, training: bool = False) -> dict[str, Any]:
        """Returns the shapes and dtypes of `call`'s output, without a graph."""
        shared: dict[str, Any] = {
            "distance_table": keras.KerasTensor((None, self.table.shape[1]), self.compute_dtype)
        }
        for name in ("distances", "distances_of_keys"):
            shared[name] = [
                keras.KerasTensor((None, None, None), dtype="int32") for _ in layout["attend"]
            ]
        return shared

    def call(self, layout: Layout, training: bool = False) -> dict[str, Any]:
        """Looks up the distances; see the class."""
        distances, of_keys = [], []
        for positions in group_positions(layout):
            rows, columns = positions[:, :, tf.newaxis], positions[:, tf.newaxis, :]
            distances.append(self._row(rows - columns))
            of_keys.append(self._row(columns - rows))
        flat = tf.concat([tf.reshape(rows, [-1]) for rows in distances + of_keys], axis=0)
        # A batch without tokens keeps one row: the minimum of no values is the largest integer.
        low = tf.minimum(tf.reduce_min(flat), self.span)
        high = tf.maximum(tf.reduce_max(flat), self.span) + 1
        table = self.table.value[low:high]
        if self.norm is not None:
            table = self.norm(table, training=training)
        return {
            "distance_table": tf.cast(table, self.compute_dtype),
            "distances": [rows - low for rows in distances],
            "distances_of_keys": [rows - low for rows in of_keys],
        }

    def _row(self, distance: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(self._bucket(distance) + self.span, 0, 2 * self.span - 1)

    def _bucket(self, distance: tf.Tensor) -> tf.Tensor:
        if self.num_buckets <= 0 or self.max_distance <= 0:
            return distance
        middle = self.num_buckets // 2
        near = tf.logical_and(distance < middle, distance > -middle)
        size = tf.cast(tf.where(near, middle - 1, tf.abs(distance)), tf.float32)
        # In the order of the reference, and in float32: if a logarithm is almost an integer, its
        # ceiling depends on the last bit.
        ratio = tf.math.log(size / middle) / tf.math.log(
            tf.constant((self.max_distance - 1) / middle, tf.float32)
        )
        far = tf.cast(tf.math.ceil(ratio * (middle - 1)), tf.int32) + middle
        return tf.where(size <= middle, distance, far * tf.sign(distance))


@keras.saving.register_keras_serializable("keras_bert_zoo")
class DisentangledSelfAttention(SelfAttention):
    """Self-attention whose scores add content-to-position and position-to-content products.

    Args:
        content_to_position: bool. Whether to add products of queries and keys of distances.
        position_to_content: bool. Whether to add products of keys and queries of distances.
        share_projections: bool. Whether distances use the query and key projections of contents.
        position_dropout: float. On the table of distances.
        **kwargs: see `SelfAttention`.

    See `SelfAttention` for the call. The layout contains the output of `RelativeDistances`;
    without it, this is plain attention.

    Source: arXiv 2006.03654, equation 4.
    """

    def __init__(
        self,
        *,
        content_to_position: bool,
        position_to_content: bool,
        share_projections: bool,
        position_dropout: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        terms = 1 + content_to_position + position_to_content
        self.scale = 1 / math.sqrt(self.head_dim * terms)
        self.content_to_position = content_to_position
        self.position_to_content = position_to_content
        options = {
            "units": self.key.units,
            "initializer_range": self.key.initializer_range,
            "dtype": self.dtype_policy,
        }
        self.position_key: Dense | None = None
        self.position_query: Dense | None = None
        if content_to_position:
            self.position_key = (
                self.key if share_projections else Dense(name="position_key", **options)
            )
        if position_to_content:
            self.position_query = (
                self.query if share_projections else Dense(name="position_query", **options)
            )
        self.position_dropout = Dropout(position_dropout, dtype=self.dtype_policy)

    def call(
        self,
        x: tf.Tensor,
        layout: Layout,
        training: bool = False,
        first_token_only: bool = False,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Attends; see the class."""
        if "distance_table" in layout:
            table = self.position_dropout(layout["distance_table"], training=training)
            projected = {}
            if self.position_key is not None:
                projected["position_keys"] = self._heads(self.position_key(table))
            if self.position_query is not None:
                projected["position_queries"] = self._heads(self.position_query(table))
            layout = layout | projected
        return super().call(x, layout, training=training, first_token_only=first_token_only)

    def products(
        self,
        queries: tf.Tensor,
        keys: tf.Tensor,
        layout: Layout,
        group: int,
        *,
        first_token_only: bool = False,
    ) -> tf.Tensor:
        """Adds the terms of relative positions; see `SelfAttention.products`."""
        scores = tf.matmul(queries, keys, transpose_b=True)
        if "distance_table" not in layout:
            return scores
        distances, of_keys = layout["distances"][group], layout["distances_of_keys"][group]
        if first_token_only:
            distances, of_keys = distances[:, :1], of_keys[:, :, :1]
        if "position_keys" in layout:
            terms = self._against(layout["position_keys"], queries)  # (n, N, s, P)
            scores += _pick(terms, distances)
        if "position_queries" in layout:
            terms = self._against(layout["position_queries"], keys)
            scores += tf.transpose(_pick(terms, of_keys), [0, 1, 3, 2])
        return scores

    def _against(self, table: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """Multiplies x (n, N, s, D) with a table (1, N, P, D) -> (n, N, s, P)."""
        if self.num_heads > 1:
            return tf.matmul(x, table, transpose_b=True)
        # If every batch dimension of one side is broadcast, TensorFlow 2.21's oneDNN kernel writes
        # beyond its buffers: the numbers are wrong, or the process crashes.
        shape = tf.shape(x)
        terms = tf.matmul(tf.reshape(x, [-1, self.head_dim]), table[0, 0], transpose_b=True)
        return tf.reshape(terms, [shape[0], 1, shape[2], -1])

    def _heads(self, table: tf.Tensor) -> tf.Tensor:
        rows = tf.reshape(table, [-1, self.num_heads, self.head_dim])  # (P, N, D)
        return tf.transpose(rows, [1, 0, 2])[tf.newaxis]  # (1, N, P, D)


def _pick(terms: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Gathers terms (n, N, s, P) at rows (n, s, t) of P -> (n, N, s, t).

    The heads are the last axis during the gather, so that one index applies to all of them.
    """
    terms = tf.transpose(terms, [0, 2, 3, 1])  # (n, s, P, N)
    return tf.transpose(tf.gather(terms, rows, batch_dims=2), [0, 3, 1, 2])
