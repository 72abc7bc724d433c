"""The layers of an encoder, and the way of the tokens through them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_bert_zoo.layers.token_layout import Layout

INPUT_NAMES = ("token_ids", "segment_ids", "padding_mask")


def encoder_inputs() -> dict[str, keras.KerasTensor]:
    """Returns the three symbolic inputs of an encoder, int32 (B, S) each."""
    return {name: keras.Input(shape=(None,), dtype="int32", name=name) for name in INPUT_NAMES}


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The layers of an encoder, in the order in which tokens go through them.

    Attributes:
        embeddings: layout -> float (T, H).
        blocks: `(x, layout, first_token_only=False)` -> (x, attention probabilities); see
            `EncoderBlock`. A repeated layer shares its weights.
        context: None, or layout -> dict of what all blocks share (rotary tables, relative
            positions, ...); the blocks find it in their layout.
        final: None, or float (T, H) -> float (T, H), behind the last block.
        pooler: None, or `(x, layout)` -> float (B, H); see `Pooler`.
    """

    embeddings: keras.layers.Layer
    blocks: Sequence[keras.layers.Layer]
    context: keras.layers.Layer | None = None
    final: keras.layers.Layer | None = None
    pooler: keras.layers.Layer | None = None


class SharedContext(keras.layers.Layer):
    """Calls a context layer again, with another number of attention groups.

    Each call needs a new layer: Keras takes the number of a layer's outputs from its first call.
    (Its class has a plain name because Keras makes the layer's from it, and TensorFlow refuses
    scopes that start with an underscore.)
    """

    def __init__(self, context: keras.layers.Layer) -> None:
        super().__init__(autocast=False, dtype=context.dtype_policy)
        self.context = context
        self.built = True

    def call(self, layout: Layout) -> Any:
        """Computes the context."""
        return self.context(layout)


def run(
    parts: Parts, layout: Layout, *, first_token_only: bool = False
) -> tuple[Any, list[Any], list[Any]]:
    """Sends tokens through the layers: the last state, all states, all probabilities.

    With `first_token_only` the last block and the final norm compute (B, H).
    """
    x = parts.embeddings(layout)
    if parts.context is not None:
        context = SharedContext(parts.context) if parts.context.built else parts.context
        layout = layout | context(layout)
    states, scores = [x], []
    last = len(parts.blocks) - 1
    for i, block in enumerate(parts.blocks):
        if first_token_only and i == last:
            x, probabilities = block(x, layout, first_token_only=True)
        else:
            x, probabilities = block(x, layout)
        states.append(x)
        scores.append(probabilities)
    if parts.final is not None:
        x = parts.final(x)
    return x, states, scores
