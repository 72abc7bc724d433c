"""Splits long texts into overlapping windows, each a model input.

Equal to Hugging Face's `return_overflowing_tokens` with `stride`, in core ops.

Legend: B texts, W windows of all texts, L length of the packed windows.
"""

from __future__ import annotations

import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text import packing, ragged_ops


def make_windows(
    layout: packing.Layout,
    ids: tf.RaggedTensor,
    first: tf.RaggedTensor | None,
    *,
    spans: tuple[tf.Tensor, ...],
    max_length: int | None,
    stride: int,
    padding: packing.Padding,
) -> dict[str, tf.Tensor]:
    """Splits texts into windows; see `Tokenizer.windows`.

    The first segment is truncated if it leaves less room than `stride` and one new token. Hugging
    Face raises an error in this case.

    Args:
        layout: the special tokens.
        ids: int32 ragged (B, tokens). The texts to split.
        first: int32 ragged (B, tokens) or None.
        spans: () or (starts, ends) of `ids`, int64 (T,) each.
        max_length: as in `Tokenizer.windows`.
        stride: as in `Tokenizer.windows`.
        padding: as in `Tokenizer.windows`.
    """
    if max_length is None:
        raise ConfigError(
            "Expected max_length, received None. Pass it, because the tokenizer has no max_length."
        )
    packing.check_padding(padding, max_length)
    if stride < 0:
        raise ConfigError(f"Expected stride of at least 0, received {stride}.")
    room = max_length - layout.special_tokens(first is not None)
    if room <= stride:
        raise ConfigError(
            f"Expected max_length of more than {max_length - room + stride} (the special tokens "
            f"and stride={stride}), received {max_length}."
        )
    lengths = packing.row_lengths(ids)  # (B,)
    if first is None:
        first_lengths = tf.zeros_like(lengths)
    else:
        first_lengths = tf.minimum(packing.row_lengths(first), room - stride - 1)
    room_each = room - first_lengths
    step = room_each - stride
    overflow = tf.maximum(lengths - room_each, 0)
    count = 1 + (overflow + step - 1) // step  # (B,)

    splits = ragged_ops.splits_from_lengths(tf.cast(count, tf.int64))
    document = ragged_ops.row_ids(splits, splits[-1])  # (W,)
    number = tf.cast(tf.range(splits[-1]) - tf.gather(splits, document), tf.int32)
    start = number * tf.gather(step, document)
    length = tf.minimum(tf.gather(lengths, document) - start, tf.gather(room_each, document))
    begins = tf.gather(tf.cast(ids.row_splits, tf.int32), document) + start
    text = packing.Segment(ids.values, begins, length)
    if first is None:
        a, b = text, None
    else:
        first_begins = tf.gather(tf.cast(first.row_splits, tf.int32), document)
        a = packing.Segment(first.values, first_begins, tf.gather(first_lengths, document))
        b = text
    grid = packing.make_grid(layout, a, b, max_length=max_length, padding=padding)
    packed = packing.fill(layout, grid, a, b)
    if spans:
        at, inside = (grid.at_a, grid.in_a) if b is None else (grid.at_b, grid.in_b)
        packed["starts"] = packing.take(tf.cast(spans[0], tf.int32), at, inside)
        packed["ends"] = packing.take(tf.cast(spans[1], tf.int32), at, inside)
    packed["document"] = tf.cast(document, tf.int32)
    packed["window_start"] = start
    return packed
