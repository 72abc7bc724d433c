"""Builds the decoder of a translator from a BERT."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_bert_zoo.checkpoints.formats import open_checkpoint
from keras_bert_zoo.checkpoints.names.bert import MASKED_LM
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.heads.decoder import TransformerDecoder
from keras_bert_zoo.presets.encoder_files import load_encoder
from keras_bert_zoo.presets.load import load
from keras_bert_zoo.presets.resolve import find_preset, load_tokenizer
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.text.trimming import trimmed_tokenizer

__all__ = ["start_decoder"]

_TOKEN_VARIABLES = ("embeddings/token_table", "masked_lm/bias")


def start_decoder(
    encoder: Encoder,
    tokenizer: Tokenizer,
    target: str | os.PathLike[str] | Tokenizer | None,
    *,
    target_texts: Sequence[str] | None = None,
    num_layers: int | None = None,
    dropout: float | None = None,
    allow_pickle: bool = False,
    ignore_config_keys: Iterable[str] = (),
    dtype: Any = None,
) -> tuple[TransformerDecoder, Tokenizer]:
    """Builds a decoder from a BERT, as "BERT2BERT" does.

    Self-attention, feed-forward layers, embeddings and the masked LM head, if the checkpoint has
    one, keep their weights. Attention over the encoder's states starts from random weights.

    Args:
        encoder: Encoder of the translator.
        tokenizer: Tokenizer of the texts.
        target: the source of the decoder: a preset of the family "bert"; a Tokenizer, or a
            directory that contains only a tokenizer, for the encoder's blocks and the embeddings of
            tokens that both vocabularies have; None: the encoder and its tokenizer.
        target_texts: list of str. The vocabulary keeps only the tokens of these texts; None: all.
        num_layers: int. Number of blocks, evenly spaced in the source; None: all.
        dropout: float. None: as in the source.
        allow_pickle: bool. See `find_preset`.
        ignore_config_keys: keys of the target's config.json to ignore.
        dtype: Keras dtype policy.

    Returns:
        TransformerDecoder, and the Tokenizer of the translations.

    Raises:
        ConfigError: a family other than BERT, more blocks than the source has, or a vocabulary that
            cannot be trimmed.
        CheckpointError: the preset is missing.

    Source: arXiv 1907.12461.
    """
    source, lm_head, target_tokenizer = encoder, None, tokenizer
    source_tokenizer = tokenizer
    if isinstance(target, Tokenizer):
        target_tokenizer = target
    elif target is not None:
        directory = find_preset(target, allow_pickle=allow_pickle)
        target_tokenizer = load_tokenizer(directory)
        if (directory / "config.json").is_file():
            source, lm_head = _load_bert(directory, allow_pickle, ignore_config_keys)
            source_tokenizer = target_tokenizer
    if target_texts is not None:
        target_tokenizer = trimmed_tokenizer(target_tokenizer, target_texts)
    config = source.config
    if config.family != "bert":
        raise ConfigError(
            f"Expected a BERT to start a decoder from, received {config.family!r}. Pass a preset "
            "of the family 'bert' as `target`."
        )
    count = config.num_layers if num_layers is None else num_layers
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= config.num_layers:
        raise ConfigError(
            f"Expected 1 to {config.num_layers} decoder layers, as the source has, received "
            f"{num_layers!r}."
        )
    rates: dict[str, Any] = (
        {} if dropout is None else {"dropout": dropout, "attention_dropout": dropout}
    )
    same = target_tokenizer is source_tokenizer
    decoder = TransformerDecoder(
        dataclasses.replace(
            config,
            num_layers=count,
            vocabulary_size=(config.vocabulary_size if same else target_tokenizer.vocabulary_size),
            pad_token_id=target_tokenizer.pad_token_id,
            tie_word_embeddings=True,
            **rates,
        ),
        memory_dim=encoder.config.hidden_dim,
        dtype=dtype,
    )
    decoder.build()
    blocks = np.linspace(0, config.num_layers - 1, count).round().astype(int)
    values = {variable.path: variable for variable in source.weights}
    if lm_head is not None:
        values |= {variable.path: variable for variable in lm_head.weights}
    for variable in decoder.weights:
        path = variable.path.removeprefix("decoder/")
        block, slash, rest = path.partition("/")
        if block.startswith("block_"):
            path = f"block_{blocks[int(block.removeprefix('block_'))]}{slash}{rest}"
        if path not in values:
            continue
        if path in _TOKEN_VARIABLES and not same:
            _copy_rows(variable, values[path], target_tokenizer, source_tokenizer)
        else:
            variable.assign(values[path])
    return decoder, target_tokenizer


def _copy_rows(variable: Any, source: Any, target: Tokenizer, source_tokenizer: Tokenizer) -> None:
    """Copies the rows of tokens that both vocabularies have."""
    values, rows = np.array(variable.value), np.asarray(source.value)
    places = {token: place for place, token in enumerate(source_tokenizer.vocabulary)}
    for index, token in enumerate(target.vocabulary):
        if token in places:
            values[index] = rows[places[token]]
    variable.assign(values)


def _load_bert(
    directory: Path, allow_pickle: bool, ignore_config_keys: Iterable[str]
) -> tuple[Encoder, Any]:
    with open_checkpoint(directory, allow_pickle=allow_pickle) as tensors:
        has_head = MASKED_LM["masked_lm/transform/kernel"] in tensors
    options: dict[str, Any] = {
        "allow_pickle": allow_pickle,
        "ignore_config_keys": ignore_config_keys,
    }
    if not has_head:
        return load_encoder(directory, pooler=False, **options), None
    encoder, heads, _ = load(directory, ("masked_lm",), **options)
    head = heads["masked_lm"]
    return encoder, head if head.tied else None
