"""Gradient checkpointing: the gradient computes activations again instead of storing them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
import tensorflow as tf

__all__ = ["next_seed", "recomputed"]

_SEEDS: ContextVar[_Seeds | None] = ContextVar("seeds", default=None)


class _Seeds:
    """The seeds that a function draws when it is called first, and gets again in later calls."""

    def __init__(self) -> None:
        self._drawn: list[tf.Tensor] = []
        self._count = 0

    @contextmanager
    def call(self) -> Iterator[None]:
        """Begins a call of the function."""
        self._count = 0
        token = _SEEDS.set(self)
        try:
            yield
        finally:
            _SEEDS.reset(token)

    def next(self, generator: keras.random.SeedGenerator) -> tf.Tensor:
        """Returns the next seed."""
        if self._count == len(self._drawn):
            self._drawn.append(generator.next())
        self._count += 1
        return self._drawn[self._count - 1]


def next_seed(generator: keras.random.SeedGenerator) -> tf.Tensor:
    """Returns the next seed of a generator. In a recomputation, it is the seed of before.

    Args:
        generator: Keras seed generator.

    Returns:
        uint32 (2,).

    Example:
        >>> import keras
        >>> next_seed(keras.random.SeedGenerator(7)).numpy().tolist()
        [7, 0]
    """
    seeds = _SEEDS.get()
    return generator.next() if seeds is None else seeds.next(generator)


def recomputed(function: Callable[..., tf.Tensor], tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Calls a function so that its gradient calls it again, with the same seeds.

    Only the tensors are stored for the gradient. `tf.recompute_grad` and Keras' `RematScope` draw
    new seeds for the second call, so that the gradient would be that of another dropout mask.
    Without a graph, all activations are stored.

    Args:
        function: float tensors -> a float tensor. Its random numbers depend on `next_seed` alone.
        tensors: float, the inputs that have gradients, apart from variables.

    Returns:
        float, the function's result.

    Source: arXiv 1604.06174.

    Example:
        >>> import tensorflow as tf
        >>> from keras_bert_zoo.layers.dropout import Dropout
        >>> dropout = Dropout(0.5, seed=1)
        >>> @tf.function
        ... def is_equal(x):
        ...     y = recomputed(lambda x: dropout(x, training=True), [x])
        ...     return tf.reduce_all(tf.gradients(y, x)[0] == y)  # where 1 became 2, it is 2
        >>> bool(is_equal(tf.ones([8])))
        True
    """
    if tf.executing_eagerly():  # the tape would store the activations of the first call anyway
        return function(*tensors)
    seeds = _Seeds()

    def call(*inputs: tf.Tensor) -> tf.Tensor:
        with seeds.call():
            return function(*inputs)

    @tf.custom_gradient
    def with_gradient(*inputs: tf.Tensor) -> tuple[tf.Tensor, Any]:
        def gradient(upstream: tf.Tensor, variables: Sequence[tf.Variable] = ()) -> Any:
            # Without this dependency, TensorFlow would compute the second call with the first.
            with tf.control_dependencies([upstream]):
                again = [tf.identity(x) for x in inputs]
            with tf.GradientTape() as tape:
                tape.watch(again)
                y = call(*again)
            gradients = tape.gradient(y, [*again, *variables], upstream)
            count = len(again)
            dense = [g if g is None else tf.convert_to_tensor(g) for g in gradients[:count]]
            return dense, gradients[count:]

        return call(*inputs), gradient

    result: tf.Tensor = with_gradient(*tensors)
    return result
