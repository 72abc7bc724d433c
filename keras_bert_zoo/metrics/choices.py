"""Metrics of multiple-choice predictions, compared with random guessing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from keras_bert_zoo.errors import DataError
from keras_bert_zoo.metrics.classification import format_values

__all__ = ["ChoiceReport", "choice_report"]


@dataclass(frozen=True)
class ChoiceReport:
    """The accuracy of choices, compared with random guessing.

    Args:
        accuracy: float.
        chance: float. The expected accuracy of random guessing: 1 / choices.
        p_value: float. The probability that random guessing is at least as accurate, by the
            one-sided exact binomial test.
        rows: int.
        right: int. The number of correct rows.
    """

    main_figure: ClassVar[str] = "accuracy"
    """The figure that compares models; higher is better."""

    accuracy: float
    chance: float
    p_value: float
    rows: int
    right: int

    def to_dict(self) -> dict[str, Any]:
        """Returns all numbers as plain Python values for JSON."""
        return {
            "accuracy": self.accuracy,
            "chance": self.chance,
            "p_value": self.p_value,
            "rows": self.rows,
            "right": self.right,
        }

    def to_text(self) -> str:
        """Formats the report as lines of text."""
        return format_values(
            [
                ("accuracy", f"{self.accuracy:.4f}"),
                ("by chance", f"{self.chance:.4f}"),
                ("p value", f"{self.p_value:.3g}"),
                ("rows", f"{self.rows}"),
            ]
        )


def choice_report(true: np.ndarray, predicted: np.ndarray, choices: int) -> ChoiceReport:
    """Compares predicted with true choices.

    Args:
        true: int (R,).
        predicted: int (R,).
        choices: int. The number of choices per row.

    Returns:
        ChoiceReport.

    Raises:
        DataError: the arrays differ in shape or are empty.
    """
    true, predicted = np.asarray(true), np.asarray(predicted)
    if true.shape != predicted.shape or true.ndim != 1 or not len(true):
        raise DataError(
            "expected true and predicted choices of one shape (rows,), at least one row, received "
            f"shapes {true.shape} and {predicted.shape}"
        )
    right = int((true == predicted).sum())
    return ChoiceReport(
        accuracy=right / len(true),
        chance=1 / choices,
        p_value=_at_least(right, len(true), 1 / choices),
        rows=len(true),
        right=right,
    )


def _at_least(successes: int, trials: int, share: float) -> float:
    """The probability of at least `successes` successes in independent trials."""
    logs = [
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        + k * math.log(share) + (trials - k) * math.log1p(-share)
        for k in range(successes, trials + 1)
    ]  # fmt: skip
    return min(1.0, math.fsum(math.exp(value) for value in logs))
