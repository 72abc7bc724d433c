"""Initial weights that take no time, for models that load a checkpoint.

Drawing BERT-base's random weights takes about ten seconds, and loading a checkpoint overwrites
them. Inside `untouched_weights` the matrices are zeros, in memory that is never written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.arrays import aligned_zeros

_untouched: ContextVar[bool] = ContextVar("untouched", default=False)


@contextmanager
def untouched_weights() -> Iterator[None]:
    """Makes this module's initializers return zeros, which takes no time.

    The caller must assign every weight before it returns the model, and discard the model if this
    fails: a model of zeros predicts without an error.

    Yields:
        None.
    """
    token = _untouched.set(True)
    try:
        yield
    finally:
        _untouched.reset(token)


@keras.saving.register_keras_serializable("keras_bert_zoo")
class TruncatedNormal(keras.initializers.TruncatedNormal):
    """Keras' initializer, except that it returns zeros inside `untouched_weights`."""

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """Returns initial values.

        Args:
            shape: tuple of int.
            dtype: str or None. None: Keras' default.

        Returns:
            tf.Tensor.
        """
        if not _untouched.get():
            return super().__call__(shape, dtype=dtype)
        if not tf.executing_eagerly():  # Keras only needs the shape
            return tf.zeros(shape, dtype or keras.config.floatx())
        numpy_dtype = np.dtype(tf.as_dtype(dtype or keras.config.floatx()).as_numpy_dtype)
        # The system allocates a page at its first write, and nothing is written here.
        return tf.raw_ops.Identity(input=aligned_zeros(tuple(shape), numpy_dtype))
