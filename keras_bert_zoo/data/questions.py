"""Questions with their contexts and answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from keras_bert_zoo.data.examples import clipped
from keras_bert_zoo.errors import ConfigError, DataError

__all__ = ["Answer", "QuestionExamples"]


class Answer(NamedTuple):
    """An answer of a question.

    Args:
        text: str. The part of the context that begins at `start`.
        start: int. The offset of the answer in the context, in characters.
    """

    text: str
    start: int


@dataclass(frozen=True)
class QuestionExamples:
    """Questions with their contexts and optional answers.

    Args:
        questions: list of str.
        contexts: list of str. The text that holds the answer of each question.
        answers: for each question a list of its correct answers; an empty list if the context has
            none. None without answers, as for prediction.
        ids: list of str. The ids of the questions. Empty means "1", "2", ...
        rows: list of int. The number of each question in `path`, from 1. Empty means 1, 2, ...
        lines: list of int. The line of each question in `path`; empty if unknown.
        path: str. The file's name for messages; empty for examples without a file.
        misplaced: tuple of str. A message for each answer that was left out; see `read_squad`.
        references: for each question the texts of its correct answers, for scoring; their places
            may be unknown. None: the texts of `answers`.

    Raises:
        DataError: the lists differ in length.
    """

    questions: list[str]
    contexts: list[str]
    answers: list[list[Answer]] | None = None
    ids: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    path: str = ""
    misplaced: tuple[str, ...] = ()
    references: list[list[str]] | None = None

    def __post_init__(self) -> None:
        """Checks the lengths and fills in `rows` and `ids`."""
        if not self.rows:
            object.__setattr__(self, "rows", list(range(1, len(self.questions) + 1)))
        if not self.ids:
            object.__setattr__(self, "ids", [str(row) for row in self.rows])
        for name in ("contexts", "answers", "ids", "rows", "lines", "references"):
            values = getattr(self, name)
            if values is None or (name == "lines" and not values):
                continue
            if len(values) != len(self.questions):
                raise DataError(
                    f"expected {len(self.questions)} {name}, one per question, "
                    f"received {len(values)}"
                )

    def __len__(self) -> int:
        """Counts the questions."""
        return len(self.questions)

    @property
    def columns(self) -> tuple[Sequence[str], ...]:
        """The model's text inputs, one column each."""
        return (self.questions, self.contexts)

    def __getitem__(self, rows: slice) -> "QuestionExamples":
        """Takes a slice, such as `examples[:100]`."""
        if not isinstance(rows, slice):
            raise TypeError(f"examples take a slice, received {type(rows).__name__}; see subset()")
        return self.subset(range(len(self))[rows])

    @property
    def has_unanswerable(self) -> bool:
        """Whether some question has no answer in its context."""
        return any(not texts for texts in self.right_texts() or ())

    def where(self, index: int) -> str:
        """Returns the origin of a question: `file:line: question 7 (id 'q7')`."""
        place = f"{self.path}:{self.lines[index]}" if self.lines else self.path
        question = f"question {self.rows[index]} (id {clipped(self.ids[index])!r})"
        return f"{place}: {question}" if place else question

    def subset(self, indices: Sequence[int] | np.ndarray) -> "QuestionExamples":
        """Returns the questions at `indices`, in that order."""
        chosen = [int(index) for index in indices]
        return QuestionExamples(
            [self.questions[index] for index in chosen],
            [self.contexts[index] for index in chosen],
            None if self.answers is None else [self.answers[index] for index in chosen],
            [self.ids[index] for index in chosen],
            [self.rows[index] for index in chosen],
            [self.lines[index] for index in chosen] if self.lines else [],
            self.path,
            references=self.references and [self.references[index] for index in chosen],
        )

    def right_texts(self) -> list[list[str]] | None:
        """The texts of the correct answers of each question; None without answers."""
        if self.references is not None or self.answers is None:
            return self.references
        return [[answer.text for answer in answers] for answers in self.answers]

    def split(self, fraction: float, seed: int) -> tuple["QuestionExamples", "QuestionExamples"]:
        """Splits the questions in two at random; questions on one context stay together.

        Args:
            fraction: float in (0, 1). The held-out share of the questions, approximated by whole
                contexts.
            seed: int. The same seed gives the same parts.

        Returns:
            Two `QuestionExamples` in the order of the file: the remaining and the held-out
            questions.

        Raises:
            ConfigError: `fraction` is outside (0, 1).
            DataError: one of the parts would be empty.
        """
        if not 0.0 < fraction < 1.0:
            raise ConfigError(
                f"expected a fraction between 0 and 1 to hold out, received {fraction}"
            )
        numbers: dict[str, int] = {}
        groups = np.array([numbers.setdefault(text, len(numbers)) for text in self.contexts])
        sizes = np.bincount(groups, minlength=1) if len(groups) else np.zeros(0, int)
        order = np.random.default_rng(seed).permutation(len(sizes))
        totals = np.cumsum(sizes[order])
        count = int(np.argmin(np.abs(totals - fraction * len(self)))) + 1 if len(sizes) else 0
        if not 0 < count < len(sizes):
            raise DataError(
                f"cannot hold out {fraction:g} of {len(self)} questions on {len(sizes)} contexts: "
                "one part would be empty; give more contexts or another fraction"
            )
        held_out = np.isin(groups, order[:count])
        return self.subset(np.flatnonzero(~held_out)), self.subset(np.flatnonzero(held_out))
