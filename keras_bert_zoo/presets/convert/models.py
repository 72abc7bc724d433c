"""The model of a conversion: loaded from the source and from the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_bert_zoo.checkpoints.keras_hub.options import find_family
from keras_bert_zoo.checkpoints.names import names_of
from keras_bert_zoo.checkpoints.source import TensorInfo, TensorSource
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.presets.encoder_files import load_encoder
from keras_bert_zoo.presets.headed_model import HeadedModel
from keras_bert_zoo.presets.labels import architectures_of
from keras_bert_zoo.presets.load import find_pooler
from keras_bert_zoo.presets.resolve import LABEL_KEYS, Checkpoint


@dataclass
class Model:
    """An encoder, alone or with heads.

    Attributes:
        encoder: Encoder.
        heads: kinds of the heads.
        call: the model that computes the outputs.
        left_out: kinds of heads of the checkpoint that were not loaded.
    """

    encoder: Encoder
    heads: tuple[str, ...]
    call: keras.Model
    left_out: tuple[str, ...] = ()


def load_model(checkpoint: Checkpoint, *, encoder_only: bool = False) -> Model:
    """Loads a checkpoint with its heads, or the encoder alone if it has no known head."""
    heads, pooler = _parts(checkpoint)
    if heads and not encoder_only:
        model = HeadedModel.from_preset(checkpoint)
        return Model(model.encoder, tuple(model.heads), model)
    # The pooler of a head is not a part of the bare encoder.
    encoder = load_encoder(checkpoint, pooler=False if encoder_only and pooler else None)
    return Model(encoder, (), encoder, heads)


def _parts(checkpoint: Checkpoint) -> tuple[tuple[str, ...], str]:
    """Returns the heads of a checkpoint, and the head of its pooler (or "")."""
    family = checkpoint.names
    classes = {name: kinds for kinds, name in family.architectures.items()}
    listed = [classes[name] for name in architectures_of(checkpoint.raw) if name in classes]
    with checkpoint.open() as tensors:
        pooler = find_pooler(family, tensors) or ""
        complete = tuple(
            kind
            for kind, table in family.heads.items()
            if all(name in tensors for name in table.values() if name not in family.tied)
        )
    if listed:
        return tuple(kind for kind in listed[0].split("+") if kind), pooler
    return complete, pooler


class _Renamed(TensorSource):
    """Some tensors of an open checkpoint, with other names.

    Args:
        tensors: TensorSource.
        names: new name -> name in `tensors`.
    """

    def __init__(self, tensors: TensorSource, names: Mapping[str, str]) -> None:
        infos = {
            name: TensorInfo(tensors.shape(old), tensors.dtype(old)) for name, old in names.items()
        }
        super().__init__(tensors.path, infos)
        self._tensors, self._names = tensors, dict(names)

    def _read(self, stored_name: str) -> np.ndarray:
        return self._tensors.read(self._names[stored_name])


def bare_checkpoint(
    config: Mapping[str, Any], tensors: TensorSource, encoder: Encoder, to: str
) -> tuple[dict[str, Any], TensorSource]:
    """Returns the config and the tensors of the encoder alone."""
    family = names_of(encoder.config)
    table = family.encoder(encoder.config)
    if to != "keras-hub" or _keras_hub_pools(config):
        table |= family.pooler()
    theirs = family.in_file(table, family.prefix_of(tensors.names()))
    ours = family.in_file(table, "")
    names = {ours[path]: theirs[path] for path in table if theirs[path] in tensors}
    unlabelled = {key: value for key, value in config.items() if key not in LABEL_KEYS}
    return unlabelled | {"architectures": [family.architectures[""]]}, _Renamed(tensors, names)


def _keras_hub_pools(config: Mapping[str, Any]) -> bool:
    return find_family(config).pooler is not None
