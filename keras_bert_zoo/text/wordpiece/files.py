"""Reads and writes a WordPiece tokenizer directory in Hugging Face's format.

Options that `WordPieceTokenizer` does not support raise an error that names them.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.files import GOOGLE_CONFIGS
from keras_bert_zoo.text import added_tokens, tokenizer_config
from keras_bert_zoo.text.added_tokens import ALL_NAMED, NAMED
from keras_bert_zoo.text.post_processor import Template, read_template
from keras_bert_zoo.text.special_tokens import AddedToken
from keras_bert_zoo.text.vocabulary_files import dump_json, read_json, write_files
from keras_bert_zoo.text.wordpiece.classes import (
    BERT,
    BY_MODEL_TYPE,
    CLASSES,
    GENERIC,
    MPNET,
    REFUSED,
    ClassDefaults,
)
from keras_bert_zoo.text.wordpiece.options import WordPieceOptions
from keras_bert_zoo.text.wordpiece.tokenizer_json import read_tokenizer_json, tokenizer_json
from keras_bert_zoo.text.wordpiece.vocabulary import directory_vocabulary, is_safe_in_lines

_logger = logging.getLogger(__name__)

# An uncased vocabulary has fewer pieces with capital letters than this (such as <S>).
_CASED_PIECES = 20
_CONFIG_KEYS = (
    "clean_text", "do_basic_tokenize", "never_split", "strip_accents", "tokenize_chinese_chars",
    "wordpieces_prefix",
)  # fmt: skip


def read_directory(directory: str | os.PathLike[str]) -> tuple[list[str], WordPieceOptions]:
    """Reads a Hugging Face directory.

    Args:
        directory: has vocab.txt or tokenizer.json.

    Returns:
        list of str, the vocabulary; WordPieceOptions.

    Raises:
        ConfigError: a file is missing or damaged, or has an unsupported option.
    """
    folder = pathlib.Path(directory)
    config_path, fast_path = folder / "tokenizer_config.json", folder / "tokenizer.json"
    config, fast = read_json(config_path), read_json(fast_path)
    name = tokenizer_config.class_name(folder, BY_MODEL_TYPE)
    known = _class_defaults(name, fast, folder)
    pieces: list[str] | None = None
    options: dict[str, Any] = {}
    try:
        if fast:
            pieces, options = read_tokenizer_json(fast, fast_path)
        template = read_template(fast.get("post_processor"), fast_path)
        tokenizer_config.check_sides(config, fast, folder)
        added = added_tokens.read_added_tokens(folder, config, fast)
    except (AttributeError, KeyError, TypeError) as error:
        raise ConfigError(
            f"Expected a tokenizer in the format of `tokenizers` in {fast_path}, received another "
            f"structure ({type(error).__name__}: {error}). Save the tokenizer again."
        ) from error
    vocabulary = directory_vocabulary(folder, pieces)
    if known is None and not fast and {"<s>", "[CLS]"} <= set(vocabulary):
        raise ConfigError(
            f"Expected a tokenizer_config.json with a tokenizer_class in {folder}, received none. "
            'The vocabulary has both <s> and [CLS]. Set "MPNetTokenizer" or "BertTokenizer".'
        )
    # transformers uses the tokenizer.json of an unknown or generic class without changes.
    generic = bool(fast) and name is not None and known is None
    if not generic:
        options.update(_config_flags(config, config_path))
    _check_config(config, config_path)
    limit = tokenizer_config.max_length(config, config_path)
    if limit is not None:
        options["max_length"] = limit
    if "lowercase" not in options and not config:
        options.update(_inferred_case(vocabulary, folder))
    defaults = known or _default_class(template)
    names = _special_tokens(folder, config, defaults, added, template if known is None else None)
    unk_token = options.pop("unk_token", names["unk_token"])
    if generic:
        names["unk_token"] = unk_token
    _drop_missing_mask(names, {*vocabulary}, added, folder)
    options.update({key: names[key] for key in NAMED})
    if known is None:  # a known class has a fixed pad_token
        tokenizer_config.check_padding(names["pad_token"], folder, config, fast)
    options.update(dataclasses.asdict(defaults.packing), trim_offsets=defaults.trim_offsets)
    if template is not None:
        ids = {token: i for i, token in enumerate(vocabulary)}
        _check_template(template, options, ids, added, fast_path)
        if known is None:
            _apply_template(template, options, added, fast_path)
        else:
            _check_separators(template, str(name), fast_path)
    for key in ("bos_token", "eos_token"):
        token = names.get(key)
        if token is not None and (token in vocabulary or token != defaults.names.get(key)):
            added.setdefault(token, AddedToken(token))
    return vocabulary, WordPieceOptions(
        **options,
        added_tokens=tuple(added.values()),
        tokenizer_class=None if known is None else name,
    )


def _class_defaults(
    name: str | None, fast: Mapping[str, Any], folder: pathlib.Path
) -> ClassDefaults | None:
    """Returns the defaults of a class; None if the files set all options."""
    if name in REFUSED:
        raise ConfigError(
            f"Expected a tokenizer_class of {', '.join(CLASSES)} in {folder}, received {name!r}, "
            f"which is not supported: {REFUSED[name]}."
        )
    if name in CLASSES:
        return CLASSES[name]
    if fast:
        return None
    if name is None:
        model_type = read_json(folder / "config.json").get("model_type")
        if model_type is not None:
            raise ConfigError(
                f"Expected a tokenizer_class in {folder / 'tokenizer_config.json'}, received none "
                f"with model_type {model_type!r:.80}, whose models have other tokenizers than "
                'WordPiece. Set "BertTokenizer" if this one splits texts like BERT.'
            )
        return None
    received = "the generic class" if name in GENERIC else "tokenizer_class"
    raise ConfigError(
        f"Expected tokenizer.json or a tokenizer_class of {', '.join(CLASSES)} in {folder}, "
        f"received {received} {name!r:.80} without tokenizer.json. Set the class that splits texts "
        "in the same way."
    )


def _default_class(template: Template | None) -> ClassDefaults:
    """Returns the defaults of an unnamed class: BERT's, or MPNet's tokens if packed like them."""
    if template is None or template.packing.separators_between == 1:
        return BERT
    names = {**MPNET.names, "cls_token": template.cls_token, "sep_token": template.sep_token}
    return ClassDefaults({key: names[key] for key in NAMED})


def _drop_missing_mask(
    names: dict[str, str | None],
    vocabulary: set[str],
    added: dict[str, AddedToken],
    folder: pathlib.Path,
) -> None:
    """Sets the mask token to None if it has no id; only masked language models need it."""
    token = names["mask_token"]
    if token is None or token in vocabulary:
        return
    if token in added and added[token].id is not None:
        return
    added.pop(token, None)
    names["mask_token"] = None
    added_tokens.warn_without_mask(folder, token)


def _special_tokens(
    folder: pathlib.Path,
    config: Mapping[str, Any],
    defaults: ClassDefaults,
    added: dict[str, AddedToken],
    template: Template | None,
) -> dict[str, str | None]:
    """Returns the special tokens by name, and adds new ones with flags to `added`."""
    plain = dict(defaults.names)
    if template is not None:
        plain |= {"cls_token": template.cls_token, "sep_token": template.sep_token}
    tokens: dict[str, str | AddedToken | None] = {**plain}
    for key, token in added_tokens.named_tokens(folder, config, ALL_NAMED).items():
        if token is not None or template is None or key not in ("cls_token", "sep_token"):
            tokens[key] = token
    for key in ("unk_token", "cls_token", "sep_token", "pad_token"):
        if tokens.get(key) is None:
            raise ConfigError(f"Expected {key} in {folder}, received null. Set the token.")
    names: dict[str, str | None] = {}
    for key, token in tokens.items():
        if isinstance(token, str):
            token = AddedToken(token, lstrip=defaults.mask_lstrip and key == "mask_token")
        names[key] = token.content if token else None
        if token is not None and token != AddedToken(token.content):
            added.setdefault(token.content, token)
    return names


def _check_template(
    template: Template,
    options: Mapping[str, Any],
    ids: Mapping[str, int],
    added: Mapping[str, AddedToken],
    path: pathlib.Path,
) -> None:
    """Raises ConfigError if the template has other special tokens or ids than the options."""
    for key in ("cls_token", "sep_token"):
        if getattr(template, key) != options[key]:
            raise ConfigError(
                f"Expected {key} {options[key]!r:.80} in the post_processor of {path}, received "
                f"{getattr(template, key)!r:.80}. Correct one of the files."
            )
    added_ids = {token.content: token.id for token in added.values() if token.id is not None}
    template.check_ids({**ids, **added_ids}, path)


def _check_separators(template: Template, name: str, path: pathlib.Path) -> None:
    """Raises ConfigError if the template has other separators than the class.

    transformers packs segments as the class does and ignores the rest of the template.
    """
    expected = CLASSES[name].packing.separators_between
    received = template.packing.separators_between
    if received != expected:
        raise ConfigError(
            f"Expected a post_processor in {path} with {expected} separators between segments, as "
            f'in {name}, received {received}. Set the tokenizer_class "PreTrainedTokenizerFast" if '
            "the file is right."
        )


def _apply_template(
    template: Template,
    options: dict[str, Any],
    added: Mapping[str, AddedToken],
    path: pathlib.Path,
) -> None:
    """Copies the packing of the template to the options."""
    options.update(dataclasses.asdict(template.packing), trim_offsets=template.trim_offsets)
    stripping = [token.content for token in added.values() if token.lstrip or token.rstrip]
    if template.trim_offsets and template.add_prefix_space and stripping:
        raise ConfigError(
            f"Expected add_prefix_space=false in the post_processor of {path}, received true. It "
            f"is not supported with the token {stripping[0]!r}, which takes whitespace."
        )


def _inferred_case(vocabulary: Sequence[str], folder: pathlib.Path) -> dict[str, Any]:
    """Infers from the vocabulary whether texts are lowercased, if no file sets it.

    Google's checkpoints do not set it. The default of transformers is to lowercase, which makes
    half of a cased vocabulary unreachable without an error.
    """
    # Not `isupper`: lowercasing keeps ℝ, which BERT's uncased vocabulary contains.
    cased = sum(
        piece != piece.lower()
        for piece in vocabulary
        if not (piece[:1] in "[<" and piece[-1:] in "]>")
    )
    if any((folder / name).exists() for name in GOOGLE_CONFIGS):
        return {"lowercase": cased == 0}
    if cased < _CASED_PIECES:
        return {}
    _logger.warning(
        "%s does not set do_lower_case, and %d pieces of its vocabulary have capital letters. "
        "Texts are not lowercased. Set do_lower_case in tokenizer_config.json.",
        folder,
        cased,
    )
    return {"lowercase": False}


def _check_config(config: Mapping[str, Any], path: pathlib.Path) -> None:
    """Raises ConfigError for unsupported options of tokenizer_config.json."""
    tokenizer_config.check_config(config, _CONFIG_KEYS, path)
    if config.get("never_split"):
        raise ConfigError(
            f"Expected no never_split in {path}, received {config['never_split']!r:.80}. It is not "
            "supported."
        )
    for key, only in (
        ("do_basic_tokenize", True), ("clean_text", True), ("wordpieces_prefix", "##"),
    ):  # fmt: skip
        if config.get(key, only) != only:
            raise ConfigError(
                f"Expected {key}={json.dumps(only)} in {path}, received "
                f"{json.dumps(config[key]):.80}. Other values are not supported."
            )


def _config_flags(config: Mapping[str, Any], path: pathlib.Path) -> dict[str, Any]:
    """Reads the normalizer's options of tokenizer_config.json."""
    return {
        option: tokenizer_config.read_flag(
            config, key, path, default=None, null=key == "strip_accents"
        )
        for key, option in (
            ("do_lower_case", "lowercase"),
            ("strip_accents", "strip_accents"),
            ("tokenize_chinese_chars", "handle_chinese_chars"),
        )
        if key in config
    }


def write_directory(
    directory: str | os.PathLike[str], pieces: Sequence[str], options: WordPieceOptions
) -> None:
    """Writes files that `transformers.AutoTokenizer` loads as the same tokenizer.

    Writes vocab.txt and tokenizer_config.json if transformers has an equivalent class. Otherwise
    writes tokenizer.json for the generic class instead of vocab.txt.

    Args:
        directory: created if it is missing.
        pieces: the vocabulary without the tokens added after it.
        options: with ids in `added_tokens`.
    """
    candidates = (options.tokenizer_class, "BertTokenizer", "MPNetTokenizer", "FunnelTokenizer")
    name = next((n for n in candidates if n in CLASSES and CLASSES[n].match(options)), None)
    if options.max_characters_per_word != 100 or not is_safe_in_lines(pieces):
        name = None
    config: dict[str, Any] = {
        "tokenizer_class": name or "PreTrainedTokenizerFast",
        "do_lower_case": options.lowercase,
        "strip_accents": options.strip_accents,
        "tokenize_chinese_chars": options.handle_chinese_chars,
        **added_tokens.config_entries(options),
    }
    for key in ("bos_token", "eos_token"):
        if name is not None and key in CLASSES[name].names:
            token = CLASSES[name].names[key]
            config[key] = token if token in options.special_tokens else None
    if name is None and options.second_segment_id == 0:
        config["model_input_names"] = ["input_ids", "attention_mask"]
    contents: dict[str, bytes] = {}
    if name is None:
        contents["tokenizer.json"] = dump_json(tokenizer_json(pieces, options))
    else:
        contents["vocab.txt"] = "".join(f"{token}\n" for token in pieces).encode()
    contents["tokenizer_config.json"] = dump_json(config)
    stale = ("vocab.txt", "tokenizer.json", "special_tokens_map.json", "added_tokens.json")
    write_files(directory, contents, stale)
