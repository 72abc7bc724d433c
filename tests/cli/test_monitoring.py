"""train --plot, --track and the progress: files, messages, and what they show."""

import hashlib
import json
import re
import struct

import pytest

from keras_bert_zoo.cli import monitoring, run_end
from keras_bert_zoo.cli.curves import curves_page, curves_png, panels_of
from keras_bert_zoo.cli.progress import FittingBar, fitting
from keras_bert_zoo.training import throughput
from keras_bert_zoo.training.run_meter import RunMeter
from tests.cli.conftest import fast
from tests.cli.test_error_page import text_of
from tests.training.measured_runs import Received

RECORD = {
    "steps": 4,
    "epochs": 2,
    "task": "<b>colours</b>",
    "environment": {"gpus": [], "versions": {"keras": "3.15"}},
    "history": {
        "loss": [1.5, 0.75], "val_loss": [2.0, None], "accuracy": [0.25, 0.5],
        "val_accuracy": [0.125, 0.375], "val_f1": [0.0, 0.625],
    },
    "curves": {
        "steps": {
            "step": [1, 2, 3, 4], "loss": [2.0, 1.0, 1.0, 0.5], "accuracy": [0.0, 0.5, 0.5, 0.5],
            "learning_rate": [1e-3, 2e-3, 1e-3, 0.0], "padding_share": [0.0, 0.5, 0.25, 0.0],
            "tokens_per_second": [None, 1234.0, 1250.0, 1300.0], "waiting_share": [None, 0, 0, 0],
        },
        "epochs": {"step": [2, 4], "seconds": [12.0, 3.5], "tokens_per_second": [1234.0, 1275.0]},
    },
}  # fmt: skip


def test_the_plots_have_the_points_of_the_record():
    panels = {panel.title: panel.lines for panel in panels_of(RECORD)}
    assert list(panels) == ["Loss", "Accuracy", "F1", "Learning rate", "Throughput", "Shares"]
    assert panels["Loss"] == {
        "training": ([1, 2, 3, 4], [2.0, 1.0, 1.0, 0.5]), "validation": ([2], [2.0]),
    }  # fmt: skip
    assert panels["F1"] == {"validation": ([2, 4], [0.0, 0.625])}
    assert panels["Throughput"] == {"training": ([2, 3, 4], [1234.0, 1250.0, 1300.0])}
    assert list(panels["Shares"]) == ["padding", "waiting for data"]


def test_the_page_is_complete_escaped_and_self_contained():
    page = curves_page("a < b", RECORD, "preset, train.csv")
    text = text_of(page)
    assert "a < b preset, train.csv" in text
    assert "1 1.5 2 0.25 0.125 0 12 1,234" in text
    assert "2 0.75 – 0.5 0.375 0.625 3.5 1,275" in text
    assert "task <b>colours</b>" in text
    assert "<b>" not in page
    assert "environment.versions.keras 3.15" in text
    assert page.count("<svg") == 6
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"', page)
    assert not re.search(r"#0102[0-9a-f]{2}", page)  # all colours are the page's


def test_the_png_is_an_image():
    image = curves_png("a $ b", RECORD)
    assert image.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", image[16:24])
    assert (width, height) == (1080, 1128)


def test_a_run_without_points_has_an_empty_page():
    empty = {"epochs": 0, "history": {}, "curves": RunMeter().curves()}
    assert panels_of(empty) == []
    assert "<svg" not in curves_page("a", empty)
    assert curves_png("a", empty).startswith(b"\x89PNG")


def test_train_shows_the_throughput_and_writes_the_curves(training, data):
    output = training.output
    lines = [line for line in training.finished.out.splitlines() if " - loss: " in line]
    assert len(lines) == 8
    for line in lines:
        figures = dict(re.findall(r"(\w+): ([\d.e+-]+)", line))
        assert figures.keys() >= set(throughput.FIGURES)
        assert float(figures["tokens_per_second"]) > 0
        assert 0 < float(figures["mfu"]) < 1
        assert 0 <= float(figures["padding_share"]) < 1
    record = json.loads((output / "keras_bert_zoo.json").read_text())["training"]
    assert record["curves"]["steps"]["step"] == list(range(1, 17))
    assert record["options"]["learning_rate"] == record["learning_rate"] == 0.05
    for name in ("train", "dev"):
        path = data / f"{name}.csv"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert record["sha256"][str(path)] == digest
    page = (output / "training_curves.html").read_text("utf-8")
    assert f"Training of {output}" in text_of(page)
    assert (output / "training_curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_tracker_gets_the_options_and_the_files(run, preset, data, tmp_path, monkeypatch):
    tracker = Received()

    def make(args, run_options):
        assert args.track == ["mlflow:runs"]
        tracker.options, tracker.ends_with_fit = run_options, False
        return [tracker]

    monkeypatch.setattr(monitoring, "_trackers", make)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    finished = run(
        "train", *fast(preset, "--epochs", "1"), "--train", data / "train.csv", "--json",
        "--output", tmp_path / "m", "--track", "mlflow:runs", "--plot",
    )  # fmt: skip
    assert finished.status == 0
    assert "curves" not in finished.json["training"]  # they are in the saved directory
    assert finished.json["training"]["tokens"] > 0
    assert tracker.calls[0][1]["preset"] == str(preset)
    assert tracker.calls[0][1]["weight_decay"] == 0.01
    name, files = tracker.calls[-1]
    assert name == "finish"
    assert [file.name for file in files] == [
        "keras_bert_zoo.json", "training_curves.png", "training_curves.html",
    ]  # fmt: skip


@pytest.mark.parametrize("failing", ["report_training", "write_curves"])
def test_a_failure_after_the_training(run, refused, preset, data, tmp_path, monkeypatch, failing):
    """The status is that of a run that may go on, and does; trackers show it as failed."""
    tracker = Received()
    tracker.ends_with_fit = False

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(monitoring, "_trackers", lambda args, run_options: [tracker])
    command = [
        "train", *fast(preset, "--epochs", "1"), "--train", data / "train.csv", "--output",
        tmp_path / "m", "--checkpoint-every", "1", "--resume",
    ]  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(run_end, failing, fail)
        assert refused(*command, status=1) == "No space left on device"
    assert tracker.calls[-1] == ("finish", [])
    assert tracker.failed
    assert (tmp_path / "m.checkpoints" / "step-00000002").is_dir()
    assert run(*command).status == 0
    assert not tracker.failed
    assert not (tmp_path / "m.checkpoints").exists()


def test_a_failure_in_a_step(refused, preset, data, tmp_path, monkeypatch):
    def fail(self, batch, logs=None):
        raise MemoryError

    monkeypatch.setattr(RunMeter, "on_train_batch_end", fail)
    line = refused(
        "train", *fast(preset, "--epochs", "1"), "--train", data / "train.csv", "--output",
        tmp_path / "m", status=1,
    )  # fmt: skip
    assert line == "out of memory; reduce --batch-size or --max-length"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--track", "csv:runs"], "expected mlflow:DIR or wandb:DIR for --track, received 'csv:r"),
        (["--track", "mlflow"], "expected mlflow:DIR or wandb:DIR for --track, received 'mlflow'"),
        (["--track", "mlflow:a,"], "argument --track: expected comma-separated names, received"),
        (
            ["--track", "wandb:runs"],
            "Expected the package wandb for --track wandb, but it is not installed. Run: pip ",
        ),
        (["--plot"], "Expected the package matplotlib for --plot, but it is not installed. Run: "),
    ],
)
def test_bad_options_are_errors_before_training(refused, tmp_path, monkeypatch, arguments, message):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    options = ["--preset", tmp_path, "--train", "x.csv", "--output", "y"]
    assert refused("train", *options, *arguments).startswith(message)


def test_a_file_as_the_directory_of_a_tracker(refused, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    path = tmp_path / "runs"
    path.touch()
    options = ["--preset", tmp_path, "--train", "x.csv", "--output", "y"]
    message = refused("train", *options, "--track", f"wandb:{path}")
    assert message == f"{path}: expected a directory for --track, received a file"


def test_the_bar_fits_the_terminal(capsys, monkeypatch):
    logs = {"loss": 0.5, "learning_rate": 1e-3, "tokens_per_second": 3000.0, "mfu": 0.5}
    assert list(fitting(logs, 80)) == ["loss"]
    assert list(fitting(logs, 110)) == ["loss", "tokens_per_second"]
    assert list(fitting(logs, 300)) == ["loss", "tokens_per_second", "learning_rate", "mfu"]
    for width in (80, 110, 150):
        monkeypatch.setenv("COLUMNS", str(width))
        bar = FittingBar()
        bar.set_params({"verbose": 1, "epochs": 1, "steps": 1000})
        bar.on_epoch_begin(0)
        bar.on_train_batch_end(0, logs)
        shown = re.sub(r"\x1b\[[\d;]*m|[\b\r]", "", capsys.readouterr().out)
        assert "loss: 0.5000" in shown
        assert max(map(len, shown.splitlines())) <= width
