"""From checkpoint tensors to TensorFlow tensors, at about the speed of reading the file.

What costs time is not reading but the way into a variable: a kernel is stored as the transpose of
what Keras wants, and TensorFlow copies what comes from NumPy. So tensors are read by a few threads
straight into the orientation that is wanted, and TensorFlow takes over those buffers.
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

# More do not help: the memory is what limits, not the processor.
_MOST_THREADS = 4


def load_value(
    source: TensorSource, name: str, *, transpose: bool = False, dtype: str = "float32"
) -> tf.Tensor:
    """Reads one tensor.

    Args:
        source: an open checkpoint.
        name: of the tensor.
        transpose: bool. Whether its transpose is wanted (of a dense kernel).
        dtype: str. Of the result; the tensor is cast to it.

    Returns:
        tf.Tensor. Assigned to a variable of that dtype, it becomes its memory without a copy.

    Raises:
        CheckpointError: there is no such tensor, or its data cannot be read.
    """
    return _take_over(_read(source, name, transpose, dtype))


def load_values(
    source: TensorSource, wanted: Sequence[tuple[str, bool]], *, dtype: str = "float32"
) -> Iterator[tf.Tensor]:
    """Reads tensors ahead of their use, in threads where the source allows it.

    Args:
        source: an open checkpoint.
        wanted: (name, whether its transpose is wanted) pairs.
        dtype: str. Of the results.

    Yields:
        tf.Tensor, in the order of `wanted`. A few tensors are in memory besides those that the
        caller keeps.

    Raises:
        CheckpointError: there is no such tensor, or its data cannot be read.
    """
    threads = min(_MOST_THREADS, os.cpu_count() or 1) if source.parallel_reads else 1
    with ThreadPoolExecutor(threads) as executor:
        ahead: deque[Future[np.ndarray]] = deque()
        try:
            for name, transpose in wanted:
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
    # `tf.convert_to_tensor` would copy; an op's argument is taken as it is if it is aligned.
    # Nobody else has the array, so it makes no difference but of time and memory.
    return tf.raw_ops.Identity(input=value)
