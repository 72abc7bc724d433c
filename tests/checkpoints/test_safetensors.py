"""safetensors: what is read and written, and that hostile files cost nothing."""

import json
import os
import struct
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from safetensors import SafetensorError

from keras_bert_zoo.checkpoints import raw as raw_files
from keras_bert_zoo.checkpoints.formats import open_checkpoint
from keras_bert_zoo.checkpoints.safetensors import (
    LazyTensor,
    open_safetensors,
    write_safetensors,
)
from keras_bert_zoo.errors import CheckpointError


def some_tensors():
    random = np.random.default_rng(0)
    return {
        "table": random.standard_normal((7, 5)).astype(np.float32),
        "half": random.standard_normal((300, 3)).astype(np.float16),
        "brain": random.standard_normal((3, 400)).astype(ml_dtypes.bfloat16),
        "double": random.standard_normal((2, 2, 2)),
        "ids": np.arange(6, dtype=np.int64).reshape(1, 6),
        "flag": np.array(True),
        "nothing": np.zeros((0, 3), np.float32),
    }


def raw_file(path, header, data=b"", *, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    path.write_bytes(struct.pack("<Q", size) + text + data)
    return path


def entry(shape, start, stop, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def test_reads_what_the_library_writes(tmp_path):
    tensors = some_tensors()
    safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors")
    with open_checkpoint(tmp_path) as source:
        assert sorted(source.names()) == sorted(tensors)
        assert len(source) == len(tensors)
        for name, expected in tensors.items():
            assert source.shape(name) == expected.shape
            assert source.dtype(name) == expected.dtype
            value = source.read(name)
            assert value.dtype == expected.dtype
            np.testing.assert_array_equal(value, expected)
        with pytest.raises(CheckpointError, match="has no tensor named 'other'"):
            source.read("other")
    with pytest.raises(CheckpointError, match="has been closed"):
        source.read("table")


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (700, 3), (3, 700), (513, 1025)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.float64])
def test_reads_transposes_and_casts_into_memory(tmp_path, monkeypatch, shape, dtype):
    monkeypatch.setattr(raw_files, "_STRIP_BYTES", 4096)  # several strips each
    value = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    write_safetensors(tmp_path, [("x", value)])
    with open_checkpoint(tmp_path) as source:
        straight = np.empty(shape, np.float32)
        source.read_into("x", straight)
        np.testing.assert_array_equal(straight, value.astype(np.float32))
        transposed = np.empty(shape[::-1], np.float32)
        source.read_into("x", transposed.T)
        np.testing.assert_array_equal(transposed, value.T.astype(np.float32))
        if shape[0] != shape[1]:
            with pytest.raises(ValueError, match="Expected an array of shape"):
                source.read_into("x", transposed)


def test_writes_what_the_library_reads(tmp_path):
    tensors = some_tensors()
    tensors["transposed"] = np.arange(300 * 7, dtype=np.float32).reshape(300, 7).T
    tensors["big endian"] = np.arange(5, dtype=">f4")
    assert write_safetensors(tmp_path, tensors.items()) == ["model.safetensors"]
    assert os.listdir(tmp_path) == ["model.safetensors"]
    written = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    assert sorted(written) == sorted(tensors)
    for name, expected in tensors.items():
        np.testing.assert_array_equal(written[name], expected)
    with safetensors.safe_open(tmp_path / "model.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "pt"}


def test_writes_and_reads_shards(tmp_path):
    tensors = {f"layer.{i}": np.full((4, 4), i, np.float32) for i in range(5)}
    written = write_safetensors(tmp_path, tensors.items(), max_shard_bytes=130)
    assert written == [
        "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors",
        "model-00003-of-00003.safetensors",
        "model.safetensors.index.json",
    ]
    assert sorted(os.listdir(tmp_path)) == written
    index = json.loads((tmp_path / written[-1]).read_text())
    assert index["metadata"] == {"total_size": 5 * 64}
    assert index["weight_map"]["layer.1"] == written[0]
    assert index["weight_map"]["layer.2"] == written[1]
    with open_checkpoint(tmp_path) as source:
        assert source.path.endswith("index.json")
        assert source.names() == list(tensors)
        for name, expected in tensors.items():
            np.testing.assert_array_equal(source.read(name), expected)


def test_a_tensor_larger_than_a_shard_gets_its_own(tmp_path):
    tensors = {"small": np.zeros(2, np.float32), "large": np.zeros(99, np.float32)}
    assert len(write_safetensors(tmp_path, tensors.items(), max_shard_bytes=50)) == 3


def test_lazy_tensors_are_in_memory_one_at_a_time(tmp_path):
    count, size = 8, 1 << 20

    def make(value):
        return lambda: np.full(size, value, np.float32)

    tensors = [(f"t{i}", LazyTensor((size,), np.dtype(np.float32), make(i))) for i in range(count)]
    tracemalloc.start()
    write_safetensors(tmp_path, tensors, max_shard_bytes=3 * 4 * size)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * 4 * size
    with open_checkpoint(tmp_path) as source:
        assert [source.read(f"t{i}")[-1] for i in range(count)] == list(range(count))


def test_a_failure_leaves_nothing(tmp_path):
    def fail():
        raise OSError(28, "No space left on device")

    tensors = [
        ("a", np.zeros(3, np.float32)),
        ("b", LazyTensor((3,), np.dtype(np.float32), fail)),
    ]
    with pytest.raises(OSError, match="No space left"):
        write_safetensors(tmp_path, tensors, max_shard_bytes=12)
    assert os.listdir(tmp_path) == []


def test_refuses_to_write_what_would_be_mixed_up(tmp_path):
    array = np.zeros(3, np.float32)
    with pytest.raises(CheckpointError, match="second tensor named 'a'"):
        write_safetensors(tmp_path, [("a", array), ("a", array)])
    with pytest.raises(CheckpointError, match="no dtype <U1"):
        write_safetensors(tmp_path, [("a", np.array(["x"]))])
    with pytest.raises(CheckpointError, match="Expected .* received"):
        write_safetensors(tmp_path, [("a", LazyTensor((4,), array.dtype, lambda: array))])
    write_safetensors(tmp_path, [("a", array)])
    with pytest.raises(CheckpointError, match="already has model.safetensors"):
        write_safetensors(tmp_path, [("a", array), ("b", array)], max_shard_bytes=12)


HOSTILE_HEADERS = {
    "beyond the end": {"a": entry([16], 0, 64)},
    "backwards": {"a": entry([4], 16, 0)},
    "too short for its shape": {"a": entry([4], 0, 8)},
    "too long for its shape": {"a": entry([2], 0, 16)},
    "overlap": {"a": entry([3], 0, 12), "b": entry([2], 8, 16)},
    "hidden inside": {"a": entry([4], 0, 16), "b": entry([1], 4, 8)},
    "the same data twice": {"a": entry([4], 0, 16), "b": entry([4], 0, 16)},
    "hole": {"a": entry([1], 0, 4), "b": entry([2], 8, 16)},
    "hole at the start": {"a": entry([2], 8, 16)},
    "bytes after the end": {"a": entry([2], 0, 8)},
    "nothing described": {},
    "overflowing product": {"a": entry([1 << 62, 4], 0, 16)},
    "overflowing to the size": {"a": entry([(1 << 62) + 4], 0, 16)},
    "overflowing offsets": {"a": entry([4], 1 << 64, (1 << 64) + 16)},
    "negative": {"a": entry([-4], 0, 16)},
    "negative offset": {"a": entry([4], -16, 0)},
    "fraction": {"a": entry([4.0], 0, 16)},
    "truth": {"a": entry([4, True], 0, 16)},
    "unknown dtype": {"a": entry([4], 0, 16, "F31")},
    "dtype is none": {"a": entry([4], 0, 16, None)},
    "no shape": {"a": {"dtype": "F32", "data_offsets": [0, 16]}},
    "more fields": {"a": entry([4], 0, 16) | {"more": 1}},
    "three offsets": {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8, 16]}},
    "a list": {"a": [1]},
    "metadata of numbers": {"a": entry([4], 0, 16), "__metadata__": {"x": 1}},
    "metadata of lists": {"a": entry([4], 0, 16), "__metadata__": ["x"]},
}
# The safetensors library accepts these headers, because it skips unknown fields.
STRICTER = {"more fields"}


@pytest.mark.parametrize("name", HOSTILE_HEADERS)
def test_refuses_hostile_headers(tmp_path, name):
    path = raw_file(tmp_path / "model.safetensors", HOSTILE_HEADERS[name], bytes(16))
    with pytest.raises(CheckpointError, match="is not a complete safetensors file") as caught:
        open_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)
    if name not in STRICTER:
        with pytest.raises(SafetensorError):
            safetensors.safe_open(path, "numpy")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,16]}}',
        (
            b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},'
            b'"a":{"dtype":"I32","shape":[4],"data_offsets":[0,16]}}'
        ),
    ],
)
def test_refuses_headers_that_are_no_json(tmp_path, text):
    raw_file(tmp_path / "model.safetensors", text, bytes(16))
    with pytest.raises(CheckpointError, match="is not a complete safetensors file"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("length", [1 << 40, 1 << 63, (1 << 64) - 1, 17])
def test_refuses_a_huge_header_before_taking_memory(tmp_path, length):
    raw_file(tmp_path / "model.safetensors", b"{}", bytes(14), length=length)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=f"expected a header of {length:,} bytes"):
        open_checkpoint(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_refuses_a_header_beyond_the_limit_before_reading_it(tmp_path):
    path = raw_file(tmp_path / "model.safetensors", b"{}", length=90_000_000)
    os.truncate(path, 100_000_000)  # sparse: the file is long enough
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="at most 16,000,000 bytes, received 90,000,000"):
        open_checkpoint(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    "shape",
    [
        [0, 1 << 62],
        [0, 1 << 40, 1 << 40],
        [1] * 40,
        [1 << 62] * 300,
        [(1 << 63) - 1] * 60_000,
    ],
    ids=lambda shape: f"{len(shape)} of {max(shape)}",
)
def test_refuses_shapes_that_no_variable_has(tmp_path, shape):
    size = 4 if set(shape) == {1} else 0
    raw_file(tmp_path / "model.safetensors", {"a": entry(shape, 0, size)}, bytes(size))
    with pytest.raises(CheckpointError, match="has the invalid shape") as caught:
        open_checkpoint(tmp_path)
    assert len(str(caught.value)) < 1000


def test_messages_stay_short(tmp_path):
    for header in (
        {"x" * 100_000: 1},
        {"x" * 100_000: entry([1], 0, 4, "x" * 100_000)},
        {"x" * 100_000: entry([1], 0, 4, [["x" * 100_000]])},
        {"x" * 100_000: entry([1], 0, 8)},
    ):
        raw_file(tmp_path / "model.safetensors", header, bytes(4))
        with pytest.raises(CheckpointError, match="is not a complete safetensors file") as caught:
            open_checkpoint(tmp_path)
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[2J", "x" * 600])
def test_refuses_names_that_would_break_messages(tmp_path, name):
    raw_file(tmp_path / "model.safetensors", {name: entry([4], 0, 16)}, bytes(16))
    with pytest.raises(CheckpointError, match="expected a tensor name of") as caught:
        open_checkpoint(tmp_path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("keep", [0, 5, 8, 60, -1])
def test_refuses_truncated_files(tmp_path, keep):
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(some_tensors(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="is not a complete safetensors file"):
        open_checkpoint(tmp_path)


def test_a_file_that_shrinks_while_open_is_an_error_not_a_crash(tmp_path):
    path = tmp_path / "model.safetensors"
    write_safetensors(tmp_path, [("a", np.zeros(100_000, np.float32))])
    with open_checkpoint(tmp_path) as source:
        os.truncate(path, 1000)
        with pytest.raises(CheckpointError, match="became shorter"):
            source.read("a")


def test_refuses_what_is_not_a_regular_file(tmp_path):
    path = tmp_path / "model.safetensors"
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match="is not a regular file"):
        open_safetensors(path)
    with pytest.raises(CheckpointError, match="No model.safetensors in"):
        open_checkpoint(tmp_path)


def test_refuses_both_names_of_one_tensor(tmp_path):
    array = np.zeros(3, np.float32)
    names = ["x.LayerNorm.gamma", "x.LayerNorm.weight"]
    write_safetensors(tmp_path, [(name, array) for name in names])
    with pytest.raises(CheckpointError, match="has x.LayerNorm.weight twice"):
        open_checkpoint(tmp_path)


def test_presents_older_names_of_layer_norms(tmp_path):
    tensors = {"bert.LayerNorm.gamma": np.ones(3, np.float32), "beta": np.zeros(2, np.float32)}
    write_safetensors(tmp_path, tensors.items())
    with open_checkpoint(tmp_path) as source:
        assert source.names() == ["bert.LayerNorm.weight", "beta"]
        np.testing.assert_array_equal(source.read("bert.LayerNorm.weight"), np.ones(3))


@pytest.fixture
def shards(tmp_path):
    """A directory with a checkpoint in two shards, and the names of its files."""
    tensors = {f"t{i}": np.full(4, i, np.float32) for i in range(4)}
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    first, second, index = write_safetensors(folder, tensors.items(), max_shard_bytes=32)
    return folder, first, second, folder / index


def change_index(path, change):
    index = json.loads(path.read_text())
    change(index["weight_map"])
    path.write_text(json.dumps(index))


def test_refuses_missing_shards(shards):
    folder, _, second, _ = shards
    (folder / second).unlink()
    with pytest.raises(CheckpointError, match=f"names missing files: {second}"):
        open_checkpoint(folder)


def test_refuses_a_tensor_in_two_shards(shards):
    folder, first, second, _ = shards
    both = {f"t{i}": np.zeros(4, np.float32) for i in (1, 2, 3)}
    safetensors.numpy.save_file(both, folder / second)
    with pytest.raises(CheckpointError, match=f"listed twice: 't1' in {first} and {second}"):
        open_checkpoint(folder)


def test_refuses_a_tensor_twice_in_the_index(shards):
    folder, first, _second, index = shards
    text = index.read_text().replace('"t0":', f'"t3": "{first}", "t0":')
    index.write_text(text)
    with pytest.raises(CheckpointError, match="the key 't3' is given twice"):
        open_checkpoint(folder)


def test_refuses_an_index_that_does_not_fit(shards):
    folder, first, second, index = shards

    def change(weight_map):
        del weight_map["t0"]
        weight_map["t9"] = second

    change_index(index, change)
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(folder)
    assert f"missing: 't9' in {second}" in str(caught.value)
    assert f"not in the index: 't0' in {first}" in str(caught.value)


def test_refuses_a_damaged_shard(shards):
    folder, _, second, _ = shards
    os.truncate(folder / second, 50)
    with pytest.raises(CheckpointError, match=f"{second} .* is not a complete safetensors file"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    "name", ["../model.safetensors", "/etc/passwd", "sub/model", "..", "", "a\\b", "C:x", "a\nb"]
)
def test_refuses_shards_named_with_a_path(shards, name):
    folder, _, _, index = shards
    # There is such a file outside, and it is whole: it must not be opened all the same.
    write_safetensors(folder.parent, [("t0", np.zeros(4, np.float32))])
    change_index(index, lambda weight_map: weight_map.update(t0=name))
    with pytest.raises(CheckpointError, match="must be in the directory of the index"):
        open_checkpoint(folder)


def test_refuses_shards_that_are_no_names(shards):
    folder, _, _, index = shards
    change_index(index, lambda weight_map: weight_map.update(t0=["x"]))
    with pytest.raises(CheckpointError, match="as a string, received"):
        open_checkpoint(folder)
    index.write_text('{"weight_map": {}}')
    with pytest.raises(CheckpointError, match="Expected a `weight_map`"):
        open_checkpoint(folder)


def test_messages_of_an_index_stay_short(shards):
    folder, _, _, index = shards
    change_index(index, lambda weight_map: weight_map.update({"x" * 100_000: ["x" * 100_000]}))
    with pytest.raises(CheckpointError, match="as a string, received") as caught:
        open_checkpoint(folder)
    assert len(str(caught.value)) < 1000


def test_refuses_links_that_leave_the_directory(shards):
    folder, first, _, _ = shards
    (folder / first).rename(folder.parent / "outside")
    (folder / first).symlink_to(folder.parent / "outside")
    with pytest.raises(CheckpointError, match="a link out of the directory"):
        open_checkpoint(folder)


def test_refuses_links_in_a_ring_and_names_too_long(shards):
    folder, first, _, index = shards
    (folder / first).unlink()
    (folder / first).symlink_to(first)
    with pytest.raises(CheckpointError, match="a loop of links"):
        open_checkpoint(folder)
    change_index(index, lambda weight_map: weight_map.update(t0="x" * 256))
    with pytest.raises(CheckpointError, match="must be in the directory of the index") as caught:
        open_checkpoint(folder)
    assert len(str(caught.value)) < 1000


def test_reads_links_of_the_hub_cache(shards, tmp_path):
    folder, _, _, _ = shards
    model = tmp_path / "models--who--what"
    snapshot, blobs = model / "snapshots" / "0123abc", model / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for i, path in enumerate(sorted(folder.iterdir())):
        path.rename(blobs / str(i))
        (snapshot / path.name).symlink_to(f"../../blobs/{i}")
    with open_checkpoint(snapshot) as source:
        assert source.names() == ["t0", "t1", "t2", "t3"]
