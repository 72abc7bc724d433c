"""Folds divide the examples: each in one fold, labels balanced, groups whole."""

import logging
from collections import Counter

import numpy as np
import pytest

from keras_bert_zoo.cli.tasks import task_command
from keras_bert_zoo.data.choices import ChoiceExamples
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.folds import make_folds
from keras_bert_zoo.data.pairs import TextGroups
from keras_bert_zoo.data.questions import Answer, QuestionExamples
from keras_bert_zoo.data.spans import EntityExamples
from keras_bert_zoo.errors import ConfigError, DataError


def check_partition(folds, count):
    np.testing.assert_array_equal(np.sort(np.concatenate(folds)), np.arange(count))
    assert all((np.diff(fold) > 0).all() for fold in folds)


def test_labels_are_balanced():
    labels = ["a"] * 30 + ["b"] * 12 + ["c"] * 6
    folds = make_folds(48, 3, seed=1, labels=labels)
    check_partition(folds, 48)
    for fold in folds:
        assert Counter(labels[index] for index in fold) == {"a": 10, "b": 4, "c": 2}


def test_the_seed_decides():
    first, same, other = (make_folds(20, 4, seed=seed) for seed in (0, 0, 1))
    check_partition(first, 20)
    assert [len(fold) for fold in first] == [5, 5, 5, 5]
    assert all((a == b).all() for a, b in zip(first, same, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


def test_groups_stay_together():
    sizes = [1, 2, 3, 4, 5, 3, 2, 4]
    groups = [f"context {i}" for i, size in enumerate(sizes) for _ in range(size)]
    labels = [index % 2 for index in range(len(groups))]
    for strata in (None, labels):
        folds = make_folds(len(groups), 4, seed=0, labels=strata, groups=groups)
        check_partition(folds, len(groups))
        of_folds = [{groups[index] for index in fold} for fold in folds]
        assert sum(map(len, of_folds)) == len(sizes)
        assert max(map(len, folds)) <= 8  # 6 on average


def test_rare_labels_are_named(caplog):
    with caplog.at_level(logging.WARNING, "keras_bert_zoo"):
        folds = make_folds(9, 3, seed=0, labels=["a"] * 6 + ["b", "c", "c"])
    check_partition(folds, 9)
    assert "2 labels have fewer examples than folds" in caplog.text
    assert "'b' (1), 'c' (2)" in caplog.text
    check_partition(make_folds(4, 2, seed=0, labels=["a", "b", "c", "d"]), 4)


def test_too_little_data():
    with pytest.raises(DataError, match="at least 3 examples for 3 folds, received 2"):
        make_folds(2, 3, seed=0)
    with pytest.raises(DataError, match="at least 3 groups of examples that stay together"):
        make_folds(9, 3, seed=0, groups=["a"] * 8 + ["b"])
    with pytest.raises(ConfigError, match="at least 2 folds, received 1"):
        make_folds(9, 1, seed=0)


def questions():
    contexts = [f"context {index // 3}" for index in range(12)]
    answers = [[Answer("con", 0)] if index % 2 else [] for index in range(12)]
    return QuestionExamples([f"q{index}" for index in range(12)], contexts, answers)


LETTERS = list("abcdefghijkl")
EXAMPLES = {
    "classification": Examples(LETTERS, labels=["x", "y"] * 6),
    "multi-label": Examples(LETTERS, labels=[["x"], ["y"]] * 6),
    "regression": Examples(LETTERS, labels=[0.5, 1.5] * 6),
    "embedding": TextGroups((LETTERS, LETTERS[::-1])),
    "token-classification": EntityExamples(LETTERS, [[(0, 1, "PER")]] * 12),
    "question-answering": questions(),
    "multiple-choice": ChoiceExamples(LETTERS, [["x", "y"]] * 12, [0, 1] * 6),
    "relations": Examples(LETTERS, labels=["x", "y"] * 6),
    "masked-lm": Examples(LETTERS),
    "next-sentence": Examples(LETTERS, LETTERS, ["is_next", "not_next"] * 6),
    "translation": Examples(LETTERS, LETTERS),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_task(name):
    examples = EXAMPLES[name]
    folds = task_command(name).folds(examples, 3, 0)
    check_partition(folds, 12)
    assert max(map(len, folds)) <= 6
    if name == "question-answering":
        assert sum(len({examples.contexts[index] for index in fold}) for fold in folds) == 4
    if name in ("classification", "relations", "next-sentence"):
        labels = [[examples.labels[index] for index in fold] for fold in folds]
        assert all(len(part) == 4 and len(set(part)) == 2 for part in labels)
        assert all(set(Counter(part).values()) == {2} for part in labels)
