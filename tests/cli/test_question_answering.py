"""The commands on --task question-answering."""

import gzip
import json

import pytest

from keras_bert_zoo.tasks.registry import load_task
from tests.cli.conftest import fast
from tests.helpers import ASSETS

PRESET = ASSETS / "question_answering"
WORDS = ["rome", "paris", "12", "river"]


def contents(count, unanswerable=True, shift=0):
    paragraphs = []
    for index in range(count):
        word = WORDS[index % 4]
        context = f"the {'born ' * (index % 3)}king {word} was in a city {index}"
        if unanswerable and index % 4 == 0:
            qas = {"answers": [], "is_impossible": True}
            context = context.replace("king", "war")
        else:
            qas = {"answers": [{"text": word, "answer_start": context.index(word) + shift}]}
        qas |= {"id": f"q{index}", "question": "king ?"}
        paragraphs.append({"context": context, "qas": [qas]})
    return json.dumps({"version": "2.0", "data": [{"paragraphs": paragraphs}]}, indent=1)


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("questions")
    (folder / "train.json").write_text(contents(40))
    (folder / "dev.json.gz").write_bytes(gzip.compress(contents(12).encode()))
    (folder / "misplaced.json").write_text(contents(4, shift=1))
    return folder


def test_train_evaluate_and_predict(run, questions, tmp_path):
    folder = tmp_path / "model"
    finished = run(
        "train", "--task", "question-answering", *fast(PRESET, "--epochs", "1"), "--train",
        questions / "train.json", "--dev", questions / "dev.json.gz", "--output", folder,
        "--max-length", "24", "--stride", "8", "--max-answer-tokens", "5",
    )  # fmt: skip
    assert (finished.status, finished.err) == (0, "")
    assert "training on 40 questions, 12 held out" in finished.out
    assert "val_f1" in finished.out
    assert "held-out data (12 questions): exact match " in finished.out
    task = load_task(folder)
    assert (task.max_length, task.stride, task.max_answer_tokens) == (24, 8, 5)
    assert task.null_threshold not in (None, 0.0)  # tuned on the held-out questions

    finished = run(
        "evaluate", "--model", folder, "--data", questions / "train.json", "--json", "--errors",
        tmp_path / "wrong.jsonl", "--html", tmp_path / "wrong.html",
    )  # fmt: skip
    assert "king ?" in (tmp_path / "wrong.html").read_text()
    assert (finished.json["rows"], finished.json["answerable"]) == (40, 30)
    wrong = [json.loads(line) for line in (tmp_path / "wrong.jsonl").read_text().splitlines()]
    assert len(wrong) == round(40 * (1 - finished.json["exact_match"]))
    for row in wrong:
        assert list(row) == [
            "id", "question", "answers", "predicted", "f1", "score", "context", "row",
        ]  # fmt: skip
    assert [row["f1"] for row in wrong] == sorted(row["f1"] for row in wrong)
    finished = run("evaluate", "--model", folder, "--data", questions / "dev.json.gz")
    assert finished.out.startswith("exact match ")
    assert "accuracy, unanswerable" in finished.out

    rows = [{"q": "king ?", "text": "the king é rome was"}, {"q": "", "text": ""}]
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    finished = run(
        "predict", "--model", folder, "--input", tmp_path / "new.jsonl", "--question", "q",
        "--context", "text", "--top-k", "2",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    first, second = finished.rows
    assert (first["id"], first["question"]) == ("1", "king ?")
    assert [len(first[name]) for name in ("answer", "score", "start", "end_character")] == [2] * 4
    for answer, start, end in zip(
        first["answer"], first["start_character"], first["end_character"], strict=True
    ):
        assert rows[0]["text"][start:end] == answer
    assert second["answer"] == ["", ""]
    finished = run("predict", "--model", folder, "--input", questions / "dev.json.gz")
    assert [row["id"] for row in finished.rows] == [f"q{index}" for index in range(12)]
    assert isinstance(finished.rows[0]["answer"], str)
    assert isinstance(finished.rows[0]["no_answer"], float)


def test_evaluation_needs_no_offsets(run, refused, questions, tmp_path):
    (tmp_path / "right.json").write_text(contents(4))
    wrong = [tmp_path / "right.jsonl", tmp_path / "misplaced.jsonl"]
    right = run("evaluate", "--model", PRESET, "--data", tmp_path / "right.json", "--json",
                "--errors", wrong[0])  # fmt: skip
    data = ("--data", questions / "misplaced.json")
    assert "3 of 3 answers are misplaced" in refused("evaluate", "--model", PRESET, *data)
    placeless = run("evaluate", "--model", PRESET, *data, "--skip-misplaced", "--json", "--errors",
                    wrong[1])  # fmt: skip
    assert placeless.json == right.json
    assert placeless.json["answerable"] == 3
    assert "skipped them and 0 of 4 questions; the others are scored by the" in placeless.err
    texts = [path.read_text().replace("misplaced", "right") for path in wrong]
    assert texts[0] == texts[1]


def test_errors_name_their_place(refused, questions, tmp_path):
    arguments = ["train", "--task", "question-answering", *fast(PRESET), "--output", tmp_path / "m"]
    message = refused(*arguments, "--train", questions / "misplaced.json")
    assert "misplaced.json: 3 of 3 answers are misplaced or missing: 2" in message
    assert message.endswith("correct them, or skip them with `--skip-misplaced`")
    message = refused(*arguments, "--train", questions / "train.json", "--probe-epochs", 3)
    assert message == "--probe-epochs does not apply to --task question-answering"
    message = refused(
        *arguments, "--train", questions / "train.json", "--max-length", 20, "--stride", 20
    )
    assert message.startswith("expected a --stride below --max-length (20)")
    message = refused(*arguments, "--train", tmp_path / "none.json")
    assert message.endswith("none.json: there is no such file")
    message = refused("predict", "--model", PRESET, "--format", "squad")
    assert message == "expected a file for --format squad, received standard input"
    (tmp_path / "new.csv").write_text("question,text\na,b\n")
    message = refused("predict", "--model", PRESET, "--input", tmp_path / "new.csv")
    assert "expected a column 'context' (--context), found 'question', 'text'" in message
