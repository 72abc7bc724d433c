"""Losses on one label per token."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import tensorflow as tf

from keras_bert_zoo.data.pipeline import NO_LABEL
from keras_bert_zoo.layers.crf import ConditionalRandomField, sequence_loss
from keras_bert_zoo.training.loss_units import SharedUnit

__all__ = ["CrfLoss", "SmoothedTokenLoss"]


@keras.saving.register_keras_serializable("keras_bert_zoo")
class SmoothedTokenLoss(keras.losses.Loss):
    """Cross-entropy of token labels with label smoothing, averaged over the tokens of a batch.

    Args:
        label_smoothing: float in [0, 1). Share of the target probability that is uniform over all
            labels; 0.1 in arXiv 1706.03762, section 5.4.
        focal_gamma: float of at least 0. The exponent of the focal loss (arXiv 1708.02002): each
            label's term has the factor (1 - its probability) ** focal_gamma.
    """

    unit: ClassVar[SharedUnit] = "tokens"

    def __init__(
        self, label_smoothing: float = 0.1, *, focal_gamma: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**{"name": "smoothed_token_loss"} | kwargs)
        self.label_smoothing = label_smoothing
        self.focal_gamma = focal_gamma

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        options = {"label_smoothing": self.label_smoothing, "focal_gamma": self.focal_gamma}
        return super().get_config() | options

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Computes the loss.

        Args:
            y_true: int32 (B, T), `NO_LABEL` for tokens without a label.
            y_pred: float32 (B, T, V), logits.

        Returns:
            float32 (B,), whose mean is the mean over the tokens.
        """
        labels = tf.cast(y_true, tf.int32)
        labelled = tf.cast(labels != NO_LABEL, y_pred.dtype)
        ids = tf.maximum(labels, 0)
        if self.focal_gamma:
            nats = self._focal(ids, y_pred)
        else:
            nats = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=ids, logits=y_pred)
            if self.label_smoothing:
                uniform = tf.reduce_logsumexp(y_pred, axis=-1) - tf.reduce_mean(y_pred, axis=-1)
                nats = (1 - self.label_smoothing) * nats + self.label_smoothing * uniform
        rows = tf.cast(tf.shape(labelled)[0], labelled.dtype)
        tokens = tf.maximum(tf.reduce_sum(labelled), 1)
        return tf.reduce_sum(nats * labelled, axis=1) * rows / tokens

    def _focal(self, ids: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """The focal loss of each token, (B, T), with smoothed targets as in Keras' focal loss."""
        logs = tf.nn.log_softmax(logits)
        # 1 - p is exactly 0 if p rounds to 1, where the gradient of a root is infinite.
        others = tf.maximum(1 - tf.exp(logs), 1e-7)
        each = -(others**self.focal_gamma) * logs
        nats = tf.gather(each, ids, batch_dims=2)
        smoothing = self.label_smoothing
        return (1 - smoothing) * nats + smoothing * tf.reduce_mean(each, axis=-1)


@keras.saving.register_keras_serializable("keras_bert_zoo")
class CrfLoss(keras.losses.Loss):
    """Negative log-likelihood of the tags of rows, averaged over the words of a batch.

    Args:
        crf: ConditionalRandomField.
    """

    unit: ClassVar[SharedUnit] = "tokens"

    def __init__(self, crf: ConditionalRandomField) -> None:
        super().__init__(name="crf_loss")
        self.crf = crf

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Computes float32 (B,) from tags, int32 (B, S), and logits; `NO_LABEL`: not a word."""
        tags = tf.cast(y_true, tf.int32)
        labelled = tags != NO_LABEL
        lengths = tf.reduce_sum(tf.cast(labelled, tf.int32), axis=-1)
        # Words move to the front, in order. The loops need at least one column.
        order = tf.argsort(tf.cast(~labelled, tf.int32), axis=-1, stable=True)
        if tags.shape[1] is None:  # else the shapes are static, for XLA
            order = order[:, : tf.maximum(tf.reduce_max(lengths), 1)]
        losses = sequence_loss(
            tf.gather(tf.cast(y_pred, tf.float32), order, batch_dims=1),
            tf.gather(tags, order, batch_dims=1),
            lengths,
            *self.crf.parts(),
        )
        rows = tf.cast(tf.size(lengths), tf.float32)
        return losses * rows / tf.maximum(tf.cast(tf.reduce_sum(lengths), tf.float32), 1.0)
