"""The page that evaluate writes: figures, plots and the worst answers, in one HTML file.

The file needs nothing beside it: plots are inline SVG, and a content security policy keeps it from
loading anything. Whatever comes from the data is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

_LISTED_ERRORS = 500
_MATRIX_LABELS = 40  # a larger confusion matrix is listed instead
_LISTED_CONFUSIONS = 30
_BINS = 20
# Of a row of errors: what is told apart by its place.
_TEXTS = ("text", "text_pair", "question", "context")

_HEAD = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem;
  color: #222; background: #fff; }}
table {{ border-collapse: collapse; margin: .5rem 0 1.5rem; }}
td, th {{ padding: .15rem .6rem; text-align: left; vertical-align: top; }}
td.number, th.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
tr:hover td {{ background: #f4f4f4; }}
.matrix td {{ text-align: right; min-width: 2.2rem; }} .matrix th {{ font-weight: normal; }}
.right {{ background: #d7f0d7; }} .wrong {{ background: #f8d4d0; }}
.error {{ border-top: 1px solid #ddd; padding: .6rem 0; }}
.error dt {{ color: #666; float: left; clear: left; width: 8rem; }}
.error dd {{ margin-left: 8.5rem; overflow-wrap: anywhere; white-space: pre-wrap; }}
input {{ font: inherit; width: 24rem; padding: .2rem .4rem; }}
</style></head><body>
"""

_FILTER = """\
<p><input id="filter" placeholder="show only errors that contain ..." autofocus></p>
<script>
document.getElementById("filter").addEventListener("input", event => {
  const wanted = event.target.value.toLowerCase();
  for (const error of document.querySelectorAll(".error"))
    error.hidden = !error.textContent.toLowerCase().includes(wanted);
});
</script>
"""


def error_page(
    title: str, rows: int, figures: Mapping[str, Any], errors: Sequence[Mapping[str, Any]]
) -> str:
    """Builds the page.

    Args:
        title: str.
        rows: int. How many examples were measured.
        figures: a report's `to_dict()`: numbers; label -> numbers; and perhaps `confusion`.
        errors: what a `TaskCommand.errors` returned, the worst first.

    Returns:
        str, the HTML.
    """
    parts = [_HEAD.format(title=escape(title)), f"<h1>{escape(title)}</h1>"]
    parts.append(f"<p>{rows:,} examples, {len(errors):,} of them answered wrong.</p>")
    parts.append(_figures(figures))
    labels: list[str] = []
    for name, table in figures.items():
        if _is_table(table):
            labels = labels or list(table)
            parts += [f"<h2>By {escape(name.removesuffix('s'))}</h2>", _by_label(table)]
    if figures.get("confusion") and labels:
        parts += ["<h2>Confusion</h2>", _confusion(figures["confusion"], labels)]
    scores = [row["score"] for row in errors if isinstance(row.get("score"), float)]
    # Scores of spans or of sequences may be no probabilities.
    if scores and all(0 <= score <= 1 for score in scores):
        parts += ["<h2>How sure the wrong answers were</h2>", _histogram(scores)]
    if errors:
        parts.append("<h2>Errors, the worst first</h2>")
        if len(errors) > _LISTED_ERRORS:
            parts.append(f"<p>The first {_LISTED_ERRORS:,} of {len(errors):,}.</p>")
        parts.append(_FILTER)
        parts += map(_error, errors[:_LISTED_ERRORS])
    return "\n".join([*parts, "</body></html>\n"])


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(row, Mapping) for row in value.values())


def _figures(figures: Mapping[str, Any]) -> str:
    """The single numbers; those from 0 to 1 with a bar."""
    lines = []
    for name, value in figures.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        is_share = isinstance(value, float) and 0 <= value <= 1
        shown = f"{value:.4f}" if isinstance(value, float) else f"{value:,}"
        bar = _bar(value, "#4477aa") if is_share else ""
        lines.append(_cells([(_title(name), ""), (shown, "number")], bar))
    return f"<table>{''.join(lines)}</table>"


def _by_label(table: Mapping[str, Mapping[str, Any]]) -> str:
    """A row a label, from the worst F1 to the best."""
    columns = list(next(iter(table.values()), {}))
    head = "".join(f'<th class="number">{escape(_title(name))}</th>' for name in columns)
    rows = []
    for label in sorted(table, key=lambda label: (table[label].get("f1", 0), label)):
        values = table[label]
        shown = [
            (f"{value:.4f}" if isinstance(value, float) else f"{value:,}", "number")
            for value in values.values()
        ]
        bar = _bar(values["f1"], "#228833") if "f1" in values else ""
        rows.append(_cells([(label, ""), *shown], bar))
    return f"<table><tr><th>label</th>{head}<th></th></tr>{''.join(rows)}</table>"


def _confusion(matrix: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    """A heat map; of many labels, the pairs that are confused most often."""
    if len(labels) > _MATRIX_LABELS:
        pairs = [
            (count, labels[true], labels[told])
            for true, row in enumerate(matrix)
            for told, count in enumerate(row)
            if count and true != told
        ]
        pairs.sort(key=lambda pair: (-pair[0], pair[1:]))
        most = pairs[0][0] if pairs else 1
        rows = [
            _cells(
                [(true, ""), (told, ""), (f"{count:,}", "number")], _bar(count / most, "#cc6677")
            )
            for count, true, told in pairs[:_LISTED_CONFUSIONS]
        ]
        head = "<tr><th>true</th><th>predicted</th><th>rows</th><th></th></tr>"
        return f"<table>{head}{''.join(rows)}</table>"
    head = "".join(f"<th>{escape(label)}</th>" for label in labels)
    rows = []
    for index, counts in enumerate(matrix):
        total = max(sum(counts), 1)
        cells = "".join(
            f'<td style="background: {_shade(count / total, right=told == index)}">'
            f"{count or ''}</td>"
            for told, count in enumerate(counts)
        )
        rows.append(f"<tr><th>{escape(labels[index])}</th>{cells}</tr>")
    return (
        "<p>Rows are true labels, columns predicted ones.</p>"
        f'<table class="matrix"><tr><th></th>{head}</tr>{"".join(rows)}</table>'
    )


def _shade(share: float, *, right: bool) -> str:
    strength = round(100 - 60 * share, 1)
    return f"hsl({130 if right else 8} 60% {strength}%)" if share else "none"


def _histogram(scores: Iterable[float]) -> str:
    counts = [0] * _BINS
    for score in scores:
        counts[min(max(int(score * _BINS), 0), _BINS - 1)] += 1
    highest = max(counts)
    bars = "".join(
        f'<rect x="{30 * i}" y="{120 - round(110 * count / highest, 1)}" width="27" '
        f'height="{round(110 * count / highest, 1)}" fill="#cc6677">'
        f"<title>{i / _BINS:.2f} to {(i + 1) / _BINS:.2f}: {count:,}</title></rect>"
        for i, count in enumerate(counts)
    )
    marks = "".join(
        f'<text x="{600 * share}" y="138" font-size="12" text-anchor="middle">{share:g}</text>'
        for share in (0, 0.25, 0.5, 0.75, 1)
    )
    return (
        f'<svg width="640" height="145" viewBox="-20 0 640 145" role="img" '
        f'aria-label="histogram of scores">{bars}{marks}</svg>'
    )


def _bar(share: float, colour: str) -> str:
    width = round(200 * min(max(share, 0), 1), 1)
    return (
        f'<svg width="200" height="12"><rect width="200" height="12" fill="#eee"/>'
        f'<rect width="{width}" height="12" fill="{colour}"/></svg>'
    )


def _cells(cells: Sequence[tuple[str, str]], bar: str) -> str:
    row = "".join(
        f'<td class="{kind}">{escape(text)}</td>' if kind else f"<td>{escape(text)}</td>"
        for text, kind in cells
    )
    return f"<tr>{row}<td>{bar}</td></tr>"


def _error(row: Mapping[str, Any]) -> str:
    """One wrong answer; entities and answers are marked where they stand in the text."""
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
    return f'<dl class="error">{"".join(lines)}</dl>'


def _item(item: Any) -> str:
    if isinstance(item, Mapping):
        return ", ".join(f"{_title(name)} {value}" for name, value in item.items())
    return f"{item:.4f}" if isinstance(item, float) else str(item)


def _marks(row: Mapping[str, Any]) -> list[tuple[int, int, str]]:
    """What is to be marked in the text: (start, end, class), in characters."""
    marks = []
    for name, kind in (("missed", "right"), ("spurious", "wrong")):
        for span in row.get(name) or ():
            marks.append((span["start"], span["end"], kind))
    context = row.get("context")
    if isinstance(context, str):
        for answer in row.get("answers") or ():
            place = context.find(answer)
            if answer and place >= 0:
                marks.append((place, place + len(answer), "right"))
        predicted = row.get("predicted")
        if isinstance(predicted, str) and predicted and predicted in context:
            place = context.find(predicted)
            marks.append((place, place + len(predicted), "wrong"))
    return sorted(marks)


def _marked(text: str, marks: Sequence[tuple[int, int, str]]) -> str:
    parts, at = [], 0
    for start, end, kind in marks:
        if start < at:  # inside another one, which is marked already
            continue
        parts.append(escape(text[at:start]))
        parts.append(f'<mark class="{kind}">{escape(text[start:end])}</mark>')
        at = end
    return "".join([*parts, escape(text[at:])])


def _title(name: str) -> str:
    return name.replace("_", " ")
