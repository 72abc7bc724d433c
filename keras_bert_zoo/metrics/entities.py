"""Precision, recall and F1 of entities, as seqeval counts them: right in both ends and in type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_bert_zoo.data.tags import chunks, guess_scheme
from keras_bert_zoo.errors import DataError
from keras_bert_zoo.metrics.classification import (
    LabelScores,
    _label_scores,
    format_table,
    format_values,
)

__all__ = ["EntityReport", "Spans", "entity_report", "tag_report"]

Spans = Collection[tuple[int, int, str]]
"""Entities of a text: begin, end and type, in whatever unit."""


@dataclass(frozen=True)
class EntityReport:
    """How well entities were found.

    Args:
        precision: float. The share of the found entities that are there (micro average).
        recall: float. The share of the true entities that were found (micro average).
        f1: float. Their harmonic mean: "entity F1".
        macro_f1: float. Mean of the types' F1, over the types that occur.
        labels: the scores of each type.
        texts: int. Texts compared.
    """

    precision: float
    recall: float
    f1: float
    macro_f1: float
    labels: LabelScores
    texts: int

    def to_dict(self) -> dict[str, Any]:
        """Gives all numbers as plain Python values, ready for JSON."""
        return {
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            "macro_f1": self.macro_f1,
            "texts": self.texts,
            "labels": self.labels.to_dict(),
        }

    def to_text(self) -> str:
        """Sets the report as a text table of several lines, for a terminal."""
        table = [["label", "precision", "recall", "f1", "support"]]
        labels = self.labels
        for index, name in enumerate(labels.names):
            scores = (labels.precision[index], labels.recall[index], labels.f1[index])
            table.append([name, *(f"{s:.4f}" for s in scores), str(labels.support[index])])
        micro = (self.precision, self.recall, self.f1)
        table += [[], ["micro", *(f"{s:.4f}" for s in micro), str(labels.support.sum())]]
        return f"{format_values([('entity F1', f'{self.f1:.4f}')])}\n\n{format_table(table)}"


def entity_report(
    true: Sequence[Spans], predicted: Sequence[Spans], names: Sequence[str] | None = None
) -> EntityReport:
    """Compares the entities of texts with the true ones.

    Args:
        true: for each text its entities.
        predicted: likewise.
        names: types to list first; further ones follow in alphabetical order.

    Returns:
        EntityReport.

    Raises:
        DataError: there are no texts, or not as many of both.
    """
    if len(true) != len(predicted) or not true:
        raise DataError(
            f"expected entities of as many texts on both sides, at least one, got {len(true)} and "
            f"{len(predicted)}"
        )
    right: Counter[str] = Counter()
    found: Counter[str] = Counter()
    there: Counter[str] = Counter()
    for spans, guesses in zip(true, predicted, strict=True):
        expected, got = set(spans), set(guesses)
        right.update(kind for _, _, kind in expected & got)
        found.update(kind for _, _, kind in got)
        there.update(kind for _, _, kind in expected)
    kinds = list(dict.fromkeys([*(names or ()), *sorted(found | there)]))
    counts = [np.array([counter[k] for k in kinds], np.int64) for counter in (right, found, there)]
    labels = _label_scores(kinds, *counts)
    micro = _label_scores(("all",), *(count.sum(keepdims=True) for count in counts))
    seen = (counts[1] + counts[2]) > 0
    return EntityReport(
        precision=float(micro.precision[0]),
        recall=float(micro.recall[0]),
        f1=float(micro.f1[0]),
        macro_f1=float(labels.f1[seen].mean()) if seen.any() else 0.0,
        labels=labels,
        texts=len(true),
    )


def tag_report(
    true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], scheme: str | None = None
) -> EntityReport:
    """Compares tags word by word, as `seqeval.metrics.classification_report` does.

    Args:
        true: for each sentence the tags of its words.
        predicted: likewise, as many.
        scheme: see `data.tags`; None: detected from the tags.

    Returns:
        EntityReport.

    Raises:
        DataError: there are no sentences, or not as many tags on both sides.
    """
    if scheme is None:
        scheme = guess_scheme(tag for tags in (*true, *predicted) for tag in tags)
    for index, (tags, guesses) in enumerate(zip(true, predicted, strict=False)):
        if len(tags) != len(guesses):
            raise DataError(
                f"expected as many tags as words, in sentence {index + 1} {len(tags)}, got "
                f"{len(guesses)}"
            )
    return entity_report(
        [chunks(tags, scheme) for tags in true], [chunks(tags, scheme) for tags in predicted]
    )
