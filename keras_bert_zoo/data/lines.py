"""Decoded lines of a text file, with errors that name file and line."""

import codecs
import contextlib
import io
import os
import re
from collections.abc import Iterator
from typing import BinaryIO, cast

from keras_bert_zoo.data.streams import READ_ERRORS, open_bytes, unreadable
from keras_bert_zoo.errors import ConfigError, DataError

__all__ = ["LINE_BYTES", "Lines"]

LINE_BYTES = 1 << 24
"""The size limit of a line. A book of a million words has 6 MB."""

_PIECE_CHARACTERS = 1 << 18
_BLOCK_BYTES = 1 << 20
# Python's text encodings that no file has: those of domain names, and one that always fails.
_UNUSED_ENCODINGS = ("idna", "punycode", "undefined")
_SURROGATE = re.compile("[\ud800-\udfff]")


class Lines:
    """The decoded lines of a file, with line ends; counts lines and explains read errors.

    Bytes are split into lines before they are decoded, to report the line and place of an invalid
    byte. UTF-16 is decoded first, because a split could cut its characters. `LINE_BYTES` bounds
    the memory, also for a small compressed file that unpacks to a large one.

    Args:
        path: the file's name, or a binary file object, which stays open. It is opened once, when
            the iteration begins, so it may be a pipe.
        name: str. The file's name for messages. A name that ends in `.gz` or `.zst` means a
            compressed file.
        encoding: str.
        replace_invalid: bool. Whether to replace invalid bytes with U+FFFD instead of raising.
        in_pieces: bool. Whether to yield a long line in pieces, as needed for single-line JSON.

    Raises:
        ConfigError: unknown encoding.
        DataError: while iterating: the file cannot be read; the message names file and line.
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
        self.last = 0  # the number of the last line read
        self._path = path
        self._errors = "replace" if replace_invalid else "strict"
        self._in_pieces = in_pieces
        try:
            self._codec = codecs.lookup(encoding).name.removesuffix("-sig")
            self._splits = "\n".encode(self._codec) == b"\n"
            if self._codec in _UNUSED_ENCODINGS:
                raise LookupError
        except (LookupError, TypeError, ValueError):
            raise ConfigError(
                f"expected `encoding` to be the name of a text encoding such as utf-8, "
                f"received {encoding!r}"
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

    def blocks(self) -> Iterator[str]:
        """Yields texts of whole lines, each of about a mebibyte; faster than single lines.

        `last` is the number of the last line of the text. Errors are those of the iteration over
        lines.
        """
        try:
            with open_bytes(self._path, self.name) as stream:
                if self._splits:
                    for raw in self._raw_blocks(stream):
                        yield self._decode_block(raw)
                else:
                    yield from self._decoded_blocks(stream)
        except READ_ERRORS as error:
            raise unreadable(error, self.name, f" after line {self.last}") from None

    def _raw_blocks(self, stream: BinaryIO) -> Iterator[bytes]:
        pieces: list[bytes] = []  # of a line without its end
        length = 0
        while raw := stream.read(_BLOCK_BYTES):
            end = raw.rfind(b"\n") + 1
            if end:
                yield b"".join([*pieces, raw[:end]])
                pieces, length = [], 0
            pieces.append(raw[end:])
            length += len(raw) - end
            if length > LINE_BYTES:
                self.last += 1
                raise self.too_long()
        if length:
            yield b"".join(pieces)

    def _decode_block(self, raw: bytes) -> str:
        first = self.last == 0
        try:
            text = raw.decode(self._codec, self._errors)
            if len(raw) <= LINE_BYTES and "\0" not in text and self._is_unicode(text):
                self.last += raw.count(b"\n") + (not raw.endswith(b"\n"))
                return text.removeprefix("\ufeff") if first else text
        except UnicodeError:
            pass
        # Finds the line of the error.
        return "".join(map(self._decode, self._raw_lines(cast("BinaryIO", io.BytesIO(raw)))))

    def _decoded_blocks(self, stream: BinaryIO) -> Iterator[str]:
        parts: list[str] = []
        length = 0
        for line in self._decoded_lines(stream):
            parts.append(line)
            length += len(line)
            if length >= _BLOCK_BYTES and line.endswith("\n"):
                yield "".join(parts)
                parts, length = [], 0
        if parts:
            yield "".join(parts)

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
                text.detach()  # the caller closes the stream

    def too_long(self) -> DataError:
        """Returns an error about the length of the last line read."""
        return DataError(
            f"{self.name}:{self.last}: expected a line of at most {LINE_BYTES:,} bytes, received a "
            "longer one; check that the file is text with line ends, and shorten long texts"
        )

    def _not_valid(self, error: UnicodeError, line: int) -> DataError:
        """Returns an error about invalid bytes; `line` is where the decoder's input begins."""
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
        if (index := line.find("\0")) >= 0:
            raise DataError(
                f"{self.name}:{self.last}: expected text, received NUL at character {index + 1}"
                "; if this is UTF-16, give `encoding=utf-16`, otherwise remove the NULs"
            )
        if not self._is_unicode(line):
            raise DataError(
                f"{self.name}:{self.last}: not valid {self._codec}: half of a surrogate pair; give "
                "the file's `encoding`"
            )
        return line

    def _is_unicode(self, text: str) -> bool:
        # Python's UTF-8 decoder raises an error for surrogates.
        return self._codec == "utf-8" or _SURROGATE.search(text) is None


_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
