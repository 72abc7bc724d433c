"""The decoded lines of a text file, and the reason where one cannot be read."""

import codecs
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from keras_bert_zoo.errors import ConfigError, DataError

__all__ = ["Lines"]


class Lines:
    """The decoded lines of a file, their ends kept; counts them and explains what cannot be read.

    Bytes are split at line feeds before they are decoded, so that an invalid byte can be reported
    with its line and place. Where that would cut characters in two (UTF-16), the file is decoded
    whole.

    Args:
        path: the file's name, or a binary file object, which is left open.
        name: str. The file's name for messages. The file is gzipped where it ends in `.gz`.
        encoding: str.
        replace_invalid: bool. Bytes that are not of the encoding become U+FFFD instead of an error.

    Raises:
        ConfigError: there is no such encoding.
        DataError: while iterating: the file cannot be read, with its name and line.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | BinaryIO,
        name: str,
        encoding: str,
        *,
        replace_invalid: bool = False,
    ) -> None:
        self.name = name
        self.last = 0  # the number of the line read last
        self._path = path
        self._errors = "replace" if replace_invalid else "strict"
        try:
            self._codec = codecs.lookup(encoding).name.removesuffix("-sig")
            self._splits = "\n".encode(self._codec) == b"\n"
        except (LookupError, TypeError, ValueError):
            raise ConfigError(
                f"expected the name of a text encoding such as utf-8, got {encoding!r}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        """Yields the lines."""
        try:
            with self._open() as stream:
                if self._splits:
                    for raw in stream:
                        self.last += 1
                        yield self._decode(raw)
                else:
                    for line in io.StringIO(self._decode_whole(stream.read()), newline=""):
                        self.last += 1
                        yield self._check(line)
        except FileNotFoundError:
            raise DataError(f"{self.name}: there is no such file") from None
        except IsADirectoryError:
            raise DataError(f"{self.name}: expected a file, but this is a directory") from None
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(
                f"{self.name}: cannot decompress after line {self.last}: {error}; "
                "the file is cut off, damaged, or not gzipped"
            ) from None
        except OSError as error:
            raise DataError(f"{self.name}: cannot read: {error.strerror or error}") from None

    def _open(self) -> BinaryIO:
        if not isinstance(self._path, str | os.PathLike):
            return io.BufferedReader(_Borrowed(self._path))
        if self.name.lower().endswith(".gz"):
            return cast("BinaryIO", gzip.open(self._path, "rb"))
        return open(self._path, "rb")

    def _decode(self, raw: bytes) -> str:
        try:
            line = raw.decode(self._codec, self._errors)
        except UnicodeDecodeError as error:
            hint = "re-save the file as UTF-8 or give its encoding"
            if self.last == 1 and raw[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                hint = "the file looks like UTF-16: give encoding utf-16"
            raise DataError(
                f"{self.name}:{self.last}: byte 0x{raw[error.start]:02x} at byte "
                f"{error.start + 1} of the line is not valid {self._codec}; {hint}"
            ) from None
        return self._check(line)

    def _decode_whole(self, raw: bytes) -> str:
        try:
            return raw.decode(self._codec, self._errors)
        except UnicodeError as error:
            raise DataError(f"{self.name}: not valid {self._codec}: {error}") from None

    def _check(self, line: str) -> str:
        if self.last == 1:
            line = line.removeprefix("\ufeff")
        if "\0" in line:
            raise DataError(
                f"{self.name}:{self.last}: character {line.index(chr(0)) + 1} of the line is NUL; "
                "expected text: if this is UTF-16, give its encoding, else remove the NULs"
            )
        return line


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
