"""Batches: every row once per epoch, repeatable, bucketed, and the same under a strategy."""

import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.data.pipeline import (
    NO_LABEL,
    LabelledRows,
    TokenRows,
    bucketed_batches,
    length_order,
    restore_order,
    token_batches,
)
from keras_bert_zoo.errors import ConfigError, DataError

ROWS = 1_003
LENGTHS = np.random.default_rng(0).integers(3, 120, ROWS)


def epoch(dataset: tf.data.Dataset) -> list[list[int]]:
    return [batch.tolist() for batch in dataset.as_numpy_iterator()]


def flat(batches: list[list[int]]) -> list[int]:
    return [row for batch in batches for row in batch]


def make_rows(lengths, with_segments: bool = False) -> TokenRows:
    """Rows whose tokens show their place: row r holds 100 r + 1, 100 r + 2, ..."""
    token_ids = [
        100 * row + place + 1 for row, length in enumerate(lengths) for place in range(length)
    ]
    segments = [place % 2 for length in lengths for place in range(length)]
    return TokenRows(
        np.array(token_ids, np.int32),
        np.concatenate([[0], np.cumsum(lengths)]),
        np.array(segments, np.int32) if with_segments else None,
    )


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch_size", [1, 32, 2_000])
def test_every_row_occurs_once_per_epoch(shuffle, batch_size):
    dataset = bucketed_batches(LENGTHS, batch_size=batch_size, seed=1, shuffle=shuffle)
    assert dataset.cardinality().numpy() == -(-ROWS // batch_size)
    for _ in range(3):
        batches = epoch(dataset)
        assert sorted(flat(batches)) == list(range(ROWS))
        assert sorted(map(len, batches))[1:] == [batch_size] * (len(batches) - 1)


def test_epochs_differ_and_are_repeatable_from_the_seed_alone():
    tf.random.set_seed(1)
    first = bucketed_batches(LENGTHS, batch_size=16, seed=5)
    epochs = [epoch(first) for _ in range(3)]
    assert epochs[0] != epochs[1]
    assert epochs[1] != epochs[2]
    tf.random.set_seed(2)
    again = bucketed_batches(LENGTHS, batch_size=16, seed=5)
    assert [epoch(again) for _ in range(3)] == epochs
    assert epoch(bucketed_batches(LENGTHS, batch_size=16, seed=6)) != epochs[0]


def test_a_run_resumes_at_its_epoch():
    whole = bucketed_batches(LENGTHS, batch_size=16, seed=5)
    epochs = [epoch(whole) for _ in range(3)]
    resumed = bucketed_batches(LENGTHS, batch_size=16, seed=5, first_epoch=2)
    assert epoch(resumed) == epochs[2]


def test_keras_fit_takes_one_epoch_of_the_order_per_epoch():
    lengths = np.full(40, 4)
    batches = bucketed_batches(lengths, batch_size=8, seed=0)
    dataset = token_batches(
        LabelledRows(make_rows(lengths), np.zeros((40, 1), np.float32)), batches
    )
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    history = model.fit(
        dataset.map(lambda inputs, labels: (tf.cast(inputs["padding_mask"], tf.float32), labels)),
        epochs=2,
        verbose=0,
        shuffle=False,
    )
    assert len(history.history["loss"]) == 2
    third = bucketed_batches(lengths, batch_size=8, seed=0, first_epoch=2)
    assert epoch(batches) == epoch(third)


def test_shuffling_is_fair():
    """The place of a row in an epoch is uniform: its mean is within 4 standard errors."""
    dataset = bucketed_batches(np.full(100, 7), batch_size=4, seed=0)
    epochs = 60
    rows = np.reshape(flat(epoch(dataset.repeat(epochs))), (epochs, 100))
    places = rows.argsort(axis=1).mean(axis=0)
    standard_error = np.sqrt((100**2 - 1) / 12 / epochs)
    assert np.abs(places - 49.5).max() < 4 * standard_error


def padding(batches: list[list[int]], lengths: np.ndarray) -> float:
    computed = sum(len(batch) * lengths[batch].max() for batch in batches)
    return 1 - lengths.sum() / computed


def test_bucketing_leaves_little_padding():
    lengths = np.random.default_rng(1).integers(3, 120, 5_000)
    bucketed = epoch(bucketed_batches(lengths, batch_size=32, seed=0))
    plain = epoch(bucketed_batches(lengths, batch_size=32, seed=0, megabatch=1))
    assert padding(bucketed, lengths) < 0.03
    assert padding(plain, lengths) > 0.40


def test_batches_are_not_in_order_of_length():
    longest = [LENGTHS[batch].max() for batch in epoch(bucketed_batches(LENGTHS, batch_size=16))]
    assert longest != sorted(longest)
    assert longest != sorted(longest, reverse=True)


def test_evaluation_goes_from_long_to_short_and_can_be_restored():
    order = flat(epoch(bucketed_batches(LENGTHS, batch_size=16, shuffle=False)))
    assert order == length_order(LENGTHS).tolist()
    assert (np.diff(LENGTHS[order]) <= 0).all()
    computed = np.stack([LENGTHS[order], LENGTHS[order] * 2], axis=1)
    assert (restore_order(computed, np.array(order))[:, 0] == LENGTHS).all()


def test_token_batches_pad_to_the_longest_of_the_batch():
    rows = make_rows([3, 1, 5, 2], with_segments=True)
    batches = tf.data.Dataset.from_tensor_slices([[1, 0], [2, 3]]).map(
        lambda batch: tf.cast(batch, tf.int64)
    )
    labels = np.array([10, 11, 12, 13], np.int32)
    weights = np.array([0.5, 1.5, 2.5, 3.5], np.float32)
    dataset = token_batches(LabelledRows(rows, labels, weights=weights), batches, pad_id=-7)
    (first, first_labels, first_weights), (second, _, _) = list(dataset.as_numpy_iterator())
    assert first["token_ids"].tolist() == [[101, -7, -7], [1, 2, 3]]
    assert first["segment_ids"].tolist() == [[0, 0, 0], [0, 1, 0]]
    assert first["padding_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert first_labels.tolist() == [11, 10]
    assert first_weights.tolist() == [1.5, 0.5]
    assert second["token_ids"].tolist() == [[201, 202, 203, 204, 205], [301, 302, -7, -7, -7]]
    assert all(value.dtype == np.int32 for value in first.values())
    assert set(first) == {"token_ids", "segment_ids", "padding_mask"}


def test_token_labels_are_padded_with_their_tokens():
    rows = make_rows([3, 1])
    batches = bucketed_batches(rows.lengths, batch_size=2, shuffle=False)
    data = LabelledRows(rows, token_labels=np.array([5, NO_LABEL, 7, 8], np.int32))
    ((inputs, labels),) = token_batches(data, batches).as_numpy_iterator()
    assert inputs["token_ids"].shape == (2, 3)
    assert labels.tolist() == [[5, NO_LABEL, 7], [8, NO_LABEL, NO_LABEL]]


def test_groups_of_rows_stay_together():
    rows = make_rows([3, 1, 2, 5, 1, 1], with_segments=True)
    data = LabelledRows(rows, np.array([10, 11, 12]), weights=np.ones(3, np.float32), group=2)
    assert len(data) == 3
    assert data.lengths.tolist() == [3, 5, 1]
    batches = bucketed_batches(data.lengths, batch_size=2, shuffle=False)
    (inputs, labels, _), (last, _, _) = token_batches(data, batches).as_numpy_iterator()
    assert labels.tolist() == [11, 10]
    assert inputs["padding_mask"].sum(axis=-1).tolist() == [[2, 5], [3, 1]]
    assert inputs["token_ids"][:, :, 0].tolist() == [[201, 301], [1, 101]]
    assert last["token_ids"].shape == (1, 2, 1)


def test_without_labels_or_segments_or_tokens():
    rows = make_rows([0, 0, 2])
    batches = bucketed_batches(rows.lengths, batch_size=1, shuffle=False)
    dataset = token_batches(LabelledRows(rows), batches)
    assert dataset.cardinality().numpy() == 3
    elements = list(dataset.as_numpy_iterator())
    assert all(len(element) == 1 for element in elements)
    assert elements[0][0]["segment_ids"].tolist() == [[0, 0]]
    assert elements[1][0]["token_ids"].shape == (1, 0)


def test_token_rows_from_ragged_tensors():
    ids = tf.ragged.constant([[1, 2], [], [3]], dtype=tf.int64)
    rows = TokenRows.from_ragged(ids, tf.ragged.constant([[0, 1], [], [0]], dtype=tf.int32))
    assert rows.lengths.tolist() == [2, 0, 1]
    assert rows.token_ids.dtype == np.int32
    assert rows.segment_ids.tolist() == [0, 1, 0]


def test_the_graphs_hold_no_python():
    """A py_function or generator cannot leave its process and holds the interpreter lock."""
    rows = make_rows(LENGTHS)
    dataset = token_batches(LabelledRows(rows, LENGTHS), bucketed_batches(LENGTHS, batch_size=16))
    functions, waiting = [], [dataset]
    while waiting:
        current = waiting.pop()
        waiting += current._inputs()
        functions += [function.function for function in current._functions()]
    assert functions
    ops = {node.op for function in functions for node in function.graph.as_graph_def().node}
    ops |= {
        node.op
        for function in functions
        for inner in function.graph.as_graph_def().library.function
        for node in inner.node_def
    }
    assert not [op for op in ops if "PyFunc" in op]


STRATEGY = """
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from keras_bert_zoo.data.pipeline import LabelledRows, TokenRows, bucketed_batches, token_batches

lengths = np.random.default_rng(0).integers(1, 30, 37)
rows = TokenRows(np.arange(lengths.sum(), dtype=np.int32), np.concatenate([[0], lengths.cumsum()]))

def make():
    batches = bucketed_batches(lengths, batch_size=8, seed=3)
    return token_batches(LabelledRows(rows, np.arange(37)), batches)

plain = make()
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    distributed = strategy.experimental_distribute_dataset(make())
for epoch in range(2):
    expected = [(inputs["token_ids"], labels) for inputs, labels in plain]
    count = 0
    for (inputs, labels), (token_ids, all_labels) in zip(distributed, expected):
        parts = strategy.experimental_local_results(labels)
        assert len(parts) == 2
        assert tf.concat(parts, 0).numpy().tolist() == all_labels.numpy().tolist()
        ids = tf.concat(strategy.experimental_local_results(inputs["token_ids"]), 0)
        assert (ids == token_ids).numpy().all()
        count += 1
    assert count == 5, count
print("equal")
"""


def test_under_a_mirrored_strategy_each_device_gets_its_part():
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(STRATEGY)],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert finished.stdout.strip() == "equal"


def test_errors():
    rows = make_rows([1, 2])
    batches = bucketed_batches(rows.lengths, batch_size=2)
    with pytest.raises(ConfigError, match="expected batch_size to be at least 1, received 0"):
        bucketed_batches(LENGTHS, batch_size=0)
    with pytest.raises(DataError, match="expected at least one row to batch, received none"):
        bucketed_batches(np.array([], np.int64), batch_size=2)
    with pytest.raises(DataError, match="expected 2 labels, one per example, received 3"):
        LabelledRows(rows, np.zeros(3))
    with pytest.raises(DataError, match="expected rows in groups of 3, received 2 rows"):
        LabelledRows(rows, group=3)
    with pytest.raises(DataError, match="expected 3 token labels, one per token, received 2"):
        LabelledRows(rows, token_labels=np.zeros(2, np.int32))
    with pytest.raises(ConfigError, match="expected labels with the weights, received none"):
        token_batches(LabelledRows(rows, weights=np.zeros(2)), batches)
    with pytest.raises(DataError, match="expected row_splits to increase from 0 to the number of"):
        TokenRows(np.zeros(3, np.int32), np.array([0, 2]))
    with pytest.raises(
        DataError,
        match=r"expected segment_ids of shape \(3,\), as token_ids, "
        r"received",
    ):
        TokenRows(np.zeros(3, np.int32), np.array([0, 3]), np.zeros(2, np.int32))
