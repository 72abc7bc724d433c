"""The one interface: which file is taken, what a config may hold, what paths in it do (nothing)."""

import json
import os
import shutil
import sys
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import save_file

from keras_bert_zoo.checkpoints.config_file import read_config
from keras_bert_zoo.checkpoints.formats import detect_format, open_checkpoint
from keras_bert_zoo.checkpoints.messages import list_some, show_shape
from keras_bert_zoo.checkpoints.safetensors import open_safetensors
from keras_bert_zoo.checkpoints.source import FLOAT_DTYPES, TensorInfo, TensorSource, count_elements
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.files import parse_json, read_json
from tests.helpers import ASSETS

_opened: list[str] | None = None


def _note_opened(event, arguments):
    if event == "open" and _opened is not None:
        _opened.append(str(arguments[0]))


sys.addaudithook(_note_opened)  # cannot be taken away again; it notes only while a test asks


@pytest.fixture
def opened():
    """Lists the files that anything opens from Python."""
    global _opened
    _opened = []
    yield _opened
    _opened = None


class Source(TensorSource):
    """A source whose data may differ from its infos."""

    held = np.zeros((2, 3), np.float32)

    def _read(self, stored_name):
        return self.held


def test_a_source_that_holds_something_else_is_refused():
    info = TensorInfo((2, 3), np.dtype(np.float32))
    source = Source("file", {"x.LayerNorm.gamma": info})
    assert source.read("x.LayerNorm.weight").shape == (2, 3)
    out = np.ones((3, 2))
    source.read_into("x.LayerNorm.weight", out.T)
    assert not out.any()
    source.held = np.zeros((3, 2), np.float32)
    with pytest.raises(CheckpointError, match=r"to be float32 \(2, 3\), received float32"):
        source.read("x.LayerNorm.weight")
    source.held = np.zeros((2, 3), np.float16)
    with pytest.raises(CheckpointError, match=r"received float16 \(2, 3\)"):
        source.read("x.LayerNorm.weight")


def test_a_source_knows_its_tensors():
    with Source("file", {"x": TensorInfo((2, 3), np.dtype(np.float32))}) as source:
        assert "x" in source
        assert "y" not in source
        assert 3 not in source
        assert (source.names(), len(source)) == (["x"], 1)
        assert source.dtype("x") in FLOAT_DTYPES
        for ask in (source.shape, source.dtype, source.read):
            with pytest.raises(CheckpointError, match="file has no tensor named 'y'"):
                ask("y")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("bert_gelu", "huggingface"),
        ("keras_h5_bert", "huggingface"),
        ("pytorch_zip", "huggingface"),
        ("google_bert", "google"),
        ("google_electra", "google"),
    ],
)
def test_detects_formats(name, kind):
    assert detect_format(ASSETS / name) == kind


def test_says_what_it_looks_for(tmp_path):
    for ask in (open_checkpoint, detect_format):
        with pytest.raises(CheckpointError) as caught:
            ask(tmp_path)
        for name in ("model.safetensors", "tf_model.h5", "*.ckpt.index", "pytorch_model.bin"):
            assert name in str(caught.value)
        with pytest.raises(CheckpointError, match="none' is not a directory"):
            ask(tmp_path / "none")
    with pytest.raises(CheckpointError, match="is not a directory"):
        read_config(tmp_path / "none")
    with pytest.raises(ConfigError, match=r"No config\.json in .* A preset directory has"):
        read_config(tmp_path)


def test_takes_the_safest_file_of_several(tmp_path):
    order = ["google_bert", "keras_h5_bert", "bert_gelu"]  # each goes before those on its left
    shutil.copy(ASSETS / "pytorch_zip" / "pytorch_model.bin", tmp_path)
    for name in order:
        shutil.copytree(ASSETS / name, tmp_path, dirs_exist_ok=True)
        with open_checkpoint(tmp_path, allow_pickle=True) as source:
            assert sorted(source.names()) == sorted(open_checkpoint(ASSETS / name).names())


def test_paths_in_a_config_are_never_opened(tmp_path, opened):
    shutil.copytree(ASSETS / "bert_gelu", tmp_path, dirs_exist_ok=True)
    secret = tmp_path / "secret.py"
    secret.write_text("raise SystemExit")
    path = tmp_path / "config.json"
    config = json.loads(path.read_text()) | {
        "_name_or_path": str(secret),
        "auto_map": {"AutoConfig": f"{secret}--secret.Config", "AutoModel": "secret.Model"},
        "custom_pipelines": {"x": {"impl": str(secret)}},
        "tokenizer_class": str(secret),
    }
    path.write_text(json.dumps(config))
    opened.clear()
    assert read_config(tmp_path) == config
    with open_checkpoint(tmp_path) as source:
        source.read(source.names()[0])
    assert str(path) in opened
    assert not [name for name in opened if "secret" in name]
    assert "secret" not in sys.modules


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "cannot be read as JSON"),
        (b"{", "cannot be read as JSON"),
        (b"[]", "Expected a JSON object in .*, received list"),
        (b"3", "Expected a JSON object in .*, received int"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": -Infinity}', "-Infinity is not JSON"),
        (b'{"a": 1e999}', "1e999 is too large for a float"),
        (b'{"a": 1, "a": 2}', "the key 'a' is given twice"),
        (b'{"a": {"b": [{"c": 1, "c": 2}]}}', "the key 'c' is given twice"),
        (b'{"a": ' + b"9" * 5000 + b"}", "cannot be read as JSON"),
        (b'{"a": ' + b"[" * 70 + b"]" * 70 + b"}", "nested deeper than 64 levels"),
        (b'{"a": ' + b'{"a": ' * 200_000 + b"1" + b"}" * 200_001, "nested"),
        (b'\xff{"a": 1}', "can't decode byte 0xff"),
        (b'{"a": "\xed\xa0\x80"}', "can't decode byte"),
        (b'{"a": ' + b"9" * 65 + b"}", "an integer of 65 digits"),
        (b'{"a": ["\\ud800"]}', "surrogates not allowed"),
        (b'{"a": {"\\uDFFF": 1}}', "surrogates not allowed"),
        (b'{"a": [' + b"[]," * 1_000_000 + b"1]}", "more than 1,000,000 lists and objects"),
    ],
)
def test_refuses_hostile_json(tmp_path, text, message):
    path = tmp_path / "config.json"
    path.write_bytes(text)
    for read in (read_json, lambda path: read_config(path.parent)):
        with pytest.raises(ConfigError, match=message) as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_refuses_large_json_before_reading_it_all(tmp_path):
    path = tmp_path / "config.json"
    with open(path, "wb") as file:
        file.truncate(1 << 33)  # sparse
    tracemalloc.start()
    with pytest.raises(ConfigError, match=r"^\S+config\.json is larger than 10,000,000 bytes"):
        read_json(path)
    assert tracemalloc.get_traced_memory()[1] < 25_000_000
    tracemalloc.stop()


def test_reads_json_up_to_its_limits():
    text = b'{"a": ' + b"[" * 62 + b"1.5" + b"]" * 62 + b"}"
    assert isinstance(parse_json(text, "x")["a"], list)
    assert parse_json(b'{"a": 1e308, "b": -0.0, "c": null}', "x")["a"] == 1e308
    with pytest.raises(ConfigError, match="is larger than 3 bytes"):
        parse_json(b'{"a": 1}', "x", limit=3)


def test_reports_a_config_that_cannot_be_opened(tmp_path):
    (tmp_path / "config.json").mkdir()
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_json(tmp_path / "config.json")


def test_reads_what_transformers_writes():
    text = b'{"a": 1000000000000000019884624838656, "b": "\\ud83d\\ude00", "c": "\\u00e9\\\\ud8"}'
    assert parse_json(text, "x") == {"a": int(1e30), "b": "\U0001f600", "c": "\xe9\\ud8"}


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(ConfigError, match=r"config\.json cannot be read: it is not a regular file"):
        read_json(tmp_path / "config.json")
    with pytest.raises(ConfigError, match="cannot be read: embedded null byte"):
        read_json(f"{tmp_path}/a\0b")
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_json(tmp_path / "none")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": 5}, "`architectures` must be a list of names, received 5"),
        ({"architectures": "Bert"}, "`architectures` must be a list of names, received 'Bert'"),
        ({"architectures": [["x"]]}, "`architectures` must be a list of names"),
        ({"id2label": 5}, "`id2label` must be an object, id -> name, with ids from 0"),
        ({"id2label": ["a"]}, "`id2label` must be an object"),
        ({"id2label": {"0": [], "1": "b"}}, "`id2label` must be an object"),
        ({"id2label": {"-1": "a", "1": "b"}}, "`id2label` must be an object"),
        ({"id2label": {"x": "a", "y": "b"}}, "`id2label` must be an object"),
        ({"id2label": {"1000000": "a"}}, "`id2label` must be an object"),
        ({"id2label": {"00": "a", "0": "b"}}, "`id2label` must be an object"),
        ({"num_labels": "3"}, "`num_labels` must be an integer of 0 to 1,000,000, received '3'"),
        ({"num_labels": True}, "`num_labels` must be an integer"),
        ({"num_labels": 10**30}, "`num_labels` must be an integer"),
        ({"_num_labels": -1}, "`_num_labels` must be an integer"),
        ({"problem_type": 7}, "`problem_type` must be a string, received 7"),
        ({"problem_type": ["regression"]}, "`problem_type` must be a string"),
        ({"model_type": ["bert"]}, "`model_type` must be a string"),
    ],
)
def test_checks_the_keys_that_all_rely_on(tmp_path, change, message):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "bert"} | change))
    with pytest.raises(ConfigError, match=message) as caught:
        read_config(tmp_path)
    assert str(path) in str(caught.value)


def test_reads_labels_as_transformers_does(tmp_path):
    path = tmp_path / "config.json"
    keys = ("architectures", "id2label", "num_labels", "problem_type")
    path.write_text(json.dumps({"model_type": "bert"} | dict.fromkeys(keys)))
    rest = [key for key in keys if key != "id2label"]  # null: transformers' default names
    assert read_config(tmp_path) == {"model_type": "bert"} | dict.fromkeys(rest)
    path.write_text('{"model_type": "bert", "id2label": {"1": 7, "0": "a"}, "num_labels": 2}')
    assert read_config(tmp_path)["id2label"] == {"0": "a", "1": "7"}
    path.write_text('{"model_type": "bert", "id2label": {"0": false, "1": null, "3": 0.5}}')
    assert read_config(tmp_path)["id2label"] == {"0": "False", "3": "0.5"}


def test_a_number_of_labels_that_contradicts_their_names(tmp_path, caplog):
    from transformers import BertConfig

    path = tmp_path / "config.json"
    config = {"model_type": "bert", "label2id": {"a": 0, "b": 1}}
    for labels, count in (
        ({"0": "a", "1": "b"}, 3),
        ({"0": "a", "1": "b"}, 1),
        ({"0": "a", "2": "b"}, 3),
    ):
        path.write_text(json.dumps(config | {"id2label": labels, "num_labels": count}))
        assert read_config(tmp_path) == {"model_type": "bert", "num_labels": count}
        assert BertConfig.from_dict(json.loads(path.read_text())).id2label == {
            i: f"LABEL_{i}" for i in range(count)
        }  # transformers drops the names, too
    assert "`num_labels` is 3, but `id2label` names 2 labels; the number is used" in caplog.text
    gaps = config | {"id2label": {"0": "a", "2": "b"}, "num_labels": 2}
    path.write_text(json.dumps(gaps))
    assert read_config(tmp_path) == gaps


def test_what_torch_puts_before_all_names_is_left_out(tmp_path, caplog):
    def names_of(*names):
        path = tmp_path / f"{len(names[0])}.safetensors"
        save_file({name: np.zeros(2, np.float32) for name in names}, path)
        with open_safetensors(path) as tensors:
            assert all(tensors.read(name).shape == (2,) for name in tensors.names())
            return sorted(tensors.names())

    assert names_of("module.bert.a", "module.b") == ["b", "bert.a"]
    assert "all names begin with 'module.'" in caplog.text
    assert names_of("module._orig_mod.a", "module._orig_mod.b.LayerNorm.gamma") == [
        "a", "b.LayerNorm.weight",
    ]  # fmt: skip
    assert names_of("module.aa", "b") == ["b", "module.aa"]
    assert names_of("module.", "module.a") == ["module.", "module.a"]
    assert names_of("module.module.a", "module.b") == ["b", "module.a"]


def test_shapes_are_counted_before_they_are_multiplied():
    assert count_elements(()) == 1
    assert count_elements((3, 0, 5)) == 0
    assert count_elements((1 << 40,)) == 1 << 40
    assert count_elements((0, 768)) == 0
    for shape in (
        (1 << 40, 0),
        (0, 1 << 17),
        (-1,),
        (1 << 41,),
        (1 << 20, 1 << 21),
        (0, 1 << 41),
        [1] * 17,
    ):
        assert count_elements(shape) is None
    assert count_elements([1 << 62] * 1_000_000) is None
    assert len(show_shape([1 << 62] * 1_000_000)) < 300


def test_lists_some():
    assert list_some(["a"]) == "a"
    assert list_some([str(i) for i in range(20)]).endswith("10, 11 and 8 more")


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
            "`git lfs pull` in",
        ),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "received a web page"),
    ],
)
@pytest.mark.parametrize("name", ["model.safetensors", "tf_model.h5", "pytorch_model.bin"])
def test_what_a_download_left_in_the_place_of_a_file_is_recognised(tmp_path, name, start, message):
    (tmp_path / name).write_bytes(start)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path, allow_pickle=True)


def test_weights_under_another_name_are_told(tmp_path):
    (tmp_path / "small_pytorch_model.bin").touch()
    with pytest.raises(
        CheckpointError, match=r"rename small_pytorch_model\.bin to pytorch_model\.bi"
    ):
        open_checkpoint(tmp_path)
