"""Batches that Python makes: `keras.utils.PyDataset` and generators, as tf.data takes them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.columns import form_of, listed
from keras_bert_zoo.errors import ConfigError, DataError

Labelled = tuple[Any, ...]
"""(texts, labels) or (texts, labels, weights), as arrays; texts are a tuple of two for pairs."""


def python_batches(x: Any) -> bool:
    """Whether `x` is a PyDataset, or a generator or another iterator."""
    return isinstance(x, keras.utils.PyDataset | Iterator)


def is_batched(x: Any) -> bool:
    """Whether `x` comes in batches: a tf.data.Dataset, a PyDataset or a generator."""
    return isinstance(x, tf.data.Dataset) or python_batches(x)


def check_ends(dataset: tf.data.Dataset, use: str, hint: str) -> None:
    """Raises ConfigError for a dataset that is known to have no end."""
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ConfigError(f"{use} a dataset to its end, and this one has none: {hint}.")


def training_dataset(
    x: Any,
    convert: Callable[[Labelled], Labelled],
    callbacks: Sequence[Any] = (),
    *,
    seed: int | None = None,
) -> tuple[Any, list[Any]]:
    """Makes a tf.data.Dataset of batches that Python makes; leaves all else alone.

    A PyDataset is read anew in every epoch. Its `on_epoch_begin` is called before the first batch
    is read, its `on_epoch_end` by a callback after an epoch's last step. `steps_per_epoch` may end
    an epoch before all batches were read; some are then read ahead for the next epoch. The
    `workers` are threads. A generator is read on and on, as Keras does, and says nothing of its
    length.

    Args:
        x: PyDataset or generator of (texts, labels) or (texts, labels, weights).
        convert: checks a batch and makes arrays of it, always of the same dtypes and ranks.
        callbacks: the caller's.
        seed: int or None. Batches of a PyDataset of known length come in another order in every
            epoch, as in Keras; None: in theirs.

    Returns:
        the dataset, of known cardinality for a PyDataset; and the callbacks, with one more for
        a PyDataset. Or `x` and the callbacks.

    Raises:
        DataError: the first batch is something else, or there is none.
    """
    callbacks = list(callbacks)
    if isinstance(x, keras.utils.PyDataset):
        batches = _PyBatches(x, convert)
        return _of_py_dataset(batches, seed=seed), [_EpochHooks(batches), *callbacks]
    return (_of_generator(x, convert) if python_batches(x) else x), callbacks


def evaluation_dataset(
    x: Any, convert: Callable[[Labelled], Labelled], *, steps: int | None = None
) -> Any:
    """Makes a tf.data.Dataset to measure on; see `training_dataset`.

    `on_epoch_begin` of a PyDataset is called before its first batch is read, `on_epoch_end` after
    the last; with fewer `steps` than batches the last is not read, and `on_epoch_end` not called. A
    generator is read here, to its end or up to `steps` batches, and kept: every epoch
    is measured on the same batches.
    """
    if isinstance(x, keras.utils.PyDataset):
        return _of_py_dataset(_PyBatches(x, convert), hooks=True)
    if not python_batches(x):
        return x
    batches = [convert(labelled_parts(element, x)) for element in itertools.islice(x, steps)]
    if not batches:
        raise DataError(f"Expected at least one batch, got none from {form_of(x)}.")
    structure = tf.nest.map_structure(_spec, batches[0])
    dataset = tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=structure)
    return dataset.apply(tf.data.experimental.assert_cardinality(len(batches)))


def prediction_batches(x: Any) -> Iterator[Any]:
    """Yields the texts of a PyDataset's or a generator's batches, without their labels.

    As in Keras a batch is `x`, or a tuple (x,), (x, y) or (x, y, weights); a pair of texts is
    ((first, second),).

    Raises:
        DataError: an element is a single text, or two lists of texts: whether these are pairs or
            texts and labels is not known.
        ConfigError: a PyDataset does not say how many batches it has.
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
    """Takes a batch of (texts, labels) or (texts, labels, weights).

    Raises:
        DataError: it is something else.
    """
    if isinstance(element, str | bytes):
        raise DataError(_single_texts(source))
    if isinstance(element, list):
        element = tuple(element)  # as Keras does
    if not isinstance(element, tuple) or len(element) not in (2, 3):
        got = f"a tuple of {len(element)}" if isinstance(element, tuple) else form_of(element)
        raise DataError(
            f"Expected batches (texts, labels) or (texts, labels, weights) of {form_of(source)}, "
            f"got {got}."
        )
    if isinstance(element[0], str | bytes):
        raise DataError(_single_texts(source))
    return element


def text_arrays(*columns: Sequence[Any]) -> Any:
    """Columns of texts as arrays of bytes, as tf.data takes them: one, or a tuple."""
    arrays = []
    for column in columns:
        array = np.empty(len(column), object)
        array[:] = [
            t if isinstance(t, bytes) else t.encode("utf-8", "surrogatepass") for t in column
        ]
        arrays.append(array)
    return arrays[0] if len(arrays) == 1 else tuple(arrays)


class _PyBatches:
    """The batches of a PyDataset, in epochs that begin before their first batch is read.

    The first batch is read when this is made, for its dtypes and ranks, and kept for the epoch.
    """

    def __init__(
        self, data: keras.utils.PyDataset, convert: Callable[[Labelled], Labelled]
    ) -> None:
        self.data = data
        self.count = data.num_batches
        if self.count == 0:
            raise DataError(f"Expected at least one batch, got none from {form_of(data)}.")
        self._convert = convert
        data.on_epoch_begin()
        self._begun = True
        first = self._read(0)
        self.structure = tf.nest.map_structure(_spec, first)
        self._unread = {0: first}

    def begin(self) -> None:
        """Begins an epoch, unless it is the one that has begun already."""
        if not self._begun:
            self._unread.clear()
            self.data.on_epoch_begin()
        self._begun = False

    def end(self) -> None:
        """Ends an epoch."""
        self._unread.clear()
        self.data.on_epoch_end()

    def batch(self, index: int) -> Labelled:
        """Gives a batch, in any thread."""
        kept = self._unread.pop(index, None)
        return self._read(index) if kept is None else kept

    def _read(self, index: int) -> Labelled:
        return self._convert(labelled_parts(self.data[index], self.data))


class _EpochHooks(keras.callbacks.Callback):
    """Tells a PyDataset of the epochs, which Keras does for those that it is given."""

    def __init__(self, batches: _PyBatches) -> None:
        super().__init__()
        self._batches = batches

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Passes it on."""
        self._batches.begin()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Passes it on."""
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
        raise DataError(f"Expected at least one batch, got none from {form_of(source)}.")
    stream = _Stream(itertools.chain([first], elements))
    return tf.data.Dataset.from_generator(
        stream.read, output_signature=tf.nest.map_structure(_spec, first)
    )


class _Stream:
    """A generator's batches, in any threads: each pass goes on where the one before stopped."""

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
        f"Expected batches, got single texts from {form_of(source)}: make a list of it, `list(x)`, "
        "or yield lists of texts."
    )
