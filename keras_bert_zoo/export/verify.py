"""Does an export answer as its task does, where this package is not there?"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from keras_bert_zoo.encoders.encoder import INPUT_NAMES
from keras_bert_zoo.errors import ExportError
from keras_bert_zoo.export.signatures import text_names
from keras_bert_zoo.tasks.task import Task

# Largest difference of a score that is rounding. Batches of other sizes and groups of other widths
# add up the same numbers in another order: in float32 that moves a score by about 1e-6. bfloat16
# has 8 bits of mantissa, one rounding is 0.4 %, and every block rounds a dozen times: probabilities
# move by up to about 0.02.
TOLERANCES = {"float32": 1e-5, "bfloat16": 0.05}

_SCRIPT = Path(__file__).with_name("answer_script.py")

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

    Use it as a context; what is left of the process ends with it.

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
        # -P: no module of the current folder or of this one can pass for another.
        self._process = subprocess.Popen(
            [python or sys.executable, "-P", str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
            encoding="utf-8",
        )

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the process."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def check(self, directory: Path, task: Task, *, tolerance: float) -> Verification:
        """Compares the answers of a SavedModel with those of its task.

        Args:
            directory: of the SavedModel.
            task: what was exported.
            tolerance: float. Largest difference of scores, relative where they are beyond 1.

        Returns:
            Verification.

        Raises:
            ExportError: it could not be loaded or asked, or answers otherwise.
        """
        texts = hostile_texts(task)
        columns = list(zip(*texts, strict=True))
        x: Any = tuple(list(column) for column in columns) if task.pair else list(columns[0])
        tokens = task.tokenizer(x, max_length=task.max_length)
        request = {
            "model": str(directory),
            "texts": {
                name: [base64.b64encode(_as_bytes(text)).decode() for text in column]
                for name, column in zip(text_names(task), columns, strict=True)
            },
            "tokens": {name: tokens[name].numpy().tolist() for name in INPUT_NAMES},
            "alone": list(range(0, len(texts), 5)),
        }
        answers = self._ask(request)
        expected = task.predict(x)
        largest = 0.0
        for name, answer in answers.items():
            rows = list(range(len(texts)))
            if "alone" in name:
                rows = [int(name.split()[-2])]
            elif "no texts" in name:
                rows = []
            part = {key: value[rows] for key, value in expected.items()}
            largest = max(largest, _compare(name, part, answer, task, tolerance))
        return Verification(len(texts), largest)

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        out, err = self._process.communicate(json.dumps(request) + "\n")
        if self._process.returncode:
            lines = [line for line in err.splitlines() if line.strip()]
            raise ExportError(
                "The export cannot be loaded and asked without keras_bert_zoo: "
                f"{lines[-1] if lines else f'exit code {self._process.returncode}'}"
            )
        return dict(json.loads(out.splitlines()[-1])["answers"])


def hostile_texts(task: Task) -> list[tuple[str | bytes, ...]]:
    """The texts that an export is asked, one tuple of one or two of them a row."""
    special = " in the text ".join(task.tokenizer.special_tokens)
    texts = [*_HOSTILE, special]
    if not task.pair:
        return [(text,) for text in texts]
    return list(zip(texts, texts[5:] + texts[:5], strict=True))


def _compare(
    where: str, expected: dict[str, Any], answer: dict[str, Any], task: Task, tolerance: float
) -> float:
    if set(answer) != set(expected):
        raise ExportError(
            f"The export answers with {sorted(answer)}, the model with {sorted(expected)}."
        )
    largest = 0.0
    for name, wanted in expected.items():
        if wanted.dtype.kind not in "fiu":
            continue
        got = np.asarray(answer[name], np.float32).reshape((-1, *wanted.shape[1:]))
        if got.shape != wanted.shape:
            raise ExportError(
                f"`{name}` of the export ({where}) has shape {got.shape}, expected {wanted.shape}."
            )
        if wanted.size:
            # Written so that NaN, of either, is a difference.
            difference = np.abs(got - wanted) / np.maximum(1, np.abs(wanted))
            largest = max(largest, float(np.max(np.where(difference >= 0, difference, np.inf))))
    if largest > tolerance:
        raise ExportError(
            f"The export ({where}) answers otherwise than the model: scores differ by "
            f"{largest:.2g}, beyond the tolerance of {tolerance:g}."
        )
    if "label" in expected:
        _compare_labels(where, expected, answer, task, tolerance)
    return largest


def _compare_labels(
    where: str, expected: dict[str, Any], answer: dict[str, Any], task: Any, tolerance: float
) -> None:
    wanted = expected["label"]
    got = np.array(answer["label"], dtype=object).reshape(wanted.shape)
    ids = {label: i for i, label in enumerate(task.labels)}
    for row in range(len(wanted)):
        scores = expected["scores"][row]
        if wanted.ndim == 1:  # another label may win where the two were as good as equal
            other = scores[ids[got[row]]] if got[row] in ids else -np.inf
            same = got[row] == wanted[row] or scores.max() - other <= 2 * tolerance
        else:  # labels at the threshold may come and go
            changed = (set(got[row]) ^ set(wanted[row])) - {""}
            same = all(
                label in ids and abs(scores[ids[label]] - task.threshold) <= tolerance
                for label in changed
            )
        if not same:
            raise ExportError(
                f"The export ({where}) answers text {row} with {got[row]!r}, the model with "
                f"{wanted[row]!r}."
            )


def _as_bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8")
