"""Multi-head attention of a decoder's tokens to an encoder's output."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.layers.configured import ConfiguredLayer
from keras_bert_zoo.layers.dense import Dense
from keras_bert_zoo.layers.dropout import Dropout


class Memory(NamedTuple):
    """The keys and values that a decoder block attends to, computed once per text.

    Attributes:
        keys, values: float (B, N, S, D).
        mask: float32 (B, 1, 1, S), added to the scores: 0, or about -infinity at padding.
    """

    keys: tf.Tensor
    values: tf.Tensor
    mask: tf.Tensor


@keras.saving.register_keras_serializable("keras_bert_zoo")
class CrossAttention(ConfiguredLayer):
    """Computes scaled dot-product attention to another text.

    Args:
        hidden_dim: int. Width of both texts' states.
        num_heads: int. Must divide `hidden_dim`.
        dropout: float. On the attention probabilities.
        initializer_range: float. See `Dense`.

    Call arguments:
        x: float (B * t, H). t tokens (or beams) per text of the memory, grouped by text.
        memory: Memory, of B texts; see `remember`.
        training: bool.

    Returns:
        float (B * t, H).

    Raises:
        ConfigError: `hidden_dim % num_heads != 0`.

    Source: arXiv 1706.03762, section 3.2.3.
    """

    def __init__(
        self,
        *,
        hidden_dim: int,
        num_heads: int,
        dropout: float,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if hidden_dim % num_heads:
            raise ConfigError(
                f"Expected `num_heads` to divide `hidden_dim` {hidden_dim}, received {num_heads}."
            )
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.head_dim = hidden_dim // num_heads
        self.scale = 1 / math.sqrt(self.head_dim)
        options: dict[str, Any] = {
            "units": hidden_dim,
            "initializer_range": initializer_range,
            "dtype": self.dtype_policy,
        }
        self.query = Dense(name="query", **options)
        self.key = Dense(name="key", **options)
        self.value = Dense(name="value", **options)
        self.dropout = Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the projections' weights."""
        for layer in (self.query, self.key, self.value):
            layer.build((None, self.hidden_dim))

    def remember(self, states: tf.Tensor, mask: tf.Tensor, training: bool = False) -> Memory:
        """Computes the keys and values of texts, for all later queries.

        Args:
            states: float (B, S, H), the encoder's.
            mask: float32 (B, 1, 1, S).
            training: bool.

        Returns:
            Memory.
        """
        rows = tf.shape(states)[0]
        flat = tf.reshape(states, [-1, self.hidden_dim])
        keys = self._split(self.key(flat, training=training), rows)
        return Memory(keys, self._split(self.value(flat, training=training), rows), mask)

    def call(self, x: tf.Tensor, memory: Memory, training: bool = False) -> tf.Tensor:
        """Attends; see the class."""
        queries = self._split(self.query(x, training=training), tf.shape(memory.keys)[0])
        scores = tf.matmul(queries, memory.keys, transpose_b=True) * tf.cast(self.scale, x.dtype)
        probability = tf.nn.softmax(scores + tf.cast(memory.mask, x.dtype))  # (B, N, t, S)
        context = tf.matmul(self.dropout(probability, training=training), memory.values)
        return tf.reshape(tf.transpose(context, [0, 2, 1, 3]), [-1, self.hidden_dim])

    def _split(self, x: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        x = tf.reshape(x, [rows, -1, self.num_heads, self.head_dim])
        return tf.transpose(x, [0, 2, 1, 3])  # (B, N, t, D)
