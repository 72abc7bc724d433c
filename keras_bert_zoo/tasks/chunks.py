"""Runs a model on a large batch in chunks, so that its memory is bounded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

TOKENS_AT_ONCE = 16_384
"""Tokens of one chunk, including padding: 32 rows of 512 tokens at most."""

SCORES_AT_ONCE = 1 << 20
"""Pairs of tokens of the rows of one chunk, on average: 4 rows of 512 tokens, or 64 of 128. The
scores of attention, one for each pair and head, take most memory."""


def run_in_chunks(
    run: Callable[..., Any], inputs: Mapping[str, tf.Tensor], row_cost: tf.Tensor
) -> Any:
    """Runs a model on the chunks of a batch in sequence, and joins their outputs.

    In a graph this is a loop around one call of the model, even with a single chunk. With two
    calls, an export would hold two copies of the model and its weights. An empty batch becomes one
    row of padding, whose outputs are dropped. Some processors do not support products of empty
    matrices.

    Args:
        run: a concrete function, or any function from `inputs` to tensors (B, ...) in a nested
            structure. Their shapes without B must be equal for all chunks.
        inputs: name -> tensor (B, ...).
        row_cost: int32 (). The cost of a row, in tokens. A chunk costs at most `TOKENS_AT_ONCE`,
            but has at least one row. With a `padding_mask`, chunks also have at most
            `SCORES_AT_ONCE` pairs of tokens, on average.

    Returns:
        the outputs of `run` for all rows.
    """
    count = tf.shape(next(iter(inputs.values())))[0]
    added = tf.cast(count < 1, tf.int32)
    inputs = {
        name: tf.pad(x, [[0, added], *([[0, 0]] * (len(x.shape) - 1))])
        for name, x in inputs.items()
    }
    rows = count + added
    at_once = tf.maximum(TOKENS_AT_ONCE // tf.maximum(row_cost, 1), 1)
    chunks = tf.maximum(-(-rows // at_once), 1)
    if "padding_mask" in inputs:
        tokens = tf.reduce_sum(inputs["padding_mask"], axis=-1)
        scores = tf.reduce_sum(tf.square(tf.cast(tokens, tf.float32))) / SCORES_AT_ONCE
        chunks = tf.minimum(tf.maximum(chunks, tf.cast(tf.math.ceil(scores), tf.int32)), rows)
    size = -(-rows // chunks)  # all chunks have about the same size

    def chunk_of(index: Any) -> dict[str, tf.Tensor]:
        return {name: x[index * size : (index + 1) * size] for name, x in inputs.items()}

    if tf.executing_eagerly():
        parts = [run(chunk_of(index)) for index in range(int(chunks))]
        return tf.nest.map_structure(lambda *same: tf.concat(same, axis=0)[:count], *parts)

    concrete: Any = run
    if not hasattr(run, "structured_outputs"):
        specs = {
            name: tf.TensorSpec([None, *x.shape[1:]], x.dtype, name=name)
            for name, x in inputs.items()
        }
        traced = tf.function(run, input_signature=[specs], autograph=False)
        concrete = traced.get_concrete_function()
    outputs = concrete.structured_outputs
    arrays = [
        tf.TensorArray(x.dtype, chunks, infer_shape=False, element_shape=x.shape)
        for x in tf.nest.flatten(outputs)
    ]

    def step(index: tf.Tensor, arrays: list[tf.TensorArray]) -> tuple[Any, ...]:
        parts = tf.nest.flatten(concrete(**chunk_of(index)))
        written = [array.write(index, x) for array, x in zip(arrays, parts, strict=True)]
        return index + 1, written

    # Parallel iterations would hold several chunks in memory.
    _, arrays = tf.while_loop(
        lambda index, _: index < chunks, step, (0, arrays), parallel_iterations=1
    )
    joined = [
        tf.ensure_shape(array.concat()[:count], x.shape)
        for array, x in zip(arrays, tf.nest.flatten(outputs), strict=True)
    ]
    return tf.nest.pack_sequence_as(outputs, joined)
