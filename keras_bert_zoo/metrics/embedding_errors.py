"""Errors of an embedder: groups of texts with the wrong similarities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_bert_zoo.data.pairs import TextGroups

__all__ = ["worst_groups"]

_PAIRS_AT_ONCE = 1024


def worst_groups(
    groups: TextGroups, texts: Sequence[str], vectors: np.ndarray, columns: Sequence[np.ndarray]
) -> list[dict[str, Any]]:
    """Lists an embedder's errors, the worst first.

    Args:
        groups: pairs with or without scores, or triplets.
        texts: the distinct texts of the groups.
        vectors: float32 (texts, D). Their dot products are the similarities.
        columns: for each column of `groups`, int (groups,), the numbers of its texts.

    Returns:
        list of dicts for JSON, with the texts, `similarity` and `row`, the line in the file. All
        pairs with scores are listed, with `rank_error`: the rank of the similarity minus that of
        the score, as a share of all pairs. Other groups are listed if a wrong text, `nearer`, is at
        least as similar.
    """
    from scipy import stats

    similarities = np.sum(vectors[columns[0]] * vectors[columns[1]], axis=-1)

    def row(index: int, **more: Any) -> dict[str, Any]:
        return {
            "text": groups.columns[0][index],
            "text_pair": groups.columns[1][index],
            "similarity": round(float(similarities[index]), 4),
            "row": groups.rows[index],
            **more,
        }

    if groups.scores is not None:
        ranks = stats.rankdata(similarities) - stats.rankdata(groups.scores)
        errors = ranks / max(1, len(groups) - 1)
        return [
            row(index, score=groups.scores[index], rank_error=round(float(errors[index]), 4))
            for index in np.argsort(-np.abs(errors), kind="stable")
        ]
    nearest, wrong = (_nearest_negative if groups.size > 2 else _nearest_other)(
        vectors, columns, groups
    )
    excess = nearest - similarities
    return [
        row(
            index,
            nearer=texts[wrong[index]],
            nearer_similarity=round(float(nearest[index]), 4),
        )
        for index in np.argsort(-excess, kind="stable")
        if excess[index] >= 0
    ]


def _nearest_negative(
    vectors: np.ndarray, columns: Sequence[np.ndarray], groups: TextGroups
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the similarity and the text number of each group's nearest negative."""
    negatives = np.stack(columns[2:])  # (negatives, groups)
    similarities = np.sum(vectors[columns[0]] * vectors[negatives], axis=-1)
    best = similarities.argmax(axis=0)
    rows = np.arange(len(best))
    return similarities[best, rows], negatives[best, rows]


def _nearest_other(
    vectors: np.ndarray, columns: Sequence[np.ndarray], groups: TextGroups
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the same of the nearest positive of other groups."""
    group_ids = groups.kinship()
    documents, first = np.unique(columns[1], return_index=True)
    document_ids = group_ids[first]  # groups with the same positive have the same id
    best = np.full(len(groups), -np.inf, np.float32)
    wrong = np.zeros(len(groups), np.int64)
    for begin in range(0, len(groups), _PAIRS_AT_ONCE):
        rows = slice(begin, begin + _PAIRS_AT_ONCE)
        anchors = columns[0][rows, np.newaxis]
        scores = vectors[columns[0][rows]] @ vectors[documents].T
        own = group_ids[rows, np.newaxis]
        scores[(document_ids == own) | (documents == anchors)] = -np.inf
        place = scores.argmax(axis=1)
        best[rows] = scores.max(axis=1)
        wrong[rows] = documents[place]
    return best, wrong
