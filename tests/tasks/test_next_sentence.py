"""Next-sentence prediction: parity with transformers, training, files and export."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.data.documents import sentence_pairs
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.errors import CheckpointError, DataError
from keras_bert_zoo.export.verify import hostile_rows
from keras_bert_zoo.files import SIDE_FILE
from keras_bert_zoo.tasks.registry import load_task
from tests.helpers import ASSETS, as_graphs, golden_inputs, load_golden

TINY = ASSETS / "bert_gelu"
DOCUMENTS = [["a b c", "a x", "a y"], ["z b", "z c c", "z x"]] * 4
PAIRS = (["a b", "z c", "a"], ["a c", "a y", "z"])


def make_task(**options):
    keras.utils.set_random_seed(0)
    task = kbz.NextSentence.from_preset(TINY, **{"new_head": True, "max_length": 12} | options)
    for variable in task.weights:  # so that answers differ by more than rounding
        noise = keras.random.normal(variable.shape, stddev=0.1, seed=len(variable.path))
        variable.assign_add(noise)
    return task


def test_logits_equal_transformers():
    golden = load_golden("zoo/bert-next_sentence-untied")
    model = kbz.HeadedModel.from_preset(ASSETS / "zoo" / "bert-next_sentence-untied")
    tokenizer = kbz.WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"])
    task = kbz.NextSentence(model.encoder, tokenizer, head=model.heads["next_sentence"])
    assert np.abs(task(golden_inputs(golden)) - golden["next_sentence"]).max() < 1e-5
    answers = task.answers(tf.constant([[2.0, 0.0], [0.0, 3.0]]))  # id 0: the second text is next
    assert answers["label"].numpy().tolist() == [b"is_next", b"not_next"]
    expected = [1 / (1 + np.exp(-2)), 1 / (1 + np.exp(3))]
    np.testing.assert_allclose(answers["is_next"], expected, rtol=1e-5)
    np.testing.assert_allclose(answers["score"], [expected[0], 1 - expected[1]], rtol=1e-5)


@pytest.mark.slow
def test_training_learns_and_a_saved_task_answers_the_same(tmp_path):
    task = make_task()
    for variable in task.encoder.weights:  # otherwise the outputs hardly depend on the input
        variable.assign_add(
            keras.random.normal(variable.shape, stddev=0.4, seed=len(variable.path))
        )
    pairs = Examples(["x y"] * 16, ["a b", "z c"] * 8, ["is_next", "not_next"] * 8)
    options = {"epochs": 20, "batch_size": 8, "learning_rate": 5e-3, "verbose": 0}
    with as_graphs():
        task.fit(pairs, validation_data=pairs, **options)
    report = task.report(pairs)
    assert report.accuracy > 0.9
    assert report.accuracy == pytest.approx(
        task.evaluate(pairs, verbose=0, return_dict=True)["accuracy"]
    )
    assert 0 <= task.report(sentence_pairs(DOCUMENTS, seed=0)).accuracy <= 1
    answers = task.predict(PAIRS)
    assert {name: (v.shape, v.dtype.name) for name, v in answers.items()} == {
        "is_next": ((3,), "float32"), "label": ((3,), "object"), "score": ((3,), "float32"),
    }  # fmt: skip
    task.save(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["architectures"] == ["BertForNextSentencePrediction"]
    for _ in range(2):
        loaded = load_task(tmp_path / "saved")
        assert isinstance(loaded, kbz.NextSentence)
        for name, expected in answers.items():
            np.testing.assert_array_equal(loaded.predict(PAIRS)[name], expected)
        (tmp_path / "saved" / SIDE_FILE).unlink(missing_ok=True)  # now as transformers writes it


@pytest.mark.parity
def test_transformers_loads_it_with_equal_logits(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    task = make_task()
    task.save(tmp_path / "saved")
    model = transformers.BertForNextSentencePrediction.from_pretrained(tmp_path / "saved").eval()
    inputs, _ = task.encode_texts(*map(tf.constant, PAIRS))
    with torch.no_grad():
        theirs = model(
            input_ids=torch.tensor(inputs["token_ids"].numpy()).long(),
            token_type_ids=torch.tensor(inputs["segment_ids"].numpy()).long(),
            attention_mask=torch.tensor(inputs["padding_mask"].numpy()).long(),
        ).logits.numpy()
    assert np.abs(task(inputs) - theirs).max() < 1e-5


def test_invalid_arguments_and_examples_are_refused():
    with pytest.raises(CheckpointError, match=r"no head for NextSentence.*new_head=True"):
        kbz.NextSentence.from_preset(TINY)
    task = make_task()
    with pytest.raises(DataError, match="Expected pairs of texts"):
        task.predict(["a"])
    with pytest.raises(DataError, match="no labels"):
        task.report(PAIRS)
    with pytest.raises(DataError, match="maybe"):
        task.fit(PAIRS, ["is_next", "not_next", "maybe"])


@pytest.mark.slow
def test_the_export_has_the_answers_of_the_task(tmp_path):
    task = make_task()
    export = task.export(tmp_path / "export")  # `export` compares the answers without this package
    served = tf.saved_model.load(str(export.path)).signatures["serving_default"]
    texts, seconds = zip(*hostile_rows(task), strict=True)
    expected = task.answer_rows(texts, seconds)
    got = served(text=tf.constant(texts), text_pair=tf.constant(seconds))
    np.testing.assert_allclose(got["is_next"], expected["is_next"], atol=1e-5)
    np.testing.assert_array_equal(got["label"], expected["label"])
    for i in range(0, len(texts), 5):
        alone = served(
            text=tf.constant(texts[i : i + 1]), text_pair=tf.constant(seconds[i : i + 1])
        )
        np.testing.assert_allclose(alone["score"][0], expected["score"][i], atol=1e-5)


def test_differences_that_rounding_may_cause():
    task = make_task()

    def answer(is_next, label):
        return {"is_next": np.float32(is_next), "label": np.array(label, object),
                "score": np.float32(max(is_next, 1 - is_next))}  # fmt: skip

    even = answer(0.500001, b"is_next")
    assert task.answer_difference(even, answer(0.499999, b"not_next"), 1e-5) < 1e-5
    assert task.answer_difference(answer(0.6, b"is_next"), answer(0.6, b"not_next"), 1e-5) is None
