"""Refuses what Keras would write and could not read again: .keras files, pickles, clones.

Models of this package are made of an encoder's config and a tokenizer, which Keras' own
serialization does not know. They go to Hugging Face directories instead.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from keras_bert_zoo.errors import ConfigError

__all__ = ["no_keras_file", "refuse_keras_files"]

Model = TypeVar("Model", bound=type)


def refuse_keras_files(load: str) -> Callable[[Model], Model]:
    """Makes a class of Keras models refuse .keras files, pickles, copies and clones.

    Each is a ConfigError that names the way: `save` a directory and load it.

    Args:
        load: str. The class's method that reads what its `save` writes.

    Returns:
        a class decorator.
    """

    def decorate(cls: Model) -> Model:
        def get_config(self: Any) -> NoReturn:
            """Raises ConfigError: a .keras file could not be read again."""
            raise ConfigError(no_keras_file(type(self).__name__, load))

        def reduce(self: Any) -> NoReturn:
            """Raises ConfigError: what is pickled or copied could not be read again."""
            name = type(self).__name__
            raise ConfigError(
                f"A {name} is not pickled or copied. To hand it to another process or to copy it, "
                f"`save(DIRECTORY)` it and `{name}.{load}(DIRECTORY)` it there; `get_weights()` "
                "and `set_weights(...)` copy the weights alone."
            )

        def run_through_graph(self: Any, *args: Any, **kwargs: Any) -> Any:
            # `keras.models.clone_model` walks through a model's graph.
            walker = getattr(kwargs.get("operation_fn"), "__module__", None)
            if walker == "keras.src.models.cloning":
                name = type(self).__name__
                raise ConfigError(
                    f"A {name} is not cloned. `save(DIRECTORY)` it and `{name}.{load}(DIRECTORY)` "
                    "it, or build a second one of the same preset."
                )
            return super(cls, self)._run_through_graph(*args, **kwargs)  # type: ignore[arg-type]

        methods = {
            "get_config": get_config,
            "__reduce__": reduce,
            "_run_through_graph": run_through_graph,
        }
        for name, value in methods.items():
            value.__name__, value.__qualname__ = name, f"{cls.__qualname__}.{name}"
            setattr(cls, name, value)
        cls.built = _built_flag(load)  # type: ignore[attr-defined]
        return cls

    return decorate


def no_keras_file(name: str, load: str = "from_preset") -> str:
    """Says that a model is not written as Keras' own file, and how it is saved.

    Args:
        name: str. The model's class.
        load: str. The class's method that reads what its `save` writes.

    Returns:
        str.
    """
    return (
        f"A {name} is not written as a .keras or .h5 file. `save(DIRECTORY)` writes a Hugging Face "
        f"directory, which `{name}.{load}(DIRECTORY)` and transformers read; "
        '`save_weights("x.weights.h5")` writes the weights alone.'
    )


def _built_flag(load: str) -> property:
    """Makes the attribute `built`, which `keras.saving.save_model` reads first of all.

    Keras opens the file before it asks for the model's config: an earlier file would be lost.
    """

    def get(model: Any) -> bool:
        caller = sys._getframe(1)
        if caller.f_code.co_name == "save_model" and caller.f_globals["__name__"].startswith(
            "keras.src.saving."
        ):
            raise ConfigError(no_keras_file(type(model).__name__, load))
        return bool(model.__dict__.get("built", False))

    def put(model: Any, value: bool) -> None:
        model.__dict__["built"] = value

    return property(get, put)
