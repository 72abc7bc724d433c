"""Which columns of a CoNLL file hold the words and their tags."""

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
# Phrases that CoNLL-2000 and 2003 have in a column of their own, before the entities.
_PHRASES = frozenset("ADJP ADVP CONJP INTJ LST NP PP PRT SBAR UCP VP WHNP".split())
_SHARE = 0.9  # of a column's values that must look like tags: some files have a typing error


@dataclass(frozen=True)
class Layout:
    """The columns of a file.

    Args:
        separator: a tab, or None for spaces.
        width: int. The columns that most lines have; 0: there is no line.
        numbered: bool. Whether the first column numbers the words.
        names: list of str, what a comment `# global.columns = ...` calls them; else empty.
        values: for each column how often each of its values occurs.
    """

    separator: str | None
    width: int = 0
    numbered: bool = False
    names: Sequence[str] = ()
    values: list[Counter[str]] = field(default_factory=list)

    def has_tag(self, column: int, value: str) -> bool:
        """Whether a value is a tag of a column, or looks like one."""
        return value in self.values[column] or _TAG.fullmatch(value) is not None

    def called(self, column: int) -> str:
        """Names a column, counted from 0, in a message: "3", or "3 (NER)"."""
        return f"{column + 1} ({clipped(self.names[column])})" if self.names else str(column + 1)


def split_columns(line: str, separator: str | None) -> list[str]:
    """Splits a line into columns.

    Only spaces separate columns: other white space of Unicode may be part of a word.
    """
    return line.split("\t") if separator else [part for part in line.split(" ") if part]


def file_layout(lines: Sequence[tuple[int, str]]) -> Layout:
    """Finds the columns of a file in its lines (row, text)."""
    written = [
        line for _, line in lines if line.strip() and not line.startswith(("#", "-DOCSTART-"))
    ]
    tabs = sum("\t" in line for line in written)
    separator = "\t" if 2 * tabs > len(written) else None
    rows = [split_columns(line, separator) for line in written]
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
        name: the file's, for messages.
        layout: Layout.
        word: the words' column as the caller gave it, from 1 or from -1; None: to be found.
        tag: likewise the tags'.
        tags: bool. Whether tags are wanted at all.

    Returns:
        the words' column; and the tags', or None.

    Raises:
        DataError: there is no such column, or it is not clear which one is meant.
    """
    given = {"word": word, "tag": tag if tags else None}
    for what, column in given.items():
        if column is None:
            continue
        if not 1 <= (column if column > 0 else layout.width + 1 + column) <= layout.width:
            raise DataError(
                f"{name}: expected the {what}s in column {column}, but lines have {layout.width} "
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
            f"{name}: expected words and tags in two columns, but both are read from column "
            f"{word_at + 1} of {layout.width}"
        )
    if None in given.values() and _looks_like_tags(layout.values[word_at]):
        raise DataError(
            f"{name}: expected words in column {layout.called(word_at)}, got what looks like tags: "
            f"{_common(layout.values[word_at])}; say which columns hold the words and the tags "
            "with `word=N` and `tag=N`"
        )
    return word_at, tag_at


def _word_column(name: str, layout: Layout) -> int:
    for wanted in _WORD_NAMES:
        if wanted in (upper := [column.upper() for column in layout.names]):
            return upper.index(wanted)
    return 1 if layout.numbered else 0


def _tag_column(name: str, layout: Layout, word_at: int) -> int:
    """The column that looks like tags; the only other one where there are two."""
    others = [
        column
        for column in range(layout.width)
        if column != word_at and not (layout.numbered and column == 0)
    ]
    if not others:
        raise DataError(
            f"{name}: expected columns of words and tags, separated by tabs or spaces, got one "
            "column"
        )
    if len(others) == 1:
        return others[0]
    found = [column for column in others if _looks_like_tags(layout.values[column])]
    if len(found) > 1:
        found = [column for column in found if not _are_phrases(layout.values[column])] or found
    if not found:
        found = [column for column in others if _mostly_outside(layout.values[column])]
    if not found:
        found = [column for column in others if len(layout.values[column]) > 1]
        if len(found) != 1:
            found = []
    named = [
        column for column in found if layout.names and _TAG_NAME.fullmatch(layout.names[column])
    ]
    if len(named) == 1:
        found = named
    if len(found) == 1:
        return found[0]
    what = "several look like tags" if found else "none looks like tags"
    shown = "; ".join(
        f"column {layout.called(column)}: {_common(layout.values[column])}"
        for column in (found or others)[:6]
    )
    raise DataError(
        f"{name}: expected one column of tags among {layout.width}, but {what} ({shown}); say "
        "which one with `tag=N`"
    )


def _looks_like_tags(values: Counter[str]) -> bool:
    """Whether values are O or have prefixes, such as B-PER, at least one of them."""
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
