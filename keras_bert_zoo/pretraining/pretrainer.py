"""Pretrains encoders: masked language modelling, and the order of pairs of texts."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any, Self, Unpack

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.data.documents import NEXT_LABELS, ORDER_LABELS, ordered_pairs, sentence_pairs
from keras_bert_zoo.data.examples import Examples, clipped
from keras_bert_zoo.data.inputs import as_examples, single_texts
from keras_bert_zoo.data.masking import Masking
from keras_bert_zoo.encoders.encoder import Encoder, encoder_inputs
from keras_bert_zoo.encoders.keras_file import is_keras_file
from keras_bert_zoo.encoders.parts import layout_inputs
from keras_bert_zoo.encoders.registry import build_encoder
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.heads.kinds import HEADS, make_head
from keras_bert_zoo.metrics.replaced_token import REPLACED_TOKENS
from keras_bert_zoo.pretraining.loading import load_for_pretraining
from keras_bert_zoo.pretraining.objectives import checked_weights, head_kinds, pair_objective
from keras_bert_zoo.pretraining.phases import as_phases, batch_source
from keras_bert_zoo.pretraining.replaced_tokens import (
    GENERATOR_SHARE,
    Generator,
    new_generator,
    replaced_outputs,
)
from keras_bert_zoo.pretraining.report import pretraining_report
from keras_bert_zoo.pretraining.rows import PretrainingBatches, as_documents
from keras_bert_zoo.pretraining.saving import pretraining_parts
from keras_bert_zoo.pretraining.targets import TargetsOf, sum_of_objectives
from keras_bert_zoo.tasks.loading import TaskSource
from keras_bert_zoo.tasks.masked_lm import MaskedLM
from keras_bert_zoo.tasks.options import LoadOptions, PretrainingOptions
from keras_bert_zoo.tasks.saving import SavedParts
from keras_bert_zoo.tasks.spec import TaskSpec
from keras_bert_zoo.tasks.trainable import TrainableTask
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.text.words import begins_word, word_flags
from keras_bert_zoo.training.batch_source import BatchSource
from keras_bert_zoo.training.masked_rows import maskable_pairs, maskable_rows
from keras_bert_zoo.training.objective import Objective
from keras_bert_zoo.training.rows import RowBatches

_PAIR_LABELS = {"next_sentence": NEXT_LABELS, "sentence_order": ORDER_LABELS}


@keras.saving.register_keras_serializable("keras_bert_zoo")
class Pretrainer(TrainableTask):
    """Pretrains an encoder on text, from scratch or from a preset.

    `fit` takes `PretrainingData`, the TFRecord files of `build_pretraining_data`, or
    `PretrainingPhases` of them; or, for small data in memory, documents: lists of sentences (list
    of lists of str), or single texts if no objective needs pairs. Words are masked anew in every
    epoch. `save` writes a Hugging Face directory with all heads, such as BertForPreTraining, from
    which every task, `convert` and transformers load. `predict` and `export` answer as a `MaskedLM`
    with these weights.

    The loss is the weighted sum of the objectives' means. The metrics of each objective are its
    `loss`, in nats, and its `accuracy`: `masked_lm_loss`, `masked_lm_accuracy`,
    `next_sentence_accuracy`, ...

    Args:
        encoder: Encoder; with a pooler if an objective needs pairs.
        tokenizer: Tokenizer with a mask token.
        objectives: "masked_lm", alone or with "next_sentence" (whether the second text of a pair
            follows the first, arXiv 1810.04805) or "sentence_order" (whether two texts are in
            order, arXiv 1909.11942), for which BERT, ERNIE, MobileBERT and ALBERT have a head; or,
            for ELECTRA, with "replaced_token_detection" (arXiv 2003.10555): a small `generator`
            is the masked language model, and the encoder detects its samples.
        head: dict, objective -> layer. None, also for a layer: a new head. With replaced tokens,
            that of masked_lm is a `Generator`.
        generator: EncoderConfig of a new generator, or its width as a share of the encoder's
            (float); see `generator_config`. None: a quarter.
        objective_weights: dict, objective -> float; by default 1, and 50 for replaced tokens.
        masking: Masking; None: 15 % of the tokens, each drawn independently.
        max_length: int, tokens; default 128.
        token_layout: "packed" or "padded"; see `Encoder`.

    Call arguments:
        inputs: dict of int32: `token_ids`, `segment_ids`, `padding_mask` (B, S); and
            `mask_positions` (B, P), the columns to predict, padded with 0.

    Returns:
        dict, objective -> float32 logits: masked_lm (B, P, V), those of pairs (B, 2). Replaced
        tokens: (B, S, 2), the logit of a replaced token and the token id that the encoder read.

    Raises:
        ConfigError: an objective is unknown or the family has no class with these heads; the
            tokenizer has no mask token; the encoder has no pooler; or an option is out of range.

    Example:
        >>> import keras_bert_zoo as kbz
        >>> task = kbz.Pretrainer.from_preset("tests/assets/masked_lm")
        >>> history = task.fit(["A first text.", "And a second one."], epochs=1, verbose=0)
        >>> sorted(history.history)
        ['loss', 'masked_lm_accuracy', 'masked_lm_loss']
    """

    spec = TaskSpec(
        name="pretraining",
        options=PretrainingOptions,
        pairs=None,
        inputs=lambda: (
            encoder_inputs()
            | {"mask_positions": keras.Input(shape=(None,), dtype="int32", name="mask_positions")}
        ),
    )

    def __init__(
        self,
        encoder: Encoder,
        tokenizer: Tokenizer,
        objectives: Sequence[str] = ("masked_lm",),
        *,
        head: Mapping[str, keras.layers.Layer | None] | None = None,
        generator: EncoderConfig | float | None = None,
        objective_weights: Mapping[str, float] | None = None,
        masking: Masking | None = None,
        max_length: int | None = None,
        **kwargs: Any,
    ) -> None:
        objectives = tuple(objectives)
        kinds = head_kinds(encoder.config, objectives)
        weights = checked_weights(objectives, objective_weights)
        if tokenizer.mask_token_id is None:
            raise ConfigError(
                "Expected a tokenizer with a mask token for masked_lm, received one without it."
            )
        masking = Masking() if masking is None else masking
        layers = {name: layer for name, layer in (head or {}).items() if layer is not None}
        if REPLACED_TOKENS in kinds and "masked_lm" not in layers:
            size = GENERATOR_SHARE if generator is None else generator
            layers["masked_lm"] = new_generator(size, encoder)
        elif generator is not None:
            raise ConfigError(
                f"Expected no `generator` for {' and '.join(objectives)} and these heads, received "
                f"one: it is the new head of masked_lm with {REPLACED_TOKENS}."
            )
        layers = {
            name: layers.get(name) or make_head(kind, encoder, HEADS[kind].units)
            for name, kind in kinds.items()
        }
        super().__init__(
            encoder,
            tokenizer,
            layers,
            options=PretrainingOptions(
                max_length=max_length,
                mask_rate=masking.rate,
                whole_words=masking.whole_words,
                mask_share=masking.mask_share,
                random_share=masking.random_share,
                max_ngram=masking.max_ngram,
                span_mean=masking.span_mean,
                objectives=objectives,
                objective_weights=weights,
            ),
            **kwargs,
        )

    # === Loading and saving ===

    @classmethod
    def from_scratch(
        cls,
        config: EncoderConfig,
        tokenizer: Tokenizer,
        objectives: Sequence[str] = ("masked_lm",),
        *,
        token_layout: str = "packed",
        dtype: Any = None,
        **options: Any,
    ) -> Self:
        """Builds an encoder with random weights, to pretrain it.

        Args:
            config: EncoderConfig; its class determines the family.
            tokenizer: Tokenizer; its vocabulary is not larger than that of `config`.
            objectives: see the class.
            token_layout: see `Encoder`.
            dtype: Keras dtype policy of the encoder, such as "mixed_bfloat16".
            **options: further arguments of the class.

        Returns:
            Pretrainer.

        Raises:
            ConfigError: see the class.
        """
        pooler = pair_objective(objectives) is not None
        encoder = build_encoder(config, pooler=pooler, token_layout=token_layout, dtype=dtype)
        return cls(encoder, tokenizer, objectives, token_layout=token_layout, **options)

    @classmethod
    def from_preset(
        cls,
        preset: str | os.PathLike[str],
        objectives: Sequence[str] | None = None,
        *,
        new_head: bool = False,
        generator: str | os.PathLike[str] | EncoderConfig | float | None = None,
        objective_weights: Mapping[str, float] | None = None,
        masking: Masking | None = None,
        **options: Unpack[LoadOptions],
    ) -> Self:
        """Builds the task on a preset, to continue its pretraining.

        Args:
            preset: catalogued name or Hugging Face directory.
            objectives: see the class. None: as saved, otherwise those that the preset has heads
                for, otherwise "masked_lm".
            new_head: bool. Whether objectives without a head in the preset start with a new one.
            generator: for replaced tokens: a preset with a masked_lm head and the same embeddings,
                or a new one, see the class. None: the saved one; with `new_head`, if there is none,
                a new one.
            objective_weights: None: as saved, otherwise those of the class.
            masking: Masking. None: as saved, otherwise the default.
            **options: see `LoadOptions`.

        Returns:
            Pretrainer.

        Raises:
            ConfigError: an option or the preset's config is not supported.
            CheckpointError: the preset is missing, does not fit, or lacks a head.
        """
        parts = load_for_pretraining(
            TaskSource(cls, preset, **options),
            objectives,
            new_head=new_head,
            generator=generator,
            objective_weights=objective_weights,
            masking=masking,
        )
        task = cls(**parts.arguments)
        task.source_config = parts.config
        return task

    def saved_parts(self) -> SavedParts:
        """See the base class, and `saving.pretraining_parts`."""
        return pretraining_parts(self)

    def save(self, directory: str | os.PathLike[str], *, overwrite: bool = True) -> None:
        """Writes a Hugging Face directory with all heads; see `Task.save`.

        With replaced tokens, the folder `generator` has the generator, a masked language model.

        Raises:
            ConfigError: the path ends in .keras.
            CheckpointError: as `Task.save`.
        """
        if is_keras_file(directory):
            raise ConfigError(
                f"Expected the path of a directory, received {os.fspath(directory)!r}: a "
                "Pretrainer is not saved as a .keras file."
            )
        super().save(directory, overwrite=overwrite)

    # === The graph ===

    @classmethod
    def connect(cls, encoder: Encoder, head: Any, inputs: Mapping[str, Any], **layout: Any) -> Any:
        """See `Task.connect`; a dict, objective -> logits."""
        tokens = layout_inputs(inputs)
        outputs, pooled = {}, None
        if REPLACED_TOKENS in head:
            outputs["masked_lm"], replaced = head["masked_lm"](dict(inputs), **layout)
            tokens["token_ids"] = replaced
        states, token_layout = encoder.token_states(tokens, **layout)
        for name, layer in head.items():
            if name in outputs:
                continue
            if name == REPLACED_TOKENS:
                outputs[name] = replaced_outputs(layer(states, token_layout), replaced)
                continue
            if name == "masked_lm":
                outputs[name] = layer(states, token_layout, inputs["mask_positions"])
                continue
            if encoder.pooler is None:
                raise ConfigError(f"Expected an encoder with a pooler for {name}, received none.")
            pooled = encoder.pooler(states, token_layout) if pooled is None else pooled
            outputs[name] = layer(pooled)
        return outputs

    def as_task(self) -> MaskedLM:
        """Returns a MaskedLM with these weights, which `predict` and `export` use.

        With replaced tokens, it is the generator.
        """
        encoder, head = self.encoder, self.head["masked_lm"]
        if isinstance(head, Generator):
            encoder, head = head.encoder, head.head
        return MaskedLM(
            encoder,
            self.tokenizer,
            head=head,
            mask_rate=self.options.mask_rate,
            whole_words=self.options.whole_words,
            max_length=self.max_length,
            token_layout=self.token_layout,
        )

    def predict(self, x: Any, **options: Any) -> dict[str, np.ndarray]:
        """Answers texts as `MaskedLM.predict`."""
        return self.as_task().predict(x, **options)

    def export(
        self, path: str | os.PathLike[str], format: str = "saved_model", **options: Any
    ) -> Any:
        """Exports the MaskedLM of `as_task`; see `Task.export`."""
        return self.as_task().export(path, format, **options)

    # === Training ===

    @property
    def masking(self) -> Masking:
        """How training masks words."""
        return Masking.from_options(self.options)

    @property
    def pair_objective(self) -> str | None:
        """The objective that needs pairs of texts, or None."""
        return pair_objective(self.options.objectives)

    def examples(self, x: Any, y: Any = None, *, labelled: bool = True) -> Examples:
        """Takes texts, or documents: lists of sentences."""
        pair = self.pair_objective
        if isinstance(x, Examples):
            return x
        documents = as_documents(x)
        if documents is None:
            if pair is None:
                return single_texts(x)
            raise DataError(
                f"Expected documents for {pair}, a list of lists of sentences; received "
                f"{clipped(repr(as_examples(x).texts[:1]))} and others."
            )
        if pair is None:
            return Examples([" ".join(sentences) for sentences in documents])
        make = sentence_pairs if pair == "next_sentence" else ordered_pairs
        return make(documents, seed=0)

    def targets(self, examples: Examples, y: Any = None) -> np.ndarray | None:
        """int32 (pairs,), the labels of pairs; None without an objective of pairs."""
        if y is not None:
            raise DataError("A Pretrainer learns from texts alone: leave the labels out.")
        pair = self.pair_objective
        if pair is None:
            return None
        names = _PAIR_LABELS[pair]
        if examples.text_pairs is None or examples.labels is None:
            raise DataError(f"Expected pairs of texts with labels for {pair}.")
        unknown = sorted({str(label) for label in examples.labels if label not in names})
        if unknown:
            raise DataError(
                f"Expected the labels {' and '.join(names)} for {pair}, received "
                f"{clipped(', '.join(unknown))}."
            )
        return np.array([names.index(str(label)) for label in examples.labels], np.int32)

    def rows(self, examples: Examples, targets: Any, weights: Any = None) -> RowBatches:
        """Rows of at most `max_length` tokens, whose words are masked batch by batch."""
        begins = None
        if self.options.whole_words:
            begins = functools.partial(begins_word, tf.constant(word_flags(self.tokenizer)))
        options: dict[str, Any] = {"max_length": self.max_length, "begins_word": begins}
        if targets is None:
            data, _ = maskable_rows(self.tokenizer, examples.texts, **options)
        else:
            data = maskable_pairs(self.tokenizer, *examples.columns, **options)
        return PretrainingBatches(
            data,
            self.tokenizer.pad_token_id,
            masking=self.masking,
            mask_id=self.tokenizer.mask_token_id or 0,
            vocabulary_size=self.tokenizer.vocabulary_size,
            objectives=self.options.objectives,
            pair_labels=targets,
        )

    def batch_source(
        self,
        x: Any,
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        heldout: bool = False,
    ) -> BatchSource | None:
        """See `TrainingSteps.batch_source`; reads the shards of PretrainingData."""
        source = batch_source(
            self, x, masking=self.masking, batch_size=batch_size, seed=seed, shuffle=shuffle,
            heldout=heldout,
        )  # fmt: skip
        phases = as_phases(x)
        if source is None or phases is None:
            return None
        pairs, expected = phases.phases[0].data.pairs, self.pair_objective
        if expected not in (None, pairs):
            raise DataError(
                f"Expected data with pairs for {expected}, received data of the kind {pairs!r}: "
                f"build it with pairs={expected!r}."
            )
        return source.mapped(TargetsOf(self.options.objectives))

    def report(self, x: Any, *, batch_size: int = 64) -> dict[str, float]:
        """Measures held-out examples, with the same masks in each call.

        Args:
            x: PretrainingData, whose held-out examples are read; or as in `fit`.
            batch_size: int.

        Returns:
            dict: the loss and the accuracy of each objective, and the accuracy of masked tokens by
            kind; see `report.pretraining_report`.

        Raises:
            DataError: `x` does not fit the objectives.
        """
        source = self.batch_source(x, batch_size=batch_size, heldout=True)
        if source is not None:
            return pretraining_report(self, source.one_pass())
        examples = self.examples(x)
        rows = self.rows(examples, self.targets(examples))
        return pretraining_report(self, rows.batches(batch_size=batch_size, shuffle=False))

    def objective(self, examples: Any = None) -> Objective:
        """The weighted sum of the objectives' losses."""
        return sum_of_objectives(self.options.objective_weights, type(self).__name__)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> tf.Tensor:
        """Computes the weighted sum of the objectives' losses."""
        return self.loss(y, y_pred)
