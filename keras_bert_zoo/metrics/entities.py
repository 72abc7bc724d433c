"""Precision, recall and F1 of entities, as in seqeval: start, end and type must be correct."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from keras_bert_zoo.data.tags import chunks, guess_scheme
from keras_bert_zoo.errors import DataError
from keras_bert_zoo.metrics.classification import (
    LabelScores,
    _label_scores,
    format_table,
    format_values,
)

__all__ = [
    "EntityReport",
    "Spans",
    "entity_lists",
    "entity_report",
    "snap_to_words",
    "tag_report",
]

ScoredSpan = tuple[int, int, str, float]

Spans = Collection[tuple[int, int, str]]
"""The entities of a text: start, end and type, in any unit."""


@dataclass(frozen=True)
class EntityReport:
    """Entity recognition metrics.

    Args:
        precision: float. The share of predicted entities that are correct (micro average).
        recall: float. The share of true entities that are predicted (micro average).
        f1: float. The harmonic mean of both: "entity F1".
        macro_f1: float. The mean F1 of the types that occur.
        labels: the scores of each type.
        texts: int. The number of texts.
    """

    main_figure: ClassVar[str] = "f1"
    """The figure that compares models; higher is better."""

    precision: float
    recall: float
    f1: float
    macro_f1: float
    labels: LabelScores
    texts: int

    def to_dict(self) -> dict[str, Any]:
        """Returns all numbers as plain Python values for JSON."""
        return {
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            "macro_f1": self.macro_f1,
            "texts": self.texts,
            "labels": self.labels.to_dict(),
        }

    def to_text(self) -> str:
        """Formats the report as a text table for a terminal."""
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
    """Compares predicted with true entities.

    Args:
        true: the entities of each text.
        predicted: likewise.
        names: types to list first; others follow in alphabetical order.

    Returns:
        EntityReport.

    Raises:
        DataError: there are no texts, or `true` and `predicted` differ in length.
    """
    if len(true) != len(predicted) or not true:
        raise DataError(
            "expected true and predicted entities of the same texts, at least one, "
            f"received {len(true)}"
            f" and {len(predicted)}"
        )
    right: Counter[str] = Counter()
    guessed: Counter[str] = Counter()
    support: Counter[str] = Counter()
    for spans, guesses in zip(true, predicted, strict=True):
        right.update(kind for _, _, kind in set(spans) & set(guesses))
        guessed.update(kind for _, _, kind in set(guesses))
        support.update(kind for _, _, kind in set(spans))
    kinds = list(dict.fromkeys([*(names or ()), *sorted(guessed | support)]))
    counters = (right, guessed, support)
    counts = [np.array([counter[k] for k in kinds], np.int64) for counter in counters]
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
    """Compares the entities of tags, as `seqeval.metrics.classification_report` does.

    Args:
        true: for each sentence the tags of its words.
        predicted: likewise, of the same lengths.
        scheme: see `data.tags`; None: detected from the tags.

    Returns:
        EntityReport.

    Raises:
        DataError: there are no sentences, or `true` and `predicted` differ in length.
    """
    if scheme is None:
        scheme = guess_scheme(tag for tags in (*true, *predicted) for tag in tags)
    for index, (tags, guesses) in enumerate(zip(true, predicted, strict=False)):
        if len(tags) != len(guesses):
            raise DataError(
                f"expected {len(tags)} tags in sentence {index + 1}, one per word, received "
                f"{len(guesses)}"
            )
    return entity_report(
        [chunks(tags, scheme) for tags in true], [chunks(tags, scheme) for tags in predicted]
    )


def entity_lists(answers: Mapping[str, np.ndarray]) -> list[list[ScoredSpan]]:
    """Returns the entities of each text, (start, end, label, score) in characters.

    Args:
        answers: what `TokenClassifier.predict` returns.
    """
    columns = [answers[n] for n in ("start_character", "end_character", "label", "score")]
    return [
        [
            (int(start), int(end), str(label), float(score))
            for start, end, label, score in zip(*row, strict=True)
            if label
        ]
        for row in zip(*columns, strict=True)
    ]


def snap_to_words(
    spans: Sequence[ScoredSpan], words: Sequence[tuple[int, int]]
) -> list[ScoredSpan]:
    """Makes entities begin and end with words: those whose first character they contain.

    >>> snap_to_words([(0, 4, "PER", 0.5), (7, 9, "LOC", 0.5)], [(0, 3), (4, 9)])
    [(0, 3, 'PER', 0.5)]
    """
    starts = np.array([start for start, _ in words], np.int64)
    snapped = []
    for start, end, label, score in spans:
        first, stop = np.searchsorted(starts, (start, end), "left")
        if first < stop:
            snapped.append((int(starts[first]), words[stop - 1][1], label, score))
    return snapped
