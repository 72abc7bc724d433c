"""What Keras' users expect of a model beside `fit`: `compile`, single batches, strategies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.pipeline import LabelledRows, bucketed_batches, token_batches
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.tasks.answering import AnsweringModel
from keras_bert_zoo.training import replicas
from keras_bert_zoo.training.arguments import check_optimizer
from keras_bert_zoo.training.keras_metrics import resolve_metrics
from keras_bert_zoo.training.optimizers import AdamW
from keras_bert_zoo.training.outputs import Outputs, resolve_loss

DEFAULT_LEARNING_RATE = 2e-5


class TrainableModel(AnsweringModel):
    """A model with a loss and metrics of its own, trained on any number of replicas.

    A task says what it minimizes and measures (`_default_loss`, `_default_metrics`), and what its
    outputs are (`_output_kind`).
    """

    can_probe: ClassVar[bool] = True
    """Whether `fit` can train the head alone first: it reads the pooled output and no more."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._compiled_by_caller = False
        self._measures_default = True
        self._loss_unit: replicas.SharedUnit = ""

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Computes outputs of token ids; see the class."""
        if is_text(inputs):
            name = type(self).__name__
            raise DataError(
                f"A {name} is called on a dict of token ids, got texts. For answers to texts call "
                f"`{name}.predict(texts)`; in TensorFlow ops `{name}.answer_texts(tensor)`; for "
                "token ids `task.tokenizer(texts, max_length=...)`."
            )
        inputs, _ = replicas.split_rows(inputs)
        return super().__call__(inputs, *args, **kwargs)

    # === What is minimized and measured ===

    def _default_loss(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define `_default_loss`.")

    def _default_metrics(self) -> list[Any]:
        raise NotImplementedError(f"{type(self).__name__} must define `_default_metrics`.")

    def _output_kind(self) -> Outputs:
        """What the outputs are to losses and metrics that Keras knows by name."""
        return Outputs("other", type(self).__name__)

    def compile(
        self, optimizer: Any = None, loss: Any = None, *, metrics: Any = None, **kwargs: Any
    ) -> None:
        """Configures training, as `keras.Model.compile` does.

        Losses and metrics by name, and Keras' functions and classes, are taken to mean those on
        logits: `loss="sparse_categorical_crossentropy"`, `metrics=["accuracy", "AUC"]`. See
        `training.outputs.resolve_loss` and `training.keras_metrics.resolve_metrics`.

        Args:
            optimizer: Keras optimizer, or None for AdamW at a constant 2e-5. `fit` compiles with a
                warm-up and a decay fitted to its steps when `compile` was not called.
            loss: Keras loss, by name or on logits, or None for the task's own.
            metrics: list of Keras metrics, or None for the task's own.
            **kwargs: passed on to Keras.

        Raises:
            ConfigError: a loss or metric that the task's outputs do not fit, or an optimizer with
                a negative learning rate.
        """
        optimizer = AdamW(DEFAULT_LEARNING_RATE) if optimizer is None else optimizer
        self._compile(check_optimizer(optimizer), loss, metrics, **kwargs)
        self._compiled_by_caller = True
        self._measures_default = metrics is None

    def _compile(
        self, optimizer: Any, loss: Any = None, metrics: Any = None, **kwargs: Any
    ) -> None:
        outputs = self._output_kind()
        loss = self._default_loss() if loss is None else resolve_loss(loss, outputs)
        metrics = self._default_metrics() if metrics is None else resolve_metrics(metrics, outputs)
        weighted = kwargs.pop("weighted_metrics", None)
        self._loss_unit = replicas.loss_unit(loss)
        shared = loss
        if self._replicas() > 1:
            shared = replicas.ReplicaLoss(loss, self._replicas())
        super().compile(
            optimizer=optimizer,
            loss=shared,
            metrics=metrics,
            weighted_metrics=None if weighted is None else resolve_metrics(weighted, outputs),
            **kwargs,
        )
        self.loss = loss

    # === Batches and replicas ===

    def _batches(self, data: LabelledRows, *, batch_size: int, **options: Any) -> tf.data.Dataset:
        """Batches of tokenized examples, as the model and its loss take them.

        `options` are those of `bucketed_batches`; `shuffle=True, in_order=True` trains on rows as
        they come.
        """
        indices = bucketed_batches(data.lengths, batch_size=batch_size, **options)
        return token_batches(data, indices, pad_id=self.tokenizer.pad_token_id)

    def _scope(self) -> Any:
        """The scope of the strategy that this model's variables were created under."""
        return self.distribute_strategy.scope()

    def _replicas(self) -> int:
        return int(self.distribute_strategy.num_replicas_in_sync)

    def _shared_out(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Batches that divide by the replicas; see `training.replicas`."""
        return replicas.even_batches(batches, self._replicas())

    def _build_shared(self, batches: tf.data.Dataset) -> None:
        """Creates what metrics and the optimizer keep, under the strategy, from batches' shapes."""
        if self._replicas() > 1:
            with self._scope():
                self._symbolic_build(data_batch=batches.element_spec)

    def _maybe_symbolic_build(self, *args: Any, **kwargs: Any) -> None:
        # Keras takes a batch for it, which would be an epoch's: each pass has an order of its own.
        if self._replicas() == 1:
            super()._maybe_symbolic_build(*args, **kwargs)

    def train_step(self, data: Any) -> Any:
        """Trains on a batch; on one of several replicas, on its share of it."""
        if self._replicas() > 1:
            return replicas.train_step(self, data, self._loss_unit)
        return super().train_step(data)

    def test_step(self, data: Any) -> Any:
        """Measures on a batch, as `train_step`."""
        if self._replicas() > 1:
            return replicas.test_step(self, data, self._loss_unit)
        return super().test_step(data)

    def predict_step(self, data: Any) -> Any:
        """Computes the outputs of a batch, as `train_step`."""
        if self._replicas() > 1:
            return replicas.predict_step(self, data)
        return super().predict_step(data)

    # === Single batches ===

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """Trains on one batch of texts, as `keras.Model.train_on_batch`.

        Args:
            x: as in `fit`; or a dict of token ids, as the model is called with.
            y: as in `fit`.
            sample_weight: as in `fit`.
            class_weight: as in `fit`.
            return_dict: bool.

        Returns:
            the loss and the metrics of the batch: a float, a list, or a dict with `return_dict`.

        Raises:
            ConfigError: `compile` was not called, or the model is on several replicas.
            DataError: as `fit`.
        """
        self._check_single("train_on_batch", "fit(..., epochs=1)")
        if not self._compiled_by_caller:
            raise ConfigError(
                "`train_on_batch` needs an optimizer: call `compile(optimizer)` before. (The rate "
                "of the one that `fit` makes has fallen to 0.)"
            )
        if isinstance(x, Mapping):
            return super().train_on_batch(x, y, sample_weight, class_weight, return_dict)
        batch = self._one_batch(x, y, sample_weight, class_weight, training=True)
        return super().train_on_batch(*batch, return_dict=return_dict)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """Measures on one batch of texts, as `keras.Model.test_on_batch`; see `train_on_batch`."""
        self._check_single("test_on_batch", "evaluate")
        if not self.compiled:
            self._compile(AdamW(DEFAULT_LEARNING_RATE))
        if isinstance(x, Mapping):
            return super().test_on_batch(x, y, sample_weight, return_dict)
        batch = self._one_batch(x, y, sample_weight)
        return super().test_on_batch(*batch, return_dict=return_dict)

    def predict_on_batch(self, x: Any) -> Any:
        """Answers one batch of texts, as `predict`; of a dict of token ids, the outputs."""
        if isinstance(x, Mapping):
            return super().predict_on_batch(x)
        return self.predict(x)

    def _one_batch(
        self,
        x: Any,
        y: Any,
        sample_weight: Any,
        class_weight: Any = None,
        *,
        training: bool = False,
    ) -> tuple[Any, ...]:
        """All examples as one batch: inputs, and labels and weights as far as there are."""
        raise NotImplementedError(f"{type(self).__name__} must define `_one_batch`.")

    def _check_single(self, method: str, instead: str) -> None:
        if self._replicas() > 1:
            raise ConfigError(
                f"`{method}` does not share a batch out to {self._replicas()} replicas: use "
                f"`{instead}`."
            )


def is_text(value: Any) -> bool:
    """Whether a value is a text, or a list, Series, array or tensor of texts, however deep."""
    while isinstance(value, list | tuple) and value:
        value = value[0]
    if not tf.is_tensor(value) and callable(getattr(value, "to_numpy", None)):
        value = value.to_numpy()  # a column or table of pandas
    if isinstance(value, str | bytes):
        return True
    if tf.is_tensor(value):
        return bool(value.dtype == tf.string)
    return isinstance(value, np.ndarray) and value.dtype.kind in "OSU"
