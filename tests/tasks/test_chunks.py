"""Large batches are computed in chunks."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.tasks import chunks
from keras_bert_zoo.tasks.chunks import run_in_chunks
from tests.helpers import ASSETS
from tests.tasks.every_task import make


@pytest.fixture
def bound(monkeypatch):
    monkeypatch.setattr(chunks, "TOKENS_AT_ONCE", 20)


def model(inputs):
    """Returns a nested structure of outputs with one or more dimensions."""
    x = inputs["x"]
    return {
        "rows": tf.reduce_sum(x, axis=list(range(1, x.shape.rank))),
        "more": [tf.stack([x, -x], axis=-1), tf.strings.as_string(x)],
    }


@pytest.mark.parametrize("shape", [(0, 4), (1, 4), (5, 4), (17, 4), (3, 50), (7, 2, 3), (4, 0)])
def test_chunks_are_joined(bound, shape):
    x = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    sizes = []

    def counted(inputs):
        sizes.append(inputs["x"].shape[0])
        return model(inputs)

    cost = int(np.prod(shape[1:]))
    expected = model({"x": tf.constant(x)})
    eager = run_in_chunks(counted, {"x": tf.constant(x)}, tf.constant(cost))
    assert sum(sizes) == max(shape[0], 1)  # an empty batch is a row of padding
    assert all(size == 1 or size * cost <= 20 for size in sizes if size)

    @tf.function(input_signature=[tf.TensorSpec([None] * len(shape), tf.int32)], autograph=False)
    def in_graph(x):
        inputs = {"x": x}
        return run_in_chunks(model, inputs, tf.reduce_prod(tf.shape(x)[1:]))

    for got in (eager, in_graph(x)):
        tf.nest.map_structure(np.testing.assert_array_equal, expected, got)
    assert in_graph.get_concrete_function().structured_outputs["rows"].shape.rank == 1


@pytest.mark.parametrize(
    ("attended", "sizes"), [(2, [6]), (3, [3, 3]), (4, [2] * 3), (100, [1] * 6)]
)
def test_rows_with_more_tokens_are_in_smaller_chunks(attended, sizes, monkeypatch):
    monkeypatch.setattr(chunks, "SCORES_AT_ONCE", 32)
    mask = np.arange(100) < attended
    inputs = {"padding_mask": tf.constant(np.tile(mask.astype(np.int32), [6, 1]))}
    computed = []

    def rows(inputs):
        computed.append(inputs["padding_mask"].shape[0])
        return tf.reduce_sum(inputs["padding_mask"], axis=1)

    assert run_in_chunks(rows, inputs, tf.constant(1)).numpy().tolist() == [attended] * 6
    assert computed == sizes


def test_the_model_is_in_the_graph_once():
    @tf.function(input_signature=[tf.TensorSpec([None, 3])], autograph=False)
    def in_graph(x):
        weights = tf.constant(np.ones([3, 50], np.float32))
        return run_in_chunks(lambda inputs: inputs["x"] @ weights, {"x": x}, tf.constant(3))

    graph = in_graph.get_concrete_function().graph.as_graph_def()
    nodes = [node for function in graph.library.function for node in function.node_def]
    assert sum(node.op == "MatMul" for node in [*graph.node, *nodes]) == 1


def test_a_large_batch_is_many_chunks(bound):
    task = kbz.TextClassifier.load(ASSETS / "bert_classifier", max_length=8)
    sizes = []

    def run(inputs):
        sizes.append(len(inputs["token_ids"]))
        return task.respond(inputs)

    texts = tf.constant([f"a b {'c ' * (i % 7)}" for i in range(9)])
    answers = task.answer_with([lambda x: run_in_chunks(run, x, task.row_cost(x))], texts)
    assert sizes == [2, 2, 2, 2, 1]
    expected = task.predict([text.decode() for text in texts.numpy()])
    np.testing.assert_allclose(answers["scores"], expected["scores"], atol=1e-6)


def test_rows_cost_more_than_their_tokens(monkeypatch):
    """Translations, logits of masks and similarities need further memory."""
    inputs = {"token_ids": tf.zeros([2, 5], tf.int32), "mask_positions": tf.zeros([2, 3], tf.int32)}
    masked = make("masked-lm")[0]
    assert int(masked.row_cost(inputs)) == 5
    monkeypatch.setattr(
        masked.encoder, "config", replace(masked.encoder.config, vocabulary_size=30522)
    )
    assert int(masked.row_cost(inputs)) == 5 + 3 * 30
    search = make("embedding")[0].index(["a", "b"])
    assert int(search.row_cost(inputs)) == 5
    monkeypatch.setattr(search.head, "corpus", np.zeros([40_000, 1]))
    assert int(search.row_cost(inputs)) == 5 + 40
    translator = kbz.Translator.from_preset(ASSETS / "translator")
    inputs = {"token_ids": tf.zeros([2, 5], tf.int32)}
    beams = translator.num_beams * translator.max_target_length
    assert int(translator.row_cost(inputs)) == 5 + beams
    reader = kbz.QuestionAnswerer.load(ASSETS / "question_answering")
    assert int(reader.row_cost(inputs)) == 5
    inputs = {"token_ids": tf.zeros([2, 4, 5], tf.int32)}  # groups, as in multiple choice
    assert int(reader.row_cost(inputs)) == 20
