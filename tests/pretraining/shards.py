"""Small data sets of pretraining examples, written record by record."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from keras_bert_zoo.pretraining.dataset import PretrainingData, Shard, hash_tokenizer
from keras_bert_zoo.pretraining.records import serialize_examples, write_records
from tests.tasks.every_task import make_tokenizer

CLS, SEP, FIRST_LETTER, LETTERS = 2, 3, 5, 26


def ragged(rows):
    splits = np.cumsum([0, *map(len, rows)])
    return np.concatenate([np.asarray(row, np.int64) for row in rows] or [[]]), splits


def write_shard(path: Path, rows, firsts=None, **features) -> Shard:
    """Writes rows of token ids, and returns the entry of the manifest."""
    firsts = [len(row) for row in rows] if firsts is None else firsts
    columns = {"token_ids": rows, "first_length": [[n] for n in firsts], **features}
    records = serialize_examples({name: ragged(values) for name, values in columns.items()})
    write_records(path, iter(records))
    lengths = [len(row) for row in rows]
    return Shard(path.name, len(rows), sum(lengths), max(lengths, default=0))


def write_data(
    directory: Path, sizes, *, heldout=(), max_length=24, pairs="none", seed=0, gzip=False
) -> PretrainingData:
    """Writes shards of random letters. With pairs, the label is the class of the second segment."""
    directory.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    shards = {}
    for split, counts in (("train", sizes), ("heldout", heldout)):
        shards[split] = []
        for number, count in enumerate(counts):
            rows, firsts, labels = [], [], []
            for _ in range(count):
                length = int(random.integers(4 + (pairs != "none"), max_length + 1))
                row = random.integers(FIRST_LETTER, FIRST_LETTER + LETTERS, length)
                row[[0, -1]] = CLS, SEP
                if pairs != "none":
                    middle = length // 2
                    row[middle] = SEP
                    firsts.append(middle + 1)
                    labels.append([int(random.integers(2))])
                rows.append(row)
            more = {"pair_label": labels} if pairs != "none" else {}
            name = f"{split}-{number:05d}-of-{len(counts):05d}.tfrecord" + ".gz" * gzip
            shards[split].append(write_shard(directory / name, rows, firsts or None, **more))
    tokenizer = make_tokenizer()
    tokenizer.save(directory / "tokenizer")
    data = PretrainingData(
        directory, hash_tokenizer(tokenizer), tokenizer.vocabulary_size, max_length, pairs,
        static_masks=False, word_boundaries=False, train=tuple(shards["train"]),
        heldout=tuple(shards["heldout"]), statistics={}, options={},
    )  # fmt: skip
    data.write()
    return data
