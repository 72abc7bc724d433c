"""`train --find-learning-rate` and `train --folds`."""

import importlib.util
import json

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from keras_bert_zoo.cli import runtime
from keras_bert_zoo.cli.rate_finder import plot, table
from keras_bert_zoo.tasks.registry import load_task
from keras_bert_zoo.tasks.text_classifier import TextClassifier
from keras_bert_zoo.training.rate_finder import RateTest, find_learning_rate
from tests.cli.conftest import fast, snapshot, texts
from tests.helpers import eagerly


@pytest.fixture(autouse=True, scope="module")
def eager():
    with eagerly():
        yield


@pytest.fixture
def folder(tmp_path, data):
    return tmp_path / "runs"


def rate_test(preset, data, output, *more):
    return ["train", *fast(preset), "--train", data / "train.csv", "--output", output,
            "--find-learning-rate", *more]  # fmt: skip


# === Range test ===


def test_the_range_test_writes_a_plot_only(run, preset, data, folder, monkeypatch):
    monkeypatch.setitem(find_learning_rate.__kwdefaults__, "steps", 18)
    monkeypatch.setitem(find_learning_rate.__kwdefaults__, "min_rate", 1e-3)
    finished = run(*rate_test(preset, data, folder / "new" / "m", "--dev-fraction", "0.25"))
    assert (finished.status, finished.err) == (0, "")
    assert "suggestion: --learning-rate " in finished.out
    assert "a tenth of the rate with the lowest smoothed loss" in finished.out
    assert finished.out.splitlines()[0].split() == ["step", "learning", "rate", "loss", "smoothed"]
    files = snapshot(folder)
    assert list(files) == ["new/m.learning_rate.png"]
    assert files["new/m.learning_rate.png"].startswith(b"\x89PNG")


def test_the_range_test_leaves_an_earlier_model(run, preset, data, folder, model, monkeypatch):
    seen = {}

    def fit(self, x, y=None, **options):
        seen.update(options, rows=len(x))
        options["callbacks"][0].losses = [2.0, 1.0, 3.0]

    monkeypatch.setattr(TextClassifier, "fit", fit)
    before = snapshot(model)
    more = ["--json", "--optimizer", "lamb", "--clip-norm", "0", "--accumulation-steps", "3"]
    finished = run(*rate_test(preset, data, model, *more))
    plot = model.parent / f"{model.name}.learning_rate.png"
    assert finished.json["plot"] == str(plot)
    assert finished.json["losses"] == [2.0, 1.0, 3.0]
    assert finished.json["rates"] == np.geomspace(1e-7, 1, 100)[:3].tolist()
    smoothed = [2.0, (0.9 * 0.2 + 0.1) / 0.19, (0.81 * 0.2 + 0.09 + 0.3) / 0.271]
    np.testing.assert_allclose(finished.json["smoothed"], smoothed)
    assert finished.json["suggestion"] == pytest.approx(np.geomspace(1e-7, 1, 100)[1] / 10)
    assert snapshot(model) == before
    plot.unlink()
    expected = {"optimizer": "lamb", "global_clipnorm": None, "accumulation_steps": 3,
                "batch_size": 24, "epochs": 1, "steps_per_epoch": 100, "rows": 48}  # fmt: skip
    assert {name: seen[name] for name in expected} == expected


def test_the_table_and_the_plot_of_any_result():
    rates = np.geomspace(1e-7, 1, 50)
    losses = np.full(50, 3.0)
    losses[-1] = np.nan
    failed = RateTest(rates, losses, losses, None, diverged=True)
    assert table(failed).endswith(
        "the loss diverged at 1.00e+00\nno suggestion: the loss did not fall"
    )
    assert plot(failed).startswith(b"\x89PNG")
    one = RateTest(rates[:1], losses[:1], losses[:1], None, diverged=True)
    assert plot(one).startswith(b"\x89PNG")
    only = RateTest(rates[:1], losses[-1:], losses[-1:], None, diverged=True)
    assert plot(only).startswith(b"\x89PNG")
    assert "nan" in table(only)


def test_what_the_range_test_refuses(refused, preset, data, folder, monkeypatch):
    arguments = rate_test(preset, data, folder / "m")
    message = refused(*arguments, "--resume", "--folds", 3, "--tensorboard", folder)
    assert "expected --find-learning-rate without --folds, --tensorboard, --resume" in message
    (folder / "file").parent.mkdir()
    (folder / "file").write_text("")
    message = refused(*rate_test(preset, data, folder / "file" / "m"))
    assert message == (
        f"{folder / 'file' / 'm'}.learning_rate.png: cannot write: Not a directory; nothing was "
        "changed there"
    )
    find = importlib.util.find_spec

    def find_others(name):
        return None if name == "matplotlib" else find(name)

    monkeypatch.setattr(importlib.util, "find_spec", find_others)
    message = refused(*arguments)
    assert "Expected the package matplotlib for --find-learning-rate" in message
    assert list(snapshot(folder)) == ["file"]


def test_an_interrupted_range_test_saves_nothing(run, preset, data, folder, monkeypatch):
    def fit(self, x, y=None, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(TextClassifier, "fit", fit)
    finished = run(*rate_test(preset, data, folder / "m"))
    assert finished.status == 130
    assert finished.err == "keras-bert-zoo: interrupted; no plot is saved\n"
    assert not folder.exists()


# === Cross-validation ===


def write(path, rows):
    path.write_text("\n".join(["text,label", *(",".join(row) for row in rows)]) + "\n")
    return path


def test_the_scores_are_those_of_trainings_by_hand(run, preset, tmp_path):
    """And the last model is that of a training without folds."""
    rows = texts(24)
    train = write(tmp_path / "train.csv", rows)
    options = fast(preset, "--epochs", "1", "--batch-size", "8", "--seed", "5")
    file = tmp_path / "predictions.jsonl"
    finished = run(
        "train", *options, "--train", train, "--output", tmp_path / "all", "--folds", 2,
        "--fold-predictions", file, "--json",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    scores = finished.json["training"]["folds"]
    assert "fold 2 of 2: training on 12 texts, 12 held out" in finished.err
    saved = json.loads((tmp_path / "all" / "keras_bert_zoo.json").read_text())
    assert saved["training"]["folds"] == scores

    predictions = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["row"] for row in predictions] == list(range(2, 26))
    labels = [label for _, label in rows]
    splits = StratifiedKFold(2, shuffle=True, random_state=5).split(rows, labels)
    for number, (rest, held_out) in enumerate(splits):
        part = write(tmp_path / "part.csv", [rows[index] for index in rest])
        test = write(tmp_path / "test.csv", [rows[index] for index in held_out])
        output = tmp_path / f"fold {number}"
        assert run("train", *options, "--train", part, "--output", output).status == 0
        report = run("evaluate", "--model", output, "--data", test, "--json").json
        measured = {name: values["values"][number] for name, values in scores.items()}
        assert measured == pytest.approx({name: report[name] for name in measured})
        by_hand = run("predict", "--model", output, "--input", test, "--all-scores").rows
        for index, expected in zip(held_out, by_hand, strict=True):
            row = predictions[index]
            assert (row["fold"], row["text"]) == (number + 1, rows[index][0])
            assert row["scores"] == pytest.approx(expected["scores"], abs=1e-5)
    assert scores["accuracy"]["mean"] == pytest.approx(np.mean(scores["accuracy"]["values"]))
    difference = np.diff(scores["accuracy"]["values"])[0]
    assert scores["accuracy"]["std"] == pytest.approx(abs(difference) / np.sqrt(2))

    assert run("train", *options, "--train", train, "--output", tmp_path / "one").status == 0
    weights = zip(
        load_task(tmp_path / "all").get_weights(),
        load_task(tmp_path / "one").get_weights(),
        strict=True,
    )
    for value, expected in weights:
        np.testing.assert_allclose(value, expected, atol=1e-6)


def test_the_table_of_folds(run, preset, data, folder, monkeypatch):
    def fit(self, x, y=None, **options):
        if len(x) == 48:  # the last training
            raise KeyboardInterrupt

    monkeypatch.setattr(TextClassifier, "fit", fit)
    finished = run("train", *fast(preset), "--train", data / "train.csv", "--folds", 3, "--output",
                   folder / "m")  # fmt: skip
    assert finished.status == 130
    lines = finished.out.splitlines()
    start = lines.index("cross-validation, 3 folds:")
    assert lines[start + 1].split() == "fold 1 fold 2 fold 3 mean std".split()
    name, *numbers = lines[start + 2].split()
    values = [float(number) for number in numbers]
    assert name == "accuracy"
    assert values[3] == pytest.approx(np.mean(values[:3]), abs=1e-4)
    assert values[4] == pytest.approx(np.std(values[:3], ddof=1), abs=1e-4)


def test_an_interrupted_fold_saves_nothing(run, preset, data, folder, monkeypatch):
    folder.mkdir()

    def fit(self, x, y=None, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(TextClassifier, "fit", fit)
    finished = run(
        "train", *fast(preset), "--train", data / "train.csv", "--output", folder / "m",
        "--folds", 2, "--fold-predictions", folder / "p.jsonl",
    )  # fmt: skip
    assert finished.status == 130
    message = "keras-bert-zoo: interrupted during the cross-validation; nothing is saved\n"
    assert finished.err == message
    assert snapshot(folder) == {}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["--find-learning-rate", "--dry-run", "--plot", "--track", "mlflow:logs"],
            "expected --find-learning-rate without --dry-run, --track, --plot; leave one out",
        ),
        (["--folds", 2, "--dry-run"], "expected --folds without --dry-run; leave one out"),
        (["--folds", 2, "--fold-predictions", "-"], "expected a file for --fold-predictions"),
        (["--folds", 2, "--task", "embedding"], "received single texts; pass --text-pair COLUMN"),
        (
            ["--folds", 2, "--task", "masked-lm", "--fold-predictions", "p.jsonl"],
            "--fold-predictions does not apply to --task masked-lm: its texts have no masks",
        ),
        (
            ["--per-replica-batch-size", 8],
            "expected --batch-size or --per-replica-batch-size, received both; leave one out",
        ),
    ],
)
def test_options_that_contradict(refused, preset, data, folder, monkeypatch, more, message):
    monkeypatch.setattr(runtime, "start_tensorflow", None)  # they are refused before
    given = ["train", *fast(preset), "--train", data / "train.csv", "--output", folder / "m"]
    assert message in refused(*given, *more)


def test_what_folds_refuse(refused, preset, data, folder):
    arguments = ["train", *fast(preset), "--train", data / "train.csv", "--output", folder / "m"]
    message = refused(*arguments, "--folds", 3, "--dev-fraction", "0.1", "--checkpoint-every", 5)
    assert "expected --folds without --dev-fraction, --checkpoint-every; leave one out" in message
    assert "whole number of at least 2, received '1'" in refused(*arguments, "--folds", 1)
    message = refused(*arguments, "--fold-predictions", folder / "p.jsonl")
    assert message == "--fold-predictions needs --folds K"
    message = refused(*arguments, "--folds", 100)
    assert "expected at least 100 examples for 100 folds, received 48" in message
    message = refused(*arguments, "--folds", 2, "--fold-predictions", data / "train.csv")
    assert "expected different files for --fold-predictions and --train" in message
    message = refused(*arguments, "--folds", 2, "--strategy", "multi-worker")
    assert "expected one machine with --folds" in message
    assert snapshot(folder) == {}
