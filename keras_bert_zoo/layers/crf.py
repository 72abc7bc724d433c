"""Linear-chain conditional random field: loss, best path and marginals of tag sequences.

Legend: B sequences, M words of the longest, C tags.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.litert_scope import is_for_litert

# The score of a forbidden tag or transition. In float32 a path that contains it has probability 0
# if there is a path without it. Unlike -inf it causes no NaN.
FORBIDDEN = -1e4


@keras.saving.register_keras_serializable("keras_bert_zoo")
class ConditionalRandomField(keras.layers.Layer):
    """Scores sequences of tags.

    The score of a sequence is the sum of its logits, of the scores of its transitions, and of the
    scores of its first and last tags. Weights start at zero, where they have no effect.

    Args:
        units: int. Number of tags.
        scale: float. Scores are the weights times `scale`, so that they learn faster: at the
            learning rates of fine-tuning, they would hardly change otherwise (bert4keras).

    Call arguments:
        logits: float32 (B, M, C).

    Returns:
        `logits`, unchanged: the loss and the decoder use the weights.

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
        """Returns the logits unchanged."""
        return logits

    def parts(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the scores of transitions (C, C), first tags (C,) and last tags (C,)."""
        return (
            self.scale * tf.convert_to_tensor(self.transitions),
            self.scale * tf.convert_to_tensor(self.starts),
            self.scale * tf.convert_to_tensor(self.ends),
        )

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns `parts` as arrays, even while a graph is built."""
        with tf.init_scope():
            scores = [np.float32(self.scale) * np.asarray(w.numpy()) for w in self.weights]
        return scores[0], scores[1], scores[2]


def sequence_loss(
    logits: tf.Tensor,
    tags: tf.Tensor,
    lengths: tf.Tensor,
    transitions: tf.Tensor,
    starts: tf.Tensor,
    ends: tf.Tensor,
) -> tf.Tensor:
    """Computes the negative log-likelihood of sequences of tags.

    Args:
        logits: float32 (B, M, C), M at least 1.
        tags: int32 (B, M). Arbitrary after the end of a sequence.
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
    """Finds the tags with the highest score (Viterbi).

    Args:
        logits: float32 (B, M, C), M at least 1.
        lengths: int32 (B,).
        transitions: float32 (C, C).
        starts: float32 (C,).
        ends: float32 (C,).

    Returns:
        int32 (B, M). The last tag of a sequence is repeated after its end.
    """
    alphas = _forward(logits, lengths, transitions, starts, _largest)  # (M, B, C)
    steps = tf.shape(alphas)[0]
    last = tf.argmax(alphas[-1] + ends, axis=-1, output_type=tf.int32)  # (B,)
    path = _write(_rows(steps, last), steps - 1, last)
    transitions = tf.transpose(transitions)  # rows: the next tag

    def back(step: tf.Tensor, tag: tf.Tensor, path: Any) -> tuple[Any, ...]:
        scores = alphas[step] + tf.gather(transitions, tag)  # (B, C)
        previous = tf.argmax(scores, axis=-1, output_type=tf.int32)
        tag = tf.where(step + 1 < lengths, previous, tag)
        return step - 1, tag, _write(path, step, tag)

    _, _, path = tf.while_loop(lambda step, tag, path: step >= 0, back, (steps - 2, last, path))
    return tf.transpose(_stacked(path))


def marginals(
    logits: tf.Tensor,
    lengths: tf.Tensor,
    transitions: tf.Tensor,
    starts: tf.Tensor,
    ends: tf.Tensor,
) -> tf.Tensor:
    """Computes the probability of every tag of every word, over all paths (forward-backward).

    Args:
        logits: float32 (B, M, C), M at least 1.
        lengths: int32 (B,).
        transitions: float32 (C, C).
        starts: float32 (C,).
        ends: float32 (C,).

    Returns:
        float32 (B, M, C). Arbitrary, but finite, after the end of a sequence.
    """
    alphas = _forward(logits, lengths, transitions, starts, _log_sum)
    backward = tf.reverse_sequence(logits, lengths, seq_axis=1, batch_axis=0)
    betas = _forward(backward, lengths, tf.transpose(transitions), ends, _log_sum)
    betas = tf.reverse_sequence(tf.transpose(betas, [1, 0, 2]), lengths, seq_axis=1, batch_axis=0)
    # Both terms contain the word's logits, so one copy is subtracted.
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
    """Returns the scores of paths to each tag, float32 (M, B, C); constant after the end.

    With `relative`, the scores are relative to the word's best tag: sums over thousands of words
    have no digits left for the differences.
    """
    steps = tf.shape(logits)[1]
    by_step = tf.transpose(logits, [1, 0, 2])  # (M, B, C)
    first = starts + by_step[0]
    alphas = _write(_rows(steps, first), 0, first)

    def forward(step: tf.Tensor, alpha: tf.Tensor, alphas: Any) -> tuple[Any, ...]:
        moved = reduce(alpha[:, :, tf.newaxis] + transitions) + by_step[step]  # (B, C)
        if relative:
            moved -= tf.reduce_max(moved, axis=-1, keepdims=True)
        alpha = tf.where((step < lengths)[:, tf.newaxis], moved, alpha)
        return step + 1, alpha, _write(alphas, step, alpha)

    _, _, alphas = tf.while_loop(
        lambda step, alpha, alphas: step < steps,
        forward,
        (1, first, alphas),
        maximum_iterations=steps - 1,  # XLA needs it for the gradient
    )
    return _stacked(alphas)


# The rows that a loop writes. LiteRT has no TensorArray: there, each step selects its row of a
# tensor. Sequences of words are short, so this costs less than the loop itself.


def _rows(steps: tf.Tensor, row: tf.Tensor) -> Any:
    if is_for_litert():
        return tf.zeros(tf.concat([[steps], tf.shape(row)], axis=0), row.dtype)
    return tf.TensorArray(row.dtype, size=steps, element_shape=row.shape)


def _write(rows: Any, step: tf.Tensor, row: tf.Tensor) -> Any:
    if not tf.is_tensor(rows):
        return rows.write(step, row)
    numbers = tf.range(tf.shape(rows)[0])
    for _ in row.shape:
        numbers = tf.expand_dims(numbers, -1)
    written = tf.where(tf.equal(numbers, step), tf.expand_dims(row, 0), rows)
    written.set_shape(rows.shape)
    return written


def _stacked(rows: Any) -> tf.Tensor:
    return rows if tf.is_tensor(rows) else rows.stack()


def _log_sum(scores: tf.Tensor) -> tf.Tensor:
    return tf.reduce_logsumexp(scores, axis=1)


def _largest(scores: tf.Tensor) -> tf.Tensor:
    return tf.reduce_max(scores, axis=1)
