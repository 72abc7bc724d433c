"""Refuses what Keras would write and could not read again: .keras files, pickles, clones.

Models of this package are made of an encoder's config and a tokenizer, which Keras' own
serialization does not know. They go to Hugging Face directories instead.
"""

from __future__ import annotations

import sys
from typing import Any, NoReturn

from keras_bert_zoo.errors import ConfigError

__all__ = ["built_flag", "check_not_cloned", "refuse_config", "refuse_pickle"]


def refuse_config(model: Any, load: str) -> NoReturn:
    """Raises ConfigError: what `get_config` of such a model does.

    Args:
        model: Encoder, HeadedModel or task.
        load: str. The method that reads what its `save` writes.
    """
    raise ConfigError(no_keras_file(type(model).__name__, load))


def refuse_pickle(model: Any, load: str) -> NoReturn:
    """Raises ConfigError: what `pickle`, `copy.copy` and `copy.deepcopy` of such a model do."""
    name = type(model).__name__
    raise ConfigError(
        f"A {name} is not pickled or copied. To hand it to another process or to copy it, "
        f"`save(DIRECTORY)` it and `{name}.{load}(DIRECTORY)` it there; `get_weights()` and "
        "`set_weights(...)` copy the weights alone."
    )


def check_not_cloned(model: Any, operation: Any, load: str) -> None:
    """Raises ConfigError where `keras.models.clone_model` walks through a model's graph.

    Args:
        model: Encoder, HeadedModel or task.
        operation: what Keras does at each layer.
        load: str. The method that reads what its `save` writes.
    """
    if getattr(operation, "__module__", None) == "keras.src.models.cloning":
        name = type(model).__name__
        raise ConfigError(
            f"A {name} is not cloned. `save(DIRECTORY)` it and `{name}.{load}(DIRECTORY)` it, or "
            "build a second one of the same preset."
        )


def no_keras_file(name: str, load: str = "from_preset") -> str:
    """What to say where a model is to be written as Keras' own file."""
    return (
        f"A {name} is not written as a .keras or .h5 file. `save(DIRECTORY)` writes a Hugging Face "
        f"directory, which `{name}.{load}(DIRECTORY)` and transformers read; "
        '`save_weights("x.weights.h5")` writes the weights alone.'
    )


def built_flag(load: str) -> property:
    """Makes the attribute `built` of a model, which `keras.saving.save_model` reads first of all.

    Keras opens the file before it asks for the model's config: an earlier file would be lost.

    Args:
        load: str. The method that reads what the model's `save` writes.
    """

    def get(model: Any) -> bool:
        caller = sys._getframe(1)
        if caller.f_code.co_name == "save_model" and caller.f_globals["__name__"].startswith(
            "keras.src.saving."
        ):
            refuse_config(model, load)
        return bool(model.__dict__.get("built", False))

    def put(model: Any, value: bool) -> None:
        model.__dict__["built"] = value

    return property(get, put)
