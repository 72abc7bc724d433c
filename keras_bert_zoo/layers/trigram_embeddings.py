"""Embeddings of each token together with its two neighbours."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.layers.configured import ConfiguredLayer
from keras_bert_zoo.layers.dense import Dense
from keras_bert_zoo.layers.dropout import Dropout
from keras_bert_zoo.layers.embeddings import look_up
from keras_bert_zoo.layers.initializers import TruncatedNormal
from keras_bert_zoo.layers.normalization import make_norm
from keras_bert_zoo.layers.token_layout import Layout
from keras_bert_zoo.layers.training_hooks import add_perturbation
from keras_bert_zoo.layers.unused_weights import UnusedWeights


@keras.saving.register_keras_serializable("keras_bert_zoo")
class TrigramEmbeddings(ConfiguredLayer):
    """Maps the embeddings of three neighbouring tokens to the hidden width.

    It then adds the embeddings of position and segment, and applies a norm and dropout.
    Neighbours are taken from the padded batch, padding included; beyond its edges they are zeros.
    Tables are float32, as in `Embeddings`.

    Args:
        config: EncoderConfig.
        width: int. Width of the token table.
        trigram: bool. Whether the input includes the neighbours.
        norm: str. See `make_norm`.

    Call arguments:
        layout: the output of `TokenLayout`, with `neighbours` if `trigram`.
        training: bool.

    Returns:
        float (T, H), compute dtype.

    Raises:
        tf.errors.InvalidArgumentError: on CPU, an id or a position outside its table.

    Source: arXiv 2004.02984, section 3.4; Hugging Face's MobileBertEmbeddings.
    """

    def __init__(
        self, config: EncoderConfig, *, width: int, trigram: bool, norm: str, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.trigram = trigram
        self.projection: Any = None
        self.unused: UnusedWeights | None = None
        if trigram or width != config.hidden_dim:
            self.projection = Dense(
                config.hidden_dim,
                initializer_range=config.initializer_range,
                dtype=self.dtype_policy,
                name="projection",
            )
        else:
            shapes = {"kernel": (width, config.hidden_dim), "bias": (config.hidden_dim,)}
            self.unused = UnusedWeights(shapes, name="projection")
        # torch.nn.LayerNorm's default epsilon: the source ignores the configured one here.
        self.norm = make_norm(norm, epsilon=1e-5, dtype="float32", name="norm")
        self.dropout = Dropout(config.dropout, dtype=self.dtype_policy)
        initializer = TruncatedNormal(stddev=config.initializer_range)

        def table(name: str, rows: int, columns: int) -> Any:
            return self.add_weight(
                name=name, shape=(rows, columns), initializer=initializer.clone(), autocast=False
            )

        self.token_table = table("token_table", config.vocabulary_size, width)
        self.position_table = table("position_table", config.max_sequence_length, config.hidden_dim)
        self.segment_table = table("segment_table", config.num_segments, config.hidden_dim)

    def build(self, *_: Any) -> None:
        """Creates the weights of the projection and of the norm."""
        width = self.token_table.shape[1]
        if self.unused is not None:
            self.unused.build()
        if self.projection is not None:
            self.projection.build((None, 3 * width if self.trigram else width))
        self.norm.build(self.position_table.shape)

    def compute_output_spec(self, layout: Layout, training: bool = False) -> keras.KerasTensor:
        """Returns the shape and dtype of `call`'s output, without a graph."""
        shape = (layout["token_ids"].shape[0], self.position_table.shape[1])
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def call(self, layout: Layout, training: bool = False) -> tf.Tensor:
        """Embeds the tokens; see the class."""
        x = add_perturbation(look_up(self.token_table, layout["token_ids"]), layout)  # (T, width)
        if self.trigram:
            following = add_perturbation(self._neighbours(layout["next_ids"]), layout, offset=1)
            preceding = self._neighbours(layout["previous_ids"])
            preceding = add_perturbation(preceding, layout, offset=-1)
            x = tf.concat([following, x, preceding], axis=-1)  # (T, 3 * width)
        if self.projection is not None:
            x = tf.cast(x, self.compute_dtype)
            x = tf.cast(self.projection(x, training=training), tf.float32)  # (T, H)
        x += tf.gather(self.position_table.value, layout["positions"])
        x += tf.gather(self.segment_table.value, layout["segment_ids"])
        x = self.norm(x, training=training)
        return self.dropout(tf.cast(x, self.compute_dtype), training=training)

    def _neighbours(self, ids: tf.Tensor) -> tf.Tensor:
        inside = tf.cast(ids >= 0, tf.float32)[:, tf.newaxis]
        return look_up(self.token_table, tf.maximum(ids, 0)) * inside
