"""Token layouts of packed batches, whose rows (bins) contain several examples.

A bin has one example after the other, from its first column on. Positions restart at each example,
and no token sees another example. In the packed layout each example is a row of attention. In the
padded layout, attention has one mask (S, S) per bin.

Legend, in addition to that of `layers`: B bins, S columns, E the largest number of examples of a
bin. An example has a slot: example e of bin b is `b * E + e`. Some slots have no example.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from keras_bert_zoo.layers.attention_groups import (
    MASKED_SCORE,
    Layout,
    make_groups,
    spare_slots,
)

EXAMPLE_INPUTS = ("example_ids", "example_starts")
"""The inputs of a packed batch, in addition to those of an encoder: int32 (B, S) and (B, E)."""

PACKED_GROUPS = 6
"""Groups of attention that are fast for the lengths of the examples in bins."""


def is_packed(inputs: Any) -> bool:
    """Whether inputs are those of a packed batch."""
    return isinstance(inputs, Mapping) and EXAMPLE_INPUTS[0] in inputs


def lay_out_examples(
    token_ids: tf.Tensor,
    segment_ids: tf.Tensor,
    example_ids: tf.Tensor,
    example_starts: tf.Tensor,
    groups: int | None,
) -> Layout:
    """Computes the layout of a packed batch.

    Args:
        token_ids: see `TokenLayout`.
        segment_ids: see `TokenLayout`.
        example_ids: see `TokenLayout`.
        example_starts: see `TokenLayout`.
        groups: int. The groups of the packed layout. None: the padded layout.

    Returns:
        see `TokenLayout`.
    """
    inputs = (token_ids, segment_ids, example_ids, example_starts)
    return _padded_examples(*inputs) if groups is None else _packed_examples(*inputs, groups)


def _padded_examples(
    token_ids: tf.Tensor,
    segment_ids: tf.Tensor,
    example_ids: tf.Tensor,
    example_starts: tf.Tensor,
) -> Layout:
    shape = tf.shape(token_ids)
    rows, columns = shape[0], shape[1]
    used = example_ids > 0
    positions = tf.where(used, tf.range(columns) - _own_starts(example_ids, example_starts), 0)
    # Padding attends to padding, so that every query has a key.
    same = example_ids[:, :, tf.newaxis] == example_ids[:, tf.newaxis, :]  # (B, S, S)
    first = tf.range(rows)[:, tf.newaxis] * columns + tf.maximum(example_starts, 0)
    return {
        "token_ids": tf.reshape(token_ids, [-1]),
        "segment_ids": tf.reshape(segment_ids, [-1]),
        "attended": tf.reshape(tf.cast(used, tf.int32), [-1]),
        "positions": tf.reshape(positions, [-1]),
        "first_tokens": tf.reshape(first, [-1]),
        "slots": _slots_of_tokens(example_ids, example_starts),
        "attend": [tf.where(same, 0.0, MASKED_SCORE)[:, tf.newaxis]],
        "shape_of": token_ids,
    }


def _packed_examples(
    token_ids: tf.Tensor,
    segment_ids: tf.Tensor,
    example_ids: tf.Tensor,
    example_starts: tf.Tensor,
    groups: int,
) -> Layout:
    cells = tf.cast(tf.squeeze(tf.where(tf.reshape(example_ids, [-1]) > 0), 1), tf.int32)
    tokens = tf.size(cells)
    index = spare_slots(tokens)

    def with_spare(values: tf.Tensor, spare: Any) -> tf.Tensor:  # (tokens,) -> (T,)
        return tf.gather(tf.concat([values, tf.reshape(spare, [1])], axis=0), index)

    def of_tokens(values: tf.Tensor, spare: int = 0) -> tf.Tensor:  # (B, S) -> (T,)
        return with_spare(tf.gather(tf.reshape(values, [-1]), cells), spare)

    # Examples are numbered in the order of their tokens: 0 to the number of examples.
    exists = tf.reshape(example_starts >= 0, [-1])  # (B * E,)
    number = tf.cumsum(tf.cast(exists, tf.int32)) - 1  # (B * E,)
    slots_of_examples = tf.cast(tf.squeeze(tf.where(exists), 1), tf.int32)  # (examples,)
    slots = _slots_of_tokens(example_ids, example_starts)  # (B * S,)
    example = tf.gather(number, tf.gather(slots, cells))  # (tokens,)
    count = tf.size(slots_of_examples)
    lengths = tf.math.unsorted_segment_sum(tf.ones_like(example), example, count)
    starts = tf.cumsum(lengths, exclusive=True)  # (examples,), first token of each example
    position = tf.range(tokens) - tf.gather(starts, example)
    # Several groups hold the examples by length.
    order = tf.argsort(lengths, stable=True) if groups > 1 else tf.range(count)
    rank = tf.math.invert_permutation(order)
    attended = with_spare(tf.ones_like(example), 0)
    indices, masks, places, widths = make_groups(
        tf.gather(lengths, order), tf.gather(starts, order), attended, tokens, groups
    )
    row = tf.gather(rank, example)
    used = tf.cast(tf.reshape(example_ids, [-1]) > 0, tf.int32)

    def of_slots(values: tf.Tensor, none: Any) -> tf.Tensor:  # (examples,) -> (B * E,)
        values = tf.concat([values, tf.reshape(none, [1])], axis=0)
        return tf.gather(values, tf.where(exists, number, count))

    return {
        "cells": with_spare(cells, tf.size(example_ids)),
        "token_ids": of_tokens(token_ids),
        "segment_ids": of_tokens(segment_ids),
        "attended": attended,
        "positions": with_spare(position, 0),
        "first_tokens": of_slots(starts, tokens),  # a spare token for a slot without example
        "slots": with_spare(tf.gather(slots, cells), -1),
        "group_indices": indices,
        "attend": masks,
        "group_places": with_spare(tf.gather(places, row), 0),
        "group_widths": with_spare(tf.gather(widths, row), 0),
        "group_columns": with_spare(position, 0),
        "spares": tf.expand_dims(tf.range(tokens, tf.size(index)), 1),
        # The slot of each row of the groups, and the row of each slot; 0 is no row, 1 the first.
        "row_slots": tf.gather(slots_of_examples, order),
        "slot_rows": of_slots(rank + 1, 0),
        "unpack": tf.reshape(tf.cumsum(used) * used, tf.shape(example_ids)),
    }


def own_positions(counted: tf.Tensor, example_ids: tf.Tensor, starts: tf.Tensor) -> tf.Tensor:
    """Counts tokens from the start of each example.

    Args:
        counted: int32 (B, S). 1 at tokens that are counted, otherwise 0.
        example_ids: int32 (B, S).
        starts: int32 (B, E). The input `example_starts`.

    Returns:
        int32 (B, S): the number of counted tokens of the example up to this one; 0 at padding.
    """
    before = tf.cumsum(counted, axis=1, exclusive=True)
    at_start = tf.gather(before, _own_starts(example_ids, starts), batch_dims=1)
    return (before + counted - at_start) * tf.cast(example_ids > 0, tf.int32)


def own_neighbours(
    previous: tf.Tensor, following: tf.Tensor, example_ids: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Replaces the neighbours of each token, int32 (B, S), by -1 if they are of other examples."""
    edge = tf.fill([tf.shape(example_ids)[0], 1], -1)
    first = tf.concat([edge, example_ids[:, :-1]], axis=1) != example_ids
    last = tf.concat([example_ids[:, 1:], edge], axis=1) != example_ids
    return tf.where(first, -1, previous), tf.where(last, -1, following)


def last_tokens_of_examples(layout: Layout) -> tf.Tensor:
    """Returns the token index of the last token of each example, int32 (B * E,)."""
    slots, first = layout["slots"], layout["first_tokens"]
    lengths = tf.math.unsorted_segment_sum(tf.ones_like(slots), slots, tf.size(first))
    return first + tf.maximum(lengths, 1) - 1


def _own_starts(example_ids: tf.Tensor, starts: tf.Tensor) -> tf.Tensor:
    """int32 (B, S). The column at which the example of each token starts; any at padding."""
    own = tf.gather(starts, tf.maximum(example_ids - 1, 0), batch_dims=1)
    return tf.maximum(own, 0)


def _slots_of_tokens(example_ids: tf.Tensor, example_starts: tf.Tensor) -> tf.Tensor:
    """int32 (B * S,). The slot of each token's example, -1 at padding."""
    rows, most = tf.shape(example_ids)[0], tf.shape(example_starts)[1]
    slots = tf.range(rows)[:, tf.newaxis] * most + example_ids - 1
    return tf.reshape(tf.where(example_ids > 0, slots, -1), [-1])
