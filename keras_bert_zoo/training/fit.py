"""Training and evaluation of tasks on text: converts arguments for Keras' loops."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training import replicas
from keras_bert_zoo.training.arguments import as_callbacks, check_arguments
from keras_bert_zoo.training.batches import (
    check_ends,
    is_batched,
)
from keras_bert_zoo.training.data import (
    DATASET_LABELS,
    check_texts,
    dataset_to_train_on,
    example_weights,
    labelled_batches,
    prepared,
    replicas_of,
    split_examples,
    validation_parts,
)
from keras_bert_zoo.training.keras_metrics import resolve_metrics
from keras_bert_zoo.training.loop import default_optimizer, run_fit, sets_the_rate
from keras_bert_zoo.training.objective import EpochMeasures, Objective
from keras_bert_zoo.training.optimizers import AdamW
from keras_bert_zoo.training.outputs import resolve_loss
from keras_bert_zoo.training.probe import probe_task
from keras_bert_zoo.training.rows import RowBatches

__all__ = [
    "DEFAULT_LEARNING_RATE",
    "adopt_examples",
    "build_shared",
    "compile_task",
    "evaluate_task",
    "fit_task",
    "make_dataset",
    "one_batch",
    "replicas_of",
]

DEFAULT_LEARNING_RATE = 2e-5
"""The learning rate of `compile` without an optimizer."""


def compile_task(
    task: Any, optimizer: Any, loss: Any = None, metrics: Any = None, **kwargs: Any
) -> None:
    """Compiles a task through Keras, with losses and metrics that fit its outputs.

    Args:
        task: Task.
        optimizer: Keras optimizer.
        loss: as for `Task.compile`; None: the task's default.
        metrics: as for `Task.compile`; None: the task's default.
        **kwargs: further arguments of `keras.Model.compile`.

    Raises:
        ConfigError: a loss or metric does not fit the task's outputs.
    """
    objective = task.objective()
    if loss is not None:
        loss = resolve_loss(loss, objective.outputs)
    else:
        loss = task.fit_loss or objective.loss()
    metrics = (
        objective.metrics() if metrics is None else resolve_metrics(metrics, objective.outputs)
    )
    weighted = kwargs.pop("weighted_metrics", None)
    if weighted is not None:
        weighted = resolve_metrics(weighted, objective.outputs)
    count = replicas_of(task)
    shared = replicas.ReplicaLoss(loss, count) if count > 1 else loss
    keras.Model.compile(
        task,
        optimizer=optimizer,
        loss=shared,
        metrics=metrics,
        weighted_metrics=weighted,
        **kwargs,
    )
    task.loss = loss
    task.loss_unit = replicas.loss_unit(loss)


def fit_task(
    task: Any,
    x: Any,
    y: Any,
    *,
    validation_data: Any,
    batch_size: int | None,
    class_weight: Any,
    sample_weight: Any,
    callbacks: Any,
    verbose: Any,
    loss: Any = None,
    **arguments: Any,
) -> keras.callbacks.History:
    """Fine-tunes a task; see `Task.fit` for the arguments and errors."""
    batch_size = 32 if batch_size is None else batch_size
    check_arguments(batch_size=batch_size, **arguments)
    shuffle, seed = arguments["shuffle"], arguments["seed"]
    first_epoch, steps_per_epoch = arguments["initial_epoch"], arguments["steps_per_epoch"]
    split = arguments["validation_split"] if validation_data is None else 0.0
    hooks = as_callbacks(callbacks)
    objective: Objective = task.objective()
    for name, given in (
        ("loss", loss is not None),
        ("steps_per_execution", arguments["steps_per_execution"] > 1),
    ):
        if given and task.compiled_by_caller:
            raise ConfigError(f"Give `{name}` to `compile` or to `fit`, not to both.")
    task.fit_loss = None if loss is None else resolve_loss(loss, objective.outputs)

    if is_batched(x):
        if y is not None or class_weight is not None or sample_weight is not None:
            raise ConfigError(DATASET_LABELS)
        if arguments["probe_epochs"]:
            raise ConfigError("`probe_epochs` needs texts in memory, not a dataset.")
        if split:
            raise ConfigError(
                "`validation_split` needs texts in memory, not a dataset: pass "
                "`validation_data`, made with the dataset's `take` and `skip`."
            )
        order = seed if shuffle else None
        batches, hooks = dataset_to_train_on(task, objective, x, hooks, order, steps_per_epoch)
    else:
        if split:
            x, y, sample_weight, validation_data = split_examples(task, x, y, sample_weight, split)
        examples, targets = prepared(task, x, y)
        objective = task.objective(examples)
        weights = example_weights(objective, examples, targets, class_weight, sample_weight)
        adopt_examples(task, objective, examples)
        rows: RowBatches = task.rows(examples, targets, weights)
        if arguments["probe_epochs"]:
            _probe(task, objective, rows, targets, weights, arguments["probe_epochs"])
        batches = rows.batches(
            batch_size=batch_size, seed=seed, in_order=not shuffle, first_epoch=first_epoch
        )
    if steps_per_epoch is None:
        check_ends(batches, "An epoch reads", "give `steps_per_epoch`")
    steps = max(0, int(batches.cardinality()))
    if steps_per_epoch is not None:
        if batches.cardinality() != tf.data.INFINITE_CARDINALITY:
            batches = batches.repeat()
        steps = steps_per_epoch

    validation, monitor = None, ("val_loss", "min")
    if validation_data is not None:
        size = arguments["validation_batch_size"] or batch_size
        held_x, held_y, held_weights = validation_parts(objective, validation_data)
        validation, held_out = labelled_batches(
            task, objective, held_x, held_y, size, held_weights, arguments["validation_steps"]
        )
        if task.measures_default:
            measured = task.objective(held_out[0]) if held_out else objective
            monitor = measured.monitor
            if held_out and measured.measure is not None:
                hooks = [EpochMeasures(measured.measure, *held_out, size), *hooks]

    if not task.compiled_by_caller:
        # A new optimizer for every call: the schedule of the last call has ended at rate 0.
        with task.distribute_strategy.scope():
            optimizer = default_optimizer(
                steps,
                epochs=arguments["epochs"],
                learning_rate=arguments["learning_rate"],
                warmup_fraction=arguments["warmup_fraction"],
                weight_decay=arguments["weight_decay"],
                global_clipnorm=arguments["global_clipnorm"],
                initial_epoch=first_epoch,
                constant=any(map(sets_the_rate, hooks)),
            )
            compile_task(task, optimizer)
    batches = replicas.even_batches(batches, replicas_of(task))
    if steps_per_epoch is None and not is_batched(x):
        # Keras then reads on from one iterator where it would create two in each epoch.
        steps_per_epoch = int(batches.cardinality())
    build_shared(task, batches)
    task.training_record = {}  # an interrupted run leaves no record
    with (
        _checkpointing(task, arguments["gradient_checkpointing"]),
        _several_steps(task, int(arguments["steps_per_execution"])),
    ):
        history = run_fit(
            task,
            batches,
            validation=validation,
            monitor=monitor,
            patience=arguments["patience"],
            epochs=arguments["epochs"],
            callbacks=hooks,
            verbose=verbose,
            initial_epoch=first_epoch,
            steps_per_epoch=steps_per_epoch,
            validation_freq=arguments["validation_freq"],
        )
    task.training_record = {
        "steps": len(history.epoch) * steps,
        "epochs": len(history.epoch),
        "batch_size": int(batch_size),
        "seed": int(seed),
        "history": {
            name: [float(v) if np.isfinite(v) else None for v in values]  # JSON has no NaN
            for name, values in history.history.items()
        },
    }
    return history


@contextmanager
def _checkpointing(task: Any, enabled: bool) -> Iterator[None]:
    """Trains with gradient checkpointing, also if the step was traced without it."""
    if not enabled:
        yield
        return
    before = [block.gradient_checkpointing for block in task.encoder.blocks]
    task.encoder.gradient_checkpointing, task.train_function = True, None
    try:
        yield
    finally:
        for block, value in zip(task.encoder.blocks, before, strict=True):
            block.gradient_checkpointing = value
        task.train_function = None


@contextmanager
def _several_steps(task: Any, steps: int) -> Iterator[None]:
    """Runs several steps in one call. Without a reset, Keras would predict in such calls, too."""
    if steps > 1:
        task.steps_per_execution = steps
    try:
        yield
    finally:
        if steps > 1:
            task.steps_per_execution = 1
            task.train_function = task.test_function = task.predict_function = None


def make_dataset(
    task: Any,
    x: Any,
    y: Any,
    *,
    batch_size: int,
    sample_weight: Any,
    class_weight: Any,
    shuffle: bool,
    seed: int,
) -> tf.data.Dataset:
    """Tokenizes examples into batches; see `Task.make_dataset`."""
    check_arguments(batch_size=batch_size, shuffle=shuffle, seed=seed)
    objective: Objective = task.objective()
    if is_batched(x):
        if y is not None or class_weight is not None or sample_weight is not None:
            raise ConfigError(DATASET_LABELS)
        return dataset_to_train_on(task, objective, x, (), seed if shuffle else None)[0]
    examples, targets = prepared(task, x, y)
    objective = task.objective(examples)
    weights = example_weights(objective, examples, targets, class_weight, sample_weight)
    adopt_examples(task, objective, examples)
    rows: RowBatches = task.rows(examples, targets, weights)
    return rows.batches(batch_size=batch_size, seed=seed, in_order=not shuffle)


def evaluate_task(
    task: Any,
    x: Any,
    y: Any,
    *,
    batch_size: int | None,
    verbose: Any,
    sample_weight: Any,
    steps: int | None,
    callbacks: Any,
    return_dict: bool,
) -> Any:
    """Computes the loss and the compiled metrics of a task; see `Task.evaluate`."""
    batch_size = 64 if batch_size is None else batch_size
    check_arguments(batch_size=batch_size, steps=steps)
    examples = None if is_batched(x) else task.examples(x, y)
    objective = task.objective(examples)
    batches, _ = labelled_batches(task, objective, x, y, batch_size, sample_weight, steps)
    loss = None if task.compiled_by_caller else (task.fit_loss or objective.loss())
    if not task.compiled or (loss is not None and type(task.loss) is not type(loss)):
        # Not compiled yet, or compiled with the loss of another kind of data.
        with task.distribute_strategy.scope():
            optimizer = task.optimizer if task.compiled else AdamW(DEFAULT_LEARNING_RATE)
            compile_task(task, optimizer)
    build_shared(task, batches)
    return keras.Model.evaluate(
        task,
        batches,
        verbose=verbose,
        callbacks=as_callbacks(callbacks),
        return_dict=return_dict,
    )


def one_batch(
    task: Any, x: Any, y: Any, sample_weight: Any, class_weight: Any = None, *, training: bool
) -> tuple[Any, ...]:
    """Makes one batch of all examples: inputs, and the labels and weights that are given."""
    examples, targets = prepared(task, x, y)
    objective = task.objective(examples)
    if training:
        adopt_examples(task, objective, examples)
    else:
        check_texts(task, examples)
    weights = example_weights(objective, examples, targets, class_weight, sample_weight)
    rows: RowBatches = task.rows(examples, targets, weights)
    return rows.one_batch(seed=int(task.optimizer.iterations) if training else 0)


def build_shared(task: Any, batches: tf.data.Dataset) -> None:
    """Creates the variables of metrics and optimizer under the strategy, if it has replicas."""
    if replicas_of(task) > 1:
        with task.distribute_strategy.scope():
            task._symbolic_build(data_batch=batches.element_spec)


def _probe(
    task: Any,
    objective: Objective,
    rows: RowBatches,
    targets: np.ndarray,
    weights: np.ndarray | None,
    epochs: int,
) -> None:
    if not objective.probes:
        raise ConfigError(f"`probe_epochs` is not possible for a {type(task).__name__}.")
    probe_task(
        task,
        rows,
        targets,
        task.loss if task.compiled_by_caller else (task.fit_loss or objective.loss()),
        epochs=epochs,
        sample_weight=weights,
    )


def adopt_examples(task: Any, objective: Objective, examples: Any) -> None:
    """Sets the attributes of the task that depend on the training data."""
    if task.spec.pairs is None:
        task.pair = len(examples.columns) == 2
    if objective.adopt is not None:
        objective.adopt(examples)
