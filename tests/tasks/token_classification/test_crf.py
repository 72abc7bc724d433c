"""A tagger with a random field, through training and through files."""

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.errors import CheckpointError
from keras_bert_zoo.tasks.registry import load_task
from keras_bert_zoo.training.data import prepared
from tests.tasks.taggers import ENTITIES, TEXTS, hostile, make_task, train


@pytest.mark.slow
def test_a_random_field_learns_is_saved_and_loaded(tmp_path):
    task = make_task(loud=False, crf=True, scheme="IOBES")
    train(task)
    assert task.report(TEXTS, ENTITIES).f1 > 0.9
    task.save(tmp_path / "saved")
    loaded = load_task(tmp_path / "saved")
    assert loaded.scheme == "IOBES"
    assert np.abs(loaded.crf.arrays()[0]).max() > 0
    # Op by op, long texts take long. test_token_classifier.py has them.
    texts = [text for text in hostile(task) if len(text) < 1000]
    again = loaded.answer_rows(texts)
    for name, value in task.answer_rows(texts).items():
        np.testing.assert_array_equal(again[name], value)
    (tmp_path / "saved" / "keras_bert_zoo.safetensors").unlink()
    with pytest.raises(CheckpointError, match="keras_bert_zoo.safetensors"):
        load_task(tmp_path / "saved")


def test_every_weight_receives_a_gradient():
    for crf in (False, True):
        task = make_task(crf=crf)
        task.compile("sgd")
        data = task.rows(*prepared(task, TEXTS, ENTITIES))
        x, y = next(iter(data.batches(batch_size=16)))
        with tf.GradientTape() as tape:
            loss = task.compute_loss(x, y, task(x, training=True))
        gradients = tape.gradient(loss, task.trainable_variables)
        assert all(gradient is not None for gradient in gradients)
        assert crf == any("crf" in v.path for v in task.trainable_variables)
