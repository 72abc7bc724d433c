"""Metrics compared with scikit-learn and scipy, and their tables."""

import json
import re

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from keras_bert_zoo.errors import DataError
from keras_bert_zoo.metrics.classification import (
    classification_report,
    format_report,
    multi_label_report,
    regression_report,
)


def names(count: int) -> list[str]:
    return [f"label {index}" for index in range(count)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("rows", "count"), [(1, 2), (7, 5), (500, 20), (3_000, 2)])
def test_classification_equals_scikit_learn(seed, rows, count):
    random = np.random.default_rng(seed)
    true = random.integers(0, count, rows)
    predicted = np.where(random.random(rows) < 0.6, true, random.integers(0, count, rows))
    report = classification_report(true, predicted, names(count))
    precision, recall, f1, support = reference.precision_recall_fscore_support(
        true, predicted, labels=range(count), zero_division=0
    )
    np.testing.assert_allclose(report.labels.precision, precision, atol=1e-12)
    np.testing.assert_allclose(report.labels.recall, recall, atol=1e-12)
    np.testing.assert_allclose(report.labels.f1, f1, atol=1e-12)
    assert report.labels.support.tolist() == support.tolist()
    macro = reference.precision_recall_fscore_support(
        true, predicted, average="macro", zero_division=0
    )[:3]
    ours = (report.macro_precision, report.macro_recall, report.macro_f1)
    assert ours == pytest.approx(macro, abs=1e-12)
    assert report.accuracy == pytest.approx(reference.accuracy_score(true, predicted))
    expected = reference.confusion_matrix(true, predicted, labels=range(count))
    assert (report.confusion == expected).all()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_multi_label_equals_scikit_learn(seed, share):
    random = np.random.default_rng(seed)
    true = (random.random((60, 8)) < share).astype(np.float32)
    predicted = np.where(random.random((60, 8)) < 0.8, true, 1 - true)
    report = multi_label_report(true, predicted, names(8))
    assert report.subset_accuracy == pytest.approx(reference.accuracy_score(true, predicted))
    for average in ("micro", "macro"):
        expected = reference.precision_recall_fscore_support(
            true, predicted, average=average, zero_division=0
        )[:3]
        ours = [getattr(report, f"{average}_{name}") for name in ("precision", "recall", "f1")]
        assert ours == pytest.approx(expected, abs=1e-12)
    f1 = reference.f1_score(true, predicted, average=None, zero_division=0)
    np.testing.assert_allclose(report.labels.f1, f1, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("levels", [2, 5, 1_000_000])
def test_regression_equals_scipy(seed, levels):
    random = np.random.default_rng(seed)
    true = random.integers(0, levels, 200) / 7
    predicted = (true + random.normal(0, levels / 9, 200)).round(1).astype(np.float32)
    report = regression_report(true, predicted)
    wide = predicted.astype(np.float64)
    assert report.pearson == pytest.approx(stats.pearsonr(true, wide).statistic, abs=1e-12)
    assert report.spearman == pytest.approx(stats.spearmanr(true, wide).statistic, abs=1e-12)
    assert report.mean_squared_error == pytest.approx(reference.mean_squared_error(true, wide))
    assert report.mean_absolute_error == pytest.approx(reference.mean_absolute_error(true, wide))
    assert report.rows == 200


def test_correlation_with_a_constant_is_zero():
    report = regression_report(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.1, 0.1]))
    assert (report.pearson, report.spearman) == (0.0, 0.0)


def test_correlation_of_tiny_numbers_does_not_underflow():
    tiny = np.array([1.0, 2.0, 3.0]) * 1e-150
    report = regression_report(tiny, tiny * 2)
    assert report.pearson == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: classification_report(np.zeros(2, int), np.zeros(3, int), names(2)),
            "of one shape with 1 dimensions, received (2,) and (3,)",
        ),
        (
            lambda: classification_report(np.zeros(0, int), np.zeros(0, int), names(2)),
            "expected at least one row to evaluate, received none",
        ),
        (
            lambda: classification_report(np.array([0]), np.array([2]), names(2)),
            "expected predicted ids from 0 to 1, one per label, received 2 to 2",
        ),
        (
            lambda: classification_report(np.array([-1]), np.array([1]), names(2)),
            "expected true ids from 0 to 1, one per label, received -1 to -1",
        ),
        (
            lambda: classification_report(np.array([0.5]), np.array([1]), names(2)),
            "expected the true ids to be integers, received float64",
        ),
        (
            lambda: multi_label_report(np.zeros((2, 3)), np.full((2, 3), 0.3), names(3)),
            (
                "expected the predicted labels to be 0 or 1, "
                "received other values; compare probabilities"
            ),
        ),
        (
            lambda: multi_label_report(np.zeros((2, 3)), np.zeros((2, 3)), names(2)),
            "expected 2 columns, one per label, received 3",
        ),
        (
            lambda: regression_report(np.array([1.0, np.nan]), np.array([1.0, 2.0])),
            "expected finite true numbers, received 1 of 2 that are not finite",
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises(DataError, match=re.escape(message)):
        make()


def test_reports_become_json():
    single = classification_report(np.array([0, 1]), np.array([0, 0]), ["a", "b"])
    content = json.loads(json.dumps(single.to_dict()))
    assert content["confusion"] == [[1, 0], [1, 0]]
    assert content["labels"]["b"] == {"precision": 0, "recall": 0, "f1": 0, "support": 1}
    multi = multi_label_report(np.eye(2), np.eye(2), ["a", "b"])
    assert json.loads(json.dumps(multi.to_dict()))["micro_f1"] == 1
    numbers = regression_report(np.array([1.0, 2]), np.array([2.0, 4]))
    assert json.loads(json.dumps(numbers.to_dict()))["mean_squared_error"] == 2.5


def test_table_of_a_few_labels():
    report = classification_report(np.array([0, 0, 1]), np.array([0, 1, 1]), ["好", "bad"])
    assert format_report(report).split("\n") == [
        "accuracy  0.6667",
        "",
        "label  precision  recall      f1  support",
        "好        1.0000  0.5000  0.6667        2",
        "bad       0.5000  1.0000  0.6667        1",
        "",
        "macro     0.7500  0.7500  0.6667        3",
        "",
        "true \\ predicted  好  bad",
        "好                 1    1",
        "bad                0    1",
    ]


def test_table_of_many_labels_lists_confusions():
    true = np.arange(20).repeat(3)
    predicted = true.copy()
    predicted[:2] = 7
    text = format_report(classification_report(true, predicted, names(20)))
    assert text.endswith("most often confused\ntrue     predicted  rows\nlabel 0    label 7     2")
    right = format_report(classification_report(true, true, names(20)))
    assert "confused" not in right
    assert right.endswith("60")


def test_tables_of_other_tasks():
    multi = format_report(multi_label_report(np.eye(2), np.ones((2, 2)), ["a", "b"]))
    assert multi.startswith("subset accuracy  0.0000\n\nlabel")
    assert "micro     0.5000  1.0000  0.6667        2" in multi
    numbers = format_report(regression_report(np.array([1.0, 2.0]), np.array([2.0, 4.0])))
    assert numbers == (
        "pearson              1.0000\nspearman             1.0000\n"
        "mean squared error   2.5\nmean absolute error  1.5\nrows                 2"
    )


def test_one_label():
    single = classification_report(np.zeros(3, int), np.zeros(3, int), ["a"])
    assert (single.accuracy, single.macro_f1, single.confusion.tolist()) == (1.0, 1.0, [[3]])
    multi = multi_label_report(np.array([[1], [0], [1]]), np.array([[1], [1], [0]]), ["a"])
    assert multi.labels.to_dict() == {
        "a": {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2}
    }
    assert multi.subset_accuracy == 1 / 3
