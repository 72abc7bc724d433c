"""Keras' own file format, .keras, for models that are built from an encoder's config.

A model's `get_config` holds everything but the weights: configurations, labels, the tokenizer's
files, and which weights are frozen. Keras stores it in the file together with the weights.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import keras

from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.encoders.freezing import dense_layers, freeze_paths, frozen_paths
from keras_bert_zoo.errors import BertZooError, CheckpointError, ConfigError
from keras_bert_zoo.text.serialization import tokenizer_config, tokenizer_from_config

__all__ = [
    "check_config",
    "encoder_config",
    "encoder_from_config",
    "is_keras_file",
    "save_keras_file",
    "usable_config",
]

AnyEncoder = TypeVar("AnyEncoder", bound=Any)

_REQUIRED = ("config", "options", "other_config", "name", "frozen", "lora", "tokenizer")


def is_keras_file(path: str | os.PathLike[str]) -> bool:
    """Whether a path names a .keras file, not a directory.

    Raises:
        ConfigError: the path names an HDF5 file, which is not supported.

    Example:
    >>> is_keras_file("model.keras"), is_keras_file("model")
    (True, False)
    """
    suffix = os.path.splitext(os.fspath(path))[1]
    if suffix in (".h5", ".hdf5"):
        raise ConfigError(
            f"Expected a directory or a .keras file, received {os.fspath(path)!r}. Use "
            '`save_weights("x.weights.h5")` for the weights alone.'
        )
    return suffix == ".keras"


def save_keras_file(
    model: keras.Model, path: str | os.PathLike[str], *, overwrite: bool = True
) -> None:
    """Writes a .keras file. An earlier file stays complete until the new one is.

    Args:
        model: Keras model.
        path: path that ends in .keras.
        overwrite: bool. Whether to replace an earlier file.

    Raises:
        CheckpointError: the file cannot be written, or it exists and `overwrite` is False.
    """
    target = Path(path)
    if target.exists() and not overwrite:
        raise CheckpointError(f"{os.fspath(path)!r} exists, and `overwrite` is False.")
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
            new = Path(folder) / target.name
            keras.saving.save_model(model, new)
            os.replace(new, target)
    except OSError as error:
        raise CheckpointError(f"Cannot write {os.fspath(path)!r}: {error}.") from error


def encoder_config(encoder: Any, *, tokenizer: bool = True) -> dict[str, Any]:
    """Returns the arguments that build an encoder again; see `Encoder.get_config`.

    Args:
        encoder: Encoder.
        tokenizer: bool. Whether to include the tokenizer.
    """
    own = encoder.tokenizer if tokenizer else None
    lora = {
        layer.kernel.path: {
            "rank": int(layer.lora_a.shape[1]),
            "alpha": float(layer.lora_scale * layer.lora_a.shape[1]),
            "dropout": float(layer.lora_dropout),
        }
        for layer in dense_layers(encoder)
        if layer.lora_a is not None
    }
    return {
        "config": encoder.config.to_huggingface(),
        "options": encoder.build_options | {"dtype": encoder.embeddings.dtype_policy.name},
        "other_config": dict(encoder.other_config),
        "name": encoder.name,
        "frozen": frozen_paths(encoder),
        "lora": {"layers": lora, "frozen_before": list(encoder.frozen_before_lora)},
        "tokenizer": None if own is None else tokenizer_config(own),
    }


def encoder_from_config(cls: type[AnyEncoder], config: Mapping[str, Any]) -> AnyEncoder:
    """Builds an encoder with random weights from `encoder_config`.

    Args:
        cls: the family's class.
        config: result of `encoder_config`.

    Returns:
        Encoder.

    Raises:
        ConfigError: a key is missing, or a value is not supported.
        CheckpointError: the tokenizer's files are damaged.
    """
    with usable_config(cls.__name__):
        return _encoder_from_config(cls, config)


def _encoder_from_config(cls: type[AnyEncoder], config: Mapping[str, Any]) -> AnyEncoder:
    check_config(config, _REQUIRED, cls.__name__)
    family: type[EncoderConfig] = cls.config_class
    encoder = cls(
        family.from_huggingface(config["config"]), name=config["name"], **config["options"]
    )
    encoder.other_config = dict(config["other_config"])
    if config["tokenizer"] is not None:
        encoder.tokenizer = tokenizer_from_config(config["tokenizer"])
    updates = config["lora"]["layers"]
    if updates:
        for layer in dense_layers(encoder):
            if layer.kernel.path in updates:
                layer.enable_lora(**updates[layer.kernel.path])
        encoder.frozen_before_lora = tuple(config["lora"]["frozen_before"])
    freeze_paths(encoder, config["frozen"])
    return encoder


@contextmanager
def usable_config(name: str) -> Iterator[None]:
    """Turns errors of a damaged config into CheckpointError.

    Args:
        name: str. The class of the model.
    """
    try:
        yield
    except BertZooError:
        raise
    except Exception as error:
        problem = f"{type(error).__name__}: {error}".splitlines()[0]
        raise CheckpointError(f"The config of a {name} is damaged: {problem:.200}") from error


def check_config(config: Any, required: Iterable[str], name: str) -> None:
    """Checks the keys of a model's config.

    Raises:
        ConfigError: `config` is not a dict with exactly these keys.
    """
    expected = set(required)
    received = set(config) if isinstance(config, Mapping) else set()
    if received != expected:
        raise ConfigError(
            f"Expected the config of a {name} with the keys {', '.join(sorted(expected))}; "
            f"missing: {', '.join(sorted(expected - received)) or 'none'}, unexpected: "
            f"{', '.join(sorted(map(str, received - expected))) or 'none'}."
        )
