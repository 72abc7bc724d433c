"""Tables of benchmarks: printed, saved as JSON, drawn as PNG.

Each benchmark ends with `report(tables, options.json)`. tools/bench/all.py reads the JSON files and
writes the page docs/benchmarks.md.
"""

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_bert_zoo.processors import processor

# Blue, orange, green, vermilion of Okabe and Ito: readers who are colour-blind can tell them apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00")


@dataclasses.dataclass(frozen=True)
class Table:
    """Measured values by row and column.

    Args:
        name: the name on the page and of the plot's file.
        head: the head of the first column, which has the rows' names.
        columns: title -> format of the values, such as ".2f".
        rows: name -> one value per column; None where nothing was measured.
        axis: what the plotted columns measure, with its unit.
        plotted: the titles of the plotted columns; all of them have the unit of `axis`.
        logarithmic: whether the plot's axis is logarithmic.
        lines: if True, the plot has one line per plotted column over the rows' names, which are
            numbers, and `head` is the label of the horizontal axis; else it has bars.
    """

    name: str
    head: str
    columns: Mapping[str, str]
    rows: Mapping[str, Sequence[float | None]]
    axis: str
    plotted: Sequence[str]
    logarithmic: bool = False
    lines: bool = False

    def markdown(self) -> str:
        """Returns the table in Markdown, with aligned columns."""
        cells = [[self.head, *self.columns]]
        for name, values in self.rows.items():
            forms = zip(values, self.columns.values(), strict=True)
            cells.append([name, *("" if v is None else format(v, form) for v, form in forms)])
        widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
        lines = [
            "| " + " | ".join(f"{cell:{w}}" for cell, w in zip(row, widths, strict=True)) + " |"
            for row in cells
        ]
        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        return "\n".join([lines[0], rule, *lines[1:]])

    def draw(self, path: Path) -> None:
        """Writes the plot as a PNG file."""
        import matplotlib

        matplotlib.use("agg")
        from matplotlib import pyplot

        height = 3.6 if self.lines else 0.9 + 0.2 * len(self.rows) * len(self.plotted)
        figure, axes = pyplot.subplots(figsize=(7.2, height), layout="constrained")
        series = [list(self.columns).index(title) for title in self.plotted]
        for order, column in enumerate(series):
            values = [row[column] for row in self.rows.values()]
            colour, title = COLOURS[order], self.plotted[order]
            if self.lines:
                points = [
                    (float(name.replace(",", "")), value)
                    for name, value in zip(self.rows, values, strict=True)
                    if value is not None
                ]
                axes.plot(*zip(*points, strict=True), marker="o", color=colour, label=title)
                continue
            thickness = 0.8 / len(series)
            places = [row + thickness * order for row in range(len(values))]
            bars = axes.barh(
                places, [value or 0.0 for value in values], thickness, color=colour, label=title
            )
            form = self.columns[title]
            labels = ["" if value is None else format(value, form) for value in values]
            axes.bar_label(bars, labels, padding=3, fontsize=8)
        if self.lines:
            axes.set(xlabel=self.head, ylabel=self.axis, xscale="log")
            axes.set_yscale("log" if self.logarithmic else "linear")
        else:
            axes.set_yticks(
                [row + 0.4 - 0.4 / len(series) for row in range(len(self.rows))], list(self.rows)
            )
            axes.set(xlabel=self.axis)
            axes.set_xscale("log" if self.logarithmic else "linear")
            axes.invert_yaxis()
            axes.margins(x=0.12)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="both" if self.lines else "x", color="#dddddd")
        axes.set_axisbelow(True)
        if len(series) > 1:
            axes.legend(fontsize=8, frameon=False)
        # Without the version of matplotlib in the file, an equal plot is an equal file.
        figure.savefig(path, dpi=110, metadata={"Software": None})
        pyplot.close(figure)


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Adds the option that `report` takes."""
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also writes the processor and tables as JSON"
    )


def report(tables: Sequence[Table], path: Path | None = None) -> None:
    """Prints the processor and the tables, and writes them as JSON if there is a path."""
    print(processor())
    for table in tables:
        print(f"\n{table.markdown()}", flush=True)
    if path:
        values = {"processor": processor(), "tables": [dataclasses.asdict(t) for t in tables]}
        path.write_text(json.dumps(values, indent=1), encoding="utf-8")


def read_report(path: Path) -> tuple[str, list[Table]]:
    """Reads a file of `report`; returns the processor and the tables."""
    values = json.loads(path.read_text(encoding="utf-8"))
    return values["processor"], [Table(**table) for table in values["tables"]]
