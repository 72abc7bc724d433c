"""Trains an encoder on a task of a suite, and measures it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.tasks.embedding.text_embedder import TextEmbedder
from keras_bert_zoo.tasks.question_answering.question_answerer import QuestionAnswerer
from keras_bert_zoo.tasks.text_classifier import TextClassifier
from keras_bert_zoo.tasks.text_regressor import TextRegressor
from keras_bert_zoo.tasks.token_classification.token_classifier import TokenClassifier

if TYPE_CHECKING:
    from keras_bert_zoo.data.examples import Examples
    from keras_bert_zoo.pretraining.evaluation.suite import Settings, SuiteData, SuiteTask, TestSet

__all__ = ["KINDS", "Outcome", "train_and_score"]

_SCORE_LIMITS = (0.0, 5.0)  # of STS-B, whose submissions must be in this range


def _classifier(preset: str, data: SuiteData, **load: Any) -> Any:
    return TextClassifier.from_preset(preset, labels=data.labels, **load)


def _multi_label(preset: str, data: SuiteData, **load: Any) -> Any:
    return TextClassifier.from_preset(preset, labels=data.labels, multi_label=True, **load)


def _regressor(preset: str, data: SuiteData, **load: Any) -> Any:
    return TextRegressor.from_preset(preset, new_head=True, **load)


def _tagger(preset: str, data: SuiteData, **load: Any) -> Any:
    return TokenClassifier.from_preset(preset, labels=data.labels, **load)


def _answerer(preset: str, data: SuiteData, **load: Any) -> Any:
    return QuestionAnswerer.from_preset(preset, new_head=True, **load)


def _embedder(preset: str, data: SuiteData, **load: Any) -> Any:
    return TextEmbedder.from_preset(preset, pooling="mean", **load)


KINDS: dict[str, Callable[..., Any]] = {
    "classification": _classifier,
    "multi-label": _multi_label,
    "regression": _regressor,
    "token-classification": _tagger,
    "question-answering": _answerer,
    "retrieval": _embedder,
}
"""`SuiteTask.kind` -> function of preset and data that builds the model with a new head."""


@dataclass(frozen=True)
class Outcome:
    """The result of a training.

    Args:
        scores: name of the measure -> float.
        predictions: name of the file of predictions -> its predictions as text.
    """

    scores: dict[str, float]
    predictions: dict[str, list[str]] = field(default_factory=dict)


def train_and_score(
    task: SuiteTask,
    data: SuiteData,
    preset: str,
    *,
    settings: Settings,
    seed: int,
    load: Mapping[str, Any] | None = None,
    fit: Mapping[str, Any] | None = None,
    tests: list[TestSet] | None = None,
) -> Outcome:
    """Trains a new head and the encoder of a preset on a task, and measures the result.

    The weights are those after the last epoch: a choice by the dev set would raise its scores.

    Args:
        task: SuiteTask.
        data: SuiteData.
        preset: catalogued name or Hugging Face directory.
        settings: Settings.
        seed: int. Of the new head, dropout and the order of the batches.
        load: options of `from_preset`, such as `dtype`; see `LoadOptions`.
        fit: more arguments of `fit`.
        tests: TestSets to predict.

    Returns:
        Outcome.

    Raises:
        ConfigError: an option or the preset's config is not supported.
        CheckpointError: the preset is missing or does not fit.
        TrainingError: gradients are not finite.
    """
    keras.utils.set_random_seed(seed)
    options = dict(load or {}) | {"max_length": settings.max_length}
    model = KINDS[task.kind](preset, data, **options)
    if settings.epochs:
        model.fit(
            data.train,
            batch_size=settings.batch_size,
            epochs=settings.epochs,
            learning_rate=settings.learning_rate,
            probe_epochs=settings.probe_epochs,
            seed=seed,
            **dict(fit or {}),
        )
    scores = {}
    for part, examples in data.dev.items():
        report = model.report(examples)
        for name, measure in task.measures.items():
            scores[f"{part} {name}".strip()] = measure(report)
    predictions = {test.name: _predictions(model, test.examples) for test in tests or ()}
    del model
    gc.collect()  # models have reference cycles
    return Outcome(scores, predictions)


def _predictions(model: Any, examples: Examples) -> list[str]:
    """The predicted labels, or scores within the limits, as GLUE's server reads them."""
    texts = examples.texts if examples.text_pairs is None else (examples.texts, examples.text_pairs)
    logits = model.predict_logits(texts)
    if isinstance(model, TextRegressor):
        return [f"{score:.3f}" for score in np.clip(logits[:, 0], *_SCORE_LIMITS)]
    if not isinstance(model, TextClassifier):
        raise ConfigError(f"Expected a classifier or regressor, received {type(model).__name__}.")
    return [model.labels[index] for index in logits.argmax(axis=-1)]
