"""Reads texts and labels from CSV, TSV and JSON Lines files with named columns, and plain text.

An invalid row raises an error that names the file and the line. Dropping or repairing rows
silently would damage the training set.
"""

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from keras_bert_zoo.data.delimited import delimited_records, missing_column
from keras_bert_zoo.data.examples import Examples, LabelKind, Labels
from keras_bert_zoo.data.fields import Field, json_type
from keras_bert_zoo.data.lines import Lines
from keras_bert_zoo.data.streams import unreadable
from keras_bert_zoo.errors import ConfigError, DataError

__all__ = ["Field", "TableFormat", "read_table", "read_table_in_parts", "table_records"]

TableFormat = Literal["csv", "tsv", "jsonl", "text"]

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

    CSV and TSV files need a header, or `columns`. Quoted CSV fields may hold line ends. In TSV,
    quotes are part of the text, unless `quoting` is set or all quotes are as pandas writes them.
    Blank lines are skipped; in a file of one column they are empty texts. Rows of empty cells and
    columns without a name are skipped, and their number is logged. A byte order mark and Excel's
    line `sep=;` are dropped. Empty texts are allowed, and their number is logged. A line has at
    most 16,777,216 bytes.

    Args:
        path: the file's name, or a binary file object such as `sys.stdin.buffer`.
        text: str. The column (in JSON Lines: the key) of the text.
        text_pair: str or None. The column of the second text, for tasks on pairs.
        label: str or None. The column of the label; None reads no labels.
        label_kind: "single": one name, without surrounding spaces; JSON strings, integers and
            booleans. "multi": any number of names: a JSON list, names separated by
            `label_separator`, or a list as Python or JSON writes it: `['a', 'b']`, `[]`.
            "float": a finite number.
        label_separator: str. The separator of names in a multi-label field.
        format: "csv", "tsv", "jsonl"; "text", one text per line without labels; None detects it
            from the file's name.
        delimiter: str or None. One character between CSV or TSV fields. None: the delimiter of the
            format, or the one of `;`, tab, `|` and `,` that splits the header into the columns.
        quoting: bool or None. Whether `"` quotes fields. None: always in CSV; in TSV only if all
            quotes are as pandas writes them.
        columns: the column names of a CSV or TSV file without a header.
        encoding: str. The file's encoding.

    Returns:
        `Examples` with the first line of each row.

    Raises:
        ConfigError: an option is unknown or contradicts another.
        DataError: the file cannot be read or a row is invalid; the message is one line and names
            the file and, if known, the line.
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
    """Reads a file as `read_table` does, but in parts, with bounded memory.

    Args:
        path: see `read_table`.
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
        replace_invalid: bool. Whether to replace invalid bytes with U+FFFD instead of raising.
        rows_at_once: int or None. The number of rows per part; None reads the file as one part.
        characters_at_once: int. Characters of text after which a part ends early; ignored if
            `rows_at_once` is None.

    Yields:
        `Examples`, at least one row each.

    Raises:
        ConfigError: an option is unknown or contradicts another.
        DataError: while iterating, at the first invalid row.
    """
    if label_kind not in _LABEL_KINDS:
        raise ConfigError(
            f"expected `label_kind` to be one of {_LABEL_KINDS}, received {label_kind!r}"
        )
    if label_kind == "multi" and not label_separator:
        raise ConfigError("expected `label_separator` to be at least one character, received none")
    names = [column for column in (text, text_pair, label) if column is not None]
    lines, records = table_records(
        path,
        names,
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
        fields = iter(zip(names, values, strict=True))
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
    names: Sequence[str],
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
        path: see `read_table`.
        names: list of str. The columns (in JSON Lines: the keys) to read.
        format: see `read_table`.
        delimiter: likewise.
        quoting: likewise.
        columns: likewise.
        encoding: likewise.
        replace_invalid: bool. Whether to replace invalid bytes with U+FFFD instead of raising.

    Returns:
        the lines, with the file's name and the last line read; and the rows: the first line of
        each, and its values in the order of `names`. All values are strings, except in JSON.

    Raises:
        ConfigError: an option is unknown or contradicts another.
        DataError: while iterating.
    """
    names = list(names)
    name, format = name_and_format(path, format)
    lines = Lines(path, name, encoding, replace_invalid=replace_invalid)
    kind = FORMATS[format]
    if kind.read is not None:
        table = {"delimiter": delimiter, "quoting": quoting, "columns": columns}
        given = [f"`{option}`" for option, value in table.items() if value is not None]
        if given:
            raise ConfigError(
                f"{name}: expected CSV or TSV for {', '.join(given)}, received {kind.title}"
            )
        if format == "text" and len(names) > 1:
            raise ConfigError(
                f"{name}: expected a table with a column {names[1]!r}, "
                "received plain text; give the "
                "`format` csv, tsv or jsonl"
            )
        return lines, kind.read(lines, names)
    records = delimited_records(
        lines, names, format=format, delimiter=delimiter, quoting=quoting, columns=columns
    )
    return lines, records


class _Part:
    """Collects the rows of one part."""

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
    """Counts empty texts, which are allowed but rarely intended."""

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


def name_and_format(
    path: str | os.PathLike[str] | BinaryIO, format: TableFormat | None
) -> tuple[str, TableFormat]:
    """Returns the name of a file for messages, and its format: `format`, or by the name's ending.

    Raises:
        ConfigError: an unknown format or ending.
        DataError: a directory.
    """
    if isinstance(path, str | os.PathLike):
        name = os.fspath(path)
    else:
        name = str(getattr(path, "name", "") or "<stream>")
    if format is None:
        suffixes = [suffix.lower() for suffix in Path(name).suffixes if suffix.lower() != ".gz"]
        known: dict[str, Any] = {
            suffix: key for key, kind in FORMATS.items() for suffix in kind.suffixes
        }
        format = known.get(suffixes[-1] if suffixes else "")
        if format is None and isinstance(path, str | os.PathLike) and os.path.isdir(path):
            raise unreadable(IsADirectoryError(), name)
        if format is None:
            raise ConfigError(
                f"{name}: expected a name that ends in one of {', '.join(known)}, or in one of "
                "them with .gz; rename the file or give its `format`"
            )
    elif format not in FORMATS:
        raise ConfigError(
            f"expected `format` to be one of {', '.join(FORMATS)}, received {format!r}"
        )
    return name, format


def _text_records(lines: Lines, names: list[str]) -> Iterator[tuple[int, list[Any]]]:
    for line in lines:
        yield lines.last, [line.removesuffix("\n").removesuffix("\r")]


def _json_records(lines: Lines, names: list[str]) -> Iterator[tuple[int, list[Any]]]:
    """Yields the number of each line and the values in the order of `names`."""
    for line in lines:
        if not line.strip():
            continue
        where = f"{lines.name}:{lines.last}"
        if line.count("[") + line.count("{") > _CONTAINER_LIMIT:
            raise DataError(
                f"{where}: expected at most {_CONTAINER_LIMIT:,} lists and objects, received more"
            )
        # A file that is one JSON list, over one line or many.
        hint = "; write each element of the list on its own line" if line[:1] == "[" else ""
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{where}: not valid JSON: {error.msg} at character {error.pos + 1}{hint}"
            ) from None
        except (ValueError, RecursionError) as error:  # huge numbers, deep nesting
            raise DataError(f"{where}: not valid JSON: {error}") from None
        if not isinstance(record, dict):
            raise DataError(
                f"{where}: expected a JSON object on each line, received {json_type(record)}{hint}"
            )
        for column in names:
            if column not in record:
                raise missing_column(where, record, column)
        if "\\u" in line:
            _check_surrogates(where, record, names)
        yield lines.last, [record[column] for column in names]


def _check_surrogates(where: str, record: dict[str, Any], names: list[str]) -> None:
    """Rejects half of a surrogate pair, which JSON can escape but UTF-8 cannot encode."""
    for column in names:
        try:
            json.dumps(record[column], ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise DataError(
                f"{where}: expected characters in {column!r}, received half of a surrogate pair "
                "(\\ud800 to \\udfff); remove it or write both halves"
            ) from None


@dataclass(frozen=True)
class RecordFormat:
    """A format of files with one example per record.

    Attributes:
        title: str. The name in messages.
        suffixes: endings of file names, with the dot.
        read: function of the lines and the names of the columns that yields the line number and
            the values of each record. None: a table that `delimited_records` reads.
    """

    title: str
    suffixes: tuple[str, ...] = ()
    read: Callable[[Lines, list[str]], Iterator[tuple[int, list[Any]]]] | None = None


FORMATS: dict[str, RecordFormat] = {
    "csv": RecordFormat("CSV", (".csv",)),
    "tsv": RecordFormat("TSV", (".tsv", ".tab")),
    "jsonl": RecordFormat("JSON Lines", (".jsonl", ".ndjson"), _json_records),
    "text": RecordFormat("plain text", (), _text_records),
}
"""Name of a `format` -> what it is. A new format is a new row."""
