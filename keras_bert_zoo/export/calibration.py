"""Chooses the ranges of an int8 export, from texts like those that it will serve."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.layers.dense import Dense
from keras_bert_zoo.layers.int8 import FUSED_ACTIVATIONS, LEVELS, Int8Product, quantized

# Exponents of SmoothQuant's factors (arXiv 2211.10438, equation 4), and shares of the largest
# number in the calibration texts. The pair with the smallest error is used.
_SMOOTHING = (None, 0.5, 0.7, 0.85, 1.0)
_CLIPPING = (1.0, 0.8, 0.6, 0.4)
# Factors cost one more operation per call, so they must lower the error to this share.
_WORTH_SMOOTHING = 0.5
_SAMPLE = 512  # rows of an input whose products are compared
_SMALLEST = 1e-5  # of a column's range
_TINY = 1e-30


@dataclass
class _Site:
    """One input of dense layers.

    Attributes:
        layers: the layers that read it, by path.
        most: float32 (in,). The largest magnitudes of its columns.
        rows: list of float32 (n, in). A sample of its rows.
        producers: the layers whose output it was; None for other tensors.
    """

    layers: dict[str, Dense] = field(default_factory=dict)
    most: Any = 0.0
    rows: list[np.ndarray] = field(default_factory=list)
    producers: set[str | None] = field(default_factory=set)


class Calibration:
    """Observes the dense layers of an encoder, and computes their int8 products.

    Args:
        layers: the Dense layers.

    Attributes:
        errors: path -> float. The mean squared error of a layer's product in int8, relative to the
            mean square of its output. Filled by `products`.
    """

    def __init__(self, layers: Iterable[Dense]) -> None:
        self.layers = {layer.path: layer for layer in layers}
        self.errors: dict[str, float] = {}
        self._sites: dict[str, _Site] = {}  # by path of a layer
        self._batch: dict[int, tuple[Any, str | None, set[str]]] = {}
        self._random = np.random.default_rng(0)

    def observe(self, layer: Dense, x: tf.Tensor, y: tf.Tensor) -> None:
        """Records a call; an `Observer` of `Dense`."""
        self._batch.setdefault(id(x), (x, None, set()))[2].add(layer.path)
        self._batch[id(y)] = (y, layer.path if layer.activation != "linear" else None, set())

    def end_batch(self, share: float) -> None:
        """Evaluates the inputs recorded since the last call.

        Args:
            share: float. The share of the calibration texts in this batch.
        """
        for x, producer, paths in self._batch.values():
            if paths:
                self._add(x.numpy().astype(np.float32), producer, paths, share)
        self._batch.clear()

    def _add(self, x: np.ndarray, producer: str | None, paths: set[str], share: float) -> None:
        sites = {id(site): site for p in paths if (site := self._sites.get(p)) is not None}
        site, *others = sites.values() or [_Site()]
        for other in others:
            site.layers |= other.layers
            site.most = np.maximum(site.most, other.most)
            site.rows += other.rows
            site.producers |= other.producers
        site.layers |= {path: self.layers[path] for path in paths}
        for path in site.layers:
            self._sites[path] = site
        site.producers.add(producer)
        site.most = np.maximum(site.most, np.abs(x).max(axis=0))
        count = min(len(x), max(1, round(_SAMPLE * share)))
        site.rows.append(x[self._random.choice(len(x), count, replace=False)])

    def products(self) -> dict[str, Int8Product]:
        """Returns the int8 products of all layers that were called, by path."""
        result: dict[str, Int8Product] = {}
        for site in {id(site): site for site in self._sites.values()}.values():
            # A chain has no place for factors. They would also fit the calibration texts too
            # closely: the few large outputs of an activation are in other columns for other texts.
            smoothing = (None,) if self._chained(site) else _SMOOTHING
            for path, product, error in _choose(site, smoothing):
                result[path], self.errors[path] = product, error
        return result

    def _chained(self, site: _Site) -> bool:
        """Whether the input is always the output of one layer, which can stay int8."""
        if len(site.producers) != 1:
            return False
        (producer,) = site.producers
        return producer is not None and self.layers[producer].activation in FUSED_ACTIVATIONS

    def groups(self) -> list[list[str]]:
        """Returns the paths of the layers of each input, the largest error first."""
        sites = {id(site): site for site in self._sites.values()}.values()
        groups = [sorted(site.layers) for site in sites]
        return sorted(groups, key=lambda paths: -self.errors[paths[0]])

    def chains(self) -> dict[str, str]:
        """Returns the layers whose input may stay int8 -> the layer that computes this input."""
        pairs = {}
        for path, site in self._sites.items():
            if self._chained(site) and len(site.layers) == 1:
                (producer,) = site.producers
                pairs[path] = str(producer)
        return pairs


def _choose(site: _Site, smoothing: Sequence[float | None]) -> list[tuple[str, Int8Product, float]]:
    """Returns path, product and error of each layer of a site, with the best ranges."""
    rows = np.concatenate(site.rows)[:_SAMPLE]
    kernels = {path: np.asarray(layer.kernel) for path, layer in site.layers.items()}
    joint = np.concatenate(list(kernels.values()), axis=1)
    expected = rows @ joint
    trials = []
    for alpha in smoothing:
        factors = None if alpha is None else _factors(site.most, joint, alpha)
        divisor = 1.0 if factors is None else factors
        kernel, ranges = _rounded(joint, factors)
        scaled = kernel.astype(np.float32) * (ranges / LEVELS)
        inputs, most = rows / divisor, float((site.most / divisor).max())
        for share in _CLIPPING:
            top = max(most * share, _SMALLEST)
            outputs = quantized(inputs, top).astype(np.float32) @ scaled * (top / LEVELS)
            trials.append((float(np.square(outputs - expected).mean()), top, factors))
    error, top, factors = min(trials, key=lambda trial: trial[0])
    plain = min((t for t in trials if t[2] is None), key=lambda trial: trial[0])
    if error > _WORTH_SMOOTHING * plain[0]:
        error, top, factors = plain
    relative = error / max(float(np.square(expected).mean()), _TINY)
    chosen = []
    for path, layer in site.layers.items():
        kernel, ranges = _rounded(kernels[path], factors)
        product = Int8Product(
            kernel=kernel,
            kernel_range=ranges,
            bias=np.asarray(layer.bias) if layer.use_bias else np.zeros_like(ranges),
            input_range=top,
            factors=factors,
            activation=layer.activation,
        )
        chosen.append((path, product, relative))
    return chosen


def _rounded(kernel: np.ndarray, factors: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns a kernel in int8 and the ranges of its columns, float32 (out,)."""
    scaled = kernel if factors is None else kernel * factors[:, np.newaxis]
    ranges = np.maximum(np.abs(scaled).max(axis=0), _SMALLEST).astype(np.float32)
    return quantized(scaled, ranges), ranges


def _factors(most: np.ndarray, kernel: np.ndarray, alpha: float) -> np.ndarray:
    inputs = np.maximum(most, _SMALLEST)
    weights = np.maximum(np.abs(kernel).max(axis=1), _SMALLEST)
    logarithms = alpha * np.log(inputs) - (1 - alpha) * np.log(weights)
    return np.exp(logarithms - logarithms.mean()).astype(np.float32)
