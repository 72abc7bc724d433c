"""Reads checkpoint tensors as TensorFlow tensors, at about the speed of reading the file.

Copies cost more time than reading: files store the transposes of Keras' kernels, and TensorFlow
copies NumPy arrays. So a few threads read tensors directly in the required orientation, and
TensorFlow uses their buffers without a copy.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from keras_bert_zoo.checkpoints.arrays import aligned_empty
from keras_bert_zoo.checkpoints.source import TensorSource

# More threads are not faster, because the memory is the bottleneck.
_MOST_THREADS = 4


def load_value(
    source: TensorSource, name: str, *, transpose: bool = False, dtype: str = "float32"
) -> tf.Tensor:
    """Reads one tensor.

    Args:
        source: an open checkpoint.
        name: name of the tensor.
        transpose: bool. Whether to return the transpose (for a dense kernel).
        dtype: str. The dtype of the result.

    Returns:
        tf.Tensor. Assigning it to a variable of this dtype makes no copy.

    Raises:
        CheckpointError: there is no such tensor, or its data cannot be read.
    """
    return _take_over(_read(source, name, transpose, dtype))


def load_values(
    source: TensorSource, orders: Sequence[tuple[str, bool]], *, dtype: str = "float32"
) -> Iterator[tf.Tensor]:
    """Reads tensors before they are needed, in threads if the source supports it.

    Args:
        source: an open checkpoint.
        orders: (name, whether to transpose) pairs.
        dtype: str. The dtype of the results.

    Yields:
        tf.Tensor, in the order of `orders`. A few tensors are read in advance.

    Raises:
        CheckpointError: there is no such tensor, or its data cannot be read.
    """
    threads = min(_MOST_THREADS, os.cpu_count() or 1) if source.parallel_reads else 1
    with ThreadPoolExecutor(threads) as executor:
        ahead: deque[Future[np.ndarray]] = deque()
        try:
            for name, transpose in orders:
                ahead.append(executor.submit(_read, source, name, transpose, dtype))
                if len(ahead) > threads:
                    yield _take_over(ahead.popleft().result())
            while ahead:
                yield _take_over(ahead.popleft().result())
        finally:
            for future in ahead:
                future.cancel()


def _read(source: TensorSource, name: str, transpose: bool, dtype: str) -> np.ndarray:
    shape = source.shape(name)
    value = aligned_empty(shape[::-1] if transpose else shape, tf.as_dtype(dtype).as_numpy_dtype)
    source.read_into(name, value.T if transpose else value)
    return value


def _take_over(value: np.ndarray) -> tf.Tensor:
    # `tf.convert_to_tensor` would copy. An op uses an aligned array without a copy, which is safe
    # because nothing else refers to the array.
    return tf.raw_ops.Identity(input=value)
