"""Masked language modelling: parity with transformers, training, files and export."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.errors import CheckpointError, ConfigError, DataError
from keras_bert_zoo.export.verify import hostile_rows
from keras_bert_zoo.files import SIDE_FILE
from keras_bert_zoo.tasks.registry import load_task
from tests.helpers import ASSETS, as_graphs, golden_inputs, load_golden
from tests.tasks.small_models import without_dropout

TINY = ASSETS / "masked_lm"  # made by tools/tasks/lm_goldens.py
GOLDEN = json.loads((TINY / "golden.json").read_text("utf-8")) if TINY.exists() else {}
TEXTS = ["the cat sat on the mat .", "a dog was playing it", "天气 was", "it played , it sat"]


@pytest.fixture(scope="module")
def tiny():
    return kbz.MaskedLM.load(TINY)


def test_answers_equal_transformers_pipeline(tiny):
    answers = tiny.predict(GOLDEN["masked"])
    assert {name: (v.shape, v.dtype.name) for name, v in answers.items()} == {
        "token": ((5, 3, 5), "object"), "score": ((5, 3, 5), "float32"),
        "token_id": ((5, 3, 5), "int32"), "start": ((5, 3), "int32"), "end": ((5, 3), "int32"),
        "filled": ((5, 5), "object"),
    }  # fmt: skip
    for text, masks in enumerate(GOLDEN["filled"]):
        for place, mask in enumerate(masks):
            for name in ("token_id", "token"):
                assert answers[name][text, place].tolist() == mask[name]
            # The order of float32 sums depends on the processor.
            np.testing.assert_allclose(answers["score"][text, place], mask["score"], atol=1e-5)
        for place in range(len(masks), 3):  # no such mask
            assert answers["token"][text, place].tolist() == [""] * 5
            assert not answers["score"][text, place].any()
            assert not answers["end"][text, place]


def test_offsets_and_filled_texts(tiny):
    texts = [t.encode() for t in GOLDEN["masked"]] + [b"\xff [MASK]\xc3 it", b"", b"no mask"]
    answers = tiny.answer_rows(texts)
    for index, text in enumerate(texts):
        columns = (answers["start"][index], answers["end"][index], answers["token"][index])
        masks = [mask for mask in zip(*columns, strict=True) if mask[1]]
        assert len(masks) == text.count(b"[MASK]")
        assert all(text[start:end] == b"[MASK]" for start, end, _ in masks)
        for k in range(5):
            filled = text
            for start, end, tokens in reversed(masks):
                filled = filled[:start] + tokens[k].removeprefix(b"##") + filled[end:]
            assert answers["filled"][index, k] == filled


def test_masks_beyond_the_length_are_unchanged():
    task = kbz.MaskedLM.load(TINY, max_length=6, top_k=2)
    answers = task.predict(["the [MASK] sat on the [MASK] ."])
    assert answers["token"].shape == (1, 1, 2)
    assert answers["filled"][0, 0].endswith(" sat on the [MASK] .")
    assert "[MASK] sat" not in answers["filled"][0, 0]


def test_a_batch_size_of_zero_is_refused_everywhere(tiny):
    for ask in (tiny.predict, tiny.answer_rows, tiny.report, tiny.pseudo_perplexity):
        with pytest.raises(ConfigError, match="batch_size"):
            ask(["a b"], batch_size=0)


def test_pseudo_perplexity_equals_masking_tokens_in_turn(tiny):
    for size in (3, 64):
        scores = tiny.pseudo_perplexity([*GOLDEN["texts"], ""], batch_size=size)
        np.testing.assert_allclose(
            scores["pseudo_log_likelihood"], [*GOLDEN["pseudo_log_likelihood"], 0], rtol=1e-5
        )
    assert scores["tokens"].tolist() == [7, 4, 2, 1, 4, 0]
    np.testing.assert_allclose(
        scores["pseudo_perplexity"],
        np.exp(-scores["pseudo_log_likelihood"] / np.maximum(scores["tokens"], 1)), rtol=1e-5,
    )  # fmt: skip
    assert scores["pseudo_perplexity"][-1] == 1
    assert tiny.pseudo_perplexity([])["tokens"].shape == (0,)


def test_logits_of_masked_positions_equal_those_of_all_positions():
    golden = load_golden("zoo/bert-masked_lm-untied")
    model = kbz.HeadedModel.from_preset(ASSETS / "zoo" / "bert-masked_lm-untied")
    tokenizer = kbz.WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"])
    task = kbz.MaskedLM(model.encoder, tokenizer, head=model.heads["masked_lm"], max_length=8)
    inputs = golden_inputs(golden)
    positions = np.zeros((len(inputs["token_ids"]), 2), np.int32)
    positions[:, 1] = np.argmax(inputs["padding_mask"], axis=1)
    positions[:, 0] = positions[:, 1]
    logits = task(inputs | {"mask_positions": positions})
    expected = golden["masked_lm"][np.arange(len(positions)), positions[:, 0]]
    assert logits.shape == (len(positions), 2, expected.shape[-1])
    assert np.abs(logits[:, 0] - expected).max() < 1e-5


def test_training_learns_and_a_saved_task_answers_the_same(tmp_path):
    keras.utils.set_random_seed(0)
    options = {"max_length": 9, "whole_words": True, "top_k": 3}
    task = without_dropout(kbz.MaskedLM.from_preset(TINY, new_head=True, **options))
    texts = TEXTS * 8 + ["", " ".join(TEXTS)]  # an empty text, and one longer than a row
    before = task.report(texts)
    options = {"epochs": 3, "batch_size": 8, "learning_rate": 2e-2, "verbose": 0}
    with as_graphs():
        task.fit(texts, validation_data=texts, validation_freq=3, **options)
    after = task.report(texts)
    assert after.loss < before.loss * 0.8
    assert after.accuracy >= before.accuracy
    assert after.tokens == before.tokens > 34
    assert after.rows == 34
    assert after.perplexity == pytest.approx(np.exp(after.loss))
    measured = task.evaluate(texts, batch_size=64, verbose=0, return_dict=True)
    assert measured["loss"] == pytest.approx(after.loss, rel=1e-4)
    assert measured["accuracy"] == pytest.approx(after.accuracy)
    mistakes = task.mistakes(texts)
    assert len(mistakes) == round((1 - after.accuracy) * after.tokens)
    assert all(row["token"] != row["predicted"] for row in mistakes)

    task.save(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["architectures"] == ["BertForMaskedLM"]
    masked = ["the [MASK] sat", "[MASK]"]
    answers = task.predict(masked)
    for _ in range(2):
        loaded = load_task(tmp_path / "saved")
        assert isinstance(loaded, kbz.MaskedLM)
        if (tmp_path / "saved" / SIDE_FILE).exists():
            assert (loaded.top_k, loaded.max_length, loaded.masking) == (3, 9, task.masking)
            (tmp_path / "saved" / SIDE_FILE).unlink()  # now as transformers writes it
        else:
            assert (loaded.top_k, loaded.max_length) == (5, 32)
            loaded.top_k = 3
        got = loaded.predict(masked)
        for name, expected in answers.items():
            np.testing.assert_array_equal(got[name], expected)


@pytest.mark.parity
def test_transformers_loads_it_with_equal_logits(tmp_path, tiny):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tiny.save(tmp_path / "saved")
    model = transformers.BertForMaskedLM.from_pretrained(tmp_path / "saved").eval()
    inputs, _ = tiny.encode_texts(tf.constant(GOLDEN["masked"]))
    with torch.no_grad():
        theirs = model(
            input_ids=torch.tensor(inputs["token_ids"].numpy()).long(),
            attention_mask=torch.tensor(inputs["padding_mask"].numpy()).long(),
        ).logits.numpy()
    at = inputs["mask_positions"].numpy()
    assert np.abs(tiny(inputs) - np.take_along_axis(theirs, at[..., np.newaxis], 1)).max() < 1e-4


def test_invalid_arguments_and_texts_are_refused(tiny):
    with pytest.raises(ConfigError, match="`top_k` to be an integer from 1 to 22, received 0"):
        kbz.MaskedLM.load(TINY, top_k=0)
    with pytest.raises(ConfigError, match=r"in \(0, 1\), received 0\.0"):
        kbz.MaskedLM.load(TINY, mask_rate=0.0)
    with pytest.raises(CheckpointError, match=r"no head for MaskedLM.*new_head=True"):
        kbz.MaskedLM.from_preset(ASSETS / "bert_gelu")
    with pytest.raises(DataError, match="received pairs of texts"):
        tiny.predict((["a"], ["b"]))
    with pytest.raises(DataError, match="leave the labels out"):
        tiny.fit(["the cat"], ["label"])
    with pytest.raises(DataError, match="all of them are empty"):
        tiny.fit(["", " "])
    with pytest.raises(ConfigError, match="no `class_weight`"):
        tiny.fit(["the cat"], sample_weight=[1.0])
    tokenizer = kbz.WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"], mask_token=None)
    with pytest.raises(ConfigError, match="a tokenizer with a mask token"):
        kbz.MaskedLM(tiny.encoder, tokenizer, head=tiny.head)


def test_differences_that_rounding_may_cause(tiny):
    def answer(ids, scores):
        return {"token_id": np.array([ids]), "score": np.array([scores], np.float32),
                "token": np.array([[str(i).encode() for i in ids]], object)}  # fmt: skip

    near, turned = answer([7, 8], [0.3, 0.3]), answer([8, 7], [0.3, 0.3])
    assert tiny.answer_difference(near, turned, 1e-5) == 0
    assert tiny.answer_difference(near, answer([7, 9], [0.3, 0.3]), 1e-5) == 0
    far = answer([7, 8], [0.3, 0.2])
    assert tiny.answer_difference(far, answer([8, 7], [0.3, 0.2]), 1e-5) is None
    assert tiny.answer_difference(near, near | {"token": far["token"] + b"x"}, 1e-5) is None


def test_the_export_has_the_answers_of_the_task(tmp_path, tiny):
    export = tiny.export(tmp_path / "export")  # `export` compares the answers without this package
    served = tf.saved_model.load(str(export.path)).signatures["serving_default"]
    texts = [text for (text,) in hostile_rows(tiny)] + [
        "the [MASK] sat", b"\xff[MASK]\xfe[MASK]", "[MASK] " * 40, "x" * 50 + "[MASK]",
    ]  # fmt: skip
    texts = [text if isinstance(text, bytes) else text.encode() for text in texts]
    expected = tiny.answer_rows(texts)
    got = {name: value.numpy() for name, value in served(text=tf.constant(texts)).items()}
    assert got.keys() == expected.keys()
    for name in ("token_id", "token", "start", "end", "filled"):
        np.testing.assert_array_equal(got[name], expected[name])
    np.testing.assert_allclose(got["score"], expected["score"], atol=1e-5)
    for text, starts, ends in zip(texts, got["start"], got["end"], strict=True):
        assert all(text[s:e] == b"[MASK]" for s, e in zip(starts, ends, strict=True) if e)
    # A batch of 64 has the answers of 64 batches of 1.
    many = [*texts, *[text for text in texts if len(text) < 1000] * 4][:64]
    together = served(text=tf.constant(many))
    for i in range(0, 64, 9):
        alone = served(text=tf.constant(many[i : i + 1]))
        width = alone["score"].shape[1]
        np.testing.assert_allclose(alone["score"][0], together["score"][i, :width], atol=1e-5)
        assert alone["filled"][0, 0] == together["filled"][i, 0]
    assert served(text=tf.zeros([0], tf.string))["filled"].shape == (0, 5)


def test_unknown_options_are_refused():
    task = kbz.MaskedLM.load("tests/assets/masked_lm")
    with pytest.raises(ConfigError, match="MaskedLM has no option 'mask_rat'"):
        kbz.MaskedLM(task.encoder, task.tokenizer, mask_rat=0.2)
