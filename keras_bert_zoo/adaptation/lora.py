"""LoRA: trains low-rank updates of some kernels instead of an encoder's weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from keras_bert_zoo.adaptation.checks import check_is_encoder
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.encoders.freezing import dense_layers, freeze_paths, frozen_paths
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.layers.dense import Dense
from keras_bert_zoo.validation import is_number


def add_lora(
    encoder: Encoder,
    *,
    rank: int = 8,
    alpha: float | None = None,
    dropout: float = 0.0,
    targets: Sequence[str] | None = None,
) -> None:
    """Freezes an encoder and gives some of its dense layers a trainable low-rank update.

    Call it before the model is compiled. Outputs do not change before training. Heads are trained
    as before. Frozen blocks get no update. Saved and exported models contain the merged updates.

    Args:
        encoder: Encoder.
        rank: int. Rank of the updates.
        alpha: float or None. Positive; updates are scaled by `alpha / rank`. None: `2 * rank`.
        dropout: float in [0, 1). On the updates' inputs.
        targets: names of dense layers in the blocks. None: "query" and "value", or "projection"
            in families with one projection for queries, keys and values.

    Raises:
        ConfigError: unknown targets, a number out of range, all targets are frozen, the encoder
            has LoRA already, or `encoder` is not an Encoder.

    Source: arXiv 2106.09685.
    """
    check_is_encoder(encoder)
    if lora_layers(encoder):
        raise ConfigError("Expected an encoder without LoRA; merge it first (`merge_lora`).")
    layers = dense_layers(encoder)
    names = sorted({layer.name for layer in layers})
    if targets is None:
        targets = [name for name in ("query", "value") if name in names] or ["projection"]
    unknown = [target for target in targets if target not in names]
    if unknown or not targets:
        expected = f"some of {', '.join(names)}"
        raise ConfigError(f"Expected `targets` to be {expected}, received {list(targets)!r}.")
    chosen = [layer for layer in layers if layer.name in targets and layer.kernel.trainable]
    if not chosen:
        raise ConfigError(
            "Expected a trainable layer in `targets`, received only frozen layers. Unfreeze the "
            "encoder first (`encoder.freeze(0, embeddings=False)`): LoRA freezes it itself."
        )
    widest = min(min(layer.kernel.shape) for layer in chosen)
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= widest:
        expected = f"an integer from 1 to {widest}"
        raise ConfigError(f"Expected `rank` to be {expected}, received {rank!r}.")
    if not is_number(dropout) or not 0 <= dropout < 1:
        raise ConfigError(f"Expected `dropout` to be a number in [0, 1), received {dropout!r}.")
    if alpha is not None and not (is_number(alpha) and alpha > 0):
        raise ConfigError(f"Expected `alpha` to be a positive number or None, received {alpha!r}.")
    encoder.frozen_before_lora = tuple(frozen_paths(encoder))
    for layer in chosen:
        layer.enable_lora(rank, alpha=2 * rank if alpha is None else alpha, dropout=dropout)
    encoder.trainable = True  # a frozen layer would create frozen updates
    updates = {id(v) for layer in chosen for v in (layer.lora_a, layer.lora_b)}
    for variable in encoder.weights:
        if id(variable) not in updates:
            variable.trainable = False


def lora_layers(encoder: Encoder) -> list[Dense]:
    """Returns the dense layers of an encoder that have a low-rank update."""
    return [layer for layer in dense_layers(encoder) if layer.lora_a is not None]


def merge_lora(encoder: Encoder) -> None:
    """Adds the updates to the kernels and removes them.

    Layers are trainable or frozen again, as before `add_lora`.

    Args:
        encoder: Encoder.

    Raises:
        ConfigError: the encoder has no LoRA, or `encoder` is not an Encoder.
    """
    check_is_encoder(encoder)
    layers = lora_layers(encoder)
    if not layers:
        raise ConfigError("Expected an encoder with LoRA; call `add_lora` first.")
    for layer in layers:
        _merge(layer)
    encoder.trainable = True  # of layers, and so of their variables
    freeze_paths(encoder, encoder.frozen_before_lora)
    encoder.frozen_before_lora = ()


@contextmanager
def merged_lora(encoder: Encoder) -> Iterator[None]:
    """Merges the updates inside a `with` block, for saving and exporting, and restores them after.

    Args:
        encoder: Encoder, with LoRA or without.
    """
    saved: list[tuple[Dense, np.ndarray, Any, Any, np.ndarray]] = []
    try:
        for layer in lora_layers(encoder):
            lora_a, lora_b = layer.lora_a, layer.lora_b
            saved.append((layer, layer.kernel.numpy(), lora_a, lora_b, lora_b.numpy()))
            _merge(layer)
        yield
    finally:
        for layer, kernel, lora_a, lora_b, value in saved:
            layer.kernel.assign(kernel)
            lora_b.assign(value)
            layer._tracker.unlock()
            layer.lora_a, layer.lora_b = lora_a, lora_b
            layer._tracker.lock()


def _merge(layer: Dense) -> None:
    layer.kernel.assign(_merged_kernel(layer))
    # Functions that were traced with the update still read it.
    layer.lora_b.assign(np.zeros(layer.lora_b.shape, np.float32))
    layer.disable_lora()


def _merged_kernel(layer: Dense) -> np.ndarray:
    # In float64, so that the merged kernel is within half a unit in the last place of the sum.
    update = layer.lora_a.numpy().astype(np.float64) @ layer.lora_b.numpy().astype(np.float64)
    merged: np.ndarray = layer.kernel.numpy() + layer.lora_scale * update
    return merged.astype(np.float32)
