"""pytorch_model.bin: read without torch; nothing in it runs; hostile files are refused."""

import collections
import io
import json
import os
import pickle
import shutil
import struct
import tracemalloc
import zipfile
import zlib

import ml_dtypes
import numpy as np
import pytest

from keras_bert_zoo.checkpoints.formats import open_checkpoint
from keras_bert_zoo.checkpoints.pytorch.pickles import PickleError, Symbol, load_pickle
from keras_bert_zoo.checkpoints.safetensors import open_safetensors
from keras_bert_zoo.checkpoints.source import normalize_name
from keras_bert_zoo.errors import CheckpointError
from tests.helpers import ASSETS

# tools/make_checkpoint_goldens.py made these two.
FORMATS = ["pytorch_zip", "pytorch_legacy"]


class Named:
    """Pickles as a global name, whether or not there is such a module here."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments


class Storage(tuple):
    """Pickles as a persistent id."""


class Pickler(pickle._Pickler):
    """Writes pickles as torch does, of things that are not installed."""

    def save(self, obj, *arguments, **keywords):
        if isinstance(obj, Named):
            self.write(f"c{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Call):
            self.save(obj.function)
            self.save(tuple(obj.arguments))
            self.write(b"R")
        else:
            super().save(obj, *arguments, **keywords)

    def persistent_id(self, obj):
        return tuple(obj) if isinstance(obj, Storage) else None


def dumps(value, protocol=2):
    stream = io.BytesIO()
    Pickler(stream, protocol).dump(value)
    return stream.getvalue()


def storage(key="0", count=4, kind="FloatStorage"):
    return Storage(("storage", Named("torch", kind), key, "cpu", count))


def tensor(shape, strides, offset=0, held=None, hooks=None):
    held = storage() if held is None else held
    rebuild = Named("torch._utils", "_rebuild_tensor_v2")
    hooks = Call(Named("collections", "OrderedDict")) if hooks is None else hooks
    return Call(rebuild, held, offset, shape, strides, False, hooks)


def save_zip(folder, program, *, data=None, method=zipfile.ZIP_STORED, more=()):
    path = folder / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("archive/data.pkl", program)
        if data is not None:
            archive.writestr("archive/data/0", data)
        for name, content in more:
            archive.writestr(name, content)
    return path


def open_with_pickle(folder):
    return open_checkpoint(folder, allow_pickle=True)


@pytest.mark.parametrize("name", FORMATS)
def test_reads_what_torch_writes(name):
    with (
        open_with_pickle(ASSETS / name) as source,
        open_safetensors(ASSETS / name / "expected.safetensors") as golden,
    ):
        assert sorted(source.names()) == sorted(golden.names())
        assert "embeddings.LayerNorm.weight" in source
        for tensor_name in golden.names():
            expected = golden.read(tensor_name)
            value = source.read(tensor_name)
            assert value.dtype == expected.dtype == source.dtype(tensor_name)
            np.testing.assert_array_equal(value, expected)
        for tensor_name in ("table", "transposed", "slice", "half", "brain"):
            expected = golden.read(tensor_name).astype(np.float32)
            into = np.empty(expected.shape[::-1], np.float32)
            source.read_into(tensor_name, into.T)
            np.testing.assert_array_equal(into.T, expected)


def test_reads_a_checkpoint_from_the_wild():
    with open_with_pickle(ASSETS / "pytorch_fastnlp") as source:
        assert len(source) == 39
        assert source.shape("bert.embeddings.word_embeddings.weight") == (21, 16)
        value = source.read("bert.encoder.layer.1.attention.self.key.weight")
        assert value.shape == (16, 16)
        # torch.load(...)[name][0, :3]
        np.testing.assert_allclose(value[0, :3], GOLDEN_ROW, rtol=0, atol=0)


GOLDEN_ROW = np.array([-0.032700587064027786, 0.012947672046720982, -0.002226210432127118])


@pytest.mark.parity
@pytest.mark.parametrize("name", [*FORMATS, "pytorch_fastnlp"])
def test_equals_torch(name):
    import torch

    path = ASSETS / name / "pytorch_model.bin"
    state = torch.load(path, map_location="cpu", weights_only=True)
    with open_with_pickle(ASSETS / name) as source:
        assert source.names() == [normalize_name(name) for name in state]
        for key, expected in state.items():
            value = source.read(normalize_name(key))
            if expected.dtype == torch.bfloat16:
                value, expected = value.astype(np.float32), expected.float()
            np.testing.assert_array_equal(value, expected.detach().numpy())


def test_is_off_by_default(tmp_path):
    shutil.copy(ASSETS / "pytorch_zip" / "pytorch_model.bin", tmp_path)
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(tmp_path)
    assert "`allow_pickle=True`" in str(caught.value)
    assert "Convert it to model.safetensors" in str(caught.value)
    open_with_pickle(tmp_path).close()


def test_safer_files_come_first(tmp_path):
    shutil.copy(ASSETS / "pytorch_zip" / "pytorch_model.bin", tmp_path)
    shutil.copy(ASSETS / "bert_gelu" / "model.safetensors", tmp_path)
    with open_with_pickle(tmp_path) as source:
        assert source.path.endswith("model.safetensors")


def test_reads_shards(tmp_path):
    names = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    weight_map = {}
    for i, name in enumerate(names):
        data = np.full(4, i, np.float32).tobytes()
        save_zip(tmp_path, dumps({f"t{i}": tensor((2, 2), (2, 1))}), data=data)
        (tmp_path / "pytorch_model.bin").rename(tmp_path / name)
        weight_map[f"t{i}"] = name
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(CheckpointError, match="only in pytorch_model.bin.index.json, a pickle"):
        open_checkpoint(tmp_path)
    with open_with_pickle(tmp_path) as source:
        np.testing.assert_array_equal(source.read("t1"), [[1, 1], [1, 1]])
    (tmp_path / names[1]).unlink()
    with pytest.raises(CheckpointError, match="names missing files"):
        open_with_pickle(tmp_path)


class Evil:
    """A pickle of this runs a command when it is loaded."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def legacy(program, keys=(), data=b""):
    prefix = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    return prefix + pickle.dumps(system, 2) + program + pickle.dumps(list(keys), 2) + data


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("is_zip", [True, False])
def test_a_pickle_that_runs_a_command_is_refused_and_runs_nothing(tmp_path, protocol, is_zip):
    target = tmp_path / "executed"
    program = pickle.dumps(collections.OrderedDict(weight=Evil(target)), protocol)
    if is_zip:
        save_zip(tmp_path, program)
    else:
        (tmp_path / "pytorch_model.bin").write_bytes(legacy(program))
    with pytest.raises(CheckpointError, match="os|posix") as caught:
        open_with_pickle(tmp_path)
    assert "system', which no state dict needs" in str(caught.value)
    assert "Nothing in it was executed" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not target.exists()
    pickle.loads(program)  # the pickle is what we say it is
    assert target.exists()


HOSTILE_PROGRAMS = {
    "a global of builtins": dumps({"a": Call(Named("builtins", "eval"), "1")}),
    "a torch global": dumps({"a": Call(Named("torch", "load"), "x")}),
    "a dotted name": b"\x80\x04\x8c\x05torch\x8c\x0b_utils.load\x93.",
    "a name as a value": dumps({"a": Named("torch", "FloatStorage")}),
    "a call of a storage": dumps({"a": Call(Named("torch", "FloatStorage"), 4)}),
    "a call of a number": b"\x80\x02K\x01)R.",
    "a call without a tuple": b"\x80\x02ccollections\nOrderedDict\nK\x01R.",
    "a dict of arguments": dumps(
        {"a": Call(Named("collections", "OrderedDict"), ((("x", 1), ("y", 2)),))}
    ),
    "INST": b"\x80\x02(X\x01\x00\x00\x00xios\nsystem\n.",
    "OBJ": b"\x80\x02(cos\nsystem\nX\x01\x00\x00\x00xo.",
    "NEWOBJ": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
    "NEWOBJ_EX": b"\x80\x04ccollections\nOrderedDict\n)}\x92.",
    "EXT1": b"\x80\x02\x82\x01.",
    "PERSID": b"\x80\x02P1\n.",
    "protocol 0": pickle.dumps({"a": 1}, 0),
    "protocol 6": b"\x80\x06}.",
    "BUILD of a number": b"\x80\x02K\x01}b.",
    "BUILD with attributes": b"\x80\x02}}X\x01\x00\x00\x00aK\x01sb.",
    "BUILD of a symbol": b"\x80\x02ccollections\nOrderedDict\n}X\x09\x00\x00\x00_metadata}sb.",
    "a key that is no string": dumps({(1, 2): tensor((2, 2), (2, 1))}),
    "a key twice": b"\x80\x02}X\x01\x00\x00\x00aK\x01sX\x01\x00\x00\x00aK\x02s.",
    "a key without a value": b"\x80\x02}(K\x01u.",
    "an item of a tuple": b"\x80\x02)X\x01\x00\x00\x00aK\x01s.",
    "an item of a number": b"\x80\x02K\x01K\x02a.",
    "nothing on the stack": b"\x80\x02R.",
    "no mark": b"\x80\x02K\x01t.",
    "only a mark": b"\x80\x02(.",
    "two values": b"\x80\x02K\x01K\x02.",
    "no value": b"\x80\x02.",
    "a memo that is not there": b"\x80\x02h\x05.",
    "no stop": b"\x80\x02}",
    "a huge string": b"\x80\x02X\xff\xff\xff\x7fx.",
    "a huger string": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fx.",
    "a huge long": b"\x80\x02\x8b\xff\xff\xff\x7fx.",
    "a huge frame": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff}.",
    "unknown opcode": b"\x80\x02\xff.",
    "empty": b"",
    "not a dict": dumps(tensor((2, 2), (2, 1))),
    "a list": dumps([tensor((2, 2), (2, 1))]),
    "an entry that is no tensor": dumps({"epoch": 3}),
    "a dict of dicts": dumps({"model": {"a": tensor((2, 2), (2, 1))}}),
    "a tensor without a storage": dumps({"a": tensor((2, 2), (2, 1), held=("storage",))}),
    "a parameter of nothing": dumps(
        {"a": Call(Named("torch._utils", "_rebuild_parameter"), 1, True, {})}
    ),
    "too few arguments": dumps({"a": Call(Named("torch._utils", "_rebuild_tensor_v2"), 1)}),
    "hooks": dumps({"a": tensor((2, 2), (2, 1), hooks={"hook": 1})}),
    "beyond the storage": dumps({"a": tensor((2, 3), (3, 1))}),
    "beyond by the offset": dumps({"a": tensor((2, 2), (2, 1), offset=1)}),
    "beyond by a stride": dumps({"a": tensor((2, 2), (3, 1))}),
    "a stride of nothing": dumps({"a": tensor((1 << 40,), (0,))}),
    "a negative stride": dumps({"a": tensor((2,), (-1,), offset=3)}),
    "a negative offset": dumps({"a": tensor((2,), (1,), offset=-1)}),
    "a negative size": dumps({"a": tensor((-2,), (1,))}),
    "an overflow": dumps({"a": tensor((1 << 62, 4), (4, 1))}),
    "fewer strides": dumps({"a": tensor((2, 2), (1,))}),
    "sizes in a list": dumps({"a": tensor([2, 2], (2, 1))}),
    "a truth for a size": dumps({"a": tensor((True, 2), (2, 1))}),
    "forty dimensions": dumps({"a": tensor((1,) * 40, (1,) * 40)}),
    "a declared size beyond the file": dumps(
        {"a": tensor((1 << 40,), (1,), held=storage(count=1 << 40))}
    ),
    "a declared size below the record": dumps({"a": tensor((2,), (1,), held=storage(count=3))}),
    "another dtype than the record": dumps(
        {"a": tensor((4,), (1,), held=storage(kind="DoubleStorage"))}
    ),
    "an unknown storage": dumps(
        {"a": tensor((4,), (1,), held=storage(kind="ComplexFloatStorage"))}
    ),
    "a key with a path": dumps({"a": tensor((4,), (1,), held=storage(key="../../../etc/passwd"))}),
    "a key that is a number": dumps({"a": tensor((4,), (1,), held=storage(key=0))}),
    "a view of a storage": dumps(
        {"a": tensor((4,), (1,), held=Storage((*storage(), ("1", 0, 4))))}
    ),
    "shared tuples as a name": b"\x80\x04)q\x00" + b"h\x00h\x00\x86q\x00" * 40 + b"\x8c\x01x\x93.",
    "nested tuples as a name": b"\x80\x04)" + b"\x85" * 200_000 + b"\x8c\x01x\x93.",
    "a number as a name": b"\x80\x04K\x01\x8c\x01x\x93.",
    "a huge tuple": b"\x80\x04(" + b"K\x01" * 33 + b"t.",
    "sizes that no variable has": dumps({"a": tensor((0, 1 << 47, 1 << 47), (1, 1, 1))}),
    "a persistent id of another kind": dumps({"a": Storage(("module", 1))}),
}


@pytest.mark.parametrize("name", HOSTILE_PROGRAMS)
def test_refuses_hostile_pickles(tmp_path, name):
    save_zip(tmp_path, HOSTILE_PROGRAMS[name], data=bytes(16))
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="is refused as a state dict of torch") as caught:
        open_with_pickle(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()
    assert str(caught.value).isprintable()


def test_the_harmless_twin_of_those_is_read(tmp_path):
    program = dumps({"a": tensor((2, 2), (1, 2)), "b": tensor((1,), (9,), offset=3)})
    save_zip(tmp_path, program, data=np.arange(4, dtype="<f4").tobytes())
    with open_with_pickle(tmp_path) as source:
        np.testing.assert_array_equal(source.read("a"), [[0, 2], [1, 3]])
        np.testing.assert_array_equal(source.read("b"), [3])


def test_a_memo_bomb_is_refused():
    # Each tuple holds the one before twice: 2 ** 200 leaves if anybody walked them.
    program = b"\x80\x02)" + b"q\x00h\x00\x86" * 200
    for end in (b".", b"K\x01s.", b"\x8c\x01x\x93."):
        with pytest.raises(PickleError, match="nests tuples deeper than a state dict"):
            load_pickle(program + end)
    with pytest.raises(PickleError, match="key that is not a string"):
        load_pickle(b"\x80\x02}K\x01K\x01s.")


def test_only_strings_name_globals():
    with pytest.raises(PickleError, match="a global name that is not a string"):
        load_pickle(b"\x80\x04\x8c\x01xK\x01\x93.")
    with pytest.raises(PickleError, match="a global name that is not a string"):
        load_pickle(b"\x80\x04]\x8c\x01x\x93.")


def test_a_small_storage_does_not_become_a_huge_model(tmp_path):
    data = np.arange(4, dtype="<f4").tobytes()
    save_zip(tmp_path, dumps({str(i): tensor((2, 2), (2, 1)) for i in range(64)}), data=data)
    with open_with_pickle(tmp_path) as source:
        assert len(source) == 64
    save_zip(tmp_path, dumps({str(i): tensor((2, 2), (2, 1)) for i in range(65)}), data=data)
    with pytest.raises(CheckpointError, match="tensors of more than 64 times its size"):
        open_with_pickle(tmp_path)


def test_opcodes_are_counted(monkeypatch):
    monkeypatch.setattr("keras_bert_zoo.checkpoints.pytorch.pickles._OPCODE_LIMIT", 5)
    load_pickle(b"\x80\x02))\x86.")
    with pytest.raises(PickleError, match="more than 5 opcodes"):
        load_pickle(b"\x80\x02)))\x87.")


def test_a_symbol_is_only_itself():
    symbol = Symbol("os", "system")
    program = b"\x80\x02cos\nsystem\n."
    assert load_pickle(program, symbols=frozenset({symbol}))[0] == symbol
    with pytest.raises(PickleError, match="calls a value that is not a function"):
        load_pickle(b"\x80\x02cos\nsystem\n)R.", symbols=frozenset({symbol}))


GOOD = dumps({"a": tensor((2, 2), (2, 1))})


def test_refuses_compressed_records(tmp_path):
    save_zip(tmp_path, GOOD, data=bytes(16), method=zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="is compressed or encrypted"):
        open_with_pickle(tmp_path)


def test_refuses_missing_and_repeated_records(tmp_path):
    save_zip(tmp_path, GOOD)
    with pytest.raises(CheckpointError, match="its storage '0' is missing"):
        open_with_pickle(tmp_path)
    with pytest.warns(UserWarning, match="Duplicate name"):
        save_zip(tmp_path, GOOD, data=bytes(16), more=[("archive/data/0", bytes(16))])
    with pytest.raises(CheckpointError, match="has the record 'archive/data/0' twice"):
        open_with_pickle(tmp_path)
    save_zip(tmp_path, GOOD, data=bytes(16), more=[("other/data.pkl", b"")])
    with pytest.raises(CheckpointError, match="expected one data.pkl, received 2"):
        open_with_pickle(tmp_path)
    save_zip(tmp_path, GOOD, data=bytes(16), more=[("archive/byteorder", b"big")])
    with pytest.raises(CheckpointError, match="byte order is not little-endian"):
        open_with_pickle(tmp_path)


def test_refuses_overlapping_records(tmp_path):
    path = save_zip(tmp_path, GOOD, data=bytes(16), more=[("archive/data/1", bytes(16))])
    content = bytearray(path.read_bytes())
    entries = [i for i in range(len(content)) if content[i : i + 4] == b"PK\x01\x02"]
    content[entries[2] + 42 : entries[2] + 46] = content[entries[1] + 42 : entries[1] + 46]
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="overlap"):
        open_with_pickle(tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (10, 5000, "its directory is misplaced"),  # entries
        (12, 1 << 30, "bytes, received 1,073,741,824"),
        (16, 5, "its directory is misplaced"),
        (20, 7, "no directory at its end"),  # a comment
    ],
)
def test_refuses_a_damaged_directory(tmp_path, field, value, message):
    path = save_zip(tmp_path, GOOD, data=bytes(16))
    content = bytearray(path.read_bytes())
    size = 2 if field in (10, 20) else 4
    content[len(content) - 22 + field :][:size] = b""
    start = len(content) - 22 + field
    content[start : start + size] = value.to_bytes(size, "little")
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        open_with_pickle(tmp_path)


def test_refuses_a_record_beyond_the_file(tmp_path):
    path = save_zip(tmp_path, GOOD, data=bytes(16))
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    for size_field in (20, 24):
        content[entry + size_field : entry + size_field + 4] = (1 << 30).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="ends after the data"):
        open_with_pickle(tmp_path)


def test_reads_zip64(tmp_path):
    """The zip64 form, which torch writes for files above 4 GB, of a small file."""
    data = np.arange(4, dtype="<f4").tobytes()
    body, directory, count = b"", b"", 0
    for name, content in ((b"a/data.pkl", GOOD), (b"a/data/0", data)):
        local = struct.pack(
            "<4s5H3L2H", b"PK\x03\x04", 45, 0, 0, 0, 0, zlib.crc32(content), 0, 0, len(name), 0
        )
        extra = struct.pack("<2H3Q", 1, 24, len(content), len(content), len(body))
        unknown = 0xFFFFFFFF
        directory += struct.pack(
            "<4s6H3L5H2L", b"PK\x01\x02", 45, 45, 0, 0, 0, 0, zlib.crc32(content), unknown, unknown,
            len(name), len(extra), 0, 0, 0, 0, unknown,
        ) + name + extra  # fmt: skip
        body += local + name + content
        count += 1
    end_64 = struct.pack(
        "<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(directory), len(body)
    )
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(body) + len(directory), 1)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, unknown, unknown, 0)
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(body + directory + end_64 + locator + end)
    with zipfile.ZipFile(path) as archive:  # it is a zip file to others as well
        assert archive.read("a/data/0") == data
    with open_with_pickle(tmp_path) as source:
        np.testing.assert_array_equal(source.read("a"), [[0, 1], [2, 3]])


@pytest.mark.parametrize("name", FORMATS)
def test_refuses_truncated_files(tmp_path, name):
    content = (ASSETS / name / "pytorch_model.bin").read_bytes()
    for keep in (0, 3, 14, 200, len(content) // 2, len(content) - 1):
        (tmp_path / "pytorch_model.bin").write_bytes(content[:keep])
        with pytest.raises(CheckpointError, match="is refused as a state dict of torch"):
            open_with_pickle(tmp_path)


def test_damaged_files_are_refused_or_read_but_never_crash(tmp_path):
    random = np.random.default_rng(0)
    path = tmp_path / "pytorch_model.bin"
    refused = read = 0
    for name in FORMATS:
        content = (ASSETS / name / "pytorch_model.bin").read_bytes()
        for _ in range(300):
            damaged = bytearray(content)
            for position in random.integers(0, len(content), 3):
                damaged[position] = random.integers(256)
            path.write_bytes(damaged)
            try:
                with open_with_pickle(tmp_path) as source:
                    for tensor_name in source.names():
                        source.read(tensor_name)
            except CheckpointError as error:
                refused += str(error).isprintable()
            else:
                read += 1
    assert refused + read == 600
    assert refused > 100


def legacy_file(folder, *, count=4, data=bytes(16), keys=("0",), more=b""):
    held = Storage((*storage(), None))
    program = dumps({"a": tensor((2, 2), (2, 1), held=held)})
    raw = count.to_bytes(8, "little") + data + more
    (folder / "pytorch_model.bin").write_bytes(legacy(program, keys, raw))


def test_checks_the_storages_of_the_older_format(tmp_path):
    legacy_file(tmp_path)
    with open_with_pickle(tmp_path) as source:
        assert source.shape("a") == (2, 2)
    for problem, message in (
        ({"count": 1 << 40}, "ends after the end of the file"),
        ({"count": (1 << 64) - 1}, "ends after the end of the file"),
        ({"count": 3}, "4 bytes follow its storages"),
        ({"data": bytes(8)}, "ends after the end of the file"),
        ({"more": b"x"}, "1 bytes follow its storages"),
        ({"keys": ("0", "1")}, "'1' belongs to no tensor"),
        ({"keys": ("0", "0")}, "has a name twice"),
        ({"keys": (0,)}, "list of storages is malformed"),
        ({"keys": ()}, "24 bytes follow its storages"),
        ({"count": 2, "data": bytes(8)}, "missing or has the wrong size"),
    ):
        legacy_file(tmp_path, **problem)
        with pytest.raises(CheckpointError, match=message):
            open_with_pickle(tmp_path)


def test_refuses_other_formats(tmp_path):
    for content in (b"", b"\x80\x02}.", b"some text", pickle.dumps({"a": 1})):
        (tmp_path / "pytorch_model.bin").write_bytes(content)
        with pytest.raises(CheckpointError, match="first bytes are not of a format"):
            open_with_pickle(tmp_path)
    big_endian = pickle.dumps({"little_endian": False}, 2)
    prefix = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
    (tmp_path / "pytorch_model.bin").write_bytes(prefix + big_endian)
    with pytest.raises(CheckpointError, match="little-endian machine"):
        open_with_pickle(tmp_path)


def test_reads_bfloat16_and_half_by_hand(tmp_path):
    values = np.array([1.5, -2.25, 3.0e38, 0.0], np.float32).astype(ml_dtypes.bfloat16)
    held = storage(kind="BFloat16Storage")
    save_zip(tmp_path, dumps({"a": tensor((4,), (1,), held=held)}), data=values.tobytes())
    with open_with_pickle(tmp_path) as source:
        assert source.dtype("a") == ml_dtypes.bfloat16
        np.testing.assert_array_equal(source.read("a"), values)
