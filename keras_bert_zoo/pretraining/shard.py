"""The second phase of a build: the documents of a shard -> its TFRecord file."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_bert_zoo.data.masking_options import Masking
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.pretraining.dataset import Shard
from keras_bert_zoo.pretraining.examples import Pieces, make_pieces, segment_arrays
from keras_bert_zoo.pretraining.records import Ragged, serialize_examples, write_records
from keras_bert_zoo.pretraining.spill import Documents
from keras_bert_zoo.text.tokenizer import Tokenizer

__all__ = ["MOST_EXAMPLES", "ShardOptions", "ShardWriter"]

MOST_EXAMPLES = 64
"""The largest number of examples in a record."""

_ROWS_AT_ONCE = 1 << 12  # serialized together; bounds the memory


@dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """How examples are made of documents; see `build_pretraining_data`."""

    max_length: int
    pairs: str = "none"
    short_share: float = 0.0
    crosses_documents: bool = False
    packs: bool = False
    copies: int = 1
    masking: Masking | None = None
    seed: int = 0


@dataclass(frozen=True)
class ShardWriter:
    """Writes shards.

    Args:
        tokenizer: Tokenizer.
        options: ShardOptions.
    """

    tokenizer: Tokenizer
    options: ShardOptions

    def write(self, documents: Documents, path: Path, number: int) -> tuple[Shard, dict[str, Any]]:
        """Writes the examples of a shard.

        Args:
            documents: Documents of the shard, in any order, with repetitions.
            path: Path of the TFRecord file.
            number: int. The number of the shard among all; random choices depend on it.

        Returns:
            Shard, and its counts: documents, tokens and examples.

        Raises:
            DataError: the file cannot be written.
        """
        ordered, counts = _ordered(documents)
        longest = rows = tokens = examples = 0
        most = 1

        def records() -> Iterator[bytes]:
            nonlocal longest, rows, tokens, examples, most
            for copy in range(self.options.copies):
                for features in self._copies(ordered, number, copy, counts):
                    lengths = np.diff(features["token_ids"][1])
                    longest = max(longest, int(lengths.max(initial=0)))
                    rows += len(lengths)
                    of_records = np.ones(len(lengths), int)
                    if "example_lengths" in features:
                        of_records = np.diff(features["example_lengths"][1])
                    most = max(most, int(of_records.max()))
                    examples += int(of_records.sum())
                    tokens += int(lengths.sum())
                    yield from serialize_examples(features)

        write_records(path, records())
        _check_sum(counts, self.options.copies, path)
        counts["examples"], counts["records"] = examples, rows
        return Shard(path.name, rows, tokens, longest, most), counts

    def _copies(
        self, documents: Documents, number: int, copy: int, counts: dict[str, Any]
    ) -> Iterator[dict[str, Ragged]]:
        options = self.options
        draw = random.Random(f"{options.seed} {number} {copy}")
        template = _Template.of(self.tokenizer, pairs=options.pairs != "none")
        pieces = make_pieces(
            _bounds(documents),
            options.max_length - template.special,
            options.pairs,
            short_share=options.short_share,
            crosses=options.crosses_documents,
            draw=draw,
        )
        _count(pieces, counts)
        order = self._order(pieces, template.special, draw)
        for begin in range(0, len(order), _ROWS_AT_ONCE):
            records = order[begin : begin + _ROWS_AT_ONCE]
            features = template.features(documents, pieces, list(itertools.chain(*records)))
            if options.packs:
                features = _packed(features, [len(record) for record in records])
            if options.masking is not None:
                features = self._masked(features, (number, copy, begin), counts)
                features.pop("word_begins", None)
            yield features

    def _order(self, pieces: Pieces, special: int, draw: random.Random) -> list[list[int]]:
        """The examples of each record, in random order."""
        order = [[row] for row in range(len(pieces.first))]
        if self.options.packs and order:
            from keras_bert_zoo.data.packing import plan_bins

            _, lengths = segment_arrays(pieces.first)
            bins = plan_bins(
                lengths + special, max_length=self.options.max_length, max_examples=MOST_EXAMPLES
            )
            order = [row[row >= 0].tolist() for row in bins.rows]
        draw.shuffle(order)
        return order

    def _masked(
        self, features: dict[str, Ragged], place: tuple[int, int, int], counts: dict[str, Any]
    ) -> dict[str, Ragged]:
        """Masks the tokens of examples once and for all, with the masking of the graph."""
        import tensorflow as tf

        from keras_bert_zoo.data.pipeline import NO_LABEL
        from keras_bert_zoo.text.words import begins_word, word_flags

        tokenizer, masking = self.tokenizer, self.options.masking
        if masking is None or tokenizer.mask_token_id is None:
            raise ConfigError("expected a tokenizer with a mask token, received one without it")
        values, splits = features["token_ids"]
        starts = splits[:-1]
        if "example_lengths" in features:
            starts = np.concatenate([[0], np.cumsum(features["example_lengths"][0])])[:-1]
        first = np.zeros(len(values), bool)
        first[starts] = first[starts + 1] = True
        begins = np.ones(len(values), bool)
        if masking.whole_words and "word_begins" in features:
            columns, column_splits = features["word_begins"]
            begins = np.zeros(len(values), bool)
            begins[columns + np.repeat(splits[:-1], np.diff(column_splits))] = True
        elif masking.whole_words:
            flags = tf.constant(word_flags(tokenizer))
            begins = begins_word(flags, tf.constant(values, tf.int32), tf.constant(first)).numpy()
        special = np.zeros(tokenizer.vocabulary_size, bool)
        special[[tokenizer.token_to_id(token) for token in tokenizer.special_tokens]] = True
        words = np.where(special[values], NO_LABEL, np.cumsum(begins | first))
        seed = random.Random(f"masks {self.options.seed} {place}").getrandbits(63)
        mask = _mask_function(masking, tokenizer.mask_token_id, tokenizer.vocabulary_size)
        lengths = np.diff(splits)
        is_real = np.arange(lengths.max()) < lengths[:, np.newaxis]
        tokens = np.zeros(is_real.shape, np.int32)
        numbers = np.full(is_real.shape, NO_LABEL, np.int64)
        tokens[is_real], numbers[is_real] = values, words
        ids, columns, labels = mask(
            tf.constant(tokens), tf.constant(numbers), state=tf.constant(seed, tf.uint64)
        )
        is_masked = labels.numpy() != NO_LABEL
        masked_splits = np.concatenate([[0], np.cumsum(is_masked.sum(axis=1))])
        counts["masked_tokens"] = counts.get("masked_tokens", 0) + int(masked_splits[-1])
        return {
            **features,
            "token_ids": (ids.numpy()[is_real], splits),
            "masked_positions": (columns.numpy()[is_masked], masked_splits),
            "masked_token_ids": (labels.numpy()[is_masked], masked_splits),
        }


@functools.lru_cache(maxsize=8)
def _mask_function(masking: Masking, mask_id: int, vocabulary_size: int) -> Any:
    """The masking as a graph, which takes two thirds of the time of single operations."""
    import tensorflow as tf

    from keras_bert_zoo.data.masking import mask_tokens

    return tf.function(
        functools.partial(
            mask_tokens, masking=masking, mask_id=mask_id, vocabulary_size=vocabulary_size
        ),
        autograph=False,
        reduce_retracing=True,
    )


@dataclass(frozen=True)
class _Template:
    """The special tokens around segments."""

    before: np.ndarray
    between: np.ndarray
    after: np.ndarray
    pairs: bool

    @property
    def special(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)

    @classmethod
    def of(cls, tokenizer: Tokenizer, *, pairs: bool) -> _Template:
        """Finds the special tokens in a packed example of one token per segment."""
        import tensorflow as tf

        special = {tokenizer.token_to_id(token) for token in tokenizer.special_tokens}
        word = next(i for i in range(tokenizer.vocabulary_size) if i not in special)
        segment = tf.ragged.constant([[word]], tf.int32)
        packed = tokenizer.pack(segment, segment if pairs else None, max_length=16)
        ids = packed["token_ids"].numpy()[0][packed["padding_mask"].numpy()[0] != 0]
        at = np.flatnonzero(ids == word)
        between = ids[at[0] + 1 : at[-1]] if pairs else ids[:0]
        return cls(ids[: at[0]], between, ids[at[-1] + 1 :], pairs)

    def features(self, documents: Documents, pieces: Pieces, rows: list[int]) -> dict[str, Ragged]:
        """Joins the tokens of examples; see `records.FEATURES`."""
        begins, lengths = segment_arrays([pieces.first[row] for row in rows])
        others, other_lengths = segment_arrays([pieces.second[row] for row in rows])
        count = len(rows)
        total = self.special + lengths + other_lengths
        splits = np.concatenate([[0], np.cumsum(total)])
        ids = np.empty(splits[-1], np.int64)
        place = splits[:-1]
        # (values, where they begin in each row, their number in each row)
        marks = np.zeros(splits[-1], bool) if documents.begins is not None else None
        for part, size in (
            (self.before, len(self.before)),
            ((begins, lengths), None),
            (self.between, len(self.between)),
            ((others, other_lengths), None),
            (self.after, len(self.after)),
        ):
            if size is not None:
                ids[(place[:, np.newaxis] + np.arange(size)).ravel()] = np.tile(part, count)
                place = place + size
                continue
            sources, sizes = part
            within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            to = np.repeat(place, sizes) + within
            source = np.repeat(sources, sizes) + within
            ids[to] = documents.tokens[source]
            if marks is not None and documents.begins is not None:
                marks[to] = documents.begins[source] | (within == 0)
            place = place + sizes
        ones = np.arange(count + 1)
        first = len(self.before) + lengths + 1 if self.pairs else total
        result: dict[str, Ragged] = {"token_ids": (ids, splits), "first_length": (first, ones)}
        if self.pairs:
            labels = np.array([pieces.labels[row] for row in rows], np.int64)
            result["pair_label"] = (labels, ones)
        if marks is not None:
            at = np.flatnonzero(marks)
            row = np.searchsorted(splits, at, side="right") - 1
            counts = np.bincount(row, minlength=count)
            result["word_begins"] = (at - splits[row], np.concatenate([[0], np.cumsum(counts)]))
        return result


def _packed(features: dict[str, Ragged], counts: list[int]) -> dict[str, Ragged]:
    """Joins examples without pairs to records with these numbers of examples."""
    splits = np.concatenate([[0], np.cumsum(counts)])
    ids, ends = features["token_ids"]
    joined = ends[splits]
    result = {
        "token_ids": (ids, joined),
        "first_length": (np.diff(joined), np.arange(len(joined))),
        "example_lengths": (np.diff(ends), splits),
    }
    if "word_begins" in features:
        columns, column_ends = features["word_begins"]
        shift = ends[:-1] - np.repeat(joined[:-1], counts)
        columns = columns + np.repeat(shift, np.diff(column_ends))
        result["word_begins"] = (columns, column_ends[splits])
    return result


def _ordered(documents: Documents) -> tuple[Documents, dict[str, Any]]:
    """Drops repeated documents and orders the others by their hash."""
    hashes = documents.hashes
    ends = np.cumsum(documents.units)
    places = np.concatenate([[0], np.cumsum(documents.lengths)])
    starts, stops = places[ends - documents.units], places[ends]
    order = np.lexsort((hashes[:, 0], hashes[:, 1]))
    repeated = np.zeros(len(order), bool)
    if len(order):
        ranked = hashes[order]
        repeated[1:] = (ranked[1:] == ranked[:-1]).all(axis=1)
    chosen = order[~repeated]
    sizes = (stops - starts)[chosen]
    counts: dict[str, Any] = {
        "documents": len(order),
        "duplicate_documents": int(repeated.sum()),
        "tokens": int(places[-1]),
        "new_tokens": 0,
        "repeated_tokens": 0,
        "dropped_tokens": {},
        "pair_labels": [0, 0],
    }
    duplicate = int(places[-1] - sizes.sum())
    if duplicate:
        counts["dropped_tokens"]["duplicate document"] = duplicate
    tokens = _gathered(starts[chosen], sizes)
    units = _gathered((ends - documents.units)[chosen], documents.units[chosen])
    return (
        Documents(
            hashes[chosen],
            documents.units[chosen],
            documents.lengths[units],
            documents.tokens[tokens],
            None if documents.begins is None else documents.begins[tokens],
        ),
        counts,
    )


def _gathered(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The indices of consecutive ranges."""
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.repeat(starts, sizes) + within


def _bounds(documents: Documents) -> list[list[int]]:
    """The bounds of the units of each document; see `examples.make_pieces`."""
    places = np.concatenate([[0], np.cumsum(documents.lengths)]).tolist()
    ends = np.cumsum(documents.units).tolist()
    begins = [0, *ends][:-1]
    return [
        places[begin : end + 1]
        for begin, end in zip(begins, ends, strict=True)
        if places[end] > places[begin]
    ]


def _count(pieces: Pieces, counts: dict[str, Any]) -> None:
    new = sum(end - begin for begin, end in [*pieces.first, *pieces.second]) - pieces.repeated
    counts["new_tokens"] += new
    counts["repeated_tokens"] += pieces.repeated
    for reason, tokens in pieces.dropped.items():
        counts["dropped_tokens"][reason] = counts["dropped_tokens"].get(reason, 0) + tokens
    for label in pieces.labels:
        counts["pair_labels"][label] += 1


def _check_sum(counts: dict[str, Any], copies: int, path: Path) -> None:
    """Raises DataError unless each token is in an example, or counted as dropped.

    With several copies, the tokens of the first one count as new, and the others as repeated.
    """
    duplicate = counts["dropped_tokens"].get("duplicate document", 0)
    others = sum(counts["dropped_tokens"].values()) - duplicate
    if copies * (counts["tokens"] - duplicate) != counts["new_tokens"] + others:
        raise DataError(f"{path}: tokens are lost: {counts}; please report this")


def options_of(options: ShardOptions) -> dict[str, Any]:
    """Returns the options as plain values."""
    return asdict(options)
