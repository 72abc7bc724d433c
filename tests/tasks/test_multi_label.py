"""A threshold for each label: tuning, saving, export and answers."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.export.verify import compare_answers, hostile_rows
from keras_bert_zoo.files import SIDE_FILE
from keras_bert_zoo.metrics.thresholds import tune_thresholds
from tests.helpers import ASSETS

TINY = ASSETS / "bert_gelu"
LABELS = ["a", "b", "c"]
TEXTS = ["a b c", "x y", "c b a", "y", "b c", "x y z", "a", "z y x"]
TARGETS = [["a"], ["b"], [], ["a", "b"], ["c"], ["b"], ["a"], []]


def make_task(**options):
    keras.utils.set_random_seed(0)
    return kbz.TextClassifier.from_preset(
        TINY, **{"labels": LABELS, "multi_label": True, "max_length": 12} | options
    )


def test_labels_that_reach_their_threshold_come_first():
    task = make_task(threshold=[0.99, 0.9, 0.1])
    logits = tf.constant([[4.0, 3.0, -1.0], [9.0, -9.0, -9.0], [-9.0, -9.0, -9.0]])
    answers = {name: value.numpy() for name, value in task.answers(logits).items()}
    probabilities = 1 / (1 + np.exp(-logits.numpy()))
    # The most probable label of row 0 does not apply: 0.982 is below its threshold 0.99.
    assert answers["label"].tolist() == [[b"b", b"c", b""], [b"a", b"", b""], [b"", b"", b""]]
    np.testing.assert_allclose(answers["score"][0], probabilities[0][[1, 2, 0]], rtol=1e-5)
    np.testing.assert_allclose(answers["scores"], probabilities, rtol=1e-5)


def test_tuned_thresholds_are_used_and_saved(tmp_path):
    task = make_task()
    before = task.predict(TEXTS)  # traces a graph with the old threshold
    found = task.tune_thresholds(TEXTS, TARGETS)
    true = [[label in labels for label in LABELS] for labels in TARGETS]
    np.testing.assert_allclose(found, tune_thresholds(np.array(true), before["scores"]), atol=1e-5)
    assert task.threshold == tuple(found)
    after = task.predict(TEXTS)
    for index, labels in enumerate(after["label"]):
        applies = {name for name, s, t in zip(LABELS, after["scores"][index], found, strict=True)
                   if s >= t}  # fmt: skip
        assert set(labels) - {""} == applies
    decided = np.array([[name in labels for name in LABELS] for labels in after["label"]])
    report = task.report(TEXTS, TARGETS)
    assert report.subset_accuracy == (decided == np.array(true)).all(axis=1).mean()
    task.save(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / SIDE_FILE).read_text())["threshold"] == found
    assert kbz.TextClassifier.load(tmp_path / "saved").threshold == tuple(found)
    assert kbz.TextClassifier.load(tmp_path / "saved", threshold=0.5).threshold == 0.5


def test_a_single_label_is_saved_and_loaded(tmp_path):
    task = make_task(labels=["p"])
    task.save(tmp_path / "saved")
    path = tmp_path / "saved" / "config.json"
    # Scores come from a sigmoid, even if the config has the activation of another library.
    tanh = {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Tanh"}}
    for said in ({}, tanh):
        path.write_text(json.dumps(json.loads(path.read_text()) | said))
        again = kbz.TextClassifier.load(tmp_path / "saved")
        assert (again.labels, again.multi_label) == (["p"], True)
        logits = tf.constant([[3.0], [-1.0]])
        np.testing.assert_allclose(again.answers(logits)["scores"], tf.sigmoid(logits))
    assert again.saved_parts().config["sentence_transformers"] == tanh["sentence_transformers"]
    with pytest.raises(ConfigError, match=r"needs at least one label, received \[\]"):
        kbz.TextClassifier(task.encoder, task.tokenizer, [], multi_label=True)


def test_invalid_thresholds_and_labels_are_refused():
    with pytest.raises(ConfigError, match="multi_label=True"):
        kbz.TextClassifier.from_preset(TINY, labels=LABELS).tune_thresholds(TEXTS, ["a"] * 8)
    with pytest.raises(ConfigError, match="3 numbers, one per label, received 2"):
        make_task(threshold=[0.5, 0.5])
    task = make_task()
    with pytest.raises(ConfigError, match=r"`threshold\['c'\]` to be .*, received 1.0"):
        task.threshold = [0.5, 0.5, 1.0]
    with pytest.raises(DataError, match=r"dev.tsv:7.*'d'|'d'.*dev.tsv:7"):
        task.tune_thresholds(Examples(["x"], labels=[["d"]], rows=[7], path="dev.tsv"))


def test_only_rounding_may_move_a_score_over_its_threshold():
    task = make_task(threshold=[0.3, 0.5, 0.7])

    def answer(*probabilities):
        logits = np.log(np.array([probabilities]) / (1 - np.array([probabilities])))
        answers = task.answers(tf.constant(logits, tf.float32))
        return {name: value.numpy()[0] for name, value in answers.items()}

    kept, lost = answer(0.3 + 1e-6, 0.6, 0.65), answer(0.3 - 1e-6, 0.6, 0.65)
    assert kept["label"].tolist() != lost["label"].tolist()
    assert task.answer_difference(kept, lost, 1e-5) == pytest.approx(2e-6, abs=1e-6)
    assert task.answer_difference(answer(0.35, 0.6, 0.65), answer(0.25, 0.6, 0.65), 1e-5) is None


@pytest.mark.slow
def test_the_export_has_the_thresholds(tmp_path):
    task = make_task()
    texts = [text for (text,) in hostile_rows(task)]
    scores = task.predict(texts)["scores"]
    task.threshold = np.median(scores, axis=0).tolist()
    export = task.export(tmp_path / "export")  # `export` compares the answers without this package
    served = tf.saved_model.load(str(export.path)).signatures["serving_default"]
    expected = task.answer_rows(texts)
    assert len({tuple(row) for row in expected["label"]}) > 1
    got = {k: v.numpy() for k, v in served(text=tf.constant(texts)).items()}
    assert compare_answers(task, "here", expected, got, 1e-5) < 1e-5
