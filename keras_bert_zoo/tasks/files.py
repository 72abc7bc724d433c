"""The side file of a saved task."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from keras_bert_zoo.config import is_number, is_regression
from keras_bert_zoo.errors import CheckpointError
from keras_bert_zoo.files import SIDE_FILE
from keras_bert_zoo.schema import (
    FLAG,
    NULL,
    OBJECT,
    TEXT,
    Schema,
    ValueType,
    integer,
    list_of,
    names_to,
    number,
    one_of,
    read_object,
)
from keras_bert_zoo.tasks.scores import is_cross_encoder

_TOKENS = 1 << 24  # of the longest input: `config.MOST`
_LABELS = 1_000_000
_SHARE = ValueType("a number between 0 and 1", lambda value: is_number(value) and 0 < value < 1)
SIDE_SCHEMA: Schema = {
    "task": TEXT,
    "heads": list_of(TEXT, 100),
    "pair": FLAG,
    "training": OBJECT,
    "columns": names_to(TEXT | list_of(TEXT) | integer(-_TOKENS, _TOKENS) | FLAG | NULL, 1000),
    "max_length": integer(3, _TOKENS) | NULL,
    # Classification.
    "threshold": _SHARE | list_of(_SHARE, _LABELS),
    "pooling": one_of("mean", "start"),
    "num_choices": integer(2, _LABELS),
    # Tokens and answers.
    "stride": integer(0, _TOKENS) | NULL,
    "scheme": TEXT | NULL,
    "legal_only": FLAG | NULL,
    "crf": FLAG,
    "nested": FLAG,
    "max_answer_tokens": integer(1, _TOKENS),
    "null_threshold": number(-1e38, 1e38) | NULL,
    # Masked tokens.
    "top_k": integer(1, _TOKENS),
    "mask_rate": _SHARE,
    "whole_words": FLAG,
    # Translations.
    "num_beams": integer(1, _TOKENS),
    "length_penalty": number(-1e38, 1e38),
    "max_target_length": integer(1, _TOKENS),
    "label_smoothing": number(0, 1),
    # Collections.
    "passage_tokens": integer(1, _TOKENS),
    "passage_overlap": integer(0, _TOKENS) | NULL,
    "top_passages": integer(1, _TOKENS),
    "retriever_weight": number(0, 1e38),
}
"""What the side file may say. Keys that are not here are passed over: a later version's."""

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
        return "embedding"  # of sentence-transformers
    return "regression" if is_regression(config) else "classification"


def read_side_file(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a directory's side file; an empty dict where there is none.

    Raises:
        CheckpointError: it is no small file with a JSON object, or has a value of a wrong kind.
    """
    path = os.path.join(directory, SIDE_FILE)
    if not os.path.lexists(path):
        return {}
    return read_object(path, SIDE_SCHEMA, CheckpointError)


def check_saved_length(side: Mapping[str, Any], most: int, directory: object) -> None:
    """Raises CheckpointError where a side file has a longest input that no encoder here takes.

    Args:
        side: contents of the side file.
        most: int. The encoder's positions.
        directory: path, for the message.
    """
    length = side.get("max_length")
    if length is not None and length > most:
        raise CheckpointError(
            f"{os.path.join(str(directory), SIDE_FILE)}: 'max_length' must be at most {most}, the "
            f"encoder's positions, got {length}."
        )
