"""Which groups of texts an embedder gets wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_bert_zoo.data.pairs import TextGroups
from keras_bert_zoo.tasks.embedding.training import GroupTask, group_vectors

_PAIRS_AT_ONCE = 1024


def worst_groups(
    task: GroupTask, groups: TextGroups, *, batch_size: int = 64
) -> list[dict[str, Any]]:
    """Lists what an embedder gets wrong, the worst first.

    Args:
        task: of embeddings.
        groups: pairs with scores or without, or triplets.
        batch_size: int.

    Returns:
        a dict for each, ready for JSON, with its texts, `similarity` and `row`, the line in the
        file. Of pairs with scores all, with `rank_error`: how far the places of the score and of
        the similarity are apart, as a share of all pairs, negative where the similarity is too
        low. Of others those where a wrong text, `nearer`, is at least as near.
    """
    texts, vectors, columns = group_vectors(task, groups, batch_size)
    similarities = np.sum(vectors[columns[0]] * vectors[columns[1]], axis=-1)
    found = []
    if groups.scores is not None:
        places = [_places(np.asarray(values)) for values in (groups.scores, similarities)]
        errors = (places[1] - places[0]) / max(1, len(groups) - 1)
        for index in np.argsort(-np.abs(errors), kind="stable"):
            more = {"score": groups.scores[index], "rank_error": round(float(errors[index]), 4)}
            found.append(_row(groups, index, similarities) | more)
        return found
    nearest, wrong = (_nearest_negative if groups.size > 2 else _nearest_other)(
        vectors, columns, groups
    )
    excess = nearest - similarities
    for index in np.argsort(-excess, kind="stable"):
        if excess[index] >= 0:
            more = {
                "nearer": texts[wrong[index]],
                "nearer_similarity": round(float(nearest[index]), 4),
            }
            found.append(_row(groups, index, similarities) | more)
    return found


def _row(groups: TextGroups, index: Any, similarities: np.ndarray) -> dict[str, Any]:
    return {
        "text": groups.columns[0][index],
        "text_pair": groups.columns[1][index],
        "similarity": round(float(similarities[index]), 4),
        "row": groups.rows[index],
    }


def _places(values: np.ndarray) -> np.ndarray:
    """Places from 0; equal values share the mean of theirs."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[group]


def _nearest_negative(
    vectors: np.ndarray, columns: list[np.ndarray], groups: TextGroups
) -> tuple[np.ndarray, np.ndarray]:
    """Of each group's negatives the nearest: its similarity and the number of its text."""
    similarities = np.stack([np.sum(vectors[columns[0]] * vectors[c], -1) for c in columns[2:]])
    best = similarities.argmax(axis=0)
    rows = np.arange(len(best))
    return similarities[best, rows], np.stack(columns[2:])[best, rows]


def _nearest_other(
    vectors: np.ndarray, columns: list[np.ndarray], groups: TextGroups
) -> tuple[np.ndarray, np.ndarray]:
    """Of all positives that are not the anchor's own the nearest."""
    kin = groups.kinship()
    documents, first = np.unique(columns[1], return_index=True)
    document_kin = kin[first]  # rows of one positive are kin
    best = np.full(len(groups), -np.inf, np.float32)
    wrong = np.zeros(len(groups), np.int64)
    for begin in range(0, len(groups), _PAIRS_AT_ONCE):
        rows = slice(begin, begin + _PAIRS_AT_ONCE)
        anchors = columns[0][rows]
        scores = vectors[anchors] @ vectors[documents].T
        right = (document_kin == kin[rows][:, np.newaxis]) | (documents == anchors[:, np.newaxis])
        scores[right] = -np.inf
        place = scores.argmax(axis=1)
        best[rows] = scores[np.arange(len(place)), place]
        wrong[rows] = documents[place]
    return best, wrong
