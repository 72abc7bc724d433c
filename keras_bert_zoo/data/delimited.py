"""Rows of CSV and TSV files, including the variants of spreadsheets and pandas.

Variants: another delimiter, a line `sep=;`, a column of row numbers without a name, rows of empty
cells, delimiters at the ends of lines, and quoted fields in TSV.
"""

import csv
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from keras_bert_zoo.data.examples import clipped, closest
from keras_bert_zoo.data.lines import Lines
from keras_bert_zoo.data.quoting import (
    LineSource,
    all_quoted,
    quoted_rows,
    recognized_rows,
    unquoted_rows,
)
from keras_bert_zoo.errors import ConfigError, DataError, MissingColumnError

__all__ = ["delimited_records", "missing_column"]

_DELIMITERS = {"csv": ",", "tsv": "\t"}
_OTHER_DELIMITERS = (";", "\t", "|", ",")
_SEPARATOR_LINE = re.compile(r'"?sep=([^"\r\n])"?\r?\n?', re.IGNORECASE)  # Excel's
_UNNAMED = re.compile(r"(Unnamed: \d+(_level_\d+)?)?")  # pandas' name of a column without a name
_COLUMN_LIMIT = 1_000_000
_LISTED_COLUMNS = 30

_logger = logging.getLogger(__name__)


def delimited_records(
    lines: Lines,
    names: Sequence[str],
    *,
    format: str,
    delimiter: str | None,
    quoting: bool | None,
    columns: Sequence[str] | None,
) -> Iterator[tuple[int, list[str]]]:
    """Reads the named columns.

    Args:
        lines: the lines of the file.
        names: the columns to read.
        format: "csv" or "tsv".
        delimiter: str or None. One character. None: the delimiter of the format, or another one
            that splits the header into the named columns.
        quoting: bool or None. Whether `"` quotes fields. None: always in CSV; in TSV only if all
            quotes are around fields that hold tabs, quotes or line ends.
        columns: the column names of a file without a header, or None.

    Yields:
        the first line of each row, and the fields in the order of `names`.

    Raises:
        ConfigError: `delimiter` is not one character.
        DataError: while iterating, with file and line.
    """
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise ConfigError(f"expected `delimiter` to be one character, received {delimiter!r}")
    return _records(LineSource(lines), list(names), format, delimiter, quoting, columns)


def missing_column(
    where: str, columns: Collection[str], missing: str, hint: str = ""
) -> MissingColumnError:
    """Returns an error about a missing column; it lists the columns and suggests a similar name.

    Args:
        where: str. File and line.
        columns: the columns of the file.
        missing: str. The missing column.
        hint: str. Another hint, for use without a similar name.
    """
    names = list(columns)
    similar = closest(missing, names)
    if similar is not None:
        hint = f"; did you mean {similar!r}?"
    return MissingColumnError(
        f"{where}: expected a column {clipped(missing)!r}, found {_listed(names) or 'none'}{hint}",
        missing,
    )


def _listed(names: Sequence[str]) -> str:
    shown = [repr(clipped(name)) for name in names[:_LISTED_COLUMNS]]
    if len(names) > _LISTED_COLUMNS:
        shown.append(f"and {len(names) - _LISTED_COLUMNS:,} more")
    return ", ".join(shown)


def _records(
    source: LineSource,
    names: list[str],
    format: str,
    delimiter: str | None,
    quoting: bool | None,
    columns: Sequence[str] | None,
) -> Iterator[tuple[int, list[str]]]:
    if columns is None:
        while (line := source.peek()) is not None and not line.strip():
            next(source)  # blank lines above the header
    first = source.peek()
    if first is not None and (match := _SEPARATOR_LINE.fullmatch(first)):
        next(source)
        delimiter = delimiter or match[1]
        first = source.peek()
    if delimiter is None:
        delimiter = _DELIMITERS[format]
        if first is not None and not _fits(first, delimiter, names, columns):
            delimiter = _other_delimiter(source, first, delimiter, names, columns)
    if quoting is None:
        quoting = format == "csv" or (first is not None and all_quoted(first, delimiter, columns))
        rows = (
            quoted_rows(source, delimiter)
            if quoting
            else recognized_rows(source, delimiter, columns)
        )
    else:
        rows = quoted_rows(source, delimiter) if quoting else unquoted_rows(source, delimiter)

    header = None if columns is None else _Header(source.name, list(columns), names, delimiter)
    for row, fields in rows:
        if header is None:
            header_names = [column.strip() for column in fields]
            header = _Header(f"{source.name}:{row}", header_names, names, delimiter, headed=True)
            continue
        values = header.values(f"{source.name}:{row}", row, fields)
        if values is not None:
            yield row, values
    if header is not None:
        header.report(source.name)


class _Header:
    """The columns of a file; selects fields from its rows."""

    def __init__(
        self,
        where: str,
        names: list[str],
        selected: Sequence[str],
        delimiter: str,
        *,
        headed: bool = False,
    ) -> None:
        if len(names) > _COLUMN_LIMIT:
            raise DataError(f"{where}: expected at most {_COLUMN_LIMIT:,} columns, received more")
        chosen = set(selected)
        named = [name for name in names if name in chosen or not _UNNAMED.fullmatch(name)]
        twice = sorted(name for name, count in Counter(named).items() if count > 1)
        if twice:
            raise DataError(
                f"{where}: expected each column name once, but these repeat: {_listed(twice)}"
            )
        self._unnamed = len(names) - len(named)
        self._kind = "in the header" if headed else "named"
        hint = "; if this is no header but a row, name the columns with `columns`"
        places = {name: index for index, name in enumerate(names)}
        for name in selected:
            if name not in places:
                raise missing_column(where, named, name, hint if headed else "")
        self._places = [places[name] for name in selected]
        self._width = len(names)
        # Columns without a name may be missing at the end of a row.
        self._least = max((places[name] + 1 for name in named), default=0)
        self._extra: int | None = None  # the empty fields of the first row beyond the header
        self._delimiter = delimiter
        self._empty_rows = self._first_empty = 0

    def values(self, where: str, row: int, fields: list[str]) -> list[str] | None:
        """The selected fields; None for an empty row."""
        if not fields or fields == [""]:
            if self._width > 1:
                return None  # a blank line
            fields = [""]
        elif self._width > 1 and not any(map(str.strip, fields)):
            self._first_empty = self._first_empty or row
            self._empty_rows += 1
            return None
        extra = max(0, len(fields) - self._width)
        if self._extra is None:
            self._extra = extra
        fits = self._least <= len(fields) and extra in (0, self._extra)
        if not fits or (extra and any(map(str.strip, fields[self._width :]))):
            raise DataError(
                f"{where}: expected {self._width} columns as {self._kind}, received {len(fields)}; "
                f"check for an unquoted {self._delimiter!r} or a missing field"
            )
        return [fields[place] for place in self._places]

    def report(self, name: str) -> None:
        """Logs the skipped columns and rows."""
        skipped = []
        if self._unnamed:
            skipped.append(f"{self._unnamed} {_plural('column', self._unnamed)} without a name")
        if self._empty_rows:
            rows = _plural("row", self._empty_rows)
            skipped.append(
                f"{self._empty_rows} {rows} of empty cells, the first on line {self._first_empty}"
            )
        if skipped:
            _logger.warning("%s: skipped %s", name, " and ".join(skipped))


def _plural(noun: str, count: int) -> str:
    return noun if count == 1 else f"{noun}s"


# === Delimiters ===


def _fits(line: str, delimiter: str, names: Sequence[str], columns: Sequence[str] | None) -> bool:
    """Whether a delimiter splits a file's first line into the columns."""
    try:
        fields = next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter), [])
    except csv.Error:
        return False
    if columns is not None:
        return len(fields) == len(columns) or fields[len(columns) :] == [""]
    return set(names) <= {field.strip() for field in fields}


def _other_delimiter(
    source: LineSource,
    line: str,
    usual: str,
    names: Sequence[str],
    columns: Sequence[str] | None,
) -> str:
    """Another delimiter that splits the line into the columns; else the usual one."""
    for delimiter in _OTHER_DELIMITERS:
        if delimiter in line and delimiter != usual and _fits(line, delimiter, names, columns):
            _logger.warning(
                "%s: fields are separated by %r, not by %r", source.name, delimiter, usual
            )
            return delimiter
    return usual
