"""Thresholds of multi-label decisions, chosen on held-out data. R rows, L labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.validation import check_number

__all__ = ["PRIOR_SUPPORT", "check_thresholds", "tune_thresholds"]

PRIOR_SUPPORT = 1.0
"""How many true rows the labels taken together count for, beside a label's own.

On GoEmotions' development set, tuned on a part and measured on the rest (20 random parts), macro F1
was 0.471 with 0.5 for all labels and, with a prior of 0, 1, 5 and 20 true rows, 0.528, 0.527, 0.523
and 0.519 from half of the rows, 0.504, 0.512, 0.517 and 0.523 from a tenth.
"""


def check_thresholds(
    threshold: float | Sequence[float], labels: Sequence[str]
) -> float | tuple[float, ...]:
    """Checks one threshold for all labels, or one for each.

    Args:
        threshold: float, or list of them in the order of `labels`.
        labels: the names.

    Returns:
        float, or tuple of L of them.

    Raises:
        ConfigError: not a number between 0 and 1, or not as many as there are labels.
    """
    several = isinstance(threshold, list | tuple | np.ndarray)
    values: list[Any] = list(threshold) if several else [threshold]  # type: ignore[arg-type]
    for index, value in enumerate(values):
        name = f"threshold[{labels[index]!r}]" if several and index < len(labels) else "threshold"
        check_number(name, value, minimum=0, maximum=1, exclusive=True)
    if not several:
        return float(values[0])
    if len(values) != len(labels):
        raise ConfigError(
            f"Expected `threshold` to be one number or {len(labels)} numbers, one per label, "
            f"received {len(values)}."
        )
    return tuple(float(value) for value in values)


def tune_thresholds(
    true: np.ndarray, scores: np.ndarray, *, prior_support: float = PRIOR_SUPPORT
) -> np.ndarray:
    """Chooses for each label the threshold of the best F1.

    The threshold lies in the middle between two neighbouring scores of the label. A label of
    few true rows has its best F1 wherever chance put them, so each label's counts are not taken
    alone: those of all labels together, scaled down to `prior_support` true rows, are added at
    each threshold. A label of hundreds of true rows is hardly moved by them, one of none at all
    gets the threshold that suits all labels together (the best micro F1).

    Args:
        true: (R, L) of 0 and 1.
        scores: float (R, L), probabilities.
        prior_support: float, at least 0. 0 takes each label alone.

    Returns:
        float64 (L,), each between 0 and 1. Labels whose score reaches theirs apply.

    Raises:
        DataError: the arrays do not fit each other, are empty, or no label is ever true.
        ConfigError: `prior_support` is negative.
    """
    true, scores = np.asarray(true), np.asarray(scores, np.float64)
    if true.shape != scores.shape or true.ndim != 2 or not true.size:
        raise DataError(
            "expected labels and scores of one shape (rows, labels), with rows, got "
            f"{true.shape} and {scores.shape}"
        )
    if prior_support < 0:
        raise ConfigError(f"`prior_support` must be at least 0, got {prior_support}.")
    true = true.astype(bool)
    if not true.any():
        raise DataError("expected rows with labels to tune thresholds on, but none has any")
    together = _Counts(true.reshape(-1), scores.reshape(-1))
    share = prior_support / together.support
    thresholds = np.full(true.shape[1], together.best(together, 0.0))
    for label in np.flatnonzero(true.any(axis=0)):
        thresholds[label] = _Counts(true[:, label], scores[:, label]).best(together, share)
    return np.clip(thresholds, 1e-6, 1 - 1e-6)


class _Counts:
    """What is predicted, and what of it is right, at every threshold between two scores."""

    def __init__(self, true: np.ndarray, scores: np.ndarray) -> None:
        order = np.argsort(-scores, kind="stable")
        falling = scores[order]
        # Places behind which another score follows; the last is behind all scores.
        ends = np.flatnonzero(np.append(np.diff(falling) != 0, True))
        below = np.append(falling[1:], 0.0)[ends]
        self.thresholds = (falling[ends] + below) / 2  # falling
        self.predicted = ends + 1
        self.right = np.cumsum(true[order])[ends]
        self.support = int(true.sum())

    def at(self, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How many are predicted, and right, at other thresholds."""
        # The thresholds here that are not below the one asked for have all that reaches it.
        place = np.searchsorted(-self.thresholds, -thresholds, side="right")
        return np.append(0, self.predicted)[place], np.append(0, self.right)[place]

    def best(self, others: "_Counts", share: float) -> float:
        """The threshold of the best F1, with a share of the others' counts added."""
        predicted, right = others.at(self.thresholds)
        above = 2 * (self.right + share * right)
        below = self.predicted + self.support + share * (predicted + others.support)
        # Of equal ones the first, which is the highest: it says least.
        return float(self.thresholds[np.argmax(above / below)])
