"""Token layouts: convert a padded batch to one row per token, and back.

Every encoder computes on rank-2 (T, H) tensors. In the padded layout T = B * S, with static shapes
if the input's shape is static (TPU, XLA). The packed layout drops the padding: T is the number of
tokens, rounded up. Only attention needs the rows of the batch. For attention, the packed layout
splits the batch into a few groups of similar length, each padded to its longest row.
"""

from __future__ import annotations

import itertools
from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError

TOKEN_LAYOUTS = ("padded", "packed")

# oneDNN caches one primitive per shape. Rounding up the numbers of tokens and of columns in an
# attention group makes shapes repeat.
_TOKEN_MULTIPLE = 64
_COLUMN_MULTIPLE = 8

# Added to the score of a masked key. exp(-1e9) is 0 in float32 and in bfloat16, and unlike
# -infinity it gives a row without any key a finite (and unused) result. Google's BERT adds -1e4.
_MASKED_SCORE = -1e9

Layout = dict[str, Any]


@keras.saving.register_keras_serializable("keras_bert_zoo")
class TokenLayout(keras.layers.Layer):
    """Converts a padded batch to tokens and the index tensors that restore the batch.

    Args:
        kind: "padded" or "packed".
        attention_groups: int. Packed only: number of groups of similar length in attention. 1 is
            best for batches that are bucketed by length, 6 for texts in random order.
        padding_id: int or None. Also return positions that do not count tokens with this id.
        neighbours: bool. Also return the ids of each token's neighbours in the batch.
        last_tokens: bool. Also return the token index of each row's last column, even if masked.

    Call arguments:
        token_ids, segment_ids, padding_mask: int32 (B, S). `padding_mask` 1 = attend, 0 = padding;
            holes and left padding are allowed, positions are the columns.

    Returns:
        dict: `token_ids`, `segment_ids`, `positions` int32 (T,); `attended` int32 (T,), 0 at
        masked tokens; `attend`, a list of float32 masks (n, 1, 1, s) to add to attention scores;
        `first_tokens` int32 (B,), the token index of each row's first column; and index tensors
        for this module's functions. With `padding_id`, also `counted_positions` int32 (T,), which
        start at `padding_id + 1` and are `padding_id` at tokens with this id. With `neighbours`,
        also `previous_ids` and `next_ids` int32 (T,), the ids of padding included, -1 beyond the
        edges of the batch. With `last_tokens`, also `last_tokens` int32 (B,), the token index of
        each row's last column.

    Raises:
        ConfigError: unknown `kind` or `attention_groups` below 1.
    """

    def __init__(
        self,
        kind: str,
        *,
        attention_groups: int = 1,
        padding_id: int | None = None,
        neighbours: bool = False,
        last_tokens: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if kind not in TOKEN_LAYOUTS:
            known = ", ".join(TOKEN_LAYOUTS)
            raise ConfigError(f"Expected `token_layout` to be one of {known}, received {kind!r}.")
        if attention_groups < 1:
            raise ConfigError(
                f"Expected `attention_groups` to be at least 1, received {attention_groups}."
            )
        self.kind = kind
        self.attention_groups = attention_groups
        self.padding_id = padding_id
        self.neighbours = neighbours
        self.last_tokens = last_tokens

    def call(self, token_ids: tf.Tensor, segment_ids: tf.Tensor, padding_mask: tf.Tensor) -> Layout:
        """Computes the layout; see the class."""
        if self.kind == "padded":
            layout = _padded_layout(token_ids, segment_ids, padding_mask)
        else:
            layout = _packed_layout(
                token_ids,
                segment_ids,
                padding_mask,
                self.attention_groups,
                keep_last=self.last_tokens,
            )
        if self.padding_id is not None:
            counted = tf.cast(token_ids != self.padding_id, tf.int32)
            positions = tf.cumsum(counted, axis=1) * counted + self.padding_id
            layout["counted_positions"] = pick_tokens(positions, layout)
        if self.neighbours:
            edge = tf.fill([tf.shape(token_ids)[0], 1], -1)
            previous = tf.concat([edge, token_ids[:, :-1]], axis=1)
            following = tf.concat([token_ids[:, 1:], edge], axis=1)
            layout["previous_ids"] = pick_tokens(previous, layout)
            layout["next_ids"] = pick_tokens(following, layout)
        if self.last_tokens:
            columns = tf.shape(token_ids)[1]
            layout["last_tokens"] = (
                layout["first_tokens"] + columns - 1
                if self.kind == "padded"
                else layout["unpack"][:, -1] - 1
            )
        return layout

    def compute_output_spec(
        self, token_ids: Any, segment_ids: Any, padding_mask: Any
    ) -> dict[str, Any]:
        """Returns the shapes and dtypes, without a graph: most are unknown in the packed layout."""
        if self.kind == "padded":
            layout: dict[str, Any] = super().compute_output_spec(
                token_ids, segment_ids, padding_mask
            )
            return layout

        def spec(*shape: int | None, dtype: str = "int32") -> keras.KerasTensor:
            return keras.KerasTensor(shape, dtype)

        rows = token_ids.shape[0]
        of_tokens = ["token_ids", "segment_ids", "attended", "positions", "context_index", "cells"]
        of_rows = ["first_tokens"]
        if self.padding_id is not None:
            of_tokens.append("counted_positions")
        if self.neighbours:
            of_tokens += ["previous_ids", "next_ids"]
        if self.last_tokens:
            of_rows.append("last_tokens")
        if self.attention_groups > 1:
            of_rows.append("restore")
        # One group has all rows of the batch.
        sizes = [rows] if self.attention_groups == 1 else [None] * self.attention_groups
        return (
            {name: spec(None) for name in of_tokens}
            | {name: spec(rows) for name in of_rows}
            | {
                "attend": [spec(size, 1, 1, None, dtype="float32") for size in sizes],
                "group_indices": [spec(size, None) for size in sizes],
                "unpack": spec(*token_ids.shape),
            }
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {
            "kind": self.kind,
            "attention_groups": self.attention_groups,
            "padding_id": self.padding_id,
            "neighbours": self.neighbours,
            "last_tokens": self.last_tokens,
        }


def _padded_layout(token_ids: tf.Tensor, segment_ids: tf.Tensor, padding_mask: tf.Tensor) -> Layout:
    shape = tf.shape(token_ids)
    rows, columns = shape[0], shape[1]
    return {
        "token_ids": tf.reshape(token_ids, [-1]),
        "segment_ids": tf.reshape(segment_ids, [-1]),
        "attended": tf.reshape(tf.cast(_attended_keys(padding_mask), tf.int32), [-1]),
        "positions": tf.reshape(tf.broadcast_to(tf.range(columns), shape), [-1]),
        "first_tokens": tf.range(rows) * columns,
        "attend": [_additive_mask(_attended_keys(padding_mask))],
        # Only the shape of this one is used: it carries B and S, static where they are known.
        "shape_of": token_ids,
    }


def _packed_layout(
    token_ids: tf.Tensor,
    segment_ids: tf.Tensor,
    padding_mask: tf.Tensor,
    groups: int,
    *,
    keep_last: bool,
) -> Layout:
    shape = tf.shape(token_ids)
    rows, columns = tf.unstack(shape)
    every_column = tf.range(columns)
    attend = _attended_keys(padding_mask)
    # Always keep the first column, as a query: the pooled output reads it even if the caller
    # masked it (left padding).
    keep = tf.logical_or(attend, tf.equal(every_column, 0))
    if keep_last:
        keep = tf.logical_or(keep, tf.equal(every_column, columns - 1))
    kept = tf.cast(keep, tf.int32)
    lengths = tf.reduce_sum(kept, axis=1)  # (B,)
    # One group holds the rows as they come. Several hold them by length: from here on, `row` is an
    # index among the sorted rows, and `order` has their indices into the batch.
    order = None
    if groups > 1:
        order = tf.argsort(lengths, stable=True)
        lengths, keep = tf.gather(lengths, order), tf.gather(keep, order)
    starts = tf.cumsum(lengths, exclusive=True)  # (B,), first token of each row

    cell = tf.cast(tf.squeeze(tf.where(tf.reshape(keep, [-1])), 1), tf.int32)  # (tokens,)
    row = cell // columns
    column = cell - row * columns
    tokens = tf.size(cell)
    token = tf.range(tokens)
    # At least one spare row after the tokens represents "no token". Padding inside attention reads
    # it, and attention writes zeros to it, so that no gradient flows through padding. All (T,)
    # tensors are gathered with the same index: TensorFlow's optimizer then knows that their lengths
    # are equal, and fuses the residual sums.
    slot = tf.minimum(tf.range((tokens // _TOKEN_MULTIPLE + 1) * _TOKEN_MULTIPLE), tokens)

    def with_spare(values: tf.Tensor, spare: Any) -> tf.Tensor:  # (tokens,) -> (T,)
        return tf.gather(tf.concat([values, tf.reshape(spare, [1])], axis=0), slot)

    # (tokens,) index into B * S
    flat = cell if order is None else tf.gather(order, row) * columns + column
    cells = {"cells": with_spare(flat, rows * columns)}
    attended = pick_tokens(tf.cast(attend, tf.int32), cells)
    indices, masks, places, size = _attention_groups(lengths, starts, attended, tokens, groups)
    context = token + tf.gather(places - starts, row)
    layout = cells | {
        "token_ids": pick_tokens(token_ids, cells),
        "segment_ids": pick_tokens(segment_ids, cells),
        "attended": attended,
        "positions": with_spare(column, 0),
        "attend": masks,
        "group_indices": indices,
        # Spare tokens read the zero row that `to_tokens` appends to the groups.
        "context_index": with_spare(context, size),
    }
    if order is None:
        flat_kept = tf.reshape(kept, [-1])
        layout["first_tokens"] = starts
        unpack = tf.cumsum(flat_kept) * flat_kept
    else:
        # (B,): the index of each row among the sorted rows
        layout["restore"] = tf.math.invert_permutation(order)
        layout["first_tokens"] = tf.gather(starts, layout["restore"])
        unpack = tf.scatter_nd(tf.expand_dims(flat, 1), token + 1, [rows * columns])
    layout["unpack"] = tf.reshape(unpack, shape)  # (B, S): 1 + the token's index, 0 = dropped
    return layout


def _attention_groups(
    lengths: tf.Tensor, starts: tf.Tensor, attended: tf.Tensor, tokens: tf.Tensor, groups: int
) -> tuple[list[tf.Tensor], list[tf.Tensor], tf.Tensor, tf.Tensor]:
    """Splits rows, shortest first, into padded groups; see `_packed_layout`.

    Returns each group's token indices (n, s) and mask to add to scores; for each row (B,), the
    place of its first token among the cells of all groups; and the number of these cells.
    """
    # The first group has the shortest half of the rows, the next one the shortest half of the rest,
    # and so on: the longest rows, whose scores cost most, are in a small group.
    rows = tf.size(lengths)
    begins = [rows - rows // 2**group for group in range(groups)] + [rows]
    counts = [end - begin for begin, end in itertools.pairwise(begins)]
    indices, masks, places = [], [], []
    size = tf.constant(0)
    for count, group_lengths, group_starts in zip(
        counts, _split(lengths, counts), _split(starts, counts), strict=True
    ):
        # At least one column: callers read the first one even of a group without rows.
        longest = tf.maximum(tf.reduce_max(group_lengths), 1)
        width = -(-longest // _COLUMN_MULTIPLE) * _COLUMN_MULTIPLE
        column = tf.range(width)
        within = tf.less(column, tf.expand_dims(group_lengths, 1))  # (n, s)
        index = tf.where(within, tf.expand_dims(group_starts, 1) + column, tokens)
        indices.append(index)
        masks.append(_additive_mask(tf.logical_and(within, tf.gather(attended, index) == 1)))
        places.append(tf.range(count) * width + size)
        size += count * width
    return indices, masks, places[0] if groups == 1 else tf.concat(places, axis=0), size


def _split(values: tf.Tensor, counts: list[tf.Tensor]) -> list[tf.Tensor]:
    parts: list[tf.Tensor] = [values] if len(counts) == 1 else tf.split(values, counts)
    return parts


def attention_mask(padding_mask: tf.Tensor) -> tf.Tensor:
    """Returns the mask to add to attention scores: 0, or about -infinity at padding.

    Args:
        padding_mask: int32 (B, S). 1 = attend. A row of zeros attends to its first column.

    Returns:
        float32 (B, 1, 1, S).
    """
    return _additive_mask(_attended_keys(padding_mask))


def _attended_keys(padding_mask: tf.Tensor) -> tf.Tensor:
    # A row without attended tokens would have no defined output, so it attends to its first token.
    attend = padding_mask != 0
    empty = tf.logical_not(tf.reduce_any(attend, axis=1, keepdims=True))
    first = tf.range(tf.shape(padding_mask)[1])[tf.newaxis, :] == 0
    return tf.logical_or(attend, tf.logical_and(empty, first))


def _additive_mask(attend: tf.Tensor) -> tf.Tensor:
    return tf.where(attend, 0.0, _MASKED_SCORE)[:, tf.newaxis, tf.newaxis, :]


def to_groups(x: tf.Tensor, layout: Layout) -> list[tf.Tensor]:
    """Converts tokens to padded rows, for attention.

    Args:
        x: float (T, H).
        layout: the output of `TokenLayout`.

    Returns:
        list of float (n, s, H), one per group. In the packed layout, padding repeats a spare token,
        and rows are sorted by length if there are several groups.
    """
    if "shape_of" in layout:
        batch = layout["shape_of"]
        shape = [*_dimensions(batch), x.shape[-1]]
        return [tf.reshape(x, shape)]
    return _gather_groups(x, layout["context_index"], *layout["group_indices"])


def to_tokens(groups: list[tf.Tensor], layout: Layout, like: tf.Tensor) -> tf.Tensor:
    """Converts padded rows to one row per token; the inverse of `to_groups`.

    Args:
        groups: list of float (n, s, H).
        layout: the output of `TokenLayout`.
        like: float (T, H). A tensor of the result's shape.

    Returns:
        float (T, H).
    """
    if "shape_of" in layout:
        return tf.reshape(groups[0], tf.shape(like))
    return _gather_tokens(layout["context_index"], layout["group_indices"], *groups)


def to_batch(x: tf.Tensor, layout: Layout) -> tf.Tensor:
    """Converts tokens to the caller's padded batch.

    Args:
        x: float (T, H).
        layout: the output of `TokenLayout`.

    Returns:
        float (B, S, H). The packed layout leaves zeros at padding.
    """
    if "shape_of" in layout:
        return to_groups(x, layout)[0]
    with_zeros = tf.concat([tf.zeros_like(x[:1]), x], axis=0)
    return tf.gather(with_zeros, layout["unpack"])


def from_batch(x: tf.Tensor, layout: Layout) -> tf.Tensor:
    """Converts a padded batch to tokens; the inverse of `to_batch`.

    Args:
        x: float (B, S, H).
        layout: the output of `TokenLayout`.

    Returns:
        float (T, H). Spare tokens of the packed layout are zero.
    """
    tokens = tf.reshape(x, [-1, x.shape[-1]])
    return tokens if "shape_of" in layout else _gather_cells(tokens, layout)


def mean_of_tokens(x: tf.Tensor, layout: Layout) -> tf.Tensor:
    """Computes the mean of each row's attended tokens.

    Args:
        x: float (T, H).
        layout: the output of `TokenLayout`.

    Returns:
        float (B, H), `x`'s dtype; summed in float32.
    """
    attended = tf.cast(layout["attended"], tf.float32)[:, tf.newaxis]
    weighted = tf.concat([tf.cast(x, tf.float32) * attended, attended], axis=1)
    sums = tf.reduce_sum(to_batch(weighted, layout), axis=1)  # (B, H + 1)
    return tf.cast(sums[:, :-1] / sums[:, -1:], x.dtype)


def pick_tokens(values: tf.Tensor, layout: Layout) -> tf.Tensor:
    """Extracts the values of tokens from a padded batch, (B, S) -> (T,), as `from_batch`."""
    flat = tf.reshape(values, [-1])
    return flat if "shape_of" in layout else _gather_cells(flat, layout)


def _gather_cells(flat: tf.Tensor, layout: Layout) -> tf.Tensor:
    # Spare tokens read the row of zeros.
    paddings = [[0, 1], *[[0, 0]] * (flat.shape.rank - 1)]
    return tf.gather(tf.pad(flat, paddings), layout["cells"])


def take_positions(x: tf.Tensor, layout: Layout, positions: tf.Tensor) -> tf.Tensor:
    """Gathers the tokens at some columns of the batch, row by row.

    Args:
        x: float (T, H).
        layout: the output of `TokenLayout`.
        positions: int32 (B, P). Columns of the batch.

    Returns:
        float (B * P, H). The packed layout gives zeros for padding.
    """
    if "shape_of" in layout:
        rows, columns = _dimensions(layout["shape_of"])
        return tf.gather(x, tf.reshape(tf.range(rows)[:, tf.newaxis] * columns + positions, [-1]))
    with_zeros = tf.concat([tf.zeros_like(x[:1]), x], axis=0)
    places = tf.gather(layout["unpack"], positions, batch_dims=1)
    return tf.gather(with_zeros, tf.reshape(places, [-1]))


def group_positions(layout: Layout) -> list[tf.Tensor]:
    """Returns the positions (columns of the batch) of the tokens in each group of `to_groups`.

    Args:
        layout: the output of `TokenLayout`.

    Returns:
        list of int32 (n, s), one per group. Padding in a packed group has an arbitrary position.
    """
    positions = layout["positions"]
    if "shape_of" in layout:
        return [tf.reshape(positions, _dimensions(layout["shape_of"]))]
    return [tf.gather(positions, index) for index in layout["group_indices"]]


def _dimensions(x: tf.Tensor) -> list[Any]:
    dynamic = tf.shape(x)
    return [dynamic[i] if size is None else size for i, size in enumerate(x.shape)]


def _with_zero_row(groups: Any) -> tf.Tensor:
    width = groups[0].shape[-1]
    rows = [tf.reshape(group, [-1, width]) for group in groups]
    return tf.concat([*rows, tf.zeros([1, width], groups[0].dtype)], axis=0)


# The two gathers are inverse to each other, so each is the gradient of the other. Autodiff would
# use a scatter-add, which is single-threaded on CPU.
@tf.custom_gradient
def _gather_groups(x: tf.Tensor, context_index: tf.Tensor, *indices: tf.Tensor) -> Any:
    def gradient(*upstream: tf.Tensor) -> list[tf.Tensor | None]:
        dx = tf.gather(_with_zero_row(upstream), context_index)
        return [dx, None, *([None] * len(indices))]

    return [tf.gather(x, index) for index in indices], gradient


def _gather_tokens(
    context_index: tf.Tensor, indices: list[tf.Tensor], *groups: tf.Tensor
) -> tf.Tensor:
    @tf.custom_gradient
    def gather(*rows: tf.Tensor) -> Any:
        def gradient(upstream: tf.Tensor) -> list[tf.Tensor]:
            # Padding reads a spare token. Its gradient is zero, because its output is never used.
            return [tf.gather(upstream, index) for index in indices]

        return tf.gather(_with_zero_row(rows), context_index), gradient

    return gather(*groups)


@keras.saving.register_keras_serializable("keras_bert_zoo")
class TokensToBatch(keras.layers.Layer):
    """`to_batch` as a layer: float (T, H) and a layout -> float (B, S, H)."""

    def compute_output_spec(self, x: Any, layout: Layout) -> keras.KerasTensor:
        """Returns the shape and dtype of `call`'s output, without a graph."""
        batch = layout["shape_of" if "shape_of" in layout else "unpack"].shape
        return keras.KerasTensor((*batch, x.shape[-1]), dtype=x.dtype)

    def call(self, x: tf.Tensor, layout: Layout) -> tf.Tensor:
        """Restores the batch; see `to_batch`."""
        return to_batch(x, layout)
