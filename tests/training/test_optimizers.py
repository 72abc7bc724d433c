"""Optimizers compared with those of Keras and PyTorch; rates of layers; averages of weights."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.encoders.albert import AlbertConfig
from keras_bert_zoo.encoders.electra import ElectraConfig
from keras_bert_zoo.encoders.mpnet import MPNetConfig
from keras_bert_zoo.encoders.registry import build_encoder
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training.layer_rates import layer_rates
from keras_bert_zoo.training.optimizers import OPTIMIZERS, Adafactor, AdamW, Lion, make_optimizer
from keras_bert_zoo.training.schedules import WarmupDecay, WarmupLinearDecay
from tests.helpers import ASSETS, eagerly, run_module

OPTIONS = {"weight_decay": 0.1, "epsilon": 1e-6, "global_clipnorm": 0.5}


def make_variables():
    random = np.random.default_rng(0)
    return [
        # Large enough to be updated by the compiled function; the kernel is not.
        keras.Variable(random.normal(size=(700, 100)), dtype="float32", name="token_table"),
        keras.Variable(random.normal(size=(3, 4)), dtype="float32", name="kernel"),
        keras.Variable(random.normal(size=(4,)), dtype="float32", name="bias"),
        keras.Variable(random.normal(size=(4,)), dtype="float32", name="gamma"),
    ]


def gradients(step):
    random = np.random.default_rng(step)
    # Row 2 occurs twice: its gradient is the sum.
    rows = tf.IndexedSlices(
        tf.constant(random.normal(size=(4, 100)), tf.float32),
        tf.constant([2, 5, 2, 7]),
        tf.constant([700, 100]),
    )
    return [rows, *(tf.constant(random.normal(size=s), tf.float32) for s in [(3, 4), 4, 4])]


def test_equals_keras_adamw_with_sparse_rows_clipping_and_decay():
    schedule = WarmupLinearDecay(0.1, total_steps=8, warmup_steps=3)
    ours, theirs = make_variables(), make_variables()
    optimizer = AdamW(schedule, **OPTIONS)
    reference = keras.optimizers.AdamW(schedule, **OPTIONS)
    reference.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    for step in range(6):
        optimizer.apply(gradients(step), ours)
        reference.apply([tf.convert_to_tensor(g) for g in gradients(step)], theirs)
        for variable, expected in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(
                variable, expected, rtol=3e-6, atol=3e-6, err_msg=variable.name
            )


def test_biases_and_layer_norm_do_not_decay():
    variables = make_variables()
    before = [variable.numpy() for variable in variables]
    optimizer = AdamW(0.1, weight_decay=0.5)
    optimizer.apply([tf.zeros(variable.shape) for variable in variables], variables)
    table, kernel, bias, gamma = (variable.numpy() for variable in variables)
    np.testing.assert_allclose(table, before[0] * 0.95, atol=1e-6)
    np.testing.assert_allclose(kernel, before[1] * 0.95, atol=1e-6)
    np.testing.assert_array_equal(bias, before[2])
    np.testing.assert_array_equal(gamma, before[3])


@pytest.mark.parity
def test_adamw_equals_pytorch():
    """50 steps. PyTorch adds epsilon elsewhere, so no gradient is as small as epsilon."""
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(0)
    shapes = {"large": (700, 100), "kernel": (3, 4), "bias": (4,)}
    start = [random.normal(scale=0.1, size=shape).astype("float32") for shape in shapes.values()]
    ours = [keras.Variable(array, name=name) for name, array in zip(shapes, start, strict=True)]
    theirs = [torch.nn.Parameter(torch.tensor(array)) for array in start]
    optimizer = AdamW(1e-3, weight_decay=0.1, epsilon=1e-8, global_clipnorm=None)
    groups = [
        {"params": theirs[:2], "weight_decay": 0.1},
        {"params": theirs[2:], "weight_decay": 0.0},
    ]
    reference = torch.optim.AdamW(groups, lr=1e-3, eps=1e-8)
    for _ in range(50):
        grads = [
            (random.uniform(0.1, 1, shape) * random.choice([-1, 1], shape)).astype("float32")
            for shape in shapes.values()
        ]
        optimizer.apply([tf.constant(grad) for grad in grads], ours)
        for parameter, grad in zip(theirs, grads, strict=True):
            parameter.grad = torch.tensor(grad)
        reference.step()
    for variable, parameter, before in zip(ours, theirs, start, strict=True):
        assert np.abs(variable.numpy() - before).max() > 5e-3
        np.testing.assert_allclose(variable, parameter.detach().numpy(), rtol=0, atol=1e-6)


def test_own_exclusions_replace_those_of_biases():
    variables = make_variables()
    before = [variable.numpy() for variable in variables]
    optimizer = AdamW(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["kernel"])
    optimizer.apply([tf.zeros(variable.shape) for variable in variables], variables)
    np.testing.assert_array_equal(variables[1], before[1])
    np.testing.assert_allclose(variables[2], before[2] * 0.95, atol=1e-6)


def test_accumulated_gradients_are_averaged():
    ours, theirs = make_variables()[1:], make_variables()[1:]
    accumulates = AdamW(0.1, gradient_accumulation_steps=2)
    plain = AdamW(0.1)
    for step in (0, 2):
        parts = gradients(step)[1:], gradients(step + 1)[1:]
        for part in parts:
            accumulates.apply(part, ours)
        plain.apply([(a + b) / 2 for a, b in zip(*parts, strict=True)], theirs)
    for variable, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(variable, expected, rtol=1e-5, atol=1e-6)


def test_refuses_amsgrad():
    with pytest.raises(ConfigError, match="`amsgrad=True` is not supported"):
        AdamW(0.1, amsgrad=True)


# === The other optimizers ===


@pytest.mark.parametrize("clipnorm", [None, 0.5])
@pytest.mark.parametrize(
    ("ours", "theirs"), [(Lion, keras.optimizers.Lion), (Adafactor, keras.optimizers.Adafactor)]
)
def test_equals_the_optimizer_of_keras_on_dense_gradients(ours, theirs, clipnorm):
    schedule = WarmupDecay(0.01, total_steps=8, warmup_steps=3, kind="cosine")
    options = {"weight_decay": 0.1, "global_clipnorm": clipnorm}
    updated, expected = make_variables(), make_variables()
    optimizer, reference = ours(schedule, **options), theirs(schedule, **options)
    reference.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    for step in range(4):
        optimizer.apply(gradients(step), updated)
        reference.apply([tf.convert_to_tensor(g) for g in gradients(step)], expected)
    for variable, other in zip(updated, expected, strict=True):
        np.testing.assert_allclose(variable, other, rtol=3e-6, atol=3e-6, err_msg=variable.name)


PATHS = ("block_0/attention/query/kernel", "group_0_block_1/output_dense/kernel", "dense/kernel",
         "embeddings/token_table", "block_0/query/lora_a", "block_0/query/bias")  # fmt: skip


def named_variables():
    random = np.random.default_rng(0)
    result = []
    for path in PATHS:
        *scopes, name = path.split("/")
        shape = (4,) if name == "bias" else (6, 4)
        with contextlib.ExitStack() as stack:
            for scope in scopes:
                stack.enter_context(keras.name_scope(scope))
            result.append(keras.Variable(random.normal(size=shape), dtype="float32", name=name))
    assert [variable.path for variable in result] == list(PATHS)
    return result


def orthogonalized(matrix):
    """Newton-Schulz as in Keller Jordan's Muon, for more rows than columns."""
    x = matrix.T / np.linalg.norm(matrix)
    for _ in range(5):
        product = x @ x.T
        x = 3.4445 * x + (-4.7750 * product + 2.0315 * product @ product) @ x
    return x.T


def test_muon_orthogonalizes_only_matrices_of_blocks():
    variables, others = named_variables(), named_variables()
    before = [variable.numpy() for variable in variables]
    random = np.random.default_rng(1)
    grads = [tf.constant(random.normal(size=v.shape), tf.float32) for v in variables]
    options = {"weight_decay": 0.3, "global_clipnorm": None}
    make_optimizer("muon", 0.01, **options).apply(grads, variables)
    make_optimizer("adamw", 0.01, **options).apply(grads, others)
    for i in range(2):
        # With Nesterov's momentum of 0.95, the first update is of 1.95 times the gradient.
        update = 0.2 * np.sqrt(6) * orthogonalized(1.95 * grads[i].numpy().astype(np.float64))
        expected = before[i] * (1 - 0.01 * 0.3) - 0.01 * update
        np.testing.assert_allclose(variables[i], expected, rtol=1e-4, atol=2e-6)
    for variable, other in list(zip(variables, others, strict=True))[2:]:
        np.testing.assert_allclose(variable, other, rtol=1e-6, atol=1e-6, err_msg=variable.path)


def test_muon_knows_the_matrices_of_an_encoder():
    encoder = kbz.Encoder.from_preset(ASSETS / "bert_gelu")
    optimizer = make_optimizer("muon", 0.01, weight_decay=0.1, global_clipnorm=1.0)
    optimizer.build(encoder.trainable_variables)
    by_muon = {
        variable.path
        for variable, velocity in zip(
            encoder.trainable_variables, optimizer.adam_velocities, strict=True
        )
        if velocity is None
    }
    layers = ("attention/query", "attention/key", "attention/value", "attention_output",
              "intermediate", "output_dense")  # fmt: skip
    blocks = range(len(encoder.blocks))
    assert by_muon == {f"block_{i}/{layer}/kernel" for i in blocks for layer in layers}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_rate_factors_scale_the_rate_of_a_variable(name):
    random = np.random.default_rng(1)
    factors = {PATHS[0]: 0.25, PATHS[2]: 0.5, PATHS[5]: 0.0}
    options = {"weight_decay": 0.3, "global_clipnorm": 1.0}
    scaled = named_variables()
    optimizer = make_optimizer(name, 0.01, rate_factors=factors, **options)
    # One plain optimizer for each factor.
    plain = {f: (make_optimizer(name, 0.01 * f, **options), named_variables())
             for f in (1.0, 0.5, 0.25, 0.0)}  # fmt: skip
    for _ in range(3):
        grads = [tf.constant(random.normal(size=v.shape), tf.float32) for v in scaled]
        optimizer.apply(grads, scaled)
        for other, variables in plain.values():
            other.apply(grads, variables)
    for i, path in enumerate(PATHS):
        expected = plain[factors.get(path, 1.0)][1][i]
        np.testing.assert_allclose(scaled[i], expected, rtol=1e-5, atol=1e-6, err_msg=path)
    config = keras.saving.serialize_keras_object(optimizer)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is OPTIMIZERS[name]
    assert again.get_config() == optimizer.get_config()
    assert again.rate_factors == factors


def test_rate_factors_must_belong_to_variables():
    optimizer = AdamW(0.1, rate_factors={"kernel": 0.5, "kernels": 0.5})
    with pytest.raises(ConfigError, match="paths of other variables: kernels; call `layer_rates`"):
        optimizer.build(make_variables())
    with pytest.raises(ConfigError, match=r"`rate_factors\['kernel'\]` to be a number of at least"):
        AdamW(0.1, rate_factors={"kernel": -1})


def test_make_optimizer_refuses_unknown_names_and_arguments():
    options = {"weight_decay": 0.0, "global_clipnorm": None}
    with pytest.raises(ConfigError, match="`optimizer` to be one of 'adamw', 'lamb'.*'adam'"):
        make_optimizer("adam", 0.1, **options)
    with pytest.raises(ConfigError, match=r"Expected arguments of Lion, received beta_3:"):
        make_optimizer("lion", 0.1, beta_3=0.5, **options)
    with pytest.raises(ConfigError, match="`weight_decay` must be a number of at least 0"):
        make_optimizer("lamb", 0.1, weight_decay=-1.0, global_clipnorm=None)


# === Rates of layers ===

SMALL = {
    "vocabulary_size": 20,
    "hidden_dim": 8,
    "num_layers": 3,
    "num_heads": 2,
    "intermediate_dim": 8,
    "max_sequence_length": 8,
}


def rates_of(config, decay=0.5):
    encoder = build_encoder(config)
    rates = layer_rates(encoder, decay)
    assert len(rates) == len(encoder.trainable_variables)  # no path occurs twice
    return rates


def test_layer_rates_are_those_of_electra():
    rates = rates_of(ElectraConfig(**SMALL, embedding_dim=4))
    # google-research/electra: embeddings have the depth 0, block i has i + 1, the head n + 2.
    depths = {"embeddings": 0, "block_0": 1, "block_1": 2, "block_2": 3, "pooler": 5}
    assert {path.partition("/")[0] for path in rates} == set(depths)
    for path, rate in rates.items():
        assert rate == 0.5 ** (5 - depths[path.partition("/")[0]]), path


def test_layer_rates_of_shared_weights():
    rates = rates_of(AlbertConfig(**SMALL, embedding_dim=4, num_groups=1))
    assert rates["group_0_block_0/attention/query/kernel"] == 0.5**2  # that of the last use
    assert rates["embeddings/projection/kernel"] == 0.5**5
    assert rates_of(MPNetConfig(**SMALL))["relative_positions/table"] == 0.5**5


def test_layer_rates_of_a_task_train_it(tmp_path):
    encoder = kbz.Encoder.from_preset(ASSETS / "bert_gelu")
    task = kbz.TextClassifier(encoder, encoder.tokenizer, ["a", "b"], max_length=8)
    encoder.freeze(1)
    rates = layer_rates(task, 0.5)
    assert set(rates) == {variable.path for variable in task.trainable_variables}
    head = {path: rate for path, rate in rates.items() if not path.startswith("block_1/")}
    assert set(head.values()) == {1.0}
    assert rates["block_1/output_dense/kernel"] == 0.25
    before = {v.path: v.numpy() for v in task.trainable_variables}
    task.compile(AdamW(0.01, weight_decay=0.0, rate_factors=rates))
    with eagerly():
        task.train_on_batch(["hello", "world", "all"], ["a", "b", "b"])
    # The first update of Adam is the learning rate, if the gradient is not tiny.
    for variable in task.trainable_variables:
        way = np.abs(variable.numpy() - before[variable.path]).max()
        assert way <= 0.01 * rates[variable.path] * 1.001
    assert way == pytest.approx(0.01, rel=1e-2)
    task.save(tmp_path / "task.keras")
    assert keras.models.load_model(tmp_path / "task.keras").optimizer.rate_factors == rates


def test_layer_rates_refuse_other_models():
    with pytest.raises(ConfigError, match="Expected a task, a HeadedModel or an Encoder.*Dense"):
        layer_rates(keras.layers.Dense(1), 0.5)
    with pytest.raises(ConfigError, match="Expected `decay` to be a number from 0 to 1"):
        layer_rates(build_encoder(kbz.EncoderConfig(**SMALL)), 1.5)


# === Moving averages of the weights ===


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_averages_of_weights_equal_those_of_numpy(name):
    variables = make_variables()
    optimizer = make_optimizer(
        name, 0.1, weight_decay=0.1, global_clipnorm=1.0, use_ema=True, ema_momentum=0.8
    )
    average = None
    for step in range(5):
        optimizer.apply(gradients(step), variables)
        weights = [variable.numpy().astype(np.float64) for variable in variables]
        if average is None:
            average = weights
        average = [0.8 * a + 0.2 * w for a, w in zip(average, weights, strict=True)]
    assert max(np.abs(a - w).max() for a, w in zip(average, weights, strict=True)) > 0.01
    optimizer.finalize_variable_values(variables)
    for variable, expected in zip(variables, average, strict=True):
        np.testing.assert_allclose(variable, expected, rtol=1e-5, atol=1e-6)


def test_optimizers_have_equal_results_on_two_replicas():
    run_module("tests.training.replicas_script")
