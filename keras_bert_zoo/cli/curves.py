"""The curves of a training run, as one PNG and as one HTML page: `train --plot`."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from keras_bert_zoo.cli.html_page import HEAD, LIGHT, html_figure, scroll_table
from keras_bert_zoo.cli.svg_plots import COLOURS, STYLES, new_figure, short_name, svg_text
from keras_bert_zoo.training.run_record import flat

__all__ = ["Panel", "curves_page", "curves_png", "panels_of"]

_THROUGHPUT = ("learning_rate", "tokens_per_second", "padding_share", "waiting_share", "mfu")
_SHARES = {"padding_share": "padding", "waiting_share": "waiting for data", "mfu": "MFU"}
_MARKED = 60  # points; a line of more has no markers


@dataclass(frozen=True)
class Panel:
    """One plot.

    Args:
        title: str.
        axis: str. The title of the vertical axis.
        note: str. A sentence below the plot on the page.
        lines: name -> (steps, values).
    """

    title: str
    axis: str
    note: str
    lines: Mapping[str, tuple[list[int], list[float]]]


def panels_of(record: Mapping[str, Any]) -> list[Panel]:
    """Chooses the plots of a run.

    Args:
        record: `Task.training_record`.

    Returns:
        list of Panel; empty without points.
    """
    by_step, by_epoch = (record["curves"][group] for group in ("steps", "epochs"))
    history = record["history"]
    ends = by_epoch["step"]

    def line(columns: Mapping[str, Any], name: str, steps: Sequence[int]) -> Any:
        # A run that was interrupted may lack the last values.
        pairs = [p for p in zip(steps, columns.get(name, []), strict=False) if p[1] is not None]
        return [step for step, _ in pairs], [float(value) for _, value in pairs]

    def both(name: str) -> dict[str, Any]:
        return {
            "training": line(by_step, name, by_step["step"]),
            "validation": line(history, f"val_{name}", ends),
        }

    panels = [
        Panel(
            "Loss", "loss",
            "Training: the mean since the point before. Validation: after each epoch.",
            both("loss"),
        )
    ]  # fmt: skip
    names = [n.removeprefix("val_") for n in history if n.startswith("val_")]
    names += [n for n in by_step if n not in ("step", *_THROUGHPUT)]
    for name in dict.fromkeys(names):
        if name != "loss":
            note = (
                "Training: since the point before, if it is a mean. Validation: after each epoch."
            )
            panels.append(Panel(_title(name), name.replace("_", " "), note, both(name)))
    for name, title, axis, note in (
        ("learning_rate", "Learning rate", "learning rate", "Of the last update."),
        ("tokens_per_second", "Throughput", "tokens per second", "Padding is not counted."),
    ):
        panels.append(Panel(title, axis, note, {"training": line(by_step, name, by_step["step"])}))
    shares = {title: line(by_step, name, by_step["step"]) for name, title in _SHARES.items()}
    panels.append(
        Panel(
            "Shares", "share",
            "MFU: FLOP/s of the model over the measured peak of the devices.", shares,
        )
    )  # fmt: skip
    drawn = []
    for panel in panels:
        lines = {name: points for name, points in panel.lines.items() if points[0]}
        if lines:
            drawn.append(Panel(panel.title, panel.axis, panel.note, lines))
    return drawn


def curves_png(title: str, record: Mapping[str, Any]) -> bytes:
    """Draws the curves as one PNG.

    Args:
        title: str.
        record: `Task.training_record`.

    Returns:
        bytes.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    panels = panels_of(record)
    rows = -(-len(panels) // 2)
    figure = Figure(figsize=(9, 3 * max(rows, 1) + 0.4), dpi=120, layout="constrained")
    figure.suptitle(title, parse_math=False)
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(rows, 2, number + 1)
        _draw(axes, panel, LIGHT)  # the background is white
        axes.set_title(panel.title, fontsize=11, parse_math=False)
        axes.grid(color=LIGHT["grid"], linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    file = io.BytesIO()
    with rc_context({"savefig.facecolor": "white"}):
        figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def curves_page(title: str, record: Mapping[str, Any], source: str = "") -> str:
    """Builds a page with the curves, the metrics by epoch, and the options of a run.

    Args:
        title: str.
        record: `Task.training_record`.
        source: str. A line below the title.

    Returns:
        str, the HTML.
    """
    parts = [HEAD.format(title=escape(title)), f"<h1>{escape(title)}</h1>"]
    if source:
        parts.append(f'<p class="faint">{escape(source)}</p>')
    figures = []
    for number, panel in enumerate(panels_of(record)):
        figure, axes = new_figure()
        _draw(axes, panel, COLOURS)
        svg = svg_text(figure, f"curve-{number}", escape(panel.title, quote=True))
        figures.append(html_figure(escape(panel.title), svg, escape(panel.note)))
    parts.append(f'<div class="plots">{"".join(figures)}</div>')
    parts += ["<h2>Epochs</h2>", _epochs(record)]
    shown = flat({n: v for n, v in record.items() if n not in ("curves", "history")})
    lines = [
        f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
        for name, value in shown.items()
        if value is not None and value != []
    ]
    parts += [
        "<h2>Run</h2>",
        scroll_table(f'<table class="metrics">{"".join(lines)}</table>', "Run"),
    ]
    return "\n".join([*parts, "</body></html>\n"])


def _draw(axes: Any, panel: Panel, colours: Mapping[str, str]) -> None:
    several = len(panel.lines) > 1
    for (colour, dash, marker), (steps, values) in zip(STYLES, panel.lines.values(), strict=False):
        few = len(steps) <= _MARKED
        axes.plot(
            steps, values, color=colours[colour], linestyle=dash, linewidth=1.5,
            marker=marker if few else "", markersize=4,
        )  # fmt: skip
    axes.set(xlabel="step", ylabel=panel.axis)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 5), useMathText=False)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if panel.axis == "share":
        axes.set_ylim(0, 1)
    elif panel.axis.endswith("second"):
        axes.set_ylim(bottom=0)
    if several:
        axes.legend(axes.lines, [short_name(name) for name in panel.lines], fontsize=9)


def _epochs(record: Mapping[str, Any]) -> str:
    columns = {**record["history"], **record["curves"]["epochs"]}
    names = [name for name in columns if name != "step"]
    head = "".join(f'<th class="number" scope="col">{escape(_title(n))}</th>' for n in names)
    rows = []
    for index in range(record["epochs"]):
        values = [columns[name][index] if index < len(columns[name]) else None for name in names]
        cells = "".join(f'<td class="number">{_number(value)}</td>' for value in values)
        rows.append(f'<tr><th class="number" scope="row">{index + 1}</th>{cells}</tr>')
    return scroll_table(
        f'<table class="labels"><tr><th class="number" scope="col">Epoch</th>{head}</tr>'
        f"{''.join(rows)}</table>",
        "Metrics by epoch",
    )


def _number(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list):
        return escape(str(value))
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _title(name: str) -> str:
    text = name.replace("_", " ").replace("val ", "validation ")
    return "MFU" if name == "mfu" else text[:1].upper() + text[1:]
