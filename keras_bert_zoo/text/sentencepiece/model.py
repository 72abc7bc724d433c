"""Reads the fields of SentencePiece's model files that Hugging Face's tokenizers use.

A model file is a protocol buffer, `ModelProto` of sentencepiece_model.proto. This module parses the
wire format, because only the package `sentencepiece` has the message's Python class.

Source: sentencepiece, src/sentencepiece_model.proto.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text.vocabulary_files import read_bytes

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_ALGORITHMS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


@dataclass(frozen=True)
class Piece:
    """A piece of the vocabulary: its text, score and type."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True)
class SentencePieceModel:
    """The contents of a model file.

    Attributes:
        pieces: in the order of their ids.
        algorithm: "unigram", "bpe", "word" or "char".
        unk_id: int.
        byte_fallback: bool.
        charsmap: bytes, the compiled character map; empty without one.
    """

    pieces: tuple[Piece, ...]
    algorithm: str
    unk_id: int
    byte_fallback: bool
    charsmap: bytes


def read_model(path: str | os.PathLike[str]) -> SentencePieceModel:
    """Reads a model file.

    Raises:
        ConfigError: the file is missing, damaged, or no model file.
    """
    data = read_bytes(path)
    try:
        return parse_model(data)
    except ConfigError as error:
        raise ConfigError(f"Expected a SentencePiece model at {path}, received {error}.") from error


def parse_model(data: bytes) -> SentencePieceModel:
    r"""Parses the bytes of a model file.

    Raises:
        ConfigError: the bytes are damaged, or no model file.

    Example:
        >>> parse_model(b"\n\x05\n\x03<s>").pieces[0].text
        '<s>'
    """
    pieces = []
    algorithm, unk_id, byte_fallback, charsmap = 1, 0, False, b""
    for field, value in _fields(data):
        if field == 1:
            pieces.append(_piece(_bytes(value)))
        elif field == 2:
            for inner, number in _fields(_bytes(value)):
                if inner == 3:
                    algorithm = _int(number)
                elif inner == 40:
                    unk_id = _int(number)
                elif inner == 35:
                    byte_fallback = bool(_int(number))
        elif field == 3:
            for inner, text in _fields(_bytes(value)):
                if inner == 2:
                    charsmap = _bytes(text)
    if not pieces:
        raise ConfigError("no piece")
    if algorithm not in _ALGORITHMS:
        raise ConfigError(f"the model_type {algorithm} instead of 1 to 4")
    if not 0 <= unk_id < len(pieces):
        raise ConfigError(f"the unk_id {unk_id} with {len(pieces)} pieces")
    return SentencePieceModel(
        tuple(pieces), _ALGORITHMS[algorithm], unk_id, byte_fallback, charsmap
    )


def _piece(data: bytes) -> Piece:
    text, score, kind = "", 0.0, NORMAL
    for field, value in _fields(data):
        if field == 1:
            try:
                text = _bytes(value).decode("utf-8")
            except UnicodeDecodeError as error:
                raise ConfigError(f"a piece that is not UTF-8: {value!r:.60}") from error
        elif field == 2:
            if not isinstance(value, bytes) or len(value) != 4:
                raise ConfigError("a score that is no float")
            (score,) = struct.unpack("<f", value)
        elif field == 3:
            kind = _int(value)
    return Piece(text, score, kind)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yields the fields of a message: numbers and values."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        field, wire = key >> 3, key & 7
        if field == 0:
            raise ConfigError("a field of number 0")
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield field, value
            continue
        if wire == _BYTES:
            size, at = _varint(data, at)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ConfigError(f"a field of wire type {wire}")
        if size > len(data) - at:
            raise ConfigError(f"a field of {size} bytes where {len(data) - at} are left")
        yield field, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ConfigError("a number that is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ConfigError("a number of more than ten bytes")


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ConfigError("a number where a message or text belongs")
    return value


def _int(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ConfigError("a message or text where a number belongs")
    # Negative numbers have 64 bits.
    return value - (1 << 64) if value >= 1 << 63 else value
