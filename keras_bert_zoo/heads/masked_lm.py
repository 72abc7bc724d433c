"""The head of masked language modelling."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.heads.classifier import apply_transform, build_transform, make_transform
from keras_bert_zoo.layers.dense import Dense
from keras_bert_zoo.layers.initializers import TruncatedNormal
from keras_bert_zoo.layers.token_layout import (
    Layout,
    spec_of_batch,
    take_positions,
    to_batch,
)


@keras.saving.register_keras_serializable("keras_bert_zoo")
class MaskedLMHead(keras.layers.Layer):
    """Maps tokens' states to one logit for every token of the vocabulary.

    A dense layer with an activation and a LayerNorm, then a product with the token embedding (or
    with a separate kernel) and a bias. The product is in the compute dtype.

    Args:
        vocabulary_size: int. V.
        transform_units: int. Width of the dense layer.
        transform_activation: str. Of that layer.
        transform_bias: bool. Whether that layer has a bias.
        norm_epsilon: float or None. Epsilon of the LayerNorm. None: no LayerNorm.
        norm_bias: bool. Whether the norm has a bias.
        extra_units: int or None. Number of last columns of the transformed states that are
            multiplied with `extra_table` (extra_units, V); the others are multiplied with the
            embedding. None: no such table. 0: an empty table.
        decoder_bias: bool. Whether a bias is added to the logits.
        initializer_range: float. See `Dense`.
        embeddings: layer whose `token_table` (V, transform_units - extra_units) is the last
            kernel. None: the head creates `decoder/kernel` (transform_units - extra_units, V).

    Call arguments:
        x: float (T, H). The encoder's states, one row per token.
        layout: the output of `TokenLayout`.
        positions: int32 (B, P) or None. Columns of the batch that get logits; None: all.
        training: bool.

    Returns:
        float32 (B, P, V), or (B, S, V) without `positions`; the packed layout leaves zeros at
        padding.

    Raises:
        ConfigError: the token embedding has the wrong shape.

    Source: arXiv 1810.04805, section 3.1; Hugging Face's BertLMPredictionHead, and
    MobileBertLMPredictionHead for `extra_units`.
    """

    def __init__(
        self,
        vocabulary_size: int,
        *,
        transform_units: int,
        transform_activation: str,
        transform_bias: bool = True,
        norm_epsilon: float | None,
        norm_bias: bool = True,
        extra_units: int | None = None,
        decoder_bias: bool = True,
        initializer_range: float = 0.02,
        embeddings: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size
        self.width = transform_units - (extra_units or 0)
        self.extra_units = extra_units
        self.decoder_bias = decoder_bias
        self.tied = embeddings is not None
        if embeddings is not None:
            shape = tuple(embeddings.token_table.shape)
            if shape != (vocabulary_size, self.width):
                raise ConfigError(
                    "Expected a masked-language-model head with a token embedding of shape "
                    f"{(vocabulary_size, self.width)}, received {shape}."
                )
        # A function, because Keras would track a layer and count its weights as this one's.
        self._table = lambda: embeddings.token_table
        self._initializer = TruncatedNormal(stddev=initializer_range)
        self._arguments: dict[str, Any] = {
            "vocabulary_size": vocabulary_size,
            "transform_units": transform_units,
            "transform_activation": transform_activation,
            "transform_bias": transform_bias,
            "norm_epsilon": norm_epsilon,
            "norm_bias": norm_bias,
            "extra_units": extra_units,
            "decoder_bias": decoder_bias,
            "initializer_range": initializer_range,
        }
        self.extra_table: Any = None
        self.transform, self.norm = make_transform(
            transform_units=transform_units,
            transform_activation=transform_activation,
            transform_bias=transform_bias,
            norm_epsilon=norm_epsilon,
            norm_bias=norm_bias,
            initializer_range=initializer_range,
            dtype=self.dtype_policy,
        )
        self.decoder = None
        if not self.tied:
            self.decoder = Dense(
                vocabulary_size,
                use_bias=False,
                initializer_range=initializer_range,
                dtype=self.dtype_policy,
                name="decoder",
            )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the variables of the class, and `bias` (V,)."""
        build_transform(self.transform, self.norm, input_shape)
        if self.decoder is not None:
            self.decoder.build((None, self.width))
        if self.extra_units is not None:
            self.extra_table = self.add_weight(
                name="extra_table",
                shape=(self.extra_units, self.vocabulary_size),
                initializer=self._initializer,
            )
        if self.decoder_bias:
            # Not cast, because the logits are float32.
            self.bias = self.add_weight(
                name="bias", shape=(self.vocabulary_size,), initializer="zeros", autocast=False
            )

    def compute_output_spec(
        self, x: Any, layout: Layout, positions: Any = None, training: bool = False
    ) -> keras.KerasTensor:
        """Returns the shape and dtype of `call`'s output, without a graph."""
        if positions is None:
            return spec_of_batch(layout, self.vocabulary_size, dtype="float32")
        return keras.KerasTensor((*positions.shape, self.vocabulary_size), dtype="float32")

    def call(
        self,
        x: tf.Tensor,
        layout: Layout,
        positions: tf.Tensor | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        """Computes the logits; see the class."""
        if positions is not None:
            x = take_positions(x, layout, positions)  # (B * P, H)
        x = apply_transform(self.transform, self.norm, x, training)
        logits = self._product(x[:, : self.width] if self.extra_units else x)
        if self.extra_units:
            logits += tf.matmul(x[:, self.width :], self.extra_table)
        logits = tf.cast(logits, tf.float32)
        if self.decoder_bias:
            logits = tf.nn.bias_add(logits, self.bias.value)
        if positions is None:
            return to_batch(logits, layout)
        shape = tf.shape(positions)
        return tf.reshape(logits, [shape[0], shape[1], self.vocabulary_size])

    def arguments(self) -> dict[str, Any]:
        """Returns the constructor's arguments, without `embeddings`."""
        return super().get_config() | self._arguments

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments.

        Raises:
            ConfigError: the last kernel is a token embedding, which belongs to another layer.
        """
        if self.tied:
            raise ConfigError(
                "A masked-language-model head that shares the token embedding has no config "
                "without it. Save or copy the whole MaskedLM or HeadedModel."
            )
        return self.arguments()

    def _product(self, x: tf.Tensor) -> tf.Tensor:
        if self.decoder is not None:
            return self.decoder(x)
        return tf.matmul(x, tf.cast(self._table().value, x.dtype), transpose_b=True)
