"""Finds entities in texts, by tags of words or scores of spans, in one graph."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, Self, Unpack

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.inputs import as_entity_examples, with_entities
from keras_bert_zoo.data.labels import LabelMap
from keras_bert_zoo.data.spans import Entity, EntityExamples, check_entities
from keras_bert_zoo.data.tagging import Tagging
from keras_bert_zoo.data.tags import MODEL_SCHEMES, check_scheme, guess_scheme
from keras_bert_zoo.encoders.encoder import INPUT_NAMES, Encoder
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.heads.global_pointer import GlobalPointerHead
from keras_bert_zoo.heads.token_classifier import TokenClassificationHead
from keras_bert_zoo.layers.crf import ConditionalRandomField
from keras_bert_zoo.metrics.entities import (
    EntityReport,
    entity_lists,
    entity_report,
    snap_to_words,
)
from keras_bert_zoo.metrics.language_model import MaskedAccuracy
from keras_bert_zoo.presets.labels import label_config
from keras_bert_zoo.tasks.loading import TaskSource
from keras_bert_zoo.tasks.options import LoadOptions, TaskOption, TokenClassificationOptions
from keras_bert_zoo.tasks.saving import SavedParts, side_config
from keras_bert_zoo.tasks.spec import TaskSpec
from keras_bert_zoo.tasks.task import Context
from keras_bert_zoo.tasks.token_classification.decoders import SpanDecoder, TagDecoder
from keras_bert_zoo.tasks.token_classification.parts import (
    check_nested,
    load_tagger,
    new_head,
    new_tagger,
    new_tags,
)
from keras_bert_zoo.tasks.trainable import TrainableTask
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.text.words import WordWindows, word_flags
from keras_bert_zoo.training.data import prepared
from keras_bert_zoo.training.entity_targets import aligned_entities
from keras_bert_zoo.training.objective import Objective
from keras_bert_zoo.training.outputs import OutputKind, Outputs
from keras_bert_zoo.training.rows import LabelledBatches
from keras_bert_zoo.validation import is_integer


@keras.saving.register_keras_serializable("keras_bert_zoo")
class TokenClassifier(TrainableTask):
    """Finds entities, or labels every word: named entities, parts of speech.

    `predict` and the exported model return these answers, in the order of the text. Rows are
    padded with empty strings and zeros to the text with most entities (E):

    - `entity` (texts, E) str, the text of the entity; `label` (texts, E) str, its type;
    - `score` (texts, E) float32, the probability of the least probable of its words' tags; of
      nested entities the sigmoid of the span's score, above a half;
    - `start`, `end` (texts, E) int32: `text_bytes[start:end]` is the entity, in UTF-8 or in the
      bytes that the caller sent;
    - `start_character`, `end_character` (texts, E) int32, the same in characters. A byte of the
      form 0b10xxxxxx continues a character; in valid UTF-8 these are the indices of Python's str.

    A word ends at white space. Punctuation marks and Chinese characters are words. The first token
    of a word is trained and decides. Texts longer than `max_length` are split into windows that
    share `stride` tokens. The window in which a word has most context decides it, in training and
    in answers.

    With `nested`, entities may overlap: every span of words has a score for every type, and spans
    that score above 0 are entities (GlobalPointer, arXiv 2208.03054). The window in which a span
    has most context decides it. A span that no window contains is not found. Training holds
    batch size x types x length x length scores in memory; `predict` limits their number.

    `fit` takes `EntityExamples`, as `data.conll.read_conll` and `data.entity_files.read_entities`
    return them, or a list of texts and for each a list of (start, end, label) in characters.

    Args:
        encoder: Encoder.
        tokenizer: Tokenizer.
        tags: list of str, the tags of words in the order of their ids; see `from_preset`. With
            `nested`, the types of entities.
        scheme: "IOB2", "IOBES", "IO" or "words"; see `data.tags`. None: detected from the tags.
        legal_only: bool. Whether answers follow the scheme: the most probable such tags (Viterbi).
            None: True.
        crf: bool. Whether a conditional random field learns which tags follow each other.
        nested: bool. Whether entities may overlap. `scheme`, `legal_only` and `crf` are for tags
            and not accepted then.
        head: TokenClassificationHead with one unit per tag; with `nested`, GlobalPointerHead with
            the types.
        max_length: int, tokens of a window; default 128.
        stride: int, tokens; None: a quarter of a window.
        token_layout: "packed" or "padded"; see `Encoder`.

    Raises:
        ConfigError: tags that are not of the scheme, a `stride` above half a window, or options
            of tags with `nested`.
    """

    spec = TaskSpec(
        name="token-classification",
        head="token_classification",
        head_hint="labels=[...]",
        options=TokenClassificationOptions,
        arguments=("tags",),
        constants=("decoder_constants",),
        windowed=True,
    )
    stride: TaskOption[int] = TaskOption()
    decoder: TagDecoder | SpanDecoder

    def __init__(
        self,
        encoder: Encoder,
        tokenizer: Tokenizer,
        tags: Sequence[str],
        *,
        scheme: str | None = None,
        legal_only: bool | None = None,
        crf: bool = False,
        nested: bool = False,
        head: TokenClassificationHead | GlobalPointerHead | None = None,
        max_length: int | None = None,
        stride: int | None = None,
        **kwargs: Any,
    ) -> None:
        tags = list(LabelMap.of(tags).names)
        if nested:
            check_nested(tags, scheme=scheme, legal_only=legal_only, crf=crf)
        else:
            scheme = guess_scheme(tags) if scheme is None else check_scheme(scheme, MODEL_SCHEMES)
            tagging = Tagging(tags, scheme)
        legal_only = not nested and (legal_only is None or bool(legal_only))
        options = TokenClassificationOptions(
            max_length=max_length,
            scheme=scheme,
            legal_only=legal_only,
            crf=bool(crf),
            nested=bool(nested),
        )
        super().__init__(
            encoder,
            tokenizer,
            head or new_head(self.spec.head, encoder, len(tags), nested=nested),
            options=options,
            **kwargs,
        )
        room = self.max_length - 2
        stride = room // 4 if stride is None else stride
        if not is_integer(stride) or not 0 <= stride <= room // 2:
            raise ConfigError(
                f"`stride` must be from 0 to {room // 2}, half of the {room} tokens of a "
                f"window without the special ones, received {stride!r}."
            )
        self.stride = stride
        self.crf = ConditionalRandomField(len(tags), name="crf") if crf else None
        self._tags = tags
        self._word_flags = word_flags(tokenizer)
        if nested:
            self.decoder = SpanDecoder(tags)
        else:
            self.decoder = TagDecoder(tagging, legal_only, self.crf)

    @property
    def nested(self) -> bool:
        """Whether entities may overlap."""
        return bool(self.options.nested)

    @property
    def scheme(self) -> str | None:
        """The scheme of the tags; None for nested entities."""
        scheme: str | None = self.options.scheme
        return scheme

    @property
    def legal_only(self) -> bool:
        """Whether answers follow the scheme. It can be set, except for nested entities."""
        return bool(self.options.legal_only)

    @legal_only.setter
    def legal_only(self, value: bool) -> None:
        if not isinstance(self.decoder, TagDecoder):
            raise ConfigError("Nested entities have no tags, so `legal_only` cannot be set.")
        self.options = self.options.replace(legal_only=bool(value))
        self.decoder = dataclasses.replace(self.decoder, legal_only=bool(value))

    @property
    def tags(self) -> list[str]:
        """The tags of words, or the types of nested entities, in the order of their ids."""
        return list(self._tags)

    @property
    def labels(self) -> list[str]:
        """The types of entities."""
        return list(self.decoder.types)

    @property
    def decoder_constants(self) -> tuple[Any, ...]:
        """The constants of the decoder in a graph, such as the weights of the CRF."""
        return self.decoder.constants()

    @classmethod
    def from_preset(
        cls,
        preset: str | os.PathLike[str],
        *,
        labels: Sequence[str] | None = None,
        scheme: str | None = None,
        legal_only: bool | None = None,
        crf: bool | None = None,
        nested: bool | None = None,
        stride: int | None = None,
        **options: Unpack[LoadOptions],
    ) -> Self:
        """Builds a tagger on a preset.

        Args:
            preset: catalogued name or Hugging Face directory.
            labels: types of entities for a new head, to be trained; None loads the preset's head,
                whose tags its config.json names.
            scheme: None: as saved, otherwise detected from the tags; IOB2 for a new head.
            legal_only: bool. See the class. None: as saved; False for a head that was trained
                elsewhere, because its tags may be IOB1, which looks like IOB2.
            crf: bool. See the class. None: as saved; False for a new head.
            nested: bool. See the class. None: as saved; False for a new head.
            stride: int, tokens. None: as saved, otherwise a quarter of a window.
            **options: see `LoadOptions`.

        Returns:
            TokenClassifier.

        Raises:
            ConfigError: an option or the preset's config is not supported.
            CheckpointError: the preset does not exist, does not fit, or has no head to load.
        """
        given: dict[str, Any] = {"legal_only": legal_only, "crf": crf}
        if labels is None:
            source = TaskSource(cls, preset, **options)
            return load_tagger(source, nested=nested, scheme=scheme, stride=stride, **given)
        tags, scheme = new_tags(labels, nested=nested, scheme=scheme, **given)
        source = TaskSource(cls, preset, **options)
        return new_tagger(source, tags, nested=nested, scheme=scheme, stride=stride, **given)

    def saved_parts(self) -> SavedParts:
        """Labels in config.json; weights that transformers lacks in a separate file."""
        dropped = ("scheme", "legal_only", "crf") if self.nested else ("nested",)
        side = {name: value for name, value in side_config(self).items() if name not in dropped}
        config = label_config(self._tags)
        if self.nested:
            config = {**self.encoder.other_config, **config}
            return SavedParts(config, side, {"global_pointer": self.head})
        return SavedParts(config, side, {} if self.crf is None else {"crf": self.crf})

    @property
    def _windows(self) -> WordWindows:
        return WordWindows(self.tokenizer, self._word_flags, self.max_length, self.stride)

    # === The graph ===

    @classmethod
    def connect(
        cls,
        encoder: Encoder,
        head: Any,
        inputs: Any,
        *,
        token_layout: str = "packed",
        attention_groups: int = 1,
    ) -> Any:
        """Connects an encoder and the head; float32 (B, S, units), logits or queries and keys."""
        states, layout = encoder.token_states(
            dict(inputs), token_layout=token_layout, attention_groups=attention_groups
        )
        return head(states, layout)

    def encode_texts(
        self, *texts: tf.Tensor, options: Any = None
    ) -> tuple[dict[str, tf.Tensor], Context]:
        """Cuts texts into windows and finds their words; see the base class."""
        finder = self._windows
        windows = finder.cut(texts[0])
        places = self.decoder.find_places(finder, windows, texts[0])
        return {n: windows[n] for n in INPUT_NAMES}, {"places": places, "texts": texts[0]}

    def decode(
        self, outputs: Any, context: Context | None, *, options: Any = None
    ) -> dict[str, tf.Tensor]:
        """Converts outputs to entities; see the class.

        If callers send token ids, words are unknown, and each token gets an answer: `label` string
        (B, S), the most probable tag; `score` float32 (B, S), its probability; and `logits`
        (B, S, tags). With `nested`, the answers are the spans of any tokens: `label` string (B, E),
        `score` float32 (B, E), and int32 (B, E) the columns `start` and `end`, exclusive.
        """
        if context is None:
            return self.decoder.answers(outputs)
        return self.decoder.decode(outputs, context["places"], context["texts"])

    def answer_difference(
        self, expected: dict[str, np.ndarray], got: dict[str, np.ndarray], tolerance: float
    ) -> float | None:
        """Compares two answers; almost equally probable entities may differ."""
        return self.decoder.difference(expected, got, tolerance)

    # === Training and measuring ===

    def examples(self, x: Any, y: Any = None, *, labelled: bool = True) -> EntityExamples:
        """Converts texts to EntityExamples."""
        return as_entity_examples(x)

    def targets(self, examples: EntityExamples, y: Any = None) -> list[list[Entity]]:
        """The entities of each text, checked."""
        if y is not None:
            examples = with_entities(examples, y, self.labels)
        if examples.entities is None:
            raise DataError("There are no entities: give `y`, or EntityExamples with entities.")
        check_entities(examples, self.labels, nested=self.nested)
        return examples.entities

    def rows(
        self, examples: EntityExamples, targets: list[list[Entity]], weights: Any = None
    ) -> LabelledBatches:
        """Cuts texts into windows and labels what each decides."""
        data = self.decoder.label(examples, targets, self._windows, weights)
        return LabelledBatches(data, self.tokenizer.pad_token_id)

    def objective(self, examples: Any = None) -> Objective:
        """The decoder's loss; the best epoch has the highest F1 of entities."""
        kind: OutputKind = "other" if self.nested or self.crf is not None else "tokens"
        accuracy = None if self.nested else MaskedAccuracy
        return Objective(
            outputs=Outputs(kind, type(self).__name__, len(self._tags), accuracy=accuracy),
            loss=self.decoder.loss,
            metrics=self.decoder.metrics,
            monitor=("val_f1", "max"),
            measure=self._measure,
        )

    def _measure(
        self, examples: EntityExamples, true: list[list[Entity]], batch_size: int
    ) -> dict[str, float]:
        # `rows` has logged the misaligned entities of the held-out data.
        aligned = aligned_entities(examples, true, self._windows, nested=self.nested, warn=False)
        report = self._report(examples, aligned, batch_size)
        return {name: getattr(report, name) for name in ("precision", "recall", "f1")}

    def report(self, x: Any, y: Any = None, *, batch_size: int = 64) -> EntityReport:
        """Computes precision, recall and F1 of entities by type, as seqeval counts them.

        True entities are aligned as in training: an entity that begins or ends within a word
        becomes that whole word; their number is logged. If the examples have words, those are
        used, and a predicted entity contains the words whose first characters it contains.

        Args:
            x: as in `fit`.
            y: as in `fit`.
            batch_size: int.

        Returns:
            EntityReport.

        Raises:
            DataError: labels that are unknown or do not fit the texts.
        """
        return self._report(*self.align_entities(x, y), batch_size)

    def _report(
        self, examples: EntityExamples, true: list[list[Entity]], batch_size: int
    ) -> EntityReport:
        predicted = self.find_entities(examples, batch_size=batch_size)
        return entity_report(
            [set(entities) for entities in true],
            [{Entity(*entity[:3]) for entity in entities} for entities in predicted],
            self.labels,
        )

    def align_entities(
        self, x: Any, y: Any = None, *, warn: bool = True
    ) -> tuple[EntityExamples, list[list[Entity]]]:
        """Makes true entities begin and end with words, as `report` compares them.

        Args:
            x: as in `fit`.
            y: as in `fit`.
            warn: bool. Whether to log how many are misaligned.

        Returns:
            the examples, and for each the list of its entities.

        Raises:
            DataError: labels that are unknown or do not fit the texts.
        """
        examples, true = prepared(self, x, y)
        aligned = aligned_entities(examples, true, self._windows, nested=self.nested, warn=warn)
        return examples, aligned

    def find_entities(
        self, x: Any, *, batch_size: int = 64, verbose: Any = 0
    ) -> list[list[tuple[int, int, str, float]]]:
        """Finds entities, as a list for each text.

        Args:
            x: as in `predict`. If examples have words, entities begin and end with them.
            batch_size: int.
            verbose: 1 shows a progress bar.

        Returns:
            for each text a list of (start, end, label, score), in characters.
        """
        examples = self.examples(x)
        entities = entity_lists(self.predict(examples, batch_size=batch_size, verbose=verbose))
        if examples.words is None:
            return entities
        return [snap_to_words(*pair) for pair in zip(entities, examples.words, strict=True)]
