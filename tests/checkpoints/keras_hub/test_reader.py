"""Reading KerasHub's presets: equal tensors and outputs."""

import logging
import shutil

import numpy as np
import pytest

import keras_bert_zoo as kbz
from keras_bert_zoo.checkpoints.config_file import read_config
from keras_bert_zoo.checkpoints.formats import detect_format, open_checkpoint
from keras_bert_zoo.checkpoints.keras_hub import names as tables
from keras_bert_zoo.checkpoints.keras_hub.reader import open_keras_hub, read_keras_hub_config
from keras_bert_zoo.errors import CheckpointError, ConfigError
from tests.checkpoints.keras_hub.models import (
    FAMILY_NAMES,
    SIZES,
    as_huggingface,
    backbone,
    contents,
    edit,
    inputs,
    read_all,
    task,
)


@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_every_weight_is_read_once_and_whole(presets, name):
    with open_keras_hub(presets(name)) as source:
        tensors = {tensor: source.read(tensor) for tensor in source.names()}
        for tensor, value in tensors.items():
            assert source.shape(tensor) == value.shape
            assert source.dtype(tensor) == value.dtype == np.float32
    weights = [np.asarray(weight) for weight in backbone(name).weights]
    if name == "Electra":  # Hugging Face's has no pooler, which is KerasHub's last layer
        weights = weights[:-2]
    if name in ("Roberta", "XLMRoberta"):
        positions = tensors["embeddings.position_embeddings.weight"]
        assert not positions[:2].any()
        tensors["embeddings.position_embeddings.weight"] = positions[2:]
        assert not tensors.pop("embeddings.token_type_embeddings.weight").any()
    assert contents(tensors.values()) == contents(weights)


def test_kernels_are_turned_and_heads_merged(presets):
    tensors = read_all(open_keras_hub(presets("Bert")))
    layer = backbone("Bert").get_layer("transformer_layer_1")
    query = np.asarray(layer._self_attention_layer.query_dense.kernel)  # (hidden, heads, head)
    theirs = tensors["encoder.layer.1.attention.self.query.weight"]
    for head in range(2):
        np.testing.assert_array_equal(theirs[4 * head : 4 * head + 4].T, query[:, head])
    output = np.asarray(layer._self_attention_layer.output_dense.kernel)  # (heads, head, hidden)
    theirs = tensors["encoder.layer.1.attention.output.dense.weight"]
    np.testing.assert_array_equal(theirs[:, 4:].T, output[1])
    np.testing.assert_array_equal(
        tensors["encoder.layer.1.intermediate.dense.weight"].T,
        np.asarray(layer._feedforward_intermediate_dense.kernel),
    )


@pytest.mark.parametrize("name", [name for name in FAMILY_NAMES if name != "FNet"])
def test_our_encoders_answer_as_keras_hub_does(presets, name):
    encoder = kbz.Encoder.from_preset(presets(name))
    given = inputs(name)
    expected = backbone(name)(given)
    if not isinstance(expected, dict):
        expected = {"sequence_output": expected}
    answer = encoder({"segment_ids": np.zeros_like(given["token_ids"]), **given})
    mask = given["padding_mask"].astype(bool)
    ours, theirs = (np.asarray(x["sequence_output"])[mask] for x in (answer, expected))
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)
    if name in ("Bert", "Albert"):
        ours, theirs = (np.asarray(x["pooled_output"]) for x in (answer, expected))
        np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)


def test_the_activation_makes_the_difference(presets, tmp_path):
    folder = as_huggingface(presets("Bert"), tmp_path / "bert")
    edit(folder / "config.json", lambda config: config.update(hidden_act="gelu"))
    given = inputs("Bert")
    other = np.asarray(kbz.Encoder.from_preset(folder)(given)["pooled_output"])
    assert np.abs(other - np.asarray(backbone("Bert")(given)["pooled_output"])).max() > 1e-4


def test_formats_are_told_apart(presets):
    assert detect_format(presets("Bert")) == "keras-hub"
    assert read_config(presets("Bert"))["hidden_act"] == "gelu_new"
    with open_checkpoint(presets("Bert")) as source:
        assert "pooler.dense.weight" in source


def test_classifier_config(presets):
    config = read_keras_hub_config(presets("Bert", "TextClassifier"))
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["classifier_dropout"] == 0.1
    assert config["id2label"] == {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}
    tensors = read_all(open_keras_hub(presets("Bert", "TextClassifier")))
    logits = task("Bert", "TextClassifier").get_layer("logits")
    np.testing.assert_array_equal(tensors["classifier.weight"].T, np.asarray(logits.kernel))
    assert "bert.pooler.dense.weight" in tensors
    bare = read_keras_hub_config(presets("Bert", "TextClassifier"), head=False)
    assert bare["architectures"] == ["BertModel"]
    assert "id2label" not in bare
    with open_keras_hub(presets("Bert", "TextClassifier"), head=False) as source:
        assert "pooler.dense.weight" in source
        assert "classifier.weight" not in source


@pytest.mark.parametrize(
    ("activation", "problem"),
    [("softmax", "single_label_classification"), ("sigmoid", "multi_label_classification")],
)
def test_what_a_classifier_does_to_its_logits_is_told(broken, activation, problem):
    folder = broken("Bert", "TextClassifier")
    edit(folder / "task.json", lambda task: task["config"].update(activation=activation))
    assert read_keras_hub_config(folder)["problem_type"] == problem


def test_a_head_that_cannot_be_expressed_is_left_out_loudly(presets, caplog):
    folder = presets("Bert", "MaskedLM")
    with caplog.at_level(logging.WARNING), open_keras_hub(folder) as source:
        assert not any(name.startswith("cls.") for name in source.names())
        assert "LayerNorm with epsilon 1e-5" in source.path  # so that a later error says it too
    assert "BertMaskedLM's head" in caplog.text
    assert read_keras_hub_config(folder)["architectures"] == ["BertModel"]
    with pytest.raises(CheckpointError, match=r"erf-GELU and a LayerNorm with epsilon 1e-5"):
        open_keras_hub(folder, head=True)
    caplog.clear()
    with open_keras_hub(folder, head=False):
        pass
    assert not caplog.records


def test_electras_pooler_is_left_out_loudly(presets, caplog):
    with caplog.at_level(logging.WARNING), open_keras_hub(presets("Electra")):
        pass
    assert "ElectraModel has none" in caplog.text


def test_shards(presets, tmp_path):
    folder = tmp_path / "sharded"
    shutil.copytree(presets("Bert"), folder)
    (folder / "model.weights.h5").unlink()
    backbone("Bert").save_weights(str(folder / "model.weights.json"), max_shard_size=4e-6)
    assert len(list(folder.glob("model_*.weights.h5"))) > 1
    whole, sharded = (read_all(open_keras_hub(path)) for path in (presets("Bert"), folder))
    assert whole.keys() == sharded.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(value, sharded[name])
    edit(
        folder / "model.weights.json",
        lambda index: index["weight_map"].update({"/layers/dense/vars": "../model.weights.h5"}),
    )
    with pytest.raises(CheckpointError, match=r"Expected a `weight_map` of 1 to 512 shards"):
        open_keras_hub(folder)


def test_bfloat16(tmp_path):
    import keras_hub
    import ml_dtypes

    model = keras_hub.models.BertBackbone(**SIZES, dtype="bfloat16")
    model.save_to_preset(str(tmp_path))
    assert read_keras_hub_config(tmp_path)["dtype"] == "bfloat16"
    with open_keras_hub(tmp_path) as source:
        value = source.read("pooler.dense.weight")
    assert value.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(
        value.T.astype(np.float32), np.asarray(model.pooled_dense.kernel).astype(np.float32)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"registered_name": "keras_hub>GemmaBackbone"},
            r"received 'keras_hub>GemmaBackbone' with the class",
        ),
        ({"registered_name": "evil>BertBackbone"}, "expected keras_hub>NAME or keras_nlp>NAME"),
        ({"config": None}, "it has no `config`"),
        ({"more": 1}, "the unknown keys 'more'"),
    ],
)
def test_refuses_other_objects(broken, change, message):
    folder = broken()
    edit(folder / "config.json", lambda config: config.update(change))
    with pytest.raises(ConfigError, match=message):
        read_keras_hub_config(folder)


@pytest.mark.parametrize("name", [*sorted(tables.UNSUPPORTED), "Sequential", "GemmaBackbone"])
def test_refuses_other_classes(broken, name):
    folder = broken()
    change = {"registered_name": f"keras_hub>{name}", "class_name": name}
    edit(folder / "config.json", lambda config: config.update(change))
    with pytest.raises(ConfigError, match=f"KerasHub's {name} is not supported") as caught:
        read_keras_hub_config(folder)
    assert tables.UNSUPPORTED.get(name, "") in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_layers": -1}, r"`num_layers` must be an integer of 1 to 1,000, received -1"),
        ({"num_layers": 10**9}, r"`num_layers` must be an integer of 1 to 1,000, received 1000"),
        ({"num_heads": True}, "`num_heads` must be an integer of 1 to .*, received True"),
        ({"num_heads": 3}, "`num_heads` must divide `hidden_dim`"),
        ({"dropout": 2}, r"`dropout` must be a number in \[0, 1\), received 2"),
        ({"activation": "relu"}, "`activation` = 'relu' is unknown"),
        ({"dtype": "int8_from_float32"}, "quantized presets are not read"),
        ({"dtype": {"class_name": "DTypePolicyMap", "config": {}}}, "quantized presets"),
    ],
)
def test_refuses_options(broken, change, message):
    folder = broken()
    edit(folder / "config.json", lambda config: config["config"].update(change))
    with pytest.raises(ConfigError, match=message) as caught:
        read_keras_hub_config(folder)
    assert "\n" not in str(caught.value)


def test_old_packages_name_is_read(broken, presets):
    folder = broken()
    edit(folder / "config.json", lambda c: c.update(registered_name="keras_nlp>BertBackbone"))
    assert read_keras_hub_config(folder) == read_keras_hub_config(presets("Bert"))
