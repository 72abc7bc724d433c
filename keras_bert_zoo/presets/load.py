"""Loads an encoder, alone or with heads, from a preset."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_bert_zoo.checkpoints.assign import assign, match
from keras_bert_zoo.checkpoints.names import FamilyNames
from keras_bert_zoo.checkpoints.source import TensorSource
from keras_bert_zoo.data.labels import LabelMap
from keras_bert_zoo.encoders.encoder import Encoder, check_dtype
from keras_bert_zoo.encoders.registry import build_encoder, encoder_shapes, pooler_shapes
from keras_bert_zoo.encoders.shapes import Shapes
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.heads.kinds import HEADS, head_kind, head_shapes, make_head
from keras_bert_zoo.layers.initializers import untouched_weights
from keras_bert_zoo.presets.find_heads import (
    check_architecture,
    check_presence,
    count_units,
    find_heads,
)
from keras_bert_zoo.presets.labels import label_config
from keras_bert_zoo.presets.resolve import LABEL_KEYS, Checkpoint, Source, resolve

_logger = logging.getLogger(__name__)


class Loaded(NamedTuple):
    """The result of `load`.

    Attributes:
        encoder: Encoder.
        heads: dict, kind -> layer. Empty for an encoder alone.
        config: dict. The keys of config.json that do not describe the encoder, with the labels of
            a new head.
    """

    encoder: Encoder
    heads: dict[str, keras.layers.Layer]
    config: dict[str, Any]


def load(
    preset: Source,
    heads: Sequence[str] | None = None,
    *,
    pooler: bool | None = None,
    labels: Sequence[str] | None = None,
    units: int | None = None,
    new_head: bool = False,
    user: str | None = None,
    new_head_hint: str = "`labels=[...]` or `new_head=True`",
    allow_pickle: bool = False,
    ignore_config_keys: Iterable[str] = (),
    **options: Any,
) -> Loaded:
    """Loads an encoder and its heads, strictly.

    Args:
        preset: see `find_preset`.
        heads: kinds of the heads. None loads the heads of the checkpoint; () loads none.
        pooler: bool. Whether an encoder without heads gets a pooler. None follows the checkpoint.
        labels: names of the labels of a new head.
        units: int. Number of labels of a new head without names.
        new_head: bool. Whether the head starts from random weights.
        user: str. The name of the head in messages. None: the kind.
        new_head_hint: str. The arguments that start a new head, for messages.
        allow_pickle: bool. Whether a pytorch_model.bin may be read; see `open_checkpoint`.
        ignore_config_keys: keys of config.json to ignore if they are unknown or unsupported.
        **options: options of the encoder's constructor.

    Returns:
        Loaded: the encoder, the heads, and the rest of config.json.

    Raises:
        ConfigError: the config or an option is not supported.
        CheckpointError: the preset does not exist, its heads are not the requested ones, or its
            tensors do not fit the model. The message lists all tensors that do not fit.

    Example:
    >>> from keras_bert_zoo.presets.load import load
    >>> encoder, heads, config = load("tests/assets/bert_classifier")
    >>> encoder.config.family, sorted(heads)
    ('bert', ['classification'])
    >>> load("tests/assets/bert_classifier", ()).heads
    {}
    """
    check_dtype(options.get("dtype"))
    if labels is not None:
        labels = LabelMap.of(labels).names
    checkpoint = resolve(preset, allow_pickle=allow_pickle, ignore_config_keys=ignore_config_keys)
    _check_request(checkpoint.names, heads, pooler, labels, new_head)
    with checkpoint.open() as tensors:
        request = _Request(checkpoint, tensors, user, new_head_hint)
        if heads is None:
            heads = find_heads(checkpoint.names, checkpoint.raw, tensors)
        if new_head:
            request.add_encoder(heads, require_pooler=False)
            units_of = {kind: units if labels is None else len(labels) for kind in heads}
        elif heads:
            request.untie(heads)
            request.add_encoder(heads, require_pooler=True)
            units_of = {kind: request.add_head(kind) for kind in heads}
        else:
            request.add_encoder_alone(pooler, options.pop("pooled_for", ""))
            units_of = {}
        names = request.names_in_file()
        unread = request.unread_patterns(heads)
        plan = match(tensors, request.shapes, names, allow_unread=unread)
        # The model. No weight is random, except those of a new pooler or a new head.
        with nullcontext() if request.new_pooler else untouched_weights():
            encoder = build_encoder(
                request.config,
                pooler=request.has_pooler,
                pooled_for=request.pooled_for,
                **options,
            )
        layers = {kind: make_head(kind, encoder, count) for kind, count in units_of.items()}
        variables = encoder.weights_without_pooler() if request.new_pooler else encoder.weights
        if not new_head:
            variables = [*variables, *(weight for h in layers.values() for weight in h.weights)]
        assign(plan, variables)
    encoder.tokenize_with(checkpoint.tokenizer_or_none)
    other = _labelled_config(checkpoint.other_config(), units_of, labels, new_head)
    if not heads:
        encoder.other_config = {key: other[key] for key in other if key not in LABEL_KEYS}
    return Loaded(encoder, layers, other)


class _Request:
    """The variables of a model to load: their names in the file, and their shapes."""

    def __init__(
        self, checkpoint: Checkpoint, tensors: TensorSource, user: str | None, new_head_hint: str
    ) -> None:
        self.config = checkpoint.config
        self.has_pooler = False
        self.new_pooler = False
        self.pooled_for = ""
        self.shapes: Shapes = {}
        self._checkpoint = checkpoint
        self._tensors = tensors
        self._family = checkpoint.names
        self._prefix = self._family.prefix_of(tensors.names())
        self._names: dict[str, str] = {}
        self._user, self._new_head_hint = user, new_head_hint
        self._follows_ties = False

    def add_encoder(self, heads: Sequence[str], *, require_pooler: bool) -> None:
        """Adds the encoder of some heads. A new head uses any pooler of the file, or a new one."""
        pooled = [kind for kind in heads if HEADS[kind].pooled]
        self.pooled_for = pooled[0] if pooled else ""
        self.has_pooler = bool(pooled)
        self._add_encoder()
        if not pooled:
            return
        pooler: str | None = self.pooled_for
        if not require_pooler:
            pooler = find_pooler(self._family, self._tensors)
            if pooler is None and self.config.pooler_is_learned(self.pooled_for):
                _logger.warning(
                    "%s has no pooler: a new one starts from random weights",
                    self._checkpoint.directory,
                )
        self.new_pooler = pooler is None
        if pooler is not None:
            self._add_pooler(pooler)

    def add_encoder_alone(self, pooler: bool | None, pooled_for: str) -> None:
        """Adds an encoder without heads."""
        self.pooled_for = pooled_for
        self._add_encoder()
        source = find_pooler(self._family, self._tensors)
        if source is None and not self.config.pooler_is_learned(pooled_for):
            source = ""
        if pooler and source is None:
            raise CheckpointError(
                f"{self._tensors.path} has no pooler ({_pooler_hint(self._family)}). Pass "
                "`pooler=False`."
            )
        self.has_pooler = source is not None if pooler is None else bool(pooler)
        if self.has_pooler:
            self._add_pooler(source or "")

    def add_head(self, kind: str) -> int | None:
        """Adds a head of the file. Returns the number of its logits; None: the kind fixes it."""
        family, raw, tensors = self._family, self._checkpoint.raw, self._tensors
        user = self._user or kind
        check_presence(family, kind, tensors, user, self._new_head_hint)
        check_architecture(family, kind, raw, tensors, user, self._new_head_hint)
        units = count_units(family, kind, raw, tensors)
        self._names |= family.heads[kind]
        self.shapes |= head_shapes(self.config, kind, units)
        return units

    def untie(self, heads: Sequence[str]) -> None:
        """Unties the decoder of masked_lm from the token embedding if the file has both."""
        if "masked_lm" not in heads:
            return
        self._follows_ties = True
        if self.config.tie_word_embeddings:
            tied = _is_tied(self._family, self._prefix, self._tensors)
            self.config = dataclasses.replace(self.config, tie_word_embeddings=tied)

    def names_in_file(self) -> dict[str, str]:
        """Returns variable path -> tensor name."""
        names = self._family.in_file(self._names, self._prefix)
        if not self._follows_ties:
            return names
        return _follow_ties(self._family, self._prefix, names, self.shapes, self._tensors)

    def unread_patterns(self, heads: Sequence[str]) -> list[str]:
        """Returns regular expressions of the tensors that may be left unread."""
        family, prefix = self._family, self._prefix
        if not heads:
            return [*family.ignored, *family.head_patterns(prefix)]
        unread = set(family.head_names(prefix))
        if self._follows_ties:  # one of two equal tensors is read
            unread |= set(family.in_file(self._names, prefix).values())
        return [*family.ignored, *(re.escape(name) for name in sorted(unread))]

    def _add_encoder(self) -> None:
        self._names |= self._family.encoder(self.config)
        self.shapes |= encoder_shapes(self.config)

    def _add_pooler(self, head: str) -> None:
        self._names |= self._family.pooler(head)
        self.shapes |= pooler_shapes(self.config, self.pooled_for)


def find_pooler(family: FamilyNames, tensors: TensorSource) -> str | None:
    """Returns the head that a file's pooler is named after.

    An incomplete pooler counts as a pooler. Assignment then reports the missing part.

    Args:
        family: FamilyNames.
        tensors: an open checkpoint.

    Returns:
        str, "" for the pooler of the bare encoder. None: the file has no pooler.

    Example:
    >>> from keras_bert_zoo.presets.resolve import resolve
    >>> checkpoint = resolve("tests/assets/bert_relu_no_pooler")
    >>> with checkpoint.open() as tensors:
    ...     find_pooler(checkpoint.names, tensors) is None
    True
    """
    prefix = family.prefix_of(tensors.names())
    for head in family.poolers:
        table = family.in_file(family.poolers[head], prefix)
        if any(name in tensors for name in table.values()):
            return head
    return None


def _pooler_hint(family: FamilyNames) -> str:
    names = [name for table in family.poolers.values() for name in list(table.values())[:1]]
    return " or ".join(names) or "the family has none"


def _check_request(
    family: FamilyNames,
    heads: Sequence[str] | None,
    pooler: bool | None,
    labels: Sequence[str] | None,
    new_head: bool,
) -> None:
    for kind in heads or ():
        head_kind(kind)
    if pooler is not None and heads != ():
        raise ConfigError("`pooler` is an option of an encoder without heads. Omit it.")
    if new_head:
        if heads is None or len(heads) != 1:
            raise ConfigError(f"A new head needs one kind, received {heads!r}. Pass `head`.")
        return
    if labels is not None:
        raise ConfigError("`labels` are for a new head. Omit `new_head=False`.")
    if not heads:
        return
    key = "+".join(sorted(heads))
    if key not in family.architectures:
        known = ", ".join(repr(name) for name in family.architectures if name)
        raise ConfigError(f"This family has no model with {key!r}. Expected one of: {known}.")


def _labelled_config(
    config: dict[str, Any],
    units: Mapping[str, int | None],
    labels: Sequence[str] | None,
    new_head: bool,
) -> dict[str, Any]:
    """Adds the labels of the heads to the rest of a config.json."""
    if new_head:
        config = {key: value for key, value in config.items() if key not in LABEL_KEYS}
        return config if labels is None else config | label_config(labels)
    counts = [count for kind, count in units.items() if HEADS[kind].labelled and count]
    if counts and isinstance(config.get("id2label"), Mapping):
        return config | label_config(LabelMap.from_id2label(config["id2label"], counts[0]).names)
    return config


def _is_tied(family: FamilyNames, prefix: str, tensors: TensorSource) -> bool:
    """Whether the decoder is the token embedding, in a file with a tied config.json.

    A file may still have a different decoder. It is then used untied, as in transformers 5.
    """
    decoder = family.heads["masked_lm"].get("masked_lm/decoder/kernel", "")
    if decoder not in tensors or decoder not in family.tied:
        return True
    table = family.in_file({"": family.tied[decoder]}, prefix)[""]
    if table not in tensors or np.array_equal(tensors.read(decoder), tensors.read(table)):
        return True
    _logger.warning(
        "%s: config.json has `tie_word_embeddings`, but %s differs from %s. Both are loaded, "
        "untied, as in transformers.",
        tensors.path,
        decoder,
        table,
    )
    return False


def _follow_ties(
    family: FamilyNames,
    prefix: str,
    names: Mapping[str, str],
    shapes: Shapes,
    tensors: TensorSource,
) -> dict[str, str]:
    """Reads a tensor with two names from the name that transformers uses.

    This is the repeated one (`cls.predictions.decoder.bias`), unless another variable reads it.
    """
    read = {names[path] for path in shapes}
    instead = {
        source: name
        for name, source in family.in_file(family.tied, prefix).items()
        if name in tensors and name not in read
    }
    return {path: instead.get(name, name) for path, name in names.items()}
