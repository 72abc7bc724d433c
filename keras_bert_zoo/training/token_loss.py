"""The loss of writing a text token by token."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import tensorflow as tf

from keras_bert_zoo.data.pipeline import NO_LABEL
from keras_bert_zoo.training.replicas import SharedUnit

__all__ = ["SmoothedTokenLoss"]


class SmoothedTokenLoss(keras.losses.Loss):
    """Cross-entropy of the next token, with label smoothing, as a mean over a batch's tokens.

    Args:
        label_smoothing: float in [0, 1). Share of the probability that is wanted on all tokens
            alike; 0.1 is usual (arXiv 1706.03762, section 5.4).
    """

    unit: ClassVar[SharedUnit] = "tokens"

    def __init__(self, label_smoothing: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**{"name": "smoothed_token_loss"} | kwargs)
        self.label_smoothing = label_smoothing

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Computes the loss.

        Args:
            y_true: int32 (B, T), `NO_LABEL` where there is none.
            y_pred: float32 (B, T, V), logits.

        Returns:
            float32 (B,), such that their mean is that over the tokens.
        """
        labels = tf.cast(y_true, tf.int32)
        there = tf.cast(labels != NO_LABEL, y_pred.dtype)
        nats = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=tf.maximum(labels, 0), logits=y_pred
        )
        if self.label_smoothing:
            of_all = tf.reduce_logsumexp(y_pred, axis=-1) - tf.reduce_mean(y_pred, axis=-1)
            nats = (1 - self.label_smoothing) * nats + self.label_smoothing * of_all
        rows = tf.cast(tf.shape(there)[0], there.dtype)
        tokens = tf.maximum(tf.reduce_sum(there), 1)
        return tf.reduce_sum(nats * there, axis=1) * rows / tokens
