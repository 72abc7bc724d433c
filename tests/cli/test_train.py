"""keras-bert-zoo train: its output, and errors without loss of data."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_bert_zoo.cli.main import command_parser
from keras_bert_zoo.cli.tasks.text import TextCommand
from keras_bert_zoo.tasks.registry import load_task
from keras_bert_zoo.tasks.task import Task
from keras_bert_zoo.tasks.text_classifier import TextClassifier
from keras_bert_zoo.training.optimizers import OPTIMIZERS
from keras_bert_zoo.training.schedules import SCHEDULES
from keras_bert_zoo.training.strategies import STRATEGIES
from tests.cli.conftest import fast, snapshot, texts

ROOT = Path(__file__).resolve().parents[2]


def weights(folder) -> list[np.ndarray]:
    return load_task(folder).get_weights()


def test_the_choices_are_those_of_the_package():
    choices = {flag: action.choices for flag, action in command_parser("train", []).flags().items()}
    assert set(choices["--optimizer"]) == set(OPTIMIZERS)
    assert set(choices["--schedule"]) == set(SCHEDULES)
    assert set(choices["--strategy"]) == set(STRATEGIES)


def test_trains_and_prints_the_next_commands(training, preset):
    output, finished = training.output, training.finished
    assert (finished.status, finished.err) == (0, "")
    assert list((training.logs / "train").glob("events.out.*"))
    assert "training on 48 texts, 12 held out" in finished.out
    assert "Epoch 8/8" in finished.out
    assert "\b" not in finished.out  # no progress bar in a pipe
    assert "held-out data (12 texts): accuracy " in finished.out
    assert f"keras-bert-zoo evaluate --model {output} --data FILE" in finished.out
    assert f"keras-bert-zoo export --model {output} --output saved_models/colours" in finished.out
    assert load_task(output).labels == ["blue", "green", "red"]
    record = json.loads((output / "keras_bert_zoo.json").read_text())["training"]
    assert record["preset"] == str(preset)
    assert (record["epochs"], record["seed"], record["interrupted"]) == (8, 0, False)
    assert len(record["history"]["val_accuracy"]) == 8


def test_json_keeps_standard_output_clean_and_a_config_file_does(run, preset, data, tmp_path):
    config = tmp_path / "train.toml"
    config.write_text(
        f'preset = "{preset}"\ntrain = "{data / "train.csv"}"\noutput = "{tmp_path / "m"}"\n'
        'epochs = 1\ndev-fraction = 0.25\nlearning-rate = 0.01\ndtype = "float32"\njson = true\n'
    )
    finished = run("train", "--config", config, "--epochs", "2", "--batch-size", 18)
    assert finished.json["dev"].keys() >= {"accuracy", "macro_f1"}
    assert finished.json["training"]["batch_size"] == 18
    assert "training on 36 texts, 12 held out" in finished.err
    assert "Epoch 2/2" in finished.err


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(run, preset, data, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        finished = run(
            "train", *fast(preset), "--train", data / "train.csv", "--dev-fraction", "0.25",
            "--seed", seed, "--epochs", "1", "--output", tmp_path / name,
        )  # fmt: skip
        assert finished.status == 0
    a, b, c = (weights(tmp_path / name) for name in "abc")
    for one, two in zip(a, b, strict=True):
        np.testing.assert_array_equal(one, two)
    assert any((one != two).any() for one, two in zip(a, c, strict=True))


@pytest.mark.slow
def test_regression(run, preset, data, tmp_path):
    finished = run(
        "train", *fast(preset, "--task", "regression"), "--train", data / "numbers.csv",
        "--dev-fraction", "0.25", "--output", tmp_path / "m", "--json",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    assert finished.json["dev"].keys() >= {"pearson", "spearman"}
    finished = run("evaluate", "--model", tmp_path / "m", "--data", data / "numbers.csv")
    assert "pearson" in finished.out
    errors = tmp_path / "errors.jsonl"
    run("evaluate", "--model", tmp_path / "m", "--data", data / "numbers.csv", "--errors", errors)
    rows = [json.loads(line) for line in errors.read_text().splitlines()]
    assert rows[0].keys() == {"text", "label", "predicted", "error", "row"}
    assert [row["error"] for row in rows] == sorted((r["error"] for r in rows), reverse=True)
    finished = run("predict", "--model", tmp_path / "m", "--input", data / "numbers.csv")
    assert finished.rows[0].keys() == {"text", "score"}


def test_several_labels(run, preset, data, tmp_path):
    finished = run(
        "train", *fast(preset, "--task", "multi-label"), "--train", data / "several.jsonl",
        "--output", tmp_path / "m",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    assert load_task(tmp_path / "m").labels == ["blue", "green", "odd", "red"]
    errors = tmp_path / "errors.jsonl"
    finished = run(
        "evaluate", "--model", tmp_path / "m", "--data", data / "several.jsonl", "--json",
        "--errors", errors,
    )  # fmt: skip
    wrong = [json.loads(line) for line in errors.read_text().splitlines()]
    accuracy = 1 - len(wrong) / finished.json["rows"]
    assert finished.json["subset_accuracy"] == pytest.approx(accuracy)
    finished = run(
        "predict", "--model", tmp_path / "m", "--input", data / "several.jsonl", "--all-scores"
    )
    row = finished.rows[0]
    assert isinstance(row["label"], list)
    assert len(row["score"]) == len(row["label"])
    assert row["scores"].keys() == {"blue", "green", "odd", "red"}


def test_pairs(run, refused, preset, data, tmp_path):
    columns = ["--text", "first", "--text-pair", "second"]
    finished = run(
        "train", *fast(preset), "--train", data / "pairs.tsv", *columns, "--label", "same",
        "--output", tmp_path / "m",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    for given in (columns, []):  # as in training
        finished = run("predict", "--model", tmp_path / "m", "--input", data / "pairs.tsv", *given)
        assert finished.rows[0].keys() == {"text", "text_pair", "label", "score"}
    message = refused("predict", "--model", tmp_path / "m", "--input", data / "train.csv")
    assert "expected a column 'first' (--text, as in training), found 'text', 'label'" in message
    side = tmp_path / "m" / "keras_bert_zoo.json"
    values = json.loads(side.read_text())
    side.write_text(json.dumps({key: values[key] for key in values if key != "columns"}))
    message = refused("predict", "--model", tmp_path / "m", "--input", data / "train.csv")
    assert "trained on pairs of texts; pass the column of the second text with" in message


def test_options_reach_the_training(run, preset, data, tmp_path, monkeypatch):
    seen = {}

    def fit(self, x, **kwargs):
        seen.update(kwargs, max_length=self.max_length)
        raise KeyboardInterrupt  # before the first step

    monkeypatch.setattr(TextClassifier, "fit", fit)
    finished = run(
        "train", "--preset", preset, "--train", data / "train.csv", "--dev", data / "dev.csv",
        "--output", tmp_path / "m", "--epochs", 9, "--batch-size", 4, "--learning-rate", "1e-3",
        "--warmup-fraction", "0.2", "--weight-decay", "0", "--clip-norm", 0, "--patience", 2,
        "--class-weight", "balanced", "--seed", 7, "--max-length", 20, "--probe-epochs", 5,
        "--dtype", "bfloat16", "--tensorboard", tmp_path / "logs", "--gradient-checkpointing",
        "--r-drop", 2, "--adversarial", "fgm", "--adversarial-epsilon", "0.5",
        "--label-smoothing", "0.1", "--focal-loss", "1.5",
    )  # fmt: skip
    assert finished.status == 130
    expected = {
        "epochs": 9, "batch_size": 4, "learning_rate": 1e-3, "warmup_fraction": 0.2,
        "weight_decay": 0.0, "global_clipnorm": None, "patience": 2, "class_weight": "balanced",
        "seed": 7, "max_length": 20, "probe_epochs": 5, "verbose": 2,
        "gradient_checkpointing": True, "r_drop": 2.0, "adversarial": "fgm",
        "adversarial_epsilon": 0.5, "label_smoothing": 0.1, "focal_loss": 1.5, "mixup": 0.0,
    }  # fmt: skip
    assert {name: seen[name] for name in expected} == expected
    assert "mixed_bfloat16" in finished.out
    assert finished.err == "keras-bert-zoo: interrupted before the first step; nothing is saved\n"
    assert not (tmp_path / "m").exists()
    kinds = {type(callback).__name__ for callback in seen["callbacks"]}
    assert kinds == {"Throughput", "TensorBoard", "LambdaCallback"}


def test_keep_head(run, refused, preset, data, tmp_path, model):
    """An epoch with a tiny learning rate leaves the head unchanged; without the flag it is new."""
    arguments = ["train", "--preset", model, "--train", data / "train.csv", "--epochs", 1,
                 "--learning-rate", "1e-9", "--dtype", "float32"]  # fmt: skip
    assert run(*arguments, "--keep-head", "--output", tmp_path / "same").status == 0
    assert run(*arguments, "--output", tmp_path / "fresh").status == 0
    before, same, fresh = (
        load_task(folder).head.kernel.numpy()
        for folder in (model, tmp_path / "same", tmp_path / "fresh")
    )
    np.testing.assert_allclose(same, before, atol=1e-6)
    assert np.abs(fresh - before).max() > 0.01
    other = tmp_path / "other.csv"
    other.write_text("text,label\na rose,red\na car,grey\n")
    message = refused(
        "train", "--preset", model, "--train", other, "--keep-head", "--output", tmp_path / "x"
    )
    assert "expected labels of " in message
    assert "; received 'grey' (first at " in message
    message = refused(
        "train", "--preset", model, "--train", data / "numbers.csv", "--task", "regression",
        "--keep-head", "--output", tmp_path / "x",
    )  # fmt: skip
    assert "was saved for --task classification" in message
    assert not (tmp_path / "x").exists()


# === Bad input: one line, before a model is built ===


@pytest.fixture
def no_model(monkeypatch):
    """Fails if a model is built."""

    def build(*args, **options):
        raise AssertionError("expected an error before the model is built")

    monkeypatch.setattr(TextCommand, "build", build)


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected at least one row, but the file is empty"),
        (b"text,label\n", "the file has a header and no rows"),
        (b"txt,label\na,b\n", ":1: expected a column 'text' (--text), found 'txt', 'label'; did"),
        (b"text,label\na,x\nb\xff,y\n", ":3: byte 0xff at byte 2 of the line is not valid utf-8"),
        (b"text,label\na,x\nb,x\n", "expected at least two labels, received only 'x'"),
        (b"text,label\na,x\nb,\n", ":3: expected a label in 'label', but it is empty"),
        (b"text,label\na,x,y\n", ":2: expected 2 columns as in the header, received 3"),
    ],
)
def test_bad_files(refused, preset, tmp_path, content, message):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    line = refused("train", *fast(preset), "--train", path, "--output", tmp_path / "m")
    assert line.startswith(str(path))
    assert message in line
    assert not (tmp_path / "m").exists()


@pytest.mark.usefixtures("no_model")
def test_a_held_out_label_that_is_not_learned(refused, preset, data, tmp_path):
    dev = tmp_path / "dev.csv"
    dev.write_text("text,label\na rose,red\nthe sky,bleu\n")
    line = refused(
        "train", *fast(preset), "--train", data / "train.csv", "--dev", dev,
        "--output", tmp_path / "m",
    )  # fmt: skip
    assert f"'bleu' (first at {dev}:3, did you mean 'blue'?)" in line


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train", "nowhere.csv"], "nowhere.csv: there is no such file"),
        (["--preset", "minilm"], "'minilm' is neither a directory nor a catalogued preset"),
        (["--max-length", "65"], "expected --max-length from 3 to 64, the maximum length of"),
        (["--dev", "d.csv", "--dev-fraction", "0.1"], "--dev or --dev-fraction, received both"),
        (["--patience", "2"], "--patience needs validation data; pass --dev"),
        (
            ["--class-weight", "balanced", "--task", "regression"],
            "does not apply to --task regress",
        ),
        (["--task", "regression"], ":2: expected a number in 'label', received 'red'"),
        (["--text", "txt"], "did you mean 'text'?"),
        (["--format", "jsonl"], ":1: not valid JSON"),
        (["--encoding", "utf-99"], "expected `--encoding` to be the name of a text encoding"),
        (["--task", "masked-lm", "--r-drop", "1"], "no regularization; received --r-drop."),
        (
            ["--task", "token-classification", "--crf", "--focal-loss", "2"],
            "nested entities: --adversarial fgm, --adversarial freelb; received --focal-loss.",
        ),
        (["--mixup", "1", "--r-drop", "1"], "Expected --mixup or --r-drop, received both"),
        (["--adversarial-epsilon", "1"], "--adversarial-epsilon needs --adversarial fgm, "),
    ],
)
def test_bad_options(refused, preset, data, tmp_path, arguments, message):
    line = refused(
        "train", *fast(preset), "--train", data / "train.csv", "--output", tmp_path / "m",
        *arguments,
    )  # fmt: skip
    assert message in line
    assert not (tmp_path / "m").exists()


@pytest.mark.usefixtures("no_model")
def test_an_output_that_is_something_else_is_not_touched(refused, preset, data, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    arguments = ["train", *fast(preset), "--train", data / "train.csv", "--output"]
    assert "it is not empty and has no keras_bert_zoo.json" in refused(*arguments, tmp_path)
    assert "Expected a directory or a new path" in refused(*arguments, tmp_path / "notes.txt")
    assert snapshot(tmp_path) == {"notes.txt": b"mine"}
    other = tmp_path / "other"  # a Hugging Face directory that is not ours
    shutil.copytree(preset, other)
    (other / "keras_bert_zoo.json").unlink()
    before = snapshot(other)
    assert "has no keras_bert_zoo.json" in refused(*arguments, other)
    assert snapshot(other) == before


@pytest.mark.usefixtures("no_model")
def test_a_read_only_folder_is_an_error_before_training(
    refused, preset, data, tmp_path, monkeypatch
):
    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("keras_bert_zoo.directories.replacing.make_hidden", refuse)
    line = refused(
        "train", *fast(preset), "--train", data / "train.csv", "--output", tmp_path / "m"
    )
    assert (
        line == f"Cannot write {tmp_path / 'm'}: Read-only file system. Nothing was changed there."
    )


def test_a_small_disk_is_an_error_before_training(refused, preset, data, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    line = refused(
        "train", *fast(preset), "--train", data / "train.csv", "--output", tmp_path / "m"
    )
    assert "but only 0 MiB are free there. Training was not started." in line


def damaged(preset: Path, folder: Path, change) -> Path:
    shutil.copytree(preset, folder)
    change(folder)
    return folder


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def widen(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (truncate, "model.safetensors"),
        (widen, "misshapen: bert.encoder.layer.0.intermediate.dense.weight (expected (48, 16)"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
        (lambda folder: (folder / "vocab.txt").unlink(), "vocab.txt"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json"),
    ],
    ids=["truncated", "other shape", "no weights", "no vocabulary", "broken config"],
)
def test_a_damaged_preset(refused, preset, data, tmp_path, change, message):
    bad = damaged(preset, tmp_path / "bad", change)
    before = snapshot(bad)
    line = refused("train", *fast(bad), "--train", data / "train.csv", "--output", tmp_path / "m")
    assert message in line
    assert snapshot(bad) == before
    assert not (tmp_path / "m").exists()
    assert message in refused("predict", "--model", bad, "--input", data / "train.csv")


# === Errors after training: the weights are saved ===


def test_a_full_disk_after_training_saves_in_a_fallback_directory(
    refused, preset, data, tmp_path, monkeypatch, model
):
    output = tmp_path / "m"
    shutil.copytree(model, output)
    before = snapshot(output)
    fallback = tmp_path / "fallback"
    fallback.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(fallback))
    save = Task.save

    def fail_once(self, directory):
        def full(*args, **kwargs):
            raise OSError(errno.ENOSPC, "No space left on device")

        with pytest.MonkeyPatch.context() as patch:
            if Path(directory) == output:
                patch.setattr("keras_bert_zoo.presets.save.write_tensors", full)
            save(self, directory)

    monkeypatch.setattr(Task, "save", fail_once)
    arguments = ["train", *fast(preset, "--epochs", "1"), "--train", data / "train.csv"]
    line = refused(*arguments, "--output", output, status=1)
    assert f"Cannot write {output}: No space left on device. Nothing was changed there." in line
    saved = line.partition("The trained model is saved in ")[2]
    assert saved.startswith(str(fallback))
    assert load_task(saved).labels == ["blue", "green", "red"]
    assert snapshot(output) == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_full_disk_everywhere_keeps_the_earlier_model(
    refused, preset, data, tmp_path, monkeypatch, model
):
    output = tmp_path / "m"
    shutil.copytree(model, output)
    before = snapshot(output)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("keras_bert_zoo.presets.save.write_tensors", full)
    arguments = ["train", *fast(preset, "--epochs", "1"), "--train", data / "train.csv"]
    line = refused(*arguments, "--output", output, status=1)
    assert line == f"Cannot write {output}: No space left on device. Nothing was changed there."
    assert snapshot(output) == before


def test_interrupt_keeps_the_best_weights(run, preset, data, tmp_path, monkeypatch):
    """Ctrl-C in the third epoch saves the better weights of the first two."""
    after_epochs = []

    def on_epoch_begin(self, epoch, logs=None):
        if epoch:
            scores = self.model.history.history["val_accuracy"]
            after_epochs.append((scores[-1], self.model.get_weights()))
        if epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(keras.callbacks.EarlyStopping, "on_epoch_begin", on_epoch_begin)
    finished = run(
        "train", *fast(preset, "--epochs", "5"), "--train", data / "train.csv",
        "--dev", data / "dev.csv", "--output", tmp_path / "m",
    )  # fmt: skip
    assert finished.status == 130
    assert finished.err.strip() == (
        f"keras-bert-zoo: interrupted; the best weights so far are saved in {tmp_path / 'm'}"
    )
    best = max(after_epochs, key=lambda pair: pair[0])[1]
    for saved, expected in zip(weights(tmp_path / "m"), best, strict=True):
        np.testing.assert_array_equal(saved, expected)
    record = json.loads((tmp_path / "m" / "keras_bert_zoo.json").read_text())["training"]
    assert record["interrupted"] is True


def in_a_process(code: str, *argv) -> subprocess.Popen:
    # Background jobs inherit an ignored SIGINT, and nohup an ignored SIGHUP.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "signal.signal(signal.SIGHUP, signal.SIG_DFL); " + code
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize(
    ("number", "word"),
    [
        pytest.param(signal.SIGINT, "interrupted", marks=pytest.mark.slow),
        (signal.SIGTERM, "terminated"),
    ],
)
def test_a_signal_saves_the_weights(preset, data, tmp_path, number, word):
    code = "import sys; from keras_bert_zoo.cli.main import main; sys.exit(main())"
    process = in_a_process(
        code, "train", *fast(preset, "--epochs", "100000"), "--train", data / "train.csv",
        "--output", tmp_path / "m",
    )  # fmt: skip
    for line in process.stdout:
        if line.startswith("Epoch 3/"):
            break
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    # No log messages of TensorFlow either.
    assert err.strip() == (
        f"keras-bert-zoo: {word}; the weights so far are saved in {tmp_path / 'm'}"
    )
    assert load_task(tmp_path / "m").labels == ["blue", "green", "red"]


@pytest.mark.slow
def test_mirrored_on_two_devices(preset, data, tmp_path):
    code = """
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from keras_bert_zoo.cli.main import main
status = main()
import keras_bert_zoo.training.strategies as strategies
print(strategies.make_strategy("mirrored").num_replicas_in_sync, "replicas")
sys.exit(status)
"""
    process = in_a_process(
        code, "train", *fast(preset, "--epochs", "8"), "--train", data / "train.csv",
        "--dev", data / "dev.csv", "--strategy", "mirrored", "--output", tmp_path / "m",
    )  # fmt: skip
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "2 replicas" in out
    assert "held-out data (12 texts): accuracy " in out


def test_an_empty_text_and_one_of_a_megabyte(run, preset, tmp_path):
    path = tmp_path / "odd.csv"
    lines = ["text,label", ",red", "a " + "rose " * 200_000 + ",blue"]
    lines += [",".join(row) for row in texts(12)]
    path.write_text("\n".join(lines) + "\n")
    finished = run("train", *fast(preset), "--train", path, "--output", tmp_path / "m")
    assert finished.status == 0
    assert finished.err == (
        f"keras-bert-zoo: warning: {path}: 1 empty texts, the first on line 2\n"
    )


def test_missing_tensorboard_is_an_error_before_training(refused, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = refused(
        "train", "--preset", tmp_path, "--train", "x.csv", "--output", "y", "--tensorboard", "logs"
    )
    assert message.startswith("Expected the package tensorboard for --tensorboard, but it is not ")
