"""Truncates segments and packs them into model inputs, in core ops.

TensorFlow Text's trimmers are not used. TF Serving up to 2.19.1 lacks RoundRobinTrim, and its order
differs from Hugging Face's.

Legend: B rows, L length of the packed rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import tensorflow as tf

from keras_bert_zoo.errors import ConfigError

Truncation = Literal["longest_first", "only_first", "only_second"]
Padding = Literal["longest", "max_length"] | int


@dataclass(frozen=True)
class Layout:
    """The special tokens around segments, and how segments are packed.

    Attributes:
        cls_token_id, sep_token_id, pad_token_id: int.
        separators_between, second_segment_id, cls_segment_id: int. See `options.Packing`.
    """

    cls_token_id: int
    sep_token_id: int
    pad_token_id: int
    separators_between: int = 1
    second_segment_id: int = 1
    cls_segment_id: int = 0

    def special_tokens(self, pair: bool) -> int:
        """Returns the number of special tokens in a row."""
        return 2 + self.separators_between if pair else 2


def pack(
    layout: Layout,
    ids_a: tf.RaggedTensor,
    ids_b: tf.RaggedTensor | None,
    *,
    max_length: int | None,
    truncation: Truncation,
    padding: Padding,
) -> dict[str, tf.Tensor]:
    """Packs segments; see `Tokenizer.pack`."""
    check_padding(padding, max_length)
    if truncation not in get_args(Truncation):
        raise ConfigError(
            f"Expected truncation of {', '.join(get_args(Truncation))}, received {truncation!r}."
        )
    lengths_a = row_lengths(ids_a)
    lengths_b = tf.zeros_like(lengths_a) if ids_b is None else row_lengths(ids_b)
    if max_length is not None:
        room = max_length - layout.special_tokens(ids_b is not None)
        if room < 0:
            raise ConfigError(
                f"Expected max_length of at least {max_length - room} (the special tokens), "
                f"received {max_length}."
            )
        if ids_b is None:
            lengths_a = tf.minimum(lengths_a, room)
        else:
            lengths_a, lengths_b = truncated_lengths(lengths_a, lengths_b, room, truncation)
    return lay_out(
        layout,
        Segment(ids_a.values, tf.cast(ids_a.row_splits[:-1], tf.int32), lengths_a),
        None
        if ids_b is None
        else Segment(ids_b.values, tf.cast(ids_b.row_splits[:-1], tf.int32), lengths_b),
        max_length=max_length,
        padding=padding,
    )


def truncated_lengths(
    lengths_a: tf.Tensor, lengths_b: tf.Tensor, room: int, truncation: Truncation
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the truncated lengths of the segments of pairs.

    "longest_first" is Hugging Face's. If both segments are longer than half the room, the shorter
    is truncated to half the room, rounded down. The longer gets the rest (the second, if they are
    equally long). Hugging Face raises an error if the segment to truncate is too short. A served
    graph must return a result, so the other segment is truncated, too.

    Args:
        lengths_a: int32 (B,). Tokens of the first segments.
        lengths_b: int32 (B,). Tokens of the second segments.
        room: int. The largest sum of both lengths.
        truncation: the segment to truncate.

    Returns:
        int32 (B,) each.
    Source: tokenizers, `truncate_encodings`.
    """
    if truncation == "only_second":
        lengths_a = tf.minimum(lengths_a, room)
        return lengths_a, tf.minimum(lengths_b, room - lengths_a)
    if truncation == "only_first":
        lengths_b = tf.minimum(lengths_b, room)
        return tf.minimum(lengths_a, room - lengths_b), lengths_b
    half = room // 2
    swap = lengths_a > lengths_b
    short = tf.minimum(lengths_a, lengths_b)
    long = tf.maximum(lengths_a, lengths_b)
    fits = short + long <= room
    short = tf.where(fits, short, tf.minimum(short, half))
    long = tf.where(fits, long, room - short)
    return tf.where(swap, long, short), tf.where(swap, short, long)


@dataclass(frozen=True)
class Segment:
    """One segment of each row.

    Attributes:
        values: int32 (T,). The ids.
        begins: int32 (B,). The index of each row's first id in `values`.
        lengths: int32 (B,).
    """

    values: tf.Tensor
    begins: tf.Tensor
    lengths: tf.Tensor


@dataclass(frozen=True)
class Grid:
    """The sources of the tokens in packed rows.

    Attributes:
        in_a, in_b: bool (B, L). Whether the position has a token of the segment.
        at_a, at_b: int32 (B, L). The token's index in the segment's values; elsewhere undefined.
        position: int32 (1, L).
        sep_a, begin_b, end: int32 (B, 1). The positions of the first [SEP], of the second
            segment's first token, and after the last [SEP].
    """

    in_a: tf.Tensor
    at_a: tf.Tensor
    in_b: tf.Tensor | None
    at_b: tf.Tensor | None
    position: tf.Tensor
    sep_a: tf.Tensor
    begin_b: tf.Tensor
    end: tf.Tensor


def make_grid(
    layout: Layout, a: Segment, b: Segment | None, *, max_length: int | None, padding: Padding
) -> Grid:
    """Computes the positions of the segments' tokens in packed rows."""
    sep_a = a.lengths[:, tf.newaxis] + 1
    begin_b = sep_a + layout.separators_between
    end = sep_a + 1 if b is None else begin_b + b.lengths[:, tf.newaxis] + 1
    position = tf.range(_padded_length(end, max_length, padding))[tf.newaxis]
    in_a = tf.logical_and(position >= 1, position < sep_a)
    at_a = a.begins[:, tf.newaxis] + position - 1
    in_b = at_b = None
    if b is not None:
        in_b = tf.logical_and(position >= begin_b, position < end - 1)
        at_b = b.begins[:, tf.newaxis] + position - begin_b
    return Grid(in_a, at_a, in_b, at_b, position, sep_a, begin_b, end)


def take(values: tf.Tensor, at: tf.Tensor, inside: tf.Tensor) -> tf.Tensor:
    """Returns int32 (B, L), the values at the indices `at`, or 0 where `inside` is False."""
    # One additional value, for positions without a token.
    values = tf.pad(values, [[0, 1]])
    at = tf.where(inside, at, tf.size(values) - 1)
    return tf.gather(values, at)


def lay_out(
    layout: Layout, a: Segment, b: Segment | None, *, max_length: int | None, padding: Padding
) -> dict[str, tf.Tensor]:
    """Packs truncated segments into rows."""
    grid = make_grid(layout, a, b, max_length=max_length, padding=padding)
    return fill(layout, grid, a, b)


def fill(layout: Layout, grid: Grid, a: Segment, b: Segment | None) -> dict[str, tf.Tensor]:
    """Returns the ids, segment ids and padding mask of a grid."""
    ids = take(a.values, grid.at_a, grid.in_a)
    if b is not None and grid.at_b is not None and grid.in_b is not None:
        ids += take(b.values, grid.at_b, grid.in_b)
    inside = grid.position < grid.end
    # After a single segment, the additional separators of a pair are outside the row.
    is_sep = tf.logical_or(
        tf.logical_and(grid.position >= grid.sep_a, grid.position < grid.begin_b),
        tf.equal(grid.position, grid.end - 1),
    )
    is_cls = tf.equal(grid.position, 0)
    ids = tf.where(is_sep, layout.sep_token_id, ids)
    ids = tf.where(is_cls, layout.cls_token_id, ids)
    ids = tf.where(inside, ids, layout.pad_token_id)
    in_second = tf.logical_and(grid.position >= grid.begin_b, inside)
    segments = tf.cast(in_second, tf.int32) * layout.second_segment_id
    if layout.cls_segment_id:
        segments = tf.where(is_cls, layout.cls_segment_id, segments)
    return {
        "token_ids": ids,
        "segment_ids": segments,
        "padding_mask": tf.cast(inside, tf.int32),
    }


def row_lengths(ids: tf.RaggedTensor) -> tf.Tensor:
    """Returns the lengths of the rows: int32 (B,)."""
    splits = tf.cast(ids.row_splits, tf.int32)
    return splits[1:] - splits[:-1]


def check_padding(padding: Padding, max_length: int | None) -> None:
    """Raises ConfigError if the padding is invalid."""
    if padding == "max_length" and max_length is None:
        raise ConfigError("Expected max_length with padding='max_length', received None.")
    if padding in ("longest", "max_length"):
        return
    if not isinstance(padding, int) or isinstance(padding, bool) or padding < 1:
        raise ConfigError(
            f"Expected padding of 'longest', 'max_length' or a positive int, received {padding!r}."
        )


def _padded_length(end: tf.Tensor, max_length: int | None, padding: Padding) -> int | tf.Tensor:
    """Returns L, the length of the packed rows."""
    if padding == "max_length" and max_length is not None:
        return max_length
    # 0 for an empty batch, whose maximum would be the smallest int.
    longest = tf.reduce_max(tf.pad(end[:, 0], [[0, 1]]))
    if isinstance(padding, int):
        longest = (longest + padding - 1) // padding * padding
        if max_length is not None:
            longest = tf.minimum(longest, max_length)
    return longest
