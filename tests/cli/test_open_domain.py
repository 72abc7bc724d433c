"""keras-bert-zoo index, and the other commands on its collection."""

import contextlib
import json
from types import SimpleNamespace

import pytest
import tensorflow as tf

from keras_bert_zoo.export import saved_model
from keras_bert_zoo.export.signatures import ServingGraph
from keras_bert_zoo.export.verify import Verification
from tests.cli.conftest import snapshot
from tests.tasks.collection import READER, RETRIEVER

CONTEXTS = ["the king rome was in a city", "in paris the river was born", "the war of 12 was here"]


def squad(shift=0):
    paragraphs = [
        {
            "context": context,
            "qas": [
                {
                    "id": f"q{index}",
                    "question": "king ?",
                    "answers": [{"text": word, "answer_start": context.index(word) + shift}],
                }
            ],
        }
        for index, (context, word) in enumerate(zip(CONTEXTS, ["rome", "paris", "12"], strict=True))
    ]
    return json.dumps({"data": [{"paragraphs": paragraphs * 2}]}, indent=1)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    (folder / "dev.json").write_text(squad())
    data = json.loads(squad())
    data["data"][0]["paragraphs"].insert(1, {"context": "the river of no question", "qas": []})
    (folder / "unused.json").write_text(json.dumps(data))
    (folder / "misplaced.json").write_text(squad(shift=1))
    (folder / "pages.txt").write_text("\n".join([*CONTEXTS, "a city"]) + "\n")
    (folder / "pages.csv").write_text("title,body\nx,the king\ny,a river\n")
    return folder


BUILD = ("index", "--retriever", RETRIEVER, "--reader", READER)


@pytest.fixture(scope="module")
def library(tmp_path_factory, files):
    from keras_bert_zoo.cli.main import main

    folder = tmp_path_factory.mktemp("library") / "pages"
    arguments = [*BUILD, "--documents", files / "pages.txt", "--output", folder]
    arguments += ["--top-passages", "2", "--dev", files / "dev.json"]
    assert main([str(argument) for argument in arguments]) == 0
    return folder


def test_predict(run, library, files, tmp_path):
    side = json.loads((library / "keras_bert_zoo.json").read_text())
    assert side["task"] == "open-domain-question-answering"
    assert side["top_passages"] == 2
    (tmp_path / "questions.txt").write_text("king ?\n\nthe river\n")
    finished = run("predict", "--model", library, "--input", tmp_path / "questions.txt")
    assert finished.status == 0, finished.err
    assert [row["question"] for row in finished.rows] == ["king ?", "", "the river"]
    pages = (files / "pages.txt").read_text().splitlines()
    for row in finished.rows:
        assert list(row) == [
            "id", "question", "answer", "score", "start", "end", "start_character",
            "end_character", "document_id", "passage", "passage_score",
        ]  # fmt: skip
        document = pages[row["document_id"]]
        assert row["answer"] == document[row["start_character"] : row["end_character"]]
        assert row["passage"] in document
    finished = run("predict", "--model", library, "--input", files / "dev.json", "--top-k", 2,
                   "--top-passages", 3, "--retriever-weight", 0)  # fmt: skip
    assert [row["id"] for row in finished.rows] == ["q0", "q1", "q2"] * 2
    assert [len(row["passage_score"]) for row in finished.rows] == [2] * 6


def test_evaluate(run, library, files, tmp_path):
    wrong, page = tmp_path / "wrong.jsonl", tmp_path / "wrong.html"
    finished = run("evaluate", "--model", library, "--data", files / "dev.json", "--json",
                   "--errors", wrong, "--html", page)  # fmt: skip
    assert finished.status == 0, finished.err
    assert finished.json["located"] == finished.json["rows"] == 6
    assert {"exact_match", "f1", "recall_at_1", "answer_recall_at_20"} <= set(finished.json)
    rows = [json.loads(line) for line in wrong.read_text().splitlines()]
    assert len(rows) == round(6 * (1 - finished.json["exact_match"]))
    assert all(row["passage"] and row["context"] in CONTEXTS for row in rows)
    assert "king ?" in page.read_text()
    placeless = run("evaluate", "--model", library, "--data", files / "misplaced.json", "--json",
                    "--skip-misplaced")  # fmt: skip
    same = ("rows", "exact_match", "f1", "answer_recall_at_1", "answer_recall_at_20")
    assert [placeless.json[name] for name in same] == [finished.json[name] for name in same]
    assert placeless.json["located"] == 0
    finished = run("evaluate", "--model", library, "--data", files / "dev.json")
    assert "passage found, first 5" in finished.out


def test_export(run, library, tmp_path, monkeypatch):
    # tests/export builds and verifies the export, which takes much longer.
    verifier = SimpleNamespace(check=lambda *_, **__: Verification(15, 0.0))
    monkeypatch.setattr(saved_model, "Verifier", lambda: contextlib.nullcontext(verifier))

    def build(task, **_):
        assert len(task.stages()) == 2
        return ServingGraph(tf.Module(), {}, 0)

    monkeypatch.setattr(saved_model, "build_serving_graph", build)
    finished = run("export", "--model", library, "--output", tmp_path / "library")
    assert finished.status == 0, finished.err
    assert '{"instances": ["your question"]}' in finished.out
    assert (tmp_path / "library" / "1" / "saved_model.pb").exists()


def test_documents_of_tables_and_of_squad_files(run, files, tmp_path):
    folder = tmp_path / "library"
    more = ("--output", folder, "--retriever-weight", "3", "--top-k", "2", "--json")
    finished = run(*BUILD, "--documents", files / "pages.csv", "--text", "body", *more)
    assert finished.json == {
        "path": str(folder), "documents": 2, "passages": 2, "retriever_weight": 3.0,
    }  # fmt: skip
    finished = run(*BUILD, "--documents", files / "unused.json", "--passage-tokens", "14",
                   "--passage-overlap", "2", "--output", folder)  # fmt: skip
    assert finished.out.startswith("4 documents in ")
    lines = (folder / "documents.jsonl").read_text().splitlines()
    texts = [CONTEXTS[0], "the river of no question", *CONTEXTS[1:]]
    assert [json.loads(line)["text"] for line in lines] == texts
    assert " passages of at most 14 tokens; retriever weight 50\n" in finished.out
    assert f"keras-bert-zoo predict --model {folder} --input FILE" in finished.out


def test_errors_name_their_place(run, refused, library, files, tmp_path):
    output = ("--output", tmp_path / "out")
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"text": 3}\n')
    (tmp_path / "empty.txt").write_text("\n\n")
    for documents, more, message in (
        (
            files / "pages.csv",
            (),
            "pages.csv:1: expected a column 'text' (--text), found 'title', 'body'",
        ),
        (tmp_path / "bad.jsonl", (), "bad.jsonl:2: expected 'text' to be a string"),
        (tmp_path / "none.txt", (), "none.txt: there is no such file"),
        (files / "pages.txt", ("--dev", files / "misplaced.json"), "misplaced.json: 6 of 6 answ"),
        (
            files / "pages.txt",
            ("--passage-tokens", "900"),
            "`--passage-tokens` to be an integer from 1",
        ),
        (files / "pages.txt", ("--retriever-weight", "-1"), "number of at least 0, received '-1'"),
        (
            files / "pages.txt",
            ("--retriever-weight", "1e7"),
            "below 1,000,000, received 10000000.0",
        ),
        (files / "pages.txt", ("--top-k", "101"), "`--top-k` to be an integer from 1 to 100"),
        (files / "dev.json", ("--text", "text"), "for --format squad, received --text; remove"),
        (
            files / "pages.txt",
            ("--format", "squad", "--columns", "a", "--delimiter", ",", "--encoding", "utf-8"),
            "received --columns, --delimiter, --encoding; remove them or choose another --format",
        ),
    ):
        assert message in refused(*BUILD, *output, "--documents", documents, *more)
    finished = run(*BUILD, *output, "--documents", tmp_path / "empty.txt")
    assert "empty.txt: expected documents to search, but all are empty\n" in finished.err
    arguments = ("index", "--retriever", RETRIEVER, "--documents", files / "pages.txt", *output)
    message = refused(*arguments, "--reader", tmp_path / "nothing")
    assert message.startswith("No directory")
    message = refused(*BUILD, "--documents", files / "pages.txt", "--output", files)
    assert "Will not replace" in message
    before = snapshot(library)
    message = refused("evaluate", "--model", library, "--data", files / "misplaced.json")
    assert "6 of 6 answers are misplaced or missing" in message
    predict = ("predict", "--model", library, "--input", files / "dev.json")
    message = refused(*predict, "--top-k", 100_000)
    assert message == "Expected `--top-k` to be an integer from 1 to 100, received 100000."
    message = refused("predict", "--model", library, "--input", files / "pages.csv")
    assert "pages.csv:1: expected a column 'question'" in message
    message = refused("train", "--task", "open-domain-question-answering", "--preset", RETRIEVER,
                      "--train", files / "dev.json", *output)  # fmt: skip
    assert "invalid choice" in message
    assert snapshot(library) == before
    assert not (tmp_path / "out").exists()
