"""Examples as records: tf.train.Example protocol buffers in TFRecord files.

The bytes of many examples are made at once with NumPy. This takes a fraction of the time of
`tf.train.Example(...).SerializeToString()`, which handles every token in Python.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from keras_bert_zoo.directories.replacing import sync_path
from keras_bert_zoo.errors import DataError

__all__ = ["FEATURES", "Ragged", "read_records", "serialize_examples", "write_records"]

FEATURES = (
    "token_ids",
    "first_length",
    "pair_label",
    "masked_positions",
    "masked_token_ids",
    "word_begins",
    "example_lengths",
)
"""The names of the int64 features of a record; see `dataset.PretrainingData`."""

Ragged = tuple[np.ndarray, np.ndarray]
"""Values (T,) and row splits int64 (B + 1,) of B rows."""


def serialize_examples(features: Mapping[str, Ragged]) -> list[bytes]:
    r"""Returns examples as serialized tf.train.Example messages.

    The features of a message are in the order of their names, so equal examples have equal bytes.

    Args:
        features: feature name -> values, non-negative int (T,), and row splits int (B + 1,).

    Returns:
        list of B bytes.

    Example:
        >>> import numpy as np
        >>> serialize_examples({"first_length": (np.array([7, 300]), np.array([0, 1, 2]))})[0]
        b'\n\x17\n\x15\n\x0cfirst_length\x12\x05\x1a\x03\n\x01\x07'
    """
    # From the inner message to the outer one: Int64List.value, which is packed, Feature.int64_list,
    # the key and the value of an entry of the map Features.feature, and Example.features.
    values, headers, sizes = [], [], []
    for name in sorted(features):
        numbers, ends = _varints(np.asarray(features[name][0]))
        at = ends[np.asarray(features[name][1])]
        size = np.diff(at)
        packed = _tagged(b"\x0a", size, size > 0)
        int64_list = _tagged(b"\x1a", size + np.diff(packed[1]))
        size = size + np.diff(packed[1])
        value = _tagged(b"\x12", size + np.diff(int64_list[1]))
        key = b"\x0a" + bytes([len(name)]) + name.encode()
        size = size + np.diff(int64_list[1]) + np.diff(value[1]) + len(key)
        entry = _tagged(b"\x0a", size)
        values.append((numbers.tobytes(), at.tolist()))
        headers.append([entry, _repeated(key, len(size)), value, int64_list, packed])
        sizes.append(size + np.diff(entry[1]))
    if not values:
        return []
    headers[0].insert(0, _tagged(b"\x0a", np.sum(sizes, axis=0)))
    columns = []
    for parts, value_bytes in zip(headers, values, strict=True):
        joined, splits = _joined(parts)
        columns += [(joined.tobytes(), splits.tolist()), value_bytes]
    pairs = [itertools.pairwise(splits) for _, splits in columns]
    texts = [text for text, _ in columns]
    return [
        b"".join([text[begin:end] for text, (begin, end) in zip(texts, row, strict=True)])
        for row in zip(*pairs, strict=True)
    ]


def _tagged(tag: bytes, sizes: np.ndarray, present: np.ndarray | None = None) -> Ragged:
    """The tags and sizes of a field in each row; nothing in rows that are not `present`."""
    numbers, ends = _varints(sizes)
    bytes_, splits = _joined([_repeated(tag, len(sizes)), (numbers, ends)])
    if present is None or present.all():
        return bytes_, splits
    lengths = np.diff(splits)
    return (
        bytes_[np.repeat(present, lengths)],
        np.concatenate([[0], np.cumsum(np.where(present, lengths, 0))]),
    )


def _repeated(text: bytes, rows: int) -> Ragged:
    """The same bytes in each row."""
    return np.tile(np.frombuffer(text, np.uint8), rows), np.arange(rows + 1) * len(text)


def _joined(parts: Sequence[Ragged]) -> Ragged:
    """Joins the bytes of each row."""
    lengths = np.stack([np.diff(splits) for _, splits in parts])  # (parts, B)
    splits = np.concatenate([[0], np.cumsum(lengths.sum(axis=0))])
    result = np.empty(splits[-1], np.uint8)
    begins = splits[:-1] + np.cumsum(lengths, axis=0) - lengths
    for (values, own), begin, length in zip(parts, begins, lengths, strict=True):
        result[np.arange(len(values)) + np.repeat(begin - own[:-1], length)] = values
    return result, splits


def _varints(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Encodes numbers as varints.

    Returns:
        uint8 (bytes,), and int64 (T + 1,): the number of bytes before each number, and in total.
    """
    most = int(values.max()) if len(values) else 0
    values = values.astype(np.uint32 if most < 1 << 32 else np.uint64)
    width = max(1, -(-most.bit_length() // 7))
    groups = np.empty((len(values), width), np.uint8)
    present = np.empty((len(values), width), bool)
    present[:, 0] = True
    sizes = np.ones(len(values), np.int64)
    for place in range(width):
        groups[:, place] = values & 127
        values = values >> 7
        if place + 1 < width:
            more = values != 0
            groups[:, place] |= more.view(np.uint8) << 7
            present[:, place + 1] = more
            sizes += more
    ends = np.zeros(len(values) + 1, np.int64)
    np.cumsum(sizes, out=ends[1:])
    return groups[present], ends


def write_records(path: Path, records: Iterator[bytes]) -> None:
    """Writes a TFRecord file aside and renames it, so a file of that name is always whole.

    Args:
        path: Path. A name that ends in `.gz` is compressed with gzip.
        records: iterator of bytes.

    Raises:
        DataError: the file cannot be written, such as on a full disk.
    """
    import tensorflow as tf

    aside = path.with_name(f"{path.name}.{os.getpid()}.part")
    compression = "GZIP" if path.name.endswith(".gz") else ""
    try:
        with tf.io.TFRecordWriter(str(aside), compression) as writer:
            for record in records:
                writer.write(record)
        sync_path(aside)
        os.replace(aside, path)
        sync_path(path.parent)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "message", None) or error
        raise DataError(f"{path} cannot be written: {reason}") from error
    finally:
        aside.unlink(missing_ok=True)


def read_records(path: str | os.PathLike[str]) -> Iterator[dict[str, list[int]]]:
    """Reads the examples of a shard one by one, for checks and tools.

    Args:
        path: the TFRecord file.

    Yields:
        dict, feature name -> list of int.

    Raises:
        DataError: the file is missing or damaged.

    Example:
        >>> import tempfile
        >>> features = {"token_ids": (np.array([2, 8, 3]), np.array([0, 3]))}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "train-00000-of-00001.tfrecord")
        ...     write_records(path, iter(serialize_examples(features)))
        ...     list(read_records(path))
        [{'token_ids': [2, 8, 3]}]
    """
    import tensorflow as tf

    name = os.fspath(path)
    compression = "GZIP" if name.endswith(".gz") else ""
    try:
        for record in tf.data.TFRecordDataset(name, compression_type=compression):
            features = tf.train.Example.FromString(record.numpy()).features.feature
            yield {key: list(features[key].int64_list.value) for key in sorted(features)}
    except tf.errors.OpError as error:
        raise DataError(f"{name} cannot be read: {error.message}") from error
