"""keras-bert-zoo presets: lists the catalogue as a table or JSON."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from keras_bert_zoo.cli.messages import show
from keras_bert_zoo.cli.options import Parser, with_hint
from keras_bert_zoo.errors import ConfigError

DESCRIPTION = """\
List the catalogued pretrained models. `train --preset` also accepts the path of a checkpoint, or
hf://owner/name. Verified "yes": the checkpoint with this sha256 was loaded and compared with
transformers. "unpinned": only the family and configuration were compared; commit and sha256 are
unknown, so the download depends on the current state of the source."""

EXAMPLES = """
  keras-bert-zoo presets
  keras-bert-zoo presets --language zh
  keras-bert-zoo presets --family modernbert --json
"""


def add_arguments(parser: Parser) -> None:
    """Adds the command's options."""
    parser.add_argument("--family", metavar="NAME", help="list only this family: bert, ...")
    parser.add_argument("--language", metavar="CODE", help="list only this language: en, zh, ...")
    parser.add_argument("--json", action="store_true", help="print a JSON array instead of a table")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    from keras_bert_zoo.presets.catalog import installed_directory, list_presets

    presets = list_presets()
    for option in ("family", "language"):
        known = sorted({getattr(preset, option) for preset in presets})
        if getattr(args, option) not in (None, *known):
            raise ConfigError(
                f"no preset has the {option} {with_hint(getattr(args, option), known)}; expected "
                f"one of {', '.join(known)}"
            )
    rows: list[dict[str, Any]] = []
    for preset in presets:
        if args.family not in (None, preset.family) or args.language not in (None, preset.language):
            continue
        directory = installed_directory(preset)
        rows.append(
            dataclasses.asdict(preset)
            | {
                "pinned": preset.pinned,
                "installed": directory is not None,
                "directory": str(directory or ""),
            }
        )
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    table = [["name", "family", "language", "parameters", "licence", "source", "verified"]]
    for row in rows:
        table.append(
            [
                row["name"],
                row["family"],
                row["language"],
                f"{row['parameters']:,}",
                row["license"],
                row["source"],
                _verified(row),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        show("  ".join(cells).rstrip())
    return 0


def _verified(row: dict[str, Any]) -> str:
    if row["verified"]:
        return "yes"
    return "catalogued" if row["pinned"] else "unpinned"
