"""Batches for training and evaluation, from the arguments that users pass to Keras."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.columns import form_of
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.encoders.encoder import INPUT_NAMES
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.training import replicas
from keras_bert_zoo.training.arguments import check_pairs
from keras_bert_zoo.training.batch_source import check_alone
from keras_bert_zoo.training.batches import (
    Labelled,
    check_ends,
    evaluation_dataset,
    is_batched,
    python_batches,
    text_arrays,
    training_dataset,
)
from keras_bert_zoo.training.objective import Objective
from keras_bert_zoo.training.rows import RowBatches, check_count, part_of
from keras_bert_zoo.training.static_shapes import batch_shape, widen_batches
from keras_bert_zoo.training.tokenized import tokenized_dataset

__all__ = [
    "DATASET_LABELS",
    "batch_converter",
    "check_texts",
    "dataset_to_train_on",
    "divided_batches",
    "divided_pieces",
    "example_weights",
    "labelled_batches",
    "prepared",
    "replicas_of",
    "split_examples",
    "validation_parts",
]

DATASET_LABELS = "A dataset brings its own labels and weights: give `x` alone."
"""The message if labels are given separately from a dataset."""


def replicas_of(task: Any) -> int:
    """Returns the number of replicas that mirror a model's variables."""
    return int(task.distribute_strategy.num_replicas_in_sync)


def prepared(task: Any, x: Any, y: Any = None) -> tuple[Any, Any]:
    """Converts labelled examples in any form that `fit` accepts.

    Args:
        task: Task.
        x: texts or examples.
        y: labels, or None.

    Returns:
        the examples, and their checked targets.

    Raises:
        DataError: there are no examples, or the labels do not fit.
    """
    examples = task.examples(x, y)
    if not len(examples):
        raise DataError("There are no examples: expected at least one text.")
    return examples, task.targets(examples, y)


def example_weights(
    objective: Objective, examples: Any, targets: Any, class_weight: Any, sample_weight: Any
) -> np.ndarray | None:
    """Combines `class_weight` and `sample_weight`: float32 (E,), or None without either."""
    name = objective.outputs.task
    if sample_weight is not None and not objective.takes_weights:
        raise ConfigError(f"A {name} takes no `class_weight` and no `sample_weight`.")
    weights = None
    if sample_weight is not None:
        weights = np.asarray(sample_weight, np.float32)
        if weights.shape != (len(examples),):
            raise DataError(
                "`sample_weight` must hold one number per text: expected shape "
                f"({len(examples)},), received {weights.shape}."
            )
        if not np.isfinite(weights).all():
            raise DataError("`sample_weight` must hold finite numbers, received NaN or infinity.")
    if class_weight is None:
        return weights
    if objective.class_weights is None:
        raise ConfigError(f"`class_weight` does not apply to this {name}.")
    label_weights = objective.class_weights(class_weight, targets)
    return label_weights if weights is None else label_weights * weights


def labelled_batches(
    task: Any,
    objective: Objective,
    x: Any,
    y: Any,
    batch_size: int,
    sample_weight: Any = None,
    steps: int | None = None,
) -> tuple[tf.data.Dataset, tuple[Any, Any] | None]:
    """Makes batches for evaluation: sorted by length, or the first `steps` in the given order.

    Returns:
        tf.data.Dataset; and its examples and targets, or None if `x` is in batches.
    """
    in_memory = rows = None
    source = task.batch_source(x, batch_size=batch_size, heldout=True)
    if source is not None:
        check_alone(y=y, sample_weight=sample_weight)
        batches = source.one_pass() if steps is None else source.one_pass().take(steps)
        return divided_pieces(task, [(batches, batch_size)]), None
    if is_batched(x):
        if y is not None or sample_weight is not None:
            raise ConfigError(DATASET_LABELS)
        convert = batch_converter(task, objective, x)
        dataset = evaluation_dataset(x, convert, steps=steps)
        if steps is None:
            check_ends(dataset, "Measuring reads", "give `steps` (to `fit`: `validation_steps`)")
        _check_dataset_texts(task, dataset)
        batches = _tokenized(task, objective, dataset, made_here=python_batches(x))
    else:
        in_memory = examples, targets = prepared(task, x, y)
        check_texts(task, examples)
        weights = example_weights(objective, examples, targets, None, sample_weight)
        rows = task.rows(examples, targets, weights)
        batches = rows.batches(batch_size=batch_size, shuffle=False, in_order=steps is not None)
    if steps is not None:
        batches = batches.take(steps)
    return divided_batches(task, batches, rows, batch_size), in_memory


def divided_batches(
    task: Any,
    batches: tf.data.Dataset,
    rows: RowBatches | None,
    batch_size: int,
    parts: int = 1,
) -> tf.data.Dataset:
    """Pads batches, so that replicas and parts have equal shares and, if required, static shapes.

    Args:
        task: Task.
        batches: of at most `batch_size` examples.
        rows: RowBatches; None for data that is read in batches.
        batch_size: int.
        parts: int. Parts of a batch that follow each other.

    Returns:
        tf.data.Dataset; see `replicas.even_batches`.
    """
    size = None
    if task.static_shapes:
        batches = widen_batches(batches, batch_shape(task, rows))
        size = batch_size
    return replicas.even_batches(batches, replicas_of(task), parts, rows=size)


def divided_pieces(
    task: Any, pieces: Sequence[tuple[tf.data.Dataset, int]], parts: int = 1
) -> tf.data.Dataset:
    """Pads the rows of batches of a `BatchSource`, as `divided_batches`.

    Args:
        task: Task.
        pieces: batches that follow each other, each with its largest number of examples.
        parts: int. Parts of a batch that follow each other.

    Returns:
        tf.data.Dataset; see `replicas.even_batches`.
    """
    divided = [
        replicas.even_batches(
            batches, replicas_of(task), parts, rows=size if task.static_shapes else None
        )
        for batches, size in pieces
    ]
    return functools.reduce(lambda first, second: first.concatenate(second), divided)


def dataset_to_train_on(
    task: Any,
    objective: Objective,
    x: Any,
    callbacks: Sequence[Any] = (),
    seed: int | None = None,
    steps_per_epoch: int | None = None,
) -> tuple[tf.data.Dataset, list[Any]]:
    """Tokenizes batches of texts to train on.

    Args:
        task: Task.
        objective: Objective.
        x: a tf.data.Dataset, a `keras.utils.PyDataset`, or a generator.
        callbacks: the caller's callbacks.
        seed: int. Shuffles the batches of a PyDataset; None: they are not shuffled.
        steps_per_epoch: int or None. Required if batches made in Python have no known number.

    Returns:
        tf.data.Dataset; and the callbacks, with one more for a PyDataset.
    """
    convert = batch_converter(task, objective, x)
    made_here = python_batches(x)
    if steps_per_epoch is None and made_here and getattr(x, "num_batches", None) is None:
        raise ConfigError(
            f"`fit` received {form_of(x)}, which does not say how many batches it has: give "
            "`steps_per_epoch`."
        )
    dataset, hooks = training_dataset(x, convert, callbacks, seed=seed)
    first = dataset.element_spec[0] if isinstance(dataset.element_spec, tuple) else None
    batches = _tokenized(task, objective, dataset, made_here=made_here)
    if first is not None and not isinstance(first, dict):
        count = 2 if isinstance(first, tuple) else 1
        if task.spec.pairs is None:
            task.pair = count == 2
        check_pairs(task, count)
    return batches, hooks


def split_examples(
    task: Any, x: Any, y: Any, sample_weight: Any, share: float
) -> tuple[Any, Any, Any, tuple[Any, Any, Any]]:
    """Splits off the last examples for validation, as Keras does."""
    examples = task.examples(x)
    count = len(examples)
    check_count(y, count, "labels")
    check_count(sample_weight, count, "sample weights")
    first = int(count * (1.0 - share))
    if not 0 < first < count:
        raise ConfigError(
            f"`validation_split={share}` of {count} examples leaves none to "
            f"{'train' if not first else 'validate'} on."
        )
    train, held_out = range(first), range(first, count)
    parts = [(part_of(y, rows), part_of(sample_weight, rows)) for rows in (train, held_out)]
    held = (examples.subset(held_out), *parts[1])
    return examples.subset(train), *parts[0], held


def check_texts(task: Any, examples: Any) -> None:
    """Checks that a task takes examples of single texts, or of pairs; see `check_pairs`."""
    if task.spec.pairs is None:  # elsewhere `examples` returns the columns that the task takes
        check_pairs(task, len(examples.columns))


def _check_dataset_texts(task: Any, dataset: tf.data.Dataset) -> None:
    spec = dataset.element_spec
    first = spec[0] if isinstance(spec, tuple) else spec
    if not isinstance(first, dict):
        check_pairs(task, 2 if isinstance(first, tuple) else 1)


def batch_converter(task: Any, objective: Objective, x: Any) -> Callable[[Labelled], Labelled]:
    """Makes a function that checks a batch made in Python and returns arrays with targets."""
    if objective.dataset_targets is None:
        raise DataError(
            f"{type(task).__name__} takes examples in memory, received {form_of(x)}: collect what "
            "its batches hold in lists; see the class."
        )

    def convert(parts: Labelled) -> Labelled:
        x, y, *weights = parts
        if isinstance(x, Mapping) and set(x) == set(INPUT_NAMES):
            texts: Any = {name: np.asarray(x[name], np.int32) for name in INPUT_NAMES}
            examples = Examples([""] * len(texts[INPUT_NAMES[0]]))
        else:
            examples = task.examples(x)
            texts = text_arrays(*examples.columns)
        targets = task.targets(examples, y)
        given = [weight for weight in weights if weight is not None]
        checked = [example_weights(objective, examples, targets, None, w) for w in given]
        return (texts, targets, *checked)

    return convert


def _tokenized(
    task: Any, objective: Objective, dataset: tf.data.Dataset, *, made_here: bool
) -> tf.data.Dataset:
    """Tokenizes a dataset; `batch_converter` has already converted labels to targets."""
    return tokenized_dataset(
        dataset,
        task.tokenizer,
        max_length=task.max_length,
        targets=_same if made_here else objective.dataset_targets,
    )


def _same(targets: Any) -> Any:
    return targets


def validation_parts(objective: Objective, validation_data: Any) -> tuple[Any, Any, Any]:
    """Splits `validation_data` into texts, labels or None, and weights or None."""
    if isinstance(validation_data, list) and not isinstance(
        validation_data[0] if validation_data else "", str | bytes
    ):
        validation_data = tuple(validation_data)  # as Keras takes it
    if isinstance(validation_data, tuple):
        if objective.is_labelled is not None and not objective.is_labelled(validation_data):
            return validation_data, None, None
        if len(validation_data) not in (2, 3):
            raise DataError(
                "Expected `validation_data` of (x, y) or (x, y, sample_weight), received "
                f"{len(validation_data)} parts."
            )
        x, y, *weights = validation_data
        return x, y, weights[0] if weights else None
    return validation_data, None, None
