"""The relation between two entities that are marked in a text."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, Self, Unpack

import keras
import tensorflow as tf

from keras_bert_zoo.adaptation.vocabulary import extend_vocabulary
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.inputs import as_str, single_texts
from keras_bert_zoo.data.labels import LabelMap
from keras_bert_zoo.data.semeval import MARKERS, check_markers
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.heads.relation import RelationHead, find_entities, make_relation_head
from keras_bert_zoo.metrics.relations import RelationReport, relation_report
from keras_bert_zoo.presets.labels import label_config
from keras_bert_zoo.tasks.loading import TaskSource
from keras_bert_zoo.tasks.options import LoadOptions, RelationOptions
from keras_bert_zoo.tasks.saving import SavedParts
from keras_bert_zoo.tasks.spec import TaskSpec
from keras_bert_zoo.tasks.task import Context
from keras_bert_zoo.tasks.text_classifier import TextClassifier, labelled_logits
from keras_bert_zoo.text.offsets import character_offsets, cut_rows
from keras_bert_zoo.text.token_offsets import offsets_of_columns
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.training.objective import Objective
from keras_bert_zoo.training.text_labels import checked_labels


@keras.saving.register_keras_serializable("keras_bert_zoo")
class RelationClassifier(TextClassifier):
    """Predicts the relation between two marked entities of a text: R-BERT.

    The text contains the markers: `The <e1>author</e1> of the <e2>book</e2>`. The four markers are
    special tokens, found by exact case.

    `predict` and the exported model answer with `label` (texts,) str, `score` (texts,) float32, its
    probability, `scores` (texts, labels) float32, in the order of `labels`; and for the first and
    the second entity

    - `entity` (texts, 2) str, their texts;
    - `start`, `end` (texts, 2) int32: `text_bytes[start:end]` is the entity in the text with its
      markers, in UTF-8 or in the caller's bytes;
    - `start_character`, `end_character` (texts, 2) int32, the same in characters (bytes other than
      0b10xxxxxx). For valid UTF-8 these are indices of Python's str.

    A text in which an entity is not marked, or comes after `max_length`, is answered, too. The head
    then uses [CLS] for the entity; its text is empty and its offsets are 0. If markers repeat, the
    first opening marker and the first closing marker after it count. `fit` and `report` take only
    texts with both entities marked once, apart from each other.

    Args:
        encoder: Encoder, whose pooler is not used.
        tokenizer: Tokenizer that knows `data.semeval.MARKERS`; see `from_preset`.
        labels: names of relations with their directions, in the order of their ids.
        pooling: "mean" or "start"; see `RelationHead`.
        head: RelationHead or None for a new one.
        max_length: int, tokens. Longer texts are truncated; default 128.
        token_layout: "packed" or "padded"; see `Encoder`.

    Raises:
        ConfigError: fewer than two labels, a tokenizer without markers, or a `max_length` beyond
            the encoder's positions.

    Source: arXiv 1905.08284.
    """

    spec = TaskSpec(
        name="relations",
        head_hint="labels=[...]",
        options=RelationOptions,
        arguments=("labels",),
        constants=("label_map",),
    )

    def __init__(
        self,
        encoder: Encoder,
        tokenizer: Tokenizer,
        labels: Sequence[str],
        *,
        pooling: str = "mean",
        head: RelationHead | None = None,
        max_length: int | None = None,
        **kwargs: Any,
    ) -> None:
        missing = [marker for marker in MARKERS if marker not in tokenizer.special_tokens]
        if missing:
            raise ConfigError(
                f"The tokenizer lacks the special tokens {', '.join(missing)}: add them with "
                "`extend_vocabulary(..., special=True)`, or use `from_preset`."
            )
        names = checked_labels(labels, multi_label=False).names
        if head is None:
            marker_ids = [tokenizer.token_to_id(marker) for marker in MARKERS]
            head = make_relation_head(encoder, len(names), marker_ids=marker_ids, pooling=pooling)
        super().__init__(
            encoder,
            tokenizer,
            names,
            head=head,
            options=RelationOptions(max_length=max_length, pooling=head.pooling),
            **kwargs,
        )

    @classmethod
    def from_preset(  # type: ignore[override]
        cls,
        preset: str | os.PathLike[str],
        *,
        labels: Sequence[str] | None = None,
        pooling: str | None = None,
        **options: Unpack[LoadOptions],
    ) -> Self:
        """Builds the task on a preset.

        A tokenizer without the markers gets them by `extend_vocabulary`. The embedding of a marker
        starts as the mean embedding of the tokens that the marker was split into before.

        Args:
            preset: catalogued name or Hugging Face directory.
            labels: names for a new head, to be trained; None loads what `save` wrote.
            pooling: "mean" or "start". None: as saved; "mean" for a new head.
            **options: see `LoadOptions`.

        Returns:
            RelationClassifier.

        Raises:
            ConfigError: an option or the preset's config is not supported.
            CheckpointError: the preset is missing, does not fit, or has no head to load.
        """
        if labels is not None:  # before anything is fetched
            labels = checked_labels(labels, multi_label=False).names
        source = TaskSource(cls, preset, **options)
        if labels is not None:
            parts = source.load_bare(side={}, pooler=False)
            new = [marker for marker in MARKERS if marker not in parts.tokenizer.vocabulary]
            if new:
                parts.encoder, parts.tokenizer = extend_vocabulary(
                    parts.encoder, parts.tokenizer, new, special=True
                )
            return parts.build(cls, labels, pooling=pooling or "mean")
        saved = source.side.get("pooling")
        if source.side.get("task") != cls.spec.name or "id2label" not in source.config:
            raise CheckpointError(
                f"{source.directory} has no head for {cls.__name__}. Only `save` of this package "
                "writes one; transformers has no such model. To train a new head, pass "
                "labels=[...]."
            )
        if pooling not in (None, saved):
            raise ConfigError(
                f"The head was trained with `pooling={saved!r}`, received {pooling!r}."
            )
        parts = source.load_bare(side=source.side, pooler=False)
        task = parts.build(cls, LabelMap.from_id2label(source.config["id2label"]).names)
        parts.load_extra_weights(task)
        return task

    def saved_parts(self) -> SavedParts:
        """Labels, in config.json, and the head's weights, in a separate file."""
        config = {**self.encoder.other_config, **label_config(self.labels)}
        return SavedParts(config, extra_layers=self.head.extra_layers())

    # === The graph ===

    @classmethod
    def connect(cls, encoder: Encoder, head: Any, inputs: Mapping[str, Any], **layout: Any) -> Any:
        """See `Task.connect`; the outputs are float32 logits (B, labels)."""
        states, token_layout = encoder.token_states(dict(inputs), **layout)
        return head(states, token_layout, inputs["token_ids"], inputs["padding_mask"])

    def encode_texts(
        self, *texts: tf.Tensor, options: Any = None
    ) -> tuple[dict[str, tf.Tensor], Context]:
        """Tokenizes texts, and finds their entities."""
        ids, starts, ends = self.tokenizer.tokenize_with_offsets(texts[0])
        inputs = self.tokenizer.pack(ids, max_length=self.max_length)
        begin, end, exists = find_entities(
            inputs["token_ids"], inputs["padding_mask"], self.head.marker_ids
        )
        start_bytes = offsets_of_columns(starts, begin, exists)
        end_bytes = tf.maximum(start_bytes, offsets_of_columns(ends, end - 1, exists))
        return inputs, {"text": texts[0], "start": start_bytes, "end": end_bytes}

    def decode(
        self, outputs: tf.Tensor, context: Context | None, *, options: Any = None
    ) -> dict[str, tf.Tensor]:
        """Converts logits to labels and scores, and adds the entities; see the class."""
        answers = super().decode(outputs, context, options=options)
        if context is None:
            return answers
        texts, start, end = context["text"], context["start"], context["end"]  # (B,), (B, 2) twice
        return answers | {
            "entity": cut_rows(texts, start, end),
            "start": start,
            "end": end,
            "start_character": character_offsets(texts, start),
            "end_character": character_offsets(texts, end),
        }

    # === Training and measuring ===

    def examples(self, x: Any, y: Any = None, *, labelled: bool = True) -> Examples:
        """Takes single texts; for `fit` and `report` with both entities marked once."""
        examples = single_texts(x)
        if labelled:
            texts = [as_str(text) for text in examples.texts]
            check_markers(Examples(texts, rows=examples.rows, path=examples.path))
        return examples

    def objective(self, examples: Any = None) -> Objective:
        """The objective of a classifier, without datasets: their texts cannot be checked."""
        objective = super().objective(examples)
        return dataclasses.replace(objective, dataset_targets=None, probes=False)

    def report(  # type: ignore[override]
        self, x: Any, y: Any = None, *, batch_size: int = 64
    ) -> RelationReport:
        """SemEval-2010 task 8's official score, and the scores of each relation.

        Args:
            x: as in `fit`.
            y: as in `fit`.
            batch_size: int.

        Returns:
            RelationReport.

        Raises:
            DataError: labels that are unknown, or texts without marked entities.
        """
        targets, logits = labelled_logits(self, x, y, batch_size=batch_size)
        true, predicted = (
            [self.labels[index] for index in ids] for ids in (targets, logits.argmax(axis=-1))
        )
        return relation_report(true, predicted)
