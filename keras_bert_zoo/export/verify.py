"""Does an export answer as its task does, where this package is not there?"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TextIO, cast

import numpy as np
import tensorflow as tf

from keras_bert_zoo.errors import ExportError
from keras_bert_zoo.export.checks import id_ranges
from keras_bert_zoo.tasks.answering import joined_widths
from keras_bert_zoo.tasks.task import Task

# Largest difference of a score that is rounding. Batches of other sizes and groups of other widths
# add up the same numbers in another order: in float32 that moves a score by about 1e-6. bfloat16
# has 8 bits of mantissa, one rounding is 0.4 %, and every block rounds a dozen times: probabilities
# move by up to about 0.02.
TOLERANCES = {"float32": 1e-5, "bfloat16": 0.05}

_SCRIPT = Path(__file__).with_name("answer_script.py")
_LAST = ("refused", "failed", "accepted")  # the keys of the last line of an answer

# Every kind of text that has broken a tokenizer, and some plain ones.
_HOSTILE: tuple[str | bytes, ...] = (
    "",
    "A plain sentence about a card that has not arrived yet.",
    " ",
    "\t\r\n\x00\x1f\u200b\ufeff",
    "👩‍👩‍👧‍👦 emoji 🏳️‍🌈 and flags 🇨🇳🇩🇪",
    b"not \xff\xfe UTF-8 \xc3",
    b"\xed\xa0\x80 surrogate \xf4\x90\x80\x80",
    "今天天气很好，我们去公园吧！",
    "Ünïcödé ẞ ﬁ ½ İstanbul ΣΑΣ Å a\u0301\u0323",
    "العربية עברית हिन्दी ไทย 한국어 日本語テキスト",
    "x" * 300,
    "!?.,;:'\"()[]{}<>@#$%^&*-_=+|\\/~`",
    "long text " * 1500,
    "Another plain one: what is the exchange rate today?",
)


@dataclass(frozen=True)
class Verification:
    """How an export compared with its task.

    Attributes:
        texts: int. How many texts were asked.
        largest_difference: float. Between scores; relative where they are beyond 1.
    """

    texts: int
    largest_difference: float


class Verifier:
    """An interpreter without this package, started early: importing TensorFlow takes seconds.

    Use it as a context: the process ends with it. It can check several exports.

    Args:
        python: str. The interpreter; None: this one.
    """

    def __init__(self, python: str | None = None) -> None:
        environment = {
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "PYTHONIOENCODING": "utf-8",
            # A device that this process trains on has no memory to spare.
            "CUDA_VISIBLE_DEVICES": "-1",
        }
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed in __exit__)
        # -P: no module of the current folder or of this one can pass for another.
        self._process = subprocess.Popen(
            [python or sys.executable, "-P", str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            text=True,
            encoding="utf-8",
        )

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def check(
        self, directory: Path, task: Task, *, tolerance: float, pair: bool | None = None
    ) -> Verification:
        """Compares the answers of a SavedModel with those of its task.

        Args:
            directory: of the SavedModel.
            task: what was exported.
            tolerance: float. Largest difference of scores, relative where they are beyond 1.
            pair: bool. See `AnsweringModel.text_specs`.

        Returns:
            Verification.

        Raises:
            ExportError: it could not be loaded or asked, or answers otherwise.
        """
        rows = hostile_rows(task, pair=pair)
        names = task.text_specs(pair=pair)
        columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        tensors = [tf.constant(_as_bytes(column), tf.string) for column in columns.values()]
        tokens, _ = task.encode_texts(*tensors)
        request = {
            "model": str(directory),
            "texts": {name: _in_base64(column) for name, column in columns.items()},
            "tokens": {name: tokens[name].numpy().tolist() for name in task.serving_inputs()},
            "alone": list(range(0, len(rows), 5)),
            "max_tokens": task.encoder.config.max_tokens,
            "in_range": [name for name, allowed in id_ranges(task).items() if allowed],
        }
        answers = self._ask(request)
        expected = task.answer_rows(*columns.values())
        on_ids = _arrays(task.answers(task.respond(tokens)))
        largest = 0.0
        for name, answer in answers.items():
            if name == "tokens":
                largest = max(largest, compare_answers(task, name, on_ids, answer, tolerance))
                continue
            chosen = list(range(len(rows)))
            if "alone" in name:
                chosen = [int(name.split()[-2])]
            elif "no texts" in name:
                chosen = []
            part = {key: value[chosen] for key, value in expected.items()}
            largest = max(largest, compare_answers(task, name, part, answer, tolerance))
        return Verification(len(rows), largest)

    def _ask(self, request: dict[str, Any]) -> dict[str, dict[str, np.ndarray]]:
        said = list(self._lines(request))
        asked = [line["asking"] for line in said if "asking" in line]
        ended = not said or said[-1].keys().isdisjoint(_LAST)
        if ended and asked:
            raise ExportError(
                "The export does not refuse a wrong request but ends its process "
                f"({_status(self._process.wait())}): {asked[-1]}."
            )
        if ended:
            raise ExportError(
                "The export cannot be loaded and asked without keras_bert_zoo: "
                f"{self._last_error() or f'exit code {self._process.wait()}'}"
            )
        if "failed" in said[-1]:
            raise ExportError(
                f"The export cannot be asked without keras_bert_zoo ({said[-1]['failed']}): "
                f"{said[-1]['error']}"
            )
        if "accepted" in said[-1]:
            raise ExportError(
                "The export does not refuse a wrong request with INVALID_ARGUMENT: "
                f"{said[-1]['accepted']} {said[-1]['how']}."
            )
        (answers,) = (line["answers"] for line in said if "answers" in line)
        return {
            where: {name: _array(value) for name, value in outputs.items()}
            for where, outputs in answers.items()
        }

    def _lines(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yields what the process says, up to the last line of its answer or to its end."""
        stdin, stdout = cast("TextIO", self._process.stdin), cast("TextIO", self._process.stdout)
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(request), file=stdin, flush=True)
        for line in stdout:
            if line.startswith('{"'):
                said = json.loads(line)
                yield said
                if not said.keys().isdisjoint(_LAST):
                    return

    def _last_error(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").splitlines()
        return next((line for line in reversed(lines) if line.strip()), "")


def _status(returncode: int) -> str:
    """How a process ended, for people."""
    if returncode > 0:
        return f"exit code {returncode}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-returncode).name
    return f"signal {-returncode}"


def hostile_rows(task: Task, *, pair: bool | None = None) -> list[tuple[Any, ...]]:
    """What an export is asked: a tuple a row, of a text, or a tuple of texts, for each input.

    Args:
        task: Task.
        pair: bool. See `AnsweringModel.text_specs`.
    """
    special = " in the text ".join(task.tokenizer.special_tokens)
    texts = [*_HOSTILE, special]
    columns: list[list[Any]] = []
    shift = 0
    for spec in task.text_specs(pair=pair).values():
        parts = []
        for _ in range(int(np.prod(spec.shape[1:]))):  # 1 for an input of one text a row
            parts.append(texts[shift:] + texts[:shift])
            shift = (shift + 5) % len(texts)
        columns.append(parts[0] if spec.shape.rank == 1 else list(zip(*parts, strict=True)))
    return list(zip(*columns, strict=True))


def compare_answers(
    task: Task,
    where: str,
    expected: dict[str, np.ndarray],
    answer: dict[str, np.ndarray],
    tolerance: float,
) -> float:
    """Compares answers of an export with those of its task.

    Args:
        task: Task, which knows when two answers are one but for rounding.
        where: str. Names the way of asking, in messages.
        expected: name -> array (B, ...), of the task. Strings are bytes.
        answer: the same, of the export. It may be padded to another width.
        tolerance: float. Largest difference of numbers, relative where they are beyond 1.

    Returns:
        float. The largest difference of numbers, in the rows whose answers are the same.

    Raises:
        ExportError: the two differ.
    """
    if set(answer) != set(expected):
        raise ExportError(
            f"The export answers with {sorted(answer)}, the model with {sorted(expected)}."
        )
    expected, answer = dict(expected), dict(answer)
    for name, wanted in expected.items():
        got = answer[name]
        if got.ndim != wanted.ndim or len(got) != len(wanted):
            raise ExportError(
                f"`{name}` of the export ({where}) has shape {got.shape}, expected {wanted.shape}."
            )
        if not got.size:  # of an array without values the other process tells no type
            got = got.astype(wanted.dtype)
        expected[name], answer[name] = joined_widths(wanted, got)
    largest = 0.0
    for row in range(len(next(iter(expected.values())))):
        ours = {name: _row(values, row) for name, values in expected.items()}
        theirs = {name: _row(values, row) for name, values in answer.items()}
        difference = task.answer_difference(ours, theirs, tolerance)
        if difference is None:
            raise ExportError(
                f"The export ({where}) answers text {row} with {_strings(theirs)}, the model with "
                f"{_strings(ours)}."
            )
        if not difference <= tolerance:
            raise ExportError(
                f"The export ({where}) answers otherwise than the model: scores differ by "
                f"{difference:.2g}, beyond the tolerance of {tolerance:g}."
            )
        largest = max(largest, difference)
    return largest


def _row(values: np.ndarray, row: int) -> np.ndarray:
    """A row as an array, of no dimensions where there is one value a row."""
    return values[row : row + 1].reshape(values.shape[1:])


def _strings(answer: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value for name, value in answer.items() if value.dtype == object}


def _arrays(outputs: dict[str, tf.Tensor]) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in outputs.items()}


def _array(value: dict[str, Any]) -> np.ndarray:
    """What the other interpreter printed of a tensor."""
    values = value["values"]
    if values and isinstance(values[0], str):
        array = np.empty(len(values), dtype=object)
        array[:] = [base64.b64decode(text) for text in values]
        return array.reshape(value["shape"])
    return np.asarray(values).reshape(value["shape"])


def _as_bytes(text: Any) -> Any:
    if isinstance(text, list | tuple):
        return [_as_bytes(part) for part in text]
    return text if isinstance(text, bytes) else text.encode("utf-8")


def _in_base64(text: Any) -> Any:
    if isinstance(text, list | tuple):
        return [_in_base64(part) for part in text]
    return base64.b64encode(_as_bytes(text)).decode()
