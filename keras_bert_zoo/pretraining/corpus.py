"""Documents of a corpus of plain text and JSON Lines, read as a stream."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_bert_zoo.data.examples import clipped
from keras_bert_zoo.data.json_records import json_records, shown
from keras_bert_zoo.data.lines import Lines
from keras_bert_zoo.data.streams import plain_suffix, unreadable
from keras_bert_zoo.errors import ConfigError, DataError

__all__ = ["DOCUMENT_CHARACTERS", "DOCUMENT_KINDS", "CorpusFile", "corpus_files", "read_documents"]

DOCUMENT_KINDS = ("blank-line", "file", "line")
"""The ways to separate the documents of a text file."""

DOCUMENT_CHARACTERS = 1 << 22
"""A longer document is split after the line with which it reaches this number of characters. A
book of a million words has 6 million."""

_JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
_DEFAULT_FIELD = "text"


@dataclass(frozen=True)
class CorpusFile:
    """A file of a corpus.

    Args:
        path: Path.
        bytes: int. The size of the file, compressed if the file is.
    """

    path: Path
    bytes: int


def corpus_files(patterns: Sequence[str | os.PathLike[str]]) -> list[CorpusFile]:
    """Finds the files of a corpus.

    Args:
        patterns: list of file names or patterns. `*`, `?` and `[abc]` match characters of a name,
            `**` matches folders at any depth. A name that exists is not read as a pattern.
            Patterns do not match folders, nor names that begin with a dot.

    Returns:
        list of CorpusFile, sorted by name, each file once.

    Raises:
        DataError: a name or a pattern matches no file, or is a folder, a pipe or a device.
        ConfigError: there are no patterns.

    >>> [file.path.name for file in corpus_files(["docs/*sea*.md", "docs/search.md"])]
    ['search.md']
    """
    if isinstance(patterns, str | os.PathLike):
        patterns = [patterns]
    if not patterns:
        raise ConfigError("expected at least one file name or pattern, received none")
    paths: dict[str, str] = {}  # without symbolic links -> as given
    for pattern in patterns:
        for path in _matches(os.fspath(pattern)):
            paths.setdefault(os.path.realpath(path), path)
    return [CorpusFile(Path(path), os.stat(path).st_size) for path in sorted(paths.values())]


def read_documents(
    file: CorpusFile | str | os.PathLike[str],
    *,
    documents: str = "blank-line",
    field: str | None = None,
    encoding: str = "utf-8",
) -> Iterator[list[str]]:
    """Yields the documents of a file.

    The file is read once, as a stream. Memory does not grow with its size: a document of more than
    `DOCUMENT_CHARACTERS` is split, and yielded as several documents. Each part but the last ends
    with the line that reaches the limit. A line has at most 16,777,216 bytes.

    Args:
        file: CorpusFile, or the file's name. A name that ends in `.gz` or `.zst` means a compressed
            file. A name that ends in `.jsonl`, `.ndjson` or `.json`, also with `.gz` or `.zst`,
            means JSON: one object per line, or one list of objects. Other files are plain text.
        documents: str. How documents are separated in plain text. One of:
            "blank-line": by empty lines, and lines of white space.
            "file": the file is one document.
            "line": each line is a document.
            In JSON, each object is a document.
        field: str or None. The key of the text in JSON; None means "text". Plain text ignores it.
        encoding: str.

    Yields:
        list of str, the document's lines without line ends. Lines that are empty or white space
        are left out, and so are documents without any other line.

    Raises:
        ConfigError: an unknown encoding or value of `documents`; a `.zst` file, and the package
            zstandard is not installed.
        DataError: the file cannot be read, contains bytes that are not valid text, a longer line,
            or an object without a text; the message names file and line.

    >>> list(read_documents("tests/assets/pretraining/two_documents.txt"))
    [['The first document.', 'It has two lines.'], ['The second one.']]
    """
    if documents not in DOCUMENT_KINDS:
        raise ConfigError(
            f"expected `documents` to be one of {', '.join(DOCUMENT_KINDS)}, received {documents!r}"
        )
    name = os.fspath(file.path if isinstance(file, CorpusFile) else file)
    if plain_suffix(name) in _JSON_SUFFIXES:
        return _of_json(name, _DEFAULT_FIELD if field is None else field, encoding)
    return _of_blocks(Lines(name, name, encoding).blocks(), documents)


def _matches(pattern: str) -> list[str]:
    """Returns the files of a name or a pattern."""
    if os.path.isdir(pattern):
        raise DataError(
            f"{pattern}: expected a file or a pattern, but this is a folder; give a pattern such "
            f"as {os.path.join(pattern, '**', '*.txt')}"
        )
    if os.path.exists(pattern):
        if not os.path.isfile(pattern):
            raise DataError(
                f"{pattern}: expected a regular file, which can be read more than once, but this "
                "is a pipe or a device"
            )
        return [pattern]
    if not glob.has_magic(pattern):
        raise unreadable(FileNotFoundError(), pattern)
    paths = [path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path)]
    if not paths:
        raise DataError(f"{pattern}: expected a pattern of file names, but it matches no file")
    return paths


def _of_blocks(blocks: Iterable[str], documents: str) -> Iterator[list[str]]:
    """Yields the documents of texts of whole lines."""
    document: list[str] = []
    characters = 0
    ends_at_blank, is_line = documents == "blank-line", documents == "line"
    for block in blocks:
        text = block.replace("\r\n", "\n") if "\r" in block else block
        lines = text.split("\n")
        if not lines[-1]:
            lines.pop()  # after the last line end
        for line in lines:
            if line and not line.isspace():
                document.append(line)
                characters += len(line)
                if is_line or characters >= DOCUMENT_CHARACTERS:
                    yield document
                    document, characters = [], 0
            elif ends_at_blank and document:
                yield document
                document, characters = [], 0
    if document:
        yield document


def _of_json(name: str, field: str, encoding: str) -> Iterator[list[str]]:
    for line, record in json_records(name, encoding=encoding):
        if field not in record:
            keys = ", ".join(map(repr, list(record)[:20])) or "no keys"
            raise DataError(
                f"{name}:{line}: expected an object with the key {field!r}, received "
                f"{clipped(keys)}; give the `field` of the text"
            )
        text = record[field]
        if not isinstance(text, str):
            raise DataError(
                f"{name}:{line}: expected {field!r} to be a text, received {shown(text)}"
            )
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise DataError(
                    f"{name}:{line}: expected characters in {field!r}, received half of a "
                    "surrogate pair (\\ud800 to \\udfff); remove it or write both halves"
                ) from None
        yield from _of_blocks([text], "file")
