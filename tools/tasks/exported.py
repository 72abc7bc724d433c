"""Runs an export in a process without this package, and compares it with Python.

The other tools create the texts; this module serves all tasks. As a script it is the process
without this package, with only TensorFlow and TensorFlow Text.
"""

import base64
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

BATCH = 64
_PLACES = (("start", "end"), ("start_character", "end_character"))


def serve(model: str, rows: str, answers: str, alone: int) -> None:
    """Runs all rows in batches of `BATCH` and the first ones singly; writes arrays to a file."""
    import numpy as np
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  (registers the ops)

    def to_bytes(value: Any) -> Any:
        return (
            [to_bytes(part) for part in value]
            if isinstance(value, list)
            else base64.b64decode(value)
        )

    columns = {
        n: to_bytes(column) for n, column in json.loads(Path(rows).read_text("utf-8")).items()
    }
    count = len(next(iter(columns.values())))
    signature = tf.saved_model.load(model).signatures["serving_default"]
    steps = [(begin, BATCH) for begin in range(0, count, BATCH)]
    steps += [(row, 1) for row in range(alone)]
    outputs = {}
    for step, (begin, size) in enumerate(steps):
        batch = signature(
            **{name: tf.constant(texts[begin : begin + size]) for name, texts in columns.items()}
        )
        outputs |= {f"{name}/{step}": value.numpy() for name, value in batch.items()}
    if any(name.startswith("keras_bert_zoo") for name in sys.modules):
        raise SystemExit("the package must not be imported")
    np.savez(answers, **outputs)  # bytes are pickled; the parent process reads the file


def run_export(task: Any, columns: dict[str, list[Any]], alone: int) -> dict[str, Any]:
    """Exports a task, runs the export, and compares it with Python; prints differences.

    Args:
        task: Task.
        columns: for each input of the task, a list of bytes, or of lists of bytes.
        alone: int. The number of rows to run again, one by one.

    Returns:
        the predictions in batches, name -> array.
    """
    import numpy as np

    from keras_bert_zoo.export.verify import TOLERANCES, compare_answers
    from keras_bert_zoo.tasks.predicting import joined_widths

    def encoded(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [encoded(part) for part in value]
        return base64.b64encode(value).decode()

    count = len(next(iter(columns.values())))
    alone = min(alone, count)
    with tempfile.TemporaryDirectory() as folder:
        export = task.export(Path(folder) / "model")
        rows, answers = Path(folder) / "rows.json", Path(folder) / "answers.npz"
        rows.write_text(json.dumps({n: encoded(c) for n, c in columns.items()}), "utf-8")
        script = Path(folder) / "serve.py"  # copied: this folder must not be on its path
        script.write_bytes(Path(__file__).read_bytes())
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        python = os.environ.get("KBZ_SERVING_PYTHON", sys.executable)
        command = [python, "-P", script, export.path, rows, answers, str(alone)]
        subprocess.run([str(part) for part in command], check=True, env=environment)
        with np.load(answers, allow_pickle=True) as file:
            parts = dict(file)
    steps = -(-count // BATCH)
    names = sorted({key.partition("/")[0] for key in parts})

    def joined(first: int, last: int) -> dict[str, Any]:
        return {
            name: np.concatenate(joined_widths(*(parts[f"{name}/{i}"] for i in range(first, last))))
            for name in names
        }

    batches = joined(0, steps)
    expected = task.answer_rows(*columns.values(), batch_size=BATCH)
    tolerance = TOLERANCES["float32"]
    largest = compare_answers(task, "batches", expected, batches, tolerance)
    print(f"{count:,} rows equal to Python's, numbers within {largest:.1e}")
    if alone:
        first = {name: values[:alone] for name, values in batches.items()}
        single = compare_answers(task, "alone", first, joined(steps, steps + alone), tolerance)
        print(f"{alone:,} single rows equal to batches of {BATCH}, within {single:.1e}")
    return batches


def check_offsets(answers: dict[str, Any], name: str, texts: list[bytes]) -> None:
    """Compares returned texts with the texts at their offsets, in bytes and in characters.

    Args:
        answers: the return value of `run_export`.
        name: str. The output with the returned texts: "entity" or "answer".
        texts: list of bytes, the inputs of the offsets.

    Raises:
        SystemExit: an offset is wrong.
    """
    import numpy as np

    count = len(texts)
    returned = answers[name].reshape(count, -1)
    (start, end), (first, last) = (
        [np.reshape(answers[part], (count, -1)) for part in pair] for pair in _PLACES
    )
    checked = 0
    for row, text in enumerate(texts):
        try:
            characters = text.decode()
        except UnicodeDecodeError:
            characters = None  # character offsets are undefined
        for position, part in enumerate(returned[row]):
            if text[start[row, position] : end[row, position]] != part:
                raise SystemExit(f"row {row}: wrong offsets of {part!r}")
            if characters is not None:
                inside = characters[first[row, position] : last[row, position]]
                if inside.encode() != part:
                    raise SystemExit(f"row {row}: wrong characters of {part!r}")
            checked += bool(part)
    print(f"{checked:,} texts match their offsets")


if __name__ == "__main__":
    serve(*sys.argv[1:4], int(sys.argv[4]))
