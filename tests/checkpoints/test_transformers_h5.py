"""tf_model.h5 of transformers 4: names and orientation, and files that are refused unread."""

import os
import resource
import shutil

import h5py
import numpy as np
import pytest

from keras_bert_zoo.checkpoints.formats import open_checkpoint
from keras_bert_zoo.checkpoints.safetensors import open_safetensors
from keras_bert_zoo.checkpoints.transformers_h5 import weight_name, weight_orientation
from keras_bert_zoo.errors import CheckpointError
from tests.helpers import ASSETS

# Tied to the word embeddings, so absent from a Keras file.
TIED = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
NAME = "classifier/tf_bert/classifier/kernel:0"


@pytest.fixture
def folder(tmp_path):
    """A directory with a small file that a test may change."""
    with h5py.File(tmp_path / "tf_model.h5", "w") as file:
        file[NAME] = np.arange(6, dtype=np.float32).reshape(2, 3)
    return tmp_path


def change(folder):
    return h5py.File(folder / "tf_model.h5", "r+")


# tools/make_checkpoint_goldens.py made these two, with transformers 4.44.2.
@pytest.mark.parametrize("name", ["keras_h5_bert", "keras_h5_albert"])
def test_reads_what_transformers_4_writes(name):
    with (
        open_checkpoint(ASSETS / name) as source,
        open_safetensors(ASSETS / name / "expected.safetensors") as golden,
    ):
        expected = set(golden.names()) - TIED
        assert set(source.names()) == expected
        for tensor_name in expected:
            value = golden.read(tensor_name)
            assert source.shape(tensor_name) == value.shape
            np.testing.assert_array_equal(source.read(tensor_name), value)


def test_names_and_orientation():
    for stored, name, axes in (
        ("bert/tf_x_2/bert/embeddings/words/weight:0", "bert.embeddings.words.weight", (0, 1)),
        ("bert/tf_x/bert/positions/embeddings:0", "bert.positions.weight", (0, 1)),
        ("nsp___cls/tf_x/nsp___cls/relationship/kernel:0", "cls.relationship.weight", (1, 0)),
        ("deberta/tf_x/deberta/conv/conv/kernel:0", "deberta.conv.conv.weight", (2, 1, 0)),
        ("predictions/tf_x/predictions/bias:0", "predictions.bias", (0,)),
        ("lm_head/tf_x/lm_head/layer_norm/beta:0", "lm_head.layer_norm.bias", (0,)),
    ):
        assert weight_name(stored) == name
        assert weight_orientation(stored, len(axes)) == axes


def test_reads_compressed_weights_and_half_precision(folder):
    value = np.random.default_rng(0).standard_normal((700, 300)).astype(np.float16)
    with change(folder) as file:
        file.create_dataset("a/m/x/kernel:0", data=value, compression="gzip", shuffle=True)
    with open_checkpoint(folder) as source:
        assert source.dtype("x.weight") == np.float16
        np.testing.assert_array_equal(source.read("x.weight"), value.T)
        np.testing.assert_array_equal(source.read("classifier.weight"), [[0, 3], [1, 4], [2, 5]])


def test_weights_that_layers_share_are_one_tensor(folder):
    with change(folder) as file:
        file["other/tf_bert/classifier/kernel:0"] = np.arange(6, dtype=np.float32).reshape(2, 3)
    with open_checkpoint(folder) as source:
        assert source.names() == ["classifier.weight"]
        assert source.read("classifier.weight").shape == (3, 2)
    with change(folder) as file:
        file["other/tf_bert/classifier/kernel:0"][0, 0] = 9
    with (
        open_checkpoint(folder) as source,
        pytest.raises(CheckpointError, match="classifier.weight twice, with different values"),
    ):
        source.read("classifier.weight")
    with change(folder) as file:
        file["third/tf_bert/classifier/kernel:0"] = np.zeros((3, 3), np.float32)
    with pytest.raises(
        CheckpointError, match=r"twice: as float32 \(3, 2\) and as float32 \(3, 3\)"
    ):
        open_checkpoint(folder)


def add_external_link(file, folder):
    with h5py.File(folder / "secret.h5", "w") as other:
        other["x"] = np.zeros(3, np.float32)
    file["a/m/x/kernel:0"] = h5py.ExternalLink(str(folder / "secret.h5"), "x")


def add_soft_link(file, folder):
    file["a/m/x/kernel:0"] = h5py.SoftLink("/" + NAME)


def add_hard_link(file, folder):
    file["a/m/x/kernel:0"] = file[NAME]


def add_cycle(file, folder):
    file["classifier/again"] = file["classifier"]


def add_external_data(file, folder):
    (folder / "raw").write_bytes(bytes(64))
    file.create_dataset("a/m/x/kernel:0", (4, 4), "f4", external=[(str(folder / "raw"), 0, 64)])


def add_virtual(file, folder):
    layout = h5py.VirtualLayout((2, 3), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "x", (2, 3))
    file.create_virtual_dataset("a/m/x/kernel:0", layout)


def add_reference(file, folder):
    file.create_dataset("a/m/x/kernel:0", (1,), h5py.ref_dtype)[0] = file[NAME].ref


def add_region_reference(file, folder):
    dataset = file.create_dataset("a/m/x/kernel:0", (1,), h5py.regionref_dtype)
    dataset[0] = file[NAME].regionref[0:1]


def add_strings(file, folder):
    file["a/m/x/kernel:0"] = ["text"]


def add_integers(file, folder):
    file["a/m/x/kernel:0"] = np.zeros((2, 2), np.int64)


def add_big_endian(file, folder):
    file["a/m/x/kernel:0"] = np.zeros((2, 2), ">f4")


def add_compound(file, folder):
    file["a/m/x/kernel:0"] = np.zeros(2, [("a", "f4"), ("b", "f4")])


def add_filter(file, folder):
    file.create_dataset("a/m/x/kernel:0", data=np.zeros((9, 9), "f4"), compression="lzf")


def add_scale_offset(file, folder):
    file.create_dataset("a/m/x/kernel:0", data=np.zeros((9, 9), "f4"), scaleoffset=3)


def add_giant(file, folder):
    file.create_dataset("a/m/x/kernel:0", (1 << 20, 1 << 20), "f4", chunks=(1024, 1024))


def add_giant_contiguous(file, folder):
    file.create_dataset("a/m/x/kernel:0", (1 << 20, 1 << 20), "f4")


def add_bomb(file, folder):
    # 256 MB of zeros in some hundred kilobytes.
    dataset = file.create_dataset(
        "a/m/x/kernel:0", (1 << 13, 1 << 13), "f4", chunks=(1 << 10, 1 << 10), compression="gzip"
    )
    for i in range(0, 1 << 13, 1 << 12):
        dataset[i : i + (1 << 12)] = np.zeros((1 << 12, 1 << 13), np.float32)


def add_empty(file, folder):
    file["a/m/x/kernel:0"] = h5py.Empty("f4")


def add_rank(file, folder):
    file["a/m/x/kernel:0"] = np.zeros((1, 1, 1, 2), np.float32)


def add_other(file, folder):
    file["optimizer_weights"] = np.zeros(3, np.float32)


def add_depth(file, folder):
    file["/".join("a" * 40)] = np.zeros(3, np.float32)


def add_separable(file, folder):
    file["a/m/x/depthwise_kernel:0"] = np.zeros((2, 2, 1), np.float32)


HOSTILE = {
    add_external_link: r"is a link\. Files with links",
    add_soft_link: r"is a link\. Files with links",
    add_hard_link: "is another name of an object",
    add_cycle: "is another name of an object",
    add_external_data: "has data in another file",
    add_virtual: "has data in another file",
    add_reference: "received object",
    add_region_reference: "received object",
    add_strings: "received object",
    add_integers: "received int64",
    add_big_endian: "received >f4",
    add_compound: r"received \[\('a'",
    add_filter: "expected the filters gzip and shuffle, each at most once, received filter 32000",
    add_scale_offset: "received filter 6",
    add_giant: "4,398,046,511,104 bytes, but the file stores 0 ",
    add_giant_contiguous: "4,398,046,511,104 bytes, but the file stores 0 ",
    add_bomb: "268,435,456 bytes, but",
    add_empty: "has an invalid shape",
    add_rank: "with at most 3 dimensions",
    add_other: "'optimizer_weights' is not a weight of a Keras model",
    add_depth: "levels of groups",
    add_separable: "belongs to a separable convolution",
}


@pytest.mark.parametrize("add", HOSTILE, ids=lambda add: add.__name__)
def test_refuses_hostile_files_before_reading_data(folder, monkeypatch, add):
    with change(folder) as file:
        add(file, folder)

    def read(*_):
        raise AssertionError("data was read")

    monkeypatch.setattr(h5py.Dataset, "__getitem__", read)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=HOSTILE[add]) as caught:
        open_checkpoint(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kibibytes
    assert "\n" not in str(caught.value)


def test_refuses_files_without_weights(tmp_path):
    with h5py.File(tmp_path / "tf_model.h5", "w") as file:
        file.create_group("bert")
    with pytest.raises(CheckpointError, match="Expected weights of transformers 4 "):
        open_checkpoint(tmp_path)


def test_refuses_truncated_and_other_files(tmp_path):
    content = (ASSETS / "keras_h5_albert" / "tf_model.h5").read_bytes()
    path = tmp_path / "tf_model.h5"
    for keep in (0, 100, len(content) // 2):
        path.write_bytes(content[:keep])
        with pytest.raises(CheckpointError, match="is not a complete HDF5 file") as caught:
            open_checkpoint(tmp_path)
        assert "\n" not in str(caught.value)


def test_damaged_files_are_refused_or_read_but_never_crash(tmp_path):
    content = (ASSETS / "keras_h5_albert" / "tf_model.h5").read_bytes()
    random = np.random.default_rng(0)
    path = tmp_path / "tf_model.h5"
    refused = read = 0
    for _ in range(60):
        damaged = bytearray(content)
        for position in random.integers(0, len(content), 20):
            damaged[position] = random.integers(256)
        path.write_bytes(damaged)
        try:
            with open_checkpoint(tmp_path) as source:
                for name in source.names():
                    source.read(name)
        except CheckpointError:
            refused += 1
        else:
            read += 1
    assert refused + read == 60
    assert refused > 5


def test_safetensors_come_first(tmp_path):
    shutil.copy(ASSETS / "keras_h5_bert" / "tf_model.h5", tmp_path)
    with open_checkpoint(tmp_path) as source:
        assert os.path.basename(source.path) == "tf_model.h5"
    shutil.copy(ASSETS / "bert_gelu" / "model.safetensors", tmp_path)
    with open_checkpoint(tmp_path) as source:
        assert os.path.basename(source.path) == "model.safetensors"
