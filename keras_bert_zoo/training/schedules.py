"""Learning rate schedules with a warm-up, over steps or over a budget of time."""

from __future__ import annotations

import math
from time import monotonic
from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training.arguments import check_arguments
from keras_bert_zoo.training.strategies import has_workers
from keras_bert_zoo.validation import check_choice, check_integer, check_number

__all__ = [
    "SCHEDULES",
    "BudgetDecay",
    "BudgetTimer",
    "WarmupDecay",
    "WarmupLinearDecay",
    "budget_variables",
    "make_schedule",
]

SCHEDULES = ("linear", "cosine", "polynomial", "constant", "inverse_sqrt")
"""Kinds of decay, for `make_schedule`. The names are those of transformers."""

_BUDGET_KINDS = tuple(kind for kind in SCHEDULES if kind != "inverse_sqrt")
_WITHOUT_END = ("constant", "inverse_sqrt")  # they do not decay to a final rate

# The time scale of "inverse_sqrt" without a warm-up (transformers, get_inverse_sqrt_schedule).
_TIMESCALE = 10_000


@keras.saving.register_keras_serializable(package="keras_bert_zoo")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly from 0 to `learning_rate`, then decays.

    With `warmup_steps` w and `total_steps` T, the decay starts at step w. From there on, with the
    progress p = (step - w) / (T - w), the rate is `learning_rate` times

    - "linear": 1 - p;
    - "cosine": (1 + cos(pi p)) / 2;
    - "polynomial": (1 - p) ** `power`;
    - "constant": 1;
    - "inverse_sqrt": sqrt(w / step), without an end. Without a warm-up, it is
      sqrt(s / (s + step)) with s = 10,000.

    The first three end at `final_fraction` and stay there after step T.

    These are the factors of `get_scheduler` in transformers, at the same step: "cosine" with a
    final fraction is "cosine_with_min_lr", and "constant" is "constant_with_warmup". Only the
    warm-up differs. Steps start at 0, where transformers has a rate of 0 and wastes the step. Here
    the factor is (step + 1) / (w + 1): that of transformers at step + 1, with w + 1 warm-up steps.

    Args:
        learning_rate: float. The peak.
        total_steps: int. Training steps; the decay ends here.
        warmup_steps: int. Steps of the rise.
        first_step: int. The step of the schedule at step 0 of the optimizer, to continue a run.
        kind: str. One of `SCHEDULES`.
        power: float. Of the polynomial.
        final_fraction: float in [0, 1]. The last rate, as a fraction of the peak.

    Call arguments:
        step: int, or a scalar tensor.

    Returns:
        float32 scalar.

    Raises:
        ConfigError: `warmup_steps` is not in [0, total_steps], `total_steps` is below 1, or an
            argument is out of range or does not belong to the kind.

    Example:
        >>> schedule = WarmupDecay(1.0, total_steps=10, warmup_steps=2, kind="polynomial", power=2)
        >>> [round(float(schedule(step)), 3) for step in (0, 1, 2, 6, 10)]
        [0.333, 0.667, 1.0, 0.25, 0.0]

    Source: google-research/bert, optimization.py ("linear"); transformers, optimization.py.
    """

    def __init__(
        self,
        learning_rate: float,
        *,
        total_steps: int,
        warmup_steps: int = 0,
        first_step: int = 0,
        kind: str = "linear",
        power: float = 1.0,
        final_fraction: float = 0.0,
    ) -> None:
        super().__init__()
        check_arguments(learning_rate=learning_rate)
        if total_steps < 1 or not 0 <= warmup_steps <= total_steps:
            raise ConfigError(
                "Expected 0 <= `warmup_steps` <= `total_steps` and `total_steps` >= 1, received "
                f"{warmup_steps} and {total_steps}."
            )
        check_integer("first_step", first_step, minimum=0)
        _check_kind(kind, SCHEDULES, power, final_fraction)
        self.learning_rate = learning_rate
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.first_step = first_step
        self.kind = kind
        self.power = power
        self.final_fraction = final_fraction

    def __call__(self, step: Any) -> tf.Tensor:
        """Returns the rate at `step`."""
        step = tf.cast(step, tf.float32) + float(self.first_step)
        rise = (step + 1.0) / float(self.warmup_steps + 1)
        if self.kind == "inverse_sqrt":
            scale = float(self.warmup_steps or _TIMESCALE)
            fall = tf.sqrt(scale / (scale + tf.maximum(0.0, step - self.warmup_steps)))
        else:
            left = (self.total_steps - step) / float(max(1, self.total_steps - self.warmup_steps))
            fall = _decay(self.kind, left, self.power, self.final_fraction)
        return self.learning_rate * tf.clip_by_value(tf.minimum(rise, fall), 0.0, 1.0)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "learning_rate": self.learning_rate,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "first_step": self.first_step,
            "kind": self.kind,
            "power": self.power,
            "final_fraction": self.final_fraction,
        }


@keras.saving.register_keras_serializable(package="keras_bert_zoo")
class WarmupLinearDecay(WarmupDecay):
    """Rises linearly from 0 to `learning_rate`, then falls linearly to 0.

    It is `WarmupDecay` of the kind "linear", under the name that earlier files contain.

    Args:
        learning_rate: float. The peak.
        total_steps: int. Training steps; the rate is 0 from here on.
        warmup_steps: int. Steps of the rise.
        first_step: int. The step of the schedule at step 0 of the optimizer, to continue a run.

    Call arguments:
        step: int, or a scalar tensor.

    Returns:
        float32 scalar.

    Raises:
        ConfigError: `warmup_steps` is not in [0, total_steps], or `total_steps` is below 1.

    Source: google-research/bert, optimization.py.
    """

    def __init__(
        self,
        learning_rate: float,
        *,
        total_steps: int,
        warmup_steps: int = 0,
        first_step: int = 0,
    ) -> None:
        super().__init__(
            learning_rate,
            total_steps=total_steps,
            warmup_steps=warmup_steps,
            first_step=first_step,
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = super().get_config()
        names = ("learning_rate", "total_steps", "warmup_steps", "first_step")
        return {name: config[name] for name in names}


@keras.saving.register_keras_serializable(package="keras_bert_zoo")
class BudgetDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule over a budget of wall-clock time, for runs whose number of steps is unknown.

    The progress is `elapsed / budget_seconds`, at most 1. The rate rises linearly from 0 to
    `learning_rate` in the first `warmup_fraction` of the budget, then decays as in `WarmupDecay`.
    `BudgetTimer` measures the time and ends the training. The rate of the first batch of a warm-up
    is 0.

    Args:
        learning_rate: float. The peak.
        budget_seconds: float. Seconds of training.
        warmup_fraction: float in [0, 1). Share of the budget in which the rate rises.
        kind: str. One of "linear", "cosine", "polynomial" and "constant".
        power: float. Of the polynomial.
        final_fraction: float in [0, 1]. The last rate, as a fraction of the peak.
        elapsed: float. Seconds that are used up, to continue a run.

    Call arguments:
        step: ignored.

    Returns:
        float32 scalar.

    Raises:
        ConfigError: an argument is out of range or does not belong to the kind.

    Attributes:
        elapsed: keras.Variable, float32. Seconds that are used up. `get_config` contains them, so
            files with the optimizer's configuration do, too. Checkpoints save and restore the
            variable: `tf.train.Checkpoint(elapsed=schedule.elapsed.value)`.

    Example:
        >>> schedule = BudgetDecay(1.0, budget_seconds=100, warmup_fraction=0.2)
        >>> for seconds in (10, 20, 60):
        ...     _ = schedule.elapsed.assign(seconds)
        ...     print(seconds, round(float(schedule(0)), 3))
        10 0.5
        20 1.0
        60 0.5

    Source: arXiv 2104.07705, section 3 (a budget of one day).
    """

    def __init__(
        self,
        learning_rate: float,
        *,
        budget_seconds: float,
        warmup_fraction: float = 0.0,
        kind: str = "linear",
        power: float = 1.0,
        final_fraction: float = 0.0,
        elapsed: float = 0.0,
    ) -> None:
        super().__init__()
        check_arguments(learning_rate=learning_rate)
        check_number("budget_seconds", budget_seconds, minimum=0, exclusive=True)
        check_number("elapsed", elapsed, minimum=0)
        if check_number("warmup_fraction", warmup_fraction, minimum=0) >= 1:
            raise ConfigError(
                f"Expected `warmup_fraction` to be below 1, received {warmup_fraction!r}: the "
                "decay needs the rest of the budget."
            )
        _check_kind(kind, _BUDGET_KINDS, power, final_fraction)
        self.learning_rate = learning_rate
        self.budget_seconds = budget_seconds
        self.warmup_fraction = warmup_fraction
        self.kind = kind
        self.power = power
        self.final_fraction = final_fraction
        self.elapsed = keras.Variable(
            float(elapsed),
            dtype="float32",
            trainable=False,
            aggregation="only_first_replica",
            name="elapsed",
        )

    def __call__(self, step: Any) -> tf.Tensor:
        """Returns the rate after the elapsed time."""
        progress = tf.convert_to_tensor(self.elapsed) / self.budget_seconds
        factor = _decay(
            self.kind,
            (1.0 - progress) / (1.0 - self.warmup_fraction),
            self.power,
            self.final_fraction,
        )
        if self.warmup_fraction:
            factor = tf.minimum(progress / self.warmup_fraction, factor)
        return self.learning_rate * tf.clip_by_value(factor, 0.0, 1.0)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, with the seconds that are used up now."""
        return {
            "learning_rate": self.learning_rate,
            "budget_seconds": self.budget_seconds,
            "warmup_fraction": self.warmup_fraction,
            "kind": self.kind,
            "power": self.power,
            "final_fraction": self.final_fraction,
            "elapsed": _seconds(self.elapsed),
        }


class BudgetTimer(keras.callbacks.Callback):
    """Measures the time of a `BudgetDecay`, and ends the training when the budget is used up.

    It updates `schedule.elapsed` at the end of each batch. Validation between epochs is part of
    the time. A later run continues at `schedule.elapsed`; the time between runs does not count.

    Args:
        schedule: BudgetDecay, the learning rate of the optimizer.

    Raises:
        ConfigError: not a BudgetDecay.

    Example:
        `task.fit(texts, labels, epochs=100, callbacks=[BudgetTimer(schedule)])` after
        `task.compile(AdamW(schedule))`.
    """

    def __init__(self, schedule: BudgetDecay) -> None:
        super().__init__()
        if not isinstance(schedule, BudgetDecay):
            raise ConfigError(f"Expected the BudgetDecay of the optimizer, received {schedule!r}.")
        self.schedule = schedule
        self._start: float | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Stops the clock of an earlier run.

        Raises:
            ConfigError: several workers train, whose clocks differ.
        """
        if has_workers(self.model.distribute_strategy):
            raise ConfigError("BudgetTimer is not possible with several workers: clocks differ.")
        self._start = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the clock, where a checkpoint has set it."""
        if self._start is None:
            self._start = monotonic() - _seconds(self.schedule.elapsed)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Updates the elapsed time."""
        elapsed = monotonic() - (self._start or 0.0)
        self.schedule.elapsed.assign(elapsed)
        if elapsed >= self.schedule.budget_seconds:
            self.model.stop_training = True


def budget_variables(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """Returns the elapsed time of the optimizer's `BudgetDecay`, for checkpoints; or nothing."""
    schedule = getattr(optimizer, "_learning_rate", None)
    return [schedule.elapsed] if isinstance(schedule, BudgetDecay) else []


def make_schedule(
    kind: str,
    learning_rate: float,
    *,
    total_steps: int,
    warmup_steps: int = 0,
    first_step: int = 0,
    power: float = 1.0,
    final_fraction: float = 0.0,
) -> WarmupDecay:
    """Returns a learning rate schedule by its name.

    Args:
        kind: str. One of `SCHEDULES`.
        learning_rate: float. The peak.
        total_steps: int. Training steps.
        warmup_steps: int. Steps of the rise.
        first_step: int. The step of the schedule at step 0 of the optimizer, to continue a run.
        power: float. Of the polynomial.
        final_fraction: float in [0, 1]. The last rate, as a fraction of the peak.

    Returns:
        WarmupDecay.

    Raises:
        ConfigError: the kind is unknown, or an argument is out of range.

    Example:
        >>> round(float(make_schedule("cosine", 2.0, total_steps=10)(5)), 3)
        1.0
    """
    return WarmupDecay(
        learning_rate,
        total_steps=total_steps,
        warmup_steps=warmup_steps,
        first_step=first_step,
        kind=kind,
        power=power,
        final_fraction=final_fraction,
    )


def _decay(kind: str, left: tf.Tensor, power: float, final_fraction: float) -> tf.Tensor:
    """Returns the factor of the rate. `left` is the share of the decay that is left."""
    left = tf.clip_by_value(left, 0.0, 1.0)
    if kind == "constant":
        return tf.ones_like(left)
    if kind == "cosine":
        # Equal to (1 + cos(pi (1 - left))) / 2, but exact near the end.
        left = tf.sin(0.5 * math.pi * left) ** 2
    elif kind == "polynomial":
        left = left**power
    return left * (1.0 - final_fraction) + final_fraction


def _check_kind(kind: str, kinds: tuple[str, ...], power: float, final_fraction: float) -> None:
    """Checks the arguments of a decay."""
    check_choice("kind", kind, kinds)
    check_number("power", power, minimum=0, exclusive=True)
    check_number("final_fraction", final_fraction, minimum=0, maximum=1)
    if power != 1 and kind != "polynomial":
        raise ConfigError(f'Expected kind="polynomial" with `power` = {power}, received {kind!r}.')
    if final_fraction and kind in _WITHOUT_END:
        raise ConfigError(
            f"Expected `final_fraction` = 0 with kind={kind!r}, which has no end, received "
            f"{final_fraction}."
        )


def _seconds(elapsed: keras.Variable) -> float:
    return float(keras.ops.convert_to_numpy(elapsed))
