"""Data files as streams of decompressed bytes, with errors for unreadable files."""

from __future__ import annotations

import gzip
import io
import os
import stat
import zlib
from typing import Any, BinaryIO, cast

from keras_bert_zoo.errors import DataError

__all__ = ["READ_ERRORS", "name_of", "open_bytes", "unreadable"]

# Deflate compresses real text to about a tenth, and a repeated byte to a thousandth.
_BOMB_RATIO = 200
_BOMB_BYTES = 1 << 26  # smaller files may have any ratio
_BUFFER_BYTES = 1 << 17

# The first bytes of compressed files, and the message for each.
_PACKED = {
    b"\x1f\x8b": "expected text, but the file is gzipped; give it a name that ends in .gz",
    b"PK\x03\x04": "expected text, but this is a zip archive or an Excel workbook; unpack it, or "
    "save the sheet as CSV",
}

READ_ERRORS = (OSError, EOFError, zlib.error)
"""The errors of reading a stream of `open_bytes`, in addition to DataError."""


def name_of(path: str | os.PathLike[str] | BinaryIO, unnamed: str = "<stream>") -> str:
    """The name of a file, or of a binary file object, for messages."""
    if isinstance(path, str | os.PathLike):
        return str(os.fspath(path))
    return str(getattr(path, "name", "") or unnamed)


def open_bytes(path: str | os.PathLike[str] | BinaryIO, name: str) -> BinaryIO:
    """Opens a file or a pipe for reading once, from its beginning.

    Args:
        path: the file's name; the file is gzipped if `name` ends in `.gz`. Or a binary file
            object, which is read without decompression and stays open.
        name: str. The file's name for messages.

    Returns:
        a binary stream. Reading it may raise one of `READ_ERRORS`, see `unreadable`, or a
        DataError if a small gzipped file unpacks to a large one.

    Raises:
        DataError: the file cannot be opened.
    """
    if not isinstance(path, str | os.PathLike):
        return io.BufferedReader(_Borrowed(path), _BUFFER_BYTES)
    try:
        file = open(path, "rb")  # noqa: SIM115
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        raise unreadable(error, name) from None
    if not name.lower().endswith(".gz"):
        begin = file.peek(4)[:4] if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""
        for magic, message in _PACKED.items():
            if begin.startswith(magic):
                file.close()
                raise DataError(f"{name}: {message}")
        return file
    return io.BufferedReader(_Unpacked(file, name), _BUFFER_BYTES)


def unreadable(error: Exception, name: str, after: str = "") -> DataError:
    """Converts an error of opening or reading a file to a DataError.

    Args:
        error: the original error.
        name: str. The file's name.
        after: str. The place of the error, such as " after line 3".
    """
    if isinstance(error, FileNotFoundError):
        return DataError(f"{name}: there is no such file")
    if isinstance(error, IsADirectoryError):
        return DataError(f"{name}: expected a file, but this is a directory")
    if isinstance(error, EOFError | zlib.error | gzip.BadGzipFile):
        return DataError(
            f"{name}: cannot decompress{after}: {error}; the file is truncated, damaged, or not "
            "gzipped"
        )
    return DataError(f"{name}: cannot read: {getattr(error, 'strerror', None) or error}")


class _Borrowed(io.RawIOBase):
    """Reads from a caller's stream; closing this object leaves the stream open."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Packed(io.RawIOBase):
    """The compressed bytes of a gzipped file; counts the bytes read."""

    def __init__(self, file: BinaryIO) -> None:
        self.count = 0
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(buffer)  # type: ignore[attr-defined]
        self.count += count
        return int(count)

    def close(self) -> None:
        self._file.close()
        super().close()


class _Unpacked(io.RawIOBase):
    """The decompressed bytes of a gzipped file; raises DataError if they are too many."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._packed = _Packed(file)
        self._stream = gzip.GzipFile(fileobj=cast("Any", self._packed), mode="rb")
        self._name = name
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._stream.readinto(buffer)
        self._count += count
        if self._count > max(_BOMB_BYTES, _BOMB_RATIO * self._packed.count):
            raise DataError(
                f"{self._name}: expected gzipped text, received {self._packed.count:,} bytes that "
                f"unpack to more than {_BOMB_RATIO} times their size; if this is intended, unpack "
                "the file first"
            )
        return count

    def close(self) -> None:
        self._stream.close()
        self._packed.close()
        super().close()
