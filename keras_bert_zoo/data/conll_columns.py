"""Detection of the columns of words and tags in a CoNLL file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from keras_bert_zoo.data.examples import clipped
from keras_bert_zoo.data.tags import OUTSIDE
from keras_bert_zoo.errors import DataError

__all__ = ["Layout", "chosen_columns", "file_layout", "split_columns"]

_NUMBERED = re.compile(r"\d+(?:[-.]\d+)?")  # CoNLL-U: 7, a range 7-8, an empty node 7.1
_NAMES_COMMENT = re.compile(r"#\s*global\.columns\s*=\s*(.*)")
_WORD_NAMES = ("FORM", "TOKEN", "WORD")
_TAG_NAME = re.compile(r"(?:.*[:_.-])?(?:NER|NE|NER_TAGS?|BIO|IOB2?|ENTITY|ENTITIES)", re.I)
_TAG = re.compile(r"[BIESLUMW][-_].+|.+[-_][BIESLUMW]", re.DOTALL | re.I)
# Phrase types: CoNLL-2000 and CoNLL-2003 have a column of them before the entities.
_PHRASES = frozenset("ADJP ADVP CONJP INTJ LST NP PP PRT SBAR UCP VP WHNP".split())
_SHARE = 0.9  # the least share of values that look like tags: some files have typing errors


@dataclass(frozen=True)
class Layout:
    """The columns of a file.

    Args:
        separator: a tab, or None for spaces.
        width: int. The number of columns of most lines; 0 without lines.
        numbered: bool. Whether the first column numbers the words.
        names: list of str, from a comment `# global.columns = ...`; empty without one.
        values: the counts of the values of each column.
    """

    separator: str | None
    width: int = 0
    numbered: bool = False
    names: Sequence[str] = ()
    values: list[Counter[str]] = field(default_factory=list)

    def has_tag(self, column: int, value: str) -> bool:
        """Whether a value occurs in a column or looks like a tag."""
        return value in self.values[column] or _TAG.fullmatch(value) is not None

    def called(self, column: int) -> str:
        """Names a column, given from 0, in a message: "3", or "3 (NER)"."""
        return f"{column + 1} ({clipped(self.names[column])})" if self.names else str(column + 1)


def split_columns(line: str, separator: str | None) -> list[str]:
    """Splits a line into columns.

    Only tabs or spaces separate columns: other Unicode white space may be part of a word.
    """
    return line.split("\t") if separator else [part for part in line.split(" ") if part]


def file_layout(lines: Sequence[tuple[int, str]]) -> Layout:
    """Detects the columns of a file from its lines (row, text)."""
    content = [
        line for _, line in lines if line.strip() and not line.startswith(("#", "-DOCSTART-"))
    ]
    tabs = sum("\t" in line for line in content)
    separator = "\t" if 2 * tabs > len(content) else None
    rows = [split_columns(line, separator) for line in content]
    widths = Counter(map(len, rows))
    if not widths:
        return Layout(separator)
    width = widths.most_common(1)[0][0]
    first = [row[0] for row in rows]
    numbered = width > 2 and "1" in first and all(_NUMBERED.fullmatch(value) for value in first)
    matches = (_NAMES_COMMENT.match(line) for _, line in lines[:100])
    names = next((match[1].split() for match in matches if match), [])
    whole = [row for row in rows if len(row) == width and (not numbered or row[0].isdigit())]
    values = [Counter(value.strip() for value in column) for column in zip(*whole, strict=True)]
    return Layout(separator, width, numbered, names if len(names) == width else (), values)


def chosen_columns(
    name: str, layout: Layout, word: int | None, tag: int | None, *, tags: bool = True
) -> tuple[int, int | None]:
    """Chooses the columns of words and tags, counted from 0.

    Args:
        name: str. The file's name, for messages.
        layout: Layout.
        word: int. The column of the words, from 1 or from -1; None: detected.
        tag: int. The column of the tags, likewise.
        tags: bool. Whether to read tags.

    Returns:
        the column of the words, and the column of the tags or None.

    Raises:
        DataError: a column does not exist or is ambiguous.
    """
    given = {"word": word, "tag": tag if tags else None}
    for what, column in given.items():
        if column is None:
            continue
        if not 1 <= (column if column > 0 else layout.width + 1 + column) <= layout.width:
            raise DataError(
                f"{name}: expected the {what}s in column {column}, "
                f"received lines of {layout.width} "
                "columns"
            )
    word_at = _word_column(name, layout) if word is None else (word - (word > 0)) % layout.width
    if not tags:
        return word_at, None
    tag_at = (
        _tag_column(name, layout, word_at)
        if given["tag"] is None
        else (given["tag"] - (given["tag"] > 0)) % layout.width
    )
    if word_at == tag_at:
        raise DataError(
            f"{name}: expected words and tags in two columns, received column {word_at + 1} of "
            f"{layout.width} for both"
        )
    if None in given.values() and _looks_like_tags(layout.values[word_at]):
        raise DataError(
            f"{name}: expected words in column {layout.called(word_at)}, "
            "received values that look like "
            f"tags: {_common(layout.values[word_at])}; give the columns of the words and the tags "
            "with `word=N` and `tag=N`"
        )
    return word_at, tag_at


def _word_column(name: str, layout: Layout) -> int:
    for word_name in _WORD_NAMES:
        if word_name in (upper := [column.upper() for column in layout.names]):
            return upper.index(word_name)
    return 1 if layout.numbered else 0


def _tag_column(name: str, layout: Layout, word_at: int) -> int:
    """The column that looks like tags; in a file of two columns, the other one."""
    others = [
        column
        for column in range(layout.width)
        if column != word_at and not (layout.numbered and column == 0)
    ]
    if not others:
        raise DataError(
            f"{name}: expected columns of words and tags, separated by tabs or spaces, "
            "received one "
            "column"
        )
    if len(others) == 1:
        return others[0]
    tags = [column for column in others if _looks_like_tags(layout.values[column])]
    if len(tags) > 1:
        tags = [column for column in tags if not _are_phrases(layout.values[column])] or tags
    if not tags:
        tags = [column for column in others if _mostly_outside(layout.values[column])]
    if not tags:
        tags = [column for column in others if len(layout.values[column]) > 1]
        if len(tags) != 1:
            tags = []
    named = [
        column for column in tags if layout.names and _TAG_NAME.fullmatch(layout.names[column])
    ]
    if len(named) == 1:
        tags = named
    if len(tags) == 1:
        return tags[0]
    what = "several look like tags" if tags else "none looks like tags"
    shown = "; ".join(
        f"column {layout.called(column)}: {_common(layout.values[column])}"
        for column in (tags or others)[:6]
    )
    raise DataError(
        f"{name}: expected one column of tags among {layout.width}, but {what} ({shown}); give it "
        "with `tag=N`"
    )


def _looks_like_tags(values: Counter[str]) -> bool:
    """Whether values are O or have prefixes, such as B-PER; at least one must have a prefix."""
    tagged = sum(count for value, count in values.items() if _TAG.fullmatch(value))
    outside = values[OUTSIDE] + values[OUTSIDE.lower()]
    return tagged > 0 and tagged + outside >= _SHARE * values.total()


def _mostly_outside(values: Counter[str]) -> bool:
    return values.most_common(1)[0][0] == OUTSIDE


def _are_phrases(values: Counter[str]) -> bool:
    kinds = {value[2:] for value in values if value != OUTSIDE}
    return bool(kinds) and kinds <= _PHRASES


def _common(values: Counter[str]) -> str:
    return ", ".join(clipped(value) for value, _ in values.most_common(4))
