"""The saved directory that a command works with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from keras_bert_zoo.checkpoints.tensors import read_config
from keras_bert_zoo.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from keras_bert_zoo.data.examples import LabelKind
    from keras_bert_zoo.tasks.text_classifier import TextClassifier
    from keras_bert_zoo.tasks.text_regressor import TextRegressor


def check_saved_task(directory: str) -> LabelKind:
    """Looks whether a directory can be a saved task, before TensorFlow is imported for it.

    Args:
        directory: path.

    Returns:
        the kind of its labels.

    Raises:
        CheckpointError: it is missing, or an export.
        ConfigError: its config.json cannot be read.
    """
    path = Path(directory)
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
    kinds: dict[str, LabelKind] = {"regression": "float", "multi_label_classification": "multi"}
    return kinds.get(read_config(directory).get("problem_type", ""), "single")


def load_saved_task(
    directory: str, *, dtype: str, text_pair: str | None, verbose: bool
) -> TextClassifier | TextRegressor:
    """Starts TensorFlow and loads a saved task.

    Args:
        directory: path, checked.
        dtype: str. The value of --dtype.
        text_pair: str or None. The value of --text-pair.
        verbose: bool. Whether TensorFlow's messages are shown.

    Returns:
        the task.

    Raises:
        ConfigError: the task is on pairs of texts, and there is no second text.
        CheckpointError: the directory does not fit.
    """
    from keras_bert_zoo.cli.runtime import keras_dtype, start_tensorflow

    tf = start_tensorflow(verbose=verbose)

    from keras_bert_zoo.tasks.registry import load_task

    task = load_task(directory, dtype=keras_dtype(dtype, tf))
    if task.pair and text_pair is None:
        raise ConfigError(
            f"{directory} was trained on pairs of texts: name the second text's column with "
            "--text-pair"
        )
    return task
