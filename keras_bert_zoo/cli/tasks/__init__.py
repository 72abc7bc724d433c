"""Task-specific parts of the commands, one module per task."""

from __future__ import annotations

import importlib

from keras_bert_zoo.cli.tasks.base import TaskCommand
from keras_bert_zoo.errors import ConfigError

# --task -> the module keras_bert_zoo.cli.tasks.NAME, with `make_command(name)`.
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
# The same for tasks that other commands than `train` create.
BUILT = {"open-domain-question-answering": "open_domain"}


def task_command(name: str) -> TaskCommand:
    """Looks up a task by its name in --task or in a saved directory.

    Raises:
        ConfigError: the name is unknown; the message lists the known names.
    """
    known = TASKS | BUILT
    if name not in known:
        raise ConfigError(f"unknown task {name!r}; expected one of: {', '.join(known)}")
    module = importlib.import_module(f"{__name__}.{known[name]}")
    command: TaskCommand = module.make_command(name)
    return command
