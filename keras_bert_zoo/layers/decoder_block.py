"""One post-LayerNorm Transformer block of a decoder."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.layers.cross_attention import CrossAttention, Memory
from keras_bert_zoo.layers.dense import Dense
from keras_bert_zoo.layers.encoder_block import EncoderBlock
from keras_bert_zoo.layers.normalization import LayerNormalization
from keras_bert_zoo.layers.token_layout import Layout

Cache = tuple[tf.Tensor, tf.Tensor]
"""Keys and values of the tokens so far: float (R, N, t, D) each."""


@keras.saving.register_keras_serializable("keras_bert_zoo")
class DecoderBlock(EncoderBlock):
    """BERT's block with cross-attention between self-attention and the feed-forward part.

    Args:
        config: EncoderConfig.

    Call arguments:
        x: float (B * T, H), in the padded layout.
        layout: the output of `TokenLayout("padded")`, with an `attention_bias` that masks later
            tokens.
        memory: Memory, from this block's `cross_attention.remember`.
        training: bool.

    Returns:
        float (B * T, H).

    Source: arXiv 1706.03762, section 3.1; arXiv 1907.12461, section 2.
    """

    def __init__(self, config: EncoderConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        shared: dict[str, Any] = {"dtype": self.dtype_policy}
        dense = shared | {"initializer_range": config.initializer_range}
        self.cross_attention = CrossAttention(
            hidden_dim=config.hidden_dim,
            num_heads=config.num_heads,
            dropout=config.attention_dropout,
            name="cross_attention",
            **dense,
        )
        self.cross_output = Dense(config.hidden_dim, name="cross_output", **dense)
        self.cross_norm = LayerNormalization(
            epsilon=config.layer_norm_epsilon, name="cross_norm", **shared
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the layers' weights, for an input (T, H)."""
        super().build(input_shape)
        for layer in (self.cross_attention, self.cross_output, self.cross_norm):
            layer.build(input_shape)

    def call(  # type: ignore[override]
        self, x: tf.Tensor, layout: Layout, memory: Memory, training: bool = False
    ) -> tf.Tensor:
        """Transforms the tokens; see the class."""
        context, _ = self.attention(x, layout, training=training)
        return self._after_attention(context, x, memory, training)

    def step(self, x: tf.Tensor, cache: Cache, memory: Memory) -> tuple[tf.Tensor, Cache]:
        """Transforms the next token of each row; the cache holds the earlier ones.

        Args:
            x: float (R, H).
            cache: keys and values float (R, N, t, D) of the t earlier tokens.
            memory: Memory, of B texts. R is a multiple of B, and the rows of a text are adjacent.

        Returns:
            float (R, H), and the cache with the token added.
        """
        context, cache = self.attention.step(x, cache)
        return self._after_attention(context, x, memory, False), cache

    def compute_output_spec(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns the shape and dtype of `call`'s output."""
        return keras.KerasTensor((None, self.hidden_dim), dtype=self.compute_dtype)

    def _after_attention(
        self, context: tf.Tensor, x: tf.Tensor, memory: Memory, training: bool
    ) -> tf.Tensor:
        x = self.add_attended(context, x, training)
        attended = self.cross_output(self.cross_attention(x, memory, training=training))
        x = self.cross_norm(self.dropout(attended, training=training) + x, training=training)
        return self.add_transformed(x, training)
