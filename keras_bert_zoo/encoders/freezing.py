"""Freezing the lower part of an encoder."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from keras_bert_zoo.encoders.parts import Parts
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.layers.dense import Dense


def freeze_blocks(parts: Parts, blocks: int | None = None, *, embeddings: bool = True) -> None:
    """Freezes the lower part of an encoder; see `Encoder.freeze`.

    Args:
        parts: Parts of the encoder.
        blocks: int. Number of frozen blocks, from the bottom. None: the whole encoder.
        embeddings: bool. Whether the embeddings are frozen.

    Raises:
        ConfigError: `blocks` is out of range, or a frozen block shares weights with a trained one.
    """
    count = len(parts.blocks)
    whole = blocks is None
    frozen = count if blocks is None else blocks
    if isinstance(frozen, bool) or not isinstance(frozen, int) or not 0 <= frozen <= count:
        expected = f"None or an integer from 0 to {count}"
        raise ConfigError(f"Expected `blocks` to be {expected}, received {blocks!r}.")
    lower = {id(block) for block in parts.blocks[:frozen]}
    if any(id(block) in lower for block in parts.blocks[frozen:]):
        raise ConfigError(
            "Expected frozen blocks that share no weights with later blocks, received `blocks` = "
            f"{frozen}; freeze the whole encoder with `freeze()`."
        )
    for block in parts.blocks:
        block.trainable = id(block) not in lower
    parts.embeddings.trainable = not embeddings
    rest = (parts.context, parts.final, parts.pooler)
    for layer in rest:
        if layer is not None:
            layer.trainable = not whole


def frozen_paths(model: keras.Model) -> list[str]:
    """Returns the paths of the weights that are not trainable."""
    return sorted(weight.path for weight in model.weights if not weight.trainable)


def freeze_paths(model: keras.Model, paths: Iterable[str]) -> None:
    """Makes all weights of a model trainable, except those with the given paths.

    Raises:
        ConfigError: the model has no weight of a path.
    """
    frozen = frozenset(paths)
    unknown = frozen - {weight.path for weight in model.weights}
    if unknown:
        raise ConfigError(f"The model has no weights {', '.join(sorted(unknown)[:5])} to freeze.")
    for weight in model.weights:
        weight.trainable = weight.path not in frozen


def dense_layers(encoder: Any) -> list[Dense]:
    """Returns the dense layers of an encoder's blocks, each once."""
    layers = {
        id(layer): layer
        for block in encoder.blocks
        for layer in block._flatten_layers()
        if isinstance(layer, Dense) and layer.built
    }
    return list(layers.values())
