"""All tasks, and a function that loads a saved task of any class."""

from __future__ import annotations

import os
from typing import Any

from keras_bert_zoo.checkpoints.config_file import read_config
from keras_bert_zoo.errors import CheckpointError
from keras_bert_zoo.tasks.embedding.text_embedder import TextEmbedder
from keras_bert_zoo.tasks.files import saved_directory, saved_task_name
from keras_bert_zoo.tasks.masked_lm import MaskedLM
from keras_bert_zoo.tasks.multiple_choice import MultipleChoice
from keras_bert_zoo.tasks.next_sentence import NextSentence
from keras_bert_zoo.tasks.open_domain.question_answerer import OpenDomainQuestionAnswerer
from keras_bert_zoo.tasks.question_answering.question_answerer import QuestionAnswerer
from keras_bert_zoo.tasks.relation_classifier import RelationClassifier
from keras_bert_zoo.tasks.task import Task
from keras_bert_zoo.tasks.text_classifier import TextClassifier
from keras_bert_zoo.tasks.text_regressor import TextRegressor
from keras_bert_zoo.tasks.token_classification.token_classifier import TokenClassifier
from keras_bert_zoo.tasks.translation.translator import Translator

TASKS: dict[str, type[Task]] = {
    task.spec.name: task
    for task in (
        TextClassifier,
        TextRegressor,
        TokenClassifier,
        TextEmbedder,
        QuestionAnswerer,
        MultipleChoice,
        RelationClassifier,
        MaskedLM,
        NextSentence,
        Translator,
        OpenDomainQuestionAnswerer,
    )
}
"""Name in the side file -> class."""


def load_task(directory: str | os.PathLike[str], **kwargs: Any) -> Task:
    """Loads a saved task; the directory determines its class.

    Args:
        directory: path of a saved task, or of a Hugging Face directory with a head.
        **kwargs: `token_layout`, `dtype`, `ignore_config_keys`; see `Task.load`.

    Returns:
        the task of the side file, or else by the config's `architectures` and `problem_type`.

    Raises:
        ConfigError: a value of the config is not supported.
        CheckpointError: the directory is missing or does not fit.
    """
    directory = saved_directory(directory)
    name = saved_task_name(directory, read_config(directory))
    if name not in TASKS:
        raise CheckpointError(
            f"{os.fspath(directory)!r} holds the task {name!r}; this version knows "
            f"{', '.join(TASKS)}."
        )
    return TASKS[name].load(directory, **kwargs)
