"""Token masking for masked language models, with new masks in every epoch.

The masks and replacements depend only on the seed, the epoch and the token's place in the corpus.
They do not depend on the batch size, the batch order or the device. All work is done in TensorFlow
ops. Dimensions: B batch, S length, P masked positions of a row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.hashing import mixed, uniform
from keras_bert_zoo.data.masking_options import Masking as Masking
from keras_bert_zoo.data.masking_spans import length_shares, masked_runs
from keras_bert_zoo.data.pipeline import NO_LABEL, epoch_number, prefetched_map, without_autograph

__all__ = ["Masking", "mask_tokens", "masked_batch", "masked_batches", "masked_columns"]


def masked_batches(
    batches: tf.data.Dataset,
    masking: Masking,
    *,
    mask_id: int,
    vocabulary_size: int,
    seed: int,
    every_epoch: bool = True,
    first_epoch: int = 0,
) -> tf.data.Dataset:
    """Masks batches of tokens.

    Args:
        batches: a dataset of (inputs, words) of known cardinality. `inputs` is a dict with
            `token_ids` int32 (B, S). `words` is int32 (B, S): a unique number per word of the
            corpus, the same for all its tokens; `NO_LABEL` at tokens that are never masked.
        masking: Masking.
        mask_id: int. The mask token.
        vocabulary_size: int. Random tokens have ids below it.
        seed: int.
        every_epoch: bool. Whether each iteration over the dataset draws new masks.
        first_epoch: int. The epoch of the first iteration, to resume a run.

    Returns:
        A dataset of (inputs, labels). The inputs also have `mask_positions`, int32 (B, P): the
        columns to predict, padded with 0. The labels, int32 (B, P), are the original tokens there.
    """
    count = batches.cardinality()

    @without_autograph
    def repeated(epoch: tf.Tensor) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensors(epoch).repeat()

    epochs = tf.data.Dataset.from_tensors(np.int64(0)).repeat()
    if every_epoch:
        epochs = epoch_number(first_epoch).flat_map(repeated)

    def mask(batch: tuple[Any, ...], epoch: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        inputs, words = batch
        inputs, labels = masked_batch(
            inputs,
            words,
            masking,
            mask_id=mask_id,
            vocabulary_size=vocabulary_size,
            seed=seed,
            epoch=epoch,
        )
        # Keras builds a model from the shapes of its first batch, which tf.data does not keep.
        names = ("token_ids", "mask_positions")
        known = {name: tf.ensure_shape(inputs[name], [None, None]) for name in names}
        return {**inputs, **known}, tf.ensure_shape(labels, [None, None])

    zipped = tf.data.Dataset.zip((batches, epochs))
    return prefetched_map(zipped.apply(tf.data.experimental.assert_cardinality(count)), mask)


def masked_batch(
    inputs: dict[str, tf.Tensor],
    words: tf.Tensor,
    masking: Masking,
    *,
    mask_id: int,
    vocabulary_size: int,
    seed: int,
    epoch: Any = 0,
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Masks one batch of tokens; see `masked_batches` for the arguments and the result."""
    token_ids, positions, labels = mask_tokens(
        inputs["token_ids"],
        words,
        masking,
        mask_id=mask_id,
        vocabulary_size=vocabulary_size,
        state=mixed(mixed(tf.constant(seed % 2**63, tf.uint64)) + tf.cast(epoch, tf.uint64)),
    )
    return {**inputs, "token_ids": token_ids, "mask_positions": positions}, labels


def mask_tokens(
    token_ids: tf.Tensor,
    words: tf.Tensor,
    masking: Masking,
    *,
    mask_id: int,
    vocabulary_size: int,
    state: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Masks tokens; see `masked_batches`.

    Args:
        token_ids: int32 (B, S).
        words: int32 (B, S).
        masking: Masking.
        mask_id: int.
        vocabulary_size: int.
        state: uint64 (). The state of the random generator, in addition to the words.

    Returns:
        int32 (B, S), the masked tokens; int32 (B, P) columns, at least one; and int32 (B, P)
        labels.
    """
    maskable = words != NO_LABEL
    word = mixed(tf.cast(tf.maximum(words, 0), tf.uint64) + state)  # (B, S)
    draw = tf.where(maskable, uniform(word), 2.0)
    if masking.in_runs:
        chosen, owner = masked_runs(
            words,
            maskable,
            draw,
            uniform(mixed(word + np.uint64(1))),
            length_shares(masking.max_ngram, masking.span_mean),
            masking.rate,
        )
    else:
        least = tf.reduce_min(draw, axis=1, keepdims=True)
        chosen = maskable & ((draw < masking.rate) | (draw == least))
    # The chosen tokens alone, in order; each gets its own replacement, as in Google's code.
    cells = tf.where(chosen)  # (chosen tokens, 2)
    token = _token_bits(word, cells)
    fate = uniform(token)
    if masking.span_mean is not None:  # that of the first token of the span
        begins = tf.cast(tf.gather_nd(owner, cells), tf.int64)
        fate = uniform(_token_bits(word, tf.stack([cells[:, 0], begins], axis=1)))
    anything = tf.cast(uniform(mixed(token + 1)) * vocabulary_size, tf.int32)
    original = tf.gather_nd(token_ids, cells)
    replaced = tf.where(
        fate < masking.mask_share,
        mask_id,
        tf.where(fate < masking.mask_share + masking.random_share, anything, original),
    )
    positions, present = masked_columns(chosen, at_least=1)
    labels = tf.where(present, tf.gather(token_ids, positions, batch_dims=1), NO_LABEL)
    return tf.tensor_scatter_nd_update(token_ids, cells, replaced), positions, labels


def _token_bits(word: tf.Tensor, cells: tf.Tensor) -> tf.Tensor:
    """uint64 (cells,). The bits of tokens, from those of their words (B, S) and their columns."""
    return mixed(tf.gather_nd(word, cells) + tf.cast(cells[:, 1] + 1, tf.uint64))


def masked_columns(chosen: tf.Tensor, *, at_least: int = 0) -> tuple[tf.Tensor, tf.Tensor]:
    """The columns of chosen tokens, padded to one width.

    Args:
        chosen: bool (B, S).
        at_least: int. The least width.

    Returns:
        int32 (B, P) columns from left to right, padded with 0; bool (B, P), False at padding.
    """
    cells = tf.cast(tf.where(chosen), tf.int32)  # (chosen tokens, 2), in order
    counts = tf.reduce_sum(tf.cast(chosen, tf.int32), axis=1)
    width = tf.reduce_max(tf.concat([counts, [at_least]], axis=0))
    rows = cells[:, 0]
    places = tf.range(tf.size(rows)) - tf.gather(tf.cumsum(counts, exclusive=True), rows)
    shape = tf.stack([tf.shape(chosen)[0], width])
    columns = tf.scatter_nd(tf.stack([rows, places], axis=1), cells[:, 1], shape)
    return columns, tf.sequence_mask(counts, width)
