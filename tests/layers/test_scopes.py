"""Paths of variables, which the names in checkpoints use, do not depend on open scopes."""

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest

import keras_bert_zoo as kbz
from tests.helpers import ASSETS, golden_inputs, load_golden

ZOO = ASSETS / "zoo"
ENCODERS = sorted(path.name for path in ZOO.glob("*-encoder-*"))


def outputs(model, inputs):
    return {name: value.numpy() for name, value in model(inputs).items()}


@pytest.mark.parametrize(
    "name", ["bert-masked_lm+next_sentence-relu", "bert-classification-labels"]
)
def test_models_load_and_save_inside_a_name_scope(tmp_path, name):
    inputs = golden_inputs(load_golden(f"zoo/{name}"))
    expected = outputs(kbz.HeadedModel.from_preset(ZOO / name), inputs)
    with keras.name_scope("mine"), keras.name_scope("inner"):
        model = kbz.HeadedModel.from_preset(ZOO / name)
        model.save(tmp_path / "saved")
    actual = outputs(kbz.HeadedModel.from_preset(tmp_path / "saved"), inputs)
    assert actual.keys() == expected.keys()
    for kind, value in expected.items():
        np.testing.assert_array_equal(actual[kind], value)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_encoder_of_every_family_loads_inside_a_name_scope(name):
    expected = [weight.path for weight in kbz.Encoder.from_preset(ZOO / name).weights]
    with keras.name_scope("mine"):
        actual = kbz.Encoder.from_preset(ZOO / name)
    assert [weight.path for weight in actual.weights] == expected


def test_a_failed_graph_does_not_spoil_what_is_loaded_after_it():
    """TensorFlow refuses the name after Keras has put it on its stack."""

    class Odd(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = keras.layers.Dropout(0.1, name="!")

        def call(self, x):
            return self.inner(x)

    def fail_and_load():
        with pytest.raises(ValueError, match="not a valid"):
            Odd()(keras.Input((2,)))
        layer = keras.layers.Dense(1, name="after")
        layer.build((None, 2))
        assert layer.kernel.path != "after/kernel", "Keras cleans up now; delete this test"
        kbz.Encoder.from_preset(ZOO / "bert-encoder-plain")

    # Keras keeps one stack per thread. A new thread keeps the failed scope from other tests.
    with ThreadPoolExecutor(1) as executor:
        executor.submit(fail_and_load).result()
