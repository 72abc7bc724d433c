"""A replica's share of a loss of Keras."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError

__all__ = ["ReplicaLoss"]


@keras.saving.register_keras_serializable("keras_bert_zoo")
class ReplicaLoss(keras.losses.Loss):
    """Computes one replica's share of a loss, for any reduction.

    Keras divides only means by the number of replicas, not sums or scalar losses.

    Args:
        loss: keras.losses.Loss.
        replicas: int.

    Raises:
        ConfigError: the loss has no reduction.
    """

    def __init__(self, loss: keras.losses.Loss, replicas: int) -> None:
        if loss.reduction in (None, "none"):
            raise ConfigError(
                "Expected a loss with a reduction on several replicas, "
                "received `reduction=None`: pass "
                '"sum_over_batch_size" or "sum".'
            )
        super().__init__(name=loss.name, reduction=loss.reduction)
        self.loss = loss
        self.replicas = replicas
        self._is_mean: bool | None = False if loss.reduction == "sum" else None

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Computes the share.

        Args:
            y_true: labels, in the form that the loss accepts.
            y_pred: outputs.
            sample_weight: float (B,) or None.

        Returns:
            scalar.
        """
        value = self.loss(y_true, y_pred, sample_weight)
        if sample_weight is not None and self.loss.reduction != "sum":
            return value  # weights turn a scalar into rows, too, and Keras takes their mean
        if self._is_mean is None:
            dtype = self.loss.dtype
            # Only the rank is used. It is computed once, outside of the step.
            of_rows = self.loss.call(tf.cast(y_true, dtype), tf.cast(y_pred, dtype))
            self._is_mean = len(of_rows.shape) > 0
        return value if self._is_mean else value / tf.cast(self.replicas, value.dtype)
