"""The families that differ from BERT in one part: common tests, and tests of each family."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.encoders.albert import AlbertConfig
from keras_bert_zoo.encoders.distilbert import DistilBertConfig
from keras_bert_zoo.encoders.electra import ElectraConfig
from keras_bert_zoo.encoders.encoder import encoder_inputs
from keras_bert_zoo.encoders.ernie import ErnieConfig
from keras_bert_zoo.encoders.registry import build_encoder
from keras_bert_zoo.encoders.roberta import CamembertConfig, RobertaConfig, XLMRobertaConfig
from keras_bert_zoo.errors import ConfigError
from tests.helpers import random_inputs

SMALL = {
    "vocabulary_size": 50,
    "hidden_dim": 16,
    "num_layers": 2,
    "num_heads": 4,
    "intermediate_dim": 24,
    "max_sequence_length": 24,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "classifier_dropout": 0.0,
}
CONFIGS = {
    "distilbert": DistilBertConfig(**SMALL),
    "roberta": RobertaConfig(**SMALL, pad_token_id=3),
    "xlm-roberta": XLMRobertaConfig(**SMALL),
    "camembert": CamembertConfig(**SMALL),
    "electra": ElectraConfig(**SMALL, embedding_dim=12),
    "albert": AlbertConfig(**SMALL | {"num_layers": 3}, embedding_dim=12, num_groups=2),
    "ernie": ErnieConfig(**SMALL, has_task_types=True),
}
# XLM-RoBERTa and CamemBERT run RoBERTa's code.
IMPLEMENTATIONS = sorted(set(CONFIGS) - {"xlm-roberta", "camembert"})


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


@pytest.mark.parametrize("family", IMPLEMENTATIONS)
def test_layouts_are_equal_and_pooled_outputs_skips_no_part_of_the_result(family):
    padded = make_encoder(CONFIGS[family], token_layout="padded")
    packed = build_encoder(CONFIGS[family], token_layout="packed", attention_groups=3)
    packed.set_weights(padded.get_weights())
    inputs = make_inputs()
    expected, actual = padded(inputs), packed(inputs)
    # The packed layout computes the first column even if it is masked. Other padding is zero.
    mask = inputs["padding_mask"].copy()
    mask[:, :1] = 1
    difference = expected["sequence_output"] * mask[..., np.newaxis] - actual["sequence_output"]
    assert np.abs(difference).max() < 5e-6
    assert np.abs(expected["pooled_output"] - actual["pooled_output"]).max() < 5e-6
    symbolic = encoder_inputs()
    for layout in ("padded", "packed"):
        model = keras.Model(symbolic, padded.pooled_outputs(symbolic, token_layout=layout))
        assert np.abs(model(inputs) - expected["pooled_output"]).max() < 5e-6


# Families whose gradients differ from BERT's in structure.
@pytest.mark.parametrize("family", ["albert", "electra", "roberta"])
def test_gradients_are_equal_in_both_layouts_and_reach_every_weight(family):
    inputs = make_inputs()
    mask = inputs["padding_mask"][..., np.newaxis].astype("float32")
    projection = np.random.default_rng(3).normal(size=(5, 17, 16)).astype("float32")
    # ReLU's gradient needs no compiler.
    config = dataclasses.replace(CONFIGS[family], activation="relu")
    by_layout = []
    for layout in ("padded", "packed"):
        encoder = make_encoder(config, token_layout=layout)
        with tf.GradientTape() as tape:
            outputs = encoder(inputs, training=True)
            loss = tf.reduce_sum(outputs["sequence_output"] * mask * projection)
            loss += tf.reduce_sum(outputs["pooled_output"] * projection[:, 0])
        gradients = tape.gradient(loss, encoder.trainable_variables)
        by_layout.append([tf.convert_to_tensor(gradient).numpy() for gradient in gradients])
    for variable, padded, packed in zip(encoder.trainable_variables, *by_layout, strict=True):
        scale = max(1.0, np.abs(padded).max())
        assert np.abs(padded - packed).max() / scale < 2e-5, variable.path
        # A key's bias adds a constant to all scores of a query, which the softmax removes.
        if not variable.path.endswith("attention/key/bias"):
            assert np.abs(padded).max() > 1e-4, variable.path


@pytest.mark.parametrize("family", CONFIGS)
def test_configs_go_to_hugging_face_and_back(family):
    config = CONFIGS[family]
    assert kbz.EncoderConfig.from_huggingface(config.to_huggingface()) == config
    defaults = type(config)()
    assert kbz.EncoderConfig.from_huggingface({"model_type": family}) == defaults
    assert defaults.family == family


# Keys that only older software wrote into config.json, from published checkpoints.
PUBLISHED = {
    "albert": {
        "attention_probs_dropout_prob": 0,
        "down_scale_factor": 1,
        "gap_size": 0,
        "layers_to_keep": [],
        "net_structure_type": 0,
        "num_memory_blocks": 0,
        "position_embedding_type": "absolute",
    },
    "camembert": {"output_past": True, "gradient_checkpointing": False},
    "distilbert": {"tie_weights_": True, "output_past": True, "finetuning_task": "sst-2"},
    "electra": {"position_embedding_type": "absolute", "summary_type": "first"},
    "ernie": {"pool_act": "tanh", "task_id": 0, "fuse": False, "paddlenlp_version": None},
    "xlm-roberta": {"language": "english", "name": "XLMRoberta", "output_past": True},
}


@pytest.mark.parametrize("family", PUBLISHED)
def test_configs_of_published_checkpoints_are_read(family):
    read = kbz.EncoderConfig.from_huggingface({"model_type": family, **PUBLISHED[family]})
    assert read == type(CONFIGS[family])()


@pytest.mark.parametrize(
    ("family", "key", "value"),
    [
        ("albert", "num_memory_blocks", 2),
        ("camembert", "position_embedding_type", "relative_key"),
        ("distilbert", "is_decoder", True),
        ("electra", "summary_proj_to_labels", True),
        ("ernie", "task_id", 1),
        ("roberta", "alibi", True),
    ],
)
def test_refuses_unsupported_values_by_name(family, key, value):
    with pytest.raises(ConfigError, match=f"`{key}` = {value!r} is"):
        kbz.EncoderConfig.from_huggingface({"model_type": family, key: value})


def test_roberta_counts_positions_from_the_ids_alone():
    config = CONFIGS["roberta"]
    encoder = make_encoder(config, token_layout="padded")
    table = np.zeros(encoder.embeddings.position_table.shape, "float32")
    table[:, 0] = np.arange(len(table))
    encoder.embeddings.position_table.assign(table)
    encoder.embeddings.norm.gamma.assign(np.zeros(16))  # then nothing else differs by position
    inputs = {
        "token_ids": np.array([[7, 3, 8, 9, 3, 3], [3, 3, 7, 8, 9, 7]], np.int32),
        "segment_ids": np.zeros((2, 6), np.int32),
        "padding_mask": np.array([[1, 1, 0, 1, 0, 0], [0, 0, 1, 1, 1, 1]], np.int32),
    }
    layout = encoder.lay_out(inputs, "padded", 1)
    positions = np.reshape(layout["counted_positions"], (2, 6))
    np.testing.assert_array_equal(positions, [[4, 3, 5, 6, 3, 3], [3, 3, 4, 5, 6, 7]])
    packed = encoder.lay_out(inputs, "packed", 1)
    # Row 1 keeps its masked first column for the pooler; rows are sorted by length.
    np.testing.assert_array_equal(packed["counted_positions"][:8], [4, 3, 6, 3, 4, 5, 6, 7])


def test_roberta_leaves_out_the_rows_before_the_first_position():
    config = RobertaConfig(**SMALL | {"max_sequence_length": 10}, pad_token_id=3)
    assert config.max_tokens == 6
    encoder = make_encoder(config)
    inputs = random_inputs(2, 7, vocabulary_size=50)
    inputs["token_ids"][:] = 5
    inputs["padding_mask"][:] = 1
    encoder({name: value[:, :6] for name, value in inputs.items()})
    with pytest.raises(tf.errors.InvalidArgumentError, match="10 is not in"):
        encoder(inputs)


def test_roberta_refuses_a_config_without_positions_or_padding_id():
    with pytest.raises(ConfigError, match=r"must be above `pad_token_id` \+ 1 = 4, received 4"):
        RobertaConfig(**SMALL | {"max_sequence_length": 4}, pad_token_id=3)
    with pytest.raises(ConfigError, match="integer `pad_token_id`, received null"):
        kbz.EncoderConfig.from_huggingface({"model_type": "roberta", "pad_token_id": None})


def test_distilbert_reads_no_segments():
    encoder = make_encoder(CONFIGS["distilbert"])
    inputs = make_inputs()
    expected = encoder(inputs)["pooled_output"]
    inputs["segment_ids"] += 5
    np.testing.assert_array_equal(encoder(inputs)["pooled_output"], expected)


def test_distilbert_can_start_from_sinusoidal_positions():
    config = dataclasses.replace(CONFIGS["distilbert"], sinusoidal_positions=True)
    table = build_encoder(config).embeddings.position_table.numpy()
    row = [
        trigonometric(5 / 10000 ** (2 * i / 16))
        for i in range(8)
        for trigonometric in (np.sin, np.cos)
    ]
    np.testing.assert_allclose(table[5], row, atol=1e-6)


def test_distilbert_refuses_values_without_a_key_in_its_config():
    with pytest.raises(ConfigError, match="`num_segments` must be 0, received 2"):
        DistilBertConfig(num_segments=2)
    with pytest.raises(ConfigError, match="`layer_norm_epsilon` must be 1e-12, received 1e-05"):
        DistilBertConfig(layer_norm_epsilon=1e-5)
    with pytest.raises(ConfigError, match="`tie_weights_` = False is not supported"):
        kbz.EncoderConfig.from_huggingface({"model_type": "distilbert", "tie_weights_": False})


def test_albert_shares_blocks():
    encoder = make_encoder(
        AlbertConfig(
            **SMALL | {"num_layers": 5}, embedding_dim=12, num_groups=2, blocks_per_group=2
        ),
        token_layout="padded",
        hidden_states=True,
        attention_scores=True,
    )
    names = [block.name for block in encoder.blocks]
    first, second = [[f"group_{group}_block_{block}" for block in (0, 1)] for group in (0, 1)]
    assert names == first * 3 + second * 2
    outputs = encoder(make_inputs())
    assert len(outputs["hidden_states"]) == len(outputs["attention_scores"]) + 1 == 11
    assert len({variable.path for variable in encoder.weights}) == len(encoder.weights) == 73
    with pytest.raises(ConfigError, match="`num_groups` must be at most `num_layers` = 2"):
        AlbertConfig(**SMALL, num_groups=3)


def test_electra_pools_for_multiple_choice_as_its_config_says():
    config = dataclasses.replace(
        CONFIGS["electra"], summary_projected=False, summary_activation="tanh"
    )
    encoder = build_encoder(config, pooled_for="multiple_choice", hidden_states=True)
    outputs = encoder(make_inputs())
    np.testing.assert_array_equal(
        outputs["pooled_output"], tf.tanh(outputs["sequence_output"][:, 0])
    )
    assert not config.pooler_is_learned("multiple_choice")
    assert config.pooler_is_learned("classification")
    assert build_encoder(config).pooler.dense.activation == "gelu"
    with pytest.raises(ConfigError, match=r"`summary_type` = 'mean' is not .*'first'"):
        kbz.EncoderConfig.from_huggingface({"model_type": "electra", "summary_type": "mean"})


def test_electra_projects_only_embeddings_of_another_width():
    for width, count in ((16, 0), (12, 2)):
        config = dataclasses.replace(CONFIGS["electra"], embedding_dim=width)
        paths = [variable.path for variable in build_encoder(config).weights]
        assert sum("projection" in path for path in paths) == count
        assert build_encoder(config).embeddings.token_table.shape == (50, width)


def test_ernie_has_optional_task_embeddings():
    with_tasks, without = (
        [
            variable.path
            for variable in build_encoder(
                dataclasses.replace(CONFIGS["ernie"], has_task_types=flag)
            ).weights
        ]
        for flag in (True, False)
    )
    assert set(with_tasks) - set(without) == {"embeddings/task_table"}
