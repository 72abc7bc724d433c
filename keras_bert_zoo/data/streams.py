"""Data files as streams of decompressed bytes, with errors for unreadable files."""

from __future__ import annotations

import gzip
import io
import os
import stat
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

from keras_bert_zoo.errors import DataError
from keras_bert_zoo.extras import check_package

__all__ = ["READ_ERRORS", "name_of", "open_bytes", "plain_suffix", "unreadable"]

_COMPRESSED = (".gz", ".zst")

# Deflate and Zstandard compress real text to about a tenth, and a repeated byte to a thousandth or
# less.
_BOMB_RATIO = 200
_BOMB_BYTES = 1 << 26  # smaller files may have any ratio
_BUFFER_BYTES = 1 << 17
# A block of a Zstandard frame has at least 4 bytes and unpacks to at most 128 KiB. So a piece of
# this size unpacks to at most 32 MiB.
_ZST_PIECE_BYTES = 1 << 10

# The first bytes of compressed files, and the message for each.
_PACKED = {
    b"\x1f\x8b": "expected text, but the file is gzipped; give it a name that ends in .gz",
    b"PK\x03\x04": "expected text, but this is a zip archive or an Excel workbook; unpack it, or "
    "save the sheet as CSV",
    b"\x28\xb5\x2f\xfd": "expected text, but the file is compressed with Zstandard; give it a name "
    "that ends in .zst",
}

READ_ERRORS = (OSError, EOFError, zlib.error)
"""The errors of reading a stream of `open_bytes`, in addition to DataError."""


def name_of(path: str | os.PathLike[str] | BinaryIO, unnamed: str = "<stream>") -> str:
    """The name of a file, or of a binary file object, for messages."""
    if isinstance(path, str | os.PathLike):
        return str(os.fspath(path))
    return str(getattr(path, "name", "") or unnamed)


def plain_suffix(name: str) -> str:
    """The suffix of a file's name without `.gz` or `.zst`, in lower case.

    >>> plain_suffix("a.JSONL.zst"), plain_suffix("a.b/c.gz")
    ('.jsonl', '')
    """
    path = Path(name.lower())
    return Path(path.stem if path.suffix in _COMPRESSED else path.name).suffix


def open_bytes(path: str | os.PathLike[str] | BinaryIO, name: str) -> BinaryIO:
    """Opens a file or a pipe for reading once, from its beginning.

    Args:
        path: the file's name; the file is gzipped if `name` ends in `.gz`, and compressed with
            Zstandard if it ends in `.zst`. Or a binary file object, which is read without
            decompression and stays open.
        name: str. The file's name for messages.

    Returns:
        a binary stream. Reading it may raise one of `READ_ERRORS`, see `unreadable`, or a
        DataError if a small compressed file unpacks to a large one.

    Raises:
        DataError: the file cannot be opened.
        ConfigError: a `.zst` file, and the package zstandard is not installed.
    """
    if not isinstance(path, str | os.PathLike):
        return io.BufferedReader(_Borrowed(path), _BUFFER_BYTES)
    suffix = os.path.splitext(name.lower())[1]
    if suffix == ".zst":
        check_package("zstandard", f"reading {name}", extra="pretraining")
    try:
        file = open(path, "rb")  # noqa: SIM115
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        raise unreadable(error, name) from None
    if suffix not in _COMPRESSED:
        begin = file.peek(4)[:4] if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""
        for magic, message in _PACKED.items():
            if begin.startswith(magic):
                file.close()
                raise DataError(f"{name}: {message}")
        return file
    packed = _Packed(file)
    unpacked: io.RawIOBase | BinaryIO
    if suffix == ".zst":
        unpacked = _Zstandard(packed)
    else:
        unpacked = cast("BinaryIO", gzip.GzipFile(fileobj=cast("Any", packed), mode="rb"))
    return io.BufferedReader(_Unpacked(packed, unpacked, name), _BUFFER_BYTES)


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
    if isinstance(error, _ZstandardError):
        return DataError(
            f"{name}: cannot decompress{after}: {error}; the file is truncated, damaged, or not "
            "compressed with Zstandard"
        )
    return DataError(f"{name}: cannot read: {getattr(error, 'strerror', None) or error}")


class _ZstandardError(OSError):
    """A file is not valid Zstandard data, or is truncated."""


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
    """The bytes of a compressed file; counts the bytes read."""

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


class _Zstandard(io.RawIOBase):
    """The decompressed bytes of a Zstandard file of one or more frames."""

    def __init__(self, packed: _Packed) -> None:
        import zstandard

        self._packed = packed
        self._zstandard = zstandard
        self._frame: Any = None  # the decompressor of an unfinished frame
        self._piece = b""  # compressed
        self._text = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._text:
            if not self._piece:
                self._piece = self._packed.read(_ZST_PIECE_BYTES) or b""
            if not self._piece:
                if self._frame is not None:
                    raise _ZstandardError("the file ends in the middle of a frame")
                return 0
            self._text = memoryview(self._unpack())
        count = min(len(buffer), len(self._text))
        buffer[:count] = self._text[:count]
        self._text = self._text[count:]
        return count

    def _unpack(self) -> bytes:
        if self._frame is None:
            self._frame = self._zstandard.ZstdDecompressor().decompressobj()
        try:
            text = self._frame.decompress(self._piece)
        except self._zstandard.ZstdError as error:
            raise _ZstandardError(str(error)) from None
        self._piece = b""
        if self._frame.eof:
            self._piece, self._frame = self._frame.unused_data, None
        return cast("bytes", text)


class _Unpacked(io.RawIOBase):
    """The decompressed bytes of a file; raises DataError if they are too many."""

    def __init__(self, packed: _Packed, stream: Any, name: str) -> None:
        self._packed = packed
        self._stream = stream
        self._name = name
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._stream.readinto(buffer)
        self._count += count
        if self._count > max(_BOMB_BYTES, _BOMB_RATIO * self._packed.count):
            raise DataError(
                f"{self._name}: expected compressed text, received {self._packed.count:,} bytes "
                f"that unpack to more than {_BOMB_RATIO} times their size; if this is intended, "
                "unpack the file first"
            )
        return int(count)

    def close(self) -> None:
        self._stream.close()
        self._packed.close()
        super().close()
