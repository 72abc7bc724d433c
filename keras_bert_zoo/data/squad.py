"""Reads questions with contexts and answers from JSON in the format of SQuAD 1.1 and 2.0.

`{"data": [{"paragraphs": [{"context": ..., "qas": [{"id", "question", "answers": [{"text",
"answer_start"}], "is_impossible"}]}]}]}`; `answer_start` counts characters of the context. XQuAD,
MLQA, TyDi QA GoldP, CMRC 2018, KorQuAD 1 and the translations of SQuAD have this format. Other keys
are ignored.
"""

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_bert_zoo.data.examples import clipped
from keras_bert_zoo.data.questions import Answer, QuestionExamples
from keras_bert_zoo.data.streams import READ_ERRORS, open_bytes, unreadable
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.files import parse_json
from keras_bert_zoo.validation import is_integer

__all__ = ["Answer", "QuestionExamples", "misplaced_answers", "read_contexts", "read_squad"]

LIMIT_BYTES = 1 << 29
"""The size limit of a file's text: SQuAD 2.0 has 42 MB, MLQA's largest translation 130 MB."""
_CONTAINER_LIMIT = 10_000_000  # lists and objects; SQuAD 2.0 has half a million
_PIECE_BYTES = 1 << 20
_LISTED = 3  # the number of answers that a message lists

# Matches the key, but not the word within a string, where its quotes are escaped.
_QUESTION_KEY = re.compile(rb'(?<!\\)"question"\s*:')

_logger = logging.getLogger(__name__)


def read_squad(
    path: str | os.PathLike[str],
    *,
    answers: bool = True,
    skip_misplaced: bool = False,
    scoring: bool = False,
) -> QuestionExamples:
    """Reads a file in the format of SQuAD 1.1 or 2.0, strictly.

    Args:
        path: the name of a UTF-8 file; gzipped if it ends in `.gz`.
        answers: bool. Whether to read the answers; if False, the file need not have them.
        skip_misplaced: bool. Whether to skip answers that are empty or not at their place in the
            context, and questions with only such answers, instead of raising an error. The result
            lists them in `misplaced`, and keeps their texts in `references` for scoring.
        scoring: bool. With `skip_misplaced`, whether to keep questions with only misplaced
            answers: scoring needs no places. Do not train on such examples.

    Returns:
        QuestionExamples, in the order of the file.

    Raises:
        DataError: the file cannot be read or has another format, with the place; or answers are
            misplaced, with their number and the first ones.
    """
    name = os.fspath(path)
    data = _read(name)
    root = _parsed(data, name)
    lines = _question_lines(data)
    reader = _Reader(name, answers=answers)
    reader.read(root)
    if len(lines) != len(reader.questions):  # keys with escapes, or keys of other objects
        lines = []
    if not reader.questions:
        raise DataError(f"{name}: expected at least one question, received none")
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
    """Reads the contexts of a file in the format of SQuAD, also contexts without questions.

    Args:
        path: see `read_squad`.

    Returns:
        list of str, the distinct contexts in the order of the file.

    Raises:
        DataError: the file cannot be read, has another format, or has no contexts.
    """
    name = os.fspath(path)
    paragraphs = _Reader(name, answers=False).paragraphs(_parsed(_read(name), name))
    contexts = list(dict.fromkeys(context for _, _, context in paragraphs))
    if not contexts:
        raise DataError(f"{name}: expected at least one context, received none")
    return contexts


def misplaced_answers(examples: QuestionExamples) -> list[tuple[int, Answer, str]]:
    """Finds answers that are empty or not at their place in the context.

    Args:
        examples: QuestionExamples, with answers.

    Returns:
        list of (index of the question, answer, error).
    """
    misplaced = []
    pairs = zip(examples.contexts, examples.answers or [], strict=False)
    for index, (context, answers) in enumerate(pairs):
        for answer in answers:
            end = answer.start + len(answer.text)
            if not answer.text.strip():
                misplaced.append((index, answer, "expected an answer, received an empty one"))
            elif answer.start < 0 or context[answer.start : end] != answer.text:
                actual = clipped(context[max(answer.start, 0) : max(end, 0)])
                error = (
                    f"expected {clipped(answer.text)!r} at character {answer.start}, "
                    f"received {actual!r}"
                )
                misplaced.append((index, answer, error))
    return misplaced


def _placed(
    examples: QuestionExamples, reader: "_Reader", *, skip: bool, scoring: bool
) -> QuestionExamples:
    """Raises an error for misplaced answers, or skips them."""
    misplaced = misplaced_answers(examples)
    messages = [f"{examples.where(index)}: {error}" for index, _, error in misplaced]
    unmarked = [
        index
        for index, answers in enumerate(examples.answers or [])
        if not answers and not reader.impossible[index]
    ]
    messages += [
        f"{examples.where(index)}: expected an answer or `is_impossible` true, received neither"
        for index in unmarked
    ]
    if not messages:
        return examples
    count = sum(map(len, examples.answers or [])) + len(unmarked)
    summary = (
        f"{examples.path}: {len(messages):,} of {count:,} answers are misplaced or missing: "
        f"{'; '.join(message.removeprefix(f'{examples.path}:') for message in messages[:_LISTED])}"
        f"{'; ...' if len(messages) > _LISTED else ''}"
    )
    if not skip:
        raise DataError(f"{summary}; correct them, or skip them with `skip_misplaced=True`")
    dropped = {(index, answer) for index, answer, _ in misplaced}
    placed = [
        [answer for answer in answers if (index, answer) not in dropped]
        for index, answers in enumerate(examples.answers or [])
    ]
    texts = [
        [answer.text for answer in answers if answer.text.strip()]
        for answers in examples.answers or []
    ]
    usable = texts if scoring else placed
    remaining = [index for index, row in enumerate(usable) if row or reader.impossible[index]]
    if not remaining:
        empty = not any(answer.text for answers in examples.answers or [] for answer in answers)
        hint = "; the file has no answers and is only for prediction" if empty else ""
        raise DataError(f"{summary}; no question is left without them{hint}")
    _logger.warning(
        "%s; skipped them and %d of %d questions%s",
        summary,
        len(examples) - len(remaining),
        len(examples),
        "; the others are scored by the texts of their answers" if scoring else "",
    )
    cleaned = QuestionExamples(
        examples.questions,
        examples.contexts,
        placed,
        examples.ids,
        examples.rows,
        examples.lines,
        examples.path,
        references=texts,
    ).subset(remaining)
    object.__setattr__(cleaned, "misplaced", tuple(messages))
    return cleaned


class _Reader:
    """Collects the questions of a parsed file; every error names the place."""

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
        # For impossible questions, some files have no answers or null.
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
            answers = []  # some files have an empty answer at -1
        if impossible and answers:
            raise DataError(
                f"{self._name}: {place}: expected no answers because `is_impossible` is true, "
                "received "
                f"{len(answers)}; correct one of them"
            )
        self.answers.append(answers)
        self.impossible.append(impossible)

    def _value(self, parent: Any, key: str, place: str) -> Any:
        if not isinstance(parent, dict):
            raise DataError(
                f"{self._name}: {place or 'the file'}: expected an object with {key!r}, "
                f"received {_kind(parent)}"
            )
        if key not in parent:
            keys = ", ".join(repr(clipped(name)) for name in list(parent)[:8]) or "no key"
            raise DataError(
                f"{self._name}: {place or 'the file'}: expected the key {key!r} of SQuAD's format, "
                f"received {keys}"
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
            f"received {_kind(value)}"
        )


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    kinds = {bool: "a boolean", str: "a string", list: "a list", dict: "an object"}
    return kinds.get(type(value), f"the number {value!r:.20}")


def _read(name: str) -> bytes:
    """Reads a file's text, up to the limit."""
    try:
        if not Path(name).exists():
            raise DataError(f"{name}: there is no such file")
        if not Path(name).is_file():
            raise DataError(
                f"{name}: expected a file, received a directory or another kind of path"
            )
        with open_bytes(name, name) as file:
            parts, size = [], 0
            # In pieces, because one large `read` may allocate the memory of the limit at once.
            while size <= LIMIT_BYTES and (part := file.read(_PIECE_BYTES)):
                parts.append(part)
                size += len(part)
    except (*READ_ERRORS, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise unreadable(error, name) from None
    if size > LIMIT_BYTES:
        raise DataError(
            f"{name}: expected a text of at most {LIMIT_BYTES:,} bytes, "
            "received a longer one; split "
            "the file"
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
