"""Prediction: converts the inputs of `predict`, and runs the graph that answers a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.inputs import as_bytes, is_text
from keras_bert_zoo.data.pipeline import length_order, restore_order
from keras_bert_zoo.errors import DataError
from keras_bert_zoo.tasks.options import TaskOptions
from keras_bert_zoo.training.arguments import check_arguments, check_pairs
from keras_bert_zoo.training.batches import check_ends, prediction_batches, python_batches
from keras_bert_zoo.training.data import replicas_of
from keras_bert_zoo.training.replicas import even_batches
from keras_bert_zoo.training.rows import LabelledBatches
from keras_bert_zoo.training.strategies import has_workers, on_tpu
from keras_bert_zoo.training.tokenized import tokenized_dataset

__all__ = [
    "answer_rows",
    "joined_widths",
    "largest_difference",
    "predict_logits",
    "predict_texts",
    "refuse_texts",
    "text_columns",
]

_MOST_GRAPHS = 4  # cached per task, for different options or weights
_WINDOWS_AT_ONCE = 256  # in one batch

Answers = dict[str, np.ndarray]


def predict_texts(
    task: Any, x: Any, *, batch_size: int | None, verbose: Any, options: TaskOptions
) -> Answers:
    """Answers texts with the given options; see `Task.predict`."""
    batch_size = 64 if batch_size is None else batch_size
    if python_batches(x):
        parts = [
            answer_rows(task, *text_columns(task, batch), batch_size=batch_size, options=options)
            for batch in prediction_batches(x)
        ]
    elif isinstance(x, tf.data.Dataset):
        _check_dataset(task, x)
        elements = (element if isinstance(element, tuple) else (element,) for element in x)
        parts = [_answer_batch(task, options, *batch) for batch in elements]
    else:
        columns = text_columns(task, x)
        parts = [
            answer_rows(task, *columns, batch_size=batch_size, verbose=verbose, options=options)
        ]
    joined = _joined(parts or [_answer_batch(task, options)])
    return {name: _text_array(values) for name, values in joined.items()}


def answer_rows(
    task: Any,
    *columns: Sequence[Any],
    batch_size: int = 64,
    verbose: Any = 0,
    options: TaskOptions | None = None,
) -> Answers:
    """Answers columns of texts; strings in the answers are bytes, as from a server.

    Args:
        task: Task.
        *columns: lists of str or bytes, or of rows of these, in the order of `Task.text_specs`.
        batch_size: int.
        verbose: 1 shows a progress bar.
        options: TaskOptions; None: those of the task.

    Returns:
        dict of arrays with one row per text.
    """
    check_arguments(batch_size=batch_size)
    options = task.options if options is None else options
    count = len(columns[0])
    if not count:
        return _joined([_answer_batch(task, options)])
    lengths = np.array([_size(row) for row in zip(*columns, strict=True)], np.int64)
    order = np.argsort(-lengths, kind="stable")  # similar lengths in a batch, the longest first
    progress = keras.utils.Progbar(count, verbose=verbose, unit_name="text")
    parts: list[Answers] = []
    begin = 0
    while begin < count:
        size = batch_size
        if task.spec.windowed:
            size = _windowed_size(int(lengths[order[begin]]), options, batch_size)
        rows = order[begin : begin + size]
        batch = [_strings([column[row] for row in rows]) for column in columns]
        parts.append(_answer_batch(task, options, *batch))
        begin += len(rows)
        progress.update(begin)
    joined = _joined(parts)
    back = np.argsort(order)
    return {name: values[back] for name, values in joined.items()}


def refuse_texts(task: Any, inputs: Any) -> None:
    """Raises DataError if a task is called on texts instead of token ids."""
    if is_text(inputs):
        name = type(task).__name__
        raise DataError(
            f"A {name} is called on a dict of token ids, received texts. For answers to texts call "
            f"`{name}.predict(texts)`; in TensorFlow ops `{name}.answer_texts(tensor)`; for "
            "token ids `task.tokenizer(texts, max_length=...)`."
        )


def predict_logits(
    task: Any,
    x: Any,
    *,
    batch_size: int | None = 64,
    verbose: Any = 0,
    width: int | None = None,
) -> np.ndarray:
    """Computes logits of texts, float32 (texts, labels), in the order of `x`.

    Args:
        task: Task with logits per text.
        x: as in `Task.fit`; a dataset has batches of texts without labels.
        batch_size: int. None: 64.
        verbose: as in Keras.
        width: int. Logits per text; None: the width of the model's output.

    Returns:
        float32 (texts, labels).

    Raises:
        DataError: `x` does not hold texts.
    """
    batch_size = 64 if batch_size is None else batch_size
    check_arguments(batch_size=batch_size)
    empty = np.zeros((0, task.output_shape[-1] if width is None else width), np.float32)
    takes_batches = task.objective().dataset_targets is not None
    if takes_batches and python_batches(x):
        parts = [
            predict_logits(task, batch, batch_size=batch_size, verbose=verbose)
            for batch in prediction_batches(x)
        ]
        return np.concatenate(parts or [empty])
    if takes_batches and isinstance(x, tf.data.Dataset):
        if isinstance(x.element_spec, dict):
            check_ends(x, "`predict_logits` answers", "`dataset.take(...)` takes a part of it")
        else:
            _check_dataset(task, x)
        batches = tokenized_dataset(x, task.tokenizer, max_length=task.max_length, targets=None)
        return _predicted(task, batches, verbose)
    examples = task.examples(x, labelled=False)
    if task.spec.pairs is None:
        check_pairs(task, len(examples.columns))
    if not len(examples):
        return empty
    rows: LabelledBatches = task.rows(examples, None)
    logits = _predicted(task, rows.batches(batch_size=batch_size, shuffle=False), verbose)
    return restore_order(logits, length_order(rows.lengths))


def _predicted(task: Any, batches: tf.data.Dataset, verbose: Any) -> np.ndarray:
    """Computes the outputs of batches of token ids, on all replicas of this process."""
    strategy = task.distribute_strategy
    if not (has_workers(strategy) or on_tpu(strategy)):
        batches = even_batches(batches, replicas_of(task))
        return np.asarray(keras.Model.predict(task, batches, verbose=verbose))
    # Workers may predict at different times, so each computes everything. The host of a TPU does so
    # because the shapes differ.
    call = task.step_functions.get(
        "predict",
        lambda: tf.function(lambda inputs: task(inputs, training=False), reduce_retracing=True),
    )
    return np.concatenate([call(batch[0]).numpy() for batch in batches])


def _windowed_size(length: int, options: Any, batch_size: int) -> int:
    """Returns the batch size for texts of `length` bytes, to bound the windows in memory."""
    step = options.max_length - 2 - options.stride
    # A token has about three bytes or more, both in Chinese and in English.
    windows = 1 + length // (3 * step)
    return min(max(_WINDOWS_AT_ONCE // windows, 1), batch_size)


def _answer_batch(task: Any, options: TaskOptions, *texts: tf.Tensor) -> Answers:
    """Answers one batch; an empty batch if no texts are given."""
    pair = len(texts) == 2
    specs = task.text_specs(pair=pair if texts else None)
    if not texts:
        texts = tuple(tf.zeros([0, *spec.shape[1:]], tf.string) for spec in specs.values())
    # If the weights are other variables, such as those of LoRA, a new graph is traced.
    key = (len(texts), options, task.graph_constants(), *(id(v) for v in task.weights))
    graphs: dict[Any, Any] = task.graphs
    graph = graphs.pop(key, None)
    if graph is None:

        def answer(*strings: tf.Tensor) -> dict[str, tf.Tensor]:
            return task.answer_texts(*strings, options=options)

        graph = tf.function(answer, input_signature=list(specs.values()), autograph=False)
        for oldest in list(graphs)[: len(graphs) - _MOST_GRAPHS + 1]:
            del graphs[oldest]
    graphs[key] = graph
    return {name: value.numpy() for name, value in graph(*texts).items()}


def text_columns(task: Any, x: Any) -> tuple[Sequence[Any], ...]:
    """Returns the texts of an input of `predict`, one column per input of the task."""
    columns: tuple[Sequence[Any], ...] = task.examples(x, labelled=False).columns
    if task.spec.pairs is None:  # elsewhere `examples` returns the columns that the task takes
        check_pairs(task, len(columns))
    return columns


def _check_dataset(task: Any, dataset: tf.data.Dataset) -> None:
    """Checks a dataset of texts before it is read.

    Raises:
        DataError: the elements are not batches of the task's inputs.
        ConfigError: the dataset is infinite.
    """
    element = dataset.element_spec
    parts = element if isinstance(element, tuple) else (element,)
    specs: Mapping[str, tf.TensorSpec] = task.text_specs()
    names = list(specs)
    if len(parts) != len(names) or any(
        not isinstance(part, tf.TensorSpec) or part.dtype != tf.string for part in parts
    ):
        hint = ""
        if len(parts) == 2 and task.spec.pairs is None and not task.pair:
            hint = " (For pairs of texts on a model that was not trained on them here, set "
            hint += "`task.pair = True`: two parts might be texts and labels.)"
        raise DataError(
            f"Expected a dataset of batches of {' and '.join(names)}, strings, received "
            f"{len(parts)} parts per batch: leave the labels out.{hint}"
        )
    for part, (name, spec) in zip(parts, specs.items(), strict=True):
        if not spec.shape.is_compatible_with(part.shape):
            raise DataError(
                f"Expected a dataset of batches, `{name}` of the shape {spec.shape}, received "
                f"{part.shape}: batch it, `dataset.batch(64)`."
            )
    check_ends(dataset, "`predict` answers", "`dataset.take(...)` takes a part of it")


def largest_difference(expected: np.ndarray, got: np.ndarray) -> float:
    """Returns the largest difference, relative to numbers above 1; for strings, 0."""
    if expected.dtype == object or not expected.size:
        return 0.0
    expected, got = expected.astype(np.float64), got.astype(np.float64)
    difference = np.abs(got - expected) / np.maximum(1, np.abs(expected))
    # Comparisons with NaN are False, so NaN counts as a difference.
    return float(np.max(np.where(difference >= 0, difference, np.inf)))


def joined_widths(*arrays: np.ndarray) -> list[np.ndarray]:
    """Pads arrays (B, ...) with 0 or empty strings to the widest one; B may differ."""
    shape = np.max([array.shape[1:] for array in arrays], axis=0).astype(int)
    padded = []
    for array in arrays:
        wide = np.full((len(array), *shape), b"" if array.dtype == object else 0, array.dtype)
        wide[tuple(slice(size) for size in array.shape)] = array
        padded.append(wide)
    return padded


def _joined(parts: Sequence[Answers]) -> Answers:
    """Joins the answers of batches; pads them as `joined_widths`."""
    return {
        name: np.concatenate(joined_widths(*(part[name] for part in parts))) for name in parts[0]
    }


def _strings(texts: Sequence[Any]) -> tf.Tensor:
    """Converts texts to string (B,), or rows of texts to string (B, n)."""
    rows = [
        [as_bytes(text) for text in row] if isinstance(row, list | tuple) else as_bytes(row)
        for row in texts
    ]
    return tf.constant(rows, tf.string)


def _size(row: Any) -> int:
    """Returns the number of bytes of a text, or of all texts in nested lists."""
    if isinstance(row, str | bytes):
        return len(as_bytes(row))
    return sum(map(_size, row))


def _text_array(values: np.ndarray) -> np.ndarray:
    """Decodes strings; returns other arrays unchanged."""
    if values.dtype != object:
        return values
    decoded = np.empty(values.size, dtype=object)
    decoded[:] = [value.decode("utf-8", "replace") for value in values.reshape(-1)]
    return decoded.reshape(values.shape)
