"""SentencePiece's unigram tokenization with the results of Hugging Face, in graph ops.

This is the tokenizer of ALBERT, XLM-RoBERTa, CamemBERT, DeBERTa-v2 and others. TensorFlow Text's
SentencePiece op is not used, because its normalization and its sums of scores differ from Hugging
Face. The steps use core ops, except for cutting strings:

1. Match special tokens (special_tokens.py).
2. Cut the text between them before spaces, to process distinct parts once (text_parts.py).
3. Normalize the parts (unicode/normalization_steps.py).
4. Split them into words: at whitespace, at punctuation and at space signs.
5. Split the words into pieces (unigram.py).

Bytes that are not UTF-8 become U+FFFD, as in Python with errors="replace".

Legend: B texts, U distinct parts of texts, N characters, W words, T tokens.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text import ragged_ops, special_tokens, text_cut
from keras_bert_zoo.text.options import renumbered
from keras_bert_zoo.text.sentencepiece.files import read_directory, write_directory
from keras_bert_zoo.text.sentencepiece.options import SPACE_SIGN as SPACE_SIGN
from keras_bert_zoo.text.sentencepiece.options import SentencePieceOptions
from keras_bert_zoo.text.sentencepiece.unigram import UnigramModel
from keras_bert_zoo.text.special_tokens import WHITESPACE
from keras_bert_zoo.text.text_parts import Parts, TextCutter, plain_characters
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.text.unicode.characters import (
    CharacterMap,
    Characters,
    shifted,
)
from keras_bert_zoo.text.unicode.code_points import CodePointTable
from keras_bert_zoo.text.unicode.normalization_steps import steps_from_json
from keras_bert_zoo.text.unicode.normalizer import unicode_rules

_SPACE = 0x20
# The kinds of pieces between special tokens: inside a text, or at its beginning.
_INSIDE, _BEGINS = 1, 2
# The first placeholder for added tokens in normalized texts. Texts contain no surrogates.
_LATE = 0xD800
_BEYOND = 1 << 31  # more than the number of characters in a batch


class SentencePieceTokenizer(Tokenizer):
    """A unigram tokenizer, with the ids and byte offsets of Hugging Face's fast tokenizers.

    Args:
        pieces: the pieces with their scores, in the order of their ids.
        options: SentencePieceOptions or None, for the defaults.
        model_file: the name and the bytes of a SentencePiece model file that `save` copies, or
            None.
        normalizer: dict, the normalizer of a tokenizer.json; None for no normalizer.
        split_at_whitespace: bool. End words at whitespace, and drop it.
        split_at_punctuation: bool. Make each punctuation character a word.
        prefix: "always" puts the space sign before every word that does not begin with a space;
            "first" only before the first word of a text; "never".
        split_at_spaces: bool. Begin a word at each space, which the space sign replaces.
        byte_fallback: bool. Replace unknown characters by the pieces of their bytes.
        unk_token, cls_token, sep_token, pad_token, mask_token: str, among the pieces or added
            tokens; `unk_token` must be a piece; `mask_token` may be None.
        additional_special_tokens: further tokens that are never split. Tokens that are no pieces
            get the ids after the last.
        added_tokens: `AddedToken`s, special or not, with their flags.
        max_length: int or None. The longest input of the model, the default of `__call__`.
        separators_between, second_segment_id, cls_segment_id: int. See `options.Packing`.

    Raises:
        ConfigError: a piece is repeated or missing, a score is not finite, or the normalizer is not
            supported.

    Example:
        >>> tokenizer = SentencePieceTokenizer(
        ...     [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0),
        ...      ("\u2581un", -2.5), ("aff", -3.0), ("able", -3.0), ("<mask>", 0.0)])
        >>> tokenizer.tokenize(["unaffable", "un <mask>"])
        <tf.RaggedTensor [[5, 6, 7], [5, 8]]>

    Source: arXiv 1808.06226, 1804.10959; tokenizers' Unigram and Metaspace.
    """

    options: SentencePieceOptions

    def __init__(
        self,
        pieces: Sequence[tuple[str, float]],
        options: SentencePieceOptions | None = None,
        *,
        model_file: tuple[str, bytes] | None = None,
        **keywords: Any,
    ) -> None:
        options = dataclasses.replace(options or SentencePieceOptions(), **keywords)
        names = [piece for piece, _ in pieces]
        known = set(names)
        if options.unk_token not in known:
            raise ConfigError(
                f"Expected unk_token among the pieces, received {options.unk_token!r}. Pass the "
                "piece for unknown characters."
            )
        # Special tokens may follow the pieces, in the given order.
        special = {*options.named_tokens.values()}
        added = dict.fromkeys(token.content for token in options.added_tokens)
        new = [token for token in added if token in special and token not in known]
        super().__init__(names + new, options)
        self.pieces = tuple((piece, float(score)) for piece, score in pieces)
        self.normalizer = options.normalizer
        self.split_at_whitespace = options.split_at_whitespace
        self.split_at_punctuation = options.split_at_punctuation
        self.prefix = options.prefix
        self.split_at_spaces = options.split_at_spaces
        self.byte_fallback = options.byte_fallback
        self.model_file = model_file
        self._build()

    def _build(self) -> None:
        """Builds the constants."""
        self._steps = steps_from_json(self.normalizer)
        self._model = UnigramModel(
            self.pieces, unk_id=self.unk_token_id, byte_fallback=self.byte_fallback
        )
        may_cut = (self.split_at_whitespace or self.split_at_spaces) and all(
            step.may_cut for step in self._steps
        )
        self._cutter = TextCutter(
            _plain_characters(json.dumps(self.normalizer)) if may_cut else None,
            with_kinds=self.prefix == "first" or any(step.knows_first for step in self._steps),
        )
        self._finder = special_tokens.SpecialTokenFinder(
            token for token in self.added_tokens if not token.normalized
        )
        self._late_tokens = self._normalized_tokens()
        self._whitespace = CodePointTable.of_set(map(ord, WHITESPACE))
        self._punctuation = CodePointTable.of_set(unicode_rules().punctuation)
        self._sign = CharacterMap({}, [SPACE_SIGN])
        texts = [piece.replace(SPACE_SIGN, " ") for piece in self.vocabulary]
        firsts = list(self.vocabulary)
        if self.prefix != "never":
            firsts = [piece.replace(SPACE_SIGN, "") for piece in firsts]
        else:
            firsts = texts
        with tf.init_scope():
            self._texts, self._first_texts = tf.constant(texts), tf.constant(firsts)

    def _normalized_tokens(self) -> list[tuple[list[int], int]]:
        """Returns the code points and ids of added tokens to match in normalized texts."""
        tokens: list[tuple[list[int], int]] = []
        for token in self.added_tokens:
            if not token.normalized:
                continue
            with tf.init_scope():
                points = tf.strings.unicode_decode([token.content], "UTF-8").values
                zeros = tf.zeros_like(points, tf.int64)
                characters = Characters(points, zeros, zeros, tf.constant(1, tf.int64))
                for step in self._steps:
                    characters = step(characters, tf.constant([True]))
                content = characters.points.numpy().tolist()
            text = "".join(map(chr, content))
            if (
                not text
                or token.lstrip
                or token.rstrip
                or self.byte_fallback
                or any(char in WHITESPACE for char in text)
            ):
                raise ConfigError(
                    f"Expected normalized=false of the added token {token.content!r}, received "
                    "true. It is supported only for tokens without whitespace, lstrip and rstrip, "
                    "and without byte_fallback."
                )
            if token.id is not None:
                tokens.append((content, token.id))
        texts = ["".join(map(chr, content)) for content, _ in tokens]
        for one, other in itertools.product(texts, texts):
            for at in range(one is other, len(one)):
                if other.startswith(one[at:]) or one[at:].startswith(other):
                    raise ConfigError(
                        "Expected added tokens with normalized=true that cannot overlap in a text, "
                        f"received {one!r} and {other!r}."
                    )
        return tokens

    def _contents(self) -> tuple[Any, ...]:
        return SentencePieceTokenizer, self.pieces

    def _with_tokens(self, tokens: set[str]) -> SentencePieceTokenizer:
        """Returns a tokenizer with a part of the pieces; see `Tokenizer.subset`."""
        single = {char for token in tokens for char in token}
        if self.byte_fallback:
            single |= {f"<0x{byte:02X}>" for byte in range(256)}
        # The lowest score is a part of the score of unknown characters.
        lowest, _ = min(self.pieces, key=lambda piece: piece[1])
        remaining = tokens | single | {lowest}
        pieces = [(piece, score) for piece, score in self.pieces if piece in remaining]
        return SentencePieceTokenizer(
            pieces,
            self.options,
            added_tokens=renumbered(self.added_tokens, [piece for piece, _ in pieces]),
        )

    @classmethod
    def from_directory(cls, directory: str | os.PathLike[str]) -> SentencePieceTokenizer:
        """Reads a Hugging Face directory: tokenizer.json, or SentencePiece's model file.

        Args:
            directory: contains tokenizer.json, or spiece.model, sentencepiece.bpe.model, spm.model
                or tokenizer.model. A model file is read for the class that the directory names, as
                in transformers 5. It is used as a unigram model for any training algorithm.

        Raises:
            ConfigError: a file is missing or damaged, or has an unsupported option.
        """
        pieces, options, model_file = read_directory(directory)
        return cls(pieces, options, model_file=model_file)

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes tokenizer.json, tokenizer_config.json and the model file, if there is one.

        Args:
            directory: created if it is missing.
        """
        write_directory(directory, self.pieces, self.options, self.model_file)

    def tokenize_flat(
        self, strings: tf.Tensor, *, with_offsets: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tuple[tf.Tensor, ...]]:
        """Tokenizes texts to flat tensors; see `Tokenizer.tokenize_flat`."""
        # Offsets cost little time, so calls with and without them share one function.
        ids, splits, *spans = self._compiled(("flat",), self._tokenize_all, strings)
        return ids, splits, tuple(spans) if with_offsets else ()

    def _tokenize_all(self, strings: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Returns ids, row splits, starts and ends."""
        cut = text_cut.TextCut(self._finder, strings)
        kinds = tf.where(tf.equal(cut.piece_starts, 0), _BEGINS, _INSIDE)
        parts = self._cutter(cut.pieces, kinds)
        ids, splits, spans = cut.join(*self.tokenize_parts(parts))
        return ids, splits, *spans

    def tokenize_parts(
        self, parts: Parts
    ) -> tuple[tf.Tensor, tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
        """Tokenizes parts of texts without matching special tokens."""
        decoded, starts = tf.strings.unicode_decode_with_offsets(parts.texts, "UTF-8")
        count = ragged_ops.size64(parts.texts)
        size = ragged_ops.size64(decoded.values)
        rows = ragged_ops.row_ids(tf.cast(decoded.row_splits, tf.int64), size)
        characters = Characters(decoded.values, tf.range(size), rows, count)
        for step in self._steps:
            characters = step(characters, parts.kinds > 0)
        characters = self._take_late_tokens(characters)
        characters, words = self._words(characters, starts.values, parts.kinds)
        pieces = self._model(characters.points, words)
        ids = pieces.ids
        if self._late_tokens:
            number = tf.gather(characters.points, pieces.first) - _LATE
            is_late = tf.logical_and(number >= 0, number < len(self._late_tokens))
            late_ids = tf.constant([token_id for _, token_id in self._late_tokens])
            ids = tf.where(is_late, tf.gather(late_ids, tf.where(is_late, number, 0)), ids)
        part_splits = Characters(
            ids, pieces.first, tf.gather(characters.rows, pieces.first), count
        ).splits()  # the tokens of each distinct part
        ends = tf.concat([starts.values[1:], tf.zeros([1], tf.int64)], axis=0)[:size]
        last = tf.concat([rows[1:] > rows[:-1], tf.fill([1], True)], axis=0)[:size]
        bytes_of_row = tf.cast(tf.strings.length(parts.texts), tf.int64)
        ends = tf.where(last, tf.gather(bytes_of_row, rows), ends)
        first, end = (tf.gather(characters.source, at) for at in (pieces.first, pieces.last))
        if self._late_tokens:
            first, end = first % _BEYOND, end // _BEYOND
        first, end = tf.gather(starts.values, first), tf.gather(ends, end)
        # Copy the tokens of each distinct part to its occurrences.
        lengths = part_splits[1:] - part_splits[:-1]
        splits = ragged_ops.splits_from_lengths(tf.gather(lengths, parts.which))
        part = ragged_ops.row_ids(splits, splits[-1])
        shift = tf.gather(part_splits[:-1], parts.which) - splits[:-1]
        at = tf.gather(shift, part) + tf.range(splits[-1])
        base = tf.gather(parts.starts, part)
        spans = tf.gather(first, at) + base, tf.gather(end, at) + base
        return tf.gather(ids, at), tf.gather(splits, parts.splits), spans

    def _take_late_tokens(self, characters: Characters) -> Characters:
        """Replaces each added token in normalized texts by one placeholder character.

        If the tokenizer has such tokens, `source` contains the sources of the first and of the last
        character: first + _BEYOND * last.
        """
        if not self._late_tokens:
            return characters
        points, source, rows = characters.flat()
        size = tf.size(points)
        last_source = source
        inside = tf.zeros_like(points)
        for number, (content, _) in enumerate(self._late_tokens):
            length = len(content)
            padded = tf.pad(points, [[0, length]])
            last = tf.slice(tf.pad(rows, [[0, length]], constant_values=-1), [length - 1], [size])
            matches = tf.equal(last, rows)
            for place, point in enumerate(content):
                matches = tf.logical_and(matches, tf.equal(padded[place : place + size], point))
            last = tf.slice(tf.pad(source, [[0, length]]), [length - 1], [size])
            last_source = tf.where(matches, last, last_source)
            at = ragged_ops.indices(matches)[:, tf.newaxis]
            for place in range(1, length):
                inside = tf.tensor_scatter_nd_update(
                    inside, at + place, tf.ones_like(at[:, 0], tf.int32)
                )
            points = tf.where(matches, _LATE + number, points)
        source += _BEYOND * last_source
        return Characters(points, source, rows, characters.count).keep(tf.equal(inside, 0))

    def _words(
        self, characters: Characters, starts: tf.Tensor, kinds: tf.Tensor
    ) -> tuple[Characters, tf.Tensor]:
        """Returns the characters of words, and the word of each character: int64 (N,).

        Args:
            characters: normalized characters of U rows.
            starts: int64. The byte offset of each original character in its row.
            kinds: int32 (U,).
        """
        begins = characters.first()
        late = tf.zeros_like(begins)
        if self._late_tokens:
            late = tf.logical_and(
                characters.points >= _LATE, characters.points < _LATE + len(self._late_tokens)
            )
            begins = tf.logical_or(begins, tf.logical_or(late, shifted(late, False)))
        if self.split_at_whitespace:
            space = self._whitespace.contains(characters.points)
            begins = tf.logical_or(begins, shifted(space, False))
            solid = tf.logical_not(space)
            characters = characters.keep(solid)
            at = ragged_ops.indices(solid)
            begins, late = tf.gather(begins, at), tf.gather(late, at)
        if self.split_at_punctuation:
            mark = self._punctuation.contains(characters.points)
            begins = tf.logical_or(begins, tf.logical_or(mark, shifted(mark, False)))
        sign = ord(SPACE_SIGN)
        points = tf.where(tf.equal(characters.points, _SPACE), sign, characters.points)
        is_sign = tf.equal(points, sign)
        rows, source = characters.rows, characters.source
        if self.prefix != "never":
            lacks = tf.logical_and(begins, tf.logical_not(tf.logical_or(is_sign, late)))
            if self.prefix == "first":
                places = source % _BEYOND if self._late_tokens else source
                begins_text = tf.logical_and(
                    tf.equal(tf.gather(starts, places), 0),
                    tf.equal(tf.gather(kinds, rows), _BEGINS),
                )
                lacks = tf.logical_and(lacks, begins_text)
            # The sign is inserted before a word, with the source of its first character.
            splits = ragged_ops.splits_from_lengths(1 + tf.cast(lacks, tf.int64))
            origin = ragged_ops.row_ids(splits, splits[-1])
            second = tf.equal(tf.range(splits[-1]) - tf.gather(splits, origin), 1)
            put = tf.logical_and(tf.gather(lacks, origin), tf.logical_not(second))
            points = tf.where(put, sign, tf.gather(points, origin))
            begins = tf.logical_and(tf.gather(begins, origin), tf.logical_not(second))
            rows, source = tf.gather(rows, origin), tf.gather(source, origin)
            is_sign = tf.equal(points, sign)
        if self.split_at_spaces:
            begins = tf.logical_or(begins, is_sign)
        words = tf.cumsum(tf.cast(begins, tf.int64)) - 1
        return Characters(points, source, rows, characters.count), words

    def _join(self, ids: tf.Tensor, splits: tf.Tensor) -> tf.Tensor:
        """Joins pieces and replaces space signs by spaces, as `tokenizers.decoders.Metaspace` does.

        The space before the first piece is left out.
        """
        size = ragged_ops.size64(ids)
        first = tf.equal(tf.gather(splits, ragged_ops.row_ids(splits, size)), tf.range(size))
        texts = tf.where(first, tf.gather(self._first_texts, ids), tf.gather(self._texts, ids))
        pieces = tf.RaggedTensor.from_row_splits(texts, splits, validate=False)
        return tf.strings.reduce_join(pieces, axis=-1)


@functools.lru_cache(maxsize=4)
def _plain_characters(normalizer: str) -> np.ndarray:
    """Returns `plain_characters` of a normalizer in JSON. They need a second to compute."""
    steps = steps_from_json(json.loads(normalizer))

    def image(text: str) -> str:
        for step in steps:
            text = step.image(text)
        return text

    return plain_characters(image)
