"""LoRA: training low-rank updates of some kernels in the place of an encoder's weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.layers.dense import Dense


def add_lora(
    encoder: Encoder,
    *,
    rank: int = 8,
    alpha: float | None = None,
    dropout: float = 0.0,
    targets: Sequence[str] | None = None,
) -> None:
    """Freezes an encoder and gives some of its dense layers a trainable low-rank update.

    Outputs do not change before training. Heads are not touched: they are trained as before. Call
    it before the model is compiled. What is saved or exported has the updates merged.

    Args:
        encoder: Encoder.
        rank: int. Rank of the updates.
        alpha: float or None. Updates are scaled by `alpha / rank`; None: `2 * rank`.
        dropout: float in [0, 1). On the updates' inputs.
        targets: names of dense layers in the blocks; None: "query" and "value", or the fused
            "projection" of all three where the family has that.

    Raises:
        ConfigError: a rank that no target can have, an unknown target, or LoRA is there already.

    Source: arXiv 2106.09685.
    """
    if lora_layers(encoder):
        raise ConfigError("This encoder has LoRA already; merge it first (`merge_lora`).")
    layers = _dense_layers(encoder)
    names = sorted({layer.name for layer in layers})
    if targets is None:
        targets = [name for name in ("query", "value") if name in names] or ["projection"]
    unknown = [target for target in targets if target not in names]
    if unknown or not targets:
        raise ConfigError(f"`targets` must be some of {', '.join(names)}, got {list(targets)!r}.")
    chosen = [layer for layer in layers if layer.name in targets]
    widest = min(min(layer.kernel.shape) for layer in chosen)
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= widest:
        raise ConfigError(f"`rank` must be between 1 and {widest}, got {rank!r}.")
    if not 0 <= dropout < 1:
        raise ConfigError(f"`dropout` must be in [0, 1), got {dropout!r}.")
    for layer in chosen:
        layer.enable_lora(rank, alpha=2 * rank if alpha is None else alpha, dropout=dropout)
    encoder.trainable = True  # the updates would be born frozen in a frozen layer
    updates = {id(v) for layer in chosen for v in (layer.lora_a, layer.lora_b)}
    for variable in encoder.weights:
        if id(variable) not in updates:
            variable.trainable = False


def lora_layers(encoder: Encoder) -> list[Dense]:
    """Returns the dense layers of an encoder that have a low-rank update."""
    return [layer for layer in _dense_layers(encoder) if layer.lora_a is not None]


def merge_lora(encoder: Encoder) -> None:
    """Adds the updates to the kernels and takes them away; all weights are trainable again.

    Args:
        encoder: Encoder.

    Raises:
        ConfigError: it has no LoRA.
    """
    layers = lora_layers(encoder)
    if not layers:
        raise ConfigError("This encoder has no LoRA to merge.")
    for layer in layers:
        _merge(layer)
    for variable in encoder.weights:
        variable.trainable = True


@contextmanager
def merged_lora(encoder: Encoder) -> Iterator[None]:
    """Has the updates merged inside a `with` block, for saving and exporting, and back behind it.

    Args:
        encoder: Encoder, with LoRA or without.
    """
    kept: list[tuple[Dense, np.ndarray, Any, Any, np.ndarray]] = []
    try:
        for layer in lora_layers(encoder):
            lora_a, lora_b = layer.lora_a, layer.lora_b
            kept.append((layer, layer.kernel.numpy(), lora_a, lora_b, lora_b.numpy()))
            _merge(layer)
        yield
    finally:
        for layer, kernel, lora_a, lora_b, value in kept:
            layer.kernel.assign(kernel)
            lora_b.assign(value)
            layer._tracker.unlock()
            layer.lora_a, layer.lora_b = lora_a, lora_b
            layer._tracker.lock()


def _merge(layer: Dense) -> None:
    layer.kernel.assign(_merged_kernel(layer))
    # Functions that were traced with the update go on reading it.
    layer.lora_b.assign(np.zeros(layer.lora_b.shape, np.float32))
    layer.disable_lora()


def _merged_kernel(layer: Dense) -> np.ndarray:
    # In float64: what is merged is then within half a unit in the last place of the sum.
    update = layer.lora_a.numpy().astype(np.float64) @ layer.lora_b.numpy().astype(np.float64)
    merged: np.ndarray = layer.kernel.numpy() + layer.lora_scale * update
    return merged.astype(np.float32)


def _dense_layers(encoder: Encoder) -> list[Dense]:
    """All dense layers of the blocks, each once."""
    found = {
        id(layer): layer
        for block in encoder.blocks
        for layer in block._flatten_layers()
        if isinstance(layer, Dense) and layer.built
    }
    return list(found.values())
