"""Every encoder family in the graph that serves."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo import EncoderConfig, TextClassifier, WordPieceTokenizer
from keras_bert_zoo.encoders.registry import build_encoder, families
from keras_bert_zoo.export.signatures import build_serving_graph
from keras_bert_zoo.export.verify import hostile_rows
from tests.export.conftest import LABELS, VOCABULARY

ZOO = Path(__file__).parents[1] / "assets/zoo"


def small_config(family):
    """The configuration of a small model that transformers made."""
    for path in sorted(ZOO.glob("*/config.json")):
        config = json.loads(path.read_text("utf-8"))
        if config["model_type"] == family:
            return EncoderConfig.from_huggingface(config | {"vocab_size": len(VOCABULARY)})
    raise AssertionError(f"no golden of {family}")


@pytest.fixture(params=families())
def task(request):
    keras.utils.set_random_seed(3)
    encoder = build_encoder(small_config(request.param), pooled_for="classification")
    for variable in encoder.weights:  # biases too
        variable.assign_add(keras.random.normal(variable.shape, stddev=0.1))
    length = min(20, encoder.config.max_tokens)
    return TextClassifier(encoder, WordPieceTokenizer(VOCABULARY), LABELS, max_length=length)


def test_the_graph_answers_as_python_does(task):
    graph = build_serving_graph(task, dtype="float32", freeze=True, attention_groups=6)
    texts = [text for (text,) in hostile_rows(task)]
    expected = task.predict(texts)["scores"]
    serve = graph.signatures["serving_default"]
    np.testing.assert_allclose(serve(tf.constant(texts))["scores"], expected, atol=1e-5)
    assert np.ptp(expected, axis=0).max() > 1e-4, "outputs must differ between the texts"
    alone = serve(tf.constant(texts[1:2]))["scores"]
    np.testing.assert_allclose(alone, expected[1:2], atol=1e-5)
    assert serve(tf.zeros([0], tf.string))["scores"].shape == (0, len(LABELS))
    assert task.predict([])["scores"].shape == (0, len(LABELS))
