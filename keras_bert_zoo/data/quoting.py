"""Splits lines into rows of fields: with quoting, without, or with detection of quoting."""

import csv
import logging
import re
from collections import deque
from collections.abc import Iterator, Sequence

from keras_bert_zoo.data.lines import LINE_BYTES, Lines
from keras_bert_zoo.errors import DataError

__all__ = ["LineSource", "all_quoted", "quoted_rows", "recognized_rows", "unquoted_rows"]

# The part of a TSV that is read ahead to detect quoted fields.
_WINDOW_CHARACTERS = 1 << 20
# Python's default limit is 131,072 characters; this is the largest limit that fits the C long of
# every platform.
_FIELD_LIMIT = 2**31 - 1
_WHOLE = re.compile(r'"([^"]|"")*"')

_logger = logging.getLogger(__name__)


class LineSource:
    """An iterator of lines that can be read ahead; counts the lines that were read."""

    def __init__(self, lines: Lines) -> None:
        self.name = lines.name
        self.last = 0
        self._lines = iter(lines)
        self._ahead: deque[str] = deque()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._ahead.popleft() if self._ahead else next(self._lines)
        self.last += 1
        return line

    def peek(self) -> str | None:
        """The next line; None at the end."""
        if not self._ahead:
            line = next(self._lines, None)
            if line is None:
                return None
            self._ahead.append(line)
        return self._ahead[0]

    def window(self) -> tuple[list[str], bool]:
        """The next lines, up to `_WINDOW_CHARACTERS`, and whether they are the last ones."""
        characters = sum(map(len, self._ahead))
        while characters < _WINDOW_CHARACTERS:
            line = next(self._lines, None)
            if line is None:
                return list(self._ahead), True
            self._ahead.append(line)
            characters += len(line)
        return list(self._ahead), False

    def put_back(self, lines: Sequence[str]) -> None:
        """Puts back lines, so that they are read again."""
        self._ahead.extendleft(reversed(lines))
        self.last -= len(lines)


def quoted_rows(source: LineSource, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the first line and the fields of each row, with CSV quoting."""
    # The limit is never lowered: that could break a reader in another thread.
    csv.field_size_limit(max(csv.field_size_limit(), _FIELD_LIMIT))
    record = _Record(source)
    # Strict: otherwise a stray quote swallows the rest of the file as one field.
    reader = csv.reader(record, delimiter=delimiter, strict=True)
    while True:
        start = record.begin()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reason = str(error)
            if "unexpected end of data" in reason:
                reason = "the quote that opens in this row is never closed"
            elif "new-line character" in reason:
                reason = "an unquoted field holds a carriage return"
            raise DataError(f"{source.name}:{start}: not valid CSV: {reason}") from None
        yield start, fields


class _Record:
    """Passes lines to a CSV reader, with a bounded number of characters per record."""

    def __init__(self, source: LineSource) -> None:
        self._source = source
        self._start = 1
        self._characters = 0

    def begin(self) -> int:
        """Begins a record; returns its first line."""
        self._start, self._characters = self._source.last + 1, 0
        return self._start

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._source)
        self._characters += len(line)
        if self._characters > LINE_BYTES:
            raise DataError(
                f"{self._source.name}:{self._start}: expected a row of at most {LINE_BYTES:,} "
                "characters, received a longer one; check for a quote that is never closed"
            )
        return line


def unquoted_rows(source: LineSource, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the number and the fields of each line; quotes are ordinary characters."""
    for line in source:
        yield source.last, _split(line, delimiter)


def _split(line: str, delimiter: str) -> list[str]:
    return line.removesuffix("\n").removesuffix("\r").split(delimiter)


def all_quoted(line: str, delimiter: str, columns: Sequence[str] | None) -> bool:
    """Whether all fields of a TSV's first line are quoted."""
    fields = _split(line, delimiter)
    return (columns is None or len(fields) > 1) and all(_WHOLE.fullmatch(field) for field in fields)


def recognized_rows(
    source: LineSource, delimiter: str, columns: Sequence[str] | None
) -> Iterator[tuple[int, list[str]]]:
    """Reads a TSV; fields may be quoted if necessary, as Python's csv and pandas do.

    Many TSV files have quotes that are part of the text. So quotes are ordinary characters unless
    all quotes of the part that is read ahead enclose fields that hold a delimiter, a quote or a
    line end, quotes in these fields are doubled, and every row then has the right width.
    """
    width = None if columns is None else len(columns)
    quoted: bool | None = None
    while (line := source.peek()) is not None:
        row = source.last + 1
        if quoted is None and '"' in line and width is not None:
            quoted = _has_quoted_fields(*source.window(), delimiter, width)
            if quoted:
                _logger.info("%s:%d: fields are quoted from here on", source.name, row)
        next(source)
        fields = None
        if quoted and '"' in line and width is not None:
            taken: list[str] = []
            fields = _quoted_row(line, _Taken(source, taken), delimiter, width)
            if fields is None or len(fields) != width:
                fields = None
                source.put_back(taken)
        yield row, _split(line, delimiter) if fields is None else fields
        if width is None:
            width = len(_split(line, delimiter))


class _Taken:
    """Yields further lines of a row and records them, so that they can be put back."""

    def __init__(self, source: Iterator[str], taken: list[str]) -> None:
        self._source = source
        self._taken = taken
        self._characters = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._characters > LINE_BYTES:
            raise StopIteration
        line = next(self._source)
        self._taken.append(line)
        self._characters += len(line)
        return line


def _has_quoted_fields(lines: list[str], is_end: bool, delimiter: str, width: int) -> bool:
    """Whether all rows are complete if their quotes enclose fields."""
    remaining = iter(lines)
    has_quotes = False
    for line in remaining:
        if not line.strip():
            continue
        if '"' not in line:
            fields: list[str] | None = _split(line, delimiter)
        else:
            taken: list[str] = []
            fields = _quoted_row(line, _Taken(remaining, taken), delimiter, width)
            if taken and all(len(_split(part, delimiter)) == width for part in (line, *taken)):
                return False  # without quoting, each line is a complete row
            if fields is None and not is_end and next(remaining, None) is None:
                return has_quotes  # the row ends after the lines that were read ahead
            has_quotes = True
        if fields is None or len(fields) != width:
            return False
    return has_quotes


def _quoted_row(
    line: str, following: Iterator[str], delimiter: str, width: int
) -> list[str] | None:
    """The fields of a row with quoted fields; None if its quotes do not enclose fields."""
    fields: list[str] = []
    text, at = line, 0
    while True:
        if not text.startswith('"', at):
            end = text.find(delimiter, at)
            is_last = end < 0
            field = text[at:].removesuffix("\n").removesuffix("\r") if is_last else text[at:end]
            if '"' in field:
                return None
            fields.append(field)
            if is_last:
                return fields
            at = end + 1
            continue
        close, search = -1, at + 1
        while close < 0:
            place = text.find('"', search)
            if place < 0:
                search = len(text)
                more = next(following, None)
                if more is None:
                    return None
                text += more
            elif text.startswith('"', place + 1):
                search = place + 2
            else:
                close = place
        field = text[at + 1 : close].replace('""', '"')
        needs_quotes = any(sign in field for sign in (delimiter, '"', "\n", "\r"))
        if width == 1:  # a line end is ambiguous; a lone empty field is written as ""
            needs_quotes = ("\n" not in field and needs_quotes) or not field
        if not needs_quotes:
            return None
        fields.append(field)
        rest = text[close + 1 : close + 3]
        if not rest.startswith(delimiter):
            return fields if rest in ("", "\n", "\r\n") else None
        at = close + 2
