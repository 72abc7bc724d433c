"""Entities that may overlap, out of the scores of spans: candidates, windows, answers.

An entity begins with the first token of a word and ends with the last token of one, as the tags of
words have it: so answers never cut a word in two, and of the spans between tokens those that cannot
be entities are neither trained nor asked.

Legend: B texts, W windows of all texts, S tokens of the longest window, T tokens of all texts, C
types, V spans that were found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_bert_zoo.heads.global_pointer import span_scores
from keras_bert_zoo.tasks.token_classification.entities import (
    entity_answers,
    padded,
    splits_of,
    text_tokens,
)
from keras_bert_zoo.text import ragged_ops

# Scores in memory at once: 64 MiB. A long text has more windows than that, one after the other.
_SCORES_AT_ONCE = 2**24


def decided_spans(windows: dict[str, tf.Tensor], stride: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Chooses for every span of a text the window in which it has most context.

    Context is the lesser of what stands before a span and behind it, up to the window's border. Of
    two windows, the one has more of it in which the span's middle is farther from the border. So
    the sum of a span's first and last place decides; and if a span is in any window as a whole,
    then it is in that one. For single tokens it is the choice of `entities.decided_tokens`.

    Args:
        windows: what `Tokenizer.windows` returned.
        stride: int. Tokens that neighbours share; at most half a window.

    Returns:
        int32 (W,) and int32 (W,). A window decides the spans whose first and last columns add up to
        the one or more, and to less than the other.
    """
    begin = windows["window_start"]
    document = windows["document"]
    columns = tf.shape(windows["token_ids"])[1]
    least = tf.where(begin == 0, 0, stride + 2)  # column 1 is the first token
    # Of the last window of all, nothing follows.
    next_document = tf.concat([document[1:], [-1]], axis=0)
    next_begin = tf.concat([begin[1:], [0]], axis=0)
    step = next_begin - begin
    limit = tf.where(next_document == document, 2 * step + stride + 2, 2 * columns)
    return least, limit


def find_candidates(
    windows: dict[str, tf.Tensor], stride: int, flags: tf.Tensor, texts: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Finds the tokens of windows at which an entity may begin or end.

    Args:
        windows: what `Tokenizer.windows` returned.
        stride: int.
        flags: bool (vocabulary, 2), from `entities.word_flags`.
        texts: string (B,).

    Returns:
        "may_begin" and "may_end": bool (W, S), the first and the last tokens of words; "least" and
        "limit": int32 (W,), from `decided_spans`; "document": int32 (W,); "offset": int64 (W,), the
        place among all tokens of what stands in a window's column 0 (were it a token of the text);
        of all tokens, "starts" and "ends": int64 (T,), bytes, "begins": bool (T,), and "splits":
        int64 (B + 1,), the tokens of each text.
    """
    tokens = text_tokens(windows, stride, flags)
    begins = tokens["begins"]
    splits = splits_of(tokens["document"], texts)
    count = ragged_ops.size64(begins)
    document = windows["document"]
    offset = tf.gather(splits, document) + tf.cast(windows["window_start"], tf.int64) - 1
    columns = tf.range(tf.shape(windows["token_ids"], out_type=tf.int64)[1])
    last = tf.reduce_sum(tf.cast(windows["padding_mask"], tf.int64), axis=1, keepdims=True) - 2
    inside = (columns >= 1) & (columns <= last)  # between [CLS] and [SEP]
    place = tf.where(inside, offset[:, tf.newaxis] + columns, count)  # (W, S)
    # A word ends where the next one begins, or the next text; behind the last token is nothing.
    ends = tf.concat([begins[1:], [True]], axis=0)[:count]
    least, limit = decided_spans(windows, stride)
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


def candidate_spans(
    may_begin: tf.Tensor, may_end: tf.Tensor, least: tf.Tensor, limit: tf.Tensor
) -> tf.Tensor:
    """Marks the spans that may be entities; see `find_candidates`.

    Args:
        may_begin: bool (W, S).
        may_end: bool (W, S).
        least: int32 (W,).
        limit: int32 (W,).

    Returns:
        bool (W, S, S), from the row's column to the column's, itself included.
    """
    columns = tf.range(tf.shape(may_begin)[1])
    first, last = columns[:, tf.newaxis], columns[tf.newaxis]
    middle = first + last  # (S, S), twice the middle
    decided = (middle >= least[:, tf.newaxis, tf.newaxis]) & (
        middle < limit[:, tf.newaxis, tf.newaxis]
    )
    both = may_begin[:, :, tf.newaxis] & may_end[:, tf.newaxis, :]
    return both & (first <= last) & decided


def find_spans(
    pointers: tf.Tensor, types: int, candidates: Sequence[tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Finds the spans that score above 0, some windows at a time.

    Args:
        pointers: float32 (W, S, 2 * C * (D + 2)), of a `GlobalPointerHead`.
        types: int, C.
        candidates: the arguments of `candidate_spans`.

    Returns:
        int64 (V, 4), window, type, first and last column; float32 (V,), scores.
    """
    rows = tf.shape(pointers)[0]
    each = types * tf.shape(pointers, out_type=tf.int64)[1] ** 2  # scores of a window
    at_once = tf.cast(tf.maximum(_SCORES_AT_ONCE // tf.maximum(each, 1), 1), tf.int32)
    steps = tf.maximum(-(-rows // at_once), 1)
    places = tf.TensorArray(tf.int64, steps, element_shape=[None, 4], infer_shape=False)
    values = tf.TensorArray(tf.float32, steps, element_shape=[None], infer_shape=False)

    def look(step: tf.Tensor, places: Any, values: Any) -> tuple[Any, ...]:
        begin = step * at_once
        here = slice(begin, tf.minimum(begin + at_once, rows))
        scores = span_scores(pointers[here], types)  # (n, C, S, S)
        allowed = candidate_spans(*(part[here] for part in candidates))[:, tf.newaxis]
        found = tf.where((scores > 0) & allowed)  # (v, 4)
        moved = found + tf.cast(tf.stack([begin, 0, 0, 0]), tf.int64)
        return step + 1, places.write(step, moved), values.write(step, tf.gather_nd(scores, found))

    _, places, values = tf.while_loop(
        lambda step, *_: step < steps, look, (0, places, values), parallel_iterations=1
    )
    return places.concat(), values.concat()


def read_spans(
    types: Sequence[str], pointers: tf.Tensor, candidates: dict[str, tf.Tensor], texts: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Makes entities of the spans that score above 0.

    Args:
        types: list of str, C.
        pointers: float32 (W, S, 2 * C * (D + 2)).
        candidates: what `find_candidates` returned.
        texts: string (B,).

    Returns:
        the answers of a TokenClassifier; see there. In the order of their starts, of the same start
        the longest first.
    """
    parts = [candidates[name] for name in ("may_begin", "may_end", "least", "limit")]
    places, scores = find_spans(pointers, len(types), parts)
    window, kind = places[:, 0], places[:, 1]
    offset = tf.gather(candidates["offset"], window)
    starts = tf.gather(candidates["starts"], offset + places[:, 2])
    ends = tf.maximum(starts, tf.gather(candidates["ends"], offset + places[:, 3]))
    document = tf.cast(tf.gather(candidates["document"], window), tf.int64)
    # One number by which spans are put in order, made of bytes in all texts together.
    lengths = tf.cast(tf.strings.length(texts), tf.int64)
    base = tf.gather(tf.cumsum(lengths, exclusive=True), document)
    total = tf.reduce_sum(lengths)
    key = ((base + starts) * (total + 1) + total - (base + ends)) * len(types) + kind
    order = tf.argsort(key)
    key, document, starts, ends, kind, scores = (
        tf.gather(part, order) for part in (key, document, starts, ends, kind, scores)
    )
    # A character that became several words, such as a half of 1, / and 2, is one span for all.
    fresh = key != tf.concat([tf.constant([-1], tf.int64), key[:-1]], axis=0)
    at = ragged_ops.indices(fresh)
    group = tf.cumsum(tf.cast(fresh, tf.int32)) - 1
    score = tf.math.unsorted_segment_max(scores, group, tf.size(at))
    return entity_answers(
        texts,
        tf.gather(starts, at),
        tf.gather(ends, at),
        splits_of(tf.gather(document, at), texts),
        label=tf.gather(tf.constant(list(types)), tf.gather(kind, at)),
        score=tf.sigmoid(score),
    )


def read_token_spans(types: Sequence[str], pointers: tf.Tensor) -> dict[str, tf.Tensor]:
    """Finds the spans of token ids: of any tokens, for without the text no words are known.

    Args:
        types: list of str, C.
        pointers: float32 (B, S, 2 * C * (D + 2)). Zero at padding.

    Returns:
        `label` string (B, V), `score` float32 (B, V), `start` and `end` int32 (B, V): from the
        column `start` up to, and not including, `end`.
    """
    there = tf.reduce_any(pointers != 0, axis=-1)  # (B, S)
    place = tf.cumsum(tf.cast(there, tf.int32), axis=1)
    between = there & (place > 1) & (place < place[:, -1:])  # without [CLS] and [SEP]
    rows, columns = tf.shape(pointers)[0], tf.shape(pointers)[1]
    limits = tf.zeros([rows], tf.int32), tf.fill([rows], 2 * columns)
    places, scores = find_spans(pointers, len(types), (between, between, *limits))
    width = tf.cast(columns, tf.int64)
    row, kind, first, last = tf.unstack(places, num=4, axis=1)
    key = ((row * width + first) * width + width - 1 - last) * len(types) + kind
    order = tf.argsort(key)
    row, kind, first, last, scores = (
        tf.gather(part, order) for part in (row, kind, first, last, scores)
    )
    counts = tf.math.unsorted_segment_sum(tf.ones_like(row), row, rows)
    splits = ragged_ops.splits_from_lengths(counts)
    return {
        "label": padded(tf.gather(tf.constant(list(types)), kind), splits, ""),
        "score": padded(tf.sigmoid(scores), splits, 0.0),
        "start": padded(tf.cast(first, tf.int32), splits, 0),
        "end": padded(tf.cast(last + 1, tf.int32), splits, 0),
    }
