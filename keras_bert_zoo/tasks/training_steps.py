"""The training steps of tasks, and what a task defines to be trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.tasks.task import Task
from keras_bert_zoo.training import replicas
from keras_bert_zoo.training.batch_source import BatchSource
from keras_bert_zoo.training.compiling import DEFAULT_LEARNING_RATE, compile_task, prepare_updates
from keras_bert_zoo.training.data import replicas_of
from keras_bert_zoo.training.epochs import StepFunctions
from keras_bert_zoo.training.fit import one_batch
from keras_bert_zoo.training.loss_units import SharedUnit
from keras_bert_zoo.training.objective import Objective
from keras_bert_zoo.training.optimizers import AdamW
from keras_bert_zoo.training.rows import RowBatches
from keras_bert_zoo.training.strategies import on_tpu
from keras_bert_zoo.training.updates import Updates


class TrainingSteps(Task):
    """The steps of a task on one batch, on any number of replicas.

    Subclasses define `examples`, `targets`, `rows` and `objective`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.compiled_by_caller = False
        self.jit_compiles = False
        self.measures_default = True
        self.fit_loss: Any = None
        self.loss_unit: SharedUnit = ""
        self.updates: Updates | None = None
        self.step_functions = StepFunctions()

    @property
    def static_shapes(self) -> bool:
        """Whether all batches of a run have one shape, as XLA and TPUs need."""
        return self.jit_compiles or on_tpu(self.distribute_strategy)

    # === Hooks ===

    def targets(self, examples: Any, y: Any = None) -> Any:
        """Returns the checked labels of examples, in the form that `rows` accepts.

        Args:
            examples: the result of `examples`.
            y: labels; None: those of the examples.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `targets`.")

    def rows(self, examples: Any, targets: Any, weights: np.ndarray | None = None) -> RowBatches:
        """Tokenizes examples into rows that make batches; see `training.rows`.

        Args:
            examples: the result of `examples`.
            targets: the result of `targets`; None: there are none.
            weights: float32, one per example, or None.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `rows`.")

    def objective(self, examples: Any = None) -> Objective:
        """Returns the loss, the metrics and the measures of the task.

        Args:
            examples: the data, for tasks whose loss or metric depends on its kind; None: data of
                the same kind as the last training data.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `objective`.")

    def batch_source(
        self,
        x: Any,
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        heldout: bool = False,
    ) -> BatchSource | None:
        """Returns the batches of data that `fit` reads from files; None for other data.

        Args:
            x: as in `fit`.
            batch_size: int.
            seed: int.
            shuffle: bool.
            heldout: bool. Whether to read the held-out examples, to evaluate on them.
        """
        return None

    # === Steps ===

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
            x: as in `fit`; or a dict of token ids, the model's inputs.
            y: as in `fit`.
            sample_weight: as in `fit`.
            class_weight: as in `fit`.
            return_dict: bool.

        Returns:
            the loss and the metrics of the batch: a float, a list, or a dict with `return_dict`.

        Raises:
            ConfigError: `compile` was not called, or the model has several replicas.
            DataError: as `fit`.
        """
        self._check_single("train_on_batch", "fit(..., epochs=1)")
        if not self.compiled_by_caller:
            raise ConfigError(
                "`train_on_batch` needs an optimizer: call `compile(optimizer)` before. (`fit` "
                "makes one too, but its learning rate has decayed to 0.)"
            )
        if isinstance(x, Mapping):
            return super().train_on_batch(x, y, sample_weight, class_weight, return_dict)
        batch = one_batch(self, x, y, sample_weight, class_weight, training=True)
        return super().train_on_batch(*batch, return_dict=return_dict)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """Evaluates one batch of texts, as `keras.Model.test_on_batch`; see `train_on_batch`."""
        self._check_single("test_on_batch", "evaluate")
        if not self.compiled:
            compile_task(self, AdamW(DEFAULT_LEARNING_RATE))
        if isinstance(x, Mapping):
            return super().test_on_batch(x, y, sample_weight, return_dict)
        batch = one_batch(self, x, y, sample_weight, training=False)
        return super().test_on_batch(*batch, return_dict=return_dict)

    def _maybe_symbolic_build(self, *args: Any, **kwargs: Any) -> None:
        # Keras takes a batch for this, which would shift the order of the epochs by one pass.
        if replicas_of(self) == 1:
            super()._maybe_symbolic_build(*args, **kwargs)

    def make_train_function(self, force: bool = False) -> None:
        """Creates the variables of the optimizer and the function of `train_on_batch`."""
        prepare_updates(self)
        super().make_train_function(force)

    def train_step(self, data: Any, regularizer: replicas.Regularizer | None = None) -> Any:
        """Trains on a batch, or on the share of one of several replicas."""
        updates = self.updates or prepare_updates(self)
        return replicas.train_step(
            self, data, self.loss_unit, updates, static=self.static_shapes, regularizer=regularizer
        )

    def test_step(self, data: Any) -> Any:
        """Evaluates a batch, as `train_step`."""
        if replicas_of(self) > 1 or self.static_shapes:
            return replicas.test_step(self, data, self.loss_unit, static=self.static_shapes)
        return super().test_step(data)

    def predict_step(self, data: Any) -> Any:
        """Computes the outputs of a batch, as `train_step`."""
        if replicas_of(self) > 1:
            return replicas.predict_step(self, data)
        return super().predict_step(data)

    def _check_single(self, method: str, instead: str) -> None:
        if replicas_of(self) > 1:
            raise ConfigError(
                f"`{method}` cannot divide a batch among {replicas_of(self)} replicas: use "
                f"`{instead}`."
            )
