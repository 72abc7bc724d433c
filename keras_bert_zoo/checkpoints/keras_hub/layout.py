"""The types of the name tables for KerasHub: layers, heads, families and their variables."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class Layer(NamedTuple):
    """A Keras layer and the Hugging Face module with its weights.

    Args:
        path: Keras' path inside the weights file. `{k}` is Keras' suffix of the block.
        name: Hugging Face's name of the module. `{i}` is the number of the block. A name that ends
            in `.bias` is the name of a tensor.
        shape: sizes by name. "a -> b" is a dense layer, "a by b" a table, "a" a LayerNorm.
    """

    path: str
    name: str
    shape: str


class Head(NamedTuple):
    """A KerasHub task whose head is equivalent to the head of a Hugging Face model.

    Args:
        architecture: Hugging Face's class.
        layers: layers of the head, in task.weights.h5.
        config: key in task.json -> key in config.json.
        fixed: key in config.json -> values that are equivalent to KerasHub's head. The first one is
            written.
    """

    architecture: str
    layers: tuple[Layer, ...]
    config: Mapping[str, str] = {}
    fixed: Mapping[str, tuple[Any, ...]] = {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """A family of encoders that KerasHub and Hugging Face have.

    Args:
        name: KerasHub's name without "Backbone".
        model_type: Hugging Face's name.
        model: Hugging Face's class of the bare encoder.
        prefix: prefix of the encoder in Hugging Face's models with a head.
        config: key of KerasHub's config -> equivalent keys of Hugging Face.
        fixed: Hugging Face's key -> values that are equivalent to KerasHub's encoder. The first one
            is written.
        defaults: Hugging Face's key -> its default, if this is not the first value of `fixed`.
        neutral: other keys of Hugging Face that do not affect the outputs.
        layers: layers outside the blocks.
        block_path: Keras' path of a block. `{k}` is its suffix.
        block_name: Hugging Face's name of a block. `{i}` is its number.
        block: layers of one block.
        pooler: KerasHub's pooler or None. Its name is empty if Hugging Face has no pooler.
        position_offset: number of unused rows at the start of Hugging Face's position table,
            without `pad_token_id`. None: there are no unused rows.
        segment_table: Hugging Face's table of segments that KerasHub lacks, or "".
        heads: kind of task -> Head.
        refused: kind of task -> the reason why its head is not supported.
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
    """A variable of a Keras layer, and its Hugging Face tensor.

    Args:
        path: path in the weights file.
        name: name of the tensor, without the prefix.
        shape: shape of the variable.
        tensor_shape: shape of the tensor.
        transposed: bool. Whether it is a dense kernel.
    """

    path: str
    name: str
    shape: tuple[int, ...]
    tensor_shape: tuple[int, ...]
    transposed: bool


def layer_sizes(family: Family, config: Mapping[str, Any]) -> dict[str, int]:
    """Returns the sizes for the names in `Layer.shape`, from a KerasHub config."""
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
        sizes: the result of `layer_sizes`.

    Returns:
        list of Variable, in Keras' order.
    """
    first, second = f"{layer.path}/vars/0", f"{layer.path}/vars/1"
    weight, bias = f"{layer.name}.weight", f"{layer.name}.bias"
    if "->" in layer.shape:
        # In Keras' shapes, `heads` and `head` are two dimensions.
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
    """Returns Keras' path and Hugging Face's name of every block.

    Args:
        family: Family.
        config: KerasHub's config.

    Returns:
        list of (path, name), in Keras' order. In ALBERT, many layers share one block.
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
    """Returns all layers of an encoder with weights, without the pooler.

    Args:
        family: Family.
        config: KerasHub's config.

    Returns:
        list of Layer, with full paths and names, without Hugging Face's prefix.
    """
    layers = list(family.layers)
    if family.model_type == "electra" and config["embedding_dim"] == config["hidden_dim"]:
        layers.pop()  # there is no projection if the widths are equal
    for path, name in block_names(family, config):
        layers += [Layer(path + part.path, name + part.name, part.shape) for part in family.block]
    return layers


def pooler_layer(family: Family, config: Mapping[str, Any]) -> Layer | None:
    """Returns KerasHub's pooler, or None if the family has none."""
    if family.model_type == "electra" and config["embedding_dim"] == config["hidden_dim"]:
        return Layer("layers/dense", "", "hidden -> hidden")
    return family.pooler
