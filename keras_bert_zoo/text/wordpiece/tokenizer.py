"""WordPiece tokenization with the results of Hugging Face's fast BERT tokenizer, in graph ops.

Two ops of TensorFlow Text do most of the work: FastBertNormalizer and FastWordpieceTokenizer. Other
modules correct their differences from BERT: the rules for characters (unicode/normalizer.py),
special tokens in texts (special_tokens.py) and the ends of tokens (offsets.py). This module limits
the length of words: BERT limits it in characters, the op in bytes.

Legend: B texts, T tokens of all texts, W words of all texts.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text
from tensorflow_text.core.pybinds import pywrap_fast_wordpiece_tokenizer_model_builder

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text import offsets, ragged_ops, special_tokens, text_cut
from keras_bert_zoo.text.options import renumbered
from keras_bert_zoo.text.special_tokens import AddedToken
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.text.unicode.normalizer import BertNormalizer, unicode_rules
from keras_bert_zoo.text.wordpiece.files import read_directory, write_directory
from keras_bert_zoo.text.wordpiece.options import WordPieceOptions
from keras_bert_zoo.text.wordpiece.vocabulary import read_vocabulary

_PREFIX = "##"
_NO_BYTE_LIMIT = 2**31 - 1
_MAXIMUM_PIECE_BYTES = 256  # fast_wordpiece_tokenizer_utils.h
_UNREACHABLE = "\x12"  # a control character: BERT deletes it, so it is in no normalized text


class WordPieceTokenizer(Tokenizer):
    """BERT's tokenizer, with the ids and byte offsets of Hugging Face's fast tokenizers.

    Args:
        vocabulary: the tokens in the order of their ids, or the path of a vocab.txt.
        options: WordPieceOptions or None, for the defaults.
        lowercase: bool. Lowercase the text.
        strip_accents: bool or None. Remove accents; None: the same as `lowercase`.
        handle_chinese_chars: bool. Make each CJK ideograph a word.
        unk_token, cls_token, sep_token, pad_token, mask_token: str, in the vocabulary;
            `mask_token` may be None.
        additional_special_tokens: further tokens that are never split. Tokens outside the
            vocabulary get the ids after its last.
        added_tokens: `AddedToken`s, which set how tokens are matched in a text. They may include
            the special tokens. By default, tokens are matched in the raw text.
        max_characters_per_word: int. A longer word becomes one `unk_token`.
        max_length: int or None. The longest input of the model, the default of `__call__`.
        separators_between, second_segment_id, cls_segment_id: int. How segments are packed, for
            families other than BERT; see `options.Packing`.
        trim_offsets: bool. Exclude the whitespace that an added token takes from its offsets, as
            MPNet's tokenizer does.
        tokenizer_class: str or None. The transformers class that `save` names, if it is equivalent;
            by default the first equivalent class.

    Raises:
        ConfigError: a token is repeated or missing, a file is not UTF-8, or an added token cannot
            be matched exactly.

    Example:
        >>> tokenizer = WordPieceTokenizer(
        ...     ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##aff", "##able"])
        >>> tokenizer.tokenize(["Unaffable", "[MASK]"])
        <tf.RaggedTensor [[5, 6, 7], [4]]>

    Source: arXiv 1810.04805; tokenizers' BertNormalizer, BertPreTokenizer and WordPiece.
    """

    options: WordPieceOptions

    def __init__(
        self,
        vocabulary: Sequence[str] | str | os.PathLike[str],
        options: WordPieceOptions | None = None,
        **keywords: Any,
    ) -> None:
        options = dataclasses.replace(options or WordPieceOptions(), **keywords)
        if isinstance(vocabulary, str | os.PathLike):
            # Without a model's config, blank lines at the end are no tokens.
            vocabulary = read_vocabulary(vocabulary, rows=0)
        super().__init__(vocabulary, options)
        self.lowercase = options.lowercase
        self.strip_accents = options.strip_accents
        self.handle_chinese_chars = options.handle_chinese_chars
        self.max_characters_per_word = options.max_characters_per_word
        self.trim_offsets = options.trim_offsets
        self.tokenizer_class = options.tokenizer_class
        # Tokens added after the vocabulary are matched in the raw text, never as pieces.
        self.pieces = tuple(vocabulary)
        self._build()

    def _build(self) -> None:
        """Builds the constants."""
        pieces = self.pieces
        normalizer = BertNormalizer(
            lowercase=self.lowercase,
            strip_accents=self.options.strips_accents,
            handle_chinese_chars=self.handle_chinese_chars,
            vocabulary_characters=set().union(*pieces),
        )
        long = [piece for piece in pieces if len(piece.encode("utf-8")) > _MAXIMUM_PIECE_BYTES]
        if long:
            raise ConfigError(
                f"Expected tokens of at most {_MAXIMUM_PIECE_BYTES} bytes, received "
                f"{long[0]!r:.60}."
            )
        model = _wordpiece_model(self._op_pieces(normalizer), self.unk_token)
        begins = np.array([not piece.startswith(_PREFIX) for piece in pieces], np.int32)
        characters = np.array([len(piece.removeprefix(_PREFIX)) for piece in pieces], np.int32)
        # A word of fewer pieces cannot be too long. (An unknown word counts with the length of
        # unk_token. This has no effect, because a word that is too long also becomes unk_token.)
        self._pieces_of_long_word = self.max_characters_per_word // max(1, *characters) + 1
        raw = [token for token in self.added_tokens if not token.normalized]
        self._finder = special_tokens.SpecialTokenFinder(raw) if raw else None
        # If two tokens are equal after normalization, Hugging Face selects either of them. This
        # class selects the one with the lower id.
        normalized = [
            self._normalized(token, normalizer)
            for token in sorted(self.added_tokens, key=lambda token: token.id or 0)
            if token.normalized
        ]
        self._normalized_finder = (
            special_tokens.SpecialTokenFinder(normalized) if normalized else None
        )
        # If all added tokens begin with punctuation, a text that contains one has a token of its
        # first character. These are the ids of such tokens. None: there are other added tokens.
        self._hints: list[int] | None = None
        contents = [token.content for token in raw + normalized]
        if all(map(special_tokens.starts_with_ascii_punctuation, contents)):
            known = {piece: i for i, piece in enumerate(pieces)}
            firsts = {content[0] for content in contents}
            self._hints = sorted({known.get(char, self.unk_token_id) for char in firsts})
        # Eager tensors, because all graphs share them. An array would be copied to each function.
        with tf.init_scope():
            self._begins_word = tf.constant(begins)
            self._characters = tf.constant(characters)
            self._words = tf.constant(self.vocabulary)
            self._continued = tf.constant(
                [
                    token[len(_PREFIX) :] if token.startswith(_PREFIX) else f" {token}"
                    for token in self.vocabulary
                ]
            )
            self._normalizer = tf_text.FastBertNormalizer(
                model_buffer=tf.constant(normalizer.buffer())
            )
            self._wordpiece = tf_text.FastWordpieceTokenizer(
                token_out_type=tf.int32,
                model_buffer=tf.constant(model),
            )

    def _normalized(self, token: AddedToken, normalizer: BertNormalizer) -> AddedToken:
        """Returns the token with its normalized content.

        The content must be the same in the op's normalized texts and in Hugging Face's. So it must
        not contain characters that get spaces or stand-ins, marks that Hugging Face would sort, or
        whitespace at the ends.
        """
        ideographs = unicode_rules().ideographs if self.handle_chinese_chars else frozenset()
        texts = {char: normalizer.map_character(ord(char)) for char in token.content}
        content = "".join(texts[char] for char in token.content)
        unsupported = [
            char
            for char, text in texts.items()
            if (char != " " and " " in text)
            or ord(char) in ideographs
            or any(unicodedata.combining(c) or unicodedata.category(c) == "Co" for c in text)
        ]
        strips = token.lstrip or token.rstrip or content != content.strip(" ")
        if strips or unsupported or not content:
            raise ConfigError(
                f"Expected normalized=false of the added token {token.content!r}, received true. "
                "It is supported only for tokens of letters, digits and ASCII punctuation, without "
                "whitespace at the ends, lstrip and rstrip."
            )
        return dataclasses.replace(token, content=content)

    def _op_pieces(self, normalizer: BertNormalizer) -> tuple[str, ...]:
        """Returns the pieces in the op's vocabulary."""
        characters = set().union(*self.pieces)
        never = {char for char in characters if normalizer.never_in_word(char)}
        stand_ins = str.maketrans({char: normalizer.stand_in(char) for char in characters})

        def op_piece(index: int, piece: str) -> str:
            if index == self.unk_token_id:
                return piece
            if piece in ("", _PREFIX) or not never.isdisjoint(piece):
                # BERT never matches the piece, but the op might. So another piece replaces it.
                return f"{_UNREACHABLE}{index}"
            return piece.translate(stand_ins)

        return tuple(op_piece(index, piece) for index, piece in enumerate(self.pieces))

    @classmethod
    def from_directory(cls, directory: str | os.PathLike[str]) -> WordPieceTokenizer:
        """Reads a Hugging Face directory: vocab.txt, tokenizer_config.json, tokenizer.json.

        Args:
            directory: contains vocab.txt or tokenizer.json.

        Raises:
            ConfigError: a file is missing or damaged, or has an unsupported option.
        """
        return cls(*read_directory(directory))

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes vocab.txt and tokenizer_config.json for `transformers.AutoTokenizer`.

        If transformers has no equivalent class, writes tokenizer.json instead of vocab.txt.

        Args:
            directory: created if it is missing.
        """
        write_directory(directory, self.pieces, self.options)

    def _contents(self) -> tuple[Any, ...]:
        return WordPieceTokenizer, self.pieces

    def _with_tokens(self, tokens: set[str]) -> WordPieceTokenizer:
        """Returns a tokenizer with a part of the pieces; see `Tokenizer.subset`."""
        single = {
            form
            for token in tokens
            for char in token.removeprefix(_PREFIX)
            for form in (char, _PREFIX + char)
        }
        pieces = [piece for piece in self.pieces if piece in tokens or piece in single]
        return WordPieceTokenizer(
            pieces, self.options, added_tokens=renumbered(self.added_tokens, pieces)
        )

    def tokenize_flat(
        self, strings: tf.Tensor, *, with_offsets: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tuple[tf.Tensor, ...]]:
        """Tokenizes texts to flat tensors; see `Tokenizer.tokenize_flat`."""
        if self._hints is None:
            return self._tokenize_cut(strings, with_offsets)
        ids, splits, spans = self._tokenize_plain(strings, with_offsets)
        hint = tf.equal(ids, self._hints[0])
        for token_id in self._hints[1:]:
            hint = tf.logical_or(hint, tf.equal(ids, token_id))

        def cut_some() -> tuple[tf.Tensor, ...]:
            count = tf.gather(ragged_ops.counts_before(hint), splits)
            hinted = count[1:] > count[:-1]
            rows = ragged_ops.indices(hinted)
            new_ids, new_splits, new_spans = self._tokenize_cut(
                tf.gather(strings, rows), with_offsets
            )
            merged, values = ragged_ops.replace_rows(
                rows, hinted, splits, (ids, *spans), new_splits, (new_ids, *new_spans)
            )
            return (merged, *values)

        splits, ids, *rest = tf.cond(tf.reduce_any(hint), cut_some, lambda: (splits, ids, *spans))
        return ids, splits, tuple(rest)

    def _tokenize_cut(
        self, strings: tf.Tensor, with_offsets: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tuple[tf.Tensor, ...]]:
        """Tokenizes texts that may contain special tokens."""
        return text_cut.tokenize_around(
            self._finder,
            strings,
            lambda pieces: (
                self._tokenize_plain(pieces, with_offsets)
                if self._normalized_finder is None
                else self._tokenize_normalized(pieces, with_offsets)
            ),
            trim_offsets=self.trim_offsets,
        )

    def _tokenize_normalized(
        self, strings: tf.Tensor, with_offsets: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tuple[tf.Tensor, ...]]:
        """Tokenizes texts that may contain added tokens after normalization."""

        def pieces_of(texts: tf.Tensor) -> text_cut.Tokens:
            if not with_offsets:
                ids = self._wordpiece.tokenize(texts)
                return self._limit_words(ids.values, ids.row_splits, ())
            ids, starts, ends = self._wordpiece.tokenize_with_offsets(texts)
            return self._limit_words(ids.values, ids.row_splits, (starts.values, ends.values))

        if not with_offsets:
            return text_cut.tokenize_around(
                self._normalized_finder, self._normalizer.normalize(strings), pieces_of
            )
        normalized, source = self._normalizer.normalize_with_offsets(strings)
        ids, splits, spans = text_cut.tokenize_around(
            self._normalized_finder, normalized, pieces_of
        )
        return ids, splits, offsets.source_offsets(strings, source, splits, *spans)

    def _tokenize_plain(
        self, strings: tf.Tensor, with_offsets: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tuple[tf.Tensor, ...]]:
        """Tokenizes texts without matching special tokens."""
        spans: tuple[tf.Tensor, ...] = ()
        if with_offsets:
            normalized, source = self._normalizer.normalize_with_offsets(strings)
            ids, starts, ends = self._wordpiece.tokenize_with_offsets(normalized)
            spans = offsets.source_offsets(
                strings, source, ids.row_splits, starts.values, ends.values
            )
        else:
            ids = self._wordpiece.tokenize(self._normalizer.normalize(strings))
        return self._limit_words(ids.values, ids.row_splits, spans)

    def _limit_words(
        self, ids: tf.Tensor, splits: tf.Tensor, spans: tuple[tf.Tensor, ...]
    ) -> tuple[tf.Tensor, tf.Tensor, tuple[tf.Tensor, ...]]:
        """Replaces words of more than `max_characters_per_word` characters by unk_token."""
        begins = tf.gather(self._begins_word, ids)
        word = tf.cumsum(begins) - 1  # (T,)
        # A fast check for rare words of many pieces: two tokens at this distance are in one word.
        apart = self._pieces_of_long_word - 1
        maybe = tf.reduce_any(tf.equal(word[apart:], word[: tf.maximum(tf.size(word) - apart, 0)]))
        splits, ids, *rest = tf.cond(
            maybe,
            lambda: self._shorten_words(ids, splits, spans, begins, word),
            lambda: (splits, ids, *spans),
        )
        return ids, splits, tuple(rest)

    def _shorten_words(
        self,
        ids: tf.Tensor,
        splits: tf.Tensor,
        spans: tuple[tf.Tensor, ...],
        begins: tf.Tensor,
        word: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        """Does the work of `_limit_words` for texts with words of many pieces."""
        characters = tf.gather(self._characters, ids)
        too_long = tf.math.segment_sum(characters, word) > self.max_characters_per_word  # (W,)

        def shorten() -> tuple[tf.Tensor, ...]:
            long = tf.gather(too_long, word)  # (T,)
            remains = tf.logical_or(begins > 0, tf.logical_not(long))
            new = [tf.where(long, self.unk_token_id, ids)]
            if spans:
                last = tf.cumsum(tf.math.segment_sum(tf.ones_like(word), word)) - 1  # (W,)
                end = tf.gather(spans[1], tf.gather(last, word))
                new += [spans[0], tf.where(long, end, spans[1])]
            at = ragged_ops.indices(remains)
            new_splits = tf.gather(ragged_ops.counts_before(remains), splits)
            return (new_splits, *(tf.gather(values, at) for values in new))

        return tf.cond(tf.reduce_any(too_long), shorten, lambda: (splits, ids, *spans))

    def _join(self, ids: tf.Tensor, splits: tf.Tensor) -> tf.Tensor:
        """Joins pieces, with one space between words.

        As `tokenizers.decoders.WordPiece(cleanup=False)`: spaces before punctuation remain.
        """
        rows = ragged_ops.row_ids(splits, ragged_ops.size64(ids))
        first = tf.equal(tf.gather(splits, rows), tf.range(ragged_ops.size64(ids)))
        words = tf.where(first, tf.gather(self._words, ids), tf.gather(self._continued, ids))
        pieces = tf.RaggedTensor.from_row_splits(words, splits, validate=False)
        return tf.strings.reduce_join(pieces, axis=-1)


@functools.lru_cache(maxsize=4)  # tokenizers of one vocabulary share it: it takes up to a second
def _wordpiece_model(pieces: tuple[str, ...], unk_token: str) -> np.ndarray:
    model = pywrap_fast_wordpiece_tokenizer_model_builder.build_fast_wordpiece_model(
        pieces,
        _NO_BYTE_LIMIT,
        _PREFIX,
        unk_token,
        False,  # no_pretokenization
        False,  # support_detokenization
    )
    return np.frombuffer(model, np.uint8)
