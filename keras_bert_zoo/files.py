"""Reading small files strictly, and writing JSON."""

from __future__ import annotations

import json
import math
import os
import re
import stat
from pathlib import Path
from typing import Any

from keras_bert_zoo.errors import BertZooError, ConfigError

SIDE_FILE = "keras_bert_zoo.json"
"""Of a saved model: what Hugging Face's files have no place for (the longest input a task was
trained with, a threshold, the record of its training). By it an earlier save is known."""

GOOGLE_CONFIGS = ("bert_config.json", "albert_config.json", "electra_config.json")
"""How Google's checkpoints call their configurations."""

SENTENCEPIECE_FILES = (
    "sentencepiece.bpe.model", "spiece.model", "spm.model", "tokenizer.model",
    "sentencepiece.model",
)  # fmt: skip
"""How the tokenizers of transformers call SentencePiece's model files."""

# JSON that describes a checkpoint is small: the largest config.json of the field (its label
# tables) has some hundred kilobytes.
JSON_LIMIT_BYTES = 10_000_000
_JSON_DEPTH_LIMIT = 64
# An empty list is two bytes of text and sixty of memory. The vocabularies that have most are
# SentencePiece's, with one list a piece: XLM-V's has 900 thousand.
_JSON_CONTAINER_LIMIT = 1_000_000
_JSON_DIGIT_LIMIT = 64  # of an integer; transformers writes 10**30 where it means no limit
_JSON_KEY_SHOWN = 512  # characters of a key in a message
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


def read_small_file(
    path: str | os.PathLike[str], limit: int, error: type[BertZooError] = ConfigError
) -> bytes:
    """Reads a regular file whole, if it is small.

    Args:
        path: of the file. A pipe or a device of that name is not waited for.
        limit: int, bytes.
        error: what to raise.

    Returns:
        bytes.

    Raises:
        BertZooError: of the kind `error`: it cannot be read, is not a regular file, or is larger.
    """
    name = os.fspath(path)
    data, reason = b"", ""
    try:
        with open(name, "rb", opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                reason = f"{name} cannot be read: it is not a regular file."
            elif status.st_size > limit:
                reason = f"{name} is larger than {limit:,} bytes, which no such file is."
            else:
                data = file.read(status.st_size)
    except (OSError, ValueError) as failure:  # ValueError: a path with a NUL in it
        reason = f"{name} cannot be read: {getattr(failure, 'strerror', None) or failure}."
    if reason:
        raise error(reason)
    return data


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # opening a pipe would wait for ever


def read_json(path: str | os.PathLike[str], *, limit: int = JSON_LIMIT_BYTES) -> dict[str, Any]:
    """Reads a small JSON object, strictly.

    Args:
        path: of the file.
        limit: int, bytes.

    Returns:
        dict.

    Raises:
        ConfigError: it is not a regular file that holds a JSON object, is larger than `limit`,
            nested deeply, or holds NaN, an infinity, an integer of more than 64 digits, half a
            surrogate pair or a key twice.
    """
    return parse_json(read_small_file(path, limit), os.fspath(path), limit=limit)


def parse_json(
    data: bytes,
    path: str,
    *,
    limit: int = JSON_LIMIT_BYTES,
    containers: int = _JSON_CONTAINER_LIMIT,
) -> dict[str, Any]:
    """Parses a JSON object as `read_json` does.

    Args:
        data: the file's bytes.
        path: for messages.
        limit: int, bytes.
        containers: int. How many lists and objects it may hold; brackets in texts count, too.

    Returns:
        dict.

    Raises:
        ConfigError: see `read_json`.
    """
    value = parse_json_value(data, path, limit=limit, containers=containers)
    if not isinstance(value, dict):
        raise ConfigError(f"{path} must hold a JSON object, got {type(value).__name__}.")
    return value


def parse_json_value(
    data: bytes,
    path: str,
    *,
    limit: int = JSON_LIMIT_BYTES,
    containers: int = _JSON_CONTAINER_LIMIT,
) -> Any:
    """Parses any JSON value as `parse_json` parses an object; see there.

    >>> parse_json_value(b"[1, 2]", "a.json")
    [1, 2]
    """
    if len(data) > limit:
        raise ConfigError(f"{path} is larger than {limit:,} bytes, which no such file is.")
    if data.count(b"[") + data.count(b"{") > containers:
        raise ConfigError(
            f"{path} cannot be read as JSON: more than {containers:,} lists and objects."
        )
    try:
        value = json.loads(
            data.decode("utf-8"),
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_integer,
            object_pairs_hook=_unique,
        )
        _check_values(value, texts=_SURROGATE_ESCAPE.search(data) is not None)
    except RecursionError:
        raise ConfigError(f"{path} cannot be read as JSON: nested too deeply.") from None
    except ValueError as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}.") from None
    return value


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:32]} is beyond a float")
    return value


def _integer(text: str) -> int:
    if len(text) > _JSON_DIGIT_LIMIT:
        raise ValueError(f"an integer of {len(text):,} digits")
    return int(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:_JSON_KEY_SHOWN]!a} is given twice")
    return found


def _check_values(value: Any, *, texts: bool) -> None:
    """Raises ValueError if it is nested deeply; with `texts`, if a string is not Unicode text."""
    level = [value]
    for _ in range(_JSON_DEPTH_LIMIT):
        if texts:
            strings = [item for item in level if isinstance(item, str)]
            strings += [key for item in level if isinstance(item, dict) for key in item]
            for text in strings:
                text.encode("utf-8")  # UnicodeEncodeError is a ValueError
        children: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                children += item.values()
            elif isinstance(item, list):
                children += item
        if not children:
            return
        level = children
    raise ValueError(f"nested deeper than {_JSON_DEPTH_LIMIT} levels")


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Writes a dict as readable JSON."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
