"""Tags of words, in numbers: what a tagger is trained towards, and how its logits are read.

Legend: B texts, W windows of all texts, L tokens of the longest window, T tokens of all texts, N
words of all texts, M words of the longest text, C tags, E entities of all texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.tags import OUTSIDE, split_tag
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.layers.crf import FORBIDDEN, best_path, marginals
from keras_bert_zoo.text import offsets, ragged_ops
from keras_bert_zoo.text.byte_bpe.model import token_bytes
from keras_bert_zoo.text.byte_bpe.tokenizer import ByteBpeTokenizer
from keras_bert_zoo.text.sentencepiece.tokenizer import SPACE_SIGN
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.text.wordpiece.tokenizer import WordPieceTokenizer


def make_tags(types: Sequence[str], scheme: str) -> list[str]:
    """The tags for types of entities in a scheme, O first.

    >>> make_tags(["PER"], "IOB2")
    ['O', 'B-PER', 'I-PER']
    """
    if scheme == "words":
        return list(types)
    prefixes = {"IOB2": ("B-", "I-"), "IOBES": ("B-", "I-", "E-", "S-"), "IO": ("",)}[scheme]
    return [OUTSIDE, *(prefix + kind for kind in types for prefix in prefixes)]


_PREFIXES = {"IOB2": "BI", "IOBES": "BIES"}


class Tagging:
    """The tags of a model, in a scheme.

    Args:
        tags: list of str, in the order of their ids.
        scheme: "IOB2", "IOBES", "IO" or "words".

    Raises:
        ConfigError: repeated tags, fewer than two, or one that the scheme has not.

    Attributes:
        types: list of str. The types of entities, in the order in which the tags name them.
        type_of_tag: int32 (C,). 0 outside, else the type's place in `types` from 1.
        begins, ends: bool (C,). Whether an entity begins, or ends, with the word for certain.
    """

    def __init__(self, tags: Sequence[str], scheme: str) -> None:
        if len(set(tags)) != len(tags) or len(tags) < 2:
            raise ConfigError(f"A tagger needs at least two different tags, got {list(tags)!r}.")
        self.tags, self.scheme = tuple(tags), scheme
        parts = [split_tag(tag, scheme) for tag in tags]
        if scheme in _PREFIXES:
            found = {prefix for prefix, kind in parts if kind}
            # A single tag without prefix, X or [CLS], is a type like others: some heads have them.
            strange = [
                tag
                for tag, (prefix, _) in zip(tags, parts, strict=True)
                if prefix not in ("O", "", *_PREFIXES[scheme]) or (prefix == "" and found == {""})
            ]
            if strange:
                raise ConfigError(
                    f"The tags {strange[:5]!r} are not of {scheme}. Expected a scheme that has "
                    "them: IO for types without prefixes, words for a label a word."
                )
        self.types = list(dict.fromkeys(kind for _, kind in parts if kind))
        places = {kind: place for place, kind in enumerate(self.types, start=1)}
        self.type_of_tag = np.array([places.get(kind, 0) for _, kind in parts], np.int32)
        every = scheme == "words"
        self.begins = np.array([every or prefix in ("B", "S") for prefix, _ in parts])
        self.ends = np.array([every or prefix in ("E", "S") for prefix, _ in parts])
        self._prefixes = [prefix for prefix, _ in parts]
        self._ids = {part: index for index, part in reversed(list(enumerate(parts)))}

    @property
    def outside(self) -> int | None:
        """The id of O; None where every word has a label."""
        return self._ids.get(("O", ""))

    def tag_ids(self, kind: str, count: int) -> list[int]:
        """The tags of the words of an entity; a prefix that is missing is replaced by its like.

        Raises:
            KeyError: there is no such type.
        """
        if self.scheme in ("IO", "words"):
            return [self._ids["", kind]] * count
        wanted = ["B", *"I" * (count - 1)]
        if self.scheme == "IOBES":
            wanted = ["S"] if count == 1 else ["B", *"I" * (count - 2), "E"]
        instead = {"B": "BI", "I": "IB", "E": "EI", "S": "SBI"}
        return [
            next(self._ids[p, kind] for p in (*instead[prefix], "") if (p, kind) in self._ids)
            for prefix in wanted
        ]

    def rules(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which tags may follow on each other: 0, or `FORBIDDEN`.

        Returns:
            float32 (C, C) from the row's tag to the column's; (C,) first tags; (C,) last tags.
        """
        count = len(self.tags)
        transitions = np.zeros((count, count), np.float32)
        starts, ends = np.zeros(count, np.float32), np.zeros(count, np.float32)
        if self.scheme not in ("IOB2", "IOBES"):
            return transitions, starts, ends
        prefixes = np.array(self._prefixes)
        goes_on = np.isin(prefixes, ("I", "E"))  # needs one of its type before it
        # In IOBES an entity must be ended, if its type has a tag to end it with.
        ending = {kind for p, kind in self._ids if p == "E"}
        kinds = [kind for _, kind in (split_tag(tag, self.scheme) for tag in self.tags)]
        opened = np.array(
            [p in ("B", "I") and kind in ending for p, kind in zip(prefixes, kinds, strict=True)]
        )
        same = self.type_of_tag[:, np.newaxis] == self.type_of_tag
        open_before = np.isin(prefixes, ("B", "I"))[:, np.newaxis]
        legal = np.where(goes_on, open_before & same, ~opened[:, np.newaxis])
        transitions[~legal] = FORBIDDEN
        starts[goes_on] = FORBIDDEN
        ends[opened] = FORBIDDEN
        return transitions, starts, ends


# === Words ===


def word_flags(tokenizer: Tokenizer) -> np.ndarray:
    """Which tokens begin a word, and behind which the next token does.

    A word ends at white space, and every punctuation mark and every Chinese or Japanese character
    is one by itself, as BERT's tokenizer has it.

    Returns:
        bool (vocabulary, 2).
    """
    flags = np.zeros((tokenizer.vocabulary_size, 2), bool)
    for index, token in enumerate(tokenizer.vocabulary):
        if isinstance(tokenizer, WordPieceTokenizer):
            flags[index, 0] = not token.startswith("##")
            continue
        mark = SPACE_SIGN
        if isinstance(tokenizer, ByteBpeTokenizer):
            mark, token = " ", token_bytes(token).decode("utf-8", "replace")
        content = token.lstrip(mark)
        alone = [not char.isalnum() and char != "\ufffd" for char in content[:1] + content[-1:]]
        alone = [
            flag or "\u3040" <= char <= "\u30ff" or "\u3400" <= char <= "\u9fff"
            for flag, char in zip(alone, content[:1] + content[-1:], strict=True)
        ]
        flags[index] = token != content or alone[:1] == [True], alone[1:] == [True]
    for added in tokenizer.added_tokens:
        flags[added.id] = True
    if isinstance(tokenizer, WordPieceTokenizer):
        flags[:, 1] = False  # what follows says itself whether it begins a word
    return flags


def begins_word(flags: Any, ids: Any, first: Any) -> Any:
    """Says of each token whether it begins a word.

    Args:
        flags: bool (vocabulary, 2), from `word_flags`.
        ids: int (T,). Tokens of all texts.
        first: bool (T,). Whether a token is the first of its text.

    Returns:
        bool (T,).
    """
    found = tf.gather(flags, ids)  # (T, 2)
    behind = tf.pad(found[:, 1], [[1, 0]])[:-1]
    return first | found[:, 0] | behind


def decided_tokens(windows: dict[str, tf.Tensor], stride: int) -> tf.Tensor:
    """Chooses for every token of a text the window in which it has most context.

    Of the tokens that two neighbours share, each has the half that is farther from its border.

    Args:
        windows: what `Tokenizer.windows` returned.
        stride: int. Tokens that neighbours share; at most half a window.

    Returns:
        bool (W, L). True once for every token of the texts, in their order.
    """
    begin = windows["window_start"]  # (W,)
    document = windows["document"]
    count = tf.reduce_sum(windows["padding_mask"], axis=-1) - 2  # without [CLS] and [SEP]
    shared = (stride + 1) // 2
    own_begin = tf.where(begin == 0, 0, begin + shared)
    # Of the last window of all, nothing follows.
    next_document = tf.concat([document[1:], [-1]], axis=0)
    next_begin = tf.concat([own_begin[1:], [0]], axis=0)
    own_end = tf.where(next_document == document, next_begin, begin + count)
    place = begin[:, tf.newaxis] + tf.range(tf.shape(windows["token_ids"])[1])[tf.newaxis] - 1
    return (place >= own_begin[:, tf.newaxis]) & (place < own_end[:, tf.newaxis])


def text_tokens(
    windows: dict[str, tf.Tensor], stride: int, flags: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Finds the tokens of texts in their windows, and the words that they begin.

    Args:
        windows: what `Tokenizer.windows` returned.
        stride: int.
        flags: bool (vocabulary, 2), from `word_flags`.

    Returns:
        "place": int64 (T, 2), the window that decides on each token, and its column; "document":
        int64 (T,), the token's text; "begins": bool (T,), whether it begins a word; "starts" and
        "ends": int64 (T,), bytes.
    """
    place = tf.where(decided_tokens(windows, stride))  # (T, 2)
    ids = tf.gather_nd(windows["token_ids"], place)
    document = tf.cast(tf.gather(windows["document"], place[:, 0]), tf.int64)
    first = document != tf.concat([[np.int64(-1)], document[:-1]], axis=0)
    return {
        "place": place,
        "document": document,
        "begins": begins_word(flags, ids, first),
        "starts": tf.cast(tf.gather_nd(windows["starts"], place), tf.int64),
        "ends": tf.cast(tf.gather_nd(windows["ends"], place), tf.int64),
    }


def splits_of(documents: tf.Tensor, texts: tf.Tensor) -> tf.Tensor:
    """Where each text's values begin: int64 (V,) texts of values, in order, to int64 (B + 1,)."""
    ones = tf.ones_like(documents)
    counts = tf.math.unsorted_segment_sum(ones, documents, tf.shape(texts)[0])
    return ragged_ops.splits_from_lengths(counts)


def find_words(
    windows: dict[str, tf.Tensor], stride: int, flags: tf.Tensor, texts: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Finds the words of texts in their windows.

    Args:
        windows: what `Tokenizer.windows` returned.
        stride: int.
        flags: bool (vocabulary, 2), from `word_flags`.
        texts: string (B,).

    Returns:
        "place": int64 (N, 2), the window and the column of each word's first token; "starts" and
        "ends": int64 (N,), bytes; "splits": int64 (B + 1,), of the words of each text.
    """
    tokens = text_tokens(windows, stride, flags)
    at = ragged_ops.indices(tokens["begins"])  # (N,)
    count = ragged_ops.size64(tokens["begins"])
    last = tf.concat([at[1:], tf.reshape(count, [1])], axis=0)[: tf.size(at)] - 1
    starts = tf.gather(tokens["starts"], at)
    return {
        "place": tf.gather(tokens["place"], at),
        "starts": starts,
        "ends": tf.maximum(starts, tf.gather(tokens["ends"], last)),
        "splits": splits_of(tf.gather(tokens["document"], at), texts),
    }


# === From logits to entities ===


def read_tags(
    logits: tf.Tensor,
    splits: tf.Tensor,
    scores: tuple[np.ndarray, np.ndarray, np.ndarray] | None,
    *,
    probabilities_of_paths: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decides on the tags of words.

    Args:
        logits: float32 (N, C).
        splits: int64 (B + 1,).
        scores: of transitions (C, C), first (C,) and last tags (C,); None: each word for itself.
        probabilities_of_paths: bool. Whether the logits are those of a conditional random field.

    Returns:
        int32 (N,) tags; float32 (N,), the probability of each.
    """
    chances = tf.nn.softmax(logits)
    if scores is None:
        return tf.argmax(logits, axis=-1, output_type=tf.int32), tf.reduce_max(chances, axis=-1)
    counts = tf.cast(splits[1:] - splits[:-1], tf.int32)  # (B,)
    dense = tf.RaggedTensor.from_row_splits(logits, splits, validate=False).to_tensor()
    dense = tf.pad(dense, [[0, 0], [0, 1], [0, 0]])  # at least one word, for the loops
    dense = tf.ensure_shape(dense, [None, None, logits.shape[-1]])
    inside = tf.sequence_mask(counts, tf.shape(dense)[1])  # (B, M)
    parts = tuple(map(tf.constant, scores))
    tags = tf.boolean_mask(best_path(dense, counts, *parts), inside)
    if probabilities_of_paths:
        chances = tf.boolean_mask(marginals(dense, counts, *parts), inside)
    return tags, tf.gather(chances, tags, batch_dims=1)


def read_entities(
    tagging: Tagging,
    tags: tf.Tensor,
    chances: tf.Tensor,
    words: dict[str, tf.Tensor],
    texts: tf.Tensor,
) -> dict[str, tf.Tensor]:
    """Makes entities of tagged words, as `data.tags.chunks` does.

    Args:
        tagging: Tagging.
        tags: int32 (N,).
        chances: float32 (N,).
        words: what `find_words` returned.
        texts: string (B,).

    Returns:
        the answers of a TokenClassifier; see there.
    """
    splits = words["splits"]
    rows = ragged_ops.row_ids(splits, ragged_ops.size64(tags))
    first = rows != tf.concat([[np.int64(-1)], rows[:-1]], axis=0)
    kinds = tf.gather(tf.constant(tagging.type_of_tag), tags)
    begins = tf.gather(tf.constant(tagging.begins), tags)
    ends = tf.gather(tf.constant(tagging.ends), tags)
    kind_before = tf.pad(kinds, [[1, 0]])[:-1]
    ended_before = tf.pad(ends, [[1, 0]])[:-1]
    inside = kinds > 0
    opens = inside & (first | begins | ended_before | (kinds != kind_before))
    at = ragged_ops.indices(opens)  # (E,)
    count = tf.size(at)
    entity = tf.cumsum(tf.cast(opens, tf.int32)) - 1
    entity = tf.where(inside, entity, -1)  # which segments pass over
    starts = tf.gather(words["starts"], at)
    behind = tf.math.unsorted_segment_max(words["ends"], entity, count)
    return entity_answers(
        texts,
        starts,
        behind,
        tf.gather(ragged_ops.counts_before(opens), splits),
        label=tf.gather(tf.constant(["", *tagging.types]), tf.gather(kinds, at)),
        score=tf.math.unsorted_segment_min(chances, entity, count),
    )


def entity_answers(
    texts: tf.Tensor,
    starts: tf.Tensor,
    ends: tf.Tensor,
    splits: tf.Tensor,
    *,
    label: tf.Tensor,
    score: tf.Tensor,
) -> dict[str, tf.Tensor]:
    """Cuts entities out of texts.

    Args:
        texts: string (B,).
        starts: int64 (E,). Bytes of their texts.
        ends: int64 (E,). The same, exclusive.
        splits: int64 (B + 1,). Of the entities of each text.
        label: string (E,).
        score: float32 (E,).

    Returns:
        the answers of a TokenClassifier; see there.
    """
    start_character, end_character = _characters(texts, starts, ends, splits)

    def places(values: tf.Tensor) -> tf.Tensor:
        return padded(tf.cast(values, tf.int32), splits, 0)

    return {
        "entity": padded(offsets.cut(texts, starts, ends, splits), splits, ""),
        "label": padded(label, splits, ""),
        "score": padded(score, splits, 0.0),
        "start": places(starts),
        "end": places(ends),
        "start_character": places(start_character),
        "end_character": places(end_character),
    }


def padded(values: tf.Tensor, splits: tf.Tensor, empty: Any) -> tf.Tensor:
    """Sets values (E,) of rows below each other, with `empty` behind them: (B, most of a row)."""
    return tf.RaggedTensor.from_row_splits(values, splits, validate=False).to_tensor(empty)


def _characters(
    texts: tf.Tensor, starts: tf.Tensor, ends: tf.Tensor, splits: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Characters of bytes: how many bytes before them do not continue a character of UTF-8."""
    raw, text_splits = offsets.text_bytes(texts)
    leads = ragged_ops.counts_before(tf.bitwise.bitwise_and(raw, np.uint8(0xC0)) != 0x80)
    rows = ragged_ops.row_ids(splits, ragged_ops.size64(starts))
    base = tf.gather(tf.cast(text_splits, tf.int64), rows)
    before = tf.gather(leads, base)
    return tf.gather(leads, base + starts) - before, tf.gather(leads, base + ends) - before
