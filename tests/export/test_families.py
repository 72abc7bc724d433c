"""Every encoder family in the graph that serves."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo import EncoderConfig, TextClassifier
from keras_bert_zoo.encoders.registry import build_encoder, families
from keras_bert_zoo.export import signatures
from keras_bert_zoo.export.verify import hostile_rows
from tests.export.conftest import LABELS, VOCABULARY
from tests.helpers import eagerly

ZOO = Path(__file__).parents[1] / "assets/zoo"


def small_config(family):
    """The configuration of a small model that transformers made."""
    for path in sorted(ZOO.glob("*/config.json")):
        config = json.loads(path.read_text("utf-8"))
        if config["model_type"] == family:
            return EncoderConfig.from_huggingface(config | {"vocab_size": len(VOCABULARY)})
    raise AssertionError(f"no golden of {family}")


def small_task(family, tokenizer):
    """A classifier with a small random encoder of a family."""
    keras.utils.set_random_seed(3)
    encoder = build_encoder(small_config(family), pooled_for="classification")
    for variable in encoder.weights:  # biases too
        variable.assign_add(keras.random.normal(variable.shape, stddev=0.1))
    length = min(20, encoder.config.max_tokens)
    return TextClassifier(encoder, tokenizer, LABELS, max_length=length)


@pytest.fixture(params=families())
def task(request, tokenizer):
    return small_task(request.param, tokenizer)


def test_the_graph_answers_as_python_does(task):
    """The graph on token ids. The signatures around it are equal for all families."""
    stage = signatures._Stage(task, dtype="float32", freeze=True, attention_groups=2)

    def serve(texts):
        return task.answer_with([stage.run], texts, options=task.options)["scores"]

    texts = [text for (text,) in hostile_rows(task)]
    with eagerly():
        expected = task.predict(texts)["scores"]
        assert task.predict([])["scores"].shape == (0, len(LABELS))
    np.testing.assert_allclose(serve(tf.constant(texts)), expected, atol=1e-5)
    assert np.ptp(expected, axis=0).max() > 1e-4, "outputs must differ between the texts"
    np.testing.assert_allclose(serve(tf.constant(texts[1:2])), expected[1:2], atol=1e-5)
    assert serve(tf.zeros([0], tf.string)).shape == (0, len(LABELS))
