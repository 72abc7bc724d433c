"""Byte-level BPE with the results of Hugging Face, for RoBERTa and ModernBERT, in graph ops.

Texts are cut into words (words.py). TensorFlow Text's SentencePiece op merges each distinct word
once (model.py). Its tokens are copied to all occurrences of the word. Tokens cover the text without
gaps, so their lengths give the offsets.

Three steps come before, for texts that need them: matching added tokens (special_tokens.py),
removing bytes that are not UTF-8, and NFC (unicode/forms.py).

Legend: B texts, N bytes of all texts, W words, U distinct words, P pieces of these, T tokens.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

# The raw ops, because the class has a resource that every model would have to track. An op finds
# its model by the shared name and reads it once.
from tensorflow_text.python.ops.sentencepiece_tokenizer import (
    gen_sentencepiece_tokenizer as sentencepiece_ops,
)

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text import offsets, ragged_ops, special_tokens, text_cut
from keras_bert_zoo.text.byte_bpe import model as byte_bpe_model
from keras_bert_zoo.text.byte_bpe import words as byte_bpe_words
from keras_bert_zoo.text.byte_bpe.files import (
    read_directory,
    read_merges,
    read_vocabulary,
    write_directory,
)
from keras_bert_zoo.text.byte_bpe.options import ByteBpeOptions
from keras_bert_zoo.text.options import renumbered
from keras_bert_zoo.text.special_tokens import AddedToken
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.text.unicode import code_points
from keras_bert_zoo.text.unicode import forms as unicode_forms

_SPACE = "Ġ"  # GPT-2's character for the byte 0x20


class ByteBpeTokenizer(Tokenizer):
    """The byte-level BPE tokenizer of RoBERTa, ModernBERT, DeBERTa, Longformer and GPT-2.

    It has the ids and byte offsets of Hugging Face's fast tokenizers. A token that is a part of a
    character has the offsets of the whole character. Bytes that are not UTF-8 are ignored.

    Args:
        vocabulary: the tokens in the order of their ids, or the path of a vocab.json.
        merges: pairs of tokens in the order of merging, or the path of a merges.txt.
        options: ByteBpeOptions or None, for the defaults.
        nfc: bool. Compose characters (NFC) first, as ModernBERT does.
        add_prefix_space: bool. Put a space before every text that does not begin with one.
        trim_offsets: bool. Exclude spaces from the offsets, as RoBERTa does and ModernBERT does
            not.
        unk_token, cls_token, sep_token, pad_token, mask_token: str, in the vocabulary or among
            `added_tokens`; `mask_token` may be None.
        additional_special_tokens: further tokens that are never split. Tokens outside the
            vocabulary get the ids after its last.
        added_tokens: `AddedToken`s, which set how tokens are matched in a text. They may include
            the special tokens. By default, tokens are matched in the raw text, and `mask_token`
            takes the whitespace before it (lstrip).
        unknown_bytes: bool. Map bytes that the vocabulary lacks to `unk_token`. Otherwise the
            vocabulary must contain all 256 bytes.
        max_length: int or None. The longest input of the model, the default of `__call__`.
        separators_between, second_segment_id, cls_segment_id: int. How segments are packed; see
            `options.Packing`. The defaults are RoBERTa's: <s> a </s></s> b </s>, all of segment 0.

    Raises:
        ConfigError: a token is repeated or missing, the merges do not fit the vocabulary, or a file
            is damaged.

    Example:
        >>> from keras_bert_zoo.text.byte_bpe.model import byte_by_character
        >>> tokenizer = ByteBpeTokenizer(
        ...     ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *byte_by_character(), "Ġh", "Ġhi"],
        ...     [("Ġ", "h"), ("Ġh", "i")])
        >>> tokenizer.tokenize([" hi", "<mask>"]).to_list()
        [[262], [4]]

    Source: GPT-2's src/encoder.py; tokenizers' ByteLevel, BPE and RobertaProcessing; arXiv
    1907.11692.
    """

    options: ByteBpeOptions

    def __init__(
        self,
        vocabulary: Sequence[str] | str | os.PathLike[str],
        merges: Sequence[tuple[str, str]] | str | os.PathLike[str],
        options: ByteBpeOptions | None = None,
        **keywords: Any,
    ) -> None:
        if options is None and keywords.get("added_tokens") is None:
            mask_token = keywords.get("mask_token", ByteBpeOptions.mask_token)
            keywords["added_tokens"] = [AddedToken(mask_token, lstrip=True)] if mask_token else []
        options = dataclasses.replace(options or ByteBpeOptions(), **keywords)
        if isinstance(vocabulary, str | os.PathLike):
            vocabulary = read_vocabulary(vocabulary)
        if isinstance(merges, str | os.PathLike):
            merges = read_merges(merges)
        super().__init__(vocabulary, options)
        self.nfc = options.nfc
        self.add_prefix_space = options.add_prefix_space
        self.trim_offsets = options.trim_offsets
        self.unknown_bytes = options.unknown_bytes
        # Tokens added after the vocabulary are matched in the raw text, never merged.
        self.pieces = tuple(vocabulary)
        self.merges = tuple((left, right) for left, right in merges)
        self._build()

    def _build(self) -> None:
        """Builds the constants."""
        self._model = byte_bpe_model.build_piece_model(
            {piece: i for i, piece in enumerate(self.pieces)},
            self.merges,
            self.unk_token_id if self.unknown_bytes else None,
        )
        self._model_name = f"byte_bpe_{hashlib.sha256(self._model.proto).hexdigest()}"
        raw = [token for token in self.added_tokens if not token.normalized]
        normalized = [token for token in self.added_tokens if token.normalized]
        for token in self.added_tokens:
            self._check_added(token)
        self._finder = special_tokens.SpecialTokenFinder(raw) if raw else None
        self._normalized_finder = (
            special_tokens.SpecialTokenFinder(normalized) if normalized else None
        )
        self._first_pairs = {"clean": _first_pairs(raw), "words": _first_pairs(normalized)}
        self._form = unicode_forms.unicode_form("NFC") if self.nfc else None
        contents = [byte_bpe_model.token_bytes(token) for token in self.vocabulary]
        added = {self._ids[token.content] for token in self.added_tokens}
        takes_left = {token.content for token in self.added_tokens if token.lstrip}
        # The number of spaces at both ends that trimming excludes. Added tokens are not trimmed.
        trimmed = [
            (0, 0)
            if i in added
            else (len(token) - len(token.lstrip(_SPACE)), len(token) - len(token.rstrip(_SPACE)))
            for i, token in enumerate(self.vocabulary)
        ]
        with tf.init_scope():
            self._piece_ids = tf.constant(self._model.ids)
            self._piece_lengths = tf.constant(self._model.lengths)
            self._token_texts = tf.constant(contents)
            self._leading = tf.constant([leading for leading, _ in trimmed], tf.int64)
            self._trailing = tf.constant([trailing for _, trailing in trimmed], tf.int64)
            self._token_lengths = tf.constant([len(token) for token in self.vocabulary], tf.int64)
            self._takes_left = tf.constant([token in takes_left for token in self.vocabulary])

    def _contents(self) -> tuple[Any, ...]:
        return ByteBpeTokenizer, self.pieces, self.merges

    def _check_added(self, token: AddedToken) -> None:
        """Raises ConfigError if the token cannot be matched exactly."""
        content = token.content
        spaces = special_tokens.WHITESPACE | {_SPACE}
        if self.trim_offsets and (content[0] in spaces or content[-1] in spaces):
            raise ConfigError(
                f"Expected added tokens without spaces at their ends, received {content!r}. Set "
                "trim_offsets=False to allow them."
            )
        if token.normalized and self.nfc and not content.isascii():
            raise ConfigError(
                f"Expected normalized=false of the added token {content!r}, received true. "
                "With NFC, it is supported only for tokens of ASCII characters."
            )

    def _with_tokens(self, tokens: set[str]) -> ByteBpeTokenizer:
        """Returns a tokenizer with a part of the pieces; see `Tokenizer.subset`."""
        ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        remaining = tokens | set(byte_bpe_model.byte_by_character())
        waiting = [token for token in tokens if len(token) > 1]
        while waiting:
            # A token arises in one way only, in any text: by the last merge of its text.
            pair = byte_bpe_model.final_merge(waiting.pop(), ranks)
            parts = set(pair or ()) - remaining  # not of one byte, all of which remain
            remaining |= parts
            waiting.extend(parts)
        pieces = [piece for piece in self.pieces if piece in remaining]
        merges = [
            (left, right)
            for left, right in self.merges
            if left in remaining and right in remaining and left + right in remaining
        ]
        return ByteBpeTokenizer(
            pieces, merges, self.options, added_tokens=renumbered(self.added_tokens, pieces)
        )

    @classmethod
    def from_directory(cls, directory: str | os.PathLike[str]) -> ByteBpeTokenizer:
        """Reads a Hugging Face directory: tokenizer.json, or vocab.json and merges.txt.

        Args:
            directory: contains these files and optionally tokenizer_config.json.

        Raises:
            ConfigError: a file is missing or damaged, or has an unsupported option.
        """
        return cls(*read_directory(directory))

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes tokenizer.json and tokenizer_config.json for `transformers.AutoTokenizer`.

        Args:
            directory: created if it is missing.
        """
        write_directory(directory, self.pieces, self.merges, self.options)

    def tokenize_flat(
        self, strings: tf.Tensor, *, with_offsets: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tuple[tf.Tensor, ...]]:
        """Tokenizes texts to flat tensors; see `Tokenizer.tokenize_flat`."""
        raw, splits = offsets.text_bytes(strings)

        def clean(strings: tf.Tensor, raw: tf.Tensor, splits: tf.Tensor) -> text_cut.Tokens:
            cleaned, changed, sources = byte_bpe_words.clean(strings, raw, splits, self._form)
            ids, token_splits, spans = self._around(
                self._normalized_finder, "words", words, with_offsets, *cleaned
            )
            if with_offsets:
                spans = tf.cond(changed, lambda: sources(token_splits, *spans), lambda: spans)
            return ids, token_splits, spans

        def words(strings: tf.Tensor, raw: tf.Tensor, splits: tf.Tensor) -> text_cut.Tokens:
            return self._tokenize_words(strings, raw, splits, with_offsets)

        ids, token_splits, spans = self._around(
            self._finder, "clean", clean, with_offsets, strings, raw, splits
        )
        if with_offsets and self.trim_offsets:
            spans = self._trim(raw, splits, ids, token_splits, *spans)
        return ids, token_splits, spans

    def _around(
        self,
        finder: special_tokens.SpecialTokenFinder | None,
        name: str,
        tokenize: Callable[..., text_cut.Tokens],
        with_offsets: bool,
        *texts: tf.Tensor,
    ) -> text_cut.Tokens:
        """Calls `text_cut.tokenize_around` only if a text may contain an added token.

        Args:
            finder: SpecialTokenFinder, or None without added tokens.
            name: the name of the step `tokenize`.
            tokenize: function that tokenizes texts without added tokens.
            with_offsets: bool.
            texts: string (B,), their bytes uint8 (N,), and their splits int64 (B + 1,).
        """
        if finder is None:
            return tokenize(*texts)
        # A separate function, which the graph contains only once.
        signature = [tf.TensorSpec([None], kind) for kind in (tf.string, tf.uint8, tf.int64)]
        compiled = self._functions.get((name, with_offsets), tokenize, signature)
        ids, splits, *spans = tf.cond(
            _any_pair(texts[1], self._first_pairs[name]),
            lambda: _flat(
                text_cut.tokenize_around(
                    finder,
                    texts[0],
                    lambda pieces: compiled(pieces, *offsets.text_bytes(pieces)),
                    trim_offsets=self.trim_offsets,
                )
            ),
            lambda: _flat(compiled(*texts)),
        )
        return ids, splits, tuple(spans)

    def _tokenize_words(
        self, strings: tf.Tensor, raw: tf.Tensor, splits: tf.Tensor, with_offsets: bool
    ) -> text_cut.Tokens:
        """Tokenizes texts in valid UTF-8 without matching added tokens."""
        prefixed = None
        if self.add_prefix_space:
            strings, prefixed = _prefix_space(strings, raw, splits)
            raw, splits = offsets.text_bytes(strings)
        starts = byte_bpe_words.word_starts(raw, splits)  # (W,)
        word_splits = tf.searchsorted(starts, splits, out_type=tf.int64)
        ends = tf.concat([starts[1:], splits[-1:]], axis=0)
        base = tf.gather(splits, ragged_ops.row_ids(word_splits, ragged_ops.size64(starts)))
        words = offsets.cut(strings, starts - base, ends - base, word_splits)
        distinct, which = tf.unique(words)
        pieces, piece_splits = self._compiled(("pieces",), self._merge, distinct)
        # Copy the tokens of each distinct word to its occurrences.
        counts = tf.gather(piece_splits[1:] - piece_splits[:-1], which)
        token_splits = ragged_ops.splits_from_lengths(counts)  # (W + 1,)
        total = token_splits[-1]
        shift = tf.gather(piece_splits, which) - token_splits[:-1]
        source = tf.range(total) + tf.gather(shift, ragged_ops.row_ids(token_splits, total))
        pieces = tf.gather(pieces, source)
        row_splits = tf.gather(token_splits, word_splits)
        ids = tf.gather(self._piece_ids, pieces)
        if not with_offsets:
            return ids, row_splits, ()
        # Tokens cover the bytes of all texts without gaps.
        lengths = tf.gather(self._piece_lengths, pieces)
        ends = tf.cumsum(lengths)
        starts, ends = byte_bpe_words.widen(raw, ends - lengths, ends)
        rows = ragged_ops.row_ids(row_splits, total)
        base = tf.gather(splits, rows)
        starts, ends = starts - base, ends - base
        if prefixed is not None:
            more = tf.gather(prefixed, rows)
            # A token of only the added space has the span of the first character.
            alone = tf.logical_and(more, tf.equal(ends, 1))
            first = byte_bpe_words.character_lengths(tf.gather(tf.pad(raw, [[0, 1]]), base + 1))
            more = tf.cast(more, tf.int64)
            starts = tf.maximum(starts - more, 0)
            ends = tf.where(alone, first, ends - more)
        return ids, row_splits, (starts, ends)

    def _merge(self, words: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Merges the bytes of words: string (U,) to pieces int32 (P,) and splits int64 (U + 1,)."""
        raw, splits = offsets.text_bytes(words)
        points = tf.cast(raw, tf.int32) + byte_bpe_model.BYTE_CHARACTERS
        model = sentencepiece_ops.sentencepiece_op(
            model=self._model.proto, shared_name=self._model_name
        )
        pieces, piece_splits = sentencepiece_ops.sentencepiece_tokenize_op(
            sp_handle=model,
            input=code_points.encode(points, splits),
            nbest_size=0,
            alpha=1.0,
            add_bos=False,
            add_eos=False,
            reverse=False,
            out_type=tf.int32,
        )
        return pieces, piece_splits

    def _trim(
        self, raw: tf.Tensor, text_splits: tf.Tensor, ids: tf.Tensor, splits: tf.Tensor,
        starts: tf.Tensor, ends: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:  # fmt: skip
        """Excludes spaces from the offsets, as `process_offsets` of tokenizers' ByteLevel does.

        With `add_prefix_space`, ByteLevel keeps a single space at the beginning of a text, added or
        not. After an added token, it also excludes the character that follows the added space.
        """
        leading, trailing = tf.gather(self._leading, ids), tf.gather(self._trailing, ids)
        left = leading
        width = tf.ones_like(starts)
        if self.add_prefix_space:
            total = ragged_ops.size64(ids)
            rows = ragged_ops.row_ids(splits, total)
            base = tf.gather(text_splits, rows)
            raw = tf.pad(raw, [[0, 1]])
            width = byte_bpe_words.character_lengths(tf.gather(raw, base + starts))
            first_token = tf.equal(tf.gather(splits, rows), tf.range(total))
            first = tf.logical_or(first_token, tf.equal(starts, 0))
            single = tf.logical_and(first, tf.equal(leading, 1))
            left = tf.where(
                tf.logical_or(single, tf.equal(leading, 0)),
                tf.zeros_like(leading),
                width + leading - 1,
            )
            # The same for an added token that includes a single space before it.
            back = tf.logical_and(
                tf.logical_and(first_token, starts > 0), tf.gather(self._takes_left, ids)
            )
            before = base + starts - tf.cast(back, tf.int64)
            before, _ = byte_bpe_words.widen(raw, before, before)
            back = tf.logical_and(back, tf.equal(before, base))
            starts = tf.where(back, tf.zeros_like(starts), starts)
        only_spaces = tf.equal(leading, tf.gather(self._token_lengths, ids))
        right = tf.where(only_spaces, width + trailing - 1, trailing)
        right = tf.where(trailing > 0, right, 0)
        starts = tf.minimum(starts + left, ends)
        return starts, tf.maximum(ends - right, starts)

    def _join(self, ids: tf.Tensor, splits: tf.Tensor) -> tf.Tensor:
        """Joins the bytes of tokens, as `tokenizers.decoders.ByteLevel` does.

        Bytes that are not UTF-8 become U+FFFD.
        """
        texts = tf.gather(self._token_texts, ids)
        pieces = tf.RaggedTensor.from_row_splits(texts, splits, validate=False)
        joined = tf.strings.reduce_join(pieces, axis=-1)
        return tf.strings.unicode_transcode(joined, "UTF-8", "UTF-8", errors="replace")


def _flat(tokens: text_cut.Tokens) -> tuple[tf.Tensor, ...]:
    """Returns ids, splits and spans in one tuple."""
    ids, splits, spans = tokens
    return (ids, splits, *spans)


def _first_pairs(tokens: Sequence[AddedToken]) -> list[tuple[int, int | None]]:
    """Returns the first two bytes of tokens; for a token of one byte, the second is None."""
    contents = [token.content.encode("utf-8") for token in tokens]
    single = {content[0] for content in contents if len(content) == 1}
    pairs = {(content[0], content[1]) for content in contents if content[0] not in single}
    return [*((byte, None) for byte in sorted(single)), *sorted(pairs)]


def _any_pair(raw: tf.Tensor, pairs: Sequence[tuple[int, int | None]]) -> tf.Tensor:
    """Returns whether the bytes contain any of the pairs: uint8 (N,) to bool ()."""
    masks = [
        tf.equal(raw, first)
        if second is None
        else tf.logical_and(tf.equal(raw[:-1], first), tf.equal(raw[1:], second))
        for first, second in pairs
    ]
    return tf.reduce_any(tf.stack([tf.reduce_any(mask) for mask in masks]))


def _prefix_space(
    strings: tf.Tensor, raw: tf.Tensor, splits: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Adds a space before nonempty texts that do not begin with one: string (B,), bool (B,)."""
    first = tf.gather(tf.pad(raw, [[0, 1]]), splits[:-1])
    prefixed = tf.logical_and(splits[1:] > splits[:-1], tf.not_equal(first, ord(" ")))
    return tf.where(prefixed, tf.strings.join([" ", strings]), strings), prefixed
