"""Plots by matplotlib as inline SVG, in the colours of an HTML page.

The SVG has no background. Colours are CSS variables of the page, so that one plot serves the light
and the dark mode.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import Any

from keras_bert_zoo.errors import printable
from keras_bert_zoo.extras import check_package

__all__ = ["COLOURS", "STYLES", "check_plotting", "new_figure", "short_name", "svg_text"]

_LEGEND_CHARACTERS = 28
# Each series differs in colour, dash and marker. The page defines the colours (Okabe and Ito).
STYLES = (
    ("blue", "-", "o"),
    ("orange", "--", "s"),
    ("green", "-.", "^"),
    ("purple", ":", "D"),
    ("sky", (0, (5, 1, 1, 1, 1, 1)), "v"),
    ("vermillion", (0, (1, 1)), "P"),
)
# Placeholders that matplotlib accepts, replaced in the SVG by CSS variables.
COLOURS = {
    name: f"#0102{index:02x}"
    for index, name in enumerate(
        ("ink", "grid", "blue", "orange", "green", "purple", "sky", "vermillion"), start=16
    )
}


def check_plotting(flag: str = "--html") -> None:
    """Checks that the packages of the extra `html` are installed.

    Args:
        flag: str. The option that needs them, for the message.

    Raises:
        ConfigError: a package is missing.
    """
    for module, package in (("matplotlib", "matplotlib"), ("sklearn", "scikit-learn")):
        check_package(module, flag, package=package, extra="html")


def new_figure() -> tuple[Any, Any]:
    """Makes a figure that needs no display and no global state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 3.4), layout="constrained")
    return figure, figure.add_subplot()


def svg_text(figure: Any, name: str, title: str) -> str:
    """Writes a figure as SVG that inherits the page's colours and scales with the page.

    Args:
        figure: matplotlib.figure.Figure.
        name: str. It keeps the ids of plots on one page apart.
        title: str. The description for screen readers.
    """
    from matplotlib import rc_context

    ink, grid = COLOURS["ink"], COLOURS["grid"]
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
    for variable, placeholder in COLOURS.items():
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


def short_name(name: str) -> str:
    """Cuts a label for a legend."""
    name = printable(name).replace("\n", " ")
    return name if len(name) <= _LEGEND_CHARACTERS else f"{name[: _LEGEND_CHARACTERS - 1]}…"
