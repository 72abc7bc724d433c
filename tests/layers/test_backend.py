"""The package requires Keras on TensorFlow."""

import importlib

import keras
import pytest

import keras_bert_zoo.layers
from keras_bert_zoo.errors import ConfigError


def test_another_keras_backend_is_refused_in_one_clear_message(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ConfigError, match="the Keras backend 'tensorflow', received 'jax'; set"):
        importlib.reload(keras_bert_zoo.layers)
