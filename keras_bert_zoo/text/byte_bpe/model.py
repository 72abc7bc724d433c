"""Converts a byte-level BPE vocabulary to a model for TensorFlow Text's SentencePiece op.

SentencePiece's BPE merges any two neighbors whose text is a piece: the highest score first, then
the leftmost. Hugging Face's BPE merges only listed pairs: the earliest in the list first, then the
leftmost. Both give the same result with these pieces and scores:

- A token T arises in only one way, in any text. Before T exists, no merge crosses its ends. So the
  merges inside are those of the text T alone, and the last of them is always the same pair. The
  position of this pair in the list gives T's score.
- If other merges come first, the text of a token does not become that token. Such a token arises in
  no text. It is not a piece, so SentencePiece does not make it either.
- Before SentencePiece makes a piece T, its text consists of two tokens. They are the same as in the
  text T alone: the last pair. So SentencePiece never merges a pair that is not listed.

This is true for every list of merges, even if no training would produce it.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras_bert_zoo.errors import ConfigError

_MAXIMUM_MERGES = 1 << 24  # ranks are float32 in the op
# In the op, each byte is one character from U+0100 on, of two bytes.
BYTE_CHARACTERS = 0x100
_SHORT = 24  # bytes; up to this length, repeated scans of all pairs are faster than a queue


@functools.cache
def byte_by_character() -> dict[str, int]:
    """Returns GPT-2's printable characters for the 256 bytes (gpt-2, src/encoder.py).

    Example:
        >>> byte_by_character()["Ġ"]
        32
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {
        **{chr(byte): byte for byte in printable},
        **{chr(256 + place): byte for place, byte in enumerate(others)},
    }


def token_bytes(token: str) -> bytes:
    """Returns the bytes of a token; its UTF-8 if it has other characters than GPT-2's.

    Example:
        >>> token_bytes("Ġhi")
        b' hi'

    Source: `ByteLevel` of tokenizers' decoders.
    """
    by_character = byte_by_character()
    try:
        return bytes([by_character[char] for char in token])
    except KeyError:
        return token.encode("utf-8")


@dataclass(frozen=True)
class PieceModel:
    """The op's model, and the meaning of its results.

    Attributes:
        proto: bytes. The SentencePiece ModelProto.
        ids: int32 (pieces,). The token id of each piece.
        lengths: int64 (pieces,). The bytes of each piece.
    """

    proto: bytes
    ids: np.ndarray
    lengths: np.ndarray


def build_piece_model(
    ids: Mapping[str, int], merges: Sequence[tuple[str, str]], unk_id: int | None
) -> PieceModel:
    """Builds the model of a vocabulary.

    Args:
        ids: dict of token to id.
        merges: pairs of tokens in the order of merging.
        unk_id: int or None. The id of bytes that the vocabulary lacks; None requires all bytes.

    Raises:
        ConfigError: the vocabulary lacks a token of a merge or its result, or a byte; or there are
            too many merges.
    """
    if len(merges) >= _MAXIMUM_MERGES:
        raise ConfigError(
            f"Expected fewer than {_MAXIMUM_MERGES:,} merges, received {len(merges):,}."
        )
    for rank, (left, right) in enumerate(merges):
        for token in (left, right, left + right):
            if token not in ids:
                raise ConfigError(
                    f"Expected merges of tokens in the vocabulary, received {left!r:.60} "
                    f"{right!r:.60} (number {rank + 1}) without {token!r:.60}. Vocabulary and "
                    "merges may belong to different models."
                )
    characters = sorted(byte_by_character().items(), key=lambda item: item[1])
    missing = [f"0x{byte:02X}" for char, byte in characters if char not in ids]
    if missing and unk_id is None:
        raise ConfigError(
            f"Expected a vocabulary with a token for each of the 256 bytes, received one without "
            f"{', '.join(missing[:5])} ({len(missing)} in all) and without a model.unk_token in "
            "tokenizer.json. Train it with the byte-level alphabet as initial_alphabet."
        )
    ranks = {pair: rank for rank, pair in enumerate(merges)}  # the last of equal pairs counts
    last = {left + right: final_merge(left + right, ranks) for left, right in ranks}
    alive = {token: ranks[pair] for token, pair in last.items() if pair is not None}
    pieces = [(bytes([byte]), -float(_MAXIMUM_MERGES)) for byte in range(256)]
    piece_ids = [ids.get(char, unk_id) for char, _ in characters]
    by_character = byte_by_character()
    for token, rank in alive.items():
        pieces.append((bytes([by_character[char] for char in token]), -float(rank)))
        piece_ids.append(ids[token])
    # Piece 0 is the unknown piece, which the op requires and never returns.
    return PieceModel(
        proto=b"".join(_model_proto(pieces)),
        ids=np.array([0, *piece_ids], np.int32),
        lengths=np.array([0, *(len(piece) for piece, _ in pieces)], np.int64),
    )


def final_merge(token: str, ranks: Mapping[tuple[str, str], int]) -> tuple[str, str] | None:
    """Returns the last merge of a token's text, or None if the text does not become the token.

    Example:
        >>> final_merge("abc", {("a", "b"): 0, ("ab", "c"): 1})
        ('ab', 'c')
    """
    if not all(char in byte_by_character() for char in token):
        return None  # no text has such characters
    if len(token) > _SHORT:
        return _final_merge_of_long(token, ranks)
    parts = list(token)
    never = sys.maxsize
    while True:
        pair_ranks = [ranks.get(pair, never) for pair in itertools.pairwise(parts)]
        lowest = min(pair_ranks)
        if lowest == never:
            return None
        if len(parts) == 2:
            return parts[0], parts[1]
        at = pair_ranks.index(lowest)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


def _final_merge_of_long(
    token: str, ranks: Mapping[tuple[str, str], int]
) -> tuple[str, str] | None:
    """Does the same with a queue of pairs, in linearithmic time."""
    parts: list[str] = list(token)
    following = [*range(1, len(parts)), -1]
    preceding = list(range(-1, len(parts) - 1))
    queue: list[tuple[int, int, str, str]] = []

    def push(left: int) -> None:
        if left >= 0 and following[left] >= 0:
            pair = parts[left], parts[following[left]]
            if pair in ranks:
                heapq.heappush(queue, (ranks[pair], left, *pair))

    for place in range(len(parts)):
        push(place)
    left_over = len(parts)
    while queue:
        _, at, left, right = heapq.heappop(queue)
        after = following[at]
        if parts[at] != left or after < 0 or parts[after] != right:
            continue  # a later merge changed one of the two
        if left_over == 2:
            return left, right
        parts[at], parts[after] = left + right, ""
        following[at] = following[after]
        if following[at] >= 0:
            preceding[following[at]] = at
        left_over -= 1
        push(preceding[at])
        push(at)
    return None


def _model_proto(pieces: Sequence[tuple[bytes, float]]) -> Iterator[bytes]:
    """Yields the fields of SentencePiece's ModelProto (sentencepiece_model.proto).

    ModelProto: 1 pieces, 2 trainer_spec, 3 normalizer_spec. SentencePiece: 1 piece, 2 score,
    3 type (2: unknown). TrainerSpec: 3 model_type (2: BPE). NormalizerSpec: 1 name,
    3 add_dummy_prefix, 4 remove_extra_whitespaces, 5 escape_whitespaces.
    """
    yield _field(1, _field(1, b"<unk>") + _flag(3, 2))
    for piece, score in pieces:
        text = "".join(chr(BYTE_CHARACTERS + byte) for byte in piece).encode("utf-8")
        yield _field(1, _field(1, text) + b"\x15" + struct.pack("<f", score))
    yield _field(2, _flag(3, 2))
    yield _field(3, _field(1, b"identity") + _flag(3, 0) + _flag(4, 0) + _flag(5, 0))


def _field(number: int, content: bytes) -> bytes:
    """Returns a field of bytes: key, length, content."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _flag(number: int, value: int) -> bytes:
    """Returns a field of a small number."""
    return bytes([number << 3, value])


def _varint(value: int) -> bytes:
    """Returns a varint: seven bits a byte, the lowest first."""
    parts = []
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
