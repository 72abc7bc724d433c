"""LoRA, freezing by depth, and larger encoders."""

import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.adaptation.lora import add_lora, lora_layers, merge_lora, merged_lora
from keras_bert_zoo.adaptation.resize import extend_positions, extend_token_table
from keras_bert_zoo.encoders.registry import build_encoder
from keras_bert_zoo.errors import ConfigError
from tests.helpers import ASSETS, eagerly, random_inputs

INPUTS = random_inputs(3, 9, vocabulary_size=61)


@pytest.fixture(autouse=True)
def op_by_op():
    """Traces nothing: no test here is about graphs."""
    with eagerly():
        yield


@pytest.fixture
def encoder():
    return kbz.Encoder.from_preset(ASSETS / "bert_gelu")


def pooled(encoder):
    return encoder(INPUTS)["pooled_output"].numpy()


def train(encoder, steps=3):
    """A few steps of plain gradient descent on the trainable variables."""
    for _ in range(steps):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(encoder(INPUTS, training=True)["pooled_output"] - 1))
        variables = encoder.trainable_variables
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(0.1 * tf.convert_to_tensor(gradient))


def test_lora_changes_nothing_before_training_and_little_is_trained(encoder):
    before = pooled(encoder)
    weights = encoder.count_params()
    add_lora(encoder, rank=2)
    np.testing.assert_array_equal(pooled(encoder), before)
    trained = sum(int(np.prod(v.shape)) for v in encoder.trainable_variables)
    assert trained == encoder.count_params() - weights == 2 * 2 * (16 * 2 + 2 * 16)


def test_lora_trains_its_updates_alone(encoder):
    original = {v.path: v.numpy() for v in encoder.weights}
    before = pooled(encoder)
    add_lora(encoder, rank=2, targets=("query", "key", "value", "intermediate"))
    train(encoder)
    assert np.abs(pooled(encoder) - before).max() > 1e-3
    for variable in encoder.weights:
        if variable.path in original:
            np.testing.assert_array_equal(variable.numpy(), original[variable.path])


@pytest.mark.slow
def test_merging_keeps_the_outputs_and_the_names(encoder):
    names = [v.path for v in encoder.weights]
    add_lora(encoder, rank=2, alpha=3.0)
    train(encoder)
    trained = pooled(encoder)
    with merged_lora(encoder):
        assert [v.path for v in encoder.weights] == names
        np.testing.assert_allclose(pooled(encoder), trained, atol=1e-6)
    assert len(lora_layers(encoder)) == 4
    np.testing.assert_array_equal(pooled(encoder), trained)
    merge_lora(encoder)
    assert [v.path for v in encoder.weights] == names
    assert len(encoder.trainable_variables) == len(names)
    np.testing.assert_allclose(pooled(encoder), trained, atol=1e-6)


def test_lora_leaves_frozen_what_was_frozen(encoder):
    encoder.freeze(1)
    frozen = {v.path: v.numpy() for v in encoder.weights if not v.trainable}
    trainable = [v.path for v in encoder.trainable_variables]
    add_lora(encoder, rank=2)
    assert len(lora_layers(encoder)) == 2  # none in the frozen block
    assert len(encoder.trainable_variables) == 4
    train(encoder)
    for variable in encoder.weights:
        if variable.path in frozen:
            np.testing.assert_array_equal(variable.numpy(), frozen[variable.path])
    merge_lora(encoder)
    assert [v.path for v in encoder.trainable_variables] == trainable
    assert [v.path for v in encoder.weights if not v.trainable] == list(frozen)
    encoder.freeze()
    with pytest.raises(ConfigError, match="in `targets`, received only frozen layers"):
        add_lora(encoder)
    encoder.freeze(0, embeddings=False)
    assert len(encoder.trainable_variables) == len(encoder.weights)


def test_a_larger_copy_has_the_updates_merged(encoder):
    add_lora(encoder, rank=2)
    train(encoder)
    trained = pooled(encoder)
    for larger in (extend_positions(encoder, 30), extend_token_table(encoder, [[3]])):
        np.testing.assert_allclose(pooled(larger), trained, atol=1e-6)
        assert not lora_layers(larger)
        assert len(larger.trainable_variables) == len(larger.weights)
    assert len(lora_layers(encoder)) == 4
    np.testing.assert_array_equal(pooled(encoder), trained)


@pytest.mark.slow
def test_a_saved_model_has_the_updates_merged(tmp_path):
    model = kbz.TextClassifier.load(ASSETS / "bert_classifier")
    add_lora(model.encoder, rank=2)
    train(model.encoder)
    model.save(tmp_path / "saved")
    scores = kbz.TextClassifier.load(tmp_path / "saved").predict(["ab", "c"])["scores"]
    np.testing.assert_allclose(scores, model.predict(["ab", "c"])["scores"], atol=1e-6)
    assert lora_layers(model.encoder)


def test_lora_refuses_what_it_cannot_do(encoder):
    with pytest.raises(ConfigError, match=r"`targets` to be some of .*key.*received \['querry'\]"):
        add_lora(encoder, targets=["querry"])
    with pytest.raises(ConfigError, match="`rank` to be an integer from 1 to 16, received 17"):
        add_lora(encoder, rank=17)
    for alpha in (float("nan"), float("inf"), 0, -1.0, "16", True):
        with pytest.raises(ConfigError, match="`alpha` to be a positive number or None, received "):
            add_lora(encoder, rank=2, alpha=alpha)
    for dropout in ("0.1", float("nan"), 1.0, None):
        with pytest.raises(ConfigError, match=r"`dropout` to be a number in \[0, 1\), received "):
            add_lora(encoder, rank=2, dropout=dropout)
    with pytest.raises(ConfigError, match="Expected an encoder with LoRA"):
        merge_lora(encoder)
    add_lora(encoder, rank=1)
    with pytest.raises(ConfigError, match="Expected an encoder without LoRA"):
        add_lora(encoder)


def test_freezing_by_depth(encoder):
    encoder.freeze(1)
    frozen = {v.path: v.numpy() for v in encoder.weights if not v.trainable}
    assert {path.split("/")[0] for path in frozen} == {"embeddings", "block_0"}
    train(encoder)
    for variable in encoder.weights:
        if variable.path in frozen:
            np.testing.assert_array_equal(variable.numpy(), frozen[variable.path])
    encoder.freeze()
    assert encoder.trainable_variables == []
    encoder.freeze(0, embeddings=False)
    assert len(encoder.trainable_variables) == len(encoder.weights)
    with pytest.raises(ConfigError, match="None or an integer from 0 to 2, received 3"):
        encoder.freeze(3)


def test_blocks_that_share_weights_are_frozen_together():
    config = kbz.EncoderConfig.from_huggingface(
        {
            "model_type": "albert",
            "vocab_size": 20,
            "hidden_size": 8,
            "embedding_size": 4,
            "num_attention_heads": 2,
            "num_hidden_layers": 3,
            "intermediate_size": 8,
            "max_position_embeddings": 16,
        }
    )
    encoder = build_encoder(config)
    with pytest.raises(ConfigError, match="share no weights with later blocks, received `blocks`"):
        encoder.freeze(1)
    encoder.freeze()
    assert encoder.trainable_variables == []


def test_more_positions(encoder):
    before = pooled(encoder)
    longer = extend_positions(encoder, 50)
    np.testing.assert_array_equal(pooled(longer), before)
    table = longer.embeddings.position_table.numpy()
    np.testing.assert_array_equal(table[24:48], table[:24])
    longer(random_inputs(2, 50, vocabulary_size=61))
    stretched = extend_positions(encoder, 47, initialization="interpolate")
    old, new = (e.embeddings.position_table.numpy() for e in (encoder, stretched))
    np.testing.assert_allclose(new[::2], old, atol=1e-6)
    np.testing.assert_allclose(new[1::2], (old[:-1] + old[1:]) / 2, atol=1e-6)
    with pytest.raises(ConfigError, match="Expected integer `positions` above 24, received 24"):
        extend_positions(encoder, 24)


@pytest.mark.parametrize("buckets", [-1, 8], ids=["distances", "buckets"])
def test_more_positions_leave_relative_ones_as_they_are(buckets):
    config = kbz.EncoderConfig.from_huggingface(
        {
            "model_type": "deberta-v2",
            "vocab_size": 61,
            "hidden_size": 8,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "max_position_embeddings": 32,
            "relative_attention": True,
            "pos_att_type": ["c2p", "p2c"],
            "max_relative_positions": -1,
            "position_buckets": buckets,
        }
    )
    encoder = build_encoder(config)
    random = np.random.default_rng(0)
    for variable in encoder.weights:
        variable.assign(random.normal(size=variable.shape) * 0.5)
    inputs = random_inputs(2, 30, vocabulary_size=61)
    longer = extend_positions(encoder, 64)
    assert longer.config.distance_limit == 32
    np.testing.assert_array_equal(
        longer(inputs)["sequence_output"], encoder(inputs)["sequence_output"]
    )
    longer(random_inputs(2, 64, vocabulary_size=61))


def test_more_tokens(encoder):
    before = pooled(encoder)
    larger = extend_token_table(encoder, [[3, 5], []])
    assert larger.config.vocabulary_size == 63
    np.testing.assert_array_equal(pooled(larger), before)
    table = larger.embeddings.token_table.numpy()
    np.testing.assert_allclose(table[61], (table[3] + table[5]) / 2, atol=1e-6)
    np.testing.assert_allclose(table[62], table[:61].mean(0), atol=1e-6)
    with pytest.raises(ConfigError, match="ids from 0 to 60, received 61"):
        extend_token_table(encoder, [[61]])


def test_unused_rows_are_taken_first(encoder):
    larger = extend_token_table(encoder, [[3], [4], [5]], first_id=59)
    table, old = (e.embeddings.token_table.numpy() for e in (larger, encoder))
    assert larger.config.vocabulary_size == 62
    np.testing.assert_allclose(table[59:], old[3:6], atol=1e-7)


def test_a_vocabulary_grows_with_its_encoder(encoder, tmp_path):
    tokenizer = kbz.Tokenizer.from_preset(ASSETS / "bert_gelu")
    pieces = tokenizer.tokenize("covid").numpy()
    larger, longer = kbz.extend_vocabulary(encoder, tokenizer, ["covid", "zoom"])
    size = tokenizer.vocabulary_size
    assert longer.tokenize("a Covid zoom").numpy().tolist() == [
        tokenizer.token_to_id("a"), size, size + 1,
    ]  # fmt: skip
    row = larger.embeddings.token_table.numpy()[size]
    expected = encoder.embeddings.token_table.numpy()[pieces].mean(0)
    np.testing.assert_allclose(row, expected, atol=1e-6)
    model = kbz.TextClassifier(larger, longer, ["no", "yes"])
    model.save(tmp_path / "saved")
    same = kbz.TextClassifier.load(tmp_path / "saved")
    assert same.tokenizer.tokenize("zoom").numpy().tolist() == [size + 1]
    with pytest.raises(ConfigError, match="new `tokens`, received 'covid'"):
        kbz.extend_vocabulary(larger, longer, ["covid"])


@pytest.mark.parametrize(
    "adapt",
    [
        add_lora,
        merge_lora,
        lambda model: extend_positions(model, 1000),
        lambda model: extend_token_table(model, [[1]]),
    ],
)
def test_a_model_around_an_encoder_says_to_pass_the_encoder(adapt):
    model = kbz.HeadedModel.from_preset(ASSETS / "bert_classifier")
    with pytest.raises(
        ConfigError, match=r"received a HeadedModel\. Pass the encoder .* `x\.encoder`"
    ):
        adapt(model)
    with pytest.raises(ConfigError, match=r"Expected an Encoder, received a str\.$"):
        adapt("bert")
