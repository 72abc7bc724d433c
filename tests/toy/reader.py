"""A toy data format: lines of a label, a bar and a text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keras_bert_zoo.data.lines import Lines
from keras_bert_zoo.data.tables import RecordFormat
from keras_bert_zoo.errors import DataError


def read_records(lines: Lines, names: list[str]) -> Iterator[tuple[int, list[Any]]]:
    """Yields each line's number, and its text and label in the order of `names`."""
    for line in lines:
        label, bar, text = line.rstrip("\n").partition("|")
        if not bar:
            raise DataError(f"{lines.name}:{lines.last}: expected LABEL|TEXT, received {line!r}")
        yield lines.last, [{"text": text, "label": label}[name] for name in names]


PIPE = RecordFormat("lines with a bar", (".pipe",), read_records)
