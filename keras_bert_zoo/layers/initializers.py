"""Initial weights that cost nothing where a checkpoint follows at once.

Drawing BERT-base's random weights takes some ten seconds, to be thrown away when its checkpoint is
loaded. Inside `untouched_weights` the matrices are zeros in memory that is not even touched.
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
    """Makes this module's initializers give zeros, at no cost.

    For code that assigns every weight before anybody sees the model, and lets the model go if
    that fails: a model of zeros answers without complaint.

    Yields:
        None.
    """
    token = _untouched.set(True)
    try:
        yield
    finally:
        _untouched.reset(token)


class TruncatedNormal(keras.initializers.TruncatedNormal):
    """Keras' initializer, but for zeros inside `untouched_weights`."""

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
        if not tf.executing_eagerly():  # Keras looks at shapes; nothing is computed
            return tf.zeros(shape, dtype or keras.config.floatx())
        kind = np.dtype(tf.as_dtype(dtype or keras.config.floatx()).as_numpy_dtype)
        # The system gives zeroed pages when they are first written; here none is written.
        return tf.raw_ops.Identity(input=aligned_zeros(tuple(shape), kind))
