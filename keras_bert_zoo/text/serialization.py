"""Tokenizers in the config of a Keras model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_bert_zoo.directories.packed import pack_files, unpacked_files
from keras_bert_zoo.text.registry import load_tokenizer_directory
from keras_bert_zoo.text.tokenizer import Tokenizer

__all__ = ["tokenizer_config", "tokenizer_from_config"]


def tokenizer_config(tokenizer: Tokenizer) -> dict[str, str]:
    """Returns a tokenizer's files, as `Tokenizer.save` writes them.

    Returns:
        dict, file name -> contents, ready for JSON.

    Example:
    >>> import keras_bert_zoo as kbz
    >>> tokenizer = kbz.Tokenizer.from_preset("tests/assets/bert_gelu")
    >>> sorted(tokenizer_config(tokenizer))
    ['tokenizer_config.json', 'vocab.txt']
    """
    return pack_files(tokenizer.save)


def tokenizer_from_config(config: Mapping[str, Any]) -> Tokenizer:
    """Loads a tokenizer from its packed files.

    Args:
        config: result of `tokenizer_config`.

    Returns:
        Tokenizer.

    Raises:
        CheckpointError: `config` is not a dict of files.
        ConfigError: the files are not a supported tokenizer.
    """
    with unpacked_files(config) as folder:
        return load_tokenizer_directory(folder)
