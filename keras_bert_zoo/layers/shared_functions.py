"""Functions of an export's graph that several layers call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from keras_bert_zoo.layers.scopes import is_serving

_CACHE = "_keras_bert_zoo_shared_functions"


@dataclass(frozen=True)
class _Shared:
    """A traced function.

    Attributes:
        concrete: concrete function.
        reads: the indices, among the tensors of `inputs`, of those that it reads.
    """

    concrete: Any
    reads: list[int]


def share(function: Callable[..., tf.Tensor], *inputs: Any) -> Callable[[], tf.Tensor]:
    """Prepares the call of a function that layers of an export share, if their bodies are equal.

    TensorFlow would copy the body to each place of a call, and optimize each copy: the branches of
    attention are most of an encoder's graph. A shared function is optimized once. Use it for
    branches that take much longer than the 50 microseconds of a call. Outside of `serving_scope`,
    the function is called as usual.

    Args:
        function: inputs -> tensor. It is not shared if it also reads other tensors or variables.
        *inputs: dense tensors, alone or in nested lists and dicts, with other values between them.

    Returns:
        a function without arguments, which returns `function(*inputs)`. It may be the branch of a
        `tf.cond`.

    Example:
        >>> import tensorflow as tf
        >>> int(share(lambda x: 2 * x, tf.constant(3))())
        6
    """
    if tf.executing_eagerly() or not is_serving():
        return lambda: function(*inputs)
    flat = tf.nest.flatten(inputs)
    tensors = [value for value in flat if tf.is_tensor(value)]

    def traced(reads: list[int], others: list[tf.Tensor]) -> Any:
        """Traces the function with the inputs `reads`. It sees the shapes of the others."""

        def body(*read: tf.Tensor) -> tf.Tensor:
            given = list(others)
            for index, tensor in zip(reads, read, strict=True):
                given[index] = tensor
            values = iter(given)
            filled = [next(values) if tf.is_tensor(value) else value for value in flat]
            return function(*tf.nest.pack_sequence_as(inputs, filled))

        return tf.function(
            body,
            input_signature=[tf.TensorSpec(tensors[i].shape, tensors[i].dtype) for i in reads],
            autograph=False,
            # Otherwise TensorFlow copies the body to each call.
            experimental_attributes={"_noinline": True},
        ).get_concrete_function()

    first = traced(list(range(len(tensors))), tensors)
    if first.captured_inputs:
        return lambda: function(*inputs)
    # The cache is an attribute of the graph: both are freed together.
    graph = tf.compat.v1.get_default_graph()
    cache: dict[bytes, _Shared] = getattr(graph, _CACHE, {})
    setattr(graph, _CACHE, cache)
    body = _body(first)
    if body not in cache:
        symbols = first.graph.inputs
        reads = [index for index, symbol in enumerate(symbols) if symbol.consumers()]
        cache[body] = _Shared(traced(reads, symbols), reads)
    shared = cache[body]
    return lambda: shared.concrete(*(tensors[index] for index in shared.reads))


def _body(concrete: Any) -> bytes:
    """Returns all that a function computes: its nodes, without the function's name."""
    definition = type(concrete.function_def)()
    definition.CopyFrom(concrete.function_def)
    definition.signature.name = ""
    for node in definition.node_def:
        node.ClearField("experimental_debug_info")
    content: bytes = definition.SerializeToString(deterministic=True)
    return content
