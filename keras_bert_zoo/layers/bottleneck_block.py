"""A Transformer block that computes in a narrow width, between two projections."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.layers.attention import SelfAttention
from keras_bert_zoo.layers.attention_groups import Layout
from keras_bert_zoo.layers.block import Block
from keras_bert_zoo.layers.configured import ConfiguredLayer
from keras_bert_zoo.layers.dense import Dense, add_dense
from keras_bert_zoo.layers.dropout import Dropout
from keras_bert_zoo.layers.normalization import make_norm
from keras_bert_zoo.layers.unused_weights import UnusedWeights

# torch.nn.LayerNorm's default epsilon. One norm of each block uses it instead of the configured.
_DEFAULT_EPSILON = 1e-5


@keras.saving.register_keras_serializable("keras_bert_zoo")
class BottleneckBlock(Block):
    """Attention and several feed-forward networks, in the width of a bottleneck.

    Legend: H width of input and output, W width inside (H without a bottleneck), T tokens, B rows.

    Args:
        hidden_dim: int, H.
        bottleneck_dim: int or None, W. None: no bottleneck.
        num_heads: int. Must divide W.
        intermediate_dim: int.
        activation: str.
        num_feedforward: int. Number of feed-forward networks, applied in sequence.
        norm: str. See `make_norm`.
        epsilon: float. Of the norms, except for the one before the output bottleneck.
        dropout: float. On the output and, without a bottleneck, on the attention's output.
        attention_dropout: float. On attention probabilities.
        attend_bottleneck: bool. Whether queries, keys and values are all computed from the
            bottleneck's output.
        shared_bottleneck: bool. Whether queries and keys are computed from a second bottleneck.
            Values, and otherwise all three, are computed from the block's input.
        initializer_range: float. See `Dense`.

    Call arguments and result: see `Block`.

    Source: arXiv 2004.02984, section 3; Hugging Face's MobileBertLayer.
    """

    def __init__(
        self,
        *,
        hidden_dim: int,
        bottleneck_dim: int | None,
        num_heads: int,
        intermediate_dim: int,
        activation: str,
        num_feedforward: int,
        norm: str,
        epsilon: float,
        dropout: float,
        attention_dropout: float,
        attend_bottleneck: bool,
        shared_bottleneck: bool,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(hidden_dim=hidden_dim, num_heads=num_heads, **kwargs)
        shared: dict[str, Any] = {"dtype": self.dtype_policy}
        dense = shared | {"initializer_range": initializer_range}
        feed_forward = dense | {
            "intermediate_dim": intermediate_dim,
            "activation": activation,
            "norm": norm,
        }
        self.width = width = hidden_dim if bottleneck_dim is None else bottleneck_dim
        self.attend_bottleneck = attend_bottleneck
        self.input_bottleneck = self.query_key_bottleneck = self.output_bottleneck = None
        self.unused: _UnusedBottleneck | None = None
        if bottleneck_dim is not None:
            bottleneck = dense | {"norm": norm, "epsilon": epsilon}
            self.input_bottleneck = _Bottleneck(width, name="input_bottleneck", **bottleneck)
            if shared_bottleneck and attend_bottleneck:
                self.unused = _UnusedBottleneck(hidden_dim, width, name="query_key_bottleneck")
            elif shared_bottleneck:
                self.query_key_bottleneck = _Bottleneck(
                    width, name="query_key_bottleneck", **bottleneck
                )
            self.output_bottleneck = _Bottleneck(
                hidden_dim, name="output_bottleneck", dropout=dropout, **bottleneck
            )
        self.attention = _Attention(
            hidden_dim=width,
            num_heads=num_heads,
            dropout=attention_dropout,
            values_dim=width if attend_bottleneck else hidden_dim,
            name="attention",
            **dense,
        )
        self.attention_output = Dense(width, name="attention_output", **dense)
        self.attention_norm = make_norm(norm, epsilon=epsilon, name="attention_norm", **shared)
        self.feed_forwards = [
            FeedForward(width, epsilon=epsilon, name=f"feed_forward_{i}", **feed_forward)
            for i in range(num_feedforward - 1)
        ]
        self.last_feed_forward = FeedForward(
            width,
            epsilon=_DEFAULT_EPSILON,
            dropout=dropout if bottleneck_dim is None else 0.0,
            name="feed_forward",
            **feed_forward,
        )
        self.dropout = None
        if bottleneck_dim is None:
            self.dropout = Dropout(dropout, **shared)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the layers' weights, including unused ones, for an input (T, H)."""
        inside = (None, self.width)
        for layer in (self.input_bottleneck, self.query_key_bottleneck, self.unused):
            if layer is not None:
                layer.build(input_shape)
        narrow = self.attend_bottleneck or self.query_key_bottleneck is not None
        self.attention.build(inside if narrow else input_shape)
        for layer in (
            self.attention_output,
            self.attention_norm,
            *self.feed_forwards,
            self.last_feed_forward,
            self.output_bottleneck,
        ):
            if layer is not None:
                layer.build(inside)

    def call(
        self,
        x: tf.Tensor,
        layout: Layout,
        training: bool = False,
        first_token_only: bool = False,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Transforms the tokens; see the class."""
        queries, values, inside = self._enter(x, training)
        context, probabilities = self.attention(
            queries,
            layout | {"values_from": values},
            training=training,
            first_token_only=first_token_only,
        )
        if first_token_only:
            first = layout["first_tokens"]
            x, inside = tf.gather(x, first), tf.gather(inside, first)  # (B, H), (B, W)
        attended = add_dense(
            self.attention_output, context, inside, dropout=self.dropout, training=training
        )
        inside = self.attention_norm(attended, training=training)
        for feed_forward in (*self.feed_forwards, self.last_feed_forward):
            inside = feed_forward(inside, training=training)
        if self.output_bottleneck is None:
            return inside, probabilities
        return self.output_bottleneck(inside, x, training=training), probabilities

    def _enter(self, x: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the inputs of queries and keys, of values, and of the residual sum."""
        if self.input_bottleneck is None:
            return x, x, x
        inside = self.input_bottleneck(x, training=training)
        if self.attend_bottleneck:
            return inside, inside, inside
        if self.query_key_bottleneck is None:
            return x, x, inside
        return self.query_key_bottleneck(x, training=training), x, inside


@keras.saving.register_keras_serializable("keras_bert_zoo")
class FeedForward(ConfiguredLayer):
    """Two dense layers with an activation between them, a residual sum and a norm.

    Args:
        units: int. Width of input and output.
        intermediate_dim: int.
        activation: str.
        norm: str. See `make_norm`.
        epsilon: float. Of the norm.
        dropout: float. On the second layer's output.
        initializer_range: float. See `Dense`.

    Call arguments:
        x: float (T, units).
        training: bool.

    Returns:
        float (T, units).
    """

    def __init__(
        self,
        units: int,
        *,
        intermediate_dim: int,
        activation: str,
        norm: str,
        epsilon: float,
        dropout: float = 0.0,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        shared: dict[str, Any] = {"dtype": self.dtype_policy}
        dense = shared | {"initializer_range": initializer_range}
        self.intermediate = Dense(
            intermediate_dim, activation=activation, name="intermediate", **dense
        )
        self.output_dense = Dense(units, name="output_dense", **dense)
        self.output_norm = make_norm(norm, epsilon=epsilon, name="output_norm", **shared)
        self.dropout = Dropout(dropout, **shared) if dropout else None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the layers' weights."""
        self.intermediate.build(input_shape)
        self.output_dense.build((None, self.intermediate.units))
        self.output_norm.build(input_shape)

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Transforms the tokens; see the class."""
        inner = self.intermediate(x, training=training)
        transformed = add_dense(
            self.output_dense, inner, x, dropout=self.dropout, training=training
        )
        return self.output_norm(transformed, training=training)


@keras.saving.register_keras_serializable("keras_bert_zoo")
class _Bottleneck(ConfiguredLayer):
    """A dense layer and a norm, with an optional residual sum between them."""

    def __init__(
        self,
        units: int,
        *,
        norm: str,
        epsilon: float,
        dropout: float = 0.0,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        shared: dict[str, Any] = {"dtype": self.dtype_policy}
        self.dense = Dense(units, initializer_range=initializer_range, name="dense", **shared)
        self.norm = make_norm(norm, epsilon=epsilon, name="norm", **shared)
        self.dropout = Dropout(dropout, **shared) if dropout else None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the layers' weights."""
        self.dense.build(input_shape)
        self.norm.build((None, self.dense.units))

    def call(
        self, x: tf.Tensor, residual: tf.Tensor | None = None, training: bool = False
    ) -> tf.Tensor:
        """Projects: float (T, any) -> (T, units)."""
        if residual is not None:
            x = add_dense(self.dense, x, residual, dropout=self.dropout, training=training)
        else:
            x = self.dense(x, training=training)
        return self.norm(x, training=training)


@keras.saving.register_keras_serializable("keras_bert_zoo")
class _UnusedBottleneck(keras.layers.Layer):
    """Weights of a bottleneck that checkpoints contain but models do not use."""

    def __init__(self, hidden_dim: int, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        dense = {"kernel": (hidden_dim, units), "bias": (units,)}
        self.dense = UnusedWeights(dense, name="dense")
        self.norm = UnusedWeights({"gamma": (units,), "beta": (units,)}, name="norm")

    def build(self, *_: Any) -> None:
        """Creates the weights."""
        self.dense.build()
        self.norm.build()


@keras.saving.register_keras_serializable("keras_bert_zoo")
class _Attention(SelfAttention):
    """Self-attention whose values are computed from `layout["values_from"]`, float (T, any)."""

    def __init__(self, *, values_dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.values_dim = values_dim

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the projections' weights. The input of the values may have another width."""
        self.value.build((None, self.values_dim))
        super().build(input_shape)

    def project(
        self, x: tf.Tensor, layout: Layout, *, first_token_only: bool
    ) -> tuple[tf.Tensor | None, list[tf.Tensor]]:
        """Computes queries, keys and values; see `SelfAttention.project`."""
        values = self.value(layout["values_from"])
        if first_token_only:
            first = self.query(tf.gather(x, layout["first_tokens"]))  # (B, W)
            return first, [self.key(x), values]
        return None, [*self.apply((self.query, self.key), x), values]
