"""Classification of a text or of a pair of texts, with one label or several."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Self, Unpack

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.config import is_regression
from keras_bert_zoo.data.columns import form_of, rows_of_columns
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.labels import LabelMap
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import CheckpointError, ConfigError, DataError
from keras_bert_zoo.files import SIDE_FILE
from keras_bert_zoo.heads.classifier import ClassificationHead
from keras_bert_zoo.heads.kinds import make_head
from keras_bert_zoo.metrics.classification import (
    ClassificationReport,
    MultiLabelReport,
    classification_report,
    multi_label_report,
)
from keras_bert_zoo.metrics.thresholds import check_thresholds, tune_thresholds
from keras_bert_zoo.presets.labels import label_config
from keras_bert_zoo.presets.score_activation import (
    CLASSIFIER_ACTIVATIONS,
    NESTED_KEY,
    OLD_KEY,
    saved_activation,
    saved_keys,
)
from keras_bert_zoo.tasks.loading import TaskSource, saved_labels
from keras_bert_zoo.tasks.options import ClassificationOptions, LoadOptions, TaskOptions
from keras_bert_zoo.tasks.predicting import Answers, largest_difference, predict_logits
from keras_bert_zoo.tasks.saving import SavedParts
from keras_bert_zoo.tasks.spec import TaskSpec
from keras_bert_zoo.tasks.task import Context
from keras_bert_zoo.tasks.trainable import TrainableTask
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.training.batches import is_batched
from keras_bert_zoo.training.data import prepared
from keras_bert_zoo.training.objective import Objective
from keras_bert_zoo.training.rows import LabelledBatches, labelled_texts
from keras_bert_zoo.training.text_labels import (
    checked_labels,
    dataset_labels,
    label_objective,
    labels_of,
)
from keras_bert_zoo.validation import check_choice

_MULTI_LABEL = "multi_label_classification"


@keras.saving.register_keras_serializable("keras_bert_zoo")
class TextClassifier(TrainableTask):
    """Assigns one label, or any number of labels, to a text or a pair of texts.

    `predict` and the exported model answer with

    - single-label: `label` (texts,) str, `score` (texts,) float32, its probability, and `scores`
      (texts, labels) float32, all probabilities in the order of `labels`;
    - multi-label: `label` (texts, labels) str, the labels whose probability reaches their
      `threshold`, most probable first, then empty strings; `score` (texts, labels) float32, the
      probabilities of these labels and then, most probable first, of the others; `scores` as above.

    `fit` takes labels as names or as ids. A value that equals a label's name is that label: with
    labels "1", "2", "3" the integer 1 is the first, and True is the label "True" or "true". If no
    name is a number, integers are ids. `class_weight` and datasets follow the same rule, see
    `LabelMap.id_of`. One-hot rows are accepted, too. Soft rows, such as 0.25 and 0.75, need a
    tf.data.Dataset and a compiled loss for them: "categorical_crossentropy" or the caller's own.
    A multi-label classifier takes lists of names or ids, or rows of 0 and 1, one per label.

    Args:
        encoder: Encoder with a pooler.
        tokenizer: Tokenizer.
        labels: label names, in the order of their ids.
        multi_label: bool. Whether a text may have any number of labels.
        threshold: float in (0, 1), or one per label; see `tune_thresholds`. Multi-label only.
        head: ClassificationHead with one unit per label.
        activation: "softmax" or "sigmoid", from logits to the probabilities of a single-label
            classifier. Some cross-encoders have the sigmoid.
        max_length: int, tokens. Longer texts are truncated; default 128.
        token_layout: "packed" or "padded"; see `Encoder`.

    Raises:
        ConfigError: fewer than two labels for a single-label task, repeated labels, a threshold
            outside (0, 1), or a `max_length` beyond the encoder's positions.
    """

    spec = TaskSpec(
        name="classification",
        head="classification",
        head_hint="labels=[...]",
        options=ClassificationOptions,
        arguments=("labels", "multi_label", "activation"),
        pairs=None,
        constants=("label_map", "activation", "multi_label"),
    )

    def __init__(
        self,
        encoder: Encoder,
        tokenizer: Tokenizer,
        labels: Sequence[str],
        *,
        multi_label: bool = False,
        threshold: float | Sequence[float] = 0.5,
        head: ClassificationHead | None = None,
        activation: str = "softmax",
        max_length: int | None = None,
        options: TaskOptions | None = None,
        **kwargs: Any,
    ) -> None:
        check_choice("activation", activation, CLASSIFIER_ACTIVATIONS)
        label_map = checked_labels(labels, multi_label=multi_label)
        threshold = check_thresholds(threshold, label_map.names)
        super().__init__(
            encoder,
            tokenizer,
            head or make_head(self.spec.head, encoder, len(label_map)),
            options=options or ClassificationOptions(max_length=max_length, threshold=threshold),
            **kwargs,
        )
        self.label_map = label_map
        self.multi_label = multi_label
        self.activation = activation

    @property
    def threshold(self) -> float | tuple[float, ...]:
        """The least probability of a label that applies: one for all labels, or one per label."""
        threshold: float | tuple[float, ...] = self.options.threshold
        return threshold

    @threshold.setter
    def threshold(self, value: float | Sequence[float]) -> None:
        self.options = self.options.replace(threshold=check_thresholds(value, self.labels))

    @property
    def labels(self) -> list[str]:
        """The label names, in the order of their ids."""
        return list(self.label_map.names)

    @classmethod
    def from_preset(
        cls,
        preset: str | os.PathLike[str],
        *,
        labels: Sequence[str] | None = None,
        multi_label: bool | None = None,
        threshold: float | Sequence[float] | None = None,
        **options: Unpack[LoadOptions],
    ) -> Self:
        """Builds a classifier on a preset.

        Args:
            preset: catalogued name or Hugging Face directory.
            labels: names for a new head, to be trained; None loads the preset's own head.
            multi_label: bool. None: as saved with the head; False for a new head.
            threshold: float, or one per label. None: as saved with the head, otherwise 0.5.
            **options: see `LoadOptions`.

        Returns:
            TextClassifier.

        Raises:
            ConfigError: an option or the preset's config is not supported.
            CheckpointError: the preset is missing, does not fit, or has no head to load.
        """
        if labels is not None:
            labels = LabelMap.of(labels).names
        source = TaskSource(cls, preset, **options)
        units = None if labels is None else len(labels)
        parts = source.load(new_head=labels is not None, units=units)
        activation, config = "softmax", {}
        if labels is None:
            config = source.config
            if is_regression(config):
                raise CheckpointError(
                    f"{source.preset!r} holds a regression model: load it as TextRegressor."
                )
            labels = saved_labels(config, parts.head.units)
            saved = parts.side.get("threshold")
            if isinstance(saved, list) and len(saved) != len(labels):
                raise CheckpointError(
                    f"{source.directory / SIDE_FILE}: expected 'threshold' to be one number or "
                    f"{len(labels)} numbers, one per label, received {len(saved)}."
                )
            if multi_label is None:
                multi_label = config.get("problem_type") == _MULTI_LABEL
            if not multi_label:  # several labels always have the sigmoid
                activation = saved_activation(source.directory, config, count=len(labels))
        task = parts.build(
            cls,
            labels,
            multi_label=bool(multi_label),
            threshold=threshold,
            head=parts.head,
            activation=activation,
        )
        task.source_config = config
        return task

    def saved_parts(self) -> SavedParts:
        """Labels, problem type and activation, in config.json."""
        source = self.source_config
        if self.multi_label:
            # Not read here. Kept for other readers, if the source was multi-label, too.
            names = (NESTED_KEY, OLD_KEY) if source.get("problem_type") == _MULTI_LABEL else ()
            config = {key: source[key] for key in names if key in source}
            config["problem_type"] = _MULTI_LABEL
        else:
            config = saved_keys(self.activation, source, count=len(self.label_map))
            config["problem_type"] = "single_label_classification"
        return SavedParts(config | label_config(self.labels))

    # === Training ===

    def targets(self, examples: Examples, y: Any = None) -> np.ndarray:
        """int32 (texts,), ids; multi-label: float32 (texts, labels). See `LabelMap.targets`."""
        y = rows_of_columns(y, self.labels)
        labels = labels_of(examples, y, flatten=not self.multi_label)
        return self.label_map.targets(labels, examples, multi_label=self.multi_label)

    def rows(
        self, examples: Examples, targets: Any, weights: np.ndarray | None = None
    ) -> LabelledBatches:
        """One row per text or pair of texts."""
        return labelled_texts(self, examples, targets, weights)

    def objective(self, examples: Any = None) -> Objective:
        """The cross-entropy of labels; see `label_objective`."""
        return label_objective(
            type(self).__name__,
            self.label_map,
            multi_label=self.multi_label,
            dataset_targets=self._dataset_targets,
        )

    def _dataset_targets(self, y: Any) -> Any:
        loss = self.loss if self.compiled_by_caller else None
        return dataset_labels(y, self.label_map, multi_label=self.multi_label, loss=loss)

    # === The graph ===

    def decode(
        self, outputs: tf.Tensor, context: Context | None, *, options: Any = None
    ) -> dict[str, tf.Tensor]:
        """Converts logits to `label`, `score` and `scores`; see the class."""
        if self.multi_label:
            scores = tf.sigmoid(outputs)
            _, order = tf.math.top_k(scores, k=len(self.label_map))
            applies = tf.gather(scores >= tf.constant(self.threshold), order, batch_dims=1)
            # With one threshold per label, a label may apply although a more probable one does not.
            first = tf.argsort(tf.cast(~applies, tf.int32), stable=True)
            order = tf.gather(order, first, batch_dims=1)
            applies = tf.gather(applies, first, batch_dims=1)
            score = tf.gather(scores, order, batch_dims=1)
            # LiteRT selects no strings, but gathers them.
            no_label = len(self.label_map)
            label = tf.gather([*self.labels, ""], tf.where(applies, order, no_label))
            return {"label": label, "score": score, "scores": scores}
        scores = tf.sigmoid(outputs) if self.activation == "sigmoid" else tf.nn.softmax(outputs)
        return {
            "label": tf.gather(tf.constant(self.labels), tf.argmax(scores, axis=-1)),
            "score": tf.reduce_max(scores, axis=-1),
            "scores": scores,
        }

    def answer_difference(self, expected: Answers, got: Answers, tolerance: float) -> float | None:
        """Compares two answers; labels of almost equal probability may swap."""
        others = set(expected) - {"label", "score", "scores"}
        if any(not np.array_equal(expected[name], got[name]) for name in others):
            return None
        scores = expected["scores"]
        ids = {label.encode(): index for index, label in enumerate(self.labels)}
        label, other_label = expected["label"], got["label"]
        if label.ndim == 0:
            index = ids.get(other_label.item())
            other = -np.inf if index is None else scores[index]
            same = other_label == label or scores.max() - other <= 2 * tolerance
        else:  # labels at their threshold may differ
            changed = (set(label) ^ set(other_label)) - {b""}
            margin = np.abs(scores - np.array(self.threshold))
            same = all(label in ids and margin[ids[label]] <= tolerance for label in changed)
            if same and changed:  # `score` then has another order
                return largest_difference(scores, got["scores"])
        if not same:
            return None
        return max(largest_difference(expected[name], got[name]) for name in ("score", "scores"))

    def predict_logits(
        self, x: Any, *, batch_size: int | None = 64, verbose: Any = 0
    ) -> np.ndarray:
        """Computes logits, float32 (texts, labels); see `tasks.predicting.predict_logits`."""
        return predict_logits(self, x, batch_size=batch_size, verbose=verbose)

    def tune_thresholds(self, x: Any, y: Any = None, *, batch_size: int = 64) -> list[float]:
        """Sets one `threshold` per label, with the best F1 on held-out data.

        Thresholds are saved and exported with the model. Measure them on other data. See
        `metrics.thresholds.tune_thresholds` for the thresholds of rare labels.

        Args:
            x: as in `fit`, without datasets.
            y: as in `fit`.
            batch_size: int.

        Returns:
            list of float, in the order of `labels`.

        Raises:
            ConfigError: the classifier is a single-label one.
            DataError: labels that are unknown or do not fit the texts.
        """
        if not self.multi_label:
            raise ConfigError(
                "Expected a classifier with `multi_label=True`, received a "
                f"{type(self).__name__} with one label per text. It has no thresholds."
            )
        targets, logits = labelled_logits(self, x, y, batch_size=batch_size)
        self.threshold = tune_thresholds(targets, tf.sigmoid(logits).numpy()).tolist()
        return list(self.options.threshold)

    def report(
        self, x: Any, y: Any = None, *, batch_size: int = 64
    ) -> ClassificationReport | MultiLabelReport:
        """Accuracy, precision, recall and F1 by label, and the confusion matrix.

        Args:
            x: as in `fit`, without datasets.
            y: as in `fit`.
            batch_size: int.

        Returns:
            ClassificationReport; MultiLabelReport for a multi-label classifier.

        Raises:
            DataError: labels that are unknown or do not fit the texts.
        """
        targets, logits = labelled_logits(self, x, y, batch_size=batch_size)
        if self.multi_label:
            applies = tf.sigmoid(logits).numpy() >= np.array(self.threshold, np.float32)
            return multi_label_report(targets, applies, self.labels)
        return classification_report(targets, logits.argmax(axis=-1), self.labels)


def labelled_logits(task: Any, x: Any, y: Any, *, batch_size: int) -> tuple[Any, np.ndarray]:
    """Returns the targets and the logits of texts in memory, for the reports of a task.

    Args:
        task: Task with `predict_logits`.
        x: as in `fit`, without datasets.
        y: as in `fit`.
        batch_size: int.

    Raises:
        DataError: batches, or labels that do not fit the texts.
    """
    if task.objective().dataset_targets is not None and is_batched(x):
        raise DataError(f"Expected texts in memory, received {form_of(x)}. Use `evaluate`.")
    examples, targets = prepared(task, x, y)
    return targets, task.predict_logits(examples, batch_size=batch_size)
