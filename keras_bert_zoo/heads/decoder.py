"""A Transformer decoder that generates text from an encoder's output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.heads.masked_lm import MaskedLMHead
from keras_bert_zoo.layers.attention_groups import MASKED_SCORE
from keras_bert_zoo.layers.cross_attention import Memory
from keras_bert_zoo.layers.decoder_block import Cache, DecoderBlock
from keras_bert_zoo.layers.dense import Dense
from keras_bert_zoo.layers.embeddings import Embeddings
from keras_bert_zoo.layers.initializers import untouched_weights
from keras_bert_zoo.layers.scopes import root_scope
from keras_bert_zoo.layers.token_layout import Layout, TokenLayout, attention_mask


@keras.saving.register_keras_serializable("keras_bert_zoo")
class TransformerDecoder(keras.layers.Layer):
    """BERT as a decoder: later tokens are masked, and every block attends to an encoder's output.

    The decoder ends with BERT's head for masked language modelling, whose kernel is the token
    embedding. If the encoder has another width than the decoder, a dense layer maps its output.

    Args:
        config: EncoderConfig of the family "bert".
        memory_dim: int. Width of the encoder's states.
        dtype: Keras dtype policy.

    Call arguments:
        states: float (B, S, `memory_dim`), the encoder's output.
        padding_mask: int32 (B, S), the encoder's.
        target_ids: int32 (B, T). [CLS] and the tokens so far.
        target_mask: int32 (B, T). 1 = token, 0 = padding.
        training: bool.

    Returns:
        float32 (B, T, V): logits of the token that follows each one.

    Raises:
        ConfigError: another family.

    Source: arXiv 1907.12461; Hugging Face's EncoderDecoderModel with a BertLMHeadModel.
    """

    def __init__(self, config: EncoderConfig, *, memory_dim: int, **kwargs: Any) -> None:
        super().__init__(**{"name": "decoder"} | kwargs)
        if config.family != "bert":
            raise ConfigError(
                f"Expected a config of the family 'bert' for a decoder, received {config.family!r}."
            )
        self.config = config
        self.memory_dim = memory_dim
        policy = self.dtype_policy
        # Keras names a variable when it is created. Without these scopes, the embedding's path
        # would be that of the encoder's.
        with root_scope(), keras.name_scope(self.name):
            self.embeddings = Embeddings(config, dtype=policy, name="embeddings")
        self.token_layout = TokenLayout("padded")
        self.memory_projection = None
        if memory_dim != config.hidden_dim:
            self.memory_projection = Dense(
                config.hidden_dim,
                initializer_range=config.initializer_range,
                dtype=policy,
                name="memory_projection",
            )
        self.blocks = [
            DecoderBlock(config, dtype=policy, name=f"block_{i}") for i in range(config.num_layers)
        ]
        self.lm_head = MaskedLMHead(
            config.vocabulary_size,
            transform_units=config.hidden_dim,
            transform_activation=config.activation,
            norm_epsilon=config.layer_norm_epsilon,
            initializer_range=config.initializer_range,
            embeddings=self.embeddings,
            dtype=policy,
            name="masked_lm",
        )

    def build(self, *_: Any, **__: Any) -> None:
        """Creates all weights."""
        if self.memory_projection is not None:
            self.memory_projection.build((None, self.memory_dim))
        width = (None, self.config.hidden_dim)
        for block in (self.embeddings, *self.blocks):
            block.build(width)
        self.lm_head.build(width)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> keras.KerasTensor:
        """Returns the shape and dtype of `call`'s output."""
        return keras.KerasTensor((None, None, self.config.vocabulary_size), dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments; `config` as a Hugging Face config.json."""
        return keras.layers.Layer.get_config(self) | {
            "config": self.config.to_huggingface(),
            "memory_dim": self.memory_dim,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TransformerDecoder:
        """Builds a decoder with random weights from `get_config`."""
        return cls(**config | {"config": EncoderConfig.from_huggingface(config["config"])})

    def in_dtype(self, dtype: str) -> TransformerDecoder:
        """Returns this decoder, or a copy with the same weights that computes in another dtype.

        Args:
            dtype: "float32" or "bfloat16".
        """
        if self.compute_dtype == dtype:
            return self
        policy = "mixed_bfloat16" if dtype == "bfloat16" else dtype
        with untouched_weights():
            copy = TransformerDecoder(self.config, memory_dim=self.memory_dim, dtype=policy)
            copy.build()
        for ours, theirs in zip(copy.weights, self.weights, strict=True):
            ours.assign(theirs)
        return copy

    def call(
        self,
        states: tf.Tensor,
        padding_mask: tf.Tensor,
        target_ids: tf.Tensor,
        target_mask: tf.Tensor,
        training: bool = False,
    ) -> tf.Tensor:
        """Computes the logits of whole texts; see the class."""
        layout = self.token_layout(target_ids, tf.zeros_like(target_ids), target_mask)
        width = tf.shape(target_ids)[1]
        later = tf.where(tf.range(width) > tf.range(width)[:, tf.newaxis], MASKED_SCORE, 0.0)
        layout["attention_bias"] = [layout["attend"][0] + later]  # (B, 1, T, T)
        x = self.embeddings(layout, training=training)
        memories = self.remember(states, padding_mask, training=training)
        for block, memory in zip(self.blocks, memories, strict=True):
            x = block(x, layout, memory, training=training)
        logits: tf.Tensor = self.lm_head(x, layout, training=training)
        return logits

    def remember(
        self, states: tf.Tensor, padding_mask: tf.Tensor, training: bool = False
    ) -> list[Memory]:
        """Computes each block's keys and values of the encoder's output.

        Args:
            states: float (B, S, `memory_dim`).
            padding_mask: int32 (B, S).
            training: bool.

        Returns:
            list of Memory, one per block.
        """
        states = tf.cast(states, self.compute_dtype)
        if self.memory_projection is not None:
            shape = tf.shape(states)
            flat = tf.reshape(states, [-1, self.memory_dim])
            states = tf.reshape(
                self.memory_projection(flat, training=training), [shape[0], shape[1], -1]
            )
        mask = attention_mask(padding_mask)
        return [
            block.cross_attention.remember(states, mask, training=training) for block in self.blocks
        ]

    def no_tokens(self, rows: tf.Tensor) -> list[Cache]:
        """Returns the empty cache: float (rows, N, 0, D) twice, for each block."""
        config = self.config
        empty = tf.zeros([rows, config.num_heads, 0, config.head_dim], self.compute_dtype)
        return [(empty, empty) for _ in self.blocks]

    def step(
        self,
        token_ids: tf.Tensor,
        position: tf.Tensor,
        caches: Sequence[Cache],
        memories: Sequence[Memory],
    ) -> tuple[tf.Tensor, list[Cache]]:
        """Computes the logits after one more token of each row.

        Args:
            token_ids: int32 (R,). R is a multiple of the memories' B, and the rows of a text are
                adjacent.
            position: int32 (). Position of these tokens, from 0.
            caches: caches of the earlier tokens, one per block.
            memories: one per block.

        Returns:
            float32 (R, V), logits of the next token; and the caches with these tokens added.
        """
        layout: Layout = {
            "token_ids": token_ids,
            "segment_ids": tf.zeros_like(token_ids),
            "positions": tf.fill(tf.shape(token_ids), position),
            "shape_of": token_ids[:, tf.newaxis],
        }
        x = self.embeddings(layout)
        longer = []
        for block, cache, memory in zip(self.blocks, caches, memories, strict=True):
            x, cache = block.step(x, cache, memory)
            longer.append(cache)
        return self.lm_head(x, layout)[:, 0], longer
