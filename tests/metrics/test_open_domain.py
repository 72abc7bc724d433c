"""Metrics of answering from a collection."""

import numpy as np

from keras_bert_zoo.metrics.open_domain import best_weight, found_shares, holds_answer


def test_best_weight_heeds_the_threshold():
    spans = {
        "answer": np.array([["a", "b"], ["c", "d"]], dtype=object),
        "reader_score": np.array([[1.0, 2.0], [1.0, 2.0]]),
        "passage_score": np.array([[1.0, 0.0], [1.0, 0.0]]),
        "no_answer": np.array([[-1.0, -1.0], [2.0, 3.0]]),
    }
    weights = {"weights": (0.0, 5.0)}
    assert best_weight(spans, [["a"], ["c"]], null_threshold=None, **weights) == 5.0
    assert best_weight(spans, [["b"], []], null_threshold=0.0, **weights) == 0.0
    assert best_weight(spans, [["a"], []], null_threshold=0.0, **weights) == 5.0


def test_an_answer_is_found_whatever_its_case():
    assert holds_answer("Of  the\nKing Rome", ["x", "the king"])
    assert not holds_answer("the kings", ["a king", ""])
    assert found_shares([[False, True], [True, False]], (1, 2)) == {1: 0.5, 2: 1.0}
    assert found_shares([], (1,)) == {}
