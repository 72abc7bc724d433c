"""Finding a preset's directory and loading what it holds."""

from __future__ import annotations

import difflib
import glob
import importlib.util
import logging
import os
import tempfile
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.checkpoints.keras_hub import handles as keras_hub_handles
from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.directories.replacing import find_directory
from keras_bert_zoo.errors import BertZooError, CheckpointError
from keras_bert_zoo.presets import hub
from keras_bert_zoo.presets.catalog import Preset, list_presets

if TYPE_CHECKING:
    from keras_bert_zoo.checkpoints.names import FamilyNames
    from keras_bert_zoo.checkpoints.source import TensorSource
    from keras_bert_zoo.encoders.encoder import Encoder
    from keras_bert_zoo.text.tokenizer import Tokenizer

_logger = logging.getLogger(__name__)

# Of config.json: what describes the file it came from, not the one that is written.
_OF_THE_FILE = frozenset(
    """_name_or_path architectures auto_map custom_pipelines dtype torch_dtype transformers_version
    _attn_implementation attn_implementation""".split()
)
LABEL_KEYS = ("id2label", "label2id", "num_labels", "_num_labels", "problem_type")


def find_preset(
    preset: str | os.PathLike[str], *, allow_pickle: bool = False, weights: bool = True
) -> Path:
    """Returns the directory of a preset, fetching it from the hub where it is not here.

    Args:
        preset: name in the catalogue; path of a directory with a checkpoint; hf://owner/name or
            hf://owner/name@revision; or a handle of KerasHub's (kaggle://...). A directory wins
            over a name that is spelled the same.
        allow_pickle: bool. Whether a repository may be fetched that has a pytorch_model.bin alone.
        weights: bool. False will do without weights: of the Hugging Face hub's repositories the
            config and the tokenizer alone are fetched.

    Returns:
        Path of an existing directory.

    Raises:
        ConfigError: a malformed handle.
        CheckpointError: there is no such preset; or it is not here and cannot be fetched.
    """
    name = os.fspath(preset)
    if not name.strip():
        raise CheckpointError(
            "A preset is a directory, a catalogued name or hf://owner/name, got an empty string."
        )
    path = Path(preset)
    if not path.is_dir() and name.startswith("~"):
        path = _expanded(path)
    path = find_directory(path)
    if path.is_dir():
        return path
    if hub.is_handle(name):
        repository, revision = hub.parse_handle(name)
        return hub.fetch(repository, revision, allow_pickle=allow_pickle, weights=weights)
    if keras_hub_handles.is_handle(name):
        return keras_hub_handles.fetch_keras_hub_preset(name)
    catalog = {row.name: row for row in list_presets()}
    if name in catalog:
        return _find_catalogued(catalog[name], allow_pickle, weights)
    # Of Google's bert_model.ckpt, all files have a longer name.
    longer = path.parent.glob(f"{glob.escape(path.name)}.*") if path.suffix else ()
    if path.is_file() or any(longer):
        raise CheckpointError(
            f"{name!r} is one file of a checkpoint. Give its directory: {os.fspath(path.parent)!r}."
        )
    if hub.is_repository(name):
        raise CheckpointError(
            f"There is no directory {name!r}. Did you mean the repository of the Hugging Face hub, "
            f"{hub.PREFIX}{name}?"
        )
    close = difflib.get_close_matches(name, catalog, n=3)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise CheckpointError(
        f"{name!r} is neither a directory nor a catalogued preset.{hint} `keras-bert-zoo presets` "
        "lists the names; hf://owner/name takes any repository of the Hugging Face hub."
    )


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # no such user
        return path


def installed_directory(preset: Preset) -> Path | None:
    """Where the Python package that carries a preset has it; None: it is not installed."""
    if not preset.package:
        return None
    # find_spec locates the package without running its code.
    spec = importlib.util.find_spec(preset.package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / preset.package_directory


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
            f"not installed. Install it with: {preset.install}. The hub did not help: {error}"
        ) from None


def load_tokenizer(preset: str | os.PathLike[str]) -> Tokenizer:
    """Loads the tokenizer of a preset; of a repository on the hub no weights are fetched.

    Args:
        preset: see `find_preset`.

    Returns:
        Tokenizer.

    Raises:
        CheckpointError: there is no such preset.
        ConfigError: a kind of tokenizer or an option that is not supported.
    """
    from keras_bert_zoo.checkpoints.keras_hub import tokenizers as keras_hub_tokenizers
    from keras_bert_zoo.checkpoints.source import CONFIG_FILE, is_keras_hub_config, read_json
    from keras_bert_zoo.text.registry import load_tokenizer_directory

    directory = find_preset(preset, weights=False)
    config = directory / CONFIG_FILE
    if not config.is_file() or not is_keras_hub_config(read_json(config)):
        return load_tokenizer_directory(directory)
    with tempfile.TemporaryDirectory(prefix="keras_bert_zoo_") as folder:
        keras_hub_tokenizers.materialise_tokenizer(directory, folder)
        return load_tokenizer_directory(folder)


def find_tokenizer(directory: Path) -> Tokenizer | None:
    """Loads a directory's tokenizer for a model that is to be saved with it.

    Args:
        directory: of a checkpoint.

    Returns:
        Tokenizer; None where there is none, or, with a warning, where it cannot be loaded.
    """
    try:
        return load_tokenizer(directory)
    except BertZooError as error:
        if any(next(directory.glob(pattern), None) for pattern in hub.TOKENIZERS):
            _logger.warning("%s: its tokenizer is not kept: %s", directory, error)
        return None


def load_encoder(
    preset: str | os.PathLike[str],
    *,
    pooler: bool | None = None,
    allow_pickle: bool = False,
    ignore_config_keys: Iterable[str] = (),
    **kwargs: Any,
) -> Encoder:
    """Builds a preset's encoder and loads its weights, strictly.

    Args:
        preset: see `find_preset`.
        pooler: bool or None. None: as the checkpoint has it.
        allow_pickle: bool. Whether a pytorch_model.bin may be read; see `open_checkpoint`.
        ignore_config_keys: config.json keys to leave unread although they are unknown.
        **kwargs: further options of the encoder's constructor.

    Returns:
        Encoder.

    Raises:
        ConfigError: the config asks for something unsupported.
        CheckpointError: the preset is not there, or its tensors do not fit the model.
    """
    from keras_bert_zoo.checkpoints.assign import assign_tensors
    from keras_bert_zoo.checkpoints.names import names_of
    from keras_bert_zoo.checkpoints.source import open_checkpoint, read_config
    from keras_bert_zoo.encoders.encoder import check_dtype
    from keras_bert_zoo.encoders.registry import build_encoder
    from keras_bert_zoo.layers.initializers import untouched_weights
    from keras_bert_zoo.presets.fit import check_fit, encoder_shapes, pooler_shapes

    check_dtype(kwargs.get("dtype"))
    directory = find_preset(preset, allow_pickle=allow_pickle)
    ignored = tuple(ignore_config_keys)
    raw = read_config(directory)
    config = EncoderConfig.from_huggingface(raw, ignore=ignored)
    family = names_of(config)
    with open_checkpoint(directory, allow_pickle=allow_pickle) as tensors:
        found = find_pooler(family, tensors)
        if found is None and not config.pooler_is_learned(kwargs.get("pooled_for", "")):
            found = ""
        if pooler and found is None:
            raise CheckpointError(
                f"{tensors.path} has no pooler ({_pooler_hint(family)}). Load it with "
                "`pooler=False`."
            )
        if pooler is None:
            pooler = found is not None
        names, unread = encoder_names(family, config, tensors, pooler=pooler, head=found or "")
        shapes = encoder_shapes(config)
        if pooler:
            shapes |= pooler_shapes(config, kwargs.get("pooled_for", ""))
        check_fit(tensors, shapes, names, allow_unread=unread)
        with untouched_weights():  # every one of them is assigned below
            encoder = build_encoder(config, pooler=pooler, **kwargs)
        assign_tensors(tensors, encoder.weights, names, allow_unread=unread)
    kept = other_keys(raw, config, ignored)
    encoder.other_config = {key: kept[key] for key in kept if key not in LABEL_KEYS}
    encoder.tokenize_with(partial(find_tokenizer, directory))
    return encoder


def find_pooler(family: FamilyNames, tensors: TensorSource) -> str | None:
    """The head under whose name a file holds a pooler, "" for the bare encoder's; None: no pooler.

    Half a pooler counts as one, so that the missing half is reported.
    """
    prefix = family.prefix_of(tensors.names())
    for head in family.poolers:
        table = family.in_file(family.poolers[head], prefix)
        if any(name in tensors for name in table.values()):
            return head
    return None


def _pooler_hint(family: FamilyNames) -> str:
    names = [name for table in family.poolers.values() for name in list(table.values())[:1]]
    return " or ".join(names) or "the family has none"


def encoder_names(
    family: FamilyNames, config: EncoderConfig, tensors: TensorSource, *, pooler: bool, head: str
) -> tuple[dict[str, str], list[str]]:
    """Where an open file has an encoder's weights; tensors of heads are left unread.

    Args:
        family: the family's names.
        config: EncoderConfig.
        tensors: an open file.
        pooler: bool. Whether the encoder has a pooler.
        head: whose pooler to read; see `FamilyNames.poolers`.

    Returns:
        dict, variable path -> tensor name; and patterns of the tensors that may be left over.
    """
    prefix = family.prefix_of(tensors.names())
    table = family.encoder(config)
    if pooler:
        table |= family.pooler(head)
    return family.in_file(table, prefix), [*family.ignored, *family.head_patterns(prefix)]


def other_keys(
    raw: Mapping[str, Any], config: EncoderConfig, ignored: Iterable[str] = ()
) -> dict[str, Any]:
    """What a config.json says beyond the encoder and beyond the file it came with.

    Args:
        raw: dict, the contents of config.json.
        config: EncoderConfig, what was read of it.
        ignored: keys that were not to be read.

    Returns:
        dict: labels, ids of special tokens, ...; to be written with the encoder's part again.
    """
    read = {*config.to_huggingface(), *config.names, *config.aliases}
    skipped = {*ignored, *_OF_THE_FILE, *read}
    return {key: value for key, value in raw.items() if key not in skipped}
