"""Beam search in TensorFlow ops, for any decoder that goes token by token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

Step = Callable[[tf.Tensor, tf.Tensor, Any], tuple[tf.Tensor, Any]]
"""`(token_ids int32 (B * K,), position int32 (), state) -> (logits (B * K, V), state)`."""

_IMPOSSIBLE = -1e9


class _Beams(NamedTuple):
    """The search after some tokens; B texts, K beams, L the most tokens.

    Attributes:
        length: int32 (). Tokens so far.
        ids: int32 (B, K, L). Of beams that go on.
        scores: float32 (B, K). Their log-probabilities, falling.
        done_ids: int32 (B, K, L). Of the best beams that have ended.
        done_scores: float32 (B, K). Log-probabilities over the length penalty, falling.
        done: bool (B, K). Which of these there are.
        open: bool (B,). Texts for which a better beam may still be found.
        state: the decoder's; first dimension B * K.
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
    """Finds a probable sequence of tokens for each row.

    As Hugging Face's `generate` does with `early_stopping=False`: a row's search ends when the best
    beam that goes on would, at its present length, not be better than the worst of K that have
    ended. With one beam it is a greedy search. What is found for a row does not hang on the others.

    Args:
        step: the decoder.
        state: before the first token: a structure of tensors with first dimension B * K, whose
            other dimensions may grow.
        rows: int32 (). B.
        num_beams: int. K.
        max_tokens: int. L; the end's token counts.
        start_id: int. Stands before the first token.
        end_id: int. Ends a sequence.
        pad_id: int. Stands behind the end.
        length_penalty: float. Log-probabilities are divided by the number of tokens to this power:
            above 0, longer sequences are preferred the more, the larger it is.

    Returns:
        int32 (B, L), the tokens up to and with the end's, and padding; and float32 (B,), the
        log-probabilities of these over the length penalty.
    """
    beams = num_beams
    first = tf.concat([tf.zeros([1]), tf.fill([beams - 1], _IMPOSSIBLE)], axis=0)
    padding = tf.fill([rows, beams, max_tokens], pad_id)
    begin = _Beams(
        length=tf.constant(0),
        ids=padding,
        # All beams start alike; but for this, they would stay so.
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
        # Twice as many as there are beams: at most half of them end here.
        scores, places = tf.math.top_k(scores, k=2 * beams)
        source, token = places // vocabulary, places % vocabulary  # (B, 2K)
        here = tf.range(max_tokens) == now.length
        ids = tf.where(here, token[:, :, tf.newaxis], tf.gather(now.ids, source, batch_dims=1))
        length = now.length + 1
        ends = tf.logical_or(token == end_id, length == max_tokens)

        # === Beams that go on ===
        going = tf.where(ends, scores + _IMPOSSIBLE, scores)
        going, chosen = tf.math.top_k(going, k=beams)
        parents = tf.gather(source, chosen, batch_dims=1) + tf.range(rows)[:, tf.newaxis] * beams
        parents = tf.reshape(parents, [-1])
        state = tf.nest.map_structure(lambda x: tf.gather(x, parents), state)

        # === Beams that have ended ===
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

    # The first step outside of the loop: the weights that it reads are then the outer graph's, as
    # constants that an export freezes have to be, and the loop's own state has its final rank.
    second = advance(begin)
    open_shapes = tf.nest.map_structure(lambda x: _growing(x), second)
    found = tf.while_loop(
        lambda *now: goes_on(_Beams(*now)),
        lambda *now: tuple(advance(_Beams(*now))),
        tuple(second),
        shape_invariants=tuple(open_shapes),
    )
    end = _Beams(*found)
    return end.done_ids[:, 0], end.done_scores[:, 0]


def _growing(x: tf.Tensor) -> tf.TensorShape:
    """The shape of a loop's variable: rows and the number of tokens are open."""
    if x.shape.rank == 4:  # a cache: rows, heads, tokens, width
        return tf.TensorShape([None, x.shape[1], None, x.shape[3]])
    return tf.TensorShape([None, *x.shape[1:]]) if x.shape.rank else x.shape
