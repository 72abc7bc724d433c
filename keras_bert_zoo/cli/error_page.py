"""The page of `evaluate --html`: metrics, plots and errors in one HTML file.

The file is self-contained: plots are inline SVG, and a content security policy blocks every
request. All text from the data is escaped. Without JavaScript the page shows the same content; a
count in the confusion matrix then links to its first error instead of filtering the list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from keras_bert_zoo.cli import error_plots
from keras_bert_zoo.cli.error_plots import Predictions
from keras_bert_zoo.cli.html_page import HEAD, html_figure, scroll_table
from keras_bert_zoo.cli.svg_plots import check_plotting

__all__ = ["error_page"]

_LISTED_ERRORS = 500
_MATRIX_LABELS = 40  # a larger confusion matrix is listed instead
_LISTED_CONFUSIONS = 30
# Columns of an error with text in which spans may be marked.
_TEXTS = ("text", "text_pair", "question", "context")

_FILTER = """\
<p class="filter" id="filter" hidden><label for="words">Filter errors</label>
<input id="words" type="search" placeholder="text or label">
<button type="button" id="all">Show all</button> <span id="shown" role="status"></span></p>
"""

_SCRIPT = """\
<script>
const errors = [...document.querySelectorAll(".error")];
const cells = [...document.querySelectorAll("a[data-pair]")];
const words = document.getElementById("words");
let pair = null;
function update() {
  const text = words.value.toLowerCase();
  let count = 0;
  for (const error of errors) {
    error.hidden = (pair !== null && error.dataset.pair !== pair)
      || !error.textContent.toLowerCase().includes(text);
    count += !error.hidden;
  }
  for (const cell of cells)
    if (cell.dataset.pair === pair) cell.setAttribute("aria-current", "true");
    else cell.removeAttribute("aria-current");
  document.getElementById("shown").textContent = `${count} of ${errors.length} shown`;
}
for (const cell of cells)
  cell.addEventListener("click", event => {
    event.preventDefault();
    pair = cell.dataset.pair === pair ? null : cell.dataset.pair;
    update();
    if (pair !== null) document.getElementById("errors").scrollIntoView();
  });
words.addEventListener("input", update);
document.getElementById("all").addEventListener("click", () => {
  pair = null;
  words.value = "";
  update();
});
document.getElementById("filter").hidden = false;
update();
</script>
"""


def error_page(
    title: str,
    rows: int,
    figures: Mapping[str, Any],
    errors: Sequence[Mapping[str, Any]],
    *,
    predictions: Predictions | None = None,
    source: str = "",
) -> str:
    """Builds the page.

    Args:
        title: str.
        rows: int. The number of evaluated examples.
        figures: a report's `to_dict()`: metric -> number; group -> label -> metric -> number; and
            `confusion`, if the task has a confusion matrix.
        errors: the return value of `TaskCommand.errors`, the worst error first.
        predictions: of all examples, for the calibration and precision-recall plots.
        source: str. The paths of the model and of the data.

    Returns:
        str, the HTML.

    Raises:
        ConfigError: matplotlib or scikit-learn is not installed.
    """
    check_plotting()
    labels: list[str] = next((list(t) for t in figures.values() if _is_table(t)), [])
    listed = errors[:_LISTED_ERRORS]
    pairs = [_pair(row, labels) for row in listed]
    is_regression = predictions is not None and not len(predictions.labels)
    parts = [HEAD.format(title=escape(title)), f"<h1>{escape(title)}</h1>"]
    if source:
        parts.append(f'<p class="faint">{escape(source)}</p>')
    counts = [_count(rows, "example")]
    if not is_regression:
        counts.append(_count(len(errors), "error"))
    parts.append(f"<p>{', '.join(counts)}.</p>")
    parts += ["<h2>Metrics</h2>", _metrics(figures)]
    parts.append(_plots(errors, predictions))
    for name, table in figures.items():
        if _is_table(table):
            parts += [f"<h2>Metrics by {escape(name.removesuffix('s'))}</h2>"]
            parts.append(_by_label(table, predictions if list(table) == labels else None))
    if figures.get("confusion") and labels:
        parts += ["<h2>Confusion matrix</h2>", _confusion(figures["confusion"], labels, pairs)]
    if errors:
        title = "Predictions, the largest error first" if is_regression else "Errors, worst first"
        parts.append(f'<h2 id="errors">{title}</h2>')
        if any(_marks(row) for row in listed):
            parts.append(
                '<p>Solid underline: <mark class="expected">expected</mark>. '
                'Dashed underline: <mark class="wrong">predicted, but wrong</mark>.</p>'
            )
        if len(errors) > _LISTED_ERRORS:
            parts.append(f"<p>The first {_LISTED_ERRORS:,} of {len(errors):,}.</p>")
        parts.append(_FILTER)
        parts += [_error(*item) for item in zip(listed, pairs, range(len(listed)), strict=True)]
        parts.append(_SCRIPT)
    return "\n".join([*parts, "</body></html>\n"])


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(row, Mapping) for row in value.values())


def _pair(row: Mapping[str, Any], labels: Sequence[str]) -> str:
    """The cell of the confusion matrix that an error belongs to: "TRUE-PREDICTED", or ""."""
    true, predicted = row.get("label"), row.get("predicted")
    if isinstance(true, str) and isinstance(predicted, str) and {true, predicted} <= set(labels):
        return f"{labels.index(true)}-{labels.index(predicted)}"
    return ""


def _plots(errors: Sequence[Mapping[str, Any]], predictions: Predictions | None) -> str:
    """All plots that the predictions and the errors allow."""
    parts = []
    if predictions is not None and len(predictions.labels):
        svg, error = error_plots.calibration_plot(predictions)
        parts.append(
            html_figure(
                "Calibration", svg, f"Expected calibration error {error:.4f}, over 10 bins of "
                "equal width. Points below the diagonal are overconfident."
            )
        )  # fmt: skip
        if predictions.true.any():
            svg = error_plots.precision_recall_plot(predictions)
            note = "Labels with the lowest average precision (AP), each against the others."
            parts.append(html_figure("Precision and recall by label", svg, note))
    elif predictions is not None and len(predictions.true):
        svg = error_plots.regression_plot(predictions)
        note = "Points on the dashed line are exact."
        parts.append(html_figure("Predicted and true values", svg, note))
    scores = [row["score"] for row in errors if isinstance(row.get("score"), float)]
    # Scores of spans or sequences may be logits.
    if scores and all(0 <= score <= 1 for score in scores):
        svg = error_plots.score_histogram(scores)
        note = "Errors with high scores are often wrong labels in the data."
        parts.append(html_figure("Confidence of the errors", svg, note))
    return f'<div class="plots">{"".join(parts)}</div>' if parts else ""


def _metrics(figures: Mapping[str, Any]) -> str:
    """The single numbers; those from 0 to 1 with a bar."""
    lines = []
    for name, value in figures.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        is_share = isinstance(value, float) and 0 <= value <= 1
        bar = _bar(value) if is_share else ""
        lines.append(_cells([(_title(name), "name"), (_number(value), "number")], bar))
    return f'<table class="metrics">{"".join(lines)}</table>'


def _by_label(table: Mapping[str, Mapping[str, Any]], predictions: Predictions | None) -> str:
    """One row for each label, from the lowest F1 to the highest."""
    precisions: dict[str, float] = {}
    if predictions is not None and len(predictions.labels):
        precisions = {
            predictions.labels[index]: value
            for index, value in error_plots.average_precisions(predictions).items()
        }
    columns = list(next(iter(table.values()), {}))
    titles = [_title(name) for name in columns] + (["average precision"] if precisions else [])
    head = "".join(f'<th class="number" scope="col">{escape(title)}</th>' for title in titles)
    rows = []
    for label in sorted(table, key=lambda label: (table[label].get("f1", 0), label)):
        values = table[label]
        shown = [(_number(value), "number") for value in values.values()]
        if precisions:
            shown.append((_number(precisions[label]) if label in precisions else "–", "number"))
        bar = _bar(values["f1"]) if "f1" in values else ""
        rows.append(_cells([(label, "name"), *shown], bar))
    last = '<th class="wide" scope="col">F1</th>' if "f1" in columns else "<th></th>"
    return scroll_table(
        f'<table class="labels"><tr><th class="name" scope="col">label</th>{head}{last}</tr>'
        f"{''.join(rows)}</table>",
        "Metrics by label",
    )


def _confusion(matrix: Sequence[Sequence[int]], labels: Sequence[str], pairs: Sequence[str]) -> str:
    """A heat map; with many labels, the list of the most frequent confusions."""
    if len(labels) > _MATRIX_LABELS:
        return _confusion_list(matrix, labels, pairs)
    head = "".join(f'<th scope="col">{escape(label)}</th>' for label in labels)
    rows = []
    most = max((n for i, row in enumerate(matrix) for j, n in enumerate(row) if i != j), default=1)
    for index, counts in enumerate(matrix):
        cells = []
        for predicted, count in enumerate(counts):
            kind = ' class="correct"' if predicted == index else ""
            total = max(sum(counts), 1) if predicted == index else most
            share = f' style="--share: {50 * count / total:.1f}%"' if count else ""
            link = _count_link(count, index, predicted, labels, pairs)
            cells.append(f"<td{kind}{share}>{link}</td>")
        rows.append(f'<tr><th scope="row">{escape(labels[index])}</th>{"".join(cells)}</tr>')
    return (
        "<p>Rows: true labels. Columns: predicted labels. Cells with a thick border are correct. "
        "Select a count to list its errors.</p>"
        + scroll_table(
            f'<table class="matrix"><tr><th>true \\ predicted</th>{head}</tr>{"".join(rows)}'
            "</table>",
            "Confusion matrix",
        )
    )


def _confusion_list(
    matrix: Sequence[Sequence[int]], labels: Sequence[str], pairs: Sequence[str]
) -> str:
    confusions = [
        (count, true, predicted)
        for true, row in enumerate(matrix)
        for predicted, count in enumerate(row)
        if count and true != predicted
    ]
    confusions.sort(key=lambda item: (-item[0], labels[item[1]], labels[item[2]]))
    most = confusions[0][0] if confusions else 1
    rows = [
        f'<tr><td class="name">{escape(labels[true])}</td>'
        f'<td class="name">{escape(labels[predicted])}</td>'
        f'<td class="number">{_count_link(count, true, predicted, labels, pairs)}</td>'
        f'<td class="wide">{_bar(count / most)}</td></tr>'
        for count, true, predicted in confusions[:_LISTED_CONFUSIONS]
    ]
    head = '<tr><th>true</th><th>predicted</th><th class="number">examples</th></tr>'
    return "<p>The most frequent confusions. Select a count to list its errors.</p>" + scroll_table(
        f'<table class="labels">{head}{"".join(rows)}</table>', "Confusions"
    )


def _count_link(
    count: int, true: int, predicted: int, labels: Sequence[str], pairs: Sequence[str]
) -> str:
    """A count that links to its errors, if the page lists any of them."""
    pair = f"{true}-{predicted}"
    if not count or pair not in pairs:
        return f"<span>{f'{count:,}' if count else ''}</span>"
    name = escape(f"{count:,} {labels[true]} predicted as {labels[predicted]}", quote=True)
    return (
        f'<a href="#error-{pairs.index(pair)}" data-pair="{pair}" aria-label="{name}">{count:,}</a>'
    )


def _bar(share: float) -> str:
    width = 100 * min(max(share, 0), 1)
    return f'<span class="bar" style="--share: {width:.1f}%"></span>'


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}"


def _cells(cells: Sequence[tuple[str, str]], bar: str) -> str:
    row = "".join(f'<td class="{kind}">{escape(text)}</td>' for text, kind in cells)
    return f'<tr>{row}<td class="wide">{bar}</td></tr>'


def _error(row: Mapping[str, Any], pair: str, index: int) -> str:
    """One error, with expected and wrong spans marked in its text."""
    marks = _marks(row)
    lines = []
    for name, value in row.items():
        if name in _TEXTS and isinstance(value, str):
            shown = _marked(value, marks if name in ("text", "context") else [])
        elif isinstance(value, float):
            shown = f"{value:.4f}"
        elif isinstance(value, list):
            shown = "<br>".join(escape(_item(item)) for item in value) or "none"
        else:
            shown = escape(str(value))
        lines.append(f"<dt>{escape(_title(name))}</dt><dd>{shown}</dd>")
    group = f' data-pair="{pair}"' if pair else ""
    return f'<dl class="error" id="error-{index}"{group}>{"".join(lines)}</dl>'


def _item(item: Any) -> str:
    if isinstance(item, Mapping):
        return ", ".join(f"{_title(name)} {value}" for name, value in item.items())
    return f"{item:.4f}" if isinstance(item, float) else str(item)


def _marks(row: Mapping[str, Any]) -> list[tuple[int, int, str]]:
    """The spans to mark in the text: (start, end, class), in characters."""
    marks = []
    for name, kind in (("missed", "expected"), ("spurious", "wrong")):
        for span in row.get(name) or ():
            marks.append((span["start"], span["end"], kind))
    context = row.get("context")
    if isinstance(context, str):
        for answer in row.get("answers") or ():
            start = context.find(answer)
            if answer and start >= 0:
                marks.append((start, start + len(answer), "expected"))
        predicted = row.get("predicted")
        if isinstance(predicted, str) and predicted and predicted in context:
            start = context.find(predicted)
            marks.append((start, start + len(predicted), "wrong"))
    return sorted(marks)


def _marked(text: str, marks: Sequence[tuple[int, int, str]]) -> str:
    parts, position = [], 0
    for start, end, kind in marks:
        if start < position:  # inside a span that is marked already
            continue
        parts.append(escape(text[position:start]))
        parts.append(f'<mark class="{kind}">{escape(text[start:end])}</mark>')
        position = end
    return "".join([*parts, escape(text[position:])])


def _title(name: str) -> str:
    return name.replace("_", " ")
