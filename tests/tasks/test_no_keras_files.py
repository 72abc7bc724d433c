"""What Keras would write and could not read: refused for every model before anything is written."""

import copy
import os
import pickle

import keras
import numpy as np
import pytest

import keras_bert_zoo as kbz
from keras_bert_zoo.errors import ConfigError
from tests.helpers import ASSETS
from tests.tasks.every_task import EVERY_TASK, make


def models():
    for name in EVERY_TASK:
        yield make(name)[0], "load"
    yield kbz.Encoder.from_preset(ASSETS / "bert_classifier"), "from_preset"
    yield kbz.HeadedModel.from_preset(ASSETS / "bert_classifier"), "from_preset"


def test_files_pickles_and_copies_are_refused_and_weights_are_not(tmp_path):
    earlier = tmp_path / "earlier.keras"
    for model, load in models():
        name = type(model).__name__
        way = rf"`save\(DIRECTORY\)`.*`{name}\.{load}\(DIRECTORY\)`"
        earlier.write_text("precious")
        for write in (
            lambda path, model=model: keras.saving.save_model(model, path),
            lambda path, model=model: keras.models.save_model(model, path),
            lambda path, model=model: keras.Model.save(model, path),
        ):
            with pytest.raises(ConfigError, match=f"A {name} is not written as .* {way}"):
                write(earlier)
        assert earlier.read_text() == "precious"
        assert os.listdir(tmp_path) == ["earlier.keras"]
        for write in (
            lambda model=model: model.get_config(),
            lambda model=model: model.to_json(),
            lambda model=model: keras.saving.serialize_keras_object(model),
        ):
            with pytest.raises(ConfigError, match=f"A {name} is not written as .* {way}"):
                write()
        for duplicate in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(ConfigError, match=rf"A {name} is not pickled or copied\. .*{way}"):
                duplicate(model)
        with pytest.raises(ConfigError, match=rf"A {name} is not cloned\. {way}"):
            keras.models.clone_model(model)
        assert model.built

        before = model.get_weights()
        model.save_weights(tmp_path / "w.weights.h5")
        model.set_weights([weight + 1 for weight in before])
        model.load_weights(tmp_path / "w.weights.h5")
        for found, wanted in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(found, wanted)
        os.remove(tmp_path / "w.weights.h5")
