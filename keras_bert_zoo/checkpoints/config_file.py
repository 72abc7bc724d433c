"""Reads the configuration of a checkpoint of any format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from keras_bert_zoo.checkpoints.config_checks import check_config, is_keras_hub_config
from keras_bert_zoo.checkpoints.file_names import CONFIG_FILE
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.files import GOOGLE_CONFIGS, read_json


def read_config(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads the configuration of a checkpoint as the contents of a Hugging Face config.json.

    The bert_config.json (albert_config.json, ...) of a Google checkpoint and the config.json of a
    KerasHub preset are translated. Paths in the file (`_name_or_path`, `auto_map`) are not opened.

    Args:
        directory: path of an existing directory.

    Returns:
        dict, the parsed or translated JSON object.

    Raises:
        CheckpointError: the directory does not exist.
        ConfigError: the file is missing, unreadable, malformed or not a JSON object.

    Example:
    >>> read_config("tests/assets/google_albert")["model_type"]
    'albert'
    """
    directory = existing_directory(directory)
    path = directory / CONFIG_FILE
    if path.is_file():
        config = read_json(path)
        if is_keras_hub_config(config):
            from keras_bert_zoo.checkpoints.keras_hub.config import read_keras_hub_config

            return read_keras_hub_config(directory)
        # A copy of Google's bert_config.json under this name has no `model_type`.
        if "model_type" in config or not _is_google(directory):
            return check_config(config, path)
    if _is_google(directory):
        from keras_bert_zoo.checkpoints.google.tf1 import read_google_config

        return read_google_config(directory)
    raise ConfigError(
        f"No config.json in {str(directory)!r}. A preset directory has config.json, "
        "model.safetensors and vocab.txt."
    )


def existing_directory(directory: str | os.PathLike[str]) -> Path:
    """Returns the path of a directory.

    Args:
        directory: path.

    Returns:
        Path.

    Raises:
        CheckpointError: it is not a directory.

    Example:
    >>> existing_directory("tests/assets").name
    'assets'
    """
    path = Path(directory)
    if not path.is_dir():
        raise CheckpointError(f"{str(path)!r} is not a directory.")
    return path


def _is_google(directory: Path) -> bool:
    has_config = any((directory / name).is_file() for name in GOOGLE_CONFIGS)
    return has_config or any(directory.glob("*.index"))
