"""The base class of all tasks."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, ClassVar, Self

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.adaptation.lora import merged_lora
from keras_bert_zoo.data.inputs import as_examples
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.encoders.keras_file import is_keras_file, save_keras_file
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.tasks.chunks import run_in_chunks
from keras_bert_zoo.tasks.keras_config import load_saved, task_config, task_from_config
from keras_bert_zoo.tasks.options import TaskOption, TaskOptions, check_unknown, fitted_length
from keras_bert_zoo.tasks.packed_model import PackedModel, is_packed
from keras_bert_zoo.tasks.predicting import (
    answer_rows,
    largest_difference,
    predict_texts,
    refuse_texts,
)
from keras_bert_zoo.tasks.saving import SavedParts, save_task
from keras_bert_zoo.tasks.spec import TaskSpec
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.training import replicas

Context = dict[str, Any]
"""Data of a batch of texts that decoding needs besides the model's outputs, such as offsets."""


@keras.saving.register_keras_serializable("keras_bert_zoo")
class Task(keras.Model):
    """A functional Keras model of token ids that takes strings in `predict` and when exported.

    Calling the model maps `{"token_ids", "segment_ids", "padding_mask"}`, int32 (B, S), to float32
    outputs. An exported graph returns the same answers as `predict`.

    A subclass declares itself in `spec` and overrides hooks: `from_preset` and `saved_parts` for
    files; `connect`, `encode_texts`, `decode` and `answer_difference` for the graph, sometimes
    `serve` and `answer_with`; and `examples`. Tasks that can be trained derive from
    `TrainableTask`.

    Args:
        encoder: Encoder.
        tokenizer: Tokenizer of the encoder's vocabulary.
        head: the argument `head` of `connect`, usually a layer.
        options: TaskOptions. A `max_length` of None becomes the task's default, or the encoder's
            number of positions if that is smaller.
        token_layout: "packed" or "padded"; see `Encoder`.

    Raises:
        ConfigError: `max_length` or the tokenizer's vocabulary is too large for the encoder.

    Attributes:
        encoder, tokenizer, head: the arguments.
        options: TaskOptions. Each option is also an attribute of the task and can be set.
        max_length: int, tokens. Longer texts are truncated.
        pair: bool or None. Whether the task takes pairs; None: pairs or single texts. Can be set.
        training_record: dict. How the weights were trained; saved with the model.
        column_options: dict. How the command `train` read its file; saved with the model. The
            commands `evaluate` and `predict` use them as defaults.
        source_config: dict. The config.json of the preset, for tasks that write keys of it again.
    """

    spec: ClassVar[TaskSpec]
    from_preset: ClassVar[Callable[..., Any]]  # defined by each task that can be loaded

    encoder: Encoder
    tokenizer: Tokenizer
    options: Any
    pair: bool | None
    max_length: TaskOption[int] = TaskOption()

    def __init__(
        self,
        encoder: Encoder,
        tokenizer: Tokenizer,
        head: Any,
        *,
        options: TaskOptions,
        token_layout: str = "packed",
        **kwargs: Any,
    ) -> None:
        check_unknown(self, kwargs)
        config = encoder.config
        max_length = fitted_length(
            options.max_length, self.spec.default_max_length, config.max_tokens
        )
        if tokenizer.vocabulary_size > config.vocabulary_size:
            raise ConfigError(
                f"The tokenizer has {tokenizer.vocabulary_size} tokens, the encoder's table only "
                f"{config.vocabulary_size} rows. Use the vocabulary the encoder was trained with."
            )
        inputs = self.spec.inputs()
        outputs = self.connect(encoder, head, inputs, token_layout=token_layout)
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.head = head
        self.options = options.replace(max_length=max_length)
        self.token_layout = token_layout
        self.pair = self.spec.pairs
        self.training_record: dict[str, Any] = {}
        self.column_options: dict[str, Any] = {}
        self.source_config: dict[str, Any] = {}
        graphs: dict[Any, Any] = {}
        self._graphs = lambda: graphs  # a function, because Keras would wrap the dict

    @property
    def graphs(self) -> dict[Any, Any]:
        """The traced graphs of `answer_texts`; the key holds all their constants."""
        return self._graphs()

    # === Loading and saving ===

    @classmethod
    def load(cls, directory: str | os.PathLike[str], **options: Any) -> Self:
        """Loads a saved task, or any Hugging Face directory with a head of this task.

        Args:
            directory: path of a directory or of a .keras file.
            **options: as for `from_preset`; none for a .keras file.

        Returns:
            the task.

        Raises:
            ConfigError: the config is not supported.
            CheckpointError: the directory does not exist, has no head, or does not fit.
        """
        return load_saved(cls, directory, options)

    def saved_parts(self) -> SavedParts:
        """Returns the contents of a saved directory; by default encoder, tokenizer and options."""
        return SavedParts()

    def save(self, directory: str | os.PathLike[str], *, overwrite: bool = True) -> None:
        """Writes a Hugging Face directory, or a .keras file for `keras.models.load_model`.

        transformers and `load` read the directory: config.json (with the labels), model.safetensors
        (float32), the tokenizer's files, and `keras_bert_zoo.json` with options that only this
        package knows. Weights that transformers lacks go to `keras_bert_zoo.safetensors`. All is
        written under another name and then renamed, so an earlier save stays complete until the
        end. Other files in the directory are kept. An error lists weights of other formats.

        Args:
            directory: path; missing, empty, or an earlier save. Or a path that ends in .keras.
            overwrite: bool. Whether to replace an earlier save.

        Raises:
            CheckpointError: it cannot be written, or it exists and `overwrite` is False.
        """
        if is_keras_file(directory):
            save_keras_file(self, directory, overwrite=overwrite)
        else:
            save_task(self, directory, overwrite=overwrite)

    def get_config(self) -> dict[str, Any]:
        """Returns everything but the weights: configuration, labels, options and tokenizer."""
        return task_config(self)

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        """Builds the task with random weights from `get_config`."""
        return task_from_config(cls, config)

    def export(
        self, path: str | os.PathLike[str], format: str = "saved_model", **kwargs: Any
    ) -> Any:
        """Writes one file that takes raw strings; see `export.saved_model.export_saved_model`.

        Args:
            path: the model's directory, with subdirectories VERSION; for LiteRT, FILE.tflite.
            format: "saved_model", or "litert"; see `export.litert.exporter.export_litert`.
            **kwargs: options of the format.

        Returns:
            the written files and the results of the checks.

        Raises:
            ConfigError: an unknown format or option.
            ExportError: it cannot be written, or its answers differ from this model's.
        """
        # export/ imports tasks/.
        from keras_bert_zoo.export import export_task

        with ExitStack() as merged:
            for stage in self.stages():
                merged.enter_context(merged_lora(stage.encoder))
            return export_task(self, path, format, **kwargs)

    # === The graph: strings in, answers out ===

    @classmethod
    def connect(
        cls,
        encoder: Encoder,
        head: Any,
        inputs: Mapping[str, Any],
        *,
        token_layout: str = "packed",
        attention_groups: int = 1,
    ) -> Any:
        """Applies an encoder and a head to inputs, for training and for serving.

        Args:
            encoder: Encoder.
            head: see the class.
            inputs: the model's inputs, symbolic or tensors.
            token_layout: "padded" or "packed".
            attention_groups: int. See `TokenLayout`.

        Returns:
            the model's outputs; by default logits of the pooled output, float32 (B, units).
        """
        return head(
            encoder.pooled_outputs(
                dict(inputs), token_layout=token_layout, attention_groups=attention_groups
            )
        )

    def serve(
        self,
        encoder: Encoder,
        head: Any,
        inputs: Mapping[str, Any],
        *,
        options: Any,
        token_layout: str,
        attention_groups: int = 1,
    ) -> Any:
        """Computes the input of `decode`; by default the model's outputs.

        Args:
            encoder: Encoder of the task, or a copy in another dtype.
            head: head of the task, or a copy.
            inputs: tensors, named as in `spec.serving_inputs`.
            options: TaskOptions.
            token_layout: see `connect`.
            attention_groups: see `connect`.
        """
        return self.connect(
            encoder, head, inputs, token_layout=token_layout, attention_groups=attention_groups
        )

    def respond(self, inputs: Mapping[str, Any], *, options: Any = None) -> Any:
        """Calls `serve` with the current weights, in chunks of rows."""
        chosen = self.options if options is None else options

        def run(inputs: Mapping[str, Any]) -> Any:
            return self.serve(
                self.encoder, self.head, inputs, options=chosen, token_layout=self.token_layout
            )

        return run_in_chunks(run, inputs, self.row_cost(inputs))

    def row_cost(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Estimates the memory of a row of inputs, in tokens: int32 ()."""
        cost = tf.reduce_prod(tf.shape(inputs["token_ids"])[1:])
        extra = self.spec.extra_cost
        return cost if extra is None else cost + extra(self, dict(inputs))

    def text_specs(self, *, pair: bool | None = None) -> dict[str, tf.TensorSpec]:
        """Returns the specs of the string inputs, of pairs or not: string (B,), or (B, n)."""
        specs = {}
        for name in self.spec.text_names(bool(self.pair if pair is None else pair)):
            width = self.spec.text_widths.get(name)
            shape = [None] if width is None else [None, getattr(self, width)]
            specs[name] = tf.TensorSpec(shape, tf.string, name=name)
        return specs

    def encode_texts(
        self, *texts: tf.Tensor, options: Any = None
    ) -> tuple[dict[str, tf.Tensor], Context]:
        """Preprocesses strings into the model's inputs, in TensorFlow ops.

        Args:
            *texts: string tensors in the order of `text_specs`.
            options: TaskOptions; None: the task's.

        Returns:
            the inputs at inference, and the context for `decode`.
        """
        packed = self.tokenizer(texts if len(texts) == 2 else texts[0], max_length=self.max_length)
        return packed, {}

    def decode(
        self, outputs: Any, context: Context | None, *, options: Any = None
    ) -> dict[str, tf.Tensor]:
        """Postprocesses outputs into answers, in TensorFlow ops.

        Args:
            outputs: result of `serve`.
            context: result of `encode_texts`; None if the caller sends token ids.
            options: TaskOptions; None: the task's.

        Returns:
            dict of dense float32, int32 or string tensors (B, ...); see the subclass.
        """
        return {"logits": outputs}

    def answers(self, outputs: Any) -> dict[str, tf.Tensor]:
        """Decodes outputs without the texts, for callers that send token ids; see `decode`."""
        return self.decode(outputs, None)

    def stages(self) -> Sequence[Task]:
        """Returns the models that compute an answer, in their order: this one, then others."""
        return (self, *(getattr(self, name) for name in self.spec.stages))

    def answer_texts(self, *texts: tf.Tensor, options: Any = None) -> dict[str, tf.Tensor]:
        """Answers strings with the current weights, in TensorFlow ops.

        Args:
            *texts: string tensors in the order of `text_specs`.
            options: TaskOptions; None: the task's.

        Returns:
            see `decode`.
        """
        options = self.options if options is None else options
        runs: list[Callable[[Any], Any]] = [
            lambda inputs: self.respond(inputs, options=options),
            *(stage.respond for stage in self.stages()[1:]),
        ]
        return self.answer_with(runs, *texts, options=options)

    def answer_with(
        self,
        runs: Sequence[Callable[[dict[str, tf.Tensor]], Any]],
        *texts: tf.Tensor,
        options: Any = None,
    ) -> dict[str, tf.Tensor]:
        """Answers strings with the given functions for `stages`, such as those of an export.

        Args:
            runs: one function per stage, from its model's inputs to its outputs.
            *texts: string tensors in the order of `text_specs`.
            options: TaskOptions; None: the task's.

        Returns:
            see `decode`.
        """
        (run,) = runs
        options = self.options if options is None else options
        inputs, context = self.encode_texts(*texts, options=options)
        return self.decode(run(inputs), context, options=options)

    def graph_constants(self) -> tuple[Any, ...]:
        """Returns the constants of a traced graph, besides the options."""
        return tuple(getattr(self, name) for name in self.spec.constants)

    def answer_difference(
        self, expected: dict[str, np.ndarray], got: dict[str, np.ndarray], tolerance: float
    ) -> float | None:
        """Compares two answers to a text, which may differ by rounding.

        Args:
            expected: name -> array, one row of `answer_rows`.
            got: another such row.
            tolerance: float. The effect of rounding on a score.

        Returns:
            float, the largest difference of numbers: relative above 1, infinite for NaN. None if
            the answers differ otherwise.
        """
        for name, values in expected.items():
            if values.dtype == object and not np.array_equal(values, got[name]):
                return None
        return max(largest_difference(values, got[name]) for name, values in expected.items())

    # === Answers to Python ===

    def examples(self, x: Any, y: Any = None, *, labelled: bool = True) -> Any:
        """Converts the arguments of `fit` and `predict` to examples.

        Args:
            x: see `predict`.
            y: labels, for tasks whose examples contain them.
            labelled: bool. False for `predict`.

        Returns:
            examples with a length, `columns` of texts, and `subset`.
        """
        return as_examples(x)

    def predict(
        self, x: Any, *, batch_size: int | None = 64, verbose: Any = 0
    ) -> dict[str, np.ndarray]:
        """Answers texts; the exported model returns the same answers.

        Args:
            x: texts, see the subclass; or batches: a tf.data.Dataset without labels, a PyDataset,
                or a finite generator. A batch of the latter two is `x`, (x,), or (x, y) with
                ignored labels; pairs are ((first, second),).
            batch_size: int. None: 64.
            verbose: 1 shows a progress bar.

        Returns:
            dict of arrays with one row per text; see the subclass. Texts are str: bytes that are
            not UTF-8 become U+FFFD.

        Raises:
            DataError: `x` does not contain texts.
            ConfigError: `batch_size` is below 1.
        """
        return predict_texts(self, x, batch_size=batch_size, verbose=verbose, options=self.options)

    def answer_rows(
        self, *columns: Sequence[Any], batch_size: int = 64, verbose: Any = 0
    ) -> dict[str, np.ndarray]:
        """Answers columns of texts like `predict`, but returns strings as bytes.

        Args:
            *columns: in the order of `text_specs`: lists of str or bytes, or of rows of these.
            batch_size: int.
            verbose: 1 shows a progress bar.

        Returns:
            dict of arrays with one row per text.
        """
        return answer_rows(self, *columns, batch_size=batch_size, verbose=verbose)

    def predict_on_batch(self, x: Any) -> Any:
        """Answers a batch of texts like `predict`; for a dict of token ids, returns the outputs."""
        return super().predict_on_batch(x) if isinstance(x, Mapping) else self.predict(x)

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Computes outputs from token ids; see the class.

        Groups of rows (B, G, S) are flattened. Packed batches: see `PackedModel`.
        """
        refuse_texts(self, inputs)
        inputs, _ = replicas.split_rows(inputs)
        if is_packed(inputs):
            return PackedModel(self)(inputs, *args, **kwargs)
        ids = inputs["token_ids"] if isinstance(inputs, Mapping) else None
        if ids is None or len(ids.shape) != 3 or len(self.input["token_ids"].shape) == 3:
            return super().__call__(inputs, *args, **kwargs)
        shape = tf.shape(ids)
        flat = {name: tf.reshape(ids, [-1, shape[2]]) for name, ids in inputs.items()}
        outputs = super().__call__(flat, *args, **kwargs)
        group = shape[1] if ids.shape[1] is None else ids.shape[1]
        return tf.reshape(outputs, [shape[0], group, outputs.shape[-1]])
