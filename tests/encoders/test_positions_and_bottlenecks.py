"""MPNet, RoFormer and MobileBERT: common tests, and tests of each family."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.encoders.encoder import encoder_inputs
from keras_bert_zoo.encoders.mobilebert import MobileBertConfig
from keras_bert_zoo.encoders.mpnet import MPNetConfig
from keras_bert_zoo.encoders.registry import build_encoder
from keras_bert_zoo.encoders.roformer import RoFormerConfig
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.layers.attention_groups import MASKED_SCORE
from tests.helpers import eagerly, random_inputs

SMALL = {
    "vocabulary_size": 50,
    "hidden_dim": 16,
    "num_layers": 2,
    "num_heads": 4,
    "intermediate_dim": 24,
    "max_sequence_length": 24,
    "dropout": 0.0,
    "attention_dropout": 0.0,
}
MOBILE = SMALL | {"hidden_dim": 18, "bottleneck_dim": 16, "embedding_dim": 12, "num_feedforward": 2}
CONFIGS = {
    "mpnet": MPNetConfig(**SMALL),
    "roformer": RoFormerConfig(**SMALL, embedding_dim=12),
    "mobilebert": MobileBertConfig(**MOBILE),
    "mobilebert_narrow": MobileBertConfig(
        **MOBILE, use_bottleneck_attention=True, normalization="layer_norm"
    ),
}
FAMILIES = sorted(CONFIGS)
SHALLOW = dataclasses.replace(CONFIGS["roformer"], num_layers=1)
MASKED_LAST = np.array([[1, 0, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]], np.int32)


def make_encoder(config, **options):
    keras.utils.set_random_seed(0)
    encoder = build_encoder(config, **options)
    random = np.random.default_rng(1)
    for variable in encoder.weights:  # biases and norms too: every weight must matter
        variable.assign(variable + random.normal(scale=0.2, size=variable.shape))
    return encoder


def make_inputs(rows=5, length=17):
    inputs = random_inputs(rows, length, vocabulary_size=50)
    inputs["padding_mask"][0, :6] = 0  # padded on the left
    inputs["padding_mask"][0, 6:] = 1
    return inputs


@pytest.mark.parametrize("family", ["mpnet", "roformer", "mobilebert"])
def test_layouts_and_their_gradients_are_equal_and_reach_every_weight(family):
    inputs = {name: tf.constant(value) for name, value in make_inputs().items()}
    mask = tf.cast(inputs["padding_mask"], tf.float32)[..., tf.newaxis]
    width = CONFIGS[family].hidden_dim
    projection = np.random.default_rng(3).normal(size=(5, 17, width)).astype("float32")
    by_layout = []
    for layout, groups in (("padded", 1), ("packed", 3)):
        encoder = make_encoder(CONFIGS[family], token_layout=layout, attention_groups=groups)
        symbolic = encoder_inputs()
        pooled = encoder.pooled_outputs(symbolic, token_layout=layout, attention_groups=groups)
        first_tokens = keras.Model(symbolic, pooled)

        @tf.function(input_signature=[{n: tf.TensorSpec([None, None], tf.int32) for n in inputs}])
        def train(inputs, encoder=encoder):
            with tf.GradientTape() as tape:
                outputs = encoder(inputs, training=True)
                loss = tf.reduce_sum(outputs["sequence_output"] * mask * projection)
                loss += tf.reduce_sum(outputs["pooled_output"] * projection[:, 0])
            gradients = tape.gradient(loss, encoder.trainable_variables)
            return {"training": outputs["sequence_output"] * mask} | {
                variable.path: tf.convert_to_tensor(gradient)
                for variable, gradient in zip(encoder.trainable_variables, gradients, strict=True)
            }

        with eagerly(layout == "padded"):  # a trace of both would take twice as long
            results = train(inputs)
        quiet = encoder(inputs)
        results |= {
            "sequence_output": quiet["sequence_output"] * mask,
            "pooled_output": quiet["pooled_output"],
            "first_tokens": first_tokens(inputs),
        }
        by_layout.append({path: value.numpy() for path, value in results.items()})
    padded, packed = by_layout
    for path, value in padded.items():
        scale = max(1.0, np.abs(value).max())
        assert np.abs(packed[path] - value).max() / scale < 2e-5, path
        # A key's bias adds a constant to all scores of a query, which the softmax removes, unless
        # the key is rotated afterwards.
        if not path.endswith("attention/key/bias"):
            assert np.abs(value).max() > 1e-4, path
    for result in by_layout:
        scale = np.abs(result["sequence_output"]).max()
        assert np.abs(result["training"] - result["sequence_output"]).max() / scale < 2e-6
        assert np.abs(result["first_tokens"] - result["pooled_output"]).max() < 2e-6 * scale


@pytest.mark.parametrize("family", FAMILIES)
def test_configs_go_to_hugging_face_and_back(family):
    config = CONFIGS[family]
    assert kbz.EncoderConfig.from_huggingface(config.to_huggingface()) == config
    defaults = type(config)()
    assert kbz.EncoderConfig.from_huggingface({"model_type": config.family}) == defaults


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_mpnet_counts_positions_from_the_id_1_and_distances_from_columns(layout):
    encoder = make_encoder(dataclasses.replace(CONFIGS["mpnet"], pad_token_id=7, num_layers=1))
    inputs = {
        "token_ids": np.array([[7, 1, 8, 9, 1, 1]], np.int32),
        "segment_ids": np.zeros((1, 6), np.int32),
        "padding_mask": np.array([[1, 0, 1, 1, 0, 0]], np.int32),
    }
    tokens = encoder.lay_out(inputs, layout, 1)
    columns = [0, 2, 3] if layout == "packed" else [0, 1, 2, 3, 4, 5]
    expected = np.array([2, 1, 3, 4, 1, 1])[columns]
    np.testing.assert_array_equal(tokens["counted_positions"][: len(columns)], expected)
    (bias,) = encoder.parts.context(tokens)["attention_bias"]
    table = encoder.parts.context.table.numpy()
    for row, query in enumerate(columns):
        for column, key in enumerate(columns):
            if inputs["padding_mask"][0, key]:
                bucket = key - query + 16 if key > query else query - key
                np.testing.assert_array_equal(bias[0, :, row, column], table[bucket])
            else:
                assert np.max(bias[0, :, row, column]) < 0.9 * MASKED_SCORE


def test_mpnet_refuses_unsupported_values():
    with pytest.raises(ConfigError, match="`relative_buckets` must be an integer of at least"):
        MPNetConfig(relative_buckets=31)
    with pytest.raises(ConfigError, match="`num_segments` must be 0, received 2"):
        MPNetConfig(num_segments=2)
    with pytest.raises(ConfigError, match="`classifier_dropout` must be None, received 0.3"):
        MPNetConfig(classifier_dropout=0.3)
    with pytest.raises(ConfigError, match="`max_sequence_length` must be above 2, received 2"):
        MPNetConfig(max_sequence_length=2)
    assert MPNetConfig(max_sequence_length=514).max_tokens == 512


def test_roformer_pools_the_last_column_for_multiple_choice():
    inputs = random_inputs(3, 6, vocabulary_size=50)
    inputs["padding_mask"] = MASKED_LAST
    padded = make_encoder(SHALLOW, token_layout="padded", pooled_for="multiple_choice")
    expected = padded(inputs)
    np.testing.assert_array_equal(expected["pooled_output"], expected["sequence_output"][:, -1])
    packed = build_encoder(SHALLOW, pooled_for="multiple_choice", attention_groups=2)
    packed.set_weights(padded.get_weights())
    difference = packed(inputs)["pooled_output"] - expected["pooled_output"]
    assert np.abs(difference).max() < 5e-6
    # Without multiple choice, masked columns are not computed.
    other = make_encoder(SHALLOW)
    assert np.abs(other(inputs)["sequence_output"][:, -1] * (1 - MASKED_LAST[:, -1:])).max() == 0


def test_roformer_keeps_its_table_out_of_training():
    encoder = build_encoder(SHALLOW)
    assert "sinusoids/table" in {variable.path for variable in encoder.weights}
    assert "sinusoids/table" not in {variable.path for variable in encoder.trainable_variables}
    (table,) = [v.numpy() for v in encoder.weights if v.path == "sinusoids/table"]
    row = [np.sin(5), np.sin(0.05), np.cos(5), np.cos(0.05)]
    np.testing.assert_allclose(table[5], row, atol=1e-6)


def test_roformer_refuses_unsupported_values():
    with pytest.raises(ConfigError, match=r"must be even for rotary positions, rece"):
        RoFormerConfig(**SMALL | {"hidden_dim": 12})
    with pytest.raises(ConfigError, match="`summary_type` = 'mean' is not supported"):
        kbz.EncoderConfig.from_huggingface({"model_type": "roformer", "summary_type": "mean"})


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_mobilebert_reads_neighbours_of_the_batch_padding_included(layout):
    config = dataclasses.replace(CONFIGS["mobilebert"], num_layers=1)
    encoder = make_encoder(config, token_layout=layout)
    inputs = random_inputs(3, 6, vocabulary_size=50)
    inputs["padding_mask"] = MASKED_LAST
    states = encoder(inputs)["sequence_output"].numpy()
    inputs["token_ids"][0, 4] += 1  # padding, next to a token
    changed = encoder(inputs)["sequence_output"].numpy()
    moved = np.abs(changed - states).max(axis=-1) > 1e-6
    assert moved[0, 3]  # the neighbour
    assert moved[0, 0]  # which attends to it
    inputs["token_ids"][0, 4] -= 1
    inputs["token_ids"][0, 5] += 1  # padding, next to padding
    changed = encoder(inputs)["sequence_output"].numpy()
    attended = MASKED_LAST[..., np.newaxis]
    np.testing.assert_array_equal(changed * attended, states * attended)


def test_mobilebert_keeps_weights_that_it_does_not_use_out_of_training():
    config = MobileBertConfig(
        **MOBILE | {"hidden_dim": 16, "embedding_dim": 16},
        use_bottleneck_attention=True,
        trigram_input=False,
    )
    encoder = make_encoder(config)
    unused = {variable.path for variable in encoder.non_trainable_variables}
    assert unused == {
        "embeddings/projection/kernel",
        "embeddings/projection/bias",
        *(
            f"block_{i}/query_key_bottleneck/{weight}"
            for i in (0, 1)
            for weight in ("dense/kernel", "dense/bias", "norm/gamma", "norm/beta")
        ),
    }
    inputs = make_inputs()
    expected = encoder(inputs)["sequence_output"]
    for variable in encoder.non_trainable_variables:
        variable.assign(variable + 1.0)
    np.testing.assert_array_equal(encoder(inputs)["sequence_output"], expected)


def test_mobilebert_without_a_learned_pooler_pools_the_first_token(tmp_path):
    config = MobileBertConfig(**MOBILE | {"num_layers": 1}, classifier_activation=False)
    encoder = make_encoder(config)
    inputs = make_inputs()
    outputs = encoder(inputs)
    np.testing.assert_array_equal(outputs["pooled_output"], outputs["sequence_output"][:, 0])
    encoder.save(tmp_path / "saved")
    again = kbz.Encoder.from_preset(tmp_path / "saved")
    np.testing.assert_array_equal(again(inputs)["pooled_output"], outputs["pooled_output"])


def test_mobilebert_refuses_unsupported_values():
    def read(**config):
        return kbz.EncoderConfig.from_huggingface({"model_type": "mobilebert"} | config)

    assert read(true_hidden_size=128) == MobileBertConfig()
    with pytest.raises(ConfigError, match="`true_hidden_size` = 64 is not .*, 128"):
        read(true_hidden_size=64)
    with pytest.raises(ConfigError, match="`true_hidden_size` = 128 is not .*, 512"):
        read(true_hidden_size=128, use_bottleneck=False)
    with pytest.raises(ConfigError, match="divide the width of the blocks, 128, received 3"):
        read(num_attention_heads=3)
    with pytest.raises(
        ConfigError, match="must be one of layer_norm, no_norm, received 'rms_norm'"
    ):
        read(normalization_type="rms_norm")
    with pytest.raises(ConfigError, match=r"must be true if `bottleneck_dim` \(128\) is not"):
        read(key_query_shared_bottleneck=False)
    encoder = build_encoder(MobileBertConfig(**MOBILE | {"embedding_dim": 19, "num_layers": 1}))
    with pytest.raises(ConfigError, match="no wider than the hidden states"):
        encoder.head_options("masked_lm")
