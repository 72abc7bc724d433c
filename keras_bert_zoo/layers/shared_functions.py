"""Functions of a graph that several layers call."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

_CACHE = "_keras_bert_zoo_shared_functions"


@dataclass(frozen=True)
class _Shared:
    """A traced function.

    Attributes:
        concrete: concrete function.
        reads: the indices of its inputs among all tensors.
    """

    concrete: Any
    reads: list[int]


def share(
    key: Hashable, function: Callable[..., tf.Tensor], *inputs: Any
) -> Callable[[], tf.Tensor]:
    """Prepares the call of a function that all layers with the same key share.

    TensorFlow would copy the body to each place of a call, and optimize each copy: the branches of
    attention are most of an encoder's graph. A shared function is optimized once. A call takes
    50 microseconds, so it is for branches that compute much more than that.

    Args:
        key: hashable. All that `function` depends on, except `inputs`.
        function: inputs -> tensor. One that reads other tensors, or variables, is not shared.
        *inputs: tensors, alone or in nested lists and dicts, with other values between them.

    Returns:
        a function without arguments, which returns `function(*inputs)`. It may be the branch of a
        `tf.cond`.

    Example:
        >>> import tensorflow as tf
        >>> int(share("double", lambda x: 2 * x, tf.constant(3))())
        6
    """
    if tf.executing_eagerly():
        return lambda: function(*inputs)
    specs = tf.nest.map_structure(_spec, inputs)
    # In the graph, so that both are freed together.
    graph = tf.compat.v1.get_default_graph()
    cache: dict[Hashable, _Shared | None] = getattr(graph, _CACHE, {})
    setattr(graph, _CACHE, cache)
    case = key, repr(specs)
    if case not in cache:
        cache[case] = _trace(function, specs)
    shared = cache[case]
    if shared is None:
        return lambda: function(*inputs)
    tensors = [x for x in tf.nest.flatten(inputs) if tf.is_tensor(x)]
    return lambda: shared.concrete(*(tensors[index] for index in shared.reads))


def _spec(x: Any) -> Any:
    return tf.TensorSpec(x.shape, x.dtype) if tf.is_tensor(x) else x


def _trace(function: Callable[..., tf.Tensor], specs: Any) -> _Shared | None:
    """Traces a function twice: the second time with only those inputs that it reads.

    Returns None if it also reads other tensors: calls in other layers would read the same ones.
    """
    flat = tf.nest.flatten(specs)
    places = [index for index, spec in enumerate(flat) if isinstance(spec, tf.TensorSpec)]

    def traced(reads: list[int]) -> Any:
        def body(*tensors: tf.Tensor) -> tf.Tensor:
            values = [None if isinstance(spec, tf.TensorSpec) else spec for spec in flat]
            for index, tensor in zip(reads, tensors, strict=True):
                values[places[index]] = tensor
            return function(*tf.nest.pack_sequence_as(specs, values))

        return tf.function(
            body,
            input_signature=[flat[places[index]] for index in reads],
            autograph=False,
            experimental_attributes={"_noinline": True},
        ).get_concrete_function()

    every = list(range(len(places)))
    first = traced(every)
    if first.captured_inputs:
        return None
    reads = [index for index in every if first.graph.inputs[index].consumers()]
    return _Shared(traced(reads), reads)
