"""Handles of KerasHub presets, and errors of presets that cannot be downloaded."""

import importlib.util

import pytest

from keras_bert_zoo.checkpoints.keras_hub.handles import Fetcher, fetch_keras_hub_preset
from keras_bert_zoo.errors import CheckpointError

HANDLE = "kaggle://keras/bert/keras/bert_tiny_en_uncased"


def test_a_failed_fetch_says_its_first_cause_in_one_line(monkeypatch):
    def fail(handle, name):
        try:
            raise ConnectionError("no route to host\nTraceback: " + "x" * 900)
        except ConnectionError as error:
            raise ValueError("Expected a handle.\n" + "options\n" * 50) from error

    monkeypatch.setattr("keras_hub.src.utils.preset_utils.get_file", fail)
    with pytest.raises(CheckpointError) as raised:
        Fetcher(HANDLE, "form")("config.json")
    expected = f"{HANDLE!r} cannot be downloaded: ConnectionError: no route to host. Download"
    assert str(raised.value).startswith(expected)
    assert "\n" not in str(raised.value)


class LocalEntryNotFoundError(Exception):
    """Has the name of huggingface_hub's error for a missing network."""


@pytest.fixture
def served(monkeypatch):
    """Serves a directory in place of Kaggle's, Hugging Face's and Google's storage."""
    from keras_hub.src.utils import preset_utils

    def serve(folder, *, offline=()):
        requests = []

        def get_file(handle, name):
            requests.append(name)
            if name in offline:
                raise FileNotFoundError(name) from LocalEntryNotFoundError(name)
            if not (folder / name).is_file():
                raise FileNotFoundError(name)
            return str(folder / name)

        monkeypatch.setattr(preset_utils, "get_file", get_file)
        return requests

    return serve


def test_a_handle_is_fetched_whole(presets, served):
    folder = presets("Bert", "TextClassifier")
    requests = served(folder)
    assert fetch_keras_hub_preset("gs://keras/bert") == folder
    assert requests[-1] == "model.weights.h5"
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert present <= set(requests)


def test_refuses_handles_that_cannot_be_fetched(presets, served, tmp_path):
    with pytest.raises(CheckpointError, match="Expected a handle of a KerasHub preset"):
        fetch_keras_hub_preset("ftp://keras/bert")
    served(presets("Bert"), offline=["config.json"])
    with pytest.raises(CheckpointError, match="no network, and it is not in the cache"):
        fetch_keras_hub_preset("gs://keras/bert")
    served(presets("Bert"), offline=["task.json"])
    with pytest.raises(CheckpointError, match=r"the network failed at task\.json"):
        fetch_keras_hub_preset("gs://keras/bert")
    served(tmp_path)
    with pytest.raises(
        CheckpointError, match=r"Expected a KerasHub preset .* without config\.json"
    ):
        fetch_keras_hub_preset("gs://keras/bert")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="Expected a KerasHub preset, received"):
        fetch_keras_hub_preset("gs://google/bert")


@pytest.mark.parametrize(("scheme", "package"), [("kaggle", "kagglehub")])
def test_a_missing_package_is_named(monkeypatch, scheme, package):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else find_spec(name)
    )
    with pytest.raises(CheckpointError, match=f"pip install {package.replace('_', '-')}"):
        fetch_keras_hub_preset(f"{scheme}://keras/bert")
