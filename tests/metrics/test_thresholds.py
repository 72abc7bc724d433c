"""Thresholds of labels, compared with an exhaustive search, and for labels with few rows."""

import numpy as np
import pytest

from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.metrics.thresholds import check_thresholds, tune_thresholds


def f1(true, predicted):
    right = (true & predicted).sum()
    return 2 * right / (true.sum() + predicted.sum())


def test_without_a_prior_each_label_gets_its_best_f1():
    random = np.random.default_rng(0)
    true = random.random((300, 4)) < [0.5, 0.2, 0.05, 0.01]
    # Rounded, so that there are equal scores, which no threshold can separate.
    scores = np.round(np.clip(0.3 * true + random.random((300, 4)) * 0.6, 0.01, 0.99), 2)
    thresholds = tune_thresholds(true, scores, prior_support=0)
    for label in range(4):
        column = scores[:, label]
        best = max(f1(true[:, label], column >= cut) for cut in np.unique(column))
        assert f1(true[:, label], column >= thresholds[label]) == best
        assert thresholds[label] not in column  # between two scores: rounding moves nothing


def test_a_prior_adds_the_counts_of_all_labels():
    random = np.random.default_rng(1)
    true = random.random((200, 3)) < [0.4, 0.1, 0.02]
    scores = np.clip(0.4 * true + random.random((200, 3)) * 0.5, 0, 1)
    share = 7.0 / true.sum()

    def value(label, cut):
        mine, all_of = scores[:, label] >= cut, scores >= cut
        above = 2 * ((true[:, label] & mine).sum() + share * (true & all_of).sum())
        return above / (mine.sum() + true[:, label].sum() + share * (all_of.sum() + true.sum()))

    for label, threshold in enumerate(tune_thresholds(true, scores, prior_support=7.0)):
        column = np.unique(scores[:, label])
        cuts = (np.append(0, column[:-1]) + column) / 2
        assert value(label, threshold) == pytest.approx(max(value(label, cut) for cut in cuts))


def test_a_rare_label_does_not_follow_chance():
    random = np.random.default_rng(2)
    true, scores = np.zeros((1000, 2), bool), random.random((1000, 2)) * 0.4
    true[:400, 0] = True
    scores[:400, 0] += 0.5
    true[np.argsort(scores[:, 1])[-9], 1] = True  # the one true row is ninth among noise
    alone, pooled = (tune_thresholds(true, scores, prior_support=p)[1] for p in (0, 5.0))
    assert (scores[:, 1] >= alone).sum() == 9
    assert (scores[:, 1] >= pooled).sum() < 9


def test_a_label_that_never_occurs_gets_the_threshold_of_all():
    true = np.array([[1, 0], [1, 0], [0, 0]])
    scores = np.array([[0.9, 0.2], [0.8, 0.1], [0.3, 0.4]])
    assert tune_thresholds(true, scores).tolist() == pytest.approx([0.55, 0.6])


def test_invalid_data_is_refused():
    with pytest.raises(
        DataError,
        match=r"one shape \(rows, labels\).*"
        r"received \(2, 2\) and \(2, 3\)",
    ):
        tune_thresholds(np.zeros((2, 2)), np.zeros((2, 3)))
    with pytest.raises(DataError, match="to tune thresholds on, received none"):
        tune_thresholds(np.zeros((2, 2)), np.zeros((2, 2)))
    with pytest.raises(ConfigError, match="`prior_support` to be at least 0"):
        tune_thresholds(np.ones((2, 2)), np.ones((2, 2)), prior_support=-1)


def test_one_threshold_or_one_per_label():
    assert check_thresholds(0.3, ["a", "b"]) == 0.3
    assert check_thresholds([0.3, np.float32(0.5)], ["a", "b"]) == (0.3, 0.5)
    for wrong in (0, 1, 1.5, True, "0.5", None, float("nan")):
        with pytest.raises(ConfigError, match=r"a number between 0 and 1 \(exclusive\), received"):
            check_thresholds(wrong, ["a"])
    with pytest.raises(ConfigError, match=r"`threshold\['b'\]` to be .*, received 2"):
        check_thresholds([0.5, 2], ["a", "b"])
    with pytest.raises(ConfigError, match="2 numbers, one per label, received 3"):
        check_thresholds([0.5, 0.5, 0.5], ["a", "b"])
