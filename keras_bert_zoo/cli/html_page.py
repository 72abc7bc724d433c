"""The parts of HTML pages that commands write: one file, in the light and the dark mode.

A content security policy blocks every request.
"""

from __future__ import annotations

__all__ = ["HEAD", "LIGHT", "html_figure", "scroll_table"]

# The colours are those of Okabe and Ito, lighter in the dark mode: https://jfly.uni-koeln.de/color/
LIGHT = {
    "ink": "#1c1f24", "grid": "#d9dde3", "blue": "#0072b2", "orange": "#b87800",
    "green": "#007a5a", "purple": "#a8557f", "sky": "#2b8cc4", "vermillion": "#d55e00",
}  # fmt: skip
"""The colours of plots on a light background."""

_LIGHT_STYLE = "\n".join(f"  --{name}: {value};" for name, value in LIGHT.items())
HEAD = (
    """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ --paper: #fff; --panel: #f5f6f8; --faint: #5a626e;
"""
    + _LIGHT_STYLE
    + """ }}
@media (prefers-color-scheme: dark) {{ :root {{ --paper: #14171c; --panel: #1e232b;
  --ink: #e7eaee; --faint: #a3acb9; --grid: #39414d; --blue: #56b4e9; --orange: #e69f00;
  --green: #2cc295; --purple: #cc79a7; --sky: #9ad4f5; --vermillion: #ff8b45; }} }}
* {{ box-sizing: border-box; }}
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 75rem;
  padding: 1rem clamp(.75rem, 3vw, 2rem) 4rem; color: var(--ink); background: var(--paper); }}
h1 {{ font-size: clamp(1.3rem, 4vw, 1.8rem); line-height: 1.25; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.15rem; margin: 2rem 0 .5rem; }}
p {{ max-width: 45rem; }}
.faint {{ color: var(--faint); overflow-wrap: anywhere; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
td, th {{ padding: .2rem .6rem; text-align: left; vertical-align: top; }}
thead th, .metrics tr + tr > *, .labels tr + tr > * {{ border-top: 1px solid var(--grid); }}
th {{ font-weight: 600; }} td.number, th.number {{ text-align: right; }}
td.name, th.name {{ overflow-wrap: anywhere; min-width: 8rem; max-width: 20rem; }}
.bar {{ display: block; width: clamp(4rem, 18vw, 12rem); height: .75rem; margin-top: .4rem;
  background: linear-gradient(to right, var(--blue) var(--share), var(--grid) 0); }}
.plots {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr));
  gap: 1rem 2rem; }}
figure {{ margin: 0; max-width: 34rem; }}
figure svg {{ display: block; width: 100%; height: auto; }}
svg text {{ fill: var(--ink); }}
.matrix td, .matrix th {{ border: 1px solid var(--grid); padding: 0; }}
.matrix th {{ font-weight: normal; padding: .25rem .5rem; min-width: 5.5rem; max-width: 10rem;
  overflow-wrap: anywhere; }}
.matrix td {{ text-align: center; min-width: 3rem; background: color-mix(in srgb, var(--orange)
  var(--share, 0%), var(--paper)); }}
.matrix td.correct {{ border: 2px solid var(--blue); font-weight: 600; background:
  color-mix(in srgb, var(--blue) var(--share, 0%), var(--paper)); }}
.matrix td > * {{ display: block; padding: .25rem .4rem; color: inherit; }}
a {{ color: var(--blue); }}
a:focus-visible, button:focus-visible, input:focus-visible, .scroll:focus-visible {{
  outline: 3px solid var(--vermillion); outline-offset: 1px; }}
a[aria-current] {{ outline: 3px solid var(--ink); }}
.filter {{ display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; }}
.filter[hidden] {{ display: none; }}
input, button {{ font: inherit; color: inherit; background: var(--panel); padding: .3rem .6rem;
  border: 1px solid var(--faint); border-radius: .3rem; }}
input {{ flex: 0 1 24rem; min-width: 0; width: 100%; }}
.error {{ background: var(--panel); border-radius: .4rem; padding: .6rem .8rem; margin: .6rem 0;
  display: grid; grid-template-columns: 7rem minmax(0, 1fr); gap: .15rem 1rem; }}
.error[hidden] {{ display: none; }} .error:target {{ outline: 2px solid var(--blue); }}
dt {{ color: var(--faint); }}
dd {{ margin: 0; overflow-wrap: anywhere; white-space: pre-wrap; }}
mark {{ color: inherit; background: none; padding: 0 .1em; }}
mark.expected {{ border-bottom: 3px solid var(--blue); }}
mark.wrong {{ border-bottom: 3px dashed var(--vermillion); }}
@media (max-width: 36rem) {{
  .error {{ grid-template-columns: 1fr; }} dd + dt {{ margin-top: .35rem; }}
  td, th {{ padding: .2rem .35rem; }} .wide {{ display: none; }} }}
</style></head><body>
"""
)


def html_figure(title: str, svg: str, note: str) -> str:
    """Puts a plot under a heading, with a note below it; all three are HTML."""
    return f'<figure><h2>{title}</h2>{svg}<figcaption class="faint">{note}</figcaption></figure>'


def scroll_table(table: str, name: str) -> str:
    """Lets a wide table scroll sideways, by keyboard, too."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{name}">{table}</div>'
