"""keras-bert-zoo predict: files, standard input, pipes and chunks."""

import functools
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_bert_zoo.cli.tasks.text import TextCommand
from keras_bert_zoo.data import tables
from keras_bert_zoo.tasks.registry import load_task

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def stdin(monkeypatch):
    """Puts bytes on standard input."""

    def stdin(data: bytes) -> None:
        raw = io.BytesIO(data)
        raw.name = "<stdin>"
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(raw, encoding="ascii"))

    return stdin


def test_standard_input_has_one_text_per_line(run, model, stdin):
    stdin("the rose is here\n\nthe sëa 你好\u2028 is here\r\nno line end".encode())
    finished = run("predict", "--model", model)
    assert finished.status == 0
    texts = ["the rose is here", "", "the sëa 你好\u2028 is here", "no line end"]
    assert [row["text"] for row in finished.rows] == texts
    assert finished.err == "keras-bert-zoo: warning: <stdin>: 1 empty texts, the first on line 2\n"
    answers = load_task(model).predict(texts)
    assert [row["label"] for row in finished.rows] == list(answers["label"])
    scores = [row["score"] for row in finished.rows]
    np.testing.assert_allclose(scores, answers["score"], rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'id,text\n1,"a rose, here"\n2,the sky\n'),
        ("a.tsv", "id\ttext\n1\ta rose, here\n2\tthe sky\n"),
        ("a.jsonl", '{"text": "a rose, here", "id": 1}\n{"text": "the sky"}\n'),
        ("a.txt", "a rose, here\nthe sky\n"),
    ],
)
def test_files(run, model, tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content)
    finished = run("predict", "--model", model, "--input", path)
    assert finished.status == 0, finished.err
    assert [(row["text"], row["label"]) for row in finished.rows] == [
        ("a rose, here", "red"),
        ("the sky", "blue"),
    ]


def test_tables_on_standard_input(run, model, stdin):
    stdin(b"question\na rose\n")
    finished = run("predict", "--model", model, "--format", "csv", "--text-column", "question")
    assert [row["text"] for row in finished.rows] == ["a rose"]


def test_all_scores(run, model, stdin):
    stdin(b"a rose is here\n")
    (row,) = run("predict", "--model", model, "--all-scores").rows
    assert list(row["scores"]) == ["blue", "green", "red"]
    assert row["scores"][row["label"]] == row["score"] == max(row["scores"].values())
    assert sum(row["scores"].values()) == pytest.approx(1, abs=1e-5)


def test_output_file_is_written_whole(run, refused, model, tmp_path, monkeypatch):
    read = functools.partial(tables.read_table_in_parts, rows_at_once=8)
    monkeypatch.setattr(tables, "read_table_in_parts", read)
    output = tmp_path / "answers.jsonl"
    good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
    good.write_bytes(b"a rose\n")
    bad.write_bytes(b"a rose\n" * 20 + b"\xff\n")
    assert run("predict", "--model", model, "--input", good, "--output", output).out == ""
    before = output.read_bytes()
    assert json.loads(before)["label"] == "red"
    line = refused("predict", "--model", model, "--input", bad, "--output", output)
    assert line.startswith(f"{bad}:21: byte 0xff at byte 1 of the line is not valid utf-8")
    assert output.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "answers.jsonl",
        "bad.txt",
        "good.txt",
    ]


def test_output_may_be_a_device(run, model, stdin):
    stdin(b"a rose\n")
    assert run("predict", "--model", model, "--output", "/dev/null").status == 0
    assert not Path("/dev/null").is_file()


def test_a_missing_folder(refused, model, stdin, tmp_path):
    stdin(b"a rose\n")
    line = refused("predict", "--model", model, "--output", tmp_path / "no" / "a.jsonl")
    assert line == (
        f"{tmp_path / 'no' / 'a.jsonl'}: cannot write: No such file or directory; "
        "nothing was changed there"
    )


def test_invalid_bytes(run, refused, model, stdin):
    stdin(b"fine\nbad \xff byte\n")
    assert refused("predict", "--model", model).startswith(
        "<stdin>:2: byte 0xff at byte 5 of the line is not valid utf-8"
    )
    stdin(b"fine\nbad \xff byte\n")
    finished = run("predict", "--model", model, "--replace-invalid")
    assert [row["text"] for row in finished.rows] == ["fine", "bad \ufffd byte"]


def test_bad_input(refused, model, stdin, tmp_path):
    stdin(b"")
    assert refused("predict", "--model", model) == (
        "<stdin>: expected at least one row, but the file is empty"
    )
    path = tmp_path / "a.csv"
    path.write_text("txt\na\n")
    line = refused("predict", "--model", model, "--input", path)
    assert line.startswith(f"{path}:1: expected a column 'text' (--text), found 'txt'; did you")
    assert "there is no such file" in refused("predict", "--model", model, "--input", "nowhere.txt")
    stdin(b"a\n")
    line = refused("predict", "--model", model, "--text-pair", "b")
    assert "expected a table with a column 'b', received plain text" in line


def test_a_line_of_a_megabyte(run, model, stdin):
    long = "the rose " * 120_000
    start = long[:900]  # longer than the model's maximum
    stdin(f"{long}\n{start}\n".encode())
    first, second = run("predict", "--model", model).rows
    assert (first["text"], second["text"]) == (long, start)
    assert first["label"] == second["label"]
    assert first["score"] == pytest.approx(second["score"], abs=1e-6)


def test_texts_are_predicted_in_chunks(run, model, stdin, monkeypatch):
    sizes = []

    def answer_rows(self, task, examples, args):
        sizes.append(len(examples))
        return [{"text": text} for text in examples.texts]

    monkeypatch.setattr(TextCommand, "answer_rows", answer_rows)
    stdin(b"a rose\n" * 9000)
    assert run("predict", "--model", model).rows == [{"text": "a rose"}] * 9000
    assert sizes == [4096, 4096, 808]


def test_in_a_pipe(model):
    """Ends without messages, also of TensorFlow, when the reader closes the pipe."""
    code = "import sys; from keras_bert_zoo.cli.main import main; sys.exit(main())"
    script = (
        "yes 'a rose is here' | head -5000 | "
        f"{sys.executable} -c '{code}' predict --model {model} | head -2; echo ${{PIPESTATUS[@]}}"
    )
    finished = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert finished.stderr == ""
    *rows, statuses = finished.stdout.splitlines()
    assert [json.loads(row)["label"] for row in rows] == ["red", "red"]
    assert statuses.split()[2] == "141"
