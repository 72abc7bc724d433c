"""Beam search in TensorFlow ops, for any autoregressive decoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

Step = Callable[[tf.Tensor, tf.Tensor, Any], tuple[tf.Tensor, Any]]
"""`(token_ids int32 (B * K,), position int32 (), state) -> (logits (B * K, V), state)`."""

_IMPOSSIBLE = -1e9


class _Beams(NamedTuple):
    """The state of a search; B texts, K beams, L the largest number of tokens.

    Attributes:
        length: int32 (). Tokens so far.
        ids: int32 (B, K, L). Tokens of the unfinished beams.
        scores: float32 (B, K). Log-probabilities of the unfinished beams, in descending order.
        done_ids: int32 (B, K, L). Tokens of the best finished beams.
        done_scores: float32 (B, K). Their penalized log-probabilities, in descending order.
        done: bool (B, K). Whether there is such a finished beam.
        open: bool (B,). Whether a text may still get a better beam.
        state: state of the decoder; first dimension B * K.
    """

    length: tf.Tensor
    ids: tf.Tensor
    scores: tf.Tensor
    done_ids: tf.Tensor
    done_scores: tf.Tensor
    done: tf.Tensor
    open: tf.Tensor
    state: Any


def beam_search(
    step: Step,
    state: Any,
    *,
    rows: tf.Tensor,
    num_beams: int,
    max_tokens: int,
    start_id: int,
    end_id: int,
    pad_id: int,
    length_penalty: float = 1.0,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Searches a probable sequence of tokens for each row.

    It follows Hugging Face's `generate` with `early_stopping=False`. The search of a row ends when
    the best unfinished beam, scored at its current length, is not better than the worst of K
    finished beams. With one beam it is a greedy search. Rows do not affect each other.

    Args:
        step: the decoder.
        state: the decoder's state before the first token: a structure of tensors with first
            dimension B * K, whose other dimensions may grow.
        rows: int32 (). B.
        num_beams: int. K.
        max_tokens: int. L, including the end token.
        start_id: int. Id of the token before the sequence.
        end_id: int. Id of the token that ends a sequence.
        pad_id: int. Id of padding, after the end.
        length_penalty: float. Log-probabilities are divided by the number of tokens to this power:
            a larger value prefers longer sequences.

    Returns:
        int32 (B, L), the tokens, including the end token, and padding; and float32 (B,), their
        log-probabilities, divided by the length penalty.
    """
    beams = num_beams
    first = tf.concat([tf.zeros([1]), tf.fill([beams - 1], _IMPOSSIBLE)], axis=0)
    padding = tf.fill([rows, beams, max_tokens], pad_id)
    begin = _Beams(
        length=tf.constant(0),
        ids=padding,
        # All beams start with the same tokens. With equal scores they would stay the same.
        scores=tf.tile(first[tf.newaxis], [rows, 1]),
        done_ids=padding,
        done_scores=tf.fill([rows, beams], _IMPOSSIBLE),
        done=tf.fill([rows, beams], False),
        open=tf.fill([rows], True),
        state=state,
    )

    def advance(now: _Beams) -> _Beams:
        before = tf.gather(now.ids, tf.maximum(now.length - 1, 0), axis=2)
        token_ids = tf.where(now.length == 0, start_id, tf.reshape(before, [-1]))
        logits, state = step(token_ids, now.length, now.state)
        vocabulary = logits.shape[-1]
        steps = tf.reshape(tf.nn.log_softmax(logits), [rows, beams, vocabulary])
        scores = tf.reshape(now.scores[:, :, tf.newaxis] + steps, [rows, beams * vocabulary])
        # 2 K candidates, because at most K of them end here.
        scores, places = tf.math.top_k(scores, k=2 * beams)
        source, token = places // vocabulary, places % vocabulary  # (B, 2K)
        here = tf.range(max_tokens) == now.length
        ids = tf.where(here, token[:, :, tf.newaxis], tf.gather(now.ids, source, batch_dims=1))
        length = now.length + 1
        ends = tf.logical_or(token == end_id, length == max_tokens)

        # === Unfinished beams ===
        going = tf.where(ends, scores + _IMPOSSIBLE, scores)
        going, chosen = tf.math.top_k(going, k=beams)
        parents = tf.gather(source, chosen, batch_dims=1) + tf.range(rows)[:, tf.newaxis] * beams
        parents = tf.reshape(parents, [-1])
        state = tf.nest.map_structure(lambda x: tf.gather(x, parents), state)

        # === Finished beams ===
        divisor = tf.cast(length, tf.float32) ** length_penalty
        is_top = tf.range(2 * beams) < beams
        ended = tf.logical_and(tf.logical_and(ends, is_top), now.open[:, tf.newaxis])
        done_scores = tf.concat(
            [now.done_scores, tf.where(ended, scores / divisor, 2 * _IMPOSSIBLE)], axis=1
        )
        done_scores, best = tf.math.top_k(done_scores, k=beams)
        done = tf.gather(tf.concat([now.done, ended], axis=1), best, batch_dims=1)
        possible = going[:, :1] / divisor
        worst = tf.where(done, tf.reduce_min(done_scores, axis=1, keepdims=True), _IMPOSSIBLE)
        improvable = tf.reduce_any(possible > worst, axis=1)
        if beams == 1:
            improvable = tf.logical_not(done[:, 0])
        return _Beams(
            length=length,
            ids=tf.gather(ids, chosen, batch_dims=1),
            scores=going,
            done_ids=tf.gather(tf.concat([now.done_ids, ids], axis=1), best, batch_dims=1),
            done_scores=done_scores,
            done=done,
            open=tf.logical_and(now.open, improvable),
            state=state,
        )

    def goes_on(now: _Beams) -> tf.Tensor:
        return tf.logical_and(tf.reduce_any(now.open), now.length < max_tokens)

    # The first step is outside the loop. The weights that it reads then belong to the outer graph,
    # which an export requires to freeze them, and the loop's state has its final rank.
    second = advance(begin)
    open_shapes = tf.nest.map_structure(lambda x: _growing(x), second)
    result = tf.while_loop(
        lambda *now: goes_on(_Beams(*now)),
        lambda *now: tuple(advance(_Beams(*now))),
        tuple(second),
        shape_invariants=tuple(open_shapes),
    )
    end = _Beams(*result)
    return end.done_ids[:, 0], end.done_scores[:, 0]


def _growing(x: tf.Tensor) -> tf.TensorShape:
    """Returns the shape of a loop variable, with None for the numbers of rows and tokens."""
    if x.shape.rank == 4:  # a cache: rows, heads, tokens, width
        return tf.TensorShape([None, x.shape[1], None, x.shape[3]])
    return tf.TensorShape([None, *x.shape[1:]]) if x.shape.rank else x.shape
