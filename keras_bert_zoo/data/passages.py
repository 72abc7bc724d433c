"""Overlapping passages of documents, each short enough for an encoder.

A passage is a byte range of its document, so offsets in a passage are also offsets in the document.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text.offsets import byte_offsets
from keras_bert_zoo.text.tokenizer import Tokenizer

__all__ = ["Passages", "cut_passages"]

_DOCUMENTS_AT_ONCE = 256  # bounds the memory of tokenization


@dataclass(frozen=True)
class Passages:
    """Passages of documents, and their embeddings if known.

    Attributes:
        document_id: int32 (N,). The number of the passage's document.
        start: int32 (N,). Bytes of the document before the passage.
        end: int32 (N,). Where it ends, exclusive.
        start_character: int32 (N,). Characters of the document before the passage, counted at each
            byte other than 0b10xxxxxx.
        vectors: float32 (N, D), or (N, 0).
    """

    document_id: np.ndarray
    start: np.ndarray
    end: np.ndarray
    start_character: np.ndarray
    vectors: np.ndarray

    def __len__(self) -> int:
        """Counts the passages."""
        return len(self.document_id)

    def texts(self, documents: Sequence[bytes]) -> list[bytes]:
        """Returns the texts of the passages."""
        places = zip(self.document_id.tolist(), self.start.tolist(), self.end.tolist(), strict=True)
        return [documents[number][start:end] for number, start, end in places]

    def are_of(self, documents: Sequence[bytes]) -> bool:
        """Whether the arrays are valid for passages of these documents, with vectors."""
        columns = (self.document_id, self.start, self.end, self.start_character)
        count = len(self.vectors) if self.vectors.ndim == 2 else 0
        if (
            not count
            or self.vectors.dtype != np.float32
            or any(column.dtype != np.int32 or column.shape != (count,) for column in columns)
        ):
            return False
        number, start, end, start_character = columns
        sizes = np.array([len(document) for document in documents], np.int64)
        return bool(
            number[0] >= 0
            and (np.diff(number) >= 0).all()
            and number[-1] < len(sizes)
            and (start_character >= 0).all()
            and (start_character <= start).all()
            and (start <= end).all()
            and (end <= sizes[number]).all()
            and np.isfinite(self.vectors).all()
        )


def cut_passages(
    documents: Sequence[bytes], tokenizer: Tokenizer, *, tokens: int, overlap: int
) -> Passages:
    """Splits documents into passages of at most `tokens` tokens.

    A document that fits is one passage. Others are split before a token that follows white space
    or, if the second half of a passage has none, before any token.

    Args:
        documents: list of bytes.
        tokenizer: Tokenizer that counts the tokens.
        tokens: int. Tokens of a passage, without special tokens.
        overlap: int. Tokens that neighbouring passages of a document share, or a few less.

    Returns:
        Passages without vectors, in the order of the documents.

    Raises:
        ConfigError: `tokens` is not positive, or `overlap` is more than half of it.
    """
    if tokens < 1:
        raise ConfigError(f"Expected passages of at least one token, received {tokens}.")
    if not 0 <= overlap <= tokens // 2:
        raise ConfigError(
            f"Expected an overlap of 0 to {tokens // 2} tokens, half of a passage, received "
            f"{overlap}."
        )
    rows: list[tuple[int, int, int, int]] = []
    for begin in range(0, len(documents), _DOCUMENTS_AT_ONCE):
        part = list(documents[begin : begin + _DOCUMENTS_AT_ONCE])
        _, *offsets = tokenizer.tokenize_with_offsets(part)
        starts, ends = (np.split(x.values.numpy(), x.row_splits.numpy()[1:-1]) for x in offsets)
        for index, document in enumerate(part):
            spans = _spans(starts[index], ends[index], len(document), tokens, overlap)
            characters = np.searchsorted(byte_offsets(document), [start for start, _ in spans])
            rows += [
                (begin + index, start, end, int(before))
                for (start, end), before in zip(spans, characters, strict=True)
            ]
    columns = np.array(rows, np.int32).reshape(-1, 4).T
    names = ("document_id", "start", "end", "start_character")
    vectors = np.zeros((len(rows), 0), np.float32)
    return Passages(**dict(zip(names, columns, strict=True)), vectors=vectors)


def _spans(
    starts: np.ndarray, ends: np.ndarray, size: int, tokens: int, overlap: int
) -> list[tuple[int, int]]:
    """Returns the byte ranges of a document's passages.

    Args:
        starts: int (T,). Bytes at which the document's tokens start.
        ends: int (T,). Bytes at which they end.
        size: int. Bytes of the document.
        tokens: int.
        overlap: int.
    """
    count = len(starts)
    if count <= tokens:
        return [(0, size)]
    # The tokens after a gap, which is usually white space.
    after_gap = np.flatnonzero(np.concatenate([[True], starts[1:] > ends[:-1]]))
    spans = []
    begin = 0
    while begin + tokens < count:
        end = _nearest(after_gap, begin + tokens // 2 + 1, begin + tokens, last=True)
        spans.append((int(starts[begin]) if begin else 0, int(ends[end - 1])))
        begin = _nearest(after_gap, max(end - overlap, begin + 1), end, last=False)
    return [*spans, (int(starts[begin]), size)]


def _nearest(places: np.ndarray, low: int, high: int, *, last: bool) -> int:
    """Returns the first or last of sorted places in [low, high]; without any, `low` or `high`."""
    inside = places[np.searchsorted(places, low) : np.searchsorted(places, high, side="right")]
    if not len(inside):
        return high if last else low
    return int(inside[-1 if last else 0])
