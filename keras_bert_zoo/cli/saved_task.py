"""The saved directory of a command."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_bert_zoo.cli.options import peek
from keras_bert_zoo.cli.tasks import TASKS, task_command
from keras_bert_zoo.cli.tasks.base import TaskCommand
from keras_bert_zoo.directories.replacing import find_directory
from keras_bert_zoo.errors import BertZooError, CheckpointError, ConfigError


def saved_command(directory: str) -> TaskCommand:
    """Finds the task of a saved directory or a LiteRT file without importing TensorFlow.

    Args:
        directory: path.

    Returns:
        TaskCommand.

    Raises:
        CheckpointError: the directory is missing, a file or an export.
        ConfigError: its config.json cannot be read.
        DataError: the LiteRT file cannot be read.
    """
    # Imported here because they import NumPy, which makes --help slow.
    from keras_bert_zoo.checkpoints.config_file import read_config
    from keras_bert_zoo.export.litert.model_file import is_litert_file, read_model
    from keras_bert_zoo.tasks.files import saved_task_name

    if is_litert_file(directory):
        return task_command(read_model(directory)[1]["command"])
    path = find_directory(directory)
    if path.is_file():
        raise CheckpointError(
            f"{directory}: expected a directory written by `keras-bert-zoo train`, received a "
            "file; to convert a .keras file: keras.models.load_model(FILE).save(DIRECTORY)"
        )
    if not path.is_dir():
        raise CheckpointError(
            f"{directory}: there is no such directory; pass one written by `keras-bert-zoo train`"
        )
    if not (path / "config.json").exists() and (
        (path / "saved_model.pb").exists() or any(path.glob("*/saved_model.pb"))
    ):
        raise CheckpointError(
            f"{directory}: expected a directory written by `keras-bert-zoo train`, received an "
            "exported SavedModel; pass the directory that it was exported from"
        )
    config = read_config(path)
    name = saved_task_name(path, config)
    if name == "classification" and config.get("problem_type") == "multi_label_classification":
        name = "multi-label"
    return task_command(name)


def is_export(model: str) -> bool:
    """Whether a path is an export; a directory with a model and exports is the model.

    Raises:
        ConfigError: it is neither an export nor a model's directory.
    """
    path = Path(model)
    if not path.exists():
        raise ConfigError(f"{model}: there is no such directory")
    if (path / "config.json").exists():
        return False
    if (path / "saved_model.pb").exists() or any(path.glob("*/saved_model.pb")):
        return True
    raise ConfigError(
        f"{model}: expected an export (saved_models/NAME) or a directory written by "
        "`keras-bert-zoo train`, received neither"
    )


def peek_command(argv: Sequence[str]) -> TaskCommand:
    """Finds the task of the --model directory, for the options of the task.

    Args:
        argv: the arguments after the command's name.

    Returns:
        TaskCommand; that of the first task if the directory is invalid. `saved_command` raises the
        error later.
    """
    directory = peek(argv, "model")
    if directory is not None:
        with contextlib.suppress(BertZooError):
            return saved_command(directory)
    return task_command(next(iter(TASKS)))


def load_saved_task(args: argparse.Namespace, command: TaskCommand) -> Any:
    """Starts TensorFlow and loads a saved task.

    Args:
        args: `model`, `dtype`, `ignore_config_keys`, `verbose` and the options of the task.
        command: the return value of `saved_command`.

    Returns:
        Task.

    Raises:
        ConfigError: the options do not apply to the task.
        CheckpointError: the directory is invalid.
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
