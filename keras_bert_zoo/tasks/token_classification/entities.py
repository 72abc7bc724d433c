"""From the outputs of a tagger to entities: by a tag per word, or by a score per span.

Legend: B texts, W windows of all texts, S tokens of the longest window, N words of all texts, M
words of the longest text, C tags or types, E entities of all texts, V spans found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.tagging import Tagging
from keras_bert_zoo.heads.global_pointer import span_scores
from keras_bert_zoo.layers.crf import best_path, marginals
from keras_bert_zoo.litert_scope import is_for_litert
from keras_bert_zoo.text import offsets, ragged_ops
from keras_bert_zoo.text.words import candidate_spans, row_splits

Answers = dict[str, tf.Tensor]

# Scores in memory at once: 64 MiB. A long text has more windows than that; they take turns.
_SCORES_AT_ONCE = 2**24


def read_tags(
    logits: tf.Tensor,
    splits: tf.Tensor,
    scores: tuple[np.ndarray, np.ndarray, np.ndarray] | None,
    *,
    probabilities_of_paths: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Selects the tags of words.

    Args:
        logits: float32 (N, C).
        splits: int64 (B + 1,).
        scores: of transitions (C, C), first (C,) and last tags (C,); None: words are independent.
        probabilities_of_paths: bool. Whether the logits are those of a conditional random field.

    Returns:
        int32 (N,) tags; float32 (N,), their probabilities.
    """
    probabilities = tf.nn.softmax(logits)
    if scores is None:
        tags = tf.argmax(logits, axis=-1, output_type=tf.int32)
        return tags, tf.reduce_max(probabilities, axis=-1)
    counts = tf.cast(splits[1:] - splits[:-1], tf.int32)  # (B,)
    (dense,) = ragged_ops.padded(splits, logits)
    dense = tf.pad(dense, [[0, 0], [0, 1], [0, 0]])  # at least one word, for the loops
    inside = tf.sequence_mask(counts, tf.shape(dense)[1])  # (B, M)
    parts = tuple(map(tf.constant, scores))
    tags = tf.boolean_mask(best_path(dense, counts, *parts), inside)
    if probabilities_of_paths:
        probabilities = tf.boolean_mask(marginals(dense, counts, *parts), inside)
    return tags, tf.gather(probabilities, tags, batch_dims=1)


def read_entities(
    tagging: Tagging,
    tags: tf.Tensor,
    probabilities: tf.Tensor,
    words: dict[str, tf.Tensor],
    texts: tf.Tensor,
) -> Answers:
    """Joins tagged words to entities, as `data.tags.chunks` does.

    Args:
        tagging: Tagging.
        tags: int32 (N,).
        probabilities: float32 (N,).
        words: result of `WordWindows.words`.
        texts: string (B,).

    Returns:
        the answers of a TokenClassifier.
    """
    splits = words["splits"]
    rows = ragged_ops.row_ids(splits, ragged_ops.size64(tags))
    first = rows != tf.concat([[np.int64(-1)], rows[:-1]], axis=0)
    kinds, begins, ends = (
        tf.gather(tf.constant(values), tags)
        for values in (tagging.type_of_tag, tagging.begins, tagging.ends)
    )
    kind_before, ended_before = (tf.pad(values, [[1, 0]])[:-1] for values in (kinds, ends))
    inside = kinds > 0
    opens = inside & (first | begins | ended_before | (kinds != kind_before))
    at = ragged_ops.indices(opens)  # (E,)
    count = tf.size(at)
    entity = tf.cumsum(tf.cast(opens, tf.int32)) - 1
    entity = tf.where(inside, entity, -1)  # segments ignore -1
    # LiteRT has no maximum of int64.
    last = tf.math.unsorted_segment_max(tf.cast(words["ends"], tf.int32), entity, count)
    return _entity_answers(
        texts,
        tf.gather(words["starts"], at),
        tf.cast(last, tf.int64),
        tf.gather(ragged_ops.counts_before(opens), splits),
        types=tagging.types,
        kinds=tf.gather(kinds, at),
        score=tf.math.unsorted_segment_min(probabilities, entity, count),
    )


def read_spans(
    types: Sequence[str], pointers: tf.Tensor, candidates: dict[str, tf.Tensor], texts: tf.Tensor
) -> Answers:
    """Returns the spans that score above 0 as entities.

    Args:
        types: list of str, C.
        pointers: float32 (W, S, 2 * C * (D + 2)).
        candidates: result of `WordWindows.span_candidates`.
        texts: string (B,).

    Returns:
        the answers of a TokenClassifier, ordered by their starts; of equal starts the longest
        first.
    """
    parts = [candidates[name] for name in ("may_begin", "may_end", "least", "limit")]
    window, kind, first, last, scores = _find_spans(pointers, len(types), parts)
    offset = tf.gather(candidates["offset"], window)
    starts = tf.gather(candidates["starts"], offset + first)
    ends = tf.maximum(starts, tf.gather(candidates["ends"], offset + last))
    document = tf.cast(tf.gather(candidates["document"], window), tf.int64)
    # Spans are sorted by one number, made of bytes in all texts together.
    lengths = offsets.text_lengths(texts)
    base = tf.gather(tf.cumsum(lengths, exclusive=True), document)
    total = tf.reduce_sum(lengths)
    key = ((base + starts) * (total + 1) + total - (base + ends)) * len(types) + kind
    key, document, starts, ends, kind, scores = _sorted_by(
        key, document, starts, ends, kind, scores
    )
    # A character may become several words, as a half becomes 1, / and 2: their spans are one.
    is_new = key != tf.concat([tf.constant([-1], tf.int64), key[:-1]], axis=0)
    at = ragged_ops.indices(is_new)
    group = tf.cumsum(tf.cast(is_new, tf.int32)) - 1
    return _entity_answers(
        texts,
        tf.gather(starts, at),
        tf.gather(ends, at),
        row_splits(tf.gather(document, at), texts),
        types=types,
        kinds=tf.gather(kind, at) + 1,
        score=tf.sigmoid(tf.math.unsorted_segment_max(scores, group, tf.size(at))),
    )


def read_token_spans(types: Sequence[str], pointers: tf.Tensor) -> Answers:
    """Returns the spans of any tokens that score above 0: without texts, words are unknown.

    Args:
        types: list of str, C.
        pointers: float32 (B, S, 2 * C * (D + 2)). Zero at padding.

    Returns:
        `label` string (B, V), `score` float32 (B, V), `start` and `end` int32 (B, V): columns,
        the end exclusive.
    """
    is_token = tf.reduce_any(pointers != 0, axis=-1)  # (B, S)
    place = tf.cumsum(tf.cast(is_token, tf.int32), axis=1)
    inside = is_token & (place > 1) & (place < place[:, -1:])  # without [CLS] and [SEP]
    rows, columns = tf.shape(pointers)[0], tf.shape(pointers)[1]
    limits = tf.zeros([rows], tf.int32), tf.fill([rows], 2 * columns)
    row, kind, first, last, scores = _find_spans(pointers, len(types), (inside, inside, *limits))
    width = tf.cast(columns, tf.int64)
    key = ((row * width + first) * width + width - 1 - last) * len(types) + kind
    _, row, kind, first, last, scores = _sorted_by(key, row, kind, first, last, scores)
    splits = row_splits(row, pointers)
    kind, scores, first, end = ragged_ops.padded(
        splits, kind + 1, tf.sigmoid(scores), first, last + 1
    )
    return {
        "label": tf.gather(tf.constant(["", *types]), kind),
        "score": scores,
        "start": tf.cast(first, tf.int32),
        "end": tf.cast(end, tf.int32),
    }


def _find_spans(
    pointers: tf.Tensor, types: int, candidates: Sequence[tf.Tensor]
) -> tuple[tf.Tensor, ...]:
    """Finds the spans that score above 0, some windows at a time.

    Args:
        pointers: float32 (W, S, 2 * C * (D + 2)), of a `GlobalPointerHead`.
        types: int, C.
        candidates: the arguments of `candidate_spans`.

    Returns:
        int64 (V,) windows, types, first and last columns; float32 (V,) scores.
    """
    rows = tf.shape(pointers)[0]

    def look(begin: tf.Tensor, end: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        here = slice(begin, end)
        scores = span_scores(pointers[here], types)  # (n, C, S, S)
        allowed = tf.expand_dims(candidate_spans(*(part[here] for part in candidates)), 1)
        spans = tf.where((scores > 0) & allowed)  # (v, 4)
        first = tf.cast(tf.stack([begin, 0, 0, 0]), tf.int64)
        return spans + first, tf.gather_nd(scores, spans)

    if is_for_litert():  # it has no TensorArray; a device's texts have few windows
        spans, scores = look(tf.constant(0), rows)
        return *(tf.gather(spans, column, axis=1) for column in range(4)), scores
    each = types * tf.shape(pointers, out_type=tf.int64)[1] ** 2  # scores of a window
    at_once = tf.cast(tf.maximum(_SCORES_AT_ONCE // tf.maximum(each, 1), 1), tf.int32)
    steps = tf.maximum(-(-rows // at_once), 1)
    places = tf.TensorArray(tf.int64, steps, element_shape=[None, 4], infer_shape=False)
    values = tf.TensorArray(tf.float32, steps, element_shape=[None], infer_shape=False)

    def step(number: tf.Tensor, places: Any, values: Any) -> tuple[Any, ...]:
        begin = number * at_once
        spans, scores = look(begin, tf.minimum(begin + at_once, rows))
        return number + 1, places.write(number, spans), values.write(number, scores)

    _, places, values = tf.while_loop(
        lambda number, *_: number < steps, step, (0, places, values), parallel_iterations=1
    )
    return *tf.unstack(places.concat(), num=4, axis=1), values.concat()


def _sorted_by(key: tf.Tensor, *values: tf.Tensor) -> list[tf.Tensor]:
    """Sorts the key, and values with it."""
    order = tf.argsort(key)
    return [tf.gather(part, order) for part in (key, *values)]


def _entity_answers(
    texts: tf.Tensor,
    starts: tf.Tensor,
    ends: tf.Tensor,
    splits: tf.Tensor,
    *,
    types: Sequence[str],
    kinds: tf.Tensor,
    score: tf.Tensor,
) -> Answers:
    """Makes the answers of a TokenClassifier.

    Args:
        texts: string (B,).
        starts: int64 (E,). Bytes of their texts.
        ends: int64 (E,). The same, exclusive.
        splits: int64 (B + 1,). Of the entities of each text.
        types: list of str.
        kinds: int (E,). 1 more than the index of the type.
        score: float32 (E,).
    """
    # Padding has offsets of 0: an empty text. LiteRT pads no strings.
    starts, ends, kinds, score = ragged_ops.padded(splits, starts, ends, kinds, score)
    starts, ends = tf.cast(starts, tf.int32), tf.cast(ends, tf.int32)
    return {
        "entity": offsets.cut_rows(texts, starts, ends),
        "label": tf.gather(tf.constant(["", *types]), kinds),
        "score": score,
        "start": starts,
        "end": ends,
        "start_character": offsets.character_offsets(texts, starts),
        "end_character": offsets.character_offsets(texts, ends),
    }


def entity_difference(
    expected: Mapping[str, np.ndarray],
    received: Mapping[str, np.ndarray],
    tolerance: float,
    *,
    nested: bool = False,
) -> float | None:
    """Compares two answers to one text, which may differ by rounding.

    If two readings of a text are almost equally probable, one of them has an entity whose least
    probable word has a probability of a half or less, and the other has another entity there.

    Args:
        expected: name -> array, a row of a TokenClassifier's answers.
        received: another such row.
        tolerance: float. The effect of rounding on a probability.
        nested: bool. Whether entities are independent, even if they overlap.

    Returns:
        float, the largest difference of scores; None if the answers differ otherwise.
    """
    ours, theirs = _by_place(expected), _by_place(received)
    largest = 0.0
    for place in ours.keys() & theirs.keys():
        if ours[place][1:] != theirs[place][1:]:
            return None
        difference = abs(ours[place][0] - theirs[place][0])
        largest = max(largest, difference if difference >= 0 else np.inf)  # NaN is a difference
    for one, other in ((ours, theirs), (theirs, ours)):
        for place in one.keys() - other.keys():
            overlapping = [
                values[0]
                for (start, end, _), values in other.items()
                if not nested and start < place[1] and place[0] < end
            ]
            if min([one[place][0], *overlapping]) > 0.5 + 2 * tolerance:
                return None
    return largest


def _by_place(answer: Mapping[str, np.ndarray]) -> dict[tuple[int, int, bytes], tuple[Any, ...]]:
    """Entities of one text: (start, end, label) -> score, and the other values in the answer."""
    others = [n for n in ("entity", "start_character", "end_character") if n in answer]
    return {
        (int(answer["start"][i]), int(answer["end"][i]), label): (
            float(answer["score"][i]),
            *(answer[name][i] for name in others),
        )
        for i, label in enumerate(answer["label"])
        if label
    }
