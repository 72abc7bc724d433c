"""Regression on a text or a pair of texts."""

from __future__ import annotations

import os
from typing import Any, Self, Unpack

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.config import is_regression
from keras_bert_zoo.data.columns import numbers
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import CheckpointError
from keras_bert_zoo.heads.classifier import ClassificationHead
from keras_bert_zoo.heads.kinds import make_head
from keras_bert_zoo.metrics.classification import RegressionReport, regression_report
from keras_bert_zoo.presets.labels import label_config
from keras_bert_zoo.presets.score_activation import (
    REGRESSOR_ACTIVATIONS,
    saved_activation,
    saved_keys,
)
from keras_bert_zoo.tasks.loading import TaskSource
from keras_bert_zoo.tasks.options import LoadOptions, TaskOptions
from keras_bert_zoo.tasks.predicting import predict_logits
from keras_bert_zoo.tasks.saving import SavedParts
from keras_bert_zoo.tasks.spec import TaskSpec
from keras_bert_zoo.tasks.task import Context
from keras_bert_zoo.tasks.text_classifier import labelled_logits
from keras_bert_zoo.tasks.trainable import TrainableTask
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.training.objective import Objective
from keras_bert_zoo.training.rows import LabelledBatches, labelled_texts
from keras_bert_zoo.training.text_labels import labels_of, number_objective
from keras_bert_zoo.validation import check_choice


@keras.saving.register_keras_serializable("keras_bert_zoo")
class TextRegressor(TrainableTask):
    """Predicts a number for a text or a pair of texts.

    `predict` and the exported model answer with `score` (texts,) float32: the head's output after
    `activation`. Cross-encoders have the sigmoid, as in sentence-transformers. So have models with
    one label whose config does not say "regression", as in transformers' pipeline.

    Args:
        encoder: Encoder with a pooler.
        tokenizer: Tokenizer.
        head: ClassificationHead of one unit.
        activation: "linear", "sigmoid", "tanh" or "relu", from the head's output to the score.
            Losses and metrics use the score; the caller's own functions get the head's output.
        max_length: int, tokens. Longer texts are truncated; default 128.
        token_layout: "packed" or "padded"; see `Encoder`.

    Raises:
        ConfigError: an unknown `activation`, or a `max_length` beyond the encoder's positions.
    """

    spec = TaskSpec(
        name="regression",
        head="classification",
        arguments=("activation",),
        pairs=None,
        constants=("activation",),
    )

    def __init__(
        self,
        encoder: Encoder,
        tokenizer: Tokenizer,
        head: ClassificationHead | None = None,
        *,
        activation: str = "linear",
        max_length: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_choice("activation", activation, REGRESSOR_ACTIVATIONS)
        super().__init__(
            encoder,
            tokenizer,
            head or make_head(self.spec.head, encoder, 1),
            options=TaskOptions(max_length=max_length),
            **kwargs,
        )
        self.activation = activation
        # The keys of config.json that name the activation; without any, it is the sigmoid.
        if activation != "sigmoid":
            self.source_config = {"problem_type": "regression"}

    @classmethod
    def from_preset(
        cls,
        preset: str | os.PathLike[str],
        *,
        new_head: bool | None = None,
        activation: str | None = None,
        **options: Unpack[LoadOptions],
    ) -> Self:
        """Builds a regressor on a preset.

        Args:
            preset: catalogued name or Hugging Face directory.
            new_head: bool. Whether the head starts from fresh weights; None: unless the config says
                that the preset is a regression model (`problem_type`, or a single label).
            activation: str. See the class. None: as saved with the head; "linear" for a new head.
            **options: see `LoadOptions`.

        Returns:
            TextRegressor.

        Raises:
            ConfigError: an option or the preset's config is not supported.
            CheckpointError: the preset is missing, does not fit, or has no head to load.
        """
        source = TaskSource(cls, preset, **options)
        if new_head is None:
            new_head = not is_regression(source.config)
        parts = source.load(new_head=new_head, units=1 if new_head else None)
        if parts.head.units != 1:
            raise CheckpointError(
                f"{source.preset!r} has a head of {parts.head.units} outputs; a regressor has 1. "
                "Load it as TextClassifier, or train a new head with `new_head=True`."
            )
        saved = "linear" if new_head else saved_activation(source.directory, source.config, count=1)
        chosen = saved if activation is None else activation
        task = parts.build(cls, head=parts.head, activation=chosen)
        if not new_head and activation is None:
            task.source_config = source.config
        return task

    def saved_parts(self) -> SavedParts:
        """The problem type, the activation and transformers' only label, in config.json."""
        config = saved_keys(self.activation, self.source_config, count=1)
        if self.source_config.get("problem_type") is not None:
            config["problem_type"] = self.source_config["problem_type"]
        return SavedParts(config | label_config(["LABEL_0"]))

    def _scores(self, logits: Any) -> Any:
        return logits if self.activation == "linear" else getattr(tf.nn, self.activation)(logits)

    def targets(self, examples: Examples, y: Any = None) -> np.ndarray:
        """float32 (texts, 1)."""
        values = labels_of(examples, y, "targets")
        return numbers(values, "Targets", examples)[:, np.newaxis]

    def rows(
        self, examples: Examples, targets: Any, weights: np.ndarray | None = None
    ) -> LabelledBatches:
        """One row per text or pair of texts."""
        return labelled_texts(self, examples, targets, weights)

    def objective(self, examples: Any = None) -> Objective:
        """The mean squared error of the scores."""
        scores = None if self.activation == "linear" else self._scores
        return number_objective(type(self).__name__, scores)

    def decode(
        self, outputs: tf.Tensor, context: Context | None, *, options: Any = None
    ) -> dict[str, tf.Tensor]:
        """Converts the head's output to `score`."""
        return {"score": self._scores(outputs[:, 0])}

    def predict_logits(
        self, x: Any, *, batch_size: int | None = 64, verbose: Any = 0
    ) -> np.ndarray:
        """Computes the head's outputs, (texts, 1); see `tasks.predicting.predict_logits`."""
        return predict_logits(self, x, batch_size=batch_size, verbose=verbose)

    def report(self, x: Any, y: Any = None, *, batch_size: int = 64) -> RegressionReport:
        """Pearson's and Spearman's correlation, mean squared and mean absolute error.

        Args:
            x: as in `fit`, without datasets.
            y: as in `fit`.
            batch_size: int.

        Returns:
            RegressionReport.

        Raises:
            DataError: targets that are missing or not finite numbers.
        """
        targets, logits = labelled_logits(self, x, y, batch_size=batch_size)
        return regression_report(targets[:, 0], np.asarray(self._scores(logits[:, 0])))
