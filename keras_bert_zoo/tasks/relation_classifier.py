"""The relation between two entities that are marked in a text."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.adaptation.vocabulary import extend_vocabulary
from keras_bert_zoo.checkpoints.config_file import read_config
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.labels import LabelMap
from keras_bert_zoo.data.semeval import MARKERS, check_markers
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import CheckpointError, ConfigError, DataError
from keras_bert_zoo.heads.relation import RelationHead, find_entities
from keras_bert_zoo.metrics.relations import RelationReport, relation_report
from keras_bert_zoo.presets.io import find_preset, load_encoder, load_tokenizer
from keras_bert_zoo.tasks.answering import Context
from keras_bert_zoo.tasks.files import check_saved_length, read_side_file
from keras_bert_zoo.tasks.inputs import as_examples
from keras_bert_zoo.tasks.own_weights import load_own_weights
from keras_bert_zoo.tasks.question_answering.spans import character_offsets
from keras_bert_zoo.tasks.text_classifier import TextClassifier, checked_labels
from keras_bert_zoo.text.tokenizer import Tokenizer


class RelationClassifier(TextClassifier):
    """Tells the relation between two entities of a text: R-BERT.

    The entities are marked in the text itself: `The <e1>author</e1> of the <e2>book</e2>`. The four
    markers are special tokens, found as they stand, by exact case.

    `predict` and the exported model answer with `label` (texts,) str, `score` (texts,) float32, its
    probability, `scores` (texts, labels) float32, in the order of `labels`; and of the two
    entities, in the order of their numbers,

    - `entity` (texts, 2) str, their texts;
    - `start`, `end` (texts, 2) int32: `text_bytes[start:end]` is the entity in the text as sent,
      markers included, in UTF-8 or whatever bytes the caller sent;
    - `start_character`, `end_character` (texts, 2) int32, the same in characters (bytes that do not
      continue one, 0b10xxxxxx), for valid UTF-8 the indices of Python's str.

    A text in which an entity is not marked, or stands beyond `max_length`, is answered, too: the
    entity is then read at [CLS], its text is empty and its offsets are 0. Of several, the first
    opening marker and the first closing one behind it count. To train and to measure, `fit` and
    `report` take only texts with both entities marked once, apart from each other.

    Args:
        encoder: Encoder, whose pooler is not used.
        tokenizer: Tokenizer that knows `data.semeval.MARKERS`; see `from_preset`.
        labels: names of relations, directions included, in the order of their ids.
        pooling: "mean" or "start"; see `RelationHead`.
        head: RelationHead or None for a new one.
        max_length: int, tokens. Longer texts are truncated; default 128.
        token_layout: "packed" or "padded"; see `Encoder`.

    Raises:
        ConfigError: fewer than two labels, a tokenizer without markers, or a `max_length` beyond
            the encoder's positions.

    Source: arXiv 1905.08284.
    """

    task_name: ClassVar[str] = "relations"
    head_kind: ClassVar[str] = ""
    takes_pairs: ClassVar[bool | None] = False
    takes_datasets: ClassVar[bool] = False
    can_probe: ClassVar[bool] = False

    def __init__(
        self,
        encoder: Encoder,
        tokenizer: Tokenizer,
        labels: Sequence[str],
        *,
        pooling: str = "mean",
        head: RelationHead | None = None,
        max_length: int | None = None,
        token_layout: str = "packed",
        **kwargs: Any,
    ) -> None:
        missing = [marker for marker in MARKERS if marker not in tokenizer.special_tokens]
        if missing:
            raise ConfigError(
                f"The tokenizer lacks the special tokens {', '.join(missing)}: add them with "
                "`extend_vocabulary(..., special=True)`, or use `from_preset`, which does."
            )
        names = checked_labels(labels, multi_label=False).names
        if head is None:
            config = encoder.config
            head = RelationHead(
                len(names),
                hidden_dim=encoder.output["sequence_output"].shape[-1],
                marker_ids=[tokenizer.token_to_id(marker) for marker in MARKERS],
                pooling=pooling,
                dropout=config.dropout,
                initializer_range=config.initializer_range,
                name="relation",
            )
        super().__init__(
            encoder,
            tokenizer,
            names,
            head=head,
            max_length=max_length,
            token_layout=token_layout,
            **kwargs,
        )

    @classmethod
    def from_preset(  # type: ignore[override]
        cls,
        preset: str | os.PathLike[str],
        *,
        labels: Sequence[str] | None = None,
        pooling: str | None = None,
        max_length: int | None = None,
        token_layout: str = "packed",
        dtype: Any = None,
        allow_pickle: bool = False,
        ignore_config_keys: Iterable[str] = (),
    ) -> Self:
        """Builds the task on a preset.

        A tokenizer that does not know the markers learns them: each gets an embedding that starts
        as the mean of those of the pieces into which it was cut before (`extend_vocabulary`).

        Args:
            preset: catalogued name or Hugging Face directory.
            labels: names for a new head, to be trained; None loads what `save` wrote.
            pooling: "mean" or "start". None: as saved; "mean" for a new head.
            max_length: int, tokens. None: as saved with the head that is loaded, otherwise 128.
            token_layout: "packed" or "padded".
            dtype: Keras dtype policy of the encoder, "mixed_bfloat16" for one.
            allow_pickle: bool. Whether a pytorch_model.bin may be fetched and read.
            ignore_config_keys: config.json keys to leave unread although they are unknown.

        Returns:
            RelationClassifier.

        Raises:
            ConfigError: an option or the preset's config is not supported.
            CheckpointError: the preset is not there, does not fit, or has no head to load.
        """
        new_head = labels is not None
        if labels is not None:
            labels = checked_labels(labels, multi_label=False).names
        directory = find_preset(preset, allow_pickle=allow_pickle)
        side: dict[str, Any] = {}
        if labels is None:
            side = read_side_file(directory)
            raw = read_config(directory)
            if side.get("task") != cls.task_name or "id2label" not in raw:
                raise CheckpointError(
                    f"{directory} has no head for {cls.__name__}: transformers knows no such "
                    "model, only what `save` wrote is loaded. To train one, say what it is for: "
                    "labels=[...]."
                )
            labels = LabelMap.from_id2label(raw["id2label"]).names
            if pooling not in (None, side.get("pooling")):
                raise ConfigError(
                    f"The head was trained with `pooling={side.get('pooling')!r}`, got {pooling!r}."
                )
        encoder = load_encoder(
            directory,
            pooler=False,
            allow_pickle=allow_pickle,
            ignore_config_keys=ignore_config_keys,
            dtype=dtype,
        )
        check_saved_length(side, encoder.config.max_tokens, directory)
        tokenizer = load_tokenizer(directory)
        new = [marker for marker in MARKERS if marker not in tokenizer.vocabulary]
        if new and new_head:
            encoder, tokenizer = extend_vocabulary(encoder, tokenizer, new, special=True)
        task = cls(
            encoder,
            tokenizer,
            labels,
            pooling=side.get("pooling", "mean") if pooling is None else pooling,
            max_length=side.get("max_length") if max_length is None else max_length,
            token_layout=token_layout,
        )
        if not new_head:
            load_own_weights(directory, task._own_layers())
            task._restore(side)
        return task

    def _own_layers(self) -> dict[str, keras.layers.Layer]:
        layers: dict[str, keras.layers.Layer] = self.head.own_layers()
        return layers

    def _task_config(self) -> dict[str, Any]:
        config = {k: v for k, v in super()._task_config().items() if k != "problem_type"}
        return {**self.encoder.other_config, **config}

    def _side_config(self) -> dict[str, Any]:
        side = {k: v for k, v in super()._side_config().items() if k != "threshold"}
        return side | {"pooling": self.head.pooling}

    # === The graph ===

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
        """See `AnsweringModel.connect`; the outputs are float32 logits (B, labels)."""
        states, layout = encoder.token_states(
            dict(inputs), token_layout=token_layout, attention_groups=attention_groups
        )
        return head(states, layout, inputs["token_ids"], inputs["padding_mask"])

    def encode_texts(self, *texts: tf.Tensor) -> tuple[dict[str, tf.Tensor], Context]:
        """Tokenizes texts, and finds their entities."""
        ids, starts, ends = self.tokenizer.tokenize_with_offsets(texts[0])
        inputs = self.tokenizer.pack(ids, max_length=self.max_length)
        begin, end, found = find_entities(
            inputs["token_ids"], inputs["padding_mask"], self.head.marker_ids
        )
        # Column 1 is the first token of the text, behind [CLS].
        first = tf.cast(ids.row_splits[:-1, tf.newaxis], tf.int32) - 1  # (B, 1)
        nowhere = tf.size(ids.values)  # where a zero is put behind all tokens
        start_bytes = tf.gather(
            tf.pad(starts.values, [[0, 1]]), tf.where(found, first + begin, nowhere)
        )
        end_bytes = tf.gather(
            tf.pad(ends.values, [[0, 1]]), tf.where(found, first + end - 1, nowhere)
        )
        end_bytes = tf.maximum(start_bytes, end_bytes)
        return inputs, {"text": texts[0], "start": start_bytes, "end": end_bytes}

    def decode(self, outputs: tf.Tensor, context: Context) -> dict[str, tf.Tensor]:
        """Adds the entities to `answers`; see the class."""
        texts, start, end = context["text"], context["start"], context["end"]  # (B,), (B, 2) twice
        entity = tf.strings.substr(
            tf.repeat(texts, 2), tf.reshape(start, [-1]), tf.reshape(end - start, [-1])
        )
        return self.answers(outputs) | {
            "entity": tf.reshape(entity, [-1, 2]),
            "start": start,
            "end": end,
            "start_character": character_offsets(texts, start),
            "end_character": character_offsets(texts, end),
        }

    def answer_difference(
        self, expected: dict[str, np.ndarray], got: dict[str, np.ndarray], tolerance: float
    ) -> float | None:
        """Compares two answers: relations as classes, entities exactly."""
        names = ("entity", "start", "end", "start_character", "end_character")
        if any(not np.array_equal(expected[n], got[n]) for n in names if n in expected):
            return None
        return super().answer_difference(expected, got, tolerance)

    # === Training and measuring ===

    def _examples(self, x: Any) -> Examples:
        examples = as_examples(x)
        if examples.text_pairs is not None:
            raise DataError("Expected texts, got pairs of them: both entities are in one text.")
        return examples

    def _prepared(self, x: Any, y: Any) -> tuple[Any, Any]:
        examples, targets = super()._prepared(x, y)
        texts = [
            t.decode("utf-8", "replace") if isinstance(t, bytes) else t for t in examples.texts
        ]
        check_markers(Examples(texts, rows=examples.rows, path=examples.path))
        return examples, targets

    def tune_thresholds(self, x: Any, y: Any = None, *, batch_size: int = 64) -> list[float]:
        """Refuses: a text has one relation.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("A RelationClassifier has no thresholds: each text has one relation.")

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
        examples, targets = self._prepared(x, y)
        logits = self.predict_logits(examples, batch_size=batch_size)
        names = self.labels
        return relation_report(
            [names[index] for index in targets], [names[i] for i in logits.argmax(axis=-1)]
        )
