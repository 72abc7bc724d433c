"""What every tokenizer offers: ids, offsets, text again, and packed model inputs."""

from __future__ import annotations

import abc
import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.text import packing, ragged_ops, windows
from keras_bert_zoo.text.special_tokens import AddedToken

Texts: TypeAlias = str | bytes | Sequence[str | bytes] | np.ndarray[Any, Any] | tf.Tensor


class Tokenizer(abc.ABC):
    """Base class of tokenizers: everything but the way from a text to its tokens.

    A tokenizer is a plain object that holds constants. Its methods work on Python strings, on eager
    tensors and inside `tf.function`; a graph that calls them carries the constants along, and
    needs no files and no tables.

    Attributes:
        vocabulary: list of str. Every token, at the place of its id.
        max_length: int or None. The longest input of the model it belongs to, if known.
        cls_token, sep_token, pad_token, unk_token: str.
        mask_token: str or None.
        cls_token_id, sep_token_id, pad_token_id, unk_token_id: int.
        mask_token_id: int or None.
        added_tokens: tuple of AddedToken, with their ids. These stay whole when they stand in a
            text. The special tokens come first.
        special_tokens: tuple of str. Those of them that are special.
        separators_between, second_segment_id, cls_segment_id: int. How segments are packed; see
            `packing.Layout`. `cls_token` and `sep_token` are what stands around segments, also
            where the files call them `bos_token` and `eos_token`.
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        *,
        unk_token: str,
        cls_token: str,
        sep_token: str,
        pad_token: str,
        mask_token: str | None,
        additional_special_tokens: Sequence[str] = (),
        added_tokens: Sequence[AddedToken] = (),
        max_length: int | None = None,
        separators_between: int = 1,
        second_segment_id: int = 1,
        cls_segment_id: int = 0,
    ) -> None:
        self._ids = {token: i for i, token in enumerate(vocabulary)}
        if len(self._ids) != len(vocabulary):
            seen: set[str] = set()
            twice = [token for token in vocabulary if token in seen or seen.add(token)]  # type: ignore[func-returns-value]
            raise ConfigError(
                f"expected a vocabulary of distinct tokens, got {len(twice)} duplicates, "
                f"among them {twice[:3]!r}; a token's place is its id, so give the repeats names "
                "of their own instead of taking them out"
            )
        named = {
            "unk_token": unk_token,
            "cls_token": cls_token,
            "sep_token": sep_token,
            "pad_token": pad_token,
        }
        if mask_token is not None:
            named["mask_token"] = mask_token
        known = self._ids.keys() | {token.content for token in added_tokens if token.id is not None}
        missing = [f"{name} {token!r}" for name, token in named.items() if token not in known]
        if missing:
            raise ConfigError(
                f"expected a vocabulary that holds {', '.join(missing)}, got {len(vocabulary)} "
                "tokens without; add the token or name the one that the vocabulary has"
                + (" (mask_token=None if it has none)" if "mask_token" in str(missing) else "")
            )
        if max_length is not None and max_length < 1:
            raise ConfigError(f"expected max_length of at least 1 or None, got {max_length}")
        self.vocabulary = list(vocabulary)
        if not all(additional_special_tokens):
            raise ConfigError("expected additional_special_tokens that are not empty, got ''")
        flagged = _flagged([*named.values(), *additional_special_tokens], added_tokens)
        # New ones in the order of their ids; those without, behind.
        for token in sorted(flagged, key=lambda token: (token.id is None, token.id or 0)):
            self._add(token)
        self.added_tokens = tuple(
            dataclasses.replace(token, id=self._ids[token.content]) for token in flagged
        )
        self.unk_token, self.cls_token = unk_token, cls_token
        self.sep_token, self.pad_token = sep_token, pad_token
        self.mask_token = mask_token
        self.unk_token_id, self.cls_token_id = self._ids[unk_token], self._ids[cls_token]
        self.sep_token_id, self.pad_token_id = self._ids[sep_token], self._ids[pad_token]
        self.mask_token_id = None if mask_token is None else self._ids[mask_token]
        self.special_tokens = tuple(t.content for t in self.added_tokens if t.special)
        self.additional_special_tokens = tuple(
            token for token in self.special_tokens if token not in named.values()
        )
        self.max_length = max_length
        self._layout = packing.Layout(
            cls_token_id=self.cls_token_id,
            sep_token_id=self.sep_token_id,
            pad_token_id=self.pad_token_id,
            separators_between=separators_between,
            second_segment_id=second_segment_id,
            cls_segment_id=cls_segment_id,
        )
        self._functions: dict[tuple[Any, ...], Any] = {}

    def _add(self, token: AddedToken) -> None:
        """Puts an added token into the vocabulary if it is not there."""
        expected = self._ids.get(token.content, len(self.vocabulary))
        if token.id not in (None, expected):
            raise ConfigError(
                f"expected the added token {token.content!r} to have the id {expected}, got "
                f"{token.id}; added tokens must follow the vocabulary without gaps"
            )
        if token.content not in self._ids:
            self._ids[token.content] = expected
            self.vocabulary.append(token.content)

    @classmethod
    def from_preset(cls, preset: str | os.PathLike[str]) -> Tokenizer:
        """The tokenizer of a preset.

        Args:
            preset: the name of a catalogued preset, or a Hugging Face directory.

        Returns:
            The tokenizer that the preset names, whichever class it is of.
        """
        # Imported late: presets know about tokenizers, not the other way round.
        from keras_bert_zoo.presets import load_tokenizer

        return load_tokenizer(preset)

    @abc.abstractmethod
    def tokenize_flat(
        self, strings: tf.Tensor, *, with_offsets: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tuple[tf.Tensor, ...]]:
        """Tokens of all texts in one row, for graphs that do without ragged tensors.

        Args:
            strings: string (B,).
            with_offsets: bool.

        Returns:
            ids int32 (T,), row splits int64 (B + 1,), and () or (starts, ends), int64 (T,) each.
        """

    def detokenize(self, ids: Any, *, skip_special_tokens: bool = False) -> tf.Tensor:
        """Text for token ids, as Hugging Face's decoder of the same tokenizer gives it.

        Ids outside the vocabulary are passed over.

        Args:
            ids: int (B, tokens), ragged or dense, or int (tokens,).
            skip_special_tokens: bool. Leave special tokens out.

        Returns:
            string (B,), or string () for one row.
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
        kept = tf.logical_and(values >= 0, values < self.vocabulary_size)
        if skip_special_tokens:
            for token in self.special_tokens:
                kept = tf.logical_and(kept, values != self.token_to_id(token))
        splits = tf.gather(ragged_ops.counts_before(kept), tf.cast(ids.row_splits, tf.int64))
        return self._join(tf.boolean_mask(values, kept), splits)

    @abc.abstractmethod
    def _join(self, ids: tf.Tensor, splits: tf.Tensor) -> tf.Tensor:
        """Text for ids of the vocabulary: int32 (T,), row splits int64 (B + 1,) to string (B,)."""

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
        """The number of tokens, added special tokens among them."""
        return len(self.vocabulary)

    def token_to_id(self, token: str) -> int:
        """The id of a token.

        Raises:
            KeyError: the vocabulary does not hold it.
        """
        if token not in self._ids:
            raise KeyError(f"the vocabulary of {self.vocabulary_size} tokens lacks {token!r}")
        return self._ids[token]

    def id_to_token(self, token_id: int) -> str:
        """The token of an id.

        Raises:
            IndexError: the id is outside the vocabulary.
        """
        if not 0 <= token_id < self.vocabulary_size:
            raise IndexError(f"expected an id of 0 to {self.vocabulary_size - 1}, got {token_id}")
        return self.vocabulary[token_id]

    def tokenize(self, strings: Texts) -> tf.RaggedTensor | tf.Tensor:
        """Token ids of texts, without special tokens put around.

        Args:
            strings: str, bytes, a sequence of them, or a string tensor of rank 0 or 1.

        Returns:
            int32 ragged (B, tokens); for a single text, int32 (tokens,).
        """
        texts, single = _to_strings(strings)
        ids, splits, _ = self._run(texts, with_offsets=False)
        return ids if single else tf.RaggedTensor.from_row_splits(ids, splits, validate=False)

    def tokenize_with_offsets(self, strings: Texts) -> tuple[tf.RaggedTensor | tf.Tensor, ...]:
        """Token ids with the bytes of the text that each came from.

        Args:
            strings: str, bytes, a sequence of them, or a string tensor of rank 0 or 1.

        Returns:
            ids, starts and ends: int32 ragged (B, tokens); for a single text, int32 (tokens,).
            `text_bytes[start:end]` is the token's text; both count bytes of the caller's string,
            also where that is not valid UTF-8.
        """
        texts, single = _to_strings(strings)
        ids, splits, spans = self._run(texts, with_offsets=True)
        found = (ids, *(tf.cast(span, tf.int32) for span in spans))
        if single:
            return found
        return tuple(
            tf.RaggedTensor.from_row_splits(values, splits, validate=False) for values in found
        )

    def __call__(
        self,
        strings: Texts | tuple[Texts, Texts],
        *,
        max_length: int | None = None,
        truncation: packing.Truncation = "longest_first",
        padding: packing.Padding = "longest",
    ) -> dict[str, tf.Tensor]:
        """Texts, or pairs of texts, as the inputs of a model.

        Args:
            strings: texts as for `tokenize`, or a tuple of two such: the first and the second
                segments. A list is always texts, a tuple of two always a pair.
            max_length: int. Longest row, special tokens included; by default the tokenizer's
                `max_length`, and without that no limit.
            truncation: which segment of a pair is cut: "longest_first", "only_first",
                "only_second".
            padding: "longest" row of the batch, "max_length", or an int: the longest row,
                rounded up to a multiple of it.

        Returns:
            "token_ids", "segment_ids", "padding_mask": int32 (B, length) each.

        Raises:
            ConfigError: `max_length` leaves no room for the special tokens.
            DataError: there are not as many second as first texts.
        """
        max_length = self.max_length if max_length is None else max_length
        segments: tuple[Any, ...] = strings if isinstance(strings, tuple) else (strings,)
        if isinstance(strings, tuple) and len(strings) != 2:
            raise ConfigError(
                f"expected a tuple of two (first and second texts), got {len(strings)}; "
                "give texts as a list"
            )

        def tokenize_and_pack(*texts: tf.Tensor) -> dict[str, tf.Tensor]:
            ragged = []
            for part in texts:
                ids, splits, _ = self._run(part, with_offsets=False)
                ragged.append(tf.RaggedTensor.from_row_splits(ids, splits, validate=False))
            return self.pack(*ragged, max_length=max_length, truncation=truncation, padding=padding)

        texts = [_to_strings(segment)[0] for segment in segments]
        _check_rows(texts)
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
        """Token ids as the inputs of a model: [CLS] a [SEP], or [CLS] a [SEP] b [SEP].

        Families of another kind have their own: RoBERTa's is <s> a </s></s> b </s>.

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
        """Long texts as overlapping windows, each of them an input of a model.

        Args:
            strings: texts as for `tokenize`; cut into windows.
            first: as many texts, or None: a first segment that every window of the text of the same
                place begins with, such as a question.
            max_length: int. Longest window, special tokens included; by default the tokenizer's
                `max_length`.
            stride: int. Tokens that neighbouring windows share (Hugging Face's meaning).
            padding: as in `__call__`.

        Returns:
            "token_ids", "segment_ids", "padding_mask", "starts", "ends": int32 (W, length) each;
            starts and ends are bytes of the text, 0 where no token of it stands.
            "document": int32 (W,), the place of the window's text in `strings`; "window_start":
            int32 (W,), its first token's place among the tokens of the text.

        Raises:
            ConfigError: `max_length` leaves no room for `stride` and one new token.
            DataError: there are not as many texts in `first` as in `strings`.
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

        texts = [_to_strings(strings)[0]] + ([] if first is None else [_to_strings(first)[0]])
        _check_rows(texts)
        return self._compiled(("windows", max_length, stride, padding), tokenize_and_cut, *texts)

    def _run(
        self, strings: tf.Tensor, *, with_offsets: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tuple[tf.Tensor, ...]]:
        """`tokenize_flat`, traced once for all graphs and eager calls."""
        return self._compiled(
            ("tokenize", with_offsets),
            lambda texts: self.tokenize_flat(texts, with_offsets=with_offsets),
            strings,
        )

    def _compiled(
        self, key: tuple[Any, ...], function: Callable[..., Any], *strings: tf.Tensor
    ) -> Any:
        """Calls a function of texts, compiled once for each key.

        The functions are kept in a plain object: from a `tf.Module`, a model that holds a
        tokenizer would save them all. Autograph is off, as there is no Python to convert.
        """
        key = (*key, len(strings))
        if key not in self._functions:
            signature = [tf.TensorSpec([None], tf.string)] * len(strings)
            self._functions[key] = tf.function(function, input_signature=signature, autograph=False)
        return self._functions[key](*strings)

    def __getstate__(self) -> dict[str, Any]:
        """Compiled functions cannot be copied or pickled; they come back when needed."""
        return {**self.__dict__, "_functions": {}}


def _flagged(special: Sequence[str], added: Sequence[AddedToken]) -> list[AddedToken]:
    """All added tokens, special ones first, each with the flags that are asked for."""
    flags: dict[str, AddedToken] = {}
    for token in added:
        if flags.setdefault(token.content, token) != token:
            raise ConfigError(
                f"expected the added token {token.content!r} once, got it with different flags: "
                f"{flags[token.content]} and {token}"
            )
    names = dict.fromkeys(special)
    tokens = [
        dataclasses.replace(flags.get(name, AddedToken(name)), special=True) for name in names
    ]
    tokens += [token for token in flags.values() if token.content not in names]
    return sorted(tokens, key=lambda token: not token.special)


def _to_strings(strings: Any) -> tuple[tf.Tensor, bool]:
    """A string tensor of rank 1, and whether the caller gave a single text."""
    if isinstance(strings, str | bytes):
        return tf.constant([_encode(strings)], tf.string), True
    if isinstance(strings, tf.RaggedTensor):
        raise ConfigError("expected texts of rank 0 or 1, got a ragged tensor; give its values")
    if not tf.is_tensor(strings):
        # Through a list, so that an empty one is of strings too.
        strings = tf.constant([_encode(text) for text in strings], tf.string, shape=[len(strings)])
    if strings.dtype != tf.string:
        raise ConfigError(f"expected texts as a string tensor, got {strings.dtype.name}")
    if strings.shape.rank == 0:
        return strings[tf.newaxis], True
    if strings.shape.rank != 1:
        raise ConfigError(f"expected texts of rank 0 or 1, got shape {strings.shape}")
    return strings, False


def _check_rows(texts: Sequence[tf.Tensor]) -> None:
    """Raises DataError if it shows that segments are not of the same number of rows."""
    rows = [part.shape[0] for part in texts]
    if len(set(rows) - {None}) > 1:
        raise DataError(f"expected as many second texts as first ones, got {rows[0]} and {rows[1]}")


def _encode(text: Any) -> bytes:
    """UTF-8; lone surrogates become bytes that are no text, which tokenizers pass over."""
    if isinstance(text, bytes):
        return text
    if isinstance(text, str):
        return text.encode("utf-8", "surrogatepass")
    raise ConfigError(f"expected texts as str or bytes, got {type(text).__name__}: {text!r:.40}")
