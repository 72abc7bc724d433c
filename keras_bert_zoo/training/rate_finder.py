"""The range test of the learning rate: a short run with a rising rate, which restores the task."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError, TrainingError
from keras_bert_zoo.training.arguments import as_callbacks
from keras_bert_zoo.training.compiling import compile_task
from keras_bert_zoo.training.epochs import StepFunctions
from keras_bert_zoo.validation import check_integer, check_number

__all__ = [
    "RateTest",
    "find_learning_rate",
    "lowest_step",
    "smooth",
    "suggest_rate",
    "without_own_options",
]

MIN_RATE, MAX_RATE, STEPS = 1e-7, 1.0, 100
"""The defaults of `find_learning_rate`."""

SMOOTHING = 0.9
"""The share of the earlier losses in the moving average."""

DIVERGENCE = 4.0
"""The test ends when the smoothed loss is this many times its minimum, and above the first one."""

_BELOW_MINIMUM = 10.0  # the suggestion is the rate of the minimum, divided by this

# Arguments of `fit` that the range test sets itself, or that have no meaning for it.
_OWN_OPTIONS = (
    "epochs", "learning_rate", "warmup_fraction", "schedule", "average_weights", "patience",
    "initial_epoch", "steps_per_epoch", "steps_per_execution", "validation_data",
    "validation_split", "validation_steps", "validation_batch_size", "validation_freq",
    "checkpoints", "resume",
)  # fmt: skip


def without_own_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of `fit` that `find_learning_rate` accepts."""
    return {name: value for name, value in options.items() if name not in _OWN_OPTIONS}


@dataclass(frozen=True)
class RateTest:
    """The result of a range test.

    Args:
        rates: float64 (steps,). The learning rate of each step, rising.
        losses: float64 (steps,). The loss of each step's batch; the last may not be finite.
        smoothed: float64 (steps,). Their moving average; see `smooth`.
        suggestion: float or None. See `suggest_rate`.
        diverged: bool. Whether the loss diverged before the highest rate.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggestion: float | None
    diverged: bool

    @property
    def lowest(self) -> int | None:
        """The step of `lowest_step`."""
        return lowest_step(self.smoothed)


def smooth(losses: np.ndarray, share: float = SMOOTHING) -> np.ndarray:
    """Computes the exponential moving average of losses, corrected for its start as in Adam.

    Args:
        losses: float (steps,).
        share: float in [0, 1). The share of the earlier losses.

    Returns:
        float64 (steps,).

    Example:
        >>> smooth(np.array([4.0, 2.0]), share=0.5).round(4).tolist()
        [4.0, 2.6667]
    """
    averages, average = [], 0.0
    for step, loss in enumerate(np.asarray(losses, np.float64), start=1):
        average = share * average + (1 - share) * loss
        averages.append(average / (1 - share**step))
    return np.array(averages)


def lowest_step(smoothed: np.ndarray) -> int | None:
    """Returns the step with the lowest smoothed loss after the first tenth of the steps.

    The first values are averages of few losses, and the lowest of them may be chance.

    Args:
        smoothed: float (steps,); NaN and infinity are ignored.

    Returns:
        int, from 0; None if the loss never falls below its average over the first tenth.

    Example:
        >>> lowest_step(np.array([3.0, 1.0, 2.0]))
        1
    """
    start = max(1, len(smoothed) // 10)
    finite = np.where(np.isfinite(smoothed), smoothed, np.inf)
    if len(finite) <= start or finite[start:].min() >= finite[start - 1]:
        return None
    return start + int(finite[start:].argmin())


def suggest_rate(rates: np.ndarray, smoothed: np.ndarray) -> float | None:
    """Returns a tenth of the rate with the lowest smoothed loss.

    At the minimum of the curve the rate is already too large, because the loss stops falling. A
    tenth of it is on the falling part.

    Args:
        rates: float (steps,), rising.
        smoothed: float (steps,), the smoothed losses.

    Returns:
        float; None without a `lowest_step`.

    Example:
        >>> suggest_rate(np.array([1e-5, 1e-4, 1e-3]), np.array([3.0, 1.0, 2.0]))
        1e-05

    Source: arXiv 1506.01186, section 3.3, reads the rate off the curve. The rule is that of S.
    Gugger, "How Do You Find A Good Learning Rate" (2018), and of `lr_find` in fastai ("minimum").
    """
    lowest = lowest_step(smoothed)
    return None if lowest is None else float(rates[lowest]) / _BELOW_MINIMUM


def find_learning_rate(
    task: Any,
    x: Any,
    y: Any = None,
    *,
    min_rate: float = MIN_RATE,
    max_rate: float = MAX_RATE,
    steps: int = STEPS,
    verbose: Any = 0,
    callbacks: Any = (),
    **options: Any,
) -> RateTest:
    """Trains for some steps with a learning rate that rises exponentially, and restores the task.

    The run is one of `fit`, with its strategy, optimizer and accumulation. It ends early when the
    loss diverges: when the smoothed loss is 4 times its minimum and above the first one, or is not
    finite. Afterwards the weights, the state of dropout, the compiled optimizer, loss and metrics
    and all attributes of the task are as before. With an optimizer from `compile`, the test uses a
    new one with the same options.

    Args:
        task: TrainableTask.
        x: as for `fit`. The data is repeated if it has fewer batches than `steps`.
        y: as for `fit`.
        min_rate: float. The rate of the first step.
        max_rate: float. The rate of the last step.
        steps: int, at least 2.
        verbose: as for `fit`.
        callbacks: Keras callbacks.
        **options: further arguments of `fit`, such as `batch_size`, `optimizer`, `layer_decay`,
            `accumulation_steps`, `class_weight` and `seed`.

    Returns:
        RateTest.

    Raises:
        ConfigError: an argument is out of range, or one of `fit` that has no meaning here.
        DataError: as for `fit`.
        TrainingError: the gradients of the first steps are not finite.

    Example: `find_learning_rate(task, texts, labels, batch_size=16).suggestion`

    Source: arXiv 1506.01186, section 3.3.
    """
    check_integer("steps", steps, minimum=2)
    for name, value in (("min_rate", min_rate), ("max_rate", max_rate)):
        check_number(name, value, minimum=0)
    if not 0 < min_rate < max_rate:
        raise ConfigError(
            "Expected rates with 0 < `min_rate` < `max_rate`, received "
            f"`min_rate={min_rate}` and `max_rate={max_rate}`."
        )
    unused = [name for name in options if name in _OWN_OPTIONS]
    if unused:
        raise ConfigError(
            f"Expected options of `fit` that a range test can use, received {', '.join(unused)}: "
            "leave out the length of the training, its schedule, validation and checkpoints."
        )
    rates = np.geomspace(min_rate, max_rate, steps)
    recorder = _Recorder(rates)
    with _restored(task):
        if task.compiled_by_caller:
            _compile_copy(task)
        try:
            task.fit(
                x, y, epochs=1, steps_per_epoch=steps, verbose=verbose,
                callbacks=[recorder, *as_callbacks(callbacks)], **options,
            )  # fmt: skip
        except TrainingError:  # gradients that are not finite
            if len(recorder.losses) < 2:  # not because of the rate
                raise
            recorder.diverged = True
    losses = np.array(recorder.losses)
    smoothed = smooth(losses)
    return RateTest(
        rates[: len(losses)], losses, smoothed, suggest_rate(rates, smoothed), recorder.diverged
    )


class _Recorder(keras.callbacks.LearningRateScheduler):
    """Sets the rate of each step, records its loss, and ends the run when the loss diverges.

    `fit` uses a constant rate with such a callback.
    """

    def __init__(self, rates: np.ndarray) -> None:
        super().__init__(lambda epoch, rate: rate)
        self.rates = rates
        self.losses: list[float] = []
        self.diverged = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Does nothing: the rate is set in every step."""

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Sets the rate; the loss that is measured is that of this step alone."""
        self.model.reset_metrics()
        self.model.optimizer.learning_rate = float(self.rates[batch])

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Records the loss, of all replicas."""
        if self.diverged:  # several workers end an epoch together
            return
        self.losses.append(float(self.model.get_metrics_result()["loss"]))
        smoothed = smooth(np.array(self.losses))
        last, least = float(smoothed[-1]), float(np.min(smoothed))
        if not math.isfinite(last) or last > max(DIVERGENCE * least, smoothed[0]):
            self.diverged = self.model.stop_training = True


@contextmanager
def _restored(task: Any) -> Iterator[None]:
    """Restores the variables and the attributes of a task after the block."""
    # Copies: on CPU, NumPy would see the memory of a variable.
    values = [(variable, np.array(tf.convert_to_tensor(variable))) for variable in task.variables]
    attributes = dict(vars(task))
    task.step_functions = StepFunctions()  # compiled steps belong to their optimizer
    try:
        yield
    finally:
        vars(task).clear()  # `setattr` of Keras would wrap and track the values again
        vars(task).update(attributes)
        for variable, value in values:
            variable.assign(value)


def _compile_copy(task: Any) -> None:
    """Compiles a task again, with a new optimizer of the same options and a rate to be set."""
    before = task.optimizer
    with task.distribute_strategy.scope():
        optimizer = type(before).from_config(before.get_config() | {"learning_rate": MIN_RATE})
        for name in ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern"):
            if hasattr(before, name):  # not part of the config
                setattr(optimizer, name, getattr(before, name))
        arguments = {**task._compile_arguments(), "metrics": [], "weighted_metrics": None}
        arguments["steps_per_execution"] = 1
        compile_task(task, optimizer, arguments.pop("loss"), **arguments)
