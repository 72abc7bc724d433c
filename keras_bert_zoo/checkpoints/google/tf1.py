"""Reads Google's TF1 checkpoints of BERT, ALBERT and ELECTRA, under Hugging Face's names."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.checkpoints.file_names import CONFIG_FILE
from keras_bert_zoo.checkpoints.google.config import (
    describe_heads,
    electra_config,
    from_google_config,
)
from keras_bert_zoo.checkpoints.google.names import NOT_WEIGHTS, NameTable, find_family
from keras_bert_zoo.checkpoints.google.tf1_index import check_entries, read_index
from keras_bert_zoo.checkpoints.messages import list_some, one_line
from keras_bert_zoo.checkpoints.source import TensorInfo, TensorSource
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.files import GOOGLE_CONFIGS, read_json

_DATA_FILE = re.compile(r"\.data-(\d{5})-of-(\d{5})")
_FAMILIES = "google-research/bert, /albert or /electra"


def open_google(directory: str | os.PathLike[str], *, generator: bool = False) -> TensorSource:
    """Opens a TF1 checkpoint of google-research/bert, /albert or /electra.

    Slots of optimizers are omitted. A variable that is not in the name tables keeps its name, so
    that strict loading reports it.

    Args:
        directory: path of the directory with the .index and .data files.
        generator: bool. True: presents the generator of an ELECTRA pretraining run as Hugging
            Face's ElectraForMaskedLM, without the discriminator. False: presents the discriminator
            as ElectraForPreTraining. The names of the generator's tensors start with `generator`.

    Returns:
        TensorSource.

    Raises:
        CheckpointError: there is no checkpoint or more than one, it is damaged, or its family is
            unknown.
    """
    prefix = find_prefix(directory)
    return _GoogleSource(prefix, generator=generator)


def find_prefix(directory: str | os.PathLike[str]) -> Path:
    """Returns the path of the only checkpoint in a directory, without `.index`.

    Args:
        directory: path.

    Returns:
        Path.

    Raises:
        CheckpointError: there is no checkpoint or more than one.
    """
    directory = Path(directory)
    prefixes = sorted(path.with_suffix("") for path in directory.glob("*.index"))
    if not prefixes:
        raise CheckpointError(f"No TF1 checkpoint (*.ckpt.index) in {str(directory)!r}.")
    if len(prefixes) > 1:
        names = list_some([prefix.name for prefix in prefixes])
        raise CheckpointError(
            f"Expected one checkpoint in {directory}, received {len(prefixes)}: {names}. Move one "
            "of them, with its config and vocabulary, to an empty directory."
        )
    return prefixes[0]


def _shard_bytes(prefix: Path) -> list[int]:
    """Checks that all data files of a checkpoint exist, and returns their sizes."""
    sizes: dict[tuple[int, int], int] = {}
    for path in prefix.parent.iterdir():
        match = _DATA_FILE.fullmatch(path.name.removeprefix(prefix.name))
        if path.name.startswith(prefix.name) and match and path.is_file():
            sizes[int(match[1]), int(match[2])] = path.stat().st_size
    counts = {count for _, count in sizes}
    if len(counts) != 1 or {i for i, _ in sizes} != set(range(*counts)):
        raise CheckpointError(
            f"Some data files ({prefix.name}.data-?????-of-?????) of {prefix}.index are missing. "
            "Download them again."
        )
    return [sizes[shard] for shard in sorted(sizes)]


class _GoogleSource(TensorSource):
    def __init__(self, prefix: Path, *, generator: bool) -> None:
        index = prefix.with_name(f"{prefix.name}.index")
        shard_bytes = _shard_bytes(prefix)
        entries = read_index(index)
        stored = [name for name in entries if name]
        family = find_family(stored)
        if family is None:
            kind = (
                "an object-based checkpoint of TF2"
                if any(name.startswith("_CHECKPOINTABLE_OBJECT_GRAPH") for name in stored)
                else "a checkpoint of another model"
            )
            raise CheckpointError(
                f"{prefix}.index is {kind}: expected the variables of {_FAMILIES}, received "
                f"{list_some(sorted(stored))[:500]!a}."
            )
        if generator and family != "electra":
            raise CheckpointError(f"{prefix}.index is of {family}, which has no generator.")
        self.family: str = family
        variables = check_entries(index, entries, shard_bytes)
        table = NameTable(family)
        self._variables: dict[str, tuple[str, bool]] = {}
        infos: dict[str, TensorInfo] = {}
        for variable, (shape, dtype) in sorted(variables.items()):
            if NOT_WEIGHTS.fullmatch(variable):
                continue
            name, transposed = table.to_huggingface(variable) or (variable, False)
            if family == "electra":
                chosen = _choose_network(name, generator=generator)
                if chosen is None:
                    continue
                name = chosen
            if transposed and len(shape) != 2:
                raise CheckpointError(
                    f"{prefix}: expected a matrix for {variable}, received the shape {shape}."
                )
            if name in infos:
                raise CheckpointError(f"{prefix} has {name} twice.")
            infos[name] = TensorInfo(shape[::-1] if transposed else shape, dtype)
            self._variables[name] = (variable, transposed)
        super().__init__(str(prefix), infos)
        try:
            # `load_checkpoint` would follow the paths in a file if the prefix is a directory.
            self._reader = tf.compat.v1.train.NewCheckpointReader(os.path.abspath(prefix))
        except Exception as error:  # TensorFlow's reader raises errors of many kinds
            raise CheckpointError(
                f"{index} is not a complete TF1 checkpoint: {one_line(error)}. Download or write "
                "it again."
            ) from None

    def close(self) -> None:
        """Closes the files. Arrays that were read stay usable."""
        self._reader = None

    def _read(self, stored_name: str) -> np.ndarray:
        if self._reader is None:
            raise CheckpointError(f"{self.path} has been closed.")
        variable, transposed = self._variables[stored_name]
        try:
            value = np.asarray(self._reader.get_tensor(variable))
        except Exception as error:  # TensorFlow's reader raises errors of many kinds
            raise CheckpointError(
                f"{self.path}: {variable} cannot be read: {one_line(error)}. Download or write it "
                "again."
            ) from None
        return value.T if transposed else value


def _choose_network(name: str, *, generator: bool) -> str | None:
    """Returns the name of a tensor in the chosen network of ELECTRA, or None if it has none."""
    if not generator:
        return name
    if name.startswith("electra.") and not name.startswith("electra.embeddings."):
        return None
    if name.startswith("discriminator_predictions."):
        return None
    return re.sub(r"^generator\.", "electra.", name)


def read_google_config(
    directory: str | os.PathLike[str], *, generator: bool = False
) -> dict[str, Any]:
    """Translates the config of a Google checkpoint into Hugging Face's.

    Google's ELECTRA has no config file. Its sizes are read from the variables. The number of heads
    follows from the width, as in google-research/electra, util/training_utils.py.

    Args:
        directory: path.
        generator: see `open_google`.

    Returns:
        dict, the contents of a config.json.

    Raises:
        CheckpointError: see `open_google`.
        ConfigError: the config is missing, malformed or not supported.
    """
    directory = Path(directory)
    names = [name for name in (*GOOGLE_CONFIGS, CONFIG_FILE) if (directory / name).is_file()]
    if len(names) > 1 and names[-1] == CONFIG_FILE:
        names = names[:-1]  # skips a Hugging Face config without `model_type`
    if len(names) > 1:
        raise ConfigError(f"Expected one config in {directory}, received {' and '.join(names)}.")
    google = read_json(directory / names[0]) if names else None
    if not any(directory.glob("*.index")):
        family = names[0].partition("_")[0] if names and "_" in names[0] else "bert"
        return from_google_config(google or {}, family, directory / (names or [CONFIG_FILE])[0])
    with open_google(directory, generator=generator) as source:
        family = getattr(source, "family", "bert")
        if family == "electra" and (google is None or generator):
            config = electra_config(source)
        elif google is None:
            raise ConfigError(
                f"Expected {family}_config.json next to {source.path}: it has the number of "
                "attention heads."
            )
        else:
            if family == "electra":
                google.setdefault("embedding_size", electra_config(source)["embedding_size"])
            config = from_google_config(google, family, directory / names[0])
        return config | describe_heads(source, family)
