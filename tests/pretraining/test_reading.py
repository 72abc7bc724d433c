"""Batches of shards: their order, places to enter it, lengths, masks and damaged files."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.data.masking import Masking
from keras_bert_zoo.data.pipeline import NO_LABEL
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.pretraining import reading
from keras_bert_zoo.pretraining.dataset import PretrainingData
from keras_bert_zoo.pretraining.example_batches import BatchColumns, ExampleBatches
from keras_bert_zoo.pretraining.order import BLOCK, ShardOrder
from keras_bert_zoo.pretraining.phases import Phase, PretrainingPhases, phase_source
from keras_bert_zoo.pretraining.reading import RecordBatches
from tests.pretraining.shards import CLS, SEP, write_data, write_shard
from tests.tasks.every_task import make_tokenizer

SIZES = [40, 17, 0, 1, 90, 33, 5, 64, 20, 12]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Ten shards, more than are read together; one of them is empty."""
    return write_data(tmp_path_factory.mktemp("data"), SIZES, heldout=[9, 4])


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    """A pass of several windows."""
    monkeypatch.setattr(reading, "_WINDOW", 64)
    monkeypatch.setattr(reading, "_LEAST_BATCHES", 4)


def batches_of(records, step=0, **options):
    return [
        (int(batch["epoch"]), batch["number"].numpy().tolist(), batch["token_ids"].row_lengths())
        for batch in records.read(step, **options)
    ]


def turns(order, epoch):
    """The order of the records of a pass, step by step in Python."""
    shards = order.shards_of(tf.constant(epoch, tf.int64)).numpy()
    result = []
    for begin in range(0, len(shards), order.together):
        group = [list(range(order.sizes[s])) for s in shards[begin : begin + order.together]]
        names = [order.first_numbers[s] for s in shards[begin : begin + order.together]]
        while any(group):
            for records, first in zip(group, names, strict=True):
                result += [int(first) + record for record in records[:BLOCK]]
                del records[:BLOCK]
    return result


def test_records_are_read_in_turn_from_any_place(data):
    shards = [shard for shard in data.train if shard.examples]
    order = ShardOrder(
        [str(data.directory / shard.name) for shard in shards],
        [shard.examples for shard in shards], seed=3, together=4,
    )  # fmt: skip
    for epoch in (0, 1):
        expected = turns(order, epoch)
        assert sorted(expected) == list(range(order.records))
        for place in (0, 100, 131, order.records)[: 4 - 3 * epoch]:
            read = order.read(tf.constant(epoch, tf.int64), tf.constant(place, tf.int64), 50)
            windows = [numbers.numpy().tolist() for numbers, _ in read]
            assert windows == [expected[i : i + 50] for i in range(place, len(expected), 50)]
    assert turns(order, 0) != turns(order, 1)


@pytest.mark.parametrize("size", [{"batch_size": 7}, {"tokens_per_batch": 100}])
def test_each_pass_has_each_record_once_and_any_step_can_be_entered(data, size):
    records = RecordBatches(data=data, seed=3, **size)
    whole = batches_of(records, passes=2)
    assert len(whole) == 2 * records.steps
    orders = []
    for epoch in (0, 1):
        numbers = [number for at, batch, _ in whole if at == epoch for number in batch]
        assert sorted(numbers) == list(range(sum(SIZES)))
        orders.append(numbers)
    assert orders[0] != orders[1]
    last = 2 * records.steps
    for step in (1, records.steps, last - 3):
        again = [
            (int(batch["epoch"]), batch["number"].numpy().tolist())
            for batch in records.read(step).take(3)
        ]
        assert again == [batch[:2] for batch in whole[step : step + 3]]


def test_only_the_group_of_a_step_is_read_to_enter_it(data, monkeypatch, tmp_path):
    """The first shards of the order may be missing."""
    records = RecordBatches(data=data, batch_size=7, shuffle=False, by_length=False)
    shards = list(records.shards)
    broken = dataclasses.replace(shards[0], name="missing.tfrecord")
    moved = dataclasses.replace(data, train=(broken, *shards[1:]))
    late = RecordBatches(data=moved, batch_size=7, shuffle=False, by_length=False)
    assert 2 * late.window > shards[0].examples
    step = 2 * late.window_batches
    assert batches_of(late, step, passes=1)[0][1] == batches_of(records, step, passes=1)[0][1]


def test_batches_by_tokens_have_about_as_many_tokens(data):
    records = RecordBatches(data=data, tokens_per_batch=100)
    tokens = [int(sum(lengths)) for _, _, lengths in batches_of(records, passes=1)]
    assert sum(tokens) == sum(shard.tokens for shard in data.train)
    full = tokens[: -records.window_batches]
    # A batch ends at the record that fills it; the mean of a window of 64 records varies.
    assert min(full) > 50
    assert max(full) < 150
    assert abs(np.mean(tokens) / 100 - 1) < 0.1
    with pytest.raises(ConfigError, match="`tokens_per_batch` of at least 24"):
        RecordBatches(data=data, tokens_per_batch=20)


def test_rows_of_a_batch_have_similar_lengths(data):
    records = RecordBatches(data=data, batch_size=4)

    def padding(records):
        lengths = [lengths.numpy() for _, _, lengths in batches_of(records, passes=1)]
        return sum(len(n) * n.max() - n.sum() for n in lengths) / sum(n.sum() for n in lengths)

    mixed = RecordBatches(data=data, batch_size=4, by_length=False)
    assert padding(records) < padding(mixed) / 3


def make(data, **options):
    return ExampleBatches(data=data, tokenizer=make_tokenizer(), **options)


def test_inputs_are_the_records_with_segments(tmp_path):
    data = write_data(tmp_path, [12], pairs="sentence_order", gzip=True)
    batch = next(iter(RecordBatches(data=data, batch_size=12).read()))
    inputs, targets = make(data)(batch)
    lengths = batch["token_ids"].row_lengths().numpy()
    for row, length in enumerate(lengths):
        first = int(batch["first_length"][row])
        ids = inputs["token_ids"][row].numpy()
        assert ids[:length].tolist() == batch["token_ids"][row].numpy().tolist()
        assert not ids[length:].any()
        assert inputs["padding_mask"][row].numpy().tolist() == [1] * length + [0] * (
            len(ids) - length
        )
        segments = inputs["segment_ids"][row].numpy()
        assert not segments[:first].any()
        assert segments[first:length].all()
        assert not segments[length:].any()
    assert list(targets) == ["sentence_order"]
    np.testing.assert_array_equal(targets["sentence_order"], batch["pair_label"])


def test_masks_depend_on_the_record_and_the_pass_alone(data):
    """Not on the size of batches."""

    def masked(epoch, **options):
        records = RecordBatches(data=data, **options)
        maker, result = make(data, masking=Masking(rate=0.3)), {}
        batches = records.read(epoch * records.steps).take(records.steps)
        for batch, (inputs, targets) in batches.map(lambda batch: (batch, maker(batch))):
            labels = targets["masked_lm"].numpy()
            for row, number in enumerate(batch["number"].numpy()):
                real = labels[row] != NO_LABEL
                places = inputs["mask_positions"][row].numpy()[real]
                original = batch["token_ids"][row].numpy()
                assert original[places].tolist() == labels[row][real].tolist()
                assert not set(original[places]) & {CLS, SEP}
                length = len(original)
                result[int(number)] = inputs["token_ids"][row].numpy()[:length].tolist()
        return result

    first = masked(0, batch_size=7)
    assert first == masked(0, tokens_per_batch=90)
    second = masked(1, batch_size=7)
    assert sum(first[number] != second[number] for number in first) > 0.8 * len(first)


def test_whole_words_are_masked_together(tmp_path):
    row = [CLS, *range(5, 17), SEP]
    begins = [[1, 4, 7, 10]]
    shard = write_shard(tmp_path / "train-00000.tfrecord", [row] * 30, word_begins=begins * 30)
    plain = write_data(tmp_path / "other", [1])
    data = dataclasses.replace(plain, directory=tmp_path, train=(shard,), word_boundaries=True)
    batch = next(iter(RecordBatches(data=data, batch_size=30).read()))
    inputs, targets = make(data, masking=Masking(rate=0.3, whole_words=True))(batch)
    places = [
        columns[labels != NO_LABEL].tolist()
        for columns, labels in zip(
            inputs["mask_positions"].numpy(), targets["masked_lm"].numpy(), strict=True
        )
    ]
    words = [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]]
    for row_places in places:
        assert row_places == [p for word in words if word[0] in row_places for p in word]
    assert len({tuple(p) for p in places}) > 3


def test_static_masks_are_those_of_the_records(tmp_path):
    rows = [[CLS, 4, 6, 4, SEP], [CLS, 4, SEP]]
    features = {"masked_positions": [[1, 3], [1]], "masked_token_ids": [[9, 10], [11]]}
    shard = write_shard(tmp_path / "train-00000.tfrecord", rows, **features)
    plain = write_data(tmp_path / "other", [1])
    data = dataclasses.replace(plain, directory=tmp_path, train=(shard,), static_masks=True)
    records = RecordBatches(data=data, batch_size=2, shuffle=False, by_length=False)
    inputs, targets = make(data, masking=Masking(rate=0.9))(next(iter(records.read())))
    assert inputs["token_ids"].numpy().tolist() == [[CLS, 4, 6, 4, SEP], [CLS, 4, SEP, 0, 0]]
    assert inputs["mask_positions"].numpy().tolist() == [[1, 3], [1, 0]]
    assert targets["masked_lm"].numpy().tolist() == [[9, 10], [11, NO_LABEL]]


def test_buckets_are_the_only_lengths(data):
    maker = make(data, masking=Masking(), columns=BatchColumns((8, 16, 24), static=True))
    seen = set()
    batches = RecordBatches(data=data, batch_size=4).read(passes=1)
    for batch, (inputs, targets) in batches.map(lambda batch: (batch, maker(batch))):
        longest = int(batch["token_ids"].bounding_shape(axis=1))
        width = inputs["token_ids"].shape[1]
        assert width == min(bucket for bucket in (8, 16, 24) if bucket >= longest)
        assert targets["masked_lm"].shape == inputs["mask_positions"].shape
        seen.add((width, inputs["mask_positions"].shape[1]))
    assert len(seen) == 3
    with pytest.raises(ConfigError, match="a bucket of at least 24 tokens"):
        make(data, columns=BatchColumns((8, 16)))


def test_phases_follow_each_other_at_any_step(data, tmp_path):
    longer = write_data(tmp_path, [30, 30], seed=1)
    phases = PretrainingPhases(
        [Phase(data=data, steps=5, batch_size=8), Phase(data=longer, steps=4, batch_size=3)]
    )
    source = phase_source(phases, make_tokenizer(), masking=Masking(), batch_size=32, seed=1)
    assert source.total_steps == 9

    def read(step):
        return [
            inputs["token_ids"].numpy().tolist()
            for dataset, _ in source.batches(step)
            for inputs, _ in dataset
        ]

    whole = read(0)
    assert [len(batch) for batch in whole] == [8] * 5 + [3] * 4
    for step in (2, 7):
        assert read(step) == whole[step:]
    assert source.examples_of(6)[0].startswith(str(tmp_path))


def test_all_workers_of_a_service_are_one(data):
    """The batches of a tf.data service are those of the process itself."""
    service = tf.data.experimental.service
    dispatcher = service.DispatchServer()
    address = dispatcher.target.split("://")[1]
    worker = service.WorkerServer(service.WorkerConfig(dispatcher_address=address))

    def read(data_service):
        phases = PretrainingPhases([Phase(data=data, steps=6)], data_service=data_service)
        source = phase_source(phases, make_tokenizer(), masking=Masking(), batch_size=8, seed=1)
        ((dataset, rows),) = source.batches(2)
        assert rows == 8
        return [inputs["token_ids"].numpy().tolist() for inputs, _ in dataset]

    assert read(dispatcher.target) == read(None)
    del worker


def test_damaged_files_are_named(data, tmp_path):
    damaged = write_data(tmp_path, [30, 20])
    path = tmp_path / damaged.train[1].name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    records = RecordBatches(data=damaged, batch_size=8)
    with pytest.raises(tf.errors.DataLossError):
        batches_of(records, passes=1)
    with pytest.raises(DataError, match=r"train-00001-of-00002.tfrecord: expected 20 records, rec"):
        records.check(0)
    RecordBatches(data=data, batch_size=8).check(0)
    path.write_bytes((tmp_path / damaged.train[0].name).read_bytes())  # 30 records, not 20
    with pytest.raises(DataError, match="expected 20 records, received 30"):
        records.check(0)
    path.unlink()
    with pytest.raises(DataError, match="such as train-00001-of-00002.tfrecord"):
        PretrainingData.open(tmp_path)
    with pytest.raises(DataError, match="expected a shard, received no file"):
        records.check(0)


def test_impossible_data_is_refused(data, tmp_path):
    with pytest.raises(ConfigError, match="expected held-out examples, received none"):
        RecordBatches(data=write_data(tmp_path, [3]), heldout=True)
    with pytest.raises(ConfigError, match="`steps` for each phase but the last"):
        PretrainingPhases([Phase(data=data), Phase(data=data)])
    pairs = write_data(tmp_path / "pairs", [3], pairs="next_sentence")
    with pytest.raises(ConfigError, match="the same pairs in all phases"):
        PretrainingPhases([Phase(data=data, steps=1), Phase(data=pairs)])
    other = dataclasses.replace(data, tokenizer_hash="0")
    with pytest.raises(ConfigError, match="expected the tokenizer of"):
        phase_source(
            PretrainingPhases([Phase(data=other)]), make_tokenizer(), masking=None,
            batch_size=2, seed=0,
        )  # fmt: skip
