"""What all tasks share: text to batches, training, saving and loading."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.checkpoints.huggingface import assign_tensors, open_tensors, write_tensors
from keras_bert_zoo.checkpoints.names import ENCODER_PREFIX, encoder_names
from keras_bert_zoo.config import EncoderConfig, read_config_json
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.pipeline import (
    TokenRows,
    bucketed_batches,
    length_order,
    restore_order,
    token_batches,
)
from keras_bert_zoo.encoders.encoder import Encoder, encoder_inputs
from keras_bert_zoo.errors import CheckpointError, ConfigError, DataError
from keras_bert_zoo.files import replace_directory
from keras_bert_zoo.presets.io import build_encoder, find_preset, load_encoder, load_tokenizer
from keras_bert_zoo.tasks.inputs import as_examples, tokenized_dataset
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.training.optimizers import AdamW, WarmupLinearDecay

# What Hugging Face's files have no place for: the longest input this task was trained with, and
# the record of its training.
SIDE_FILE = "keras_bert_zoo.json"

_DEFAULT_MAX_LENGTH = 128
_TOKENIZED_AT_ONCE = 2048  # texts; bounds the memory that padding takes while tokenizing


class Task(keras.Model):
    """Base of the tasks: a functional Keras model on token ids, with methods that take text.

    Calling the model maps `{"token_ids", "segment_ids", "padding_mask"}`, int32 (B, S), to float32
    logits. `fit`, `evaluate` and `predict` take strings; `save` writes a Hugging Face directory.

    Attributes:
        encoder: Encoder.
        tokenizer: Tokenizer.
        max_length: int, tokens. Longer texts are truncated to it.
        pair: bool. Whether it was trained on pairs of texts, which the export then takes.
        training_record: dict. How the weights came about, kept in the saved directory.
    """

    architecture: ClassVar[str]
    """The transformers class that loads what `save` writes."""

    head_names: ClassVar[dict[str, str]]
    """The head's variables and their tensors' names."""

    encoder: Encoder
    tokenizer: Tokenizer
    max_length: int
    pair: bool

    def __init__(
        self,
        encoder: Encoder,
        tokenizer: Tokenizer,
        head: keras.layers.Layer,
        *,
        max_length: int | None = None,
        token_layout: str = "packed",
        **kwargs: Any,
    ) -> None:
        config = encoder.config
        if max_length is None:
            max_length = min(_DEFAULT_MAX_LENGTH, config.max_sequence_length)
        if not 3 <= max_length <= config.max_sequence_length:
            raise ConfigError(
                f"`max_length` must be between 3 and the encoder's {config.max_sequence_length} "
                f"positions, got {max_length}."
            )
        if tokenizer.vocabulary_size > config.vocabulary_size:
            raise ConfigError(
                f"The tokenizer has {tokenizer.vocabulary_size} tokens, the encoder's table only "
                f"{config.vocabulary_size} rows. Use the vocabulary the encoder was trained with."
            )
        inputs = encoder_inputs()
        pooled = encoder.pooled_outputs(inputs, token_layout=token_layout)
        super().__init__(inputs=inputs, outputs=head(pooled), **kwargs)
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.head = head
        self.max_length = max_length
        self.pair = False
        self.training_record: dict[str, Any] = {}

    # === Loading and saving ===

    @classmethod
    def load(cls, directory: str | os.PathLike[str], **kwargs: Any) -> Self:
        """Loads what `save` wrote, or any Hugging Face directory with this task's head.

        Args:
            directory: path.
            **kwargs: `token_layout`, `dtype`, `ignore_config_keys`.

        Returns:
            the task.

        Raises:
            ConfigError: the config asks for something unsupported.
            CheckpointError: the directory is not there, has no head or does not fit.
        """
        if not os.path.isdir(directory):
            raise CheckpointError(f"No directory {os.fspath(directory)!r} to load a model from.")
        return cls.from_preset(directory, **kwargs)

    @classmethod
    def from_preset(cls, preset: str | os.PathLike[str], **kwargs: Any) -> Self:
        """Builds the task on a preset; see the subclass."""
        raise NotImplementedError(f"{cls.__name__} must define `from_preset`.")

    @classmethod
    def _load_parts(
        cls,
        preset: str | os.PathLike[str],
        *,
        head_width: int | None,
        ignore_config_keys: Iterable[str],
        dtype: Any,
    ) -> tuple[Encoder, Tokenizer, Any, dict[str, Any]]:
        """Loads an encoder and a tokenizer, and the head where `head_width` is None.

        Returns the encoder, the tokenizer, the head's layer and what `SIDE_FILE` holds.
        """
        directory = find_preset(preset)
        raw = read_config_json(directory)
        config = EncoderConfig.from_huggingface(raw, ignore=ignore_config_keys)
        tokenizer = load_tokenizer(directory)
        if head_width is not None:
            # A head for new labels is trained from scratch, and a missing pooler with it.
            encoder = load_encoder(directory, ignore_config_keys=ignore_config_keys, dtype=dtype)
            if not encoder.has_pooler:
                weights = {v.path: v.numpy() for v in encoder.weights}
                encoder = build_encoder(config, pooler=True, dtype=dtype)
                for variable in encoder.weights:
                    if variable.path in weights:
                        variable.assign(weights[variable.path])
            return encoder, tokenizer, cls._make_head(config, head_width), {}
        with open_tensors(directory) as tensors:
            kernel, bias = cls.head_names.values()
            if kernel not in tensors or bias not in tensors:
                raise CheckpointError(
                    f"{tensors.path} has no head for {cls.__name__} ({kernel}, {bias}). "
                    f"To train one, say what it is for: {cls._head_hint()}."
                )
            encoder = build_encoder(config, pooler=True, dtype=dtype)
            head = cls._make_head(config, tensors.shape(kernel)[0])
            head.build((None, config.hidden_dim))
            names = {
                path: tensors.encoder_prefix + name
                for path, name in encoder_names(config.num_layers).items()
            }
            assign_tensors(tensors, [*encoder.weights, *head.weights], names | cls.head_names)
        return encoder, tokenizer, head, _read_side_file(directory)

    @classmethod
    def _make_head(cls, config: EncoderConfig, width: int) -> keras.layers.Layer:
        raise NotImplementedError(f"{cls.__name__} must define `_make_head`.")

    @classmethod
    def _head_hint(cls) -> str:
        raise NotImplementedError(f"{cls.__name__} must define `_head_hint`.")

    def _task_config(self) -> dict[str, Any]:
        """The task's part of config.json."""
        raise NotImplementedError(f"{type(self).__name__} must define `_task_config`.")

    def _side_config(self) -> dict[str, Any]:
        """What `SIDE_FILE` holds."""
        return {
            "max_length": self.max_length,
            "pair": self.pair,
            "training": self.training_record,
        }

    def save(self, directory: str | os.PathLike[str]) -> None:  # type: ignore[override]
        """Writes a Hugging Face directory, which transformers and `load` read.

        config.json (labels inside), model.safetensors (float32), the tokenizer's files, and
        `keras_bert_zoo.json` with what only this package knows. Written aside and renamed: an
        earlier save stays whole until the new one is.

        Args:
            directory: path; missing, empty, or an earlier save.

        Raises:
            CheckpointError: it cannot be written.
        """
        config = {
            "architectures": [self.architecture],
            **self.encoder.config.to_huggingface(),
            **self._task_config(),
        }
        names = {
            path: ENCODER_PREFIX + name
            for path, name in encoder_names(self.encoder.config.num_layers).items()
        }
        with replace_directory(directory, CheckpointError, marker="config.json") as aside:
            _write_json(aside / "config.json", config)
            _write_json(aside / SIDE_FILE, self._side_config())
            self.tokenizer.save(aside)
            write_tensors(
                aside, [*self.encoder.weights, *self.head.weights], names | self.head_names
            )

    def export(
        self, path: str | os.PathLike[str], format: str = "saved_model", **kwargs: Any
    ) -> Any:
        """Writes one file that takes raw strings; see `export.saved_model.export_saved_model`.

        Args:
            path: of the model; a SavedModel goes to the folder of its version inside.
            format: "saved_model".
            **kwargs: options of the format.

        Returns:
            what was written and how it was checked.

        Raises:
            ConfigError: an unknown format or option.
            ExportError: it cannot be written, or does not answer as this model does.
        """
        # Exports know about tasks, not the other way round.
        from keras_bert_zoo.export import export_task

        return export_task(self, path, format, **kwargs)

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
        ids, segments, lengths = [], [], []
        for begin in range(0, len(texts), _TOKENIZED_AT_ONCE):
            part: Any = list(texts[begin : begin + _TOKENIZED_AT_ONCE])
            if text_pairs is not None:
                part = (part, list(text_pairs[begin : begin + _TOKENIZED_AT_ONCE]))
            batch = self.tokenizer(part, max_length=self.max_length)
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

    def _batches(
        self,
        examples: Examples,
        targets: np.ndarray | None,
        *,
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        sample_weight: np.ndarray | None = None,
    ) -> tuple[tf.data.Dataset, TokenRows]:
        rows = self.tokenize_rows(examples.texts, examples.text_pairs)
        indices = bucketed_batches(rows.lengths, batch_size=batch_size, seed=seed, shuffle=shuffle)
        batches = token_batches(
            rows,
            indices,
            labels=targets,
            sample_weight=sample_weight,
            pad_id=self.tokenizer.pad_token_id,
        )
        return batches, rows

    def _targets(self, y: Any, examples: Examples) -> np.ndarray:
        """Labels of examples as the loss takes them."""
        raise NotImplementedError(f"{type(self).__name__} must define `_targets`.")

    def _prepared(self, x: Any, y: Any) -> tuple[Examples, np.ndarray]:
        examples = as_examples(x, y)
        if not len(examples):
            raise DataError("There are no examples: expected at least one text.")
        return examples, self._targets(y, examples)

    def _tokenized(self, dataset: tf.data.Dataset, *, labelled: bool = True) -> tf.data.Dataset:
        return tokenized_dataset(
            dataset,
            self.tokenizer,
            max_length=self.max_length,
            label_names=self._label_names() if labelled else None,
        )

    def _label_names(self) -> list[str]:
        return []

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
        super().compile(
            optimizer=AdamW(2e-5) if optimizer is None else optimizer,
            loss=self._default_loss() if loss is None else loss,
            metrics=self._default_metrics() if metrics is None else metrics,
            **kwargs,
        )

    def fit(  # type: ignore[override]
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
        seed: int = 0,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        verbose: Any = "auto",
    ) -> keras.callbacks.History:
        """Fine-tunes on text.

        Batches are bucketed by length. Unless `compile` was called before, the optimizer is AdamW
        with a linear warm-up and a linear decay to zero over all steps. With `validation_data`
        the weights of the best epoch are kept, also when Ctrl-C ends the training.

        Args:
            x: list of str; a tuple of two such lists for pairs; Examples; or a tf.data.Dataset of
                batches (texts, labels).
            y: labels, one per text, as the task takes them; None when `x` is Examples with labels.
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
        train = self._training_batches(
            x, y, batch_size, seed=seed, class_weight=class_weight, sample_weight=sample_weight
        )
        validation = None
        callbacks = list(callbacks)
        keeper = None
        if validation_data is not None:
            validation = self._validation_batches(validation_data, batch_size)
            monitor, mode = self._monitor()
            keeper = keras.callbacks.EarlyStopping(
                monitor,
                mode=mode,
                patience=epochs if patience is None else patience,
                restore_best_weights=True,
            )
            callbacks.append(keeper)
        elif patience is not None:
            raise ConfigError("`patience` needs `validation_data` to measure improvement on.")
        if not self.compiled:
            steps = epochs * int(train.cardinality())
            if steps < 1:
                raise ConfigError(
                    "The number of steps of this dataset is unknown, and the schedule needs it: "
                    "call `compile` first, or apply tf.data.experimental.assert_cardinality."
                )
            schedule = WarmupLinearDecay(
                learning_rate,
                total_steps=steps,
                warmup_steps=int(warmup_fraction * steps),
            )
            with self._scope():
                self.compile(AdamW(schedule, weight_decay, global_clipnorm=global_clipnorm))
        try:
            # `shuffle` is for arrays; these batches come shuffled.
            history = super().fit(
                train,
                validation_data=validation,
                epochs=epochs,
                callbacks=callbacks,
                verbose=verbose,
                shuffle=False,
            )
        except KeyboardInterrupt:
            if keeper is not None and keeper.best_weights is not None:
                self.set_weights(keeper.best_weights)
            raise
        self.training_record = {
            "steps": len(history.epoch) * max(0, int(train.cardinality())),
            "epochs": len(history.epoch),
            "batch_size": batch_size,
            "seed": seed,
            "history": {k: [float(v) for v in values] for k, values in history.history.items()},
        }
        return history

    def evaluate(  # type: ignore[override]
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
            **kwargs: what Keras passes when `fit` evaluates.

        Returns:
            dict, name -> float.

        Raises:
            DataError: labels that are unknown or do not fit the texts.
        """
        if kwargs:  # Keras' own call, from within `fit`
            return super().evaluate(x, y, verbose=verbose, **kwargs)
        if isinstance(x, tf.data.Dataset):
            batches = self._tokenized(x)
        else:
            examples, targets = self._prepared(x, y)
            batches, _ = self._batches(examples, targets, batch_size=batch_size, shuffle=False)
        if not self.compiled:
            self.compile()
        return super().evaluate(batches, verbose=verbose, return_dict=True)

    def predict_logits(self, x: Any, *, batch_size: int = 64) -> np.ndarray:
        """Computes logits of texts.

        Args:
            x: as in `fit`.
            batch_size: int.

        Returns:
            float32 (texts, labels), in the order of `x`.
        """
        if isinstance(x, tf.data.Dataset):
            return np.asarray(super().predict(self._tokenized(x, labelled=False), verbose=0))
        examples = as_examples(x)
        if not len(examples):
            return np.zeros((0, self.output_shape[-1]), np.float32)
        batches, rows = self._batches(examples, None, batch_size=batch_size, shuffle=False)
        logits = super().predict(batches, verbose=0)
        return restore_order(logits, length_order(rows.lengths))

    def predict(self, x: Any, *, batch_size: int = 64) -> dict[str, np.ndarray]:  # type: ignore[override]
        """Answers texts; the exported model gives the same answers.

        Args:
            x: as in `fit`.
            batch_size: int.

        Returns:
            dict of arrays with one row per text; see the subclass.
        """
        logits = tf.constant(self.predict_logits(x, batch_size=batch_size))
        return {
            name: _text_array(value.numpy()) if value.dtype == tf.string else value.numpy()
            for name, value in self.answers(logits).items()
        }

    def answers(self, logits: tf.Tensor) -> dict[str, tf.Tensor]:
        """Turns logits into answers, in TensorFlow ops; the export contains these.

        Args:
            logits: float32 (B, labels).

        Returns:
            dict of tensors (B, ...); see the subclass.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `answers`.")

    def _training_batches(
        self,
        x: Any,
        y: Any,
        batch_size: int,
        *,
        seed: int,
        class_weight: Any,
        sample_weight: Any,
    ) -> tf.data.Dataset:
        if isinstance(x, tf.data.Dataset):
            if y is not None or class_weight is not None or sample_weight is not None:
                raise ConfigError("A dataset brings its own labels and weights: give `x` alone.")
            self.pair = isinstance(x.element_spec, tuple) and isinstance(x.element_spec[0], tuple)
            return self._tokenized(x)
        examples, targets = self._prepared(x, y)
        self.pair = examples.text_pairs is not None
        weights = self._sample_weights(targets, class_weight, sample_weight)
        return self._batches(
            examples,
            targets,
            batch_size=batch_size,
            shuffle=True,
            seed=seed,
            sample_weight=weights,
        )[0]

    def _validation_batches(self, validation_data: Any, batch_size: int) -> tf.data.Dataset:
        if isinstance(validation_data, tf.data.Dataset):
            return self._tokenized(validation_data)
        if isinstance(validation_data, Examples):
            validation_data = (validation_data, None)
        examples, targets = self._prepared(*validation_data)
        return self._batches(examples, targets, batch_size=batch_size, shuffle=False)[0]

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


def _text_array(values: np.ndarray) -> np.ndarray:
    decoded = [value.decode("utf-8", "replace") for value in values.reshape(-1)]
    return np.array(decoded, dtype=object).reshape(values.shape)


def _write_json(path: Any, value: dict[str, Any]) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _read_side_file(directory: str | os.PathLike[str]) -> dict[str, Any]:
    path = os.path.join(directory, SIDE_FILE)
    if not os.path.exists(path):
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            side = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(side, dict):
        raise CheckpointError(f"{path} must hold a JSON object, got {type(side).__name__}.")
    return side
