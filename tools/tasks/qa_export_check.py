"""Compares an exported question answerer with Python on 1,000 questions, some hostile.

    python tools/tasks/qa_export_check.py --model runs/questions --data DIR

Exports the model and runs it in a process without this package, in batches of 64, and for some
questions one by one. DIR contains blns/ (the naughty strings) and xquad/.
"""

import argparse
import json
from pathlib import Path


def make_rows(data: Path, count: int) -> list[tuple[bytes, bytes]]:
    from keras_bert_zoo.data.squad import read_squad

    naughty = json.loads((data / "blns" / "blns.json").read_text("utf-8"))
    hostile = [text.encode("utf-8", "surrogatepass") for text in naughty]
    hostile += [b"", b"\xff\xfe \xc3", b"x" * 3000, b"\xe4\xb8\xad" * 2000]
    examples = read_squad(data / "xquad" / "xquad.en.json.gz")
    rows = []
    for index in range(count):
        question = examples.questions[index % len(examples)].encode()
        context = examples.contexts[index % len(examples)].encode()
        odd = hostile[index % len(hostile)]
        kind = index % 5
        if kind == 0:
            rows.append((question, odd))
        elif kind == 1:
            rows.append((odd, context))
        elif kind == 2:
            rows.append((question, odd + context + odd))
        elif kind == 3:
            rows.append((question, context * (index % 7)))  # empty, or above the maximum length
        else:
            rows.append((question, context))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--alone", type=int, default=128)
    args = parser.parse_args()

    from exported import check_offsets, run_export

    from keras_bert_zoo.tasks.registry import load_task

    questions, contexts = (list(c) for c in zip(*make_rows(args.data, args.rows), strict=True))
    predictions = run_export(
        load_task(args.model), {"question": questions, "context": contexts}, args.alone
    )
    check_offsets(predictions, "answer", contexts)


if __name__ == "__main__":
    main()
