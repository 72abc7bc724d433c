"""Schedules compared with those of transformers, and the budget of time."""

import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training import schedules
from keras_bert_zoo.training.loop import default_optimizer
from keras_bert_zoo.training.schedules import (
    SCHEDULES,
    BudgetDecay,
    BudgetTimer,
    WarmupDecay,
    WarmupLinearDecay,
    make_schedule,
)

TOTAL, WARMUP, PEAK = 40, 7, 2.0

# Our arguments, and the name and options of the same schedule in transformers.
SAME = [
    ({"kind": "linear"}, "linear", {}),
    ({"kind": "cosine"}, "cosine", {}),
    ({"kind": "cosine", "final_fraction": 0.1}, "cosine_with_min_lr", {"min_lr_rate": 0.1}),
    ({"kind": "polynomial", "power": 2.0}, "polynomial", {"power": 2.0, "lr_end": 0.0}),
    (
        {"kind": "polynomial", "power": 0.5, "final_fraction": 0.25},
        "polynomial",
        {"power": 0.5, "lr_end": 0.25 * PEAK},
    ),
    ({"kind": "constant"}, "constant_with_warmup", {}),
    ({"kind": "inverse_sqrt"}, "inverse_sqrt", {}),
]


def rates(schedule, steps=TOTAL + 1):
    return np.array([float(schedule(step)) for step in range(steps)])


def their_rates(name, warmup, options):
    """The rates of transformers for steps 0 to TOTAL."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = transformers.get_scheduler(
        name, optimizer, warmup, TOTAL, scheduler_specific_kwargs=options
    )
    result = []
    for _ in range(TOTAL + 1):
        result.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return np.array(result)


@pytest.mark.parity
@pytest.mark.parametrize("warmup", [0, WARMUP])
@pytest.mark.parametrize(("ours", "name", "theirs"), SAME)
def test_equals_transformers(ours, name, theirs, warmup):
    schedule = WarmupDecay(PEAK, total_steps=TOTAL, warmup_steps=warmup, **ours)
    values = rates(schedule)
    decay = their_rates(name, warmup, theirs)
    np.testing.assert_allclose(values[warmup:], decay[warmup:], rtol=2e-6, atol=1e-7)
    # The warm-up is that of the next step, with one step more.
    rise = their_rates(name, warmup + 1, theirs)
    np.testing.assert_allclose(values[:warmup], rise[1 : warmup + 1], rtol=1e-6)


def formula(step, kind, power=1.0, final=0.0):
    """The factor of a decay in transformers, with TOTAL and WARMUP."""
    if step < WARMUP:
        return (step + 1) / (WARMUP + 1)
    progress = (step - WARMUP) / (TOTAL - WARMUP)
    if kind == "inverse_sqrt":
        return 1 / math.sqrt(step / WARMUP)
    if kind == "constant":
        return 1.0
    factor = (1 - progress) ** power
    if kind == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * progress))
    return factor * (1 - final) + final


@pytest.mark.parametrize(("ours", "name", "theirs"), SAME)
def test_equals_the_formula_of_transformers(ours, name, theirs):
    schedule = make_schedule(
        ours["kind"], PEAK, total_steps=TOTAL, warmup_steps=WARMUP, **dict(list(ours.items())[1:])
    )
    options = (ours.get("power", 1.0), ours.get("final_fraction", 0.0))
    expected = [PEAK * formula(step, ours["kind"], *options) for step in range(TOTAL + 1)]
    np.testing.assert_allclose(rates(schedule), expected, rtol=2e-6, atol=1e-7)
    later = WarmupDecay(PEAK, total_steps=TOTAL, warmup_steps=WARMUP, first_step=9, **ours)
    np.testing.assert_array_equal(rates(later, 20), rates(schedule)[9:29])


def test_rates_after_the_end():
    for kind in ("linear", "cosine", "polynomial"):
        schedule = WarmupDecay(1.0, total_steps=10, kind=kind, final_fraction=0.5)
        np.testing.assert_allclose([float(schedule(step)) for step in (10, 11, 99)], 0.5)
    assert float(WarmupDecay(1.0, total_steps=10, kind="constant")(99)) == 1.0
    slow = WarmupDecay(1.0, total_steps=10, kind="inverse_sqrt")
    assert float(slow(30_000)) == pytest.approx(0.5)


def test_schedule_rises_and_falls():
    schedule = WarmupLinearDecay(1.0, total_steps=10, warmup_steps=4)
    values = [float(schedule(step)) for step in range(11)]
    np.testing.assert_allclose(values[:5], [0.2, 0.4, 0.6, 0.8, 1.0], atol=1e-6)
    assert all(later < earlier for earlier, later in itertools.pairwise(values[4:]))
    assert values[10] == 0.0
    assert float(schedule(99)) == 0.0


def test_schedule_without_warmup_starts_at_the_peak():
    for kind in SCHEDULES:
        assert float(WarmupDecay(0.5, total_steps=10, kind=kind)(0)) == 0.5


def test_schedule_of_warmup_only_ends_at_zero():
    schedule = WarmupDecay(1.0, total_steps=4, warmup_steps=4, kind="cosine")
    np.testing.assert_allclose(rates(schedule, 5), [0.2, 0.4, 0.6, 0.8, 0.0], atol=1e-6)


@pytest.mark.parametrize(("total", "warmup"), [(0, 0), (5, 6), (5, -1)])
def test_schedule_refuses_impossible_steps(total, warmup):
    with pytest.raises(ConfigError, match="Expected 0 <= `warmup_steps` <= `total_steps`"):
        WarmupLinearDecay(0.1, total_steps=total, warmup_steps=warmup)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "step"}, "Expected `kind` to be one of 'linear', 'cosine'.*received 'step'"),
        ({"power": 2.0}, "Expected kind=\"polynomial\" with `power` = 2.0, received 'linear'"),
        ({"kind": "polynomial", "power": 0}, "Expected `power` to be a number greater than 0"),
        ({"final_fraction": 2}, "Expected `final_fraction` to be a number from 0 to 1"),
        (
            {"kind": "constant", "final_fraction": 0.5},
            "Expected `final_fraction` = 0 with kind='constant'.*received 0.5",
        ),
        ({"first_step": -1}, "Expected `first_step` to be an integer of at least 0"),
    ],
)
def test_schedule_refuses_options_of_other_kinds(options, message):
    with pytest.raises(ConfigError, match=message):
        WarmupDecay(0.1, total_steps=5, **options)


@pytest.mark.parametrize(
    "schedule",
    [
        WarmupLinearDecay(0.1, total_steps=8, warmup_steps=3),
        WarmupDecay(0.1, total_steps=8, kind="polynomial", power=3.0, final_fraction=0.5),
    ],
)
def test_schedule_survives_serialization(schedule):
    config = keras.saving.serialize_keras_object(schedule)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(schedule)
    assert again.get_config() == schedule.get_config()


def test_files_with_the_old_name_load():
    again = keras.saving.deserialize_keras_object(
        {
            "module": "keras_bert_zoo.training.optimizers",
            "class_name": "WarmupLinearDecay",
            "config": {
                "learning_rate": 0.1, "total_steps": 8, "warmup_steps": 3, "first_step": 1,
            },
            "registered_name": "keras_bert_zoo>WarmupLinearDecay",
        }
    )  # fmt: skip
    assert isinstance(again, WarmupLinearDecay)
    assert float(again(1)) == pytest.approx(0.1 * 3 / 4)


def test_default_optimizer_uses_the_schedule():
    options = {"epochs": 2, "learning_rate": 0.5, "warmup_fraction": 0.25, "weight_decay": 0.1}
    optimizer = default_optimizer(
        4, **options, global_clipnorm=2.0, optimizer="lion", schedule="cosine"
    )
    assert type(optimizer).__name__ == "Lion"
    assert (optimizer.weight_decay, optimizer.global_clipnorm) == (0.1, 2.0)
    expected = WarmupDecay(0.5, total_steps=8, warmup_steps=2, kind="cosine")
    assert optimizer.get_config()["learning_rate"]["config"] == expected.get_config()
    plain = default_optimizer(4, **options, global_clipnorm=None)
    assert plain.get_config()["learning_rate"]["config"]["kind"] == "linear"
    with pytest.raises(ConfigError, match="Expected `kind` to be one of"):
        default_optimizer(4, **options, global_clipnorm=None, schedule="step")


# === The budget of time ===


def test_budget_rises_and_decays_over_time():
    schedule = BudgetDecay(2.0, budget_seconds=50, warmup_fraction=0.2, kind="cosine")
    expected = {0: 0.0, 5: 0.5, 10: 1.0, 20: 0.5 * (1 + math.cos(math.pi / 4)), 50: 0, 99: 0}
    for elapsed, factor in expected.items():
        schedule.elapsed.assign(elapsed)
        assert float(schedule(3)) == pytest.approx(2 * factor, abs=1e-6)
    constant = BudgetDecay(2.0, budget_seconds=50, kind="constant", elapsed=99)
    assert float(constant(0)) == 2.0


def test_elapsed_time_survives_saving(tmp_path):
    schedule = BudgetDecay(1.0, budget_seconds=100)
    schedule.elapsed.assign(62.5)
    config = keras.saving.serialize_keras_object(keras.optimizers.SGD(schedule))
    again = keras.saving.deserialize_keras_object(config)
    assert float(again.learning_rate) == pytest.approx(0.375)

    path = tf.train.Checkpoint(elapsed=schedule.elapsed.value).write(str(tmp_path / "x"))
    other = BudgetDecay(1.0, budget_seconds=100)
    tf.train.Checkpoint(elapsed=other.elapsed.value).read(path).assert_consumed()
    assert float(other(0)) == pytest.approx(0.375)


def fit(schedule, monkeypatch):
    """Trains a weight whose gradient is 1, for a second a batch; returns the steps and the way."""
    clock = itertools.count(1000.0)
    monkeypatch.setattr(schedules, "monotonic", lambda: next(clock))
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(schedule), loss=lambda y, p: tf.reduce_mean(p))
    before = model.get_weights()[0].item()
    ones = np.ones((20, 1), np.float32)
    model.fit(ones, ones, batch_size=1, epochs=9, verbose=0, callbacks=[BudgetTimer(schedule)])
    return int(model.optimizer.iterations), before - model.get_weights()[0].item()


def test_timer_sets_the_rate_and_ends_the_training(monkeypatch):
    schedule = BudgetDecay(1.0, budget_seconds=5)
    steps, way = fit(schedule, monkeypatch)
    assert steps == 5
    assert way == pytest.approx(1 + 0.8 + 0.6 + 0.4 + 0.2, abs=1e-5)
    assert float(schedule.elapsed.numpy()) == 5.0


def test_timer_continues_an_earlier_run(monkeypatch):
    schedule = BudgetDecay(1.0, budget_seconds=5, elapsed=3.0)
    assert fit(schedule, monkeypatch) == (2, pytest.approx(0.4 + 0.2, abs=1e-5))


def test_budget_refuses_impossible_options():
    for options, message in (
        ({"budget_seconds": 0}, "Expected `budget_seconds` to be a number greater than 0"),
        ({"warmup_fraction": 1.0}, "Expected `warmup_fraction` to be below 1, received 1.0"),
        ({"kind": "inverse_sqrt"}, "Expected `kind` to be one of .*received 'inverse_sqrt'"),
        ({"elapsed": -1}, "Expected `elapsed` to be a number of at least 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            BudgetDecay(1.0, **{"budget_seconds": 5} | options)
    with pytest.raises(ConfigError, match="Expected the BudgetDecay of the optimizer"):
        BudgetTimer(WarmupDecay(1.0, total_steps=5))
