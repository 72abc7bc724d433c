"""Compares the answers of an export, without this package, with those of its task."""

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
from keras_bert_zoo.tasks.predicting import joined_widths
from keras_bert_zoo.tasks.task import Task

# The largest differences of scores that rounding causes. Other batch sizes and group widths change
# the order of additions. In float32, scores then differ by about 1e-6. bfloat16 has 8 bits of
# mantissa: one rounding is 0.4 %, and a block rounds a dozen times. Probabilities differ by up to
# 0.02.
#
# In int8, the copy of the task is compared. Another order of additions may move a number to the
# next of 127 steps.
TOLERANCES = {"float32": 1e-5, "bfloat16": 0.05, "int8": 0.2}

_SCRIPT = Path(__file__).with_name("answer_script.py")
_LAST = ("refused", "failed", "accepted")  # the keys of the last line of an answer

# Texts of all kinds that have broken a tokenizer, and some plain texts.
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
    """The result of comparing an export with its task.

    Attributes:
        texts: int. The number of texts.
        largest_difference: float. Between scores; relative for scores beyond 1.
    """

    texts: int
    largest_difference: float


class Verifier:
    """An interpreter without this package, which can check several exports.

    It is a context manager, which ends the process. Start it early: importing TensorFlow is slow.

    Args:
        python: str. Path of the interpreter. None: the current one.
        script: Path. The program that answers requests. None: the one for SavedModels.
    """

    def __init__(self, python: str | None = None, script: Path | None = None) -> None:
        environment = {
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "PYTHONIOENCODING": "utf-8",
            # The GPU may have no free memory, because the current process uses it.
            "CUDA_VISIBLE_DEVICES": "-1",
        }
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed in __exit__)
        # -P: Python does not import modules from the current directory or the script's.
        self._process = subprocess.Popen(
            [python or sys.executable, "-P", str(script or _SCRIPT)],
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
            directory: path of the SavedModel.
            task: the exported task.
            tolerance: float. Largest difference of scores, relative for scores beyond 1.
            pair: bool. See `Task.text_specs`.

        Returns:
            Verification.

        Raises:
            ExportError: the export cannot be loaded, a call fails, or its answers differ.
        """
        rows = hostile_rows(task, pair=pair)
        names = task.text_specs(pair=pair)
        columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        tensors = [tf.constant(strings_as_bytes(column), tf.string) for column in columns.values()]
        tokens, _ = task.encode_texts(*tensors)
        request = {
            "model": str(directory),
            "texts": {name: _in_base64(column) for name, column in columns.items()},
            "tokens": {name: tokens[name].numpy().tolist() for name in task.spec.serving_inputs()},
            "alone": list(range(0, len(rows), 5)),
            "max_tokens": task.encoder.config.max_tokens,
            "in_range": [name for name, allowed in id_ranges(task).items() if allowed],
        }
        answers = self.ask(request)
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

    def ask(self, request: dict[str, Any]) -> dict[str, dict[str, np.ndarray]]:
        """Sends a request to the other process and returns its answers, by signature."""
        lines = list(self._lines(request))
        invalid = [line["asking"] for line in lines if "asking" in line]
        ended = not lines or lines[-1].keys().isdisjoint(_LAST)
        if ended and invalid:
            raise ExportError(
                "Expected the export to refuse an invalid request, but its process ended "
                f"({_status(self._process.wait())}): {invalid[-1]}."
            )
        if ended:
            raise ExportError(
                "The export cannot be loaded and called without keras_bert_zoo: "
                f"{self._last_error() or f'exit code {self._process.wait()}'}"
            )
        if "failed" in lines[-1]:
            raise ExportError(
                f"The export cannot be called without keras_bert_zoo ({lines[-1]['failed']}): "
                f"{lines[-1]['error']}"
            )
        if "accepted" in lines[-1]:
            raise ExportError(
                "Expected the export to refuse an invalid request with INVALID_ARGUMENT: "
                f"{lines[-1]['accepted']} {lines[-1]['how']}."
            )
        (answers,) = (line["answers"] for line in lines if "answers" in line)
        return {
            where: {name: _array(value) for name, value in outputs.items()}
            for where, outputs in answers.items()
        }

    def _lines(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yields the lines of an answer, until the last one or the end of the process."""
        stdin, stdout = cast("TextIO", self._process.stdin), cast("TextIO", self._process.stdout)
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(request), file=stdin, flush=True)
        for line in stdout:
            if line.startswith('{"'):
                values = json.loads(line)
                yield values
                if not values.keys().isdisjoint(_LAST):
                    return

    def _last_error(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").splitlines()
        return next((line for line in reversed(lines) if line.strip()), "")


def _status(returncode: int) -> str:
    """Returns the exit code of a process, or the name of the signal that ended it."""
    if returncode > 0:
        return f"exit code {returncode}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-returncode).name
    return f"signal {-returncode}"


def hostile_rows(task: Task, *, pair: bool | None = None) -> list[tuple[Any, ...]]:
    """Returns hostile texts for a task.

    Args:
        task: Task.
        pair: bool. See `Task.text_specs`.

    Returns:
        list of tuples, one per row. Each has one text, or a tuple of texts, per input.
    """
    special = " in the text ".join(task.tokenizer.special_tokens)
    texts = [*_HOSTILE, special]
    columns: list[list[Any]] = []
    shift = 0
    for spec in task.text_specs(pair=pair).values():
        parts = []
        for _ in range(int(np.prod(spec.shape[1:]))):  # the number of texts per row
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
        task: Task.
        where: str. The name of the call, for messages.
        expected: name -> array (B, ...), of the task. Strings are bytes.
        answer: the same, of the export. Its arrays may have another width, by padding.
        tolerance: float. Largest difference of numbers, relative for numbers beyond 1.

    Returns:
        float. The largest difference of numbers.

    Raises:
        ExportError: the answers differ.
    """
    if set(answer) != set(expected):
        raise ExportError(
            f"Expected the outputs {sorted(expected)} from the export, received {sorted(answer)}."
        )
    expected, answer = dict(expected), dict(answer)
    for name, ours in expected.items():
        theirs = answer[name]
        if theirs.ndim != ours.ndim or len(theirs) != len(ours):
            raise ExportError(
                f"`{name}` ({where}): expected the shape {ours.shape}, received {theirs.shape}."
            )
        if not theirs.size:  # the other process reports no dtype for an empty array
            theirs = theirs.astype(ours.dtype)
        expected[name], answer[name] = joined_widths(ours, theirs)
    largest = 0.0
    for row in range(len(next(iter(expected.values())))):
        task_row = {name: _row(values, row) for name, values in expected.items()}
        export_row = {name: _row(values, row) for name, values in answer.items()}
        difference = task.answer_difference(task_row, export_row, tolerance)
        if difference is None:
            raise ExportError(
                f"Expected the model's answer {_strings(task_row)} to text {row} from the export "
                f"({where}), received {_strings(export_row)}."
            )
        if not difference <= tolerance:
            raise ExportError(
                f"The scores of the export ({where}) differ from the model's by {difference:.2g}, "
                f"more than the tolerance of {tolerance:g}."
            )
        largest = max(largest, difference)
    return largest


def _row(values: np.ndarray, row: int) -> np.ndarray:
    """Returns a row as an array. It has no dimensions if a row is one value."""
    return values[row : row + 1].reshape(values.shape[1:])


def _strings(answer: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value for name, value in answer.items() if value.dtype == object}


def _arrays(outputs: dict[str, tf.Tensor]) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in outputs.items()}


def _array(value: dict[str, Any]) -> np.ndarray:
    """Converts a tensor in JSON to an array."""
    values = value["values"]
    if values and isinstance(values[0], str):
        array = np.empty(len(values), dtype=object)
        array[:] = [base64.b64decode(text) for text in values]
        return array.reshape(value["shape"])
    return np.asarray(values).reshape(value["shape"])


def strings_as_bytes(text: Any) -> Any:
    """Encodes all strings in nested lists."""
    if isinstance(text, list | tuple):
        return [strings_as_bytes(part) for part in text]
    return text if isinstance(text, bytes) else text.encode("utf-8")


def _in_base64(text: Any) -> Any:
    if isinstance(text, list | tuple):
        return [_in_base64(part) for part in text]
    return base64.b64encode(strings_as_bytes(text)).decode()
