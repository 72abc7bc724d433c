"""Asking an export in a process without this package, and comparing it with Python.

The tools beside this one make the texts; what is here is the same for all tasks. Run as a script,
with TensorFlow and TensorFlow Text alone, it is that process.
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
    """Asks all rows in batches of `BATCH`, and the first ones alone; writes arrays to a file."""
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
    ask = tf.saved_model.load(model).signatures["serving_default"]
    steps = [(begin, BATCH) for begin in range(0, count, BATCH)]
    steps += [(place, 1) for place in range(alone)]
    found = {}
    for step, (begin, size) in enumerate(steps):
        batch = ask(
            **{name: tf.constant(texts[begin : begin + size]) for name, texts in columns.items()}
        )
        found |= {f"{name}/{step}": value.numpy() for name, value in batch.items()}
    if any(name.startswith("keras_bert_zoo") for name in sys.modules):
        raise SystemExit("the package was imported")
    np.savez(answers, **found)  # pickled where they are bytes; read back by our own process


def ask_export(task: Any, columns: dict[str, list[Any]], alone: int) -> dict[str, Any]:
    """Exports a task, asks it elsewhere, and compares with Python; prints how near they are.

    Args:
        task: Task.
        columns: for each text that the task takes, a list of bytes, or of lists of them.
        alone: int. How many rows are asked once more, one by one.

    Returns:
        the answers in batches, name -> array.
    """
    import numpy as np

    from keras_bert_zoo.export.verify import TOLERANCES, compare_answers
    from keras_bert_zoo.tasks.answering import joined_widths

    def encoded(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [encoded(part) for part in value]
        return base64.b64encode(value).decode()

    count = len(next(iter(columns.values())))
    alone = min(alone, count)
    with tempfile.TemporaryDirectory() as folder:
        export = task.export(Path(folder) / "model")
        asked, answered = Path(folder) / "rows.json", Path(folder) / "answers.npz"
        asked.write_text(json.dumps({n: encoded(c) for n, c in columns.items()}), "utf-8")
        script = Path(folder) / "serve.py"  # elsewhere: this folder must not be on its path
        script.write_bytes(Path(__file__).read_bytes())
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        python = os.environ.get("KBZ_SERVING_PYTHON", sys.executable)
        command = [python, "-P", script, export.path, asked, answered, str(alone)]
        subprocess.run([str(part) for part in command], check=True, env=environment)
        with np.load(answered, allow_pickle=True) as file:
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
    print(f"{count:,} rows answered as Python does, numbers within {largest:.1e}")
    if alone:
        first = {name: values[:alone] for name, values in batches.items()}
        single = compare_answers(task, "alone", first, joined(steps, steps + alone), tolerance)
        print(f"{alone:,} asked one by one: as in batches of {BATCH}, within {single:.1e}")
    return batches


def check_offsets(answers: dict[str, Any], name: str, texts: list[bytes]) -> None:
    """Cuts what is answered out of the texts by its offsets, in bytes and in characters.

    Args:
        answers: as `ask_export` returns them.
        name: of the texts that were cut: "entity" or "answer".
        texts: list of bytes, into which the offsets point.

    Raises:
        SystemExit: an offset is wrong.
    """
    import numpy as np

    count = len(texts)
    found = answers[name].reshape(count, -1)
    (start, end), (first, last) = (
        [np.reshape(answers[part], (count, -1)) for part in pair] for pair in _PLACES
    )
    cut = 0
    for row, text in enumerate(texts):
        try:
            characters = text.decode()
        except UnicodeDecodeError:
            characters = None  # characters of such a text have no one meaning
        for place, part in enumerate(found[row]):
            if text[start[row, place] : end[row, place]] != part:
                raise SystemExit(f"row {row}: wrong offsets of {part!r}")
            if characters is not None:
                inside = characters[first[row, place] : last[row, place]]
                if inside.encode() != part:
                    raise SystemExit(f"row {row}: wrong characters of {part!r}")
            cut += bool(part)
    print(f"{cut:,} texts cut out exactly")


if __name__ == "__main__":
    serve(*sys.argv[1:4], int(sys.argv[4]))
