"""The groups of attention: from one row per token to the heads of padded rows, and back.

Attention needs the rows of the batch. The padded layout has one group, the batch. The packed layout
splits the batch into a few groups of similar length, each padded to its longest row.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from keras_bert_zoo.layers.scopes import with_gradient
from keras_bert_zoo.layers.shared_functions import share
from keras_bert_zoo.litert_scope import is_for_litert

# oneDNN caches one primitive per shape. Rounding up the number of columns makes shapes repeat.
_COLUMN_MULTIPLE = 8

# Rounding up the number of tokens does the same. Short requests pay for each spare token: they are
# rounded up less.
_TOKEN_MULTIPLE = 64
_SHORT_BATCH = 256
_SHORT_MULTIPLE = 16

# Added to the score of a masked key. exp(-3e4) is 0 in every dtype, and unlike -infinity it gives a
# row without any key a finite (and unused) result. The sum of two such masks is finite in float16.
# Google's BERT adds -1e4.
MASKED_SCORE = -3e4

Layout = dict[str, Any]

# The largest number of tokens of which attention computes all pairs, in one group.
FEW_TOKENS = 128


def additive_mask(attend: tf.Tensor) -> tf.Tensor:
    """Returns the mask to add to attention scores.

    Args:
        attend: bool (n, s). The keys to attend to.

    Returns:
        float32 (n, 1, 1, s): 0, or about -infinity.
    """
    mask = tf.where(attend, 0.0, MASKED_SCORE)
    return tf.expand_dims(tf.expand_dims(mask, 1), 1)


def dimensions(x: tf.Tensor) -> list[Any]:
    """Returns the sizes of a tensor, as integers where they are known."""
    if x.shape.is_fully_defined():
        return list(x.shape)
    # Not `tf.unstack`, which hides from TensorFlow's optimizer that dimensions are equal.
    dynamic = tf.shape(x)
    return [dynamic[i] if size is None else size for i, size in enumerate(x.shape)]


def spare_slots(tokens: tf.Tensor) -> tf.Tensor:
    """Returns the index of each token, and of a spare token, `tokens`, at the rows after them.

    At least one spare row after the tokens represents "no token". Padding inside attention reads
    it, and attention writes zeros to it, so that no gradient flows through padding. All (T,)
    tensors are gathered with the same index: TensorFlow's optimizer then knows that their lengths
    are equal, and fuses the residual sums.

    Args:
        tokens: int32 (). The number of tokens.

    Returns:
        int32 (T,).
    """
    multiple = tf.where(tokens < _SHORT_BATCH, _SHORT_MULTIPLE, _TOKEN_MULTIPLE)
    return tf.minimum(tf.range((tokens // multiple + 1) * multiple), tokens)


def make_groups(
    lengths: tf.Tensor, starts: tf.Tensor, attended: tf.Tensor, tokens: tf.Tensor, groups: int
) -> tuple[list[tf.Tensor], list[tf.Tensor], tf.Tensor, tf.Tensor]:
    """Splits the rows of a packed batch into padded groups.

    The first group has the shortest half of the rows, the next one the shortest half of the rest,
    and so on: the longest rows, whose scores cost most, are in a small group.

    Args:
        lengths: int32 (B,). Tokens of each row; ascending if there are several groups.
        starts: int32 (B,). Index of each row's first token.
        attended: int32 (T,). Whether to attend to the token.
        tokens: int32 (). Index of a token that represents "no token".
        groups: int.

    Returns:
        For each group, token indices int32 (n, s) and mask float32 (n, 1, 1, s). For each row,
        the index of its first cell among the cells of all groups and the width s of its group,
        int32 (B,) each.
    """
    rows = tf.size(lengths)
    begins = [rows - rows // 2**group for group in range(groups)] + [rows]
    counts = [end - begin for begin, end in itertools.pairwise(begins)]
    indices, masks, places, widths = [], [], [], []
    cells = tf.constant(0)
    for count, group_lengths, group_starts in zip(
        counts, _split_rows(lengths, counts), _split_rows(starts, counts), strict=True
    ):
        # At least one column: callers read the first one even of a group without rows.
        longest = tf.maximum(tf.reduce_max(group_lengths), 1)
        width = -(-longest // _COLUMN_MULTIPLE) * _COLUMN_MULTIPLE
        column = tf.range(width)
        within = tf.less(column, tf.expand_dims(group_lengths, 1))  # (n, s)
        index = tf.where(within, tf.expand_dims(group_starts, 1) + column, tokens)
        indices.append(index)
        masks.append(additive_mask(tf.logical_and(within, tf.gather(attended, index) == 1)))
        places.append(tf.range(count) * width + cells)
        widths.append(tf.fill([count], width))
        cells += count * width
    return indices, masks, _join_rows(places), _join_rows(widths)


def make_flat_group(
    rows: tf.Tensor, attended: tf.Tensor, few: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Makes one group of one row that holds all tokens, for batches of few tokens.

    Args:
        rows: int32 (T,). The row of each token; -1 for spare tokens.
        attended: int32 (T,). Whether to attend to the token.
        few: bool (). Whether the batch has few tokens. Otherwise the group is empty.

    Returns:
        token indices int32 (1, T or 0); and the mask, float32 (1, 1, T or 0, T or 0), of tokens of
        the same row.
    """
    count = tf.where(few, tf.size(rows), 0)
    rows, attended = rows[:count], attended[:count]
    same = tf.equal(tf.expand_dims(rows, 1), tf.expand_dims(rows, 0))
    mask = tf.where(tf.logical_and(same, attended == 1), 0.0, MASKED_SCORE)
    return tf.expand_dims(tf.range(count), 0), mask[tf.newaxis, tf.newaxis]


def in_fastest_groups(
    function: Callable[..., tf.Tensor],
    layout: Layout,
    *inputs: Any,
    single: bool = False,
) -> tf.Tensor:
    """Computes attention in the groups that are fastest for the batch.

    Few tokens are one flat group: several groups take longer than all pairs of tokens. A batch
    without padding is not gathered into groups, and needs no mask. `function` must not read
    weights: in a branch they are no constants, and oneDNN would reorder them in every call.

    Args:
        function: computes attention with a layout whose lists have the groups to use, and `inputs`.
        layout: the output of `TokenLayout` for several groups.
        *inputs: other arguments of `function`.
        single: bool. Whether the flat group needs a batch of one row.

    Returns:
        the tensor that `function` returns.
    """
    few = layout["few"]
    if single:
        few = tf.logical_and(few, tf.equal(tf.size(layout["first_tokens"]), 1))
    # A family's positions, lists as well, exist only for the groups. And with the queries of first
    # tokens, TensorFlow would not fuse the residual sum that follows.
    lists = {name for name, value in layout.items() if isinstance(value, list)}
    in_groups = share(function, padded_groups(layout), *inputs)
    many = in_groups
    if not single and lists <= {"attend", "group_indices"}:
        full = share(function, _full_batch(layout), *inputs)

        def many() -> tf.Tensor:
            return tf.cond(layout["full"], full, in_groups)

    result: tf.Tensor = tf.cond(few, lambda: function(flat_group(layout), *inputs), many)
    return result


def _full_batch(layout: Layout) -> Layout:
    """Returns the padded layout of a batch without padding, which needs no mask."""
    same = {name: layout[name] for name in ("first_tokens", "spares")}
    return same | {"shape_of": layout["unpack"], "attend": [None]}


def flat_group(layout: Layout) -> Layout:
    """Returns a layout whose only group is the flat one."""
    # Lists have one element per group.
    one = {name: value[-1:] for name, value in layout.items() if isinstance(value, list)}
    return layout | one | {"flat": True}


def padded_groups(layout: Layout) -> Layout:
    """Returns a layout without the flat group."""
    if "few" not in layout:
        return layout
    return layout | {name: value[:-1] for name, value in layout.items() if isinstance(value, list)}


def _transpose(x: tf.Tensor) -> tf.Tensor:
    """Swaps the first two of three axes.

    For a few numbers, starting oneDNN's kernel takes longer than the work. TensorFlow has no such
    kernel for integers.
    """

    @with_gradient
    def swap(x: tf.Tensor) -> Any:
        # Bits have no gradient.
        bits = tf.bitcast(x, {2: tf.uint16, 4: tf.int32, 8: tf.int64}[x.dtype.size])
        return tf.bitcast(tf.transpose(bits, [1, 0, 2]), x.dtype), _transpose

    result: tf.Tensor = swap(x)
    return result


def _split_rows(values: tf.Tensor, counts: list[tf.Tensor]) -> list[tf.Tensor]:
    parts: list[tf.Tensor] = [values] if len(counts) == 1 else tf.split(values, counts)
    return parts


def _join_rows(parts: Sequence[tf.Tensor]) -> tf.Tensor:
    return parts[0] if len(parts) == 1 else tf.concat(parts, axis=0)


def group_positions(layout: Layout) -> list[tf.Tensor]:
    """Returns the positions (columns of the batch) of the tokens in each group.

    Args:
        layout: the output of `TokenLayout`.

    Returns:
        list of int32 (n, s), one per group. Padding in a packed group has an arbitrary position.
    """
    positions = layout["positions"]
    if "shape_of" in layout:
        return [tf.reshape(positions, dimensions(layout["shape_of"]))]
    return [tf.gather(positions, index) for index in layout["group_indices"]]


def distinct_positions(layout: Layout) -> list[tf.Tensor]:
    """Returns `group_positions`, or int32 (1, s) if they are the same in all rows."""
    positions = group_positions(layout)
    if "shape_of" in layout and "slots" not in layout:
        return [rows[:1] for rows in positions]
    return positions


def split_heads(
    x: tf.Tensor, layout: Layout, *, heads: int, parts: int = 1
) -> list[list[tf.Tensor]]:
    """Converts tokens to the heads of padded rows.

    Args:
        x: float (T, P * N * D). P tensors, such as queries, keys and values, side by side.
        layout: the output of `TokenLayout`.
        heads: int, N.
        parts: int, P.

    Returns:
        For each of the P tensors, a list of float (n, N, s, D), one per group. Padding in the
        packed layout repeats a spare token.
    """
    head_dim = x.shape[-1] // (parts * heads)
    if "flat" in layout:
        vectors = _transpose(tf.reshape(x, [-1, parts * heads, head_dim]))
        return [[part] for part in tf.split(vectors[tf.newaxis], parts, axis=1)]
    if "shape_of" in layout:
        if is_for_litert():
            return _split_heads_for_litert(x, layout["shape_of"], parts, [heads, head_dim])
        rows, columns = dimensions(layout["shape_of"])
        if "spares" in layout:
            x = x[: rows * columns]
        vectors = tf.reshape(x, [rows, columns, parts, heads, head_dim])
        return [[part] for part in tf.unstack(tf.transpose(vectors, [2, 0, 3, 1, 4]))]
    # One gather of vectors of D numbers does the work of a gather of tokens and of a transpose. The
    # indices are the same in all layers: TensorFlow's optimizer computes them once.
    first = [tf.expand_dims(index * (parts * heads), 1) for index in layout["group_indices"]]
    offsets = tf.reshape(tf.range(parts * heads), [parts, heads, 1])
    indices = [[index + offsets[part] for index in first] for part in range(parts)]

    # The two gathers are inverse to each other, so each is the gradient of the other. Autodiff
    # would use a scatter-add, which is single-threaded on CPU.
    @with_gradient
    def split(x: tf.Tensor) -> Any:
        vectors = tf.reshape(x, [-1, head_dim])
        outputs = [[tf.gather(vectors, index) for index in of_part] for of_part in indices]

        def gradient(*upstream: tf.Tensor) -> tf.Tensor:
            of_parts = [upstream[i : i + len(first)] for i in range(0, len(upstream), len(first))]
            merged = [_merge(groups, layout, heads) for groups in of_parts]
            return tf.reshape(tf.concat(merged, axis=1), [-1, parts * heads * head_dim])

        return outputs, gradient

    result: list[list[tf.Tensor]] = split(x)
    return result


def _split_heads_for_litert(
    x: tf.Tensor, batch: tf.Tensor, parts: int, head: list[int]
) -> list[list[tf.Tensor]]:
    """`split_heads` in the ops that XNNPACK computes: shapes are constants with one unknown size.

    Args:
        x: float (T, P * N * D).
        batch: (B, S), of which the shape is used.
        parts: int, P.
        head: N and D.
    """
    rows, columns = batch.shape
    if None not in (rows, columns):
        columns = -1
    elif rows is None and columns is None:
        rows, columns = -1, tf.shape(batch)[1]
    shape = [-1 if size is None else size for size in (rows, columns)] + head
    return [
        [tf.transpose(tf.reshape(part, shape), [0, 2, 1, 3])] for part in tf.split(x, parts, axis=1)
    ]


def merge_heads(groups: Sequence[tf.Tensor], layout: Layout) -> tf.Tensor:
    """Converts the heads of padded rows to tokens; the inverse of `split_heads`.

    Args:
        groups: list of float (n, N, s, D), one per group.
        layout: the output of `TokenLayout`.

    Returns:
        float (T, N, D). Spare tokens of the packed layout are zero, except in the flat group.
    """
    _, heads, _, head_dim = groups[0].shape
    if "flat" in layout:
        return _transpose(groups[0][0])
    if "shape_of" in layout:
        tokens = tf.reshape(tf.transpose(groups[0], [0, 2, 1, 3]), [-1, heads, head_dim])
        if "spares" in layout:
            tokens = tf.pad(tokens, [[0, tf.shape(layout["spares"])[0]], [0, 0], [0, 0]])
        return tokens

    @with_gradient
    def merge(*groups: tf.Tensor) -> Any:
        def gradient(upstream: tf.Tensor) -> list[tf.Tensor]:
            # Padding reads a spare token. Its gradient is zero, because its output is never used.
            tokens = tf.reshape(upstream, [-1, heads * head_dim])
            (of_groups,) = split_heads(tokens, layout, heads=heads)
            return of_groups

        return _merge(groups, layout, heads), gradient

    result: tf.Tensor = merge(*groups)
    return result


def _merge(groups: Sequence[tf.Tensor], layout: Layout, heads: int) -> tf.Tensor:
    """Gathers (T, N, D) from groups (n, N, s, D)."""
    head_dim = groups[0].shape[-1]
    vectors = _join_rows([tf.reshape(group, [-1, head_dim]) for group in groups])
    # An empty batch has no cell that spare tokens could read. Any other batch is not copied here.
    rows = layout.get("row_slots", layout["first_tokens"])
    missing = tf.cast(tf.equal(tf.size(rows), 0), tf.int32)
    vectors = tf.pad(vectors, [[0, missing], [0, 0]])
    first = layout["group_places"] * heads + layout["group_columns"]  # (T,)
    head = tf.expand_dims(layout["group_widths"], 1) * tf.range(heads)  # (T, N)
    merged = tf.gather(vectors, tf.expand_dims(first, 1) + head)
    # Spare tokens have read the first cell. This works in place.
    spares = layout["spares"]
    zeros = tf.zeros([tf.size(spares), heads, head_dim], merged.dtype)
    return tf.tensor_scatter_nd_update(merged, spares, zeros)


def split_first_heads(first: tf.Tensor, layout: Layout, *, heads: int) -> list[tf.Tensor]:
    """Splits one vector per row of the batch into the heads of the groups.

    Args:
        first: float (B, N * D).
        layout: the output of `TokenLayout`.
        heads: int, N.

    Returns:
        list of float (n, N, 1, D), one per group.
    """
    vectors = tf.reshape(first, [-1, heads, 1, first.shape[-1] // heads])
    if "row_slots" in layout:
        vectors = tf.gather(vectors, layout["row_slots"])
        return _split_rows(vectors, [tf.shape(index)[0] for index in layout["group_indices"]])
    if "restore" not in layout or "flat" in layout:
        return [vectors]
    vectors = tf.gather(vectors, tf.math.invert_permutation(layout["restore"]))
    return _split_rows(vectors, [tf.shape(index)[0] for index in layout["group_indices"]])


def merge_first_heads(groups: Sequence[tf.Tensor], layout: Layout) -> tf.Tensor:
    """Converts heads (n, N, 1, D) to one row each, (B, N, D): `split_first_heads` undone."""
    first = _join_rows([tf.squeeze(group, 2) for group in groups])
    if "slot_rows" in layout:
        return tf.gather(tf.pad(first, [[1, 0], [0, 0], [0, 0]]), layout["slot_rows"])
    if "restore" not in layout or "flat" in layout:
        return first
    return tf.gather(first, layout["restore"])
