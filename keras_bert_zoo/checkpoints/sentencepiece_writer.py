"""Writes the SentencePiece model file of a unigram tokenizer.

transformers 5 saves only a tokenizer.json, which Google's code and KerasHub do not read.

Source: sentencepiece, src/sentencepiece_model.proto.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text.sentencepiece.model import CONTROL, NORMAL, UNKNOWN, USER_DEFINED
from keras_bert_zoo.text.sentencepiece.tokenizer import SentencePieceTokenizer

_VARINT, _BYTES, _FIXED32 = 0, 2, 5
_UNIGRAM = 1


def model_bytes(tokenizer: SentencePieceTokenizer, *, fairseq: bool = False) -> bytes:
    """Returns a model file with a tokenizer's pieces, float32 scores and character map.

    Args:
        tokenizer: SentencePieceTokenizer.
        fairseq: bool. Whether the reader replaces the first three pieces by fairseq's special
            tokens and appends others, as XLM-RoBERTa's reader does.

    Returns:
        bytes.

    Raises:
        ConfigError: `fairseq`, and the special tokens have other positions.
    """
    kinds = {
        token.content: CONTROL if token.special else USER_DEFINED
        for token in tokenizer.added_tokens
    } | {tokenizer.unk_token: UNKNOWN}
    pieces = [(text, score, kinds.get(text, NORMAL)) for text, score in tokenizer.pieces]
    if fairseq:
        first = ["<s>", "<pad>", "</s>", "<unk>"]
        texts = [text for text, _, _ in pieces]
        if texts[:4] != first or texts[-1] != tokenizer.mask_token:
            raise ConfigError(
                f"expected {', '.join(first)} as the first pieces and <mask> as the last, received "
                f"{texts[:4]} and {texts[-1]!r}"
            )
        own = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
        pieces = [*own, *pieces[4:-1]]
    unk_id = next(i for i, (_, _, kind) in enumerate(pieces) if kind == UNKNOWN)
    trainer = _number(3, _UNIGRAM) + _number(35, int(tokenizer.byte_fallback)) + _number(40, unk_id)
    message = b"".join(_message(1, _piece(*piece)) for piece in pieces)
    return message + _message(2, trainer) + _message(3, _message(2, _charsmap(tokenizer)))


def _charsmap(tokenizer: SentencePieceTokenizer) -> bytes:
    maps = [
        base64.b64decode(step["precompiled_charsmap"])
        for step in normalizer_steps(tokenizer.normalizer)
        if step.get("type") == "Precompiled"
    ]
    return maps[0] if maps else b""


def normalizer_steps(normalizer: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """Yields the steps of a tokenizer.json's normalizer, including the steps of sequences."""
    if normalizer is None:
        return
    if normalizer.get("type") != "Sequence":
        yield normalizer
    for step in normalizer.get("normalizers", ()):
        yield from normalizer_steps(step)


def _piece(text: str, score: float, kind: int) -> bytes:
    value = _key(2, _FIXED32) + struct.pack("<f", score)
    return _message(1, text.encode("utf-8")) + value + _number(3, kind)


def _message(field: int, value: bytes) -> bytes:
    return _key(field, _BYTES) + _varint(len(value)) + value


def _number(field: int, value: int) -> bytes:
    return _key(field, _VARINT) + _varint(value)


def _key(field: int, wire: int) -> bytes:
    return _varint(field << 3 | wire)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
