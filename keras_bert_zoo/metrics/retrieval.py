"""Metrics of embeddings, on numpy arrays: similarity of pairs, triplets, retrieval.

Q queries, N documents, P pairs of a query and a document that answers it, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_bert_zoo.errors import DataError
from keras_bert_zoo.metrics.classification import format_values, regression_report

CUTOFFS = (1, 5, 10)
"""Numbers of first documents that recall is told of."""
_RANK_CUTOFF = 10  # of the mean reciprocal rank, as MS MARCO and BEIR have it
_SCORES_AT_ONCE = 1 << 24  # bounds the memory of a block of queries against all documents


@dataclass(frozen=True)
class SimilarityReport:
    """How well similarities go with scores.

    Args:
        spearman: float. Correlation of ranks, ties sharing their mean rank; 0 where one side is
            constant.
        pearson: float. Linear correlation; 0 likewise.
        rows: int. Pairs compared.
    """

    spearman: float
    pearson: float
    rows: int

    def to_dict(self) -> dict[str, Any]:
        """Gives all numbers as plain Python values, ready for JSON."""
        return {"spearman": self.spearman, "pearson": self.pearson, "rows": self.rows}

    def to_text(self) -> str:
        """Sets the report as a table."""
        return _to_text(self.to_dict())


@dataclass(frozen=True)
class TripletReport:
    """How often an anchor is nearer to its positive than to each of its negatives.

    Args:
        accuracy: float. The share of groups; a tie is wrong.
        margin: float. By how much the positive's similarity exceeds the nearest negative's, on
            average.
        rows: int. Groups compared.
    """

    accuracy: float
    margin: float
    rows: int

    def to_dict(self) -> dict[str, Any]:
        """Gives all numbers as plain Python values, ready for JSON."""
        return {"accuracy": self.accuracy, "margin": self.margin, "rows": self.rows}

    def to_text(self) -> str:
        """Sets the report as a table."""
        return _to_text(self.to_dict())


@dataclass(frozen=True)
class RetrievalReport:
    """How well queries find their documents.

    Args:
        recall: cutoff -> float. The share of a query's documents among its first so many, the mean
            over queries.
        mrr_at_10: float. Mean of 1 / rank of the first document that answers, 0 beyond rank 10.
        queries: int.
        documents: int. How many were searched.
    """

    recall: dict[int, float]
    mrr_at_10: float
    queries: int
    documents: int

    def to_dict(self) -> dict[str, Any]:
        """Gives all numbers as plain Python values, ready for JSON."""
        return {
            **{f"recall_at_{cutoff}": value for cutoff, value in self.recall.items()},
            "mrr_at_10": self.mrr_at_10,
            "queries": self.queries,
            "documents": self.documents,
        }

    def to_text(self) -> str:
        """Sets the report as a table."""
        return _to_text(self.to_dict())


def similarity_report(scores: np.ndarray, similarities: np.ndarray) -> SimilarityReport:
    """Compares similarities of pairs with scores.

    Args:
        scores: float (pairs,), what people said.
        similarities: float (pairs,), what the embeddings say.

    Returns:
        SimilarityReport.

    Raises:
        DataError: the arrays differ in shape, are empty, or hold a number that is not finite.
    """
    found = regression_report(np.asarray(scores), np.asarray(similarities))
    return SimilarityReport(found.spearman, found.pearson, found.rows)


def triplet_report(
    anchors: np.ndarray, positives: np.ndarray, *negatives: np.ndarray
) -> TripletReport:
    """Compares similarities, as dot products, within groups.

    Args:
        anchors: float (groups, D).
        positives: float (groups, D).
        *negatives: float (groups, D) each, one at least.

    Returns:
        TripletReport.

    Raises:
        DataError: there are no groups or no negatives.
    """
    if not len(anchors) or not negatives:
        raise DataError("expected at least one anchor with a positive and a negative, got none")
    near = np.sum(anchors * positives, axis=-1)
    far = np.max([np.sum(anchors * negative, axis=-1) for negative in negatives], axis=0)
    return TripletReport(float(np.mean(near > far)), float(np.mean(near - far)), len(anchors))


def ranks_of(
    queries: np.ndarray,
    documents: np.ndarray,
    pairs: np.ndarray,
    excluded: np.ndarray | None = None,
) -> np.ndarray:
    """Finds at which place each of some documents comes for a query, exactly.

    Documents are in the order of their dot products with the query, equal ones in their own.

    Args:
        queries: float (Q, D).
        documents: float (N, D).
        pairs: int (P, 2). Query and document.
        excluded: int (Q,) or None. The document that a query passes over, itself; -1: none.

    Returns:
        int64 (P,), from 1.
    """
    order = np.argsort(pairs[:, 0], kind="stable")
    ranks = np.zeros(len(pairs), np.int64)
    numbers = np.arange(len(documents))
    block = max(1, _SCORES_AT_ONCE // max(1, len(documents)))
    for begin in range(0, len(pairs), block):
        chosen = order[begin : begin + block]
        wanted = pairs[chosen, 1]
        own, inverse = np.unique(pairs[chosen, 0], return_inverse=True)
        scores = (queries[own] @ documents.T)[inverse]  # (block, N)
        score = scores[np.arange(len(chosen)), wanted][:, np.newaxis]
        before = (scores > score) | ((scores == score) & (numbers < wanted[:, np.newaxis]))
        if excluded is not None:
            before &= numbers != excluded[pairs[chosen, 0]][:, np.newaxis]
        ranks[chosen] = before.sum(axis=1) + 1
    return ranks


def retrieval_metrics(
    queries: np.ndarray,
    documents: np.ndarray,
    relevant: Sequence[Sequence[int]],
    excluded: np.ndarray | None = None,
) -> RetrievalReport:
    """Measures an exact search.

    Args:
        queries: float (Q, D).
        documents: float (N, D).
        relevant: for each query the numbers of the documents that answer it, one at least.
        excluded: see `ranks_of`.

    Returns:
        RetrievalReport.

    Raises:
        DataError: there are no queries, or one has no document.
    """
    if not len(queries) or not all(len(numbers) for numbers in relevant):
        raise DataError("expected at least one query, and a document that answers each")
    pairs = np.array([(q, d) for q, numbers in enumerate(relevant) for d in numbers], np.int64)
    ranks = ranks_of(queries, documents, pairs, excluded)
    counts = np.array([len(numbers) for numbers in relevant])
    recall = {}
    for cutoff in CUTOFFS:
        hits = np.bincount(pairs[:, 0], weights=ranks <= cutoff, minlength=len(queries))
        recall[cutoff] = float(np.mean(hits / counts))
    first = np.full(len(queries), np.iinfo(np.int64).max)
    np.minimum.at(first, pairs[:, 0], ranks)
    reciprocal = np.where(first <= _RANK_CUTOFF, 1.0 / first, 0.0)
    return RetrievalReport(recall, float(reciprocal.mean()), len(queries), len(documents))


def retrieval_report(
    vectors: np.ndarray,
    anchors: np.ndarray,
    positives: np.ndarray,
    labels: Sequence[str] | None = None,
) -> RetrievalReport:
    """Lets each anchor search its positives among all positives of the data.

    Args:
        vectors: float (texts, D), of distinct texts.
        anchors: int (pairs,). Numbers of texts.
        positives: int (pairs,). Likewise.
        labels: str for each pair, or None. With labels, all positives of a label answer each of
            its anchors.

    Returns:
        RetrievalReport; a text that is an anchor or a positive several times counts once, and none
        is an answer to itself.

    Raises:
        DataError: there are no pairs.
    """
    documents, document = np.unique(positives, return_inverse=True)
    queries, query = np.unique(anchors, return_inverse=True)
    relevant: list[set[int]] = [set() for _ in queries]
    of_label: dict[Any, set[int]] = {}
    # Without labels, each anchor is one of its own.
    keys = query if labels is None else labels
    for key, d in zip(keys, document, strict=True):
        of_label.setdefault(key, set()).add(int(d))
    for key, q in zip(keys, query, strict=True):
        relevant[q] |= of_label[key]
    # A query that is among the documents would find itself.
    place = np.minimum(np.searchsorted(documents, queries), len(documents) - 1)
    itself = np.where(documents[place] == queries, place, -1)
    answered = [
        q for q, numbers in enumerate(relevant) if numbers - {int(itself[q])}
    ]  # whose only answer is not itself
    return retrieval_metrics(
        vectors[queries[answered]],
        vectors[documents],
        [sorted(relevant[q] - {int(itself[q])}) for q in answered],
        itself[answered],
    )


def _to_text(values: dict[str, Any]) -> str:
    return format_values(
        [
            (name.replace("_", " "), f"{value:.4f}" if isinstance(value, float) else str(value))
            for name, value in values.items()
        ]
    )
