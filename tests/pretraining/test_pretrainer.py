"""Pretraining of masked tokens and pairs, compared with transformers."""

import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.data.pipeline import NO_LABEL
from keras_bert_zoo.errors import CheckpointError, ConfigError, DataError
from keras_bert_zoo.pretraining.objectives import head_kinds
from tests.tasks.every_task import VOCABULARY, make_tokenizer, spread_weights

DOCUMENTS = [
    ["the cat sat", "on the mat", "and the dog ran"],
    ["a dog ran home", "the cat did not", "it sat there"],
    ["who sat there", "the dog did"],
]


def small_config(family="bert", **options):
    return kbz.EncoderConfig(
        family=family, vocabulary_size=len(VOCABULARY), hidden_dim=8, num_layers=1, num_heads=2,
        intermediate_dim=16, max_sequence_length=24, dropout=0.0, attention_dropout=0.0, **options,
    )  # fmt: skip


def make(objectives=("masked_lm", "next_sentence"), **options):
    task = kbz.Pretrainer.from_scratch(
        small_config(), make_tokenizer(), objectives, max_length=24, **options
    )
    spread_weights(task)
    return task


def batch_of(task, seed=0):
    examples = task.examples(DOCUMENTS)
    return task.rows(examples, task.targets(examples)).one_batch(seed=seed)


def test_the_loss_and_the_logits_are_those_of_transformers(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    task = make()
    inputs, targets = batch_of(task)
    task.save(tmp_path / "saved")
    model = transformers.BertForPreTraining.from_pretrained(tmp_path / "saved").eval()
    ids = inputs["token_ids"].numpy()
    labels = np.full(ids.shape, -100)
    for row, (columns, tokens) in enumerate(
        zip(inputs["mask_positions"].numpy(), targets["masked_lm"].numpy(), strict=True)
    ):
        there = tokens != NO_LABEL
        labels[row, columns[there]] = tokens[there]
    with torch.no_grad():
        expected = model(
            input_ids=torch.tensor(ids).long(),
            token_type_ids=torch.tensor(inputs["segment_ids"].numpy()).long(),
            attention_mask=torch.tensor(inputs["padding_mask"].numpy()).long(),
            labels=torch.tensor(labels).long(),
            next_sentence_label=torch.tensor(targets["next_sentence"].numpy()).long(),
        )
    outputs = task(inputs)
    np.testing.assert_allclose(
        outputs["next_sentence"], expected.seq_relationship_logits.numpy(), atol=1e-5
    )
    picked = tf.gather(expected.prediction_logits.numpy(), inputs["mask_positions"], batch_dims=1)
    np.testing.assert_allclose(outputs["masked_lm"], picked, atol=1e-5)
    loss = float(task.objective().loss()(targets, outputs))
    assert loss == pytest.approx(float(expected.loss), rel=1e-5)
    # The directory is what each task loads.
    assert kbz.MaskedLM.load(tmp_path / "saved").predict(["the [MASK] sat"])["token"].shape
    again = kbz.Pretrainer.load(tmp_path / "saved")
    assert again.options == task.options
    np.testing.assert_array_equal(again(inputs)["masked_lm"], outputs["masked_lm"])


def test_a_step_in_parts_is_the_step_of_the_whole_batch():
    whole, parts = make(), make()
    for task, count in ((whole, 1), (parts, 3)):
        history = task.fit(
            DOCUMENTS, batch_size=5, epochs=1, learning_rate=1e-2, accumulation_steps=count,
            verbose=0,
        )  # fmt: skip
        assert set(history.history) == {
            "loss", "masked_lm_accuracy", "masked_lm_loss", "next_sentence_accuracy",
            "next_sentence_loss",
        }  # fmt: skip
        total = history.history["masked_lm_loss"][0] + history.history["next_sentence_loss"][0]
        assert np.isfinite(total)
    for one, other in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_batch_without_masked_tokens_has_no_loss():
    task = make(("masked_lm",))
    task.compile()
    inputs, targets = batch_of_texts(task)
    empty = {"masked_lm": tf.fill(tf.shape(targets["masked_lm"]), NO_LABEL)}
    before = task.get_weights()
    logs = task.train_on_batch(inputs, empty, return_dict=True)
    assert logs["loss"] == 0.0
    for one, other in zip(before, task.get_weights(), strict=True):
        assert np.isfinite(other).all()
        np.testing.assert_allclose(one, other, atol=1e-3)  # weight decay alone


def batch_of_texts(task):
    examples = task.examples(["the cat sat on the mat", "a dog ran"])
    return task.rows(examples, None).one_batch(seed=0)


def test_weights_of_objectives_scale_their_losses():
    plain, weighted = make(), make(objective_weights={"next_sentence": 3.0})
    inputs, targets = batch_of(plain)
    outputs = plain(inputs)
    first, second = plain.objective().loss().means(targets, outputs).numpy()
    total = float(weighted.objective().loss()(targets, outputs))
    assert total == pytest.approx(first + 3 * second, rel=1e-6)


@pytest.mark.parametrize(
    ("family", "objective", "kind"),
    [
        ("bert", "sentence_order", "next_sentence"),
        ("albert", "next_sentence", "sentence_order"),
        ("albert", "sentence_order", "sentence_order"),
        ("mobilebert", "next_sentence", "next_sentence"),
    ],
)
def test_pairs_use_the_head_that_the_family_has(family, objective, kind):
    config = kbz.EncoderConfig(family=family)
    assert head_kinds(config, ("masked_lm", objective))[objective] == kind


@pytest.mark.parametrize(
    ("objectives", "words"),
    [
        (("next_sentence",), "masked_lm, alone or with"),
        (("masked_lm", "other"), "received"),
        (("masked_lm", "next_sentence", "sentence_order"), "a pair has one label"),
    ],
)
def test_wrong_objectives_are_refused(objectives, words):
    with pytest.raises(ConfigError, match=words):
        make(objectives)


def test_families_without_a_class_for_pairs_are_refused():
    with pytest.raises(ConfigError, match=r"roberta has: masked_lm\."):
        head_kinds(kbz.EncoderConfig(family="roberta"), ("masked_lm", "next_sentence"))


def test_a_preset_without_the_head_needs_a_new_one():
    with pytest.raises(CheckpointError, match="no head for next_sentence.*new_head=True"):
        kbz.Pretrainer.from_preset("tests/assets/masked_lm", ("masked_lm", "next_sentence"))
    old = kbz.MaskedLM.load("tests/assets/masked_lm")
    task = kbz.Pretrainer.from_preset(
        "tests/assets/masked_lm", ("masked_lm", "next_sentence"), new_head=True
    )
    text = ["the [MASK] sat on the mat"]
    np.testing.assert_array_equal(task.predict(text)["score"], old.predict(text)["score"])


def test_wrong_data_is_refused():
    task = make()
    with pytest.raises(DataError, match="Expected documents for next_sentence"):
        task.fit(["one text"], verbose=0)
    with pytest.raises(DataError, match="leave the labels out"):
        task.fit(DOCUMENTS, [0, 1, 1], verbose=0)
    with pytest.raises(ConfigError, match=r"not saved as a \.keras file"):
        task.save("task.keras")
