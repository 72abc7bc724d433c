"""keras-bert-zoo presets: the catalogue as a table or JSON."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from keras_bert_zoo.cli.messages import show
from keras_bert_zoo.cli.options import Parser, with_hint
from keras_bert_zoo.errors import ConfigError

DESCRIPTION = """\
List the pretrained models that have a name. Any other checkpoint is given to `train --preset` by
its path, or as hf://owner/name. "verified": loaded and compared with transformers here, down to
its sha256; "unpinned": its family and configuration were, but neither commit nor sha256 is known:
what is fetched is what its source holds that day."""

EXAMPLES = """
  keras-bert-zoo presets
  keras-bert-zoo presets --language zh
  keras-bert-zoo presets --family modernbert --json
"""


def add_arguments(parser: Parser) -> None:
    """Adds the command's options."""
    parser.add_argument("--family", metavar="NAME", help="list this family alone: bert, ...")
    parser.add_argument("--language", metavar="CODE", help="list this language alone: en, zh, ...")
    parser.add_argument("--json", action="store_true", help="print a JSON array instead of a table")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    from keras_bert_zoo.presets.catalog import installed_directory, list_presets

    presets = list_presets()
    for option in ("family", "language"):
        known = sorted({getattr(preset, option) for preset in presets})
        if getattr(args, option) not in (None, *known):
            raise ConfigError(
                f"no preset has the {option} {with_hint(getattr(args, option), known)}; there are "
                f"{', '.join(known)}"
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
