"""keras-bert-zoo presets: the catalogue as a table or JSON."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from keras_bert_zoo.cli.options import Parser

DESCRIPTION = """\
List the pretrained models that have a name. Any other Hugging Face directory of a BERT model
(config.json, model.safetensors, vocab.txt) is given to `train --preset` by its path."""

EXAMPLES = """
  keras-bert-zoo presets
  keras-bert-zoo presets --json
"""


def add_arguments(parser: Parser) -> None:
    """Adds the command's options."""
    parser.add_argument("--json", action="store_true", help="print a JSON array instead of a table")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    from keras_bert_zoo.errors import CheckpointError
    from keras_bert_zoo.presets.catalog import list_presets
    from keras_bert_zoo.presets.io import find_preset

    rows: list[dict[str, Any]] = []
    for preset in list_presets():
        try:
            directory = str(find_preset(preset.name))
        except CheckpointError:
            directory = ""
        rows.append(
            dataclasses.asdict(preset) | {"installed": bool(directory), "directory": directory}
        )
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    table = [["name", "family", "language", "parameters", "licence", "source", "installed"]]
    for row in rows:
        table.append(
            [
                row["name"],
                row["family"],
                row["language"],
                f"{row['parameters']:,}",
                row["license"],
                row["source"],
                "yes" if row["installed"] else f"no: {row['install']}",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())
    return 0
