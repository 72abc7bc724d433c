"""Names of variables that do not hang on where in a program they are made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

# `keras.name_scope` alone cannot do it: under one that overrides its parent with "", what a layer
# makes in its constructor gets a path that starts with a slash.
from keras.src.backend.common import global_state

_STACK = "name_scope_stack"


@contextmanager
def root_scope() -> Iterator[None]:
    """Gives the variables made inside the paths that they have outside of all name scopes.

    The names in checkpoints hang on those paths. A scope may be open because the caller opened one,
    or because an error left one behind: TensorFlow refuses some names after Keras has noted them.

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
