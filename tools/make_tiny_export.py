"""Writes saved_models/tiny: a small export with its expected predictions, which git contains.

tests/export/test_old_exports.py loads it. A TensorFlow or tokenizer op that breaks exports in
production then fails in this test first. Run this tool only to add an export of the current code,
under a new version:

    python tools/make_tiny_export.py
"""

import json
import os
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.export.conftest import make_task  # noqa: E402

TEXTS = [
    "",
    "The card has not arrived!",
    "the card, the card, the card",
    "天气 weather ünïcode ẞ",
    "👍 \x00 [MASK] [SEP]",
    "x" * 200,
    "not " * 100,
]


def main() -> None:
    task = make_task("single_label")
    export = task.export(ROOT / "saved_models" / "tiny")
    answers = task.predict(TEXTS)
    expected = {
        "made_by": "tools/make_tiny_export.py",
        "text": TEXTS,
        **{name: values.tolist() for name, values in answers.items()},
    }
    path = export.path.parent / f"expected_{export.version}.json"
    path.write_text(json.dumps(expected, indent=1, ensure_ascii=True) + "\n", encoding="utf-8")
    print(f"{export.path}: {export.model_bytes:,} bytes, answers in {path.name}")


if __name__ == "__main__":
    main()
