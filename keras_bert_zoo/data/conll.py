"""Reads words with tags, one a line, as the shared tasks of CoNLL wrote them.

The words of a sentence are joined to a text whose offsets are known, for models read text.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Literal, get_args

from keras_bert_zoo.data.examples import clipped
from keras_bert_zoo.data.lines import Lines
from keras_bert_zoo.data.spans import Entity, EntityExamples
from keras_bert_zoo.data.tags import check_scheme, chunks, fault, guess_scheme
from keras_bert_zoo.errors import ConfigError, DataError

__all__ = ["Join", "join_words", "read_conll"]

Join = Literal["auto", "space", "none"]

# Scripts without spaces between words. Korean is not among them.
_UNSPACED = re.compile(
    "[\u2e80-\u303f\u3040-\u30ff\u31c0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\ufe30-\ufe4f\uff00-\uffef\U00020000-\U0003ffff]"
)
_NUMBERED = re.compile(r"\d+(?:[-.]\d+)?")  # CoNLL-U: 7, a range 7-8, an empty node 7.1
_TEXT_COMMENT = re.compile(r"#\s*text\s*=\s?(.*)", re.DOTALL)


@dataclass
class _Sentence:
    """The lines of a sentence, as they are read."""

    words: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    text: str | None = None  # what a comment says it is


def read_conll(
    path: str | os.PathLike[str] | BinaryIO,
    *,
    word: int | None = None,
    tag: int | None = None,
    scheme: str | None = None,
    join: Join = "auto",
    lenient: bool = False,
    encoding: str = "utf-8",
) -> EntityExamples:
    """Reads a file of words and tags in columns, with an empty line behind each sentence.

    Columns are parted by tabs where the file has tabs, else by spaces. Lines that begin with `#`
    and have not the columns of the others are comments, and `-DOCSTART-` lines are passed over.

    Args:
        path: the file's name, with or without `.gz`, or a binary file object.
        word: int. The words' column, from 1; -1 is the last. None: the first, or the second where
            the first numbers the words (CoNLL-U).
        tag: int. The tags' column. None: the last.
        scheme: "IOB1", "IOB2", "IOBES", "IO" or "words", see `data.tags`. None: told by the tags.
        join: how words become text. "auto": as a comment `# text = ...` has it; without one, with
            a space between, unless one of both sides is Chinese or Japanese. "space", "none":
            always so.
        lenient: bool. Whether an I- where no entity goes on begins one (as seqeval reads it)
            instead of being refused.
        encoding: str.

    Returns:
        EntityExamples, one a sentence, with the words.

    Raises:
        ConfigError: an option is not one of its values.
        DataError: a line that cannot be used, or a tag outside the scheme, with file and line.
    """
    if join not in get_args(Join):
        raise ConfigError(f"expected join of {', '.join(get_args(Join))}, got {join!r}")
    for name, column in (("word", word), ("tag", tag)):
        if column == 0:
            raise ConfigError(f"expected {name} as a column from 1, or from the end from -1; got 0")
    name = os.fspath(path) if isinstance(path, str | os.PathLike) else getattr(path, "name", "-")
    lines = [
        (row, line.rstrip("\r\n"))
        for row, line in enumerate(Lines(path, str(name), encoding), start=1)
    ]
    sentences = list(_sentences(str(name), lines, word, tag))
    if not sentences:
        raise DataError(f"{name}: expected at least one sentence, got none")
    scheme = _checked_scheme(str(name), sentences, scheme, lenient)
    texts, words, entities = [], [], []
    for sentence in sentences:
        text, places = _located(sentence, join)
        texts.append(text)
        words.append(places)
        entities.append(
            [
                Entity(places[first][0], places[behind - 1][1], kind)
                for first, behind, kind in chunks(sentence.tags, scheme)
            ]
        )
    return EntityExamples(texts, entities, words, [s.rows[0] for s in sentences], str(name))


def join_words(words: Sequence[str], join: Join = "auto") -> tuple[str, list[tuple[int, int]]]:
    """Joins words to a text.

    >>> join_words(["Ada", "lives", "here", "."])[0]
    'Ada lives here .'
    >>> join_words(["他", "在", "New", "York", "。"])
    ('他在New York。', [(0, 1), (1, 2), (2, 5), (6, 10), (10, 11)])

    Args:
        words: list of str.
        join: see `read_conll`.

    Returns:
        the text; and (start, end) of each word in characters.
    """
    parts: list[str] = []
    places = []
    length = 0
    for index, word in enumerate(words):
        if index and (join == "space" or (join == "auto" and _spaced(words[index - 1], word))):
            parts.append(" ")
            length += 1
        parts.append(word)
        places.append((length, length + len(word)))
        length += len(word)
    return "".join(parts), places


def _spaced(left: str, right: str) -> bool:
    return not (_UNSPACED.match(left[-1]) or _UNSPACED.match(right[0]))


def _sentences(
    name: str, lines: list[tuple[int, str]], word: int | None, tag: int | None
) -> Iterator[_Sentence]:
    separator, width, numbered = _layout(lines)
    if not width:
        return
    word = (2 if numbered else 1) if word is None else word
    tag = -1 if tag is None else tag
    for what, column in (("word", word), ("tag", tag)):
        if not 1 <= (column if column > 0 else width + 1 + column) <= width:
            raise DataError(
                f"{name}: expected the {what}s in column {column}, but lines have {width} columns"
            )
    word_at, tag_at = (column - 1 if column > 0 else column for column in (word, tag))
    if word_at % width == tag_at % width:
        raise DataError(
            f"{name}: expected words and tags in two columns, but both are read from column "
            f"{word_at % width + 1} of {width}"
        )
    sentence = _Sentence()
    for row, line in lines:
        if not line.strip():
            if sentence.words:
                yield sentence
            sentence = _Sentence()
            continue
        columns = _columns(line, separator)
        if _is_comment(line, columns, width):
            told = _TEXT_COMMENT.match(line)
            if told and not sentence.words:
                sentence.text = told[1]
            continue
        if columns[0] == "-DOCSTART-":
            continue
        if len(columns) != width:
            raise DataError(
                f"{name}:{row}: expected {width} columns parted by "
                f"{'tabs' if separator else 'spaces'}, as in most lines, got {len(columns)}: "
                f"{clipped(line)!r}"
            )
        if numbered and not columns[0].isdigit():
            continue  # a range or an empty node: its words stand on lines of their own
        if not columns[word_at].strip() or not columns[tag_at].strip():
            what = "tag" if columns[word_at].strip() else "word"
            raise DataError(f"{name}:{row}: expected a {what}, but its column is empty")
        sentence.words.append(columns[word_at].strip())
        sentence.tags.append(columns[tag_at].strip())
        sentence.rows.append(row)
    if sentence.words:
        yield sentence


def _columns(line: str, separator: str | None) -> list[str]:
    # Spaces alone part columns: other white space of Unicode may stand in a word.
    return line.split("\t") if separator else [part for part in line.split(" ") if part]


def _is_comment(line: str, columns: list[str], width: int) -> bool:
    # A `#` that is a word, as in tweets, stands in as many columns as every other word.
    return line.startswith("#") and len(columns) != width


def _layout(lines: list[tuple[int, str]]) -> tuple[str | None, int, bool]:
    """How columns are parted, how many most lines have, and whether the first numbers words."""
    written = [
        line for _, line in lines if line.strip() and not line.startswith(("#", "-DOCSTART-"))
    ]
    tabs = sum("\t" in line for line in written)
    separator = "\t" if 2 * tabs > len(written) else None
    widths = Counter(len(_columns(line, separator)) for line in written)
    if not widths:
        return separator, 0, False
    width = widths.most_common(1)[0][0]
    first = [_columns(line, separator)[0] for line in written]
    numbered = width > 2 and "1" in first and all(_NUMBERED.fullmatch(value) for value in first)
    return separator, width, numbered


def _checked_scheme(
    name: str, sentences: list[_Sentence], scheme: str | None, lenient: bool
) -> str:
    if scheme is not None:
        found = check_scheme(scheme)
    else:
        tags = Counter(tag for sentence in sentences for tag in sentence.tags)
        found = guess_scheme(tags)
        if found == "words" and len(tags) == 1 and sum(tags.values()) > 1:
            raise DataError(
                f"{name}: every tag is {next(iter(tags))!r}: expected tags of several kinds; say "
                "which column holds them"
            )
        # Both have the same tags; what is IOB2 throughout may be IOB1 only by chance.
        broken = found == "IOB2" and _first_fault(sentences, "IOB2") is not None
        if broken and _first_fault(sentences, "IOB1") is None:
            found = "IOB1"
    if lenient:
        return found
    problem = _first_fault(sentences, found)
    if problem:
        row, message = problem
        told = "" if scheme else f" (the tags were taken for {found}; say which scheme they are)"
        raise DataError(
            f"{name}:{row}: {message}; correct it, or read with lenient=True (--lenient), which "
            f"begins an entity there{told}"
        )
    return found


def _first_fault(sentences: list[_Sentence], scheme: str) -> tuple[int, str] | None:
    for sentence in sentences:
        found = fault(sentence.tags, scheme)
        if found:
            return sentence.rows[found[0]], found[1]
    return None


def _located(sentence: _Sentence, join: Join) -> tuple[str, list[tuple[int, int]]]:
    """The text of a sentence, and where its words stand in it."""
    if join == "auto" and sentence.text is not None:
        places = _aligned(sentence.text, sentence.words)
        if places is not None:
            return sentence.text, places
    return join_words(sentence.words, join)


def _aligned(text: str, words: Sequence[str]) -> list[tuple[int, int]] | None:
    """Finds words in their order in a text that has nothing but white space between them."""
    places = []
    at = 0
    for word in words:
        while at < len(text) and text[at].isspace():
            at += 1
        if not text.startswith(word, at):
            return None
        places.append((at, at + len(word)))
        at += len(word)
    return places if not text[at:].strip() else None
