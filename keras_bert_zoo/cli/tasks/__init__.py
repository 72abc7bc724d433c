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
    "translation": "translation",
}
# Likewise, of what other commands than `train` make.
BUILT = {"open-domain-question-answering": "open_domain"}


def task_command(name: str) -> TaskCommand:
    """Looks a task up by the name that --task takes, or that a saved directory has.

    Raises:
        ConfigError: unknown name; the message lists the known ones.
    """
    known = TASKS | BUILT
    if name not in known:
        raise ConfigError(f"unknown task {name!r}; expected one of: {', '.join(known)}")
    module = importlib.import_module(f"{__name__}.{known[name]}")
    command: TaskCommand = module.make_command(name)
    return command
