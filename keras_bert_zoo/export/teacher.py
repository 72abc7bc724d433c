"""An exported classifier as the teacher of another model."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from keras_bert_zoo.errors import ExportError
from keras_bert_zoo.export.session import ExportSession

_TEXTS_AT_ONCE = 64


class ExportedClassifier:
    """A function from texts to the logits of an exported classifier with one label per text.

    Args:
        path: path of the model or of a version.

    Raises:
        ExportError: there is no export, or it is not such a classifier.

    Example: `distill(ExportedClassifier("saved_models/intents"), student, texts)`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._session = ExportSession(path)
        self._path = os.fspath(path)
        self._answered: tuple[Any, dict[str, np.ndarray]] | None = None
        names = set(self._session.inputs)
        if names not in ({"text"}, {"text", "text_pair"}):
            raise ExportError(
                f"{self._path}: expected an exported text classifier, with the input `text`, "
                f"received one with {', '.join(sorted(names))}."
            )

    def labels_of(self, examples: Any) -> list[str]:
        """Returns the names of the labels in the order of the logits, learned from answers.

        Args:
            examples: Examples; their answers must contain each label.

        Raises:
            ExportError: an answer has no label or several labels, or a label is in no answer.
        """
        answers = self._answers(examples)
        if not {"label", "scores"} <= set(answers) or answers["label"].ndim != 1:
            raise ExportError(
                f"{self._path}: expected answers with one `label` and `scores`, received "
                f"{', '.join(sorted(answers))}."
            )
        best = answers["scores"].argmax(1)
        names = {int(i): label.decode() for i, label in zip(best, answers["label"], strict=True)}
        count = answers["scores"].shape[1]
        missing = sorted(set(range(count)) - set(names))
        if missing:
            raise ExportError(
                f"{self._path}: expected texts with each of the {count} labels among the answers, "
                f"to learn the names of the labels; received none with {len(missing)} of them. "
                "Pass more texts, or the directory that was exported."
            )
        return [names[i] for i in range(count)]

    def __call__(self, examples: Any) -> np.ndarray:
        """Returns logits, float32 (examples, labels): logarithms of the probabilities."""
        scores = self._answers(examples)["scores"]
        return np.log(np.maximum(scores, np.finfo(np.float32).tiny)).astype(np.float32)

    def _answers(self, examples: Any) -> dict[str, np.ndarray]:
        if self._answered is None or self._answered[0] is not examples:
            self._answered = examples, self._run(examples)
        return self._answered[1]

    def _run(self, examples: Any) -> dict[str, np.ndarray]:
        columns = dict(zip(sorted(self._session.inputs), examples.columns, strict=False))
        if len(columns) != len(self._session.inputs) or len(examples.columns) != len(columns):
            raise ExportError(
                f"{self._path}: expected {' and '.join(self._session.inputs)}, received "
                f"{len(examples.columns)} columns of texts."
            )
        parts = [
            self._session.run(
                {name: column[i : i + _TEXTS_AT_ONCE] for name, column in columns.items()}
            )
            for i in range(0, len(examples), _TEXTS_AT_ONCE)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
