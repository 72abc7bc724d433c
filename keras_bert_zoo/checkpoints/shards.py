"""Checkpoints split over several files, with an index that says which tensor is where."""

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
    """Opens a checkpoint file, or all that an index names.

    Args:
        path: of a file, or of an index (*.json).
        read_tensors: returns what a file holds, by name.

    Returns:
        RawTensorSource.

    Raises:
        CheckpointError: see `open_safetensors`.
    """
    shards = read_index(path) if path.suffix == ".json" else {path.name: set()}
    tensors: dict[str, RawTensor] = {}
    found: dict[str, Iterable[str]] = {}
    files = []
    try:
        for shard in shards:
            file = RawFile(path.parent / shard)
            files.append(file)
            held = read_tensors(file)
            found[shard] = held.keys()
            tensors |= held
        if path.suffix == ".json":
            check_index(path, shards, found)
        return RawTensorSource(str(path), tensors, files)
    except BaseException:
        for file in files:
            file.close()
        raise


def read_index(path: Path) -> dict[str, set[str]]:
    """Reads the index of a checkpoint in shards, and checks where it points to.

    Args:
        path: of a model.safetensors.index.json or pytorch_model.bin.index.json.

    Returns:
        dict, shard's file name -> names of its tensors. Each is a file beside the index.

    Raises:
        CheckpointError: the index is malformed, or a shard is missing or lies elsewhere.
    """
    try:
        index = read_json(path)
    except ConfigError as error:
        raise CheckpointError(str(error)) from None
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{path} has no `weight_map` from tensors to files.")
    shards: dict[str, set[str]] = {}
    for name, shard in weight_map.items():
        if not isinstance(shard, str):
            raise CheckpointError(
                f"{path}: the file of {name[:200]!a} must be a string, got {shard!r:.80}."
            )
        shards.setdefault(shard, set()).add(name)
    if len(shards) > _SHARD_LIMIT:
        raise CheckpointError(f"{path} names {len(shards)} files; {_SHARD_LIMIT} at most are read.")
    for shard in shards:
        _check_shard(path, shard)
    missing = sorted(shard for shard in shards if not (path.parent / shard).is_file())
    if missing:
        raise CheckpointError(
            f"{path} names files that are not there: {list_some(missing)}. Fetch them again."
        )
    return shards


def _check_shard(path: Path, shard: str) -> None:
    plain = shard.isprintable() and shard not in ("", ".", "..") and not set("/\\:") & set(shard)
    plain = plain and len(shard.encode()) <= _NAME_LIMIT
    if not plain:
        raise CheckpointError(
            f"{path} names the file {shard[:256]!a}; a shard must lie in the index's directory, "
            "named without a path."
        )
    if leads_round(path.parent / shard):
        raise CheckpointError(f"{path} names {shard!a}, a ring of links. Fetch the file again.")
    # Path.resolve raises at a ring before Python 3.13, and not from there on.
    target = Path(os.path.realpath(path.parent / shard))
    directory = Path(os.path.realpath(path.parent))
    allowed = {directory}
    # Hugging Face's cache: snapshots/REVISION/NAME links to blobs/SHA256.
    if directory.parent.name == "snapshots":
        allowed.add(directory.parent.parent / "blobs")
    if target.parent not in allowed:
        raise CheckpointError(
            f"{path} names {shard!a}, a link that leaves the directory, to {str(target)!a}."
        )


def check_index(
    path: Path, shards: Mapping[str, set[str]], found: Mapping[str, Iterable[str]]
) -> None:
    """Checks that the shards hold what their index says, each tensor once.

    Args:
        path: of the index.
        shards: what `read_index` returned.
        found: shard's file name -> names of the tensors in it.

    Raises:
        CheckpointError: listing the tensors that are missing, not announced, or there twice.
    """
    seen: dict[str, str] = {}
    twice, missing, unannounced = [], [], []
    for shard, announced in shards.items():
        names = set(found[shard])
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
        raise CheckpointError(f"{path} and its files do not agree. " + "; ".join(problems) + ".")
