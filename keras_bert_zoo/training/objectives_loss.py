"""The sum of the losses of several objectives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import tensorflow as tf

from keras_bert_zoo.metrics.language_model import label_nats
from keras_bert_zoo.metrics.replaced_token import labels_and_logits
from keras_bert_zoo.training.loss_units import SharedUnit

__all__ = ["ObjectivesLoss"]


@keras.saving.register_keras_serializable("keras_bert_zoo")
class ObjectivesLoss(keras.losses.Loss):
    """A weighted sum of cross-entropies, each a mean over the labels of one objective.

    Args:
        weights: objective -> float.

    Source: arXiv 1810.04805, appendix A.2: "The training loss is the sum of the mean masked LM
    likelihood and the mean next sentence prediction likelihood."
    """

    unit: ClassVar[SharedUnit] = "objectives"

    def __init__(self, weights: Mapping[str, float], **kwargs: Any) -> None:
        super().__init__(**{"name": "objectives_loss"} | kwargs)
        self.weights = dict(weights)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"weights": self.weights}

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tf.Tensor:
        """Computes the sum; see `means` for the arguments. Weights of rows are not used."""
        return tf.reduce_sum(self.means(y_true, y_pred))

    def means(self, y_true: Mapping[str, Any], y_pred: Mapping[str, Any]) -> tf.Tensor:
        """Computes the weighted means of all objectives.

        Args:
            y_true: objective -> int32 (B,), (B, E), (B, P) or (B, S); `NO_LABEL` where there is no
                label.
            y_pred: objective -> float (..., V), logits; see also `replaced_labels`.

        Returns:
            float32 (K,), in the order of the names; 0 for an objective without labels.
        """
        means = []
        for name in sorted(self.weights):
            nats, labelled = label_nats(*labels_and_logits(name, y_true[name], y_pred[name]))
            count = tf.maximum(tf.reduce_sum(labelled), 1.0)
            means.append(self.weights[name] * tf.reduce_sum(nats * labelled) / count)
        return tf.stack(means)
