"""Training and evaluation of tasks on text: converts arguments for Keras' loops."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training.arguments import as_callbacks, check_arguments
from keras_bert_zoo.training.batches import (
    is_batched,
    python_batches,
)
from keras_bert_zoo.training.checkpoints import find_position
from keras_bert_zoo.training.compiling import (
    DEFAULT_LEARNING_RATE,
    build_shared,
    compile_task,
    prepare_updates,
)
from keras_bert_zoo.training.data import (
    DATASET_LABELS,
    check_texts,
    dataset_to_train_on,
    divided_batches,
    divided_pieces,
    example_weights,
    labelled_batches,
    prepared,
)
from keras_bert_zoo.training.fit_data import (
    TrainingData,
    adopt_examples,
    training_data,
    validation_of,
)
from keras_bert_zoo.training.guard import StopOnNonFinite
from keras_bert_zoo.training.layer_rates import layer_rates
from keras_bert_zoo.training.loop import default_optimizer, run_fit, run_test, sets_the_rate
from keras_bert_zoo.training.objective import Objective
from keras_bert_zoo.training.optimizers import AdamW
from keras_bert_zoo.training.outputs import resolve_loss
from keras_bert_zoo.training.packing_options import check_packing
from keras_bert_zoo.training.plan import check_run
from keras_bert_zoo.training.probe import probe_task
from keras_bert_zoo.training.rows import RowBatches
from keras_bert_zoo.training.run_checkpoints import CheckpointWriter
from keras_bert_zoo.training.run_meter import RunMeter
from keras_bert_zoo.training.run_record import run_record, to_json
from keras_bert_zoo.training.static_shapes import check_static, fitting_batches
from keras_bert_zoo.training.strategies import has_workers, on_tpu
from keras_bert_zoo.training.tricks.losses import label_loss
from keras_bert_zoo.training.tricks.options import Tricks
from keras_bert_zoo.training.tricks.step import check_task, kind_of, make_regularizer

__all__ = ["evaluate_task", "fit_task", "make_dataset", "one_batch"]

_logger = logging.getLogger(__name__)

# The options of a run that must be the same when it goes on from a checkpoint.
_FIXED_OPTIONS = ("epochs", "learning_rate", "warmup_fraction", "weight_decay", "global_clipnorm",
                  "seed", "shuffle", "initial_epoch", "optimizer", "schedule", "layer_decay",
                  "average_weights", "patience", "pack_examples")  # fmt: skip
_OTHER_OPTIONS = ("gradient_checkpointing", "accumulation_steps", "steps_per_execution",
                  "probe_epochs")  # fmt: skip

# The options that `compile` replaces.
_OF_OPTIMIZER = ("learning_rate", "warmup_fraction", "weight_decay", "global_clipnorm", "schedule",
                 "layer_decay", "average_weights")  # fmt: skip

# The options that the memory of a run depends on.
_MEMORY_OPTIONS = ("accumulation_steps", "gradient_checkpointing", "optimizer", "average_weights")


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
    tricks: Tricks,
    loss: Any = None,
    **arguments: Any,
) -> keras.callbacks.History:
    """Fine-tunes a task; see `Task.fit` for the arguments and errors."""
    batch_size = 32 if batch_size is None else batch_size
    check_arguments(batch_size=batch_size, **arguments, **asdict(tricks))
    objective: Objective = task.objective()
    check_task(tricks, task, objective.outputs)
    if arguments["pack_examples"]:
        weights = sample_weight is not None
        options = {name: arguments[name] for name in ("probe_epochs", "shuffle")}
        check_packing(kind_of(task, objective.outputs), tricks, weights=weights, **options)
    for name, given in (
        ("loss", loss is not None),
        ("steps_per_execution", arguments["steps_per_execution"] > 1),
        ("average_weights", arguments["average_weights"]),
        ("optimizer", arguments["optimizer"] != "adamw"),
        ("schedule", arguments["schedule"] != "linear"),
        ("layer_decay", arguments["layer_decay"] != 1),
        ("jit_compile", arguments["jit_compile"]),
        ("loss", tricks.changes_loss),
    ):
        if given and task.compiled_by_caller:
            raise ConfigError(f"Give `{name}` to `compile` or to `fit`, not to both.")
    if not task.compiled_by_caller:
        task.jit_compiles = arguments["jit_compile"]
    task.fit_loss = _loss_of_fit(loss, tricks, objective)
    checkpoints = arguments["checkpoints"]
    position = None
    if checkpoints is not None:
        _check_reproducible(x, arguments["shuffle"])
        position = find_position(checkpoints, resume=arguments["resume"])
    strategy = task.distribute_strategy
    if arguments["probe_epochs"] and (has_workers(strategy) or on_tpu(strategy)):
        raise ConfigError("`probe_epochs` is not possible with several workers, nor on TPUs.")

    data = training_data(
        task, objective, x, y, validation_data=validation_data, class_weight=class_weight,
        sample_weight=sample_weight, batch_size=batch_size, callbacks=as_callbacks(callbacks),
        **arguments,
    )  # fmt: skip
    if arguments["check_memory"] and data.rows is not None:
        check_run(
            task, data.rows, batch_size=batch_size, keeps_best=data.validation_data is not None,
            static_shapes=task.static_shapes, tricks=tricks,
            **{name: arguments[name] for name in _MEMORY_OPTIONS},
        )  # fmt: skip
    steps = data.steps if arguments["steps_per_epoch"] is None else arguments["steps_per_epoch"]
    total = None if data.source is None else data.source.total_steps
    if total is not None:
        total = min(total, arguments["epochs"] * steps)
    validation, monitor, hooks = validation_of(task, data, batch_size=batch_size, **arguments)
    if not task.compiled_by_caller:
        # A new optimizer for every call: the schedule of the last call has ended at rate 0.
        with task.distribute_strategy.scope():
            optimizer = default_optimizer(
                steps,
                total_steps=total,
                epochs=arguments["epochs"],
                learning_rate=arguments["learning_rate"],
                warmup_fraction=arguments["warmup_fraction"],
                weight_decay=arguments["weight_decay"],
                global_clipnorm=arguments["global_clipnorm"],
                initial_epoch=arguments["initial_epoch"],
                constant=any(map(sets_the_rate, hooks)),
                optimizer=arguments["optimizer"],
                schedule=arguments["schedule"],
                rate_factors=_rate_factors(task, arguments["layer_decay"]),
                use_ema=arguments["average_weights"],
            )
            compile_task(task, optimizer, jit_compile=arguments["jit_compile"])
    try:
        check_static(task)
    except ConfigError:
        task.jit_compiles = False  # later calls are not refused for this one
        raise
    if checkpoints is not None and not steps:
        raise ConfigError(
            "Expected data with a known number of batches for `checkpoints`, received an unknown "
            "number: give `steps_per_epoch`, or apply tf.data.experimental.assert_cardinality."
        )

    parts = int(arguments["accumulation_steps"])
    _check_parts(task, "accumulation_steps", divided=parts > 1)
    _check_parts(task, "pack_examples", divided=arguments["pack_examples"])
    if arguments["probe_epochs"] and position is None:
        _probe(task, data, arguments["probe_epochs"])
    first = arguments["initial_epoch"]
    epoch, step = (first, 0) if position is None else (position.epoch, position.step)
    done = (epoch - first) * steps + step
    if position is not None and (position.stopped or epoch >= arguments["epochs"]):
        _logger.warning(
            "%s: the run was complete after %s epochs; nothing is trained",
            checkpoints.directory,
            epoch,
        )
    _check_agreement(task, done)
    pieces = data.pieces_after(done)
    if pieces is not None:
        batches = divided_pieces(task, pieces, parts)
    else:
        batches = divided_batches(task, data.batches_after(done), data.rows, batch_size, parts)
    build_shared(task, batches, restored=checkpoints is not None)
    prepare_updates(task, parts)
    guard = StopOnNonFinite(steps, first * steps, done, data.rows_of)
    run = {"steps_per_epoch": steps, "batch_size": batch_size, "data": data.hash}
    run |= {name: arguments[name] for name in _FIXED_OPTIONS} | asdict(tricks)
    run["validates"] = validation is not None
    run = {name: to_json(value) for name, value in run.items()}
    more = {name: to_json(arguments[name]) for name in _OTHER_OPTIONS}
    shown = {name: value for name, value in run.items() if name != "data"} | more
    shown["jit_compile"] = task.jit_compiles
    if task.compiled_by_caller:
        shown = {name: value for name, value in shown.items() if name not in _OF_OPTIMIZER}
        shown["optimizer"] = type(task.optimizer).__name__
    meter = RunMeter(first * steps, total or arguments["epochs"] * steps, shown)
    make_writer = None
    if checkpoints is not None:
        make_writer = functools.partial(
            CheckpointWriter, checkpoints, position, run, steps, guard.check, meter
        )

    def record(history: keras.callbacks.History) -> dict[str, Any]:
        return run_record(
            task, meter, history.history, steps=meter.steps, epochs=len(history.epoch),
            batch_size=int(batch_size), seed=int(arguments["seed"]), data=data.hash,
        )  # fmt: skip

    task.training_record = {}
    try:
        with (
            _checkpointing(task, arguments["gradient_checkpointing"]),
            fitting_batches(),
            _readable(data, lambda: max(done, meter.steps)),
        ):
            history = run_fit(
                task,
                batches,
                validation=validation,
                monitor=monitor,
                patience=arguments["patience"],
                epochs=arguments["epochs"],
                callbacks=[*hooks, guard],
                verbose=verbose,
                restores_best=not arguments["average_weights"],
                initial_epoch=arguments["epochs"] if position and position.stopped else epoch,
                initial_step=step,
                steps_per_epoch=steps if data.repeats else None,
                total_steps=total,
                make_writer=make_writer,
                meter=meter,
                steps_per_execution=max(arguments["steps_per_execution"], task.steps_per_execution),
                parts=parts,
                update=task.updates.apply if parts > 1 else None,
                regularizer=make_regularizer(tricks, objective.outputs, int(arguments["seed"])),
                validation_freq=arguments["validation_freq"],
            )
    except KeyboardInterrupt:
        if meter.steps:
            task.training_record = record(task.history)
        raise
    task.training_record = record(history)
    return history


def _loss_of_fit(loss: Any, tricks: Tricks, objective: Objective) -> keras.losses.Loss | None:
    if loss is None and not tricks.changes_loss:
        return None
    if loss is None:
        return label_loss(
            objective.outputs, label_smoothing=tricks.label_smoothing, focal_loss=tricks.focal_loss
        )
    if tricks.changes_loss:
        raise ConfigError(
            "Expected `loss`, or `label_smoothing` and `focal_loss`, received both: each of them "
            "is a loss."
        )
    return resolve_loss(loss, objective.outputs)


@contextmanager
def _readable(data: TrainingData, step: Callable[[], int]) -> Iterator[None]:
    """Names the damaged file, if the batches of a source cannot be read."""
    try:
        yield
    except tf.errors.OpError:
        if data.source is not None:
            data.source.check(step())
        raise


@contextmanager
def _checkpointing(task: Any, enabled: bool) -> Iterator[None]:
    """Trains with gradient checkpointing, also if the step was traced without it."""
    if not enabled:
        yield
        return
    encoders = [layer for layer in task._flatten_layers() if isinstance(layer, Encoder)]
    blocks = [block for encoder in encoders for block in encoder.blocks]
    before = [block.gradient_checkpointing for block in blocks]
    for encoder in encoders:  # pretraining may have two
        encoder.gradient_checkpointing = True
    task.train_function = None
    task.step_functions.clear()
    try:
        yield
    finally:
        for block, value in zip(blocks, before, strict=True):
            block.gradient_checkpointing = value
        task.train_function = None
        task.step_functions.clear()


def _check_reproducible(x: Any, shuffle: bool) -> None:
    if is_batched(x) and python_batches(x) and shuffle:
        raise ConfigError(
            "Expected `shuffle=False` with `checkpoints` and batches made in Python, received "
            "`shuffle=True`: a later process cannot repeat the order."
        )


def _check_agreement(task: Any, done: int) -> None:
    """Checks that all workers go on from the same step."""
    if not has_workers(task.distribute_strategy):
        return
    strategy = task.distribute_strategy
    steps = strategy.run(lambda: tf.constant(done, tf.int64))
    total = int(strategy.reduce(tf.distribute.ReduceOp.SUM, steps, axis=None))
    if total != done * strategy.num_replicas_in_sync:
        raise ConfigError(
            f"Expected the same checkpoints for all workers, received step {done} here and another "
            "one elsewhere: the directory of the checkpoints must be shared."
        )


def _rate_factors(task: Any, decay: float) -> dict[str, float] | None:
    return None if decay == 1 else layer_rates(task, decay)


def _check_parts(task: Any, option: str, *, divided: bool) -> None:
    if divided and task.loss_unit not in ("rows", "tokens", "objectives"):
        raise ConfigError(
            f"Expected a loss that is a mean over rows or tokens for `{option}`, received "
            f"{type(task.loss).__name__}, which needs the outputs of the whole batch."
        )


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
    from_files = task.batch_source(x, batch_size=batch_size, heldout=True) is not None
    examples = None if from_files or is_batched(x) else task.examples(x, y)
    objective = task.objective(examples)
    batches, _ = labelled_batches(task, objective, x, y, batch_size, sample_weight, steps)
    loss = None if task.compiled_by_caller else (task.fit_loss or objective.loss())
    if not task.compiled or (loss is not None and type(task.loss) is not type(loss)):
        # Not compiled yet, or compiled with the loss of another kind of data.
        with task.distribute_strategy.scope():
            optimizer = task.optimizer if task.compiled else AdamW(DEFAULT_LEARNING_RATE)
            compile_task(task, optimizer, jit_compile=task.jit_compiles)
    build_shared(task, batches)
    hooks = as_callbacks(callbacks)
    with fitting_batches():
        if not (has_workers(task.distribute_strategy) or on_tpu(task.distribute_strategy)):
            return keras.Model.evaluate(
                task, batches, verbose=verbose, callbacks=hooks, return_dict=return_dict
            )
        logs = run_test(task, batches, callbacks=hooks, verbose=verbose)
    return logs if return_dict else task._flatten_metrics_in_order(logs)


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


def _probe(task: Any, data: TrainingData, epochs: int) -> None:
    if not data.objective.probes or data.rows is None:
        raise ConfigError(f"`probe_epochs` is not possible for a {type(task).__name__}.")
    loss = task.loss if task.compiled_by_caller else (task.fit_loss or data.objective.loss())
    probe_task(
        task, data.rows, data.targets, loss, epochs=epochs, sample_weight=data.weights
    )  # fmt: skip
