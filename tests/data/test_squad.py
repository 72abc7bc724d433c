"""SQuAD's JSON: reading, and errors with their places."""

import gzip
import json

import pytest

from keras_bert_zoo.data import squad
from keras_bert_zoo.data.squad import (
    Answer,
    QuestionExamples,
    misplaced_answers,
    read_contexts,
    read_squad,
)
from keras_bert_zoo.errors import DataError

CONTEXT = "Zoë sailed to 南京 in 1912."


def question(text="When?", *answers, id="q1", **more):
    listed = [{"text": answer, "answer_start": start} for answer, start in answers]
    return {"id": id, "question": text, "answers": listed, **more}


def contents(*questions, context=CONTEXT):
    paragraph = {"context": context, "qas": list(questions)}
    return {"version": "1.1", "data": [{"title": "a", "paragraphs": [paragraph]}]}


def write(path, value, indent=None):
    text = json.dumps(value, ensure_ascii=False, indent=indent).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def test_reads_both_versions_plain_and_gzipped(tmp_path):
    value = contents(
        question("Where?", ("南京", 14), ("to 南京", 11), id=7),
        question("Who flew?", id="b", is_impossible=True, plausible_answers=[{"text": "Zoë"}]),
    )
    for name in ("a.json", "a.json.gz"):
        examples = read_squad(write(tmp_path / name, value))
        assert examples.questions == ["Where?", "Who flew?"]
        assert examples.contexts == [CONTEXT] * 2
        assert examples.answers == [[Answer("南京", 14), Answer("to 南京", 11)], []]
        assert (examples.ids, examples.rows) == (["7", "b"], [1, 2])
        assert examples.has_unanswerable
        assert examples.misplaced == ()


def test_contexts_are_read_with_and_without_questions(tmp_path):
    paragraph = {"context": CONTEXT, "qas": [question("When?", ("1912", 20))]}
    paragraphs = [{"context": "first", "qas": []}, paragraph, {"context": "last"}, paragraph]
    path = write(tmp_path / "a.json", {"data": [{"paragraphs": paragraphs}]})
    assert read_contexts(path) == ["first", CONTEXT, "last"]
    with pytest.raises(DataError, match="a.json: expected at least one context, received none"):
        read_contexts(write(path, {"data": []}))
    with pytest.raises(
        DataError, match=r"data\[0\].paragraphs\[0\]: expected 'context' to be a str"
    ):
        read_contexts(write(path, {"data": [{"paragraphs": [{"context": 3}]}]}))
    path.write_text("{")
    with pytest.raises(DataError, match="a.json cannot be read as JSON"):
        read_contexts(path)


def test_a_byte_order_mark_is_skipped(tmp_path):
    path = write(tmp_path / "a.json", contents(question("When?", ("1912", 20))))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_squad(path)) == 1


def test_questions_have_lines(tmp_path):
    value = contents(
        question('Is "question": a key?', ("1912", 20), id="q1"), question("x", ("Zoë", 0), id="q2")
    )
    path = write(tmp_path / "a.json", value, indent=1)
    examples = read_squad(path)
    lines = path.read_text().split("\n")
    assert [('"question"' in lines[line - 1]) for line in examples.lines] == [True, True]
    assert examples.where(1) == f"{path}:{examples.lines[1]}: question 2 (id 'q2')"
    assert QuestionExamples(["a"], ["b"]).where(0) == "question 1 (id '1')"


def test_misplaced_answers_are_refused_or_listed_and_skipped(tmp_path, caplog):
    value = contents(
        question("a", ("1912", 20), ("1912", 19), id="good and bad"),
        question("b", ("1913", 20), id="bad"),
        question("c", ("", 0), id="empty"),
        question("d", ("1912", -7), id="before"),
        question("e", ("1912", 10**9), id="after"),
        question("f", id="none"),
        question("g", id="impossible", is_impossible=True),
    )
    path = write(tmp_path / "a.json", value)
    expected = (
        f"{path}: 6 of 7 answers are misplaced or missing: "
        "1: question 1 (id 'good and bad'): expected '1912' at character 19, received ' 191'; "
        "1: question 2 (id 'bad'): expected '1913' at character 20, received '1912'; "
        "1: question 3 (id 'empty'): expected an answer, received an empty one; ..."
    )
    with pytest.raises(DataError) as caught:
        read_squad(path)
    assert str(caught.value) == f"{expected}; correct them, or skip them with `skip_misplaced=True`"
    examples = read_squad(path, skip_misplaced=True)
    assert caplog.messages == [f"{expected}; skipped them and 5 of 7 questions"]
    assert examples.ids == ["good and bad", "impossible"]
    assert examples.rows == [1, 7]
    assert examples.answers == [[Answer("1912", 20)], []]
    assert len(examples.misplaced) == 6
    assert examples.misplaced[-1] == (
        f"{path}:1: question 6 (id 'none'): expected an answer or `is_impossible` true, "
        "received neither"
    )
    assert misplaced_answers(examples) == []
    only_bad = write(tmp_path / "b.json", contents(question("b", ("1913", 20))))
    with pytest.raises(DataError, match="no question is left without them$"):
        read_squad(only_bad, skip_misplaced=True)
    withheld = write(tmp_path / "c.json", contents(question("b", ("", 0))))
    with pytest.raises(DataError, match="them; the file has no answers and is only for prediction"):
        read_squad(withheld, skip_misplaced=True)


def test_scores_need_no_places(tmp_path):
    value = contents(
        question("a", ("1912", 20), ("in 1912", -1), id="both"),
        question("b", ("1913", -1), id="elsewhere"),
        question("c", ("", -1), id="withheld"),
        question("d", id="impossible", is_impossible=True),
    )
    path = write(tmp_path / "a.json", value)
    training = read_squad(path, skip_misplaced=True)
    assert training.ids == ["both", "impossible"]
    assert training.answers == [[Answer("1912", 20)], []]
    assert training.references == training.right_texts() == [["1912", "in 1912"], []]
    scoring = read_squad(path, skip_misplaced=True, scoring=True)
    assert scoring.ids == ["both", "elsewhere", "impossible"]
    assert scoring.right_texts() == [["1912", "in 1912"], ["1913"], []]
    assert scoring[1:].right_texts() == [["1913"], []]
    assert scoring.has_unanswerable
    assert not scoring[:2].has_unanswerable
    with pytest.raises(DataError, match="[34] of [45] answers are misplaced or missing"):
        read_squad(path, scoring=True)
    right = read_squad(write(path, contents(question("a", ("1912", 20)))), scoring=True)
    assert (right.references, right.right_texts()) == (None, [["1912"]])


@pytest.mark.parametrize(
    "answers",
    [
        {"answers": [{"text": "", "answer_start": -1}]},
        {"answers": [{"text": " ", "answer_start": 0}, {"text": "", "answer_start": -1}]},
        {"answers": None},
        {},
    ],
)
def test_an_impossible_question_may_have_an_empty_answer(tmp_path, answers):
    record = {"id": "1", "question": "a", "is_impossible": True} | answers
    examples = read_squad(write(tmp_path / "a.json", contents(record)))
    assert examples.answers == [[]]
    assert examples.has_unanswerable


def test_answers_need_not_be_there_for_prediction(tmp_path):
    value = contents(question("a", ("elsewhere", 3)), {"id": "b", "question": "b"})
    examples = read_squad(write(tmp_path / "a.json", value), answers=False)
    assert examples.answers is None
    assert examples.ids == ["q1", "b"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "Expected a JSON object in "),
        ({"a": 1}, ": the file: expected the key 'data' of SQuAD's format, received 'a'"),
        ({"data": {}}, ": expected 'data' to be a list, received an object"),
        ({"data": [3]}, ": data[0]: expected an object with 'paragraphs', received the number 3"),
        ({"data": []}, ": expected at least one question, received none"),
        (contents(question(None)), "qas[0]: expected 'question' to be a string, received null"),
        (contents(question(id=[1])), "expected 'id' to be a string or an integer, received a list"),
        (
            contents({"question": "a"}),
            "expected the key 'id' of SQuAD's format, received 'question'",
        ),
        (contents({"id": "7", "question": "a"}), "qas[0] (id '7'): expected the key 'answers'"),
        (
            contents(question("a", ("b", 1.0))),
            "'answer_start' to be an integer, received the number 1.0",
        ),
        (
            contents(question("a", (7, 1))),
            "answers[0]: expected 'text' to be a string, received the",
        ),
        (
            contents(question("a", is_impossible=1)),
            "'is_impossible' to be true or false, received the",
        ),
        (
            contents(question("a", ("Zoë", 0), is_impossible=True)),
            "expected no answers because `is_impossible` is true, received 1; correct one of them",
        ),
        (contents(question(), context=None), "expected 'context' to be a string, received null"),
    ],
)
def test_other_forms_are_refused(tmp_path, value, message):
    path = write(tmp_path / "a.json", value)
    with pytest.raises(DataError) as caught:
        read_squad(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.json", b"", "cannot be read as JSON"),
        ("a.json", b'{"data": [}', "cannot be read as JSON"),
        ("a.json", b'{"data": [], "data": []}', "is given twice"),
        ("a.json", b'{"data": NaN}', "NaN is not JSON"),
        ("a.json", b'{"data": "\xff"}', "codec can't decode"),
        ("a.json", b'{"data": "\\ud800"}', "surrogates not allowed"),
        ("a.json", b"[" * 100_000, "nested too deeply"),
        ("a.json.gz", b"{}", "truncated, damaged, or not gzipped"),
        (
            "a.json.gz",
            gzip.compress(b"{}" * 100, mtime=0)[:-9],
            "truncated, damaged, or not gzipped",
        ),
    ],
)
def test_damaged_files_are_refused(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_squad(tmp_path / name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_large_files_are_refused(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="there is no such file"):
        read_squad(tmp_path / "a.json")
    with pytest.raises(DataError, match="expected a file"):
        read_squad(tmp_path)
    monkeypatch.setattr(squad, "LIMIT_BYTES", 1000)
    bomb = tmp_path / "a.json.gz"
    bomb.write_bytes(gzip.compress(b" " * 10_000_000))
    with pytest.raises(DataError, match="a text of at most 1,000 bytes"):
        read_squad(bomb)
