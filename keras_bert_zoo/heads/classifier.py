"""The head of sequence classification and regression."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.layers.dense import Dense


class ClassificationHead(Dense):
    """Maps the pooled output to one logit a label, after dropout.

    Args:
        units: int. Number of labels; 1 for regression.
        dropout: float in [0, 1).
        initializer_range: float. See `Dense`.

    Call arguments:
        x: float (B, H). The encoder's pooled output.
        training: bool.

    Returns:
        float32 (B, units), whatever the encoder's compute dtype: logits reach users and losses.

    Source: arXiv 1810.04805, section 4.1; Hugging Face's BertForSequenceClassification.
    """

    def __init__(
        self, units: int, *, dropout: float, initializer_range: float = 0.02, **kwargs: Any
    ) -> None:
        super().__init__(
            units, initializer_range=initializer_range, **{"dtype": "float32"} | kwargs
        )
        self.dropout = keras.layers.Dropout(dropout, dtype="float32")

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Computes the logits; see the class."""
        return super().call(self.dropout(x, training=training))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = super().get_config() | {"dropout": self.dropout.rate}
        del config["activation"]
        return config
