"""Checkpoints in several files, with an index that maps tensors to files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from keras_bert_zoo.checkpoints.messages import list_some
from keras_bert_zoo.checkpoints.raw import RawFile, RawTensor, RawTensorSource
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.files import read_json
from keras_bert_zoo.schema import leads_round

_NAME_LIMIT = 255  # bytes, of a file's name
_SHARD_LIMIT = 512


def open_files(
    path: Path, read_tensors: Callable[[RawFile], dict[str, RawTensor]]
) -> RawTensorSource:
    """Opens a checkpoint file, or all files of an index.

    Args:
        path: path of a file, or of an index (*.json).
        read_tensors: function that returns the tensors of a file, by name.

    Returns:
        RawTensorSource.

    Raises:
        CheckpointError: see `open_safetensors`.
    """
    shards = read_index(path) if path.suffix == ".json" else {path.name: set()}
    tensors: dict[str, RawTensor] = {}
    names: dict[str, Iterable[str]] = {}
    files = []
    try:
        for shard in shards:
            file = RawFile(path.parent / shard)
            files.append(file)
            in_shard = read_tensors(file)
            names[shard] = in_shard.keys()
            tensors |= in_shard
        if path.suffix == ".json":
            check_index(path, shards, names)
        return RawTensorSource(str(path), tensors, files)
    except BaseException:
        for file in files:
            file.close()
        raise


def read_index(path: Path) -> dict[str, set[str]]:
    """Reads the index of a checkpoint in shards, and checks its file names.

    Args:
        path: path of a model.safetensors.index.json or pytorch_model.bin.index.json.

    Returns:
        dict, file name of a shard -> names of its tensors. The file is next to the index.

    Raises:
        CheckpointError: the index is malformed, or a shard is missing or in another directory.
    """
    try:
        index = read_json(path)
    except ConfigError as error:
        raise CheckpointError(str(error)) from None
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"Expected a `weight_map` from tensors to files in {path}.")
    shards: dict[str, set[str]] = {}
    for name, shard in weight_map.items():
        if not isinstance(shard, str):
            raise CheckpointError(
                f"{path}: expected the file of {name[:200]!a} as a string, received {shard!r:.80}."
            )
        shards.setdefault(shard, set()).add(name)
    if len(shards) > _SHARD_LIMIT:
        raise CheckpointError(f"{path} names {len(shards)} files, expected at most {_SHARD_LIMIT}.")
    for shard in shards:
        _check_shard(path, shard)
    missing = sorted(shard for shard in shards if not (path.parent / shard).is_file())
    if missing:
        raise CheckpointError(
            f"{path} names missing files: {list_some(missing)}. Download them again."
        )
    return shards


def _check_shard(path: Path, shard: str) -> None:
    plain = shard.isprintable() and shard not in ("", ".", "..") and not set("/\\:") & set(shard)
    plain = plain and len(shard.encode()) <= _NAME_LIMIT
    if not plain:
        raise CheckpointError(
            f"{path}: expected a file name without a directory, received {shard[:256]!a}. Shards "
            "must be in the directory of the index."
        )
    if leads_round(path.parent / shard):
        raise CheckpointError(f"{path} names {shard!a}, a loop of links. Download the file again.")
    # Before Python 3.13, Path.resolve raises an error for a loop of links.
    target = Path(os.path.realpath(path.parent / shard))
    directory = Path(os.path.realpath(path.parent))
    allowed = {directory}
    # Hugging Face's cache: snapshots/REVISION/NAME links to blobs/SHA256.
    if directory.parent.name == "snapshots":
        allowed.add(directory.parent.parent / "blobs")
    if target.parent not in allowed:
        raise CheckpointError(
            f"{path} names {shard!a}, a link out of the directory, to {str(target)!a}."
        )


def check_index(
    path: Path, shards: Mapping[str, set[str]], in_files: Mapping[str, Iterable[str]]
) -> None:
    """Checks that the shards contain the tensors of their index, each tensor once.

    Args:
        path: path of the index.
        shards: the result of `read_index`.
        in_files: file name of a shard -> names of the tensors in it.

    Raises:
        CheckpointError: tensors are missing, not in the index, or in two files. The message lists
            them.
    """
    seen: dict[str, str] = {}
    twice, missing, unannounced = [], [], []
    for shard, announced in shards.items():
        names = set(in_files[shard])
        twice += [f"{name[:200]!a} in {seen[name]} and {shard}" for name in names if name in seen]
        missing += [f"{name[:200]!a} in {shard}" for name in announced - names]
        unannounced += [f"{name[:200]!a} in {shard}" for name in names - announced - seen.keys()]
        seen |= dict.fromkeys(names, shard)
    problems = [
        f"{label}: {list_some(sorted(items))}"
        for label, items in (
            ("listed twice", twice),
            ("missing", missing),
            ("not in the index", unannounced),
        )
        if items
    ]
    if problems:
        raise CheckpointError(f"{path} and its files differ. " + "; ".join(problems) + ".")
