"""Translators on disk, in the format of transformers' EncoderDecoderModel; and their beginnings."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_bert_zoo.checkpoints.assign import assign, match, write_tensors
from keras_bert_zoo.checkpoints.config_file import read_config
from keras_bert_zoo.checkpoints.formats import open_checkpoint
from keras_bert_zoo.checkpoints.names.bert import MASKED_LM
from keras_bert_zoo.checkpoints.names.encoder_decoder import (
    ARCHITECTURE,
    IGNORED,
    MODEL_TYPE,
    decoder_names,
    encoder_names,
)
from keras_bert_zoo.config import EncoderConfig, is_integer, is_number
from keras_bert_zoo.directories.replacing import find_directory, replace_directory
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.encoders.registry import build_encoder, encoder_shapes
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.files import SIDE_FILE, read_json, write_json
from keras_bert_zoo.heads.decoder import TransformerDecoder
from keras_bert_zoo.heads.kinds import head_shapes
from keras_bert_zoo.layers.initializers import untouched_weights
from keras_bert_zoo.presets.headed import load_headed
from keras_bert_zoo.presets.io import find_preset, load_encoder, load_tokenizer
from keras_bert_zoo.schema import NULL, Schema, check, integer, number
from keras_bert_zoo.tasks.files import read_side_file
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.text.trimming import trimmed_tokenizer

_logger = logging.getLogger(__name__)

TARGET_TOKENIZER = "target_tokenizer"
"""The folder with the tokenizer of the translations, where it is another than that of the texts."""
MOST_BEAMS = 64
_GENERATION_FILE = "generation_config.json"
# Of transformers' search, what this one has not, with the values that change nothing.
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
_OF_TOKENS = ("embeddings/token_table", "masked_lm/bias")


def load_or_start(
    directory: Path,
    tokenizer: Tokenizer,
    *,
    new_decoder: bool | None,
    start: Mapping[str, Any],
    **options: Any,
) -> tuple[Encoder, TransformerDecoder, Tokenizer, dict[str, Any]]:
    """Loads a saved translator, or gives an encoder a new decoder.

    Args:
        directory: of a whole translator or of an encoder.
        tokenizer: Tokenizer of the directory.
        new_decoder: bool. None: unless there is one.
        start: options of `start_decoder`, all of them None for a saved one.
        **options: `allow_pickle`, `ignore_config_keys` and `dtype`.

    Returns:
        Encoder, TransformerDecoder, the Tokenizer of the translations, and what is saved of a
        translator's options.

    Raises:
        ConfigError: options that contradict the directory, or a config that is not supported.
        CheckpointError: tensors do not fit, or there is no decoder to load.
    """
    raw = read_config(directory)
    has_decoder = raw.get("model_type") == MODEL_TYPE
    if new_decoder is None:
        new_decoder = not has_decoder
    if new_decoder:
        if has_decoder:
            raise ConfigError(
                f"{directory} is a whole translator: for a new decoder, name its encoder's own "
                "preset."
            )
        encoder = load_encoder(directory, pooler=False, **options)
        decoder, target_tokenizer = start_decoder(encoder, tokenizer, **start, **options)
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
    encoder, decoder = load_translator(directory, raw, **options)
    folder = directory / TARGET_TOKENIZER
    target_tokenizer = load_tokenizer(folder) if folder.is_dir() else tokenizer
    side = read_side_file(directory)
    if "num_beams" not in side:  # written by transformers
        side = _generation_options(directory, raw, target_tokenizer) | side
    return encoder, decoder, target_tokenizer, side


# === Beginnings ===


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
    """Makes a decoder out of a BERT, as "BERT2BERT" does.

    Self-attention, feed-forward parts and embeddings are the checkpoint's, the head for masked
    language modelling, too, where it has one; attention over the encoder starts at random.

    Args:
        encoder: Encoder of the translator.
        tokenizer: Tokenizer of the texts.
        target: where the decoder comes from: a preset of the family "bert"; a tokenizer, or a
            directory with nothing but one: then the blocks are the encoder's, and the embeddings of
            tokens that both vocabularies have; or None: the encoder and its tokenizer.
        target_texts: list of str. The vocabulary keeps the tokens alone that these take; None: all.
        num_layers: int. Of the blocks so many, evenly spaced; None: all.
        dropout: float. None: as the checkpoint has it.
        allow_pickle: bool. See `find_preset`.
        ignore_config_keys: of the target's config.json.
        dtype: Keras dtype policy.

    Returns:
        TransformerDecoder, and the Tokenizer of the translations.

    Raises:
        ConfigError: another family than BERT, more blocks than there are, or a vocabulary that
            cannot be trimmed.
        CheckpointError: there is no such preset.

    Source: arXiv 1907.12461.
    """
    source, lm_head, target_tokenizer = encoder, None, tokenizer
    known = tokenizer  # whose tokens the source has embeddings of
    if isinstance(target, Tokenizer):
        target_tokenizer = target
    elif target is not None:
        directory = find_preset(target, allow_pickle=allow_pickle)
        target_tokenizer = load_tokenizer(directory)
        if (directory / "config.json").is_file():
            source, lm_head = _load_bert(directory, allow_pickle, ignore_config_keys)
            known = target_tokenizer
    if target_texts is not None:
        target_tokenizer = trimmed_tokenizer(target_tokenizer, target_texts)
    config = source.config
    if config.family != "bert":
        raise ConfigError(
            f"A decoder is started from a BERT, got {config.family!r}: name a preset of that "
            "family as `target`."
        )
    count = config.num_layers if num_layers is None else num_layers
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= config.num_layers:
        raise ConfigError(
            f"The decoder may have 1 to {config.num_layers} layers, as many as what it starts "
            f"from, got {num_layers!r}."
        )
    rates: dict[str, Any] = (
        {} if dropout is None else {"dropout": dropout, "attention_dropout": dropout}
    )
    same = target_tokenizer is known
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
    chosen = np.linspace(0, config.num_layers - 1, count).round().astype(int)
    values = {variable.path: variable for variable in source.weights}
    if lm_head is not None:
        values |= {variable.path: variable for variable in lm_head.weights}
    for variable in decoder.weights:
        path = variable.path.removeprefix("decoder/")
        block, slash, rest = path.partition("/")
        if block.startswith("block_"):
            path = f"block_{chosen[int(block.removeprefix('block_'))]}{slash}{rest}"
        if path not in values:
            continue
        if path in _OF_TOKENS and not same:
            _copy_rows(variable, values[path], target_tokenizer, known)
        else:
            variable.assign(values[path])
    return decoder, target_tokenizer


def copy_decoder(decoder: TransformerDecoder, dtype: str) -> TransformerDecoder:
    """A decoder with the same weights that computes in another dtype.

    Args:
        decoder: TransformerDecoder.
        dtype: Keras dtype policy.

    Returns:
        TransformerDecoder.
    """
    with untouched_weights():
        copy = TransformerDecoder(decoder.config, memory_dim=decoder.memory_dim, dtype=dtype)
        copy.build()
    for ours, theirs in zip(copy.weights, decoder.weights, strict=True):
        ours.assign(theirs)
    return copy


def _copy_rows(ours: Any, theirs: Any, target: Tokenizer, known: Tokenizer) -> None:
    """Takes what two vocabularies share of a table with a row a token."""
    values, rows = np.array(ours.value), np.asarray(theirs.value)
    places = {token: place for place, token in enumerate(known.vocabulary)}
    for index, token in enumerate(target.vocabulary):
        if token in places:
            values[index] = rows[places[token]]
    ours.assign(values)


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
    encoder, heads, _ = load_headed(directory, ("masked_lm",), **options)
    head = heads["masked_lm"]
    return encoder, head if head.tied else None


# === Saved translators ===


def load_translator(
    directory: Path,
    raw: Mapping[str, Any],
    *,
    allow_pickle: bool = False,
    ignore_config_keys: Iterable[str] = (),
    dtype: Any = None,
) -> tuple[Encoder, TransformerDecoder]:
    """Loads an EncoderDecoderModel, strictly.

    Args:
        directory: path.
        raw: its config.json.
        allow_pickle: bool. See `open_checkpoint`.
        ignore_config_keys: of both configs, keys to leave unread although they are unknown.
        dtype: Keras dtype policy.

    Returns:
        Encoder and TransformerDecoder.

    Raises:
        ConfigError: a config that is not supported.
        CheckpointError: the tensors do not fit.
    """
    encoder_config, decoder_config = _configs(raw, frozenset(ignore_config_keys))
    projected = encoder_config.hidden_dim != decoder_config.hidden_dim
    names = encoder_names(encoder_config) | decoder_names(decoder_config, projected=projected)
    shapes = encoder_shapes(encoder_config) | _decoder_shapes(encoder_config, decoder_config)
    with open_checkpoint(directory, allow_pickle=allow_pickle) as tensors:
        plan = match(tensors, shapes, names, allow_unread=IGNORED)
        with untouched_weights():
            encoder = build_encoder(encoder_config, pooler=False, dtype=dtype)
            decoder = TransformerDecoder(
                decoder_config, memory_dim=encoder_config.hidden_dim, dtype=dtype
            )
            decoder.build()
        variables = [*encoder.weights, *decoder.weights]
        assign(plan, variables)
    return encoder, decoder


def _configs(
    raw: Mapping[str, Any], ignored: frozenset[str]
) -> tuple[EncoderConfig, EncoderConfig]:
    parts = []
    for name in ("encoder", "decoder"):
        part = raw.get(name)
        if not isinstance(part, Mapping):
            raise ConfigError(
                f"config.json of an {MODEL_TYPE} model must hold `{name}`, an object."
            )
        parts.append(dict(part))
    for key in ("is_decoder", "add_cross_attention"):
        if parts[1].pop(key, False) is not True:
            raise ConfigError(f"The decoder's config must say `{key}`: true.")
    if raw.get("tie_encoder_decoder") or parts[1].get("tie_word_embeddings") is False:
        raise ConfigError(
            "A decoder that shares the encoder's weights (`tie_encoder_decoder`), or whose last "
            "kernel is not its token embedding (`tie_word_embeddings`: false), is not supported."
        )
    encoder, decoder = (EncoderConfig.from_huggingface(part, ignore=ignored) for part in parts)
    if decoder.family != "bert":
        raise ConfigError(f"The decoder must be a BERT, got {decoder.family!r}.")
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


def _generation_options(
    directory: Path, raw: Mapping[str, Any], tokenizer: Tokenizer
) -> dict[str, Any]:
    """How transformers would search: `num_beams`, `length_penalty`, `max_target_length`.

    Args:
        directory: path.
        raw: its config.json, in which older versions wrote it.
        tokenizer: Tokenizer of the translations.

    Returns:
        dict with those that are said and of sense. Without a word, transformers searches greedily.

    Raises:
        ConfigError: translations begin or end with other tokens than the tokenizer's.
    """
    path = directory / _GENERATION_FILE
    said = {**raw, **(read_json(path) if path.exists() else {})}
    check(said, _GENERATION_SCHEMA, str(path if path.exists() else directory / "config.json"))
    for key, token_id in _special_ids(tokenizer).items():
        found = said.get(key)
        if found not in (None, token_id, [token_id]):
            raise ConfigError(
                f"{directory}: `{key}` is {found!r:.80}, but {token_id} is the tokenizer's "
                f"{tokenizer.id_to_token(token_id)}. Other tokens are not supported there."
            )
    others = [key for key, values in _NEUTRAL.items() if said.get(key) not in values]
    if others:
        _logger.warning(
            "%s asks for a search that is not here (%s): translations may differ from those of "
            "transformers",
            directory,
            ", ".join(f"{key}={said[key]!r:.40}" for key in others),
        )
    options: dict[str, Any] = {"num_beams": 1}
    if is_integer(said.get("num_beams")) and 1 <= said["num_beams"] <= MOST_BEAMS:
        options["num_beams"] = said["num_beams"]
    if is_number(said.get("length_penalty")):
        options["length_penalty"] = float(said["length_penalty"])
    for key, more in (("max_length", 1), ("max_new_tokens", 0)):  # of max_length, [CLS] is one
        if is_integer(said.get(key)) and said[key] - more >= 1:
            options["max_target_length"] = said[key] - more
    return options


def _special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """What transformers calls the tokens with which a translation begins, ends and is padded."""
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
    """Writes an EncoderDecoderModel, aside and renamed.

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
        CheckpointError: it cannot be written, or is there and not to be replaced.
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
