"""Trackers receive each metric once, and never stop a run."""

import logging
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo import extras
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training.checkpoints import Checkpoints
from tests.helpers import eagerly
from tests.tasks.every_task import make
from tests.training.measured_runs import Received
from tests.training.tracker_clients import replace_mlflow, replace_wandb

OPTIONS = {"batch_size": 3, "epochs": 2, "shuffle": False, "verbose": 0, "learning_rate": 1e-2}


@pytest.fixture(autouse=True)
def op_by_op():
    with eagerly():
        yield


def fit(*callbacks, **options):
    task, x, y = make("classification")
    task.fit(x, y, validation_data=(x, y), callbacks=callbacks, **OPTIONS | options)
    return task


class Stop(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer.iterations.numpy() == 5:
            raise KeyboardInterrupt


def test_a_run_that_goes_on_logs_its_whole_curve(tmp_path):
    whole, first, second = Received(), Received(), Received()
    fit(whole)
    with pytest.raises(KeyboardInterrupt):
        fit(first, Stop(), checkpoints=Checkpoints(tmp_path))
    assert first.calls[-1] == ("finish", [])  # the interrupt ends it, too
    assert not first.failed
    assert [step for step, _ in first.calls[1:-1]] == [1, 2, 3, 3, 4, 5]
    fit(second, checkpoints=Checkpoints(tmp_path), resume=True)

    def values(tracker):
        return {
            (step, name): value
            for step, metrics in tracker.calls[1:-1]
            for name, value in metrics.items()
            if name not in ("tokens_per_second", "waiting_share")
        }

    assert values(second) == values(whole)
    steps = [step for step, _ in second.calls[1:-1]]
    assert steps == sorted(steps)


@pytest.mark.parametrize("failing", ["start", "log", "finish"])
def test_a_tracker_that_fails_warns_once(failing, caplog):
    class Failing(Received):
        pass

    def fail(self, *arguments):
        raise OSError(28, "No space left on device")

    setattr(Failing, failing, fail)
    broken, whole = Failing(), Received()
    with caplog.at_level(logging.WARNING):
        task = fit(broken, whole)
    assert task.training_record["steps"] == 6
    assert len(whole.calls) == 2 + 6 + 2
    messages = [r.getMessage() for r in caplog.records if "Failing" in r.getMessage()]
    assert messages == [
        "Failing failed, so the run goes on without it: OSError: [Errno 28] No space left on device"
    ]
    assert len(broken.calls) == {"start": 1, "log": 2, "finish": 9}[failing]


def test_epochs_without_points_are_logged_once():
    tracker = Received()
    task, x, y = make("classification")
    task.compile("sgd", metrics=[keras.metrics.Precision(thresholds=[0.3, 0.6])])
    # The number of batches is unknown, so a point is due after 16 of them.
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(3).filter(lambda *_: True)
    task.fit(batches, epochs=3, verbose=0, callbacks=[tracker])
    epochs = [metrics for _, metrics in tracker.calls[1:-1] if "epoch" in metrics]
    assert [metrics["epoch"] for metrics in epochs] == [1, 2, 3]
    assert set(epochs[0]) == {"epoch", "epoch_loss"}  # no arrays
    (name,) = set(task.training_record["history"]) - {"loss"}
    assert [len(values) for values in task.training_record["history"][name]] == [2, 2, 2]


def test_the_command_line_ends_a_tracker_later():
    tracker = Received()
    tracker.ends_with_fit = False
    tracker.options = {"preset": "small"}
    fit(tracker)
    assert tracker.calls[0][1]["preset"] == "small"
    assert tracker.calls[-1][0] == 6
    for _ in range(2):
        tracker.end([Path("a.png")])
    assert tracker.calls[-1] == ("finish", [Path("a.png")])
    assert [call[0] for call in tracker.calls].count("finish") == 1


def test_missing_packages_are_errors(monkeypatch):
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'keras_bert_zoo\[mlflow\]'"):
        kbz.MLflowTracker("runs")
    with pytest.raises(ConfigError, match=r"pip install 'keras_bert_zoo\[wandb\]'"):
        kbz.WandbTracker("runs")


def test_a_tracker_must_define_log():
    with pytest.raises(NotImplementedError, match="Tracker must define `log`"):
        kbz.Tracker().log({}, 0)


class Fail(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        raise OSError(28, "No space left on device")


def test_a_run_with_an_error_has_failed():
    tracker = Received()
    with pytest.raises(OSError, match="No space"):
        fit(tracker, Fail())
    assert tracker.calls[-1] == ("finish", [])
    assert tracker.failed


@pytest.mark.parametrize("failed", [False, True])
def test_the_calls_of_mlflow(tmp_path, monkeypatch, failed):
    calls = replace_mlflow(monkeypatch)
    tracker = kbz.MLflowTracker(tmp_path / "tracked", run_name="small")
    tracker.ends_with_fit = False
    task = fit(tracker)
    tracker.end([tmp_path / "plot.html"], failed=failed)
    assert calls.named("MlflowClient") == [
        ((), {"tracking_uri": f"sqlite:///{tmp_path}/tracked/mlflow.db"})
    ]
    assert calls.named("create_run") == [(("7",), {"run_name": "small"})]
    batches = [kwargs for args, kwargs in calls.named("log_batch") if args == ("run-1",)]
    assert ("batch_size", "3") in batches[0]["params"]
    logged = [metric for batch in batches for metric in batch.get("metrics", [])]
    losses = [(step, value) for name, value, _, step in logged if name == "loss"]
    curve = task.training_record["curves"]["steps"]
    assert losses == list(zip(curve["step"], curve["loss"], strict=True))
    assert calls[-2:] == [
        ("log_artifact", ("run-1", f"{tmp_path}/plot.html"), {}),
        ("set_terminated", ("run-1",), {"status": "FAILED" if failed else "FINISHED"}),
    ]


@pytest.mark.parametrize("failed", [False, True])
def test_the_calls_of_wandb(tmp_path, monkeypatch, failed):
    (tmp_path / "files").mkdir()
    calls = replace_wandb(monkeypatch, tmp_path / "files")
    tracker = kbz.WandbTracker(tmp_path / "tracked", run_name="small")
    tracker.ends_with_fit = False
    task = fit(tracker)
    (tmp_path / "plot.html").write_text("plot")
    tracker.end([tmp_path / "plot.html"], failed=failed)
    ((_, started),) = calls.named("init")
    assert (started["name"], started["mode"]) == ("small", "offline")
    assert started["config"]["batch_size"] == 3
    losses = [(k["step"], a[0]["loss"]) for a, k in calls.named("log") if "loss" in a[0]]
    curve = task.training_record["curves"]["steps"]
    assert losses == list(zip(curve["step"], curve["loss"], strict=True))
    assert calls[-1] == ("finish", (), {"exit_code": int(failed)})
    assert (tmp_path / "files" / "plot.html").read_text() == "plot"
    with pytest.raises(ConfigError, match="'offline' or 'online', received 'x'"):
        kbz.WandbTracker(tmp_path, mode="x")


@pytest.mark.filterwarnings("ignore")  # those of the packages of the tracker
def test_mlflow(tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="needs the extra mlflow")
    tracker = kbz.MLflowTracker(tmp_path / "tracked", run_name="small")
    tracker.ends_with_fit = False
    task = fit(tracker)
    (tmp_path / "plot.html").write_text("plot")
    tracker.end([tmp_path / "plot.html"])
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/tracked/mlflow.db")
    experiment = client.get_experiment_by_name("keras_bert_zoo")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("small", "FINISHED")
    assert run.data.params["batch_size"] == "3"
    points = client.get_metric_history(run.info.run_id, "loss")
    curve = task.training_record["curves"]["steps"]
    assert sorted((p.step, p.value) for p in points) == list(
        zip(curve["step"], curve["loss"], strict=True)
    )
    held_out = client.get_metric_history(run.info.run_id, "val_loss")
    np.testing.assert_allclose(
        [p.value for p in sorted(held_out, key=lambda p: p.step)],
        task.training_record["history"]["val_loss"],
    )
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["plot.html"]


@pytest.mark.filterwarnings("ignore")
def test_wandb(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs the extra wandb")
    monkeypatch.chdir(tmp_path)
    tracker = kbz.WandbTracker(tmp_path / "tracked", run_name="small")
    tracker.ends_with_fit = False
    task = fit(tracker)
    assert tracker._run.config["batch_size"] == 3
    (tmp_path / "plot.html").write_text("plot")
    tracker.end([tmp_path / "plot.html"])
    (folder,) = (tmp_path / "tracked" / "wandb").glob("offline-run-*")
    (log,) = folder.glob("run-*.wandb")
    written = log.read_bytes()
    record = task.training_record
    for value in (*record["curves"]["steps"]["loss"], *record["history"]["val_loss"]):
        assert repr(value).encode() in written
    assert (folder / "files" / "plot.html").read_text() == "plot"
