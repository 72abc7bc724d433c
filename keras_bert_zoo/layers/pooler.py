"""Pooling of a text's tokens into one vector."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.layers.activations import get_activation
from keras_bert_zoo.layers.dense import Dense
from keras_bert_zoo.layers.dropout import Dropout
from keras_bert_zoo.layers.token_layout import Layout


@keras.saving.register_keras_serializable("keras_bert_zoo")
class Pooler(keras.layers.Layer):
    """Applies a dense layer with an activation to each row's first token.

    Args:
        hidden_dim: int.
        activation: str. BERT's is "tanh".
        dropout: float in [0, 1). On the first tokens.
        initializer_range: float. See `Dense`.

    Call arguments:
        x: float (T, H), or (B, H) if it holds only the first tokens.
        layout: the output of `TokenLayout`; None if `x` holds only the first tokens.
        training: bool.

    Returns:
        float (B, H), compute dtype.

    Source: google-research/bert, modeling.py, "pooler".
    """

    reads_first_token = True
    """Whether this pooler reads only the first tokens."""

    def __init__(
        self,
        hidden_dim: int,
        *,
        activation: str = "tanh",
        dropout: float = 0.0,
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
        self.dropout = Dropout(dropout, dtype=self.dtype_policy) if dropout else None

    def build(self, x_shape: tuple[int | None, ...], *_: Any) -> None:
        """Creates the dense layer's weights, for an input (T, H)."""
        self.dense.build(x_shape)

    def compute_output_spec(
        self, x: Any, layout: Layout | None = None, training: bool = False
    ) -> keras.KerasTensor:
        """Returns the shape and dtype of `call`'s output, without a graph."""
        rows = x.shape[0] if layout is None else layout["first_tokens"].shape[0]
        return keras.KerasTensor((rows, self.dense.units), dtype=self.compute_dtype)

    def call(self, x: tf.Tensor, layout: Layout | None = None, training: bool = False) -> tf.Tensor:
        """Pools; see the class."""
        if layout is not None:
            x = tf.gather(x, layout["first_tokens"])
        if self.dropout is not None:
            x = self.dropout(x, training=training)
        return self.dense(x)


@keras.saving.register_keras_serializable("keras_bert_zoo")
class FirstToken(keras.layers.Layer):
    """Applies an activation to each row's first token: a pooler without weights.

    Args:
        activation: str. See `layers.activations`.

    Call arguments:
        x, layout: see `Pooler`.

    Returns:
        float (B, H), compute dtype.
    """

    reads_first_token = True

    def __init__(self, *, activation: str = "linear", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._activate = get_activation(activation)

    def compute_output_spec(self, x: Any, layout: Layout | None = None) -> keras.KerasTensor:
        """Returns the shape and dtype of `call`'s output, without a graph."""
        rows = x.shape[0] if layout is None else layout["first_tokens"].shape[0]
        return keras.KerasTensor((rows, x.shape[-1]), dtype=self.compute_dtype)

    def call(self, x: tf.Tensor, layout: Layout | None = None) -> tf.Tensor:
        """Pools; see the class."""
        if layout is not None:
            x = tf.gather(x, layout["first_tokens"])
        return self._activate(x)


@keras.saving.register_keras_serializable("keras_bert_zoo")
class LastToken(keras.layers.Layer):
    """Returns the state in each row's last column, even if the column is masked.

    This is the default of Hugging Face's sequence summaries. It needs texts that are padded on
    the left.

    Call arguments:
        x: float (T, H).
        layout: the output of a `TokenLayout` with `last_tokens`.

    Returns:
        float (B, H), compute dtype.
    """

    reads_first_token = False

    def compute_output_spec(self, x: Any, layout: Layout) -> keras.KerasTensor:
        """Returns the shape and dtype of `call`'s output, without a graph."""
        rows = layout["last_tokens"].shape[0]
        return keras.KerasTensor((rows, x.shape[-1]), dtype=self.compute_dtype)

    def call(self, x: tf.Tensor, layout: Layout) -> tf.Tensor:
        """Pools; see the class."""
        return tf.gather(x, layout["last_tokens"])
