"""Reads KerasHub's presets as Hugging Face checkpoints.

A preset is a directory with config.json (a serialized Keras object) and model.weights.h5. A task
also has task.json and task.weights.h5. The object is never deserialized: its class must be in a
closed list, its options are checked, and the weights are read as arrays. The outputs equal
KerasHub's. So `hidden_act` is gelu_new for BERT, ALBERT, ELECTRA and FNet, because KerasHub uses
the tanh approximation of GELU for them.

Tensors that KerasHub lacks are filled with values that have no effect. For RoBERTa, the segment
table and the unused rows of the position table are zeros.

KerasHub counts all tokens for RoBERTa's positions, and Hugging Face only those that are not
padding. The two agree if the padding is at the end, as in the preprocessing of both packages.
DeBERTa's largest distance is on the border of two buckets, and rounding decides between them. The
published sizes (256 buckets, 512 tokens) agree.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable

import numpy as np

from keras_bert_zoo.checkpoints.keras_hub.config import (
    KerasHubPreset,
    read_keras_hub_config,
    read_preset,
)
from keras_bert_zoo.checkpoints.keras_hub.h5 import WeightsFile, check_float, open_weights
from keras_bert_zoo.checkpoints.keras_hub.layout import (
    Variable,
    backbone_layers,
    layer_sizes,
    layer_variables,
    pooler_layer,
)
from keras_bert_zoo.checkpoints.messages import list_some
from keras_bert_zoo.checkpoints.source import TensorInfo, TensorSource
from keras_bert_zoo.errors import CheckpointError

__all__ = ["KerasHubSource", "open_keras_hub", "read_keras_hub_config"]

_logger = logging.getLogger(__name__)


def open_keras_hub(
    directory: str | os.PathLike[str], *, head: bool | None = None
) -> KerasHubSource:
    """Opens the weights of a preset as tensors under Hugging Face's names.

    Args:
        directory: path of a preset.
        head: see `read_keras_hub_config`.

    Returns:
        KerasHubSource. The caller must close it.

    Raises:
        CheckpointError: the weights are missing, damaged or hostile, or do not fit the config.
        ConfigError: some options of the preset are not supported. The message lists them.
    """
    return KerasHubSource(read_preset(directory, head=head))


class KerasHubSource(TensorSource):
    """The tensors of a KerasHub preset under Hugging Face's names; see `open_keras_hub`.

    A pooler of zeros is omitted: `write_keras_hub_preset` adds it to encoders without a pooler.

    Args:
        preset: KerasHubPreset.

    Attributes:
        preset: KerasHubPreset.
    """

    def __init__(self, preset: KerasHubPreset) -> None:
        self.preset = preset
        self._sources: dict[str, tuple[WeightsFile, Variable]] = {}
        self._zeros: dict[str, TensorInfo] = {}
        self._files: list[WeightsFile] = []
        left_out = list(preset.left_out)
        try:
            infos = self._open(left_out)
        except BaseException:
            self.close()
            raise
        path = ", ".join(file.path for file in self._files)
        if left_out:
            path += f" (without parts that Hugging Face does not support: {'; '.join(left_out)})"
            _logger.warning("%s: left out: %s.", preset.directory, "; ".join(left_out))
        super().__init__(path, infos)

    def close(self) -> None:
        """Closes the files."""
        while self._files:
            self._files.pop().close()

    def _open(self, left_out: list[str]) -> dict[str, TensorInfo]:
        preset = self.preset
        family, sizes = preset.family, layer_sizes(preset.family, preset.config)
        prefix = family.prefix if preset.head else ""
        weights = open_weights(preset.directory, "model")
        self._files.append(weights)
        layers = backbone_layers(family, preset.config)
        pooler = pooler_layer(family, preset.config)
        variables = [part for layer in layers for part in layer_variables(layer, sizes)]
        pooled = layer_variables(pooler, sizes) if pooler else []
        _check(weights, [*variables, *pooled], ())
        if pooler:
            empty = not preset.head and not any(weights.read(part.path).any() for part in pooled)
            if pooler.name and not empty:
                variables += pooled
            elif not empty:
                left_out.append(
                    f"{family.backbone}'s pooler, because {family.model} has none and returns only "
                    "the sequence"
                )
        for part in variables:
            self._sources[prefix + part.name] = (weights, part)
        if preset.head:
            task = open_weights(preset.directory, "task")
            self._files.append(task)
            sizes = sizes | {"labels": preset.head_config.get("num_classes", 0)}
            parts = [part for layer in preset.head.layers for part in layer_variables(layer, sizes)]
            _check(task, parts, ("optimizer/", f"layers/{_snake(family.backbone)}/"))
            for part in parts:
                # For single vectors, the table has the complete name.
                self._sources[part.name] = (task, part)
        return self._infos_of(prefix)

    def _infos_of(self, prefix: str) -> dict[str, TensorInfo]:
        infos = {
            name: TensorInfo(part.tensor_shape, weights.infos[part.path].dtype)
            for name, (weights, part) in self._sources.items()
        }
        if self.preset.first_position:
            name = prefix + "embeddings.position_embeddings.weight"
            rows, width = infos[name].shape
            infos[name] = TensorInfo((rows + self.preset.first_position, width), infos[name].dtype)
        if self.preset.family.segment_table:
            name = prefix + self.preset.family.segment_table
            width = self.preset.config["hidden_dim"]
            dtype = infos[prefix + "embeddings.word_embeddings.weight"].dtype
            infos[name] = self._zeros[name] = TensorInfo((1, width), dtype)
        return infos

    def _read(self, stored_name: str) -> np.ndarray:
        if stored_name in self._zeros:
            return np.zeros(*self._zeros[stored_name])
        weights, part = self._sources[stored_name]
        value = weights.read(part.path)
        if part.transposed:
            value = value.reshape(part.tensor_shape[::-1]).T
        else:
            value = value.reshape(part.tensor_shape)
        if stored_name.endswith("position_embeddings.weight") and self.preset.first_position:
            value = np.pad(value, ((self.preset.first_position, 0), (0, 0)))
        return value


def _check(weights: WeightsFile, parts: Iterable[Variable], ignored: tuple[str, ...]) -> None:
    """Raises CheckpointError unless a file has exactly these variables. Ignores some prefixes."""
    expected = {part.path: part for part in parts}
    missing = [
        f"{path} {part.shape}" for path, part in expected.items() if path not in weights.infos
    ]
    unexpected = [
        f"{path} {info.shape}"
        for path, info in weights.infos.items()
        if path not in expected and not path.startswith(ignored)
    ]
    misshapen = [
        f"{path} (expected {part.shape}, received {weights.infos[path].shape})"
        for path, part in expected.items()
        if path in weights.infos and weights.infos[path].shape != part.shape
    ]
    wrong = [check_float(weights, path) for path in expected if path in weights.infos]
    problems = [
        f"{label}: {list_some(items)}"
        for label, items in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("misshapen", misshapen),
            ("not floating-point", [text for text in wrong if text]),
        )
        if items
    ]
    if problems:
        raise CheckpointError(
            f"{weights.path} does not fit the preset's config.json. {'; '.join(problems)}."
        )


def _snake(name: str) -> str:
    """Returns the name of a class as in Keras' paths.

    >>> _snake("XLMRobertaBackbone"), _snake("FNetBackbone"), _snake("DebertaV3Backbone")
    ('xlm_roberta_backbone', 'f_net_backbone', 'deberta_v3_backbone')
    """
    parts = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", parts).lower()
