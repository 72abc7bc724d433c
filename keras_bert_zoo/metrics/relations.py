"""The official metric of SemEval-2010 task 8 for directed relations. R rows.

A label is a relation with a direction, `Cause-Effect(e1,e2)` or `Cause-Effect(e2,e1)`, or a
relation without one, such as `Other`. As in the official definition, the F1 of a relation covers
both directions. A row with the correct relation in the wrong direction is an error: it lowers
precision and recall.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from keras_bert_zoo.errors import DataError
from keras_bert_zoo.metrics.classification import LabelScores, format_table, format_values

__all__ = ["RelationReport", "relation_of", "relation_report"]

OTHER = "Other"
_DIRECTION = re.compile(r"\((?:e1,e2|e2,e1)\)$")


@dataclass(frozen=True)
class RelationReport:
    """Metrics of directed relations.

    Args:
        accuracy: float. The share of rows with the correct relation and direction.
        macro_precision: float. The mean over the relations that occur, without `Other`.
        macro_recall: float. Likewise.
        macro_f1: float. Likewise, the mean of the relations' F1: the official score.
        micro_f1: float. F1 of all relations together, without `Other`.
        wrong_direction: int. The number of rows with only the direction wrong.
        relations: the scores of each relation that occurs, including `Other`.
    """

    main_figure: ClassVar[str] = "macro_f1"
    """The figure that compares models; higher is better."""

    accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    micro_f1: float
    wrong_direction: int
    relations: LabelScores

    def to_dict(self) -> dict[str, Any]:
        """Returns all numbers as plain Python values for JSON."""
        return {
            "accuracy": self.accuracy,
            "macro_precision": self.macro_precision,
            "macro_recall": self.macro_recall,
            "macro_f1": self.macro_f1,
            "micro_f1": self.micro_f1,
            "wrong_direction": self.wrong_direction,
            "relations": self.relations.to_dict(),
        }

    def to_text(self) -> str:
        """Formats the report as a text table."""
        scores = self.relations
        table = [["relation", "precision", "recall", "f1", "support"]]
        for index, name in enumerate(scores.names):
            values = (scores.precision[index], scores.recall[index], scores.f1[index])
            table.append([name, *(f"{v:.4f}" for v in values), str(scores.support[index])])
        table.append([])
        counted = sum(
            int(n) for name, n in zip(scores.names, scores.support, strict=True) if name != OTHER
        )
        macro = (self.macro_precision, self.macro_recall, self.macro_f1)
        table.append([f"macro, without {OTHER}", *(f"{v:.4f}" for v in macro), str(counted)])
        head = format_values(
            [
                ("official macro F1", f"{self.macro_f1:.4f}"),
                ("accuracy", f"{self.accuracy:.4f}"),
                ("wrong direction", str(self.wrong_direction)),
            ]
        )
        return f"{head}\n\n{format_table(table)}"


def relation_of(label: str) -> str:
    """The relation of a label, without its direction.

    >>> relation_of("Cause-Effect(e2,e1)")
    'Cause-Effect'
    """
    return _DIRECTION.sub("", label)


def relation_report(
    true: Sequence[str], predicted: Sequence[str], *, other: str = OTHER
) -> RelationReport:
    """Compares predicted with true labels.

    Args:
        true: list of str, labels with their directions.
        predicted: list of str.
        other: str. The label to leave out of the averages.

    Returns:
        RelationReport.

    Raises:
        DataError: the lists differ in length or are empty, or no true label is a relation.
    """
    if len(true) != len(predicted) or not len(true):
        raise DataError(
            f"expected equal numbers of predicted and true labels, at least one, received "
            f"{len(predicted)} and {len(true)}"
        )
    true_relation = np.array([relation_of(label) for label in true], object)
    predicted_relation = np.array([relation_of(label) for label in predicted], object)
    names = sorted(set(true_relation.tolist()))
    counted = np.array([name != other for name in names])
    if not counted.any():
        raise DataError(f"expected true labels that are relations, received only {other!r}")
    right = np.array(true, object) == np.array(predicted, object)
    hits = np.array([np.sum(right & (true_relation == name)) for name in names])
    guesses = np.array([np.sum(predicted_relation == name) for name in names])
    support = np.array([np.sum(true_relation == name) for name in names])
    precision = hits / np.maximum(guesses, 1)
    recall = hits / support
    f1 = 2 * hits / (guesses + support)
    return RelationReport(
        accuracy=float(right.mean()),
        macro_precision=float(precision[counted].mean()),
        macro_recall=float(recall[counted].mean()),
        macro_f1=float(f1[counted].mean()),
        micro_f1=float(2 * hits[counted].sum() / (guesses + support)[counted].sum()),
        wrong_direction=int(np.sum((true_relation == predicted_relation) & ~right)),
        relations=LabelScores(tuple(names), precision, recall, f1, support),
    )
