"""The decoded lines of a text file, and the reason where one cannot be read."""

import codecs
import contextlib
import io
import os
import re
from collections.abc import Iterator
from typing import BinaryIO

from keras_bert_zoo.data.streams import READ_ERRORS, open_bytes, unreadable
from keras_bert_zoo.errors import ConfigError, DataError

__all__ = ["LINE_BYTES", "Lines"]

LINE_BYTES = 1 << 24
"""Of the longest line that is read. A book of a million words has 6 MB."""

_PIECE_CHARACTERS = 1 << 18
# Text encodings of Python that files are not written in: domain names, and one that always fails.
_OF_NO_FILES = ("idna", "punycode", "undefined")
_SURROGATE = re.compile("[\ud800-\udfff]")


class Lines:
    """The decoded lines of a file, their ends kept; counts them and explains what cannot be read.

    Bytes are split at line feeds before they are decoded, so that an invalid byte can be reported
    with its line and place. Where that would cut characters in two (UTF-16), they are split after
    that. Memory is bounded by `LINE_BYTES`, also where a small gzipped file unpacks to a large one.

    Args:
        path: the file's name, or a binary file object, which is left open. It is opened once, when
            the iteration begins, so it may be a pipe.
        name: str. The file's name for messages. The file is gzipped where it ends in `.gz`.
        encoding: str.
        replace_invalid: bool. Bytes that are not of the encoding become U+FFFD instead of an error.
        in_pieces: bool. Whether a long line is yielded in pieces, as JSON in a single line needs.

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
        in_pieces: bool = False,
    ) -> None:
        self.name = name
        self.last = 0  # the number of the line read last
        self._path = path
        self._errors = "replace" if replace_invalid else "strict"
        self._in_pieces = in_pieces
        try:
            self._codec = codecs.lookup(encoding).name.removesuffix("-sig")
            self._splits = "\n".encode(self._codec) == b"\n"
            if self._codec in _OF_NO_FILES:
                raise LookupError
        except (LookupError, TypeError, ValueError):
            raise ConfigError(
                f"expected `encoding` to be the name of a text encoding such as utf-8, "
                f"got {encoding!r}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        """Yields the lines."""
        try:
            with open_bytes(self._path, self.name) as stream:
                if self._splits and not self._in_pieces:
                    for raw in self._raw_lines(stream):
                        yield self._decode(raw)
                else:
                    yield from self._decoded_lines(stream)
        except READ_ERRORS as error:
            raise unreadable(error, self.name, f" after line {self.last}") from None

    def _raw_lines(self, stream: BinaryIO) -> Iterator[bytes]:
        while raw := stream.readline(LINE_BYTES + 1):
            self.last += 1
            if len(raw) > LINE_BYTES:
                raise self.too_long()
            yield raw

    def _decoded_lines(self, stream: BinaryIO) -> Iterator[str]:
        text = io.TextIOWrapper(stream, self._codec, self._errors, newline="\n")
        limit = _PIECE_CHARACTERS if self._in_pieces else LINE_BYTES + 1
        begins = True  # whether a line begins here
        try:
            while line := text.readline(limit):
                self.last += begins
                if len(line) > LINE_BYTES and not self._in_pieces:
                    raise self.too_long()
                yield self._check(line, first=begins and self.last == 1)
                begins = line.endswith("\n")
        except UnicodeError as error:
            raise self._not_valid(error, self.last + begins) from None
        finally:
            with contextlib.suppress(OSError, ValueError):
                text.detach()  # closing it is for the caller

    def too_long(self) -> DataError:
        """Says that the line read last is too long."""
        return DataError(
            f"{self.name}:{self.last}: expected a line of at most {LINE_BYTES:,} bytes, got a "
            "longer one; check that the file is text with line ends, and cut long texts"
        )

    def _not_valid(self, error: UnicodeError, line: int) -> DataError:
        """Says which bytes cannot be decoded; `line` begins before them."""
        hint = "give the file's `encoding`"
        if isinstance(error, UnicodeDecodeError):
            before = error.object[: error.start]
            line += before.decode(self._codec, "ignore").count("\n")
            if line == 1 and error.object[:2] in _UTF16_MARKS and self._splits:
                hint = "the file looks like UTF-16: give `encoding=utf-16`"
        reason = getattr(error, "reason", error)
        return DataError(f"{self.name}:{line}: not valid {self._codec}: {reason}; {hint}")

    def _decode(self, raw: bytes) -> str:
        try:
            line = raw.decode(self._codec, self._errors)
        except UnicodeDecodeError as error:
            hint = "re-save the file as UTF-8 or give its `encoding`"
            if self.last == 1 and raw[:2] in _UTF16_MARKS:
                hint = "the file looks like UTF-16: give `encoding=utf-16`"
            raise DataError(
                f"{self.name}:{self.last}: byte 0x{raw[error.start]:02x} at byte "
                f"{error.start + 1} of the line is not valid {self._codec}; {hint}"
            ) from None
        except UnicodeError as error:
            raise self._not_valid(error, self.last) from None
        return self._check(line, first=self.last == 1)

    def _check(self, line: str, *, first: bool) -> str:
        if first:
            line = line.removeprefix("\ufeff")
        if "\0" in line:
            raise DataError(
                f"{self.name}:{self.last}: character {line.index(chr(0)) + 1} of the line is NUL; "
                "expected text: if this is UTF-16, give `encoding=utf-16`, else remove the NULs"
            )
        if self._codec != "utf-8" and _SURROGATE.search(line):
            raise DataError(
                f"{self.name}:{self.last}: not valid {self._codec}: half of a surrogate pair, "
                "which is not a character; give the file's `encoding`"
            )
        return line


_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
