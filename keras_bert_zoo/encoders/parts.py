"""The layers of an encoder, and the function that applies them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_bert_zoo.layers.example_layout import EXAMPLE_INPUTS
from keras_bert_zoo.layers.pooler import FirstToken
from keras_bert_zoo.layers.token_layout import Layout

INPUT_NAMES = ("token_ids", "segment_ids", "padding_mask")


def encoder_inputs(*, packed: bool = False) -> dict[str, keras.KerasTensor]:
    """Returns the three symbolic inputs of an encoder, int32 (B, S) each.

    Args:
        packed: bool. Whether to add `example_ids`, int32 (B, S), and `example_starts`, int32
            (B, E), the inputs of packed batches; see `TokenLayout`.
    """
    names = (*INPUT_NAMES, *(EXAMPLE_INPUTS if packed else ()))
    return {name: keras.Input(shape=(None,), dtype="int32", name=name) for name in names}


def layout_inputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the inputs of an encoder among those of a task."""
    return {name: inputs[name] for name in (*INPUT_NAMES, *EXAMPLE_INPUTS) if name in inputs}


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The layers of an encoder.

    Attributes:
        embeddings: layout -> float (T, H).
        blocks: `(x, layout, first_token_only=False)` -> (x, attention probabilities); see
            `EncoderBlock`. A repeated layer shares its weights.
        context: None, or layout -> dict of tensors that all blocks share (rotary tables, relative
            positions, ...). `run` adds them to the layout.
        final: None, or float (T, H) -> float (T, H), after the last block.
        pooler: None, or `(x, layout)` -> float (B, H); see `Pooler`.
    """

    embeddings: keras.layers.Layer
    blocks: Sequence[keras.layers.Layer]
    context: keras.layers.Layer | None = None
    final: keras.layers.Layer | None = None
    pooler: keras.layers.Layer | None = None


@keras.saving.register_keras_serializable("keras_bert_zoo")
class SharedContext(keras.layers.Layer):
    """Calls a context layer again, with another number of attention groups.

    Each call needs a new layer, because Keras fixes the number of a layer's outputs at its first
    call. The name of the class has no underscore at the start: Keras derives the layer's name from
    it, and TensorFlow refuses scopes that start with an underscore.
    """

    def __init__(self, context: keras.layers.Layer) -> None:
        super().__init__(autocast=False, dtype=context.dtype_policy)
        self.context = context
        self.built = True

    def compute_output_spec(self, layout: Layout) -> Any:
        """Returns the shapes and dtypes of the context, without a graph."""
        return self.context.compute_output_spec(layout)

    def call(self, layout: Layout) -> Any:
        """Computes the context."""
        return self.context(layout)


def run(
    parts: Parts, layout: Layout, *, first_token_only: bool = False
) -> tuple[Any, list[Any], list[Any]]:
    """Applies the layers. Returns the last state, all states and all attention probabilities.

    With `first_token_only`, the last block and the final norm compute (B, H), or (B * E, H) for the
    examples of a packed batch.
    """
    # In the padded layout, an example of a packed batch is no row of attention.
    in_last_block = first_token_only and not ("slots" in layout and "shape_of" in layout)
    x = parts.embeddings(layout)
    if parts.context is not None:
        context = SharedContext(parts.context) if parts.context.built else parts.context
        layout = layout | context(layout)
    states, scores = [x], []
    last = len(parts.blocks) - 1
    for i, block in enumerate(parts.blocks):
        if in_last_block and i == last:
            x, probabilities = block(x, layout, first_token_only=True)
        else:
            x, probabilities = block(x, layout)
        states.append(x)
        scores.append(probabilities)
    if first_token_only and not in_last_block:
        x = FirstToken(dtype=parts.blocks[last].dtype_policy)(x, layout)
    if parts.final is not None:
        x = parts.final(x)
    return x, states, scores
