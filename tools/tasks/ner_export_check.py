"""Compares an exported tagger with Python on 1,000 texts, hostile ones among them.

    python tools/tasks/ner_export_check.py --model runs/entities --data DIR

Exports the model and asks it in a process without this package, in batches of 64 and one by one.
Every answered entity is cut out of the caller's bytes by its offsets. DIR holds blns/ (the naughty
strings), wnut17/ and uner_zh_gsdsimp/.
"""

import argparse
import json
from pathlib import Path


def make_texts(data: Path, count: int) -> list[bytes]:
    """Sentences, naughty strings, both together, nothing, and texts of many windows."""
    from keras_bert_zoo.data.conll import read_conll

    naughty = json.loads((data / "blns" / "blns.json").read_text("utf-8"))
    odd = [text.encode("utf-8", "surrogatepass") for text in naughty]
    odd += [b"", b"\xff\xfe \xc3", b"x" * 3000, b"\xe4\xb8\xad" * 2000]
    english = read_conll(data / "wnut17" / "emerging.test.annotated").texts
    chinese = read_conll(data / "uner_zh_gsdsimp" / "zh_gsdsimp-ud-test.iob2.gz", tag=3).texts
    texts = []
    for place in range(count):
        plain = english[place % len(english)].encode()
        strange = odd[place % len(odd)]
        texts.append(
            [plain, strange, strange + plain + strange, plain * (place % 9),
             chinese[place % len(chinese)].encode()][place % 5]
        )  # fmt: skip
    return texts


def main() -> None:
    """Exports, asks and compares."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1000)
    args = parser.parse_args()
    from exported import ask_export, check_offsets

    from keras_bert_zoo.tasks.registry import load_task

    texts = make_texts(args.data, args.rows)
    found = ask_export(load_task(args.model), {"text": texts}, args.rows)
    check_offsets(found, "entity", texts)


if __name__ == "__main__":
    main()
