"""Truncation of segments and their packing into the inputs of a model, in core ops.

TensorFlow Text's trimmers are not used: RoundRobinTrim is missing in TF Serving up to 2.19.1, and
its order is not Hugging Face's.

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
    """The ids around segments: [CLS] a [SEP], or [CLS] a [SEP] b [SEP].

    That is BERT's, and the default; other families have their own: RoBERTa's pairs are
    <s> a </s></s> b </s>, all of segment 0.

    Attributes:
        cls_token_id, sep_token_id, pad_token_id: int.
        separators_between: int. 1 or 2 separators between the segments of a pair.
        second_segment_id: int. The segment id of `b` and of the separator behind it; 0 or 1.
        cls_segment_id: int. The segment id of the first token (Funnel has 2).

    Raises:
        ConfigError: a number that no family has.
    """

    cls_token_id: int
    sep_token_id: int
    pad_token_id: int
    separators_between: int = 1
    second_segment_id: int = 1
    cls_segment_id: int = 0

    def __post_init__(self) -> None:
        for name, allowed in (
            ("separators_between", (1, 2)),
            ("second_segment_id", (0, 1)),
            ("cls_segment_id", (0, 1, 2)),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or value not in allowed:
                raise ConfigError(
                    f"expected {name} of {', '.join(map(str, allowed))}, got {value!r}"
                )

    def special_tokens(self, pair: bool) -> int:
        """How many special tokens stand around the segments."""
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
            f"expected truncation of {', '.join(get_args(Truncation))}, got {truncation!r}"
        )
    lengths_a = row_lengths(ids_a)
    lengths_b = tf.zeros_like(lengths_a) if ids_b is None else row_lengths(ids_b)
    if max_length is not None:
        room = max_length - layout.special_tokens(ids_b is not None)
        if room < 0:
            raise ConfigError(
                f"expected max_length of at least {max_length - room} (the special tokens), "
                f"got {max_length}"
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
    """How much of each segment of a pair is kept.

    "longest_first" is Hugging Face's: if both halves overflow, the shorter keeps half the
    room, rounded down, and the longer the rest (the second, if they are equally long). Where
    Hugging Face raises an error, because the segment to be cut has not enough tokens to give, the
    other one is cut too: a graph that serves has to answer.

    Args:
        lengths_a: int32 (B,). Tokens of the first segments.
        lengths_b: int32 (B,). Tokens of the second segments.
        room: int. Tokens for both together.
        truncation: which segment is cut.

    Returns:
        int32 (B,) each.
    Source: tokenizers, `truncate_encodings`.
    """
    if truncation == "only_second":
        kept_a = tf.minimum(lengths_a, room)
        return kept_a, tf.minimum(lengths_b, room - kept_a)
    if truncation == "only_first":
        kept_b = tf.minimum(lengths_b, room)
        return tf.minimum(lengths_a, room - kept_b), kept_b
    half = room // 2
    swap = lengths_a > lengths_b
    short = tf.minimum(lengths_a, lengths_b)
    long = tf.maximum(lengths_a, lengths_b)
    fits = short + long <= room
    kept_short = tf.where(fits, short, tf.minimum(short, half))
    kept_long = tf.where(fits, long, room - kept_short)
    return tf.where(swap, kept_long, kept_short), tf.where(swap, kept_short, kept_long)


@dataclass(frozen=True)
class Segment:
    """One segment of each row.

    Attributes:
        values: int32 (T,). Where the ids are.
        begins: int32 (B,). The place of each row's first id.
        lengths: int32 (B,).
    """

    values: tf.Tensor
    begins: tf.Tensor
    lengths: tf.Tensor


@dataclass(frozen=True)
class Grid:
    """Where the tokens of packed rows come from.

    Attributes:
        in_a, in_b: bool (B, L). Whether a token of the segment stands there.
        at_a, at_b: int32 (B, L). Its place in the segment's values; elsewhere, any place beyond.
        position: int32 (1, L).
        sep_a, begin_b, end: int32 (B, 1). Positions of the first [SEP], behind the separators
            that follow the first segment of a pair, and behind the last [SEP].
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
    """Lays out the rows without their ids."""
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
    """int32 (B, L): the values at some places, 0 where not inside."""
    # One value more, so that there is a place to look at where nothing is.
    values = tf.pad(values, [[0, 1]])
    at = tf.where(inside, at, tf.size(values) - 1)
    return tf.gather(values, at)


def lay_out(
    layout: Layout, a: Segment, b: Segment | None, *, max_length: int | None, padding: Padding
) -> dict[str, tf.Tensor]:
    """The packed rows of segments that are no longer than they may be."""
    grid = make_grid(layout, a, b, max_length=max_length, padding=padding)
    return fill(layout, grid, a, b)


def fill(layout: Layout, grid: Grid, a: Segment, b: Segment | None) -> dict[str, tf.Tensor]:
    """The ids, segments and mask of a grid."""
    ids = take(a.values, grid.at_a, grid.in_a)
    if b is not None and grid.at_b is not None and grid.in_b is not None:
        ids += take(b.values, grid.at_b, grid.in_b)
    inside = grid.position < grid.end
    # Behind a single segment, the further separators of a pair are outside of the row.
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
    """int32 (B,)."""
    splits = tf.cast(ids.row_splits, tf.int32)
    return splits[1:] - splits[:-1]


def check_padding(padding: Padding, max_length: int | None) -> None:
    """Raises ConfigError unless the padding is one that there is."""
    if padding == "max_length" and max_length is None:
        raise ConfigError("expected max_length with padding='max_length', got None")
    if padding in ("longest", "max_length"):
        return
    if not isinstance(padding, int) or isinstance(padding, bool) or padding < 1:
        raise ConfigError(
            f"expected padding of 'longest', 'max_length' or a positive int, got {padding!r}"
        )


def _padded_length(end: tf.Tensor, max_length: int | None, padding: Padding) -> int | tf.Tensor:
    """L."""
    if padding == "max_length" and max_length is not None:
        return max_length
    # 0 for a batch without rows, where a maximum would be the least int.
    longest = tf.reduce_max(tf.pad(end[:, 0], [[0, 1]]))
    if isinstance(padding, int):
        longest = (longest + padding - 1) // padding * padding
        if max_length is not None:
            longest = tf.minimum(longest, max_length)
    return longest
