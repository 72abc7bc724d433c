"""Metrics of masked language models."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import tensorflow as tf

from keras_bert_zoo.data.pipeline import NO_LABEL
from keras_bert_zoo.metrics.classification import format_values

__all__ = ["LabelLoss", "MaskedAccuracy", "MaskedLMReport", "label_nats", "token_scores"]


@dataclass(frozen=True)
class MaskedLMReport:
    """Metrics of predicted masked tokens.

    Args:
        loss: float. The mean of -ln p of the masked tokens, in nats.
        perplexity: float. exp(loss).
        accuracy: float. The share of masked tokens that have the highest probability.
        tokens: int. The number of masked tokens.
        rows: int. The number of texts.
    """

    main_figure: ClassVar[str] = "accuracy"
    """The figure that compares models; higher is better."""

    loss: float
    perplexity: float
    accuracy: float
    tokens: int
    rows: int

    @classmethod
    def of(cls, nats: float, right: int, tokens: int, rows: int) -> MaskedLMReport:
        """Makes a report from sums over masked tokens."""
        loss = nats / max(tokens, 1)
        # The exponential overflows above about 709 nats.
        return cls(loss, math.exp(min(loss, 700.0)), right / max(tokens, 1), tokens, rows)

    def to_dict(self) -> dict[str, Any]:
        """Returns all numbers as plain Python values for JSON."""
        return {
            "loss": self.loss,
            "perplexity": self.perplexity,
            "accuracy": self.accuracy,
            "masked_tokens": self.tokens,
        }

    def to_text(self) -> str:
        """Formats the report as lines of text."""
        return format_values(
            [
                ("loss", f"{self.loss:.4f}"),
                ("perplexity", f"{self.perplexity:.2f}"),
                ("accuracy", f"{self.accuracy:.4f}"),
                ("masked tokens", f"{self.tokens}"),
                ("rows", f"{self.rows}"),
            ]
        )


@keras.saving.register_keras_serializable("keras_bert_zoo")
class MaskedAccuracy(keras.metrics.Mean):
    """The share of masked tokens, or of labels, that have the highest probability."""

    def __init__(self, name: str = "accuracy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def update_state(self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: Any = None) -> None:
        """Counts the tokens of a batch.

        Args:
            y_true: int32 (B, P), `NO_LABEL` at padding; or (B,).
            y_pred: float (B, P, V), logits; or (B, V).
            sample_weight: float (B,) or None.
        """
        tokens = tf.cast(y_true, tf.int32)
        right = tf.equal(tokens, tf.argmax(y_pred, axis=-1, output_type=tf.int32))
        weights = tf.cast(tokens != NO_LABEL, tf.float32)
        if sample_weight is not None:
            weights *= _of_rows(sample_weight, weights)
        # Keras would take the means of rows, which weight a token by the width of its batch.
        super().update_state(
            tf.reshape(tf.cast(right, tf.float32), [-1]), tf.reshape(weights, [-1])
        )


@keras.saving.register_keras_serializable("keras_bert_zoo")
class LabelLoss(keras.metrics.Mean):
    """The mean cross-entropy of labels, in nats: of masked tokens, or of one label per row."""

    def __init__(self, name: str = "loss", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def update_state(self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: Any = None) -> None:
        """Adds the labels of a batch.

        Args:
            y_true: int32 (B, P) or (B,), `NO_LABEL` where there is none.
            y_pred: float (B, P, V) or (B, V), logits.
            sample_weight: float (B,) or None.
        """
        nats, weights = label_nats(y_true, y_pred)
        if sample_weight is not None:
            weights *= _of_rows(sample_weight, weights)
        super().update_state(tf.reshape(nats, [-1]), tf.reshape(weights, [-1]))


def label_nats(labels: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The cross-entropy of each label.

    Args:
        labels: int32 (...), `NO_LABEL` where there is none.
        logits: float (..., V).

    Returns:
        float (...), in nats, and 1 where there is a label, else 0.
    """
    ids = tf.cast(labels, tf.int32)
    labelled = tf.cast(ids != NO_LABEL, logits.dtype)
    nats = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.maximum(ids, 0), logits=logits)
    return nats, labelled


def _of_rows(weights: Any, values: tf.Tensor) -> tf.Tensor:
    """Reshapes weights (B,) to multiply values (B, ...)."""
    weights = tf.cast(weights, tf.float32)
    return tf.reshape(weights, [-1] + [1] * (values.shape.rank - 1))


def token_scores(
    logits: tf.Tensor, tokens: tf.Tensor
) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
    """The log-probability of tokens, and the most probable tokens.

    Args:
        logits: float32 (B, P, V).
        tokens: int32 (B, P). `NO_LABEL` at padding.

    Returns:
        float32 (B, P), log-probabilities in nats, 0 at padding; and the most probable tokens,
        int32 (B, P), with their probabilities, float32 (B, P).
    """
    is_token = tokens != NO_LABEL
    of_token = tf.gather(logits, tf.where(is_token, tokens, 0), batch_dims=2)
    total = tf.reduce_logsumexp(logits, axis=-1)
    best = tf.argmax(logits, axis=-1, output_type=tf.int32)
    score = tf.exp(tf.reduce_max(logits, axis=-1) - total)
    return tf.where(is_token, of_token - total, 0.0), (best, score)
