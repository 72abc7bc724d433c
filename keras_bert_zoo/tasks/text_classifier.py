"""Classification of a text or of a pair of texts, with one label or several."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.checkpoints.config_file import read_config
from keras_bert_zoo.config import is_regression
from keras_bert_zoo.data.columns import form_of, listed, rows_of_columns
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
from keras_bert_zoo.presets.io import find_preset
from keras_bert_zoo.tasks.answering import largest_difference
from keras_bert_zoo.tasks.batches import is_batched
from keras_bert_zoo.tasks.label_tensors import label_targets
from keras_bert_zoo.tasks.scores import (
    CLASSIFIER_ACTIVATIONS,
    NESTED_KEY,
    OLD_KEY,
    saved_activation,
    saved_keys,
)
from keras_bert_zoo.tasks.task import Task
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.training.arguments import class_weights
from keras_bert_zoo.training.keras_metrics import resolve_metrics
from keras_bert_zoo.training.outputs import OneHotLoss, OutputKind, Outputs

MULTI_LABEL = "multi_label_classification"
SINGLE_LABEL = "single_label_classification"


class TextClassifier(Task):
    """Assigns one label, or any number of labels, to a text or a pair of texts.

    `predict` and the exported model answer with

    - single-label: `label` (texts,) str, `score` (texts,) float32, its probability, and `scores`
      (texts, labels) float32, all probabilities in the order of `labels`;
    - multi-label: `label` (texts, labels) str, the labels whose probability is at least their
      `threshold`, from the most to the least probable and then empty strings; `score` (texts,
      labels) float32, the probabilities of these labels and then, falling too, those of the
      others, so that it stands beside `label`; and `scores` as above.

    `fit` takes labels as names or as ids, a list, NumPy array or pandas Series of them. A value
    that is a label's name is that label: with labels "1", "2", "3" the integer 1 is the first, and
    True is the label "True" or "true". Where no name is a number, integers are ids. This rule, see
    `LabelMap.id_of`, holds for `class_weight` and datasets, too. One-hot rows are taken as well;
    soft ones, such as 0.25 and 0.75, in a tf.data.Dataset with a loss that is compiled for them:
    "categorical_crossentropy" or the caller's own.
    For several labels a text, `fit` takes lists of names or ids, or rows of 0 and 1, one a label.

    Args:
        encoder: Encoder with a pooler.
        tokenizer: Tokenizer.
        labels: label names, in the order of their ids.
        multi_label: bool. Whether a text may have any number of labels.
        threshold: float in (0, 1), or one a label; see `tune_thresholds`. Multi-label only.
        head: ClassificationHead with one unit a label.
        activation: "softmax" or "sigmoid". What makes probabilities of the logits of a single-label
            classifier: some cross-encoders have the sigmoid.
        max_length: int, tokens. Longer texts are truncated; default 128.
        token_layout: "packed" or "padded"; see `Encoder`.

    Raises:
        ConfigError: fewer than two labels for a single-label task, repeated labels, a threshold
            outside (0, 1), or a `max_length` beyond the encoder's positions.
    """

    task_name: ClassVar[str] = "classification"
    takes_pairs: ClassVar[bool | None] = None
    head_kind: ClassVar[str] = "classification"

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
        token_layout: str = "packed",
        **kwargs: Any,
    ) -> None:
        if activation not in CLASSIFIER_ACTIVATIONS:
            raise ConfigError(
                f"`activation` must be one of {', '.join(CLASSIFIER_ACTIVATIONS)}, got "
                f"{activation!r}."
            )
        label_map = checked_labels(labels, multi_label=multi_label)
        threshold = check_thresholds(threshold, label_map.names)
        super().__init__(
            encoder,
            tokenizer,
            head or make_head(self.head_kind, encoder, len(label_map)),
            max_length=max_length,
            token_layout=token_layout,
            **kwargs,
        )
        self.label_map = label_map
        self.multi_label = multi_label
        self._threshold = threshold
        self.activation = activation
        self._source_config: dict[str, Any] = {}  # of the preset; it may name the activation

    @property
    def threshold(self) -> float | tuple[float, ...]:
        """The probability from which a label applies: one for all, or one a label."""
        return self._threshold

    @threshold.setter
    def threshold(self, value: float | Sequence[float]) -> None:
        self._threshold = check_thresholds(value, self.labels)

    @property
    def labels(self) -> list[str]:
        """The label names, in the order of their ids."""
        return list(self.label_map.names)

    @classmethod
    def from_preset(  # type: ignore[override]
        cls,
        preset: str | os.PathLike[str],
        *,
        labels: Sequence[str] | None = None,
        multi_label: bool | None = None,
        threshold: float | Sequence[float] | None = None,
        max_length: int | None = None,
        token_layout: str = "packed",
        dtype: Any = None,
        allow_pickle: bool = False,
        ignore_config_keys: Iterable[str] = (),
    ) -> Self:
        """Builds a classifier on a preset.

        Args:
            preset: catalogued name or Hugging Face directory.
            labels: names for a new head, to be trained; None loads the preset's own head.
            multi_label: bool. None: as the config says of the head that is loaded; False for a
                new one.
            threshold: float, or one a label. None: as saved with the head that is loaded,
                otherwise 0.5.
            max_length: int, tokens. None: as saved with the head that is loaded, otherwise 128.
            token_layout: "packed" or "padded".
            dtype: Keras dtype policy of the encoder, "mixed_bfloat16" for one.
            allow_pickle: bool. Whether a pytorch_model.bin may be fetched and read; see
                `open_checkpoint`.
            ignore_config_keys: config.json keys to leave unread although they are unknown.

        Returns:
            TextClassifier.

        Raises:
            ConfigError: an option or the preset's config is not supported.
            CheckpointError: the preset is not there, does not fit, or has no head to load.
        """
        ignored = frozenset(ignore_config_keys)
        if labels is not None:
            labels = LabelMap.of(labels).names
        directory = find_preset(preset, allow_pickle=allow_pickle)
        encoder, tokenizer, head, side = cls._load_parts(
            directory,
            head_width=None if labels is None else len(labels),
            ignore_config_keys=ignored,
            dtype=dtype,
            allow_pickle=allow_pickle,
        )
        activation, raw = "softmax", {}
        if labels is None:
            raw = read_config(directory)
            if is_regression(raw):
                raise CheckpointError(
                    f"{os.fspath(preset)!r} holds a regression model: load it as TextRegressor."
                )
            labels = _saved_labels(raw, head.units)
            _check_saved_thresholds(side, labels, directory)
            if multi_label is None:
                multi_label = raw.get("problem_type") == MULTI_LABEL
            if not multi_label:  # else the scores are those of the sigmoid
                activation = saved_activation(directory, raw, count=len(labels), ignore=ignored)
        task = cls(
            encoder,
            tokenizer,
            labels,
            multi_label=bool(multi_label),
            threshold=side.get("threshold", 0.5) if threshold is None else threshold,
            head=head,
            activation=activation,
            max_length=side.get("max_length") if max_length is None else max_length,
            token_layout=token_layout,
        )
        task._source_config = {key: value for key, value in raw.items() if key not in ignored}
        task._restore(side)
        return task

    @classmethod
    def _head_hint(cls) -> str:
        return "labels=[...]"

    def _task_config(self) -> dict[str, Any]:
        return {
            **self._activation_keys(),
            "problem_type": MULTI_LABEL if self.multi_label else SINGLE_LABEL,
            "id2label": {str(i): name for i, name in self.label_map.id2label().items()},
            "label2id": self.label_map.label2id(),
        }

    def _activation_keys(self) -> dict[str, Any]:
        source = self._source_config
        if not self.multi_label:
            return saved_keys(self.activation, source, count=len(self.label_map))
        # Not read for several labels: kept for others, if the source was such a model, too.
        kept = (NESTED_KEY, OLD_KEY) if source.get("problem_type") == MULTI_LABEL else ()
        return {key: source[key] for key in kept if key in source}

    def _side_config(self) -> dict[str, Any]:
        return super()._side_config() | {"threshold": self.threshold}

    def _graph_key(self) -> tuple[Any, ...]:
        return (*super()._graph_key(), self.label_map.names, self.threshold, self.activation)

    def _targets(self, y: Any, examples: Examples) -> np.ndarray:
        if y is None and examples.labels is None:
            raise DataError("There are no labels: give `y`, or Examples with labels.")
        y = rows_of_columns(y, self.labels)
        values = listed(examples.labels if y is None else y, "labels", flatten=not self.multi_label)
        if len(values) != len(examples):
            raise DataError(f"There are {len(examples)} texts but {len(values)} labels.")
        return self.label_map.targets(values, examples, multi_label=self.multi_label)

    def _batch_labels(self, targets: np.ndarray) -> np.ndarray:
        if self.multi_label:
            return targets
        return np.array([name.encode() for name in self.labels], object)[targets]

    def _dataset_targets(self, y: Any) -> Any:
        if self._compiled_by_caller and not self.multi_label and _are_rows(y):
            # Rows may be soft: 0.25, 0.75. Losses of Keras' take the model's labels, others any.
            width = y.shape[-1]
            if isinstance(self.loss, OneHotLoss) and width in (None, len(self.label_map)):
                return tf.ensure_shape(tf.cast(y, tf.float32), [None, len(self.label_map)])
            if not isinstance(self.loss, OneHotLoss | keras.losses.SparseCategoricalCrossentropy):
                return y
        return label_targets(y, self.label_map, multi_label=self.multi_label)

    def _sample_weights(
        self, targets: np.ndarray, class_weight: Any, sample_weight: Any
    ) -> np.ndarray | None:
        weights = super()._sample_weights(targets, None, sample_weight)
        if class_weight is None:
            return weights
        if self.multi_label:
            raise ConfigError("`class_weight` needs one label per text; use `sample_weight`.")
        count = len(self.label_map)
        if callable(getattr(class_weight, "to_dict", None)):
            class_weight = class_weight.to_dict()  # a Series, whose index names the labels
        if isinstance(class_weight, str) and class_weight == "balanced":
            # scikit-learn's formula: every class weighs the same in total.
            present = np.bincount(targets, minlength=count)
            per_class = len(targets) / (count * np.maximum(present, 1))
        elif not isinstance(class_weight, Mapping):
            per_class = class_weights(class_weight, count)
        else:
            per_class = np.ones(count)
            for index, weight in self._by_label(class_weight).items():
                per_class[index] = weight
        chosen = class_weights(per_class, count)[targets].astype(np.float32)
        return chosen if weights is None else chosen * weights

    def _by_label(self, values: Mapping[Any, Any]) -> dict[int, Any]:
        """Values by label, as ids; the keys are labels by the rule of `LabelMap.id_of`."""
        by_id: dict[int, Any] = {}
        for label, value in dict(values).items():
            index = self.label_map.id_of(label)
            if index is None:
                known = ", ".join(map(repr, self.labels[:20]))
                raise ConfigError(
                    f"`class_weight` names an unknown label: {label!r}. The labels are {known}."
                )
            if index in by_id:
                raise ConfigError(f"`class_weight` names {self.labels[index]!r} twice.")
            by_id[index] = value
        return by_id

    def _output_kind(self) -> Outputs:
        kind: OutputKind = "labels" if self.multi_label else "label"
        return Outputs(kind, type(self).__name__, len(self.label_map))

    def _default_loss(self) -> keras.losses.Loss:
        if self.multi_label:
            return keras.losses.BinaryCrossentropy(from_logits=True)
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def _default_metrics(self) -> list[keras.metrics.Metric]:
        if self.multi_label:  # on logits: probability 0.5 is logit 0
            return [keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)]
        return resolve_metrics(["accuracy"], self._output_kind())

    def _monitor(self) -> tuple[str, str]:
        # Accuracy over labels says little where most labels do not apply to most texts.
        return ("val_loss", "min") if self.multi_label else ("val_accuracy", "max")

    def answers(self, logits: tf.Tensor) -> dict[str, tf.Tensor]:
        """Turns logits into `label`, `score` and `scores`; see the class."""
        names = tf.constant(self.labels)
        if self.multi_label:
            scores = tf.sigmoid(logits)
            _, order = tf.math.top_k(scores, k=len(self.label_map))
            applies = tf.gather(scores >= tf.constant(self.threshold), order, batch_dims=1)
            # Thresholds of its own may rule out a label that is likelier than one that applies.
            first = tf.argsort(tf.cast(~applies, tf.int32), stable=True)
            order = tf.gather(order, first, batch_dims=1)
            applies = tf.gather(applies, first, batch_dims=1)
            score = tf.gather(scores, order, batch_dims=1)
            label = tf.where(applies, tf.gather(names, order), "")
            return {"label": label, "score": score, "scores": scores}
        scores = tf.sigmoid(logits) if self.activation == "sigmoid" else tf.nn.softmax(logits)
        return {
            "label": tf.gather(names, tf.argmax(scores, axis=-1)),
            "score": tf.reduce_max(scores, axis=-1),
            "scores": scores,
        }

    def answer_difference(
        self, expected: dict[str, np.ndarray], got: dict[str, np.ndarray], tolerance: float
    ) -> float | None:
        """Compares two answers; labels that are as good as equally probable may change places."""
        scores = expected["scores"]
        ids = {label.encode(): index for index, label in enumerate(self.labels)}
        label, other_label = expected["label"], got["label"]
        if label.ndim == 0:  # another label may win where the two were as good as equal
            index = ids.get(other_label.item())
            other = -np.inf if index is None else scores[index]
            same = other_label == label or scores.max() - other <= 2 * tolerance
        else:  # labels at their threshold may come and go, and neighbours swap
            changed = (set(label) ^ set(other_label)) - {b""}
            margin = np.abs(scores - np.array(self.threshold))
            same = all(label in ids and margin[ids[label]] <= tolerance for label in changed)
            if same and changed:  # `score` then has another order
                return largest_difference(scores, got["scores"])
        numbers = ("score", "scores")
        return max(largest_difference(expected[n], got[n]) for n in numbers) if same else None

    def tune_thresholds(self, x: Any, y: Any = None, *, batch_size: int = 64) -> list[float]:
        """Sets `threshold` to one a label, of the best F1 on data that was not trained on.

        They are saved and exported with the model. Measure it on other data than these: for
        these the thresholds were chosen. See `metrics.thresholds.tune_thresholds` for how rare
        labels are kept from following chance.

        Args:
            x: as in `fit`, but for datasets.
            y: as in `fit`.
            batch_size: int.

        Returns:
            list of float, in the order of `labels`.

        Raises:
            ConfigError: the classifier is a single-label one.
            DataError: labels that are unknown or do not fit the texts.
        """
        if not self.multi_label:
            raise ConfigError("Only a classifier built with `multi_label=True` has thresholds.")
        examples, targets = self._prepared(x, y)
        scores = tf.sigmoid(self.predict_logits(examples, batch_size=batch_size)).numpy()
        self.threshold = tune_thresholds(targets, scores).tolist()
        return list(self._threshold)  # type: ignore[arg-type]

    def report(
        self, x: Any, y: Any = None, *, batch_size: int = 64
    ) -> ClassificationReport | MultiLabelReport:
        """Accuracy, precision, recall and F1 by label, and the confusion matrix.

        Args:
            x: as in `fit`, but for datasets.
            y: as in `fit`.
            batch_size: int.

        Returns:
            ClassificationReport; MultiLabelReport for a multi-label classifier.

        Raises:
            DataError: labels that are unknown or do not fit the texts.
        """
        if is_batched(x):
            raise DataError(f"`report` takes texts in memory, got {form_of(x)}; see `evaluate`.")
        examples, targets = self._prepared(x, y)
        logits = self.predict_logits(examples, batch_size=batch_size)
        if self.multi_label:
            scores = tf.sigmoid(logits).numpy()
            decided = scores >= np.array(self.threshold, np.float32)
            return multi_label_report(targets, decided, self.labels)
        return classification_report(targets, logits.argmax(axis=-1), self.labels)


def checked_labels(labels: Sequence[str], *, multi_label: bool) -> LabelMap:
    """Takes the names that a caller gives for a classifier's labels.

    Args:
        labels: names.
        multi_label: bool.

    Returns:
        LabelMap.

    Raises:
        ConfigError: no list of names, repeated ones, or too few.
    """
    label_map = LabelMap.of(labels)
    if len(label_map) < (1 if multi_label else 2):
        raise ConfigError(
            f"A classifier needs at least {'one label' if multi_label else 'two labels'}, got "
            f"{list(label_map.names)!r}."
        )
    return label_map


def _are_rows(y: Any) -> bool:
    """Whether labels of a dataset are rows of numbers, not ids in a column."""
    if not isinstance(y, tf.Tensor) or y.dtype == tf.string:
        return False
    return y.shape.rank == 2 and y.shape[-1] != 1


def _check_saved_thresholds(side: dict[str, Any], labels: Sequence[str], directory: Path) -> None:
    saved = side.get("threshold")
    if isinstance(saved, list) and len(saved) != len(labels):
        raise CheckpointError(
            f"{directory / SIDE_FILE}: 'threshold' must be one number or one for each of the "
            f"{len(labels)} labels, got {len(saved)}."
        )


def _saved_labels(raw: dict[str, Any], count: int) -> list[str]:
    if "id2label" not in raw:
        return [f"LABEL_{i}" for i in range(count)]  # what transformers calls them
    names = LabelMap.from_id2label(raw["id2label"], count).names
    if len(names) != count:
        raise CheckpointError(
            f"config.json names {len(names)} labels, but the head in model.safetensors has {count}."
        )
    return list(names)
