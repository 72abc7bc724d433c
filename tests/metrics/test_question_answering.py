"""Scores of answers against the goldens of tools/tasks/qa_goldens.py."""

import json

import numpy as np
import pytest

from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.metrics.classification import format_report
from keras_bert_zoo.metrics.question_answering import answer_scores, best_threshold, question_report
from tests.helpers import ASSETS

GOLDEN = json.loads((ASSETS / "question_answering" / "scores.json").read_text("utf-8"))


@pytest.mark.parametrize(("kind", "segmentation"), [("squad_1", "words"), ("cmrc", "characters")])
def test_answers_score_as_in_the_goldens(kind, segmentation):
    rows = GOLDEN[kind]
    predictions, references = zip(*(row["pair"] for row in rows), strict=True)
    exact, f1 = answer_scores(predictions, references, segmentation=segmentation)
    assert exact.tolist() == [row["exact_match"] for row in rows]
    np.testing.assert_allclose(f1, [row["f1"] for row in rows], atol=1e-7)
    report = question_report(predictions, references)
    assert report.segmentation == segmentation  # "auto" sees which it is
    assert report.f1 == pytest.approx(f1.mean())
    assert report.unanswerable_accuracy is None


def test_answers_that_are_empty_after_normalization():
    """As evaluate-v1.1.py: equal, and no word in common; SQuAD 2.0 counts that as equal."""
    exact, f1 = answer_scores(["The", "..."], [["the"], ["a", "!"]], segmentation="words")
    assert (exact.tolist(), f1.tolist()) == ([1, 1], [0, 0])
    exact, f1 = answer_scores(["The", "b"], [["the"], []], segmentation="words")
    assert (exact.tolist(), f1.tolist()) == ([1, 0], [1, 0])


def test_questions_without_an_answer_score_as_in_squad_2():
    golden = GOLDEN["squad_2"]
    predictions, references = zip(*golden["pairs"], strict=True)
    no_answer = np.array(golden["no_answer"])
    for name, threshold in (("without_threshold", None), ("threshold_0.5", 0.5)):
        expected = golden["scores"][name]
        report = question_report(
            predictions, references, no_answer=no_answer, null_threshold=threshold
        )
        assert report.questions == expected["total"] == 48
        assert report.answerable == expected["HasAns_total"]
        for ours, theirs in (
            ("exact_match", "exact"),
            ("f1", "f1"),
            ("answerable_exact_match", "HasAns_exact"),
            ("answerable_f1", "HasAns_f1"),
            ("unanswerable_accuracy", "NoAns_exact"),
        ):
            assert 100 * getattr(report, ours) == pytest.approx(expected[theirs]), ours
    assert 100 * report.best_f1 == pytest.approx(expected["best_f1"])
    assert report.best_f1_threshold == expected["best_f1_thresh"]
    assert 100 * report.best_exact_match == pytest.approx(expected["best_exact"])
    assert report.best_exact_match_threshold == expected["best_exact_thresh"]
    tuned = best_threshold(predictions, references, no_answer)
    assert expected["best_f1_thresh"] < tuned < 1
    at_best = question_report(predictions, references, no_answer=no_answer, null_threshold=tuned)
    assert at_best.f1 == pytest.approx(report.best_f1)


@pytest.mark.parametrize(
    ("predictions", "references", "expected"),
    [
        (["x", "y", "z"], [["p"], [], []], "none"),  # it is best to answer nothing
        (["p", "q", "z"], [["p"], ["q"], []], "some"),
        (["p", "q", "r"], [[], ["q"], ["r"]], "all"),
    ],
)
def test_the_best_threshold_may_be_beyond_all_scores(predictions, references, expected):
    no_answer = np.array([-3.0, -2.0, 5.0])
    threshold = best_threshold(predictions, references, no_answer)
    answered = (no_answer <= threshold).sum()
    assert answered == {"none": 0, "some": 2, "all": 3}[expected]
    report = question_report(predictions, references, no_answer=no_answer, null_threshold=threshold)
    assert report.f1 == pytest.approx(report.best_f1)


@pytest.mark.parametrize(
    ("prediction", "reference", "f1"),
    [
        ("พระเจ้า", "พระเจ้าตาก", 2 * 7 / 17),  # Thai
        ("とうきょう", "東京", 0.0),
        ("カナダの首都", "カナダ", 2 * 3 / 9),
        ("𠮷野家", "𠮷野", 2 * 2 / 5),  # beyond the first plane
    ],
)
def test_other_languages_without_spaces_are_split_into_characters(prediction, reference, f1):
    report = question_report([prediction], [[reference]])
    assert report.segmentation == "characters"
    assert report.f1 == pytest.approx(f1)


def test_unanswerable_questions_by_characters():
    report = question_report(["", "南京", ""], [[], [], ["南京"]])
    assert (report.segmentation, report.f1) == ("characters", pytest.approx(1 / 3))
    assert report.unanswerable_accuracy == 0.5


def test_text_format():
    lines = format_report(question_report(["x b"], [["b c"]])).split("\n")
    assert lines == ["exact match  0.0000", "F1 (words)   0.5000", "questions    1"]
    report = question_report(["b", "b"], [["b"], []], no_answer=np.array([0.1, 0.4]))
    text = format_report(report)
    assert "best F1, at no_answer    1.0000 at 0.1000" in text
    assert "accuracy, unanswerable   0.0000" in text
    assert report.to_dict()["unanswerable_accuracy"] == 0.0
    assert "best_f1" not in question_report(["b"], [["b"]]).to_dict()


def test_invalid_data_is_refused():
    with pytest.raises(DataError, match="expected 1 answers, one per question, received 2"):
        answer_scores(["a", "b"], [["a"]])
    with pytest.raises(
        DataError, match="expected at least one question to evaluate, received none"
    ):
        answer_scores([], [])
    with pytest.raises(ConfigError, match="one of auto, words, characters, received 'bytes'"):
        question_report(["a"], [["a"]], segmentation="bytes")
