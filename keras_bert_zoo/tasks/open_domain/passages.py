"""Documents cut into passages that overlap, each short enough for an encoder.

A passage is a run of bytes of its document, so that places in it are places in the document.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file

from keras_bert_zoo.checkpoints.safetensors import open_safetensors
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.tasks.embedding.index import document_vectors
from keras_bert_zoo.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from keras_bert_zoo.tasks.embedding.text_embedder import TextEmbedder

PASSAGES_FILE = "passages.safetensors"

_AT_ONCE = 256  # documents; bounds the memory that tokenizing takes
_COMPARED = 8  # passages, spread over all, whose embeddings are looked at when they are loaded
_TOLERANCE = 1e-3  # between an embedding and the saved one; rounding is far below


@dataclass(frozen=True)
class Passages:
    """Passages of documents, with their embeddings where these are known.

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
        """Cuts the passages out of their documents."""
        places = zip(self.document_id.tolist(), self.start.tolist(), self.end.tolist(), strict=True)
        return [documents[number][start:end] for number, start, end in places]

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes `PASSAGES_FILE` into a directory."""
        tensors = {name: np.ascontiguousarray(getattr(self, name)) for name in _FIELDS}
        save_file(tensors, Path(directory) / PASSAGES_FILE)

    @classmethod
    def load(cls, directory: str | os.PathLike[str], documents: Sequence[bytes]) -> Passages:
        """Reads what `save` wrote.

        Args:
            directory: path.
            documents: list of bytes, that the passages are of.

        Returns:
            Passages.

        Raises:
            CheckpointError: the file is not there, is not of these documents, or holds what no
                passages are.
        """
        path = Path(directory) / PASSAGES_FILE
        with open_safetensors(path) as tensors:
            missing = sorted(set(_FIELDS) - set(tensors.names()))
            if missing:
                raise CheckpointError(f"{path} lacks {', '.join(missing)}.")
            found = cls(**{name: tensors.read(name) for name in _FIELDS})
        sizes = np.array([len(document) for document in documents], np.int64)
        if not found._fits(sizes):
            raise CheckpointError(
                f"{path} does not fit the {len(sizes):,} documents beside it: build the collection "
                "anew."
            )
        return found

    def _fits(self, sizes: np.ndarray) -> bool:
        """Whether these can be passages, with vectors, of documents of so many bytes."""
        columns = [getattr(self, name) for name in _FIELDS[:-1]]
        count = len(self.vectors) if self.vectors.ndim == 2 else 0
        if (
            not count
            or self.vectors.dtype != np.float32
            or any(column.dtype != np.int32 or column.shape != (count,) for column in columns)
        ):
            return False
        number, start, end, start_character = columns
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


_FIELDS = ("document_id", "start", "end", "start_character", "vectors")


def cut_passages(
    documents: Sequence[bytes], tokenizer: Tokenizer, *, tokens: int, overlap: int
) -> Passages:
    """Cuts documents into passages of at most so many tokens.

    A document that fits is one passage, whole. Others are cut where white space stands before a
    token, or, where the second half of a passage has none, before any token.

    Args:
        documents: list of bytes.
        tokenizer: Tokenizer, whose tokens count.
        tokens: int. Of a passage, special tokens not among them.
        overlap: int. Tokens that neighbouring passages of a document share, or somewhat fewer.

    Returns:
        Passages without vectors, in the order of the documents.

    Raises:
        ConfigError: `tokens` is not positive, or `overlap` not less than half of it.
    """
    if tokens < 1:
        raise ConfigError(f"expected passages of at least one token, got {tokens}")
    if not 0 <= overlap <= tokens // 2:
        raise ConfigError(
            f"expected an overlap of 0 to {tokens // 2} tokens, half of a passage, got {overlap}"
        )
    rows: list[tuple[int, int, int, int]] = []
    for begin in range(0, len(documents), _AT_ONCE):
        part = list(documents[begin : begin + _AT_ONCE])
        _, starts, ends = tokenizer.tokenize_with_offsets(part)
        splits = starts.row_splits.numpy()
        all_starts, all_ends = starts.values.numpy(), ends.values.numpy()
        for index, document in enumerate(part):
            own = slice(splits[index], splits[index + 1])
            characters = np.zeros(0, np.int64)
            for first, last in _spans(
                all_starts[own], all_ends[own], len(document), tokens, overlap
            ):
                if first and not len(characters):
                    raw = np.frombuffer(document, np.uint8)
                    characters = np.cumsum((raw & 0xC0) != 0x80)
                before = int(characters[first - 1]) if first else 0
                rows.append((begin + index, first, last, before))
    columns = np.array(rows, np.int32).reshape(-1, 4)
    return Passages(
        document_id=columns[:, 0],
        start=columns[:, 1],
        end=columns[:, 2],
        start_character=columns[:, 3],
        vectors=np.zeros((len(rows), 0), np.float32),
    )


def embed_passages(
    embedder: TextEmbedder,
    documents: Sequence[bytes],
    *,
    tokens: int,
    overlap: int | None = None,
    batch_size: int = 64,
    verbose: Any = 0,
) -> Passages:
    """Cuts documents into passages that fit an embedder, and embeds them.

    Args:
        embedder: TextEmbedder.
        documents: list of bytes.
        tokens: int. Of a passage, special tokens and the embedder's prompt among them.
        overlap: int or None. See `cut_passages`; None: a quarter of a passage.
        batch_size: int.
        verbose: 1 shows a progress bar.

    Returns:
        Passages.

    Raises:
        ConfigError: `tokens` leave no room, or `overlap` is more than half of it.
    """
    tokenizer = embedder.tokenizer
    prompts = embedder.prompts
    prompt = prompts.get("document", prompts.get(embedder.default_prompt or "", ""))
    room = tokens - 2 - (len(tokenizer.tokenize(prompt)) if prompt else 0)
    least = tokens - room + 1
    if room < 1:
        raise ConfigError(
            f"`passage_tokens` must be at least {least}: its special tokens, the retriever's "
            f"prompt and a token of the document; got {tokens}."
        )
    if overlap is None:
        overlap = room // 4
    if isinstance(overlap, bool) or not isinstance(overlap, int) or not 0 <= overlap <= room // 2:
        raise ConfigError(
            f"`passage_overlap` must be between 0 and {room // 2}, half of a passage, got "
            f"{overlap!r}."
        )
    passages = cut_passages(documents, tokenizer, tokens=room, overlap=overlap)
    vectors = document_vectors(
        embedder, passages.texts(documents), batch_size=batch_size, verbose=verbose
    )
    return replace(passages, vectors=vectors)


def check_passages(
    passages: Passages, documents: Sequence[bytes], embedder: TextEmbedder, *, where: str
) -> None:
    """Compares some passages' embeddings with what an embedder gives now.

    Args:
        passages: Passages with vectors.
        documents: list of bytes.
        embedder: TextEmbedder.
        where: str. The directory, for the message.

    Raises:
        CheckpointError: they differ.
    """
    rows = np.unique(np.linspace(0, len(passages) - 1, _COMPARED).astype(int))
    some = Passages(*(getattr(passages, name)[rows] for name in _FIELDS))
    vectors = document_vectors(embedder, some.texts(documents))
    scales = np.maximum(1, np.linalg.norm(vectors, axis=1, keepdims=True))
    if (
        some.vectors.shape != vectors.shape
        or (np.abs(vectors - some.vectors) > _TOLERANCE * scales).any()
    ):
        raise CheckpointError(
            f"The passages of {where} were embedded by another retriever than the one that is "
            "there now: build the collection anew."
        )


def _spans(
    starts: np.ndarray, ends: np.ndarray, size: int, tokens: int, overlap: int
) -> list[tuple[int, int]]:
    """Bytes of a document's passages.

    Args:
        starts: int (T,). Of its tokens.
        ends: int (T,).
        size: int. Bytes of the document.
        tokens: int.
        overlap: int.
    """
    count = len(starts)
    if count <= tokens:
        return [(0, size)]
    # Where something that is no token stands before a token.
    apart = np.flatnonzero(np.concatenate([[True], starts[1:] > ends[:-1]]))
    found = []
    begin = 0
    while begin + tokens < count:
        end = _nearest(apart, begin + tokens // 2 + 1, begin + tokens, last=True)
        found.append((int(starts[begin]) if begin else 0, int(ends[end - 1])))
        begin = _nearest(apart, max(end - overlap, begin + 1), end, last=False)
    found.append((int(starts[begin]), size))
    return found


def _nearest(places: np.ndarray, low: int, high: int, *, last: bool) -> int:
    """The first or last of sorted places from low to high; that end itself if there is none."""
    left, right = np.searchsorted(places, low), np.searchsorted(places, high, side="right")
    if left == right:
        return high if last else low
    return int(places[right - 1] if last else places[left])
