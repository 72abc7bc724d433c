"""One post-LayerNorm Transformer block."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.layers.attention import SelfAttention
from keras_bert_zoo.layers.block import Block
from keras_bert_zoo.layers.dense import Dense, add_dense
from keras_bert_zoo.layers.dropout import Dropout
from keras_bert_zoo.layers.normalization import LayerNormalization
from keras_bert_zoo.layers.token_layout import Layout


@keras.saving.register_keras_serializable("keras_bert_zoo")
class EncoderBlock(Block):
    """Self-attention and feed-forward, each followed by a residual sum and LayerNorm.

    Args:
        config: EncoderConfig.

    Call arguments and result: see `Block`.

    Source: arXiv 1810.04805; arXiv 1706.03762, section 3.1.
    """

    def __init__(self, config: EncoderConfig, **kwargs: Any) -> None:
        super().__init__(hidden_dim=config.hidden_dim, num_heads=config.num_heads, **kwargs)
        self.config = config
        shared: dict[str, Any] = {"dtype": self.dtype_policy}
        dense = shared | {"initializer_range": config.initializer_range}
        self.attention = self.make_attention(config, **dense)
        self.attention_output = Dense(config.hidden_dim, name="attention_output", **dense)
        self.attention_norm = LayerNormalization(
            epsilon=config.layer_norm_epsilon, name="attention_norm", **shared
        )
        self.intermediate = Dense(
            config.intermediate_dim, activation=config.activation, name="intermediate", **dense
        )
        self.output_dense = Dense(config.hidden_dim, name="output_dense", **dense)
        self.output_norm = LayerNormalization(
            epsilon=config.layer_norm_epsilon, name="output_norm", **shared
        )
        self.dropout = Dropout(config.dropout, **shared)

    def make_attention(self, config: EncoderConfig, **options: Any) -> SelfAttention:
        """Builds the attention layer. A family may override it.

        Args:
            config: the constructor's.
            **options: `dtype` and `initializer_range`.

        Returns:
            SelfAttention, named "attention".
        """
        return SelfAttention(
            hidden_dim=config.hidden_dim,
            num_heads=config.num_heads,
            dropout=config.attention_dropout,
            name="attention",
            **options,
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the layers' weights, for an input (T, H)."""
        for layer in (
            self.attention,
            self.attention_output,
            self.attention_norm,
            self.intermediate,
            self.output_norm,
        ):
            layer.build(input_shape)
        self.output_dense.build((None, self.config.intermediate_dim))

    def call(
        self,
        x: tf.Tensor,
        layout: Layout,
        training: bool = False,
        first_token_only: bool = False,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Transforms the tokens; see the class."""
        context, probabilities = self.attention(
            x, layout, training=training, first_token_only=first_token_only
        )
        if first_token_only:
            x = tf.gather(x, layout["first_tokens"])  # (B, H)
        x = self.add_attended(context, x, training)
        return self.add_transformed(x, training), probabilities

    def add_attended(self, context: tf.Tensor, x: tf.Tensor, training: bool) -> tf.Tensor:
        """Adds the attention's output to its input: float (T, H)."""
        attended = add_dense(
            self.attention_output, context, x, dropout=self.dropout, training=training
        )
        return self.attention_norm(attended, training=training)

    def add_transformed(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        """Applies the feed-forward part: float (T, H)."""
        inner = self.intermediate(x, training=training)
        transformed = add_dense(
            self.output_dense, inner, x, dropout=self.dropout, training=training
        )
        return self.output_norm(transformed, training=training)
