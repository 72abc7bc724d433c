"""Reads and writes a byte-level BPE tokenizer directory in Hugging Face's format.

Options that `ByteBpeTokenizer` does not support raise an error that names them.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.files import parse_json
from keras_bert_zoo.notices import warn_once
from keras_bert_zoo.text import added_tokens, tokenizer_config
from keras_bert_zoo.text.added_tokens import NAMED
from keras_bert_zoo.text.byte_bpe.model import byte_by_character
from keras_bert_zoo.text.byte_bpe.options import ByteBpeOptions
from keras_bert_zoo.text.options import Packing
from keras_bert_zoo.text.post_processor import read_template, template_of, write_template
from keras_bert_zoo.text.special_tokens import AddedToken
from keras_bert_zoo.text.vocabulary_files import (
    dump_json,
    exists,
    read_bytes,
    read_json,
    read_lines,
    tokens_in_order,
    write_files,
)

_logger = logging.getLogger(__name__)

# Classes with RoBERTa's special tokens and template as defaults.
_LIKE_ROBERTA = frozenset({"RobertaTokenizer", "LongformerTokenizer", "LEDTokenizer"})
_ROBERTA = {
    "unk_token": "<unk>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}
_BY_MODEL_TYPE = dict.fromkeys(("roberta", "longformer", "led"), "RobertaTokenizer")
# Options of the model in tokenizer.json with their neutral values; others are not supported.
_MODEL_OPTIONS: dict[str, tuple[Any, ...]] = {
    "dropout": (None, 0, 0.0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "byte_fallback": (None, False),
    "ignore_merges": (None, False),
}
_MODEL_KEYS = frozenset({"type", "unk_token", "fuse_unk", "vocab", "merges", *_MODEL_OPTIONS})
_BYTE_LEVEL_KEYS = frozenset({"type", "add_prefix_space", "trim_offsets", "use_regex"})
_CONFIG_KEYS = ("trim_offsets", "vocab_type", "merges_file")


def read_vocabulary(path: str | os.PathLike[str]) -> list[str]:
    """Reads the tokens of a vocab.json in the order of their ids.

    Raises:
        ConfigError: the file is missing or damaged, or its ids are not 0 to the last, once each.
    """
    path = pathlib.Path(path)
    data = read_bytes(path)
    return tokens_in_order(parse_json(data, str(path), limit=len(data)), path)


def read_merges(path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """Reads the pairs of a merges.txt.

    Raises:
        ConfigError: the file is missing or not UTF-8, or a line does not have two tokens.
    """
    merges = []
    blank = 0
    for number, line in enumerate(read_lines(path, "merges"), 1):
        line = line.removeprefix("\ufeff") if number == 1 else line
        if line.startswith("#version"):
            continue
        if not line.strip():
            blank += 1
            continue
        pair = line.split(" ")
        if len(pair) != 2 or not all(pair):
            raise ConfigError(
                f"Expected two tokens with a space between them on line {number} of {path}, "
                f"received {line!r:.80}."
            )
        merges.append((pair[0], pair[1]))
    if blank:
        warn_once(_logger, f"{os.fspath(path)}: {blank:,} blank lines are ignored.")
    return merges


def read_directory(
    directory: str | os.PathLike[str],
) -> tuple[list[str], list[tuple[str, str]], ByteBpeOptions]:
    """Reads a Hugging Face directory.

    Args:
        directory: has tokenizer.json, or vocab.json and merges.txt.

    Returns:
        list of str, the vocabulary; list of pairs of str, the merges; ByteBpeOptions.

    Raises:
        ConfigError: a file is missing or damaged, or has an unsupported option.
    """
    folder = pathlib.Path(directory)
    path = folder / "tokenizer_config.json"
    config, fast = read_json(path), read_json(folder / "tokenizer.json")
    tokenizer_config.check_config(config, _CONFIG_KEYS, path)
    tokenizer_config.check_sides(config, fast, folder)
    class_name = tokenizer_config.class_name(folder, _BY_MODEL_TYPE)
    like_roberta = class_name in _LIKE_ROBERTA
    if not fast and class_name is not None and not like_roberta:
        raise ConfigError(
            f"Expected tokenizer.json in {folder} for the class {class_name!r:.80}, received "
            "vocab.json and merges.txt, which have no special tokens and no template. Save the "
            "tokenizer with transformers, which writes tokenizer.json."
        )
    vocabulary, merges, options = _from_fast(fast, folder) if fast else _from_lists(folder)
    added = added_tokens.read_added_tokens(folder, config, fast)
    has_defaults = like_roberta or class_name is None
    _set_special_tokens(options, {*vocabulary}, folder, config, added, has_defaults)
    # In classes other than RoBERTa's, only the template sets trim_offsets.
    for key in ("add_prefix_space", "trim_offsets") if like_roberta else ("add_prefix_space",):
        if config.get(key) is not None:
            options[key] = tokenizer_config.read_flag(config, key, folder, default=None)
    if not like_roberta:  # those classes have a fixed pad_token
        tokenizer_config.check_padding(options["pad_token"], folder, config, fast)
    # transformers 5 sets lstrip of the mask token only if a file does. RoBERTa's own
    # tokenizer.json does; in transformers 4 it was the default.
    options["added_tokens"] = tuple(added.values())
    options["max_length"] = tokenizer_config.max_length(config, path)
    return vocabulary, merges, ByteBpeOptions(**options)


def _set_special_tokens(
    options: dict[str, Any],
    vocabulary: set[str],
    folder: pathlib.Path,
    config: Mapping[str, Any],
    added: dict[str, AddedToken],
    has_defaults: bool,
) -> None:
    """Sets the special tokens in the options, and adds those with flags to `added`."""
    known = vocabulary | {token.content for token in added.values() if token.id is not None}
    named = added_tokens.named_tokens(folder, config, NAMED)
    for name in NAMED:
        token = named.get(name, options.get(name))
        if name not in named and token is None and has_defaults:
            token = _ROBERTA[name] if _ROBERTA[name] in known else None
        if isinstance(token, AddedToken):
            added.setdefault(token.content, token)
            token = token.content
        in_template = options.get(name)
        if in_template is not None and token != in_template:
            raise ConfigError(
                f"Expected one {name} in {folder}, received {token!r:.60} in tokenizer_config.json "
                f"and {in_template!r:.60} in the post_processor of tokenizer.json. Correct one of "
                "the files."
            )
        if name == "mask_token" and token is not None and token not in known:
            added_tokens.warn_without_mask(folder, token)
            added.pop(token, None)
            token = None
        if token is None and name != "mask_token":
            raise ConfigError(
                f"Expected {name} in {folder / 'tokenizer_config.json'}, received none. Set the "
                "token that the model was trained with."
            )
        options[name] = token


_Content = tuple[list[str], list[tuple[str, str]], dict[str, Any]]


def _from_lists(folder: pathlib.Path) -> _Content:
    """Reads vocab.json and merges.txt."""
    for name in ("vocab.json", "merges.txt"):
        if not exists(folder / name):
            raise ConfigError(
                f"Expected tokenizer.json, or vocab.json and merges.txt, in {folder}, received no "
                f"{name}. Copy it from the checkpoint."
            )
    return read_vocabulary(folder / "vocab.json"), read_merges(folder / "merges.txt"), {}


def _from_fast(fast: Mapping[str, Any], folder: pathlib.Path) -> _Content:
    """Reads tokenizer.json."""
    path = folder / "tokenizer.json"
    try:
        model = dict(fast["model"])
        _check_model(model, path)
        vocabulary = tokens_in_order(model.get("vocab"), path)
        merges = _pairs(model.get("merges"), path)
        options: dict[str, Any] = {
            "nfc": _is_nfc(fast.get("normalizer"), path),
            "add_prefix_space": _prefix_space(fast.get("pre_tokenizer"), path),
        }
        _check_decoder(fast.get("decoder"), path)
    except ConfigError:  # also a ValueError
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"Expected a tokenizer in the format of `tokenizers` in {path}, received another "
            f"structure ({type(error).__name__}: {error}). Save the tokenizer again."
        ) from error
    if model.get("unk_token") is not None and not {*byte_by_character()} <= {*vocabulary}:
        if model.get("fuse_unk"):
            raise ConfigError(
                f"Expected fuse_unk=false in {path}, received true. It is not supported with a "
                "vocabulary that lacks bytes."
            )
        options |= {"unknown_bytes": True, "unk_token": model["unk_token"]}
    template = read_template(fast.get("post_processor"), path)
    if template is None:
        raise ConfigError(
            f"Expected a post_processor with special tokens in {path}, received none. Save the "
            "tokenizer with transformers, which writes it."
        )
    if template.trim_offsets and template.add_prefix_space != options["add_prefix_space"]:
        raise ConfigError(
            f"Expected the same add_prefix_space in pre_tokenizer and post_processor of {path}, "
            f"received {options['add_prefix_space']} and {template.add_prefix_space}. Correct one."
        )
    ids = {token: i for i, token in enumerate(vocabulary)}
    for token in added_tokens.listed_tokens(fast, path):
        if token.id is not None:
            ids.setdefault(token.content, token.id)
    template.check_ids(ids, path)
    options |= dataclasses.asdict(template.packing)
    options |= {
        "cls_token": template.cls_token,
        "sep_token": template.sep_token,
        "trim_offsets": template.trim_offsets,
    }
    return vocabulary, merges, options


def _pairs(merges: Any, path: pathlib.Path) -> list[tuple[str, str]]:
    """Reads merges as `tokenizers` writes them: "a b", or ["a", "b"] since version 0.20."""
    if not isinstance(merges, list):
        raise ConfigError(f"Expected merges as a list in {path}, received {merges!r:.80}.")
    pairs = []
    for number, merge in enumerate(merges, 1):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or not all(isinstance(token, str) and token for token in pair)
        ):
            raise ConfigError(
                f"Expected merges of two tokens in {path}, received {merge!r:.80} "
                f"(number {number})."
            )
        pairs.append((pair[0], pair[1]))
    return pairs


def _check_model(model: Mapping[str, Any], path: pathlib.Path) -> None:
    """Raises ConfigError for unsupported BPE options."""
    if model.get("type", "BPE") != "BPE":
        raise ConfigError(f"Expected a BPE model in {path}, received {model['type']!r:.80}.")
    tokenizer_config.check_keys(model, _MODEL_KEYS, "a BPE model", path)
    if not isinstance(model.get("unk_token"), str | None):
        raise ConfigError(
            f"Expected unk_token as a string in {path}, received {model['unk_token']!r:.80}."
        )
    tokenizer_config.read_flag(model, "fuse_unk", path, default=None, null=True)
    for key, allowed in _MODEL_OPTIONS.items():
        if model.get(key) not in allowed:
            raise ConfigError(
                f"Expected {key}={allowed[-1]!r} of the model in {path}, received "
                f"{model[key]!r:.80}. Other values are not supported."
            )


def _is_nfc(normalizer: Any, path: pathlib.Path) -> bool:
    """Returns True for the normalizer NFC and False for none."""
    if normalizer is None:
        return False
    steps = normalizer["normalizers"] if normalizer["type"] == "Sequence" else [normalizer]
    kinds = {step["type"] for step in steps}
    if not kinds <= {"NFC"}:
        raise ConfigError(
            f"Expected no normalizer or NFC in {path}, received {', '.join(sorted(kinds))}."
        )
    return bool(kinds)


def _prefix_space(splitter: Any, path: pathlib.Path) -> bool:
    """Reads `add_prefix_space` of a ByteLevel pre-tokenizer; others are not supported."""
    kind = (splitter or {}).get("type")
    if kind == "Sequence" and len(splitter["pretokenizers"]) == 1:
        return _prefix_space(splitter["pretokenizers"][0], path)
    if kind != "ByteLevel" or splitter.get("use_regex", True) is not True:
        raise ConfigError(
            f"Expected a ByteLevel pre_tokenizer with use_regex in {path}, received "
            f"{splitter!r:.120}."
        )
    tokenizer_config.check_keys(splitter, _BYTE_LEVEL_KEYS, "a ByteLevel pre_tokenizer", path)
    return bool(
        tokenizer_config.read_flag(
            {"add_prefix_space": splitter["add_prefix_space"]},
            "add_prefix_space",
            path,
            default=None,
        )
    )


def _check_decoder(decoder: Any, path: pathlib.Path) -> None:
    """Raises ConfigError for decoders other than ByteLevel."""
    if decoder is not None and decoder["type"] != "ByteLevel":
        raise ConfigError(
            f"Expected a ByteLevel decoder in {path}, received {decoder['type']!r:.80}."
        )


def write_directory(
    directory: str | os.PathLike[str],
    pieces: Sequence[str],
    merges: Sequence[tuple[str, str]],
    options: ByteBpeOptions,
) -> None:
    """Writes tokenizer.json and tokenizer_config.json for `transformers.AutoTokenizer`.

    Args:
        directory: created if it is missing.
        pieces: the vocabulary without the tokens added after it.
        merges: pairs of tokens.
        options: with ids in `added_tokens`.

    Raises:
        ConfigError: no post-processor of `tokenizers` has these options.
    """
    like_roberta = options.trim_offsets and options.packing == Packing(2, 0)
    if options.trim_offsets and not like_roberta:
        raise ConfigError(
            "Expected trim_offsets=False, or separators_between=2 with second_segment_id=0, "
            "received another combination. No post-processor of `tokenizers` supports it."
        )
    # RoBERTa's class has no NFC; the generic class reads all options from tokenizer.json.
    own_class = like_roberta and not options.nfc and not options.unknown_bytes
    config: dict[str, Any] = {
        "tokenizer_class": "RobertaTokenizer" if own_class else "PreTrainedTokenizerFast",
        "add_prefix_space": options.add_prefix_space,
        **added_tokens.config_entries(options),
    }
    if own_class:
        config |= {"trim_offsets": True, "bos_token": options.cls_token}
        config["eos_token"] = options.sep_token
    if options.second_segment_id == 0:
        config["model_input_names"] = ["input_ids", "attention_mask"]
    contents = {
        "tokenizer.json": dump_json(tokenizer_json(pieces, merges, options)),
        "tokenizer_config.json": dump_json(config),
    }
    stale = ("vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json")
    write_files(directory, contents, stale)


def tokenizer_json(
    pieces: Sequence[str], merges: Sequence[tuple[str, str]], options: ByteBpeOptions
) -> dict[str, Any]:
    """Returns the contents of a tokenizer.json; `added_tokens` of the options must have ids."""
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": options.add_prefix_space,
        "trim_offsets": True,
        "use_regex": True,
    }
    template = template_of(
        options, trim_offsets=options.trim_offsets, add_prefix_space=options.add_prefix_space
    )
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": token.id, **token.to_json()} for token in options.added_by_id],
        "normalizer": {"type": "NFC"} if options.nfc else None,
        "pre_tokenizer": byte_level,
        "post_processor": write_template(template),
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": options.unk_token if options.unknown_bytes else None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(pieces)},
            "merges": [list(pair) for pair in merges],
        },
    }
