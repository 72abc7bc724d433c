"""Finding the task of a saved directory."""

from __future__ import annotations

import os
from typing import Any

from keras_bert_zoo.checkpoints.tensors import read_config
from keras_bert_zoo.config import is_regression
from keras_bert_zoo.errors import CheckpointError
from keras_bert_zoo.tasks.text_classifier import TextClassifier
from keras_bert_zoo.tasks.text_regressor import TextRegressor


def load_task(directory: str | os.PathLike[str], **kwargs: Any) -> TextClassifier | TextRegressor:
    """Loads a saved task as the class that its config.json names.

    Args:
        directory: path of what a task's `save` wrote, or of a Hugging Face directory with a head.
        **kwargs: `token_layout`, `dtype`, `ignore_config_keys`; see `Task.load`.

    Returns:
        TextRegressor where the config says regression (`config.is_regression`); else
        TextClassifier.

    Raises:
        ConfigError: the config asks for something unsupported.
        CheckpointError: the directory is missing or does not fit.
    """
    if not os.path.isdir(directory):
        raise CheckpointError(f"No directory {os.fspath(directory)!r} to load a model from.")
    regression = is_regression(read_config(directory))
    return (TextRegressor if regression else TextClassifier).load(directory, **kwargs)
