"""Files of data as streams of bytes, unpacked, and the reason where one cannot be read."""

from __future__ import annotations

import gzip
import io
import os
import stat
import zlib
from typing import Any, BinaryIO, cast

from keras_bert_zoo.errors import DataError

__all__ = ["READ_ERRORS", "name_of", "open_bytes", "unreadable"]

# What deflate makes of real text is a tenth or so of it; of one byte again and again, a thousandth.
_BOMB_RATIO = 200
_BOMB_BYTES = 1 << 26  # below this a file may be packed as it likes
_BUFFER_BYTES = 1 << 17

# The first bytes of files that are no text, and what to do with them.
_PACKED = {
    b"\x1f\x8b": "expected text, but the file is gzipped; give it a name that ends in .gz",
    b"PK\x03\x04": "expected text, but this is a zip archive or an Excel workbook; unpack it, or "
    "save the sheet as CSV",
}

READ_ERRORS = (OSError, EOFError, zlib.error)
"""What reading a stream of `open_bytes` raises, besides DataError."""


def name_of(path: str | os.PathLike[str] | BinaryIO, unnamed: str = "<stream>") -> str:
    """The name of a file, or of a binary file object, for messages."""
    if isinstance(path, str | os.PathLike):
        return str(os.fspath(path))
    return str(getattr(path, "name", "") or unnamed)


def open_bytes(path: str | os.PathLike[str] | BinaryIO, name: str) -> BinaryIO:
    """Opens a file to be read once, from its beginning; a pipe, too.

    Args:
        path: the file's name; gzipped where `name` ends in `.gz`. Or a binary file object, which is
            read as it is and left open.
        name: str. For messages.

    Returns:
        a binary stream. While it is read it raises one of `READ_ERRORS`, see `unreadable`, or a
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
    """Says why a file cannot be opened or read.

    Args:
        error: what was raised.
        name: str. The file's.
        after: str. How far it was read, such as " after line 3".
    """
    if isinstance(error, FileNotFoundError):
        return DataError(f"{name}: there is no such file")
    if isinstance(error, IsADirectoryError):
        return DataError(f"{name}: expected a file, but this is a directory")
    if isinstance(error, EOFError | zlib.error | gzip.BadGzipFile):
        return DataError(
            f"{name}: cannot decompress{after}: {error}; the file is cut off, damaged, or not "
            "gzipped"
        )
    return DataError(f"{name}: cannot read: {getattr(error, 'strerror', None) or error}")


class _Borrowed(io.RawIOBase):
    """A caller's stream, read through; closing this leaves that open."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Packed(io.RawIOBase):
    """A gzipped file as it lies on the disk; counts what was read."""

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
    """What a gzipped file holds; raises DataError if it unpacks to too much."""

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
                f"{self._name}: expected gzipped text, but {self._packed.count:,} bytes of the "
                f"file unpack to more than {_BOMB_RATIO} times as many; unpack it first if this "
                "is meant"
            )
        return count

    def close(self) -> None:
        self._stream.close()
        self._packed.close()
        super().close()
