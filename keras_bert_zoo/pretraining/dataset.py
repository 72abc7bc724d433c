"""A directory of pretraining examples: its description, its shards and its tokenizer."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_bert_zoo.directories.packed import pack_files
from keras_bert_zoo.directories.replacing import sync_path
from keras_bert_zoo.errors import BertZooError, DataError
from keras_bert_zoo.files import read_json
from keras_bert_zoo.text.tokenizer import Tokenizer

__all__ = [
    "DATASET_FILE",
    "PAIRS",
    "TOKENIZER_FOLDER",
    "PretrainingData",
    "Shard",
    "hash_tokenizer",
]

DATASET_FILE = "dataset.json"
"""The description, written when all shards are complete."""

TOKENIZER_FOLDER = "tokenizer"

PAIRS = ("none", "next_sentence", "sentence_order")
"""The kinds of segment pairs."""

_FORMAT = 1


@dataclass(frozen=True)
class Shard:
    """A TFRecord file.

    Args:
        name: str. The file's name in the directory.
        examples: int. The number of records.
        tokens: int. The tokens of all records, with special tokens.
        longest: int. The tokens of the longest record.
        most: int. The largest number of examples in a record; above 1 if examples are packed.
    """

    name: str
    examples: int
    tokens: int
    longest: int
    most: int = 1


@dataclass(frozen=True)
class PretrainingData:
    """Pretraining examples in TFRecord files, made by `build_pretraining_data`.

    A record is a tf.train.Example of int64 features:

    - `token_ids` (n,): the tokens with special tokens, without padding. With static masks: the
      masked tokens.
    - `first_length` (1,): the number of tokens before the second segment; n without one.
    - `pair_label` (1,), only with pairs. Next sentence: 0 for consecutive segments, 1 for a random
      second segment. Sentence order: 0 for segments in their order, 1 for swapped segments.
    - `masked_positions`, `masked_token_ids` (m,), only with static masks: the columns to predict
      and the original tokens there.
    - `word_begins` (k,), only if `word_boundaries`: the columns at which words begin.
    - `example_lengths` (e,), only of packed examples: their numbers of tokens, one after the other.

    Args:
        directory: Path.
        tokenizer_hash: str; see `hash_tokenizer`.
        vocabulary_size: int.
        max_length: int. The length limit of an example, with special tokens.
        pairs: "none", "next_sentence" or "sentence_order".
        static_masks: bool.
        word_boundaries: bool. Whether records have `word_begins`.
        train: tuple of Shard.
        heldout: tuple of Shard. Documents of none of the training shards.
        statistics: dict. Counts of documents and tokens; see `docs/pretraining_data.md`.
        options: dict. The options of the builder.
    """

    directory: Path
    tokenizer_hash: str
    vocabulary_size: int
    max_length: int
    pairs: str
    static_masks: bool
    word_boundaries: bool
    train: tuple[Shard, ...]
    heldout: tuple[Shard, ...]
    statistics: dict[str, Any]
    options: dict[str, Any]

    @property
    def examples_per_record(self) -> int:
        """The largest number of examples in a record; above 1 if they are packed."""
        return max((shard.most for shard in (*self.train, *self.heldout)), default=1)

    @classmethod
    def open(cls, directory: str | os.PathLike[str]) -> PretrainingData:
        """Opens a directory and checks that its shards exist.

        Args:
            directory: the output of `build_pretraining_data`.

        Raises:
            DataError: the directory is no data set, is incomplete or was changed.
        """
        folder = Path(directory)
        path = folder / DATASET_FILE
        if not path.is_file():
            raise DataError(
                f"expected pretraining data with a {DATASET_FILE} in {folder}, received none. "
                "Make it with keras-bert-zoo pretraining-data; run an interrupted build again"
            )
        try:
            data = cls._from_json(folder, read_json(path))
        except BertZooError as error:
            raise DataError(str(error)) from error
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{path} is damaged ({type(error).__name__}: {error}); build the data again"
            ) from error
        names = [shard.name for shard in (*data.train, *data.heldout)]
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise DataError(
                f"expected {len(names)} shards in {folder}, but {len(missing)} are missing, such "
                f"as {missing[0]}; copy them or build the data again"
            )
        return data

    @classmethod
    def _from_json(cls, folder: Path, raw: dict[str, Any]) -> PretrainingData:
        raw = dict(raw)
        number = raw.pop("format")
        if number != _FORMAT:
            raise DataError(
                f"expected format {_FORMAT} in {folder / DATASET_FILE}, received {number!r:.40}; "
                "build the data again with this version"
            )
        train, heldout = (
            tuple(Shard(**shard) for shard in raw.pop(split)) for split in ("train", "heldout")
        )
        for shard in (*train, *heldout):
            if Path(shard.name).name != shard.name:
                raise ValueError(f"the shard name {shard.name!r:.80} is a path")
        return cls(directory=folder, train=train, heldout=heldout, **raw)

    def write(self) -> None:
        """Writes `dataset.json` aside and renames it; a data set with this file is complete.

        Raises:
            OSError: the file cannot be written.
        """
        raw = {"format": _FORMAT} | dataclasses.asdict(self)
        del raw["directory"]
        write_json_atomically(self.directory / DATASET_FILE, raw)

    def tokenizer(self) -> Tokenizer:
        """Loads the tokenizer that made the examples.

        Raises:
            DataError: its files were changed.
        """
        from keras_bert_zoo.text.registry import load_tokenizer_directory

        tokenizer = load_tokenizer_directory(self.directory / TOKENIZER_FOLDER)
        if hash_tokenizer(tokenizer) != self.tokenizer_hash:
            raise DataError(
                f"expected the tokenizer of the examples in {self.directory / TOKENIZER_FOLDER}, "
                "but its files have changed; copy the original files or build the data again"
            )
        return tokenizer


def hash_tokenizer(tokenizer: Tokenizer) -> str:
    """Returns a hash of the files of a tokenizer, to compare it with that of a data set.

    Args:
        tokenizer: Tokenizer.

    Returns:
        str, 64 hexadecimal digits.

    Example:
        >>> from keras_bert_zoo.text import WordPieceTokenizer
        >>> tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat"])
        >>> len(hash_tokenizer(tokenizer))
        64
    """
    files = pack_files(tokenizer.save)
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def write_json_atomically(path: Path, value: dict[str, Any]) -> None:
    """Writes a JSON file aside and renames it.

    Raises:
        OSError: the file cannot be written.
    """
    write_atomically(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file aside and renames it, so a file of that name is always whole.

    Raises:
        OSError: the file cannot be written, such as on a full disk.
    """
    aside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        aside.write_bytes(data)
        sync_path(aside)
        os.replace(aside, path)
        sync_path(path.parent)
    finally:
        aside.unlink(missing_ok=True)
