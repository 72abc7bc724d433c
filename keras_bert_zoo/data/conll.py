"""Reads CoNLL files: one word per line with its tag.

The words of a sentence are joined to a text, because models read text. Their offsets are kept.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Literal, get_args

from keras_bert_zoo.data.conll_columns import Layout, chosen_columns, file_layout, split_columns
from keras_bert_zoo.data.examples import clipped
from keras_bert_zoo.data.lines import Lines
from keras_bert_zoo.data.spans import Entity, EntityExamples
from keras_bert_zoo.data.tags import (
    UnclearTag,
    check_scheme,
    chunks,
    fault,
    guess_scheme,
    plain_tags,
)
from keras_bert_zoo.errors import ConfigError, DataError

__all__ = [
    "Join",
    "TaggedWords",
    "check_join",
    "counted_types",
    "join_words",
    "read_conll",
    "tagged_examples",
]

Join = Literal["auto", "space", "none"]

# Scripts without spaces between words. Korean is not among them.
_UNSPACED = re.compile(
    "[\u2e80-\u303f\u3040-\u30ff\u31c0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\ufe30-\ufe4f\uff00-\uffef\U00020000-\U0003ffff]"
)
_KEY_COMMENT = re.compile(r"#\s+[\w.:]+\s+=\s")  # CoNLL-U: # sent_id = 1
_TEXT_COMMENT = re.compile(r"#\s*text\s*=\s?(.*)", re.DOTALL)
_LISTED = 12  # the number of types that a message lists

_logger = logging.getLogger(__name__)


@dataclass
class TaggedWords:
    """A sentence of a file.

    Attributes:
        words: list of str.
        tags: list of str, one per word.
        rows: the line of each word.
        text: the sentence's text, from a comment; None without one.
    """

    words: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    text: str | None = None


def read_conll(
    path: str | os.PathLike[str] | BinaryIO,
    *,
    word: int | None = None,
    tag: int | None = None,
    scheme: str | None = None,
    join: Join = "auto",
    lenient: bool = False,
    encoding: str = "utf-8",
    tags: bool = True,
) -> EntityExamples:
    """Reads a file of words and tags in columns, with an empty line after each sentence.

    Columns are separated by tabs if the file has tabs, otherwise by spaces. Lines that begin with
    `#` and have another number of columns are comments. `-DOCSTART-` lines are skipped. Tags may
    be written B-PER, B_PER, PER-B or PER_B. The `note` of the examples names the columns and the
    scheme; it is also logged.

    Args:
        path: the file's name, with or without `.gz`, or a binary file object.
        word: int. The column of the words, from 1; -1 is the last. None: the column that a comment
            `# global.columns =` calls FORM; else the first, or the second if the first numbers
            the words (CoNLL-U).
        tag: int. The column of the tags. None: the only one that looks like tags (B-PER, I-PER,
            O); in a file of two columns, the other one.
        scheme: "IOB1", "IOB2", "IOBES", "IO" or "words", see `data.tags`. None: detected.
        join: how to join words. "space": with spaces; "none": without. "auto": as in a comment
            `# text = ...`; without one, with spaces, except next to Chinese or Japanese.
        lenient: bool. Whether an I- tag without a preceding tag of its entity begins an entity, as
            in seqeval, instead of raising an error.
        encoding: str.
        tags: bool. Whether to read tags; if False, the file need not have any.

    Returns:
        EntityExamples with words, one per sentence.

    Raises:
        ConfigError: an option has an unknown value.
        DataError: a line is invalid or a tag breaks the scheme, with file and line; or the column
            of the tags is ambiguous.
    """
    check_join(join)
    for name, column in (("word", word), ("tag", tag)):
        if column == 0:
            raise ConfigError(
                f"expected {name} as a column from 1, or from -1 at the end; received 0"
            )
    name = os.fspath(path) if isinstance(path, str | os.PathLike) else getattr(path, "name", "-")
    lines = [
        (row, line.rstrip("\r\n"))
        for row, line in enumerate(Lines(path, str(name), encoding), start=1)
    ]
    layout = file_layout(lines)
    if not layout.width:
        raise DataError(f"{name}: expected at least one sentence, received none")
    word_at, tag_at = chosen_columns(str(name), layout, word, tag, tags=tags)
    sentences = list(_sentences(str(name), lines, layout, word_at, tag_at))
    if not sentences:
        raise DataError(f"{name}: expected at least one sentence, received none")
    words_from = f"words from column {layout.called(word_at)}"
    if tag_at is None:
        located = [_located(sentence, join) for sentence in sentences]
        return EntityExamples(
            [text for text, _ in located],
            None,
            [places for _, places in located],
            [sentence.rows[0] for sentence in sentences],
            str(name),
            f"{words_from}, no tags",
        )
    return tagged_examples(
        str(name),
        sentences,
        f"{words_from}, tags from column {layout.called(tag_at)} of {layout.width}",
        scheme=scheme,
        join=join,
        lenient=lenient,
    )


def check_join(join: str) -> None:
    """Raises ConfigError if `join` is not a `Join`."""
    if join not in get_args(Join):
        raise ConfigError(f"expected join of {', '.join(get_args(Join))}, received {join!r}")


def tagged_examples(
    name: str,
    sentences: Sequence[TaggedWords],
    source: str,
    *,
    scheme: str | None,
    join: Join,
    lenient: bool,
) -> EntityExamples:
    """Converts words and their tags to examples.

    Args:
        name: str. The file's name, for messages.
        sentences: list of TaggedWords, at least one. Their tags are rewritten in the form B-PER.
        source: str. The origin of words and tags, for `note`.
        scheme: see `read_conll`.
        join: likewise.
        lenient: likewise.

    Returns:
        EntityExamples, one per sentence.

    Raises:
        ConfigError: unknown scheme.
        DataError: a tag breaks the scheme, with file and line.
    """
    rewritten = _rewrite_tags(name, sentences, scheme)
    scheme = _checked_scheme(name, sentences, scheme, lenient)
    texts, words, entities = [], [], []
    for sentence in sentences:
        text, places = _located(sentence, join)
        texts.append(text)
        words.append(places)
        entities.append(
            [
                Entity(places[start][0], places[end - 1][1], kind)
                for start, end, kind in chunks(sentence.tags, scheme)
            ]
        )
    types = Counter(entity.label for row in entities for entity in row)
    note = f"{source} ({scheme}{rewritten}): {counted_types(types)}"
    _logger.info("%s: %s", name, note)
    _warn_about_types(name, types, sum(len(sentence.words) for sentence in sentences))
    rows = [sentence.rows[0] for sentence in sentences]
    return EntityExamples(texts, entities, words, rows, name, note)


def _rewrite_tags(name: str, sentences: Sequence[TaggedWords], scheme: str | None) -> str:
    """Rewrites tags such as PER_B as B-PER; returns a remark for `note`."""
    if scheme is not None and check_scheme(scheme) in ("IO", "words"):
        return ""
    try:
        changed = plain_tags(
            (tag for sentence in sentences for tag in sentence.tags), prefixed=scheme is not None
        )
    except UnclearTag as error:
        row = next(
            sentence.rows[sentence.tags.index(error.tag)]
            for sentence in sentences
            if error.tag in sentence.tags
        )
        raise DataError(f"{name}:{row}: {error}") from None
    if not changed:
        return ""
    for sentence in sentences:
        sentence.tags = [changed.get(tag, tag) for tag in sentence.tags]
    old = min(changed, key=lambda tag: (not changed[tag].startswith("B-"), tag))
    return f", {clipped(old)} read as {clipped(changed[old])}"


def counted_types(types: Counter[str]) -> str:
    """Lists types with their counts, the most common first; control characters are escaped."""
    listed = [
        f"{clipped(kind if kind.isprintable() else repr(kind))} {count:,}"
        for kind, count in types.most_common(_LISTED)
    ]
    more = f", ... ({len(types):,} types)" if len(types) > _LISTED else ""
    return ", ".join(listed) + more if listed else "no entities"


def _warn_about_types(name: str, types: Counter[str], words: int) -> None:
    """Warns about types that suggest a wrong column."""
    odd = [kind for kind in types if not kind.strip("-_*")]
    if odd:
        _logger.warning(
            "%s: %s of %s entities have the type %s, which looks like an empty field; if so, give "
            "the column of the tags with `tag=N`",
            name,
            f"{sum(types[kind] for kind in odd):,}",
            f"{types.total():,}",
            ", ".join(repr(kind) for kind in odd[:_LISTED]),
        )
    if len(types) > max(100, words // 5):
        _logger.warning(
            "%s: %s words have tags of %s types, which looks like a column of words; if so, give "
            "the column of the tags with `tag=N`",
            name,
            f"{words:,}",
            f"{len(types):,}",
        )


def join_words(words: Sequence[str], join: Join = "auto") -> tuple[str, list[tuple[int, int]]]:
    """Joins words into a text.

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
    name: str, lines: list[tuple[int, str]], layout: Layout, word_at: int, tag_at: int | None
) -> Iterator[TaggedWords]:
    sentence = TaggedWords()
    for row, line in lines:
        if not line.strip():
            if sentence.words:
                yield sentence
            sentence = TaggedWords()
            continue
        columns = split_columns(line, layout.separator)
        if _is_comment(line, columns, layout, tag_at, first=not sentence.words):
            text_comment = _TEXT_COMMENT.match(line)
            if text_comment and not sentence.words:
                sentence.text = text_comment[1]
            continue
        if columns[0] == "-DOCSTART-":
            continue
        if len(columns) != layout.width:
            raise DataError(
                f"{name}:{row}: expected {layout.width} columns separated by "
                f"{'tabs' if layout.separator else 'spaces'}, as in most lines, received "
                f"{len(columns)}: {clipped(line)!r}"
            )
        if layout.numbered and not columns[0].isdigit():
            continue  # a range or an empty node: its words have separate lines
        for what, column in (("word", word_at), ("tag", tag_at)):
            if column is not None and not columns[column].strip():
                raise DataError(f"{name}:{row}: expected a {what}, but its column is empty")
        sentence.words.append(columns[word_at].strip())
        if tag_at is not None:
            sentence.tags.append(columns[tag_at].strip())
        sentence.rows.append(row)
    if sentence.words:
        yield sentence


def _is_comment(
    line: str, columns: list[str], layout: Layout, tag_at: int | None, *, first: bool
) -> bool:
    """Whether a line is a comment; `first`: it comes before the first word of its sentence."""
    # The word `#`, as in tweets, has all columns.
    if not line.startswith("#") or len(columns) != layout.width:
        return line.startswith("#")
    # A comment may have all columns by chance; it comes before the words and has no tag.
    if not first or columns[0] != "#":
        return False
    if _KEY_COMMENT.match(line):
        return True
    return tag_at is not None and not layout.has_tag(tag_at, columns[tag_at].strip())


def _checked_scheme(
    name: str, sentences: Sequence[TaggedWords], scheme: str | None, lenient: bool
) -> str:
    if scheme is not None:
        checked = check_scheme(scheme)
    else:
        tags = Counter(tag for sentence in sentences for tag in sentence.tags)
        checked = guess_scheme(tags)
        if checked == "words" and len(tags) == 1 and sum(tags.values()) > 1:
            raise DataError(
                f"{name}: expected different tags, "
                f"received only {next(iter(tags))!r}; give the column "
                "of the tags"
            )
        # IOB1 and IOB2 have the same tags. A file that is valid in IOB2 is rarely IOB1.
        broken = checked == "IOB2" and _first_fault(sentences, "IOB2") is not None
        if broken and _first_fault(sentences, "IOB1") is None:
            checked = "IOB1"
    if lenient:
        return checked
    problem = _first_fault(sentences, checked)
    if problem:
        row, message = problem
        hint = "" if scheme else f" (detected scheme: {checked}; give another one if this is wrong)"
        raise DataError(
            f"{name}:{row}: {message}; correct it, or read with `lenient=True`, which "
            f"begins an entity there{hint}"
        )
    return checked


def _first_fault(sentences: Sequence[TaggedWords], scheme: str) -> tuple[int, str] | None:
    for sentence in sentences:
        problem = fault(sentence.tags, scheme)
        if problem:
            return sentence.rows[problem[0]], problem[1]
    return None


def _located(sentence: TaggedWords, join: Join) -> tuple[str, list[tuple[int, int]]]:
    """The text of a sentence, and the offsets of its words."""
    if join == "auto" and sentence.text is not None:
        places = _aligned(sentence.text, sentence.words)
        if places is not None:
            return sentence.text, places
    return join_words(sentence.words, join)


def _aligned(text: str, words: Sequence[str]) -> list[tuple[int, int]] | None:
    """The offsets of words in a text that has only white space between them; None otherwise."""
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
