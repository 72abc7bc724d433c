"""`glue`: its table, its predictions, what a stopped suite keeps, and its errors."""

import json
import shutil

import pytest

from keras_bert_zoo.cli.main import command_parser
from keras_bert_zoo.pretraining.evaluation.suite import Settings, SuiteData, SuiteTask, attribute
from tests.pretraining.glue_files import write_glue

FAST = ["--epochs", 1, "--dtype", "float32", "--learning-rate", "0.01"]


@pytest.fixture(scope="module")
def glue(tmp_path_factory):
    return write_glue(tmp_path_factory.mktemp("glue"))


@pytest.fixture
def command(preset, glue):
    """Makes the command line of a suite."""

    def command(output, *more, data=glue):
        return ["glue", "--preset", preset, "--data", data, "--output", output, *FAST, *more]

    return command


def test_tasks_are_trained_and_predicted(run, command, tmp_path):
    output = tmp_path / "runs"
    tasks = ["--tasks", "MRPC,STS-B,MNLI"]
    finished = run(*command(output, *tasks, "--seeds", 1, "--predict", "--json"))
    assert finished.status == 0, finished.err
    report = finished.json
    measures = {name: list(task["measures"]) for name, task in report["tasks"].items()}
    assert measures == {
        "MRPC": ["accuracy", "F1"],
        "STS-B": ["Pearson", "Spearman"],
        "MNLI": ["matched accuracy", "mismatched accuracy"],
    }
    means = [
        sum(row["median"] for row in task["measures"].values()) / len(task["measures"])
        for task in report["tasks"].values()
    ]
    assert report["average"] == pytest.approx(sum(means) / 3)
    assert report["tasks"]["MRPC"]["settings"]["max_length"] == 64  # all that the preset has
    assert len(report["submission"]) == 5
    labels = {
        "MRPC": ("0", "1"),
        **dict.fromkeys(("MNLI-m", "MNLI-mm", "AX"), ("entailment", "neutral", "contradiction")),
    }
    for path in (output / "submission").iterdir():
        header, *rows = [line.split("\t") for line in path.read_text().splitlines()]
        assert header == ["index", "prediction"]
        assert [index for index, _ in rows] == ["0", "1", "2"]
        for _, prediction in rows:
            if path.stem == "STS-B":
                assert 0 <= float(prediction) <= 5
                assert len(prediction) == len("0.000")
            else:
                assert prediction in labels[path.stem]


def test_finished_runs_are_not_trained_again(run, command, refused, tmp_path, monkeypatch):
    from keras_bert_zoo.pretraining.evaluation import runs

    output = tmp_path / "runs"
    once = run(*command(output, "--tasks", "rte", "--seeds", 1))
    assert once.status == 0
    assert once.out.startswith("run 1 of 1: RTE, seed 0\n  accuracy 0.")
    assert refused(*command(output, "--tasks", "rte")).endswith(
        "runs: expected no earlier runs, received runs.jsonl: pass --resume to go on, or give "
        "another directory"
    )
    trained = []
    train = runs.train_and_score

    def record(task, data, *args, **options):
        trained.append((task.name, options["seed"]))
        if options["seed"] == 2:
            raise KeyboardInterrupt
        return train(task, data, *args, **options)

    monkeypatch.setattr(runs, "train_and_score", record)
    stopped = run(*command(output, "--tasks", "wnli,rte", "--seeds", 3, "--resume"))
    assert stopped.status == 130
    assert trained == [("RTE", 1), ("RTE", 2)]
    assert stopped.err == "keras-bert-zoo: interrupted; finished runs are kept; --resume goes on\n"
    last = stopped.out.splitlines()[-1].split()
    assert last[:2] + last[-1:] == ["RTE", "accuracy", "2"]  # two finished seeds
    trained.clear()
    again = run(*command(output, "--tasks", "rte", "--seeds", 2, "--resume"))
    assert again.status == 0
    assert not trained
    assert again.out.splitlines()[-1] == stopped.out.splitlines()[-1]
    message = refused(*command(output, "--tasks", "rte", "--resume", "--weight-decay", "0.1"))
    assert "received for RTE, seed 0: weight_decay 0.1, before 0.01;" in message
    # Predictions are new: the run is trained again for them.
    predicted = run(*command(output, "--tasks", "rte", "--seeds", 1, "--resume", "--predict"))
    assert trained == [("RTE", 0)]
    assert predicted.out.endswith(f"submission: 1 files in {output / 'submission'}\n")


def test_other_data_is_noticed(run, command, refused, glue, tmp_path):
    data = shutil.copytree(glue, tmp_path / "data")
    options = ("--tasks", "WNLI", "--seeds", 1)
    assert run(*command(tmp_path / "runs", *options, data=data)).status == 0
    path = data / "WNLI" / "dev.tsv"
    path.write_text(path.read_text() + "99\ta rose\ta sea\t1\n")
    message = refused(*command(tmp_path / "runs", *options, "--resume", data=data))
    assert "WNLI, seed 0: sha256 of dev.tsv" in message


def test_missing_tasks_are_skipped_with_a_line(run, command, glue, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(glue / "RTE", data / "RTE")
    finished = run(*command(tmp_path / "runs", "--seeds", 1, data=data))
    assert finished.status == 0
    lines = finished.err.splitlines()
    assert len(lines) == 8
    assert lines[0] == (
        f"keras-bert-zoo: skipping CoLA: {data / 'CoLA'} is missing; expected the files "
        "CoLA/train.tsv, CoLA/dev.tsv"
    )


def test_bad_input_is_refused_in_one_line(command, refused, glue, tmp_path):
    output = tmp_path / "runs"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert refused(*command(output, "--tasks", "rte", data=empty)) == (
        f"{empty}: expected the files RTE/train.tsv, RTE/dev.tsv of RTE, missing: RTE/train.tsv, "
        "RTE/dev.tsv"
    )
    message = refused(*command(output, data=tmp_path / "none"))
    assert message == f"{tmp_path / 'none'}: expected a directory of data, received none"
    assert "expected tasks of the suite 'glue': CoLA, SST-2" in refused(
        *command(output, "--tasks", "squad")
    )
    assert refused(*command(output, "--suite", "quick", "--predict")) == (
        "--predict needs --suite glue, received --suite quick"
    )
    assert "expected --max-length from 3 to 64" in refused(*command(output, "--max-length", 65))
    assert not output.exists()


def test_a_data_directory_without_tasks_is_refused(run, command, tmp_path):
    finished = run(*command(tmp_path / "runs", data=tmp_path))
    assert finished.status == 2
    assert finished.err.splitlines()[-1].endswith(
        "expected at least one of the folders CoLA, SST-2, MRPC, STS-B, QQP, MNLI, QNLI, RTE, WNLI"
    )


def test_the_defaults_are_those_of_the_tasks():
    args = command_parser("glue", []).parse_args(
        ["--preset", "p", "--data", "d", "--output", "o", "--optimizer", "lamb"]
    )
    assert (args.epochs, args.learning_rate, args.batch_size, args.probe_epochs) == (None,) * 4
    assert (args.seeds, args.optimizer, args.warmup_fraction) == (5, "lamb", 0.1)


def small_data(kind):
    """Data of a kind, its labels and the measure."""
    from keras_bert_zoo.data.examples import Examples
    from keras_bert_zoo.data.questions import Answer, QuestionExamples
    from keras_bert_zoo.data.spans import Entity, EntityExamples

    texts = ["the rose is here", "a sky is here", "the fire is here", "a sea is here"]
    if kind == "token-classification":
        entities = [[Entity(start=4, end=8, label="red")], [], [], []]
        return EntityExamples(texts, entities), ("red",), "f1"
    if kind == "question-answering":
        from keras_bert_zoo.data.questions import Answer

        answers = [
            [Answer(text=text.split()[1], start=text.index(text.split()[1]))] for text in texts
        ]
        return QuestionExamples(["is a ?"] * 4, texts, answers), (), "f1"
    if kind == "multi-label":
        labels = [["red"], ["blue"], ["red", "blue"], []]
        return Examples(texts, labels=labels), ("blue", "red"), "micro_f1"
    return Examples(texts, texts[:2] + texts[2:][::-1]), (), "mrr_at_10"


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("token-classification", Settings(epochs=1, max_length=16)),
        ("question-answering", Settings(epochs=1, max_length=32)),
        ("multi-label", Settings(epochs=1, probe_epochs=2, max_length=16)),
        ("retrieval", Settings(epochs=0, max_length=16)),
    ],
)
def test_the_kinds_of_the_quick_suite(preset, kind, settings):
    from keras_bert_zoo.pretraining.evaluation.runs import train_and_score

    examples, labels, figure = small_data(kind)
    data = SuiteData(examples, {"": examples}, labels)
    task = SuiteTask(kind, kind, (), lambda directory: data, {"score": attribute(figure)}, settings)
    outcome = train_and_score(
        task, data, str(preset), settings=settings, seed=0, fit={"verbose": 0}
    )
    assert 0 <= outcome.scores["score"] <= 1


def test_json_is_one_object(run, command, tmp_path):
    finished = run(*command(tmp_path / "runs", "--tasks", "wnli", "--seeds", 1, "--json"))
    assert json.loads(finished.out)["suite"] == "glue"
    assert finished.err.startswith("run 1 of 1: WNLI, seed 0\n")
