"""Keras conventions: .keras files, configs, copies, and datasets for custom loops."""

import copy
import importlib
import json
import os
import pickle
import pkgutil
import shutil
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo import keras_registration
from keras_bert_zoo.errors import BertZooError, CheckpointError, ConfigError
from keras_bert_zoo.training.contrastive import make_loss
from keras_bert_zoo.training.optimizers import AdamW
from tests.checks import check_equal, check_task
from tests.helpers import ASSETS
from tests.tasks.every_task import EVERY_TASK, OTHERS, TEXTS, TRAINED, make


def few(values, *chosen):
    """Marks all values but the chosen ones as slow."""
    return [v if v in chosen else pytest.param(v, marks=pytest.mark.slow) for v in values]


LOAD_ALL = """
import importlib.util, json, os, sys
import numpy as np
import keras_bert_zoo  # registers its models with Keras
importlib.util.find_spec("keras")  # the usual question whether Keras is installed
import keras

child = os.fork()  # both processes start to load without the modules that the other one needs
if child == 0:
    for path in sys.argv[2:]:
        keras.models.load_model(path)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0

from tests.helpers import eagerly

with eagerly():
    for path, texts in json.loads(sys.argv[1]).items():
        texts = tuple(texts) if isinstance(texts[0], list) else texts
        answers = keras.models.load_model(path).predict(texts)
        np.savez(path + ".npz", **{k: v.astype(str) if v.dtype == object else v
                                   for k, v in answers.items()})
"""


def questions_for(name):
    """Returns 100 examples for `predict`."""
    texts = [f"{a} {b}" for a in (TEXTS * 2)[:10] for b in (OTHERS * 2)[:10]]
    if name == "multiple-choice":
        return texts, [["a", "x y", "z"]] * 100
    if name in ("question-answering", "next-sentence", "regression"):
        return texts, texts[::-1]
    if name == "relations":
        return [f"<e1>{text}</e1> <e2>{text}</e2>" for text in texts]
    return texts


FEW_TASKS = ["token-classification crf", "multiple-choice", "open-domain-question-answering"]


@pytest.mark.parametrize("names", [FEW_TASKS, pytest.param([*EVERY_TASK], marks=pytest.mark.slow)])
def test_models_load_and_tasks_have_equal_answers_in_a_new_process(tmp_path, names):
    encoder = kbz.Encoder.from_preset(ASSETS / "bert_classifier")
    whole = keras.Model(encoder.input, keras.layers.Dense(2)(encoder.output["sequence_output"]))
    encoder.compile(AdamW(1e-3), loss="mse")
    models = {str(tmp_path / "encoder.keras"): encoder, str(tmp_path / "whole.keras"): whole}
    for path, model in models.items():
        model.save(path)
    questions, expected = {}, {}
    for name in names:
        path = str(tmp_path / f"{name.replace(' ', '_')}.keras")
        task, _, _ = make(name)
        task.save(path)
        questions[path] = questions_for(name)
        expected[path] = task.predict(questions[path])
    arguments = [json.dumps(questions), *models]
    subprocess.run([sys.executable, "-c", LOAD_ALL, *arguments], check=True)
    for path, answers in expected.items():
        found = np.load(path + ".npz")
        for key, values in answers.items():
            where = f"{path} {key}"
            if values.dtype == np.float32:  # threads change the order of sums
                np.testing.assert_allclose(found[key], values, rtol=1e-6, atol=1e-6, err_msg=where)
            else:
                values = values.astype(str) if values.dtype == object else values
                np.testing.assert_array_equal(found[key], values, err_msg=where)


@pytest.mark.parametrize("name", EVERY_TASK)
def test_every_task_is_saved_and_rebuilt(name, tmp_path):
    texts = questions_for(name)
    pairs = isinstance(texts, tuple)
    check_task(make(name)[0], tuple(t[:9] for t in texts) if pairs else texts[:9], tmp_path)


def encoders():
    encoder = kbz.Encoder.from_preset(ASSETS / "bert_classifier")
    encoder.freeze(1)
    yield encoder
    with_lora = kbz.Encoder.from_preset(ASSETS / "bert_classifier", token_layout="padded")
    kbz.add_lora(with_lora, rank=2, alpha=3.0, dropout=0.1)
    for layer in with_lora.blocks[0]._flatten_layers():
        if getattr(layer, "lora_b", None) is not None:
            layer.lora_b.assign(np.ones(layer.lora_b.shape))
    yield with_lora
    yield kbz.HeadedModel.from_preset(ASSETS / "bert_classifier")
    yield kbz.HeadedModel.from_preset(ASSETS / "zoo" / "bert-masked_lm+next_sentence-relu")


def outputs_of(model):
    ids = np.array([[2, 5, 6, 3], [2, 7, 3, 0]], np.int32)
    inputs = {"token_ids": ids, "segment_ids": ids * 0, "padding_mask": (ids > 0).astype("int32")}
    return [np.asarray(output) for output in keras.tree.flatten(model(inputs))]


def test_encoders_and_headed_models(tmp_path):
    for index, model in enumerate(encoders()):
        model.save(tmp_path / f"{index}.keras")
        again = keras.models.load_model(tmp_path / f"{index}.keras")
        assert type(again) is type(model)
        for found, expected in zip(outputs_of(again), outputs_of(model), strict=True):
            np.testing.assert_array_equal(found, expected)
        trainable = [(weight.path, weight.trainable) for weight in again.weights]
        assert trainable == [(weight.path, weight.trainable) for weight in model.weights]
        assert (again.tokenizer is None) == (model.tokenizer is None)
    with_lora = keras.models.load_model(tmp_path / "1.keras")
    expected = outputs_of(with_lora)
    kbz.merge_lora(with_lora)
    assert all(weight.trainable for weight in with_lora.weights)
    for found, value in zip(outputs_of(with_lora), expected, strict=True):
        np.testing.assert_allclose(found, value, atol=1e-6)


FAMILIES = sorted((ASSETS / "zoo").glob("*-encoder-plain")) + [
    ASSETS / "zoo" / f"{name}-encoder-{variant}"
    for name, variant in (
        ("albert", "inner"), ("camembert", "padding_5"), ("deberta_v2", "v3"),
        ("distilbert", "one_head"), ("ernie", "tasks"), ("mobilebert", "layer_norm"),
        ("mpnet", "ignored"), ("roberta", "padding_5"), ("roformer", "values"),
    )
]  # fmt: skip


@pytest.mark.parametrize("folder", few(FAMILIES, *FAMILIES[:3]), ids=lambda folder: folder.name)
def test_an_encoder_inside_another_model(tmp_path, folder):
    encoder = kbz.Encoder.from_preset(folder)
    states = keras.layers.Dense(2)(encoder.output["sequence_output"])
    whole = keras.Model(encoder.input, states)  # with all layers of the encoder
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in encoder.input}
    nested = keras.Model(inputs, keras.layers.Dense(2)(encoder(inputs)["sequence_output"]))
    for model in (whole, nested):
        model.save(tmp_path / "user.keras")
        again = keras.models.load_model(tmp_path / "user.keras")
        np.testing.assert_array_equal(outputs_of(again)[0], outputs_of(model)[0])


def test_copies_have_the_same_weights_and_clones_have_new_ones():
    task, _, _ = make("classification")
    for duplicate in (copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))):
        for found, weight in zip(duplicate(task).get_weights(), task.get_weights(), strict=True):
            np.testing.assert_array_equal(found, weight)
    clone = keras.models.clone_model(task)  # only the graph, as for any functional model
    assert [w.shape for w in clone.weights] == [w.shape for w in task.weights]
    assert not np.array_equal(clone.get_weights()[0], task.get_weights()[0])
    with pytest.raises(ConfigError, match="shares the token embedding has no config without it"):
        keras.models.clone_model(make("masked-lm")[0])
    config = keras.saving.serialize_keras_object(task)
    again = keras.saving.deserialize_keras_object(json.loads(json.dumps(config)))
    assert again.labels == task.labels
    lines = []
    task.summary(print_fn=lambda line, **_: lines.append(line))
    assert "text_classifier" in "\n".join(lines)


def test_the_best_epoch_is_saved_and_training_continues(tmp_path):
    task, x, y = make("classification")
    task.compile(AdamW(0.01), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    best = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.keras", monitor="val_loss", save_best_only=True
    )
    history = task.fit(x, y, validation_data=(x, y), epochs=3, callbacks=[best], verbose=0)
    again = keras.models.load_model(tmp_path / "best.keras")
    losses = history.history["val_loss"]
    epoch = int(np.argmin(losses))
    assert again.evaluate(x, y, verbose=0, return_dict=True)["loss"] == pytest.approx(
        losses[epoch], rel=1e-5
    )
    assert int(again.optimizer.iterations) == epoch + 1
    moments = [v for v in again.optimizer.variables if "momentum" in v.path]
    assert any(np.abs(v.numpy()).max() > 0 for v in moments)
    again.fit(x, y, epochs=1, verbose=0)
    assert int(again.optimizer.iterations) == epoch + 2


@pytest.mark.parametrize(
    "name",
    few(
        TRAINED,
        "classification",
        "token-classification crf",
        "embedding scored",
        "masked-lm",
        "translation",
    ),
)
def test_keras_fit_takes_the_result_of_make_dataset(name):
    task, x, y = make(name)
    task.compile(AdamW(0.01), loss=make_loss("cosent") if name == "embedding scored" else None)
    dataset = task.make_dataset(x, y, batch_size=4)
    assert int(dataset.cardinality()) == len(list(dataset))
    before = task.get_weights()
    keras.Model.fit(task, dataset, epochs=1, verbose=0, shuffle=False)
    assert any(not np.array_equal(a, b) for a, b in zip(before, task.get_weights(), strict=True))


def test_directories_load_whatever_their_name(tmp_path):
    task, x, _ = make("classification")
    task.save(tmp_path / "saved")
    for name in ("model.h5", "model.keras"):
        shutil.copytree(tmp_path / "saved", tmp_path / name)
        check_equal(kbz.TextClassifier.load(tmp_path / name).predict(x), task.predict(x))


def test_a_custom_training_loop():
    task, x, y = make("classification")
    loss, optimizer = keras.losses.SparseCategoricalCrossentropy(from_logits=True), AdamW(0.01)
    losses = []
    dataset = task.make_dataset(x, y, batch_size=7)
    for _ in range(3):
        for inputs, labels in dataset:
            with tf.GradientTape() as tape:
                value = loss(labels, task(inputs, training=True))
            gradients = tape.gradient(value, task.trainable_weights)
            optimizer.apply(gradients, task.trainable_weights)
            losses.append(float(value))
    assert losses[-1] < losses[0]
    orders = [
        [labels.numpy().tolist() for _, labels in task.make_dataset(x, y, batch_size=2, **options)]
        for options in ({"seed": 0}, {"seed": 0}, {"seed": 1}, {"shuffle": False})
    ]
    assert orders[0] == orders[1] != orders[2]
    assert orders[3] == [[0, 1], [0, 1], [0, 1], [0]]
    weighted = task.make_dataset(x, y, sample_weight=[2.0] * 7, class_weight={"xyz": 3.0})
    weights = sorted(float(w) for _, _, batch in weighted for w in batch)
    assert weights == [2.0] * 4 + [6.0] * 3


def test_a_failed_save_leaves_the_earlier_file(tmp_path, monkeypatch):
    task, _, _ = make("classification")
    path = tmp_path / "model.keras"
    path.write_bytes(b"precious")
    with pytest.raises(CheckpointError, match="exists, and `overwrite` is False"):
        task.save(path, overwrite=False)
    with monkeypatch.context() as patch:
        patch.setattr(keras.saving, "save_model", lambda *_: (_ for _ in ()).throw(OSError("full")))
        with pytest.raises(CheckpointError, match=r"Cannot write .*model\.keras.*full"):
            task.save(path)
    assert path.read_bytes() == b"precious"
    assert os.listdir(tmp_path) == ["model.keras"]
    for model in (task, task.encoder):
        with pytest.raises(ConfigError, match=r"Expected a directory or a \.keras file, .*x\.h5"):
            model.save(tmp_path / "x.h5")


def test_load_takes_files_and_refuses_damaged_ones(tmp_path):
    task, _, _ = make("classification")
    path = tmp_path / "model.keras"
    task.save(path)
    assert kbz.TextClassifier.load(path).labels == task.labels
    with pytest.raises(CheckpointError, match="Expected a TextRegressor in .* a TextClassifier"):
        kbz.TextRegressor.load(path)
    with pytest.raises(ConfigError, match=r"Expected no options for a \.keras file.*max_length"):
        kbz.TextClassifier.load(path, max_length=9)
    with pytest.raises(CheckpointError, match="No file"):
        kbz.TextClassifier.load(tmp_path / "missing.keras")
    (tmp_path / "cut.keras").write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"cut\.keras' cannot be loaded"):
        kbz.TextClassifier.load(tmp_path / "cut.keras")
    config = json.loads(zipfile.ZipFile(path).read("config.json"))["config"]
    for change, error, message in (
        ({"labels": 3}, ConfigError, "unexpected: labels"),
        ({"tokenizer": {"../evil": ""}}, CheckpointError, "without a directory"),
        ({"tokenizer": {"vocab.txt": "base64:?"}}, CheckpointError, "damaged"),
        ({"tokenizer": []}, CheckpointError, "Expected a dict of files"),
        ({"head": {}}, ConfigError, "Expected the config of a head"),
        ({"family": "gpt"}, ConfigError, "Expected the family to be one of .*'gpt'"),
        ({"options": {"x": 1}}, ConfigError, "unexpected: x"),
    ):
        with pytest.raises(error, match=message):
            kbz.TextClassifier.from_config(config | change)


def test_all_classes_are_known_to_load_model():
    for _, module, _ in pkgutil.walk_packages(kbz.__path__, "keras_bert_zoo."):
        if module != "keras_bert_zoo.__main__":
            importlib.import_module(module)
    objects = keras.saving.get_custom_objects().items()
    classes = {
        name: cls
        for name, cls in objects
        if name.startswith("keras_bert_zoo>") and cls.__module__.startswith("keras_bert_zoo.")
    }  # without the subclasses of other tests
    listed = {
        name: f"keras_bert_zoo.{module}"
        for module, names in keras_registration.CLASSES.items()
        for name in names.split()
    }
    assert {f"keras_bert_zoo>{name}" for name in listed} == set(classes)
    assert all(classes[f"keras_bert_zoo>{n}"].__module__ == m for n, m in listed.items())


def test_options_that_were_set_are_in_the_file(tmp_path):
    tagger = make("token-classification")[0]
    tagger.legal_only = False
    tagger.max_length = np.int64(8)
    asked = make("question-answering")[0]
    asked.null_threshold = np.float32(-0.5)
    for index, (task, texts) in enumerate(((tagger, TEXTS), (asked, (TEXTS, OTHERS)))):
        expected = task.predict(texts)
        task.save(tmp_path / f"{index}.keras")
        check_equal(keras.models.load_model(tmp_path / f"{index}.keras").predict(texts), expected)
    with pytest.raises(ConfigError, match="`max_length` must be from 3 to"):
        tagger.max_length = 1000
    with pytest.raises(ConfigError, match="`legal_only` cannot be set"):
        make("token-classification nested")[0].legal_only = True


def test_classes_of_losses_and_metrics_are_saved(tmp_path):
    task, x, y = make("classification")
    loss, metric = (
        keras.losses.SparseCategoricalCrossentropy,
        keras.metrics.SparseCategoricalAccuracy,
    )
    task.compile("sgd", loss=loss, metrics=[metric], weighted_metrics=[metric])
    task.save(tmp_path / "x.keras")
    again = keras.models.load_model(tmp_path / "x.keras")
    results = [t.evaluate(x, y, verbose=0, return_dict=True) for t in (task, again)]
    assert results[0] == pytest.approx(results[1])


@pytest.mark.parametrize(
    "change",
    [
        {"frozen": ["nothing/kernel"]},
        {"frozen": 5},
        {"name": {}},
        {"pair": "yes"},
        {"training_record": 3},
        {"options": {"max_length": "x", "threshold": 0.5}},
        {"family": ["bert"]},
        {"head": {"registered_name": "keras_bert_zoo>convert_checkpoint", "config": {}}},
    ],
)
def test_a_damaged_config_is_one_clear_error(change):
    config = make("classification")[0].get_config() | change
    with pytest.raises(BertZooError) as raised:
        kbz.TextClassifier.from_config(config)
    assert "\n" not in str(raised.value)
