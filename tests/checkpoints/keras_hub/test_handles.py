"""What is said where a KerasHub preset cannot be fetched."""

import pytest

from keras_bert_zoo.checkpoints.keras_hub.handles import _Fetcher
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
        _Fetcher(HANDLE, "form")("config.json")
    expected = f"{HANDLE!r} cannot be fetched: ConnectionError: no route to host. Without a network"
    assert str(raised.value).startswith(expected)
    assert "\n" not in str(raised.value)
