"""The loop over epochs and steps, on one device, several replicas or several workers."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.training.replicas import in_shares
from keras_bert_zoo.training.step_counts import StepCounts
from keras_bert_zoo.training.strategies import has_workers

__all__ = [
    "StepFunction",
    "StepFunctions",
    "distribute",
    "run_epochs",
    "run_validation",
    "step_function",
]

StepFunction = Callable[[Any, int], Any]
"""Runs steps on the next elements of an iterator: (iterator, number of steps) -> logs."""


class StepFunctions:
    """The compiled step functions of a model, by name; not a dict, which Keras would wrap."""

    def __init__(self) -> None:
        self._functions: dict[str, StepFunction] = {}

    def get(self, name: str, make: Callable[[], StepFunction]) -> StepFunction:
        """Returns a function, made on the first call."""
        if name not in self._functions:
            self._functions[name] = make()
        return self._functions[name]

    def clear(self) -> None:
        """Forgets all functions, because the model or its optimizer changed."""
        self._functions.clear()


def run_epochs(
    model: keras.Model,
    batches: tf.data.Dataset,
    run_steps: StepFunction,
    *,
    epochs: int,
    callbacks: Sequence[keras.callbacks.Callback],
    verbose: Any = "auto",
    initial_epoch: int = 0,
    initial_step: int = 0,
    steps_per_epoch: int | None = None,
    total_steps: int | None = None,
    steps_per_execution: int = 1,
    parts: int = 1,
    validation: tf.data.Dataset | None = None,
    run_tests: StepFunction | None = None,
    validation_freq: Any = 1,
) -> keras.callbacks.History:
    """Trains a compiled model; Keras' callbacks, history and progress bar work as in Keras' `fit`.

    Keras' own loop fails on several workers (keras #20585), cannot go on in the middle of an epoch,
    and cannot run several parts of a batch before an update.

    Args:
        model: keras.Model, compiled and built.
        batches: one element per part of a batch. With `steps_per_epoch`, it is read on from epoch
            to epoch; otherwise each epoch reads it from its start to its end.
        run_steps: see `step_function`.
        epochs: int. The epoch at which training ends.
        callbacks: Keras callbacks.
        verbose: as in Keras.
        initial_epoch: int.
        initial_step: int. The step of the first epoch to begin with. With `steps_per_epoch`,
            `batches` begins there.
        steps_per_epoch: int or None.
        total_steps: int or None. Steps of all epochs; the last epoch may have fewer steps.
        steps_per_execution: int. Steps per call of `run_steps`.
        parts: int. Elements per step.
        validation: batches to evaluate epochs on, or None.
        run_tests: runs `test_step`; see `step_function`. Required with `validation`.
        validation_freq: int, or the epochs to evaluate, from 1.

    Returns:
        keras.callbacks.History.
    """
    begins = initial_step > 0 and steps_per_epoch is None
    source = distribute(model, batches.skip(initial_step * parts) if begins else batches)
    held_out = None if validation is None else distribute(model, validation)
    tests = None if validation is None else _known(validation)
    count = steps_per_epoch
    if count is None and (known := _known(batches)) is not None:
        count = known // parts
    hooks = keras.callbacks.CallbackList(
        list(callbacks), add_history=True, add_progbar=verbose != 0, verbose=verbose,
        epochs=epochs, steps=count, model=model,
    )  # fmt: skip
    workers = has_workers(model.distribute_strategy)
    model.stop_training = False
    hooks.on_train_begin()
    initial_epoch = getattr(model, "_initial_epoch", None) or initial_epoch  # BackupAndRestore
    epoch_logs: dict[str, Any] = {}
    iterator: Iterator[Any] | None = None
    step = initial_step
    for epoch in range(initial_epoch, epochs):
        model.reset_metrics()
        hooks.on_epoch_begin(epoch)
        if iterator is None or steps_per_epoch is None:
            iterator = iter(source)
        last = count
        if total_steps is not None and steps_per_epoch is not None:
            last = min(steps_per_epoch, total_steps - epoch * steps_per_epoch)
        while last is None or step < last:
            several = min(steps_per_execution, steps_per_execution if last is None else last - step)
            hooks.on_train_batch_begin(step)
            try:
                logs = run_steps(iterator, several)
            except (StopIteration, tf.errors.OutOfRangeError):
                break
            step += several
            hooks.on_train_batch_end(step - 1, logs)
            if model.stop_training and not workers:  # workers end an epoch together
                break
        if begins:
            source, begins = distribute(model, batches), False
        step = 0
        epoch_logs = dict(model.get_metrics_result())
        if held_out is not None and run_tests is not None and _is_due(epoch, validation_freq):
            measured = run_validation(model, held_out, run_tests, hooks, tests)
            epoch_logs |= {f"val_{name}": value for name, value in measured.items()}
        hooks.on_epoch_end(epoch, epoch_logs)
        if workers:
            model.stop_training = _agreed(model)
        if model.stop_training:
            break
    model.optimizer.finalize_variable_values(model.trainable_variables)
    hooks.on_train_end(epoch_logs)
    return model.history


def _agreed(model: keras.Model) -> bool:
    """Whether a callback of any worker has stopped the training."""
    strategy = model.distribute_strategy
    stops = strategy.run(lambda: tf.constant(int(model.stop_training)))
    return int(strategy.reduce(tf.distribute.ReduceOp.SUM, stops, axis=None)) > 0


def run_validation(
    model: keras.Model, batches: Any, run_tests: StepFunction, hooks: Any, count: int | None
) -> dict[str, Any]:
    """Evaluates a model on distributed batches, `count` or all; returns name -> value."""
    hooks.on_test_begin()
    model.reset_metrics()
    model.stop_evaluating = False
    iterator = iter(batches)
    batch = 0
    while batch != count and not model.stop_evaluating:
        hooks.on_test_batch_begin(batch)
        try:
            logs = run_tests(iterator, 1)
        except (StopIteration, tf.errors.OutOfRangeError):
            break
        hooks.on_test_batch_end(batch, logs)
        batch += 1
    measured = dict(model.get_metrics_result())
    hooks.on_test_end(measured)
    return measured


def step_function(
    model: keras.Model,
    step: Callable[[Any], Any],
    *,
    parts: int = 1,
    update: Callable[[], None] | None = None,
    jit_compile: bool = False,
    counts: StepCounts | None = None,
) -> StepFunction:
    """Compiles a step of a model; a step reads `parts` elements.

    Args:
        model: compiled; its `run_eagerly` applies.
        step: what each replica computes of its share of an element: data -> dict of scalars.
        parts: int.
        update: what each replica does after all parts of a step, or None.
        jit_compile: bool. Whether XLA compiles the step.
        counts: StepCounts of the steps, or None.

    Returns:
        function of an iterator and a number of steps, which returns the dict of the last step: the
        means over the replicas of this process.
    """
    strategy = model.distribute_strategy
    compiled = not model.run_eagerly

    def compile_step(function: Callable[..., Any]) -> Callable[..., Any]:
        if not compiled:
            return function
        return tf.function(
            function, reduce_retracing=True, jit_compile=jit_compile, autograph=False
        )

    def counted_step(data: Any) -> Any:
        if counts is not None:
            counts.add(data)
        return step(data)

    @compile_step
    def of_data(data: Any) -> Any:
        outputs = strategy.run(counted_step, args=(data,))
        return keras.tree.map_structure(lambda value: _mean(strategy, value), outputs)

    @compile_step
    def of_all_parts() -> None:
        if update is not None:
            strategy.run(update)

    repeated = _repeated if compiled else _repeated_in_python
    read = next if counts is None else counts.next

    def one(iterator: Any) -> Any:
        logs = repeated(lambda: of_data(read(iterator)), parts)
        if update is not None:
            of_all_parts()
        return logs

    def several(iterator: Any, count: Any) -> Any:
        return repeated(lambda: one(iterator), count)

    if not compiled:
        return several
    single = tf.function(one, reduce_retracing=True, autograph=False)
    loop = tf.function(several, reduce_retracing=True, autograph=False)

    def run(iterator: Any, count: int) -> Any:
        return single(iterator) if count == 1 else loop(iterator, tf.constant(count))

    return run


def _known(batches: tf.data.Dataset) -> int | None:
    """The number of batches, or None if it is unknown or infinite."""
    count = int(batches.cardinality())
    return count if count >= 0 else None


def distribute(model: keras.Model, batches: tf.data.Dataset) -> Any:
    """Divides batches of `replicas.even_batches` among the replicas of all workers.

    Every worker makes all batches, in the same order, and takes the rows of its replicas.
    """
    strategy = model.distribute_strategy
    if strategy.num_replicas_in_sync == 1:
        return batches

    def shares(context: tf.distribute.InputContext) -> tf.data.Dataset:
        workers, here = context.num_input_pipelines, context.input_pipeline_id
        replicas = context.num_replicas_in_sync
        local = replicas // workers

        def own(*parts: Any) -> tf.data.Dataset:
            shares = in_shares(parts, replicas)
            first = here * local
            return tf.data.Dataset.from_tensor_slices(
                tf.nest.map_structure(lambda tensor: tensor[first : first + local], shares)
            )

        return batches.flat_map(own).prefetch(local)

    return strategy.distribute_datasets_from_function(shares)


def _repeated(function: Callable[[], Any], count: Any) -> Any:
    """Calls a function in a loop of the graph; returns its last result."""
    first = function()
    if isinstance(count, int) and count == 1:
        return first
    _, last = tf.while_loop(
        lambda index, _: index < count,
        lambda index, _: (index + 1, function()),
        (tf.ones((), tf.int32), first),
    )
    return last


def _repeated_in_python(function: Callable[[], Any], count: int) -> Any:
    for _ in range(count):
        last = function()
    return last


def _mean(strategy: tf.distribute.Strategy, value: Any) -> Any:
    results = strategy.experimental_local_results(value)
    return results[0] if len(results) == 1 else tf.reduce_mean(tf.stack(results), axis=0)


def _is_due(epoch: int, frequency: Any) -> bool:
    """Whether an epoch, from 0, is evaluated."""
    if isinstance(frequency, numbers.Integral):
        return (epoch + 1) % frequency == 0
    return epoch + 1 in frequency
