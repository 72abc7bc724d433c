"""Entity scores against the output of seqeval (tools/tasks/ner_goldens.py)."""

import json

import pytest

from keras_bert_zoo.data.tags import chunks
from keras_bert_zoo.errors import DataError
from keras_bert_zoo.metrics.classification import format_report
from keras_bert_zoo.metrics.entities import entity_report, tag_report
from tests.helpers import ASSETS

CASES = json.loads((ASSETS / "ner" / "seqeval.json").read_text("utf-8"))["cases"]


@pytest.mark.parametrize("case", CASES)
def test_equal_to_seqeval(case):
    true = [tags.split() for tags in case["true"]]
    predicted = [tags.split() for tags in case["predicted"]]
    entities = [
        [[kind, start, end - 1] for start, end, kind in chunks(tags, case["scheme"])]
        for tags in true
    ]
    assert entities == case["entities"]
    report = tag_report(true, predicted, case["scheme"])
    expected = dict(case["report"])
    assert (report.precision, report.recall, report.f1) == pytest.approx(
        expected.pop("micro avg")[:3], abs=1e-12
    )
    assert report.macro_f1 == pytest.approx(expected.pop("macro avg")[2], abs=1e-12)
    del expected["weighted avg"]
    for name, scores in report.labels.to_dict().items():
        assert list(scores.values()) == pytest.approx(expected.pop(name), abs=1e-12)
    assert not expected


def test_report_as_text_and_as_json():
    report = entity_report([{(0, 1, "X")}, set()], [{(0, 1, "X"), (2, 3, "Y")}, set()], ["X", "Z"])
    assert report.labels.names == ("X", "Z", "Y")
    assert (report.precision, report.recall, report.macro_f1) == (0.5, 1.0, 0.5)
    assert report.to_dict()["labels"]["X"]["support"] == 1
    lines = format_report(report).splitlines()
    assert lines[0] == "entity F1  0.6667"
    assert lines[-1].split() == ["micro", "0.5000", "1.0000", "0.6667", "1"]


def test_no_entities():
    assert entity_report([set()], [set()]).f1 == 0.0


def test_refused():
    with pytest.raises(DataError, match="at least one, received 0 and 0"):
        entity_report([], [])
    with pytest.raises(DataError, match="expected 2 tags in sentence 1, one per word, received 1"):
        tag_report([["O", "O"]], [["O"]])
