"""Reads and writes the files of a tokenizer directory: JSON, vocabularies and merges.

Readers open only files in the directory, under the names that transformers uses. Paths inside a
file (`vocab_file`, `tokenizer_file`) are never opened.
"""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from keras_bert_zoo import files
from keras_bert_zoo.errors import ConfigError

# The largest vocabulary of an encoder is XLM-V's, with 901,629 pieces. It takes 18 MB as a
# SentencePiece model and 62 MB in a tokenizer.json (68 bytes a piece, measured on XLM-R: 250,002
# pieces, 17 MB). Other JSON files are small; see `files.JSON_LIMIT_BYTES`.
_TOKENIZER_LIMIT_BYTES = 100_000_000
_VOCABULARY_LIMIT_BYTES = 32_000_000
GAPS_LIMIT = 10_000  # ids without a token; real files have a few at most


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Reads a JSON object; returns an empty one if the file does not exist.

    Raises:
        ConfigError: the file cannot be read, is too large, or is not an object.
    """
    if not exists(path):
        return {}
    if path.name == "tokenizer.json":
        return files.read_json(path, limit=_TOKENIZER_LIMIT_BYTES)
    return files.read_json(path)


def exists(path: pathlib.Path) -> bool:
    """Returns whether the name exists, including broken links.

    Readers then raise an error for a broken link instead of ignoring it.
    """
    return os.path.lexists(path)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Reads the bytes of a vocabulary file.

    Raises:
        ConfigError: the file is missing, not a regular file, or larger than any vocabulary.
    """
    return files.read_small_file(path, _VOCABULARY_LIMIT_BYTES)


def read_lines(path: str | os.PathLike[str], content: str) -> list[str]:
    """Reads the lines of a vocabulary file.

    Only line feeds separate lines, because other line separators may be tokens. One carriage return
    before a line feed is removed.

    Args:
        path: the file.
        content: str. The name of the content, for messages.

    Raises:
        ConfigError: see `read_bytes`; or the file is not UTF-8.
    """
    try:
        text = read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"Expected {content} in UTF-8 at {path}, received other bytes at {error.start}. "
            "Save the file in UTF-8."
        ) from error
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def tokens_in_order(ids: Any, path: pathlib.Path, *, gaps: bool = False) -> list[str]:
    """Returns the tokens of a vocabulary in the order of their ids.

    Args:
        ids: dict of token to id.
        path: the file, for messages.
        gaps: bool. Allow ids without a token. transformers writes such files for a vocab.txt with
            repeated or blank lines. Each gap gets a placeholder token; see `fill_gaps`.

    Raises:
        ConfigError: `ids` is not an object, or its ids are not 0 to the last, once each.
    """
    if not isinstance(ids, Mapping) or not ids:
        raise ConfigError(
            f"Expected a vocabulary as an object of ids in {path}, received {ids!r:.80}."
        )
    limit = len(ids) + min(len(ids), GAPS_LIMIT) if gaps else len(ids)
    seen: set[int] = set()
    for token, token_id in ids.items():
        if (
            not isinstance(token_id, int)
            or isinstance(token_id, bool)
            or not 0 <= token_id < limit
            or token_id in seen
        ):
            once = "at most once each" if gaps else "once each"
            raise ConfigError(
                f"Expected the ids 0 to {limit - 1} {once} in {path}, received {token_id!r:.40} "
                f"for {token!r:.60}."
            )
        seen.add(token_id)
    return fill_gaps(ids, max(seen) + 1)


def fill_gaps(ids: Mapping[str, int], count: int) -> list[str]:
    """Returns the tokens in the order of their ids, with a placeholder for each free id.

    Args:
        ids: dict of token to id; the ids are distinct.
        count: int. The highest id plus one.

    Returns:
        list of str. A placeholder contains a space, so it matches no word of a text.

    Example:
        >>> fill_gaps({"a": 0, "b": 2}, 3)
        ['a', '[id 1 is free]', 'b']
    """
    tokens: list[str | None] = [None] * count
    for token, token_id in ids.items():
        tokens[token_id] = token
    return [_placeholder(i, ids) if token is None else token for i, token in enumerate(tokens)]


def _placeholder(token_id: int, taken: Mapping[str, int]) -> str:
    name = f"[id {token_id} is free]"
    while name in taken:
        name = f"[{name}]"
    return name


def dump_json(value: Mapping[str, Any], *, indent: int = 2) -> bytes:
    """Returns a JSON file's bytes, in UTF-8 with a final line feed."""
    return (json.dumps(value, indent=indent, ensure_ascii=False) + "\n").encode()


def write_files(
    directory: str | os.PathLike[str], contents: Mapping[str, bytes], stale: Iterable[str]
) -> None:
    """Writes a tokenizer's files and removes those of an earlier save that contradict them.

    Args:
        directory: created if it is missing.
        contents: dict of file name to bytes.
        stale: file names to remove, except those in `contents`.
    """
    folder = pathlib.Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    for name in {*stale} - {*contents}:
        (folder / name).unlink(missing_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
