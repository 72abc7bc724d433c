"""Hostile indexes of TF1 checkpoints: refused before TensorFlow, which they would crash."""

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.tensor_bundle_pb2 import BundleEntryProto, BundleHeaderProto

from keras_bert_zoo.checkpoints.formats import open_checkpoint
from keras_bert_zoo.checkpoints.google.tf1_index import read_index
from keras_bert_zoo.errors import CheckpointError
from tests.helpers import ASSETS

NAME = "bert/embeddings/LayerNorm/beta"
INDEX = "bert_model.ckpt.index"
MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)


@pytest.fixture
def folder(tmp_path):
    target = tmp_path / "bert"
    shutil.copytree(ASSETS / "google_bert", target)
    return target


def varint(value):
    value &= (1 << 64) - 1
    data = bytearray()
    while value >= 128:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


def crc_of_byte(byte):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


CRC_TABLE = [crc_of_byte(byte) for byte in range(256)]


def crc32c(data):
    """As TensorFlow stores it: rotated, with a constant added."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 255]
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def make_block(entries, restarts=None):
    block = bytearray()
    starts = []
    for key, value in entries:
        starts.append(len(block))
        block += varint(0) + varint(len(key)) + varint(len(value)) + key + value
    starts = [0, *starts[1:]] if restarts is None else restarts
    return bytes(block) + struct.pack(f"<{len(starts) + 1}I", *starts, len(starts))


def make_table(*blocks, separators=None, kind=b"\0"):
    """A table of blocks, each a list of (key, value) pairs or the bytes of one."""
    data = b""

    def put(block):
        nonlocal data
        handle = varint(len(data)) + varint(len(block))
        data += block + kind + crc32c(block + kind)
        return handle

    handles = []
    for block in blocks:
        made = block if isinstance(block, bytes) else make_block(block)
        last = b"" if isinstance(block, bytes) else block[-1][0]
        handles.append((last + b"\xff", put(made)))
    if separators is not None:
        handles = [(s, handle) for s, (_, handle) in zip(separators, handles, strict=True)]
    footer = put(make_block([])) + put(make_block(handles))
    return data + footer.ljust(40, b"\0") + MAGIC


def entries_of(folder):
    entries = read_index(folder / INDEX)
    return [(key.encode(), value) for key, value in entries.items()]


def replace(folder, change, *, header=False):
    """Rewrites an index, with one entry changed in place or replaced."""
    entries = []
    for key, value in entries_of(folder):
        if key == (b"" if header else NAME.encode()):
            message = (BundleHeaderProto if header else BundleEntryProto).FromString(value)
            changed = change(message)
            value = message.SerializeToString() if changed is None else changed
        entries.append((key, value))
    (folder / INDEX).write_bytes(make_table(entries))


def setting(**fields):
    def change(entry):
        for name, value in fields.items():
            setattr(entry, name, value)

    return change


def sizes(*dims, size=None):
    def change(entry):
        del entry.shape.dim[:]
        for n in dims:
            entry.shape.dim.add().size = n
        if size is not None:
            entry.size = size

    return change


def sliced(start, length):
    def change(entry):
        extent = entry.slices.add().extent.add()
        extent.start, extent.length = start, length

    return change


def of_unknown_rank(entry):
    entry.shape.unknown_rank = True


def test_the_tests_write_what_tensorflow_reads(folder):
    before = tf.train.load_checkpoint(str(folder / "bert_model.ckpt")).get_tensor(NAME)
    replace(folder, lambda entry: None)
    with open_checkpoint(folder) as source:
        value = source.read("bert.embeddings.LayerNorm.bias")
    np.testing.assert_array_equal(value, before)
    entries = entries_of(folder)
    (folder / INDEX).write_bytes(make_table(entries[:3], entries[3:]))
    with open_checkpoint(folder) as source:
        assert len([source.read(name) for name in source.names()]) > 30


def test_sees_what_tensorflow_sees():
    for path in ASSETS.glob("google_*/*.index"):
        entries = read_index(path)
        reader = tf.train.load_checkpoint(str(path.with_suffix("")))
        shapes = reader.get_variable_to_shape_map()
        assert entries.keys() - {""} == shapes.keys()
        for name, shape in shapes.items():
            entry = BundleEntryProto.FromString(entries[name])
            assert [dim.size for dim in entry.shape.dim] == shape


NO_SHAPE = "has the invalid shape"
HOSTILE = {
    "negative": (sizes(-5), NO_SHAPE),
    "two negatives": (sizes(-1, -4), NO_SHAPE),
    "overflowing": (sizes(1 << 62, 1 << 62), NO_SHAPE),
    "overflowing after zero": (sizes(0, 1 << 62, 1 << 62, size=0), NO_SHAPE),
    "rank 300": (sizes(*[1] * 300), NO_SHAPE),
    "rank 30,000": (sizes(*[(1 << 63) - 1] * 30_000), NO_SHAPE),
    "unknown rank": (of_unknown_rank, NO_SHAPE),
    "larger than its data": (sizes(8), "expected 32 bytes for .* received 16"),
    "no dtype": (setting(dtype=0), "of dtype float32, .* received TensorFlow's dtype number 0"),
    "unknown dtype": (setting(dtype=999), "dtype number 999"),
    "negative dtype": (setting(dtype=-3), "dtype number -3"),
    "a reference": (setting(dtype=101), "dtype number 101"),
    "strings": (setting(dtype=7), "dtype number 7"),
    "resources": (setting(dtype=20), "dtype number 20"),
    "variants": (setting(dtype=21), "dtype number 21"),
    "quantized": (setting(dtype=11), "dtype number 11"),
    "missing file": (setting(shard_id=7), "is in data file 7, which is missing"),
    "negative file": (setting(shard_id=-7), "is in data file -7"),
    "far offset": (setting(offset=1 << 62), "the file has only .* bytes"),
    "negative offset": (setting(offset=-100), "the file has only .* bytes"),
    "huge size": (setting(size=1 << 62), "received 4,611,686,018,427,387,904"),
    "negative size": (setting(size=-4), "received -4"),
    "overlap": (setting(offset=1), "overlap"),
    "slice": (sliced(0, 10**12), "is stored in slices"),
    "negative slice": (sliced(-5, -3), "is stored in slices"),
    "garbage": (lambda entry: b"\xff\xff\xff", "cannot be read"),
    "fields unknown": (
        lambda entry: entry.SerializeToString() + b"\xf8\x01\x01",
        "differs from the form that TensorFlow writes",
    ),
    "a field twice": (
        lambda entry: b"\x08\x14" + entry.SerializeToString(),
        "differs from the form that TensorFlow writes",
    ),
}
HOSTILE_HEADERS = {
    "no files": (setting(num_shards=0), "expected 0 data files, received 1"),
    "negative files": (setting(num_shards=-1), "expected -1 data files"),
    "many files": (setting(num_shards=2**31 - 1), "expected 2147483647 data files"),
    "big-endian": (setting(endianness=1), "by a big-endian machine"),
    "garbage": (lambda header: b"\xff", "its header cannot be read"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_refuses_hostile_entries(folder, monkeypatch, name):
    change, message = HOSTILE[name]
    replace(folder, change)
    monkeypatch.setattr(tf.compat.v1.train, "NewCheckpointReader", None)
    with pytest.raises(CheckpointError, match=message) as caught:
        open_checkpoint(folder)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", HOSTILE_HEADERS)
def test_refuses_hostile_headers(folder, monkeypatch, name):
    change, message = HOSTILE_HEADERS[name]
    replace(folder, change, header=True)
    monkeypatch.setattr(tf.compat.v1.train, "NewCheckpointReader", None)
    with pytest.raises(CheckpointError, match=message) as caught:
        open_checkpoint(folder)
    assert str(caught.value).isprintable()


def test_refuses_hostile_tables(folder):
    entries = entries_of(folder)
    whole = make_table(entries)
    repeated = make_block([(b"", entries[0][1])])[:-8]
    for table, message in (
        (b"", "does not end with a table"),
        (whole[:-1], "does not end with a table"),
        (MAGIC.rjust(48, b"\xff"), "a number in it is damaged"),
        (MAGIC.rjust(48, b"\x7f"), "a block reaches beyond its end"),
        (make_table(entries, kind=b"\1"), "it is compressed"),
        (make_table(entries[1:]), "its header|expected 0 data files"),
        (make_table(entries[:3], entries), "its variables are not in order"),
        (make_table(entries[3:], entries[:3]), "its variables are not in order"),
        (make_table([*entries, entries[-1]]), "its variables are not in order"),
        (make_table(entries, separators=[b"a"]), "its blocks are not in order"),
        (make_table(entries[:3], entries[3:], separators=[b"z", b"zz"]), "are not in order"),
        (make_table(entries, make_block([])), "a block is empty"),
        (make_table([*entries, (b"z\n", b"")]), "a variable with the invalid name b'z"),
        (make_table([*entries, (b"\xff", b"")]), "a variable with the invalid name b'.xff'"),
        (make_table([*entries, (b"z" * 600, b"")]), "a variable with the invalid name b'zzz"),
        # Where TensorFlow would search from, and find other entries than stand there in order.
        (make_table(make_block(entries, [0, 7])), "a block is damaged"),
        (make_table(make_block(entries, [])), "a block is damaged"),
        (make_table(make_block(entries, [1 << 31])), "a block is damaged"),
        (make_table(b"\xff" * 8), "a block is damaged"),
        (make_table(b"\5" + repeated[1:] + bytes(4) + b"\1\0\0\0"), "a block is damaged"),
        (make_table(b"\x80\0" + repeated[1:] + bytes(4) + b"\1\0\0\0"), "a number in it is"),
    ):
        (folder / INDEX).write_bytes(table)
        with pytest.raises(CheckpointError, match=message) as caught:
            open_checkpoint(folder)
        assert str(caught.value).isprintable()


def test_a_changed_index_never_crashes(folder):
    """Runs in a separate process, because C++ reads the accepted files.

    Entries are damaged and the table is written again, so that every checksum is right.
    """
    code = f"""
import numpy as np, pathlib
from keras_bert_zoo.checkpoints.formats import open_checkpoint
from keras_bert_zoo.errors import CheckpointError
from tests.checkpoints.google.test_tf1_index import INDEX, crc32c, entries_of, make_table
folder = pathlib.Path({str(folder)!r})
entries = entries_of(folder)
entries = [*entries[:4], *entries[40:48]]
assert entries[4][0].startswith(b"bert/encoder/layer_")
whole = (folder / INDEX).read_bytes()
random = np.random.default_rng(0)
outcomes = []
for i in range(150):
    changed = [(bytearray(key), bytearray(value)) for key, value in entries]
    for _ in range(random.integers(1, 4)):
        pair = changed[random.integers(len(changed))]
        text = pair[int(random.random() < 0.8)]
        if text:
            text[random.integers(len(text))] = random.integers(256)
    table = make_table([(bytes(key), bytes(value)) for key, value in changed])
    if i % 3 == 0:
        table = bytearray(whole)
        for position in random.integers(0, len(whole), 3):
            table[position] = random.integers(256)
    (folder / INDEX).write_bytes(table)
    try:
        with open_checkpoint(folder) as source:
            for name in source.names():
                source.read(name)
    except CheckpointError as error:
        assert str(error).isprintable(), error
        outcomes.append("refused")
    else:
        outcomes.append("read")
print(outcomes.count("refused"), len(outcomes))
"""
    finished = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
    )
    refused, all_of_them = map(int, finished.stdout.split()[-2:])
    assert all_of_them == 150
    assert 50 < refused < 145  # in accepted files, only a name or unused bytes were changed
