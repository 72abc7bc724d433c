"""Scopes in which variables are created and read, and graphs are built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

# `keras.name_scope` is not enough: under a scope that overrides its parent with "", the variables
# that a layer creates in its constructor get a path that starts with a slash.
import keras
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.backend.common.variables import AutocastScope

_STACK = "name_scope_stack"


@contextmanager
def root_scope() -> Iterator[None]:
    """Ignores open name scopes: new variables get the paths that they have without a scope.

    The names in checkpoints depend on these paths. The caller may have opened a scope, or an error
    may have left one open: TensorFlow refuses some names after Keras has put them on its stack.

    Yields:
        None.

    >>> import keras
    >>> with keras.name_scope("mine"), root_scope():
    ...     layer = keras.layers.Dense(1, name="dense")
    ...     layer.build((None, 2))
    >>> layer.kernel.path
    'dense/kernel'
    """
    outer = global_state.get_global_attribute(_STACK)
    global_state.set_global_attribute(_STACK, [])
    try:
        yield
    finally:
        global_state.set_global_attribute(_STACK, outer)


def compute_scope(layer: keras.layers.Layer) -> AutocastScope:
    """Returns a scope in which variables are read in a layer's compute dtype, as in its `call`.

    Args:
        layer: Keras layer.

    Returns:
        context manager.

    Example:
        >>> import keras
        >>> layer = keras.layers.Dense(1, dtype="mixed_bfloat16")
        >>> layer.build((None, 2))
        >>> with compute_scope(layer):
        ...     str(keras.ops.convert_to_tensor(layer.kernel).dtype)
        'bfloat16'
    """
    return AutocastScope(layer.compute_dtype)


_SERVING: ContextVar[bool] = ContextVar("serving", default=False)
_ROWS: ContextVar[bool] = ContextVar("rows", default=False)


@contextmanager
def rows_scope() -> Iterator[None]:
    """Marks reads of a table of which only some rows are used; see `only_rows_are_read`.

    Yields:
        None.

    Example:
        >>> with rows_scope():
        ...     only_rows_are_read()
        True
    """
    token = _ROWS.set(True)
    try:
        yield
    finally:
        _ROWS.reset(token)


def only_rows_are_read() -> bool:
    """Returns whether a `rows_scope` is open.

    An export stores such tables as variables. As constants of the graph, they would be copied with
    it many times while it is loaded and optimized, and nothing would be gained.

    Returns:
        bool.

    Example:
        >>> only_rows_are_read()
        False
    """
    return _ROWS.get()


@contextmanager
def serving_scope() -> Iterator[None]:
    """Builds graphs of exports: without custom gradients, and with shared functions.

    Otherwise loading an export logs a warning for each function with a custom gradient. For the
    functions, see `shared_functions.share`.

    Yields:
        None.

    Example:
        >>> import tensorflow as tf
        >>> with serving_scope():
        ...     square = with_gradient(lambda x: (x * x, lambda upstream: 2 * x * upstream))
        >>> float(square(tf.constant(3.0)))
        9.0
    """
    token = _SERVING.set(True)
    try:
        yield
    finally:
        _SERVING.reset(token)


def is_serving() -> bool:
    """Returns whether a `serving_scope` is open.

    Returns:
        bool.

    Example:
        >>> is_serving()
        False
    """
    return _SERVING.get()


def with_gradient(function: Callable[..., tuple[Any, Any]]) -> Callable[..., Any]:
    """`tf.custom_gradient`, except in `serving_scope`, where the gradient is ignored.

    Args:
        function: tensors -> (outputs, gradient function); see `tf.custom_gradient`.

    Returns:
        function, tensors -> outputs.

    Example: see `serving_scope`.
    """
    if is_serving():
        return lambda *tensors: function(*tensors)[0]
    chosen: Callable[..., Any] = tf.custom_gradient(function)
    return chosen
