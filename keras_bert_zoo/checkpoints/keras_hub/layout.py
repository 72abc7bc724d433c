"""What a KerasHub layer, head and family of encoders are, and which variables they have."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class Layer(NamedTuple):
    """A Keras layer and what holds its weights at Hugging Face.

    Args:
        path: Keras' path inside the weights file; `{k}` is the block, counted as Keras does.
        name: the module's name at Hugging Face; `{i}` is the block. A name that ends in `.bias`
            is a lone vector's own name.
        shape: sizes by name. "a -> b" is a dense layer, "a by b" a table, "a" a LayerNorm.
    """

    path: str
    name: str
    shape: str


class Head(NamedTuple):
    """A task of KerasHub's whose head computes what a Hugging Face model's head does.

    Args:
        architecture: Hugging Face's class.
        layers: of the head, in task.weights.h5.
        config: key in task.json -> key in config.json.
        fixed: key in config.json -> values that stand for what the head computes; the first is
            written.
    """

    architecture: str
    layers: tuple[Layer, ...]
    config: Mapping[str, str] = {}
    fixed: Mapping[str, tuple[Any, ...]] = {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """A family of encoders that both have.

    Args:
        name: KerasHub's, without "Backbone".
        model_type: Hugging Face's.
        model: Hugging Face's class of the bare encoder.
        prefix: where Hugging Face's models with a head keep the encoder.
        config: key of KerasHub's config -> Hugging Face's keys of the same meaning.
        fixed: Hugging Face's key -> values that stand for what KerasHub always computes; the
            first is written.
        defaults: Hugging Face's key -> what holds where a config.json leaves it out, for all
            keys above whose default is not the first of `fixed`.
        neutral: further keys of Hugging Face's that do not change what is computed.
        layers: outside the blocks.
        block_path: of a block in Keras; `{k}` counts.
        block_name: of a block at Hugging Face; `{i}` is its number.
        block: layers of one block.
        pooler: KerasHub's pooler, where it has one; an empty name if Hugging Face has none.
        position_offset: rows that Hugging Face's position table has before the first position,
            besides `pad_token_id`; None if it has none.
        segment_table: Hugging Face's table of segments that KerasHub lacks, or "".
        heads: kind of task -> Head.
        refused: kind of task -> why its head cannot be expressed.
    """

    name: str
    model_type: str
    model: str
    prefix: str
    config: Mapping[str, tuple[str, ...]]
    fixed: Mapping[str, tuple[Any, ...]]
    defaults: Mapping[str, Any]
    neutral: tuple[str, ...] = ()
    layers: tuple[Layer, ...]
    block_path: str = "layers/transformer_encoder{k}/"
    block_name: str
    block: tuple[Layer, ...]
    pooler: Layer | None = None
    position_offset: int | None = None
    segment_table: str = ""
    heads: Mapping[str, Head]
    refused: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def backbone(self) -> str:
        """KerasHub's class of the encoder."""
        return f"{self.name}Backbone"


class Variable(NamedTuple):
    """One array of a Keras layer, and the tensor that it is at Hugging Face.

    Args:
        path: in the weights file.
        name: at Hugging Face, without prefix.
        shape: in Keras.
        tensor_shape: at Hugging Face; of a kernel the reversed one.
        transposed: bool. Whether it is a dense kernel.
    """

    path: str
    name: str
    shape: tuple[int, ...]
    tensor_shape: tuple[int, ...]
    transposed: bool


def layer_sizes(family: Family, config: Mapping[str, Any]) -> dict[str, int]:
    """Returns the sizes that the tables name, for a KerasHub config."""
    vocabulary = "vocab_size" if "vocab_size" in family.config else "vocabulary_size"
    sizes = {
        "vocabulary": config[vocabulary],
        "hidden": config["hidden_dim"],
        "intermediate": config["intermediate_dim"],
        "positions": config["max_sequence_length"],
        "embedding": config.get("embedding_dim", 0),
        "segments": config.get("num_segments", 0),
        "distances": 2 * config.get("bucket_size", 0),
        "heads": config.get("num_heads", 1),
    }
    return sizes | {"head": sizes["hidden"] // sizes["heads"]}


def layer_variables(layer: Layer, sizes: Mapping[str, int]) -> list[Variable]:
    """Returns a layer's variables.

    Args:
        layer: Layer, with full path and name.
        sizes: as `layer_sizes` returns them.

    Returns:
        list of Variable, as Keras counts them.
    """
    first, second = f"{layer.path}/vars/0", f"{layer.path}/vars/1"
    weight, bias = f"{layer.name}.weight", f"{layer.name}.bias"
    if "->" in layer.shape:
        # Keras keeps heads and head apart, on whichever side they are.
        inputs, outputs = (
            tuple(sizes[size] for size in side.split()) for side in layer.shape.split(" -> ")
        )
        merged = (math.prod(outputs), math.prod(inputs))
        return [
            Variable(first, weight, (*inputs, *outputs), merged, True),
            Variable(second, bias, outputs, merged[:1], False),
        ]
    shape = tuple(sizes[size] for size in layer.shape.split(" by "))
    if layer.name.endswith(".bias"):
        return [Variable(first, layer.name, shape, shape, False)]
    if len(shape) == 2:
        return [Variable(first, weight, shape, shape, False)]
    return [
        Variable(first, weight, shape, shape, False),
        Variable(second, bias, shape, shape, False),
    ]


def block_names(family: Family, config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns every block's path in Keras and name at Hugging Face.

    Args:
        family: Family.
        config: KerasHub's.

    Returns:
        list of (path, name), in Keras' order. ALBERT's groups share one block for many layers.
    """
    if family.model_type == "albert":
        inner = config["num_inner_repetitions"]
        numbers = [{"g": g, "r": r} for g in range(config["num_groups"]) for r in range(inner)]
    else:
        numbers = [{"i": i} for i in range(config["num_layers"])]
    return [
        (family.block_path.format(k=f"_{at}" if at else ""), family.block_name.format(**number))
        for at, number in enumerate(numbers)
    ]


def backbone_layers(family: Family, config: Mapping[str, Any]) -> list[Layer]:
    """Returns all layers of an encoder that have weights, without the pooler.

    Args:
        family: Family.
        config: KerasHub's.

    Returns:
        list of Layer, full paths and names, without Hugging Face's prefix.
    """
    layers = list(family.layers)
    if family.model_type == "electra" and config["embedding_dim"] == config["hidden_dim"]:
        layers.pop()  # no projection where there is nothing to project
    for path, name in block_names(family, config):
        layers += [Layer(path + part.path, name + part.name, part.shape) for part in family.block]
    return layers


def pooler_layer(family: Family, config: Mapping[str, Any]) -> Layer | None:
    """Returns KerasHub's pooler, or None if the family has none."""
    if family.model_type == "electra" and config["embedding_dim"] == config["hidden_dim"]:
        return Layer("layers/dense", "", "hidden -> hidden")
    return family.pooler
