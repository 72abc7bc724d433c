"""A model with a smaller vocabulary answers as before."""

import numpy as np
import pytest

import keras_bert_zoo as kbz
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.text.wordpiece.tokenizer import WordPieceTokenizer
from tests.helpers import ASSETS, eagerly
from tests.tasks.every_task import LETTERS, TRAINED, make
from tests.text.conftest import bert_directory  # noqa: F401  (a fixture)

# One of each family.
MASKED_LM = {p.name.split("-")[0]: p.name for p in sorted((ASSETS / "zoo").glob("*masked_lm*"))}


@pytest.fixture(autouse=True)
def op_by_op():
    """Traces nothing: no test here is about graphs."""
    with eagerly():
        yield


def tokenizer_for(config):
    """A tokenizer whose token 7 is the word "w7", with special tokens where the model has them."""
    names = [f"w{i}" for i in range(config.vocabulary_size)]
    free = (i for i in range(len(names)) if i != config.pad_token_id)
    special = {"pad_token": config.pad_token_id}
    special |= dict(zip(("cls_token", "sep_token", "unk_token", "mask_token"), free, strict=False))
    for name, token_id in special.items():
        names[token_id] = f"[{name[:3].upper()}]"
    return WordPieceTokenizer(names, **{name: names[i] for name, i in special.items()})


@pytest.mark.parametrize("asset", MASKED_LM.values())
def test_every_family_has_the_same_logits(asset, tmp_path):
    model = kbz.HeadedModel.from_preset(ASSETS / "zoo" / asset)
    tokenizer = tokenizer_for(model.encoder.config)
    words = np.random.default_rng(0).choice(np.arange(10, 60), [3, 9])
    texts = [" ".join(f"w{i}" for i in row) for row in words]
    smaller, trimmed = kbz.trim_vocabulary(model, tokenizer, texts)
    assert smaller.encoder.config.vocabulary_size == trimmed.vocabulary_size
    rows = [tokenizer.vocabulary.index(token) for token in trimmed.vocabulary]
    assert len(rows) < tokenizer.vocabulary_size - 15
    inputs, new_inputs = tokenizer(texts), trimmed(texts)
    assert [rows[i] for i in new_inputs["token_ids"][0]] == inputs["token_ids"][0].numpy().tolist()

    def logits(model, inputs):
        outputs = model(inputs)
        outputs = outputs if isinstance(outputs, dict) else {"masked_lm": outputs}
        return {name: value.numpy() for name, value in outputs.items()}

    expected = logits(model, inputs)
    expected["masked_lm"] = expected["masked_lm"][..., rows]
    kbz.HeadedModel.save(smaller, tmp_path / "saved")
    for each in (smaller, kbz.HeadedModel.from_preset(tmp_path / "saved")):
        for name, value in logits(each, new_inputs).items():
            np.testing.assert_allclose(value, expected[name], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", [name for name in TRAINED if name != "translation"])
def test_every_task_has_the_same_answers(name, tmp_path):
    task, x, _ = make(name)
    texts = x if isinstance(x, list | tuple) else (x.questions, x.contexts)
    if name.startswith("embedding"):
        texts = texts[0]
    answers = task.predict(texts)
    flat = [text for part in (texts if isinstance(texts, tuple) else [texts]) for text in part]
    flat = [text for part in flat for text in ([part] if isinstance(part, str) else part)]
    smaller, tokenizer = kbz.trim_vocabulary(task, task.tokenizer, flat)
    assert type(smaller) is type(task)
    assert tokenizer.vocabulary_size < task.tokenizer.vocabulary_size
    smaller.save(tmp_path / "saved")
    for each in (smaller, type(task).load(tmp_path / "saved")):
        assert set(each.tokenizer.vocabulary) < set(task.tokenizer.vocabulary)
        same = each.predict(texts)
        for key, values in answers.items():
            if key == "token_ids" or name == "masked-lm":
                continue  # the next test is about masked words
            if getattr(values, "dtype", None) == np.float32:
                np.testing.assert_allclose(same[key], values, atol=1e-5, err_msg=key)
            else:
                assert str(same[key]) == str(values), key


def test_real_weights_on_real_texts(bert_directory, tmp_path):  # noqa: F811
    encoder = kbz.Encoder.from_preset(bert_directory)
    kbz.add_lora(encoder, rank=2)
    for variable in encoder.trainable_variables:
        variable.assign_add(0.01 * np.random.default_rng(0).normal(size=variable.shape))
    texts = [
        "My card still hasn't arrived, how much longer will it take?",
        "Why was I charged a fee for paying abroad?",
    ]
    smaller, tokenizer = kbz.trim_vocabulary(encoder, encoder.tokenizer, texts * 3 + ["Seldom"])
    expected = encoder(encoder.tokenizer(texts))["sequence_output"].numpy()
    actual = smaller(tokenizer(texts))["sequence_output"].numpy()
    np.testing.assert_allclose(actual, expected, atol=1e-6)
    assert smaller.tokenizer.vocabulary == tokenizer.vocabulary
    assert "seldom" in tokenizer.vocabulary
    rare, without = kbz.trim_vocabulary(
        encoder, encoder.tokenizer, texts * 3 + ["Seldom"], min_frequency=3
    )
    assert "seldom" not in without.vocabulary
    assert rare.config.vocabulary_size == without.vocabulary_size < tokenizer.vocabulary_size
    np.testing.assert_allclose(rare(without(texts))["sequence_output"].numpy(), expected, atol=1e-6)


def test_what_cannot_be_trimmed_is_refused():
    task, x, _ = make("translation")
    collection = make("open-domain-question-answering")[0]
    for model in (task, collection, "bert"):
        with pytest.raises(ConfigError, match="Expected an Encoder, a HeadedModel or a task with"):
            kbz.trim_vocabulary(model, task.tokenizer, x)
    encoder = make("classification")[0].encoder
    for texts in ("a b", []):
        with pytest.raises(DataError, match="Expected a list of texts, received one text or none"):
            kbz.trim_vocabulary(encoder, task.tokenizer, texts)
    with pytest.raises(ConfigError, match="`min_frequency` to be an integer of at least 1"):
        kbz.trim_vocabulary(encoder, task.tokenizer, ["a"], min_frequency=0)
    larger = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *"12345"])
    with pytest.raises(ConfigError, match="Expected a tokenizer of at most 35 tokens"):
        kbz.trim_vocabulary(encoder, larger, ["a"])
