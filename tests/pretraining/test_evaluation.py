"""GLUE's files, its measures, medians, and the file of finished runs."""

import json
import logging
import statistics

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.metrics.classification import classification_report, regression_report
from keras_bert_zoo.pretraining.evaluation.glue import GLUE
from keras_bert_zoo.pretraining.evaluation.quick import QUICK
from keras_bert_zoo.pretraining.evaluation.records import FILE, SuiteRun, open_log
from keras_bert_zoo.pretraining.evaluation.scores import average, best_seed, score_table, summary
from keras_bert_zoo.pretraining.evaluation.suite import (
    matthews_correlation,
    positive_f1,
    require_files,
)
from tests.pretraining.glue_files import sentence, write_glue

TASKS = {task.name: task for task in GLUE.tasks}


@pytest.fixture(scope="module")
def glue(tmp_path_factory):
    return write_glue(tmp_path_factory.mktemp("glue"))


# === Files ===


@pytest.mark.parametrize("task", GLUE.tasks, ids=lambda task: task.name)
def test_each_task_reads_its_layout(glue, task):
    require_files(glue, task)
    data = task.read(glue)
    expected = ["matched", "mismatched"] if task.name == "MNLI" else [""]
    assert list(data.dev) == expected
    for examples in (data.train, *data.dev.values()):
        assert len(examples) == 12
        # Quotes are text. SST-2's sentences end with a space.
        assert [text.strip() for text in examples.texts] == [sentence(i) for i in range(12)]
        if examples.text_pairs is None:
            assert task.name in ("CoLA", "SST-2")
        else:
            assert examples.text_pairs == [sentence(i + i % 2) for i in range(12)]
    if task.name == "STS-B":
        assert data.train.labels == [float(i % 6) for i in range(12)]
    elif task.name == "MNLI":
        assert data.dev["matched"].labels[:3] == ["neutral", "contradiction", "entailment"]
    else:
        assert data.train.labels == [data.labels[i % 2] for i in range(12)]


def test_test_files_are_read_with_the_names_of_the_submission(glue):
    tests = [test for task in GLUE.tasks for test in task.read_tests(glue)]
    assert sorted(test.name for test in tests) == sorted(
        f"{name}.tsv"
        for name in ("CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI-m", "MNLI-mm", "AX", "QNLI",
                     "RTE", "WNLI")
    )  # fmt: skip
    for test in tests:
        assert test.indices == ["0", "1", "2"]
        assert test.examples.texts == [sentence(i) for i in range(3)]


def test_missing_test_files_are_no_error(glue, tmp_path):
    assert TASKS["RTE"].read_tests(tmp_path) == []


def test_the_corpus_of_mrpc_is_split_by_dev_ids(tmp_path):
    data = TASKS["MRPC"].read(write_glue(tmp_path, mrpc="ids"))
    assert data.dev[""].texts == [sentence(i) for i in (0, 3, 6, 9)]
    assert data.train.texts == [sentence(i) for i in range(12) if i % 3]
    (test,) = TASKS["MRPC"].read_tests(tmp_path)
    assert test.indices == ["0", "1", "2", "3"]


def test_dev_ids_of_another_corpus_are_rejected(tmp_path):
    write_glue(tmp_path, mrpc="ids")
    (tmp_path / "MRPC" / "dev_ids.tsv").write_text("1000\t2000\n7\t8\n")
    with pytest.raises(DataError, match=r"dev_ids\.tsv: .* received 1 pairs that are not in it"):
        TASKS["MRPC"].read(tmp_path)


def test_the_corpus_without_dev_ids_measures_its_test_set(tmp_path, caplog):
    data = TASKS["MRPC"].read(write_glue(tmp_path, mrpc="corpus"))
    assert len(data.train) == 12
    assert len(data.dev[""]) == 4
    assert "dev_ids.tsv" in caplog.text


def test_broken_lines_of_qqp_are_named(tmp_path, caplog):
    path = write_glue(tmp_path) / "QQP" / "train.tsv"
    lines = path.read_text().splitlines()
    lines[3] = "2\t4\t5\ta question"
    lines[4] = "with a line end\tanother\t1"
    path.write_text("\n".join(lines) + "\n")
    with caplog.at_level(logging.WARNING):
        data = TASKS["QQP"].read(tmp_path)
    assert data.train.rows == [2, 3, *range(6, 14)]
    assert f"{path}: skipped 2 lines without the 6 columns of the header: 4, 5" in caplog.text


def test_many_broken_lines_of_qqp_are_an_error(tmp_path):
    path = write_glue(tmp_path) / "QQP" / "train.tsv"
    path.write_text(path.read_text() + "broken\n" * 11)
    with pytest.raises(DataError, match=r"at most 1 % of broken lines, received 11 lines .*: 14, "):
        TASKS["QQP"].read(tmp_path)


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("RTE", "1\ta rose", r"RTE/train\.tsv:2: expected 4 columns"),
        ("RTE", "1\ta\tb\tmaybe", r"RTE/train\.tsv:2: expected one of the labels entailment, not_"),
        ("CoLA", "gj04\t2\t\ta rose", r"CoLA/train\.tsv:2: .*'label', received '2'"),
        ("STS-B", "1\tm\tx\t2012\t1\tn\tn\ta\tb\t7", r"train\.tsv:2: expected a score from 0 to 5"),
        ("STS-B", "1\tm\tx\t2012\t1\tn\tn\ta\tb\tx", r"STS-B/train\.tsv:2: .*'score'"),
    ],
)
def test_broken_lines_are_named(tmp_path, name, line, message):
    path = write_glue(tmp_path) / name / "train.tsv"
    lines = path.read_text().splitlines()
    lines[1] = line
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=message):
        TASKS[name].read(tmp_path)


def test_missing_files_are_named(tmp_path):
    write_glue(tmp_path)
    (tmp_path / "MNLI" / "dev_mismatched.tsv").unlink()
    with pytest.raises(DataError, match=r"MNLI, missing: MNLI/dev_mismatched\.tsv"):
        require_files(tmp_path, TASKS["MNLI"])
    (tmp_path / "MRPC" / "dev.tsv").unlink()
    with pytest.raises(DataError, match=r"missing: MRPC/dev\.tsv or MRPC/dev_ids\.tsv"):
        require_files(tmp_path, TASKS["MRPC"])


def test_tasks_are_selected_by_name():
    assert [task.name for task in GLUE.select(["stsb", "CoLA", "sst_2"])] == [
        "CoLA", "SST-2", "STS-B",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"SST-2, MRPC.*received 'SST'"):
        GLUE.select(["SST"])
    with pytest.raises(ConfigError, match=r"different tasks, received rte, RTE"):
        GLUE.select(["rte", "RTE"])


def test_the_defaults_are_those_of_run_glue():
    for task in GLUE.tasks:
        settings = task.settings
        assert settings.epochs == (5 if task.name in ("MRPC", "WNLI") else 3)
        assert (settings.learning_rate, settings.batch_size, settings.max_length) == (2e-5, 32, 128)


# === Measures ===


def hand_made(seed):
    random = np.random.default_rng(seed)
    true = random.integers(0, 2, 50)
    return true, np.where(random.random(50) < 0.3, 1 - true, true)


@pytest.mark.parametrize("seed", range(3))
def test_measures_equal_scikit_learn(seed):
    true, predicted = hand_made(seed)
    report = classification_report(true, predicted, ["0", "1"])
    expected = metrics.matthews_corrcoef(true, predicted)
    assert matthews_correlation(report) == pytest.approx(expected, abs=1e-12)
    assert 0.1 < expected < 0.9
    assert positive_f1(report) == pytest.approx(metrics.f1_score(true, predicted), abs=1e-12)


def test_matthews_by_hand():
    # Three true positives, two true negatives, one false positive and two false negatives.
    true = np.array([1, 1, 1, 0, 0, 0, 1, 1])
    predicted = np.array([1, 1, 1, 0, 0, 1, 0, 0])
    expected = (3 * 2 - 1 * 2) / np.sqrt((3 + 1) * (3 + 2) * (2 + 1) * (2 + 2))
    report = classification_report(true, predicted, ["0", "1"])
    assert matthews_correlation(report) == pytest.approx(expected, abs=1e-12)
    constant = classification_report(true, np.ones_like(true), ["0", "1"])
    assert matthews_correlation(constant) == 0.0


def test_correlations_equal_scipy():
    true = np.array([0.0, 2.5, 5.0, 3.75, 1.2, 2.5])
    predicted = np.array([0.4, 2.0, 4.1, 4.4, 2.2, 3.0])
    report = regression_report(true, predicted)
    figures = {name: measure(report) for name, measure in TASKS["STS-B"].measures.items()}
    assert figures == pytest.approx(
        {
            "Pearson": stats.pearsonr(true, predicted).statistic,
            "Spearman": stats.spearmanr(true, predicted).statistic,
        },
        abs=1e-12,
    )


def test_medians_and_the_average():
    accuracies = [0.5, 0.9, 0.6, 0.8]
    mrpc = {seed: {"accuracy": a, "F1": a / 2} for seed, a in enumerate(accuracies)}
    results = {"MRPC": mrpc, "RTE": {0: {"accuracy": 0.3}}}
    median = statistics.median(accuracies)
    assert summary(mrpc)["accuracy"] == {
        "values": accuracies, "median": median, "lowest": 0.5, "highest": 0.9,
    }  # fmt: skip
    assert average(results) == pytest.approx(((median + median / 2) / 2 + 0.3) / 2)
    assert best_seed(mrpc) == 1
    assert best_seed({2: {"x": 1.0}, 0: {"x": 1.0}}) == 0
    lines = score_table(results).splitlines()
    assert lines[1].split() == ["MRPC", "accuracy", "0.7000", "0.5000", "0.9000", "4"]
    assert lines[-1].split() == ["average", "0.4125"]
    assert "average" not in score_table({"MRPC": mrpc})


# === Finished runs ===


def suite_run(**changes):
    values = {"task": "RTE", "seed": 0, "scores": {"accuracy": 0.5}, "seconds": 1.5}
    return SuiteRun(**values | {"options": {"epochs": 3}} | changes)


def test_finished_runs_are_read_again(tmp_path):
    with open_log(tmp_path / "runs", resume=False) as log:
        log.add(suite_run())
        log.add(suite_run(seed=2, scores={"accuracy": 0.75}))
    with open(tmp_path / "runs" / FILE, "a") as file:
        file.write('{"task": "RTE", "se')  # by a killed process
    with pytest.raises(ConfigError, match=r"expected no earlier runs.*--resume"):
        open_log(tmp_path / "runs", resume=False).__enter__()
    with open_log(tmp_path / "runs", resume=True) as log:
        assert log.finished("RTE", 0, {"epochs": 3}, []) == suite_run()
        assert log.finished("RTE", 1, {"epochs": 3}, []) is None
        assert log.finished("RTE", 0, {"epochs": 3}, ["predictions/RTE.tsv"]) is None
        assert log.scores("RTE", 3) == {0: {"accuracy": 0.5}, 2: {"accuracy": 0.75}}
        assert log.scores("RTE", 2) == {0: {"accuracy": 0.5}}
        assert log.seconds("RTE", 3) == 3.0
        with pytest.raises(ConfigError, match="RTE, seed 0: epochs 5, before 3;"):
            log.finished("RTE", 0, {"epochs": 5}, [])
        with pytest.raises(ConfigError, match="another evaluation is running here"):
            open_log(tmp_path / "runs", resume=True).__enter__()
        log.add(suite_run(task="WNLI"))
    lines = (tmp_path / "runs" / FILE).read_text().splitlines()
    assert [json.loads(line)["task"] for line in lines] == ["RTE", "RTE", "WNLI"]


def test_a_damaged_line_is_named(tmp_path):
    (tmp_path / FILE).write_text("{}\n")
    with pytest.raises(DataError, match=r"runs\.jsonl:1: expected a finished run"):
        open_log(tmp_path, resume=True).__enter__()


# === The quick suite ===


def test_samples_of_the_quick_suite_are_fixed(tmp_path):
    folder = tmp_path / "mr"
    folder.mkdir()
    for name in ("neg", "pos"):
        lines = [f"{name} {number}" for number in range(20)]
        (folder / f"rt-polarity.{name}").write_text("\n".join(lines) + "\n")
    task = next(task for task in QUICK.tasks if task.name == "mr")
    data = task.read(tmp_path)
    assert data.dev[""].texts == ["neg 18", "neg 19", "pos 18", "pos 19"]
    assert data.train.texts == [f"{name} {i}" for name in ("neg", "pos") for i in range(18)]
    assert data.train.labels == ["neg"] * 18 + ["pos"] * 18
