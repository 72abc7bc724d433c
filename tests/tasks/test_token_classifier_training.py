"""A tagger through training and through files."""

import json

import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.errors import CheckpointError
from keras_bert_zoo.tasks.registry import load_task
from tests.tasks.taggers import ENTITIES, TEXTS, hostile, make_task, train


@pytest.mark.parametrize("options", [{}, {"crf": True, "scheme": "IOBES"}])
def test_training_learns_saves_and_loads(tmp_path, options):
    task = make_task(loud=False, **options)
    train(task)
    history = train(
        task, epochs=1, learning_rate=1e-6, batch_size=8, validation_data=(TEXTS, ENTITIES)
    )
    assert {"val_f1", "val_precision", "val_recall", "val_accuracy"} <= history.history.keys()
    assert task.report(TEXTS, ENTITIES).f1 == history.history["val_f1"][0] > 0.9
    task.save(tmp_path / "saved")
    loaded = load_task(tmp_path / "saved")
    assert isinstance(loaded, kbz.TokenClassifier)
    assert (loaded.scheme, loaded.stride, loaded.max_length) == (task.scheme, task.stride, 16)
    texts = hostile(task)
    for name, value in task.answer_rows(texts).items():
        np.testing.assert_array_equal(loaded.answer_rows(texts)[name], value)
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["architectures"] == ["BertForTokenClassification"]
    assert list(config["id2label"].values()) == task.tags
    if "crf" in options:
        assert np.abs(loaded.crf.arrays()[0]).max() > 0
        (tmp_path / "saved" / "keras_bert_zoo.safetensors").unlink()
        with pytest.raises(CheckpointError, match="keras_bert_zoo.safetensors"):
            load_task(tmp_path / "saved")


def test_every_weight_receives_a_gradient():
    for crf in (False, True):
        task = make_task(crf=crf)
        task.compile("sgd")
        data = task._labelled_rows(*task._prepared(TEXTS, ENTITIES))
        x, y = next(iter(task._batches(data, batch_size=16)))
        with tf.GradientTape() as tape:
            loss = task.compute_loss(x, y, task(x, training=True))
        gradients = tape.gradient(loss, task.trainable_variables)
        assert all(gradient is not None for gradient in gradients)
        assert crf == any("crf" in v.path for v in task.trainable_variables)


def test_a_head_from_elsewhere_is_loaded(tmp_path):
    task = make_task()
    task.save(tmp_path / "saved")
    (tmp_path / "saved" / "keras_bert_zoo.json").unlink()
    loaded = load_task(tmp_path / "saved")
    assert loaded.tags == task.tags
    assert not loaded.legal_only
    assert kbz.TokenClassifier.load(tmp_path / "saved", legal_only=True).legal_only
    relabelled = kbz.TokenClassifier.from_preset(tmp_path / "saved", labels=["A"], scheme="IOBES")
    assert relabelled.tags == ["O", "B-A", "I-A", "E-A", "S-A"]
