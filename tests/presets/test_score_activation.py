"""Scores of cross-encoders and of others' classifiers, against sentence-transformers' rules."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.files import SIDE_FILE
from keras_bert_zoo.presets.score_activation import (
    CLASSIFIER_ACTIVATIONS,
    REGRESSOR_ACTIVATIONS,
    saved_activation,
    saved_keys,
)
from keras_bert_zoo.tasks.files import saved_task_name
from tests.helpers import ASSETS, as_graphs, eagerly

TEXTS = ["a b c", "x y", "z"]


@pytest.fixture(autouse=True, scope="module")
def op_by_op():
    with eagerly():
        yield


TORCH = "torch.nn.modules.activation."
SIGMOID = {"sentence_transformers": {"activation_fn": f"{TORCH}Sigmoid", "version": "5.1.0"}}
IDENTITY = "torch.nn.modules.linear.Identity"

# What the files say -> the activation, for one label; then for three.
SAID = {
    "nothing": ({}, "sigmoid", "softmax"),
    "regression": ({"problem_type": "regression"}, "linear", None),
    "sigmoid": (SIGMOID, "sigmoid", "sigmoid"),
    "sigmoid, regression": (SIGMOID | {"problem_type": "regression"}, "sigmoid", None),
    "identity": ({"sentence_transformers": {"activation_fn": IDENTITY}}, "linear", "softmax"),
    "no activation": ({"sentence_transformers": {"version": "5.1.0"}}, "sigmoid", "softmax"),
    "null": ({"sentence_transformers": {"activation_fn": None}}, "sigmoid", "softmax"),
    "older": ({"sbert_ce_default_activation_function": IDENTITY}, "linear", "softmax"),
    "older, sigmoid": (
        {"sbert_ce_default_activation_function": "torch.nn.Sigmoid"}, "sigmoid", "sigmoid",
    ),
    "both": (SIGMOID | {"sbert_ce_default_activation_function": IDENTITY}, "sigmoid", "sigmoid"),
    "tanh": ({"sentence_transformers": {"activation_fn": f"{TORCH}Tanh"}}, "tanh", ConfigError),
    "softmax": (
        {"sentence_transformers": {"activation_fn": f"{TORCH}Softmax"}}, ConfigError, "softmax",
    ),
    "own code": ({"sentence_transformers": {"activation_fn": "os.system"}}, "sigmoid", "softmax"),
    "no string": ({"sentence_transformers": {"activation_fn": [1]}}, ConfigError, ConfigError),
    "no object": ({"sentence_transformers": 5}, "sigmoid", "softmax"),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_which_activation(name):
    said, *expected = SAID[name]
    for count, activation in zip((1, 3), expected, strict=True):
        if activation is ConfigError:
            with pytest.raises(ConfigError, match="config.json") as caught:
                saved_activation("", said, count=count)
            assert "\n" not in str(caught.value)
            ignored = ["sentence_transformers"]
            assert saved_activation("", said, count=count, ignore=ignored) == (
                "sigmoid" if count == 1 else "softmax"
            )
        elif activation is not None:
            assert saved_activation("", said, count=count) == activation


def test_ignored_keys_are_not_read():
    said = {"problem_type": "regression", "sentence_transformers": {"activation_fn": IDENTITY}}
    assert saved_activation("", said, count=1, ignore=["problem_type"]) == "linear"
    assert saved_activation("", said, count=1, ignore=["sentence_transformers"]) == "linear"
    assert saved_activation("", said, count=1, ignore=list(said)) == "sigmoid"


@pytest.mark.parametrize("name", SAID)
def test_the_keys_are_kept(name):
    said, *expected = SAID[name]
    for count, activation in zip((1, 3), expected, strict=True):
        if activation in (None, ConfigError):
            continue
        kept = saved_keys(activation, said, count=count)
        assert kept == {key: value for key, value in said.items() if key != "problem_type"}
        # Another activation, chosen for the same model, is the one that is found again.
        others = REGRESSOR_ACTIVATIONS if count == 1 else CLASSIFIER_ACTIVATIONS
        for other in set(others) - {activation}:
            kept = saved_keys(other, said, count=count)
            again = kept | {"problem_type": said.get("problem_type")}
            assert saved_activation("", again, count=count) == other


@pytest.fixture(scope="module")
def one_label(tmp_path_factory):
    """A model with one label, and its logits."""
    keras.utils.set_random_seed(3)
    task = kbz.TextRegressor.from_preset(ASSETS / "bert_gelu", max_length=12)
    random = np.random.default_rng(0)
    task.head.set_weights([random.normal(size=w.shape) for w in task.head.weights])
    folder = tmp_path_factory.mktemp("one") / "label"
    task.save(folder)
    return folder, task.predict_logits(TEXTS)[:, 0]


def changed(folder, target, said):
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    config = {k: v for k, v in config.items() if k != "problem_type"}
    (target / "config.json").write_text(json.dumps(config | said))
    (target / SIDE_FILE).unlink()
    return target


def test_one_label(tmp_path, one_label):
    """0.701 here, where CrossEncoder and the pipeline gave 0.668."""
    folder, logits = one_label
    expected = tf.sigmoid(logits).numpy()
    task = kbz.TextRegressor.load(changed(folder, tmp_path / "theirs", {}), max_length=12)
    np.testing.assert_allclose(task.predict(TEXTS)["score"], expected, atol=1e-6)
    # The graph of the export is this one.
    with as_graphs():
        found = tf.function(task.answer_texts, autograph=False)(tf.constant(TEXTS))["score"]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    # What is measured and minimized is of the score, too.
    assert task.report(TEXTS, expected.tolist()).mean_squared_error < 1e-10
    measured = task.evaluate(TEXTS, expected.tolist(), return_dict=True, verbose=0)
    assert measured["loss"] < 1e-10
    assert measured["mean_absolute_error"] < 1e-5
    # Saved, it is the same.
    task.save(tmp_path / "ours")
    again = kbz.TextRegressor.load(tmp_path / "ours")
    np.testing.assert_allclose(again.predict(TEXTS)["score"], expected, atol=1e-6)


def test_the_activation_can_be_chosen(one_label):
    folder, logits = one_label
    task = kbz.TextRegressor.load(folder, activation="tanh")
    np.testing.assert_allclose(task.predict(TEXTS)["score"], np.tanh(logits), atol=1e-6)
    assert saved_activation("", task.saved_parts().config, count=1) == "tanh"
    with pytest.raises(ConfigError, match="`activation` to be one of 'linear', 'sigmoid', 'tanh'"):
        kbz.TextRegressor(task.encoder, task.tokenizer, task.head, activation="gelu")


def test_several_labels(tmp_path):
    folder = ASSETS / "bert_classifier"
    plain = kbz.TextClassifier.load(folder, max_length=24)
    logits = plain.predict_logits(TEXTS)
    (tmp_path / "theirs").mkdir()
    for file in folder.iterdir():
        shutil.copy(file, tmp_path / "theirs")
    path = tmp_path / "theirs" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | SIGMOID))
    task = kbz.TextClassifier.load(tmp_path / "theirs", max_length=24)
    answers = task.predict(TEXTS)
    np.testing.assert_allclose(answers["scores"], tf.sigmoid(logits), atol=1e-6)
    assert answers["label"].tolist() == plain.predict(TEXTS)["label"].tolist()
    task.save(tmp_path / "ours")
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert config["sentence_transformers"] == SIGMOID["sentence_transformers"]
    side = json.loads((tmp_path / "ours" / SIDE_FILE).read_text())
    (tmp_path / "ours" / SIDE_FILE).write_text(json.dumps(side | {"threshold": [0.5, 0.5]}))
    with pytest.raises(
        CheckpointError, match=r"one number or 3 numbers, one per label, received 2"
    ):
        kbz.TextClassifier.load(tmp_path / "ours")


def test_a_cross_encoder_of_sentence_transformers_6(tmp_path, one_label):
    """It has a modules.json, and the activation in another file."""
    folder = changed(one_label[0], tmp_path / "theirs", {})
    (folder / "modules.json").write_text('[{"type": "x", "path": ""}]')
    config = json.loads((folder / "config.json").read_text())
    assert saved_task_name(folder, config) == "embedding"
    said = {"model_type": "CrossEncoder", "activation_fn": IDENTITY}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(said))
    assert saved_task_name(folder, config) == "regression"
    assert saved_activation(folder, config, count=1) == "linear"
    assert saved_keys("linear", config, count=1)["sentence_transformers"] == {
        "activation_fn": IDENTITY
    }


@pytest.mark.parity
@pytest.mark.parametrize("name", ["nothing", "regression"])
def test_the_pipeline_gives_the_same(tmp_path, one_label, name):
    transformers = pytest.importorskip("transformers")
    folder = changed(one_label[0], tmp_path / "theirs", SAID[name][0])
    task = kbz.TextRegressor.load(folder)
    task.save(tmp_path / "ours")
    for directory in (folder, tmp_path / "ours"):
        theirs = transformers.pipeline("text-classification", model=str(directory))(TEXTS)
        scores = [row["score"] for row in theirs]
        np.testing.assert_allclose(task.predict(TEXTS)["score"], scores, atol=1e-5)
