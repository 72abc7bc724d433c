"""Floating-point operations on paper, compared with those of TensorFlow's graphs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.adaptation.lora import add_lora
from keras_bert_zoo.config import EncoderConfig, config_class
from keras_bert_zoo.encoders.registry import build_encoder, families
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.heads.kinds import HEADS, make_head
from keras_bert_zoo.training.cost import measured_peak, training_flops
from keras_bert_zoo.training.model_shapes import model_shapes, task_shapes
from tests.training.graph_flops import graph_flops

ROWS, COLUMNS, PREDICTED = 3, 14, 2
SMALL = {
    "vocabulary_size": 50, "hidden_dim": 12, "num_layers": 2, "num_heads": 3,
    "intermediate_dim": 20, "max_sequence_length": 40, "pad_token_id": 1,
}  # fmt: skip
OPTIONS = {
    "albert": {"embedding_dim": 8, "num_groups": 1, "blocks_per_group": 2},
    "electra": {"embedding_dim": 8},
    "mobilebert": {"embedding_dim": 8, "bottleneck_dim": 6, "num_feedforward": 2},
    "roformer": {"embedding_dim": 8},
    "deberta-v2": {
        "relative_attention": True, "position_buckets": 8, "position_attention": ("c2p", "p2c"),
        "normalize_distances": True, "share_attention_key": True, "conv_kernel_size": 3,
    },
}  # fmt: skip
MORE = [
    ("mobilebert", {"use_bottleneck_attention": True}),
    ("mobilebert", {"use_bottleneck": False, "trigram_input": False}),
    ("mobilebert", {"key_query_shared_bottleneck": False, "bottleneck_dim": 12}),
    ("deberta-v2", {"share_attention_key": False, "embedding_dim": 8, "position_buckets": -1}),
    ("deberta-v2", {"num_layers": 1, "position_attention": ("p2c",)}),
    ("modernbert", {"classifier_pooling": "mean"}),
]


def make_config(family, more=None):
    return config_class(family)(**SMALL | OPTIONS.get(family, {}) | (more or {}))


def make_model(config, head, *, frozen_blocks, frozen_embeddings, checkpointing=False):
    """An encoder, its head, and a Keras model of both, in the padded layout."""
    pooled = HEADS[head].pooled
    purpose = "multiple_choice" if head == "multiple_choice" else ""
    encoder = build_encoder(config, token_layout="padded", pooler=pooled, pooled_for=purpose)
    layer = make_head(
        head, encoder, 4 if HEADS[head].units is None and head != "masked_lm" else None
    )
    encoder.gradient_checkpointing = checkpointing
    if frozen_blocks or frozen_embeddings:
        encoder.freeze(frozen_blocks, embeddings=frozen_embeddings)
    inputs = {name: keras.Input(shape=(None,), dtype="int32", name=name) for name in encoder.input}
    if pooled:
        outputs = layer(encoder.pooled_outputs(inputs, token_layout="padded"))
        return encoder, layer, keras.Model(inputs, outputs)
    states, layout = encoder.token_states(inputs, token_layout="padded")
    if head == "masked_lm":
        positions = keras.Input(shape=(None,), dtype="int32", name="mask_positions")
        outputs = layer(states, layout, positions)
        return encoder, layer, keras.Model(inputs | {"mask_positions": positions}, outputs)
    return encoder, layer, keras.Model(inputs, layer(states, layout))


def measure(model, variables):
    """The operations of the graph of a training step."""
    ones = tf.ones([ROWS, COLUMNS], tf.int32)
    inputs = {"token_ids": ones * 3, "segment_ids": ones * 0, "padding_mask": ones}
    if "mask_positions" in model.input:
        inputs["mask_positions"] = tf.ones([ROWS, PREDICTED], tf.int32)

    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(model(inputs, training=True)))
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        return [tf.convert_to_tensor(g) for g in gradients if g is not None] + [loss]

    return graph_flops(step)


def check(config, head, **options):
    options = {"frozen_blocks": 0, "frozen_embeddings": False} | options
    encoder, layer, model = make_model(config, head, **options)
    expected = measure(model, encoder.trainable_variables + layer.trainable_variables)
    units = None if head == "masked_lm" else 4
    counted = training_flops(
        config,
        [COLUMNS] * ROWS,
        head=head,
        units=None if HEADS[head].units else units,
        predicted=ROWS * PREDICTED,
        token_layout="padded",
        gradient_checkpointing=options.pop("checkpointing", False),
        **options,
    )
    assert counted == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("head", ["classification", "token_classification", "masked_lm"])
def test_operations_of_heads(head):
    check(make_config("bert"), head)


@pytest.mark.parametrize("family", sorted(set(families()) - {"bert"}))
def test_operations_of_families(family):
    check(make_config(family), "masked_lm")


@pytest.mark.parametrize(("family", "more"), MORE)
def test_operations_of_other_options(family, more):
    check(make_config(family, more), "classification")


@pytest.mark.parametrize("family", ["roformer", "electra"])
def test_operations_of_multiple_choice(family):
    check(make_config(family), "multiple_choice")


FROZEN = {"frozen_blocks": 1, "frozen_embeddings": True}


@pytest.mark.parametrize(
    ("family", "head", "options"),
    [
        ("bert", "token_classification", FROZEN | {"checkpointing": True}),
        ("bert", "token_classification", {"frozen_blocks": 1}),
        ("mpnet", "token_classification", FROZEN),  # its relative positions are trained
        ("deberta-v2", "token_classification", FROZEN | {"checkpointing": True}),
        ("mobilebert", "classification", FROZEN),
        ("modernbert", "classification", FROZEN),
        ("modernbert", "classification", {"checkpointing": True}),
    ],
)
def test_operations_with_frozen_blocks_and_recomputation(family, head, options):
    check(make_config(family), head, **options)


@pytest.mark.parametrize("targets", [None, ["intermediate", "output_dense"]])
def test_operations_with_lora(targets):
    encoder, head, model = make_model(
        make_config("bert"), "token_classification", frozen_blocks=0, frozen_embeddings=False
    )
    add_lora(encoder, rank=2, targets=targets)
    expected = measure(model, encoder.trainable_variables + head.trainable_variables)
    task = _FakeTask(encoder, head)
    counted = training_flops(task_shapes(task), [COLUMNS] * ROWS, token_layout="padded")
    assert counted == pytest.approx(expected, rel=1e-12)


class _FakeTask:
    spec = kbz.TokenClassifier.spec

    def __init__(self, encoder, head):
        self.encoder, self.head = encoder, head


def test_operations_of_bert_base_by_hand():
    # One row of 10 tokens; classification, so that the last block computes one token.
    hidden, inner, length = 768, 3072, 10
    block = 2 * length * (4 * hidden * hidden + 2 * hidden * inner) + 4 * length**2 * hidden
    last = 2 * (2 * hidden * hidden + 2 * hidden * inner) + 2 * length * 2 * hidden * hidden
    last += 4 * length * hidden
    expected = 3 * (11 * block + last + 2 * hidden * hidden + 2 * hidden * 2)
    counted = training_flops(EncoderConfig(), [length], head="classification", units=2)
    assert counted == expected
    assert 3 * training_flops(
        EncoderConfig(), [length], head="classification", units=2, training=False
    ) == pytest.approx(counted)


def test_padding_counts_in_the_padded_layout_alone():
    config = EncoderConfig(num_layers=1)
    packed = training_flops(config, [3, 10])
    assert packed == training_flops(config, [10, 3]) < training_flops(config, [10, 10])
    padded = training_flops(config, [3, 10], token_layout="padded")
    assert padded == training_flops(config, [10, 10])


def test_task_shapes_equal_those_of_the_config():
    task = kbz.TextClassifier.from_preset("minilm_l6_en_uncased", labels=["a", "b", "c"])
    shapes = task_shapes(task)
    assert shapes.parameters == task.count_params()
    lengths = np.array([5, 9, 30])
    options = {"head": "classification", "units": 3}
    by_config = training_flops(task.encoder.config, lengths, **options)
    assert training_flops(shapes, lengths) == by_config
    assert model_shapes(task.encoder.config, **options).parameters == task.count_params()


def test_wrong_arguments_are_named():
    with pytest.raises(ConfigError, match="`frozen_blocks` from 0 to 12, received 13"):
        training_flops(EncoderConfig(), [3], frozen_blocks=13)
    with pytest.raises(ConfigError, match="`token_layout` to be one of padded, packed"):
        training_flops(EncoderConfig(), [3], token_layout="ragged")
    with pytest.raises(ConfigError, match="received 'float64'"):
        measured_peak("float64")


def test_peak_is_that_of_large_products():
    peak = measured_peak("float32")
    assert peak == measured_peak("float32")
    x = tf.ones([64, 64])
    begin = tf.timestamp()
    for _ in range(20):
        y = tf.matmul(x, x)
    seconds = float(tf.timestamp() - begin)
    assert float(y[0, 0]) == 64
    assert peak > 20 * 2 * 64**3 / seconds  # small products are slower
