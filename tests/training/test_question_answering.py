"""Labels of windows, the loss and the accuracy of answer spans."""

import numpy as np
import pytest

from keras_bert_zoo.training.question_answering import SpanLoss, span_accuracy, span_labels
from tests.windows import make_windows


def test_labels_are_the_answer_tokens_in_each_window_with_the_answer():
    texts = ["c d ex 南京 é c d e f g h i j", "c d", "d e"]
    answers = [("ex 南京", 1), ("", 0), ("e", 1)]
    spans = []
    for text, (answer, _) in zip(texts, answers, strict=True):
        start = text.encode().index(answer.encode())
        spans.append((start, start + len(answer.encode())))
    windows = {name: value.numpy() for name, value in make_windows(texts).items()}
    labels, has_token = span_labels(windows, np.array(spans), 3)
    assert has_token.tolist() == [True, True, True]
    seen = dict.fromkeys(range(3), 0)
    for w, document in enumerate(windows["document"]):
        first, last = labels[w]
        start, end = spans[document]
        inside = windows["ends"][w] > windows["starts"][w]
        if (first, last) == (0, 0):
            # The window does not have the whole answer, or there is no answer.
            here = set(range(start, end)) <= {
                byte
                for a, b in zip(windows["starts"][w], windows["ends"][w], strict=True)
                for byte in [*range(a, b), b]  # a space belongs to no token
            }
            assert not here or start == end
        else:
            assert (windows["starts"][w, first], windows["ends"][w, last]) == (start, end)
            assert inside[first]
            assert inside[last]
            seen[document] += 1
    assert seen[0] >= 1
    assert (seen[1], seen[2]) == (0, 1)


def test_answers_within_a_token_and_without_a_token():
    windows = {
        name: value.numpy() for name, value in make_windows(["c zz\u200bd", "\u200b"]).items()
    }
    labels, has_token = span_labels(windows, np.array([(3, 4), (0, 3)]), 2)
    assert windows["starts"][0, labels[0, 0]] == 2
    assert has_token.tolist() == [True, False]
    assert labels[1].tolist() == [0, 0]


def test_no_window_has_an_answer_that_is_longer():
    text = "c d e f g h i j " * 3
    windows = {name: value.numpy() for name, value in make_windows([text]).items()}
    labels, has_token = span_labels(windows, np.array([(0, len(text) - 1)]), 1)
    assert len(labels) > 3
    assert not labels.any()
    assert has_token.all()


def test_the_loss_is_the_mean_of_two_cross_entropies():
    logits = np.random.default_rng(0).normal(size=(3, 7, 2)).astype(np.float32)
    labels = np.array([[1, 2], [0, 0], [6, 6]])
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = np.arange(3)[:, None]
    expected = -np.log(chances[rows, labels, [0, 1]]).mean()
    assert SpanLoss()(labels, logits).numpy() == pytest.approx(expected, rel=1e-5)
    told = logits.argmax(axis=1)
    told[0, 1] += 1
    assert span_accuracy(told, logits).numpy().tolist() == [0, 1, 1]
