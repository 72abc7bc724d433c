"""The variables of an encoder with a head, for estimates of costs and of memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.encoders.registry import encoder_shapes, pooler_shapes
from keras_bert_zoo.encoders.shapes import Shapes
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.heads.kinds import HEADS, head_kind, head_shapes
from keras_bert_zoo.metrics.replaced_token import REPLACED_TOKENS

__all__ = ["OF_ALL_TOKENS", "ModelShapes", "model_shapes", "task_shapes"]

OF_ALL_TOKENS = ("key", "value", "projection", "input_bottleneck", "query_key_bottleneck")
"""Layers of a block whose outputs attention needs for all tokens, even if only the first token of
each row goes on (the last block of a model with a pooled output)."""


@dataclass(frozen=True)
class ModelShapes:
    """The variables of an encoder with a head, as far as costs depend on them.

    Args:
        config: EncoderConfig.
        shapes: dict, variable path -> shape, of encoder, pooler and head.
        frozen: paths of the variables that are not trained.
        head: str. The layer name of the head; its variables' paths start with it. "": none.
        reads: "pooled" (the pooled output), "tokens" (all tokens), or "predicted" (the tokens to
            predict): what the head computes on.
        tied: bool. Whether the last kernel of the head is the token embedding.
        first_token_only: bool. Whether the last block only computes the first token of each row.
        shared: paths of variables that belong to another model, which counts them.
        generator: ModelShapes or None. A second model that is trained in the same step.
    """

    config: EncoderConfig
    shapes: Mapping[str, tuple[int, ...]]
    frozen: frozenset[str] = frozenset()
    head: str = ""
    reads: str = "tokens"
    tied: bool = False
    first_token_only: bool = False
    shared: frozenset[str] = frozenset()
    generator: ModelShapes | None = None

    def of_block(self, name: str) -> Shapes:
        """Returns the shapes of a block's variables, by their paths in the block."""
        prefix = f"{name}/"
        return {
            path.removeprefix(prefix): shape
            for path, shape in self.shapes.items()
            if path.startswith(prefix)
        }

    def blocks(self) -> list[str]:
        """Returns the names of the blocks in the order in which they are applied."""
        config: Any = self.config
        if config.family == "albert":
            return [
                f"group_{config.group_of(layer)}_block_{block}"
                for layer in range(config.num_layers)
                for block in range(config.blocks_per_group)
            ]
        return [f"block_{i}" for i in range(config.num_layers)]

    def is_trained(self, paths: Iterable[str]) -> bool:
        """Returns whether any of these variables is trained."""
        return any(path not in self.frozen for path in paths)

    @property
    def own(self) -> Shapes:
        """The shapes of the variables that are not shared."""
        return {path: shape for path, shape in self.shapes.items() if path not in self.shared}

    @property
    def parameters(self) -> int:
        """The number of parameters, with those of the generator."""
        others = 0 if self.generator is None else self.generator.parameters
        return sum(map(math.prod, self.own.values())) + others

    @property
    def trained_parameters(self) -> int:
        """The number of parameters that are trained, with those of the generator."""
        others = 0 if self.generator is None else self.generator.trained_parameters
        own = self.own.items()
        return sum(math.prod(shape) for path, shape in own if path not in self.frozen) + others


def model_shapes(
    config: EncoderConfig,
    *,
    head: str | None = None,
    units: int | None = None,
    frozen_blocks: int = 0,
    frozen_embeddings: bool | None = None,
) -> ModelShapes:
    """Describes an encoder with a head that is not built.

    Args:
        config: EncoderConfig of any family.
        head: str. One of `heads.kinds.HEADS`; None: the encoder alone.
        units: int. Number of labels, for the heads that have labels.
        frozen_blocks: int. See `Encoder.freeze`.
        frozen_embeddings: bool. Whether the embeddings are frozen; None: if blocks are.

    Returns:
        ModelShapes.

    Raises:
        ConfigError: unknown head, or `frozen_blocks` is out of range.

    Example:
        >>> model_shapes(EncoderConfig(), head="classification", units=2).parameters
        109483778
    """
    if not 0 <= frozen_blocks <= config.num_layers:
        raise ConfigError(
            f"Expected `frozen_blocks` from 0 to {config.num_layers}, received {frozen_blocks}."
        )
    shapes: Shapes = dict(encoder_shapes(config))
    pooled = head is not None and head_kind(head).pooled
    if pooled:
        shapes |= pooler_shapes(config, "multiple_choice" if head == "multiple_choice" else "")
    name, reads, tied = "", "tokens", False
    if head is not None:
        name = HEADS[head].name
        of_head = head_shapes(config, head, units)
        tied = head == "masked_lm" and f"{name}/decoder/kernel" not in of_head
        shapes |= of_head
        reads = "pooled" if pooled else "predicted" if head == "masked_lm" else "tokens"
    first = pooled and _reads_first_token(config, head)
    model = ModelShapes(config, shapes, frozenset(), name, reads, tied, first)
    lower = set(model.blocks()[:frozen_blocks])
    if frozen_embeddings is None:
        frozen_embeddings = frozen_blocks > 0
    parts = lower | ({"embeddings"} if frozen_embeddings else set())
    frozen = frozenset(path for path in shapes if path.partition("/")[0] in parts)
    return ModelShapes(config, shapes, frozen, name, reads, tied, first)


def task_shapes(task: Any) -> ModelShapes:
    """Describes a task with its head, its frozen weights and its LoRA updates.

    Args:
        task: Task.

    Returns:
        ModelShapes. The decoder of a translator, and the scores of spans of a token classifier, are
        not part of it.
    """
    encoder, head, name = task.encoder, task.head, task.spec.head
    heads = [head]
    generator = None
    if isinstance(head, Mapping):  # of pretraining; those of pairs compute on one vector per row
        heads, name = list(head.values()), "masked_lm"
        if REPLACED_TOKENS in head:
            generator, name = _generator_shapes(head["masked_lm"]), REPLACED_TOKENS
            heads = [head[name]]
        head = head[name]
    weights = [*encoder.weights, *(weight for part in heads for weight in part.weights)]
    frozen = frozenset(weight.path for weight in weights if not weight.trainable)
    shapes = {weight.path: tuple(weight.shape) for weight in weights}
    kind = HEADS.get(name)
    predicted = name == "masked_lm"
    pooled = kind is not None and kind.pooled
    if kind is None:  # heads of embedders and of relations compute on few vectors per row
        pooled = task.spec.name not in ("translation",)
    return ModelShapes(
        encoder.config,
        shapes,
        frozen,
        head.name,
        "predicted" if predicted else "pooled" if pooled else "tokens",
        predicted and bool(getattr(head, "tied", False)),
        kind is not None
        and pooled
        and encoder.pooler is not None
        and bool(encoder.pooler.reads_first_token),
        generator=generator,
    )


def _generator_shapes(generator: Any) -> ModelShapes:
    """Describes the generator of replaced token detection."""
    encoder, head = generator.encoder, generator.head
    weights = [*encoder.weights, *head.weights]
    shared = {id(variable) for variable in generator.shared_variables}
    return ModelShapes(
        encoder.config,
        {weight.path: tuple(weight.shape) for weight in weights},
        frozenset(weight.path for weight in weights if not weight.trainable),
        head.name,
        "predicted",
        head.tied,
        shared=frozenset(weight.path for weight in weights if id(weight) in shared),
    )


def _reads_first_token(config: Any, head: str | None) -> bool:
    """Whether the pooler reads the first token of each row, and no other."""
    if config.family == "roformer" and head == "multiple_choice":
        return False  # the last one
    return bool(getattr(config, "classifier_pooling", "cls") == "cls")
