"""What tasks share in training and measuring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.columns import form_of
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.pipeline import (
    LabelledRows,
    TokenRows,
    bucketed_batches,
    length_order,
    restore_order,
    token_batches,
)
from keras_bert_zoo.encoders.encoder import INPUT_NAMES, encoder_inputs
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.tasks.answering import AnsweringModel
from keras_bert_zoo.tasks.batches import (
    Labelled,
    evaluation_dataset,
    is_batched,
    prediction_batches,
    python_batches,
    text_arrays,
    training_dataset,
)
from keras_bert_zoo.tasks.inputs import as_examples, tokenized_dataset
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.training.loop import default_optimizer, run_fit
from keras_bert_zoo.training.optimizers import AdamW
from keras_bert_zoo.training.probe import probe_head

_TOKENIZED_AT_ONCE = 2048  # texts; bounds the memory that padding takes while tokenizing
_FEATURE_BATCH = 256


class TextModel(AnsweringModel):
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
    can_probe: ClassVar[bool] = True
    """Whether `fit` can train the head alone first: it reads the pooled output and no more."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.training_record: dict[str, Any] = {}
        self.column_options: dict[str, Any] = {}
        self._compiled_by_caller = False
        self._measures_default = True

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

    def _batches(
        self, data: LabelledRows, *, batch_size: int, shuffle: bool = True, seed: int = 0
    ) -> tf.data.Dataset:
        """Batches of tokenized examples, as the model and its loss take them."""
        indices = bucketed_batches(data.lengths, batch_size=batch_size, seed=seed, shuffle=shuffle)
        return token_batches(data, indices, pad_id=self.tokenizer.pad_token_id)

    def _labelled_batches(self, x: Any, y: Any, batch_size: int) -> tf.data.Dataset:
        """Batches to measure on, in order of length."""
        if is_batched(x):
            if y is not None:
                raise ConfigError("A dataset brings its own labels and weights: give `x` alone.")
            self._check_takes_batches(x)
            dataset = evaluation_dataset(x, self._string_batch)
            batches = self._tokenized(dataset)
            first = dataset.element_spec[0]
            if not isinstance(first, dict):
                self._check_number_of_texts(2 if isinstance(first, tuple) else 1)
            return batches
        examples, targets = self._prepared(x, y)
        if self.takes_pairs is None:
            self._check_number_of_texts(1 if examples.text_pairs is None else 2)
        data = self._labelled_rows(examples, targets)
        return self._batches(data, batch_size=batch_size, shuffle=False)

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
        self, x: Any, callbacks: Sequence[Any], seed: int | None
    ) -> tuple[Any, list[Any]]:
        """Makes datasets of batches that Python makes; see `training_dataset`."""
        if is_batched(x):
            self._check_takes_batches(x)
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
            texts = text_arrays(*filter(None, (examples.texts, examples.text_pairs)))
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

    def _default_loss(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define `_default_loss`.")

    def _default_metrics(self) -> list[Any]:
        raise NotImplementedError(f"{type(self).__name__} must define `_default_metrics`.")

    def compile(
        self, optimizer: Any = None, loss: Any = None, *, metrics: Any = None, **kwargs: Any
    ) -> None:
        """Configures training, as `keras.Model.compile` does.

        Args:
            optimizer: Keras optimizer, or None for AdamW at a constant 2e-5. `fit` compiles with a
                warm-up and a decay fitted to its steps when `compile` was not called.
            loss: Keras loss on logits, or None for the task's own.
            metrics: list of Keras metrics on logits, or None for the task's own.
            **kwargs: passed on to Keras.
        """
        self._compile(AdamW(2e-5) if optimizer is None else optimizer, loss, metrics, **kwargs)
        self._compiled_by_caller = True
        self._measures_default = metrics is None

    def _compile(
        self, optimizer: Any, loss: Any = None, metrics: Any = None, **kwargs: Any
    ) -> None:
        super().compile(
            optimizer=optimizer,
            loss=self._default_loss() if loss is None else loss,
            metrics=self._default_metrics() if metrics is None else metrics,
            **kwargs,
        )

    def fit(
        self,
        x: Any,
        y: Any = None,
        *,
        validation_data: Any = None,
        batch_size: int = 32,
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
        callbacks: Sequence[keras.callbacks.Callback] = (),
        verbose: Any = "auto",
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
            validation_data: (x, y), or Examples with labels.
            batch_size: int. Texts per step, over all devices.
            epochs: int.
            learning_rate: float. The peak of the schedule.
            warmup_fraction: float in [0, 1]. Share of the steps in which the rate rises.
            weight_decay: float. Biases and LayerNorm are left out.
            global_clipnorm: float or None. Gradients are scaled down to this global L2 norm.
            class_weight: dict from label (or id) to float, or "balanced"; single-label only.
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

        Returns:
            keras.callbacks.History.

        Raises:
            DataError: labels that are unknown or do not fit the texts.
            ConfigError: options that contradict each other.
        """
        if epochs < 1:
            raise ConfigError(f"`epochs` must be at least 1, got {epochs}.")
        x, callbacks = self._training_data(x, callbacks, seed)
        if isinstance(x, tf.data.Dataset):
            if y is not None or class_weight is not None or sample_weight is not None:
                raise ConfigError("A dataset brings its own labels and weights: give `x` alone.")
            if probe_epochs:
                raise ConfigError("`probe_epochs` needs texts in memory, not a dataset.")
            batches = self._tokenized(x)
            first = x.element_spec[0]
            if not isinstance(first, dict) and self.takes_pairs is None:
                self.pair = isinstance(first, tuple)
        else:
            examples, targets = self._prepared(x, y)
            weights = self._sample_weights(targets, class_weight, sample_weight)
            self._adopt(examples)
            data = self._labelled_rows(examples, targets, weights)
            if probe_epochs:
                self._probe(data, probe_epochs)
            batches = self._batches(data, batch_size=batch_size, seed=seed)
        validation = None
        if validation_data is not None:
            validation = self._validation_batches(validation_data, batch_size)
            if self._measures_default:
                callbacks = [*self._dev_callbacks(validation_data, batch_size), *callbacks]
        if not self._compiled_by_caller:
            # Anew for every call: the schedule of an earlier one has run out.
            with self._scope():  # where the optimizer's variables must be created, too
                optimizer = default_optimizer(
                    batches,
                    epochs=epochs,
                    learning_rate=learning_rate,
                    warmup_fraction=warmup_fraction,
                    weight_decay=weight_decay,
                    global_clipnorm=global_clipnorm,
                )
                self._compile(optimizer)
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
        )
        self.training_record = {
            "steps": len(history.epoch) * max(0, int(batches.cardinality())),
            "epochs": len(history.epoch),
            "batch_size": batch_size,
            "seed": seed,
            "history": {
                name: [float(v) if np.isfinite(v) else None for v in values]  # JSON has no NaN
                for name, values in history.history.items()
            },
        }
        return history

    def _probe(self, data: LabelledRows, epochs: int) -> None:
        if not self.can_probe:
            raise ConfigError(f"`probe_epochs` is not possible for a {type(self).__name__}.")
        with self._scope():
            inputs = encoder_inputs()
            pooled = self.encoder.pooled_outputs(inputs, token_layout=self.token_layout)
            unlabelled = LabelledRows(data.rows)
            batches = self._batches(unlabelled, batch_size=_FEATURE_BATCH, shuffle=False)
            features = keras.Model(inputs, pooled).predict(batches, verbose=0)
            features = restore_order(features, length_order(data.lengths)).astype(np.float32)
            probe_head(
                self.head,
                features,
                cast(np.ndarray, data.labels),
                self.loss if self._compiled_by_caller else self._default_loss(),
                epochs=epochs,
                sample_weight=data.weights,
            )

    def evaluate(
        self,
        x: Any,
        y: Any = None,
        *,
        batch_size: int = 64,
        verbose: Any = "auto",
        **kwargs: Any,
    ) -> Any:
        """Computes the loss and the compiled metrics; see `report` for a full account.

        Args:
            x: as in `fit`.
            y: as in `fit`.
            batch_size: int.
            verbose: as in Keras.
            **kwargs: `return_dict=False` for a list; and what Keras passes when `fit` evaluates.

        Returns:
            dict, name -> float.

        Raises:
            DataError: labels that are unknown or do not fit the texts.
        """
        if "_use_cached_eval_dataset" in kwargs:  # Keras' own call, from within `fit`
            return super().evaluate(x, y, verbose=verbose, **kwargs)
        return_dict = kwargs.pop("return_dict", True)
        if kwargs:
            raise ConfigError(f"`evaluate` does not take {', '.join(map(repr, kwargs))}.")
        batches = self._labelled_batches(x, y, batch_size)
        if not self.compiled:
            with self._scope():
                self._compile(AdamW(2e-5))
        return super().evaluate(batches, verbose=verbose, return_dict=return_dict)

    def predict_logits(self, x: Any, *, batch_size: int = 64, verbose: Any = 0) -> np.ndarray:
        """Computes logits of texts.

        Args:
            x: as in `fit`; a dataset is of batches of texts, without labels.
            batch_size: int.
            verbose: as in Keras.

        Returns:
            float32 (texts, labels), in the order of `x`.

        Raises:
            DataError: `x` is not of texts.
        """
        if python_batches(x):
            parts = [
                self.predict_logits(batch, batch_size=batch_size, verbose=verbose)
                for batch in prediction_batches(x)
            ]
            return np.concatenate(parts or [self.predict_logits([])])
        if isinstance(x, tf.data.Dataset):
            spec = x.element_spec
            if not isinstance(spec, dict):
                self._check_batch(spec if isinstance(spec, tuple) else (spec,))
            batches = self._tokenized(x, labelled=False)
            return np.asarray(keras.Model.predict(self, batches, verbose=verbose))
        examples = as_examples(x)
        self._check_number_of_texts(1 if examples.text_pairs is None else 2)
        if not len(examples):
            return np.zeros((0, self.output_shape[-1]), np.float32)
        rows = self.tokenize_rows(examples.texts, examples.text_pairs)
        batches = self._batches(LabelledRows(rows), batch_size=batch_size, shuffle=False)
        logits = keras.Model.predict(self, batches, verbose=verbose)
        return restore_order(logits, length_order(rows.lengths))

    def _validation_batches(self, validation_data: Any, batch_size: int) -> tf.data.Dataset:
        if isinstance(validation_data, tuple):
            x, y = validation_data
            return self._labelled_batches(x, y, batch_size)
        return self._labelled_batches(validation_data, None, batch_size)

    def _dev_callbacks(
        self, validation_data: Any, batch_size: int
    ) -> list[keras.callbacks.Callback]:
        """Callbacks that measure more of the held-out data than Keras metrics can."""
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
        return weights

    def _scope(self) -> Any:
        """The scope of the strategy that this model's variables were created under."""
        return self.distribute_strategy.scope()


def packed_rows(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    text_pairs: Sequence[str] | None = None,
    *,
    max_length: int,
) -> TokenRows:
    """Tokenizes texts, some at a time, into packed rows.

    Args:
        tokenizer: Tokenizer.
        texts: list of str or bytes.
        text_pairs: list of the same length, or None.
        max_length: int, tokens of a row.

    Returns:
        TokenRows.
    """
    ids, segments, lengths = [], [], []
    for begin in range(0, len(texts), _TOKENIZED_AT_ONCE):
        part: Any = list(texts[begin : begin + _TOKENIZED_AT_ONCE])
        if text_pairs is not None:
            part = (part, list(text_pairs[begin : begin + _TOKENIZED_AT_ONCE]))
        batch = tokenizer(part, max_length=max_length)
        mask = batch["padding_mask"].numpy().astype(bool)
        ids.append(batch["token_ids"].numpy()[mask])
        segments.append(batch["segment_ids"].numpy()[mask])
        lengths.append(mask.sum(axis=1))
    empty = [np.zeros(0, np.int32)]
    splits = np.concatenate([[0], np.cumsum(np.concatenate(lengths or empty))])
    return TokenRows(
        np.concatenate(ids or empty),
        splits.astype(np.int64),
        np.concatenate(segments or empty),
    )
