"""A pre-LayerNorm Transformer block with rotary attention and a gated feed-forward part."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.layers.activations import get_activation
from keras_bert_zoo.layers.attention_groups import Layout
from keras_bert_zoo.layers.block import Block
from keras_bert_zoo.layers.configured import ConfiguredLayer
from keras_bert_zoo.layers.dense import Dense, add_dense, apply_halves
from keras_bert_zoo.layers.dropout import Dropout
from keras_bert_zoo.layers.normalization import LayerNormalization
from keras_bert_zoo.layers.rotary import RotarySelfAttention


@keras.saving.register_keras_serializable("keras_bert_zoo")
class FusedRotarySelfAttention(RotarySelfAttention):
    """Rotary self-attention with one projection for queries, keys and values.

    Args:
        use_bias: bool. Whether that projection has a bias.
        bias: str. Key in the layout of the tensor to add to the scores; "" adds only the mask.
        **kwargs: see `RotarySelfAttention`.

    Source: arXiv 2412.13663, section 2.1; arXiv 2104.09864.
    """

    def __init__(self, *, use_bias: bool, bias: str = "", **kwargs: Any) -> None:
        self._use_bias = use_bias
        super().__init__(**kwargs)
        self.bias = bias

    def make_projections(self, **options: Any) -> None:
        """Builds the joint projection; see `SelfAttention.make_projections`."""
        units = 3 * options.pop("units")
        self.projection = Dense(units, use_bias=self._use_bias, name="projection", **options)

    def project(
        self, x: tf.Tensor, layout: Layout, *, first_token_only: bool
    ) -> tuple[tf.Tensor | None, list[tf.Tensor]]:
        """Projects once; see `SelfAttention.project`."""
        projected = self.projection(x)  # (T, 3 * H)
        first = None
        if first_token_only:
            first = tf.split(tf.gather(projected, layout["first_tokens"]), 3, axis=-1)[0]
        return first, [projected]

    def added_scores(
        self, layout: Layout, group: int, *, first_token_only: bool = False
    ) -> tf.Tensor:
        """Returns the mask, or the window of a local layer; see `SelfAttention.added_scores`."""
        added = layout[self.bias or "attend"][group]
        return added[:, :, :1] if first_token_only else added


@keras.saving.register_keras_serializable("keras_bert_zoo")
class GatedFeedForward(ConfiguredLayer):
    """Computes `(activation(x A) * x B) C`, with A and B in one kernel.

    Args:
        intermediate_dim: int. Width of each of the two halves.
        output_dim: int.
        activation: str.
        use_bias: bool. Whether the dense layers have biases.
        dropout: float in [0, 1). On the gated product.
        initializer_range: float. See `Dense`.

    Call arguments:
        x: float (T, H).
        training: bool.

    Returns:
        float (T, output_dim).

    Source: arXiv 2002.05202, section 2 (GEGLU).
    """

    def __init__(
        self,
        *,
        intermediate_dim: int,
        output_dim: int,
        activation: str,
        use_bias: bool,
        dropout: float,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        shared: dict[str, Any] = {
            "use_bias": use_bias,
            "initializer_range": initializer_range,
            "dtype": self.dtype_policy,
        }
        self.expansion = Dense(2 * intermediate_dim, name="expansion", **shared)
        self.contraction = Dense(output_dim, name="contraction", **shared)
        self.intermediate_dim = intermediate_dim
        self.activate = get_activation(activation)
        self.dropout = Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the weights of both layers."""
        self.expansion.build(input_shape)
        self.contraction.build((None, self.intermediate_dim))

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Transforms the tokens; see the class."""
        halves = apply_halves(self.expansion, x)
        content, gate = halves or tf.split(self.expansion(x), 2, axis=-1)
        # Without this reshape, the optimizer would move a factor of the activation to the gate, and
        # then not fuse the activation.
        activated = tf.reshape(self.activate(content), [tf.shape(x)[0], self.intermediate_dim])
        return self.contraction(self.dropout(activated * gate, training=training))


@keras.saving.register_keras_serializable("keras_bert_zoo")
class PreNormBlock(Block):
    """Self-attention and feed-forward, each with a LayerNorm before it and a residual sum after.

    Args:
        attention: SelfAttention, named "attention".
        feed_forward: layer (T, H) -> (T, H), named "feed_forward".
        hidden_dim: int.
        epsilon: float. Of the LayerNorms.
        norm_bias: bool. Whether the LayerNorms have a bias.
        normalize_first: bool. Whether to normalize the attention's input. False if the
            embeddings are normalized already.
        output_bias: bool. Whether the dense layer after the attention has a bias.
        dropout: float in [0, 1). After that layer.
        initializer_range: float. See `Dense`.

    Call arguments and result: see `Block`.

    Source: arXiv 2412.13663, section 2.1; arXiv 2002.04745.
    """

    def __init__(
        self,
        *,
        attention: RotarySelfAttention,
        feed_forward: keras.layers.Layer,
        hidden_dim: int,
        epsilon: float,
        norm_bias: bool,
        normalize_first: bool,
        output_bias: bool,
        dropout: float,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        # With autocast, Keras would cast the rotary tables to the compute dtype.
        super().__init__(
            hidden_dim=hidden_dim, num_heads=attention.num_heads, autocast=False, **kwargs
        )
        norm: dict[str, Any] = {
            "epsilon": epsilon,
            "use_bias": norm_bias,
            "dtype": self.dtype_policy,
        }
        self.attention = attention
        self.feed_forward = feed_forward
        self.attention_norm = (
            LayerNormalization(name="attention_norm", **norm) if normalize_first else None
        )
        self.feed_forward_norm = LayerNormalization(name="feed_forward_norm", **norm)
        self.attention_output = Dense(
            hidden_dim,
            use_bias=output_bias,
            initializer_range=initializer_range,
            dtype=self.dtype_policy,
            name="attention_output",
        )
        self.dropout = Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the layers' weights, for an input (T, H)."""
        norms = (self.attention_norm, self.feed_forward_norm)
        for layer in (self.attention, self.attention_output, self.feed_forward, *norms):
            if layer is not None:
                layer.build(input_shape)

    def call(
        self,
        x: tf.Tensor,
        layout: Layout,
        training: bool = False,
        first_token_only: bool = False,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Transforms the tokens; see the class."""
        normalized = x if self.attention_norm is None else self.attention_norm(x, training=training)
        context, probabilities = self.attention(
            normalized, layout, training=training, first_token_only=first_token_only
        )
        if first_token_only:
            x = tf.gather(x, layout["first_tokens"])  # (B, H)
        x = add_dense(self.attention_output, context, x, dropout=self.dropout, training=training)
        normalized = self.feed_forward_norm(x, training=training)
        return x + self.feed_forward(normalized, training=training), probabilities
