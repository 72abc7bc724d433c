"""Reads questions on texts with their answers from JSON in the form of SQuAD 1.1 and 2.0.

`{"data": [{"paragraphs": [{"context": ..., "qas": [{"id", "question", "answers": [{"text",
"answer_start"}], "is_impossible"}]}]}]}`; `answer_start` counts characters of the context. XQuAD,
MLQA, TyDi QA GoldP, CMRC 2018, KorQuAD 1 and the translations of SQuAD are of this form. Other keys
are left unread.
"""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_bert_zoo.data.examples import clipped
from keras_bert_zoo.data.streams import READ_ERRORS, open_bytes, unreadable
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.files import parse_json
from keras_bert_zoo.validation import is_integer

__all__ = ["Answer", "QuestionExamples", "misplaced_answers", "read_contexts", "read_squad"]

LIMIT_BYTES = 1 << 29
"""Of a file's text: SQuAD 2.0 has 42 MB, MLQA's largest translation 130 MB."""
_CONTAINER_LIMIT = 10_000_000  # lists and objects; SQuAD 2.0 has half a million
_PIECE_BYTES = 1 << 20
_LISTED = 3  # answers that one message names

# A key, not the same word within a string: there the quotes are escaped.
_QUESTION_KEY = re.compile(rb'(?<!\\)"question"\s*:')

_logger = logging.getLogger(__name__)


class Answer(NamedTuple):
    """An answer as data sets have it.

    Args:
        text: str. It stands in the context, from `start` on.
        start: int. Characters of the context before it.
    """

    text: str
    start: int


@dataclass(frozen=True)
class QuestionExamples:
    """Questions, the text to find each answer in, and the answers, where they are known.

    Args:
        questions: list of str.
        contexts: list of str, one a question.
        answers: for each question its answers, all of them right; none: it cannot be answered
            from its context. None where they are not known, as for prediction.
        ids: of the questions, in the file. Empty means "1", "2", ...
        rows: the number of each question in `path`, counted from 1. Empty means 1, 2, ...
        lines: the line on which each question stands in `path`; empty where it is not known.
        path: the file's name for messages; empty for examples that come from no file.
        misplaced: what was left out, one message each; see `read_squad`.
        references: for each question the texts of its right answers, for scoring, also of those
            whose place is not known. None: those of `answers`.

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
                    f"expected as many {name} as questions, which are {len(self.questions)}, "
                    f"but got {len(values)}"
                )

    def __len__(self) -> int:
        """Counts the questions."""
        return len(self.questions)

    def __getitem__(self, rows: slice) -> "QuestionExamples":
        """Takes a slice, such as `examples[:100]`."""
        if not isinstance(rows, slice):
            raise TypeError(f"examples take a slice, got {type(rows).__name__}; see subset()")
        return self.subset(range(len(self))[rows])

    @property
    def has_unanswerable(self) -> bool:
        """Whether a question is known to have no answer in its context."""
        return any(not texts for texts in self.right_texts() or ())

    def where(self, index: int) -> str:
        """Says where a question came from: `file:line: question 7 (id 'q7')`."""
        return _where(
            self.path, self.lines[index] if self.lines else 0, self.rows[index], self.ids[index]
        )

    def subset(self, indices: Sequence[int] | np.ndarray) -> "QuestionExamples":
        """Takes the questions at `indices`, in that order."""
        chosen = [int(index) for index in indices]
        return QuestionExamples(
            [self.questions[index] for index in chosen],
            [self.contexts[index] for index in chosen],
            None if self.answers is None else [self.answers[index] for index in chosen],
            [self.ids[index] for index in chosen],
            [self.rows[index] for index in chosen],
            [self.lines[index] for index in chosen] if self.lines else [],
            self.path,
            references=None
            if self.references is None
            else [self.references[index] for index in chosen],
        )

    def right_texts(self) -> list[list[str]] | None:
        """The texts of the right answers of each question; None where they are not known."""
        if self.references is not None or self.answers is None:
            return self.references
        return [[answer.text for answer in answers] for answers in self.answers]

    def split(self, fraction: float, seed: int) -> tuple["QuestionExamples", "QuestionExamples"]:
        """Parts the questions in two at random, all of one context on the same side.

        Args:
            fraction: float in (0, 1). The second part's share of the questions, as near as whole
                contexts come to it.
            seed: int. The same seed gives the same parts.

        Returns:
            Two `QuestionExamples`, each in the order of the file: the larger rest, and the part
            that was held out.

        Raises:
            ConfigError: `fraction` is outside (0, 1).
            DataError: one of the parts would be empty.
        """
        if not 0.0 < fraction < 1.0:
            raise ConfigError(f"expected a fraction between 0 and 1 to hold out, got {fraction}")
        numbers: dict[str, int] = {}
        groups = np.array([numbers.setdefault(text, len(numbers)) for text in self.contexts])
        sizes = np.bincount(groups, minlength=1) if len(groups) else np.zeros(0, int)
        order = np.random.default_rng(seed).permutation(len(sizes))
        wanted = fraction * len(self)
        counted = np.cumsum(sizes[order])
        count = int(np.argmin(np.abs(counted - wanted))) + 1 if len(sizes) else 0
        if not 0 < count < len(sizes):
            raise DataError(
                f"cannot hold out {fraction:g} of {len(self)} questions on {len(sizes)} contexts: "
                "one part would be empty; give more contexts or another fraction"
            )
        held_out = np.isin(groups, order[:count])
        return self.subset(np.flatnonzero(~held_out)), self.subset(np.flatnonzero(held_out))


def read_squad(
    path: str | os.PathLike[str],
    *,
    answers: bool = True,
    skip_misplaced: bool = False,
    scoring: bool = False,
) -> QuestionExamples:
    """Reads a file in the form of SQuAD 1.1 or 2.0, strictly.

    Args:
        path: of the file, UTF-8; gzipped where it ends in `.gz`.
        answers: bool. False: the answers are not read, and need not be there.
        skip_misplaced: bool. Leave out answers that do not stand in the context where they say, or
            are empty, and questions all of whose answers are such; `misplaced` of what is returned
            lists them. Their texts stay in `references`, which scores are computed with. Otherwise
            they are refused.
        scoring: bool. With `skip_misplaced`, keep also the questions all of whose answers are
            misplaced: scores need texts and no places. Such examples are not for training.

    Returns:
        QuestionExamples, in the order of the file.

    Raises:
        DataError: the file cannot be read or is not of this form, with the place; or answers are
            misplaced, with their number, and line and id of the first.
    """
    name = os.fspath(path)
    data = _read(name)
    root = _parsed(data, name)
    lines = _question_lines(data)
    reader = _Reader(name, answers=answers)
    reader.read(root)
    if len(lines) != len(reader.questions):  # keys written with escapes, or of other objects
        lines = []
    if not reader.questions:
        raise DataError(f"{name}: expected at least one question, but the file has none")
    examples = QuestionExamples(
        reader.questions,
        reader.contexts,
        reader.answers if answers else None,
        reader.ids,
        lines=lines,
        path=name,
    )
    if not answers:
        return examples
    return _placed(examples, reader, skip=skip_misplaced, scoring=scoring)


def read_contexts(path: str | os.PathLike[str]) -> list[str]:
    """Reads the contexts of a file in the form of SQuAD, also those without questions.

    Args:
        path: of the file, as for `read_squad`.

    Returns:
        list of str, in the order of the file, of equal ones the first.

    Raises:
        DataError: the file cannot be read or is not of this form, with the place; or has none.
    """
    name = os.fspath(path)
    paragraphs = _Reader(name, answers=False).paragraphs(_parsed(_read(name), name))
    contexts = list(dict.fromkeys(context for _, _, context in paragraphs))
    if not contexts:
        raise DataError(f"{name}: expected at least one context, but the file has none")
    return contexts


def misplaced_answers(examples: QuestionExamples) -> list[tuple[int, Answer, str]]:
    """Finds answers that do not stand where they say.

    Args:
        examples: with answers.

    Returns:
        for each such answer: the question's index, the answer, and what is wrong with it.
    """
    found = []
    pairs = zip(examples.contexts, examples.answers or [], strict=False)
    for index, (context, answers) in enumerate(pairs):
        for answer in answers:
            end = answer.start + len(answer.text)
            if not answer.text.strip():
                found.append((index, answer, "the answer is empty"))
            elif answer.start < 0 or context[answer.start : end] != answer.text:
                there = clipped(context[max(answer.start, 0) : max(end, 0)])
                wrong = (
                    f"expected {clipped(answer.text)!r} at character {answer.start}, "
                    f"found {there!r}"
                )
                found.append((index, answer, wrong))
    return found


def _placed(
    examples: QuestionExamples, reader: "_Reader", *, skip: bool, scoring: bool
) -> QuestionExamples:
    """Refuses or leaves out what is misplaced."""
    wrong = misplaced_answers(examples)
    messages = [f"{examples.where(index)}: {reason}" for index, _, reason in wrong]
    unmarked = [
        index
        for index, answers in enumerate(examples.answers or [])
        if not answers and not reader.impossible[index]
    ]
    messages += [
        f"{examples.where(index)}: there is no answer, and `is_impossible` is not true"
        for index in unmarked
    ]
    if not messages:
        return examples
    count = sum(map(len, examples.answers or [])) + len(unmarked)
    summary = (
        f"{examples.path}: {len(messages):,} of {count:,} answers are not where they say they are: "
        f"{'; '.join(message.removeprefix(f'{examples.path}:') for message in messages[:_LISTED])}"
        f"{'; ...' if len(messages) > _LISTED else ''}"
    )
    if not skip:
        raise DataError(f"{summary}; correct them, or skip them with `skip_misplaced=True`")
    bad = {(index, answer) for index, answer, _ in wrong}
    kept = [
        [answer for answer in answers if (index, answer) not in bad]
        for index, answers in enumerate(examples.answers or [])
    ]
    texts = [
        [answer.text for answer in answers if answer.text.strip()]
        for answers in examples.answers or []
    ]
    left = texts if scoring else kept
    remaining = [index for index, row in enumerate(left) if row or reader.impossible[index]]
    if not remaining:
        empty = not any(answer.text for answers in examples.answers or [] for answer in answers)
        hint = ": this file is for prediction, its answers are withheld" if empty else ""
        raise DataError(f"{summary}; no question would be left{hint}")
    _logger.warning(
        "%s; skipped, %d of %d questions with them%s",
        summary,
        len(examples) - len(remaining),
        len(examples),
        "; the others are scored by their answers' texts" if scoring else "",
    )
    cleaned = QuestionExamples(
        examples.questions,
        examples.contexts,
        kept,
        examples.ids,
        examples.rows,
        examples.lines,
        examples.path,
        references=texts,
    ).subset(remaining)
    object.__setattr__(cleaned, "misplaced", tuple(messages))
    return cleaned


class _Reader:
    """Collects the questions of a parsed file; every refusal names the place."""

    def __init__(self, name: str, *, answers: bool) -> None:
        self.questions: list[str] = []
        self.contexts: list[str] = []
        self.answers: list[list[Answer]] = []
        self.ids: list[str] = []
        self.impossible: list[bool] = []
        self._name = name
        self._wants_answers = answers

    def paragraphs(self, root: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], str]]:
        """Yields the place of each paragraph, the paragraph, and its context."""
        for i, article in enumerate(self._list(root, "data", "")):
            place = f"data[{i}]"
            for j, paragraph in enumerate(self._list(article, "paragraphs", place)):
                inner = f"{place}.paragraphs[{j}]"
                yield inner, paragraph, self._text(paragraph, "context", inner)

    def read(self, root: dict[str, Any]) -> None:
        for place, paragraph, context in self.paragraphs(root):
            for k, question in enumerate(self._list(paragraph, "qas", place)):
                self._question(question, context, f"{place}.qas[{k}]")

    def _question(self, question: Any, context: str, place: str) -> None:
        text = self._text(question, "question", place)
        identity = self._value(question, "id", place)
        if not isinstance(identity, str) and not is_integer(identity):
            raise self._error(place, "id", "a string or an integer", identity)
        place = f"{place} (id {clipped(str(identity))!r})"
        self.questions.append(text)
        self.contexts.append(context)
        self.ids.append(str(identity))
        if not self._wants_answers:
            return
        impossible = question.get("is_impossible", False)
        if not isinstance(impossible, bool):
            raise self._error(place, "is_impossible", "true or false", impossible)
        answers = []
        # Some files leave the answers of such questions out, or write null.
        listed: list[Any] = []
        if not impossible or question.get("answers") is not None:
            listed = self._list(question, "answers", place)
        for n, answer in enumerate(listed):
            at = f"{place}.answers[{n}]"
            start = self._value(answer, "answer_start", at)
            if not is_integer(start):
                raise self._error(at, "answer_start", "an integer", start)
            answers.append(Answer(self._text(answer, "text", at), start))
        if impossible and not any(answer.text.strip() for answer in answers):
            answers = []  # some files have an empty one, at -1
        if impossible and answers:
            raise DataError(
                f"{self._name}: {place}: `is_impossible` is true, and there are {len(answers)} "
                "answers; expected none, or `is_impossible` false"
            )
        self.answers.append(answers)
        self.impossible.append(impossible)

    def _value(self, parent: Any, key: str, place: str) -> Any:
        if not isinstance(parent, dict):
            raise DataError(
                f"{self._name}: {place or 'the file'}: expected an object with {key!r}, "
                f"got {_kind(parent)}"
            )
        if key not in parent:
            found = ", ".join(repr(clipped(name)) for name in list(parent)[:8]) or "no key"
            raise DataError(
                f"{self._name}: {place or 'the file'}: expected the key {key!r} of SQuAD's format, "
                f"found {found}"
            )
        return parent[key]

    def _list(self, parent: Any, key: str, place: str) -> list[Any]:
        value = self._value(parent, key, place)
        if not isinstance(value, list):
            raise self._error(place, key, "a list", value)
        return value

    def _text(self, parent: Any, key: str, place: str) -> str:
        value = self._value(parent, key, place)
        if not isinstance(value, str):
            raise self._error(place, key, "a string", value)
        return value

    def _error(self, place: str, key: str, expected: str, value: Any) -> DataError:
        return DataError(
            f"{self._name}: {place + ': ' if place else ''}expected {key!r} to be {expected}, "
            f"got {_kind(value)}"
        )


def _where(path: str, line: int, row: int, identity: str) -> str:
    place = f"{path}:{line}: " if line else f"{path}: " if path else ""
    return f"{place}question {row} (id {clipped(identity)!r})"


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    kinds = {bool: "a boolean", str: "a string", list: "a list", dict: "an object"}
    return kinds.get(type(value), f"the number {value!r:.20}")


def _read(name: str) -> bytes:
    """Reads a file's text, not more than is allowed."""
    try:
        if not Path(name).exists():
            raise DataError(f"{name}: there is no such file")
        if not Path(name).is_file():
            raise DataError(f"{name}: expected a file, but this is none")
        with open_bytes(name, name) as file:
            parts, size = [], 0
            # In pieces: `read` would take the memory of the limit at once.
            while size <= LIMIT_BYTES and (part := file.read(_PIECE_BYTES)):
                parts.append(part)
                size += len(part)
    except (*READ_ERRORS, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise unreadable(error, name) from None
    if size > LIMIT_BYTES:
        raise DataError(
            f"{name}: the text is longer than {LIMIT_BYTES:,} bytes; cut the file into several"
        )
    return b"".join(parts).removeprefix(b"\xef\xbb\xbf")


def _parsed(data: bytes, name: str) -> dict[str, Any]:
    try:
        return parse_json(data, name, limit=LIMIT_BYTES, containers=_CONTAINER_LIMIT)
    except ConfigError as error:
        raise DataError(str(error)) from None


def _question_lines(data: bytes) -> list[int]:
    """The line of each `"question"` key."""
    lines = []
    line, place = 1, 0
    for match in _QUESTION_KEY.finditer(data):
        line += data.count(b"\n", place, match.start())
        place = match.start()
        lines.append(line)
    return lines
