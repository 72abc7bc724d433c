"""The decoded lines of a text file, and the reason where one cannot be read."""

import codecs
import contextlib
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from keras_bert_zoo.errors import ConfigError, DataError

__all__ = ["LINE_BYTES", "Lines"]

LINE_BYTES = 1 << 24
"""Of the longest line that is read. A book of a million words has 6 MB."""

# What deflate makes of real text is a tenth or so of it; of one byte again and again, a thousandth.
_BOMB_RATIO = 200
_BOMB_BYTES = 1 << 26  # below this a file may be packed as it likes


class Lines:
    """The decoded lines of a file, their ends kept; counts them and explains what cannot be read.

    Bytes are split at line feeds before they are decoded, so that an invalid byte can be reported
    with its line and place. Where that would cut characters in two (UTF-16), they are split after
    that. Memory is bounded by `LINE_BYTES`, also where a small gzipped file unpacks to a large one.

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
                f"expected `encoding` to be the name of a text encoding such as utf-8, "
                f"got {encoding!r}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        """Yields the lines."""
        try:
            with self._open() as stream:
                if self._splits:
                    for raw in self._raw_lines(stream):
                        yield self._decode(raw)
                else:
                    for line in self._decoded_lines(stream):
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

    def _raw_lines(self, stream: BinaryIO) -> Iterator[bytes]:
        packed = self._packed_bytes()
        unpacked = 0
        while raw := stream.readline(LINE_BYTES + 1):
            self.last += 1
            if len(raw) > LINE_BYTES:
                raise self._too_long()
            if packed:
                unpacked += len(raw)
                if unpacked > max(_BOMB_BYTES, _BOMB_RATIO * packed):
                    raise DataError(
                        f"{self.name}:{self.last}: expected gzipped text, but the file's "
                        f"{packed:,} bytes unpack to more than {_BOMB_RATIO} times as many; "
                        "unpack it first if this is meant"
                    )
            yield raw

    def _decoded_lines(self, stream: BinaryIO) -> Iterator[str]:
        text = io.TextIOWrapper(stream, self._codec, self._errors, newline="\n")
        try:
            while line := text.readline(LINE_BYTES + 1):
                self.last += 1
                if len(line) > LINE_BYTES:
                    raise self._too_long()
                yield line
        except UnicodeError as error:
            reason = getattr(error, "reason", error)
            raise DataError(
                f"{self.name}:{self.last + 1}: not valid {self._codec}: {reason}; "
                "give the file's `encoding`"
            ) from None
        finally:
            with contextlib.suppress(OSError, ValueError):
                text.detach()  # closing it is for the caller

    def _too_long(self) -> DataError:
        return DataError(
            f"{self.name}:{self.last}: expected a line of at most {LINE_BYTES:,} bytes, got a "
            "longer one; check that the file is text with line ends, and cut long texts"
        )

    def _packed_bytes(self) -> int:
        """The size of a gzipped file; 0 for others, and where it is not known."""
        if not isinstance(self._path, str | os.PathLike) or not self._is_gzipped():
            return 0
        try:
            return os.stat(self._path).st_size
        except OSError:
            return 0

    def _is_gzipped(self) -> bool:
        return self.name.lower().endswith(".gz")

    def _open(self) -> BinaryIO:
        if not isinstance(self._path, str | os.PathLike):
            return io.BufferedReader(_Borrowed(self._path))
        if self._is_gzipped():
            return cast("BinaryIO", gzip.open(self._path, "rb"))
        return open(self._path, "rb")

    def _decode(self, raw: bytes) -> str:
        try:
            line = raw.decode(self._codec, self._errors)
        except UnicodeDecodeError as error:
            hint = "re-save the file as UTF-8 or give its `encoding`"
            if self.last == 1 and raw[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                hint = "the file looks like UTF-16: give `encoding=utf-16`"
            raise DataError(
                f"{self.name}:{self.last}: byte 0x{raw[error.start]:02x} at byte "
                f"{error.start + 1} of the line is not valid {self._codec}; {hint}"
            ) from None
        return self._check(line)

    def _check(self, line: str) -> str:
        if self.last == 1:
            line = line.removeprefix("\ufeff")
        if "\0" in line:
            raise DataError(
                f"{self.name}:{self.last}: character {line.index(chr(0)) + 1} of the line is NUL; "
                "expected text: if this is UTF-16, give `encoding=utf-16`, else remove the NULs"
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
