"""Best spans and labels of windows, against loops that try every span."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.tasks.question_answering.spans import best_spans, character_offsets, span_labels
from keras_bert_zoo.text.wordpiece.tokenizer import WordPieceTokenizer

WORDS = [*"abcdefghij", "##x", "é", "南", "京"]
TOKENIZER = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])


def make_windows(texts, questions=None, max_length=12, stride=3):
    questions = ["a b"] * len(texts) if questions is None else questions
    return TOKENIZER.windows(texts, first=questions, max_length=max_length, stride=stride)


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


def test_characters_are_counted_in_any_bytes():
    texts = tf.constant(["a南é🎈".encode(), b"\xe5\x8d\xff\x80\xc3", b""])
    places = tf.constant([[0, 1, 4, 6, 10], [1, 2, 3, 4, 5], [0, 0, 0, 0, 0]])
    counted = character_offsets(texts, places)
    assert counted.numpy().tolist() == [[0, 1, 2, 3, 4], [1, 1, 2, 2, 3], [0] * 5]


def test_labels_are_the_tokens_of_the_answer_in_each_window_that_has_it():
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
            # Not the whole of it is here, or there is none.
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


def test_an_answer_within_a_token_gets_the_token_and_one_without_tokens_none():
    windows = {
        name: value.numpy() for name, value in make_windows(["c zz\u200bd", "\u200b"]).items()
    }
    labels, has_token = span_labels(windows, np.array([(3, 4), (0, 3)]), 2)
    assert windows["starts"][0, labels[0, 0]] == 2
    assert has_token.tolist() == [True, False]
    assert labels[1].tolist() == [0, 0]


def test_an_answer_that_is_longer_than_a_window_is_in_none():
    text = "c d e f g h i j " * 3
    windows = {name: value.numpy() for name, value in make_windows([text]).items()}
    labels, has_token = span_labels(windows, np.array([(0, len(text) - 1)]), 1)
    assert len(labels) > 3
    assert not labels.any()
    assert has_token.all()
