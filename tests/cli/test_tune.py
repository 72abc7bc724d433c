"""`tune`: its ranges, its trials, what a killed search keeps, and the best model."""

import csv
import importlib.util
import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from keras_bert_zoo.cli import study, trial, tune
from keras_bert_zoo.cli.main import command_parser
from keras_bert_zoo.cli.options import parse
from keras_bert_zoo.cli.search_space import (
    Choices,
    Range,
    checked_combinations,
    command_line,
    parse_space,
    set_options,
)
from keras_bert_zoo.cli.trial import Ended, Report
from keras_bert_zoo.errors import DataError
from keras_bert_zoo.tasks.registry import load_task
from tests.cli.conftest import snapshot
from tests.cli.test_launch import start
from tests.helpers import eagerly

SEARCH = ["--search", "learning-rate=1e-4..1e-1:log", "batch-size=8,12", "--trials", 4]


def arguments(preset, data, output, *more, search=SEARCH):
    return ["tune", "--preset", preset, "--train", data / "train.csv", "--dev", data / "dev.csv",
            "--dtype", "float32", "--output", output, *search, *more]  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def eager():
    with eagerly():
        yield


def options_of(argv):
    return parse(command_parser("train", argv), argv)


@pytest.fixture
def trials(monkeypatch, model):
    """Trials that copy a model instead of training one; returns the options of each."""
    seen = []

    def run(argv, report):
        args = options_of(argv)
        seen.append(args)
        for epoch in range(1, args.epochs + 1):
            # The best learning rate is 1e-2.
            value = 1 - abs(math.log10(args.learning_rate) + 2) / 10 + epoch / 1000
            if not report(Report(epoch, value, "val_accuracy", "max")):
                return Ended("pruned")
        for name in ("config.json", "keras_bert_zoo.json"):
            (Path(args.output) / name).write_bytes((model / name).read_bytes())
        return Ended("complete")

    monkeypatch.setattr(trial, "run_process", run)
    return seen


def table(output):
    with open(output / "trials.csv", newline="") as file:
        return list(csv.DictReader(file))


# === Ranges ===


def flags(task="classification"):
    return command_parser("train", ["--task", task]).flags()


def test_ranges_and_lists():
    given = [
        "learning-rate=1e-5..1e-4:log", "batch_size=16,32", "--epochs=2..4", "optimizer=adamw,lion",
        "layer-decay=0.8..1.0", "gradient-checkpointing=true,false",
    ]  # fmt: skip
    space = parse_space(given, flags())
    assert space == {
        "learning-rate": Range(1e-5, 1e-4, log=True),
        "batch-size": Choices(("16", "32")),
        "epochs": Range(2, 4),
        "optimizer": Choices(("adamw", "lion")),
        "layer-decay": Range(0.8, 1.0),
        "gradient-checkpointing": Choices(("true", "false")),
    }
    in_a_file = {
        "learning-rate": "1e-5..1e-4:log", "batch-size": [16, 32], "epochs": "2..4",
        "optimizer": ["adamw", "lion"], "layer-decay": "0.8..1.0",
        "gradient-checkpointing": [True, False],
    }  # fmt: skip
    assert parse_space(in_a_file, flags()) == space
    space = parse_space(["preset=../a,../b"], flags())
    assert space == {"preset": Choices(("../a", "../b"))}
    space = parse_space({"matryoshka": ["8,4", "8,2"]}, flags("embedding"))
    assert space == {"matryoshka": Choices(("8,4", "8,2"))}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("learning_rat=1..2", "unknown option 'learning_rat' (did you mean 'learning-rate'?)"),
        ("epochs", "expected NAME=VALUE,VALUE or NAME=LOW..HIGH"),
        ("epochs=", "expected NAME=VALUE,VALUE or NAME=LOW..HIGH"),
        ("epochs=0..3", "--search epochs: expected a whole number of at least 1, received '0'"),
        ("epochs=1.5..3", "expected a whole number of at least 1, received '1.5'"),
        ("epochs=4..2", "expected a range with LOW below HIGH, received '4..2'"),
        ("epochs=2..", "expected LOW..HIGH or LOW..HIGH:log, received '2..'"),
        ("epochs=2..4:linear", "expected LOW..HIGH or LOW..HIGH:log, received '2..4:linear'"),
        ("weight-decay=0..0.1:log", "expected LOW above 0 with :log, received '0..0.1:log'"),
        ("warmup-fraction=0..1.5", "expected a number from 0 to 1, received '1.5'"),
        ("batch-size=16,16", "expected different values"),
        ("optimizer=adamw,sgd", "expected one of adamw, lamb, adafactor, lion, muon"),
        ("optimizer=a..b", "expected one of adamw, lamb"),
        ("gradient-checkpointing=yes", "expected true or false, received 'yes'"),
        ("gradient-checkpointing=0..1", "expected a list of values, received a range"),
        ("train=a.csv,b.csv", "expected an option of the training, received 'train'"),
        ("seed=1,2", "expected an option of the training, received 'seed'"),
        ("trials=1,2", "unknown option 'trials'"),
    ],
)
def test_ranges_that_are_refused(refused, preset, data, tmp_path, given, message):
    search = ["--search", given]
    assert message in refused(*arguments(preset, data, tmp_path / "m", search=search))
    assert not (tmp_path / "m.trials").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--epochs", 5, "--search", "epochs=2..4"], "expected --epochs or a search over it"),
        (["--search", "max-length=8,600"], "--search max-length=600: expected --max-length from"),
        (["--search", "epochs=1,2", "epochs=3,4"], "expected 'epochs' once, received it twice"),
        (["--method", "grid"], "expected lists of values for --method grid, received the range"),
        (["--average-weights"], "--average-weights ends with other weights"),
        (["--strategy", "multi-worker"], "expected one machine for tune"),
        (["--train", "missing.csv"], "missing.csv: there is no such file"),
        (["--per-replica-batch-size", 8], "expected --batch-size or --per-replica-batch-size"),
        (["--search", "per-replica-batch-size=4,8"], "expected --batch-size or --per-replica-batc"),
        (["--search", "r-drop=0,1", "mixup=0,0.4"], "--search mixup=0.4 r-drop=1: "),
        (["--search", "mixup=0.4,0", "r-drop=1,0"], "--search mixup=0.4 r-drop=1: "),
        (["--search", "r-drop=1,0", "mixup=0..0.4"], "--search mixup=0.4 r-drop=1: "),
        (["--search", "tpu=a,b"], "expected an option of the training, received 'tpu'"),
        (["--search", "memory-check=true,false"], "of the training, received 'memory-check'"),
        (["--search", "text=a,b"], "expected an option of the training, received 'text'"),
        (["--task", "masked-lm", "--search", "mask-rate=0.1,0.2"], "received 'mask-rate'"),
        (["--task", "masked-lm", "--search", "whole-words=true"], "received 'whole-words'"),
        (["--task", "embedding", "--search", "scale=10,20"], "received 'batch-size'"),
        (["--task", "translation", "--search", "num-beams=1,2"], "received 'num-beams'"),
    ],
)
def test_options_that_are_refused(refused, preset, data, tmp_path, more, message):
    assert message in refused(*arguments(preset, data, tmp_path / "m", *more))
    assert not (tmp_path / "m.trials").exists()


def test_validation_data_is_needed(refused, preset, data, tmp_path):
    given = ["tune", "--preset", preset, "--train", data / "train.csv", "--output", tmp_path / "m"]
    assert "pass --dev or --dev-fraction" in refused(*given, *SEARCH)


def test_errors_come_before_tensorflow(preset, data, tmp_path):
    argv = arguments(preset, data, tmp_path / "m", "--search", "max-length=8,600")
    code = (
        "import sys; from keras_bert_zoo.cli.main import main; status = main(sys.argv[1:]); "
        "sys.exit(status if 'tensorflow' not in sys.modules else 9)"
    )
    command = [sys.executable, "-c", code, *map(str, argv)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2


@pytest.mark.parametrize(
    ("task", "given"),
    [
        ("classification", ["--text", "a b", "--delimiter", "-", "--keep-head", "--seed", "3"]),
        ("classification", ["--no-keep-head", "--columns", "x,y", "--ignore-config-keys", "a,b"]),
        ("embedding", ["--negatives", "n1,n2", "--matryoshka", "8,4", "--text-pair", "b"]),
        ("token-classification", ["--tag-column", "-1", "--crf", "--learning-rate", "3e-5"]),
        ("multi-label", ["--label-separator=;", "--tune-thresholds", "--clip-norm", "0"]),
    ],
)
def test_the_command_line_has_the_same_options(task, given):
    argv = ["--preset", "p", "--train", "t", "--output", "o", "--dev", "d", "--task", task, *given]
    args = options_of(argv)
    again = command_line(args, flags(task))
    assert options_of(shlex.split(shlex.join(again))) == args


def test_searches_are_collected(tmp_path):
    file = tmp_path / "tune.toml"
    file.write_text('[search]\nepochs = "2..3"\n')
    given = ["--train", "t", "--output", "o", "--config", str(file)]

    def search(*more):
        argv = [*given, *more]
        return parse(command_parser("tune", argv), argv).search

    assert search() == {"epochs": "2..3"}
    expected = ["epochs=1,2", "layer-decay=1", "clip-norm=1"]
    assert search("--search", *expected[:2], "--search", expected[2]) == expected


def test_the_grid_is_tried_as_a_whole():
    space = {"epochs": Choices(tuple("12345")), "batch-size": Choices(tuple("45678"))}
    assert tune._default_trials("grid", space) == 25
    assert tune._default_trials("random", space) == 20


def test_a_sample_of_many_combinations_has_all_values():
    names = ("a", "b", "c", "d")
    space = {name: Choices(tuple(map(str, range(8)))) for name in names}
    combinations = checked_combinations(space | {"e": Range(0, 1)})
    assert len(combinations) == 256
    for name in names:
        assert {each[name] for each in combinations} == set("01234567")
    assert {each["e"] for each in combinations} == {"0", "1"}
    reverse = {name: Choices(space[name].values[::-1]) for name in names[::-1]}
    assert checked_combinations({"e": Range(0, 1)} | reverse) == combinations


def test_embedding_of_single_texts_keeps_its_loss(refused, preset, data, tmp_path):
    search = ["--task", "embedding", "--search", "scale=10,20"]
    message = refused(*arguments(preset, data, tmp_path / "m", search=search))
    assert "expected an option of the training, received 'scale'" in message
    message = refused(*arguments(preset, data, tmp_path / "m", "--text-pair", "x", search=search))
    assert "expected a column 'x'" in message  # the options are accepted


def test_switches_in_the_command_line():
    values = {"gradient-checkpointing": "true", "keep-head": "false", "epochs": "2"}
    expected = ["--gradient-checkpointing", "--no-keep-head", "--epochs", "2"]
    assert set_options(values, flags()) == expected
    assert set_options({"gradient-checkpointing": "false"}, flags()) == []


# === The search ===


def test_the_best_of_some_trials(run, preset, data, tmp_path, trials):
    output = tmp_path / "m"
    output.mkdir()
    (output / "keras_bert_zoo.json").write_text("{}")  # an earlier model
    (output / "notes.txt").write_text("mine")
    finished = run(*arguments(preset, data, output, "--seed", 5))
    assert (finished.status, finished.err) == (0, "")
    assert len(trials) == 4
    assert {args.seed for args in trials} == {5}
    assert all(1e-4 <= args.learning_rate <= 1e-1 for args in trials)
    assert {args.batch_size for args in trials} == {8, 12}
    rows = table(output)
    values = [float(row["value"]) for row in rows]
    assert values == sorted(values, reverse=True)
    best = min(range(4), key=lambda index: abs(math.log10(trials[index].learning_rate) + 2))
    assert rows[0]["trial"] == str(best + 1)
    assert float(rows[0]["learning-rate"]) == trials[best].learning_rate
    assert rows[0]["learning-rate"] in finished.out
    command = next(line for line in finished.out.splitlines() if "keras-bert-zoo train" in line)
    assert command.strip() == rows[0]["command"]
    again = options_of(shlex.split(command)[2:])
    assert vars(again) == vars(trials[best]) | {"output": str(output), "verbose": False}
    assert sorted(snapshot(output)) == [
        "config.json", "keras_bert_zoo.json", "notes.txt", "trials.csv",
    ]  # fmt: skip
    assert list(snapshot(tmp_path / "m.trials")) == ["trials.log"]


def test_the_same_seed_gives_the_same_trials(run, preset, data, tmp_path, trials):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run(*arguments(preset, data, tmp_path / name, "--seed", seed)).status == 0
    rates = [args.learning_rate for args in trials]
    assert rates[:4] == rates[4:8]
    assert not set(rates[:4]) & set(rates[8:])


class Killed(BaseException):
    """The end of a process, without any cleanup by `tune`."""


@pytest.mark.parametrize("method", ["random", "halving", "tpe", "grid"])
def test_a_killed_search_goes_on_with_the_same_trials(
    run, refused, preset, data, tmp_path, trials, monkeypatch, method
):
    search = [*SEARCH[:3], "--trials", 6, "--epochs", 3, "--method", method]
    if method == "grid":
        search[1:3] = ["learning-rate=1e-4,1e-3,1e-2", "batch-size=8,12"]
    whole = tmp_path / "whole"
    assert run(*arguments(preset, data, whole, search=search)).status == 0
    expected, run_trial = list(trials), trial.run_process
    trials.clear()

    def kill_third(argv, report):
        ended = run_trial(argv, report)
        if len(trials) == 3:  # after its last report, before its end is recorded
            raise Killed
        return ended

    output = tmp_path / "m"
    monkeypatch.setattr(trial, "run_process", kill_third)
    with pytest.raises(Killed):
        run(*arguments(preset, data, output, search=search))
    log = tmp_path / "m.trials" / "trials.log"
    log.write_bytes(log.read_bytes() + b'{"op_code": 8, "wor')  # a line that is not complete
    message = refused(*arguments(preset, data, output, search=search))
    assert "expected no earlier search, received one: pass --resume" in message
    assert run(*arguments(preset, data, output, "--resume", search=search)).status == 0
    assert len(trials) == 7  # the third one is repeated
    del trials[3]
    names = ("learning_rate", "batch_size")
    for one, other in zip(expected, trials, strict=True):
        assert [getattr(one, name) for name in names] == [getattr(other, name) for name in names]
    ignored = ("seconds", "command")
    for one, other in zip(table(whole), table(output), strict=True):
        assert {k: v for k, v in one.items() if k not in ignored} == {
            k: v for k, v in other.items() if k not in ignored
        }


def test_more_trials_later_and_other_options(run, refused, preset, data, tmp_path, trials):
    output = tmp_path / "m"
    assert run(*arguments(preset, data, output, "--trials", 2)).status == 0
    assert run(*arguments(preset, data, output, "--trials", 3, "--resume")).status == 0
    assert len(trials) == 3
    message = refused(*arguments(preset, data, output, "--resume", "--seed", 1))
    assert message.removeprefix(f"{output}.trials: ") == (
        "expected the same options and data to go on with a search, received --seed 1, before not "
        "given; repeat the earlier command, or delete the directory to start again"
    )
    more = arguments(preset, data, output, "--trials", 3, "--resume")
    best = table(output)[0]
    other = tmp_path / "train.csv"
    other.write_text((data / "train.csv").read_text())
    assert run(*more, "--train", other).status == 0
    other.write_text((data / "train.csv").read_text() + "a rose,red\n")
    message = refused(*more, "--train", other)
    assert "received data of --train " in message
    assert "--dev" not in message
    shutil.rmtree(output)
    message = refused(*more)
    assert message == (
        f"{output}: expected the model of trial {best['trial']}, the best one so far, received no "
        f"model; train it again with: {best['command']}; or delete {output}.trials to start again"
    )
    assert len(trials) == 3


def test_ctrl_c_keeps_the_finished_trials(run, preset, data, tmp_path, trials, monkeypatch):
    run_trial = trial.run_process

    def interrupt_third(argv, report):
        if len(trials) == 2:
            raise KeyboardInterrupt
        return run_trial(argv, report)

    monkeypatch.setattr(trial, "run_process", interrupt_third)
    finished = run(*arguments(preset, data, tmp_path / "m"))
    assert finished.status == 130
    assert "interrupted; 2 finished trials are kept; --resume goes on" in finished.err
    assert [row["status"] for row in table(tmp_path / "m")] == ["complete", "complete"]
    assert list(snapshot(tmp_path / "m.trials")) == ["trials.log"]


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize(
    ("first_values", "goes_on", "ranked"),
    [
        # 1 of 1; the best of 2; no; of 4, only the best; the best of 5; of 6, the second.
        ([0.5, 0.6, 0.4, 0.55, 0.7, 0.65], [1, 1, 0, 0, 1, 1], "562143"),
        # Of 5, only the best. If a killed trial counted twice, the last would be the second of 6.
        ([0.5, 0.6, 0.4, 0.7, 0.65], [1, 1, 0, 1, 0], "42153"),
    ],
)
def test_halving_stops_the_worse_trials(
    run, preset, data, tmp_path, monkeypatch, killed, first_values, goes_on, ranked
):
    """By hand: a trial goes on after epoch 1 if it is in the best third so far, or the best."""
    epochs, kills = [], [2] if killed else []

    def run_trial(argv, report):
        number = len(epochs) + 1
        for epoch in (1, 2):
            if not report(Report(epoch, first_values[number - 1] + epoch / 100, "val_f1", "max")):
                break
            if number in kills:
                kills.remove(number)
                raise Killed
        epochs.append(epoch)
        if epoch == 1:
            return Ended("pruned")
        (Path(options_of(argv).output) / "keras_bert_zoo.json").write_text("{}")
        return Ended("complete")

    monkeypatch.setattr(trial, "run_process", run_trial)
    more = ["--method", "halving", "--trials", len(first_values)]
    given = arguments(preset, data, tmp_path / "m", *more)
    if killed:
        with pytest.raises(Killed):
            run(*given)
        given.append("--resume")
    finished = run(*given)
    assert finished.status == 0, finished.err
    assert epochs == [2 if value else 1 for value in goes_on]
    assert finished.out.count("stopped: others were better") == 2
    assert [row["trial"] for row in table(tmp_path / "m")] == list(ranked)


def test_lower_is_better_for_a_loss(run, preset, data, tmp_path, monkeypatch):
    losses = [[0.5, 0.9], [0.7, 0.4], [float("nan"), 0.6]]
    done = []

    def run_trial(argv, report):
        for epoch, value in enumerate(losses[len(done)], start=1):
            report(Report(epoch, value, "val_loss", "min"))
        done.append(argv)
        (Path(options_of(argv).output) / "keras_bert_zoo.json").write_text(str(len(done)))
        return Ended("complete")

    monkeypatch.setattr(trial, "run_process", run_trial)
    finished = run(*arguments(preset, data, tmp_path / "m", "--trials", 3))
    assert finished.status == 0, finished.err
    rows = table(tmp_path / "m")
    assert [(row["trial"], float(row["value"])) for row in rows] == [
        ("2", 0.4), ("1", 0.5), ("3", 0.6),
    ]  # fmt: skip
    assert (tmp_path / "m" / "keras_bert_zoo.json").read_text() == "2"


def test_a_trial_that_fails_does_not_end_the_search(
    run, preset, data, tmp_path, trials, monkeypatch
):
    run_trial = trial.run_process

    def fail_often(argv, report):
        ended = run_trial(argv, report)
        number = len(trials)
        if number == 1:
            return Ended("failed", "out of memory; reduce --batch-size or --max-length")
        return ended

    monkeypatch.setattr(trial, "run_process", fail_often)
    finished = run(*arguments(preset, data, tmp_path / "m", "--json"))
    assert finished.status == 0
    assert "failed: out of memory; reduce --batch-size" in finished.err
    statuses = [each["status"] for each in finished.json["trials"]]
    assert statuses == ["failed", "complete", "complete", "complete"]
    assert table(tmp_path / "m")[-1]["message"].startswith("out of memory")


def test_a_search_without_any_model_fails(refused, preset, data, tmp_path, monkeypatch):
    def run_trial(argv, report):
        report(Report(1, float("nan"), "val_accuracy", "max"))
        return Ended("complete")

    monkeypatch.setattr(trial, "run_process", run_trial)
    message = refused(*arguments(preset, data, tmp_path / "m"), status=1)
    assert "expected at least one complete trial, received 4 failed ones; the first: " in message
    assert "the metric on the validation data was not finite" in message
    assert not (tmp_path / "m").exists()


def test_no_trial_is_repeated(run, preset, data, tmp_path, trials, monkeypatch):
    monkeypatch.setattr(study, "_TRIES", 20)
    search = ["--search", "batch-size=8,12", "epochs=1..2", "--trials", 9]
    finished = run(*arguments(preset, data, tmp_path / "m", search=search))
    assert "all combinations of values are tried" in finished.out
    assert sorted((args.batch_size, args.epochs) for args in trials) == [
        (8, 1), (8, 2), (12, 1), (12, 2),
    ]  # fmt: skip


def test_the_table_is_shown_if_the_file_cannot_be_written(
    run, preset, data, tmp_path, trials, monkeypatch
):
    def full(path):
        raise DataError(f"{path}: cannot write: No space left on device")

    monkeypatch.setattr(tune, "written_file", full)
    finished = run(*arguments(preset, data, tmp_path / "m", "--trials", 1))
    assert finished.status == 2
    assert "trials.csv: cannot write: No space left on device" in finished.err
    assert "best: trial 1, which this command repeats:" in finished.out


def test_the_time_ends_a_search(run, preset, data, tmp_path, trials, monkeypatch):
    clock = iter([0.0, *[10.0 * n for n in range(99)]])
    monkeypatch.setattr(tune, "monotonic", lambda: next(clock))
    more = ["--timeout-minutes", "0.8", "--trials", 50]
    finished = run(*arguments(preset, data, tmp_path / "m", *more))
    assert finished.status == 0
    # The clock is read at the start, and three times for each trial: after 0, 30 and 60 seconds.
    assert len(trials) == 2
    assert "0.8 minutes are over" in finished.out


def test_two_searches_at_once_are_refused(
    run, refused, preset, data, tmp_path, trials, monkeypatch
):
    messages = []
    run_trial = trial.run_process

    def run_another(argv, report):
        if not messages:
            messages.append(None)
            messages[0] = refused(*arguments(preset, data, tmp_path / "m", "--resume"))
        return run_trial(argv, report)

    monkeypatch.setattr(trial, "run_process", run_another)
    assert run(*arguments(preset, data, tmp_path / "m", "--trials", 1)).status == 0
    assert "another search is running here" in messages[0]


def test_presets_are_searched(run, refused, preset, data, tmp_path, trials):
    given = arguments(preset, data, tmp_path / "m", search=["--trials", 4])
    del given[1:3]  # --preset
    assert "required: --preset" in refused(*given, "--search", "epochs=1..2")
    other = tmp_path / "other"
    shutil.copytree(preset, other)
    search = ["--search", f"preset={preset},{other}", "--method", "grid"]
    assert run(*given, *search).status == 0
    assert sorted(args.preset for args in trials) == sorted([str(preset), str(other)])
    message = refused(*given, "--search", f"preset={preset},{tmp_path / 'missing'}", "--resume")
    assert message.startswith(f"--search preset={tmp_path / 'missing'}: ")


def test_optuna_is_needed(refused, preset, data, tmp_path, monkeypatch):
    find = importlib.util.find_spec

    def find_others(name):
        return None if name == "optuna" else find(name)

    monkeypatch.setattr(importlib.util, "find_spec", find_others)
    message = refused(*arguments(preset, data, tmp_path / "m"))
    assert "pip install 'keras_bert_zoo[tune]'" in message


def test_a_file_has_the_ranges(run, preset, data, tmp_path, trials):
    config = tmp_path / "tune.toml"
    config.write_text(
        f'preset = "{preset}"\ntrain = "{data / "train.csv"}"\ndev = "{data / "dev.csv"}"\n'
        f'output = "{tmp_path / "m"}"\ntrials = 2\nweight-decay = 0.1\n'
        "memory-check = false\n"
        '[search]\nlearning-rate = "1e-4..1e-1:log"\nbatch-size = [8, 12]\n'
    )
    assert run("tune", "--config", config).status == 0
    assert [args.weight_decay for args in trials] == [0.1, 0.1]
    assert [args.memory_check for args in trials] == [False, False]
    assert {args.batch_size for args in trials} <= {8, 12}
    assert "config" not in table(tmp_path / "m")[0]["command"]


# === Trials that train ===


def test_the_best_model_is_that_of_its_command(run, preset, data, tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "run_process", trial.run_here)
    search = ["--search", "learning-rate=0.01,0.05", "--trials", 2, "--method", "grid"]
    more = ["--epochs", 1, "--batch-size", 24]
    finished = run(*arguments(preset, data, tmp_path / "m", *more, search=search))
    assert finished.status == 0, finished.err
    command = next(line for line in finished.out.splitlines() if "keras-bert-zoo train" in line)
    argv = [*shlex.split(command)[1:], "--output", tmp_path / "again", "--json"]
    again = run(*argv).json
    best = table(tmp_path / "m")[0]
    assert best["metric"] == "val_accuracy"
    assert float(best["value"]) == pytest.approx(again["dev"]["accuracy"])
    weights = zip(
        load_task(tmp_path / "m").get_weights(),
        load_task(tmp_path / "again").get_weights(),
        strict=True,
    )
    for value, expected in weights:
        np.testing.assert_allclose(value, expected, atol=1e-6)


def test_trials_end_as_the_search_says_and_with_their_errors(preset, data, tmp_path):
    given = ["--preset", preset, "--dtype", "float32", "--batch-size", 24, "--epochs", 3]
    given += ["--train", data / "train.csv", "--dev", data / "dev.csv", "--output", tmp_path / "m"]
    argv = [str(argument) for argument in given]
    reports = []

    def stop_at_two(report):
        reports.append(report)
        return report.epoch < 2

    assert trial.run_here(argv, stop_at_two) == Ended("pruned")
    assert [(report.epoch, report.monitor, report.mode) for report in reports] == [
        (1, "val_accuracy", "max"), (2, "val_accuracy", "max"),
    ]  # fmt: skip
    assert not (tmp_path / "m").exists()
    ended = trial.run_here([*argv, "--keep-head", "--task", "regression"], stop_at_two)
    assert ended.status == "failed"
    assert "--keep-head needs a preset for --task regression" in ended.message


def test_a_process_reports_its_epochs(tmp_path, monkeypatch):
    """The training is replaced by a function that also writes to standard output."""
    code = tmp_path / "trial.py"
    code.write_text(
        """import os, sys
from keras_bert_zoo.cli import trial

def run_here(argv, report, out):
    os.write(1, b"a message of TensorFlow")
    for epoch in (1, 2, 3):
        if not report(trial.Report(epoch, epoch / 4, argv[0], "max")):
            return trial.Ended("pruned")
    return trial.Ended("complete")

trial.run_here = run_here
sys.exit(trial.main(sys.argv[1:]))
"""
    )
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nshift 2\nexec "{sys.executable}" "{code}" "$@"\n')
    script.chmod(0o755)
    monkeypatch.setattr(trial.sys, "executable", str(script))
    for last, status in ((2, "pruned"), (9, "complete")):
        reports = []

        def goes_on(report, reports=reports, last=last):
            reports.append(report)
            return report.epoch < last

        assert trial.run_process(["val_f1"], goes_on) == Ended(status)
        expected = [Report(epoch, epoch / 4, "val_f1", "max") for epoch in (1, 2, 3)]
        assert reports == expected[:last]


def test_a_process_that_fails_or_is_killed(tmp_path, monkeypatch):
    ended = trial.run_process(["--preset", "missing"], lambda report: True)
    assert ended.status == "failed"
    assert "the following arguments are required: --train, --output" in ended.message
    script = tmp_path / "python"
    monkeypatch.setattr(trial.sys, "executable", str(script))
    for code, message in (
        ("exit 3", "ended with status 3"),
        ("kill -9 $$", "ended by the signal SIGKILL; the memory may have been full"),
    ):
        script.write_text(f"#!/bin/sh\n{code}\n")
        script.chmod(0o755)
        assert trial.run_process([], bool) == Ended("failed", message)


@pytest.mark.slow
def test_sigkill_and_resume(run, preset, data, tmp_path):
    """With real processes: the same trials and values as an uninterrupted search."""
    search = ["--search", "learning-rate=1e-3..1e-1:log", "--trials", 2, "--epochs", 2]
    for name in ("whole", "killed"):
        process = start(*arguments(preset, data, tmp_path / name, search=search))
        log = tmp_path / f"{name}.trials" / "trials.log"
        if name == "killed":
            while not log.exists() or log.read_text().count('"result"') < 1:
                assert process.poll() is None, process.communicate()
                time.sleep(0.05)
            time.sleep(2)
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            assert process.returncode == -signal.SIGKILL
            assert log.read_text().count('"result"') == 1
            again = arguments(preset, data, tmp_path / name, "--resume", search=search)
            process = start(*again)
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
    assert "trial 1 of 2" not in out
    assert "trial 2 of 2" in out
    one, two = (table(tmp_path / name) for name in ("whole", "killed"))
    names = ("trial", "status", "learning-rate")
    assert [[row[n] for n in names] for row in one] == [[row[n] for n in names] for row in two]
    assert [float(row["value"]) for row in one] == pytest.approx([float(r["value"]) for r in two])
    assert json.loads((tmp_path / "killed" / "config.json").read_text())
