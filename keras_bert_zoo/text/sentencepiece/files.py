"""Reads and writes a unigram tokenizer directory in Hugging Face's format.

All options of a tokenizer.json apply, as in `tokenizers`. (Some classes of transformers 5 read only
its pieces and set another normalizer. The file has the options of the model's training.) Without
tokenizer.json, SentencePiece's model file is read for the class that the directory names, as in
transformers 5.

Options that `SentencePieceTokenizer` does not support raise an error that names them.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.files import SENTENCEPIECE_FILES
from keras_bert_zoo.text import added_tokens, tokenizer_config
from keras_bert_zoo.text.added_tokens import NAMED
from keras_bert_zoo.text.post_processor import read_template, template_of, write_template
from keras_bert_zoo.text.sentencepiece import families
from keras_bert_zoo.text.sentencepiece.options import SPACE_SIGN, SentencePieceOptions
from keras_bert_zoo.text.special_tokens import AddedToken
from keras_bert_zoo.text.vocabulary_files import (
    dump_json,
    exists,
    read_bytes,
    read_json,
    write_files,
)

Pieces = list[tuple[str, float]]
ModelFile = tuple[str, bytes]

_CONFIG_KEYS = (
    "keep_accents", "remove_space", "sp_model_kwargs", "split_by_punct", "trim_offsets", "unk_id",
    "vocab_type",
)  # fmt: skip
_DEFAULT_NAMES = {"pad_token": ("<pad>", "[PAD]"), "mask_token": ("<mask>", "[MASK]")}


def read_directory(
    directory: str | os.PathLike[str],
) -> tuple[Pieces, SentencePieceOptions, ModelFile | None]:
    """Reads a Hugging Face directory.

    Args:
        directory: has tokenizer.json or a SentencePiece model file.

    Returns:
        list of (str, float), the pieces with their scores; SentencePieceOptions; the name and the
        bytes of the model file, or None.

    Raises:
        ConfigError: a file is missing or damaged, or has an unsupported option.
    """
    folder = pathlib.Path(directory)
    path = folder / "tokenizer_config.json"
    config, fast = read_json(path), read_json(folder / "tokenizer.json")
    tokenizer_config.check_config(config, _CONFIG_KEYS, path)
    kwargs = config.get("sp_model_kwargs")
    if kwargs:
        raise ConfigError(
            f"Expected no sp_model_kwargs in {path}, received {kwargs!r:.80}. They are not "
            "supported."
        )
    tokenizer_config.check_sides(config, fast, folder)
    models = [name for name in SENTENCEPIECE_FILES if exists(folder / name)]
    if not models and not fast:
        models = sorted(path.name for path in folder.glob("*.model") if path.is_file())
    if len(models) > 1:
        raise ConfigError(
            f"Expected one SentencePiece model in {folder}, received {models}. Delete the files "
            "that do not belong to the model."
        )
    if fast:
        pieces, options = _from_fast(folder, fast, config)
    elif models:
        pieces, options = families.from_model(folder, folder / models[0], config)
    else:
        raise ConfigError(
            f"Expected tokenizer.json or one of {', '.join(SENTENCEPIECE_FILES)} in {folder}, "
            "received none. Copy one from the checkpoint."
        )
    options["max_length"] = tokenizer_config.max_length(config, path)
    tokenizer_config.check_padding(options["pad_token"], folder, config, fast)
    model_file = (models[0], read_bytes(folder / models[0])) if models else None
    return pieces, SentencePieceOptions(**options), model_file


def _from_fast(
    folder: pathlib.Path, fast: Mapping[str, Any], config: Mapping[str, Any]
) -> tuple[Pieces, dict[str, Any]]:
    """Reads the pieces and the options of a tokenizer.json."""
    path = folder / "tokenizer.json"
    try:
        pieces, options = _model_options(fast["model"], path)
        options.update(_word_options(fast.get("pre_tokenizer"), path))
        _check_decoder(fast.get("decoder"), options["prefix"], path)
        template = read_template(fast.get("post_processor"), path)
        if template is None or template.trim_offsets:
            raise ConfigError(
                f"Expected a TemplateProcessing post_processor in {path}, received "
                f"{fast.get('post_processor')!r:.80}. Others are not supported."
            )
        options["normalizer"] = fast.get("normalizer")
        added = added_tokens.read_added_tokens(folder, config, fast)
        names = {
            key: AddedToken(token) if isinstance(token, str) else token
            for key, token in added_tokens.named_tokens(folder, config, NAMED).items()
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise ConfigError(
            f"Expected a tokenizer in the format of `tokenizers` in {path}, received another "
            f"structure ({type(error).__name__}: {error}). Save the tokenizer again."
        ) from error
    ids = {piece: i for i, (piece, _) in enumerate(pieces)}
    unk_token = options["unk_token"]
    named = names.get("unk_token")
    if named is not None and named.content != unk_token:
        raise ConfigError(
            f"Expected unk_token {unk_token!r}, the piece of unk_id in {path}, received "
            f"{named.content!r}. Correct {folder / 'tokenizer_config.json'}."
        )
    options["cls_token"], options["sep_token"] = template.cls_token, template.sep_token
    options.update(dataclasses.asdict(template.packing))
    for key, defaults in _DEFAULT_NAMES.items():
        if key in names:
            token = names[key]
            options[key] = None if token is None else token.content
        else:
            # A piece that is not an added token matches no text; but every batch needs padding.
            known = [*added, *ids] if key == "pad_token" else [*added]
            options[key] = next((name for name in defaults if name in known), None)
    if options["pad_token"] is None:
        raise ConfigError(
            f"Expected a pad_token in {folder / 'tokenizer_config.json'}, received none. Set it."
        )
    options["added_tokens"] = added_tokens.with_flags(added, names, ids)
    ids |= {token.content: token.id for token in options["added_tokens"] if token.id is not None}
    template.check_ids(ids, path)
    return pieces, options


def _model_options(model: Mapping[str, Any], path: pathlib.Path) -> tuple[Pieces, dict[str, Any]]:
    """Reads the pieces and the options of the model in a tokenizer.json."""
    unknown = sorted(set(model) - {"type", "unk_id", "vocab", "byte_fallback"})
    if model.get("type", "Unigram") != "Unigram" or unknown:
        raise ConfigError(
            f"Expected a Unigram model in {path}, received {model.get('type')!r:.80}"
            + (f" with the options {unknown[:5]!s:.200}." if unknown else ".")
        )
    pieces = []
    for entry in model["vocab"]:
        piece, score = entry if isinstance(entry, list) and len(entry) == 2 else (None, None)
        if (
            not isinstance(piece, str)
            or isinstance(score, bool)
            or not isinstance(score, int | float)
        ):
            raise ConfigError(f"Expected pieces with scores in {path}, received {entry!r:.80}.")
        pieces.append((piece, float(score)))
    unk_id = model.get("unk_id")
    if not isinstance(unk_id, int) or isinstance(unk_id, bool) or not 0 <= unk_id < len(pieces):
        raise ConfigError(
            f"Expected an unk_id below {len(pieces)}, the number of pieces, in {path}, received "
            f"{unk_id!r:.80}."
        )
    fallback = tokenizer_config.read_flag(model, "byte_fallback", path, default=False)
    return pieces, {"unk_token": pieces[unk_id][0], "byte_fallback": fallback}


def _word_options(splitter: Any, path: pathlib.Path) -> dict[str, Any]:
    """Reads the options of the pre-tokenizer in a tokenizer.json."""
    steps = [dict(step) for step in _sequence(splitter)]
    options: dict[str, Any] = {}
    kinds = [step.pop("type") for step in steps]
    rest = list(zip(kinds, steps, strict=True))
    options["split_at_whitespace"] = bool(rest) and rest[0] == ("WhitespaceSplit", {})
    if options["split_at_whitespace"]:
        rest.pop(0)
    options["split_at_punctuation"] = bool(rest) and rest[0] == (
        "Punctuation",
        {"behavior": "Isolated"},
    )
    if options["split_at_punctuation"]:
        rest.pop(0)
    if len(rest) != 1 or rest[0][0] != "Metaspace":
        raise ConfigError(
            "Expected a pre_tokenizer of an optional WhitespaceSplit, an optional Punctuation "
            f"(Isolated) and Metaspace in {path}, received {kinds}. Others are not supported."
        )
    options["prefix"], options["split_at_spaces"] = _metaspace(rest[0][1], path)
    return options


def _sequence(splitter: Any) -> list[Mapping[str, Any]]:
    """Returns the steps of a pre-tokenizer, from nested sequences, too."""
    if splitter is None:
        return []
    if splitter["type"] != "Sequence":
        return [splitter]
    return [step for part in splitter["pretokenizers"] for step in _sequence(part)]


def _metaspace(options: Mapping[str, Any], path: pathlib.Path) -> tuple[Any, bool]:
    """Reads `prefix` and `split_at_spaces` of a Metaspace entry."""
    unknown = set(options) - {
        "replacement", "str_rep", "add_prefix_space", "prepend_scheme", "split",
    }  # fmt: skip
    prefix = options.get("prepend_scheme", "always")
    split = options.get("split", True)
    # Older files have add_prefix_space, which only overrides the default.
    space = options.get("add_prefix_space", prefix != "never")
    if (
        unknown
        or options.get("replacement") != SPACE_SIGN
        or options.get("str_rep", SPACE_SIGN) != SPACE_SIGN
        or prefix not in ("always", "first", "never")
        or not isinstance(split, bool)
        or not isinstance(space, bool)
        or ("prepend_scheme" in options and space != (prefix != "never"))
    ):
        raise ConfigError(
            f"Expected Metaspace with replacement, prepend_scheme and split in {path}, received "
            f"{dict(options)!r:.200}."
        )
    return (prefix if space else "never"), split


def _check_decoder(decoder: Any, prefix: str, path: pathlib.Path) -> None:
    """Raises ConfigError if the decoder differs from `detokenize`."""
    if not decoder or decoder["type"] != "Metaspace":
        raise ConfigError(f"Expected a Metaspace decoder in {path}, received {decoder!r:.80}.")
    options = {key: value for key, value in decoder.items() if key != "type"}
    if (_metaspace(options, path)[0] == "never") != (prefix == "never"):
        raise ConfigError(
            f"Expected a decoder that removes the pre_tokenizer's prefix in {path}, received "
            f"{decoder!r:.200}."
        )


def write_directory(
    directory: str | os.PathLike[str],
    pieces: Sequence[tuple[str, float]],
    options: SentencePieceOptions,
    model_file: ModelFile | None,
) -> None:
    """Writes files that `transformers.AutoTokenizer` loads as the same tokenizer.

    Writes a tokenizer.json for the generic class, which uses it without changes, and the
    SentencePiece model file if the tokenizer was read with one.

    Args:
        directory: created if it is missing.
        pieces: the pieces with their scores.
        options: with ids in `added_tokens`.
        model_file: the name and the bytes of the model file, or None.
    """
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **added_tokens.config_entries(options),
    }
    segments = [] if options.second_segment_id == 0 else ["token_type_ids"]
    config["model_input_names"] = ["input_ids", *segments, "attention_mask"]
    contents = {
        "tokenizer.json": dump_json(tokenizer_json(pieces, options), indent=1),
        "tokenizer_config.json": dump_json(config, indent=1),
    }
    if model_file is not None:
        name, content = model_file
        contents[name] = content
    stale = (*SENTENCEPIECE_FILES, "special_tokens_map.json", "added_tokens.json")
    write_files(directory, contents, stale)


def tokenizer_json(
    pieces: Sequence[tuple[str, float]], options: SentencePieceOptions
) -> dict[str, Any]:
    """Returns the contents of a tokenizer.json; `added_tokens` of the options must have ids."""
    metaspace = {
        "type": "Metaspace",
        "replacement": SPACE_SIGN,
        "prepend_scheme": options.prefix,
        "split": options.split_at_spaces,
    }
    splitters: list[dict[str, Any]] = []
    if options.split_at_whitespace:
        splitters.append({"type": "WhitespaceSplit"})
    if options.split_at_punctuation:
        splitters.append({"type": "Punctuation", "behavior": "Isolated"})
    unk_id = [piece for piece, _ in pieces].index(options.unk_token)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": token.id, **token.to_json()} for token in options.added_by_id],
        "normalizer": options.normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*splitters, metaspace]},
        "post_processor": write_template(template_of(options)),
        "decoder": metaspace,
        "model": {
            "type": "Unigram",
            "unk_id": unk_id,
            "vocab": [list(piece) for piece in pieces],
            "byte_fallback": options.byte_fallback,
        },
    }
