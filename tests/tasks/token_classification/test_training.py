"""A tagger through training and through files."""

import json

import numpy as np

import keras_bert_zoo as kbz
from keras_bert_zoo.tasks.registry import load_task
from tests.tasks.taggers import ENTITIES, TEXTS, hostile, make_task, train


def test_training_learns_saves_and_loads(tmp_path):
    task = make_task(loud=False)
    history = train(task, validation_data=(TEXTS, ENTITIES), validation_freq=6).history
    assert len(history["val_f1"]) == 2
    assert {"val_f1", "val_precision", "val_recall", "val_accuracy"} <= history.keys()
    assert task.report(TEXTS, ENTITIES).f1 == max(history["val_f1"]) > 0.9
    task.save(tmp_path / "saved")
    loaded = load_task(tmp_path / "saved")
    assert isinstance(loaded, kbz.TokenClassifier)
    assert (loaded.scheme, loaded.stride, loaded.max_length) == (task.scheme, task.stride, 16)
    # Op by op, long texts take long. test_token_classifier.py has them.
    texts = [text for text in hostile(task) if len(text) < 1000]
    again = loaded.answer_rows(texts)
    for name, value in task.answer_rows(texts).items():
        np.testing.assert_array_equal(again[name], value)
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["architectures"] == ["BertForTokenClassification"]
    assert list(config["id2label"].values()) == task.tags


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
