"""LoRA: training low-rank updates of some kernels in the place of an encoder's weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from keras_bert_zoo.adaptation.checks import check_is_encoder
from keras_bert_zoo.config import is_number
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

    Outputs do not change before training. Heads are not touched: they are trained as before. Blocks
    that `Encoder.freeze` froze get no update. Call it before the model is compiled. What is saved
    or exported has the updates merged.

    Args:
        encoder: Encoder.
        rank: int. Rank of the updates.
        alpha: float or None. Positive: updates are scaled by `alpha / rank`; None: `2 * rank`.
        dropout: float in [0, 1). On the updates' inputs.
        targets: names of dense layers in the blocks; None: "query" and "value", or the fused
            "projection" of all three where the family has that.

    Raises:
        ConfigError: a rank that no target can have, an unknown target, a number out of range, all
            targets are frozen, LoRA is there already, or no Encoder.

    Source: arXiv 2106.09685.
    """
    check_is_encoder(encoder)
    if lora_layers(encoder):
        raise ConfigError("This encoder has LoRA already; merge it first (`merge_lora`).")
    layers = _dense_layers(encoder)
    names = sorted({layer.name for layer in layers})
    if targets is None:
        targets = [name for name in ("query", "value") if name in names] or ["projection"]
    unknown = [target for target in targets if target not in names]
    if unknown or not targets:
        raise ConfigError(f"`targets` must be some of {', '.join(names)}, got {list(targets)!r}.")
    chosen = [layer for layer in layers if layer.name in targets and layer.kernel.trainable]
    if not chosen:
        raise ConfigError(
            "All layers that `targets` names are frozen, so nothing would be trained. Thaw the "
            "encoder first (`encoder.freeze(0, embeddings=False)`): LoRA freezes it itself."
        )
    widest = min(min(layer.kernel.shape) for layer in chosen)
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= widest:
        raise ConfigError(f"`rank` must be between 1 and {widest}, got {rank!r}.")
    if not is_number(dropout) or not 0 <= dropout < 1:
        raise ConfigError(f"`dropout` must be a number in [0, 1), got {dropout!r}.")
    if alpha is not None and not (is_number(alpha) and alpha > 0):
        raise ConfigError(f"`alpha` must be a positive number or None, got {alpha!r}.")
    _remember_trainability(encoder)
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
    """Adds the updates to the kernels and takes them away.

    What was trainable before `add_lora` is trainable again, and what was frozen is frozen.

    Args:
        encoder: Encoder.

    Raises:
        ConfigError: it has no LoRA, or is no Encoder.
    """
    check_is_encoder(encoder)
    layers = lora_layers(encoder)
    if not layers:
        raise ConfigError("This encoder has no LoRA to merge.")
    for layer in layers:
        _merge(layer)
    encoder.lora_undo()


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


def _remember_trainability(encoder: Encoder) -> None:
    """Gives the encoder `lora_undo`, which makes trainable what is trainable now, and no more."""
    layers = [(layer, layer.trainable) for layer in encoder._flatten_layers()]
    variables = [(variable, variable.trainable) for variable in encoder.weights]

    def undo() -> None:
        for layer, flag in layers:  # from the outside to the inside: a layer sets those in it
            layer.trainable = flag
        for variable, flag in variables:
            variable.trainable = flag

    # A function, for Keras would track the layers in a list as the encoder's own.
    encoder.lora_undo = undo


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
