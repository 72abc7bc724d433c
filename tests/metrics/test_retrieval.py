"""Metrics of embeddings, compared with scipy and an exhaustive search."""

import numpy as np
import pytest
import scipy.stats

from keras_bert_zoo.errors import DataError
from keras_bert_zoo.metrics import retrieval as retrieval_metrics
from keras_bert_zoo.metrics.classification import format_report
from keras_bert_zoo.metrics.retrieval import (
    ranks_of,
    retrieval_report,
    similarity_report,
    triplet_report,
)
from keras_bert_zoo.metrics.retrieval import (
    retrieval_metrics as measure,
)


def test_correlations_equal_scipy():
    random = np.random.default_rng(0)
    scores = random.integers(0, 6, 200) / 5  # with ties, like human scores
    similarities = scores + random.normal(size=200)
    report = similarity_report(scores, similarities)
    assert report.spearman == pytest.approx(scipy.stats.spearmanr(scores, similarities).statistic)
    assert report.pearson == pytest.approx(scipy.stats.pearsonr(scores, similarities).statistic)
    assert report.to_dict()["rows"] == 200
    assert "spearman" in format_report(report)


@pytest.mark.parametrize("at_once", [1 << 24, 130])
def test_retrieval_equals_brute_force(monkeypatch, at_once):
    monkeypatch.setattr(retrieval_metrics, "_SCORES_AT_ONCE", at_once)
    random = np.random.default_rng(1)
    # Whole numbers, so that documents tie.
    queries = random.integers(-2, 3, (40, 4)).astype(np.float32)
    documents = random.integers(-2, 3, (60, 4)).astype(np.float32)
    relevant = [random.choice(60, random.integers(1, 4), replace=False) for _ in queries]
    report = measure(queries, documents, relevant)
    recall, reciprocal = {1: [], 5: [], 10: []}, []
    for query, targets in zip(queries, relevant, strict=True):
        scores = [float(query @ document) for document in documents]
        order = sorted(range(60), key=lambda d: (-scores[d], d))
        for cutoff, values in recall.items():
            values.append(len(set(order[:cutoff]) & set(targets)) / len(targets))
        first = min(order.index(d) for d in targets) + 1
        reciprocal.append(1 / first if first <= 10 else 0)
    assert report.recall == pytest.approx({k: np.mean(v) for k, v in recall.items()})
    assert report.mrr_at_10 == pytest.approx(np.mean(reciprocal))
    assert (report.queries, report.documents) == (40, 60)


def test_a_text_is_no_answer_to_itself():
    vectors = np.eye(4, dtype=np.float32)
    vectors[1] = [0.9, 0.1, 0, 0]
    # Text 0 asks for 1 and is itself the answer to 2.
    report = retrieval_report(vectors, np.array([0, 2]), np.array([1, 0]))
    assert report.queries == 2
    assert report.recall[1] == 1
    assert ranks_of(vectors, vectors, np.array([[0, 1]]), np.array([0, 1, 2, 3])).tolist() == [1]
    assert ranks_of(vectors, vectors, np.array([[0, 1]])).tolist() == [2]


def test_labels_make_all_their_positives_answers():
    vectors = np.array([[1, 0], [0.9, 0.1], [0.8, 0.3], [0, 1]], np.float32)
    report = retrieval_report(vectors, np.array([0, 0]), np.array([1, 3]), ["a", "a"])
    assert report.recall[1] == 0.5
    assert report.mrr_at_10 == 1
    assert report.queries == 1


def test_triplets_are_correct_if_the_positive_is_nearest():
    anchors = np.array([[1, 0], [1, 0], [1, 0]], np.float32)
    positives = np.array([[1, 0], [0.5, 0], [0.5, 0]], np.float32)
    near, far = np.array([[0, 1], [0.6, 0], [0.5, 0]]), np.zeros((3, 2))
    report = triplet_report(anchors, positives, far, near)
    assert report.accuracy == pytest.approx(1 / 3)
    assert report.margin == pytest.approx((1 - 0.1 + 0) / 3)


def test_empty_data_is_refused():
    vectors = np.eye(2, dtype=np.float32)
    with pytest.raises(DataError, match="document each, received 2 queries, 1 without"):
        measure(vectors, vectors, [[0], []])
    with pytest.raises(DataError, match="at least one anchor"):
        triplet_report(vectors, vectors)
