"""The objects of a JSON file: one a line, or all of them in one list."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import os
import re
import stat
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from keras_bert_zoo.data.examples import clipped
from keras_bert_zoo.data.lines import Lines
from keras_bert_zoo.errors import ConfigError, DataError

__all__ = ["json_records", "shown"]

LIMIT_BYTES = 1 << 28
"""Of a list in one file: a million annotated sentences have some 200 MB."""
_CONTAINER_LIMIT = 10_000_000  # lists and objects
_PEEKED_BYTES = 4096

_SPACE = re.compile(r"[ \t\r\n]*")


def json_records(
    path: str | os.PathLike[str] | BinaryIO, *, encoding: str = "utf-8"
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the objects of a file, each with the line on which it begins.

    Args:
        path: the file's name, with or without `.gz`, or a binary file object.
        encoding: str.

    Yields:
        the line, from 1, and the object.

    Raises:
        DataError: the file cannot be read as JSON, with its name and line.
    """
    name = str(os.fspath(path) if isinstance(path, str | os.PathLike) else _name_of(path))
    source: str | os.PathLike[str] | BinaryIO = path
    if not isinstance(path, str | os.PathLike):
        source = io.BytesIO(_limited(path, name))
    elif stat.S_ISFIFO(_mode(path)):  # a pipe can be opened once
        source = io.BytesIO(_unpacked(path, name))
    if not _is_list(source, encoding):
        yield from _of_lines(Lines(source, name, encoding))
        return
    yield from _of_list(_decoded(source, name, encoding), name)


def shown(value: Any) -> str:
    """A value as JSON, short enough for a message of one line."""
    return clipped(json.dumps(value, ensure_ascii=False, default=str))


def _name_of(stream: Any) -> str:
    return str(getattr(stream, "name", "-"))


def _of_lines(lines: Lines) -> Iterator[tuple[int, dict[str, Any]]]:
    for line in lines:
        if not line.strip():
            continue
        where = f"{lines.name}:{lines.last}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{where}: not valid JSON: {error}; expected an object on each line, or one list "
                "of objects"
            ) from None
        if not isinstance(record, dict):
            raise DataError(f"{where}: expected a JSON object on each line, got {shown(record)}")
        yield lines.last, record


def _of_list(text: str, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    if text.count("[") + text.count("{") > _CONTAINER_LIMIT:
        raise DataError(
            f"{name}: expected at most {_CONTAINER_LIMIT:,} lists and objects, got more"
        )
    decoder = json.JSONDecoder()
    line, counted = 1, 0
    at = _after_space(text, 0) + 1  # behind the bracket
    first = True
    while True:
        at = _after_space(text, at)
        if first and text[at : at + 1] == "]":
            break
        line, counted = line + text.count("\n", counted, at), at
        try:
            record, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else error
            place = error.lineno if isinstance(error, json.JSONDecodeError) else line
            raise DataError(f"{name}:{place}: not valid JSON: {reason}") from None
        if not isinstance(record, dict):
            raise DataError(f"{name}:{line}: expected a list of objects, got {shown(record)} in it")
        yield line, record
        first = False
        at = _after_space(text, at)
        if text[at : at + 1] == "]":
            break
        if text[at : at + 1] != ",":
            end = line + text.count("\n", counted, at)
            raise DataError(f"{name}:{end}: not valid JSON: expected a comma or a closing bracket")
        at += 1
    if _after_space(text, at + 1) != len(text):
        raise DataError(f"{name}: not valid JSON: expected nothing after the list")


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _is_list(source: Any, encoding: str) -> bool:
    """Whether the first sign of a file is an opening bracket; what cannot be read is no list."""
    try:
        if isinstance(source, io.BytesIO):
            data = source.getvalue()[:_PEEKED_BYTES]
        else:
            with _opened(source) as file:
                data = file.read(_PEEKED_BYTES)
        decoder = codecs.getincrementaldecoder(encoding)("replace")
    except (OSError, EOFError, zlib.error, LookupError, TypeError, ValueError):
        return False  # `Lines` says why
    text: str = decoder.decode(data)
    return text.removeprefix("\ufeff").lstrip(" \t\r\n").startswith("[")


def _opened(path: str | os.PathLike[str]) -> Any:
    return gzip.open(path, "rb") if str(path).lower().endswith(".gz") else open(path, "rb")


def _mode(path: str | os.PathLike[str]) -> int:
    try:
        return os.stat(path).st_mode
    except (OSError, ValueError):
        return 0  # `Lines` says why


def _unpacked(path: str | os.PathLike[str], name: str) -> bytes:
    try:
        with _opened(path) as file:
            return _limited(file, name)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{name}: cannot decompress: {error}") from None
    except OSError as error:
        raise DataError(f"{name}: cannot read: {error.strerror or error}") from None


def _limited(stream: Any, name: str) -> bytes:
    data: bytes = stream.read(LIMIT_BYTES + 1)
    if len(data) > LIMIT_BYTES:
        raise DataError(
            f"{name}: expected at most {LIMIT_BYTES:,} bytes, got more; cut the file into several"
        )
    return data


def _decoded(source: Any, name: str, encoding: str) -> str:
    data = source.getvalue() if isinstance(source, io.BytesIO) else _unpacked(source, name)
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeError as error:
        raise DataError(
            f"{name}: not valid {encoding}: {error}; give the file's encoding"
        ) from None
    except LookupError:
        raise ConfigError(
            f"expected the name of a text encoding such as utf-8, got {encoding!r}"
        ) from None
