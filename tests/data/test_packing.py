"""Rows in bins: every row once, well filled, reproducible."""

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.data.packing import (
    assign_bins,
    binned_batches,
    pack_batch,
    packed_batches,
    plan_bins,
)
from keras_bert_zoo.data.pipeline import NO_LABEL
from keras_bert_zoo.errors import ConfigError, DataError


def sentence_lengths(count, most=128):
    """Lengths distributed like those of sentences: a median of 22, and a long tail."""
    return np.clip(np.random.default_rng(0).lognormal(3.1, 0.7, count).astype(int), 3, most)


@pytest.mark.parametrize("max_examples", [None, 4])
def test_bins_hold_every_row_once_and_are_full(max_examples):
    lengths = sentence_lengths(20_000)
    bins = plan_bins(lengths, max_length=128, max_examples=max_examples)
    table = bins.rows
    assert sorted(table[table >= 0]) == list(range(len(lengths)))
    assert table.shape[1] <= (max_examples or table.shape[1])
    tokens = np.where(table >= 0, lengths[table], 0).sum(axis=1)
    assert tokens.max() <= 128
    assert (table[:, 0] >= 0).all()
    if max_examples is None:
        assert tokens.sum() / (128 * len(bins)) > 0.97


def test_a_million_rows_take_seconds():
    assert len(plan_bins(sentence_lengths(1_000_000), max_length=128)) < 220_000


def test_rows_that_fit_no_bin_are_refused():
    for lengths in ([3, 11], [0, 4]):
        with pytest.raises(DataError, match="rows of 1 to 10 tokens to pack, received rows of"):
            plan_bins(lengths, max_length=10)
    with pytest.raises(ConfigError, match="max_examples to be at least 1, received 0"):
        plan_bins([1], max_length=10, max_examples=0)
    assert len(plan_bins([], max_length=10)) == 0
    with pytest.raises(DataError, match="at least one bin"):
        binned_batches(np.zeros(0), np.zeros((0, 1), np.int64), batch_size=2)


def test_graphs_assign_rows_as_well():
    lengths = tf.constant(sentence_lengths(512), tf.int32)
    bins, slots, count = assign_bins(lengths, max_length=128, max_examples=16)
    tokens = np.bincount(bins, lengths)
    assert len(tokens) == int(count)
    assert tokens.max() <= 128
    assert tokens.mean() / 128 > 0.97
    pairs = set(zip(bins.numpy().tolist(), slots.numpy().tolist(), strict=True))
    assert len(pairs) == 512
    assert int(tf.reduce_max(slots)) < 16
    bins, _, count = assign_bins(tf.constant([3, 0, 2]), max_length=4, max_examples=2)
    assert (bins.numpy().tolist(), int(count)) == ([0, -1, 1], 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 4 tokens"):
        assign_bins(tf.constant([5]), max_length=4, max_examples=2)


def test_bins_are_other_ones_in_each_epoch_and_reproducible():
    lengths = np.array([4, 4, 4, 4, 2, 2, 2, 2, 6])
    bins = plan_bins(lengths, max_length=6)
    batches = binned_batches(lengths, bins.rows, batch_size=2, seed=3)
    epochs = [list(batches.as_numpy_iterator()) for _ in range(2)]
    for epoch in epochs:
        rows = np.concatenate(epoch)
        assert sorted(rows[rows >= 0]) == list(range(9))
        assert np.where(rows >= 0, lengths[rows], 0).sum(axis=1).tolist() == [6] * 5
    assert any((a != b).any() for a, b in zip(*epochs, strict=True))
    resumed = binned_batches(lengths, bins.rows, batch_size=2, seed=3, first_epoch=1)
    for one, other in zip(resumed.as_numpy_iterator(), epochs[1], strict=True):
        np.testing.assert_array_equal(one, other)
    assert int(batches.cardinality()) == 3


def example_batch(rows=30, width=20, masks=4):
    random = np.random.default_rng(1)
    lengths = random.integers(1, width + 1, rows)
    mask = np.arange(width) < lengths[:, None]
    ids = np.where(mask, random.integers(5, 90, mask.shape), 0).astype(np.int32)
    positions = np.stack([random.integers(0, n, masks) for n in lengths]).astype(np.int32)
    labels = np.take_along_axis(ids, positions, axis=1)
    labels = np.where(random.random(labels.shape) < 0.6, labels, NO_LABEL).astype(np.int32)
    inputs = {"token_ids": ids, "segment_ids": ids % 2, "padding_mask": mask.astype(np.int32)}
    targets = {
        "masked_lm": labels,
        "next_sentence": np.arange(rows, dtype=np.int32),
        "tags": np.where(mask, ids, NO_LABEL).astype(np.int32),
        "scores": np.arange(rows, dtype=np.float32),
    }
    return inputs | {"mask_positions": positions}, targets, lengths


def test_streams_are_packed_with_their_labels():
    inputs, targets, lengths = example_batch()
    stream = tf.data.Dataset.from_tensor_slices((inputs, targets)).batch(7)
    options = {"batch_size": 3, "max_length": 32, "max_examples": 5, "max_predictions": 16}
    found, masked, columns = [], 0, np.arange(32)
    for packed, labels in packed_batches(stream, window=16, **options).as_numpy_iterator():
        assert packed["example_starts"].shape[1:] == (5,)
        assert packed["mask_positions"].shape[1:] == labels["masked_lm"].shape[1:] == (16,)
        np.testing.assert_array_equal(packed["padding_mask"], packed["example_ids"] > 0)
        np.testing.assert_array_equal(
            labels["tags"], np.where(packed["padding_mask"], packed["token_ids"], NO_LABEL)
        )
        for row, numbers in enumerate(labels["next_sentence"]):
            for slot, (start, number) in enumerate(
                zip(packed["example_starts"][row], numbers, strict=True)
            ):
                assert (start < 0) == (number == NO_LABEL)
                if number == NO_LABEL:
                    assert labels["scores"][row, slot] == 0
                    continue
                found.append(int(number))
                assert labels["scores"][row, slot] == number
                own = (columns >= start) & (columns < start + lengths[number])
                for name in ("token_ids", "segment_ids"):
                    expected = inputs[name][number, : lengths[number]]
                    np.testing.assert_array_equal(packed[name][row, own], expected)
                np.testing.assert_array_equal(packed["example_ids"][row] == slot + 1, own)
            real = labels["masked_lm"][row] != NO_LABEL
            tokens = packed["token_ids"][row, packed["mask_positions"][row]]
            np.testing.assert_array_equal(labels["masked_lm"][row][real], tokens[real])
            masked += int(real.sum())
    assert sorted(found) == list(range(30))
    assert masked == (targets["masked_lm"] != NO_LABEL).sum()
    full = packed_batches(stream, drop_remainder=True, **options)
    shapes = [spec.shape for spec in tf.nest.flatten(full.element_spec)]
    assert all(shape.is_fully_defined() for shape in shapes)
    del options["max_predictions"]
    with pytest.raises(ConfigError, match="expected max_predictions"):
        packed_batches(stream, **options)


def test_masked_positions_beyond_the_width_are_not_predicted():
    inputs, targets, _ = example_batch()
    packed, labels = pack_batch(inputs, targets, max_length=40, max_examples=8, max_predictions=2)
    assert packed["mask_positions"].shape[1] == 2
    _, all_labels = pack_batch(inputs, targets, max_length=40, max_examples=8)
    np.testing.assert_array_equal(labels["masked_lm"], all_labels["masked_lm"][:, :2])
    with pytest.raises(ConfigError, match="expected targets of masked_lm"):
        pack_batch(inputs, {}, max_length=40, max_examples=8)
