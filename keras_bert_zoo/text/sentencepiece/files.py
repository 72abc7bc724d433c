"""The files of a unigram tokenizer in a Hugging Face directory, read and written.

A tokenizer.json is followed as it stands, as `tokenizers` does. (Some classes of transformers 5
take only the pieces from it and put in their own normalizer; what a model was trained with is what
its file says.) Where there is only SentencePiece's model file, the tokenizer is that of the class
that the directory names, as transformers 5 builds it.

What a file asks for and `SentencePieceTokenizer` does not do is refused by name, never passed over.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.files import SENTENCEPIECE_FILES
from keras_bert_zoo.text import tokenizer_files
from keras_bert_zoo.text.sentencepiece import families as sentencepiece_families
from keras_bert_zoo.text.special_tokens import AddedToken
from keras_bert_zoo.text.tokenizer_files import NAMED, Packing, Template

if TYPE_CHECKING:
    from keras_bert_zoo.text.sentencepiece.tokenizer import SentencePieceTokenizer

SPACE_SIGN = "\u2581"
# Fields of tokenizer_config.json that decide nothing about ids and offsets of texts, or are read
# elsewhere. Among them are paths, of which none is opened.
_KNOWN_FIELDS = frozenset(
    {
        "add_bos_token", "add_eos_token", "add_prefix_space", "added_tokens_decoder",
        "additional_special_tokens", "auto_map", "backend", "bos_token",
        "clean_up_tokenization_spaces", "cls_token", "do_lower_case", "eos_token",
        "extra_special_tokens", "is_local", "keep_accents", "local_files_only", "mask_token",
        "max_length", "max_len", "model_input_names", "model_max_length",
        "model_specific_special_tokens", "name_or_path", "pad_to_multiple_of", "pad_token",
        "pad_token_type_id", "padding", "padding_side", "processor_class", "remove_space",
        "sep_token", "sp_model_kwargs", "special_tokens_map_file", "split_by_punct", "stride",
        "tokenizer_class", "tokenizer_file", "transformers_version", "trim_offsets", "truncation",
        "truncation_side", "truncation_strategy", "unk_id", "unk_token", "use_fast", "verbose",
        "vocab_file", "vocab_size", "vocab_type",
    }
)  # fmt: skip
_SPECIAL_NAMES = {"pad_token": ("<pad>", "[PAD]"), "mask_token": ("<mask>", "[MASK]")}


def read_directory(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """The arguments of SentencePieceTokenizer for a Hugging Face directory.

    Returns:
        The arguments, and "model_file": the name and the bytes of SentencePiece's model file, or
        None.
    """
    folder = pathlib.Path(directory)
    config = tokenizer_files.read_json(folder / "tokenizer_config.json")
    fast = tokenizer_files.read_json(folder / "tokenizer.json")
    path = folder / "tokenizer_config.json"
    tokenizer_files.check_fields(config, _KNOWN_FIELDS, path)
    kwargs = config.get("sp_model_kwargs")
    if kwargs:
        raise ConfigError(f"sp_model_kwargs={kwargs!r:.80} in {path} is not supported")
    tokenizer_files.check_sides(config, fast, folder)
    models = [name for name in SENTENCEPIECE_FILES if tokenizer_files.is_there(folder / name)]
    if not models and not fast:
        models = sorted(path.name for path in folder.glob("*.model") if path.is_file())
    if len(models) > 1:
        raise ConfigError(f"expected one SentencePiece model in {folder}, got {models}")
    if fast:
        options = _from_fast(folder, fast, config)
    elif models:
        options = sentencepiece_families.from_model(folder, folder / models[0], config)
    else:
        raise ConfigError(
            f"expected tokenizer.json or one of {', '.join(SENTENCEPIECE_FILES)} in {folder}, "
            "found none"
        )
    options["max_length"] = tokenizer_files.max_length(config, path)
    tokenizer_files.check_padding(options["pad_token"], folder, config, fast)
    options["model_file"] = None
    if models:
        options["model_file"] = models[0], tokenizer_files.read_bytes(folder / models[0])
    return options


# tokenizer.json


def _from_fast(
    folder: pathlib.Path, fast: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments for a tokenizer.json."""
    path = folder / "tokenizer.json"
    try:
        options = _model_options(fast["model"], path)
        options.update(_word_options(fast.get("pre_tokenizer"), path))
        _check_decoder(fast.get("decoder"), options["prefix"], path)
        template = tokenizer_files.read_template(fast.get("post_processor"), path)
        if template is None or template.trim_offsets:
            raise ConfigError(
                f"expected a TemplateProcessing post_processor in {path}, got "
                f"{fast.get('post_processor')!r:.80}"
            )
        options["normalizer"] = fast.get("normalizer")
        added = tokenizer_files.added_tokens(folder, config, fast)
        names = {
            key: AddedToken(token) if isinstance(token, str) else token
            for key, token in tokenizer_files.named_tokens(folder, config, NAMED).items()
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise ConfigError(
            f"expected a tokenizer as `tokenizers` writes it in {path}, got another structure "
            f"({type(error).__name__}: {error})"
        ) from error
    ids = {piece: i for i, (piece, _) in enumerate(options["pieces"])}
    unk_token = options["unk_token"]
    named = names.get("unk_token")
    if named is not None and named.content != unk_token:
        raise ConfigError(
            f"expected unk_token of {unk_token!r}, the piece of unk_id in {path}, got "
            f"{named.content!r}"
        )
    options["cls_token"], options["sep_token"] = template.cls_token, template.sep_token
    options.update(dataclasses.asdict(template.packing))
    for key, usual in _SPECIAL_NAMES.items():
        if key in names:
            token = names[key]
            options[key] = None if token is None else token.content
        else:
            # Among the pieces alone, it is found in no text; but no batch is without padding.
            known = [*added, *ids] if key == "pad_token" else [*added]
            found = [name for name in usual if name in known]
            options[key] = found[0] if found else None
    if options["pad_token"] is None:
        raise ConfigError(f"expected a pad_token in {folder / 'tokenizer_config.json'}, got none")
    options["added_tokens"] = tokenizer_files.with_flags(added, names, ids)
    ids |= {token.content: token.id for token in options["added_tokens"] if token.id is not None}
    template.check_ids(ids, path)
    return options


def _model_options(model: Mapping[str, Any], path: pathlib.Path) -> dict[str, Any]:
    """The options of a tokenizer.json's model."""
    unknown = sorted(set(model) - {"type", "unk_id", "vocab", "byte_fallback"})
    if model.get("type", "Unigram") != "Unigram" or unknown:
        raise ConfigError(
            f"expected a Unigram model in {path}, got {model.get('type')!r:.80}"
            + (f" with the options {unknown[:5]!s:.200}" if unknown else "")
        )
    pieces = []
    for entry in model["vocab"]:
        piece, score = entry if isinstance(entry, list) and len(entry) == 2 else (None, None)
        if (
            not isinstance(piece, str)
            or isinstance(score, bool)
            or not isinstance(score, int | float)
        ):
            raise ConfigError(f"expected pieces with scores in {path}, got {entry!r:.80}")
        pieces.append((piece, float(score)))
    unk_id = model.get("unk_id")
    if not isinstance(unk_id, int) or isinstance(unk_id, bool) or not 0 <= unk_id < len(pieces):
        raise ConfigError(
            f"expected an unk_id below {len(pieces)}, the number of pieces, in {path}, got "
            f"{unk_id!r:.80}"
        )
    fallback = model.get("byte_fallback", False)
    if not isinstance(fallback, bool):
        raise ConfigError(
            f"expected byte_fallback of true or false in {path}, got {fallback!r:.80}"
        )
    return {"pieces": pieces, "unk_token": pieces[unk_id][0], "byte_fallback": fallback}


def _word_options(splitter: Any, path: pathlib.Path) -> dict[str, Any]:
    """The options of a tokenizer.json's pre-tokenizer."""
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
            "expected a pre_tokenizer of WhitespaceSplit or none, Punctuation (Isolated) or none, "
            f"and Metaspace in {path}, got {kinds}"
        )
    options["prefix"], options["split_at_spaces"] = _metaspace(rest[0][1], path)
    return options


def _sequence(splitter: Any) -> list[Mapping[str, Any]]:
    if splitter is None:
        return []
    if splitter["type"] != "Sequence":
        return [splitter]
    return [step for part in splitter["pretokenizers"] for step in _sequence(part)]


def _metaspace(options: Mapping[str, Any], path: pathlib.Path) -> tuple[Any, bool]:
    """What a Metaspace entry says of `prefix` and `split_at_spaces`."""
    unknown = set(options) - {
        "replacement", "str_rep", "add_prefix_space", "prepend_scheme", "split",
    }  # fmt: skip
    prefix = options.get("prepend_scheme", "always")
    split = options.get("split", True)
    # Older files say add_prefix_space, which wins against the default alone.
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
            f"expected Metaspace with replacement, prepend_scheme and split in {path}, got "
            f"{dict(options)!r:.200}"
        )
    return (prefix if space else "never"), split


def _check_decoder(decoder: Any, prefix: str, path: pathlib.Path) -> None:
    """Raises ConfigError unless texts are put together as `detokenize` does."""
    if not decoder or decoder["type"] != "Metaspace":
        raise ConfigError(f"expected a Metaspace decoder in {path}, got {decoder!r:.80}")
    options = {key: value for key, value in decoder.items() if key != "type"}
    if (_metaspace(options, path)[0] == "never") != (prefix == "never"):
        raise ConfigError(
            f"expected a decoder that takes away the prefix that the pre_tokenizer puts in {path}, "
            f"got {decoder!r:.200}"
        )


# Writing


def write_directory(directory: str | os.PathLike[str], tokenizer: SentencePieceTokenizer) -> None:
    """Writes what `transformers.AutoTokenizer` loads as the same tokenizer.

    A tokenizer.json for the generic class, which takes it as it is; and SentencePiece's model file,
    if the tokenizer came with one.
    """
    folder = pathlib.Path(directory)
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{key: getattr(tokenizer, key) for key in NAMED},
        "additional_special_tokens": list(tokenizer.additional_special_tokens),
        "added_tokens_decoder": {str(t.id): t.to_json() for t in _by_id(tokenizer)},
    }
    segments = [] if tokenizer.second_segment_id == 0 else ["token_type_ids"]
    config["model_input_names"] = ["input_ids", *segments, "attention_mask"]
    if tokenizer.max_length is not None:
        config["model_max_length"] = tokenizer.max_length
    files = {
        "tokenizer.json": _dump(to_fast(tokenizer)),
        "tokenizer_config.json": _dump(config),
    }
    if tokenizer.model_file is not None:
        name, content = tokenizer.model_file
        files[name] = content
    folder.mkdir(parents=True, exist_ok=True)
    stale = {*SENTENCEPIECE_FILES, "special_tokens_map.json", "added_tokens.json"} - set(files)
    tokenizer_files.remove_stale(folder, stale)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _by_id(tokenizer: SentencePieceTokenizer) -> list[AddedToken]:
    return sorted(tokenizer.added_tokens, key=lambda token: token.id or 0)


def _dump(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def to_fast(tokenizer: SentencePieceTokenizer) -> dict[str, Any]:
    """The contents of a tokenizer's tokenizer.json."""
    metaspace = {
        "type": "Metaspace",
        "replacement": SPACE_SIGN,
        "prepend_scheme": tokenizer.prefix,
        "split": tokenizer.split_at_spaces,
    }
    splitters: list[dict[str, Any]] = []
    if tokenizer.split_at_whitespace:
        splitters.append({"type": "WhitespaceSplit"})
    if tokenizer.split_at_punctuation:
        splitters.append({"type": "Punctuation", "behavior": "Isolated"})
    template = Template(
        tokenizer.cls_token,
        tokenizer.sep_token,
        Packing.of(tokenizer),
        (
            (tokenizer.cls_token, tokenizer.cls_token_id),
            (tokenizer.sep_token, tokenizer.sep_token_id),
        ),
    )
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": token.id, **token.to_json()} for token in _by_id(tokenizer)],
        "normalizer": tokenizer.normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*splitters, metaspace]},
        "post_processor": tokenizer_files.write_template(template),
        "decoder": metaspace,
        "model": {
            "type": "Unigram",
            "unk_id": tokenizer.unk_token_id,
            "vocab": [list(piece) for piece in tokenizer.pieces],
            "byte_fallback": tokenizer.byte_fallback,
        },
    }
