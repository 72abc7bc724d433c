"""Rows of tokens for a masked language model. R rows, T tokens of all rows, B batch, S length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.pipeline import NO_LABEL, LabelledRows, TokenRows, batch_maker
from keras_bert_zoo.errors import DataError
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.training.rows import in_parts, packed_rows, token_rows

__all__ = ["maskable_pairs", "maskable_rows", "numbered_words", "pseudo_perplexities"]


def maskable_rows(
    tokenizer: Tokenizer,
    texts: Sequence[str | bytes],
    *,
    max_length: int,
    begins_word: Callable[[Any, Any], tf.Tensor] | None = None,
) -> tuple[LabelledRows, np.ndarray]:
    """Splits texts into rows and numbers their words. Rows without a word are left out.

    Args:
        tokenizer: Tokenizer.
        texts: list of str or bytes.
        max_length: int, tokens of a row. A word at the border of two rows becomes two words.
        begins_word: finds the tokens that begin a word, from int32 (T,) tokens and bool (T,),
            whether a token is the first of its row. None: every token is a word.

    Returns:
        LabelledRows, whose token labels number the words; int64 (R,), the index of each row's text.

    Raises:
        DataError: no text has a word.
    """
    special = _special_ids(tokenizer)
    parts, maskable_parts, documents = [], [], []
    for part in in_parts(len(texts)):
        windows = tokenizer.windows(list(texts[part]), max_length=max_length, stride=0)
        ids, segments = windows["token_ids"].numpy(), windows["segment_ids"].numpy()
        mask = windows["padding_mask"].numpy().astype(bool)
        maskable = mask & ~np.isin(ids, special)
        selected = maskable.any(axis=1)
        mask &= selected[:, np.newaxis]
        parts.append((ids[mask], segments[mask], mask[selected].sum(axis=1)))
        maskable_parts.append(maskable[mask])
        documents.append(windows["document"].numpy()[selected].astype(np.int64) + part.start)
    rows = token_rows(parts)
    if not len(rows):
        raise DataError("There is no word to mask in the texts: all of them are empty.")
    labels = numbered_words(rows, np.concatenate(maskable_parts), begins_word)
    return LabelledRows(rows, token_labels=labels), np.concatenate(documents)


def maskable_pairs(
    tokenizer: Tokenizer,
    texts: Sequence[str | bytes],
    text_pairs: Sequence[str | bytes],
    *,
    max_length: int,
    begins_word: Callable[[Any, Any], tf.Tensor] | None = None,
) -> LabelledRows:
    """Packs pairs of texts into rows, truncates them, and numbers their words.

    Args:
        tokenizer: Tokenizer.
        texts: list of str or bytes.
        text_pairs: list of the same length.
        max_length: int, tokens of a row.
        begins_word: see `maskable_rows`.

    Returns:
        LabelledRows, whose token labels number the words.
    """
    rows = packed_rows(tokenizer, texts, text_pairs, max_length=max_length)
    maskable = ~np.isin(rows.token_ids, _special_ids(tokenizer))
    return LabelledRows(rows, token_labels=numbered_words(rows, maskable, begins_word))


def _special_ids(tokenizer: Tokenizer) -> list[int]:
    return [tokenizer.token_to_id(token) for token in tokenizer.special_tokens]


def numbered_words(
    rows: TokenRows, maskable: np.ndarray, begins_word: Callable[[Any, Any], tf.Tensor] | None
) -> np.ndarray:
    """Numbers the words of rows.

    Args:
        rows: TokenRows of T tokens.
        maskable: bool (T,). Tokens that may be masked.
        begins_word: see `maskable_rows`.

    Returns:
        int32 (T,), a unique number per word; `NO_LABEL` at tokens that are never masked.
    """
    words = np.arange(len(rows.token_ids), dtype=np.int32)
    if begins_word is not None:
        first = np.zeros(len(words), bool)
        first[rows.row_splits[:-1]] = first[rows.row_splits[:-1] + 1] = True  # [CLS] and the next
        begins = begins_word(rows.token_ids, tf.constant(first)).numpy()
        words = np.maximum.accumulate(np.where(begins, words, 0)).astype(np.int32)
    return np.where(maskable, words, NO_LABEL).astype(np.int32)


def pseudo_perplexities(
    rows: TokenRows,
    log_probability: Callable[[dict[str, tf.Tensor], tf.Tensor], tf.Tensor],
    *,
    mask_id: int,
    pad_id: int,
    batch_size: int,
) -> dict[str, np.ndarray]:
    """Masks every token between [CLS] and [SEP] in turn, in copies of its row, and predicts it.

    Args:
        rows: TokenRows.
        log_probability: returns the log-probability, float32 (B, 1), of masked tokens, int32
            (B, 1), from the inputs of a masked language model.
        mask_id: int. The mask token.
        pad_id: int. The token id of padding.
        batch_size: int.

    Returns:
        see `MaskedLM.pseudo_perplexity`.
    """
    counts = np.maximum(rows.lengths - 2, 0)
    row = np.repeat(np.arange(len(rows)), counts)
    column = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
    order = np.argsort(-counts[row], kind="stable")  # long rows first
    make_batch = batch_maker(LabelledRows(rows), pad_id=pad_id)
    sums = np.zeros(len(rows), np.float64)
    for begin in range(0, len(order), batch_size):
        chosen = order[begin : begin + batch_size]
        (inputs,) = make_batch(tf.constant(row[chosen], tf.int64))
        at = np.stack([np.arange(len(chosen)), column[chosen]], axis=1)
        ids, masks = inputs["token_ids"], tf.fill([len(chosen)], mask_id)
        inputs["mask_positions"] = tf.constant(at[:, 1:], tf.int32)
        inputs["token_ids"] = tf.tensor_scatter_nd_update(ids, at, masks)
        log_p = log_probability(inputs, tf.gather_nd(ids, at)[:, tf.newaxis])
        np.add.at(sums, row[chosen], log_p.numpy()[:, 0].astype(np.float64))
    nats = np.minimum(-sums / np.maximum(counts, 1), 88.0)  # the range of exp in float32
    return {
        "pseudo_log_likelihood": sums.astype(np.float32),
        "tokens": counts.astype(np.int32),
        "pseudo_perplexity": np.exp(nats).astype(np.float32),
    }
