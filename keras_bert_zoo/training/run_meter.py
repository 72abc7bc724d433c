"""Measures a training run: its throughput, and its metrics by step and by epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.errors import CheckpointError
from keras_bert_zoo.schema import ValueType, check, integer, list_of, names_to, number
from keras_bert_zoo.training.keras_metrics import OnLogits
from keras_bert_zoo.training.step_counts import Counts, StepCounts

__all__ = ["POINTS", "RunMeter"]

POINTS = 2000
"""The most points of the curves of a run; beyond it, every second point is dropped."""

_MOST_STEPS = 16  # between two readings, which wait for the device
_READINGS = 200  # of a short run, whose readings may be closer

_NUMBER = number(-1e300, 1e300)
_COUNTS = ValueType(
    f"{len(Counts._fields)} numbers of at least 0",
    lambda value: (
        isinstance(value, list) and len(value) == len(Counts._fields)
        and all(_NUMBER.accepts(item) and item >= 0 for item in value)
    ),
)  # fmt: skip
_PAIR = ValueType(
    "a pair of numbers",
    lambda value: isinstance(value, list) and len(value) == 2 and all(map(_NUMBER.accepts, value)),
)
_CURVES = names_to(list_of(_NUMBER | ValueType("null", lambda value: value is None)))
_STATE = {
    "step": integer(0, 2**53),
    "epoch_begin": integer(0, 2**53),
    "gap": integer(1, 2**53),
    "means": names_to(_PAIR),
    "points": _CURVES,
    "epochs": _CURVES,
} | dict.fromkeys(
    ("total", "cold", "epoch_total", "epoch_cold", "point_total", "point_cold"), _COUNTS
)


class RunMeter(keras.callbacks.Callback):
    """Measures a run of `run_epochs`, and records the curves of its metrics.

    It reads the counters of the steps once in 16 steps, because a reading waits for the device. In
    runs of fewer than 3,200 steps, it reads them up to 200 times. The first step of a process
    compiles the graph; it counts for rates only if an epoch has no other step.

    Args:
        first_step: int. Steps before the run.
        total_steps: int. All steps up to the end of the run; 0: unknown.
        options: of the run, for trackers and records: name -> number, str, bool or None.

    Attributes:
        options: dict.
        counts: StepCounts or None. Those of the step function; None: nothing is measured.
        latest: dict. The throughput between the last two readings; see `figures`.
        last_epoch: dict. The throughput of the last epoch.
        flops: function of Counts that returns their floating-point operations, or None.
        peak: float or None. The measured FLOP/s of all devices.

    Example:
        >>> meter = RunMeter(total_steps=10, options={"epochs": 1})
        >>> meter.steps, meter.total.tokens, meter.options
        (0, 0, {'epochs': 1})
    """

    def __init__(
        self, first_step: int = 0, total_steps: int = 0, options: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.options: dict[str, Any] = dict(options or {})
        self.counts: StepCounts | None = None
        self.flops: Callable[[Counts], float] | None = None
        self.peak: float | None = None
        self.latest: dict[str, float] = {}
        self.last_epoch: dict[str, float] = {}
        self._every = _MOST_STEPS
        if total_steps:
            self._every = min(max((total_steps - first_step) // _READINGS, 1), _MOST_STEPS)
        self._gap = self._every  # steps between two points
        self._first_step = self._step = self._epoch_begin = first_step
        self._points: dict[str, list[Any]] = {"step": []}
        self._epochs: dict[str, list[Any]] = {"step": []}
        self._means: dict[str, tuple[float, float]] = {}  # of the epoch up to the last point
        nothing = Counts()
        # Each is (all steps, the first steps of processes).
        self._now = self._at_epoch = self._at_point = (nothing, nothing)
        self._restored = False
        self._is_training = False

    @property
    def steps(self) -> int:
        """The number of steps of the run so far."""
        return self._step - self._first_step

    @property
    def total(self) -> Counts:
        """The sums over the run so far."""
        return self._now[0]

    def curves(self) -> dict[str, Any]:
        """Returns the curves: {"steps": name -> values, "epochs": name -> values}.

        All lists of a group have one value per point; None: not measured there. "step" is the
        number of steps before the point. The loss and other means by step are those of the steps
        since the point before; other metrics by step are those of the epoch so far.
        """
        copies = ({n: list(v) for n, v in g.items()} for g in (self._points, self._epochs))
        return dict(zip(("steps", "epochs"), copies, strict=True))

    def points_after(self, step: int) -> list[tuple[int, dict[str, float]]]:
        """Returns the points after a step: (step, name -> value)."""
        result = []
        for index in range(len(self._points["step"]) - 1, -1, -1):
            row = {name: values[index] for name, values in self._points.items()}
            at = row.pop("step")
            if at <= step:
                break
            result.append((at, {name: v for name, v in row.items() if v is not None}))
        return result[::-1]

    # === Keras' hooks ===

    def on_train_begin(self, logs: Any = None) -> None:
        """Begins to count."""
        if self.counts is not None:
            self._seen = self.counts.read()
        self._is_cold = True

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the clock."""
        if not self._restored:
            self._epoch_begin, self._at_epoch, self._means = self._step, self._now, {}
        self._restored = False
        self._is_training = True
        self._clock = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Reads the counters, if it is time."""
        self._advance(self._epoch_begin + batch + 1)

    def on_test_begin(self, logs: Any = None) -> None:
        """Stops the clock before the validation."""
        self._end_epoch()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Stops the clock."""
        self._end_epoch()

    # === Checkpoints ===

    def state(self, step: int, *, inside: bool) -> dict[str, Any]:
        """Returns the state after a step, for a checkpoint; `restore` accepts it.

        Args:
            step: int. The number of steps, with those before the run. An interrupt may come before
                `on_train_batch_end`.
            inside: bool. Whether an epoch has begun, or its validation, and is not at its end.
        """
        epochs = self._epochs
        if self._is_training:
            self._advance(step)
            self._read()
        elif inside:  # the run that goes on ends the epoch again
            epochs = {name: values[:-1] for name, values in epochs.items()}
        state: dict[str, Any] = {
            "step": step, "epoch_begin": self._epoch_begin if inside else step, "gap": self._gap,
            "means": self._means, "points": self._points, "epochs": epochs,
        }  # fmt: skip
        for name, (total, cold) in self._marks().items():
            state |= {f"{name}total": list(total), f"{name}cold": list(cold)}
        return state

    def restore(self, state: Mapping[str, Any], where: str) -> None:
        """Goes on from a state.

        Args:
            state: the result of `state`.
            where: str. The file, for messages.

        Raises:
            CheckpointError: the state is damaged.
        """
        check(state, _STATE, where, CheckpointError)
        missing = [name for name in _STATE if name not in state]
        if missing:
            raise CheckpointError(f"{where}: expected the keys {', '.join(missing)}, received none")
        self._step, self._epoch_begin = state["step"], state["epoch_begin"]
        self._gap = state["gap"]
        self._means = {name: (total, weight) for name, (total, weight) in state["means"].items()}
        self._points = {name: list(values) for name, values in state["points"].items()}
        self._epochs = {name: list(values) for name, values in state["epochs"].items()}
        self._now, self._at_epoch, self._at_point = (
            (Counts(*state[f"{name}total"]), Counts(*state[f"{name}cold"]))
            for name in self._marks()
        )
        self._restored = self._step > self._epoch_begin

    def _marks(self) -> dict[str, tuple[Counts, Counts]]:
        return {"": self._now, "epoch_": self._at_epoch, "point_": self._at_point}

    # === Measuring ===

    # Ctrl-C may come at any call. So the new state is computed first and then set at once; what an
    # interrupt prevents, `state` repeats.

    def _advance(self, step: int) -> None:
        if step <= self._step:
            return
        before = self._step
        is_due = step // self._every > before // self._every
        if (is_due or self._is_cold) and self.counts is not None:
            begin = self._now
            self._read()
            self.latest = self.figures(begin, compiling=False)
            if step // self._gap > before // self._gap:
                self._add_point(step)
                return
        self._step = step

    def _read(self) -> None:
        """Adds to the sums what happened since the last reading."""
        if self.counts is None:
            return
        seen, clock = self.counts.read(), time.perf_counter()
        new = seen.minus(self._seen)._replace(seconds=clock - self._clock)
        total, cold = self._now
        now = (total.plus(new), cold.plus(new) if self._is_cold else cold)
        is_cold = self._is_cold and not new.rows
        self._seen, self._clock, self._now, self._is_cold = seen, clock, now, is_cold

    def figures(self, begin: tuple[Counts, Counts], *, compiling: bool = True) -> dict[str, float]:
        """Returns the throughput since a moment of the run, as `Throughput` names it.

        Args:
            begin: the sums at that moment.
            compiling: bool. Whether the step that compiles the graph has rates, if no other does.
        """
        total, cold = (now.minus(then) for now, then in zip(self._now, begin, strict=True))
        if not total.tokens:
            return {}
        result = {
            "learning_rate": _rate(self.model.optimizer),
            "padding_share": 1 - total.tokens / total.places,
        }
        warm = total.minus(cold)
        if not warm.tokens:
            if not compiling:
                return result
            warm = total
        seconds = max(warm.seconds, 1e-9)
        result["tokens_per_second"] = warm.tokens / seconds
        result["waiting_share"] = min(warm.waited / seconds, 1.0)
        if self.flops is not None and self.peak:
            result["mfu"] = self.flops(warm) / seconds / self.peak
        return result

    def _add_point(self, step: int) -> None:
        results = {name: np.asarray(v) for name, v in self.model.get_metrics_result().items()}
        values = {name: float(value) for name, value in results.items() if not value.ndim}
        means = _means(self.model)
        for name, (total, count) in means.items():
            earlier, weight = self._means.get(name, (0.0, 0.0))
            if name in values and count > weight:
                values[name] = (total - earlier) / (count - weight)
        figures = self.figures(self._at_point, compiling=False)
        points = _appended(self._points, {"step": step, **values, **figures})
        gap, at_point = self._gap, self._now
        if len(points["step"]) > POINTS:
            gap *= 2
            # The last point has no pair, and is dropped.
            means, at_point = self._means, self._at_point
            for name, column in points.items():
                pairs = zip(column[::2], column[1::2], strict=False)
                last = name in ("step", "learning_rate")
                points[name] = [pair[1] if last else _middle(pair) for pair in pairs]
        self._points, self._means, self._gap = points, means, gap
        self._at_point, self._step = at_point, step

    def _end_epoch(self) -> None:
        if not self._is_training:
            return
        self._read()
        figures = self.figures(self._at_epoch)
        seconds = self.total.seconds - self._at_epoch[0].seconds
        epochs = _appended(self._epochs, {"step": self._step, "seconds": seconds, **figures})
        self._epochs, self.last_epoch, self._is_training = epochs, figures, False


def _appended(
    columns: Mapping[str, list[Any]], values: Mapping[str, float]
) -> dict[str, list[Any]]:
    """Returns columns with one more row; a value that is missing or not finite is None."""
    count = len(columns["step"])
    result = {}
    for name in {**columns, **values}:
        value = values.get(name)
        if isinstance(value, float):
            # Six digits are enough for curves, and keep the file small.
            value = float(f"{value:.6g}") if math.isfinite(value) else None
        result[name] = [*columns.get(name, [None] * count), value]
    return result


def _middle(pair: tuple[float | None, float | None]) -> float | None:
    values = [value for value in pair if value is not None]
    return float(f"{sum(values) / len(values):.6g}") if values else None


def _means(model: keras.Model) -> dict[str, tuple[float, float]]:
    """The sums and weights of the metrics that are means over the epoch so far."""
    result = {}
    for metric in model.metrics:
        for each in getattr(metric, "metrics", None) or [metric]:
            inner = each.metric if isinstance(each, OnLogits) else each
            if getattr(type(inner), "result", None) is not keras.metrics.Mean.result:
                continue  # not a mean, or a function of one, such as its root
            sums = (np.asarray(tf.convert_to_tensor(v)) for v in (inner.total, inner.count))
            total, weight = map(float, sums)
            if math.isfinite(total):
                result[each.name] = (total, weight)
    return result


def _rate(optimizer: Any) -> float:
    """The learning rate of the last update; Keras' property is that of the next one."""
    rate = optimizer._learning_rate
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        rate = rate(keras.ops.maximum(optimizer.iterations - 1, 0))
    return float(keras.ops.convert_to_numpy(rate))
