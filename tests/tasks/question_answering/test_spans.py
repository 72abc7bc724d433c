"""Best spans of windows, against loops that try every span."""

import itertools

import numpy as np
import pytest

from keras_bert_zoo.tasks.question_answering.spans import best_spans
from tests.windows import make_windows


def texts_of(random, count, longest=30):
    return [
        " ".join(random.choice(["a", "bx", "é", "南京", "zz"], random.integers(0, longest)))
        for _ in range(count)
    ]


def tried(logits, windows, count, max_tokens):
    """Every span of each text with its best score, best first; and the score of no answer."""
    spans = [{} for _ in range(count)]
    null = [np.inf] * count
    for w, document in enumerate(windows["document"]):
        null[document] = min(null[document], logits[w, 0].sum())
        inside = np.flatnonzero(windows["ends"][w] > windows["starts"][w])
        for i, j in itertools.product(inside, inside):
            if i <= j < i + max_tokens:
                span = (windows["starts"][w, i], windows["ends"][w, j])
                score = logits[w, i, 0] + logits[w, j, 1]
                spans[document][span] = max(spans[document].get(span, -np.inf), score)
    ordered = [sorted(found.items(), key=lambda item: -item[1]) for found in spans]
    return ordered, null


@pytest.mark.parametrize("max_tokens", [1, 4, 40])
def test_the_best_spans_are_those_that_a_search_finds(max_tokens):
    random = np.random.default_rng(max_tokens)
    texts = [*texts_of(random, 12), "", " ", "南"]
    windows = make_windows(texts)
    logits = random.normal(size=(*windows["starts"].shape, 2)).astype(np.float32) * 3
    found = best_spans(logits, windows, len(texts), top_k=5, max_tokens=max_tokens)
    expected, null = tried(
        logits, {name: value.numpy() for name, value in windows.items()}, len(texts), max_tokens
    )
    np.testing.assert_allclose(found.null, null)
    for row, spans in enumerate(expected):
        count = min(5, len(spans))
        assert found.exists[row].numpy().tolist() == [k < count for k in range(5)]
        ours = list(zip(found.start[row].numpy(), found.end[row].numpy(), strict=True))
        assert ours[:count] == [span for span, _ in spans[:count]]
        assert ours[count:] == [(0, 0)] * (5 - count)
        np.testing.assert_allclose(found.score[row, :count], [s for _, s in spans[:count]])
        if spans:
            total = np.log(np.exp([score for _, score in spans]).sum())
            assert found.total[row].numpy() == pytest.approx(total, rel=1e-5)


def test_equal_scores_give_the_first_and_shortest_span():
    windows = make_windows(["c d e"])
    logits = np.zeros((*windows["starts"].shape, 2), np.float32)
    found = best_spans(logits, windows, 1, top_k=4, max_tokens=2)
    spans = zip(found.start[0].numpy(), found.end[0].numpy(), strict=True)
    assert list(spans) == [(0, 1), (0, 3), (2, 3), (2, 5)]
