"""Metrics of replaced token detection, ELECTRA's objective."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.data.pipeline import NO_LABEL
from keras_bert_zoo.metrics.language_model import LabelLoss, MaskedAccuracy

__all__ = [
    "REPLACED_TOKENS",
    "ReplacedTokenAccuracy",
    "ReplacedTokenLoss",
    "base_rate_entropy",
    "labels_and_logits",
    "replaced_labels",
]

REPLACED_TOKENS = "replaced_token_detection"
"""The name of the objective."""


def labels_and_logits(
    objective: str, y_true: tf.Tensor, y_pred: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the labels and the logits of an objective of pretraining.

    Args:
        objective: str, its name.
        y_true: its targets.
        y_pred: its outputs.

    Returns:
        int32 (...), `NO_LABEL` where there is no label; and float (..., classes).
    """
    if objective == REPLACED_TOKENS:
        return replaced_labels(y_true, y_pred)
    return tf.cast(y_true, tf.int32), y_pred


def replaced_labels(y_true: tf.Tensor, y_pred: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Compares tokens with the original ones.

    A sampled token that is the original one counts as original.

    Args:
        y_true: int32 (B, S), see `original_tokens`.
        y_pred: float32 (B, S, 2), see `replaced_outputs`.

    Returns:
        int32 (B, S): 1 for a replaced token, 0 for an original one, `NO_LABEL` at padding; and the
        logits of both, float32 (B, S, 2).

    Example:
        >>> labels, _ = replaced_labels([[5, 6, -1]], [[[0.3, 5.0], [1.2, 9.0], [0.0, 0.0]]])
        >>> labels.numpy().tolist()
        [[0, 1, -1]]
    """
    original = tf.cast(y_true, tf.int32)
    logits, tokens = tf.unstack(tf.cast(y_pred, tf.float32), axis=-1)
    replaced = tf.cast(tf.cast(tokens, tf.int32) != original, tf.int32)
    labels = tf.where(original == NO_LABEL, NO_LABEL, replaced)
    return labels, tf.stack([tf.zeros_like(logits), logits], axis=-1)


def base_rate_entropy(share: float) -> float:
    """The loss of a detector that only knows the share of replaced tokens, in nats.

    Example:
        >>> round(base_rate_entropy(0.5), 3)
        0.693
    """
    if not 0 < share < 1:
        return 0.0
    return -share * math.log(share) - (1 - share) * math.log1p(-share)


@keras.saving.register_keras_serializable("keras_bert_zoo")
class ReplacedTokenLoss(LabelLoss):
    """The mean cross-entropy of replaced token detection, in nats."""

    def update_state(self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: Any = None) -> None:
        """Adds the tokens of a batch; see `replaced_labels`."""
        super().update_state(*replaced_labels(y_true, y_pred), sample_weight)


@keras.saving.register_keras_serializable("keras_bert_zoo")
class ReplacedTokenAccuracy(MaskedAccuracy):
    """The share of tokens that are correctly detected as replaced or original."""

    def update_state(self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: Any = None) -> None:
        """Counts the tokens of a batch; see `replaced_labels`."""
        super().update_state(*replaced_labels(y_true, y_pred), sample_weight)
