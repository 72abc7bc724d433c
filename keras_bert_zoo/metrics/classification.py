"""Metrics of predictions in NumPy arrays, as reported by `evaluate`.

During training use the metrics of Keras, such as `keras.metrics.F1Score(average="macro")`. A ratio
with a zero denominator is 0, as in scikit-learn. Dimensions: R rows, L labels.
"""

import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from keras_bert_zoo.errors import DataError, printable

__all__ = [
    "ClassificationReport",
    "LabelScores",
    "MultiLabelReport",
    "RegressionReport",
    "TextReport",
    "classification_report",
    "format_report",
    "format_table",
    "format_values",
    "multi_label_report",
    "regression_report",
]

_MATRIX_LABELS = 12  # a wider confusion matrix does not fit a terminal
_LISTED_CONFUSIONS = 10
_CELL_CHARACTERS = 100  # the longest label in a printed table


@dataclass(frozen=True)
class LabelScores:
    """Precision, recall and F1 of each label.

    Args:
        names: the labels, by id.
        precision: float64 (L,).
        recall: float64 (L,).
        f1: float64 (L,).
        support: int64 (L,). The number of rows with the true label.
    """

    names: tuple[str, ...]
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray

    def to_dict(self) -> dict[str, dict[str, float | int]]:
        """Maps each label to its numbers, as plain Python values for JSON."""
        return {
            name: {
                "precision": float(self.precision[index]),
                "recall": float(self.recall[index]),
                "f1": float(self.f1[index]),
                "support": int(self.support[index]),
            }
            for index, name in enumerate(self.names)
        }


@dataclass(frozen=True)
class ClassificationReport:
    """Single-label classification metrics.

    Args:
        accuracy: float. The share of correct rows.
        macro_precision: float. The mean over labels. As in scikit-learn, labels that neither occur
            nor are predicted are left out.
        macro_recall: float. Likewise.
        macro_f1: float. Likewise, the mean of the labels' F1.
        labels: the scores of each label.
        confusion: int64 (L, L). The number of rows with true label i and predicted label j.
    """

    main_figure: ClassVar[str] = "accuracy"
    """The figure that compares models; higher is better."""

    accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    labels: LabelScores
    confusion: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Returns all numbers as plain Python values for JSON."""
        return {
            "accuracy": self.accuracy,
            "macro_precision": self.macro_precision,
            "macro_recall": self.macro_recall,
            "macro_f1": self.macro_f1,
            "labels": self.labels.to_dict(),
            "confusion": self.confusion.tolist(),
        }


@dataclass(frozen=True)
class MultiLabelReport:
    """Multi-label classification metrics.

    Args:
        subset_accuracy: float. The share of rows with all labels correct.
        micro_precision: float. Over the decisions of all labels.
        micro_recall: float. Likewise.
        micro_f1: float. Likewise.
        macro_precision: float. The mean over all labels.
        macro_recall: float. Likewise.
        macro_f1: float. Likewise, the mean of the labels' F1.
        labels: the scores of each label.
    """

    main_figure: ClassVar[str] = "micro_f1"
    """The figure that compares models; higher is better."""

    subset_accuracy: float
    micro_precision: float
    micro_recall: float
    micro_f1: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    labels: LabelScores

    def to_dict(self) -> dict[str, Any]:
        """Returns all numbers as plain Python values for JSON."""
        return {
            "subset_accuracy": self.subset_accuracy,
            "micro_precision": self.micro_precision,
            "micro_recall": self.micro_recall,
            "micro_f1": self.micro_f1,
            "macro_precision": self.macro_precision,
            "macro_recall": self.macro_recall,
            "macro_f1": self.macro_f1,
            "labels": self.labels.to_dict(),
        }


@dataclass(frozen=True)
class RegressionReport:
    """Regression metrics.

    Args:
        pearson: float. Linear correlation; 0 if one side is constant.
        spearman: float. Rank correlation, with mean ranks for ties; 0 likewise.
        mean_squared_error: float, in squared units of the label.
        mean_absolute_error: float, in units of the label.
        rows: int. The number of rows.
    """

    main_figure: ClassVar[str] = "pearson"
    """The figure that compares models; higher is better."""

    pearson: float
    spearman: float
    mean_squared_error: float
    mean_absolute_error: float
    rows: int

    def to_dict(self) -> dict[str, Any]:
        """Returns all numbers as plain Python values for JSON."""
        return {
            "pearson": self.pearson,
            "spearman": self.spearman,
            "mean_squared_error": self.mean_squared_error,
            "mean_absolute_error": self.mean_absolute_error,
            "rows": self.rows,
        }


def classification_report(
    true_ids: np.ndarray, predicted_ids: np.ndarray, names: Sequence[str]
) -> ClassificationReport:
    """Compares one predicted label per row with the true one.

    Args:
        true_ids: int (R,).
        predicted_ids: int (R,).
        names: the labels, by id.

    Returns:
        A `ClassificationReport`.

    Raises:
        DataError: the arrays differ in shape, are empty, or hold an id without a name.
    """
    true_ids, predicted_ids = _aligned(true_ids, predicted_ids, dimensions=1)
    count = len(names)
    for what, ids in (("true", true_ids), ("predicted", predicted_ids)):
        if not np.issubdtype(ids.dtype, np.integer):
            raise DataError(f"expected the {what} ids to be integers, received {ids.dtype}")
        if ids.min() < 0 or ids.max() >= count:
            raise DataError(
                f"expected {what} ids from 0 to {count - 1}, one per label, "
                f"received {ids.min()} to {ids.max()}"
            )
    from sklearn import metrics

    confusion = np.zeros((1, 1), np.int64) + len(true_ids)
    if count > 1:  # scikit-learn warns about a matrix with one label
        confusion = metrics.confusion_matrix(true_ids, predicted_ids, labels=range(count))
    scores = metrics.precision_recall_fscore_support(
        true_ids, predicted_ids, labels=range(count), zero_division=0
    )
    labels = LabelScores(tuple(names), *scores)
    # As in scikit-learn, averages are only over labels that occur on either side.
    seen = (confusion.sum(axis=1) + confusion.sum(axis=0)) > 0
    return ClassificationReport(
        accuracy=float(metrics.accuracy_score(true_ids, predicted_ids)),
        macro_precision=float(labels.precision[seen].mean()),
        macro_recall=float(labels.recall[seen].mean()),
        macro_f1=float(labels.f1[seen].mean()),
        labels=labels,
        confusion=confusion,
    )


def multi_label_report(
    true: np.ndarray, predicted: np.ndarray, names: Sequence[str]
) -> MultiLabelReport:
    """Compares the predicted labels of each row with the true ones.

    Args:
        true: (R, L) of 0 and 1, any numeric or boolean dtype.
        predicted: (R, L) of 0 and 1: decisions, not probabilities.
        names: the labels, by id.

    Returns:
        A `MultiLabelReport`.

    Raises:
        DataError: the arrays differ in shape, are empty, or hold values other than 0 and 1.
    """
    true, predicted = _aligned(true, predicted, dimensions=2)
    if true.shape[1] != len(names):
        raise DataError(f"expected {len(names)} columns, one per label, received {true.shape[1]}")
    for what, values in (("true", true), ("predicted", predicted)):
        if not np.isin(values, (0, 1)).all():
            raise DataError(
                f"expected the {what} labels to be 0 or 1, received other values; "
                "compare probabilities with a threshold first"
            )
    from sklearn import metrics

    # scikit-learn would read one column as one label per row. The added empty column changes no
    # count and is left out of the scores.
    count = len(names)
    padding = ((0, 0), (0, 1 if count == 1 else 0))
    true, predicted = (np.pad(values.astype(np.int8), padding) for values in (true, predicted))
    options = {"labels": range(count), "zero_division": 0}
    scores = metrics.precision_recall_fscore_support(true, predicted, **options)
    micro = metrics.precision_recall_fscore_support(true, predicted, average="micro", **options)
    labels = LabelScores(tuple(names), *scores)
    return MultiLabelReport(
        subset_accuracy=float(metrics.accuracy_score(true, predicted)),
        micro_precision=float(micro[0]),
        micro_recall=float(micro[1]),
        micro_f1=float(micro[2]),
        macro_precision=float(labels.precision.mean()),
        macro_recall=float(labels.recall.mean()),
        macro_f1=float(labels.f1.mean()),
        labels=labels,
    )


def regression_report(true: np.ndarray, predicted: np.ndarray) -> RegressionReport:
    """Compares predicted numbers with the true ones.

    Args:
        true: float (R,).
        predicted: float (R,).

    Returns:
        A `RegressionReport`.

    Raises:
        DataError: the arrays differ in shape, are empty, or hold a number that is not finite.
    """
    true, predicted = _aligned(true, predicted, dimensions=1)
    true, predicted = true.astype(np.float64), predicted.astype(np.float64)
    for what, values in (("true", true), ("predicted", predicted)):
        broken = int((~np.isfinite(values)).sum())
        if broken:
            raise DataError(
                f"expected finite {what} numbers, "
                f"received {broken} of {len(values)} that are not finite"
            )
    from scipy import stats
    from sklearn import metrics

    return RegressionReport(
        pearson=_correlation(true, predicted),
        spearman=_correlation(stats.rankdata(true), stats.rankdata(predicted)),
        mean_squared_error=float(metrics.mean_squared_error(true, predicted)),
        mean_absolute_error=float(metrics.mean_absolute_error(true, predicted)),
        rows=len(true),
    )


@runtime_checkable
class TextReport(Protocol):
    """A report of another module with its own text format."""

    def to_text(self) -> str:
        """Formats the report as a text table."""


def format_report(
    report: ClassificationReport | MultiLabelReport | RegressionReport | TextReport,
) -> str:
    """Formats a report as a text table for a terminal."""
    if isinstance(report, TextReport):
        return report.to_text()
    if isinstance(report, RegressionReport):
        return format_values(
            [
                ("pearson", f"{report.pearson:.4f}"),
                ("spearman", f"{report.spearman:.4f}"),
                ("mean squared error", f"{report.mean_squared_error:.6g}"),
                ("mean absolute error", f"{report.mean_absolute_error:.6g}"),
                ("rows", str(report.rows)),
            ]
        )
    labels = report.labels
    table = [["label", "precision", "recall", "f1", "support"]]
    for index, name in enumerate(labels.names):
        scores = (labels.precision[index], labels.recall[index], labels.f1[index])
        table.append([name, *(f"{score:.4f}" for score in scores), str(labels.support[index])])
    total = str(labels.support.sum())
    averages = [("macro", report.macro_precision, report.macro_recall, report.macro_f1)]
    if isinstance(report, MultiLabelReport):
        averages.append(("micro", report.micro_precision, report.micro_recall, report.micro_f1))
        head = ("subset accuracy", f"{report.subset_accuracy:.4f}")
    else:
        head = ("accuracy", f"{report.accuracy:.4f}")
    table.append([])
    table += [[name, *(f"{score:.4f}" for score in scores), total] for name, *scores in averages]
    parts = [format_values([head]), format_table(table)]
    if isinstance(report, ClassificationReport):
        parts.append(_format_confusion(report))
    return "\n\n".join(part for part in parts if part)


def _aligned(
    true: np.ndarray, predicted: np.ndarray, dimensions: int
) -> tuple[np.ndarray, np.ndarray]:
    true, predicted = np.asarray(true), np.asarray(predicted)
    if true.shape != predicted.shape or true.ndim != dimensions:
        raise DataError(
            f"expected true and predicted values of one shape with {dimensions} dimensions, "
            f"received {true.shape} and {predicted.shape}"
        )
    if not len(true):
        raise DataError("expected at least one row to evaluate, received none")
    return true, predicted


def _label_scores(
    names: Sequence[str], right: np.ndarray, predicted: np.ndarray, support: np.ndarray
) -> LabelScores:
    """Computes scores from counts of entities, which scikit-learn cannot compare."""
    return LabelScores(
        names=tuple(names),
        precision=_ratio(right, predicted),
        recall=_ratio(right, support),
        # The harmonic mean, in a form that does not divide by zero if one of them is undefined.
        f1=_ratio(2 * right, predicted + support),
        support=np.asarray(support, np.int64),
    )


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.zeros(len(below), np.float64), where=below != 0)


def _correlation(left: np.ndarray, right: np.ndarray) -> float:
    # scipy returns NaN for constants and warns about nearly constant values.
    if (left == left[0]).all() or (right == right[0]).all():
        return 0.0
    from scipy import stats

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.NearConstantInputWarning)
        return float(stats.pearsonr(left, right).statistic)


def _width(text: str) -> int:
    """The width of a text on a terminal: Chinese characters take two columns, accents none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def format_values(values: list[tuple[str, str]]) -> str:
    """Formats names and values in two columns."""
    width = max(_width(name) for name, _ in values)
    return "\n".join(f"{name}{' ' * (width - _width(name))}  {value}" for name, value in values)


def format_table(table: list[list[str]]) -> str:
    """Formats rows: the first column is left-aligned, others right-aligned; [] is an empty line."""
    table = [[_cell(cell) for cell in row] for row in table]
    full = [row for row in table if row]
    widths = [max(_width(row[column]) for row in full) for column in range(len(full[0]))]
    lines = []
    for row in table:
        cells = []
        for column, cell in enumerate(row):
            space = " " * (widths[column] - _width(cell))
            cells.append(space + cell if column else cell + space)
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Escapes and shortens a cell: names from files may be long or hold control characters."""
    text = printable(text).replace("\n", "\\n")
    return text if len(text) <= _CELL_CHARACTERS else text[: _CELL_CHARACTERS - 3] + "..."


def _format_confusion(report: ClassificationReport) -> str:
    names, confusion = report.labels.names, report.confusion
    if len(names) <= _MATRIX_LABELS:
        header = ["true \\ predicted", *names]
        rows = [[name, *map(str, confusion[index])] for index, name in enumerate(names)]
        return format_table([header, *rows])
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_LISTED_CONFUSIONS]
    rows = []
    for cell in order:
        true, predicted = divmod(int(cell), len(names))
        if wrong[true, predicted]:
            rows.append([names[true], names[predicted], str(wrong[true, predicted])])
    if not rows:
        return ""
    return "most often confused\n" + format_table([["true", "predicted", "rows"], *rows])
