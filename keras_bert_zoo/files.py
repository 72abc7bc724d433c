"""Reads small files with strict checks, and writes JSON."""

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
"""The file of a saved model for values without a key in Hugging Face's files: the longest input in
training, a threshold, the training record. It also identifies an earlier save."""

GOOGLE_CONFIGS = ("bert_config.json", "albert_config.json", "electra_config.json")
"""Names of the configuration files in Google's checkpoints."""

SENTENCEPIECE_FILES = (
    "sentencepiece.bpe.model", "spiece.model", "spm.model", "tokenizer.model",
    "sentencepiece.model",
)  # fmt: skip
"""Names of the SentencePiece model files of transformers' tokenizers."""

# JSON files of checkpoints are small. The largest config.json has some hundred kilobytes, mostly
# label tables.
JSON_LIMIT_BYTES = 10_000_000
_JSON_DEPTH_LIMIT = 64
# An empty list takes two bytes of text and sixty bytes of memory. SentencePiece vocabularies have
# the most lists, one for each piece: XLM-V's has 900 thousand.
_JSON_CONTAINER_LIMIT = 1_000_000
_JSON_DIGIT_LIMIT = 64  # of an integer; transformers writes 10**30 for no limit
_JSON_KEY_SHOWN = 512  # characters of a key in a message
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


def read_small_file(
    path: str | os.PathLike[str], limit: int, error: type[BertZooError] = ConfigError
) -> bytes:
    """Reads a small regular file.

    Args:
        path: the file. Pipes and devices raise an error immediately.
        limit: int. The largest number of bytes.
        error: type of BertZooError. The error to raise.

    Returns:
        bytes.

    Raises:
        BertZooError: of type `error`. The file cannot be read, is no regular file, or is too large.
    """
    name = os.fspath(path)
    data, reason = b"", ""
    try:
        with open(name, "rb", opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                reason = f"{name} cannot be read: it is not a regular file."
            elif status.st_size > limit:
                reason = f"{name} is larger than {limit:,} bytes, the limit for this file."
            else:
                data = file.read(status.st_size)
    except (OSError, ValueError) as failure:  # ValueError: the path contains a NUL
        reason = f"{name} cannot be read: {getattr(failure, 'strerror', None) or failure}."
    if reason:
        raise error(reason)
    return data


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # otherwise, opening a pipe would not return


def read_json(path: str | os.PathLike[str], *, limit: int = JSON_LIMIT_BYTES) -> dict[str, Any]:
    """Reads a small JSON object, with strict checks.

    Args:
        path: the file.
        limit: int. The largest number of bytes.

    Returns:
        dict.

    Raises:
        ConfigError: the file is not a regular file with a JSON object, is larger than `limit` or
            deeply nested, or contains NaN, an infinity, an integer of more than 64 digits, half of
            a surrogate pair or a repeated key.
    """
    return parse_json(read_small_file(path, limit), os.fspath(path), limit=limit)


def parse_json(
    data: bytes,
    path: str,
    *,
    limit: int = JSON_LIMIT_BYTES,
    containers: int = _JSON_CONTAINER_LIMIT,
) -> dict[str, Any]:
    """Parses a JSON object, with the checks of `read_json`.

    Args:
        data: bytes of the file.
        path: str. The file, for messages.
        limit: int. The largest number of bytes.
        containers: int. The largest number of lists and objects. Brackets in strings count, too.

    Returns:
        dict.

    Raises:
        ConfigError: see `read_json`.
    """
    value = parse_json_value(data, path, limit=limit, containers=containers)
    if not isinstance(value, dict):
        raise ConfigError(f"Expected a JSON object in {path}, received {type(value).__name__}.")
    return value


def parse_json_value(
    data: bytes,
    path: str,
    *,
    limit: int = JSON_LIMIT_BYTES,
    containers: int = _JSON_CONTAINER_LIMIT,
) -> Any:
    """Parses any JSON value, with the checks of `parse_json`.

    >>> parse_json_value(b"[1, 2]", "a.json")
    [1, 2]
    """
    if len(data) > limit:
        raise ConfigError(f"{path} is larger than {limit:,} bytes, the limit for this file.")
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
        raise ValueError(f"{text[:32]} is too large for a float")
    return value


def _integer(text: str) -> int:
    if len(text) > _JSON_DIGIT_LIMIT:
        raise ValueError(f"an integer of {len(text):,} digits")
    return int(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {repeated[:_JSON_KEY_SHOWN]!a} is given twice")
    return result


def _check_values(value: Any, *, texts: bool) -> None:
    """Raises ValueError for deeply nested values and, with `texts`, for strings with surrogates."""
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
    """Writes a dict as indented JSON."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
