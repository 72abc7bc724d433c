"""The loss of one or two passes through the model: plain, R-Drop or mixup."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_bert_zoo.layers.training_hooks import pooled_hook
from keras_bert_zoo.training.outputs import Outputs
from keras_bert_zoo.training.replicas import Gradients, Part
from keras_bert_zoo.training.tricks.divergence import divergence, shared_mean

__all__ = ["Mixup", "Passed", "Passes", "plain", "r_drop", "unperturbed"]


class Passed(NamedTuple):
    """The result of `Passes`.

    Args:
        loss: the share of the loss.
        outputs: the model's outputs, of the first pass, with those of copies.
    """

    loss: tf.Tensor
    outputs: Any


Passes = Callable[[Part], Passed]
"""Computes the share of a loss."""


def plain(part: Part) -> Passed:
    """Computes the loss of one pass."""
    outputs = part.outputs()
    return Passed(part.loss(outputs), outputs)


def unperturbed(part: Part, passes: Passes) -> Gradients:
    """Computes a loss and its gradients, see `Gradients`."""
    with tf.GradientTape() as tape:
        passed = passes(part)
        scaled = part.updates.scaled(passed.loss)
    return passed.loss, passed.outputs, tape.gradient(scaled, part.model.trainable_variables)


def r_drop(part: Part, *, weight: float, outputs: Outputs) -> Passed:
    """Computes the mean loss of two passes with different dropout, and adds their divergence.

    Args:
        part: Part.
        weight: float. The weight of the divergence; the paper's alpha.
        outputs: Outputs of the task.

    Returns:
        Passed.

    Source: arXiv 2106.14448. The paper adds the losses of both passes; its code takes their mean.
    """
    first, second = part.outputs(), part.outputs()
    loss = 0.5 * (part.loss(first) + part.loss(second))
    extra = weight * shared_mean(part, divergence(first, second, outputs))
    return Passed(loss + tf.cast(extra, loss.dtype), first)


class Mixup:
    """Computes the loss of interpolated texts: their pooled outputs and their labels.

    The pooled output of each text is mixed with that of another text of the batch. All texts of a
    batch have the same share and the same distance to their partner. So they do not depend on the
    number of replicas. They are a function of the number of updates, which checkpoints save.

    The loss of mixed labels is the mixture of the losses for both labels. For cross-entropies and
    squared errors, this equals the loss of the mixed label, up to a constant.

    Args:
        alpha: float above 0. The share of a text is drawn from Beta(alpha, alpha).
        seed: int.

    Source: arXiv 2010.02394, equations 1 and 2; arXiv 1710.09412.
    """

    DRAWS = 4096
    """Updates after which the random numbers repeat."""

    def __init__(self, alpha: float, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.shares = random.beta(alpha, alpha, size=self.DRAWS).astype(np.float32)
        self.distances = random.random(self.DRAWS, dtype=np.float32)

    def __call__(self, part: Part) -> Passed:
        """Computes the loss; see the class."""
        draw = tf.cast(part.updates.count % self.DRAWS, tf.int32)
        share = tf.gather(self.shares, draw)
        partners = self._partners(part, tf.gather(self.distances, draw))

        def mixed(x: tf.Tensor) -> tf.Tensor:  # (B, H)
            own = tf.cast(share, x.dtype)
            return own * x + (1 - own) * tf.gather(part.gathered(x), partners)

        with pooled_hook(mixed):
            outputs = part.outputs()
        loss, other = part.loss(outputs), part.with_labels_of(partners).loss(outputs)
        own = tf.cast(share, loss.dtype)
        return Passed(own * loss + (1 - own) * other, outputs)

    def _partners(self, part: Part, distance: tf.Tensor) -> tf.Tensor:
        """int32 (B,). For each row its partner, an index into the rows of all replicas."""
        real = part.gathered(part.real)
        count = tf.maximum(tf.reduce_sum(tf.cast(real, tf.int32)), 1)
        # Copies are the last rows. The distance is from 1 to count - 1: no row is its own partner.
        steps = 1 + tf.cast(distance * tf.cast(count - 1, tf.float32), tf.int32)
        return (part.places + steps) % count
