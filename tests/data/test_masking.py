"""Masks: their shares, their dependence on seed and epoch, and whole words."""

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.data.masking import Masking, mask_tokens, masked_batches, masked_columns
from keras_bert_zoo.data.masking_spans import length_shares, start_rates
from keras_bert_zoo.data.pipeline import (
    NO_LABEL,
    LabelledRows,
    TokenRows,
    bucketed_batches,
    token_batches,
)
from keras_bert_zoo.errors import ConfigError

MASK, SIZE = 4, 1000


def corpus(rows=40, seed=0):
    random = np.random.default_rng(seed)
    lengths = random.integers(3, 30, rows)
    splits = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = random.integers(5, SIZE, splits[-1]).astype(np.int32)
    words = np.arange(len(ids), dtype=np.int32)
    words[splits[:-1]] = words[splits[1:] - 1] = NO_LABEL  # [CLS] and [SEP]
    return LabelledRows(TokenRows(ids, splits), token_labels=words)


def masks(data, *, batch_size=8, seed=3, shuffle=False, epochs=1, **options):
    """For each epoch, the masked corpus and the labels of its tokens."""
    rows = data.rows
    places = np.arange(len(rows.token_ids), dtype=np.int32)  # in the segments, which stay
    data = LabelledRows(
        TokenRows(rows.token_ids, rows.row_splits, places), token_labels=data.token_labels
    )
    batches = bucketed_batches(data.lengths, batch_size=batch_size, shuffle=shuffle, seed=1)
    tokens = token_batches(data, batches)
    masked = masked_batches(
        tokens, Masking(**options), mask_id=MASK, vocabulary_size=SIZE, seed=seed,
        every_epoch=shuffle,
    )  # fmt: skip
    assert masked.cardinality() == tokens.cardinality()
    results = []
    for _ in range(epochs):
        masked_ids = data.rows.token_ids.copy()
        targets = np.full_like(masked_ids, NO_LABEL)
        for inputs, labels in masked:
            mask = inputs["padding_mask"].numpy() == 1
            at = inputs["segment_ids"].numpy()
            masked_ids[at[mask]] = inputs["token_ids"].numpy()[mask]
            columns, labels = inputs["mask_positions"].numpy(), labels.numpy()
            for row, place in np.argwhere(labels != NO_LABEL):
                targets[at[row, columns[row, place]]] = labels[row, place]
            assert (columns[labels == NO_LABEL] == 0).all()
        results.append((masked_ids, targets))
    return results


def test_masks_depend_only_on_seed_epoch_and_place():
    data = corpus()
    ((shown, targets),) = masks(data)
    for size in (1, 7, 40):
        ((again, labels),) = masks(data, batch_size=size)
        np.testing.assert_array_equal(again, shown)
        np.testing.assert_array_equal(labels, targets)
    assert (masks(data, seed=4)[0][1] != targets).any()
    first, second = masks(data, shuffle=True, epochs=2)
    assert (first[1] != second[1]).any()
    for one, other in zip(masks(data, shuffle=True, epochs=2), (first, second), strict=True):
        np.testing.assert_array_equal(one[1], other[1])
    fixed = masks(data, epochs=2)
    np.testing.assert_array_equal(fixed[0][0], fixed[1][0])


def test_labels_are_the_original_tokens_and_special_tokens_are_never_masked():
    data = corpus()
    ((shown, targets),) = masks(data)
    masked = targets != NO_LABEL
    np.testing.assert_array_equal(targets[masked], data.rows.token_ids[masked])
    np.testing.assert_array_equal(shown[~masked], data.rows.token_ids[~masked])
    assert not masked[data.token_labels == NO_LABEL].any()
    rows = np.repeat(np.arange(len(data.rows)), data.rows.lengths)
    assert set(rows[masked]) == set(range(40))  # every row has a mask


def test_the_shares_are_those_of_the_paper():
    count = 60_000
    ids = tf.random.stateless_uniform([20, count // 20], (1, 2), 5, SIZE, tf.int32)
    words = tf.reshape(tf.range(count), ids.shape)
    shown, positions, labels = mask_tokens(
        ids, words, Masking(), mask_id=MASK, vocabulary_size=SIZE,
        state=tf.constant(99, tf.uint64),
    )  # fmt: skip
    chosen = int((labels.numpy() != NO_LABEL).sum())

    def near(actual, expected, trials):  # within four standard deviations
        return abs(actual - expected * trials) < 4 * np.sqrt(trials * expected * (1 - expected))

    assert near(chosen, 0.15, count)
    at = tf.gather(shown, positions, batch_dims=1).numpy()
    there = labels.numpy() != NO_LABEL
    assert near(int((at[there] == MASK).sum()), 0.8, chosen)
    unchanged = int((at[there] == labels.numpy()[there]).sum())
    assert near(unchanged, 0.1 + 0.1 / SIZE, chosen)
    other = at[there & (at != MASK) & (at != labels.numpy())]
    assert near(int((other < SIZE // 2).sum()), 0.5, len(other))


def test_the_tokens_of_a_word_are_masked_together_and_replaced_one_by_one():
    words = np.repeat(np.arange(3000, dtype=np.int32), 3).reshape(10, -1)
    ids = np.arange(words.size, dtype=np.int32).reshape(10, -1) % 500 + 5
    shown, positions, labels = mask_tokens(
        tf.constant(ids), tf.constant(words), Masking(whole_words=True), mask_id=MASK,
        vocabulary_size=SIZE, state=tf.constant(7, tf.uint64),
    )  # fmt: skip
    there = labels.numpy() != NO_LABEL
    chosen = np.zeros_like(words, bool)
    for row, place in np.argwhere(there):
        chosen[row, positions[row, place]] = True
    by_word = chosen.reshape(-1, 3)
    assert (by_word.all(axis=1) == by_word.any(axis=1)).all()
    assert abs(by_word.any(axis=1).mean() - 0.15) < 4 * np.sqrt(0.15 * 0.85 / len(by_word))
    masked = (shown.numpy() == MASK).reshape(-1, 3)[by_word.all(axis=1)]
    assert (masked.any(axis=1) != masked.all(axis=1)).any()


def test_columns():
    columns, there = masked_columns(tf.constant([[True, False, True], [False] * 3]))
    assert columns.numpy().tolist() == [[0, 2], [0, 0]]
    assert there.numpy().tolist() == [[True, True], [False, False]]
    assert masked_columns(tf.zeros([2, 3], tf.bool))[0].shape == (2, 0)
    assert masked_columns(tf.zeros([2, 3], tf.bool), at_least=1)[0].shape == (2, 1)
    assert masked_columns(tf.zeros([0, 0], tf.bool))[0].shape == (0, 0)


def test_invalid_shares():
    with pytest.raises(ConfigError, match=r"in \(0, 1\), received 1\.5"):
        Masking(rate=1.5)
    with pytest.raises(ConfigError, match="at least 0 and at most 1 together"):
        Masking(mask_share=0.8, random_share=0.3)


def runs_of(masking, *, rows=400, length=64, word_size=1):
    """The lengths, in words, of runs of masked tokens, and the share of masked tokens."""
    words = np.repeat(np.arange(rows * length), word_size).reshape(rows, -1)
    words = np.pad(words, [[0, 0], [1, 1]], constant_values=NO_LABEL)
    ids, columns, labels = mask_tokens(
        tf.constant(np.where(words == NO_LABEL, 1, 7), tf.int32),
        tf.constant(words, tf.int64),
        masking,
        mask_id=3,
        vocabulary_size=100,
        state=tf.constant(11, tf.uint64),
    )
    chosen = np.zeros(words.shape, bool)
    for row, (places, tokens) in enumerate(zip(columns.numpy(), labels.numpy(), strict=True)):
        chosen[row, places[tokens != NO_LABEL]] = True
    assert not chosen[words == NO_LABEL].any()
    edges = np.diff(np.pad(chosen, [[0, 0], [1, 1]]).astype(int), axis=1)
    lengths = np.nonzero(edges == -1)[1] - np.nonzero(edges == 1)[1]
    return lengths / word_size, chosen.sum() / (words != NO_LABEL).sum(), ids.numpy(), chosen


@pytest.mark.parametrize("options", [{"max_ngram": 3}, {"span_mean": 5.0}])
@pytest.mark.parametrize("word_size", [1, 2])
def test_runs_keep_the_rate(options, word_size):
    masking = Masking(rate=0.15, whole_words=word_size > 1, **options)
    lengths, share, ids, chosen = runs_of(masking, word_size=word_size)
    assert np.array_equal(lengths, lengths.round())  # whole words
    shares = length_shares(masking.max_ngram, masking.span_mean)
    mean = shares @ np.arange(1, len(shares) + 1)
    # Runs are drawn independently, so the number of masked words varies as that of the runs.
    words = 400 * 64
    bound = 5 * np.sqrt(0.15 * words * mean**2) / words
    assert abs(share - 0.15) < bound
    sizes = np.arange(1, len(shares) + 1)
    cut = shares @ (sizes * (sizes - 1) / 2) / 64  # by the end of a row of 64 words
    spread = np.sqrt((shares @ sizes**2 - mean**2) / len(lengths))
    assert lengths.mean() > mean - cut - 4 * spread  # runs that meet count as longer ones
    if masking.span_mean is not None:  # one decision for all tokens of a span
        starts = np.flatnonzero(np.diff(chosen.ravel().astype(int)) == 1) + 1
        hidden = ids.ravel() == 3
        assert abs(hidden[starts].mean() - 0.8) < 4 * np.sqrt(0.16 / len(starts))
        both = chosen.ravel()[1:] & chosen.ravel()[:-1]
        differ = (hidden[1:] != hidden[:-1])[both].mean()
        assert differ < 0.08  # where spans meet; 0.32 if each token had its own decision


def test_lengths_of_runs():
    np.testing.assert_allclose(length_shares(3, None), np.array([6, 3, 2]) / 11)
    spans = length_shares(1, 5.0)
    np.testing.assert_allclose(spans[1:] / spans[:-1], 0.8)
    assert len(spans) == 10
    assert spans @ np.arange(1, 11) == pytest.approx(3.797, abs=1e-3)  # 3.8 in the paper


@pytest.mark.parametrize("options", [{"max_ngram": 3}, {"span_mean": 5.0}])
def test_each_place_of_short_rows_has_the_rate(options):
    """Also the first ones, which no run from before reaches."""
    length, rows = 6, 20_000
    _, _, _, chosen = runs_of(Masking(rate=0.5, **options), rows=rows, length=length)
    by_place = chosen[:, 1:-1].mean(axis=0)
    # A row without a run gets one: half of the runs of one word, most rarely.
    rates = start_rates(0.5, length_shares(options.get("max_ngram", 1), options.get("span_mean")))
    places = np.concatenate([rates, np.full(length, rates[-1])])[:length]
    empty = np.prod(1 - places)
    bound = 5 * np.sqrt(0.25 / rows)
    assert (by_place > 0.5 - 0.005 - bound).all()
    assert (by_place < 0.5 + 0.005 + empty + bound).all()


def test_a_row_without_words_has_no_masked_token():
    words = tf.constant([[NO_LABEL] * 4, [NO_LABEL, 5, 6, NO_LABEL]], tf.int32)
    for masking in (Masking(), Masking(max_ngram=3), Masking(span_mean=5.0)):
        ids, _, labels = mask_tokens(
            tf.fill([2, 4], 7), words, masking, mask_id=3, vocabulary_size=9,
            state=tf.constant(1, tf.uint64),
        )  # fmt: skip
        assert (labels.numpy()[0] == NO_LABEL).all()
        assert (ids.numpy()[0] == 7).all()
        assert (labels.numpy()[1] != NO_LABEL).any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_ngram": 0}, "max_ngram"),
        ({"span_mean": 0.5}, "span_mean"),
        ({"max_ngram": 2, "span_mean": 3.0}, "received both"),
    ],
)
def test_wrong_runs_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        Masking(**options)
