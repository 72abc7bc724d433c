"""The base classes of the tasks have few hooks."""

import inspect

from keras_bert_zoo.tasks.embedding.index import SemanticSearch
from keras_bert_zoo.tasks.registry import TASKS
from keras_bert_zoo.tasks.task import Task
from keras_bert_zoo.tasks.trainable import TrainableTask

# Members of every Python class or Keras model.
GENERAL = {"__init__", "spec", "options"}


def own_members(cls):
    return {name for name in vars(cls) if name in GENERAL or not name.startswith("__")}


def test_tasks_override_at_most_fifteen_members():
    overridden = {}
    for task in (*TASKS.values(), SemanticSearch):
        bases = [cls for cls in (Task, TrainableTask) if issubclass(task, cls)]
        base = set().union(*map(own_members, bases)) - GENERAL
        for cls in inspect.getmro(task):
            if cls in bases:
                break
            for name in own_members(cls) & base:
                overridden.setdefault(name, set()).add(cls.__name__)
    assert len(overridden) <= 15, overridden
