"""A toy head: logits of the first token."""

from __future__ import annotations

import keras
import tensorflow as tf

from keras_bert_zoo.heads.classifier import ClassificationHead
from keras_bert_zoo.layers.token_layout import Layout


@keras.saving.register_keras_serializable("tests")
class FirstTokenHead(ClassificationHead):
    """Maps each text's first token to one logit per label, float32 (B, units)."""

    def call(self, x: tf.Tensor, layout: Layout, training: bool = False) -> tf.Tensor:
        """Computes the logits of the first tokens."""
        return super().call(tf.gather(x, layout["first_tokens"]), training=training)
