"""Regression on a text or a pair of texts."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, ClassVar, Self

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.checkpoints.config_file import read_config
from keras_bert_zoo.config import is_regression
from keras_bert_zoo.data.columns import form_of, listed, numbers
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import CheckpointError, ConfigError, DataError
from keras_bert_zoo.metrics.classification import RegressionReport, regression_report
from keras_bert_zoo.presets.io import find_preset
from keras_bert_zoo.tasks.batches import is_batched
from keras_bert_zoo.tasks.scores import (
    REGRESSOR_ACTIVATIONS,
    saved_activation,
    saved_keys,
)
from keras_bert_zoo.tasks.task import Task
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.training.keras_metrics import resolve_metrics
from keras_bert_zoo.training.outputs import Outputs, resolve_loss


class TextRegressor(Task):
    """Predicts a number for a text or a pair of texts.

    `predict` and the exported model answer with `score` (texts,) float32: the head's output, after
    `activation`. A cross-encoder, or a model with one label that is not said to be a regression,
    has the sigmoid there, as in sentence-transformers and in transformers' pipeline.

    Args:
        encoder: Encoder with a pooler.
        tokenizer: Tokenizer.
        head: ClassificationHead of one unit.
        activation: "linear", "sigmoid", "tanh" or "relu". What makes the score of the head's
            output; training and measuring go by it, too. A loss or metric of the caller's own gets
            the output before it.
        max_length: int, tokens. Longer texts are truncated; default 128.
        token_layout: "packed" or "padded"; see `Encoder`.

    Raises:
        ConfigError: an unknown `activation`, or a `max_length` beyond the encoder's positions.
    """

    task_name: ClassVar[str] = "regression"
    takes_pairs: ClassVar[bool | None] = None
    head_kind: ClassVar[str] = "classification"

    def __init__(
        self, encoder: Encoder, tokenizer: Tokenizer, *args: Any, activation: str = "linear",
        **kwargs: Any,
    ) -> None:  # fmt: skip
        if activation not in REGRESSOR_ACTIVATIONS:
            raise ConfigError(
                f"`activation` must be one of {', '.join(REGRESSOR_ACTIVATIONS)}, got "
                f"{activation!r}."
            )
        super().__init__(encoder, tokenizer, *args, **kwargs)
        self.activation = activation
        # What config.json says of the score. One label has the sigmoid where nothing is said.
        self._source_config: dict[str, Any] = {}
        if activation != "sigmoid":
            self._source_config = {"problem_type": "regression"}

    @classmethod
    def load(cls, directory: str | os.PathLike[str], **kwargs: Any) -> Self:
        """Loads what `save` wrote, or a Hugging Face directory with a head of one output.

        Args:
            directory: path.
            **kwargs: as for `from_preset`.

        Returns:
            TextRegressor.

        Raises:
            ConfigError: the config asks for something unsupported.
            CheckpointError: the directory is not there, has no head or does not fit.
        """
        return super().load(directory, **{"new_head": False} | kwargs)

    @classmethod
    def from_preset(  # type: ignore[override]
        cls,
        preset: str | os.PathLike[str],
        *,
        new_head: bool | None = None,
        activation: str | None = None,
        max_length: int | None = None,
        token_layout: str = "packed",
        dtype: Any = None,
        allow_pickle: bool = False,
        ignore_config_keys: Iterable[str] = (),
    ) -> Self:
        """Builds a regressor on a preset.

        Args:
            preset: catalogued name or Hugging Face directory.
            new_head: bool. True starts a new head, to be trained; False loads the preset's own;
                None loads it where the config says that the preset is a regression model
                (`problem_type`, or a single label).
            activation: str. See the class. None: as the files say of the head that is loaded;
                "linear" for a new one.
            max_length: int, tokens. None: as saved with the head that is loaded, otherwise 128.
            token_layout: "packed" or "padded".
            dtype: Keras dtype policy of the encoder, "mixed_bfloat16" for one.
            allow_pickle: bool. Whether a pytorch_model.bin may be fetched and read; see
                `open_checkpoint`.
            ignore_config_keys: config.json keys to leave unread although they are unknown.

        Returns:
            TextRegressor.

        Raises:
            ConfigError: an option or the preset's config is not supported.
            CheckpointError: the preset is not there, does not fit, or has no head to load.
        """
        ignored = frozenset(ignore_config_keys)
        directory = find_preset(preset, allow_pickle=allow_pickle)
        raw = read_config(directory)
        if new_head is None:
            new_head = not is_regression(raw)
        encoder, tokenizer, head, side = cls._load_parts(
            directory,
            head_width=1 if new_head else None,
            ignore_config_keys=ignored,
            dtype=dtype,
            allow_pickle=allow_pickle,
        )
        if head.units != 1:
            raise CheckpointError(
                f"{os.fspath(preset)!r} has a head of {head.units} outputs; a regressor has 1. "
                "Load it as TextClassifier, or train a new head with `new_head=True`."
            )
        saved = "linear"
        if not new_head:
            saved = saved_activation(directory, raw, count=1, ignore=ignored)
        task = cls(
            encoder,
            tokenizer,
            head,
            activation=saved if activation is None else activation,
            max_length=side.get("max_length") if max_length is None else max_length,
            token_layout=token_layout,
        )
        if not new_head and activation is None:
            task._source_config = {key: value for key, value in raw.items() if key not in ignored}
        task._restore(side)
        return task

    @classmethod
    def _head_hint(cls) -> str:
        return "new_head=True"

    def _task_config(self) -> dict[str, Any]:
        problem = self._source_config.get("problem_type")
        return {
            **saved_keys(self.activation, self._source_config, count=1),
            **({} if problem is None else {"problem_type": problem}),
            "id2label": {"0": "LABEL_0"},
            "label2id": {"LABEL_0": 0},
        }

    def _graph_key(self) -> tuple[Any, ...]:
        return (*super()._graph_key(), self.activation)

    def _scores(self, logits: Any) -> Any:
        return logits if self.activation == "linear" else getattr(tf.nn, self.activation)(logits)

    def _targets(self, y: Any, examples: Examples) -> np.ndarray:
        if y is None and examples.labels is None:
            raise DataError("There are no targets: give `y`, or Examples with float labels.")
        values = listed(examples.labels if y is None else y, "targets", flatten=True)
        if len(values) != len(examples):
            raise DataError(f"There are {len(examples)} texts but {len(values)} targets.")
        return numbers(values, "Targets", examples)[:, np.newaxis]

    def _dataset_targets(self, y: Any) -> Any:
        if not isinstance(y, tf.Tensor) or not (y.dtype.is_integer or y.dtype.is_floating):
            raise DataError(f"Targets in a dataset must be numbers, got {y}.")
        rank = y.shape.rank
        if rank not in (None, 1, 2) or (rank == 2 and y.shape[1] not in (None, 1)):
            raise DataError(
                "Expected targets of shape (B,) or (B, 1) in a dataset, one number per text, got "
                f"shape {y.shape}: map the dataset to the column to predict."
            )
        if rank != 2:
            y = tf.reshape(y, [tf.shape(y)[0], -1])
        y = tf.ensure_shape(tf.cast(y, tf.float32), [None, 1])
        return tf.debugging.assert_all_finite(y, "Targets must be finite numbers.")

    def _output_kind(self) -> Outputs:
        scores = None if self.activation == "linear" else self._scores
        return Outputs("number", type(self).__name__, scores=scores)

    def _default_loss(self) -> keras.losses.Loss:
        return resolve_loss("mean_squared_error", self._output_kind())

    def _default_metrics(self) -> list[keras.metrics.Metric]:
        return resolve_metrics(["mean_absolute_error"], self._output_kind())

    def answers(self, logits: tf.Tensor) -> dict[str, tf.Tensor]:
        """Turns the head's output into `score`."""
        return {"score": self._scores(logits[:, 0])}

    def report(self, x: Any, y: Any = None, *, batch_size: int = 64) -> RegressionReport:
        """Pearson's and Spearman's correlation, mean squared and mean absolute error.

        Args:
            x: as in `fit`, but for datasets.
            y: as in `fit`.
            batch_size: int.

        Returns:
            RegressionReport.

        Raises:
            DataError: targets that are missing or not finite numbers.
        """
        if is_batched(x):
            raise DataError(f"`report` takes texts in memory, got {form_of(x)}; see `evaluate`.")
        examples, targets = self._prepared(x, y)
        logits = self.predict_logits(examples, batch_size=batch_size)
        return regression_report(targets[:, 0], np.asarray(self._scores(logits[:, 0])))
