"""Runs all benchmarks and writes their tables and plots into the documentation.

    python tools/bench/all.py --data DIR [--only NAME ...] [--teacher DIR] [--translator DIR]

Each benchmark is a process, one after the other; in each, the engines take turns. Needs the extra
`parity`, and for --data the folder that serving.py describes. The benchmark of small models needs
the model of tools/quickstart, and the one of translation a trained translation model; without these
options, they are left out and their tables are kept.

A page, mostly docs/benchmarks.md, has a pair of comments for each table, `<!-- table: NAME -->` and
`<!-- end of table -->`. Whatever is between them is replaced: the processor, the command, the
table, and the plot docs/benchmarks/NAME.png. A benchmark that fails is named at the end, and its
tables are left as they are; the exit status is then 1.
"""

import argparse
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tables import Table, read_report

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PLOTS = DOCS / "benchmarks"
# Script -> its arguments. Names in braces are this tool's options.
BENCHMARKS = {
    "encoder": "--data {data}",
    "families": "--turns 5",
    "serving": "--data {data}",
    "latency": "--data {data}",
    "training": "--data {data} --steps 12",
    "loop": "--joined 10 --steps 4 --rounds 5",
    "scale": "--data {data}",
    "memory": "--dtype bfloat16",
    "loading": "",
    "first_answer": "{export}",
    "tokenizer": "--vocab {vocab} --texts {data}/mr/rt-polarity.neg {data}/mr/rt-polarity.pos",
    "small_models": "--teacher {teacher}",
    "devices": "",
    "translation": "{translator} --texts {translator_texts}",
}


def block(table: Table, command: str, processor: str) -> str:
    """Returns a table for the page: where it was measured, how, the values and the plot."""
    return (
        f"Processor: {processor}. Command: `{command}`.\n\n{table.markdown()}\n\n"
        f"![{table.axis} by {table.head}: {', '.join(table.plotted)}]"
        f"({PLOTS.name}/{table.name}.png)"
    )


def write_table(table: Table, command: str, processor: str) -> None:
    """Replaces a table in the documentation and its plot.

    Raises:
        ValueError: the documentation has no place for the table, or several.
    """
    start = f"<!-- table: {table.name} -->\n"
    place = re.compile(re.escape(start) + r"(.*?)(?=<!-- end of table -->)", re.DOTALL)
    pages = {page: page.read_text(encoding="utf-8") for page in DOCS.glob("*.md")}
    places = [page for page, text in pages.items() for _ in place.findall(text)]
    if len(places) != 1:
        raise ValueError(f"{DOCS}: expected one {start.strip()!r}, received {len(places)}")
    content = block(table, command, processor)
    PLOTS.mkdir(exist_ok=True)
    table.draw(PLOTS / f"{table.name}.png")
    text = place.sub(lambda _: f"{start}{content}\n", pages[places[0]])
    places[0].write_text(text, encoding="utf-8")


def run(name: str, arguments: list[str], shown: list[str]) -> bool:
    """Runs a benchmark and writes its tables; returns whether it succeeded."""
    script = Path("tools", "bench", f"{name}.py")
    begin = time.monotonic()
    print(f"== {name}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "report.json")
        command = [sys.executable, str(ROOT / script), *arguments, "--json", str(path)]
        if subprocess.run(command, check=False, cwd=ROOT).returncode != 0:
            return False
        processor, tables = read_report(path)
        for table in tables:
            write_table(table, " ".join(["python", str(script), *shown]), processor)
    print(f"== {name}: {time.monotonic() - begin:.0f} s", flush=True)
    return True


def export_model(folder: Path) -> dict[str, Path]:
    """Writes an export for first_answer.py; returns it and the vocabulary for tokenizer.py."""
    program = (
        "import sys, keras_bert_zoo as kbz\n"
        "task = kbz.TextEmbedder.from_preset('minilm_l6_en_uncased')\n"
        "task.export(sys.argv[1], dtype='bfloat16')\n"
        "task.save(sys.argv[2])\n"
    )
    export, model = folder / "export", folder / "model"
    subprocess.run([sys.executable, "-c", program, str(export), str(model)], check=True, cwd=ROOT)
    return {"export": export / "1", "vocab": model / "vocab.txt"}


def main() -> int:
    """Runs the tool; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=list(BENCHMARKS), choices=BENCHMARKS)
    parser.add_argument("--teacher", type=Path, metavar="DIR")
    parser.add_argument("--translator", type=Path, metavar="DIR")
    parser.add_argument("--translator-texts", type=Path, metavar="FILE")
    options = parser.parse_args()
    values = {
        name: value.resolve()
        for name in ("data", "teacher", "translator", "translator_texts")
        if (value := getattr(options, name)) is not None
    }
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        if {"first_answer", "tokenizer"} & set(options.only):
            values |= export_model(Path(folder))
        for name in options.only:
            form = BENCHMARKS[name]
            missing = set(re.findall(r"\{(\w+)\}", form)) - set(values)
            if missing:
                needed = ", ".join(f"--{option.replace('_', '-')}" for option in sorted(missing))
                print(f"== {name}: left out, needs {needed}", flush=True)
                continue
            shown = form.format(**{option: option.upper() for option in values}).split()
            arguments = [part.format(**values) for part in form.split()]
            if not run(name, arguments, shown):
                failed.append(name)
    if failed:
        print(f"failed: {shlex.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
