"""Compares an exported question answerer with Python on 1,000 questions, hostile ones among them.

    python tools/tasks/qa_export_check.py --model runs/questions --data DIR

Exports the model and asks it in a process without this package: in batches of 64, and some
questions one by one. DIR holds blns/ (the naughty strings) and xquad/.
"""

import argparse
import base64
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

BATCH = 64


def serve(model: str, rows: str, answers: str, alone: int) -> None:
    """Runs in a process of its own, with TensorFlow and TensorFlow Text alone."""
    import numpy as np
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  (registers the ops)

    columns = {
        name: [base64.b64decode(text) for text in column]
        for name, column in json.loads(Path(rows).read_text("utf-8")).items()
    }
    count = len(next(iter(columns.values())))
    ask = tf.saved_model.load(model).signatures["serving_default"]
    found: dict[str, list[np.ndarray]] = {}
    steps = [(begin, BATCH) for begin in range(0, count, BATCH)]
    steps += [(place, 1) for place in range(alone)]
    for begin, size in steps:
        batch = ask(
            **{name: tf.constant(texts[begin : begin + size]) for name, texts in columns.items()}
        )
        for name, value in batch.items():
            found.setdefault(name, []).append(value.numpy())
    if any(name.startswith("keras_bert_zoo") for name in sys.modules):
        raise SystemExit("the package was imported")
    joined = {name: np.concatenate(values) for name, values in found.items()}
    np.savez(answers, **joined)  # pickled where they are bytes; read back by our own process


def make_rows(data: Path, count: int) -> list[tuple[bytes, bytes]]:
    from keras_bert_zoo.data.squad import read_squad

    naughty = json.loads((data / "blns" / "blns.json").read_text("utf-8"))
    hostile = [text.encode("utf-8", "surrogatepass") for text in naughty]
    hostile += [b"", b"\xff\xfe \xc3", b"x" * 3000, b"\xe4\xb8\xad" * 2000]
    examples = read_squad(data / "xquad" / "xquad.en.json.gz")
    rows = []
    for place in range(count):
        question = examples.questions[place % len(examples)].encode()
        context = examples.contexts[place % len(examples)].encode()
        odd = hostile[place % len(hostile)]
        kind = place % 5
        if kind == 0:
            rows.append((question, odd))
        elif kind == 1:
            rows.append((odd, context))
        elif kind == 2:
            rows.append((question, odd + context + odd))
        elif kind == 3:
            rows.append((question, context * (place % 7)))  # empty, and beyond the longest input
        else:
            rows.append((question, context))
    return rows


def ask_export(task: Any, columns: dict[str, list[bytes]], alone: int) -> dict[str, Any]:
    """Exports a task, asks it in batches and one by one elsewhere, and compares with Python.

    Prints how near the answers are; returns those in batches, name -> array.
    """
    import numpy as np

    from keras_bert_zoo.export.verify import compare_answers

    count = len(next(iter(columns.values())))
    alone = min(alone, count)
    with tempfile.TemporaryDirectory() as folder:
        export = task.export(Path(folder) / "model")
        encoded = {
            name: [base64.b64encode(text).decode() for text in column]
            for name, column in columns.items()
        }
        asked, answered = Path(folder) / "rows.json", Path(folder) / "answers.npz"
        asked.write_text(json.dumps(encoded), encoding="utf-8")
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        subprocess.run(
            [sys.executable, "-P", __file__, "--serve", export.path, asked, answered, str(alone)],
            check=True,
            env=environment,
        )
        with np.load(answered, allow_pickle=True) as file:
            found = dict(file)
    expected = task.answer_rows(*columns.values(), batch_size=BATCH)
    batches = {name: values[:count] for name, values in found.items()}
    largest = compare_answers(task, "batches", expected, batches, 1e-4)
    single = compare_answers(
        task,
        "one by one",
        {name: values[:alone] for name, values in found.items()},
        {name: values[count:] for name, values in found.items()},
        1e-4,
    )
    equal = int((batches["answer"] == expected["answer"]).sum())
    total = batches["answer"].size
    print(
        f"{count:,} questions, {total:,} answers: {equal:,} equal to Python's; numbers within "
        f"{largest:.1e}"
    )
    print(f"{alone} asked one by one: the same as in batches of {BATCH}, within {single:.1e}")
    return batches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--alone", type=int, default=128)
    args = parser.parse_args()

    import numpy as np

    from keras_bert_zoo.tasks.registry import load_task

    questions, contexts = (list(c) for c in zip(*make_rows(args.data, args.rows), strict=True))
    task = load_task(args.model)
    found = ask_export(task, {"question": questions, "context": contexts}, args.alone)
    spans = zip(*(np.ravel(found[n]) for n in ("start", "end", "answer")), strict=True)
    per_row = found["answer"].size // len(questions)
    cut = sum(
        contexts[place // per_row][start:end] == answer
        for place, (start, end, answer) in enumerate(spans)
    )
    print(f"{cut:,} answers cut exactly by their offsets")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(*sys.argv[2:5], int(sys.argv[5]))
    else:
        main()
