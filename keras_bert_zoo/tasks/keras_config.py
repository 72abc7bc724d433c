"""Tasks in .keras files: a config with everything except the weights."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, TypeVar

import keras

from keras_bert_zoo.encoders.freezing import freeze_paths, frozen_paths
from keras_bert_zoo.encoders.keras_file import (
    check_config,
    encoder_config,
    is_keras_file,
    usable_config,
)
from keras_bert_zoo.encoders.registry import encoder_class
from keras_bert_zoo.errors import BertZooError, CheckpointError, ConfigError
from keras_bert_zoo.heads.serialization import head_config, head_from_config
from keras_bert_zoo.schema import FLAG, NULL, OBJECT, Schema, check
from keras_bert_zoo.tasks.files import saved_directory
from keras_bert_zoo.text.serialization import tokenizer_config, tokenizer_from_config
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.validation import show

__all__ = ["load_saved", "task_config", "task_from_config"]

AnyTask = TypeVar("AnyTask", bound=Any)

_ATTRIBUTES = ("pair", "training_record", "column_options", "source_config")
_ATTRIBUTE_SCHEMA: Schema = {
    "pair": FLAG | NULL,
    "training_record": OBJECT,
    "column_options": OBJECT,
    "source_config": OBJECT,
}
_KEYS = (
    "family", "encoder", "tokenizer", "head", "token_layout", "options", "arguments", "frozen",
    "name", *_ATTRIBUTES,
)  # fmt: skip


def task_config(task: Any) -> dict[str, Any]:
    """Returns the config of a task; see `Task.get_config`."""
    config = {
        "family": task.encoder.config.family,
        "encoder": encoder_config(task.encoder, tokenizer=False),
        "tokenizer": tokenizer_config(task.tokenizer),
        "head": head_config(task.head),
        "token_layout": task.token_layout,
        "options": task.options.to_side(),
        "arguments": {name: _packed(task, name) for name in task.spec.arguments},
        "frozen": frozen_paths(task),
        "name": task.name,
        **{name: getattr(task, name) for name in _ATTRIBUTES},
    }
    # JSON turns tuples into lists, which Keras writes unchanged.
    plain: dict[str, Any] = json.loads(json.dumps(config, default=_plain_number))
    return plain


def task_from_config(cls: type[AnyTask], config: Mapping[str, Any]) -> AnyTask:
    """Builds a task with random weights from `task_config`.

    Raises:
        ConfigError: a key is missing, or a value is not supported.
        CheckpointError: the tokenizer's files are damaged.
    """
    with usable_config(cls.__name__):
        return _task_from_config(cls, config)


def _task_from_config(cls: type[AnyTask], config: Mapping[str, Any]) -> AnyTask:
    check_config(config, _KEYS, cls.__name__)
    encoder = encoder_class(config["family"]).from_config(config["encoder"])
    tokenizer = tokenizer_from_config(config["tokenizer"])
    check_config(config["arguments"], cls.spec.arguments, cls.__name__)
    check_config(config["options"], cls.spec.options.schema(), cls.__name__)
    check(config["options"], cls.spec.options.schema(), "options")
    check({name: config[name] for name in _ATTRIBUTES}, _ATTRIBUTE_SCHEMA, cls.__name__)
    arguments = {name: _unpacked(value, tokenizer) for name, value in config["arguments"].items()}
    arguments[cls.spec.head_argument] = head_from_config(config["head"], encoder)
    task = cls(
        encoder,
        tokenizer,
        **arguments,
        **config["options"],
        token_layout=config["token_layout"],
        name=config["name"],
    )
    for name in _ATTRIBUTES:
        setattr(task, name, config[name])
    freeze_paths(task, config["frozen"])
    return task


def load_saved(
    cls: type[AnyTask], path: str | os.PathLike[str], options: dict[str, Any]
) -> AnyTask:
    """Loads a task from a directory or a .keras file; see `Task.load`."""
    if not os.path.isdir(path) and is_keras_file(path):
        return _load_keras_file(cls, path, **options)
    directory = saved_directory(path)
    if cls.spec.head_hint == "new_head=True":
        options = {"new_head": False} | options
    task: AnyTask = cls.from_preset(directory, **options)
    return task


def _load_keras_file(cls: type[AnyTask], path: str | os.PathLike[str], **options: Any) -> AnyTask:
    """Loads a task from a .keras file.

    Raises:
        CheckpointError: the file does not exist, is damaged, or holds another model.
        ConfigError: options are given; only a directory takes options.
    """
    if options:
        raise ConfigError(
            f"Expected no options for a .keras file, received {', '.join(options)}. Set "
            "attributes of the loaded task, or save it as a directory."
        )
    name = os.fspath(path)
    if not os.path.isfile(name):
        raise CheckpointError(f"No file {name!r} to load a model from.")
    try:
        task = keras.saving.load_model(name)
    except BertZooError:
        raise
    except Exception as error:  # Keras raises many kinds
        raise CheckpointError(f"{name!r} cannot be loaded: {error}") from error
    if not isinstance(task, cls):
        raise CheckpointError(
            f"Expected a {cls.__name__} in {name!r}, received a {type(task).__name__}. Use "
            "`keras.models.load_model`."
        )
    return task


def _packed(task: Any, name: str) -> Any:
    """Converts an argument of a task's constructor for JSON."""
    value = getattr(task, name)
    if isinstance(value, Tokenizer):
        return {"files": None if value is task.tokenizer else tokenizer_config(value)}
    return value


def _unpacked(value: Any, tokenizer: Tokenizer) -> Any:
    """Converts the result of `_packed` back."""
    if isinstance(value, Mapping) and set(value) == {"files"}:
        files = value["files"]
        return tokenizer if files is None else tokenizer_from_config(files)
    return value


def _plain_number(value: Any) -> Any:
    """Converts a NumPy number, which JSON cannot hold."""
    if hasattr(value, "item"):
        return value.item()
    raise ConfigError(f"Expected a value that JSON can hold, received {show(value)}.")
