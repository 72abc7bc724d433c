"""What the commands need to know of each task: one module a task."""

from __future__ import annotations

import importlib

from keras_bert_zoo.cli.tasks.base import TaskCommand
from keras_bert_zoo.errors import ConfigError

# --task -> the module keras_bert_zoo.cli.tasks.NAME, whose `make_command` takes the task's name.
TASKS = {
    "classification": "text",
    "multi-label": "text",
    "regression": "text",
    "embedding": "embedding",
    "token-classification": "token_classification",
    "question-answering": "question_answering",
    "multiple-choice": "multiple_choice",
    "relations": "relations",
    "masked-lm": "masked_lm",
    "next-sentence": "next_sentence",
}


def task_command(name: str) -> TaskCommand:
    """Looks a task up by the name that --task takes.

    Raises:
        ConfigError: unknown name; the message lists the known ones.
    """
    if name not in TASKS:
        raise ConfigError(f"unknown task {name!r}; expected one of: {', '.join(TASKS)}")
    module = importlib.import_module(f"{__name__}.{TASKS[name]}")
    command: TaskCommand = module.make_command(name)
    return command
