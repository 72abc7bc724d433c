"""Computes and checks the embeddings of passages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras_bert_zoo.data.passages import Passages, cut_passages
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.tasks.embedding.index import document_vectors
from keras_bert_zoo.validation import check_integer

_SEARCHED_AT_ONCE = 256  # questions; bounds the memory of their similarities to all passages
_COMPARED = 8  # passages whose embeddings are compared after loading
_TOLERANCE = 1e-3  # for embeddings; rounding is far below


def embed_passages(
    embedder: Any,
    documents: Sequence[bytes],
    *,
    tokens: int,
    overlap: int | None = None,
    batch_size: int = 64,
    verbose: Any = 0,
) -> Passages:
    """Splits documents into passages that fit an embedder, and embeds them.

    Args:
        embedder: TextEmbedder.
        documents: list of bytes.
        tokens: int. Tokens of a passage, including special tokens and the embedder's prompt.
        overlap: int or None. See `cut_passages`; None: a quarter of a passage.
        batch_size: int.
        verbose: 1 shows a progress bar.

    Returns:
        Passages.

    Raises:
        ConfigError: `tokens` is too small, or `overlap` is more than half of a passage.
    """
    tokenizer = embedder.tokenizer
    prompts = embedder.prompts
    prompt = prompts.get("document", prompts.get(embedder.default_prompt or "", ""))
    others = 2 + (len(tokenizer.tokenize(prompt)) if prompt else 0)
    if tokens <= others:
        raise ConfigError(
            f"Expected `passage_tokens` of at least {others + 1} (special tokens, the retriever's "
            f"prompt and a token of the document), received {tokens}."
        )
    room = tokens - others
    if overlap is None:
        overlap = room // 4
    check_integer("passage_overlap", overlap, minimum=0, maximum=room // 2)
    passages = cut_passages(documents, tokenizer, tokens=room, overlap=overlap)
    texts = passages.texts(documents)
    vectors = document_vectors(embedder, texts, batch_size=batch_size, verbose=verbose)
    return replace(passages, vectors=vectors)


def check_passages(
    passages: Passages, documents: Sequence[bytes], embedder: Any, *, where: str
) -> None:
    """Compares the embeddings of some passages with those that an embedder computes.

    Args:
        passages: Passages with vectors.
        documents: list of bytes.
        embedder: TextEmbedder.
        where: str. The directory, for the message.

    Raises:
        CheckpointError: they differ.
    """
    rows = np.unique(np.linspace(0, len(passages) - 1, _COMPARED).astype(int))
    texts = passages.texts(documents)
    vectors = document_vectors(embedder, [texts[row] for row in rows])
    saved = passages.vectors[rows]
    limits = _TOLERANCE * np.maximum(1, np.linalg.norm(vectors, axis=1, keepdims=True))
    if saved.shape != vectors.shape or (np.abs(vectors - saved) > limits).any():
        raise CheckpointError(
            f"The passages in {where} were embedded by another retriever than the one in the same "
            "directory; build the collection again."
        )


def nearest_passages(
    vectors: np.ndarray, passages: Passages, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Searches passages for the embeddings of questions.

    Args:
        vectors: float32 (questions, D).
        passages: Passages with vectors.
        count: int. Passages per question.

    Returns:
        int64 (questions, count), numbers of passages; and float32, their similarities.
    """
    numbers, scores = [np.zeros((0, count), np.int64)], [np.zeros((0, count), np.float32)]
    for begin in range(0, len(vectors), _SEARCHED_AT_ONCE):
        similarity = vectors[begin : begin + _SEARCHED_AT_ONCE] @ passages.vectors.T
        numbers.append(np.argsort(-similarity, axis=1, kind="stable")[:, :count])
        scores.append(np.take_along_axis(similarity, numbers[-1], 1))
    return np.concatenate(numbers), np.concatenate(scores)
