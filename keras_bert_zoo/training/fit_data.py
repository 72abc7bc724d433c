"""The data of a training run: its batches from any step on, and its validation data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training.batch_source import BatchSource, check_alone
from keras_bert_zoo.training.batches import check_ends, is_batched
from keras_bert_zoo.training.data import (
    DATASET_LABELS,
    dataset_to_train_on,
    example_weights,
    labelled_batches,
    prepared,
    split_examples,
    validation_parts,
)
from keras_bert_zoo.training.objective import EpochMeasures, Objective
from keras_bert_zoo.training.packed_rows import packed_rows
from keras_bert_zoo.training.rows import RowBatches

__all__ = ["TrainingData", "adopt_examples", "training_data", "validation_of"]


@dataclass(frozen=True)
class TrainingData:
    """The batches of a run.

    Args:
        objective: Objective of these examples.
        hooks: the callbacks of the run.
        validation_data: data to validate on, in any form; or None.
        steps: int. Batches of a pass over the data; 0: unknown.
        repeats: bool. Whether batches go on from epoch to epoch. If not, each epoch reads the data
            from its start.
        passes: makes the batches of all passes from the given one on.
        rows: RowBatches or None.
        targets: the targets of `rows`.
        weights: float32 (examples,), the weights of `rows`; or None.
        numbers: makes the numbers of the examples of each batch of a pass; None: unknown.
        hash: str. Differs if the tokens, labels or weights of the examples do.
        first_epoch: int. The pass that the run began with.
        source: BatchSource of data that is read from files, or None.
    """

    objective: Objective
    hooks: list[keras.callbacks.Callback]
    validation_data: Any
    steps: int
    repeats: bool
    passes: Callable[[int], tf.data.Dataset]
    rows: RowBatches | None = None
    targets: Any = None
    weights: np.ndarray | None = None
    numbers: Callable[[int], tf.data.Dataset] | None = None
    hash: str = ""
    first_epoch: int = 0
    source: BatchSource | None = None

    def batches_after(self, done: int) -> tf.data.Dataset:
        """Returns the batches after the first `done` ones of the run."""
        if not self.repeats:
            return self.passes(self.first_epoch)
        passes, rest = divmod(done, self.steps) if self.steps else (0, done)
        return self.passes(self.first_epoch + passes).repeat().skip(rest)

    def pieces_after(self, done: int) -> list[tuple[tf.data.Dataset, int]] | None:
        """Returns the batches of a source after the first `done` ones; None without a source."""
        if self.source is None:
            return None
        return self.source.batches(self.first_epoch * self.steps + done)

    def rows_of(self, step: int) -> Sequence[int] | Sequence[str] | None:
        """Returns the numbers or names of the examples in the batch of a step of the run."""
        if self.source is not None:
            return self.source.examples_of(self.first_epoch * self.steps + step)
        if self.numbers is None:
            return None
        passes, rest = divmod(step, self.steps)
        numbers = self.numbers(self.first_epoch + passes).skip(rest)
        return [int(number) for number in next(iter(numbers))]


def training_data(
    task: Any,
    objective: Objective,
    x: Any,
    y: Any,
    *,
    validation_data: Any,
    class_weight: Any,
    sample_weight: Any,
    batch_size: int,
    callbacks: Sequence[keras.callbacks.Callback],
    shuffle: bool,
    seed: int,
    initial_epoch: int,
    steps_per_epoch: int | None,
    validation_split: float,
    probe_epochs: int,
    pack_examples: bool,
    **_: Any,
) -> TrainingData:
    """Converts the arguments of `fit`; see `Task.fit` for them and for the errors."""
    split = validation_split if validation_data is None else 0.0
    source = task.batch_source(x, batch_size=batch_size, seed=seed, shuffle=shuffle)
    if source is not None:
        check_alone(
            y=y, class_weight=class_weight, sample_weight=sample_weight,
            validation_split=split, probe_epochs=probe_epochs,
        )  # fmt: skip
        return TrainingData(
            objective,
            list(callbacks),
            validation_data,
            steps=source.steps if steps_per_epoch is None else steps_per_epoch,
            repeats=True,
            passes=lambda _: source.one_pass(),
            hash=source.hash,
            first_epoch=initial_epoch,
            source=source,
        )
    if is_batched(x):
        if y is not None or class_weight is not None or sample_weight is not None:
            raise ConfigError(DATASET_LABELS)
        if pack_examples:
            raise ConfigError("`pack_examples` needs texts in memory, not a dataset.")
        if probe_epochs:
            raise ConfigError("`probe_epochs` needs texts in memory, not a dataset.")
        if split:
            raise ConfigError(
                "`validation_split` needs texts in memory, not a dataset: pass "
                "`validation_data`, made with the dataset's `take` and `skip`."
            )
        order = seed if shuffle else None
        batches, hooks = dataset_to_train_on(task, objective, x, callbacks, order, steps_per_epoch)
        if steps_per_epoch is None:
            check_ends(batches, "An epoch reads", "give `steps_per_epoch`")
        return TrainingData(
            objective,
            list(hooks),
            validation_data,
            steps=max(0, int(batches.cardinality())),
            repeats=steps_per_epoch is not None,
            passes=lambda _: batches,
        )
    if split:
        x, y, sample_weight, validation_data = split_examples(task, x, y, sample_weight, split)
    examples, targets = prepared(task, x, y)
    objective = task.objective(examples)
    weights = example_weights(objective, examples, targets, class_weight, sample_weight)
    adopt_examples(task, objective, examples)
    rows: RowBatches = task.rows(examples, targets, weights)
    if pack_examples:
        rows = packed_rows(task, rows)
    options: dict[str, Any] = {"batch_size": batch_size, "seed": seed, "in_order": not shuffle}
    return TrainingData(
        objective,
        list(callbacks),
        validation_data,
        steps=-(-len(rows) // batch_size),
        repeats=True,
        passes=lambda epoch: rows.batches(**options, first_epoch=epoch),
        rows=rows,
        targets=targets,
        weights=weights,
        numbers=lambda epoch: rows.numbers(**options, first_epoch=epoch),
        hash=_hash((rows.data, targets, weights)),
        first_epoch=initial_epoch,
    )


def validation_of(
    task: Any,
    data: TrainingData,
    *,
    batch_size: int,
    validation_batch_size: int | None,
    validation_steps: int | None,
    **_: Any,
) -> tuple[tf.data.Dataset | None, tuple[str, str], list[keras.callbacks.Callback]]:
    """Makes batches of the validation data.

    Returns:
        the batches or None; the metric that compares epochs, and "max" or "min"; and the callbacks
        of the run, with the measures of the task.
    """
    monitor, hooks = ("val_loss", "min"), data.hooks
    if data.validation_data is None:
        return None, monitor, hooks
    size = validation_batch_size or batch_size
    held_x, held_y, held_weights = validation_parts(data.objective, data.validation_data)
    batches, held_out = labelled_batches(
        task, data.objective, held_x, held_y, size, held_weights, validation_steps
    )
    if task.measures_default:
        measured = task.objective(held_out[0]) if held_out else data.objective
        monitor = measured.monitor
        if held_out and measured.measure is not None:
            hooks = [EpochMeasures(measured.measure, *held_out, size), *hooks]
    return batches, monitor, hooks


def adopt_examples(task: Any, objective: Objective, examples: Any) -> None:
    """Sets the attributes of the task that depend on the training data."""
    if task.spec.pairs is None:
        task.pair = len(examples.columns) == 2
    if objective.adopt is not None:
        objective.adopt(examples)


def _hash(data: Any) -> str:
    """A hash of all arrays in rows, tuples and dicts."""
    digest = hashlib.sha256()
    for array in _arrays(data):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _arrays(data: Any) -> Iterator[np.ndarray]:
    if isinstance(data, np.ndarray | tf.Tensor):
        array = np.asarray(data)
        yield np.array([repr(item) for item in array.flat]) if array.dtype == object else array
    elif isinstance(data, Mapping):
        yield from _arrays(tuple(data.values()))
    elif isinstance(data, list | tuple):
        for part in data:
            yield from _arrays(part)
    elif is_dataclass(data):
        for field in fields(data):
            yield from _arrays(getattr(data, field.name))
    elif data is not None:
        yield np.array([repr(data)])
