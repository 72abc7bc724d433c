"""Signals end a command as Ctrl-C does, each with its exit status."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import keras
import pytest

from keras_bert_zoo.cli import presets
from keras_bert_zoo.cli.signals import Terminated, held_back_signals, raised_signals
from tests.cli.conftest import fast, snapshot

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def default_handlers():
    """The signal handlers of a new process."""
    numbers = {signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL,
               signal.SIGINT: signal.default_int_handler}  # fmt: skip
    before = {number: signal.signal(number, handler) for number, handler in numbers.items()}
    yield
    after = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == numbers, "the handlers were not restored"


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGHUP, 129, "hung up"),
        (signal.SIGINT, 130, "interrupted"),
    ],
)
def test_each_has_its_status(monkeypatch, run, number, status, word):
    monkeypatch.setattr(presets, "run", lambda args: os.kill(os.getpid(), number))
    finished = run("presets")
    assert (finished.status, finished.err) == (status, f"keras-bert-zoo: {word}\n")


def test_a_second_signal_does_not_interrupt_the_cleanup():
    done = []

    def work():
        with raised_signals():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGHUP)
                done.append(True)

    with pytest.raises(Terminated):
        work()
    assert done


def test_ignored_signals_stay_ignored(monkeypatch, run):
    """As under nohup."""

    def hang_up(args):
        os.kill(os.getpid(), signal.SIGHUP)
        return 0

    monkeypatch.setattr(presets, "run", hang_up)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run("presets").status == 0
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_signals_are_held_back_and_raised_later():
    for number, kind in ((signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)):
        saved = []

        def work(number=number, saved=saved):
            with raised_signals(), held_back_signals():
                os.kill(os.getpid(), number)
                saved.append(True)

        with pytest.raises(kind):
            work()
        assert saved
    with raised_signals(), held_back_signals():
        pass


def test_other_threads_have_no_handlers(monkeypatch, run):
    monkeypatch.setattr(presets, "run", lambda args: 0)
    results = []
    thread = threading.Thread(target=lambda: results.append(run("presets").status))
    thread.start()
    thread.join()
    assert results == [0]


def train(run, preset, data, output, *more):
    return run("train", *fast(preset, "--epochs", "5"), "--train", data / "train.csv", "--output",
               output, *more)  # fmt: skip


@pytest.mark.slow  # test_train.py has a process that is terminated, and Ctrl-C with held-out data
def test_training_keeps_the_best_weights(run, preset, data, tmp_path, monkeypatch):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(keras.callbacks.EarlyStopping, "on_epoch_begin", on_epoch_begin)
    finished = train(run, preset, data, tmp_path / "m", "--dev", data / "dev.csv")
    assert finished.status == 143
    assert finished.err.strip() == (
        f"keras-bert-zoo: terminated; the best weights so far are saved in {tmp_path / 'm'}"
    )
    side = json.loads((tmp_path / "m" / "keras_bert_zoo.json").read_text())
    assert side["training"]["interrupted"] is True


def test_before_the_first_step_nothing_is_replaced(run, preset, data, tmp_path, monkeypatch):
    def on_train_begin(self, logs=None):
        os.kill(os.getpid(), signal.SIGTERM)

    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "keras_bert_zoo.json").write_text("{}")
    before = snapshot(tmp_path)
    monkeypatch.setattr(keras.callbacks.EarlyStopping, "on_train_begin", on_train_begin)
    finished = train(run, preset, data, tmp_path / "m", "--dev", data / "dev.csv")
    assert (finished.status, finished.err.strip()) == (
        143, "keras-bert-zoo: terminated before the first step; nothing is saved",
    )  # fmt: skip
    assert snapshot(tmp_path) == before


def test_while_the_trained_model_is_saved(run, preset, data, tmp_path, monkeypatch):
    from keras_bert_zoo.presets import save

    write = save.write_tensors

    def kill_and_write(*args, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return write(*args, **options)

    monkeypatch.setattr(save, "write_tensors", kill_and_write)
    finished = train(run, preset, data, tmp_path / "m", "--epochs", "1")
    assert finished.status == 143
    assert finished.err.strip() == (
        f"keras-bert-zoo: terminated; the trained weights are saved in {tmp_path / 'm'}"
    )
    assert "next:" not in finished.out
    side = json.loads((tmp_path / "m" / "keras_bert_zoo.json").read_text())
    assert side["training"]["interrupted"] is False


def test_while_thresholds_are_tuned(run, preset, data, tmp_path, monkeypatch):
    """Tuning stops, so that the weights are saved soon."""
    from keras_bert_zoo.tasks.text_classifier import TextClassifier

    def tune(self, examples):
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the tuning was not interrupted")

    monkeypatch.setattr(TextClassifier, "tune_thresholds", tune)
    finished = run("train", *fast(preset, "--epochs", "1"), "--train", data / "several.jsonl",
                   "--dev", data / "several.jsonl", "--task", "multi-label", "--tune-thresholds",
                   "--output", tmp_path / "m")  # fmt: skip
    assert finished.status == 143
    assert finished.err.strip() == (
        f"keras-bert-zoo: terminated; the trained weights are saved in {tmp_path / 'm'}"
    )


@pytest.mark.slow  # a second training of the same kind
def test_an_interrupted_training_is_not_tuned(run, preset, data, tmp_path, monkeypatch):
    from keras_bert_zoo.tasks.text_classifier import TextClassifier

    def interrupt(self, batch, logs=None):
        if batch == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(keras.callbacks.EarlyStopping, "on_train_batch_end", interrupt)
    monkeypatch.setattr(TextClassifier, "tune_thresholds", lambda self, examples: 1 / 0)
    finished = run("train", *fast(preset, "--batch-size", "8"), "--train", data / "several.jsonl",
                   "--dev", data / "several.jsonl", "--task", "multi-label", "--tune-thresholds",
                   "--output", tmp_path / "m")  # fmt: skip
    assert finished.status == 143, finished
    assert (tmp_path / "m" / "keras_bert_zoo.json").exists()


def test_predict_leaves_no_partial_file(run, model, tmp_path, monkeypatch):
    from keras_bert_zoo.cli.tasks.text import TextCommand

    def terminate(self, task, examples, args):
        yield {"text": "the first"}
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(TextCommand, "answer_rows", terminate)
    (tmp_path / "in.txt").write_text("a\nb\n")
    finished = run("predict", "--model", model, "--input", tmp_path / "in.txt", "--output",
                   tmp_path / "out.jsonl")  # fmt: skip
    assert (finished.status, finished.err) == (143, "keras-bert-zoo: terminated\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt"]
    # Standard output has the complete lines up to the signal.
    finished = run("predict", "--model", model, "--input", tmp_path / "in.txt")
    assert (finished.status, finished.rows) == (143, [{"text": "the first"}])


@pytest.mark.parametrize("name", ["export", "convert"])
def test_export_and_convert_leave_no_files(run, model, tmp_path, monkeypatch, name):
    """No temporary folder and no process of the verifier remain."""
    from keras_bert_zoo.export import saved_model
    from keras_bert_zoo.presets.convert import conversion

    folders, ended = [], []

    @contextlib.contextmanager
    def verifier():
        try:
            yield
        finally:
            ended.append(True)

    def save_half(folder):
        folders.append(folder)
        (folder / "half").write_bytes(b"x")
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(saved_model, "Verifier", verifier)
    monkeypatch.setattr(saved_model, "build_serving_graph", lambda *_, **__: SimpleNamespace(
        module=None, signatures={}
    ))  # fmt: skip
    monkeypatch.setattr(saved_model, "_save", lambda module, signatures, folder: save_half(folder))
    monkeypatch.setattr(conversion, "write_preset", lambda folder, *_: save_half(folder))
    words = {
        "export": ["--model", model, "--output", tmp_path / "out"],
        "convert": [model, tmp_path / "out", "--to", "preset"],
    }
    finished = run(name, *words[name])
    assert (finished.status, finished.err) == (143, "keras-bert-zoo: terminated\n")
    assert len(folders) == 1
    assert ended == [True] * (name == "export")
    assert list(tmp_path.iterdir()) == []


def test_a_signal_during_the_start(data):
    """There is no traceback."""
    code = (
        "import os, signal, sys; from keras_bert_zoo.cli import runtime, main\n"
        "runtime.start_interruptible = lambda first: os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.exit(main.main())"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code, "convert", "nowhere", "to", "--to", "preset"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert (finished.returncode, finished.stderr) == (143, "keras-bert-zoo: terminated\n")
