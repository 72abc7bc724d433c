"""Hostile HDF5 files: what neither reader of them may take memory for."""

import resource
import zlib

import h5py
import numpy as np
import pytest

from keras_bert_zoo.checkpoints.hdf5 import Space, open_hdf5, read_array, walk_arrays
from keras_bert_zoo.checkpoints.keras_hub.h5 import WeightsFile
from keras_bert_zoo.checkpoints.transformers_h5 import open_keras_h5
from keras_bert_zoo.errors import CheckpointError

NAME = "a/m/x/kernel:0"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tf_model.h5"


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kibibytes


@pytest.mark.parametrize("open_file", [open_keras_h5, WeightsFile], ids=["tf_model", "keras"])
def test_refuses_many_arrays_in_one_place(path, open_file):
    with h5py.File(path, "w") as file:
        file["a/m/x0/kernel:0"] = np.ones(1 << 16, np.float32)
        for i in range(1, 40):
            file.create_dataset(f"a/m/x{i}/kernel:0", (1 << 16,), "f4")  # without data so far
        address = file["a/m/x0/kernel:0"].id.get_offset()
    content = path.read_bytes()
    size = (4 << 16).to_bytes(8, "little")
    assert content.count(b"\xff" * 8 + size) == 39
    path.write_bytes(content.replace(b"\xff" * 8 + size, address.to_bytes(8, "little") + size))
    with h5py.File(path) as file:  # HDF5's library reads it all the same
        assert file["a/m/x39/kernel:0"][5] == 1
    with pytest.raises(CheckpointError, match=r"stores 262,144 bytes for it and has [\d,]+ bytes"):
        open_file(path)


def test_refuses_a_chunk_that_inflates_to_more_than_itself(path):
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(
            NAME, (1024, 512), "f4", chunks=(512, 512), compression="gzip"
        )
        chunk = zlib.compress(bytes(1 << 28), 1)
        for row in (0, 512):
            dataset.id.write_direct_chunk((row, 0), chunk)
    before = peak()
    with (
        open_keras_h5(path) as source,
        pytest.raises(CheckpointError, match="expected a chunk of 1,048,576 bytes after"),
    ):
        source.read("x.weight")
    assert peak() - before < 50_000


def test_refuses_chunks_beyond_the_array(path):
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(
            NAME,
            (4, 1024),
            "f4",
            maxshape=(None, 1024),
            chunks=(20_000, 1024),
            compression="gzip",
        )
        dataset[...] = 1
    before = peak()
    with pytest.raises(CheckpointError, match=r"in chunks of \(20000, 1024\), up to \(None, 1024"):
        open_keras_h5(path)
    assert peak() - before < 50_000
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(NAME, (4,), "f4", maxshape=(8,), chunks=(2,))
        dataset[...] = 1
    with pytest.raises(CheckpointError, match="expected a fixed shape"):
        open_keras_h5(path)


def test_refuses_chunks_without_number(path):
    with h5py.File(path, "w") as file:
        file.create_dataset(NAME, data=np.ones((1 << 17,), np.float32), chunks=(1,))
    with pytest.raises(CheckpointError, match="at most 65,536 chunks"):
        open_keras_h5(path)


def test_refuses_filters_one_after_another(path):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((64, 64))
    properties.set_deflate(9)
    properties.set_deflate(9)
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple((64, 64))
        group = file.create_group("a/m/x")
        h5py.h5d.create(group.id, b"kernel:0", h5py.h5t.IEEE_F32LE, space, properties)
        file[NAME][...] = 1
    with pytest.raises(CheckpointError, match="expected the filters gzip and shuffle, each at"):
        open_keras_h5(path)


@pytest.mark.parametrize("shape", [(7, 5), (64, 33), (1, 1), (100,), (3, 4, 5)])
@pytest.mark.parametrize(
    "options",
    [
        {"compression": "gzip"},
        {"compression": "gzip", "shuffle": True},
        {"shuffle": True},
        {"compression": "gzip", "chunks": (2, 3, 4)},
        {"chunks": (2, 3, 4)},
        {},
    ],
)
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_reads_what_hdf5_reads(path, shape, options, dtype):
    value = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    if "chunks" in options:
        cut = zip(options["chunks"], shape, strict=False)
        options = options | {"chunks": tuple(min(n, size) for n, size in cut)}
    with h5py.File(path, "w") as file:
        file.create_dataset(NAME, data=value, **options)
    with open_hdf5(path) as file:
        ((name, dataset),) = walk_arrays(str(path), file)
        assert name == NAME
        Space(path).check(name, dataset, chunks=True)
        np.testing.assert_array_equal(read_array(dataset), value)


def test_reports_damaged_chunks(path):
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(NAME, (16, 16), "f4", chunks=(16, 16), compression="gzip")
        dataset.id.write_direct_chunk((0, 0), b"no stream of zlib's")
    with (
        open_keras_h5(path) as source,
        pytest.raises(
            CheckpointError, match=r"x\.weight cannot be read: a chunk cannot be decompressed"
        ),
    ):
        source.read("x.weight")


def test_refuses_names_that_would_break_messages(path):
    for name in ("a/m/x\n/kernel:0", "a/m/" + "___" * 10_000 + "/kernel:0"):
        with h5py.File(path, "w") as file:
            file[name] = np.ones(3, np.float32)
        with pytest.raises(CheckpointError, match="an object with the invalid name") as caught:
            open_keras_h5(path)
        assert str(caught.value).isprintable()


def test_reports_files_that_are_not_there(tmp_path):
    with pytest.raises(CheckpointError, match=r"No tf_model\.h5 in "):
        open_keras_h5(tmp_path / "tf_model.h5")
    with pytest.raises(CheckpointError, match=r"No none\.h5 in "):
        WeightsFile(tmp_path / "none.h5")
