"""Damaged and hostile KerasHub presets are refused by name."""

import json
import shutil
import tracemalloc

import h5py
import numpy as np
import pytest

from keras_bert_zoo.checkpoints.keras_hub.reader import open_keras_hub, read_keras_hub_config
from keras_bert_zoo.errors import CheckpointError, ConfigError
from tests.checkpoints.keras_hub.models import (
    edit,
)


def damage_by_external_link(file):
    del file["layers/dense/vars/0"]
    file["layers/dense/vars/0"] = h5py.ExternalLink("/etc/passwd", "x")


def damage_by_soft_link(file):
    del file["layers/dense/vars/0"]
    file["layers/dense/vars/0"] = h5py.SoftLink("/layers/embedding/vars/0")


def damage_by_cycle(file):
    file["layers/dense/vars/up"] = file["layers"]


def damage_by_external_data(file):
    del file["layers/dense/vars/1"]
    group = file["layers/dense/vars"]
    group.create_dataset("1", (8,), "f4", external=[("/etc/hostname", 0, 32)])


def damage_by_virtual_data(file):
    del file["layers/dense/vars/1"]
    layout = h5py.VirtualLayout((8,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (8,))
    file["layers/dense/vars"].create_virtual_dataset("1", layout)


def damage_by_claim(file):
    del file["layers/dense/vars/0"]
    file["layers/dense/vars"].create_dataset("0", (1 << 20, 1 << 20), "f4", chunks=(64, 64))


def damage_by_far_claim(file):
    del file["layers/dense/vars/0"]
    file["layers/dense/vars"].create_dataset("0", (1 << 20, 1 << 20), "f4")


def damage_by_names(file):
    file["layers/dense/vars/a\nb"] = np.zeros(3, np.float32)


def damage_by_strings(file):
    file["layers/dense/vars/2"] = ["text"]


def damage_by_compounds(file):
    file["layers/dense/vars/2"] = np.zeros(2, [("a", "u1"), ("b", "u1")])


def damage_by_filter(file):
    del file["layers/dense/vars/1"]
    file["layers/dense/vars"].create_dataset("1", data=np.zeros(8), compression="gzip")


def damage_by_absence(file):
    del file["layers/dense/vars/1"]
    file["layers/more/vars/0"] = np.zeros((2, 3), np.float32)
    del file["layers/embedding/vars/0"]
    file["layers/embedding/vars/0"] = np.zeros((3, 8), np.float32)


def damage_by_dtype(file):
    del file["layers/dense/vars/1"]
    file["layers/dense/vars/1"] = np.zeros(8, np.int32)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_by_external_link, r"is a link\. Files with links"),
        (damage_by_soft_link, r"is a link\. Files with links"),
        (damage_by_cycle, "is another name of an object"),
        (damage_by_external_data, "has data in another file"),
        (damage_by_virtual_data, "has data in another file"),
        (damage_by_claim, "has chunks or is compressed"),
        (damage_by_far_claim, "4,398,046,511,104 bytes, but the file stores 0 "),
        (damage_by_names, "has an object with the invalid name"),
        (damage_by_strings, "expected numbers in .*, received object"),
        (damage_by_compounds, "expected numbers"),
        (damage_by_filter, "has chunks or is compressed"),
        (damage_by_absence, r"missing: layers/dense/vars/1 \(8,\); unexpected: layers/more/vars/0"),
        (damage_by_absence, r"misshapen: layers/embedding/vars/0 \(expected \(2, 8\), received"),
        (damage_by_dtype, r"not floating-point: layers/dense/vars/1 \(int32\)"),
    ],
)
def test_refuses_hostile_and_damaged_weights(broken, damage, message):
    folder = broken()
    with h5py.File(folder / "model.weights.h5", "r+") as file:
        damage(file)
    with pytest.raises(CheckpointError, match=message) as caught:
        open_keras_hub(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "shards",
    [
        "abc",
        [],
        {},
        {"a": []},
        {"a": 5},
        {"a": [{"b": 1}]},
        {"a": [["model_00000.weights.h5"]]},
        {"a": "../model_00000.weights.h5"},
        {"a": [f"model_{i:05}.weights.h5" for i in range(513)]},
        {"a": ["x" * 100_000]},
    ],
    ids=lambda shards: str(shards)[:40],
)
def test_refuses_hostile_lists_of_shards(broken, shards):
    folder = broken()
    (folder / "model.weights.h5").unlink()
    (folder / "model.weights.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(CheckpointError, match="of 1 to 512 shards such as model_00000") as caught:
        open_keras_hub(folder)
    assert len(str(caught.value)) < 1000


def test_refuses_counts_that_would_fill_the_memory(presets, tmp_path):
    shutil.copytree(presets("Albert"), tmp_path / "albert")
    path = tmp_path / "albert" / "config.json"
    counts = {"num_layers": 900, "num_groups": 900, "num_inner_repetitions": 900}
    edit(path, lambda config: config["config"].update(counts))
    with pytest.raises(ConfigError, match="`num_groups` x `num_inner_repetitions` must be <= 1"):
        open_keras_hub(path.parent)
    edit(path, lambda config: config["config"].update(num_layers=10**9))
    with pytest.raises(ConfigError, match="`num_layers` must be an integer of 1 to 1,000"):
        open_keras_hub(path.parent)


def test_a_far_padding_token_makes_no_table(presets, tmp_path):
    # The position table of a RoBERTa has a row for every id up to that of the padding token.
    folder = tmp_path / "roberta"
    shutil.copytree(presets("Roberta"), folder)
    assets = folder / "assets" / "tokenizer"
    assets.mkdir(parents=True, exist_ok=True)
    (assets / "vocabulary.json").write_text(json.dumps({"<pad>": 2**30}))
    with pytest.raises(ConfigError, match="a padding token id below 40, .* received 1073741824"):
        open_keras_hub(folder)
    for ids in ({"<pad>": -1}, {"<pad>": 2**40}, {"<pad>": True}, {"<pad>": None}):
        (assets / "vocabulary.json").write_text(json.dumps(ids))
        with pytest.raises(ConfigError, match="Expected an object of tokens and their ids"):
            open_keras_hub(folder)


@pytest.mark.slow
def test_a_vocabulary_of_line_breaks_takes_little_memory(presets, tmp_path):
    folder = tmp_path / "bert"
    shutil.copytree(presets("Bert"), folder)
    assets = folder / "assets" / "tokenizer"
    assets.mkdir(parents=True, exist_ok=True)
    (assets / "vocabulary.txt").write_bytes(b"\n" * 10_000_000)
    tracemalloc.start()
    with pytest.raises(ConfigError, match=r"has no \[PAD\]"):
        open_keras_hub(folder)
    assert tracemalloc.get_traced_memory()[1] < 30_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("keep", [0, 100, 3000])
def test_refuses_a_truncated_file(broken, keep):
    path = broken() / "model.weights.h5"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="is not a complete HDF5 file"):
        open_keras_hub(path.parent)


@pytest.mark.parametrize("signature", [b"TREE", b"HEAP", b"SNOD"])
def test_refuses_a_file_of_broken_structure(broken, signature):
    path = broken() / "model.weights.h5"
    path.write_bytes(path.read_bytes().replace(signature, b"XXXX"))
    with pytest.raises(CheckpointError, match="is not a complete HDF5 file") as caught:
        open_keras_hub(path.parent)
    assert "\n" not in str(caught.value)


def test_any_value_in_the_json_files_is_read_or_refused(broken):
    """No odd value, at any place, raises anything but our own errors."""
    folder = broken("Bert", "TextClassifier")
    odd = [None, True, -1, 1.5, "", [], {}, [[]], {"a": 1}, 10**30, "/etc/passwd", ["a"]]

    def places(value, path=()):
        for key in value:
            yield (*path, key)
            if isinstance(value[key], dict):
                yield from places(value[key], (*path, key))

    messages = []
    for name in ("config.json", "task.json"):
        original = (folder / name).read_text()
        for place in places(json.loads(original)):
            for value in odd:
                changed = json.loads(original)
                inner = changed
                for key in place[:-1]:
                    inner = inner[key]
                inner[place[-1]] = value
                (folder / name).write_text(json.dumps(changed))
                try:
                    json.dumps(read_keras_hub_config(folder))
                except (CheckpointError, ConfigError) as error:
                    messages.append(str(error))
        (folder / name).write_text(original)
    assert len(messages) > 200
    assert not any("\n" in message for message in messages)


def test_refuses_a_task_of_another_encoder(broken):
    folder = broken("Bert", "TextClassifier")
    edit(folder / "task.json", lambda t: t["config"]["backbone"]["config"].update(num_layers=3))
    with pytest.raises(ConfigError, match=r"describe different encoders \(`num_layers`\)"):
        read_keras_hub_config(folder)


# ---- out
