"""Accuracy compared with random guessing."""

import math

import numpy as np
import pytest

from keras_bert_zoo.errors import DataError
from keras_bert_zoo.metrics.choices import choice_report
from keras_bert_zoo.metrics.classification import format_report


def test_the_p_value_is_that_of_the_binomial_test():
    for rows, right, choices in [(10, 7, 2), (40, 10, 4), (5, 0, 3), (6, 6, 4)]:
        true = np.zeros(rows, int)
        report = choice_report(true, (np.arange(rows) >= right).astype(int), choices)
        exact = sum(
            math.comb(rows, k) * (1 / choices) ** k * (1 - 1 / choices) ** (rows - k)
            for k in range(right, rows + 1)
        )
        assert report.p_value == pytest.approx(exact, rel=1e-9)
        assert (report.accuracy, report.rows, report.right) == (right / rows, rows, right)
    assert report.to_dict()["chance"] == 0.25
    assert "accuracy   1.0000" in format_report(report)


def test_large_samples_do_not_overflow():
    report = choice_report(np.zeros(100_000, int), (np.arange(100_000) >= 26_000).astype(int), 4)
    assert 1e-14 < report.p_value < 1e-11  # 7.3 standard deviations


def test_different_shapes_are_refused():
    with pytest.raises(DataError, match=r"received shapes \(2,\) and \(3,\)"):
        choice_report(np.zeros(2), np.zeros(3), 2)
