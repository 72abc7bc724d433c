"""New tokens for a tokenizer, its encoder and heads with an entry per token."""

import numpy as np
import pytest
from safetensors.numpy import load_file

import keras_bert_zoo as kbz
from keras_bert_zoo.adaptation.resize_heads import extend_headed_model
from keras_bert_zoo.errors import ConfigError
from tests.helpers import ASSETS, eagerly, golden_inputs, load_golden

GOOGLE = ASSETS / "google_bert"
ZOO = ASSETS / "zoo"
PIECES = [[3, 5], [7], []]


@pytest.fixture(autouse=True)
def op_by_op():
    """Traces nothing: no test here is about graphs."""
    with eagerly():
        yield


@pytest.fixture(scope="module")
def encoder():
    return kbz.Encoder.from_preset(GOOGLE)


@pytest.fixture(scope="module")
def tokenizer():
    return kbz.Tokenizer.from_preset(GOOGLE)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([5], r"`tokens` to be a list of non-empty strings, received \[5\]"),
        ("covid", "`tokens` to be a list of non-empty strings, received 'covid'"),
        ([""], "`tokens` to be a list of non-empty strings"),
        ([], "`tokens` to be a list of non-empty strings"),
        (None, "`tokens` to be a list of non-empty strings, received None"),
        ([["x"]], "`tokens` to be a list of non-empty strings"),
        (["zzz", "zzz"], "Expected different `tokens`, received 'zzz' twice"),
        (["\ud800"], "Expected `tokens` without surrogates, received"),
        (["Foo", "foo"], "for '[Ff]oo' of `tokens`, received .*, the id of '[Ff]oo'"),
        (["\u00e9x", "e\u0301x"], "of `tokens`, received .*, the id of"),
    ],
)
def test_tokens_that_the_tokenizer_cannot_match_are_refused(encoder, tokenizer, tokens, message):
    with pytest.raises(ConfigError, match=message):
        kbz.extend_vocabulary(encoder, tokenizer, tokens)


def test_special_tokens_differ_by_case(encoder, tokenizer):
    _, larger = kbz.extend_vocabulary(encoder, tokenizer, ["[Foo]", "[foo]"], special=True)
    first = tokenizer.vocabulary_size
    assert larger.tokenize(["[Foo]", "[foo]"]).to_list() == [[first], [first + 1]]


@pytest.mark.parametrize(
    "name",
    [
        "bert-masked_lm+next_sentence-relu",
        "bert-masked_lm-untied",
        "mobilebert-masked_lm+next_sentence-plain",
        "deberta_v2-masked_lm-no_positions",
        "modernbert-masked_lm-all_local",
    ],
)
def test_a_masked_language_model_head_grows_with_its_encoder(name):
    """A new token's logit starts as the mean of its pieces'. Other logits do not change."""
    model = kbz.HeadedModel.from_preset(ZOO / name)
    larger = extend_headed_model(model, PIECES)
    inputs = golden_inputs(load_golden(f"zoo/{name}"))
    old, new = (m(inputs)["masked_lm"].numpy() for m in (model, larger))
    size = model.encoder.config.vocabulary_size
    assert new.shape[-1] == larger.encoder.config.vocabulary_size == size + 3
    np.testing.assert_array_equal(new[..., :size], old)
    means = [old[..., [3, 5]].mean(-1), old[..., 7], old.mean(-1)]
    np.testing.assert_allclose(new[..., size:], np.stack(means, -1), atol=2e-5)
    assert model.heads["masked_lm"].tied == larger.heads["masked_lm"].tied
    if "next_sentence" in model.heads:
        np.testing.assert_array_equal(
            larger(inputs)["next_sentence"], model(inputs)["next_sentence"]
        )


def test_rows_that_belong_to_no_token_are_taken_by_the_head_too():
    model = kbz.HeadedModel.from_preset(ZOO / "bert-masked_lm-untied")
    larger = extend_headed_model(model, [[3], [4]], first_id=60)
    bias, old = (m.heads["masked_lm"].bias.numpy() for m in (larger, model))
    assert larger.encoder.config.vocabulary_size == 62
    np.testing.assert_allclose(bias, [*old[:60], old[3], old[4]], atol=1e-7)


def test_a_model_with_heads_is_saved_with_its_new_tokens(tokenizer, tmp_path):
    model = kbz.HeadedModel.from_preset(GOOGLE)
    larger, longer = kbz.extend_vocabulary(model, tokenizer, ["covid"])
    larger.save(tmp_path / "saved")
    again = kbz.HeadedModel.from_preset(tmp_path / "saved")
    inputs = longer(["covid a b"], max_length=8)
    for kind, expected in larger(inputs).items():
        np.testing.assert_array_equal(again(inputs)[kind], expected)
    assert kbz.Tokenizer.from_preset(tmp_path / "saved").tokenize("covid").shape == (1,)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["bert-masked_lm-untied", "bert-masked_lm+next_sentence-relu"])
def test_saved_shapes_are_those_that_transformers_resizes_to(name, tmp_path):
    transformers = pytest.importorskip("transformers", reason="needs the extra `zoo`")
    pytest.importorskip("torch", reason="needs the extra `zoo`")
    model = kbz.HeadedModel.from_preset(ZOO / name)
    extend_headed_model(model, PIECES).save(tmp_path)
    actual = {key: value.shape for key, value in load_file(tmp_path / "model.safetensors").items()}
    kind = "BertForMaskedLM" if "untied" in name else "BertForPreTraining"
    theirs = getattr(transformers, kind).from_pretrained(ZOO / name)
    theirs.resize_token_embeddings(model.encoder.config.vocabulary_size + 3)
    expected = {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
    assert actual.keys() <= expected.keys()
    assert actual == {key: expected[key] for key in actual}


def test_a_task_says_to_pass_its_encoder(tokenizer):
    task = kbz.TextClassifier.from_preset(GOOGLE, labels=["a", "b"])
    with pytest.raises(ConfigError, match=r"received a TextClassifier\. Pass .* `x\.encoder`"):
        kbz.extend_vocabulary(task, tokenizer, ["covid"])
