"""Finds entities in texts: the tags of words, read as spans, in one graph."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, ClassVar, Self

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.labels import LabelMap
from keras_bert_zoo.data.pipeline import LabelledRows
from keras_bert_zoo.data.spans import Entity, EntityExamples, check_entities
from keras_bert_zoo.data.tags import MODEL_SCHEMES, check_scheme, guess_scheme
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.heads.global_pointer import GlobalPointerHead
from keras_bert_zoo.heads.token_classifier import TokenClassificationHead
from keras_bert_zoo.layers.crf import ConditionalRandomField
from keras_bert_zoo.metrics.entities import EntityReport, entity_report
from keras_bert_zoo.tasks.answering import Context, as_bytes
from keras_bert_zoo.tasks.task import Task
from keras_bert_zoo.tasks.token_classification.alignment import aligned_entities
from keras_bert_zoo.tasks.token_classification.decoders import (
    EntityDecoder,
    SpanDecoder,
    TagDecoder,
)
from keras_bert_zoo.tasks.token_classification.entities import Tagging, word_flags
from keras_bert_zoo.tasks.token_classification.parts import check_nested, load_tagger, new_head
from keras_bert_zoo.tasks.token_classification.training import (
    EntityF1,
    TagAccuracy,
    answer_by_size,
    as_entity_examples,
    batch_sizes,
    entity_lists,
    snap_to_words,
    with_entities,
)
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.training.outputs import OutputKind, Outputs


class TokenClassifier(Task):
    """Finds entities, or labels every word: named entities, parts of speech.

    `predict` and the exported model answer, padded to the text with most entities (E) by empty
    strings and zeros, in the order of the text,

    - `entity` (texts, E) str, the text of the entity; `label` (texts, E) str, its type;
    - `score` (texts, E) float32, the probability of the least sure of its words' tags; of nested
      entities the sigmoid of the span's own score, more than a half;
    - `start`, `end` (texts, E) int32: `text_bytes[start:end]` is the entity in UTF-8, or in
      whatever bytes the caller sent;
    - `start_character`, `end_character` (texts, E) int32, the same in characters: of bytes those
      count that do not continue a character (are not 0b10xxxxxx), which for valid UTF-8 are the
      indices of Python's str.

    A word ends at white space; a punctuation mark and a Chinese character are words by themselves.
    The first token of each is what is trained and what decides. Texts longer than `max_length` are
    cut into windows that overlap by `stride` tokens, and every word is decided by the window in
    which it has most context, in training as in answers.

    With `nested`, entities may overlap and stand in each other: not words are tagged, but every
    span of words has a score for every type, and those above 0 are entities (GlobalPointer,
    arXiv 2208.03054). A span is decided by the window in which it has most context; one that is
    longer than what windows share, and across a border, is in none and not found. Training holds
    batch size x types x length x length scores in memory; answering bounds them.

    `fit` takes `EntityExamples`, as `data.conll.read_conll` and `data.entity_files.read_entities`
    return them; or a list of texts and for each a list of (start, end, label) in characters.

    Args:
        encoder: Encoder.
        tokenizer: Tokenizer.
        tags: list of str, the tags of words in the order of their ids; see `from_preset`. With
            `nested`, the types of entities.
        scheme: "IOB2", "IOBES", "IO" or "words"; see `data.tags`. None: detected from the tags.
        legal_only: bool. Whether answers keep to the scheme: the best tags that do (Viterbi).
            None: yes, as this package trains them.
        crf: bool. Whether a conditional random field learns which tags follow on each other.
        nested: bool. Whether entities may overlap; there are no tags then, so no `scheme`,
            `legal_only` and `crf` either.
        head: TokenClassificationHead with one unit a tag; with `nested`, GlobalPointerHead with
            the types.
        max_length: int, tokens of a window; default 128.
        stride: int, tokens; None: a quarter of a window.
        token_layout: "packed" or "padded"; see `Encoder`.

    Raises:
        ConfigError: tags that are not of the scheme, a `stride` beyond half a window, or options
            of tags beside `nested`.
    """

    task_name: ClassVar[str] = "token-classification"
    head_kind: ClassVar[str] = "token_classification"
    takes_datasets: ClassVar[bool] = False
    can_probe: ClassVar[bool] = False

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
        token_layout: str = "packed",
        **kwargs: Any,
    ) -> None:
        tags = list(LabelMap.of(tags).names)
        tagging: Tagging | None = None
        if nested:
            check_nested(tags, scheme=scheme, legal_only=legal_only, crf=crf)
        else:
            scheme = guess_scheme(tags) if scheme is None else check_scheme(scheme, MODEL_SCHEMES)
            tagging = Tagging(tags, scheme)
        super().__init__(
            encoder,
            tokenizer,
            head or new_head(self.head_kind, encoder, len(tags), nested=nested),
            max_length=max_length,
            token_layout=token_layout,
            **kwargs,
        )
        room = self.max_length - 2
        if stride is None:
            stride = room // 4
        if isinstance(stride, bool) or not isinstance(stride, int) or not 0 <= stride <= room // 2:
            raise ConfigError(
                f"`stride` must be between 0 and {room // 2}, half of the {room} tokens that a "
                f"window has beside the special ones, got {stride!r}."
            )
        self.stride = stride
        self.legal_only = not nested and (legal_only is None or bool(legal_only))
        self.crf = ConditionalRandomField(len(tags), name="crf") if crf else None
        self._tags = tags
        self._word_flags = word_flags(tokenizer)
        self.decoder: EntityDecoder = (
            SpanDecoder(tags)
            if tagging is None
            else TagDecoder(tagging, legal_only=self.legal_only, crf=self.crf)
        )

    @property
    def tags(self) -> list[str]:
        """The tags of words, in the order of their ids; of nested entities the types."""
        return list(self._tags)

    @property
    def labels(self) -> list[str]:
        """The types of entities."""
        return self.decoder.types

    @property
    def nested(self) -> bool:
        """Whether entities may overlap."""
        return self.decoder.nested

    @property
    def scheme(self) -> str | None:
        """What the tags are written in, see `data.tags`; None for nested entities."""
        return self.decoder.tagging.scheme if isinstance(self.decoder, TagDecoder) else None

    @classmethod
    def from_preset(  # type: ignore[override]
        cls,
        preset: str | os.PathLike[str],
        *,
        labels: Sequence[str] | None = None,
        scheme: str | None = None,
        legal_only: bool | None = None,
        crf: bool | None = None,
        nested: bool | None = None,
        max_length: int | None = None,
        stride: int | None = None,
        token_layout: str = "packed",
        dtype: Any = None,
        allow_pickle: bool = False,
        ignore_config_keys: Iterable[str] = (),
    ) -> Self:
        """Builds a tagger on a preset.

        Args:
            preset: catalogued name or Hugging Face directory.
            labels: types of entities for a new head, to be trained; None loads the preset's own
                head, whose tags its config.json names.
            scheme: None: as saved with the head that is loaded, or told by its tags; IOB2 for a
                new one.
            legal_only: bool. See the class. None: as saved; False for a head that was not trained
                by this package: its tags may be IOB1, which their names do not tell.
            crf: bool. None: as saved with the head that is loaded; False for a new one.
            nested: bool. Whether entities may overlap; see the class. None: as saved with the head
                that is loaded; False for a new one.
            max_length: int, tokens. None: as saved with the head that is loaded, otherwise 128.
            stride: int, tokens. None: as saved, otherwise a quarter of a window.
            token_layout: "packed" or "padded".
            dtype: Keras dtype policy of the encoder, "mixed_bfloat16" for one.
            allow_pickle: bool. Whether a pytorch_model.bin may be fetched and read; see
                `open_checkpoint`.
            ignore_config_keys: config.json keys to leave unread although they are unknown.

        Returns:
            TokenClassifier.

        Raises:
            ConfigError: an option or the preset's config is not supported.
            CheckpointError: the preset is not there, does not fit, or has no head to load.
        """
        return load_tagger(
            cls,
            preset,
            labels,
            {
                "scheme": scheme,
                "legal_only": legal_only,
                "crf": crf,
                "nested": nested,
                "max_length": max_length,
                "stride": stride,
            },
            token_layout=token_layout,
            dtype=dtype,
            allow_pickle=allow_pickle,
            ignore_config_keys=ignore_config_keys,
        )

    @classmethod
    def _head_hint(cls) -> str:
        return "labels=[...]"

    def _task_config(self) -> dict[str, Any]:
        names = LabelMap(tuple(self._tags))
        kept = self.encoder.other_config if self.nested else {}
        return {
            **kept,
            "id2label": {str(i): name for i, name in names.id2label().items()},
            "label2id": names.label2id(),
        }

    def _side_config(self) -> dict[str, Any]:
        side = super()._side_config() | {"stride": self.stride}
        if self.nested:
            return side | {"nested": True}
        return side | {
            "scheme": self.scheme,
            "legal_only": self.legal_only,
            "crf": self.crf is not None,
        }

    def _saved_heads(self) -> dict[str, keras.layers.Layer]:
        return {} if self.nested else super()._saved_heads()

    def _own_layers(self) -> dict[str, keras.layers.Layer]:
        if self.nested:
            return {"global_pointer": self.head}
        return {} if self.crf is None else {"crf": self.crf}

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

    def encode_texts(self, *texts: tf.Tensor) -> tuple[dict[str, tf.Tensor], Context]:
        """Cuts texts into windows and finds their words; see the base class."""
        windows = self.tokenizer.windows(texts[0], max_length=self.max_length, stride=self.stride)
        flags = tf.constant(self._word_flags)
        places = self.decoder.find_places(windows, self.stride, flags, texts[0])
        inputs = {name: windows[name] for name in ("token_ids", "segment_ids", "padding_mask")}
        return inputs, {"places": places, "texts": texts[0]}

    def decode(self, outputs: Any, context: Context) -> dict[str, tf.Tensor]:
        """Makes entities of what the model says of windows; see the class."""
        return self.decoder.decode(outputs, context["places"], context["texts"])

    def answers(self, outputs: Any) -> dict[str, tf.Tensor]:
        """What is said of token ids, whose words are not known.

        Args:
            outputs: what the model returned.

        Returns:
            each token by itself: `label` string (B, S), the likeliest tag; `score` float32 (B, S),
            its probability; and the `logits` (B, S, tags). Of nested entities the spans of any
            tokens: `label` string (B, E), `score` float32 (B, E), and int32 (B, E) the columns
            `start` and `end`, the first behind it.
        """
        return self.decoder.answers(outputs)

    def _graph_key(self) -> tuple[Any, ...]:
        return (*super()._graph_key(), self.stride, *self.decoder.constants())

    def answer_difference(
        self, expected: dict[str, np.ndarray], got: dict[str, np.ndarray], tolerance: float
    ) -> float | None:
        """Compares two answers; entities that hang on a word of two like tags may differ."""
        return self.decoder.difference(expected, got, tolerance)

    # === Text to batches ===

    def answer_rows(
        self, *columns: Sequence[Any], batch_size: int = 64, verbose: Any = 0
    ) -> dict[str, np.ndarray]:
        """Answers texts; of those with many windows fewer at once, for they are all in memory."""
        texts = [as_bytes(text) for text in columns[0]]
        step = self.max_length - 2 - self.stride
        answer = partial(super().answer_rows, verbose=verbose)
        return answer_by_size(texts, batch_sizes(texts, step, batch_size), answer)

    def _examples(self, x: Any) -> EntityExamples:
        return as_entity_examples(x)

    def _text_columns(self, examples: EntityExamples) -> tuple[Sequence[Any], ...]:
        return (examples.texts,)

    def _targets(self, y: Any, examples: EntityExamples) -> list[list[Entity]]:
        if y is not None:
            examples = with_entities(examples, y, self.labels)
        if examples.entities is None:
            raise DataError("There are no entities: give `y`, or EntityExamples with entities.")
        check_entities(examples, self.labels, nested=self.nested)
        return examples.entities

    def _labelled_rows(
        self, examples: EntityExamples, targets: list[list[Entity]], weights: Any = None
    ) -> LabelledRows:
        """Cuts texts into windows and labels what each decides on."""
        return self.decoder.label(
            examples,
            targets,
            tokenizer=self.tokenizer,
            word_flags=self._word_flags,
            max_length=self.max_length,
            stride=self.stride,
            weights=weights,
        )

    # === Training and measuring ===

    def _output_kind(self) -> Outputs:
        kind: OutputKind = "other" if self.nested or self.crf is not None else "tokens"
        accuracy = None if self.nested else TagAccuracy
        return Outputs(kind, type(self).__name__, len(self._tags), accuracy=accuracy)

    def _default_loss(self) -> keras.losses.Loss:
        return self.decoder.loss()

    def _default_metrics(self) -> list[keras.metrics.Metric]:
        return self.decoder.metrics()

    def _dev_callbacks(
        self, examples: EntityExamples, targets: list[list[Entity]], batch_size: int
    ) -> list[keras.callbacks.Callback]:
        # What had to move was logged with the labels of the held-out data.
        aligned = self._aligned(examples, targets, warn=False)
        return [EntityF1(self, examples, aligned, batch_size)]

    def _monitor(self) -> tuple[str, str]:
        return "val_f1", "max"

    def report(self, x: Any, y: Any = None, *, batch_size: int = 64) -> EntityReport:
        """Precision, recall and F1 of entities by type, as seqeval counts them.

        True entities are aligned as in training: one that begins or ends within a word is that
        whole word, and how many are is logged. Where the examples have words, those count, and a
        word is in the predicted entity that its first character is in.

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

    def align_entities(
        self, x: Any, y: Any = None, *, warn: bool = True
    ) -> tuple[EntityExamples, list[list[Entity]]]:
        """Makes true entities begin and end with words, as `report` compares them.

        Args:
            x: as in `fit`.
            y: as in `fit`.
            warn: bool. Whether to log how many had to move.

        Returns:
            the examples, and for each the list of its entities.

        Raises:
            DataError: labels that are unknown or do not fit the texts.
        """
        examples, true = self._prepared(x, y)
        return examples, self._aligned(examples, true, warn=warn)

    def _aligned(
        self, examples: EntityExamples, true: list[list[Entity]], *, warn: bool
    ) -> list[list[Entity]]:
        return aligned_entities(
            examples,
            true,
            tokenizer=self.tokenizer,
            word_flags=self._word_flags,
            max_length=self.max_length,
            stride=self.stride,
            nested=self.nested,
            warn=warn,
        )

    def _report(
        self, examples: EntityExamples, true: list[list[Entity]], batch_size: int
    ) -> EntityReport:
        found = self.find_entities(examples, batch_size=batch_size)
        return entity_report(
            [set(entities) for entities in true],
            [{Entity(*entity[:3]) for entity in entities} for entities in found],
            self.labels,
        )

    def find_entities(
        self, x: Any, *, batch_size: int = 64, verbose: Any = 0
    ) -> list[list[tuple[int, int, str, float]]]:
        """Finds entities, as a list for each text.

        Args:
            x: as in `predict`. Of examples with words, entities begin and end with a word.
            batch_size: int.
            verbose: 1 shows a progress bar.

        Returns:
            for each text a list of (start, end, label, score), in characters.
        """
        examples = self._examples(x)
        found = entity_lists(self.predict(examples, batch_size=batch_size, verbose=verbose))
        if examples.words is None:
            return found
        return [snap_to_words(*pair) for pair in zip(found, examples.words, strict=True)]
