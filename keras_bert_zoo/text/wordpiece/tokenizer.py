"""WordPiece tokenization equal to Hugging Face's fast BERT tokenizer, in graph ops.

The work is done by two ops of TensorFlow Text, FastBertNormalizer and FastWordpieceTokenizer. What
they do otherwise than BERT is put right around them: the rules per character by a table of our own
(normalizer.py), special tokens in the text (special_tokens.py), ends of tokens (offsets.py), and
here the length of words, which BERT limits in characters and the op in bytes.

Legend: B texts, T tokens in all of them, W words in all of them.
"""

from __future__ import annotations

import dataclasses
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
from keras_bert_zoo.text.special_tokens import AddedToken
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.text.unicode.normalizer import BertNormalizer, unicode_rules
from keras_bert_zoo.text.wordpiece.files import read_directory, write_directory
from keras_bert_zoo.text.wordpiece.options import WordPieceOptions
from keras_bert_zoo.text.wordpiece.vocabulary import read_vocabulary

_PREFIX = "##"
_NO_BYTE_LIMIT = 2**31 - 1
_MAXIMUM_PIECE_BYTES = 256  # fast_wordpiece_tokenizer_utils.h
_UNREACHABLE = "\x12"  # a control character: BERT deletes it, so no text holds it


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
        model = pywrap_fast_wordpiece_tokenizer_model_builder.build_fast_wordpiece_model(
            [self._op_piece(i, piece, normalizer) for i, piece in enumerate(pieces)],
            _NO_BYTE_LIMIT,
            _PREFIX,
            self.unk_token,
            False,  # no_pretokenization
            False,  # support_detokenization
        )
        begins = np.array([not piece.startswith(_PREFIX) for piece in pieces], np.int32)
        characters = np.array([len(piece.removeprefix(_PREFIX)) for piece in pieces], np.int32)
        # Fewer pieces than these cannot make a word too long. (An unknown word is taken to be as
        # long as unk_token, which is not true and does no harm: too long or not, it stays one.)
        self._pieces_of_long_word = self.max_characters_per_word // max(1, *characters) + 1
        raw = [token for token in self.added_tokens if not token.normalized]
        self._finder = special_tokens.SpecialTokenFinder(raw) if raw else None
        # Of two that are the same when normalized, Hugging Face takes now one and now the other;
        # here it is the one with the lower id.
        normalized = [
            self._normalized(token, normalizer)
            for token in sorted(self.added_tokens, key=lambda token: token.id or 0)
            if token.normalized
        ]
        self._normalized_finder = (
            special_tokens.SpecialTokenFinder(normalized) if normalized else None
        )
        # Only a text that holds the first character of an added token, by itself a token, can
        # hold the added token. None: it may begin with anything.
        self._hints: list[int] | None = None
        contents = [token.content for token in raw + normalized]
        if all(map(special_tokens.starts_with_ascii_punctuation, contents)):
            known = {piece: i for i, piece in enumerate(pieces)}
            firsts = {content[0] for content in contents}
            self._hints = sorted({known.get(char, self.unk_token_id) for char in firsts})
        # Eager tensors, which all graphs share: an array would be written into each function.
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
                model_buffer=tf.constant(np.frombuffer(model, np.uint8)),
            )

    def _normalized(self, token: AddedToken, normalizer: BertNormalizer) -> AddedToken:
        """The token as it stands in normalized texts.

        Only what is the same in the op's texts and in Hugging Face's can be found: no characters
        that get spaces or stand-ins, no marks that Hugging Face would sort, and no whitespace at
        the ends, as that is where the texts differ.
        """
        ideographs = unicode_rules().ideographs if self.handle_chinese_chars else frozenset()
        texts = {char: normalizer.map_character(ord(char)) for char in token.content}
        content = "".join(texts[char] for char in token.content)
        other = [
            char
            for char, text in texts.items()
            if (char != " " and " " in text)
            or ord(char) in ideographs
            or any(unicodedata.combining(c) or unicodedata.category(c) == "Co" for c in text)
        ]
        if token.lstrip or token.rstrip or other or not content or content != content.strip(" "):
            raise ConfigError(
                f"Expected normalized=false of the added token {token.content!r}, received "
                "true. It is supported only for tokens of letters, digits and ASCII "
                "punctuation, without "
                "whitespace at the ends, lstrip and rstrip."
            )
        return dataclasses.replace(token, content=content)

    def _op_piece(self, index: int, piece: str, normalizer: BertNormalizer) -> str:
        """The piece as the op has to know it."""
        if index == self.unk_token_id:
            return piece
        if piece in ("", _PREFIX) or any(map(normalizer.never_in_word, piece)):
            # BERT never meets it, but the op might; it gets something else in its place.
            return f"{_UNREACHABLE}{index}"
        return "".join(map(normalizer.stand_in, piece))

    @classmethod
    def from_directory(cls, directory: str | os.PathLike[str]) -> WordPieceTokenizer:
        """Reads a Hugging Face directory: vocab.txt, tokenizer_config.json, tokenizer.json.

        Args:
            directory: holds vocab.txt or tokenizer.json.

        Raises:
            ConfigError: a file is missing or damaged, or asks for what this class does not do; the
                message names the option.
        """
        return cls(*read_directory(directory))

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes vocab.txt and tokenizer_config.json, which transformers loads as they are.

        Where transformers has no class that does the same, tokenizer.json takes the place of
        vocab.txt.

        Args:
            directory: made if it is missing.
        """
        write_directory(directory, self.pieces, self.options)

    def tokenize_flat(
        self, strings: tf.Tensor, *, with_offsets: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tuple[tf.Tensor, ...]]:
        """Tokens of all texts in one row; see `Tokenizer.tokenize_flat`."""
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

        splits, ids, *found = tf.cond(tf.reduce_any(hint), cut_some, lambda: (splits, ids, *spans))
        return ids, splits, tuple(found)

    def _tokenize_cut(
        self, strings: tf.Tensor, with_offsets: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tuple[tf.Tensor, ...]]:
        """Tokens of texts that may hold special tokens."""
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
        """Tokens of texts that may hold added tokens once they are normalized."""

        def pieces_of(texts: tf.Tensor) -> text_cut.Tokens:
            if not with_offsets:
                found = self._wordpiece.tokenize(texts)
                return self._limit_words(found.values, found.row_splits, ())
            found, starts, ends = self._wordpiece.tokenize_with_offsets(texts)
            return self._limit_words(found.values, found.row_splits, (starts.values, ends.values))

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
        """Tokens of texts in which special tokens are nothing special."""
        spans: tuple[tf.Tensor, ...] = ()
        if with_offsets:
            normalized, source = self._normalizer.normalize_with_offsets(strings)
            found, starts, ends = self._wordpiece.tokenize_with_offsets(normalized)
            spans = offsets.source_offsets(
                strings, source, found.row_splits, starts.values, ends.values
            )
        else:
            found = self._wordpiece.tokenize(self._normalizer.normalize(strings))
        return self._limit_words(found.values, found.row_splits, spans)

    def _limit_words(
        self, ids: tf.Tensor, splits: tf.Tensor, spans: tuple[tf.Tensor, ...]
    ) -> tuple[tf.Tensor, tf.Tensor, tuple[tf.Tensor, ...]]:
        """Makes every word of more than `max_characters_per_word` characters one unk_token."""
        begins = tf.gather(self._begins_word, ids)
        word = tf.cumsum(begins) - 1  # (T,)
        # A word of many pieces: its first and last stand in the same word. Rare, and quickly seen.
        apart = self._pieces_of_long_word - 1
        maybe = tf.reduce_any(tf.equal(word[apart:], word[: tf.maximum(tf.size(word) - apart, 0)]))
        splits, ids, *found = tf.cond(
            maybe,
            lambda: self._shorten_words(ids, splits, spans, begins, word),
            lambda: (splits, ids, *spans),
        )
        return ids, splits, tuple(found)

    def _shorten_words(
        self,
        ids: tf.Tensor,
        splits: tf.Tensor,
        spans: tuple[tf.Tensor, ...],
        begins: tf.Tensor,
        word: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        """`_limit_words` for texts that hold words of many pieces."""
        characters = tf.gather(self._characters, ids)
        too_long = tf.math.segment_sum(characters, word) > self.max_characters_per_word  # (W,)

        def shorten() -> tuple[tf.Tensor, ...]:
            long = tf.gather(too_long, word)  # (T,)
            kept = tf.logical_or(begins > 0, tf.logical_not(long))
            new = [tf.where(long, self.unk_token_id, ids)]
            if spans:
                last = tf.cumsum(tf.math.segment_sum(tf.ones_like(word), word)) - 1  # (W,)
                end = tf.gather(spans[1], tf.gather(last, word))
                new += [spans[0], tf.where(long, end, spans[1])]
            at = ragged_ops.indices(kept)
            new_splits = tf.gather(ragged_ops.counts_before(kept), splits)
            return (new_splits, *(tf.gather(values, at) for values in new))

        return tf.cond(tf.reduce_any(too_long), shorten, lambda: (splits, ids, *spans))

    def _join(self, ids: tf.Tensor, splits: tf.Tensor) -> tf.Tensor:
        """Pieces joined, words set apart by one space.

        As `tokenizers.decoders.WordPiece(cleanup=False)`: no space before punctuation is taken
        away.
        """
        rows = ragged_ops.row_ids(splits, ragged_ops.size64(ids))
        first = tf.equal(tf.gather(splits, rows), tf.range(ragged_ops.size64(ids)))
        words = tf.where(first, tf.gather(self._words, ids), tf.gather(self._continued, ids))
        pieces = tf.RaggedTensor.from_row_splits(words, splits, validate=False)
        return tf.strings.reduce_join(pieces, axis=-1)
