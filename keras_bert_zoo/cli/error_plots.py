"""The plots of `evaluate --html`, drawn by matplotlib as inline SVG.

The functions return SVG without a background. Colours are CSS variables of the page, so that one
plot serves the light and the dark mode. Numbers are computed by scikit-learn and NumPy.
"""

from __future__ import annotations

import importlib.util
import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.errors import ConfigError, printable

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "Predictions",
    "average_precisions",
    "calibration_bins",
    "calibration_plot",
    "check_plotting",
    "precision_recall_plot",
    "regression_plot",
    "score_histogram",
]

_BINS = 10
_CURVES = 6  # more are hard to distinguish
_LEGEND_CHARACTERS = 28
_POINTS = 2000  # of a curve or a scatter plot; more make the file large
# Each series differs in colour, dash and marker. The page defines the colours (Okabe and Ito).
_STYLES = (
    ("blue", "-", "o"),
    ("orange", "--", "s"),
    ("green", "-.", "^"),
    ("purple", ":", "D"),
    ("sky", (0, (5, 1, 1, 1, 1, 1)), "v"),
    ("vermillion", (0, (1, 1)), "P"),
)
# Placeholders that matplotlib accepts, replaced in the SVG by CSS variables.
_COLOURS = {
    name: f"#0102{index:02x}"
    for index, name in enumerate(
        ("ink", "grid", "blue", "orange", "green", "purple", "sky", "vermillion"), start=16
    )
}


@dataclass(frozen=True)
class Predictions:
    """The predicted scores and the true labels of all examples, for plots.

    N examples, L labels.

    Args:
        labels: the labels' names; empty for a regression.
        true: bool (N, L), or float (N,) for a regression.
        scores: float (N, L), probabilities; or float (N,) for a regression.
        multi_label: bool. Whether an example may have several labels.
    """

    labels: Sequence[str]
    true: np.ndarray
    scores: np.ndarray
    multi_label: bool = False

    def confidences(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the probability of each decision, and whether the decision is correct.

        A decision is the most probable label of an example. For multi-label models it is each
        pair of an example and a label, and "correct" means that the label applies.

        Returns:
            float (D,) and bool (D,).
        """
        import numpy as np

        if self.multi_label:
            return self.scores.ravel(), self.true.ravel()
        rows = np.arange(len(self.scores))
        best = self.scores.argmax(axis=1)
        return self.scores[rows, best], self.true[rows, best]


def check_plotting(flag: str = "--html") -> None:
    """Checks that the packages of the extra `html` are installed.

    Args:
        flag: str. The option that needs them.

    Raises:
        ConfigError: a package is missing.
    """
    for module, package in (("matplotlib", "matplotlib"), ("sklearn", "scikit-learn")):
        if importlib.util.find_spec(module) is None:
            raise ConfigError(
                f"Expected the package {package} for {flag}, but it is not installed. "
                "Run: pip install 'keras_bert_zoo[html]'"
            )


def calibration_bins(
    confidences: np.ndarray, correct: np.ndarray
) -> tuple[list[tuple[float, float, int]], float]:
    """Groups decisions into ten bins of equal width by their confidence.

    Args:
        confidences: float (D,), from 0 to 1.
        correct: bool (D,).

    Returns:
        (mean confidence, share of correct decisions, number of decisions) of each bin that is not
        empty; and the expected calibration error: the mean of the distances between the first two,
        weighted by the number of decisions.

    Example:
        >>> import numpy as np
        >>> bins, error = calibration_bins(np.array([0.9, 0.9]), np.array([True, False]))
        >>> [(round(confidence, 2), accuracy, count) for confidence, accuracy, count in bins]
        [(0.9, 0.5, 2)]
        >>> round(error, 2)
        0.4

    Source: arXiv 1706.04599, section 2.
    """
    import numpy as np

    index = np.clip((confidences * _BINS).astype(int), 0, _BINS - 1)
    bins = []
    for number in range(_BINS):
        chosen = index == number
        if chosen.any():
            mean = float(confidences[chosen].mean())
            bins.append((mean, float(correct[chosen].mean()), int(chosen.sum())))
    total = max(len(confidences), 1)
    return bins, sum(abs(mean - share) * count for mean, share, count in bins) / total


def calibration_plot(predictions: Predictions) -> tuple[str, float]:
    """Draws a reliability diagram.

    Args:
        predictions: of a classifier.

    Returns:
        the SVG, and the expected calibration error.
    """
    bins, error = calibration_bins(*predictions.confidences())
    figure, axes = _figure()
    axes.plot([0, 1], [0, 1], linestyle="--", color=_COLOURS["ink"], linewidth=1)
    axes.plot(
        [mean for mean, _, _ in bins],
        [share for _, share, _ in bins],
        color=_COLOURS["blue"],
        marker="o",
    )
    axes.text(0.03, 0.95, f"ECE {error:.3f}", transform=axes.transAxes, va="top")
    axes.text(0.62, 0.52, "perfectly calibrated", fontsize=9)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="Predicted probability")
    axes.set_ylabel("Share of true labels" if predictions.multi_label else "Accuracy")
    return _svg(figure, "calibration", "Reliability diagram"), error


def average_precisions(predictions: Predictions) -> dict[int, float]:
    """Computes the average precision of each label that occurs.

    Args:
        predictions: of a classifier.

    Returns:
        the label's index -> average precision, the lowest first.
    """
    from sklearn.metrics import average_precision_score

    values = {
        index: float(average_precision_score(predictions.true[:, index], scores))
        for index, scores in enumerate(predictions.scores.T)
        if predictions.true[:, index].any()
    }
    return dict(sorted(values.items(), key=lambda item: item[1]))


def precision_recall_plot(predictions: Predictions) -> str:
    """Draws the precision-recall curves of the labels with the lowest average precision.

    Args:
        predictions: of a classifier.

    Returns:
        the SVG.
    """
    import numpy as np
    from sklearn.metrics import precision_recall_curve

    figure, axes = _figure()
    names = []
    curves = list(average_precisions(predictions).items())[:_CURVES]
    for (index, value), (colour, dash, marker) in zip(curves, _STYLES, strict=False):
        precision, recall, _ = precision_recall_curve(
            predictions.true[:, index], predictions.scores[:, index], drop_intermediate=True
        )
        chosen = np.unique(np.linspace(0, len(recall) - 1, _POINTS).astype(int))
        axes.plot(
            recall[chosen],
            precision[chosen],
            color=_COLOURS[colour],
            linestyle=dash,
            marker=marker,
            markevery=max(len(chosen) // 8, 1),
            markersize=5,
        )
        names.append(f"{_short(predictions.labels[index])} (AP {value:.2f})")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="Recall", ylabel="Precision")
    # Names are set afterwards: matplotlib hides names that begin with an underscore.
    legend = axes.legend(axes.lines, [str(i) for i in range(len(names))], loc="lower left")
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)
    return _svg(figure, "precision-recall", "Precision-recall curves")


def score_histogram(scores: Sequence[float]) -> str:
    """Draws how the scores of misclassified examples are distributed.

    Args:
        scores: from 0 to 1.

    Returns:
        the SVG.
    """
    from matplotlib.ticker import MaxNLocator

    figure, axes = _figure()
    axes.hist(scores, bins=20, range=(0, 1), color=_COLOURS["orange"], edgecolor="none", rwidth=0.9)
    axes.set(xlim=(0, 1), xlabel="Score of the wrong prediction", ylabel="Errors")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return _svg(figure, "scores", "Histogram of the scores of errors")


def regression_plot(predictions: Predictions) -> str:
    """Draws predicted against true values.

    Args:
        predictions: of a regression.

    Returns:
        the SVG.
    """
    import numpy as np

    figure, axes = _figure()
    chosen = np.unique(np.linspace(0, len(predictions.true) - 1, _POINTS).astype(int))
    true, scores = predictions.true[chosen], predictions.scores[chosen]
    ends = [float(min(true.min(), scores.min())), float(max(true.max(), scores.max()))]
    axes.plot(ends, ends, linestyle="--", color=_COLOURS["ink"], linewidth=1)
    axes.plot(true, scores, "o", markersize=4, alpha=0.6, color=_COLOURS["blue"])
    axes.set(xlabel="True value", ylabel="Predicted value")
    return _svg(figure, "regression", "Predicted against true values")


def _figure() -> tuple[Any, Any]:
    """Makes a figure that needs no display and no global state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 3.4), layout="constrained")
    return figure, figure.add_subplot()


def _svg(figure: Any, name: str, title: str) -> str:
    """Writes a figure as SVG that inherits the page's colours and scales with the page.

    Args:
        figure: matplotlib.figure.Figure.
        name: str. It keeps the ids of plots on one page apart.
        title: str. The description for screen readers.
    """
    from matplotlib import rc_context

    ink, grid = _COLOURS["ink"], _COLOURS["grid"]
    for axes in figure.axes:
        axes.grid(color=grid, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(ink)
        axes.tick_params(colors=ink)
        legend = axes.get_legend()
        frames = legend.get_texts() if legend else []
        for text in (*axes.texts, axes.xaxis.label, axes.yaxis.label, *frames):
            text.set_color(ink)
            text.set_parse_math(False)
        if legend:
            legend.set_frame_on(False)
    file = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        # The browser has the glyphs that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=no_metadata)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    for variable, placeholder in _COLOURS.items():
        svg = svg.replace(placeholder, f"var(--{variable})")
    svg = re.sub(r' id="[A-Za-z][A-Za-z0-9.]*_\d+"', "", svg)  # of groups, the same in each plot
    svg = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font: \1 system-ui, sans-serif", svg)
    size = r'<svg [^>]*?viewBox="([^"]*)"[^>]*>'
    return re.sub(
        size,
        f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="\\1" role="img" '
        f'aria-label="{title}">',
        svg,
        count=1,
    )


def _short(name: str) -> str:
    """Cuts a label for a legend."""
    name = printable(name).replace("\n", " ")
    return name if len(name) <= _LEGEND_CHARACTERS else f"{name[: _LEGEND_CHARACTERS - 1]}…"
