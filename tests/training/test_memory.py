"""The memory estimate, and the refusal of runs that cannot fit."""

import math

import pytest

import keras_bert_zoo as kbz
from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training import memory, plan
from keras_bert_zoo.training.memory import (
    MemoryEstimate,
    available_memory,
    check_memory,
    container_memory,
    estimate_memory,
)
from keras_bert_zoo.training.model_shapes import model_shapes, task_shapes
from keras_bert_zoo.training.optimizers import OPTIMIZERS, make_optimizer
from tests.helpers import eagerly

MINILM = EncoderConfig(hidden_dim=384, num_layers=6, intermediate_dim=1536)
CLASSIFIER = {"head": "classification", "units": 2}

# Peaks of whole processes in GB: tools/bench/training_memory.py, and docs/training.md.
MEASURED = [
    (MINILM, [32] * 8, {}, 1.56),
    (MINILM, [128] * 32, {}, 2.42),
    (MINILM, [128] * 128, {}, 5.05),
    (MINILM, [512] * 16, {}, 5.15),
    (MINILM, [128] * 32, {"dtype": "mixed_bfloat16"}, 1.99),
    (MINILM, [512] * 32, {"dtype": "mixed_bfloat16"}, 5.28),
    (MINILM, [128] * 64, {"gradient_checkpointing": True}, 2.11),
    (EncoderConfig(), [16] * 2, {"keeps_best": True}, 3.94),
    (EncoderConfig(), [16] * 2, {"optimizer": "adafactor"}, 3.07),
    (EncoderConfig(), [256] * 16, {}, 6.1),
    (EncoderConfig(), [256] * 16, {"gradient_checkpointing": True}, 3.5),
    (EncoderConfig(), [256] * 16, {"dtype": "mixed_bfloat16"}, 4.6),
    (EncoderConfig(), [256] * 16, {"dtype": "mixed_bfloat16", "gradient_checkpointing": True}, 3.3),
]


@pytest.mark.parametrize(("config", "lengths", "options", "gigabytes"), MEASURED)
def test_estimates_are_near_the_measured_peaks(config, lengths, options, gigabytes):
    estimate = estimate_memory(model_shapes(config, **CLASSIFIER), lengths, **options)
    assert 0.95 < estimate.total / 1e9 / gigabytes < 1.1


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_the_memory_of_optimizers_is_that_of_their_variables(name):
    task = kbz.TextClassifier.from_preset("minilm_l6_en_uncased", labels=["a", "b"])
    optimizer = make_optimizer(name, 1e-4, weight_decay=0.01, global_clipnorm=1.0)
    optimizer.build(task.trainable_variables)
    actual = 4 * sum(math.prod(v.shape) for v in optimizer.variables)
    estimate = estimate_memory(task_shapes(task), [8], optimizer=name)
    assert estimate.optimizer == pytest.approx(actual, rel=1e-4)


def test_each_option_has_its_memory():
    model = model_shapes(MINILM, **CLASSIFIER)
    plain = estimate_memory(model, [128] * 32)
    assert set(plain.parts()) == {
        "base", "weights", "gradients", "optimizer", "activations", "logits"
    }  # fmt: skip
    assert plain.weights == 4 * model.parameters
    averaged = estimate_memory(model, [128] * 32, average_weights=True, keeps_best=True)
    assert averaged.averages == averaged.best_epoch == 4 * model.parameters
    parts = estimate_memory(model, [128] * 32, accumulation_steps=4)
    assert parts.activations == estimate_memory(model, [128] * 8).activations
    assert parts.accumulation > 0
    shared = estimate_memory(model, [128] * 32, replicas=2)
    assert (shared.weights, shared.activations) == (2 * plain.weights, plain.activations)
    assert estimate_memory(model, [128] * 32, on_gpu=True).base == 0
    padded = estimate_memory(model, [128] + [8] * 31, token_layout="padded")
    assert padded.activations == plain.activations
    packed = estimate_memory(model, [128] + [8] * 31)
    assert packed.activations < plain.activations
    frozen = model_shapes(MINILM, **CLASSIFIER, frozen_blocks=6)
    assert estimate_memory(frozen, [128] * 32).activations < 0.4 * plain.activations
    assert estimate_memory(frozen, [128] * 32).gradients < 1e6
    with pytest.raises(ConfigError, match="`optimizer` to be one of adamw, lamb"):
        estimate_memory(model, [8], optimizer="sgd")


def test_the_limit_of_a_container_counts(tmp_path):
    own = tmp_path / "own"
    own.write_text("0::/user/job\n")
    root = tmp_path / "version-2"
    (root / "user" / "job").mkdir(parents=True)
    (root / "user" / "job" / "memory.max").write_text("max\n")
    assert container_memory(root, own) == math.inf
    (root / "user" / "memory.max").write_text("3000000\n")  # of the parent
    assert container_memory(root, own) == 3e6
    (root / "user" / "job" / "memory.max").write_text("2000000\n")
    assert container_memory(root, own) == 2e6
    own.write_text("5:cpu:/x\n6:memory:/docker/1\n")
    root = tmp_path / "version-1"
    (root / "memory" / "docker" / "1").mkdir(parents=True)
    (root / "memory" / "docker" / "1" / "memory.limit_in_bytes").write_text("4000000\n")
    assert container_memory(root, own) == 4e6
    assert container_memory(root, tmp_path / "missing") == math.inf
    assert 1e8 < available_memory() < 1e14


def test_only_runs_that_cannot_fit_are_refused():
    estimate = MemoryEstimate(base=1e9, activations=11e9)
    assert check_memory(estimate, 12e9)
    assert not check_memory(estimate, 10.1e9)  # the estimate may be too high
    with pytest.raises(ConfigError) as error:
        check_memory(estimate, 9.9e9, hints=["sell the piano"])
    assert str(error.value) == (
        "expected a training run of at most 9.9 GB, the memory of this machine, received one that "
        "needs about 12.0 GB (activations 11.0 GB, base 1.0 GB); sell the piano"
    )


@pytest.fixture
def task():
    return kbz.TextClassifier.from_preset("minilm_l6_en_uncased", labels=["a", "b"], max_length=128)


def test_fit_refuses_with_advice_that_helps(task, monkeypatch):
    texts, labels = ["word " * 200] * 256, ["a", "b"] * 128
    limit = 3e9
    monkeypatch.setattr(plan, "available_memory", lambda **_: limit)
    with pytest.raises(ConfigError, match="needs about 8.7 GB") as error:
        task.fit(texts, labels, batch_size=256, epochs=1, verbose=0, check_memory=True)
    assert str(error.value).endswith(
        "; train with a batch size of 32 or 8 accumulation steps; without the memory check, it "
        "trains anyway"
    )
    assert not task.compiled  # refused before training
    examples = task.examples(texts, labels)
    rows = task.rows(examples, task.targets(examples, labels))
    for changes in (
        {"batch_size": 32},
        {"batch_size": 256, "accumulation_steps": 8},
    ):
        assert plan.estimate_run(task, rows, **changes).total <= limit
    assert plan.estimate_run(task, rows, batch_size=64).total > limit


def test_a_run_that_fits_is_not_refused(task, monkeypatch):
    monkeypatch.setattr(memory, "_machine_memory", lambda: 2e9)
    monkeypatch.setattr(memory, "container_memory", lambda: 1e12)
    with eagerly():
        task.fit(["a", "b"] * 4, ["a", "b"] * 4, epochs=1, verbose=0, check_memory=True)
