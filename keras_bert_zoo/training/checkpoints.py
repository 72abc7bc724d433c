"""Checkpoints of a training run: where and how often they are saved, and the newest one."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.schema import (
    FLAG,
    NULL,
    OBJECT,
    ValueType,
    integer,
    list_of,
    names_to,
    read_object,
)
from keras_bert_zoo.validation import check_integer, check_number

__all__ = ["STATE_FILE", "STATE_VERSION", "Checkpoints", "Position", "find_position", "saved_steps"]

STATE_FILE = "training_state.json"
"""The file of a checkpoint with the position and the history of the run."""
STATE_VERSION = 1

_MOST = 2**53
_BEST = ValueType(
    "an object with best, best_epoch and wait",
    lambda value: isinstance(value, dict) and {"best", "best_epoch", "wait"} <= set(value),
)
_SCHEMA = {
    "epoch": integer(0, _MOST),
    "step": integer(0, _MOST),
    "stopped": FLAG,
    "run": OBJECT,
    "epochs": list_of(integer(0, _MOST), _MOST),
    "history": names_to(ValueType("lists", lambda value: isinstance(value, list))),
    "best": _BEST | NULL,
    "meter": OBJECT,
}

_STEP = re.compile(r"step-(\d{8,})")


class Checkpoints:
    """Where and how often `fit` saves a run, so that it can go on after an interruption.

    A checkpoint has the weights, the state of the optimizer, of dropout, metrics and early
    stopping, and the position in the data. The run that goes on has the same losses as an
    uninterrupted one. A checkpoint is written aside, synchronized with the disk and renamed: after
    a crash or on a full disk, the earlier ones are whole. The directory also has `best`, the
    weights of the best epoch, if there is validation data.

    Args:
        directory: path; created if it is missing.
        every_steps: int or None. Steps between checkpoints.
        every_minutes: float or None. Minutes between checkpoints. Not possible with several
            workers, whose clocks differ.
        keep: int. The number of checkpoints to keep; older ones are deleted.

    Raises:
        ConfigError: an argument is out of range.

    Example: `task.fit(texts, labels, checkpoints=Checkpoints("run", every_steps=500), resume=True)`
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        every_steps: int | None = None,
        every_minutes: float | None = None,
        keep: int = 2,
    ) -> None:
        if every_steps is not None:
            check_integer("every_steps", every_steps, minimum=1)
        if every_minutes is not None:
            check_number("every_minutes", every_minutes, minimum=0)
        check_integer("keep", keep, minimum=1)
        self.directory = Path(directory)
        self.every_steps = every_steps
        self.every_minutes = every_minutes
        self.keep = keep


class Position(NamedTuple):
    """A saved position.

    Args:
        path: the checkpoint.
        epoch: int, from 0.
        step: int. Steps of this epoch that are done.
        stopped: bool. Whether early stopping has ended the run.
        state: dict, the contents of its `STATE_FILE`.
    """

    path: Path
    epoch: int
    step: int
    stopped: bool
    state: dict[str, Any]


def find_position(checkpoints: Checkpoints, *, resume: bool = True) -> Position | None:
    """Finds the newest checkpoint.

    Args:
        checkpoints: Checkpoints.
        resume: bool. Whether the run may go on from a checkpoint.

    Returns:
        Position; None if there is no checkpoint yet.

    Raises:
        CheckpointError: the newest checkpoint cannot be read.
        ConfigError: there is a checkpoint, and `resume` is False.
    """
    paths = saved_steps(checkpoints.directory)
    if not paths:
        return None
    if not resume:
        raise ConfigError(
            f"{checkpoints.directory}: expected no checkpoints for a new run, received those of an "
            "earlier run: pass `resume=True` to go on with it, or delete them."
        )
    path = paths[-1]
    file = path / STATE_FILE
    state = read_object(file, _SCHEMA, CheckpointError)
    if state.get("version") != STATE_VERSION:
        raise CheckpointError(
            f"{file}: expected version {STATE_VERSION} of a training state, received "
            f"{state.get('version')!r}"
        )
    missing = [name for name in _SCHEMA if name not in state]
    if missing:
        raise CheckpointError(f"{file}: expected the keys {', '.join(missing)}, received none")
    stopped = state["stopped"] and state["step"] == 0
    return Position(path, state["epoch"], state["step"], stopped, state)


def saved_steps(directory: Path, *, complete: bool = True) -> list[Path]:
    """The checkpoints of a directory, from old to new."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    numbers = sorted((int(m[1]), name) for name in names if (m := _STEP.fullmatch(name)))
    paths = [directory / name for _, name in numbers]
    return [path for path in paths if not complete or (path / STATE_FILE).exists()]
