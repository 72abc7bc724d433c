"""Exports a saved task and compares its predictions with Python's on 1,000 hostile texts.

    python tools/tasks/check_export.py runs/relations --texts FOLDER/blns.txt [--marked]

The texts are the lines of the file, an empty text, a very long one, invalid UTF-8 and random
mixtures, up to 1,000 rows. The export runs in an interpreter without this package, in batches of 64
and for some rows one by one. If predictions have offsets, the text at these offsets must equal the
returned text.
"""

import argparse
import random
from pathlib import Path

import numpy as np
from exported import check_offsets, run_export

from keras_bert_zoo.tasks.registry import load_task


def make_texts(path: Path, count: int, marked: bool, between: bytes) -> list[bytes]:
    """The lines of a file, and mixtures of them."""
    lines = [*path.read_bytes().split(b"\n"), b"", b"\xff\xfe \xc3", b"a " * 5000]
    chance = random.Random(0)
    texts = list(lines)
    while len(texts) < count:
        parts = chance.choices(lines[:-1], k=chance.randint(1, 4))
        if marked:
            parts = [b"<e1>" + parts[0] + b"</e1>", *parts, b"<e2>" + parts[-1] + b"</e2>"]
        texts.append(between.join(parts))
    return texts[:count]


def main() -> None:
    """Compares the predictions."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", help="directory written by `keras-bert-zoo train`")
    parser.add_argument("--texts", type=Path, required=True, help="lines of text")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--alone", type=int, default=256)
    parser.add_argument(
        "--between",
        default=" ",
        help="separator in mixtures; ' [MASK] ' for masked language models",
    )
    parser.add_argument("--marked", action="store_true", help="mark entities, for relations")
    args = parser.parse_args()
    task = load_task(args.model)
    texts = make_texts(args.texts, args.count, args.marked, args.between.encode())
    columns: dict[str, list] = {}
    shift = 0
    for name, spec in task.text_specs().items():
        parts = []
        for _ in range(int(np.prod(spec.shape[1:]))):
            parts.append(texts[shift:] + texts[:shift])
            shift += 7
        columns[name] = parts[0] if spec.shape.rank == 1 else list(zip(*parts, strict=True))
    answers = run_export(task, columns, args.alone)
    for name in ("entity", "answer"):
        if name in answers:
            check_offsets(answers, name, list(columns.values())[-1])


if __name__ == "__main__":
    main()
