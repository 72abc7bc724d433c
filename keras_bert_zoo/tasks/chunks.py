"""Runs a model on a large batch a few rows at a time, so that its memory is bounded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

TOKENS_AT_ONCE = 16_384
"""Tokens of one chunk, padding included: 32 rows of 512 tokens are still one chunk."""


def run_in_chunks(
    run: Callable[..., Any], inputs: Mapping[str, tf.Tensor], row_cost: tf.Tensor
) -> Any:
    """Runs a model on chunks of a batch, one after the other, and joins their outputs.

    In a graph this is a loop around one call of the model, also where there is a single chunk: two
    calls would be two copies of the model, with the weights of an export in each of them. An empty
    batch is one chunk of a row of padding, whose outputs are dropped: not every product of empty
    matrices is possible on every processor.

    Args:
        run: a concrete function, or any function from `inputs` to tensors (B, ...) in a nested
            structure. All chunks must give them the same shape beyond B.
        inputs: name -> tensor (B, ...).
        row_cost: int32 (). What a row costs, in tokens. A chunk has the rows that cost at most
            `TOKENS_AT_ONCE` together, and at least one.

    Returns:
        the outputs of `run` for all rows.
    """
    asked = tf.shape(next(iter(inputs.values())))[0]
    added = tf.cast(asked < 1, tf.int32)
    inputs = {
        name: tf.pad(x, [[0, added], *([[0, 0]] * (len(x.shape) - 1))])
        for name, x in inputs.items()
    }
    rows = asked + added
    at_once = tf.maximum(TOKENS_AT_ONCE // tf.maximum(row_cost, 1), 1)
    chunks = tf.maximum(-(-rows // at_once), 1)
    size = -(-rows // chunks)  # the chunks are of about one size

    def chunk_of(index: Any) -> dict[str, tf.Tensor]:
        return {name: x[index * size : (index + 1) * size] for name, x in inputs.items()}

    if tf.executing_eagerly():
        parts = [run(chunk_of(index)) for index in range(int(chunks))]
        return tf.nest.map_structure(lambda *same: tf.concat(same, axis=0)[:asked], *parts)

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

    # One at a time: what several chunks take at once would not be bounded.
    _, arrays = tf.while_loop(
        lambda index, _: index < chunks, step, (0, arrays), parallel_iterations=1
    )
    joined = [
        tf.ensure_shape(array.concat()[:asked], x.shape)
        for array, x in zip(arrays, tf.nest.flatten(outputs), strict=True)
    ]
    return tf.nest.pack_sequence_as(outputs, joined)
