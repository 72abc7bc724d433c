"""Runs on shards: exact resume, phases, accumulation, static shapes, messages."""

import keras
import numpy as np
import pytest

import keras_bert_zoo as kbz
from keras_bert_zoo.data.pipeline import NO_LABEL
from keras_bert_zoo.errors import ConfigError, DataError, TrainingError
from keras_bert_zoo.pretraining import reading
from keras_bert_zoo.pretraining.phases import Phase, PretrainingPhases
from keras_bert_zoo.pretraining.report import KINDS
from tests.helpers import eagerly, run_module
from tests.pretraining.shard_training import make
from tests.pretraining.shards import write_data
from tests.tasks.every_task import spread_weights
from tests.training.test_run_checkpoints import Interrupt, Losses

OPTIONS = {"batch_size": 8, "learning_rate": 1e-2, "verbose": 0}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(
        tmp_path_factory.mktemp("data"), [30, 0, 25, 9], heldout=[20], pairs="next_sentence"
    )


@pytest.fixture(scope="module")
def longer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("longer")
    return write_data(folder, [40], heldout=[7], seed=1, pairs="next_sentence")


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(reading, "_WINDOW", 32)
    monkeypatch.setattr(reading, "_LEAST_BATCHES", 2)


def run(x, *callbacks, **options):
    keras.utils.set_random_seed(0)
    task = make(dropout=0.2)
    spread_weights(task)
    losses = Losses()
    with eagerly():
        history = task.fit(x, **OPTIONS | options, callbacks=[losses, *callbacks])
    return losses.values, history.history, task.get_weights(), task.training_record


def test_a_run_of_two_phases_goes_on_bit_by_bit(data, longer, tmp_path):
    """The interrupt is in the second phase; the epochs have 4, 4 and 3 steps."""
    phases = PretrainingPhases(
        [Phase(data=data, steps=7), Phase(data=longer, steps=4, tokens_per_batch=60)]
    )
    options = {"epochs": 3, "steps_per_epoch": 4, "validation_data": data}
    whole = run(phases, **options)
    assert len(whole[0]) == 11
    assert whole[3]["steps"] == 11
    assert whole[3]["curves"]["steps"]["step"] == list(range(1, 12))
    assert set(whole[1]) >= {"loss", "val_loss", "val_masked_lm_accuracy"}
    for steps in (3, 9):
        folder = tmp_path / str(steps)
        checkpoints = {"checkpoints": kbz.Checkpoints(folder)}
        with pytest.raises(KeyboardInterrupt):
            run(phases, Interrupt(steps), **options, **checkpoints)
        losses, history, weights, _ = run(phases, **options, **checkpoints, resume=True)
        assert losses == whole[0][steps:]
        assert history == whole[1]
        for own, other in zip(weights, whole[2], strict=True):
            np.testing.assert_array_equal(own, other)
    other = PretrainingPhases([Phase(data=data, steps=8), Phase(data=longer, steps=3)])
    with pytest.raises(ConfigError, match="expected the same options and data to go on"):
        run(other, **options, **checkpoints, resume=True)


def test_the_schedule_ends_with_the_phases(data):
    rates = []

    class Rates(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            rates.append(float(self.model.optimizer.learning_rate))

    run(PretrainingPhases([Phase(data=data, steps=5)]), Rates(), epochs=2, steps_per_epoch=4,
        warmup_fraction=0.0)  # fmt: skip
    np.testing.assert_allclose(rates, [0.008, 0.006, 0.004, 0.002, 0.0], atol=1e-8)


def test_accumulation_has_equal_results(data):
    with eagerly():
        check_equal(run_task(data, accumulation_steps=3), run_task(data))


@pytest.mark.slow  # XLA compiles each bucket
def test_static_shapes_have_equal_results(data):
    check_equal(run_task(data, jit_compile=True), run_task(data))


def test_two_replicas_have_equal_results(data):
    run_module("tests.pretraining.shard_training", str(data.directory))


def check_equal(values, expected):
    for own, other in zip(values, expected, strict=True):
        np.testing.assert_allclose(own, other, rtol=2e-4, atol=2e-5)


def run_task(data, **options):
    layout = {"token_layout": "padded"} if options.get("jit_compile") else {}
    task = make(**layout)
    spread_weights(task)
    history = task.fit(data, validation_data=data, **OPTIONS | {"epochs": 1} | options)
    measured = [np.array(values) for values in history.history.values()]
    return measured + task.get_weights()


def test_nan_is_reported_with_the_records(data):
    task = make()
    task.set_weights([weight * np.nan for weight in task.get_weights()])
    with pytest.raises(TrainingError, match=r"with the rows .*train-0000\d-of-00004.tfrecord:\d+"):
        task.fit(data, epochs=1, **OPTIONS)


def test_a_damaged_shard_ends_the_run_with_its_name(data, tmp_path):
    damaged = write_data(tmp_path, [30, 20], pairs="next_sentence")
    path = tmp_path / damaged.train[0].name
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DataError, match=r"train-00000-of-00002.tfrecord: expected 30 records"):
        make().fit(damaged, epochs=1, **OPTIONS)


def test_evaluate_reads_the_held_out_examples(data):
    task = make()
    figures = task.evaluate(data, verbose=0, batch_size=6, return_dict=True)
    again = task.evaluate(data, verbose=0, batch_size=20, return_dict=True)
    report = task.report(data)
    for name in ("masked_lm_loss", "masked_lm_accuracy", "next_sentence_loss"):
        np.testing.assert_allclose(figures[name], again[name], rtol=1e-5)
        np.testing.assert_allclose(figures[name], report[name], rtol=1e-5)
    with pytest.raises(ConfigError, match="Expected no `y`"):
        task.fit(data, ["a"], **OPTIONS)


def test_data_without_the_pairs_is_refused(tmp_path):
    plain = write_data(tmp_path, [30], pairs="sentence_order")
    with pytest.raises(DataError, match="build it with pairs='next_sentence'"):
        make().fit(plain, **OPTIONS)


def test_the_accuracy_of_kinds_is_their_mean(data):
    task = make()
    spread_weights(task)
    report = task.report(data)
    counts = np.zeros(3)
    source = task.batch_source(data, batch_size=64, heldout=True)
    for inputs, targets in source.one_pass():
        for row, columns in enumerate(inputs["mask_positions"].numpy()):
            for column, label in zip(columns, targets["masked_lm"].numpy()[row], strict=True):
                if label == NO_LABEL:
                    continue
                seen = inputs["token_ids"].numpy()[row, column]
                kind = 2 if seen == label else 1
                counts[0 if seen == task.tokenizer.mask_token_id else kind] += 1
    names = [f"masked_lm_accuracy_{kind}" for kind in KINDS]
    assert counts.all()
    mean = np.average([report[name] for name in names], weights=counts)
    assert mean == pytest.approx(report["masked_lm_accuracy"], rel=1e-6)
