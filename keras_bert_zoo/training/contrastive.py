"""Contrastive losses of embeddings.

All losses take embeddings of groups of texts, (B, G, D): anchor, positive, hard negatives. The
other groups of the batch give further negatives, so larger batches train better. Under
`tf.distribute` the batch is that of one device. B groups, G texts per group, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.pipeline import NO_LABEL
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.training.loss_units import SharedUnit

_MASKED_SCORE = -1e9  # its exp is 0 in float32
# torch.nn.functional.pairwise_distance adds it to every difference.
_DISTANCE_EPSILON = 1e-6
_SMALLEST_NORM = 1e-12  # as torch.nn.functional.normalize

DISTANCES = ("euclidean", "cosine", "manhattan")


@keras.saving.register_keras_serializable("keras_bert_zoo")
class ContrastiveLoss(keras.losses.Loss):
    """Base of the losses of groups of texts.

    Call arguments:
        y_true: (B,); see the subclass.
        y_pred: float (B, G, D), embeddings.

    Returns:
        float32, scalar: the mean over the batch.
    """

    unit: ClassVar[SharedUnit] = ""
    needs: ClassVar[str]
    """The groups: "groups" (anchor, positive, any negatives), "negatives" (at least one negative)
    or "scores" (pairs with a score)."""

    def check_scores(self, scores: np.ndarray) -> None:
        """Raises DataError for scores that the loss does not accept."""


@keras.saving.register_keras_serializable("keras_bert_zoo")
class MultipleNegativesRankingLoss(ContrastiveLoss):
    """Cross-entropy of finding an anchor's positive among all texts of the batch.

    The logits are cosine similarities times `scale`. The other groups' positives and all hard
    negatives are the wrong answers. If each text is its own positive, with another dropout mask,
    this is SimCSE (arXiv 2104.08821).

    Args:
        scale: float. The inverse of the temperature; 20 as in sentence-transformers and SimCSE.
        symmetric: bool. Whether to average with the loss of finding a positive's anchor.

    Call arguments:
        y_true: int (B,). If two groups have the same number, their positives are not wrong answers
            for each other's anchors. `NO_LABEL`: the group is ignored.
        y_pred: float (B, G, D), G at least 2.

    Source: arXiv 1705.00652, section 4.4; sentence-transformers' loss of this name. The values are
    equal if all numbers differ.
    """

    unit = "batch"
    needs = "groups"

    def __init__(self, scale: float = 20.0, *, symmetric: bool = False, **kwargs: Any) -> None:
        super().__init__(**{"name": "multiple_negatives_ranking"} | kwargs)
        self.scale = _positive("scale", scale)
        self.symmetric = symmetric

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Computes the loss of each group, float32 (B,)."""
        unit = _unit(y_pred)
        anchors, positives = unit[:, 0], unit[:, 1]
        groups = tf.shape(unit)[0]
        labels = tf.range(groups)
        y_true = tf.reshape(y_true, [-1])
        real = y_true != tf.cast(NO_LABEL, y_true.dtype)
        both_real = tf.logical_and(real[:, tf.newaxis], real)
        wrong = tf.logical_and(y_true[:, tf.newaxis] != y_true, both_real)  # (B, B)
        # The positive of the group itself is the answer.
        scored = tf.logical_or(wrong, tf.eye(groups, dtype=tf.bool))
        masked = tf.where(scored, 0.0, _MASKED_SCORE)
        to_positives = self.scale * tf.matmul(anchors, positives, transpose_b=True) + masked
        rest = tf.reshape(unit[:, 2:], [-1, unit.shape[-1]])  # (B * (G - 2), D)
        to_negatives = self.scale * tf.matmul(anchors, rest, transpose_b=True)
        to_negatives += tf.repeat(tf.where(real, 0.0, _MASKED_SCORE), tf.shape(unit)[1] - 2)
        logits = tf.concat([to_positives, to_negatives], axis=1)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        if self.symmetric:
            back = tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels, tf.transpose(to_positives)
            )
            loss = (loss + back) / 2
        return _of_groups(loss, real)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"scale": self.scale, "symmetric": self.symmetric}


@keras.saving.register_keras_serializable("keras_bert_zoo")
class CoSENTLoss(ContrastiveLoss):
    """Penalizes two pairs whose cosine similarities are in the wrong order.

    Only the order of the scores matters: their range is arbitrary.

    Args:
        scale: float. The inverse of the temperature; 20 as in sentence-transformers.

    Call arguments:
        y_true: float (B,). The similarity of the two texts of each pair. NaN: the pair is ignored.
        y_pred: float (B, 2, D).

    Source: kexue.fm/archives/8847; equal to sentence-transformers' CoSENTLoss.
    """

    unit = "batch"
    needs = "scores"

    def __init__(self, scale: float = 20.0, **kwargs: Any) -> None:
        super().__init__(**{"name": "cosent"} | kwargs)
        self.scale = _positive("scale", scale)

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Computes float32 (B,), whose mean is the loss of the batch."""
        scores = self.scale * _cosines(y_pred)
        y_true = tf.reshape(y_true, [-1])
        # [i, j]: the score of pair i minus that of pair j; wrong if j should be more similar. NaN
        # is not below any number.
        differences = scores[:, tf.newaxis] - scores
        wrong = tf.where(y_true[:, tf.newaxis] < y_true, differences, _MASKED_SCORE)
        loss = tf.reduce_logsumexp(tf.concat([[0.0], tf.reshape(wrong, [-1])], axis=0))
        return _of_groups(tf.fill([tf.size(scores)], loss), tf.logical_not(tf.math.is_nan(y_true)))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"scale": self.scale}


@keras.saving.register_keras_serializable("keras_bert_zoo")
class CosineSimilarityLoss(ContrastiveLoss):
    """The squared error of the cosine similarities of pairs.

    Call arguments:
        y_true: float (B,) in [-1, 1]. The target cosine of each pair.
        y_pred: float (B, 2, D).

    Source: arXiv 1908.10084, section 3; sentence-transformers' loss of this name.
    """

    unit = "rows"
    needs = "scores"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"name": "cosine_similarity"} | kwargs)

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Computes the loss of each pair, float32 (B,)."""
        y_true = tf.cast(tf.reshape(y_true, [-1]), tf.float32)
        return tf.square(_cosines(y_pred) - y_true)

    def check_scores(self, scores: np.ndarray) -> None:
        """Raises DataError for scores outside [-1, 1]."""
        if scores.size and (scores.min() < -1 or scores.max() > 1):
            raise DataError(
                "The cosine loss takes scores from -1 to 1, received values from "
                f"{scores.min():g} to {scores.max():g}: scale them, or take the loss cosent."
            )


@keras.saving.register_keras_serializable("keras_bert_zoo")
class TripletLoss(ContrastiveLoss):
    """Penalizes an anchor that is not closer to its positive than to its negatives, by a margin.

    Args:
        distance: "euclidean", "cosine" (1 minus the similarity) or "manhattan".
        margin: float. 5 as in sentence-transformers. The distance of two vectors of length 1 is at
            most 2, euclidean or cosine.

    Call arguments:
        y_true: (B,), not used.
        y_pred: float (B, G, D), G at least 3; the loss is the mean over the negatives.

    Source: arXiv 1503.03832; equal to sentence-transformers' TripletLoss if G = 3.
    """

    unit = "rows"
    needs = "negatives"

    def __init__(self, distance: str = "euclidean", margin: float = 5.0, **kwargs: Any) -> None:
        super().__init__(**{"name": "triplet"} | kwargs)
        if distance not in DISTANCES:
            raise ConfigError(
                f"`distance` must be one of {', '.join(DISTANCES)}, received {distance!r}."
            )
        self.distance = distance
        self.margin = _positive("margin", margin)

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Computes the loss of each group, float32 (B,)."""
        anchor, positive, negatives = y_pred[:, :1], y_pred[:, 1:2], y_pred[:, 2:]
        near, far = self._distance(anchor, positive), self._distance(anchor, negatives)
        return tf.reduce_mean(tf.nn.relu(near - far + self.margin), axis=1)

    def _distance(self, left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
        """Distances, (B, N), of float (B, 1, D) and (B, N, D)."""
        if self.distance == "cosine":
            return 1.0 - tf.reduce_sum(_unit(left) * _unit(right), axis=-1)
        difference = left - right + _DISTANCE_EPSILON
        if self.distance == "manhattan":
            return tf.reduce_sum(tf.abs(difference), axis=-1)
        return tf.norm(difference, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"distance": self.distance, "margin": self.margin}


@keras.saving.register_keras_serializable("keras_bert_zoo")
class MatryoshkaLoss(ContrastiveLoss):
    """The sum of a loss over prefixes of the embeddings, of several sizes.

    After training, embeddings can be truncated to any of these sizes.

    Args:
        loss: ContrastiveLoss.
        dimensions: list of int. The full size should be among them.
        weights: list of float, one per size; None: 1 each.

    Call arguments: as the loss.

    Source: arXiv 2205.13147. As in sentence-transformers' MatryoshkaLoss, truncated embeddings are
    scaled to length 1.
    """

    def __init__(
        self,
        loss: ContrastiveLoss,
        dimensions: Sequence[int],
        weights: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"name": "matryoshka"} | kwargs)
        if not dimensions or any(size < 1 for size in dimensions):
            raise ConfigError(
                f"`dimensions` must be positive sizes, received {list(dimensions)!r}."
            )
        weights = [1.0] * len(dimensions) if weights is None else list(weights)
        if len(weights) != len(dimensions):
            raise ConfigError(
                f"There are {len(dimensions)} `dimensions` but {len(weights)} `weights`."
            )
        self.loss = loss
        self.dimensions = list(dimensions)
        self.weights = weights
        self.needs, self.unit = loss.needs, loss.unit  # type: ignore[misc]

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Computes the sum, float32 (B,)."""
        if max(self.dimensions) > y_pred.shape[-1]:
            raise ConfigError(
                f"The embeddings have {y_pred.shape[-1]} numbers, fewer than the "
                f"{max(self.dimensions)} of `dimensions`."
            )
        losses = [
            weight * self.loss.call(y_true, _unit(y_pred[..., :size]))
            for size, weight in zip(self.dimensions, self.weights, strict=True)
        ]
        return tf.add_n(losses)

    def check_scores(self, scores: np.ndarray) -> None:
        """Raises DataError for scores that the loss does not accept."""
        self.loss.check_scores(scores)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {
            "loss": self.loss,
            "dimensions": self.dimensions,
            "weights": self.weights,
        }


LOSSES: dict[str, type[ContrastiveLoss]] = {
    "multiple_negatives": MultipleNegativesRankingLoss,
    "cosent": CoSENTLoss,
    "cosine": CosineSimilarityLoss,
    "triplet": TripletLoss,
}


def make_loss(name: str, **options: Any) -> ContrastiveLoss:
    """Makes a loss by its name.

    Args:
        name: str of `LOSSES`.
        **options: the arguments of the loss.

    Returns:
        ContrastiveLoss.

    Raises:
        ConfigError: unknown name.
    """
    if name not in LOSSES:
        raise ConfigError(f"Loss {name!r} is unknown. Expected one of: {', '.join(LOSSES)}.")
    return LOSSES[name](**options)


def _unit(x: tf.Tensor) -> tf.Tensor:
    """Scales float (..., D) to length 1, float32; the gradient at zeros is zero."""
    x = tf.cast(x, tf.float32)
    squares = tf.reduce_sum(tf.square(x), axis=-1, keepdims=True)
    return x * tf.math.rsqrt(tf.maximum(squares, _SMALLEST_NORM**2))


def _of_groups(losses: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    """Scales losses, float32 (B,), such that their mean is that of the real groups, bool (B,)."""
    weights = tf.cast(real, losses.dtype)
    count = tf.maximum(tf.reduce_sum(weights), 1.0)
    return losses * weights * (tf.cast(tf.size(losses), losses.dtype) / count)


def _cosines(y_pred: tf.Tensor) -> tf.Tensor:
    """Cosine similarities of pairs: (B, 2, D) -> (B,)."""
    unit = _unit(y_pred)
    return tf.reduce_sum(unit[:, 0] * unit[:, 1], axis=-1)


def _positive(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ConfigError(f"`{name}` must be a number above 0, received {value!r}.")
    return float(value)
