"""Loads and saves an encoder without heads: the functions of `Encoder.from_preset` and `save`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from keras_bert_zoo.adaptation.lora import merged_lora
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.presets.load import load
from keras_bert_zoo.presets.resolve import Source
from keras_bert_zoo.presets.save import save


def load_encoder(
    preset: Source,
    *,
    pooler: bool | None = None,
    allow_pickle: bool = False,
    ignore_config_keys: Iterable[str] = (),
    **options: Any,
) -> Encoder:
    """Loads the encoder of a preset, strictly.

    Args:
        preset: see `find_preset`.
        pooler: bool. Whether the encoder gets a pooler. None follows the checkpoint.
        allow_pickle: bool. Whether a pytorch_model.bin may be read; see `open_checkpoint`.
        ignore_config_keys: keys of config.json to ignore if they are unknown or unsupported.
        **options: options of the encoder's constructor.

    Returns:
        Encoder.

    Raises:
        ConfigError: the config or an option is not supported.
        CheckpointError: the preset does not exist, or its tensors do not fit the model.

    Example:
    >>> load_encoder("tests/assets/bert_gelu", token_layout="padded").config.family
    'bert'
    """
    return load(
        preset,
        (),
        pooler=pooler,
        allow_pickle=allow_pickle,
        ignore_config_keys=ignore_config_keys,
        **options,
    ).encoder


def save_encoder(
    encoder: Encoder, directory: str | os.PathLike[str], *, overwrite: bool = True
) -> None:
    """Saves an encoder as a Hugging Face directory; see `Encoder.save`.

    Args:
        encoder: Encoder.
        directory: path of a missing directory, an empty one, or an earlier save.
        overwrite: bool. Whether to replace an earlier save.

    Raises:
        CheckpointError: the directory cannot be written, or it exists and may not be replaced.

    Example:
    >>> import os, tempfile
    >>> encoder = load_encoder("tests/assets/bert_relu_no_pooler")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_encoder(encoder, folder)
    ...     sorted(os.listdir(folder))[:2]
    ['config.json', 'keras_bert_zoo.json']
    """
    with merged_lora(encoder):
        save(
            directory,
            encoder,
            {},
            config=encoder.other_config,
            tokenizer=encoder.tokenizer,
            overwrite=overwrite,
        )
