"""The side file of a saved task."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_bert_zoo.config import is_regression
from keras_bert_zoo.directories.replacing import find_directory
from keras_bert_zoo.errors import CheckpointError
from keras_bert_zoo.files import SIDE_FILE
from keras_bert_zoo.presets.score_activation import is_cross_encoder
from keras_bert_zoo.schema import (
    FLAG,
    NULL,
    OBJECT,
    TEXT,
    ValueType,
    integer,
    list_of,
    names_to,
    read_object,
)
from keras_bert_zoo.tasks.options import ALL_OPTIONS, MAX_TOKENS

SIDE_SCHEMA: dict[str, ValueType] = {
    "task": TEXT,
    "heads": list_of(TEXT, 100),
    "pair": FLAG,
    "training": OBJECT,
    "columns": names_to(
        TEXT | list_of(TEXT) | integer(-MAX_TOKENS, MAX_TOKENS) | FLAG | NULL, 1000
    ),
}
for _options in ALL_OPTIONS:
    SIDE_SCHEMA |= _options.schema()
"""Keys of the side file -> type. Other keys are ignored: later versions may write them."""

# Suffix of the name of a transformers class -> the task of its models.
_ARCHITECTURES = {
    "ForSequenceClassification": "classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMultipleChoice": "multiple-choice",
    "ForMaskedLM": "masked-lm",
    "ForNextSentencePrediction": "next-sentence",
    "EncoderDecoderModel": "translation",
}


def saved_directory(directory: str | os.PathLike[str]) -> Path:
    """Returns the path of a saved task.

    Raises:
        CheckpointError: the directory does not exist.
    """
    path = find_directory(directory)
    if not path.is_dir():
        raise CheckpointError(f"No directory {os.fspath(path)!r} to load a model from.")
    return path


def saved_task_name(directory: str | os.PathLike[str], config: Mapping[str, Any]) -> str:
    """Returns the name of a directory's task; does not import TensorFlow.

    Args:
        directory: path of a saved task, or of a Hugging Face directory with a head.
        config: the contents of its config.json.

    Returns:
        str, a name in `tasks.registry.TASKS`: that of the side file, or else by `architectures`.

    Raises:
        CheckpointError: see `read_side_file`.
    """
    name = read_side_file(directory).get("task")
    if isinstance(name, str):
        return name
    for architecture in config.get("architectures") or ():
        for ending, task in _ARCHITECTURES.items():
            if str(architecture).endswith(ending) and task != "classification":
                return task
    modules = os.path.join(directory, "modules.json")
    if os.path.exists(modules) and not is_cross_encoder(directory):
        return "embedding"  # modules.json is a file of sentence-transformers
    return "regression" if is_regression(config) else "classification"


def read_side_file(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a directory's side file; returns an empty dict if there is none.

    Raises:
        CheckpointError: it is not a small file with a JSON object, or a value has a wrong type.
    """
    path = os.path.join(directory, SIDE_FILE)
    if not os.path.lexists(path):
        return {}
    return read_object(path, SIDE_SCHEMA, CheckpointError)


def check_saved_length(side: Mapping[str, Any], most: int, directory: object) -> None:
    """Raises CheckpointError if a side file has a longer input than the encoder accepts.

    Args:
        side: contents of the side file.
        most: int. The number of positions of the encoder.
        directory: path, for the message.
    """
    length = side.get("max_length")
    if length is not None and length > most:
        raise CheckpointError(
            f"{os.path.join(str(directory), SIDE_FILE)}: 'max_length' must be at most {most}, the "
            f"encoder's positions, received {length}."
        )
