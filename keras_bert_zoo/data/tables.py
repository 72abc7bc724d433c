"""Reads texts and labels from CSV, TSV and JSON Lines files with named columns, and plain text.

A row that cannot be used is an error that names the file and the line: a reader that drops or
repairs rows in silence spoils a training set without anyone noticing.
"""

import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from keras_bert_zoo.data.delimited import delimited_records, missing_column
from keras_bert_zoo.data.examples import Examples, LabelKind, Labels
from keras_bert_zoo.data.fields import Field, json_type
from keras_bert_zoo.data.lines import Lines
from keras_bert_zoo.errors import ConfigError, DataError

__all__ = ["Field", "TableFormat", "read_table", "read_table_in_parts", "table_records"]

TableFormat = Literal["csv", "tsv", "jsonl", "text"]

_FORMATS: dict[str, TableFormat] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_LABEL_KINDS = ("single", "multi", "float")
# An empty list is two characters of JSON and sixty bytes of memory.
_CONTAINER_LIMIT = 1_000_000

_logger = logging.getLogger(__name__)


def read_table(
    path: str | os.PathLike[str] | BinaryIO,
    *,
    text: str = "text",
    text_pair: str | None = None,
    label: str | None = "label",
    label_kind: LabelKind = "single",
    label_separator: str = ",",
    format: TableFormat | None = None,
    delimiter: str | None = None,
    quoting: bool | None = None,
    columns: Sequence[str] | None = None,
    encoding: str = "utf-8",
) -> Examples:
    """Reads the named columns of a CSV, TSV or JSON Lines file, plain or gzipped.

    CSV and TSV files need a header, or `columns`. Quoted CSV fields may hold line ends. TSV fields
    are taken as they stand, quotes included, unless `quoting` is set or all quotes in the file are
    those that pandas sets. Blank lines are skipped, except in a file of one column, where a blank
    line is an empty text. So are rows of empty cells and columns without a name; how many is logged
    once. A byte order mark and Excel's line `sep=;` are dropped. An empty text is legal; how many
    there are is logged once. A line has at most 16,777,216 bytes.

    Args:
        path: the file's name, or a binary file object such as `sys.stdin.buffer`.
        text: str. The column (in JSON Lines: the key) of the text.
        text_pair: str or None. The column of the second text, for tasks on pairs.
        label: str or None. The column of the label; None reads no labels.
        label_kind: "single": one name, surrounding spaces dropped; JSON strings, integers and
            booleans. "multi": any number of names; in JSON a list, or a string to be separated,
            which may also be a list as Python or JSON writes it: `['a', 'b']`, `[]`.
            "float": a finite number.
        label_separator: str. What stands between the names of one multi-label field.
        format: "csv", "tsv", "jsonl"; "text", one text a line without labels; or None to see it
            from the file's name.
        delimiter: str or None. One character between CSV or TSV fields; None is that of the format,
            or the one of `;`, tab, `|` and `,` with which the header has the columns.
        quoting: bool or None. Whether `"` quotes fields; None: in CSV yes, in TSV where all quotes
            are those that pandas sets.
        columns: the names of the columns of a CSV or TSV file that has no header.
        encoding: str. The file's encoding.

    Returns:
        `Examples` with the line on which each row starts.

    Raises:
        ConfigError: an option is unknown or contradicts another.
        DataError: the file cannot be read or a row cannot be used; the message is one line that
            names the file and, where there is one, the line.
    """
    return next(
        read_table_in_parts(
            path,
            text=text,
            text_pair=text_pair,
            label=label,
            label_kind=label_kind,
            label_separator=label_separator,
            format=format,
            delimiter=delimiter,
            quoting=quoting,
            columns=columns,
            encoding=encoding,
            rows_at_once=None,
        )
    )


def read_table_in_parts(
    path: str | os.PathLike[str] | BinaryIO,
    *,
    text: str = "text",
    text_pair: str | None = None,
    label: str | None = "label",
    label_kind: LabelKind = "single",
    label_separator: str = ",",
    format: TableFormat | None = None,
    delimiter: str | None = None,
    quoting: bool | None = None,
    columns: Sequence[str] | None = None,
    encoding: str = "utf-8",
    replace_invalid: bool = False,
    rows_at_once: int | None = 4096,
    characters_at_once: int = 1 << 24,
) -> Iterator[Examples]:
    """Reads a file as `read_table` does, but a part at a time, in bounded memory.

    Args:
        path: see `read_table`, as all that is not named here.
        text: likewise.
        text_pair: likewise.
        label: likewise.
        label_kind: likewise.
        label_separator: likewise.
        format: likewise.
        delimiter: likewise.
        quoting: likewise.
        columns: likewise.
        encoding: likewise.
        replace_invalid: bool. Bytes that are not of the encoding become U+FFFD instead of an error.
        rows_at_once: int or None. A part ends at so many rows; None makes the file one part.
        characters_at_once: int. A part of limited rows also ends at so many characters of text.

    Yields:
        `Examples`, at least one row each.

    Raises:
        ConfigError: an option is unknown or contradicts another.
        DataError: as soon as a row is reached that cannot be used.
    """
    if label_kind not in _LABEL_KINDS:
        raise ConfigError(f"expected `label_kind` to be one of {_LABEL_KINDS}, got {label_kind!r}")
    if label_kind == "multi" and not label_separator:
        raise ConfigError("expected `label_separator` to be at least one character, got none")
    wanted = [column for column in (text, text_pair, label) if column is not None]
    lines, records = table_records(
        path,
        wanted,
        format=format,
        delimiter=delimiter,
        quoting=quoting,
        columns=columns,
        encoding=encoding,
        replace_invalid=replace_invalid,
    )
    name = lines.name

    empty = _EmptyTexts(name)
    part = _Part(name, text_pair is not None, label is not None)
    for row, values in records:
        where = Field(name, row)
        fields = iter(zip(wanted, values, strict=True))
        part.rows.append(row)
        part.texts.append(empty.checked(where.text(*next(fields)), row))
        part.characters += len(part.texts[-1])
        if part.pairs is not None:
            part.pairs.append(empty.checked(where.text(*next(fields)), row))
            part.characters += len(part.pairs[-1])
        if part.labels is not None:
            part.labels.append(where.label(*next(fields), label_kind, label_separator))
        if rows_at_once is not None and (
            len(part.rows) >= rows_at_once or part.characters >= characters_at_once
        ):
            yield part.examples()
            part = _Part(name, text_pair is not None, label is not None, first=False)
    if not part.rows and part.first:
        what = "has a header and no rows" if lines.last else "is empty"
        raise DataError(f"{name}: expected at least one row, but the file {what}")
    empty.report()
    if part.rows:
        yield part.examples()


def table_records(
    path: str | os.PathLike[str] | BinaryIO,
    wanted: Sequence[str],
    *,
    format: TableFormat | None = None,
    delimiter: str | None = None,
    quoting: bool | None = None,
    columns: Sequence[str] | None = None,
    encoding: str = "utf-8",
    replace_invalid: bool = False,
) -> tuple[Lines, Iterator[tuple[int, list[Any]]]]:
    """Opens a file as `read_table` does, for readers of other columns; see `Field`.

    Args:
        path: see `read_table`, as all that is not named here.
        wanted: names of the columns (in JSON Lines: of the keys).
        format: likewise.
        delimiter: likewise.
        quoting: likewise.
        columns: likewise.
        encoding: likewise.
        replace_invalid: bool. Bytes that are not of the encoding become U+FFFD instead of an error.

    Returns:
        the lines, which know the file's name and the line read last; and the rows: the line on
        which each starts, and its values in the order of `wanted`, strings unless from JSON.

    Raises:
        ConfigError: an option is unknown or contradicts another.
        DataError: while iterating.
    """
    wanted = list(wanted)
    name, format = _name_and_format(path, format)
    lines = Lines(path, name, encoding, replace_invalid=replace_invalid)
    if format in ("jsonl", "text"):
        table = {"delimiter": delimiter, "quoting": quoting, "columns": columns}
        given = [f"`{option}`" for option, value in table.items() if value is not None]
        if given:
            raise ConfigError(
                f"{name}: {', '.join(given)} {'is' if len(given) == 1 else 'are'} for CSV and TSV, "
                f"not for {'JSON Lines' if format == 'jsonl' else 'plain text'}"
            )
        if format == "text" and len(wanted) > 1:
            raise ConfigError(
                f"{name}: plain text has one text a line and no column {wanted[1]!r}; "
                "give the `format` of a table: csv, tsv or jsonl"
            )
        return lines, _json_records(lines, wanted) if format == "jsonl" else _text_records(lines)
    records = delimited_records(
        lines, wanted, format=format, delimiter=delimiter, quoting=quoting, columns=columns
    )
    return lines, records


class _Part:
    """Rows that are being collected."""

    def __init__(self, name: str, paired: bool, labelled: bool, *, first: bool = True) -> None:
        self.first = first
        self.texts: list[str] = []
        self.pairs: list[str] | None = [] if paired else None
        self.labels: list[Any] | None = [] if labelled else None
        self.rows: list[int] = []
        self.characters = 0
        self._name = name

    def examples(self) -> Examples:
        labels = cast("Labels | None", self.labels)
        return Examples(self.texts, self.pairs, labels, self.rows, self._name)


class _EmptyTexts:
    """Counts empty texts, which are legal but seldom meant."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = 0
        self._first = 0

    def checked(self, text: str, row: int) -> str:
        if not text.strip():
            self._first = self._first or row
            self._count += 1
        return text

    def report(self) -> None:
        if self._count:
            _logger.warning(
                "%s: %d empty texts, the first on line %d", self._name, self._count, self._first
            )


def _name_and_format(
    path: str | os.PathLike[str] | BinaryIO, format: TableFormat | None
) -> tuple[str, TableFormat]:
    if isinstance(path, str | os.PathLike):
        name = os.fspath(path)
    else:
        name = str(getattr(path, "name", "") or "<stream>")
    if format is None:
        suffixes = [suffix.lower() for suffix in Path(name).suffixes if suffix.lower() != ".gz"]
        format = _FORMATS.get(suffixes[-1] if suffixes else "")
        if format is None:
            raise ConfigError(
                f"{name}: cannot tell the format from the name, which should end in one of "
                f"{', '.join(_FORMATS)} (or with .gz after it); rename the file or give its "
                "`format`"
            )
    elif format not in (*_FORMATS.values(), "text"):
        raise ConfigError(f"expected `format` to be csv, tsv, jsonl or text, got {format!r}")
    return name, format


def _text_records(lines: Lines) -> Iterator[tuple[int, list[Any]]]:
    for line in lines:
        yield lines.last, [line.removesuffix("\n").removesuffix("\r")]


def _json_records(lines: Lines, wanted: list[str]) -> Iterator[tuple[int, list[Any]]]:
    """Yields each line's number and the values of the wanted keys in the order wanted."""
    for line in lines:
        if not line.strip():
            continue
        where = f"{lines.name}:{lines.last}"
        if line.count("[") + line.count("{") > _CONTAINER_LIMIT:
            raise DataError(
                f"{where}: expected at most {_CONTAINER_LIMIT:,} lists and objects in a line"
            )
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{where}: not valid JSON: {error.msg} at character {error.pos + 1}"
            ) from None
        except (ValueError, RecursionError) as error:  # huge numbers, deep nesting
            raise DataError(f"{where}: not valid JSON: {error}") from None
        if not isinstance(record, dict):
            raise DataError(
                f"{where}: expected a JSON object on each line, got {json_type(record)}"
            )
        for column in wanted:
            if column not in record:
                raise missing_column(where, record, column)
        if "\\u" in line:
            _need_whole_characters(where, record, wanted)
        yield lines.last, [record[column] for column in wanted]


def _need_whole_characters(where: str, record: dict[str, Any], wanted: list[str]) -> None:
    """JSON can write half a surrogate pair, which is no character and has no UTF-8."""
    for column in wanted:
        try:
            json.dumps(record[column], ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise DataError(
                f"{where}: {column!r} holds half of a surrogate pair (\\ud800 to \\udfff), "
                "which is not a character; remove it or write both halves"
            ) from None
