"""Groups of related texts: pairs, pairs with scores, triplets, hard negatives."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from keras_bert_zoo.data.examples import Examples, clipped
from keras_bert_zoo.data.fields import Field, list_in_text
from keras_bert_zoo.data.tables import TableFormat, name_and_format, table_records
from keras_bert_zoo.errors import ConfigError, DataError

__all__ = ["TextGroups", "read_groups"]


@dataclass(frozen=True)
class TextGroups:
    """Groups of an anchor, a positive, and optional hard negatives; all groups have one size.

    Args:
        columns: tuple of lists of str, all of one length. One column: single texts. Two columns:
            anchors and positives, or the two texts of a pair with a score. Further columns: hard
            negatives.
        scores: list of float or None. The similarity of the two texts of each pair.
        labels: list of str or None. Positives of groups with the same label are not used as
            negatives of each other.
        rows: list of int. The first line of each group in `path`, from 1. Empty means 1, 2, ...
        path: str. The file's name for messages; empty for groups without a file.

    Raises:
        DataError: the lists differ in length, or groups that are not pairs have scores.
    """

    columns: tuple[list[str], ...]
    scores: list[float] | None = None
    labels: list[str] | None = None
    rows: list[int] = field(default_factory=list)
    path: str = ""

    def __post_init__(self) -> None:
        """Checks the lengths and fills in `rows`."""
        if not self.columns:
            raise DataError("expected at least one column of texts, received none")
        count = len(self.columns[0])
        if not self.rows:
            object.__setattr__(self, "rows", list(range(1, count + 1)))
        others: dict[str, Any] = {
            f"texts in column {i}": column for i, column in enumerate(self.columns)
        }
        others |= {"scores": self.scores, "labels": self.labels, "rows": self.rows}
        for name, values in others.items():
            if values is not None and len(values) != count:
                raise DataError(f"expected {count} {name}, one per group, received {len(values)}")
        if self.scores is not None and len(self.columns) != 2:
            raise DataError(f"expected pairs for scores, received groups of {len(self.columns)}")

    def __len__(self) -> int:
        """Counts the groups."""
        return len(self.columns[0])

    def __getitem__(self, rows: slice) -> "TextGroups":
        """Takes a slice, such as `groups[:100]`."""
        if not isinstance(rows, slice):
            raise TypeError(
                f"TextGroups take a slice, received {type(rows).__name__}; see subset()"
            )
        return self.subset(range(len(self))[rows])

    @property
    def size(self) -> int:
        """The number of texts per group."""
        return len(self.columns)

    @property
    def kind(self) -> str:
        """The kind of the groups: "texts", "pairs", "scored" or "triplets"."""
        if self.scores is not None:
            return "scored"
        return {1: "texts", 2: "pairs"}.get(self.size, "triplets")

    @property
    def texts(self) -> list[str]:
        """The first text of each group."""
        return self.columns[0]

    @classmethod
    def from_examples(cls, examples: Examples) -> "TextGroups":
        """Converts examples of texts or pairs; float labels become scores."""
        columns: tuple[list[str], ...] = (examples.texts,)
        if examples.text_pairs is not None:
            columns = (examples.texts, examples.text_pairs)
        scores: Any = None
        labels: Any = None
        if examples.label_kind == "float":
            scores = examples.labels
        elif examples.label_kind == "single":
            labels = examples.labels
        return cls(columns, scores, labels, examples.rows, examples.path)

    def numbered(self) -> tuple[list[str], list[np.ndarray]]:
        """Returns the distinct texts, and for each column int (groups,), their numbers."""
        texts = list(dict.fromkeys(text for column in self.columns for text in column))
        numbers = {text: index for index, text in enumerate(texts)}
        return texts, [np.array([numbers[text] for text in column]) for column in self.columns]

    def where(self, index: int) -> str:
        """Returns a group's origin: `file:line`, or its number without a file."""
        return f"{self.path}:{self.rows[index]}" if self.path else f"group {self.rows[index]}"

    def subset(self, indices: Sequence[int] | np.ndarray) -> "TextGroups":
        """Returns the groups at `indices`, in that order."""
        chosen = [int(index) for index in indices]

        def pick(values: Any) -> Any:
            return None if values is None else [values[index] for index in chosen]

        return TextGroups(
            tuple(pick(column) for column in self.columns),
            pick(self.scores),
            pick(self.labels),
            pick(self.rows),
            self.path,
        )

    def split(self, fraction: float, seed: int) -> tuple["TextGroups", "TextGroups"]:
        """Splits the groups in two at random; see `Examples.split`."""
        numbered = Examples(self.columns[0]).split(fraction, seed, stratify=False)
        rest, held_out = ([row - 1 for row in part.rows] for part in numbered)
        return self.subset(rest), self.subset(held_out)

    def kinship(self) -> np.ndarray:
        """Numbers the groups; groups with one number are not used as negatives of each other.

        Groups share a number if they share a label, an anchor or a positive: a correct answer of
        one row must not be a negative of another row with the same question.

        Returns:
            int32 (groups,).
        """
        parent = list(range(len(self)))

        def root(index: int) -> int:
            while parent[index] != index:
                parent[index] = parent[parent[index]]
                index = parent[index]
            return index

        keys: list[Sequence[Any]] = list(self.columns[:2])
        if self.labels is not None:
            keys.append(self.labels)
        for key in keys:
            first: dict[Any, int] = {}
            for index, value in enumerate(key):
                parent[root(index)] = root(first.setdefault(value, index))
        return np.array([root(index) for index in range(len(self))], np.int32)


def read_groups(
    path: str | os.PathLike[str] | BinaryIO,
    texts: Sequence[str],
    *,
    negatives: str | None = None,
    score: str | None = None,
    label: str | None = None,
    format: TableFormat | None = None,
    delimiter: str | None = None,
    quoting: bool | None = None,
    columns: Sequence[str] | None = None,
    encoding: str = "utf-8",
) -> TextGroups:
    """Reads groups of texts from a CSV, TSV or JSON Lines file, plain or gzipped.

    Args:
        path: the file's name, or a binary file object.
        texts: list of str. The columns (in JSON Lines: the keys) of the group's texts.
        negatives: str or None. The key (in a table: the column) of a list of hard negatives; all
            rows must have the same number. A table cell that is not a list is one negative.
        score: str or None. The column of the score of a pair.
        label: str or None. The column of a label; see `TextGroups`.
        format: see `tables.read_table`.
        delimiter: likewise.
        quoting: likewise.
        columns: likewise.
        encoding: likewise.

    Returns:
        TextGroups.

    Raises:
        ConfigError: an option is unknown or contradicts another.
        DataError: the file cannot be read or a row is invalid; the message is one line and names
            the file and, if known, the line.
    """
    if not texts:
        raise ConfigError("expected at least one column of texts, received none")
    if score is not None and (len(texts) != 2 or negatives is not None):
        raise ConfigError(
            f"expected two columns of texts for the score {score!r} of pairs, received {len(texts)}"
            f"{'' if negatives is None else ' and negatives'}"
        )
    extra = [name for name in (negatives, score, label) if name is not None]
    lines, records = table_records(
        path,
        [*texts, *extra],
        format=format,
        delimiter=delimiter,
        quoting=quoting,
        columns=columns,
        encoding=encoding,
    )
    groups: list[list[str]] = [[] for _ in texts]
    scores: list[float] = []
    labels: list[str] = []
    rows: list[int] = []
    width: int | None = None
    is_table = name_and_format(path, format)[1] != "jsonl"
    for row, values in records:
        line = Field(lines.name, row)
        group = [line.text(n, v) for n, v in zip(texts, values, strict=False)]
        rest = iter(values[len(texts) :])
        if negatives is not None:
            group += _negatives(line, negatives, next(rest), table=is_table)
            if width is None:
                width = len(group)
                groups += [[] for _ in range(width - len(texts))]
            if len(group) != width:
                raise line.error(
                    f"expected {width - len(texts)} texts in {negatives!r}, as in the first row, "
                    f"received {len(group) - len(texts)}"
                )
        if score is not None:
            scores.append(line.number(score, next(rest)))
        if label is not None:
            labels.append(line.label_name(label, next(rest)))
        for column, text in zip(groups, group, strict=True):
            if not text.strip():
                raise line.error("expected a text, but it is empty; leave the row out")
            column.append(text)
        rows.append(row)
    if not rows:
        what = "has a header and no rows" if lines.last else "is empty"
        raise DataError(f"{lines.name}: expected at least one row, but the file {what}")
    return TextGroups(
        tuple(groups),
        scores if score is not None else None,
        labels if label is not None else None,
        rows,
        lines.name,
    )


def _negatives(line: Field, column: str, value: Any, *, table: bool) -> list[str]:
    if table:  # pandas writes lists in cells
        items = list_in_text(value)
        if items is None and value.strip()[:2] in ("['", '["') and value.strip().endswith("]"):
            raise line.error(
                f"expected {column!r} to be a list such as ['a', 'b'], received {clipped(value)!r}"
            )
        value = [value] if items is None else items
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        shown = clipped(repr(value))
        raise line.error(f"expected {column!r} to be a list of at least one text, received {shown}")
    return value
