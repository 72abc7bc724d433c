"""Texts as rows of tokens, and parts of what is one per text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_bert_zoo.data.columns import listed
from keras_bert_zoo.data.pipeline import TokenRows
from keras_bert_zoo.errors import DataError
from keras_bert_zoo.text.tokenizer import Tokenizer

__all__ = ["check_count", "packed_rows", "part_of"]

_TOKENIZED_AT_ONCE = 2048  # texts; bounds the memory that padding takes while tokenizing


def check_count(values: Any, count: int, what: str) -> None:
    """Raises DataError unless there is one value a text; None is taken for none at all."""
    if values is not None and len(listed(values, what)) != count:
        raise DataError(f"There are {count} texts but {len(listed(values, what))} {what}.")


def part_of(values: Any, rows: range) -> Any:
    """Some of what is one per text: of a list, an array, a Series, a tensor, or None."""
    if values is None:
        return None
    where = slice(rows.start, rows.stop)
    return values.iloc[where] if hasattr(values, "iloc") else values[where]


def packed_rows(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    text_pairs: Sequence[str] | None = None,
    *,
    max_length: int,
) -> TokenRows:
    """Tokenizes texts, some at a time, into packed rows.

    Args:
        tokenizer: Tokenizer.
        texts: list of str or bytes.
        text_pairs: list of the same length, or None.
        max_length: int, tokens of a row.

    Returns:
        TokenRows.
    """
    ids, segments, lengths = [], [], []
    for begin in range(0, len(texts), _TOKENIZED_AT_ONCE):
        part: Any = list(texts[begin : begin + _TOKENIZED_AT_ONCE])
        if text_pairs is not None:
            part = (part, list(text_pairs[begin : begin + _TOKENIZED_AT_ONCE]))
        batch = tokenizer(part, max_length=max_length)
        mask = batch["padding_mask"].numpy().astype(bool)
        ids.append(batch["token_ids"].numpy()[mask])
        segments.append(batch["segment_ids"].numpy()[mask])
        lengths.append(mask.sum(axis=1))
    empty = [np.zeros(0, np.int32)]
    splits = np.concatenate([[0], np.cumsum(np.concatenate(lengths or empty))])
    return TokenRows(
        np.concatenate(ids or empty),
        splits.astype(np.int64),
        np.concatenate(segments or empty),
    )
