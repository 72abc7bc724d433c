"""A model with some of its blocks computes these blocks, as transformers does."""

import numpy as np
import pytest

import keras_bert_zoo as kbz
from keras_bert_zoo.errors import ConfigError
from tests.helpers import ASSETS, eagerly, random_inputs
from tests.tasks.every_task import make

ENCODERS = {p.name.split("-")[0]: p.name for p in sorted((ASSETS / "zoo").glob("*-encoder-*"))}


@pytest.fixture(autouse=True)
def op_by_op():
    """Traces nothing: no test here is about graphs."""
    with eagerly():
        yield


def states(encoder, **inputs):
    return encoder(inputs or random_inputs(2, 7, vocabulary_size=50, segments=1))[
        "sequence_output"
    ].numpy()


@pytest.mark.parametrize("layers", [[0, 2], [2], 2, 3])
def test_transformers_computes_the_same(layers, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    source = ASSETS / "zoo" / "distilbert-encoder-one_head"  # three blocks
    smaller = kbz.select_layers(kbz.Encoder.from_preset(source), layers)
    smaller.save(tmp_path / "saved")
    reference = transformers.AutoModel.from_pretrained(source, dtype=torch.float32).eval()
    chosen = {2: [0, 2], 3: [0, 1, 2]}.get(layers) if isinstance(layers, int) else layers
    blocks = reference.transformer.layer
    reference.transformer.layer = torch.nn.ModuleList([blocks[i] for i in chosen])
    inputs = random_inputs(2, 7, vocabulary_size=50)
    with torch.no_grad():
        expected = reference(
            input_ids=torch.tensor(inputs["token_ids"]),
            attention_mask=torch.tensor(inputs["padding_mask"]),
        ).last_hidden_state.numpy()
    real = inputs["padding_mask"] == 1
    for encoder in (smaller, kbz.Encoder.from_preset(tmp_path / "saved")):
        assert encoder.config.num_layers == len(chosen)
        np.testing.assert_allclose(states(encoder, **inputs)[real], expected[real], atol=2e-5)


@pytest.mark.parametrize("name", ENCODERS)
def test_every_family_is_unchanged_with_all_and_smaller_with_one(name):
    encoder = kbz.Encoder.from_preset(ASSETS / "zoo" / ENCODERS[name])
    same = kbz.select_layers(encoder, encoder.config.num_layers)
    np.testing.assert_array_equal(states(same), states(encoder))
    one = kbz.select_layers(encoder, 1)
    assert one.config.num_layers == 1
    assert np.isfinite(states(one)).all()
    if name != "albert" and encoder.config.num_layers > 1:  # ALBERT's blocks share their weights
        assert one.count_params() < encoder.count_params()


def test_a_task_keeps_lora_and_frozen_blocks(tmp_path):
    encoder = kbz.Encoder.from_preset(ASSETS / "zoo" / "distilbert-encoder-one_head")
    encoder.freeze(2)
    kbz.add_lora(encoder, rank=2)
    for variable in encoder.trainable_variables:
        variable.assign(np.random.default_rng(0).normal(size=variable.shape))
    smaller = kbz.select_layers(encoder, [1, 2])
    trained = {v.path: v.numpy() for v in encoder.trainable_variables}
    renamed = {
        path.replace(f"block_{i}/", f"block_{i - 1}/"): value
        for path, value in trained.items()
        for i in (1, 2)
        if path.startswith(f"block_{i}/")
    }
    assert len(renamed) == 4  # of query and value
    assert {v.path for v in smaller.trainable_variables} == set(renamed)
    for variable in smaller.trainable_variables:
        np.testing.assert_array_equal(variable.numpy(), renamed[variable.path])
    task, x, _ = make("classification")
    same = kbz.select_layers(task, 1)
    assert same.predict(x)["scores"].tolist() == task.predict(x)["scores"].tolist()


def test_what_cannot_be_selected_is_refused():
    encoder = kbz.Encoder.from_preset(ASSETS / "bert_gelu")
    for layers in (0, 3, [], [1, 0], [0, 0], [2], [True], "0", None, 1.0):
        with pytest.raises(ConfigError, match="integer from 1 to 2, or ascending numbers from 0"):
            kbz.select_layers(encoder, layers)
    with pytest.raises(ConfigError, match="Expected an Encoder, a HeadedModel or a task"):
        kbz.select_layers(make("translation")[0], 1)
    modern = kbz.Encoder.from_preset(ASSETS / "zoo" / "modernbert-encoder-plain")
    with pytest.raises(ConfigError, match="Expected `layers` to start with 0"):
        kbz.select_layers(modern, [1, 2])
