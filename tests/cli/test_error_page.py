"""The page of evaluate: complete, escaped, and in need of nothing else."""

import html.parser
import re

import pytest

from keras_bert_zoo.cli.error_page import error_page

VOID = {"meta", "input", "br"}


class Checker(html.parser.HTMLParser):
    """Follows the tags, and keeps the text."""

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


def test_figures_labels_and_confusion():
    figures = {"accuracy": 0.5, "rows": 1234, "labels": LABELS, "confusion": [[2, 0], [3, 1]]}
    page = error_page("a < b", 6, figures, [])
    text = text_of(page)
    assert "a < b" in text
    assert "6 examples, 0 of them answered wrong." in text
    assert "accuracy 0.5000" in text
    assert "rows 1,234" in text
    assert text.index("<b>sun</b> 1.0000 0.2500 0.4000 4") < text.index("rain 0.5000 1.0000 0.6667")
    assert "<b>sun" not in page
    shares = [float(x) for x in re.findall(r'<rect width="([\d.]+)" height="12" fill="#22', page)]
    assert shares == [80.0, pytest.approx(133.3)]
    cells = re.findall(r'<td style="background: ([^"]+)">(\d*)</td>', page)
    assert [count for _, count in cells] == ["2", "", "3", "1"]
    assert [shade for shade, _ in cells] == [
        "hsl(130 60% 40.0%)", "none", "hsl(8 60% 55.0%)", "hsl(130 60% 85.0%)",
    ]  # fmt: skip


def test_a_wide_confusion_is_listed():
    names = [f"label {i}" for i in range(50)]
    matrix = [[5 if i == j else 0 for j in range(50)] for i in range(50)]
    matrix[3][4], matrix[7][1] = 2, 9
    row = {"f1": 1.0}
    text = text_of(
        error_page("t", 1, {"labels": dict.fromkeys(names, row), "confusion": matrix}, [])
    )
    listed = text[text.index("true predicted rows") :]
    assert listed.startswith("true predicted rows label 7 label 1 9 label 3 label 4 2")


def test_errors_are_marked_where_they_stand():
    entities = {
        "text": "<Ada> met Bob",
        "missed": [{"entity": "Ada", "label": "PER", "start": 1, "end": 4}],
        "spurious": [{"entity": "met", "label": "LOC", "start": 6, "end": 9, "score": 0.5}],
        "row": 3,
    }
    answer = {"context": "in 1999 or 2000", "answers": ["1999"], "predicted": "2000", "score": 0.75}
    page = error_page("t", 9, {}, [entities, answer])
    assert '&lt;<mark class="right">Ada</mark>&gt; <mark class="wrong">met</mark> Bob' in page
    assert 'in <mark class="right">1999</mark> or <mark class="wrong">2000</mark>' in page
    assert "entity Ada, label PER, start 1, end 4" in text_of(page)
    assert "<title>0.75 to 0.80: 1</title>" in page


def test_a_page_needs_nothing_else_and_runs_nothing_of_the_data():
    hostile = "</dd><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"
    row = {"text": hostile, "label": hostile, "predicted": [hostile], hostile: 1, "score": 1.5}
    page = error_page(hostile, 1, {hostile: 0.5, "labels": {hostile: {"f1": 0.0}}}, [row] * 700)
    assert page.count("<script>") == 1
    assert "<img" not in page
    assert not re.search(r"(?:src|href)=", page.replace("src=x onerror", ""))
    assert "default-src 'none'" in page
    assert page.count('class="error"') == 500
    assert "The first 500 of 700." in page
    text_of(page)
