"""Compares an exported token classifier with Python on 1,000 texts, some of them hostile.

    python tools/tasks/ner_export_check.py --model runs/entities --data DIR

Exports the model and runs it in a process without this package, in batches of 64 and one by one.
Every predicted entity is compared with the text at its offsets. DIR contains blns/ (the naughty
strings), wnut17/ and uner_zh_gsdsimp/.
"""

import argparse
import json
from pathlib import Path


def make_texts(data: Path, count: int) -> list[bytes]:
    """Sentences, naughty strings, combinations of them, empty texts and very long texts."""
    from keras_bert_zoo.data.conll import read_conll

    naughty = json.loads((data / "blns" / "blns.json").read_text("utf-8"))
    odd = [text.encode("utf-8", "surrogatepass") for text in naughty]
    odd += [b"", b"\xff\xfe \xc3", b"x" * 3000, b"\xe4\xb8\xad" * 2000]
    english = read_conll(data / "wnut17" / "emerging.test.annotated").texts
    chinese = read_conll(data / "uner_zh_gsdsimp" / "zh_gsdsimp-ud-test.iob2.gz", tag=3).texts
    texts = []
    for index in range(count):
        plain = english[index % len(english)].encode()
        strange = odd[index % len(odd)]
        texts.append(
            [plain, strange, strange + plain + strange, plain * (index % 9),
             chinese[index % len(chinese)].encode()][index % 5]
        )  # fmt: skip
    return texts


def main() -> None:
    """Exports, runs and compares."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1000)
    args = parser.parse_args()
    from exported import check_offsets, run_export

    from keras_bert_zoo.tasks.registry import load_task

    texts = make_texts(args.data, args.rows)
    answers = run_export(load_task(args.model), {"text": texts}, args.rows)
    check_offsets(answers, "entity", texts)


if __name__ == "__main__":
    main()
