"""Changes of values inside of a model, for regularization in a training step.

The hooks are open only while a training step computes the model. Without them, layers build the
same graph as before, so exports and saved files do not change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import tensorflow as tf

from keras_bert_zoo.layers.token_layout import Layout, from_batch

__all__ = ["add_perturbation", "change_pooled", "perturbed_words", "pooled_hook"]

_PERTURBATION: ContextVar[tf.Tensor | None] = ContextVar("perturbation", default=None)
_POOLED: ContextVar[Callable[[tf.Tensor], tf.Tensor] | None] = ContextVar("pooled", default=None)


@contextmanager
def perturbed_words(perturbation: tf.Tensor) -> Iterator[None]:
    """Adds a tensor to the word embeddings of the encoders that are called in this scope.

    Args:
        perturbation: float32 (B, S, width), `width` that of the table of tokens.

    Yields:
        None.

    Example:
        >>> import numpy as np
        >>> import keras_bert_zoo as kbz
        >>> encoder = kbz.Encoder.from_preset("tests/assets/bert_gelu")
        >>> inputs = encoder.tokenizer(["Hello world"], max_length=8)
        >>> shape = [*inputs["token_ids"].shape, encoder.config.hidden_dim]
        >>> with perturbed_words(tf.random.stateless_normal(shape, seed=[0, 0])):
        ...     moved = encoder(inputs)["pooled_output"]
        >>> bool(np.allclose(moved, encoder(inputs)["pooled_output"]))
        False
    """
    token = _PERTURBATION.set(perturbation)
    try:
        yield
    finally:
        _PERTURBATION.reset(token)


def add_perturbation(x: tf.Tensor, layout: Layout, *, offset: int = 0) -> tf.Tensor:
    """Adds the perturbation of `perturbed_words` to the embeddings of tokens.

    Args:
        x: float32 (T, width). Rows of the table of tokens.
        layout: the output of `TokenLayout`.
        offset: -1, 0 or 1. `x` are the embeddings of the previous, the same or the next column.

    Returns:
        float32 (T, width); `x` outside of the scope.

    Example: see `perturbed_words`.
    """
    perturbation = _PERTURBATION.get()
    if perturbation is None:
        return x
    if offset:  # beyond the edges of the batch, there are no tokens
        before, after = max(-offset, 0), max(offset, 0)
        perturbation = tf.pad(perturbation, [[0, 0], [before, after], [0, 0]])
        perturbation = perturbation[:, after : tf.shape(perturbation)[1] - before]
    return x + from_batch(perturbation, layout)


@contextmanager
def pooled_hook(change: Callable[[tf.Tensor], tf.Tensor]) -> Iterator[None]:
    """Changes the input of the classification heads that are called in this scope.

    Args:
        change: float (B, H) -> float (B, H).

    Yields:
        None.

    Example:
        >>> from keras_bert_zoo.heads.classifier import ClassificationHead
        >>> head = ClassificationHead(2, dropout=0.0)
        >>> with pooled_hook(tf.zeros_like):
        ...     head(tf.ones([1, 3])).numpy().tolist()
        [[0.0, 0.0]]
    """
    token = _POOLED.set(change)
    try:
        yield
    finally:
        _POOLED.reset(token)


def change_pooled(x: tf.Tensor) -> tf.Tensor:
    """Applies the function of `pooled_hook`.

    Args:
        x: float (B, H).

    Returns:
        float (B, H); `x` outside of the scope.

    Example: see `pooled_hook`.
    """
    change = _POOLED.get()
    return x if change is None else change(x)
