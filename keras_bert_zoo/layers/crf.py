"""Linear-chain conditional random field: loss, best path and marginals of tag sequences.

Legend: B sequences, M words of the longest, C tags.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# The score of what is not allowed. In float32 a path with some of it is worth nothing beside one
# without, and unlike -inf it makes no NaN.
FORBIDDEN = -1e4


class ConditionalRandomField(keras.layers.Layer):
    """Scores how well tags follow on each other.

    A sequence's score is the sum of its logits, of the transitions between neighbours, and of what
    its first and last tags are worth as such. Weights start at zero: as if there were none.

    Args:
        units: int. Tags.
        scale: float. Transitions are `scale` times the weights, which so learn as much faster:
            at the rates at which an encoder is fine-tuned they would hardly move (bert4keras).

    Call arguments:
        logits: float32 (B, M, C).

    Returns:
        `logits`: the layer acts in the loss and in decoding.

    Source: Lafferty, McCallum and Pereira 2001; Lample et al. 2016 (arXiv 1603.01360).
    """

    def __init__(self, units: int, *, scale: float = 100.0, **kwargs: Any) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.units = units
        self.scale = scale
        self.transitions = self.add_weight(
            name="transitions", shape=(units, units), initializer="zeros"
        )
        self.starts = self.add_weight(name="starts", shape=(units,), initializer="zeros")
        self.ends = self.add_weight(name="ends", shape=(units,), initializer="zeros")
        self.built = True

    def call(self, logits: tf.Tensor) -> tf.Tensor:
        """Returns what it is given."""
        return logits

    def parts(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The scores of transitions (C, C), first tags (C,) and last tags (C,)."""
        return (
            self.scale * tf.convert_to_tensor(self.transitions),
            self.scale * tf.convert_to_tensor(self.starts),
            self.scale * tf.convert_to_tensor(self.ends),
        )

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same as arrays, also where a graph is being built."""
        with tf.init_scope():
            found = [np.float32(self.scale) * np.asarray(w.numpy()) for w in self.weights]
        return found[0], found[1], found[2]


def sequence_loss(
    logits: tf.Tensor,
    tags: tf.Tensor,
    lengths: tf.Tensor,
    transitions: tf.Tensor,
    starts: tf.Tensor,
    ends: tf.Tensor,
) -> tf.Tensor:
    """The negative log-likelihood of sequences of tags.

    Args:
        logits: float32 (B, M, C), M at least 1.
        tags: int32 (B, M). Behind a sequence, any.
        lengths: int32 (B,).
        transitions: float32 (C, C), from the row's tag to the column's.
        starts: float32 (C,).
        ends: float32 (C,).

    Returns:
        float32 (B,). 0 for an empty sequence.
    """
    inside = tf.sequence_mask(lengths, tf.shape(logits)[1], dtype=logits.dtype)  # (B, M)
    tags = tf.where(inside > 0, tags, 0)
    emitted = tf.gather(logits, tags, batch_dims=2)  # (B, M)
    moved = tf.gather_nd(transitions, tf.stack([tags[:, :-1], tags[:, 1:]], axis=-1))
    last = tf.gather(tags, tf.maximum(lengths - 1, 0), batch_dims=1)  # (B,)
    score = (
        tf.reduce_sum(emitted * inside, axis=1)
        + tf.reduce_sum(moved * inside[:, 1:], axis=1)
        + tf.gather(starts, tags[:, 0])
        + tf.gather(ends, last)
    )
    alphas = _forward(logits, lengths, transitions, starts, _log_sum, relative=False)
    total = tf.reduce_logsumexp(alphas[-1] + ends, axis=-1)
    return tf.where(lengths > 0, total - score, 0.0)


def best_path(
    logits: tf.Tensor,
    lengths: tf.Tensor,
    transitions: tf.Tensor,
    starts: tf.Tensor,
    ends: tf.Tensor,
) -> tf.Tensor:
    """Finds the tags of the highest score (Viterbi).

    Args:
        logits: float32 (B, M, C), M at least 1.
        lengths: int32 (B,).
        transitions: float32 (C, C).
        starts: float32 (C,).
        ends: float32 (C,).

    Returns:
        int32 (B, M). Behind a sequence, its last tag again.
    """
    alphas = _forward(logits, lengths, transitions, starts, _largest)  # (M, B, C)
    steps = tf.shape(alphas)[0]
    last = tf.argmax(alphas[-1] + ends, axis=-1, output_type=tf.int32)  # (B,)
    found = tf.TensorArray(tf.int32, size=steps, element_shape=last.shape)

    found = found.write(steps - 1, last)
    transitions = tf.transpose(transitions)  # rows: the tag that is gone to

    def back(step: tf.Tensor, tag: tf.Tensor, found: Any) -> tuple[Any, ...]:
        before = alphas[step] + tf.gather(transitions, tag)  # (B, C)
        came = tf.argmax(before, axis=-1, output_type=tf.int32)
        tag = tf.where(step + 1 < lengths, came, tag)
        return step - 1, tag, found.write(step, tag)

    _, _, found = tf.while_loop(lambda step, tag, found: step >= 0, back, (steps - 2, last, found))
    return tf.transpose(found.stack())


def marginals(
    logits: tf.Tensor,
    lengths: tf.Tensor,
    transitions: tf.Tensor,
    starts: tf.Tensor,
    ends: tf.Tensor,
) -> tf.Tensor:
    """The probability of every tag of every word, over all paths (forward-backward).

    Args:
        logits: float32 (B, M, C), M at least 1.
        lengths: int32 (B,).
        transitions: float32 (C, C).
        starts: float32 (C,).
        ends: float32 (C,).

    Returns:
        float32 (B, M, C). Behind a sequence, anything that is finite.
    """
    alphas = _forward(logits, lengths, transitions, starts, _log_sum)
    turned = tf.reverse_sequence(logits, lengths, seq_axis=1, batch_axis=0)
    betas = _forward(turned, lengths, tf.transpose(transitions), ends, _log_sum)
    betas = tf.reverse_sequence(tf.transpose(betas, [1, 0, 2]), lengths, seq_axis=1, batch_axis=0)
    # Both hold the word's own logits.
    return tf.nn.softmax(tf.transpose(alphas, [1, 0, 2]) + betas - logits)


def _forward(
    logits: tf.Tensor,
    lengths: tf.Tensor,
    transitions: tf.Tensor,
    starts: tf.Tensor,
    reduce: Callable[[tf.Tensor], tf.Tensor],
    *,
    relative: bool = True,
) -> tf.Tensor:
    """float32 (M, B, C): what paths to each tag are worth; behind a sequence, as at its end.

    With `relative`, in comparison with the word's best tag: sums over thousands of words would
    have no digits left for the differences.
    """
    steps = tf.shape(logits)[1]
    by_step = tf.transpose(logits, [1, 0, 2])  # (M, B, C)
    first = starts + by_step[0]
    found = tf.TensorArray(tf.float32, size=steps, element_shape=first.shape)

    def go(step: tf.Tensor, alpha: tf.Tensor, found: Any) -> tuple[Any, ...]:
        moved = reduce(alpha[:, :, tf.newaxis] + transitions) + by_step[step]  # (B, C)
        if relative:
            moved -= tf.reduce_max(moved, axis=-1, keepdims=True)
        alpha = tf.where((step < lengths)[:, tf.newaxis], moved, alpha)
        return step + 1, alpha, found.write(step, alpha)

    _, _, found = tf.while_loop(
        lambda step, alpha, found: step < steps, go, (1, first, found.write(0, first))
    )
    return found.stack()


def _log_sum(scores: tf.Tensor) -> tf.Tensor:
    return tf.reduce_logsumexp(scores, axis=1)


def _largest(scores: tf.Tensor) -> tf.Tensor:
    return tf.reduce_max(scores, axis=1)
