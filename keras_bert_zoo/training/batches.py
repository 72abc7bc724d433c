"""tf.data datasets from batches made in Python: `keras.utils.PyDataset` and generators."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.columns import form_of, listed
from keras_bert_zoo.data.inputs import as_bytes
from keras_bert_zoo.errors import ConfigError, DataError

Labelled = tuple[Any, ...]
"""(texts, labels) or (texts, labels, weights), as arrays; pairs of texts are a tuple of two."""


def python_batches(x: Any) -> bool:
    """Whether `x` is a PyDataset, or a generator or another iterator."""
    return isinstance(x, keras.utils.PyDataset | Iterator)


def is_batched(x: Any) -> bool:
    """Whether `x` comes in batches: a tf.data.Dataset, a PyDataset or a generator."""
    return isinstance(x, tf.data.Dataset) or python_batches(x)


def check_ends(dataset: tf.data.Dataset, use: str, hint: str) -> None:
    """Raises ConfigError for a dataset of infinite cardinality."""
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ConfigError(f"{use} a dataset to its end, and this one has none: {hint}.")


def training_dataset(
    x: Any,
    convert: Callable[[Labelled], Labelled],
    callbacks: Sequence[Any] = (),
    *,
    seed: int | None = None,
) -> tuple[Any, list[Any]]:
    """Makes a tf.data.Dataset of batches made in Python; returns other data unchanged.

    A PyDataset is read again in every epoch. Its `on_epoch_begin` is called before the first batch
    is read. A callback calls its `on_epoch_end` after the last step. `steps_per_epoch` may end an
    epoch before all batches are read; some are then read ahead for the next epoch. The `workers`
    are threads. A generator has no known length. Each epoch continues where the last one stopped,
    as in Keras.

    Args:
        x: PyDataset or generator of (texts, labels) or (texts, labels, weights).
        convert: checks a batch and converts it to arrays, always of the same dtypes and ranks.
        callbacks: the caller's callbacks.
        seed: int or None. The batches of a PyDataset of known length are shuffled in every epoch,
            as in Keras. None: they are not shuffled.

    Returns:
        the dataset, or `x` unchanged; and the callbacks. A PyDataset adds a callback, and its
        dataset has a known cardinality.

    Raises:
        DataError: the first batch has another form, or there is no batch.
    """
    callbacks = list(callbacks)
    if isinstance(x, keras.utils.PyDataset):
        batches = _PyBatches(x, convert)
        return _of_py_dataset(batches, seed=seed), [_EpochHooks(batches), *callbacks]
    return (_of_generator(x, convert) if python_batches(x) else x), callbacks


def evaluation_dataset(
    x: Any, convert: Callable[[Labelled], Labelled], *, steps: int | None = None
) -> Any:
    """Makes a tf.data.Dataset for evaluation; see `training_dataset`.

    A PyDataset's `on_epoch_begin` is called before its first batch is read, and `on_epoch_end`
    after its last batch. If there are fewer `steps` than batches, `on_epoch_end` is not called. A
    generator is read here, to its end or up to `steps` batches. Its batches are stored, so every
    epoch is evaluated on the same batches.
    """
    if isinstance(x, keras.utils.PyDataset):
        return _of_py_dataset(_PyBatches(x, convert), hooks=True)
    if not python_batches(x):
        return x
    batches = [convert(labelled_parts(element, x)) for element in itertools.islice(x, steps)]
    if not batches:
        raise DataError(f"Expected at least one batch, received none from {form_of(x)}.")
    structure = tf.nest.map_structure(_spec, batches[0])
    dataset = tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=structure)
    return dataset.apply(tf.data.experimental.assert_cardinality(len(batches)))


def prediction_batches(x: Any) -> Iterator[Any]:
    """Yields the texts of a PyDataset's or a generator's batches, without their labels.

    As in Keras, a batch is `x`, or a tuple (x,), (x, y) or (x, y, weights). A batch of pairs is
    ((first, second),).

    Raises:
        DataError: an element is a single text, or two lists of texts: they could be pairs, or
            texts and labels.
        ConfigError: the number of batches of a PyDataset is unknown.
    """
    count: int | None = None
    if isinstance(x, keras.utils.PyDataset):
        count = x.num_batches
        if count is None:
            raise ConfigError(
                f"`predict` answers all batches, and {form_of(x)} does not say how many it has: "
                "define `__len__`, or give a generator that ends."
            )
        x.on_epoch_begin()
    elements = iter(x) if count is None else (x[index] for index in range(count))
    for index, element in enumerate(elements):
        if isinstance(element, str | bytes):
            raise DataError(_single_texts(x))
        if isinstance(element, tuple):
            if len(element) == 2 and _of_strings(element[0]) and _of_strings(element[1]):
                raise DataError(
                    f"Batch {index} is a tuple of two lists of strings, which may be pairs, or "
                    "texts and labels: yield ((first, second),) for pairs, (texts,) for texts."
                )
            if not 1 <= len(element) <= 3:
                raise DataError(f"Batch {index} is a tuple of {len(element)}; expected (texts,).")
            element = element[0]
        yield element
    if isinstance(x, keras.utils.PyDataset):
        x.on_epoch_end()


def labelled_parts(element: Any, source: Any) -> Labelled:
    """Checks a batch of (texts, labels) or (texts, labels, weights).

    Raises:
        DataError: the batch has another form.
    """
    if isinstance(element, str | bytes):
        raise DataError(_single_texts(source))
    if isinstance(element, list):
        element = tuple(element)  # as Keras does
    if not isinstance(element, tuple) or len(element) not in (2, 3):
        got = f"a tuple of {len(element)}" if isinstance(element, tuple) else form_of(element)
        raise DataError(
            f"Expected batches (texts, labels) or (texts, labels, weights) of {form_of(source)}, "
            f"received {got}."
        )
    if isinstance(element[0], str | bytes):
        raise DataError(_single_texts(source))
    return element


def text_arrays(*columns: Sequence[Any]) -> Any:
    """Converts columns of texts to arrays of bytes: one array, or a tuple of them."""
    arrays = []
    for column in columns:
        array = np.empty(len(column), object)
        array[:] = list(map(as_bytes, column))
        arrays.append(array)
    return arrays[0] if len(arrays) == 1 else tuple(arrays)


class _PyBatches:
    """The batches of a PyDataset. An epoch begins before its first batch is read.

    The constructor reads the first batch, for its dtypes and ranks. The first epoch uses it.
    """

    def __init__(
        self, data: keras.utils.PyDataset, convert: Callable[[Labelled], Labelled]
    ) -> None:
        self.data = data
        self.count = data.num_batches
        if self.count == 0:
            raise DataError(f"Expected at least one batch, received none from {form_of(data)}.")
        self._convert = convert
        data.on_epoch_begin()
        self._begun = True
        first = self._read(0)
        self.structure = tf.nest.map_structure(_spec, first)
        self._unread = {0: first}

    def begin(self) -> None:
        """Begins an epoch; the constructor has already begun the first one."""
        if not self._begun:
            self._unread.clear()
            self.data.on_epoch_begin()
        self._begun = False

    def end(self) -> None:
        """Ends an epoch."""
        self._unread.clear()
        self.data.on_epoch_end()

    def batch(self, index: int) -> Labelled:
        """Returns a batch; may be called from any thread."""
        unread = self._unread.pop(index, None)
        return self._read(index) if unread is None else unread

    def _read(self, index: int) -> Labelled:
        return self._convert(labelled_parts(self.data[index], self.data))


class _EpochHooks(keras.callbacks.Callback):
    """Calls the epoch hooks of a PyDataset. Keras only sees the tf.data.Dataset made from it."""

    def __init__(self, batches: _PyBatches) -> None:
        super().__init__()
        self._batches = batches

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Begins an epoch of the PyDataset."""
        self._batches.begin()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Ends an epoch of the PyDataset."""
        self._batches.end()


def _of_py_dataset(
    batches: _PyBatches, *, seed: int | None = None, hooks: bool = False
) -> tf.data.Dataset:
    count = batches.count

    def arrays(index: Any) -> tuple[np.ndarray, ...]:
        if hooks and index == 0:
            batches.begin()
        flat = tuple(tf.nest.flatten(batches.batch(int(index))))
        if hooks and index + 1 == count:
            batches.end()
        return flat

    structure = batches.structure
    specs = tf.nest.flatten(structure)

    def read(index: tf.Tensor) -> Any:
        parts = tf.numpy_function(arrays, [index], [spec.dtype for spec in specs])
        shaped = [
            tf.ensure_shape(part, spec.shape) for part, spec in zip(parts, specs, strict=True)
        ]
        return tf.nest.pack_sequence_as(structure, shaped)

    numbers = tf.data.Dataset.counter() if count is None else tf.data.Dataset.range(count)
    if count is not None and seed is not None:
        numbers = numbers.shuffle(count, seed=seed)
    workers = 1 if hooks else max(1, batches.data.workers)
    return numbers.map(read, num_parallel_calls=workers, deterministic=True)


def _of_generator(
    source: Iterator[Any], convert: Callable[[Labelled], Labelled]
) -> tf.data.Dataset:
    elements = (convert(labelled_parts(element, source)) for element in source)
    first = next(elements, None)
    if first is None:
        raise DataError(f"Expected at least one batch, received none from {form_of(source)}.")
    stream = _Stream(itertools.chain([first], elements))
    return tf.data.Dataset.from_generator(
        stream.read, output_signature=tf.nest.map_structure(_spec, first)
    )


class _Stream:
    """The batches of a generator, thread-safe: each pass continues where the last one stopped."""

    def __init__(self, elements: Iterator[Any]) -> None:
        self._elements = elements
        self._ended = False
        self._lock = threading.Lock()

    def read(self) -> Iterator[Any]:
        """Yields the batches of a pass."""
        if self._ended:
            raise DataError(
                "The generator has no batches left for another epoch: give a smaller "
                "`steps_per_epoch`, a generator that goes on, or a keras.utils.PyDataset."
            )
        while True:
            with self._lock:
                element = next(self._elements, None)
            if element is None:
                self._ended = True
                return
            yield element


def _spec(array: np.ndarray) -> tf.TensorSpec:
    dtype = tf.string if array.dtype == object else tf.as_dtype(array.dtype)
    return tf.TensorSpec([None] * array.ndim, dtype)


def _of_strings(column: Any) -> bool:
    if isinstance(column, str | bytes | Mapping):
        return False
    try:
        values = listed(column)
    except DataError:
        return False
    return bool(values) and isinstance(values[0], str | bytes)


def _single_texts(source: Any) -> str:
    return (
        "Expected batches, "
        f"received single texts from {form_of(source)}: make a list of it, `list(x)`, "
        "or yield lists of texts."
    )
