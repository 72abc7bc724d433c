"""The base class of tokenizers: ids, offsets, detokenization and packed model inputs."""

from __future__ import annotations

import abc
import dataclasses
import os
from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text import packing, ragged_ops, windows
from keras_bert_zoo.text.compiled import SharesFunctions
from keras_bert_zoo.text.options import (
    TokenizerOptions,
    check_special_tokens,
    merged_added_tokens,
    token_ids,
)
from keras_bert_zoo.text.special_tokens import AddedToken
from keras_bert_zoo.text.strings import Texts, check_rows, to_strings


class Tokenizer(SharesFunctions, abc.ABC):
    """Base class of tokenizers; subclasses split texts into tokens.

    A tokenizer is a plain object with constants. Its methods accept Python strings, eager tensors
    and tensors inside `tf.function`. A graph that calls them contains the constants, and needs no
    files and no tables.

    Args:
        vocabulary: the tokens in the order of their ids.
        options: TokenizerOptions.

    Attributes:
        options: TokenizerOptions, with the ids of all added tokens.
        vocabulary: list of str, the tokens in the order of their ids.
        max_length: int or None. The longest input of the model, if known.
        cls_token, sep_token, pad_token, unk_token: str.
        mask_token: str or None.
        cls_token_id, sep_token_id, pad_token_id, unk_token_id: int.
        mask_token_id: int or None.
        added_tokens: tuple of AddedToken, with their ids. They are never split. Special tokens come
            first.
        special_tokens: tuple of str, the contents of the added tokens that are special.
        additional_special_tokens: tuple of str, the special tokens without a name.
        separators_between, second_segment_id, cls_segment_id: int. How segments are packed; see
            `options.Packing`. `cls_token` and `sep_token` are the tokens around segments, also if
            the files call them `bos_token` and `eos_token`.

    Raises:
        ConfigError: a token is repeated or missing.

    Example:
        >>> from keras_bert_zoo.text import WordPieceTokenizer
        >>> tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat"])
        >>> tokenizer("cat")["token_ids"].numpy().tolist()
        [[2, 5, 3]]
        >>> tokenizer.detokenize([5, 5]).numpy()
        b'cat cat'
    """

    def __init__(self, vocabulary: Sequence[str], options: TokenizerOptions) -> None:
        self._ids = token_ids(vocabulary)
        check_special_tokens(options, self._ids)
        self.vocabulary = list(vocabulary)
        tokens = merged_added_tokens(options)
        # New tokens in the order of their ids; tokens without an id come last.
        for token in sorted(tokens, key=lambda token: (token.id is None, token.id or 0)):
            self._add(token)
        self.added_tokens = tuple(
            dataclasses.replace(token, id=self._ids[token.content]) for token in tokens
        )
        named = options.named_tokens
        self.special_tokens = tuple(t.content for t in self.added_tokens if t.special)
        self.additional_special_tokens = tuple(
            token for token in self.special_tokens if token not in named.values()
        )
        self.options = dataclasses.replace(
            options,
            added_tokens=self.added_tokens,
            additional_special_tokens=self.additional_special_tokens,
        )
        # Now, because the caller may change a container among the options.
        self._options_text = repr(self.options)
        self.unk_token, self.cls_token = options.unk_token, options.cls_token
        self.sep_token, self.pad_token = options.sep_token, options.pad_token
        self.mask_token = options.mask_token
        self.unk_token_id, self.cls_token_id = self._ids[self.unk_token], self._ids[self.cls_token]
        self.sep_token_id, self.pad_token_id = self._ids[self.sep_token], self._ids[self.pad_token]
        self.mask_token_id = self._ids[named["mask_token"]] if "mask_token" in named else None
        self.max_length = options.max_length
        self._layout = packing.Layout(
            self.cls_token_id,
            self.sep_token_id,
            self.pad_token_id,
            **dataclasses.asdict(options.packing),
        )

    def _add(self, token: AddedToken) -> None:
        """Adds a token to the vocabulary if it is new."""
        expected = self._ids.get(token.content, len(self.vocabulary))
        if token.id not in (None, expected):
            raise ConfigError(
                f"Expected the added token {token.content!r} to have the id {expected}, received "
                f"{token.id}. Added tokens must follow the vocabulary without gaps."
            )
        if token.content not in self._ids:
            self._ids[token.content] = expected
            self.vocabulary.append(token.content)

    @classmethod
    def from_preset(cls, preset: str | os.PathLike[str]) -> Tokenizer:
        """Loads the tokenizer of a preset.

        Args:
            preset: the name of a catalogued preset, or a Hugging Face directory.

        Returns:
            Tokenizer, of the class that the preset has.
        """
        # A lazy import, because presets import tokenizers.
        from keras_bert_zoo.presets.resolve import load_tokenizer

        return load_tokenizer(preset)

    @abc.abstractmethod
    def tokenize_flat(
        self, strings: tf.Tensor, *, with_offsets: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tuple[tf.Tensor, ...]]:
        """Tokenizes texts to flat tensors, for graphs without ragged tensors.

        Args:
            strings: string (B,).
            with_offsets: bool.

        Returns:
            ids int32 (T,), row splits int64 (B + 1,), and () or (starts, ends), int64 (T,) each.
        """

    def detokenize(self, ids: Any, *, skip_special_tokens: bool = False) -> tf.Tensor:
        """Converts token ids to texts, with the results of Hugging Face's decoders.

        Ids outside the vocabulary are ignored.

        Args:
            ids: int (B, tokens), ragged or dense, or int (tokens,).
            skip_special_tokens: bool. Drop special tokens.

        Returns:
            string (B,); for a single row, string ().
        """
        if isinstance(ids, list | tuple):
            ids = tf.ragged.constant(ids, tf.int32)
        if not isinstance(ids, tf.RaggedTensor):
            ids = tf.convert_to_tensor(ids)
            if ids.shape.rank == 1:
                row = self.detokenize(ids[tf.newaxis], skip_special_tokens=skip_special_tokens)
                return row[0]
            ids = tf.RaggedTensor.from_tensor(ids)
        values = tf.cast(ids.values, tf.int32)
        valid = tf.logical_and(values >= 0, values < self.vocabulary_size)
        if skip_special_tokens:
            for token in self.special_tokens:
                valid = tf.logical_and(valid, values != self.token_to_id(token))
        splits = tf.gather(ragged_ops.counts_before(valid), tf.cast(ids.row_splits, tf.int64))
        return self._join(tf.boolean_mask(values, valid), splits)

    @abc.abstractmethod
    def _join(self, ids: tf.Tensor, splits: tf.Tensor) -> tf.Tensor:
        """Joins tokens to texts: int32 (T,) ids, int64 (B + 1,) row splits to string (B,)."""

    @abc.abstractmethod
    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes the tokenizer's files in Hugging Face's format."""

    @property
    def separators_between(self) -> int:
        """Separators between the segments of a pair."""
        return self._layout.separators_between

    @property
    def second_segment_id(self) -> int:
        """The segment id of the second segment of a pair."""
        return self._layout.second_segment_id

    @property
    def cls_segment_id(self) -> int:
        """The segment id of the first token."""
        return self._layout.cls_segment_id

    @property
    def vocabulary_size(self) -> int:
        """The number of tokens, including added tokens."""
        return len(self.vocabulary)

    def token_to_id(self, token: str) -> int:
        """Returns the id of a token.

        Raises:
            KeyError: the token is not in the vocabulary.
        """
        if token not in self._ids:
            raise KeyError(
                f"Expected a token of the vocabulary of {self.vocabulary_size} tokens, received "
                f"{token!r}."
            )
        return self._ids[token]

    def id_to_token(self, token_id: int) -> str:
        """Returns the token of an id.

        Raises:
            IndexError: the id is outside the vocabulary.
        """
        if not 0 <= token_id < self.vocabulary_size:
            raise IndexError(
                f"Expected an id of 0 to {self.vocabulary_size - 1}, received {token_id}."
            )
        return self.vocabulary[token_id]

    def tokenize(self, strings: Texts) -> tf.RaggedTensor | tf.Tensor:
        """Converts texts to token ids, without special tokens around them.

        Args:
            strings: str, bytes, a sequence of them, or a string tensor of rank 0 or 1.

        Returns:
            int32 ragged (B, tokens); for a single text, int32 (tokens,).
        """
        texts, single = to_strings(strings)
        ids, splits, _ = self._run(texts, with_offsets=False)
        return ids if single else tf.RaggedTensor.from_row_splits(ids, splits, validate=False)

    def tokenize_with_offsets(self, strings: Texts) -> tuple[tf.RaggedTensor | tf.Tensor, ...]:
        """Converts texts to token ids with their byte offsets.

        Args:
            strings: str, bytes, a sequence of them, or a string tensor of rank 0 or 1.

        Returns:
            ids, starts and ends: int32 ragged (B, tokens); for a single text, int32 (tokens,).
            `text_bytes[start:end]` is the text of a token. Offsets are bytes of the given string,
            also if it is not valid UTF-8.
        """
        texts, single = to_strings(strings)
        ids, splits, spans = self._run(texts, with_offsets=True)
        flat = (ids, *(tf.cast(span, tf.int32) for span in spans))
        if single:
            return flat
        return tuple(
            tf.RaggedTensor.from_row_splits(values, splits, validate=False) for values in flat
        )

    def __call__(
        self,
        strings: Texts | tuple[Texts, Texts],
        *,
        max_length: int | None = None,
        truncation: packing.Truncation = "longest_first",
        padding: packing.Padding = "longest",
    ) -> dict[str, tf.Tensor]:
        """Converts texts, or pairs of texts, to model inputs.

        Args:
            strings: texts as for `tokenize`, or a tuple of first and second segments. A list is
                always a list of texts, a tuple of two always a pair.
            max_length: int. The longest row, including special tokens; by default the tokenizer's
                `max_length`. Without both, rows have no limit.
            truncation: the segment of a pair to truncate: "longest_first", "only_first" or
                "only_second".
            padding: "longest" (the longest row of the batch), "max_length", or an int: the longest
                row, rounded up to a multiple of it.

        Returns:
            "token_ids", "segment_ids", "padding_mask": int32 (B, length) each.

        Raises:
            ConfigError: `max_length` leaves no room for the special tokens.
            DataError: first and second texts differ in number.
        """
        max_length = self.max_length if max_length is None else max_length
        segments: tuple[Any, ...] = strings if isinstance(strings, tuple) else (strings,)
        if isinstance(strings, tuple) and len(strings) != 2:
            raise ConfigError(
                f"Expected a tuple of two (first and second texts), received {len(strings)}. "
                "Pass texts as a list."
            )

        def tokenize_and_pack(*texts: tf.Tensor) -> dict[str, tf.Tensor]:
            ragged = []
            for segment in texts:
                ids, splits, _ = self._run(segment, with_offsets=False)
                ragged.append(tf.RaggedTensor.from_row_splits(ids, splits, validate=False))
            return self.pack(*ragged, max_length=max_length, truncation=truncation, padding=padding)

        texts = [to_strings(segment)[0] for segment in segments]
        check_rows(texts)
        return self._compiled(("call", max_length, truncation, padding), tokenize_and_pack, *texts)

    def pack(
        self,
        ids_a: tf.RaggedTensor,
        ids_b: tf.RaggedTensor | None = None,
        *,
        max_length: int | None = None,
        truncation: packing.Truncation = "longest_first",
        padding: packing.Padding = "longest",
    ) -> dict[str, tf.Tensor]:
        """Packs token ids into model inputs: [CLS] a [SEP], or [CLS] a [SEP] b [SEP].

        The layout depends on the family. RoBERTa's pairs are <s> a </s></s> b </s>.

        Args:
            ids_a: int32 ragged (B, tokens).
            ids_b: int32 ragged (B, tokens) or None.
            max_length: as in `__call__`.
            truncation: as in `__call__`.
            padding: as in `__call__`.

        Returns:
            "token_ids", "segment_ids", "padding_mask": int32 (B, length) each.

        Raises:
            ConfigError: `max_length` leaves no room for the special tokens.
        """
        return packing.pack(
            self._layout,
            ids_a,
            ids_b,
            max_length=self.max_length if max_length is None else max_length,
            truncation=truncation,
            padding=padding,
        )

    def windows(
        self,
        strings: Texts,
        *,
        first: Texts | None = None,
        max_length: int | None = None,
        stride: int = 128,
        padding: packing.Padding = "longest",
    ) -> dict[str, tf.Tensor]:
        """Splits long texts into overlapping windows, each a model input.

        Args:
            strings: texts as for `tokenize`.
            first: one text for each of `strings`, or None. It becomes the first segment of all
                windows of that text, such as a question.
            max_length: int. The longest window, including special tokens; by default the
                tokenizer's `max_length`.
            stride: int. The number of tokens that consecutive windows share, as in Hugging Face.
            padding: as in `__call__`.

        Returns:
            "token_ids", "segment_ids", "padding_mask", "starts", "ends": int32 (W, length) each;
            starts and ends are bytes of the text, 0 at positions without a token of it.
            "document": int32 (W,), the index of the window's text in `strings`. "window_start":
            int32 (W,), the index of the window's first token in the text.

        Raises:
            ConfigError: `max_length` leaves no room for `stride` and one new token.
            DataError: `first` and `strings` differ in number.
        """
        max_length = self.max_length if max_length is None else max_length

        def tokenize_and_cut(texts: tf.Tensor, *firsts: tf.Tensor) -> dict[str, tf.Tensor]:
            ids, splits, spans = self._run(texts, with_offsets=True)
            ids_first = None
            if firsts:
                values, first_splits, _ = self._run(firsts[0], with_offsets=False)
                ids_first = tf.RaggedTensor.from_row_splits(values, first_splits, validate=False)
            return windows.make_windows(
                self._layout,
                tf.RaggedTensor.from_row_splits(ids, splits, validate=False),
                ids_first,
                spans=spans,
                max_length=max_length,
                stride=stride,
                padding=padding,
            )

        texts = [to_strings(strings)[0]] + ([] if first is None else [to_strings(first)[0]])
        check_rows(texts)
        return self._compiled(("windows", max_length, stride, padding), tokenize_and_cut, *texts)

    def subset(self, token_ids: Iterable[int]) -> Tokenizer:
        """Returns a tokenizer with a part of the vocabulary, in the same order.

        A text whose tokens are all given gets the same tokens, with new ids. Other texts are split
        into shorter tokens, or get `unk_token`.

        Args:
            token_ids: int. Ids of tokens. The added tokens, the parts of merged tokens, and the
                single characters of all tokens stay, too.

        Raises:
            ConfigError: an id outside the vocabulary.

        Example:
            >>> from keras_bert_zoo.text import WordPieceTokenizer
            >>> names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##a", "##aa", "b"]
            >>> WordPieceTokenizer(names).subset([7]).vocabulary[5:]
            ['a', '##a', '##aa']
        """
        remaining = {int(token_id) for token_id in token_ids}
        outside, last = remaining - {*range(self.vocabulary_size)}, self.vocabulary_size - 1
        if outside:
            raise ConfigError(f"Expected ids from 0 to {last:,}, received {min(outside)}.")
        added = {self.unk_token, *(token.content for token in self.added_tokens)}
        return self._with_tokens(added | {self.vocabulary[i] for i in remaining})

    @abc.abstractmethod
    def _with_tokens(self, tokens: set[str]) -> Tokenizer:
        """Returns a tokenizer with these tokens and the others that it needs; see `subset`."""

    def _run(
        self, strings: tf.Tensor, *, with_offsets: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tuple[tf.Tensor, ...]]:
        """Calls `tokenize_flat`, which is traced once for all graphs and eager calls."""
        return self._compiled(
            ("tokenize", with_offsets),
            lambda texts: self.tokenize_flat(texts, with_offsets=with_offsets),
            strings,
        )
