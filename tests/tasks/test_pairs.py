"""Single texts or pairs: a model takes both until training sets which."""

import logging

import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.export import saved_model
from keras_bert_zoo.export.signatures import build_serving_graph
from keras_bert_zoo.export.verify import hostile_rows
from keras_bert_zoo.files import SIDE_FILE
from keras_bert_zoo.tasks.loading import restore_record
from keras_bert_zoo.tasks.registry import TASKS
from tests.helpers import ASSETS, as_graphs

# Made by transformers, like an NLI model: labels no, maybe, yes; no side file.
ELSEWHERE = ASSETS / "bert_classifier"
FIRST, SECOND = ["a b c", "x", ""], ["c b", "y z a b", "a"]
PAIRS = (FIRST, SECOND)


def regressor():
    return kbz.TextRegressor.from_preset(ELSEWHERE, new_head=True, max_length=16)


MAKERS = {
    "classification": lambda: kbz.TextClassifier.load(ELSEWHERE, max_length=16),
    "regression": regressor,
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_model_from_elsewhere_takes_single_texts_and_pairs(name):
    task = MAKERS[name]()
    assert task.pair is None
    logits = {"pair": task.predict_logits(PAIRS), "single": task.predict_logits(FIRST)}
    assert np.abs(logits["pair"] - logits["single"]).max() > 1e-4
    for kind, x in [("pair", PAIRS), ("single", FIRST)] * 2:
        expected = task.answers(tf.constant(logits[kind]))
        with as_graphs():
            got = task.predict(x)
        np.testing.assert_allclose(got["score"], expected["score"], atol=1e-5)
    graphs = dict(task.graphs)
    assert sorted(key[0] for key in graphs) == [1, 2]  # for single texts and for pairs
    assert all(graph.experimental_get_tracing_count() == 1 for graph in graphs.values())
    y = ["no", "yes", "maybe"] if name == "classification" else [0.0, 1.0, 2.0]
    assert all(task.report(x, y).to_dict() for x in (PAIRS, FIRST))
    losses = [task.evaluate(x, y, return_dict=True, verbose=0)["loss"] for x in (PAIRS, FIRST)]
    assert losses[0] != losses[1]
    with pytest.raises(DataError, match="Expected a tuple of two lists for text pairs, received 3"):
        task.predict((FIRST, SECOND, FIRST))
    batches = tf.data.Dataset.from_tensor_slices(PAIRS).batch(2)
    with pytest.raises(DataError, match=r"set `task.pair = True`: two parts might be"):
        task.predict(batches)
    task.pair = True
    np.testing.assert_allclose(
        task.predict(batches)["score"], task.predict(PAIRS)["score"], atol=1e-6
    )
    np.testing.assert_allclose(task.predict_logits(batches), logits["pair"], atol=1e-5)


def test_a_trained_model_only_takes_the_kind_of_its_training_texts(tmp_path):
    task = MAKERS["classification"]()
    task.save(tmp_path / "unknown")
    assert "pair" not in (tmp_path / "unknown" / SIDE_FILE).read_text()
    assert kbz.TextClassifier.load(tmp_path / "unknown").pair is None
    task.fit(FIRST, ["no", "yes", "no"], epochs=1, verbose=0)
    assert task.pair is False
    task.save(tmp_path / "single")
    task = kbz.TextClassifier.load(tmp_path / "single")
    assert task.pair is False
    y = ["no", "yes", "no"]
    for ask in (task.predict, task.predict_logits):
        with pytest.raises(DataError, match="Expected single texts for a model .* received pairs"):
            ask(PAIRS)
    for measure in (task.evaluate, task.report):
        with pytest.raises(DataError, match="Expected single texts for a model .* received pairs"):
            measure(PAIRS, y)
    task.pair = True
    for ask in (task.predict, task.predict_logits):
        with pytest.raises(DataError, match="Expected pairs of texts, a tuple of two lists, for"):
            ask(FIRST)
    with pytest.raises(DataError, match=r"received single texts.*set `task.pair = None`"):
        task.evaluate(tf.data.Dataset.from_tensor_slices((FIRST, y)).batch(2))
    task.pair = None
    assert len(task.predict(FIRST)["label"]) == len(task.predict(PAIRS)["label"]) == 3


def test_side_files_of_earlier_versions():
    """They also have False for models without training."""
    task = MAKERS["classification"]()
    for side, pair in [
        ({}, None),
        ({"pair": False, "training": {}}, None),
        ({"pair": False, "training": {"epochs": 1}}, False),
        ({"pair": True, "training": {}}, True),
    ]:
        restore_record(task, side)
        assert task.pair is pair


def test_every_task_says_whether_it_takes_pairs():
    takes = {name: task.spec.pairs for name, task in TASKS.items()}
    assert {name for name, pairs in takes.items() if pairs is None} == set(MAKERS)
    always = {name for name, pairs in takes.items() if pairs}
    assert always == {"next-sentence", "question-answering"}


def test_an_export_of_pairs(tmp_path):
    task = MAKERS["classification"]()
    export = task.export(tmp_path / "model", pair=True)  # compared without this package
    assert export.texts == len(hostile_rows(task, pair=True))
    assert task.pair is None
    serve = tf.saved_model.load(str(export.path)).signatures["serving_default"]
    got = serve(text=tf.constant(FIRST), text_pair=tf.constant(SECOND))
    np.testing.assert_allclose(got["score"], task.predict(PAIRS)["score"], atol=1e-5)


def test_the_graph_of_a_regressor_of_pairs():
    task = regressor()
    options = {"dtype": "float32", "freeze": True, "attention_groups": 1}
    serve = build_serving_graph(task, pair=True, **options).signatures["serving_default"]
    got = serve(text=tf.constant(FIRST), text_pair=tf.constant(SECOND))
    np.testing.assert_allclose(got["score"], task.predict(PAIRS)["score"], atol=1e-5)


def test_an_export_warns_if_pairs_are_likely(caplog):
    task = MAKERS["classification"]()
    with caplog.at_level(logging.WARNING, "keras_bert_zoo"):
        saved_model.check_pair(task, None)
    assert "The export takes single texts, but the model may have been trained on" in caplog.text
    assert "pair=True, or --pairs on the command line" in caplog.text
    caplog.clear()
    task.pair = True
    with caplog.at_level(logging.WARNING, "keras_bert_zoo"):
        saved_model.check_pair(task, None)
        saved_model.check_pair(task, True)
        assert not caplog.text
        saved_model.check_pair(task, False)
    assert "takes single texts, but this model was trained on pairs of texts" in caplog.text
    with pytest.raises(ConfigError, match="`pair` to be True, False or None, received 'yes'"):
        saved_model.check_pair(task, "yes")
    reader = kbz.QuestionAnswerer.load(ASSETS / "question_answering")
    with pytest.raises(ConfigError, match="QuestionAnswerer takes question and context"):
        saved_model.check_pair(reader, False)
    saved_model.check_pair(reader, None)
