"""One training run: schedule, early stopping, and the best weights after an interrupt."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training.epochs import (
    StepFunction,
    StepFunctions,
    distribute,
    run_epochs,
    run_validation,
    step_function,
)
from keras_bert_zoo.training.optimizers import make_optimizer
from keras_bert_zoo.training.replicas import Regularizer
from keras_bert_zoo.training.run_checkpoints import CheckpointWriter
from keras_bert_zoo.training.run_meter import RunMeter
from keras_bert_zoo.training.schedules import make_schedule
from keras_bert_zoo.training.step_counts import StepCounts
from keras_bert_zoo.training.summed_gradients import SummedGradients
from keras_bert_zoo.training.throughput import Throughput
from keras_bert_zoo.training.trackers import Tracker


def sets_the_rate(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback is a Keras callback that sets the optimizer's learning rate."""
    return isinstance(
        callback, keras.callbacks.LearningRateScheduler | keras.callbacks.ReduceLROnPlateau
    )


def was_validated(logs: Any) -> bool:
    """Whether an epoch's logs have validation metrics; see `validation_freq` of Keras."""
    return logs is None or "val_loss" in logs


def default_optimizer(
    steps_per_epoch: int,
    *,
    total_steps: int | None = None,
    epochs: int,
    learning_rate: float,
    warmup_fraction: float,
    weight_decay: float,
    global_clipnorm: float | None,
    initial_epoch: int = 0,
    constant: bool = False,
    optimizer: str = "adamw",
    schedule: str = "linear",
    rate_factors: Mapping[str, float] | None = None,
    use_ema: bool = False,
) -> SummedGradients:
    """Returns an optimizer with a linear warm-up and a decay over all steps of a run.

    Args:
        steps_per_epoch: int. Below 1: unknown.
        total_steps: int or None. Steps of the run; None: all epochs are complete.
        epochs: int.
        learning_rate: float. The peak.
        warmup_fraction: float in [0, 1]. Share of the steps in which the rate rises.
        weight_decay: float.
        global_clipnorm: float or None.
        initial_epoch: int. The epoch at which the run continues.
        constant: bool. Whether the rate is constant, so that callbacks can set it.
        optimizer: str. A key of `optimizers.OPTIMIZERS`.
        schedule: str. One of `schedules.SCHEDULES`. Not used with `constant`.
        rate_factors: dict or None. See `layer_rates`.
        use_ema: bool. Whether the run ends with the moving average of the weights.

    Returns:
        SummedGradients.

    Raises:
        ConfigError: the number of steps, the optimizer or the schedule is unknown.
    """
    rate: Any = float(learning_rate)
    if not constant:
        steps = epochs * steps_per_epoch if total_steps is None else total_steps
        if steps < 1:
            raise ConfigError(
                "The number of steps of this dataset is unknown, and the schedule needs it: pass "
                "`steps_per_epoch`, call `compile` first, or apply "
                "tf.data.experimental.assert_cardinality."
            )
        rate = make_schedule(
            schedule,
            rate,
            total_steps=steps,
            warmup_steps=int(warmup_fraction * steps),
            first_step=initial_epoch * steps_per_epoch,
        )
    return make_optimizer(
        optimizer,
        rate,
        weight_decay=weight_decay,
        global_clipnorm=global_clipnorm,
        rate_factors=rate_factors,
        use_ema=use_ema,
    )


class BestEpoch(keras.callbacks.EarlyStopping):
    """Restores the weights of the best epoch; ignores epochs without validation."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Compares the epoch with the best."""
        if logs and self.monitor in logs:
            super().on_epoch_end(epoch, logs)


def run_fit(
    model: keras.Model,
    batches: tf.data.Dataset,
    *,
    validation: tf.data.Dataset | None,
    monitor: tuple[str, str],
    patience: int | None,
    epochs: int,
    callbacks: Sequence[keras.callbacks.Callback],
    verbose: Any,
    restores_best: bool = True,
    parts: int = 1,
    update: Callable[[], None] | None = None,
    make_writer: Callable[[BestEpoch | None], CheckpointWriter] | None = None,
    meter: RunMeter | None = None,
    regularizer: Regularizer | None = None,
    **options: Any,
) -> keras.callbacks.History:
    """Runs the loop over epochs and restores the weights of the best epoch.

    Args:
        model: compiled.
        batches: shuffled batches of one epoch.
        validation: batches to evaluate each epoch on, or None.
        monitor: name of the metric that compares epochs, and "max" or "min".
        patience: int or None. Epochs without improvement before training stops; None: never.
        epochs: int.
        callbacks: Keras callbacks.
        verbose: as in Keras.
        restores_best: bool. Whether the run ends with the weights of the best epoch.
        parts: int. Parts of a batch whose gradients are accumulated.
        update: applies accumulated gradients, with several parts.
        make_writer: makes the callback that saves checkpoints, from the one that holds the best
            epoch; None: no checkpoints.
        meter: RunMeter or None. It measures the run.
        regularizer: see `replicas.train_step`; None: none.
        **options: further arguments of `run_epochs`.

    Returns:
        keras.callbacks.History.

    Raises:
        ConfigError: `patience` without validation data.
        KeyboardInterrupt: raised again, after the best weights so far are restored.
    """
    best = None
    if validation is not None:
        best = BestEpoch(
            monitor[0],
            mode=monitor[1],
            patience=epochs if patience is None else patience,
            restore_best_weights=restores_best,
        )
    elif patience is not None:
        raise ConfigError("`patience` needs `validation_data` to measure improvement on.")
    train = _train_function(model, regularizer, parts=parts, update=update)
    meter = RunMeter() if meter is None else meter
    meter.counts = train.counts
    trackers = [hook for hook in callbacks if isinstance(hook, Tracker)]
    for hook in callbacks:
        if isinstance(hook, Throughput | Tracker):
            hook.attach(meter)
    # The other callbacks see the throughput in the logs.
    first = [hook for hook in callbacks if isinstance(hook, Throughput)]
    rest = [hook for hook in callbacks if not isinstance(hook, Throughput)]
    hooks = [meter, *first, *rest, *([] if best is None else [best])]
    writer = None if make_writer is None else make_writer(best)
    failed = True
    try:
        history = run_epochs(
            model,
            batches,
            train,
            validation=validation,
            run_tests=None if validation is None else _test_function(model),
            epochs=epochs,
            callbacks=[*hooks, *([] if writer is None else [writer])],
            verbose=verbose,
            parts=parts,
            **options,
        )
        failed = False
        return history
    except KeyboardInterrupt:
        try:
            if writer is not None:
                writer.save_interrupted()
        finally:
            if best is not None and best.best_weights is not None:
                model.set_weights(best.best_weights)
        failed = False
        raise
    finally:
        for tracker in trackers:
            if tracker.ends_with_fit:
                tracker.end(failed=failed)


def run_test(
    model: keras.Model,
    batches: tf.data.Dataset,
    *,
    callbacks: Sequence[keras.callbacks.Callback],
    verbose: Any,
) -> dict[str, float]:
    """Evaluates a compiled model on several workers or TPUs, where Keras' `evaluate` fails.

    Args:
        model: compiled.
        batches: batches of `replicas.even_batches`.
        callbacks: Keras callbacks.
        verbose: as in Keras.

    Returns:
        dict, name -> value.
    """
    count = max(0, int(batches.cardinality())) or None
    hooks = keras.callbacks.CallbackList(
        list(callbacks), add_progbar=verbose != 0, verbose=verbose, epochs=1, model=model,
        steps=count,
    )  # fmt: skip
    run_tests = _test_function(model)
    measured = run_validation(model, distribute(model, batches), run_tests, hooks, count)
    return {name: float(value) for name, value in measured.items()}


class CountedSteps:
    """A step function with the counts of its steps.

    Args:
        model: compiled.
        regularizer: see `replicas.train_step`; None: none.
        **options: see `step_function`.
    """

    def __init__(
        self, model: keras.Model, regularizer: Regularizer | None = None, **options: Any
    ) -> None:
        self.counts = StepCounts(model.distribute_strategy)
        step = model.train_step
        if regularizer is not None:
            step = functools.partial(step, regularizer=regularizer)
        self._run = _step_function(model, step, counts=self.counts, **options)

    def __call__(self, iterator: Any, count: int) -> Any:
        """Runs steps; see `StepFunction`."""
        return self._run(iterator, count)


def _step_function(model: keras.Model, step: Callable[[Any], Any], **options: Any) -> StepFunction:
    jit_compile = bool(getattr(model, "jit_compiles", False))
    return step_function(model, step, jit_compile=jit_compile, **options)


def _functions(model: keras.Model) -> StepFunctions:
    """The compiled steps that a task keeps for the next call."""
    return getattr(model, "step_functions", None) or StepFunctions()


def _train_function(
    model: keras.Model, regularizer: Regularizer | None, **options: Any
) -> CountedSteps:
    if regularizer is not None:  # a task keeps only steps without one for the next call
        return CountedSteps(model, regularizer, **options)
    steps: Any = _functions(model).get("train_step", lambda: CountedSteps(model, **options))
    return steps


def _test_function(model: keras.Model) -> StepFunction:
    return _functions(model).get("test_step", lambda: _step_function(model, model.test_step))
