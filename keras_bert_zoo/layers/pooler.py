"""Pooling of a text's tokens into one vector."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.layers.dense import Dense
from keras_bert_zoo.layers.token_layout import Layout


class Pooler(keras.layers.Layer):
    """Applies a dense layer with an activation to each row's first token.

    Args:
        hidden_dim: int.
        activation: str. BERT's is "tanh".
        initializer_range: float. See `Dense`.

    Call arguments:
        x: float (T, H), or (B, H) when it holds the first tokens alone.
        layout: what `TokenLayout` returned; None when `x` holds the first tokens alone.

    Returns:
        float (B, H), compute dtype.

    Source: google-research/bert, modeling.py, "pooler".
    """

    reads_first_token = True
    """Whether the first tokens are all that this pooler reads."""

    def __init__(
        self,
        hidden_dim: int,
        *,
        activation: str = "tanh",
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dense = Dense(
            hidden_dim,
            activation=activation,
            initializer_range=initializer_range,
            dtype=self.dtype_policy,
            name="dense",
        )

    def call(self, x: tf.Tensor, layout: Layout | None = None) -> tf.Tensor:
        """Pools; see the class."""
        if layout is not None:
            x = tf.gather(x, layout["first_tokens"])
        return self.dense(x)
