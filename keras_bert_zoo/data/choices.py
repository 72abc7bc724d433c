"""Multiple-choice examples, and readers of tables of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from keras_bert_zoo.data.examples import Examples, clipped
from keras_bert_zoo.data.fields import Field
from keras_bert_zoo.data.label_names import is_whole
from keras_bert_zoo.data.tables import TableFormat, table_records
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.validation import is_integer

__all__ = ["ChoiceExamples", "read_choices", "read_choices_in_parts"]


@dataclass(frozen=True)
class ChoiceExamples:
    """Texts with choices; all examples have the same number of choices.

    Args:
        texts: list of str. The question, or the beginning that a choice continues.
        choices: list of lists of str.
        labels: list of int. The index of the correct choice, from 0; None for prediction.
        rows: list of int. The first line of each example in `path`, from 1. Empty means 1, 2, ...
        path: str. The file's name for messages; empty for examples without a file.

    Raises:
        DataError: the lists differ in length, an example has fewer than two choices or another
            number than the first example, or a label is not the index of a choice.
    """

    texts: list[str]
    choices: list[list[str]]
    labels: list[int] | None = None
    rows: list[int] = field(default_factory=list)
    path: str = ""

    def __post_init__(self) -> None:
        """Checks lengths, choices and labels; fills in `rows`."""
        if not self.rows:
            object.__setattr__(self, "rows", list(range(1, len(self.texts) + 1)))
        for name in ("choices", "labels", "rows"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.texts):
                raise DataError(
                    f"expected {len(self.texts)} {name}, one per text, received {len(values)}"
                )
        for index, choices in enumerate(self.choices):
            if isinstance(choices, str | bytes) or len(choices) < 2:
                raise DataError(
                    f"{self.where(index)}: expected at least two choices in a list, "
                    f"received {choices!r}"
                )
            if len(choices) != len(self.choices[0]):
                raise DataError(
                    f"{self.where(index)}: expected {len(self.choices[0])} choices, as in "
                    f"{self.where(0)}, received {len(choices)}"
                )
        for index, label in enumerate(self.labels or ()):
            if not is_integer(label) or not 0 <= label < len(self.choices[index]):
                raise DataError(
                    f"{self.where(index)}: expected the label to be the index of a choice, 0 to "
                    f"{len(self.choices[index]) - 1}, received {label!r}"
                )

    def __len__(self) -> int:
        """Counts the examples."""
        return len(self.texts)

    @property
    def columns(self) -> tuple[Sequence[Any], ...]:
        """The model's text inputs, one column each."""
        return (self.texts, self.choices)

    def __getitem__(self, rows: slice) -> ChoiceExamples:
        """Takes a slice, such as `examples[:100]`."""
        if not isinstance(rows, slice):
            raise TypeError(f"examples take a slice, received {type(rows).__name__}; see subset()")
        return self.subset(range(len(self))[rows])

    @property
    def num_choices(self) -> int | None:
        """The number of choices per example; None without examples."""
        return len(self.choices[0]) if self.choices else None

    def where(self, index: int) -> str:
        """Returns an example's origin: `file:line`, or its number without a file."""
        return f"{self.path}:{self.rows[index]}" if self.path else f"example {self.rows[index]}"

    def subset(self, indices: Sequence[int] | np.ndarray) -> ChoiceExamples:
        """Returns the examples at `indices`, in that order."""
        chosen = [int(index) for index in indices]
        return ChoiceExamples(
            [self.texts[index] for index in chosen],
            [self.choices[index] for index in chosen],
            None if self.labels is None else [self.labels[index] for index in chosen],
            [self.rows[index] for index in chosen],
            self.path,
        )

    def split(self, fraction: float, seed: int) -> tuple[ChoiceExamples, ChoiceExamples]:
        """Splits the examples in two at random; see `Examples.split`."""
        numbered = Examples(self.texts, rows=list(range(1, len(self) + 1)))
        rest, held_out = numbered.split(fraction, seed)
        return tuple(self.subset(np.array(part.rows) - 1) for part in (rest, held_out))  # type: ignore[return-value]


def read_choices(path: str | os.PathLike[str] | BinaryIO, **options: Any) -> ChoiceExamples:
    """Reads a file as `read_choices_in_parts` does, as one part."""
    return next(read_choices_in_parts(path, **options, rows_at_once=None))


def read_choices_in_parts(
    path: str | os.PathLike[str] | BinaryIO,
    *,
    text: str = "text",
    choices: Sequence[str] = ("choices",),
    label: str | None = "label",
    first_choice: int = 0,
    format: TableFormat | None = None,
    delimiter: str | None = None,
    quoting: bool | None = None,
    columns: Sequence[str] | None = None,
    encoding: str = "utf-8",
    replace_invalid: bool = False,
    rows_at_once: int | None = 4096,
) -> Iterator[ChoiceExamples]:
    """Reads texts with choices from a CSV, TSV or JSON Lines file, plain or gzipped.

    Args:
        path: see `tables.read_table`.
        text: str. The column (in JSON Lines: the key) of the text.
        choices: list of str. One column per choice; or one column (in JSON Lines: one key) that
            holds a list of strings.
        label: str or None. The column of the correct choice's number; None reads no labels.
        first_choice: int. The number of the first choice in the file, 0 or 1.
        format: see `tables.read_table`.
        delimiter: likewise.
        quoting: likewise.
        columns: likewise.
        encoding: likewise.
        replace_invalid: bool. Whether to replace invalid bytes with U+FFFD.
        rows_at_once: int or None. The number of rows per part; None reads the file as one part.

    Yields:
        `ChoiceExamples`, at least one row each.

    Raises:
        ConfigError: an option is unknown or contradicts another.
        DataError: a row is invalid; the message names file and line.
    """
    if isinstance(choices, str) or not choices or len(set(choices)) != len(choices):
        raise ConfigError(f"expected `choices` to be distinct column names, received {choices!r}")
    lines, records = table_records(
        path,
        [text, *choices, *([] if label is None else [label])],
        format=format,
        delimiter=delimiter,
        quoting=quoting,
        columns=columns,
        encoding=encoding,
        replace_invalid=replace_invalid,
    )
    part = _Part(lines.name, label is not None)
    count = first = 0
    for row, values in records:
        where = Field(lines.name, row)
        items = _choices(where, choices, values[1 : len(choices) + 1])
        if count and len(items) != count:
            raise where.error(
                f"expected {count} choices, as on line {first}, received {len(items)}"
            )
        if not count:
            count, first = len(items), row
        part.texts.append(where.text(text, values[0]))
        part.choices.append(items)
        part.rows.append(row)
        if label is not None:
            part.labels.append(_label(where, label, values[-1], count, first_choice))
        if rows_at_once is not None and len(part.rows) >= rows_at_once:
            yield part.examples()
            part = _Part(lines.name, label is not None)
    if not count:
        what = "has a header and no rows" if lines.last else "is empty"
        raise DataError(f"{lines.name}: expected at least one row, but the file {what}")
    if part.rows:
        yield part.examples()


class _Part:
    """Collects the rows of one part."""

    def __init__(self, name: str, labelled: bool) -> None:
        self.texts: list[str] = []
        self.choices: list[list[str]] = []
        self.labels: list[int] = []
        self.rows: list[int] = []
        self._name = name
        self._labelled = labelled

    def examples(self) -> ChoiceExamples:
        labels = self.labels if self._labelled else None
        return ChoiceExamples(self.texts, self.choices, labels, self.rows, self._name)


def _choices(where: Field, names: Sequence[str], values: list[Any]) -> list[str]:
    if len(names) > 1:
        return [where.text(name, value) for name, value in zip(names, values, strict=True)]
    (name,), (value,) = names, values
    if isinstance(value, str):  # a table cell, as pandas writes a list
        value = where.list_in(name, value)
    if not isinstance(value, list):
        raise where.error(
            f"expected {name!r} to be a list of choices, "
            f"received {clipped(repr(values[0]))}; for a "
            "table with one column per choice, name all of them in `choices`"
        )
    if len(value) < 2:
        raise where.error(f"expected at least two choices in {name!r}, received {len(value)}")
    return [where.text(f"{name}[{index}]", item) for index, item in enumerate(value)]


def _label(where: Field, name: str, value: Any, count: int, first: int) -> int:
    number: int | None = None
    if isinstance(value, str):
        value = value.strip()
        digits = value.partition(".")[0] if is_whole(value) else value  # pandas may write "1.0"
        if digits.isascii() and digits.isdigit():
            number = int(digits[:9])
    elif isinstance(value, float) and value.is_integer():
        number = int(value)
    elif is_integer(value):
        number = value
    if number is None or not first <= number < first + count:
        shown = repr(clipped(value)) if isinstance(value, str) else repr(value)
        raise where.error(
            f"expected {name!r} to be the number of the correct choice, {first} to "
            f"{first + count - 1}, received {shown}"
        )
    return number - first
