"""The official score of SemEval-2010 task 8: against its scorer's published output, and by hand."""

import pytest

from keras_bert_zoo.errors import DataError
from keras_bert_zoo.metrics.classification import format_report
from keras_bert_zoo.metrics.relations import relation_of, relation_report

# The output of semeval2010_task8_scorer-v1.2.pl for a system on the whole test set: rows are true
# relations, columns predicted ones; the last column counts only wrong directions.
RELATIONS = [
    "Cause-Effect", "Component-Whole", "Content-Container", "Entity-Destination", "Entity-Origin",
    "Instrument-Agency", "Member-Collection", "Message-Topic", "Product-Producer", "Other",
]  # fmt: skip
PRINTED = """
296   0   0   0   9   1   0   1   2  15  4
  2 209   5   3   1   9  13   5   2  32 31
  0   4 160  10   2   0   0   1   0  11  4
  0   2  10 260   0   0   0   2   1  16  1
  2   1   0  12 221   1   0   1   3  16  1
  0   4   1   2   2 101   1   3   9  31  2
  0   6   0   0   2   3 195   4   2  20  1
  1   2   0   2   0   0   3 228   3  19  3
  4   4   2   1   9  10   0   5 167  24  5
 20  25  25  25  32  20  39  39  26 203  0
"""
F1 = [90.11, 69.67, 80.20, 85.53, 82.31, 66.67, 80.41, 82.46, 74.06, 48.28]


def test_equals_the_official_scorer():
    true, predicted = [], []
    for name, line in zip(RELATIONS, PRINTED.strip().splitlines(), strict=True):
        *cells, wrong = map(int, line.split())
        label = name if name == "Other" else f"{name}(e1,e2)"
        for other, count in zip(RELATIONS, cells, strict=True):
            true += [label] * count
            predicted += [other if other == "Other" else f"{other}(e1,e2)"] * count
        true += [label] * wrong
        predicted += [f"{name}(e2,e1)"] * wrong
    report = relation_report(true, predicted)
    assert len(true) == 2717
    percent = {key: round(100 * getattr(report, key), 2) for key in
               ("accuracy", "macro_precision", "macro_recall", "macro_f1", "micro_f1")}  # fmt: skip
    assert percent == {"accuracy": 75.08, "macro_precision": 77.93, "macro_recall": 80.37,
                       "macro_f1": 79.05, "micro_f1": 79.99}  # fmt: skip
    assert report.wrong_direction == 52
    by_name = dict(zip(report.relations.names, report.relations.f1, strict=True))
    assert [round(100 * by_name[name], 2) for name in RELATIONS] == F1


def test_a_wrong_direction_costs_precision_and_recall():
    true = ["A(e1,e2)", "A(e2,e1)", "B(e1,e2)", "Other"]
    report = relation_report(true, ["A(e1,e2)", "A(e1,e2)", "B(e1,e2)", "Other"])
    # A: one correct of two predicted and two true. B is correct, Other does not count.
    assert report.relations.f1.tolist() == [0.5, 1.0, 1.0]
    assert (report.macro_f1, report.wrong_direction, report.accuracy) == (0.75, 1, 0.75)
    assert report.micro_f1 == pytest.approx(2 * 2 / (3 + 3))


def test_relations_that_never_occur_are_no_part_of_the_mean_but_cost_the_others():
    report = relation_report(
        ["A(e1,e2)", "A(e1,e2)", "Other"], ["A(e1,e2)", "C(e1,e2)", "A(e2,e1)"]
    )
    assert report.relations.names == ("A", "Other")
    assert (report.macro_precision, report.macro_recall, report.macro_f1) == (0.5, 0.5, 0.5)
    assert report.to_dict()["relations"]["Other"]["f1"] == 0
    text = format_report(report)
    assert "official macro F1  0.5000" in text
    assert "macro, without Other" in text


def test_labels_without_directions():
    assert relation_of("born_in") == "born_in"
    assert relation_of("A(e1,e3)") == "A(e1,e3)"
    assert relation_report(["born_in"], ["born_in"]).macro_f1 == 1


def test_invalid_labels_are_refused():
    with pytest.raises(DataError, match="received 1 and 2"):
        relation_report(["A", "B"], ["A"])
    with pytest.raises(DataError, match="received only 'Other'"):
        relation_report(["Other"], ["A"])
