"""Encoders with fewer blocks."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_bert_zoo.adaptation.rebuild import AnyModel, encoder_of, rebuilt
from keras_bert_zoo.encoders.registry import EncoderConfig
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.validation import is_integer, show

_BLOCK = re.compile(r"^block_(\d+)/")


def select_layers(model: AnyModel, layers: int | Sequence[int]) -> AnyModel:
    """Returns a copy of a model with some of the encoder's blocks.

    The time of an encoder is proportional to its blocks. Accuracy falls until the copy is trained
    again; `distill` does it with the model as its teacher.

    Args:
        model: Encoder, HeadedModel, or a task with one encoder. Its updates and its LoRA are
            copied.
        layers: the numbers of the blocks to keep, ascending; 0 is the lowest. Or their count:
            evenly spaced, from the first to the last.

    Returns:
        a model of the same class.

    Raises:
        ConfigError: a model without one encoder, no such blocks, or blocks that cannot be separated
            (ALBERT with several groups; a first block that differs from the others).

    Example:
        >>> import keras_bert_zoo as kbz
        >>> encoder = kbz.Encoder.from_preset("minilm_l6_en_uncased")
        >>> kbz.select_layers(encoder, 3).config.num_layers  # blocks 0, 2 and 5
        3

    Source: arXiv 2004.03844.
    """
    encoder = encoder_of(model)
    old: Any = encoder.config
    chosen = _numbers(layers, old.num_layers)
    if getattr(old, "num_groups", 1) > 1:
        raise ConfigError(
            f"Expected an encoder without groups of layers, received {old.num_groups} groups."
        )
    values = {variable.path: variable for variable in encoder.weights}
    if model is not encoder:
        values |= {variable.path: variable for variable in model.weights}

    def weights_of(number: int) -> set[str]:
        prefix = f"block_{number}/"
        return {path.removeprefix(prefix) for path in values if path.startswith(prefix)}

    if weights_of(chosen[0]) != weights_of(0):
        raise ConfigError(
            f"Expected `layers` to start with 0, because the first block of a {old.family} "
            f"encoder differs from the others; received {show(layers)}."
        )
    places = {number: place for place, number in enumerate(chosen)}

    def new_path(path: str) -> str | None:
        match = _BLOCK.match(path)
        if match is None:
            return path
        place = places.get(int(match[1]))
        return None if place is None else _BLOCK.sub(f"block_{place}/", path)

    def edit(plain: dict[str, Any], of_encoder: dict[str, Any]) -> None:
        for config in [plain] if plain is of_encoder else [plain, of_encoder]:
            config["frozen"] = _renamed(dict.fromkeys(config["frozen"]), new_path)
        lora = of_encoder["lora"]
        lora["layers"] = _renamed(lora["layers"], new_path)
        lora["frozen_before"] = list(_renamed(dict.fromkeys(lora["frozen_before"]), new_path))

    def value(path: str, shape: tuple[int, ...]) -> np.ndarray:
        match = _BLOCK.match(path)
        source = path if match is None else _BLOCK.sub(f"block_{chosen[int(match[1])]}/", path)
        number: np.ndarray = values[source].numpy()
        return number

    return rebuilt(model, _with_layers(old, chosen), edit, value)


def _numbers(layers: Any, count: int) -> list[int]:
    """Returns the numbers of the chosen blocks."""
    if is_integer(layers) and 0 < layers <= count:
        if layers == 1:
            return [0]
        return [round(i * (count - 1) / (layers - 1)) for i in range(layers)]
    listed = list(layers) if isinstance(layers, Sequence) and not isinstance(layers, str) else []
    if (
        not listed
        or not all(is_integer(i) and 0 <= i < count for i in listed)
        or listed != sorted(set(listed))
    ):
        raise ConfigError(
            f"Expected `layers` to be an integer from 1 to {count}, or ascending numbers from 0 to "
            f"{count - 1}, received {show(layers)}."
        )
    return [int(i) for i in listed]


def _with_layers(config: EncoderConfig, chosen: list[int]) -> EncoderConfig:
    changes: dict[str, Any] = {"num_layers": len(chosen)}
    types = getattr(config, "attention_types", ())  # ModernBERT: one for each block
    if types:
        changes["attention_types"] = tuple(types[i] for i in chosen)
    return dataclasses.replace(config, **changes)


def _renamed(paths: dict[str, Any], new_path: Any) -> dict[str, Any]:
    """Returns the paths that remain, renamed."""
    pairs = ((new_path(path), value) for path, value in paths.items())
    return {path: value for path, value in pairs if path is not None}
