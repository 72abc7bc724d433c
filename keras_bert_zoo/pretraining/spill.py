"""The first phase of a build: chunks of documents -> tokens on disk, by shard.

A chunk is a few megabytes of consecutive documents of a file. Its tokens are written to a folder,
sorted by shard, so that the second phase reads only the part of one shard. The shard of a
document follows from a hash of its text, so equal documents are in the same shard.

Legend: D documents of a chunk, U units (sentences or lines), T tokens.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_bert_zoo.directories.replacing import sync_path, sync_tree
from keras_bert_zoo.errors import DataError
from keras_bert_zoo.pretraining.sentences import SentenceSplitter
from keras_bert_zoo.pretraining.word_begins import WordFinder, word_begin_flags
from keras_bert_zoo.text.tokenizer import Tokenizer

__all__ = ["Documents", "Partition", "Spiller", "joined", "read_spilled"]

_CHARACTERS_AT_ONCE = 1 << 19  # tokenized together; bounds the memory
_DOCUMENT = np.dtype(
    [("shard", np.int32), ("hash", np.uint64, 2), ("units", np.int64), ("tokens", np.int64)]
)


@dataclass(frozen=True)
class Partition:
    """How documents are divided among shards.

    Args:
        train: int. The number of training shards.
        heldout: int. The number of held-out shards, which follow the training shards.
        share: float in [0, 1). The share of documents that are held out.
        seed: int.
    """

    train: int
    heldout: int
    share: float
    seed: int

    def hash(self, document: Sequence[str]) -> tuple[int, int]:
        """Returns two hashes of a document of 64 bits each."""
        text = "\n".join(document).encode("utf-8", "surrogatepass")
        key = self.seed.to_bytes(8, "little", signed=True)
        digest = hashlib.blake2b(text, digest_size=16, key=key).digest()
        return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")

    def shard_of(self, first: int) -> int:
        """Returns the number of the shard of a document with the given first hash."""
        if self.heldout and (first >> 32) / 2**32 < self.share:
            return self.train + first % 2**32 % self.heldout
        return first % 2**32 % self.train


@dataclass(frozen=True)
class Documents:
    """Tokenized documents.

    Args:
        hashes: uint64 (D, 2).
        units: int64 (D,). The number of units of each document.
        lengths: int64 (U,). The number of tokens of each unit.
        tokens: int (T,).
        begins: bool (T,) or None. Whether a word begins at a token.
    """

    hashes: np.ndarray
    units: np.ndarray
    lengths: np.ndarray
    tokens: np.ndarray
    begins: np.ndarray | None = None


@dataclass(frozen=True)
class Spiller:
    """Tokenizes chunks.

    Args:
        tokenizer: Tokenizer.
        split: SentenceSplitter; None: a line is a unit.
        partition: Partition.
        find_words: finds the words of a unit; None: words follow from the vocabulary.
    """

    tokenizer: Tokenizer
    split: SentenceSplitter | None
    partition: Partition
    find_words: WordFinder | None = None

    def write(self, documents: Sequence[list[str]], folder: Path) -> None:
        """Tokenizes the documents of a chunk and writes them aside, then renames the folder.

        Raises:
            DataError: the folder cannot be written, such as on a full disk.
        """
        table, parts = self._tokenized(documents)
        aside = folder.with_name(f"{folder.name}.{os.getpid()}.part")
        try:
            aside.mkdir(parents=True)
            np.save(aside / "documents.npy", table)
            for name, values in parts.items():
                np.save(aside / f"{name}.npy", values)
            sync_tree(aside)
            os.rename(aside, folder)
            sync_path(folder.parent)
        except OSError as error:
            raise DataError(f"{folder} cannot be written: {error.strerror or error}") from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def by_shard(self, documents: Sequence[list[str]]) -> Iterator[tuple[int, Documents]]:
        """Tokenizes the documents of a chunk; yields the number and the documents of each shard."""
        table, arrays = self._tokenized(documents)
        shards, firsts = np.unique(table["shard"], return_index=True)
        bounds = [*firsts.tolist(), len(table)]
        for shard, bound in zip(shards.tolist(), itertools.pairwise(bounds), strict=True):
            yield shard, _part(table, arrays, *bound)

    def _tokenized(
        self, documents: Sequence[list[str]]
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The table of a chunk's documents, sorted by shard, and its arrays in that order."""
        table = np.zeros(len(documents), _DOCUMENT)
        for row, document in zip(table, documents, strict=True):
            first, second = self.partition.hash(document)
            row["hash"] = first, second
            row["shard"] = self.partition.shard_of(first)
        order = np.argsort(table["shard"], kind="stable")
        table = table[order]
        split = self.split
        units = []
        for row, index in zip(table, order.tolist(), strict=True):
            lines = documents[index]
            if split is not None:
                lines = [unit for line in lines for unit in split(line)]
            row["units"] = len(lines)
            units += lines
        lengths, tokens, begins = self._tokens(units)
        places = np.concatenate([[0], np.cumsum(lengths)])
        ends = np.cumsum(table["units"])
        table["tokens"] = places[ends] - places[ends - table["units"]]
        parts = {"lengths": lengths, "tokens": tokens}
        return table, parts if begins is None else parts | {"begins": begins}

    def _tokens(self, units: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        lengths, tokens, begins = [], [], []
        dtype = np.uint16 if self.tokenizer.vocabulary_size <= 1 << 16 else np.uint32
        for part in _parts(units):
            if self.find_words is None:
                ids = self.tokenizer.tokenize(part)
            else:
                ids, starts, _ = self.tokenizer.tokenize_with_offsets(part)
                begins.append(word_begin_flags(part, starts, self.find_words))
            lengths.append(ids.row_lengths().numpy())
            tokens.append(ids.values.numpy().astype(dtype))
        return (
            np.concatenate([np.zeros(0, np.int64), *lengths]),
            np.concatenate([np.zeros(0, dtype), *tokens]),
            None if self.find_words is None else np.concatenate([np.zeros(0, bool), *begins]),
        )


def _parts(units: list[str]) -> Iterator[list[str]]:
    """Yields consecutive parts of about `_CHARACTERS_AT_ONCE` characters."""
    sizes = np.fromiter(map(len, units), np.int64, len(units))
    parts = (np.cumsum(sizes) - sizes) // _CHARACTERS_AT_ONCE
    bounds = [0, *(np.flatnonzero(np.diff(parts)) + 1).tolist(), len(units)]
    for begin, end in itertools.pairwise(bounds):
        if begin < end:
            yield units[begin:end]


def read_spilled(folders: Sequence[Path], shard: int) -> Documents:
    """Reads the documents of a shard from the folders of all chunks.

    Args:
        folders: the folders that `Spiller.write` wrote.
        shard: int.

    Returns:
        Documents, in the order of the chunks.
    """
    parts = []
    for folder in folders:
        table = np.load(folder / "documents.npy")
        first, last = np.searchsorted(table["shard"], [shard, shard + 1]).tolist()
        if first < last:
            names = ("lengths", "tokens", "begins")
            files = {name: folder / f"{name}.npy" for name in names}
            arrays = {
                name: np.load(path, mmap_mode="r") for name, path in files.items() if path.exists()
            }
            parts.append(_part(table, arrays, first, last))
    return joined(parts)


def _part(table: np.ndarray, arrays: dict[str, np.ndarray], first: int, last: int) -> Documents:
    """Copies some documents of a chunk."""
    own, before = table[first:last], table[:first]
    unit, token = int(before["units"].sum()), int(before["tokens"].sum())
    tokens = slice(token, token + int(own["tokens"].sum()))
    begins = arrays.get("begins")
    return Documents(
        own["hash"].copy(),
        own["units"].copy(),
        np.array(arrays["lengths"][unit : unit + int(own["units"].sum())]),
        np.array(arrays["tokens"][tokens]),
        None if begins is None else np.array(begins[tokens]),
    )


def joined(parts: Sequence[Documents]) -> Documents:
    """Returns the documents of several parts."""
    empty = np.zeros(0, np.int64)
    begins = [part.begins for part in parts if part.begins is not None]
    return Documents(
        np.concatenate([np.zeros((0, 2), np.uint64), *(part.hashes for part in parts)]),
        np.concatenate([empty, *(part.units for part in parts)]),
        np.concatenate([empty, *(part.lengths for part in parts)]),
        np.concatenate([part.tokens for part in parts]) if parts else empty,
        np.concatenate(begins) if begins else None,
    )
