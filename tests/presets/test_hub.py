"""Fetching from a hub: a small one is served on this machine."""

import hashlib
import json
import shutil
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import numpy as np
import pytest

import keras_bert_zoo as kbz
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.presets import hub, resolve
from tests.helpers import ASSETS

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's interface as a download needs."""

    repositories: ClassVar[dict] = {}  # name -> {file: bytes}
    announced: ClassVar[dict] = {}  # file -> a wrong checksum to announce

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, *, body):
        path = self.path.split("?")[0].strip("/")
        if path.startswith("api/models/"):
            name = "/".join(path.split("/")[2:4])
            if name not in self.repositories:
                return self._send(401, b"{}", {"X-Error-Code": "RepoNotFound"}, body)
            files = self.repositories[name]
            if path.split("/")[4:5] == ["tree"]:
                tree = [
                    {"type": "file", "path": file, "size": len(data), "oid": "0" * 40}
                    for file, data in files.items()
                ]
                return self._send(200, json.dumps(tree).encode(), {}, body)
            siblings = [
                {"rfilename": file, "size": len(data), **self._lfs(file, data)}
                for file, data in files.items()
            ]
            info = {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings}
            return self._send(200, json.dumps(info).encode(), {}, body)
        name, _, file = path.partition("/resolve/")
        file = file.partition("/")[2]
        data = self.repositories.get(name, {}).get(file)
        if data is None:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"}, body)
        sha = hashlib.sha256(data).hexdigest()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{sha}"', "X-Linked-ETag": f'"{sha}"'}
        return self._send(200, data, headers | {"X-Linked-Size": str(len(data))}, body)

    def _lfs(self, file, data):
        if not file.endswith((".safetensors", ".bin")):
            return {}
        sha = self.announced.get(file, hashlib.sha256(data).hexdigest())
        return {"lfs": {"sha256": sha, "size": len(data), "pointerSize": 100}}

    def _send(self, status, data, headers, body):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A hub with one repository, and an empty cache; yields the handler's class."""
    constants = pytest.importorskip("huggingface_hub.constants")
    handler = type("OwnHub", (Hub,), {"announced": {}})
    handler.repositories = {
        "owner/bert": {
            path.name: path.read_bytes()
            for path in (ASSETS / "bert_gelu").iterdir()
            if path.suffix != ".npz"
        }
        | {"modeling.py": b"raise SystemExit", "flax_model.msgpack": b"x"}
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        endpoint + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


def test_fetches_checks_and_loads(served):
    directory = resolve.find_preset("hf://owner/bert")
    assert sorted(path.name for path in directory.iterdir()) == [
        "config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt",
    ]  # fmt: skip
    weights = kbz.Encoder.from_preset("hf://owner/bert").get_weights()
    expected = kbz.Encoder.from_preset(ASSETS / "bert_gelu").get_weights()
    for left, right in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(left, right)


def test_is_found_again_without_a_network(served, monkeypatch):
    directory = resolve.find_preset("hf://owner/bert")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert resolve.find_preset("hf://owner/bert") == directory


def test_offline_says_what_is_missing_and_how_to_get_it(served, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=r"not in the cache.*hf download owner/bert --local"):
        resolve.find_preset("hf://owner/bert")


def test_a_hub_that_cannot_be_reached_counts_as_offline(served, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match="not in the cache, and the hub cannot be reached"):
        resolve.find_preset("hf://owner/bert")


def test_refuses_a_file_that_is_not_what_the_hub_announced(served):
    served.announced["model.safetensors"] = "0" * 64
    with pytest.raises(CheckpointError, match="with the sha256 0000.* of the hub"):
        resolve.find_preset("hf://owner/bert")


def test_refuses_a_file_that_is_not_the_catalogued_one(served):
    with pytest.raises(CheckpointError, match="with the sha256 1111.* of the catalogue"):
        hub.fetch("owner/bert", sha256="1" * 64)


def test_a_pinned_checkpoint_is_not_replaced_by_other_weights(served, monkeypatch):
    """The catalogue's sha256 is of model.safetensors: nothing else can be compared with it."""
    files = served.repositories["owner/bert"]
    del files["model.safetensors"]
    files["tf_model.h5"] = b"whatever somebody put there"
    with pytest.raises(CheckpointError, match="Expected model.safetensors with the catalogue's"):
        hub.fetch("owner/bert", sha256="1" * 64)
    hub.fetch("owner/bert")  # by its own name it is taken as it is
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.fetch("owner/bert")
    with pytest.raises(CheckpointError, match="not in the cache"):
        hub.fetch("owner/bert", sha256="1" * 64)


def test_what_was_changed_in_the_cache_is_refused(served, monkeypatch):
    weights = resolve.find_preset("hf://owner/bert") / "model.safetensors"
    blob = weights.resolve()
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes()[:-1] + b"\x01")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=r"model.safetensors with the sha256 .* of the cache"):
        resolve.find_preset("hf://owner/bert")


def test_a_tokenizer_needs_no_weights(served, monkeypatch):
    files = served.repositories["owner/bert"]
    del files["model.safetensors"]
    files["pytorch_model.bin"] = b"not read here"
    expected = kbz.Tokenizer.from_preset(ASSETS / "bert_gelu").tokenize("ab c").numpy()
    for offline in (False, True):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
        tokenizer = kbz.Tokenizer.from_preset("hf://owner/bert")
        np.testing.assert_array_equal(tokenizer.tokenize("ab c"), expected)
    directory = resolve.find_preset("hf://owner/bert", weights=False)
    assert not (directory / "pytorch_model.bin").exists()
    with pytest.raises(CheckpointError, match="is not in the cache"):
        resolve.find_preset("hf://owner/bert")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    del files["vocab.txt"]
    with pytest.raises(CheckpointError, match="has no tokenizer. Expected one of vocab.txt"):
        resolve.find_preset("hf://owner/bert", weights=False)


@pytest.mark.parametrize(
    "load",
    [
        kbz.Encoder.from_preset,
        kbz.HeadedModel.from_preset,
        kbz.TextClassifier.from_preset,
        partial(kbz.TextRegressor.from_preset, new_head=True),
    ],
    ids=["encoder", "headed", "classifier", "regressor"],
)
@pytest.mark.parametrize("allow_pickle", [False, True])
def test_whether_a_pickle_may_be_fetched_is_passed_on(monkeypatch, load, allow_pickle):
    calls = []

    def fetch(repository, revision, **options):
        calls.append(options)
        return ASSETS / "bert_classifier"

    monkeypatch.setattr(hub, "fetch", fetch)
    load("hf://owner/bert", allow_pickle=allow_pickle)
    assert {options["allow_pickle"] for options in calls} == {allow_pickle}


def test_an_unknown_repository(served):
    with pytest.raises(CheckpointError, match="has no repository 'owner/none', or it is private"):
        resolve.find_preset("hf://owner/none")


def test_a_pickle_is_not_fetched_unless_asked_for(served):
    files = served.repositories["owner/bert"]
    del files["model.safetensors"]
    files["pytorch_model.bin"] = b"not read here"
    with pytest.raises(CheckpointError, match="a pickle, which is not read by default"):
        resolve.find_preset("hf://owner/bert")
    directory = resolve.find_preset("hf://owner/bert", allow_pickle=True)
    assert (directory / "pytorch_model.bin").is_file()


def test_a_repository_without_a_checkpoint(served):
    served.repositories["owner/bert"] = {"README.md": b"hello"}
    with pytest.raises(CheckpointError, match="has no supported checkpoint"):
        resolve.find_preset("hf://owner/bert")


@pytest.mark.parametrize("handle", ["hf://", "hf://a", "hf://a/b/c", "hf://a/../b", "hf://a/b@"])
def test_refuses_malformed_handles(handle):
    with pytest.raises(ConfigError, match="Expected hf://owner/name"):
        resolve.find_preset(handle)


def test_a_directory_wins_over_a_name(tmp_path, monkeypatch):
    shutil.copytree(ASSETS / "bert_gelu", tmp_path / "minilm_l6_en_uncased")
    monkeypatch.chdir(tmp_path)
    assert resolve.find_preset("minilm_l6_en_uncased").resolve().parent == tmp_path
