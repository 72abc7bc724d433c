"""True entities are compared in the alignment in which they are trained."""

import logging

import pytest

from keras_bert_zoo.data.spans import Entity, EntityExamples
from keras_bert_zoo.errors import DataError
from keras_bert_zoo.training.data import prepared
from tests.tasks.taggers import make_task
from tests.tasks.token_classification import test_nested as nested_tests

TEXTS = ["ab cd ef ", " the card  is here", "天气 ab\u3000cd", "a.b c", "\U0001f600 ab ef"] * 2


@pytest.fixture(scope="module")
def flat():
    return make_task()


nested = nested_tests.few


def padded(text, entity):
    """The entity with the white space around it, as annotation tools have it."""
    start, end, label = entity[:3]
    while text[start - 1 : start].isspace():
        start -= 1
    while text[end : end + 1].isspace():
        end += 1
    return start, end, label


def own_entities(task, change):
    """What a perfect model would have been given: its own answers, changed."""
    found = task.find_entities(TEXTS)
    assert sum(map(len, found)) > 5
    return [
        [change(text, entity) for entity in row] for text, row in zip(TEXTS, found, strict=True)
    ]


@pytest.mark.parametrize("kind", ["flat", "nested"])
def test_white_space_at_the_ends_of_entities_costs_nothing(kind, request, caplog):
    task = request.getfixturevalue(kind)
    entities = own_entities(task, padded)
    entities = [row + row[:1] for row in entities]  # and one that is there twice
    with caplog.at_level(logging.WARNING, logger="keras_bert_zoo"):
        held_out = prepared(task, TEXTS, entities)
    trimmed, repeated = caplog.messages
    assert "trimmed white space at the ends of " in trimmed
    assert f" of {sum(map(len, entities))} entities that are repeated" in repeated
    caplog.clear()
    for _ in range(2):
        measures = task.objective().measure(*held_out, 8)
        assert measures == {"f1": 1.0, "precision": 1.0, "recall": 1.0}
    assert caplog.messages == []  # said once
    assert task.report(TEXTS, entities).f1 == 1.0


@pytest.mark.parametrize("kind", ["flat", "nested"])
def test_entities_that_end_within_words_are_the_whole_words(kind, request, caplog):
    task = request.getfixturevalue(kind)

    def cut(text, entity):
        start, end, label = entity[:3]
        long = text[end - 2 : end].isalpha() and text[end - 2 : end].isascii() and end - start > 1
        return start, end - long, label

    entities = own_entities(task, cut)
    moved = sum(
        old != new
        for row, own in zip(own_entities(task, lambda _, e: e[:3]), entities, strict=True)
        for old, new in zip(row, own, strict=True)
    )
    assert moved > 3
    with caplog.at_level(logging.WARNING, logger="keras_bert_zoo"):
        report = task.report(TEXTS, entities)
    assert report.f1 == 1.0
    assert f"{moved} begin or end within a word and are compared as whole words" in caplog.text


def test_an_entity_without_a_word_is_missed(flat, caplog):
    # The tokenizer passes over the zero-width space; two entities of one word cannot both be.
    text = "ab \u200b cd"
    entities = [[(3, 4, "PER"), (5, 6, "PER"), (6, 7, "LOC")]]
    _, aligned = flat.align_entities([text], entities)
    assert aligned == [[(3, 4, "PER"), (5, 7, "PER"), (6, 7, "LOC")]]
    assert "of 3 entities 1 begin or end within a word" in caplog.text
    assert "2 have no word and cannot be found" in caplog.text
    assert flat.report([text], entities).labels.support.sum() == 3


def test_words_of_a_file_and_bytes_are_aligned_too(flat):
    examples = EntityExamples(["ab-cd ef"], [[(1, 4, "PER")]], [[(0, 5), (6, 8)]])
    assert flat.align_entities(examples)[1] == [[Entity(0, 5, "PER")]]
    raw = "é\u3000ab 天气 ".encode()
    examples = EntityExamples([raw, b"\xff ab "], [[(1, 5, "PER"), (5, 8, "LOC")], [(1, 4, "PER")]])
    # A byte that continues no character is one of its own; \xff begins one.
    assert examples.entities == [[Entity(2, 4, "PER"), Entity(5, 7, "LOC")], [Entity(2, 4, "PER")]]
    assert flat.align_entities(examples, warn=False)[1] == examples.entities


def test_white_space_alone_is_refused_with_its_place(flat):
    with pytest.raises(
        DataError, match="example 2: expected text in the entity from 2 to 3, received"
    ):
        flat.fit(["ab", "ab cd"], [[(0, 2, "PER")], [(2, 3, "PER")]])
