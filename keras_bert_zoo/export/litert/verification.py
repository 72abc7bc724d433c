"""Compares the answers of a LiteRT model, without this package, with those of its task."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.encoders.encoder import INPUT_NAMES
from keras_bert_zoo.errors import ExportError
from keras_bert_zoo.export.signatures import compute_dtype
from keras_bert_zoo.export.verify import (
    TOLERANCES,
    Verifier,
    compare_answers,
    hostile_rows,
    strings_as_bytes,
)
from keras_bert_zoo.litert_scope import litert_scope
from keras_bert_zoo.tasks.predicting import largest_difference
from keras_bert_zoo.tasks.task import Task

_SCRIPT = Path(__file__).with_name("answer_script.py")
_TOLERANCE = 1e-4
# LiteRT joins no strings, so its answers may lack these.
_MAY_LACK = ("filled",)

Answers = dict[str, np.ndarray]


@dataclass(frozen=True)
class Call:
    """A request to a model.

    Attributes:
        where: str. Its name, for messages.
        inputs: name -> array.
        expected: the task's answers, name -> array.
    """

    where: str
    inputs: dict[str, np.ndarray]
    expected: Answers


class Agreement:
    """A model that agrees with its task.

    Args:
        task: Task.
        calls: the requests.
        folder: Path of a directory for files.
        text: bool. Whether the inputs are strings.
        numbers: bool. Whether the outputs are a part of the answers, and all are numbers.

    Attributes:
        texts: int. The number of texts.
        largest_difference: float. See `compare_answers`.
    """

    def __init__(
        self, task: Task, calls: Sequence[Call], folder: Path, *, text: bool, numbers: bool = False
    ) -> None:
        self._task, self._calls, self._folder, self._text = task, calls, folder, text
        self._numbers = numbers
        self.texts = len(calls)
        self.largest_difference = 0.0

    def check(self, model: bytes, verifier: Verifier) -> None:
        """Compares the answers of the model in float32.

        Raises:
            ExportError: the answers differ.
        """
        answers = self._answers(model, verifier)
        # The answers of a task in another dtype were rounded.
        own = TOLERANCES.get(compute_dtype(self._task), TOLERANCES["bfloat16"])
        tolerance = max(_TOLERANCE, own)
        for call in self._calls:
            difference = self._difference(call, answers[call.where], tolerance)
            self.largest_difference = max(self.largest_difference, difference)

    def again(self, model: bytes, tolerance: float = 0.1) -> float:
        """Asks a model with narrower weights.

        Args:
            model: bytes, a flatbuffer.
            tolerance: float. The largest difference of scores that agree.

        Returns:
            float, the share of the requests whose answers agree.

        Raises:
            ExportError: the model fails, or its scores are not finite.
        """
        with Verifier(script=_SCRIPT) as verifier:
            answers = self._answers(model, verifier)
        agreed = 0
        for call in self._calls:
            got = answers[call.where]
            for name, values in got.items():
                if values.dtype.kind == "f" and not np.isfinite(values).all():
                    raise ExportError(
                        f"Expected finite numbers from the export ({call.where}), received "
                        f"{name} = {values}."
                    )
            try:
                self._difference(call, got, tolerance)
            except ExportError:
                continue
            agreed += 1
        return agreed / len(self._calls)

    def _difference(self, call: Call, got: Answers, tolerance: float) -> float:
        if not self._numbers:
            return compare_answers(self._task, call.where, call.expected, got, tolerance)
        differences = [largest_difference(x, got[name]) for name, x in call.expected.items()]
        if not max(differences) <= tolerance:
            raise ExportError(
                f"The scores of the export ({call.where}) differ from the model's by "
                f"{max(differences):.2g}, more than the tolerance of {tolerance:g}."
            )
        return max(differences)

    def _answers(self, model: bytes, verifier: Verifier) -> dict[str, Answers]:
        path = self._folder / "verified"
        path.write_bytes(model)
        try:
            calls = [
                [call.where, {name: _in_json(array) for name, array in call.inputs.items()}]
                for call in self._calls
            ]
            return verifier.ask({"model": str(path), "text": self._text, "calls": calls})
        finally:
            path.unlink()


def check_model(
    task: Task,
    model: bytes,
    folder: Path,
    *,
    text: bool,
    pair: bool | None,
    batch_size: int | None,
    length: int | None,
    outputs: Sequence[str] | None = None,
) -> Agreement:
    """Checks that a model in float32 answers hostile texts as its task does.

    Args:
        task: Task.
        model: bytes, a flatbuffer.
        folder: Path of a directory for files.
        text: bool. Whether the inputs are strings.
        pair: see `export_litert`.
        batch_size: see `export_litert`.
        length: see `export_litert`.
        outputs: names of the outputs, numbers; None: all.

    Returns:
        Agreement.

    Raises:
        ExportError: the model cannot be loaded, a call fails, or its answers differ.
    """
    with Verifier(script=_SCRIPT) as verifier:  # its imports take time
        rows = hostile_rows(task, pair=pair)
        names = list(task.text_specs(pair=pair))
        if text:
            calls = _text_calls(task, names, rows, batch_size or 1)
        else:
            calls = _token_calls(task, rows, batch_size or 1, length)
        if outputs is not None:
            calls = [
                replace(call, expected={name: call.expected[name] for name in outputs})
                for call in calls
            ]
        agreement = Agreement(task, calls, folder, text=text, numbers=outputs is not None)
        agreement.check(model, verifier)
    return agreement


def _text_calls(
    task: Task, names: Sequence[str], rows: Sequence[tuple[Any, ...]], batch_size: int
) -> list[Call]:
    """Makes requests of `batch_size` texts; the last repeats texts to be complete."""
    calls = []
    for begin in range(0, len(rows), batch_size):
        chosen = [rows[(begin + i) % len(rows)] for i in range(batch_size)]
        columns = [list(column) for column in zip(*chosen, strict=True)]
        inputs = {
            name: np.array(strings_as_bytes(column), object)
            for name, column in zip(names, columns, strict=True)
        }
        expected = task.answer_rows(*columns)
        calls.append(Call(f"text {begin}", inputs, _without(expected)))
    return calls


def _token_calls(
    task: Task, rows: Sequence[tuple[Any, ...]], batch_size: int, length: int | None
) -> list[Call]:
    """Makes requests of the token ids of texts. Texts beyond `length` are left out."""
    columns = [tf.constant(strings_as_bytes(list(c)), tf.string) for c in zip(*rows, strict=True)]
    encoded, _ = task.encode_texts(*columns)
    arrays = {name: encoded[name].numpy() for name in task.spec.serving_inputs()}
    sizes = arrays["padding_mask"].sum(axis=-1).reshape(len(arrays["padding_mask"]), -1).max(axis=1)
    numbers = [i for i, size in enumerate(sizes) if length is None or size <= length]
    numbers = numbers[:: max(1, len(numbers) // 24)]  # a long text has many windows
    calls = []
    for begin in range(0, len(numbers), batch_size):
        chosen = [numbers[(begin + i) % len(numbers)] for i in range(batch_size)]
        size = length or int(max(sizes[chosen]))
        inputs = {
            name: _columns(array[chosen], size if name in INPUT_NAMES else array.shape[-1])
            for name, array in arrays.items()
        }
        tensors = {name: tf.constant(array) for name, array in inputs.items()}
        with litert_scope():
            answers = task.answers(task.respond(tensors))
        expected = {name: value.numpy() for name, value in answers.items()}
        calls.append(Call(f"token ids {begin}", inputs, _without(expected)))
    return calls


def _columns(array: np.ndarray, size: int) -> np.ndarray:
    """Cuts or pads rows (B, ..., S) to a length of at least 1; LiteRT takes no empty arrays."""
    size = max(size, 1)
    cut = array[..., :size]
    missing = [(0, 0)] * (array.ndim - 1) + [(0, size - cut.shape[-1])]
    return np.pad(cut, missing)


def _without(answers: Mapping[str, np.ndarray]) -> Answers:
    return {name: values for name, values in answers.items() if name not in _MAY_LACK}


def _in_json(array: np.ndarray) -> dict[str, Any]:
    if array.dtype == object:
        values: list[Any] = [base64.b64encode(text).decode() for text in array.ravel()]
    else:
        values = array.ravel().tolist()
    return {"shape": list(array.shape), "values": values}
