"""Records: equal to TensorFlow's own bytes, and written whole or not at all."""

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.errors import DataError
from keras_bert_zoo.pretraining.records import read_records, serialize_examples, write_records


def test_bytes_are_those_of_tensorflow():
    random = np.random.default_rng(0)
    sizes = random.integers(0, 200, 300)
    sizes[::50] = 0, 1, 127, 128, 16_000, 3_000
    splits = np.concatenate([[0], np.cumsum(sizes)])
    values = random.integers(0, 2**40, splits[-1]) >> random.integers(0, 40, splits[-1])
    features = {
        "token_ids": (values, splits),
        "first_length": (sizes, np.arange(len(sizes) + 1)),
        "pair_label": (sizes % 2, np.arange(len(sizes) + 1)),
    }
    for row, record in enumerate(serialize_examples(features)):
        expected = tf.train.Example()
        for name, (numbers, bounds) in features.items():
            numbers = numbers[bounds[row] : bounds[row + 1]].tolist()
            expected.features.feature[name].int64_list.value.extend(numbers)
        assert record == expected.SerializeToString(deterministic=True)


def test_no_features_and_no_rows():
    assert serialize_examples({}) == []
    assert serialize_examples({"token_ids": (np.zeros(0, int), np.zeros(1, int))}) == []


def test_a_file_is_whole_or_missing(tmp_path):
    path = tmp_path / "a.tfrecord.gz"

    def failing():
        yield b"one"
        raise DataError("no")

    with pytest.raises(DataError, match="no"):
        write_records(path, failing())
    assert not list(tmp_path.iterdir())
    records = serialize_examples({"token_ids": (np.array([5, 700]), np.array([0, 1, 2]))})
    write_records(path, iter(records))
    assert list(read_records(path)) == [{"token_ids": [5]}, {"token_ids": [700]}]
    plain = tmp_path / "b.tfrecord"
    write_records(plain, iter(records))
    plain.write_bytes(plain.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"b\.tfrecord cannot be read"):
        list(read_records(plain))
    with pytest.raises(DataError, match="cannot be written"):
        write_records(tmp_path / "no" / "a.tfrecord", iter(records))
