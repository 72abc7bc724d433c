"""The side file of a saved task."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from keras_bert_zoo.config import is_regression
from keras_bert_zoo.errors import CheckpointError
from keras_bert_zoo.files import SIDE_FILE

# The end of a transformers class's name -> the task of such a model.
_ARCHITECTURES = {
    "ForSequenceClassification": "classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMultipleChoice": "multiple-choice",
    "ForMaskedLM": "masked-lm",
    "ForNextSentencePrediction": "next-sentence",
    "EncoderDecoderModel": "translation",
}


def saved_task_name(directory: str | os.PathLike[str], config: Mapping[str, Any]) -> str:
    """Says which task a directory holds; needs no TensorFlow.

    Args:
        directory: path of what a task's `save` wrote, or of a Hugging Face directory with a head.
        config: its config.json.

    Returns:
        str, a name of `tasks.registry.TASKS`: as the side file says, or else by `architectures`.

    Raises:
        CheckpointError: the side file is not a JSON object.
    """
    name = read_side_file(directory).get("task")
    if isinstance(name, str):
        return name
    for architecture in config.get("architectures") or ():
        for ending, task in _ARCHITECTURES.items():
            if str(architecture).endswith(ending) and task != "classification":
                return task
    if os.path.exists(os.path.join(directory, "modules.json")):  # of sentence-transformers
        return "embedding"
    return "regression" if is_regression(config) else "classification"


def read_side_file(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a directory's side file; an empty dict where there is none.

    Raises:
        CheckpointError: it is not a JSON object.
    """
    path = os.path.join(directory, SIDE_FILE)
    if not os.path.exists(path):
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            side = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(side, dict):
        raise CheckpointError(f"{path} must hold a JSON object, got {type(side).__name__}.")
    return side
