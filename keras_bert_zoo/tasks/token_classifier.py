"""Finds entities in texts: the tags of words, read as spans, in one graph."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.checkpoints.tensors import read_config
from keras_bert_zoo.data.labels import LabelMap
from keras_bert_zoo.data.pipeline import NO_LABEL, LabelledRows
from keras_bert_zoo.data.spans import Entity, EntityExamples
from keras_bert_zoo.data.tags import MODEL_SCHEMES, check_scheme, guess_scheme
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import CheckpointError, ConfigError, DataError
from keras_bert_zoo.heads.kinds import make_head
from keras_bert_zoo.heads.token_classifier import TokenClassificationHead
from keras_bert_zoo.layers.crf import ConditionalRandomField
from keras_bert_zoo.presets.io import find_preset
from keras_bert_zoo.tasks.answering import Context, joined_widths, largest_difference
from keras_bert_zoo.tasks.entities import (
    Tagging,
    find_words,
    make_tags,
    read_entities,
    read_tags,
    word_flags,
)
from keras_bert_zoo.tasks.entity_training import (
    CrfLoss,
    EntityF1,
    TagAccuracy,
    as_bytes,
    batch_sizes,
    check_entities,
    entity_difference,
    label_windows,
    snap_to_words,
)
from keras_bert_zoo.tasks.inputs import as_examples
from keras_bert_zoo.tasks.own_weights import load_own_weights
from keras_bert_zoo.tasks.task import Task
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.training.entity_metrics import EntityReport, entity_report


class TokenClassifier(Task):
    """Finds entities, or labels every word: named entities, parts of speech.

    `predict` and the exported model answer, padded to the text with most entities (E) by empty
    strings and zeros, in the order of the text,

    - `entity` (texts, E) str, the text of the entity; `label` (texts, E) str, its type;
    - `score` (texts, E) float32, the probability of the least sure of its words' tags;
    - `start`, `end` (texts, E) int32: `text_bytes[start:end]` is the entity in UTF-8, or in
      whatever bytes the caller sent;
    - `start_character`, `end_character` (texts, E) int32, the same in characters: of bytes those
      count that do not continue a character (are not 0b10xxxxxx), which for valid UTF-8 are the
      indices of Python's str.

    A word ends at white space; a punctuation mark and a Chinese character are words by themselves.
    The first token of each is what is trained and what decides. Texts longer than `max_length` are
    cut into windows that overlap by `stride` tokens, and every word is decided by the window in
    which it has most context, in training as in answers.

    `fit` takes `EntityExamples`, as `data.conll.read_conll` and `data.spans.read_entities` return
    them; or a list of texts and for each a list of (start, end, label) in characters.

    Args:
        encoder: Encoder.
        tokenizer: Tokenizer.
        tags: list of str, the tags of words in the order of their ids; see `from_preset`.
        scheme: "IOB2", "IOBES", "IO" or "words"; see `data.tags`. None: told by the tags.
        legal_only: bool. Whether answers keep to the scheme: the best tags that do (Viterbi).
            None: yes, as this package trains them.
        crf: bool. Whether a conditional random field learns which tags follow on each other.
        head: TokenClassificationHead with one unit a tag.
        max_length: int, tokens of a window; default 128.
        stride: int, tokens; None: a quarter of a window.
        token_layout: "packed" or "padded"; see `Encoder`.

    Raises:
        ConfigError: tags that are not of the scheme, or a `stride` beyond half a window.
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
        head: TokenClassificationHead | None = None,
        max_length: int | None = None,
        stride: int | None = None,
        token_layout: str = "packed",
        **kwargs: Any,
    ) -> None:
        tags = [str(tag) for tag in tags]
        scheme = guess_scheme(tags) if scheme is None else check_scheme(scheme, MODEL_SCHEMES)
        tagging = Tagging(tags, scheme)
        super().__init__(
            encoder,
            tokenizer,
            head or make_head(self.head_kind, encoder, len(tags)),
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
        self.tagging = tagging
        self.stride = stride
        self.legal_only = legal_only is None or bool(legal_only)
        self.crf = ConditionalRandomField(len(tags), name="crf") if crf else None
        self._word_flags = word_flags(tokenizer)

    @property
    def tags(self) -> list[str]:
        """The tags of words, in the order of their ids."""
        return list(self.tagging.tags)

    @property
    def labels(self) -> list[str]:
        """The types of entities."""
        return list(self.tagging.types)

    @property
    def scheme(self) -> str:
        """What the tags are written in; see `data.tags`."""
        return self.tagging.scheme

    @classmethod
    def from_preset(  # type: ignore[override]
        cls,
        preset: str | os.PathLike[str],
        *,
        labels: Sequence[str] | None = None,
        scheme: str | None = None,
        legal_only: bool | None = None,
        crf: bool | None = None,
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
        new_tags = None
        if labels is not None:
            scheme = check_scheme(scheme or "IOB2", MODEL_SCHEMES)
            new_tags = make_tags([str(label) for label in labels], scheme)
        encoder, tokenizer, head, side = cls._load_parts(
            preset,
            head_width=None if new_tags is None else len(new_tags),
            ignore_config_keys=ignore_config_keys,
            dtype=dtype,
            allow_pickle=allow_pickle,
        )
        directory = find_preset(preset, allow_pickle=allow_pickle)
        if new_tags is None:
            ours = "task" in side
            tags = _saved_tags(read_config(directory), head.units)
            scheme = side.get("scheme") if scheme is None else scheme
            legal_only = side.get("legal_only", ours) if legal_only is None else legal_only
            if max_length is None or max_length == side.get("max_length"):
                stride = side.get("stride") if stride is None else stride
            max_length = side.get("max_length") if max_length is None else max_length
        with_crf = side.get("crf", False)
        task = cls(
            encoder,
            tokenizer,
            tags if new_tags is None else new_tags,
            scheme=scheme,
            legal_only=legal_only,
            crf=bool(with_crf if crf is None else crf),
            head=head,
            max_length=max_length,
            stride=stride,
            token_layout=token_layout,
        )
        if with_crf and task.crf is not None:
            load_own_weights(directory, task._own_layers())
        task._restore(side)
        return task

    @classmethod
    def _head_hint(cls) -> str:
        return "labels=[...]"

    def _task_config(self) -> dict[str, Any]:
        names = LabelMap(self.tagging.tags)
        return {
            "id2label": {str(i): name for i, name in names.id2label().items()},
            "label2id": names.label2id(),
        }

    def _side_config(self) -> dict[str, Any]:
        return super()._side_config() | {
            "scheme": self.scheme,
            "legal_only": self.legal_only,
            "stride": self.stride,
            "crf": self.crf is not None,
        }

    def _own_layers(self) -> dict[str, keras.layers.Layer]:
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
        """Connects an encoder and the head; float32 logits (B, S, tags)."""
        states, layout = encoder.token_states(
            dict(inputs), token_layout=token_layout, attention_groups=attention_groups
        )
        return head(states, layout)

    def encode_texts(self, *texts: tf.Tensor) -> tuple[dict[str, tf.Tensor], Context]:
        """Cuts texts into windows and finds their words; see the base class."""
        windows = self.tokenizer.windows(texts[0], max_length=self.max_length, stride=self.stride)
        inputs = {name: windows.pop(name) for name in ("token_ids", "segment_ids", "padding_mask")}
        words = find_words(windows | inputs, self.stride, tf.constant(self._word_flags), texts[0])
        return inputs, {"words": words, "texts": texts[0]}

    def decode(self, outputs: Any, context: Context) -> dict[str, tf.Tensor]:
        """Makes entities of the logits of windows; see the class."""
        words = context["words"]
        logits = tf.gather_nd(outputs, words["place"])  # (N, C)
        tags, chances = read_tags(
            tf.ensure_shape(logits, [None, len(self.tagging.tags)]),
            words["splits"],
            self._path_scores(),
            probabilities_of_paths=self.crf is not None,
        )
        return read_entities(self.tagging, tags, chances, words, context["texts"])

    def _path_scores(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """The scores of transitions, first and last tags; None where each word is for itself."""
        rules = self.tagging.rules()
        if not (self.legal_only and any(part.any() for part in rules)):
            if self.crf is None:
                return None
            return self.crf.arrays()
        if self.crf is None:
            return rules
        transitions, starts, ends = (a + b for a, b in zip(rules, self.crf.arrays(), strict=True))
        return transitions, starts, ends

    def answers(self, logits: Any) -> dict[str, tf.Tensor]:
        """What is said of token ids, each token by itself.

        Args:
            logits: float32 (B, S, tags).

        Returns:
            `label` string (B, S), the likeliest tag; `score` float32 (B, S), its probability; and
            the `logits`.
        """
        return {
            "label": tf.gather(tf.constant(self.tags), tf.argmax(logits, axis=-1)),
            "score": tf.reduce_max(tf.nn.softmax(logits), axis=-1),
            "logits": logits,
        }

    def _graph_key(self) -> tuple[Any, ...]:
        scores = self._path_scores()
        values = () if scores is None else tuple(part.tobytes() for part in scores)
        return (*super()._graph_key(), self.stride, self.tagging.tags, self.scheme, values)

    def answer_difference(
        self, expected: dict[str, np.ndarray], got: dict[str, np.ndarray], tolerance: float
    ) -> float | None:
        """Compares two answers; entities that hang on a word of two like tags may differ."""
        if "logits" in expected:
            numbers = ("score", "logits")
            largest = max(largest_difference(expected[name], got[name]) for name in numbers)
            logits = expected["logits"]
            ids = {tag.encode(): index for index, tag in enumerate(self.tags)}
            for place in np.flatnonzero(expected["label"] != got["label"]):
                pair = (ids.get(expected["label"][place]), ids.get(got["label"][place]))
                if None in pair:  # padding of one of both
                    return None
                first, second = (float(logits[place, index]) for index in pair)
                if abs(first - second) > 2 * tolerance * max(1.0, abs(first)):
                    return None
            return largest
        return entity_difference(expected, got, tolerance)

    # === Text to batches ===

    def answer_rows(
        self, *columns: Sequence[Any], batch_size: int = 64, verbose: Any = 0
    ) -> dict[str, np.ndarray]:
        """Answers texts; of those with many windows fewer at once, for they are all in memory."""
        texts = [as_bytes(text) for text in columns[0]]
        sizes = batch_sizes(texts, self.max_length - 2 - self.stride, batch_size)
        if len(set(sizes)) < 2:
            size = int(sizes[0]) if len(sizes) else batch_size
            return super().answer_rows(texts, batch_size=size, verbose=verbose)
        order = np.argsort(sizes, kind="stable")
        parts = []
        for size in sorted(set(sizes)):
            chosen = [texts[index] for index in order if sizes[index] == size]
            parts.append(super().answer_rows(chosen, batch_size=int(size), verbose=verbose))
        back = np.argsort(order)
        return {
            name: np.concatenate(joined_widths(*(part[name] for part in parts)))[back]
            for name in parts[0]
        }

    def _examples(self, x: Any) -> EntityExamples:
        if isinstance(x, EntityExamples):
            return x
        examples = as_examples(x)
        if examples.text_pairs is not None:
            raise DataError("Expected texts, got pairs of them: entities are found in one text.")
        return EntityExamples(examples.texts, None, None, examples.rows, examples.path)

    def _text_columns(self, examples: EntityExamples) -> tuple[Sequence[Any], ...]:
        return (examples.texts,)

    def _adopt(self, examples: EntityExamples) -> None:
        self.pair = False

    def _targets(self, y: Any, examples: EntityExamples) -> list[list[Entity]]:
        if y is not None:
            if len(y) != len(examples):
                raise DataError(f"There are {len(examples)} texts but entities of {len(y)}.")
            examples = EntityExamples(
                examples.texts, list(map(list, y)), examples.words, examples.rows, examples.path
            )
        if examples.entities is None:
            raise DataError("There are no entities: give `y`, or EntityExamples with entities.")
        check_entities(examples, self.labels)
        return examples.entities

    def _labelled_rows(
        self, examples: EntityExamples, targets: list[list[Entity]], weights: Any = None
    ) -> LabelledRows:
        """Cuts texts into windows and sets tags at the words that each window decides."""
        return label_windows(
            examples,
            targets,
            self.tagging,
            self.tokenizer,
            self._word_flags,
            max_length=self.max_length,
            stride=self.stride,
            weights=weights,
        )

    # === Training and measuring ===

    def _default_loss(self) -> keras.losses.Loss:
        if self.crf is not None:
            return CrfLoss(self.crf)
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=NO_LABEL)

    def _default_metrics(self) -> list[keras.metrics.Metric]:
        return [TagAccuracy()]

    def _dev_callbacks(
        self, validation_data: Any, batch_size: int
    ) -> list[keras.callbacks.Callback]:
        x, y = validation_data if isinstance(validation_data, tuple) else (validation_data, None)
        return [EntityF1(self, x, y, batch_size)]

    def _monitor(self) -> tuple[str, str]:
        return "val_f1", "max"

    def report(self, x: Any, y: Any = None, *, batch_size: int = 64) -> EntityReport:
        """Precision, recall and F1 of entities by type, as seqeval counts them.

        Where the examples have words, an entity is what its words are: it is compared word by word,
        each word being in the entity that its first character is in. Otherwise characters count.

        Args:
            x: as in `fit`.
            y: as in `fit`.
            batch_size: int.

        Returns:
            EntityReport.

        Raises:
            DataError: labels that are unknown or do not fit the texts.
        """
        examples, true = self._prepared(x, y)
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
        answers = self.predict(examples, batch_size=batch_size, verbose=verbose)
        found = []
        for index in range(len(examples)):
            columns = (answers[n][index] for n in ("start_character", "end_character", "label"))
            spans = [
                (int(start), int(end), str(label), float(score))
                for start, end, label, score in zip(*columns, answers["score"][index], strict=True)
                if label
            ]
            if examples.words is not None:
                spans = snap_to_words(spans, examples.words[index])
            found.append(spans)
        return found


def _saved_tags(raw: dict[str, Any], count: int) -> list[str]:
    if "id2label" not in raw:
        return [f"LABEL_{i}" for i in range(count)]  # what transformers calls them
    names = LabelMap.from_id2label(raw["id2label"]).names
    if len(names) != count:
        raise CheckpointError(
            f"config.json names {len(names)} labels, but the head in model.safetensors has {count}."
        )
    return list(names)
