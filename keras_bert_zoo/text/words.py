"""Words of texts that are cut into windows, and the spans of words.

Legend: B texts, W windows of all texts, S tokens of the longest window, T tokens of all texts, N
words of all texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.text import ragged_ops
from keras_bert_zoo.text.byte_bpe.model import token_bytes
from keras_bert_zoo.text.byte_bpe.tokenizer import ByteBpeTokenizer
from keras_bert_zoo.text.sentencepiece.tokenizer import SPACE_SIGN
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.text.wordpiece.tokenizer import WordPieceTokenizer

__all__ = [
    "WordWindows",
    "begins_word",
    "candidate_spans",
    "decided_spans",
    "decided_tokens",
    "row_splits",
    "word_flags",
]


def word_flags(tokenizer: Tokenizer) -> np.ndarray:
    """Returns which tokens begin a word, and after which tokens a new word begins.

    A word ends at white space. Every punctuation mark and every Chinese or Japanese character is a
    word, as in BERT's tokenizer.

    Args:
        tokenizer: Tokenizer.

    Returns:
        bool (vocabulary, 2).
    """
    flags = np.zeros((tokenizer.vocabulary_size, 2), bool)
    wordpiece = isinstance(tokenizer, WordPieceTokenizer)
    byte_bpe = isinstance(tokenizer, ByteBpeTokenizer)
    for index, token in enumerate(tokenizer.vocabulary):
        if wordpiece:
            flags[index, 0] = not token.startswith("##")
            continue
        text = token_bytes(token).decode("utf-8", "replace") if byte_bpe else token
        content = text.lstrip(" " if byte_bpe else SPACE_SIGN)
        flags[index, 0] = text != content or _is_word(content[:1])
        flags[index, 1] = _is_word(content[-1:])
    for added in tokenizer.added_tokens:
        flags[added.id] = True, not wordpiece  # WordPiece marks the tokens that continue a word
    return flags


def _is_word(char: str) -> bool:
    """Whether a character, or "", is a word by itself."""
    if not char or char == "\ufffd":
        return False
    is_cjk = "\u3040" <= char <= "\u30ff" or "\u3400" <= char <= "\u9fff"
    return is_cjk or not char.isalnum()


def begins_word(flags: Any, ids: Any, first: Any) -> Any:
    """Returns for each token whether it begins a word.

    Args:
        flags: bool (vocabulary, 2), from `word_flags`.
        ids: int (T,). Tokens of all texts.
        first: bool (T,). Whether a token is the first of its text.

    Returns:
        bool (T,).
    """
    token_flags = tf.gather(flags, ids)  # (T, 2)
    return first | token_flags[:, 0] | tf.pad(token_flags[:, 1], [[1, 0]])[:-1]


@dataclass(frozen=True, eq=False)
class WordWindows:
    """Cuts texts into windows and finds their words.

    The dicts `windows` in the methods are results of `cut`.

    Args:
        tokenizer: Tokenizer.
        flags: bool (vocabulary, 2), from `word_flags`.
        max_length: int, tokens of a window.
        stride: int. Tokens that neighbouring windows share; at most half a window.
    """

    tokenizer: Tokenizer
    flags: np.ndarray
    max_length: int
    stride: int

    def cut(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Cuts texts, string (B,), into windows; see `Tokenizer.windows`."""
        return self.tokenizer.windows(texts, max_length=self.max_length, stride=self.stride)

    def tokens(self, windows: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Finds the tokens of texts in their windows.

        Returns:
            "place": int64 (T, 2), the window that decides each token, and its column; "document":
            int64 (T,), the token's text; "begins": bool (T,), whether it begins a word; "starts"
            and "ends": int64 (T,), bytes.
        """
        place = tf.where(decided_tokens(windows, self.stride))  # (T, 2)
        ids = tf.gather_nd(windows["token_ids"], place)
        document = tf.cast(tf.gather(windows["document"], place[:, 0]), tf.int64)
        first = document != tf.concat([[np.int64(-1)], document[:-1]], axis=0)
        return {
            "place": place,
            "document": document,
            "begins": begins_word(tf.constant(self.flags), ids, first),
            "starts": tf.cast(tf.gather_nd(windows["starts"], place), tf.int64),
            "ends": tf.cast(tf.gather_nd(windows["ends"], place), tf.int64),
        }

    def words(self, windows: dict[str, tf.Tensor], texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Finds the words of texts, string (B,), in their windows.

        Returns:
            "place": int64 (N, 2), the window and the column of each word's first token; "starts"
            and "ends": int64 (N,), bytes; "splits": int64 (B + 1,), of the words of each text.
        """
        tokens = self.tokens(windows)
        at = ragged_ops.indices(tokens["begins"])  # (N,)
        count = ragged_ops.size64(tokens["begins"])
        last = tf.concat([at[1:], tf.reshape(count, [1])], axis=0)[: tf.size(at)] - 1
        starts = tf.gather(tokens["starts"], at)
        return {
            "place": tf.gather(tokens["place"], at),
            "starts": starts,
            "ends": tf.maximum(starts, tf.gather(tokens["ends"], last)),
            "splits": row_splits(tf.gather(tokens["document"], at), texts),
        }

    def span_candidates(
        self, windows: dict[str, tf.Tensor], texts: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Finds the tokens of windows at which spans of words of `texts` begin and end.

        Returns:
            "may_begin" and "may_end": bool (W, S), the first and the last tokens of words; "least"
            and "limit": int32 (W,), from `decided_spans`; "document": int32 (W,); "offset": int64
            (W,), the index among all tokens that a text's token in column 0 of the window would
            have; of all tokens "starts" and "ends": int64 (T,), bytes, "begins": bool (T,), and
            "splits": int64 (B + 1,), the tokens of each text.
        """
        tokens = self.tokens(windows)
        begins = tokens["begins"]
        splits = row_splits(tokens["document"], texts)
        count = ragged_ops.size64(begins)
        document = windows["document"]
        offset = tf.gather(splits, document) + tf.cast(windows["window_start"], tf.int64) - 1
        columns = tf.range(tf.shape(windows["token_ids"], out_type=tf.int64)[1])
        last = tf.reduce_sum(tf.cast(windows["padding_mask"], tf.int64), axis=1, keepdims=True) - 2
        inside = (columns >= 1) & (columns <= last)  # between [CLS] and [SEP]
        place = tf.where(inside, offset[:, tf.newaxis] + columns, count)  # (W, S)
        # A word ends where the next word or the next text begins.
        ends = tf.concat([begins[1:], [True]], axis=0)[:count]
        least, limit = decided_spans(windows, self.stride)
        return {
            "may_begin": tf.gather(tf.concat([begins, [False]], axis=0), place),
            "may_end": tf.gather(tf.concat([ends, [False]], axis=0), place),
            "least": least,
            "limit": limit,
            "document": document,
            "offset": offset,
            "starts": tokens["starts"],
            "ends": tokens["ends"],
            "begins": begins,
            "splits": splits,
        }


def row_splits(rows: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Row splits, int64 (B + 1,), of elements from their row numbers, int64; `values` (B, ...)."""
    ones = tf.ones_like(rows, tf.int32)  # LiteRT sums no int64
    counts = tf.math.unsorted_segment_sum(ones, rows, tf.shape(values)[0])
    return ragged_ops.splits_from_lengths(tf.cast(counts, tf.int64))


def decided_tokens(windows: dict[str, tf.Tensor], stride: int) -> tf.Tensor:
    """Selects for every token of a text the window in which it has most context.

    Two neighbouring windows share `stride` tokens. Each decides the half that is farther from its
    border.

    Args:
        windows: result of `Tokenizer.windows`.
        stride: int. Tokens that neighbouring windows share; at most half a window.

    Returns:
        bool (W, S). True once for every token of the texts, in their order.
    """
    begin = windows["window_start"]  # (W,)
    document = windows["document"]
    count = tf.reduce_sum(windows["padding_mask"], axis=-1) - 2  # without [CLS] and [SEP]
    own_begin = tf.where(begin == 0, 0, begin + (stride + 1) // 2)
    own_end = tf.where(_continues(document), _next(own_begin, 0), begin + count)
    place = begin[:, tf.newaxis] + tf.range(tf.shape(windows["token_ids"])[1])[tf.newaxis] - 1
    return (place >= own_begin[:, tf.newaxis]) & (place < own_end[:, tf.newaxis])


def decided_spans(windows: dict[str, tf.Tensor], stride: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Selects for every span of a text the window in which it has most context.

    A span's context is the smaller of the numbers of tokens before and after it in the window. It
    is larger in the window whose border is farther from the span's middle. So the sum of a span's
    first and last column decides. If any window contains the whole span, the selected one does.
    Single tokens get the window that `decided_tokens` selects.

    Args:
        windows: result of `Tokenizer.windows`.
        stride: int. Tokens that neighbouring windows share; at most half a window.

    Returns:
        int32 (W,) and int32 (W,). A window decides the spans whose first and last columns have a
        sum of at least the former and less than the latter.
    """
    begin = windows["window_start"]
    columns = tf.shape(windows["token_ids"])[1]
    least = tf.where(begin == 0, 0, stride + 2)  # column 1 is the first token
    step = _next(begin, 0) - begin
    limit = tf.where(_continues(windows["document"]), 2 * step + stride + 2, 2 * columns)
    return least, limit


def _next(values: tf.Tensor, end: int) -> tf.Tensor:
    """The value of the next window; `end` for the last one."""
    return tf.concat([values[1:], [end]], axis=0)


def _continues(document: tf.Tensor) -> tf.Tensor:
    """Whether the next window is of the same text."""
    return _next(document, -1) == document


def candidate_spans(
    may_begin: tf.Tensor, may_end: tf.Tensor, least: tf.Tensor, limit: tf.Tensor
) -> tf.Tensor:
    """Marks the spans of words that a window decides; see `WordWindows.span_candidates`.

    Args:
        may_begin: bool (W, S).
        may_end: bool (W, S).
        least: int32 (W,).
        limit: int32 (W,).

    Returns:
        bool (W, S, S), from the row's column to the column's, inclusive.
    """
    columns = tf.range(tf.shape(may_begin)[1])
    first, last = columns[:, tf.newaxis], columns[tf.newaxis]
    middle = first + last  # (S, S), twice the middle
    least, limit = least[:, tf.newaxis, tf.newaxis], limit[:, tf.newaxis, tf.newaxis]
    both = tf.expand_dims(may_begin, 2) & tf.expand_dims(may_end, 1)
    return both & (first <= last) & (middle >= least) & (middle < limit)
