"""A byte-level BPE vocabulary as a model that TensorFlow Text's SentencePiece op runs.

SentencePiece's BPE merges any two neighbours whose text is one of its pieces, the piece of the
highest score first, then the leftmost. Hugging Face's merges only the pairs that are listed, the
earliest listed first, then the leftmost. The two are made equal so:

- A token T can come to be in one way only, whatever text it stands in. Until T is there, nothing
  has been merged across its ends, so all that has happened inside went as it does for the text of
  T alone, of which the last step is one certain pair. That pair's place in the list is T's score.
- A token whose own text does not become that token (because other merges come first) never comes
  to be in any text. It is no piece, so that SentencePiece does not make it either.
- When a piece T is about to be made, what is left of it are two tokens that the text of T alone
  would have become as well: the certain pair. So SentencePiece never merges an unlisted pair.

This holds for every list of merges, also for those that no training would write.
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
# Each byte is a character of its own in the op: U+0100 and those that follow, two bytes each.
BYTE_CHARACTERS = 0x100
_SHORT = 24  # bytes up to which looking at all pairs again and again is faster


@functools.cache
def byte_by_character() -> dict[str, int]:
    """GPT-2's printable characters for the 256 bytes (gpt-2, src/encoder.py)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {
        **{chr(byte): byte for byte in printable},
        **{chr(256 + place): byte for place, byte in enumerate(others)},
    }


def token_bytes(token: str) -> bytes:
    """The bytes that a token stands for; its own UTF-8 if it is not written in GPT-2's characters.

    Source: `ByteLevel` of tokenizers' decoders.
    """
    by_character = byte_by_character()
    try:
        return bytes([by_character[char] for char in token])
    except KeyError:
        return token.encode("utf-8")


@dataclass(frozen=True)
class PieceModel:
    """What the op needs, and what its answers mean.

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
    """The model for a vocabulary.

    Args:
        ids: token -> id.
        merges: pairs of tokens, the one to be merged first in front.
        unk_id: the id of a byte that the vocabulary lacks; None: there may be none.

    Raises:
        ConfigError: a merge of tokens that the vocabulary lacks, or that makes one; too many
            merges; a byte is lacking.
    """
    if len(merges) >= _MAXIMUM_MERGES:
        raise ConfigError(f"expected less than {_MAXIMUM_MERGES:,} merges, got {len(merges):,}")
    for rank, (left, right) in enumerate(merges):
        for token in (left, right, left + right):
            if token not in ids:
                raise ConfigError(
                    f"expected merges of tokens in the vocabulary, got {left!r:.60} {right!r:.60} "
                    f"(number {rank + 1}) without {token!r:.60}; vocabulary and merges may be of "
                    "different models"
                )
    characters = sorted(byte_by_character().items(), key=lambda item: item[1])
    missing = [f"0x{byte:02X}" for char, byte in characters if char not in ids]
    if missing and unk_id is None:
        raise ConfigError(
            f"expected a vocabulary with a token for each of the 256 bytes, got one without "
            f"{', '.join(missing[:5])} ({len(missing)} in all) and without a model.unk_token in "
            "tokenizer.json; train it with the byte-level alphabet as initial_alphabet"
        )
    ranks = {pair: rank for rank, pair in enumerate(merges)}  # of equal pairs, the last counts
    last = {left + right: final_merge(left + right, ranks) for left, right in ranks}
    alive = {token: ranks[pair] for token, pair in last.items() if pair is not None}
    pieces = [(bytes([byte]), -float(_MAXIMUM_MERGES)) for byte in range(256)]
    piece_ids = [ids.get(char, unk_id) for char, _ in characters]
    by_character = byte_by_character()
    for token, rank in alive.items():
        pieces.append((bytes([by_character[char] for char in token]), -float(rank)))
        piece_ids.append(ids[token])
    # Piece 0 is the unknown one, which the op must have and never gives.
    return PieceModel(
        proto=b"".join(_model_proto(pieces)),
        ids=np.array([0, *piece_ids], np.int32),
        lengths=np.array([0, *(len(piece) for piece, _ in pieces)], np.int64),
    )


def final_merge(token: str, ranks: Mapping[tuple[str, str], int]) -> tuple[str, str] | None:
    """The last pair merged when the text of a token becomes that token; None if it does not."""
    if not all(char in byte_by_character() for char in token):
        return None  # no text has such characters
    if len(token) > _SHORT:
        return _final_merge_of_long(token, ranks)
    parts = list(token)
    never = sys.maxsize
    while True:
        found = [ranks.get(pair, never) for pair in itertools.pairwise(parts)]
        lowest = min(found)
        if lowest == never:
            return None
        if len(parts) == 2:
            return parts[0], parts[1]
        at = found.index(lowest)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


def _final_merge_of_long(
    token: str, ranks: Mapping[tuple[str, str], int]
) -> tuple[str, str] | None:
    """The same with a queue of pairs, for time in proportion to the length."""
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
        behind = following[at]
        if parts[at] != left or behind < 0 or parts[behind] != right:
            continue  # one of the two has become another since
        if left_over == 2:
            return left, right
        parts[at], parts[behind] = left + right, ""
        following[at] = following[behind]
        if following[at] >= 0:
            preceding[following[at]] = at
        left_over -= 1
        push(preceding[at])
        push(at)
    return None


def _model_proto(pieces: Sequence[tuple[bytes, float]]) -> Iterator[bytes]:
    """SentencePiece's ModelProto in parts (sentencepiece_model.proto).

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
    """A field of bytes: its key, its length, itself."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _flag(number: int, value: int) -> bytes:
    """A field of a small number."""
    return bytes([number << 3, value])


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    parts = []
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
