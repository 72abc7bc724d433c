"""Token layouts: convert a padded batch to one row per token, and back.

Every encoder computes on rank-2 (T, H) tensors. In the padded layout T = B * S, with static shapes
if the input's shape is static (TPU, XLA). The packed layout drops the padding: T is the number of
tokens, rounded up. Only attention needs the rows of the batch; see `attention_groups`.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.layers.attention_groups import (
    FEW_TOKENS,
    additive_mask,
    dimensions,
    make_flat_group,
    make_groups,
    spare_slots,
)
from keras_bert_zoo.layers.attention_groups import Layout as Layout
from keras_bert_zoo.layers.example_layout import (
    last_tokens_of_examples,
    lay_out_examples,
    own_neighbours,
    own_positions,
)

TOKEN_LAYOUTS = ("padded", "packed")


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
        example_ids: int32 (B, S), for a packed batch: 0 is padding, e + 1 the e-th example of the
            row. Examples follow each other from the first column. `padding_mask` is then ignored.
        example_starts: int32 (B, E), with `example_ids`: the column of each example's first token,
            -1 where the row has no such example.
        training: bool. It must be True where attention is called with `training=True`.

    Returns:
        dict: `token_ids`, `segment_ids`, `positions` int32 (T,); `attended` int32 (T,), 0 at
        masked tokens; `attend`, a list of float32 masks (n, 1, 1, s) to add to attention scores;
        `first_tokens` int32 (B,), the token index of each row's first column; and index tensors
        for this module's functions. With `padding_id`, also `counted_positions` int32 (T,), which
        start at `padding_id + 1` and are `padding_id` at tokens with this id. With `neighbours`,
        also `previous_ids` and `next_ids` int32 (T,), the ids of padding included, -1 beyond the
        edges of the batch. With `last_tokens`, also `last_tokens` int32 (B,), the token index of
        each row's last column. With several groups, also `full`, bool (): whether the batch has no
        padding; and `few`, bool (): whether it has few tokens. Lists then have one more group, the
        flat one, of one row with all tokens of such a batch; its mask is (1, 1, T, T). Outside
        of training, the other groups are empty if such a batch has one row. See
        `attention_groups.in_fastest_groups`.

        In a packed batch, positions, neighbours, counted positions and attention are those of the
        examples alone. `first_tokens` and `last_tokens` are int32 (B * E,), of the examples of all
        rows, with any token where there is no example. `slots` is int32 (T,), the place of each
        token's example among them, -1 for no token. The masks of the padded layout are
        (B, 1, S, S), and there is no flat group.

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
        self.supports_jit = kind == "padded"  # XLA needs static shapes
        self.attention_groups = attention_groups
        self.padding_id = padding_id
        self.neighbours = neighbours
        self.last_tokens = last_tokens

    def call(
        self,
        token_ids: tf.Tensor,
        segment_ids: tf.Tensor,
        padding_mask: tf.Tensor,
        example_ids: tf.Tensor | None = None,
        example_starts: tf.Tensor | None = None,
        training: bool = False,
    ) -> Layout:
        """Computes the layout; see the class."""
        if example_ids is not None:
            groups = None if self.kind == "padded" else self.attention_groups
            layout = lay_out_examples(token_ids, segment_ids, example_ids, example_starts, groups)
        elif self.kind == "padded":
            layout = _padded_layout(token_ids, segment_ids, padding_mask)
        else:
            layout = _packed_layout(
                token_ids,
                segment_ids,
                padding_mask,
                self.attention_groups,
                keep_last=self.last_tokens,
                always_in_groups=training,
            )
        if self.padding_id is not None:
            counted = tf.cast(token_ids != self.padding_id, tf.int32)
            if example_ids is None:
                positions = tf.cumsum(counted, axis=1)
            else:
                positions = own_positions(counted, example_ids, example_starts)
            positions = positions * counted + self.padding_id
            layout["counted_positions"] = pick_tokens(positions, layout)
        if self.neighbours:
            edge = tf.fill([tf.shape(token_ids)[0], 1], -1)
            previous = tf.concat([edge, token_ids[:, :-1]], axis=1)
            following = tf.concat([token_ids[:, 1:], edge], axis=1)
            if example_ids is not None:
                previous, following = own_neighbours(previous, following, example_ids)
            layout["previous_ids"] = pick_tokens(previous, layout)
            layout["next_ids"] = pick_tokens(following, layout)
        if self.last_tokens:
            columns = tf.shape(token_ids)[1]
            if example_ids is not None:
                layout["last_tokens"] = last_tokens_of_examples(layout)
            elif self.kind == "padded":
                layout["last_tokens"] = layout["first_tokens"] + columns - 1
            else:
                layout["last_tokens"] = layout["unpack"][:, -1] - 1
        return layout

    def compute_output_spec(
        self,
        token_ids: Any,
        segment_ids: Any,
        padding_mask: Any,
        example_ids: Any = None,
        example_starts: Any = None,
        training: bool = False,
    ) -> dict[str, Any]:
        """Returns the shapes and dtypes, without a graph: most are unknown in the packed layout."""

        def spec(*shape: int | None, dtype: str = "int32") -> keras.KerasTensor:
            return keras.KerasTensor(shape, dtype)

        rows, columns = token_ids.shape
        padded = self.kind == "padded"
        tokens = rows * columns if padded and None not in (rows, columns) else None
        of_tokens = ["token_ids", "segment_ids", "attended", "positions"]
        of_rows = ["first_tokens"]
        if self.padding_id is not None:
            of_tokens.append("counted_positions")
        if self.neighbours:
            of_tokens += ["previous_ids", "next_ids"]
        if self.last_tokens:
            of_rows.append("last_tokens")
        packed = example_ids is not None
        several = self.attention_groups > 1 and not padded
        # One group has all rows of the batch. With several, the flat group is the last one.
        sizes = [None if packed and not padded else rows]
        if several:
            sizes = [None] * self.attention_groups
        width = columns if padded else None
        queries = width if packed and padded else 1
        layout: dict[str, Any] = {
            "attend": [spec(size, 1, queries, width, dtype="float32") for size in sizes]
        }
        if padded:
            layout["shape_of"] = spec(rows, columns)
        else:
            of_tokens += ["cells", "group_places", "group_widths", "group_columns"]
            layout |= {
                "group_indices": [spec(size, None) for size in sizes],
                "spares": spec(None, 1),
                "unpack": spec(rows, columns),
            }
        if packed:
            most = example_starts.shape[1]
            of_tokens.append("slots")
            if not padded:
                layout["row_slots"] = spec(None)
                of_rows.append("slot_rows")
            rows = None if None in (rows, most) else rows * most
        elif several:
            of_rows.append("restore")
            layout["attend"].append(spec(1, 1, None, None, dtype="float32"))
            layout["group_indices"].append(spec(1, None))
            layout |= {name: spec(dtype="bool") for name in ("few", "full")}
        layout |= {name: spec(tokens) for name in of_tokens}
        return layout | {name: spec(rows) for name in of_rows}

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
        "attend": [additive_mask(_attended_keys(padding_mask))],
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
    always_in_groups: bool,
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
    counted = tf.cast(keep, tf.int32)
    lengths = tf.reduce_sum(counted, axis=1)  # (B,)
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
    slot = spare_slots(tokens)

    def with_spare(values: tf.Tensor, spare: Any) -> tf.Tensor:  # (tokens,) -> (T,)
        return tf.gather(tf.concat([values, tf.reshape(spare, [1])], axis=0), slot)

    # (tokens,) index into B * S
    flat = cell if order is None else tf.gather(order, row) * columns + column
    cells = {"cells": with_spare(flat, rows * columns)}
    attended = pick_tokens(tf.cast(attend, tf.int32), cells)
    few = tf.size(slot) <= FEW_TOKENS

    def grouped() -> list[tf.Tensor]:
        indices, masks, places, widths = make_groups(lengths, starts, attended, tokens, groups)
        # Where attention groups hold the tokens (T,): the row's first cell among the cells of all
        # groups, the width of the row, and the column. Spare tokens read the first cell.
        values = tf.gather(places, row), tf.gather(widths, row), token - tf.gather(starts, row)
        return [*indices, *masks, *(with_spare(value, 0) for value in values)]

    def empty() -> list[tf.Tensor]:
        index, mask, values = tf.zeros([0, 1], tf.int32), tf.zeros([0, 1, 1, 1]), slot[:0]
        return [index] * groups + [mask] * groups + [values] * 3

    if order is None or always_in_groups:
        parts = grouped()
    else:
        # The flat group, see below, is enough for few tokens of one row. With more rows, the
        # queries of first tokens need the other groups.
        parts = tf.cond(tf.logical_and(few, tf.equal(rows, 1)), empty, grouped)
    layout = cells | {
        "token_ids": pick_tokens(token_ids, cells),
        "segment_ids": pick_tokens(segment_ids, cells),
        "attended": attended,
        "positions": with_spare(column, 0),
        "group_indices": parts[:groups],
        "attend": parts[groups : 2 * groups],
        "group_places": parts[-3],
        "group_widths": parts[-2],
        "group_columns": parts[-1],
        "spares": tf.expand_dims(tf.range(tokens, tf.size(slot)), 1),
    }
    if order is None:
        counted = tf.reshape(counted, [-1])
        layout["first_tokens"] = starts
        unpack = tf.cumsum(counted) * counted
    else:
        layout["full"] = tf.reduce_all(attend)
        layout["few"] = few
        index, mask = make_flat_group(with_spare(row, -1), attended, few)
        layout["group_indices"].append(index)
        layout["attend"].append(mask)
        # (B,): the index of each row among the sorted rows
        layout["restore"] = tf.math.invert_permutation(order)
        layout["first_tokens"] = tf.gather(starts, layout["restore"])
        unpack = tf.scatter_nd(tf.expand_dims(flat, 1), token + 1, [rows * columns])
    layout["unpack"] = tf.reshape(unpack, shape)  # (B, S): 1 + the token's index, 0 = dropped
    return layout


def attention_mask(padding_mask: tf.Tensor) -> tf.Tensor:
    """Returns the mask to add to attention scores: 0, or about -infinity at padding.

    Args:
        padding_mask: int32 (B, S). 1 = attend. A row of zeros attends to its first column.

    Returns:
        float32 (B, 1, 1, S).
    """
    return additive_mask(_attended_keys(padding_mask))


def _attended_keys(padding_mask: tf.Tensor) -> tf.Tensor:
    # A row without attended tokens would have no defined output, so it attends to its first token.
    attend = padding_mask != 0
    empty = tf.logical_not(tf.reduce_any(attend, axis=1, keepdims=True))
    first = tf.range(tf.shape(padding_mask)[1])[tf.newaxis, :] == 0
    return tf.logical_or(attend, tf.logical_and(empty, first))


def to_batch(x: tf.Tensor, layout: Layout) -> tf.Tensor:
    """Converts tokens to the caller's padded batch.

    Args:
        x: float (T, H).
        layout: the output of `TokenLayout`.

    Returns:
        float (B, S, H). The packed layout leaves zeros at padding.
    """
    if "shape_of" in layout:
        return tf.reshape(x, [*dimensions(layout["shape_of"]), x.shape[-1]])
    with_zeros = tf.concat([tf.zeros_like(x[:1]), x], axis=0)
    return tf.gather(with_zeros, layout["unpack"])


def spec_of_batch(layout: Layout, *widths: int, dtype: str) -> keras.KerasTensor:
    """Returns the shape (B, S, *widths) and the dtype of `to_batch`'s output, without a graph."""
    rows_and_columns = layout["shape_of" if "shape_of" in layout else "unpack"].shape
    return keras.KerasTensor((*rows_and_columns, *widths), dtype=dtype)


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
    """Computes the mean of each row's attended tokens, or of each example's of a packed batch.

    Args:
        x: float (T, H).
        layout: the output of `TokenLayout`.

    Returns:
        float (B, H), `x`'s dtype; summed in float32.
    """
    attended = tf.cast(layout["attended"], tf.float32)[:, tf.newaxis]
    weighted = tf.concat([tf.cast(x, tf.float32) * attended, attended], axis=1)
    if "slots" in layout:
        count = tf.size(layout["first_tokens"])
        sums = tf.math.unsorted_segment_sum(weighted, layout["slots"], count)  # (B * E, H + 1)
        return tf.cast(tf.math.divide_no_nan(sums[:, :-1], sums[:, -1:]), x.dtype)
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
        rows, columns = dimensions(layout["shape_of"])
        return tf.gather(x, tf.reshape(tf.range(rows)[:, tf.newaxis] * columns + positions, [-1]))
    with_zeros = tf.concat([tf.zeros_like(x[:1]), x], axis=0)
    places = tf.gather(layout["unpack"], positions, batch_dims=1)
    return tf.gather(with_zeros, tf.reshape(places, [-1]))


@keras.saving.register_keras_serializable("keras_bert_zoo")
class TokensToBatch(keras.layers.Layer):
    """`to_batch` as a layer: float (T, H) and a layout -> float (B, S, H)."""

    def compute_output_spec(self, x: Any, layout: Layout) -> keras.KerasTensor:
        """Returns the shape and dtype of `call`'s output, without a graph."""
        return spec_of_batch(layout, x.shape[-1], dtype=x.dtype)

    def call(self, x: tf.Tensor, layout: Layout) -> tf.Tensor:
        """Restores the batch; see `to_batch`."""
        return to_batch(x, layout)
