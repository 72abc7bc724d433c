"""Finding the task of a saved directory."""

from __future__ import annotations

import importlib
import os
from typing import Any

from keras_bert_zoo.checkpoints.config_file import read_config
from keras_bert_zoo.directories.replacing import find_directory
from keras_bert_zoo.errors import CheckpointError
from keras_bert_zoo.tasks.files import saved_task_name
from keras_bert_zoo.tasks.task import Task

# `Task.name` -> its module and class.
TASKS = {
    "classification": ("text_classifier", "TextClassifier"),
    "regression": ("text_regressor", "TextRegressor"),
    "token-classification": ("token_classification.token_classifier", "TokenClassifier"),
    "embedding": ("embedding.text_embedder", "TextEmbedder"),
    "question-answering": ("question_answering.question_answerer", "QuestionAnswerer"),
    "multiple-choice": ("multiple_choice", "MultipleChoice"),
    "relations": ("relation_classifier", "RelationClassifier"),
    "masked-lm": ("masked_lm", "MaskedLM"),
    "next-sentence": ("next_sentence", "NextSentence"),
    "translation": ("translation.translator", "Translator"),
    "open-domain-question-answering": (
        "open_domain.question_answerer",
        "OpenDomainQuestionAnswerer",
    ),
}


def load_task(directory: str | os.PathLike[str], **kwargs: Any) -> Task:
    """Loads a saved task as the class that the directory names.

    Args:
        directory: path of what a task's `save` wrote, or of a Hugging Face directory with a head.
        **kwargs: `token_layout`, `dtype`, `ignore_config_keys`; see `Task.load`.

    Returns:
        the task: of the side file, or else by the config's `architectures` and `problem_type`.

    Raises:
        ConfigError: the config asks for something unsupported.
        CheckpointError: the directory is missing or does not fit.
    """
    directory = find_directory(directory)
    if not os.path.isdir(directory):
        raise CheckpointError(f"No directory {os.fspath(directory)!r} to load a model from.")
    name = saved_task_name(directory, read_config(directory))
    if name not in TASKS:
        raise CheckpointError(
            f"{os.fspath(directory)!r} holds the task {name!r}; this version knows "
            f"{', '.join(TASKS)}."
        )
    module, class_name = TASKS[name]
    found = getattr(importlib.import_module(f"keras_bert_zoo.tasks.{module}"), class_name)
    task: Task = found.load(directory, **kwargs)
    return task
