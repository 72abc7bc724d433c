"""The head of sequence classification and regression, and the transform of linear heads."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.layers.dense import Dense
from keras_bert_zoo.layers.dropout import Dropout
from keras_bert_zoo.layers.normalization import LayerNormalization
from keras_bert_zoo.layers.training_hooks import change_pooled


@keras.saving.register_keras_serializable("keras_bert_zoo")
class ClassificationHead(Dense):
    """Maps each vector to one logit per label, after an optional transform and dropout.

    It is also the head of multiple choice (one unit, rows are choices), of next-sentence
    prediction and of sentence order (two units).

    Args:
        units: int. Number of labels; 1 for regression.
        dropout: float in [0, 1).
        transform_units: int or None. Width of a dense layer before the dropout. None: no such
            layer.
        transform_activation: str. Of that layer.
        transform_bias: bool. Whether that layer has a bias.
        norm_epsilon: float or None. Epsilon of a LayerNorm after that layer. None: no LayerNorm.
        norm_bias: bool. Whether the norm has a bias.
        initializer_range: float. See `Dense`.
        transform_dtype: Keras dtype policy of the transform; None: float32.

    Call arguments:
        x: float (B, H). The encoder's pooled output.
        training: bool.

    Returns:
        float32 (B, units), for any compute dtype of the encoder.

    Source: arXiv 1810.04805, section 4.1; Hugging Face's BertForSequenceClassification, and
    ModernBertPredictionHead for the transform.
    """

    def __init__(
        self,
        units: int,
        *,
        dropout: float,
        transform_units: int | None = None,
        transform_activation: str = "linear",
        transform_bias: bool = True,
        norm_epsilon: float | None = None,
        norm_bias: bool = True,
        initializer_range: float = 0.02,
        transform_dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            units, initializer_range=initializer_range, **{"dtype": "float32"} | kwargs
        )
        self.dropout = Dropout(dropout, dtype="float32")
        self._transform_options: dict[str, Any] = {
            "transform_units": transform_units,
            "transform_activation": transform_activation,
            "transform_bias": transform_bias,
            "norm_epsilon": norm_epsilon,
            "norm_bias": norm_bias,
        }
        self._transform_dtype = keras.dtype_policies.get(transform_dtype or "float32").name
        self.transform, self.norm = make_transform(
            **self._transform_options,
            initializer_range=initializer_range,
            dtype=self._transform_dtype,
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the transform's variables, `kernel` and `bias`."""
        super().build(build_transform(self.transform, self.norm, input_shape))

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Computes the logits; see the class."""
        x = apply_transform(self.transform, self.norm, change_pooled(x), training)
        x = self.dropout(tf.cast(x, self.compute_dtype), training=training)
        return super().call(x, training=training)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = super().get_config() | {
            "dropout": self.dropout.rate,
            "transform_dtype": self._transform_dtype,
            **self._transform_options,
        }
        del config["activation"], config["use_bias"]
        return config


def make_transform(
    *,
    transform_units: int | None,
    transform_activation: str,
    transform_bias: bool,
    norm_epsilon: float | None,
    norm_bias: bool,
    initializer_range: float,
    dtype: Any,
) -> tuple[Dense | None, LayerNormalization | None]:
    """Builds the dense layer before a head's last layer, and the LayerNorm after it, if any.

    Args: see `ClassificationHead`.
    """
    dense = norm = None
    if transform_units is not None:
        dense = Dense(
            transform_units,
            activation=transform_activation,
            use_bias=transform_bias,
            initializer_range=initializer_range,
            dtype=dtype,
            name="transform",
        )
    if norm_epsilon is not None:
        norm = LayerNormalization(
            epsilon=norm_epsilon, use_bias=norm_bias, dtype=dtype, name="norm"
        )
    return dense, norm


def build_transform(
    dense: Dense | None, norm: LayerNormalization | None, shape: tuple[int | None, ...]
) -> tuple[int | None, ...]:
    """Creates a transform's variables, and returns the shape of its output."""
    if dense is not None:
        dense.build(shape)
        shape = (*shape[:-1], dense.units)
    if norm is not None:
        norm.build(shape)
    return shape


def apply_transform(
    dense: Dense | None, norm: LayerNormalization | None, x: tf.Tensor, training: bool
) -> tf.Tensor:
    """Applies a transform to float (T, H)."""
    if dense is not None:
        x = dense(x, training=training)
    if norm is not None:
        x = norm(x, training=training)
    return x
