"""The saved directory that a command works with."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from typing import Any

from keras_bert_zoo.cli.options import peek
from keras_bert_zoo.cli.tasks import TASKS, task_command
from keras_bert_zoo.cli.tasks.base import TaskCommand
from keras_bert_zoo.directories.replacing import find_directory
from keras_bert_zoo.errors import BertZooError, CheckpointError


def saved_command(directory: str) -> TaskCommand:
    """Finds the task of a saved directory, before TensorFlow is imported for it.

    Args:
        directory: path.

    Returns:
        TaskCommand.

    Raises:
        CheckpointError: it is missing, or an export.
        ConfigError: its config.json cannot be read.
    """
    # Imported here because they import NumPy, which slows --help down.
    from keras_bert_zoo.checkpoints.config_file import read_config
    from keras_bert_zoo.tasks.files import saved_task_name

    path = find_directory(directory)
    if not path.is_dir():
        raise CheckpointError(
            f"{directory}: there is no such directory; expected what `keras-bert-zoo train` wrote"
        )
    if not (path / "config.json").exists() and (
        (path / "saved_model.pb").exists() or any(path.glob("*/saved_model.pb"))
    ):
        raise CheckpointError(
            f"{directory} is an exported SavedModel, for TensorFlow to load; expected the "
            "directory that `keras-bert-zoo train` wrote and it was exported from"
        )
    config = read_config(path)
    name = saved_task_name(path, config)
    if name == "classification" and config.get("problem_type") == "multi_label_classification":
        name = "multi-label"
    return task_command(name)


def peek_command(argv: Sequence[str]) -> TaskCommand:
    """Finds the task of the directory that --model names, for the options that it takes.

    Args:
        argv: the arguments after the command's name.

    Returns:
        TaskCommand; the first of all tasks where there is no such directory, which `saved_command`
        will say.
    """
    directory = peek(argv, "model")
    if directory is not None:
        with contextlib.suppress(BertZooError):
            return saved_command(directory)
    return task_command(next(iter(TASKS)))


def load_saved_task(args: argparse.Namespace, command: TaskCommand) -> Any:
    """Starts TensorFlow and loads a saved task.

    Args:
        args: `model`, `dtype`, `ignore_config_keys`, `verbose`, and the task's own.
        command: what `saved_command` returned.

    Returns:
        the task.

    Raises:
        ConfigError: the options do not fit the task.
        CheckpointError: the directory does not fit.
    """
    from keras_bert_zoo.cli.runtime import keras_dtype, start_tensorflow

    tf = start_tensorflow(verbose=args.verbose)

    from keras_bert_zoo.tasks.registry import load_task

    task = load_task(
        args.model,
        dtype=keras_dtype(args.dtype, tf),
        ignore_config_keys=args.ignore_config_keys,
    )
    command.check_loaded(task, args)
    return task
