"""Loads and saves translators in the format of transformers' EncoderDecoderModel."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_bert_zoo.checkpoints.assign import assign, match, write_tensors
from keras_bert_zoo.checkpoints.names.encoder_decoder import (
    ARCHITECTURE,
    IGNORED,
    MODEL_TYPE,
    decoder_names,
    encoder_names,
)
from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.directories.replacing import find_directory, replace_directory
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.encoders.registry import build_encoder, encoder_shapes
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.files import SIDE_FILE, read_json, write_json
from keras_bert_zoo.heads.decoder import TransformerDecoder
from keras_bert_zoo.heads.kinds import head_shapes
from keras_bert_zoo.layers.initializers import untouched_weights
from keras_bert_zoo.presets.encoder_files import load_encoder
from keras_bert_zoo.presets.resolve import Checkpoint, load_tokenizer
from keras_bert_zoo.presets.start_decoder import start_decoder
from keras_bert_zoo.schema import NULL, Schema, check, integer, number
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.validation import is_integer, is_number

_logger = logging.getLogger(__name__)

TARGET_TOKENIZER = "target_tokenizer"
"""The folder of the translations' tokenizer, if it is not the tokenizer of the texts."""
MOST_BEAMS = 64
_GENERATION_FILE = "generation_config.json"
# Options of transformers' search that are not supported, with the values that have no effect.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "bad_words_ids": (None,),
    "do_sample": (None, False),
    "early_stopping": (None, False),
    "encoder_no_repeat_ngram_size": (None, 0),
    "encoder_repetition_penalty": (None, 1.0),
    "exponential_decay_length_penalty": (None,),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "min_length": (None, 0),
    "min_new_tokens": (None, 0),
    "no_repeat_ngram_size": (None, 0),
    "num_beam_groups": (None, 1),
    "repetition_penalty": (None, 1.0),
    "suppress_tokens": (None,),
    "begin_suppress_tokens": (None,),
}
_COUNT = integer(0, 1 << 31) | NULL
_GENERATION_SCHEMA: Schema = {
    "num_beams": _COUNT,
    "length_penalty": number(-1e38, 1e38) | NULL,
    "max_length": _COUNT,
    "max_new_tokens": _COUNT,
}


def load_or_start(
    checkpoint: Checkpoint,
    *,
    new_decoder: bool | None,
    start: Mapping[str, Any],
    side: Mapping[str, Any],
    dtype: Any = None,
) -> tuple[Encoder, TransformerDecoder, Tokenizer, dict[str, Any]]:
    """Loads a saved translator, or adds a new decoder to an encoder.

    Args:
        checkpoint: Checkpoint of a translator or of an encoder.
        new_decoder: bool. None: only if the checkpoint has no decoder.
        start: options of `start_decoder`; all are None for a saved decoder.
        side: the contents of the side file.
        dtype: Keras dtype policy.

    Returns:
        Encoder, TransformerDecoder, the Tokenizer of the translations, and the saved options.

    Raises:
        ConfigError: options that contradict the directory, or a config that is not supported.
        CheckpointError: tensors do not fit, or there is no decoder to load.
    """
    directory, raw = checkpoint.directory, checkpoint.raw
    has_decoder = raw.get("model_type") == MODEL_TYPE
    if new_decoder is None:
        new_decoder = not has_decoder
    if new_decoder:
        if has_decoder:
            raise ConfigError(
                f"Expected the preset of an encoder for a new decoder, received {directory}, a "
                "whole translator. Pass the preset of its encoder."
            )
        encoder = load_encoder(checkpoint, pooler=False, dtype=dtype)
        decoder, target_tokenizer = start_decoder(
            encoder,
            checkpoint.tokenizer,
            **start,
            allow_pickle=checkpoint.allow_pickle,
            ignore_config_keys=checkpoint.ignored,
            dtype=dtype,
        )
        return encoder, decoder, target_tokenizer, {}
    if not has_decoder:
        raise CheckpointError(
            f"{directory} has no decoder for Translator. To train one, leave "
            "`new_decoder=False` out."
        )
    if any(value is not None for value in start.values()):
        raise ConfigError(
            "`target`, `target_texts`, `decoder_layers` and `decoder_dropout` are for a new "
            f"decoder; {directory} has one."
        )
    encoder, decoder = load_translator(checkpoint, dtype=dtype)
    folder = directory / TARGET_TOKENIZER
    target_tokenizer = load_tokenizer(folder) if folder.is_dir() else checkpoint.tokenizer
    saved = dict(side)
    if "num_beams" not in saved:  # written by transformers
        saved = generation_options(directory, raw, target_tokenizer) | saved
    return encoder, decoder, target_tokenizer, saved


def load_translator(
    checkpoint: Checkpoint, *, dtype: Any = None
) -> tuple[Encoder, TransformerDecoder]:
    """Loads an EncoderDecoderModel, strictly.

    Args:
        checkpoint: Checkpoint.
        dtype: Keras dtype policy.

    Returns:
        Encoder and TransformerDecoder.

    Raises:
        ConfigError: a config that is not supported.
        CheckpointError: the tensors do not fit.
    """
    encoder_config, decoder_config = read_configs(checkpoint.raw, checkpoint.ignored)
    projected = encoder_config.hidden_dim != decoder_config.hidden_dim
    names = encoder_names(encoder_config) | decoder_names(decoder_config, projected=projected)
    shapes = encoder_shapes(encoder_config) | _decoder_shapes(encoder_config, decoder_config)
    with checkpoint.open() as tensors:
        plan = match(tensors, shapes, names, allow_unread=IGNORED)
        with untouched_weights():
            encoder = build_encoder(encoder_config, pooler=False, dtype=dtype)
            decoder = TransformerDecoder(
                decoder_config, memory_dim=encoder_config.hidden_dim, dtype=dtype
            )
            decoder.build()
        assign(plan, [*encoder.weights, *decoder.weights])
    return encoder, decoder


def read_configs(
    raw: Mapping[str, Any], ignored: frozenset[str]
) -> tuple[EncoderConfig, EncoderConfig]:
    """Reads the configurations of the encoder and the decoder from config.json.

    Raises:
        ConfigError: one is missing or not supported.
    """
    parts = []
    for name in ("encoder", "decoder"):
        part = raw.get(name)
        if not isinstance(part, Mapping):
            raise ConfigError(
                f"Expected `{name}` to be an object in the config.json of an {MODEL_TYPE} model, "
                f"received {type(part).__name__}."
            )
        parts.append(dict(part))
    for key in ("is_decoder", "add_cross_attention"):
        if parts[1].pop(key, False) is not True:
            raise ConfigError(f"Expected `{key}` to be true in the decoder's config.")
    if raw.get("tie_encoder_decoder") or parts[1].get("tie_word_embeddings") is False:
        raise ConfigError(
            "Not supported: a decoder that shares the encoder's weights (`tie_encoder_decoder`) or "
            "whose last kernel is not its token embedding (`tie_word_embeddings`: false)."
        )
    encoder, decoder = (EncoderConfig.from_huggingface(part, ignore=ignored) for part in parts)
    if decoder.family != "bert":
        raise ConfigError(f"Expected a BERT as the decoder, received {decoder.family!r}.")
    return encoder, decoder


def _decoder_shapes(encoder: EncoderConfig, decoder: EncoderConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every variable of a decoder, by path."""
    shapes = encoder_shapes(decoder) | head_shapes(decoder, "masked_lm")
    width = decoder.hidden_dim
    for i in range(decoder.num_layers):
        for name in ("cross_attention/query", "cross_attention/key", "cross_attention/value",
                     "cross_output"):  # fmt: skip
            shapes[f"block_{i}/{name}/kernel"] = (width, width)
            shapes[f"block_{i}/{name}/bias"] = (width,)
        shapes[f"block_{i}/cross_norm/gamma"] = shapes[f"block_{i}/cross_norm/beta"] = (width,)
    if encoder.hidden_dim != width:
        shapes["memory_projection/kernel"] = (encoder.hidden_dim, width)
        shapes["memory_projection/bias"] = (width,)
    return {f"decoder/{path}": shape for path, shape in shapes.items()}


def generation_options(
    directory: Path, raw: Mapping[str, Any], tokenizer: Tokenizer
) -> dict[str, Any]:
    """Returns transformers' search options: `num_beams`, `length_penalty`, `max_target_length`.

    Args:
        directory: path.
        raw: its config.json, where older versions wrote them.
        tokenizer: Tokenizer of the translations.

    Returns:
        dict with the valid options. By default, transformers searches greedily.

    Raises:
        ConfigError: translations begin or end with other tokens than the tokenizer's.
    """
    path = directory / _GENERATION_FILE
    saved = {**raw, **(read_json(path) if path.exists() else {})}
    check(saved, _GENERATION_SCHEMA, str(path if path.exists() else directory / "config.json"))
    for key, token_id in _special_ids(tokenizer).items():
        value = saved.get(key)
        if value not in (None, token_id, [token_id]):
            raise ConfigError(
                f"{directory}: expected `{key}` to be {token_id}, the tokenizer's "
                f"{tokenizer.id_to_token(token_id)}, received {value!r:.80}."
            )
    others = [key for key, values in _NEUTRAL.items() if saved.get(key) not in values]
    if others:
        _logger.warning(
            "%s has unsupported search options (%s). Translations may differ from transformers.",
            directory,
            ", ".join(f"{key}={saved[key]!r:.40}" for key in others),
        )
    options: dict[str, Any] = {"num_beams": 1}
    if is_integer(saved.get("num_beams")) and 1 <= saved["num_beams"] <= MOST_BEAMS:
        options["num_beams"] = saved["num_beams"]
    if is_number(saved.get("length_penalty")):
        options["length_penalty"] = float(saved["length_penalty"])
    for key, more in (("max_length", 1), ("max_new_tokens", 0)):  # max_length counts [CLS]
        if is_integer(saved.get(key)) and saved[key] - more >= 1:
            options["max_target_length"] = saved[key] - more
    return options


def _special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """The tokens that begin, end and pad a translation, under transformers' names."""
    return {
        "decoder_start_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def save_translator(
    directory: str | os.PathLike[str],
    encoder: Encoder,
    decoder: TransformerDecoder,
    tokenizer: Tokenizer,
    target_tokenizer: Tokenizer,
    *,
    generation: Mapping[str, Any],
    side: Mapping[str, Any],
    overwrite: bool = True,
) -> None:
    """Writes an EncoderDecoderModel under another name, then renames the directory.

    Args:
        directory: path; missing, empty, or an earlier save.
        encoder: Encoder.
        decoder: TransformerDecoder.
        tokenizer: Tokenizer of the texts.
        target_tokenizer: Tokenizer of the translations.
        generation: `num_beams`, `length_penalty` and `max_target_length`.
        side: contents of `SIDE_FILE`.
        overwrite: bool. Whether to replace an earlier save.

    Raises:
        CheckpointError: it cannot be written, or it exists and `overwrite` is False.
    """
    if not overwrite and os.path.exists(find_directory(directory)):
        raise CheckpointError(f"{os.fspath(directory)!r} exists, and `overwrite` is False.")
    special = _special_ids(target_tokenizer)
    config = {
        "architectures": [ARCHITECTURE],
        "model_type": MODEL_TYPE,
        "is_encoder_decoder": True,
        "encoder": encoder.config.to_huggingface(),
        "decoder": decoder.config.to_huggingface()
        | {"is_decoder": True, "add_cross_attention": True},
        **special,
        "dtype": "float32",
    }
    search = {
        "num_beams": generation["num_beams"],
        "length_penalty": generation["length_penalty"],
        "max_new_tokens": generation["max_target_length"],
    }
    names = encoder_names(encoder.config) | decoder_names(
        decoder.config, projected=decoder.memory_projection is not None
    )
    with replace_directory(directory, CheckpointError, marker=SIDE_FILE) as aside:
        write_json(aside / "config.json", config)
        write_json(aside / _GENERATION_FILE, special | search)
        write_json(aside / SIDE_FILE, dict(side))
        tokenizer.save(aside)
        if target_tokenizer is not tokenizer:
            (aside / TARGET_TOKENIZER).mkdir()
            target_tokenizer.save(aside / TARGET_TOKENIZER)
        variables = [weight for weight in encoder.weights if weight.path in names]
        write_tensors(aside, [*variables, *decoder.weights], names)
