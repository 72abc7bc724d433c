"""The page of `evaluate --html`: complete, escaped and self-contained."""

import html.parser
import re

import numpy as np
import pytest

from keras_bert_zoo.cli.error_page import error_page
from keras_bert_zoo.cli.error_plots import (
    Predictions,
    average_precisions,
    calibration_bins,
)
from keras_bert_zoo.cli.svg_plots import check_plotting
from keras_bert_zoo.errors import ConfigError

VOID = {"meta", "input", "br"}


class Checker(html.parser.HTMLParser):
    """Checks that tags are closed, and collects the text."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)


def text_of(page):
    checker = Checker()
    checker.feed(page)
    assert not checker.open
    return " ".join(" ".join(checker.text).split())


LABELS = {
    "rain": {"precision": 0.5, "recall": 1.0, "f1": 2 / 3, "support": 2},
    "<b>sun</b>": {"precision": 1.0, "recall": 0.25, "f1": 0.4, "support": 4},
}


def test_metrics_labels_and_confusion():
    figures = {"accuracy": 0.5, "rows": 1234, "labels": LABELS, "confusion": [[2, 0], [3, 1]]}
    error = {"text": "a", "label": "<b>sun</b>", "predicted": "rain", "score": 0.5}
    page = error_page("a < b", 6, figures, [error])
    text = text_of(page)
    assert "a < b" in text
    assert "6 examples, 1 error." in text
    assert "accuracy 0.5000" in text
    assert "rows 1,234" in text
    assert text.index("<b>sun</b> 1.0000 0.2500 0.4000 4") < text.index("rain 0.5000 1.0000 0.6667")
    assert "<b>sun" not in page
    table = page[page.index('class="labels"') :]
    assert re.findall(r'class="bar" style="--share: ([\d.]+)%"', table) == ["40.0", "66.7"]
    matrix = page[page.index('class="matrix"') :]
    assert [
        (bool(kind), share, count)
        for kind, share, count in re.findall(
            r'<td( class="correct")?(?: style="--share: ([\d.]+)%")?><[^>]*>(\d*)<', matrix
        )
    ] == [(True, "50.0", "2"), (False, "", ""), (False, "50.0", "3"), (True, "12.5", "1")]


def test_a_count_links_to_its_errors():
    figures = {"labels": LABELS, "confusion": [[2, 1], [1, 0]]}
    sun, rain = "<b>sun</b>", "rain"
    errors = [
        {"text": "a", "label": sun, "predicted": rain},
        {"text": "b", "label": rain, "predicted": sun},
    ]
    page = error_page("t", 4, figures, errors)
    assert '<a href="#error-1" data-pair="0-1" aria-label="1 rain predicted as &lt;b&gt;' in page
    assert '<a href="#error-0" data-pair="1-0"' in page
    assert '<dl class="error" id="error-1" data-pair="0-1">' in page
    assert page.count("data-pair=") == 2 * 2 + page[page.index("<script>") :].count("data-pair=")


def predictions(multi_label=False):
    random = np.random.default_rng(1)
    scores = random.random((200, 3))
    scores /= scores.sum(axis=1, keepdims=True)
    return Predictions(
        ["_a", "$b$ <i>", "\x1b中文"], np.eye(3, dtype=bool)[random.integers(0, 3, 200)], scores,
        multi_label=multi_label,
    )  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("multi_label", [False, True])
def test_plots_of_a_classifier(multi_label):
    data = predictions(multi_label)
    page = error_page("t", 200, {"accuracy": 0.3}, [], predictions=data)
    text = text_of(page)
    assert page.count("<svg") == 2
    for title in ("Predicted probability", "Recall", "Precision", "perfectly calibrated"):
        assert title in text
    for name in ("_a (AP 0.", "$b$ <i> (AP 0.", "\\x1b中文 (AP 0."):
        assert name in text
    _, error = calibration_bins(*data.confidences())
    assert f"Expected calibration error {error:.4f}" in text
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_plots_of_a_regression():
    true = np.linspace(0.0, 5.0, 50)
    page = error_page("t", 50, {}, [], predictions=Predictions([], true, true + 1))
    assert page.count("<svg") == 1
    assert "Predicted value" in text_of(page)


def test_expected_calibration_error():
    confidences = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 1.0, 0.0])
    correct = np.array([True, True, True, False, True, True, False])
    bins, error = calibration_bins(confidences, correct)
    assert [count for _, _, count in bins] == [1, 1, 5]
    assert error == pytest.approx((0.45 * 1 + abs(4.8 / 5 - 0.8) * 5) / 7)


def test_average_precisions_leave_out_labels_without_examples():
    true = np.array([[True, False], [True, False]])
    assert average_precisions(Predictions(["a", "b"], true, np.full((2, 2), 0.5))) == {0: 1.0}


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        check_plotting()
    assert str(caught.value) == (
        "Expected the package matplotlib for --html, but it is not installed. "
        "Run: pip install 'keras_bert_zoo[html]'"
    )


def test_a_wide_confusion_is_listed():
    names = [f"label {i}" for i in range(50)]
    matrix = [[5 if i == j else 0 for j in range(50)] for i in range(50)]
    matrix[3][4], matrix[7][1] = 2, 9
    row = {"f1": 1.0}
    text = text_of(
        error_page("t", 1, {"labels": dict.fromkeys(names, row), "confusion": matrix}, [])
    )
    listed = text[text.index("true predicted examples") :]
    assert listed.startswith("true predicted examples label 7 label 1 9 label 3 label 4 2")


def test_spans_are_marked_in_the_text():
    entities = {
        "text": "<Ada> met Bob",
        "missed": [{"entity": "Ada", "label": "PER", "start": 1, "end": 4}],
        "spurious": [{"entity": "met", "label": "LOC", "start": 6, "end": 9, "score": 0.5}],
        "row": 3,
    }
    answer = {"context": "in 1999 or 2000", "answers": ["1999"], "predicted": "2000", "score": 0.75}
    page = error_page("t", 9, {}, [entities, answer])
    assert '&lt;<mark class="expected">Ada</mark>&gt; <mark class="wrong">met</mark> Bob' in page
    assert 'in <mark class="expected">1999</mark> or <mark class="wrong">2000</mark>' in page
    assert "entity Ada, label PER, start 1, end 4" in text_of(page)
    assert "Score of the wrong prediction" in text_of(page)


def test_hostile_text_is_escaped_and_nothing_is_loaded():
    hostile = "</dd><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"
    row = {"text": hostile, "label": hostile, "predicted": [hostile], hostile: 1, "score": 1.5}
    page = error_page(hostile, 1, {hostile: 0.5, "labels": {hostile: {"f1": 0.0}}}, [row] * 700)
    assert page.count("<script>") == 1
    assert "<img" not in page
    assert not re.search(r"(?:src=|href=\"[^#]|url\([^#])", page.replace("src=x onerror", ""))
    assert "default-src 'none'" in page
    assert page.count('class="error"') == 500
    assert "The first 500 of 700." in page
    text_of(page)
