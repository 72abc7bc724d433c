"""The objects of a JSON file: one per line, or all in one list."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from keras_bert_zoo.data.examples import clipped
from keras_bert_zoo.data.lines import LINE_BYTES, Lines
from keras_bert_zoo.data.streams import name_of
from keras_bert_zoo.errors import DataError

__all__ = ["json_records", "shown"]

# An empty list is two characters of JSON and sixty bytes of memory.
_CONTAINER_LIMIT = 1_000_000  # lists and objects per record
_FILE_CONTAINER_LIMIT = 10_000_000  # per file, or one per `_CONTAINER_CHARACTERS` if that is more
_CONTAINER_CHARACTERS = 8  # an annotated entity has more
_PIECE_CHARACTERS = 1 << 18
# The longest token, escape or number that the end of a piece can cut.
_BROKEN_CHARACTERS = 100

_WHITE = " \t\r\n"
_SPACE = re.compile(r"[ \t\r\n]*")


def json_records(
    path: str | os.PathLike[str] | BinaryIO, *, encoding: str = "utf-8"
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the objects of a file with their first lines.

    The file is read once, in pieces. Memory holds one record, of at most 16,777,216 characters.

    Args:
        path: the file's name, with or without `.gz`, or a binary file object.
        encoding: str.

    Yields:
        the line, from 1, and the object.

    Raises:
        ConfigError: unknown encoding.
        DataError: the file is not valid JSON; the message names file and line.
    """
    lines = Lines(path, name_of(path, "-"), encoding, in_pieces=True)
    pieces = iter(lines)
    budget = _Budget(lines.name)
    for piece in pieces:
        begin = piece.lstrip(_WHITE)
        if not begin:
            continue
        if begin.startswith("["):
            yield from _of_list(_Source(lines, pieces, begin[1:], budget))
        else:
            yield from _of_lines(lines, pieces, piece, budget)


def shown(value: Any) -> str:
    """Formats a value as JSON, shortened for a message."""
    return clipped(json.dumps(value, ensure_ascii=False, default=str))


class _Budget:
    """Limits the number of brackets: each may take sixty bytes of memory."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._characters = self._containers = 0

    def check(self, text: str, line: int, *, counted: int = 0) -> None:
        """Checks a text before it is parsed; its first `counted` characters are in the sums."""
        containers = text.count("[") + text.count("{")
        if containers > _CONTAINER_LIMIT:
            raise DataError(
                f"{self._name}:{line}: expected at most {_CONTAINER_LIMIT:,} lists and objects in "
                "a record, received more"
            )
        self._characters += len(text) - counted
        self._containers += text.count("[", counted) + text.count("{", counted)
        if self._containers > max(_FILE_CONTAINER_LIMIT, self._characters // _CONTAINER_CHARACTERS):
            raise DataError(
                f"{self._name}:{line}: expected at most {_FILE_CONTAINER_LIMIT:,} lists and "
                "objects up to here, received more; split the file"
            )


def _of_lines(
    lines: Lines, pieces: Iterator[str], piece: str | None, budget: _Budget
) -> Iterator[tuple[int, dict[str, Any]]]:
    while piece is not None:
        line = piece
        if not line.endswith("\n"):  # a long line, or the last one
            parts, length = [line], len(line)
            while not parts[-1].endswith("\n") and (more := next(pieces, None)) is not None:
                parts.append(more)
                length += len(more)
                if length > LINE_BYTES:
                    raise lines.too_long()
            line = "".join(parts)
        if line.strip(_WHITE):
            yield lines.last, _parsed_line(line, f"{lines.name}:{lines.last}", lines.last, budget)
        piece = next(pieces, None)


def _parsed_line(line: str, where: str, number: int, budget: _Budget) -> dict[str, Any]:
    budget.check(line, number)
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where}: not valid JSON: {error}; expected an object on each line, or one list "
            "of objects"
        ) from None
    if not isinstance(record, dict):
        raise DataError(f"{where}: expected a JSON object on each line, received {shown(record)}")
    return record


class _Source:
    """The text of a file after the opening bracket, read in pieces on demand."""

    def __init__(self, lines: Lines, pieces: Iterator[str], text: str, budget: _Budget) -> None:
        self.name = lines.name
        self.text = text
        self.at = 0
        self._line, self._line_at = lines.last, 0  # a line and its position in the text
        self._pieces = pieces
        self._budget = budget
        self._counted = 0  # the characters that the budget has counted

    def line(self, at: int | None = None) -> int:
        """The line of a position in the text; positions must not decrease between calls."""
        at = self.at if at is None else at
        self._line += self.text.count("\n", self._line_at, at)
        self._line_at = at
        return self._line

    def sign(self) -> str:
        """The next character that is not white space; empty at the end."""
        while True:
            self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.text) or not self._grow():
                return self.text[self.at : self.at + 1]

    def record(self) -> dict[str, Any]:
        """Parses the record at the current position."""
        while True:
            if not self._counted:
                self._count()
            try:
                record, self.at = json.JSONDecoder().raw_decode(self.text, self.at)
                break
            except json.JSONDecodeError as error:
                near_end = error.pos >= len(self.text) - _BROKEN_CHARACTERS
                broken = near_end or error.msg.startswith("Unterminated")
                if broken and len(self.text) - self.at > LINE_BYTES:
                    raise DataError(
                        f"{self.name}:{self.line()}: expected a record of at most {LINE_BYTES:,} "
                        "characters, received a longer one; shorten the texts"
                    ) from None
                if broken and self._grow():
                    continue
                raise self.invalid(error.msg, error.pos) from None
            except (ValueError, RecursionError) as error:  # huge numbers, deep nesting
                raise self.invalid(str(error)) from None
        if not isinstance(record, dict):
            raise DataError(
                f"{self.name}:{self.line()}: expected a list of objects, "
                f"received {shown(record)} in it"
            )
        return record

    def invalid(self, reason: str, at: int | None = None) -> DataError:
        """Returns an error about invalid JSON at a position."""
        return DataError(f"{self.name}:{self.line(at)}: not valid JSON: {reason}")

    def _grow(self) -> bool:
        """Reads more text, at least as much as is left; False at the end of the file."""
        self.line()
        parts = [self.text[self.at :]]
        self._line_at = 0
        self._counted, self.at = len(parts[0]), 0
        size, length = max(self._counted, _PIECE_CHARACTERS), 0
        while length < size and (piece := next(self._pieces, None)) is not None:
            parts.append(piece)
            length += len(piece)
        self.text = "".join(parts)
        if length:
            self._count()
        return length > 0

    def _count(self) -> None:
        self._budget.check(self.text, self._line, counted=self._counted)
        self._counted = len(self.text)


def _of_list(source: _Source) -> Iterator[tuple[int, dict[str, Any]]]:
    closed = source.sign() == "]"
    while not closed:
        source.sign()
        line = source.line()
        yield line, source.record()
        sign = source.sign()
        if sign not in (",", "]"):
            raise source.invalid("expected a comma or a closing bracket")
        closed = sign == "]"
        source.at += not closed
    source.at += 1
    if source.sign():
        raise DataError(f"{source.name}: not valid JSON: expected nothing after the list")
