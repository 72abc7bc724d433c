"""ELECTRA's replaced token detection: a generator replaces tokens, the encoder detects them.

Legend: B batch, S length, P masked positions of a row, V vocabulary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.data.hashing import mixed, uniform
from keras_bert_zoo.data.pipeline import NO_LABEL
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.encoders.parts import layout_inputs
from keras_bert_zoo.encoders.registry import build_encoder
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.heads.kinds import make_head
from keras_bert_zoo.validation import is_number

__all__ = [
    "GENERATOR_SHARE",
    "Generator",
    "different_embeddings",
    "generator_config",
    "new_generator",
    "original_tokens",
    "replaced_outputs",
    "sample_tokens",
]

GENERATOR_SHARE = 0.25
"""The width of a generator as a share of the encoder's: that of ELECTRA-small."""


@keras.saving.register_keras_serializable("keras_bert_zoo")
class Generator(keras.layers.Layer):
    """A small masked language model that replaces the masked tokens by samples.

    It has the embeddings of the encoder that it trains (tables and norm), but its own projection
    and blocks. No gradient flows from the encoder's loss through the samples. The random numbers
    are a hash of the masked row: other masks of a text give other samples.

    Args:
        encoder: Encoder, the generator's.
        head: MaskedLMHead on it.
        shared: Encoder, the one to train; of the same family, with embeddings of the same width.

    Call arguments:
        inputs: see `Pretrainer`.
        token_layout, attention_groups: see `Encoder`.
        training: bool.

    Returns:
        float32 (B, P, V), logits of the masked positions; and int32 (B, S), the tokens with
        samples at the masked positions.

    Raises:
        ConfigError: the embeddings cannot be shared.

    Source: arXiv 2003.10555, sections 2 and 3.2; google-research/electra shares all variables of
    the embeddings' scope.
    """

    def __init__(self, encoder: Encoder, head: Any, *, shared: Encoder, **kwargs: Any) -> None:
        super().__init__(**{"name": "generator"} | kwargs)
        self.encoder = encoder
        self.head = head
        _share_embeddings(encoder, shared)

    @property
    def shared_variables(self) -> list[keras.Variable]:
        """The variables of the embeddings that both encoders have."""
        return _shared_variables(self.encoder.embeddings)

    def build(self, *_: Any) -> None:
        """The parts are built already."""

    def compute_output_spec(
        self, inputs: Mapping[str, Any], **_: Any
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Returns the shapes and dtypes of `call`'s outputs, without a graph."""
        shape = (*inputs["mask_positions"].shape, self.encoder.config.vocabulary_size)
        return (
            keras.KerasTensor(shape, dtype="float32"),
            keras.KerasTensor(inputs["token_ids"].shape, dtype="int32"),
        )

    def call(
        self,
        inputs: Mapping[str, tf.Tensor],
        *,
        token_layout: str = "packed",
        attention_groups: int = 1,
        training: bool = False,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes the logits and draws tokens; see the class."""
        positions = inputs["mask_positions"]
        tokens = layout_inputs(inputs)
        states, layout = self.encoder.token_states(
            tokens, token_layout=token_layout, attention_groups=attention_groups
        )
        logits = self.head(states, layout, positions, training=training)
        rows = tf.reshape(tf.stop_gradient(logits), [-1, logits.shape[-1]])
        samples = sample_tokens(rows, tf.reshape(_random_numbers(inputs), [-1]))
        # Padding of positions has the column 0 of [CLS], which is never masked.
        replaced = _placed(
            tf.cast(tokens["token_ids"], tf.int32),
            positions,
            tf.reshape(samples, tf.shape(positions)),
            positions > 0,
        )
        return logits, replaced


def sample_tokens(logits: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
    """Draws tokens from the distributions of logits, by inversion.

    The cumulative sums are those of blocks, and of the tokens of the block with the drawn number:
    sums over the whole vocabulary take three times as long, on CPU.

    Args:
        logits: float (N, V).
        numbers: float32 (N,), random numbers in [0, 1).

    Returns:
        int32 (N,).

    Example:
        >>> logits = tf.math.log([[0.2, 0.5, 0.3]])
        >>> [int(sample_tokens(logits, tf.constant([u]))[0]) for u in (0.1, 0.3, 0.9)]
        [0, 1, 2]
    """
    vocabulary = logits.shape[-1]
    weights = tf.exp(logits - tf.reduce_max(logits, axis=-1, keepdims=True))
    weights = tf.pad(weights, [[0, 0], [0, -vocabulary % _BLOCK]])
    blocks = tf.reshape(weights, [-1, weights.shape[-1] // _BLOCK, _BLOCK])
    ends = tf.cumsum(tf.reduce_sum(blocks, axis=-1), axis=-1)
    drawn = numbers[:, tf.newaxis] * ends[:, -1:]
    # Sums in another order round differently: the last block and the last token are the limits.
    block = tf.minimum(tf.searchsorted(ends, drawn, side="right"), ends.shape[-1] - 1)
    begin = tf.gather(tf.pad(ends, [[0, 0], [1, 0]]), block, batch_dims=1)
    inside = tf.cumsum(tf.gather(blocks, block, batch_dims=1)[:, 0], axis=-1)
    place = tf.minimum(tf.searchsorted(inside, drawn - begin, side="right"), _BLOCK - 1)
    return tf.minimum(block * _BLOCK + place, vocabulary - 1)[:, 0]


_BLOCK = 128


def _random_numbers(inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """float32 (B, P), in [0, 1], from the masked tokens of a row and the position.

    So the samples do not depend on the other rows of a batch, and a run that goes on has the same.
    """
    token_ids, positions = inputs["token_ids"], inputs["mask_positions"]
    columns = mixed(tf.cast(tf.range(tf.shape(token_ids)[1]), tf.uint64))
    places = mixed(tf.cast(token_ids, tf.uint64) + columns)
    present = tf.cast(inputs["padding_mask"] != 0, tf.uint64)
    row = tf.reduce_sum(places * present, axis=1, keepdims=True)
    return tf.cast(uniform(mixed(row + tf.cast(positions, tf.uint64))), tf.float32)


def new_generator(size: EncoderConfig | float, shared: Encoder) -> Generator:
    """Builds a generator with random weights, in the dtype of the encoder that it trains.

    Args:
        size: EncoderConfig of the generator; or its width as a share of the encoder's, see
            `generator_config`.
        shared: see `Generator`.

    Returns:
        Generator.

    Raises:
        ConfigError: see `Generator`.
    """
    config = size if isinstance(size, EncoderConfig) else generator_config(shared.config, size)
    encoder = build_encoder(config, pooler=False, dtype=shared.build_options["dtype"])
    return Generator(encoder, make_head("masked_lm", encoder), shared=shared)


def generator_config(config: EncoderConfig, share: float = GENERATOR_SHARE) -> EncoderConfig:
    """Returns the configuration of a generator for an encoder.

    Args:
        config: EncoderConfig of the encoder to train.
        share: float in (0, 1]. The width of states, heads and feed-forward parts, as a share of
            the encoder's; 1/4 for ELECTRA-small, 1/3 for ELECTRA-base.

    Returns:
        EncoderConfig with the same embeddings and number of layers.

    Raises:
        ConfigError: `share` is not in (0, 1].

    Example:
        >>> from keras_bert_zoo.encoders.electra import ElectraConfig
        >>> small = generator_config(ElectraConfig(num_layers=12))
        >>> small.hidden_dim, small.num_heads, small.intermediate_dim
        (64, 1, 256)
    """
    if not (is_number(share) and 0 < share <= 1):
        raise ConfigError(f"Expected the share of a generator in (0, 1], received {share!r}.")
    heads = max(1, round(config.num_heads * share))
    width = max(1, round(config.hidden_dim * share / heads)) * heads
    return dataclasses.replace(
        config,
        hidden_dim=width,
        num_heads=heads,
        intermediate_dim=max(1, round(config.intermediate_dim * share)),
    )


def original_tokens(inputs: Mapping[str, tf.Tensor], labels: tf.Tensor) -> tf.Tensor:
    """Restores the tokens that were masked: the targets of replaced token detection.

    Args:
        inputs: the inputs of a Pretrainer, with masked tokens.
        labels: int32 (B, P), the original tokens at `mask_positions`; `NO_LABEL` at padding.

    Returns:
        int32 (B, S), `NO_LABEL` at padding.
    """
    tokens = _placed(inputs["token_ids"], inputs["mask_positions"], labels, labels != NO_LABEL)
    return tf.where(inputs["padding_mask"] != 0, tokens, NO_LABEL)


def replaced_outputs(logits: Any, token_ids: Any) -> Any:
    """Joins the encoder's logits with the tokens that it read, symbolic or tensors.

    A token id below 2^24 is exact in float32.

    Args:
        logits: float32 (B, S).
        token_ids: int32 (B, S).

    Returns:
        float32 (B, S, 2).
    """
    return keras.ops.stack([logits, keras.ops.cast(token_ids, "float32")], axis=-1)


def _placed(
    token_ids: tf.Tensor, positions: tf.Tensor, values: tf.Tensor, present: tf.Tensor
) -> tf.Tensor:
    """Writes values into columns; where not `present`, the column keeps its token."""
    values = tf.where(present, values, tf.gather(token_ids, positions, batch_dims=1))
    shape = tf.shape(positions)
    rows = tf.broadcast_to(tf.range(shape[0])[:, tf.newaxis], shape)
    return tf.tensor_scatter_nd_update(token_ids, tf.stack([rows, positions], axis=-1), values)


def different_embeddings(encoder: Encoder, other: Encoder) -> list[str]:
    """Returns the paths of the variables of embeddings that a generator cannot share.

    Args:
        encoder: Encoder, the generator's.
        other: Encoder.
    """
    own, others = _shared_variables(encoder.embeddings), _shared_variables(other.embeddings)
    return [
        one.path
        for one, two in zip(own, others, strict=False)
        if one.shape != two.shape or not np.array_equal(one.numpy(), two.numpy())
    ]


_TABLES = ("token_table", "position_table", "segment_table")


def _share_embeddings(encoder: Encoder, other: Encoder) -> None:
    """Makes an encoder use the tables and the norm of another one's embeddings."""
    own, shared = encoder.embeddings, other.embeddings
    shapes = [[tuple(v.shape) for v in _shared_variables(layer)] for layer in (own, shared)]
    if shapes[0] != shapes[1]:
        raise ConfigError(
            "Expected a generator with embeddings of the encoder's shapes "
            f"{shapes[1]}, received {shapes[0]}."
        )
    own._tracker.unlock()
    for name in (*_TABLES, "norm"):
        own._tracker.untrack(getattr(own, name))
        setattr(own, name, getattr(shared, name))
    own._tracker.lock()


def _shared_variables(embeddings: Any) -> list[Any]:
    tables = [getattr(embeddings, name) for name in _TABLES]
    return [*(table for table in tables if table is not None), *embeddings.norm.weights]
