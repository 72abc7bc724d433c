"""Documents of sentences, and sentence pairs for next-sentence prediction."""

from __future__ import annotations

import itertools
import os
from typing import BinaryIO

import numpy as np

from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.lines import Lines
from keras_bert_zoo.errors import DataError

__all__ = [
    "NEXT_LABELS",
    "ORDER_LABELS",
    "ordered_pairs",
    "read_sentence_pairs",
    "sentence_pairs",
]

NEXT_LABELS = ("is_next", "not_next")
"""The labels of next-sentence prediction, in the order of transformers' logits."""

ORDER_LABELS = ("in_order", "swapped")
"""The labels of sentence-order prediction, in the order of transformers' logits."""


def read_sentence_pairs(
    path: str | os.PathLike[str] | BinaryIO, *, seed: int = 0, encoding: str = "utf-8"
) -> Examples:
    """Reads documents, one sentence per line with blank lines between, and makes sentence pairs.

    Args:
        path: the file's name (gzipped if it ends in `.gz`), or a binary file object.
        seed: int. See `sentence_pairs`.
        encoding: str.

    Returns:
        Examples with labels; `rows` are the lines of the first sentences.

    Raises:
        DataError: the file cannot be read or has no pairs; the message names file and line.
    """
    name = str(getattr(path, "name", path))
    documents: list[list[str]] = [[]]
    rows: list[list[int]] = [[]]
    lines = Lines(path, name, encoding)
    for line in lines:
        sentence = line.strip()
        if sentence:
            documents[-1].append(sentence)
            rows[-1].append(lines.last)
        elif documents[-1]:
            documents.append([])
            rows.append([])
    if not documents[-1]:
        documents.pop()
    return sentence_pairs(documents, seed=seed, rows=rows, path=name)


def sentence_pairs(
    documents: list[list[str]],
    *,
    seed: int = 0,
    rows: list[list[int]] | None = None,
    path: str = "",
) -> Examples:
    """Makes pairs of consecutive sentences; half of them get a random second sentence.

    The random sentence comes from another document. The choice depends only on the seed and the
    documents.

    Args:
        documents: list of lists of sentences.
        seed: int.
        rows: the line of each sentence; None numbers the sentences over all documents.
        path: str. The file's name for messages.

    Returns:
        Examples with the labels of `NEXT_LABELS`, in the order of the documents.

    Raises:
        DataError: there are fewer than two documents, or all have fewer than two sentences.

    Source: arXiv 1810.04805, section 3.1, task 2.
    """
    where = f"{path}: " if path else ""
    if len(documents) < 2:
        raise DataError(
            f"{where}expected at least two documents, with a blank line between them, received "
            f"{len(documents)}; random second sentences come from another document"
        )
    sizes = np.array([len(document) for document in documents])
    firsts = np.cumsum(sizes) - sizes
    sentences = [sentence for document in documents for sentence in document]
    if rows is None:
        lines = list(range(1, len(sentences) + 1))
    else:
        lines = [line for document in rows for line in document]
    owner = np.repeat(np.arange(len(documents)), sizes)
    leading = np.flatnonzero(owner[:-1] == owner[1:])  # sentences with a next one
    if not len(leading):
        raise DataError(
            f"{where}expected a document of at least two sentences, one per line, received "
            f"{len(documents)} documents of one sentence; put a blank line only between documents"
        )
    random = np.random.default_rng(seed)
    is_random = np.zeros(len(leading), bool)
    is_random[random.permutation(len(leading))[: len(leading) // 2]] = True
    own = owner[leading]
    # Draws an index that skips the sentences of the own document.
    drawn = random.integers(0, len(sentences) - sizes[own])
    drawn += np.where(drawn >= firsts[own], sizes[own], 0)
    seconds = np.where(is_random, drawn, leading + 1)
    return Examples(
        [sentences[index] for index in leading],
        [sentences[index] for index in seconds],
        [NEXT_LABELS[int(value)] for value in is_random],
        [lines[index] for index in leading],
        path,
    )


def ordered_pairs(documents: list[list[str]], *, seed: int = 0) -> Examples:
    """Makes pairs of consecutive sentences; half of them are swapped.

    Args:
        documents: list of lists of sentences.
        seed: int.

    Returns:
        Examples with the labels of `ORDER_LABELS`, in the order of the documents.

    Raises:
        DataError: all documents have fewer than two sentences.

    Example:
        >>> ordered_pairs([["One.", "Two.", "Three."]], seed=1).labels
        ['swapped', 'in_order']

    Source: arXiv 1909.11942, section 3.1.
    """
    pairs = [pair for document in documents for pair in itertools.pairwise(document)]
    if not pairs:
        raise DataError(
            "expected a document of at least two sentences, received "
            f"{len(documents)} documents of at most one"
        )
    random = np.random.default_rng(seed)
    swapped = np.zeros(len(pairs), bool)
    swapped[random.permutation(len(pairs))[: len(pairs) // 2]] = True
    both = [pair[::-1] if swap else pair for pair, swap in zip(pairs, swapped, strict=True)]
    return Examples(
        [first for first, _ in both],
        [second for _, second in both],
        [ORDER_LABELS[int(swap)] for swap in swapped],
    )
