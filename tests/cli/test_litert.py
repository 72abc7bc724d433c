"""export, predict and bench with LiteRT files."""

import numpy as np
import pytest

from keras_bert_zoo.cli import litert
from keras_bert_zoo.tasks.text_classifier import TextClassifier

TEXTS = ["the rose is here", "a sky is here", "", "grass ?"]


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    path = tmp_path_factory.mktemp("lines") / "texts.txt"
    path.write_text("".join(f"{text}\n" for text in TEXTS))
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory, model):
    """A file that takes strings."""
    path = tmp_path_factory.mktemp("litert") / "colours.tflite"
    TextClassifier.load(model).export(path, "litert")
    return path


@pytest.fixture(scope="module")
def of_ids(tmp_path_factory, model):
    """A file that takes four rows of eight token ids."""
    path = tmp_path_factory.mktemp("litert") / "ids.tflite"
    TextClassifier.load(model).export(path, "litert", input="ids", batch_size=4, length=8)
    return path


def test_export_prints_what_was_verified(run, model, data, tmp_path):
    output = tmp_path / "x.tflite"
    finished = run(
        "export", "--model", model, "--output", output, "--dtype", "int8", "--input", "ids",
        "--length", 16, "--batch-size", 2, "--data", data / "dev.csv", "--max-drop", 0.5,
    )  # fmt: skip
    assert finished.status == 0
    first, shapes, checks, operations, figure = finished.out.splitlines()
    assert first.startswith(f"exported {output} (")
    assert first.endswith(" MiB, int8)")
    assert "token_ids (2, 16)" in shapes
    assert shapes.endswith("outputs: label, score, scores")
    assert checks.startswith("verified without this package on ")
    assert checks.endswith(" equal answers in int8")
    assert operations.startswith("XNNPACK computes ")
    assert figure.startswith("accuracy: ")
    assert figure.endswith(" in int8")


def test_predict_answers_as_the_model_does(run, model, file, lines):
    rows = run("predict", "--model", file, "--input", lines).rows
    expected = run("predict", "--model", model, "--input", lines).rows
    assert [row["text"] for row in rows] == TEXTS
    for row, other in zip(rows, expected, strict=True):
        assert row["label"] == other["label"]
        assert row["score"] == pytest.approx(other["score"], abs=1e-4)
        assert len(row["scores"]) == 3


def test_predict_reads_the_columns_of_training(run, file, data):
    rows = run("predict", "--model", file, "--input", data / "dev.csv").rows
    assert len(rows) == 12


def test_bench_runs_the_file(run, file, of_ids):
    for path in (file, of_ids):
        finished = run(
            "bench", path, "--words", 3, "--batch-sizes", 1, 3, "--seconds", 0.1, "--json"
        )
        assert finished.json["threads"] == 1
        assert "litert" in finished.json
        assert [row["batch_size"] for row in finished.json["rows"]] == [1, 3]
    table = run("bench", file, "--words", 3, "--batch-sizes", 1, "--seconds", 0.1).out
    assert "; 1 thread\n" in table


def test_a_fixed_number_of_rows_answers_any_number_of_texts():
    asked = []

    class Model:
        def __init__(self):
            self.inputs, self.outputs = {"text": (2,)}, ("label",)

        def __call__(self, text):
            asked.append(text)
            return {"label": np.array([part.encode() for part in text], object)}

    rows = list(litert.answered(Model(), {"text": ["a", "b", "c"]}, 64))
    assert rows == [{"text": text, "label": text} for text in "abc"]
    assert asked == [["a", "b"], ["c", "c"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dtype", "bfloat16"], "--dtype to be one of float32, float16, int8"),
        (["--calibrate", "x.txt"], "--calibrate does not apply to --format litert"),
        (["--version", "3"], "--version does not apply to --format litert"),
        (["--format", "saved_model", "--length", "8"], "--length does not apply to"),
        (["--format", "saved_model", "--dtype", "float16"], "--dtype to be one of float32, bf"),
        (["--max-drop", "0.1"], "max-drop"),
    ],
)
def test_options_of_the_other_format_are_refused(refused, model, tmp_path, options, message):
    output = tmp_path / "x.tflite"
    assert message in refused("export", "--model", model, "--output", output, *options)


def test_bad_files_are_refused(refused, of_ids, file, tmp_path):
    assert "No such file" in refused("predict", "--model", tmp_path / "none.tflite")
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(file.read_bytes()[:-100])
    for command in (("predict", "--model", broken), ("bench", broken)):
        assert "It is another file, or it was cut short or changed" in refused(*command)
    assert "was exported with --input text" in refused("predict", "--model", of_ids)
    assert "--dtype applies only to a trained model" in refused("bench", file, "--dtype", "float32")
