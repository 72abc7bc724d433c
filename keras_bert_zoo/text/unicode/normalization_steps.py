"""Hugging Face's text normalizers as steps over vectors of code points.

Each step is created from its entry in a tokenizer.json. It normalizes texts in graph ops
(`__call__`), and single characters in Python (`image`).
"""

from __future__ import annotations

import abc
import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text import ragged_ops
from keras_bert_zoo.text.sentencepiece.precompiled_charsmap import PrecompiledCharsmap
from keras_bert_zoo.text.special_tokens import WHITESPACE
from keras_bert_zoo.text.unicode.characters import (
    CharacterMap,
    Characters,
    shifted,
    tables,
    unless_absent,
)
from keras_bert_zoo.text.unicode.code_points import CodePointTable
from keras_bert_zoo.text.unicode.forms import unicode_form

SPACE = 0x20


class Step(abc.ABC):
    """One normalizer."""

    # Whether a text may be cut before a single space to normalize its parts separately.
    may_cut = True
    # Whether the first part of a text is normalized differently.
    knows_first = False

    @abc.abstractmethod
    def __call__(self, characters: Characters, begins_text: tf.Tensor) -> Characters:
        """Normalizes characters.

        Args:
            characters: the characters of R rows.
            begins_text: bool (R,). Whether a row is the beginning of its text.
        """

    def image(self, text: str) -> str:
        """Normalizes a single character, without the rules for spaces at the ends of texts."""
        return text


class Lowercase(Step):
    """Lowercases every character, without regard to its neighbors."""

    def __init__(self) -> None:
        self._map = CharacterMap(tables().lowercase)

    def __call__(self, characters: Characters, begins_text: tf.Tensor) -> Characters:
        """See `Step`."""
        return self._map(characters)

    def image(self, text: str) -> str:
        """See `Step`."""
        return "".join(self._map.texts.get(ord(char), char) for char in text)


class StripAccents(Step):
    """Deletes combining marks."""

    def __init__(self) -> None:
        self._accents = CodePointTable.of_set(tables().accents)

    def __call__(self, characters: Characters, begins_text: tf.Tensor) -> Characters:
        """See `Step`."""
        accents = self._accents.contains(characters.points)
        return unless_absent(accents, lambda chars: chars.keep(tf.logical_not(accents)), characters)

    def image(self, text: str) -> str:
        """See `Step`."""
        return "".join(char for char in text if ord(char) not in tables().accents)


class Form(Step):
    """NFC, NFD, NFKC or NFKD."""

    def __init__(self, form: str) -> None:
        self._form = unicode_form(form)

    def __call__(self, characters: Characters, begins_text: tf.Tensor) -> Characters:
        """See `Step`."""
        follows = tf.logical_not(characters.first())
        return unless_absent(
            self._form.may_change(characters.points, follows), self._form, characters
        )

    def image(self, text: str) -> str:
        """See `Step`."""
        return self._form.image(text)


class Strip(Step):
    """Deletes whitespace at the ends of texts."""

    def __init__(self, *, left: bool, right: bool) -> None:
        self._left, self._right = left, right
        self.knows_first = left
        self._spaces = CodePointTable.of_set(map(ord, WHITESPACE))

    def __call__(self, characters: Characters, begins_text: tf.Tensor) -> Characters:
        """See `Step`."""
        space = self._spaces.contains(characters.points)

        def strip(characters: Characters) -> Characters:
            rows = characters.rows
            at = tf.range(ragged_ops.size64(rows))
            solid = ragged_ops.indices(tf.logical_not(space))
            solid_rows = tf.gather(rows, solid)
            keep = tf.ones_like(space)
            if self._left:
                first = tf.math.unsorted_segment_min(solid, solid_rows, characters.count)
                keep = tf.logical_or(
                    at >= tf.gather(first, rows), tf.logical_not(tf.gather(begins_text, rows))
                )
            if self._right:
                last = tf.math.unsorted_segment_max(solid, solid_rows, characters.count)
                keep = tf.logical_and(keep, at <= tf.gather(last, rows))
            return characters.keep(keep)

        return unless_absent(space, strip, characters)


class Replace(Step):
    """Replaces each occurrence of a text or of a regular expression.

    Args:
        pattern: as in a tokenizer.json: {"String": text} or {"Regex": expression}. The text is one
            character, or one character twice. The expression is one that the families use.
        content: str. The replacement.

    Raises:
        ConfigError: the pattern is not supported.
    """

    _EXPRESSIONS = (" {2,}", r"\s{2,}|[\n\r\t]", r"\s+")

    def __init__(self, pattern: Mapping[str, Any], content: str) -> None:
        if (
            not isinstance(pattern, Mapping)
            or len(pattern) != 1
            or not isinstance(content, str)
            or not all(isinstance(value, str) for value in pattern.values())
        ):
            raise ConfigError(
                "Expected a Replace normalizer with one pattern and content, received "
                f"{pattern!r:.80} and {content!r:.80}."
            )
        ((kind, text),) = pattern.items()
        supported = (
            kind == "String" and (len(text) == 1 or (len(text) == 2 and text[0] == text[1]))
        ) or (kind == "Regex" and text in self._EXPRESSIONS)
        if not supported:
            raise ConfigError(
                "Expected a Replace normalizer of one character, of one character twice, or of the "
                f"expressions {', '.join(map(repr, self._EXPRESSIONS))}; received {kind} "
                f"{text!r:.80}, which is not supported."
            )
        self._kind, self._text, self._content = kind, text, content
        if kind == "String":
            points = {ord(text[0])}
        elif text == " {2,}":
            points = {SPACE}
        else:
            points = set(tables().regex_spaces)
        self._candidates = CodePointTable.of_set(points)
        self._put = CharacterMap({}, [content])
        # A space must stay a space, or every space must become the same other character.
        self.may_cut = not (kind == "String" and " " in text) and not (
            kind == "Regex" and content not in (" ", "\u2581")
        )
        if kind == "Regex" and text == r"\s+":
            self.may_cut = content == " "

    def image(self, text: str) -> str:
        """See `Step`."""
        if self._kind == "String" and len(self._text) == 1:
            return text.replace(self._text, self._content)
        if self._kind == "Regex" and self._text != " {2,}":
            # Single characters and runs all become spaces.
            return "".join(" " if ord(c) in tables().regex_spaces else c for c in text)
        return text

    def __call__(self, characters: Characters, begins_text: tf.Tensor) -> Characters:
        """See `Step`."""
        candidates = self._candidates.contains(characters.points)
        return unless_absent(candidates, lambda chars: self._replace(chars, candidates), characters)

    def _replace(self, characters: Characters, candidates: tf.Tensor) -> Characters:
        """Replaces matches; the new characters have the source of the last character of a match."""
        points, first = characters.points, characters.first()
        continues = tf.logical_and(candidates, shifted(candidates, False))
        continues = tf.logical_and(continues, tf.logical_not(first))
        followed = tf.concat([continues[1:], tf.fill([1], False)], axis=0)
        followed = followed[: tf.shape(points)[0]]
        if self._kind == "Regex":
            matched = candidates if self._text == r"\s+" else tf.logical_or(continues, followed)
            if self._text == r"\s{2,}|[\n\r\t]":
                for char in "\n\r\t":
                    matched = tf.logical_or(matched, tf.equal(points, ord(char)))
            last = tf.logical_and(matched, tf.logical_not(followed))
        elif len(self._text) == 1:
            matched = last = candidates
        else:
            # Pairs from the left. Each pair ends at every second character of a run.
            at = tf.range(ragged_ops.size64(points))
            begins = tf.logical_and(candidates, tf.logical_not(continues))
            run = tf.cumsum(tf.cast(begins, tf.int64)) - 1
            start = tf.gather(tf.pad(ragged_ops.indices(begins), [[0, 1]]), tf.maximum(run, 0))
            last = tf.logical_and(candidates, tf.equal((at - start) % 2, 1))
            matched = tf.logical_or(last, tf.concat([last[1:], tf.fill([1], False)], axis=0))
        remaining = ragged_ops.indices(tf.logical_or(last, tf.logical_not(matched)))
        entries = tf.cast(tf.gather(last, remaining), tf.int32) * self._put.first_of_more
        points, origin, _, _ = self._put.expand(tf.gather(points, remaining), entries)
        at = tf.gather(remaining, origin)
        return Characters(
            points,
            tf.gather(characters.source, at),
            tf.gather(characters.rows, at),
            characters.count,
        )


class Precompiled(Step):
    """Applies SentencePiece's character map with the results of Hugging Face."""

    def __init__(self, charsmap: bytes) -> None:
        self._charsmap = PrecompiledCharsmap(charsmap)
        self.may_cut = self._charsmap.leaves_spaces

    def image(self, text: str) -> str:
        """See `Step`."""
        return "".join(self._charsmap.texts.get(ord(char), char) for char in text)

    def __call__(self, characters: Characters, begins_text: tf.Tensor) -> Characters:
        """See `Step`."""
        return self._charsmap(characters)


def steps_from_json(normalizer: Any) -> list[Step]:
    """Returns the steps of the normalizer in a tokenizer.json.

    Raises:
        ConfigError: a normalizer is not supported, or has wrong options.
    """
    if normalizer is None:
        return []
    if not isinstance(normalizer, Mapping):
        raise ConfigError(f"Expected a normalizer as an object, received {normalizer!r:.80}.")
    kind = normalizer.get("type")
    if kind == "Sequence":
        inner = _options(normalizer, "normalizers")["normalizers"]
        if not isinstance(inner, Sequence) or isinstance(inner, str):
            raise ConfigError(f"Expected normalizers as a list, received {inner!r:.80}.")
        return [step for entry in inner for step in steps_from_json(entry)]
    if kind in ("NFC", "NFD", "NFKC", "NFKD"):
        _options(normalizer)
        return [Form(kind)]
    if kind == "Lowercase":
        _options(normalizer)
        return [Lowercase()]
    if kind == "StripAccents":
        _options(normalizer)
        return [StripAccents()]
    if kind == "Strip":
        options = _options(normalizer, "strip_left", "strip_right")
        if not all(isinstance(value, bool) for value in options.values()):
            raise ConfigError(
                f"Expected a Strip normalizer of true or false, received {options!r:.80}."
            )
        return [Strip(left=options["strip_left"], right=options["strip_right"])]
    if kind == "Replace":
        return [Replace(**_options(normalizer, "pattern", "content"))]
    if kind == "Precompiled":
        encoded = _options(normalizer, "precompiled_charsmap")["precompiled_charsmap"]
        try:
            return [Precompiled(base64.b64decode(encoded, validate=True))]
        except (TypeError, ValueError, binascii.Error) as error:
            raise ConfigError(
                f"Expected a precompiled_charsmap in base64, received other bytes: {error}."
            ) from error
    raise ConfigError(
        "Expected a normalizer of NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Strip, Replace, "
        f"Precompiled or Sequence, received {kind!r:.80}. Others are not supported."
    )


def _options(entry: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Returns the options of an entry, which must have exactly these names."""
    options = {name: value for name, value in entry.items() if name != "type"}
    if set(options) != set(names):
        raise ConfigError(
            f"Expected the options {sorted(names)} of the {entry.get('type')} normalizer, received "
            f"{sorted(map(str, options))[:10]}."
        )
    return options
