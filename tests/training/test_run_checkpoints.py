"""A run that goes on from a checkpoint equals an uninterrupted one, bit by bit."""

import json
import os

import keras
import numpy as np
import pytest

import keras_bert_zoo as kbz
from keras_bert_zoo.encoders.registry import build_encoder
from keras_bert_zoo.errors import CheckpointError, ConfigError, TrainingError
from keras_bert_zoo.training import run_meter
from keras_bert_zoo.training.checkpoints import Checkpoints, find_position
from tests.helpers import eagerly
from tests.tasks.every_task import NAMES, TEXTS, VOCABULARY, make, make_tokenizer, spread_weights

OPTIONS = {
    "batch_size": 2, "epochs": 3, "learning_rate": 1e-2, "verbose": 0, "validation_batch_size": 7,
}  # fmt: skip


class Interrupt(keras.callbacks.Callback):
    """Ctrl-C after a number of steps, or while an epoch is validated."""

    def __init__(self, steps=0, in_validation=False):
        super().__init__()
        self.steps = steps
        self.in_validation = in_validation

    def on_train_batch_end(self, batch, logs=None):
        self.steps -= 1
        if self.steps == 0 and not self.in_validation:
            raise KeyboardInterrupt

    def on_test_batch_end(self, batch, logs=None):
        if self.in_validation and self.steps <= 0:
            raise KeyboardInterrupt


class Losses(keras.callbacks.Callback):
    """The mean loss of an epoch so far, after each step."""

    def __init__(self):
        super().__init__()
        self.values = []

    def on_train_batch_end(self, batch, logs=None):
        self.values.append(logs["loss"])


def make_classifier():
    """A classifier with dropout."""
    config = kbz.EncoderConfig(
        vocabulary_size=len(VOCABULARY), hidden_dim=8, num_layers=1, num_heads=2,
        intermediate_dim=16, max_sequence_length=24, dropout=0.2,
    )  # fmt: skip
    return kbz.TextClassifier(build_encoder(config), make_tokenizer(), ["abc", "xyz"])


def run(*callbacks, **options):
    keras.utils.set_random_seed(0)
    task = make_classifier()
    spread_weights(task)
    losses = Losses()
    history = task.fit(TEXTS, NAMES, **OPTIONS | options, callbacks=[losses, *callbacks])
    return losses.values, history, task.get_weights(), task.training_record


@pytest.fixture(scope="module")
def whole():
    """An uninterrupted run."""
    with eagerly():
        return run(validation_data=(TEXTS, NAMES))


def without_times(record):
    """A record without what differs from run to run."""
    curves = {
        group: {
            n: v
            for n, v in columns.items()
            if n not in ("tokens_per_second", "waiting_share", "seconds")
        }
        for group, columns in record["curves"].items()
    }
    return {n: v for n, v in record.items() if n not in ("ended", "seconds")} | {"curves": curves}


def check_goes_on(folder, whole, steps, **options):
    losses, history, weights, record = run(
        checkpoints=Checkpoints(folder), resume=True, validation_data=(TEXTS, NAMES), **options
    )
    assert len(losses) == steps
    assert losses == whole[0][12 - steps :]
    assert history.epoch == [0, 1, 2]
    assert history.history == whole[1].history
    for own, other in zip(weights, whole[2], strict=True):
        np.testing.assert_array_equal(own, other)
    assert without_times(record) == without_times(whole[3])
    assert record["steps"] == 12
    assert record["curves"]["steps"]["step"] == list(range(1, 13))


def test_a_run_goes_on_after_each_interrupt(tmp_path, whole):
    """Six times: within an epoch, after an epoch, in the validation, and after the last step."""
    done = 0
    with eagerly():
        for steps, in_validation in ((1, False), (4, False), (6, False), (8, True), (12, False)):
            losses, saved = Losses(), Checkpoints(tmp_path)
            with pytest.raises(KeyboardInterrupt):
                run(losses, Interrupt(steps - done, in_validation), checkpoints=saved, resume=True,
                    validation_data=(TEXTS, NAMES))  # fmt: skip
            assert losses.values == whole[0][done:steps]
            position = find_position(saved)
            assert 4 * position.epoch + position.step == steps
            done = steps
        check_goes_on(tmp_path, whole, 0)


def test_an_interrupt_of_a_reading_loses_no_point_of_the_curves(tmp_path, whole, monkeypatch):
    read, calls = run_meter._means, []

    def interrupted(model):
        calls.append(model)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return read(model)

    monkeypatch.setattr(run_meter, "_means", interrupted)
    with eagerly():
        with pytest.raises(KeyboardInterrupt):
            run(checkpoints=Checkpoints(tmp_path), validation_data=(TEXTS, NAMES))
        check_goes_on(tmp_path, whole, 6)


def test_a_run_goes_on_from_the_newest_of_the_checkpoints(tmp_path, whole):
    """As after kill -9: only what was due is there."""

    class Killed(Exception):
        pass

    class Kill(Interrupt):
        def on_train_batch_end(self, batch, logs=None):
            self.steps -= 1
            if self.steps == 0:
                raise Killed

    with eagerly():
        with pytest.raises(Killed):
            run(Kill(8), checkpoints=Checkpoints(tmp_path, every_steps=3, keep=2),
                validation_data=(TEXTS, NAMES))  # fmt: skip
        # Steps 3 and 6, and the ends of epochs, 4 and 8; the callback came before the last one.
        assert sorted(os.listdir(tmp_path)) == ["best", "step-00000004", "step-00000006"]
        check_goes_on(tmp_path, whole, 6)
        # A run that is complete gives its weights and history again.
        check_goes_on(tmp_path, whole, 0)


def test_a_run_that_was_stopped_early_does_not_go_on(tmp_path, caplog):
    options = {"validation_data": (TEXTS, NAMES), "patience": 1, "learning_rate": 0.0}
    with eagerly():
        first = run(checkpoints=Checkpoints(tmp_path), **options)
        again = run(checkpoints=Checkpoints(tmp_path), resume=True, **options)
    assert len(first[0]) == 8  # the second epoch is no better
    assert caplog.messages == [
        f"{tmp_path}: the run was complete after 2 epochs; nothing is trained"
    ]
    assert again[0] == []
    assert again[1].history == first[1].history


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("classification", {"steps_per_epoch": 3, "epochs": 2}),  # a pass has four
        ("classification", {"initial_epoch": 1, "average_weights": True}),
        (
            "classification",
            {"accumulation_steps": 2, "optimizer": "lamb", "schedule": "cosine", "epochs": 2},
        ),
        ("masked-lm", {"epochs": 2}),  # other words are masked in every epoch
    ],
)
def test_runs_with_other_options_go_on(tmp_path, name, options):
    def fit(*callbacks, **more):
        task, x, y = make(name)
        spread_weights(task)
        history = task.fit(x, y, **OPTIONS | options, callbacks=callbacks, **more)
        return history.history, task.get_weights()

    with eagerly():
        whole = fit()
        with pytest.raises(KeyboardInterrupt):
            fit(Interrupt(5), checkpoints=Checkpoints(tmp_path))
        again = fit(checkpoints=Checkpoints(tmp_path), resume=True)
    assert again[0] == whole[0]
    for own, other in zip(again[1], whole[1], strict=True):
        np.testing.assert_array_equal(own, other)


def test_a_run_starts_without_a_checkpoint(tmp_path, whole):
    with eagerly():
        check_goes_on(tmp_path / "new", whole, 12)


def test_other_options_or_data_are_refused(tmp_path):
    with eagerly():
        with pytest.raises(KeyboardInterrupt):
            run(Interrupt(2), checkpoints=Checkpoints(tmp_path))
        with pytest.raises(ConfigError, match=r"learning_rate 0.01, now 0.02\. .*start a new run"):
            run(checkpoints=Checkpoints(tmp_path), resume=True, learning_rate=0.02)
        task, x, y = make("classification")
        with pytest.raises(ConfigError, match="data '[0-9a-f]{16}', now '[0-9a-f]{16}'"):
            task.fit(x, y[1:] + y[:1], **OPTIONS, checkpoints=Checkpoints(tmp_path), resume=True)
        with pytest.raises(ConfigError, match="expected no checkpoints for a new run, received"):
            run(checkpoints=Checkpoints(tmp_path))
    with pytest.raises(ConfigError, match="`resume` needs `checkpoints`"):
        task.fit(x, y, resume=True)
    with pytest.raises(ConfigError, match="`checkpoints` must be keras_bert_zoo.Checkpoints"):
        task.fit(x, y, checkpoints="runs")


def test_damaged_checkpoints_are_refused(tmp_path):
    with eagerly():
        with pytest.raises(KeyboardInterrupt):
            run(Interrupt(2), checkpoints=Checkpoints(tmp_path))
        position = find_position(Checkpoints(tmp_path))
        assert (position.epoch, position.step) == (0, 2)
        state = position.path / "training_state.json"
        text = state.read_text()
        for change, message in (
            ({"version": 7}, "expected version 1 of a training state, received 7"),
            ({"epoch": -1}, "'epoch' must be an integer from 0"),
            ({"best": {"wait": 1}}, "'best' must be an object with best, best_epoch and wait"),
        ):
            state.write_text(json.dumps(json.loads(text) | change))
            with pytest.raises(CheckpointError, match=message):
                find_position(Checkpoints(tmp_path))
        state.write_text('{"version": 1}')
        with pytest.raises(CheckpointError, match="expected the keys epoch, step"):
            find_position(Checkpoints(tmp_path))
        state.write_text(text)
        weights = position.path / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-7])
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            run(checkpoints=Checkpoints(tmp_path), resume=True)


def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path, whole, monkeypatch):
    from keras_bert_zoo.training import run_checkpoints

    write = run_checkpoints.write_safetensors

    def full(directory, tensors, **options):
        if int((directory.parent / "count").read_text()) > 1:
            raise OSError(28, "No space left on device")
        (directory.parent / "count").write_text("2")
        return write(directory, tensors, **options)

    (tmp_path / "count").write_text("1")
    monkeypatch.setattr(run_checkpoints, "write_safetensors", full)
    with eagerly():
        with pytest.raises(CheckpointError, match="No space left on device"):
            run(checkpoints=Checkpoints(tmp_path, every_steps=2), validation_data=(TEXTS, NAMES))
        assert sorted(os.listdir(tmp_path)) == ["count", "step-00000002"]
        monkeypatch.undo()
        check_goes_on(tmp_path, whole, 10)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_examples():
    with eagerly():
        keras.utils.set_random_seed(0)
        task, x, y = make("regression")
        y = np.array(y, np.float32)
        y[4] = 3e38  # its square is infinite
        weights = []

        class Weights(keras.callbacks.Callback):
            def on_train_batch_begin(self, batch, logs=None):
                weights.append(task.get_weights())

        with pytest.raises(TrainingError, match=r"step 3, batch 3 of epoch 1, with the rows 4, 5"):
            task.fit(x, y, **OPTIONS | {"batch_size": 2, "shuffle": False}, callbacks=[Weights()])
    before, after = weights[2:4]  # around the third step
    assert all(np.isfinite(value).all() for value in task.get_weights())
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new, old)
    assert any((old != new).any() for old, new in zip(weights[1], before, strict=True))
