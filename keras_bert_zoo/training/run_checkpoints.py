"""Writes the checkpoints of a training run, and restores the one that it goes on from."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.checkpoints.file_names import SAFETENSORS_FILE
from keras_bert_zoo.checkpoints.safetensors import open_safetensors, write_safetensors
from keras_bert_zoo.directories.renames import rename_new
from keras_bert_zoo.directories.replacing import (
    find_directory,
    replace_directory,
    sync_name,
    sync_tree,
    write_aside,
)
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.training.checkpoints import (
    STATE_FILE,
    STATE_VERSION,
    Checkpoints,
    Position,
    saved_steps,
)
from keras_bert_zoo.training.run_meter import RunMeter
from keras_bert_zoo.training.run_record import from_json, to_json
from keras_bert_zoo.training.schedules import budget_variables
from keras_bert_zoo.training.strategies import has_workers, is_chief

__all__ = ["CheckpointWriter"]

BEST = "best"
_PARTS = re.compile(rf"{STATE_FILE}|model.*\.safetensors(\.index\.json)?")


# The attributes of Keras' EarlyStopping that a run needs to go on.
_EARLY_STOPPING = ("best", "best_epoch", "wait")


class _Records(NamedTuple):
    """The records of a run at the end of its last epoch."""

    epochs: list[int]
    history: dict[str, list[Any]]
    best: dict[str, Any] | None


class CheckpointWriter(keras.callbacks.Callback):
    """Saves checkpoints during a run, and restores the one that it goes on from.

    Args:
        checkpoints: Checkpoints.
        position: what the run goes on from, or None.
        run: options of the run that must not change: name -> number, str, bool or None.
        steps_per_epoch: int. Steps per epoch.
        check: raises TrainingError if a step has failed; a checkpoint must not contain such a step.
        meter: RunMeter of the run.
        best: the callback that holds the best epoch, or None.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        position: Position | None,
        run: Mapping[str, Any],
        steps_per_epoch: int,
        check: Callable[[], None],
        meter: RunMeter,
        best: keras.callbacks.EarlyStopping | None,
    ) -> None:
        super().__init__()
        self._checkpoints = checkpoints
        self._position = position
        self._run = {name: to_json(value) for name, value in run.items()}
        self._steps_per_epoch = steps_per_epoch
        self._check = check
        self._meter = meter
        self._best = best
        self._records = _Records([], {}, None)
        self._epoch = int(run["initial_epoch"]) if position is None else position.epoch
        self._saved_step = self._epoch * steps_per_epoch
        self._saved_at = time.monotonic()
        self._saved_best: int | None = None
        self._first_update: int | None = None
        self._train_metrics: list[np.ndarray] | None = None
        if position is not None:
            _check_same(position, self._run)
            self._saved_step += position.step

    def on_train_begin(self, logs: Any = None) -> None:
        """Restores the variables and early stopping."""
        if (
            has_workers(self.model.distribute_strategy)
            and self._checkpoints.every_minutes is not None
        ):
            raise ConfigError(
                "Expected `every_steps` with several workers, whose clocks differ, received "
                f"`every_minutes={self._checkpoints.every_minutes}`."
            )
        self._checkpoints.directory.mkdir(parents=True, exist_ok=True)
        if self._position is not None:
            state = self._position.state
            _restore(self._position.path, {"state": self._variables()})
            history = {
                name: [from_json(v) for v in values] for name, values in state["history"].items()
            }
            self._records = _Records(state["epochs"], history, state["best"])
            self._meter.restore(state["meter"], str(self._position.path / STATE_FILE))
            if self._best is not None and state["best"] is not None:
                for name in _EARLY_STOPPING:
                    setattr(self._best, name, from_json(state["best"][name]))
                if self._best.restore_best_weights:
                    self._best.best_weights = _read(self._checkpoints.directory / BEST, "state")
                    self._saved_best = self._best.best_epoch
        self._first_update = int(self.model.updates.count.numpy()) - self._saved_step

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Restores the history, and the metrics of an epoch that goes on."""
        self._epoch = epoch
        position = self._restore_history()
        if position is not None and position.step:
            _restore(position.path, {"metric": self._metrics()})

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Saves a checkpoint if one is due."""
        step = batch + 1
        every, minutes = self._checkpoints.every_steps, self._checkpoints.every_minutes
        number = self._epoch * self._steps_per_epoch + step
        due = every is not None and number // every > self._saved_step // every
        if minutes is not None:
            due |= time.monotonic() - self._saved_at >= 60 * minutes
        if due and step < self._steps_per_epoch:  # it is saved at the end of the epoch
            self._save(step)

    def on_test_begin(self, logs: Any = None) -> None:
        """Keeps the metrics of training, which are reset for the validation."""
        self._train_metrics = [_value(variable) for variable in self._metrics()]

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Saves a checkpoint, and the best weights if they are new."""
        best = self._best
        if best is not None and best.best_weights is not None:
            if best.best_epoch != self._saved_best and is_chief(self.model.distribute_strategy):
                _write_best(self._checkpoints.directory / BEST, best.best_weights)
            self._saved_best = best.best_epoch
        history = {name: list(values) for name, values in self._records.history.items()}
        for name, value in (logs or {}).items():
            history.setdefault(name, []).append(to_json(value))
        # In one step: an interrupt before it repeats the end of this epoch.
        self._records, self._epoch = (
            _Records([*self._records.epochs, epoch], history, _early_stopping(best)),
            epoch + 1,
        )
        self._train_metrics = None
        self._save(0)

    def on_train_end(self, logs: Any = None) -> None:
        """Restores the history of a run that was complete."""
        self._restore_history()

    def save_interrupted(self) -> None:
        """Saves a checkpoint after an interrupt at any time.

        With several workers, nothing is saved: they are interrupted at different steps.

        Raises:
            CheckpointError: it cannot be written. Earlier checkpoints are whole.
            TrainingError: a step of the run has failed.
        """
        if self._first_update is None or has_workers(self.model.distribute_strategy):
            return
        number = int(self.model.updates.count.numpy()) - self._first_update
        if number > self._saved_step:
            self._save(number - self._epoch * self._steps_per_epoch)

    def _restore_history(self) -> Position | None:
        """Restores the history once; returns the position of the run that goes on."""
        position, self._position = self._position, None
        if position is not None:
            self.model.history.epoch = list(self._records.epochs)
            self.model.history.history = {
                name: list(values) for name, values in self._records.history.items()
            }
        return position

    def _save(self, step: int) -> None:
        self._check()
        # All workers read, because the metrics of several workers are summed for it.
        metrics = self._train_metrics
        if metrics is None:
            metrics = [_value(variable) for variable in self._metrics()]
        number = self._epoch * self._steps_per_epoch + step
        measured = self._meter.state(number, inside=step > 0)
        if is_chief(self.model.distribute_strategy):
            state = {
                "epoch": self._epoch, "step": step, "run": self._run,
                "stopped": bool(self.model.stop_training), "meter": measured,
                **self._records._asdict(),
            }  # fmt: skip
            values = {"state": [_value(v) for v in self._variables()], "metric": metrics}
            directory = self._checkpoints.directory
            _write_step(directory / f"step-{number:08d}", values, state)
            for path in saved_steps(directory, complete=False)[: -self._checkpoints.keep]:
                shutil.rmtree(path, ignore_errors=True)
        self._saved_step, self._saved_at = number, time.monotonic()

    def _variables(self) -> list[Any]:
        metrics = {id(variable) for variable in self._metrics()}
        optimizer = self.model.optimizer
        return [
            *(variable for variable in self.model.variables if id(variable) not in metrics),
            *optimizer.variables,
            *self.model.updates.state,
            *budget_variables(optimizer),
        ]

    def _metrics(self) -> list[Any]:
        return [variable for metric in self.model.metrics for variable in metric.variables]


def _check_same(position: Position, run: Mapping[str, Any]) -> None:
    before = position.state["run"]
    changed = [
        f"{name} {before.get(name)!r}, now {run.get(name)!r}"
        for name in {**before, **run}
        if before.get(name) != run.get(name)
    ]
    if changed:
        raise ConfigError(
            f"{position.path}: expected the same options and data to go on with a run, received "
            f"other ones: {'; '.join(changed)}. Repeat the options, or start a new run."
        )


def _early_stopping(best: keras.callbacks.EarlyStopping | None) -> dict[str, Any] | None:
    if best is None or best.best is None:
        return None
    return {name: to_json(getattr(best, name)) for name in _EARLY_STOPPING}


def _value(variable: Any) -> np.ndarray:
    return np.asarray(tf.convert_to_tensor(variable))


def _write_step(
    path: Path, values: Mapping[str, list[np.ndarray]], state: Mapping[str, Any]
) -> None:
    if path.exists():  # the end of an epoch, whose validation was interrupted
        with replace_directory(path, CheckpointError, marker=STATE_FILE, parts=_PARTS) as aside:
            _fill(aside, values, state)
        return
    # One name for all that are not complete: later runs remove them.
    with write_aside(path, CheckpointError, stem="step") as hidden:
        _fill(hidden.path, values, state)
        sync_tree(hidden.path)
        rename_new(hidden.path, path)
        sync_name(path, CheckpointError)


def _write_best(path: Path, values: list[np.ndarray]) -> None:
    with replace_directory(path, CheckpointError, marker=STATE_FILE, parts=_PARTS) as aside:
        _fill(aside, {"state": values}, {})


def _fill(
    directory: Path, values: Mapping[str, list[np.ndarray]], state: Mapping[str, Any]
) -> None:
    tensors = [
        (f"{kind}.{index:05d}", np.asarray(value))
        for kind, arrays in values.items()
        for index, value in enumerate(arrays)
    ]
    write_safetensors(directory, tensors, max_shard_bytes=2**62)
    text = json.dumps({"version": STATE_VERSION, **state})
    (directory / STATE_FILE).write_text(text, encoding="utf-8")


def _read(path: Path, kind: str) -> list[np.ndarray]:
    with open_safetensors(find_directory(path) / SAFETENSORS_FILE) as source:
        names = sorted(name for name in source.names() if name.startswith(f"{kind}."))
        return [source.read(name) for name in names]


def _restore(path: Path, groups: Mapping[str, list[Any]]) -> None:
    """Assigns the values of a checkpoint to variables."""
    for kind, variables in groups.items():
        values = _read(path, kind)
        shapes = [tuple(variable.shape) for variable in variables]
        if shapes != [value.shape for value in values]:
            raise CheckpointError(
                f"{path}: expected the shapes of this model's and optimizer's {len(shapes)} "
                f"variables, received {len(values)} arrays that do not fit: use the same preset "
                "and the same optimizer."
            )
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
