"""keras-bert-zoo export, and requests to the export as in tools/quickstart."""

import argparse
import contextlib
import errno
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.cli.export import unlabelled_options
from keras_bert_zoo.cli.main import main
from keras_bert_zoo.cli.options import Parser
from keras_bert_zoo.cli.tasks import task_command
from keras_bert_zoo.errors import ExportError
from keras_bert_zoo.export import saved_model
from keras_bert_zoo.export.session import ExportSession, newest_version
from keras_bert_zoo.export.signatures import ServingGraph
from keras_bert_zoo.export.verify import Verification
from keras_bert_zoo.tasks.text_classifier import TextClassifier
from tests.cli.conftest import snapshot


@pytest.fixture(scope="session")
def printed(tmp_path_factory, model):
    """The output of `export --json`."""
    folder = tmp_path_factory.mktemp("saved_models") / "colours"
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(["export", "--model", str(model), "--output", str(folder), "--json"]) == 0
    return json.loads(out.getvalue())


@pytest.fixture(scope="session")
def exported(printed):
    return Path(printed["path"]).parent


@pytest.fixture
def quick(monkeypatch):
    """Makes exports instant: no graph is built and nothing is checked."""
    monkeypatch.setattr(
        saved_model, "build_serving_graph", lambda *_, **__: ServingGraph(tf.Module(), {}, 0)
    )
    verifier = SimpleNamespace(check=lambda *_, **__: Verification(15, 0.0))
    monkeypatch.setattr(saved_model, "Verifier", lambda: contextlib.nullcontext(verifier))


def test_prints_the_export_and_how_to_serve_it(quick, run, model, tmp_path):
    output = tmp_path / "colours"
    finished = run("export", "--model", model, "--output", output, "--version", 7)
    assert (finished.status, finished.err) == (0, "")
    assert f"exported {output / '7'} (" in finished.out
    assert "15 texts: same predictions, scores within " in finished.out
    assert f"-v {output}:/models/colours" in finished.out
    assert f"--model_base_path={output}" in finished.out
    body = finished.out.partition("curl -d '")[2].partition("'")[0]
    assert json.loads(body) == {"instances": ["your text"]}
    assert (output / "7" / "saved_model.pb").exists()
    line = run("export", "--model", model, "--output", output, "--version", 7).err
    assert line.startswith(f"keras-bert-zoo: error: Version 7 is already in {output}")
    assert line.count("\n") == 1


def test_int8_reads_texts_and_labelled_data(quick, run, refused, model, data, tmp_path):
    output = tmp_path / "colours"
    command = ["export", "--model", model, "--output", output, "--dtype", "int8"]
    texts = tmp_path / "texts.csv"
    texts.write_text("text\nthe sky\na rose\n")
    measured = ["--calibrate", texts, "--data", data / "dev.csv", "--max-drop", 0.5, "--fallback"]
    finished = run(*command, *measured)
    assert finished.status == 0
    assert "int8 is calibrated with 2 texts." in finished.err
    _, _, before, sizes, accuracy, *_ = finished.out.splitlines()
    assert before == f"exported {output / '1'} (bfloat16)"
    assert sizes.startswith("int8: ")
    assert re.search(r"2 calibration texts: cosine of the states at least (0.99|1.00)\d\d,", sizes)
    assert sizes.endswith("100.0% equal answers")
    assert accuracy.startswith("accuracy: ")
    assert (output / "1/saved_model.pb").exists()  # the fallback in bfloat16
    assert not (output / "1/assets.extra/REQUIREMENTS.txt").exists()
    assert (output / "2/assets.extra/REQUIREMENTS.txt").exists()
    assert sorted(path.name for path in output.iterdir()) == ["1", "2"]
    assert "--dtype int8 needs --calibrate FILE" in refused(*command)
    assert "--max-drop" in refused(*command, "--calibrate", texts, "--max-drop", 0.5)
    other = [*command[:-1], "bfloat16"]
    assert "--calibrate applies only to --dtype int8" in refused(*other, "--calibrate", texts)
    assert "--fallback applies only to --dtype int8" in refused(*other, "--fallback")


def test_json(printed, exported):
    assert printed["path"] == str(exported / "1")
    assert printed["dtype"] == "float32"
    assert "serving_default" in printed["signatures"]


def test_ask_export(exported, repository):
    finished = subprocess.run(
        [sys.executable, repository / "tools" / "ask_export.py", exported, "the sky", "a rose"],
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    first, answer, second, other, imported = finished.stdout.splitlines()
    assert (first, second) == ("the sky", "a rose")
    assert answer.strip().startswith("-> blue (")
    assert other.strip().startswith("-> red (")
    assert "not keras_bert_zoo" in imported


def test_bench_measures_an_export_and_its_model(
    run, refused, exported, model, tmp_path, monkeypatch
):
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "2")  # restored after the test
    quick = ["--words", 3, 20, "--batch-sizes", 2, "--seconds", "0.01"]
    answer = run("bench", exported, *quick, "--json").json
    assert [(row["words"], row["batch_size"]) for row in answer["rows"]] == [(3, 2), (20, 2)]
    for row in answer["rows"]:
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert row["requests"] >= 10
        assert row["texts_per_second"] > 0
    assert "cores" in answer["processor"]
    assert answer["memory_mib"]["at_the_end"] > 100
    head, columns, *rows, memory = run("bench", model, *quick, "--threads", 1).out.splitlines()
    assert head.endswith("1 thread")
    assert os.environ["TF_NUM_INTRAOP_THREADS"] == "1"
    assert columns.split()[:4] == ["words", "texts", "p50", "ms"]
    assert [row.split()[:2] for row in rows] == [["3", "2"], ["20", "2"]]
    assert memory.startswith("memory: ")
    assert "there is no such directory" in refused("bench", tmp_path / "none")
    assert "expected an export (saved_models/NAME) or a dir" in refused("bench", tmp_path)
    line = refused("bench", exported, "--dtype", "float32")
    assert line.startswith("--dtype applies only to a trained model")


def test_a_session_answers_as_the_export(exported, tmp_path):
    session = ExportSession(exported)
    assert session.inputs == {"text": tf.TensorShape([None])}
    answer = session.run({"text": ["the sky", "a rosé".encode()]})
    assert answer["label"].tolist() == [b"blue", b"red"]
    assert newest_version(exported) == newest_version(exported / "1") == exported / "1"
    with pytest.raises(ExportError, match="versions with it, received neither"):
        newest_version(tmp_path)


def test_an_export_is_no_model_to_export(refused, exported, tmp_path):
    line = refused("export", "--model", exported, "--output", tmp_path / "m")
    assert "received an exported SavedModel" in line


def test_a_full_disk_leaves_earlier_versions(quick, refused, model, exported, monkeypatch):
    before = snapshot(exported)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tensorflow.saved_model.save", full)
    line = refused("export", "--model", model, "--output", exported)
    assert "No space left on device. Nothing was changed there." in line
    assert snapshot(exported) == before
    assert sorted(path.name for path in exported.iterdir()) == ["1"]


def test_a_folder_that_cannot_be_written(refused, model, tmp_path):
    (tmp_path / "file").touch()
    line = refused("export", "--model", model, "--output", tmp_path / "file" / "m")
    assert line == f"Expected a directory or a new path, received the file {tmp_path / 'file'}."


@pytest.mark.parametrize("name", ["quickstart", "ask_export.py", "test"])
def test_tools_are_executable(repository, name):
    path = repository / "tools" / name
    assert path.stat().st_mode & 0o111
    if path.suffix != ".py":
        subprocess.run(["bash", "-n", path], check=True)


def test_an_export_teaches_a_student(run, refused, exported, model, preset, data, tmp_path):
    common = ["distill", "--teacher", exported, "--train", data / "train.csv"]
    finished = run(
        *common, "--student", preset, "--epochs", "16", "--batch-size", "24",
        "--learning-rate", "0.05", "--dtype", "float32", "--output", tmp_path / "student",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    texts = [line.split(",")[0] for line in (data / "train.csv").read_text().splitlines()[1:]]
    student, teacher = (
        TextClassifier.load(path).predict(texts)["scores"] for path in (tmp_path / "student", model)
    )
    assert np.abs(student - teacher).mean() < 0.15
    message = refused(*common, "--layers", "1", "--output", tmp_path / "no")
    assert message.startswith("--layers needs a teacher that train wrote; with an export, pass")
    (tmp_path / "few.txt").write_text("the rose is here\n")
    message = refused(
        "distill", "--teacher", exported, "--student", preset, "--output", tmp_path / "no",
        "--train", tmp_path / "few.txt", "--no-labels",
    )  # fmt: skip
    assert "expected texts with each of the 3 labels among the answers" in message


@pytest.mark.parametrize(
    ("task", "row"),
    [
        ("classification", {"text": "a rose"}),
        ("token-classification", {"text": "a rose"}),
        ("question-answering", {"question": "where?", "context": "a rose"}),
        ("embedding", {"text": "a rose"}),
    ],
)
def test_calibration_files_have_no_labels(tmp_path, task, row):
    path = tmp_path / "texts.jsonl"
    path.write_text(json.dumps(row) + "\n")
    command, parser = task_command(task), Parser()
    command.add_data_options(parser, labelled=True)
    args = argparse.Namespace(**vars(parser.parse_args([])), calibrate=str(path))
    (examples,) = command.read_in_parts(path, unlabelled_options(args, command))
    assert len(examples) == 1
