"""A small suite of open data, for a quick picture of an encoder.

Samples and splits are fixed: seeds change the new head, dropout and the order of the batches, but
not the data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_bert_zoo.data.conll import read_conll
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.questions import QuestionExamples
from keras_bert_zoo.data.spans import check_entities
from keras_bert_zoo.data.squad import read_squad
from keras_bert_zoo.data.tables import read_table
from keras_bert_zoo.errors import DataError
from keras_bert_zoo.pretraining.evaluation.suite import (
    Settings,
    Suite,
    SuiteData,
    SuiteTask,
    attribute,
)

__all__ = ["QUICK"]

_SEED = 0  # of the samples
_INTENTS = "banking77/train.csv.gz", "banking77/test.csv"
_REVIEWS = "mr/rt-polarity.neg", "mr/rt-polarity.pos"
_EMOTIONS = "goemotions/train.tsv.gz", "goemotions/test.tsv.gz"
_ENTITIES = "wnut17/wnut17train.conll", "wnut17/emerging.test.annotated"
_QUESTIONS = ("tydiqa_goldp/tydiqa.goldp.en.train.json.gz",)  # the dev file has no answers


def _sample(examples: Any, count: int) -> Any:
    """Chooses examples at random, in the order of the file."""
    if len(examples) <= count:
        return examples
    chosen = np.random.default_rng(_SEED).permutation(len(examples))[:count]
    return examples.subset(np.sort(chosen))


def _per_label(examples: Examples, count: int) -> Examples:
    """Chooses `count` examples of each label, or all if it has fewer."""
    labels = np.asarray(examples.labels, str)
    order = np.random.default_rng(_SEED).permutation(len(examples))
    chosen = [order[labels[order] == label][:count] for label in np.unique(labels)]
    return examples.subset(np.sort(np.concatenate(chosen)))


def _names(train: Examples, dev: Examples) -> tuple[str, ...]:
    """The labels of the training data.

    Raises:
        DataError: the other data has another label.
    """
    labels = {name for row in train.labels or () for name in _label_names(row)}
    for index, row in enumerate(dev.labels or ()):
        unknown = [name for name in _label_names(row) if name not in labels]
        if unknown:
            raise DataError(
                f"{dev.where(index)}: expected a label of {train.path}, received {unknown[0]!r}"
            )
    return tuple(sorted(labels))


def _label_names(row: Any) -> list[str]:
    return row if isinstance(row, list) else [row]


def _read_intents(directory: Path) -> SuiteData:
    train, test = (read_table(directory / name, label="category") for name in _INTENTS)
    return SuiteData(_per_label(train, 20), {"": test}, _names(train, test))


def _read_reviews(directory: Path) -> SuiteData:
    """Takes the last tenth of each file as test data: the corpus has no split."""
    train: list[tuple[str, str, int]] = []
    test: list[tuple[str, str, int]] = []
    for name in _REVIEWS:
        label = name.rpartition(".")[2]
        read = read_table(directory / name, label=None, format="text")
        rows = [(text, label, row) for text, row in zip(read.texts, read.rows, strict=True)]
        cut = len(rows) - len(rows) // 10
        train += rows[:cut]
        test += rows[cut:]

    def examples(rows: list[tuple[str, str, int]]) -> Examples:
        texts, labels, numbers = (list(column) for column in zip(*rows, strict=True))
        return Examples(texts, None, labels, numbers, str(directory / "mr"))

    return SuiteData(_sample(examples(train), 2000), {"": examples(test)}, ("neg", "pos"))


def _read_emotions(directory: Path) -> SuiteData:
    train, test = (
        read_table(
            directory / name,
            label_kind="multi",
            quoting=False,
            columns=("text", "label", "key"),
        )
        for name in _EMOTIONS
    )
    return SuiteData(_sample(train, 4000), {"": _sample(test, 2000)}, _names(train, test))


def _read_entities(directory: Path) -> SuiteData:
    train, test = (read_conll(directory / name, lenient=True) for name in _ENTITIES)
    check_entities(test, train.labels, nested=False)
    return SuiteData(train, {"": test}, tuple(train.labels))


def _split_questions(directory: Path) -> tuple[QuestionExamples, QuestionExamples]:
    """Splits the questions into those to train and those to measure on."""
    questions = read_squad(directory / _QUESTIONS[0], skip_misplaced=True)
    return questions.split(0.12, _SEED)


def _read_questions(directory: Path) -> SuiteData:
    train, dev = _split_questions(directory)
    return SuiteData(_sample(train, 1000), {"": dev})


def _read_passages(directory: Path) -> SuiteData:
    """Pairs of a question and its passage; all passages are searched."""
    _, dev = _split_questions(directory)
    pairs = Examples(dev.questions, dev.contexts, None, dev.rows, dev.path)
    return SuiteData(pairs, {"": pairs})


def _task(
    name: str,
    kind: str,
    files: tuple[str, ...],
    read: Callable[[Path], SuiteData],
    measure: tuple[str, str],
    settings: Settings,
) -> SuiteTask:
    shown, figure = measure
    return SuiteTask(name, kind, files, read, {shown: attribute(figure)}, settings)


# Rates for small encoders, which need larger ones than BERT base; see the benchmarks.
_SMALL = Settings(epochs=3, learning_rate=1e-4, batch_size=32, max_length=64)

QUICK = Suite(
    "quick",
    (
        # 20 texts per intent, 30 epochs of the head alone first; measured on test.csv.
        _task(
            "banking77",
            "classification",
            _INTENTS,
            _read_intents,
            ("accuracy", "accuracy"),
            replace(_SMALL, probe_epochs=30),
        ),
        # 2,000 sentences; measured on the last tenth of each file.
        _task(
            "mr",
            "classification",
            _REVIEWS,
            _read_reviews,
            ("accuracy", "accuracy"),
            _SMALL,
        ),
        # 4,000 texts, 30 epochs of the head alone first; measured on 2,000 of the test set.
        _task(
            "goemotions",
            "multi-label",
            _EMOTIONS,
            _read_emotions,
            ("micro F1", "micro_f1"),
            replace(_SMALL, learning_rate=3e-4, probe_epochs=30),
        ),
        # All 3,394 sentences; entity F1 on the test set.
        _task(
            "wnut17",
            "token-classification",
            _ENTITIES,
            _read_entities,
            ("F1", "f1"),
            replace(_SMALL, learning_rate=3e-4),
        ),
        # 1,000 English questions; measured on 12 % of the questions.
        _task(
            "tydiqa",
            "question-answering",
            _QUESTIONS,
            _read_questions,
            ("F1", "f1"),
            replace(_SMALL, learning_rate=2e-4, batch_size=16, max_length=256, epochs=2),
        ),
        # No training: the mean of the token vectors finds each question's passage.
        _task(
            "passages",
            "retrieval",
            _QUESTIONS,
            _read_passages,
            ("MRR@10", "mrr_at_10"),
            Settings(epochs=0, max_length=256),
        ),
    ),
)
"""The quick suite, with the files of the repository's development data."""
