"""Metrics of embeddings in NumPy arrays: similarity of pairs, triplets, retrieval.

Dimensions: Q queries, N documents, P pairs of a query and a relevant document, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from keras_bert_zoo.data.pairs import TextGroups
from keras_bert_zoo.errors import DataError
from keras_bert_zoo.metrics.classification import format_values, regression_report

CUTOFFS = (1, 5, 10)
"""The cutoffs of recall: the numbers of first documents."""
_RANK_CUTOFF = 10  # the cutoff of the mean reciprocal rank, as in MS MARCO and BEIR
_SCORES_AT_ONCE = 1 << 24  # limits the memory of a block of queries with all documents


@dataclass(frozen=True)
class SimilarityReport:
    """Correlation of similarities with scores.

    Args:
        spearman: float. Rank correlation, with mean ranks for ties; 0 if one side is constant.
        pearson: float. Linear correlation; 0 likewise.
        rows: int. The number of pairs.
    """

    main_figure: ClassVar[str] = "spearman"
    """The figure that compares models; higher is better."""

    spearman: float
    pearson: float
    rows: int

    def to_dict(self) -> dict[str, Any]:
        """Returns all numbers as plain Python values for JSON."""
        return {"spearman": self.spearman, "pearson": self.pearson, "rows": self.rows}

    def to_text(self) -> str:
        """Formats the report as a text table."""
        return _to_text(self.to_dict())


@dataclass(frozen=True)
class TripletReport:
    """Metrics of triplets.

    Args:
        accuracy: float. The share of groups whose anchor is nearer to its positive than to all
            negatives; a tie is an error.
        margin: float. The mean difference between the similarity of the positive and of the
            nearest negative.
        rows: int. The number of groups.
    """

    main_figure: ClassVar[str] = "accuracy"
    """The figure that compares models; higher is better."""

    accuracy: float
    margin: float
    rows: int

    def to_dict(self) -> dict[str, Any]:
        """Returns all numbers as plain Python values for JSON."""
        return {"accuracy": self.accuracy, "margin": self.margin, "rows": self.rows}

    def to_text(self) -> str:
        """Formats the report as a text table."""
        return _to_text(self.to_dict())


@dataclass(frozen=True)
class RetrievalReport:
    """Retrieval metrics.

    Args:
        recall: cutoff -> float. The share of relevant documents among the first results, averaged
            over queries.
        mrr_at_10: float. The mean of 1 / rank of the first relevant document, 0 after rank 10.
        queries: int. The number of queries.
        documents: int. The number of documents searched.
    """

    main_figure: ClassVar[str] = "mrr_at_10"
    """The figure that compares models; higher is better."""

    recall: dict[int, float]
    mrr_at_10: float
    queries: int
    documents: int

    def to_dict(self) -> dict[str, Any]:
        """Returns all numbers as plain Python values for JSON."""
        return {
            **{f"recall_at_{cutoff}": value for cutoff, value in self.recall.items()},
            "mrr_at_10": self.mrr_at_10,
            "queries": self.queries,
            "documents": self.documents,
        }

    def to_text(self) -> str:
        """Formats the report as a text table."""
        return _to_text(self.to_dict())


def similarity_report(scores: np.ndarray, similarities: np.ndarray) -> SimilarityReport:
    """Compares similarities of pairs with scores.

    Args:
        scores: float (pairs,), for example human judgments.
        similarities: float (pairs,), of the embeddings.

    Returns:
        SimilarityReport.

    Raises:
        DataError: the arrays differ in shape, are empty, or hold a number that is not finite.
    """
    report = regression_report(np.asarray(scores), np.asarray(similarities))
    return SimilarityReport(report.spearman, report.pearson, report.rows)


def triplet_report(
    anchors: np.ndarray, positives: np.ndarray, *negatives: np.ndarray
) -> TripletReport:
    """Compares similarities within groups, as dot products.

    Args:
        anchors: float (groups, D).
        positives: float (groups, D).
        *negatives: float (groups, D) each, at least one.

    Returns:
        TripletReport.

    Raises:
        DataError: there are no groups or no negatives.
    """
    if not len(anchors) or not negatives:
        raise DataError(
            "expected at least one anchor with a positive and a negative, received none"
        )
    near = np.sum(anchors * positives, axis=-1)
    far = np.max([np.sum(anchors * negative, axis=-1) for negative in negatives], axis=0)
    return TripletReport(float(np.mean(near > far)), float(np.mean(near - far)), len(anchors))


def ranks_of(
    queries: np.ndarray,
    documents: np.ndarray,
    pairs: np.ndarray,
    excluded: np.ndarray | None = None,
) -> np.ndarray:
    """Computes the exact ranks of documents for queries.

    Documents are ranked by their dot product with the query; ties keep the document order.

    Args:
        queries: float (Q, D).
        documents: float (N, D).
        pairs: int (P, 2). The indices of a query and a document.
        excluded: int (Q,) or None. A document to skip for each query, such as the query itself;
            -1: none.

    Returns:
        int64 (P,), from 1.
    """
    order = np.argsort(pairs[:, 0], kind="stable")
    ranks = np.zeros(len(pairs), np.int64)
    numbers = np.arange(len(documents))
    block = max(1, _SCORES_AT_ONCE // max(1, len(documents)))
    for begin in range(0, len(pairs), block):
        chosen = order[begin : begin + block]
        targets = pairs[chosen, 1]
        own, inverse = np.unique(pairs[chosen, 0], return_inverse=True)
        scores = (queries[own] @ documents.T)[inverse]  # (block, N)
        score = scores[np.arange(len(chosen)), targets][:, np.newaxis]
        before = (scores > score) | ((scores == score) & (numbers < targets[:, np.newaxis]))
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
    """Evaluates an exact search.

    Args:
        queries: float (Q, D).
        documents: float (N, D).
        relevant: for each query the indices of its relevant documents, at least one.
        excluded: see `ranks_of`.

    Returns:
        RetrievalReport.

    Raises:
        DataError: there are no queries, or a query has no relevant document.
    """
    counts = np.array([len(indices) for indices in relevant])
    if not len(queries) or not counts.all():
        raise DataError(
            "expected queries with at least one relevant document each, received "
            f"{len(queries)} queries, {int((counts == 0).sum())} without a document"
        )
    pairs = np.array([(q, d) for q, indices in enumerate(relevant) for d in indices], np.int64)
    ranks = ranks_of(queries, documents, pairs, excluded)
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
    """Evaluates the search of each anchor for its positives among all positives.

    Args:
        vectors: float (texts, D), of distinct texts.
        anchors: int (pairs,). Indices of texts.
        positives: int (pairs,). Likewise.
        labels: list of str, one per pair, or None. With labels, all positives of a label are
            relevant to all of its anchors.

    Returns:
        RetrievalReport. A repeated anchor or positive counts once. A text is never relevant to
        itself.

    Raises:
        DataError: there are no pairs.
    """
    documents, document = np.unique(positives, return_inverse=True)
    queries, query = np.unique(anchors, return_inverse=True)
    relevant: list[set[int]] = [set() for _ in queries]
    of_label: dict[Any, set[int]] = {}
    # Without labels, each anchor has its own key.
    keys = query if labels is None else labels
    for key, d in zip(keys, document, strict=True):
        of_label.setdefault(key, set()).add(int(d))
    for key, q in zip(keys, query, strict=True):
        relevant[q] |= of_label[key]
    # A query that is also a document must not find itself.
    nearest = np.minimum(np.searchsorted(documents, queries), len(documents) - 1)
    itself = np.where(documents[nearest] == queries, nearest, -1)
    others = [indices - {int(itself[q])} for q, indices in enumerate(relevant)]
    evaluated = [q for q, indices in enumerate(others) if indices]
    return retrieval_metrics(
        vectors[queries[evaluated]],
        vectors[documents],
        [sorted(others[q]) for q in evaluated],
        itself[evaluated],
    )


def group_report(
    groups: TextGroups, vectors: np.ndarray, columns: Sequence[np.ndarray]
) -> SimilarityReport | RetrievalReport | TripletReport:
    """Measures embeddings by the kind of the groups.

    Args:
        groups: pairs with or without scores, or triplets.
        vectors: float (texts, D). Their dot products are the similarities.
        columns: for each column of `groups`, int (groups,), the numbers of its texts.

    Returns:
        SimilarityReport for pairs with scores, TripletReport for triplets, or RetrievalReport.
    """
    if groups.kind == "scored":
        similarities = np.sum(vectors[columns[0]] * vectors[columns[1]], axis=-1)
        return similarity_report(np.asarray(groups.scores), similarities)
    if groups.kind == "triplets":
        return triplet_report(*(vectors[column] for column in columns))
    return retrieval_report(vectors, columns[0], columns[1], groups.labels)


def _to_text(values: dict[str, Any]) -> str:
    return format_values(
        [
            (name.replace("_", " "), f"{value:.4f}" if isinstance(value, float) else str(value))
            for name, value in values.items()
        ]
    )
