"""Multiple choice: parity with transformers, training, files and export."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.data.choices import ChoiceExamples
from keras_bert_zoo.errors import CheckpointError, ConfigError, DataError
from keras_bert_zoo.export.verify import hostile_rows
from keras_bert_zoo.files import SIDE_FILE
from keras_bert_zoo.tasks.registry import load_task
from tests.helpers import ASSETS, as_graphs, golden_inputs, load_golden
from tests.tasks.small_models import without_dropout

TINY = ASSETS / "bert_gelu"
TEXTS = ["a b c", "x y", "c b a", "y"]
CHOICES = [["a", "x", "y"], ["c", "b", "x"], ["z", "a", "y"], ["b", "c", "z"]]
RIGHT = [0, 2, 1, 2]


def make_task(**options):
    keras.utils.set_random_seed(0)
    task = kbz.MultipleChoice.from_preset(TINY, **{"num_choices": 3, "max_length": 12} | options)
    for variable in task.weights:  # so that choices differ by more than rounding
        variable.assign_add(
            keras.random.normal(variable.shape, stddev=0.1, seed=len(variable.path))
        )
    return task


def test_logits_equal_transformers():
    golden = load_golden("zoo/bert-multiple_choice-plain")
    model = kbz.HeadedModel.from_preset(ASSETS / "zoo" / "bert-multiple_choice-plain")
    tokenizer = kbz.WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"])
    task = kbz.MultipleChoice(
        model.encoder, tokenizer, 2, head=model.heads["multiple_choice"], max_length=12
    )
    inputs = {name: rows.reshape(2, 2, -1) for name, rows in golden_inputs(golden).items()}
    logits = task(inputs)
    assert (logits.dtype, logits.shape) == (tf.float32, (2, 2))
    assert np.abs(logits - golden["multiple_choice"].reshape(2, 2)).max() < 1e-5


def test_answers_are_the_chosen_text_and_its_probability():
    task = make_task()
    answers = task.predict((TEXTS, CHOICES))
    assert answers["scores"].shape == (4, 3)
    np.testing.assert_allclose(answers["scores"].sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(answers["choice"], answers["scores"].argmax(axis=1))
    np.testing.assert_array_equal(answers["score"], answers["scores"].max(axis=1))
    chosen = [row[choice] for row, choice in zip(CHOICES, answers["choice"], strict=True)]
    assert answers["label"].tolist() == chosen
    logits = task.predict_logits((TEXTS, CHOICES), batch_size=3)
    np.testing.assert_allclose(tf.nn.softmax(logits), answers["scores"], atol=1e-6)
    # Each choice is scored separately: reversed choices have reversed scores.
    turned = task.predict((TEXTS, [row[::-1] for row in CHOICES]))
    np.testing.assert_allclose(turned["scores"], answers["scores"][:, ::-1], atol=1e-6)
    assert {name: len(values) for name, values in task.predict(([], [])).items()} == {
        "choice": 0, "label": 0, "score": 0, "scores": 0,
    }  # fmt: skip


def test_training_learns_and_a_saved_task_answers_the_same(tmp_path):
    task = without_dropout(make_task())
    examples = ChoiceExamples(TEXTS * 4, CHOICES * 4, RIGHT * 4)
    with as_graphs():
        history = task.fit(examples, epochs=25, batch_size=8, learning_rate=1e-2, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0] / 2
    report = task.report(examples)
    assert report.accuracy > 0.9
    assert (report.chance, report.rows) == (1 / 3, 16)
    task.save(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["architectures"] == ["BertForMultipleChoice"]
    loaded = load_task(tmp_path / "saved")
    assert isinstance(loaded, kbz.MultipleChoice)
    assert (loaded.num_choices, loaded.max_length) == (3, 12)
    inputs, _ = task.encode_texts(tf.constant(TEXTS), tf.constant(CHOICES))
    np.testing.assert_array_equal(loaded(inputs), task(inputs))
    # Without the side file, as saved by transformers, the number of choices is unknown.
    (tmp_path / "saved" / SIDE_FILE).unlink()
    with pytest.raises(CheckpointError, match="Give `num_choices` and `new_head=False`"):
        load_task(tmp_path / "saved")
    other = kbz.MultipleChoice.load(tmp_path / "saved", num_choices=2, new_head=False)
    two = {name: rows[:, :2] for name, rows in inputs.items()}
    np.testing.assert_allclose(other(two), task(inputs)[:, :2], atol=1e-5)


@pytest.mark.parity
def test_transformers_loads_it_with_equal_logits(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    task = make_task()
    task.save(tmp_path / "saved")
    model = transformers.BertForMultipleChoice.from_pretrained(tmp_path / "saved").eval()
    inputs, _ = task.encode_texts(tf.constant(TEXTS), tf.constant(CHOICES))
    with torch.no_grad():
        theirs = model(
            input_ids=torch.tensor(inputs["token_ids"].numpy()).long(),
            token_type_ids=torch.tensor(inputs["segment_ids"].numpy()).long(),
            attention_mask=torch.tensor(inputs["padding_mask"].numpy()).long(),
        ).logits.numpy()
    assert np.abs(task(inputs) - theirs).max() < 1e-5
    model.save_pretrained(tmp_path / "theirs")
    task.tokenizer.save(tmp_path / "theirs")
    back = kbz.MultipleChoice.load(tmp_path / "theirs", num_choices=3, new_head=False)
    assert np.abs(back(inputs) - theirs).max() < 1e-5


def test_invalid_arguments_and_examples_are_refused():
    with pytest.raises(
        ConfigError, match="`num_choices` to be an integer of at least 2, received 1"
    ):
        make_task(num_choices=1)
    with pytest.raises(CheckpointError, match=r"no head for MultipleChoice.*num_choices="):
        kbz.MultipleChoice.from_preset(TINY)
    task = make_task()
    with pytest.raises(DataError, match="example 1: expected 3 choices per text.* received 2"):
        task.predict((["a"], [["x", "y"]]))
    with pytest.raises(DataError, match="example 2: expected the label .* 0 to 2, received 3"):
        task.fit((TEXTS[:2], CHOICES[:2]), [0, 3])
    with pytest.raises(DataError, match="There are no labels"):
        task.report((TEXTS, CHOICES))
    with pytest.raises(DataError, match="Expected ChoiceExamples, or a tuple"):
        task.predict(TEXTS)
    with pytest.raises(DataError, match="example 1: .* as str, received int"):
        task.predict(([1], [["a", "b", "c"]]))
    with pytest.raises(ConfigError, match="`probe_epochs` is not possible"):
        task.fit((TEXTS, CHOICES), RIGHT, probe_epochs=1)


def test_differences_that_rounding_may_cause():
    task = make_task()

    def answer(choice, *scores, label=b"a"):
        scores = np.array(scores, np.float32)
        return {"choice": np.array(choice, np.int32), "label": np.array(label, object),
                "score": scores.max(), "scores": scores}  # fmt: skip

    near, other = answer(0, 0.4, 0.4, 0.2), answer(1, 0.4, 0.4, 0.2, label=b"b")
    assert task.answer_difference(near, other, 1e-5) == 0
    assert task.answer_difference(answer(0, 0.5, 0.3, 0.2), other, 1e-5) is None
    assert task.answer_difference(near, near | {"label": np.array(b"b", object)}, 1e-5) is None


def test_the_export_has_the_answers_of_the_task(tmp_path):
    task = make_task()
    rows = hostile_rows(task)
    export = task.export(tmp_path / "export")  # `export` compares the answers without this package
    served = tf.saved_model.load(str(export.path)).signatures["serving_default"]
    texts, choices = zip(*rows, strict=True)
    expected = task.answer_rows(list(texts), [list(row) for row in choices])
    got = {k: v.numpy() for k, v in
           served(text=tf.constant(texts), choices=tf.constant(choices)).items()}  # fmt: skip
    np.testing.assert_allclose(got["scores"], expected["scores"], atol=1e-5)
    np.testing.assert_array_equal(got["label"], expected["label"])
    assert len(set(expected["choice"])) > 1
    # A batch of 64 has the answers of 64 batches of 1.
    many = [rows[i % len(rows)] for i in range(64)]
    together = task.answer_rows([t for t, _ in many], [list(c) for _, c in many])["scores"]
    for i in range(0, 64, 7):
        alone = served(text=tf.constant([many[i][0]]), choices=tf.constant([many[i][1]]))
        np.testing.assert_allclose(alone["scores"][0], together[i], atol=1e-5)
