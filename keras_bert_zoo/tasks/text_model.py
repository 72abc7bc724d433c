"""What tasks share in training and measuring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.columns import form_of
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.pipeline import (
    LabelledRows,
    TokenRows,
    batch_maker,
    length_order,
    restore_order,
)
from keras_bert_zoo.encoders.encoder import INPUT_NAMES
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.tasks.batches import (
    Labelled,
    check_ends,
    evaluation_dataset,
    is_batched,
    prediction_batches,
    python_batches,
    text_arrays,
    training_dataset,
)
from keras_bert_zoo.tasks.inputs import as_examples, tokenized_dataset
from keras_bert_zoo.tasks.keras_model import DEFAULT_LEARNING_RATE, TrainableModel
from keras_bert_zoo.tasks.probing import probe_task
from keras_bert_zoo.tasks.rows import check_count, packed_rows, part_of
from keras_bert_zoo.training.arguments import as_callbacks, check_arguments
from keras_bert_zoo.training.loop import default_optimizer, run_fit, sets_the_rate
from keras_bert_zoo.training.optimizers import AdamW


class TextModel(TrainableModel):
    """A model that is trained and measured on text.

    For training a task says how examples become rows of tokens with labels (`_prepared`,
    `_labelled_rows`), and what is minimized.

    Attributes:
        training_record: dict. How the weights came about, kept in the saved directory.
        column_options: dict. How the command `train` read its file, kept there, too: its options
            by name. They are the defaults of `evaluate` and `predict`.
    """

    takes_datasets: ClassVar[bool] = True
    """Whether `fit`, `evaluate` and `predict` take a tf.data.Dataset of texts and labels."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.training_record: dict[str, Any] = {}
        self.column_options: dict[str, Any] = {}

    # === Text to batches ===

    def tokenize_rows(
        self, texts: Sequence[str], text_pairs: Sequence[str] | None = None
    ) -> TokenRows:
        """Tokenizes texts into packed rows of at most `max_length` tokens.

        Args:
            texts: list of str or bytes.
            text_pairs: list of the same length, or None.

        Returns:
            TokenRows.
        """
        return packed_rows(self.tokenizer, texts, text_pairs, max_length=self.max_length)

    def _labelled_batches(
        self,
        x: Any,
        y: Any,
        batch_size: int,
        sample_weight: Any = None,
        steps: int | None = None,
    ) -> tuple[tf.data.Dataset, tuple[Any, Any] | None]:
        """Batches to measure on, in order of length; only some of them, in their own order.

        And what they were made of, as `_prepared` gives it; None for batches.
        """
        prepared = None
        if is_batched(x):
            if y is not None or sample_weight is not None:
                raise ConfigError("A dataset brings its own labels and weights: give `x` alone.")
            self._check_takes_batches(x)
            dataset = evaluation_dataset(x, self._string_batch, steps=steps)
            if steps is None:
                check_ends(
                    dataset, "Measuring reads", "give `steps` (to `fit`: `validation_steps`)"
                )
            batches = self._tokenized(dataset)
            first = dataset.element_spec[0]
            if not isinstance(first, dict):
                self._check_number_of_texts(2 if isinstance(first, tuple) else 1)
        else:
            prepared = examples, targets = self._prepared(x, y)
            self._check_pairs(examples)
            weights = self._sample_weights(targets, None, sample_weight)
            data = self._labelled_rows(examples, targets, weights)
            batches = self._batches(
                data, batch_size=batch_size, shuffle=False, in_order=steps is not None
            )
        return self._shared_out(batches if steps is None else batches.take(steps)), prepared

    def _check_pairs(self, examples: Any) -> None:
        """Checks the number of texts of examples to measure on."""
        if self.takes_pairs is None:  # elsewhere `_prepared` gives what the task takes
            self._check_number_of_texts(1 if examples.text_pairs is None else 2)

    def _one_batch(
        self,
        x: Any,
        y: Any,
        sample_weight: Any,
        class_weight: Any = None,
        *,
        training: bool = False,
    ) -> tuple[Any, ...]:
        examples, targets = self._prepared(x, y)
        if training:
            self._adopt(examples)
        else:
            self._check_pairs(examples)
        weights = self._sample_weights(targets, class_weight, sample_weight)
        data = self._labelled_rows(examples, targets, weights)
        return self._batch_of(data, seed=int(self.optimizer.iterations) if training else 0)

    def _batch_of(self, data: LabelledRows, *, seed: int) -> tuple[Any, ...]:
        """All rows as one batch, in their order; `seed` is for what is drawn at random."""
        return batch_maker(data, pad_id=self.tokenizer.pad_token_id)(
            tf.range(len(data), dtype=tf.int64)
        )

    def _targets(self, y: Any, examples: Any) -> Any:
        """Labels of examples as `_labelled_rows` takes them, checked."""
        raise NotImplementedError(f"{type(self).__name__} must define `_targets`.")

    def _prepared(self, x: Any, y: Any) -> tuple[Any, Any]:
        examples = self._examples(x)
        if not len(examples):
            raise DataError("There are no examples: expected at least one text.")
        return examples, self._targets(y, examples)

    def _labelled_rows(
        self, examples: Any, targets: Any, weights: np.ndarray | None = None
    ) -> LabelledRows:
        """Tokenizes examples and sets their labels beside the tokens."""
        rows = self.tokenize_rows(examples.texts, examples.text_pairs)
        return LabelledRows(rows, targets, weights=weights)

    def _adopt(self, examples: Any) -> None:
        """Takes over what the training data says about the task."""
        if self.takes_pairs is None:
            self.pair = examples.text_pairs is not None

    def _tokenized(self, dataset: tf.data.Dataset, *, labelled: bool = True) -> tf.data.Dataset:
        self._check_takes_batches(dataset)
        return tokenized_dataset(
            dataset,
            self.tokenizer,
            max_length=self.max_length,
            targets=self._dataset_targets if labelled else None,
        )

    def _training_data(
        self,
        x: Any,
        callbacks: Sequence[Any],
        seed: int | None,
        steps_per_epoch: int | None = None,
    ) -> tuple[Any, list[Any]]:
        """Makes datasets of batches that Python makes; see `training_dataset`."""
        if is_batched(x):
            self._check_takes_batches(x)
        if (
            steps_per_epoch is None
            and python_batches(x)
            and getattr(x, "num_batches", None) is None
        ):
            raise ConfigError(
                f"`fit` got {form_of(x)}, which does not say how many batches it has: give "
                "`steps_per_epoch`."
            )
        return training_dataset(x, self._string_batch, callbacks, seed=seed)

    def _check_takes_batches(self, x: Any) -> None:
        if not self.takes_datasets:
            raise DataError(
                f"{type(self).__name__} takes examples in memory, got {form_of(x)}: collect what "
                "its batches hold in lists; see the class."
            )

    def _string_batch(self, parts: Labelled) -> Labelled:
        """A batch that Python made, checked, in the form of a dataset's batch of strings."""
        x, y, *weights = parts
        if isinstance(x, Mapping) and set(x) == set(INPUT_NAMES):
            texts: Any = {name: np.asarray(x[name], np.int32) for name in INPUT_NAMES}
            examples = Examples([""] * len(texts[INPUT_NAMES[0]]))
        else:
            examples = self._examples(x)
            columns = (examples.texts, examples.text_pairs)
            texts = text_arrays(*(column for column in columns if column is not None))
        targets = self._targets(y, examples)
        counts = [self._sample_weights(targets, None, w) for w in weights if w is not None]
        return (texts, self._batch_labels(targets), *counts)

    def _batch_labels(self, targets: np.ndarray) -> np.ndarray:
        """Targets as labels of a dataset, which `_dataset_targets` makes the same targets of."""
        return targets

    def _dataset_targets(self, y: Any) -> Any:
        """The labels of a dataset's batch as the loss takes them."""
        return y

    # === Training and answering ===

    def fit(
        self,
        x: Any,
        y: Any = None,
        *,
        validation_data: Any = None,
        batch_size: int | None = 32,
        epochs: int = 3,
        learning_rate: float = 5e-5,
        warmup_fraction: float = 0.1,
        weight_decay: float = 0.01,
        global_clipnorm: float | None = 1.0,
        class_weight: Any = None,
        sample_weight: Any = None,
        patience: int | None = None,
        probe_epochs: int = 0,
        seed: int = 0,
        callbacks: Any = (),
        verbose: Any = "auto",
        shuffle: bool = True,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_split: float = 0.0,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: Any = 1,
    ) -> keras.callbacks.History:
        """Fine-tunes on text.

        Batches are bucketed by length. Unless `compile` was called before, the optimizer is AdamW
        with a linear warm-up and a linear decay to zero over all steps. With `validation_data`
        the weights of the best epoch are kept, also when Ctrl-C ends the training.

        Args:
            x: list of str, or a NumPy array or pandas Series of them; a tuple of two such for
                pairs; Examples; or batches (texts, labels) or (texts, labels, weights): a
                tf.data.Dataset, a `keras.utils.PyDataset`, or a generator.
            y: labels, one per text, as the task takes them: list, NumPy array or pandas Series;
                None when `x` is Examples with labels, or comes in batches.
            validation_data: (x, y), (x, y, sample_weight), Examples with labels, or batches. A
                generator is read once, to its end or up to `validation_steps`, and kept.
            batch_size: int. Texts per step, over all devices. None: 32.
            epochs: int.
            learning_rate: float. The peak of the schedule. With a callback that sets the rate
                (LearningRateScheduler, ReduceLROnPlateau) there is no schedule: the rate is
                constant until the callback sets it.
            warmup_fraction: float in [0, 1]. Share of the steps in which the rate rises.
            weight_decay: float. Biases and LayerNorm are left out.
            global_clipnorm: float or None. Gradients are scaled down to this global L2 norm.
            class_weight: dict from label (or id) to float, a list or array with one number a
                label, in their order, or "balanced"; single-label only.
            sample_weight: float, one per text.
            patience: int or None. Epochs without improvement on `validation_data` before training
                stops; None: never.
            probe_epochs: int. First train the head alone for as many passes over the encoder's
                frozen outputs (arXiv 2202.10054). For a fresh head: 30 take seconds and save
                an epoch or more.
            seed: int. The order of the batches hangs on it alone. Initial weights and dropout
                follow `keras.utils.set_random_seed`.
            callbacks: Keras callbacks.
            verbose: as in Keras.
            shuffle: bool. False: batches take the texts in their order; of no account for a
                dataset.
            initial_epoch: int. The epoch at which an earlier run is taken up: the schedule and the
                order of the batches go on from there.
            steps_per_epoch: int or None. Steps of an epoch; None: one pass. For more than one pass
                the data is repeated.
            validation_split: float in [0, 1). Share of the texts, the last ones, to validate on;
                not with `validation_data`, nor with datasets.
            validation_steps: int or None. Batches to validate on, the first ones; None: all. A
                generator or a dataset without an end needs it. Measures of whole texts and of
                rankings, such as `val_f1` of entities and of answers, are of all held-out data.
            validation_batch_size: int or None. None: as `batch_size`.
            validation_freq: int, or a list of epochs from 1 on, in which to validate.

        Returns:
            keras.callbacks.History.

        Raises:
            DataError: labels that are unknown or do not fit the texts.
            ConfigError: options that are out of their range or contradict each other.
        """
        batch_size = 32 if batch_size is None else batch_size
        check_arguments(
            batch_size=batch_size,
            epochs=epochs,
            learning_rate=learning_rate,
            warmup_fraction=warmup_fraction,
            weight_decay=weight_decay,
            global_clipnorm=global_clipnorm,
            patience=patience,
            probe_epochs=probe_epochs,
            seed=seed,
            shuffle=shuffle,
            initial_epoch=initial_epoch,
            steps_per_epoch=steps_per_epoch,
            validation_split=validation_split,
            validation_steps=validation_steps,
            validation_batch_size=validation_batch_size,
            validation_freq=validation_freq,
        )
        x, callbacks = self._training_data(
            x, as_callbacks(callbacks), seed if shuffle else None, steps_per_epoch
        )
        if isinstance(x, tf.data.Dataset):
            if y is not None or class_weight is not None or sample_weight is not None:
                raise ConfigError("A dataset brings its own labels and weights: give `x` alone.")
            if probe_epochs:
                raise ConfigError("`probe_epochs` needs texts in memory, not a dataset.")
            if validation_split and validation_data is None:
                raise ConfigError(
                    "`validation_split` needs texts in memory, not a dataset: pass "
                    "`validation_data`, made with the dataset's `take` and `skip`."
                )
            batches = self._tokenized(x)
            first = x.element_spec[0]
            if not isinstance(first, dict):
                count = 2 if isinstance(first, tuple) else 1
                if self.takes_pairs is None:
                    self.pair = count == 2
                self._check_number_of_texts(count)
        else:
            if validation_split and validation_data is None:
                x, y, sample_weight, validation_data = self._split(
                    x, y, sample_weight, validation_split
                )
            examples, targets = self._prepared(x, y)
            weights = self._sample_weights(targets, class_weight, sample_weight)
            self._adopt(examples)
            data = self._labelled_rows(examples, targets, weights)
            if probe_epochs:
                probe_task(self, data, probe_epochs)
            batches = self._batches(
                data,
                batch_size=batch_size,
                seed=seed,
                in_order=not shuffle,
                first_epoch=initial_epoch,
            )
        if steps_per_epoch is None:
            check_ends(batches, "An epoch reads", "give `steps_per_epoch`")
        steps = max(0, int(batches.cardinality()))
        if steps_per_epoch is not None:
            if batches.cardinality() != tf.data.INFINITE_CARDINALITY:
                batches = batches.repeat()
            steps = steps_per_epoch
        validation = None
        if validation_data is not None:
            x, y, weights = self._validation_parts(validation_data)
            size = validation_batch_size or batch_size
            validation, held_out = self._labelled_batches(x, y, size, weights, validation_steps)
            if self._measures_default and held_out is not None:
                callbacks = [*self._dev_callbacks(*held_out, size), *callbacks]
        if not self._compiled_by_caller:
            # Anew for every call: the schedule of an earlier one has run out.
            with self._scope():  # where the optimizer's variables must be created, too
                optimizer = default_optimizer(
                    steps,
                    epochs=epochs,
                    learning_rate=learning_rate,
                    warmup_fraction=warmup_fraction,
                    weight_decay=weight_decay,
                    global_clipnorm=global_clipnorm,
                    initial_epoch=initial_epoch,
                    constant=any(map(sets_the_rate, callbacks)),
                )
                self._compile(optimizer)
        batches = self._shared_out(batches)
        self._build_shared(batches)
        self.training_record = {}  # of these weights nothing is known until the run has ended
        history = run_fit(
            self,
            super().fit,
            batches,
            validation=validation,
            monitor=self._monitor() if self._measures_default else ("val_loss", "min"),
            patience=patience,
            epochs=epochs,
            callbacks=callbacks,
            verbose=verbose,
            initial_epoch=initial_epoch,
            steps_per_epoch=steps_per_epoch,
            validation_freq=validation_freq,
        )
        self.training_record = {
            "steps": len(history.epoch) * steps,
            "epochs": len(history.epoch),
            "batch_size": int(batch_size),
            "seed": int(seed),
            "history": {
                name: [float(v) if np.isfinite(v) else None for v in values]  # JSON has no NaN
                for name, values in history.history.items()
            },
        }
        return history

    def evaluate(
        self,
        x: Any,
        y: Any = None,
        *,
        batch_size: int | None = 64,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Computes the loss and the compiled metrics; see `report` for a full account.

        Args:
            x: as in `fit`.
            y: as in `fit`.
            batch_size: int. None: 64.
            verbose: as in Keras.
            sample_weight: float, one per text; of the loss, and of `weighted_metrics`.
            steps: int or None. Batches to measure on, the first ones; None: all. Batches without
                an end need it: a dataset is refused without, a generator is read on and on.
            callbacks: Keras callbacks.
            return_dict: bool. Whether to name the figures.
            **kwargs: what Keras passes when `fit` evaluates.

        Returns:
            as Keras: float, the loss; or with metrics a list, the loss first; or with
            `return_dict=True` a dict, name -> float.

        Raises:
            DataError: labels that are unknown or do not fit the texts.
            ConfigError: an argument that is out of its range or unknown.
        """
        if "_use_cached_eval_dataset" in kwargs:  # Keras' own call, from within `fit`
            return super().evaluate(
                x, y, verbose=verbose, callbacks=callbacks, return_dict=return_dict, **kwargs
            )
        if kwargs:
            raise ConfigError(f"`evaluate` does not take {', '.join(map(repr, kwargs))}.")
        batch_size = 64 if batch_size is None else batch_size
        check_arguments(batch_size=batch_size, steps=steps)
        batches, _ = self._labelled_batches(x, y, batch_size, sample_weight, steps)
        if not self.compiled:
            with self._scope():
                self._compile(AdamW(DEFAULT_LEARNING_RATE))
        self._build_shared(batches)
        return super().evaluate(
            batches,
            verbose=verbose,
            callbacks=as_callbacks(callbacks),
            return_dict=return_dict,
        )

    def predict_logits(
        self, x: Any, *, batch_size: int | None = 64, verbose: Any = 0
    ) -> np.ndarray:
        """Computes logits of texts.

        Args:
            x: as in `fit`; a dataset is of batches of texts, without labels.
            batch_size: int. None: 64.
            verbose: as in Keras.

        Returns:
            float32 (texts, labels), in the order of `x`.

        Raises:
            DataError: `x` is not of texts.
        """
        check_arguments(batch_size=64 if batch_size is None else batch_size)
        if python_batches(x):
            parts = [
                self.predict_logits(batch, batch_size=batch_size, verbose=verbose)
                for batch in prediction_batches(x)
            ]
            return np.concatenate(parts or [np.zeros((0, self.output_shape[-1]), np.float32)])
        if isinstance(x, tf.data.Dataset):
            if isinstance(x.element_spec, dict):
                check_ends(x, "`predict_logits` answers", "`dataset.take(...)` takes a part of it")
            else:
                self._check_batches(x)
            batches = self._shared_out(self._tokenized(x, labelled=False))
            return np.asarray(keras.Model.predict(self, batches, verbose=verbose))
        examples = as_examples(x)
        self._check_number_of_texts(1 if examples.text_pairs is None else 2)
        if not len(examples):
            return np.zeros((0, self.output_shape[-1]), np.float32)
        rows = self.tokenize_rows(examples.texts, examples.text_pairs)
        size = 64 if batch_size is None else batch_size
        batches = self._batches(LabelledRows(rows), batch_size=size, shuffle=False)
        logits = keras.Model.predict(self, self._shared_out(batches), verbose=verbose)
        return restore_order(logits, length_order(rows.lengths))

    def _split(
        self, x: Any, y: Any, sample_weight: Any, share: float
    ) -> tuple[Any, Any, Any, tuple[Any, Any, Any]]:
        """The first examples to train on, and the last ones, as Keras splits them."""
        examples = self._examples(x)
        count = len(examples)
        check_count(y, count, "labels")
        check_count(sample_weight, count, "sample weights")
        first = int(count * (1.0 - share))
        if not 0 < first < count:
            raise ConfigError(
                f"`validation_split={share}` of {count} examples leaves none to "
                f"{'train' if not first else 'validate'} on."
            )
        train, held_out = range(first), range(first, count)
        parts = [(part_of(y, rows), part_of(sample_weight, rows)) for rows in (train, held_out)]
        held = (examples.subset(held_out), *parts[1])
        return examples.subset(train), *parts[0], held

    def _validation_parts(self, validation_data: Any) -> tuple[Any, Any, Any]:
        """`validation_data` as texts, labels or None, and weights or None."""
        if isinstance(validation_data, list) and not isinstance(
            validation_data[0] if validation_data else "", str | bytes
        ):
            validation_data = tuple(validation_data)  # as Keras takes it
        if isinstance(validation_data, tuple):
            if len(validation_data) not in (2, 3):
                raise DataError(
                    "Expected `validation_data` of (x, y) or (x, y, sample_weight), got "
                    f"{len(validation_data)} parts."
                )
            x, y, *weights = validation_data
            return x, y, weights[0] if weights else None
        return validation_data, None, None

    def _dev_callbacks(
        self, examples: Any, targets: Any, batch_size: int
    ) -> list[keras.callbacks.Callback]:
        """Callbacks that measure more of the held-out data, as `_prepared` gives it."""
        return []

    def _monitor(self) -> tuple[str, str]:
        """The metric that tells epochs apart, and "max" or "min"."""
        return "val_loss", "min"

    def _sample_weights(
        self, targets: np.ndarray, class_weight: Any, sample_weight: Any
    ) -> np.ndarray | None:
        if class_weight is not None:
            raise ConfigError(f"`class_weight` does not apply to this {type(self).__name__}.")
        if sample_weight is None:
            return None
        weights = np.asarray(sample_weight, np.float32)
        if weights.shape != (len(targets),):
            raise DataError(
                f"`sample_weight` must hold one number per text: expected shape ({len(targets)},), "
                f"got {weights.shape}."
            )
        if not np.isfinite(weights).all():
            raise DataError("`sample_weight` must hold finite numbers, got NaN or infinity.")
        return weights
