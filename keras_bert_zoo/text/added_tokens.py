"""Reads the special and added tokens of a tokenizer directory from all files that list them."""

from __future__ import annotations

import dataclasses
import logging
import pathlib
from collections.abc import Iterable, Mapping, Sized
from typing import Any

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.notices import warn_once
from keras_bert_zoo.text.options import TokenizerOptions
from keras_bert_zoo.text.special_tokens import AddedToken
from keras_bert_zoo.text.vocabulary_files import read_json

_logger = logging.getLogger(__name__)

NAMED = ("unk_token", "cls_token", "sep_token", "pad_token", "mask_token")
ALL_NAMED = ("bos_token", "eos_token", *NAMED)
# Each token takes some kilobytes in the search tables. Extended vocabularies add some thousand
# tokens.
_TOKENS_LIMIT = 100_000
_CHARACTERS_LIMIT = 512  # the check for overlapping tokens takes quadratic time


def named_tokens(
    folder: pathlib.Path, config: Mapping[str, Any], names: Iterable[str]
) -> dict[str, str | AddedToken | None]:
    """Reads the named tokens of tokenizer_config.json and special_tokens_map.json.

    As in transformers, special_tokens_map.json wins unless tokenizer_config.json lists all added
    tokens.

    Returns:
        dict of name to token. A str has no flags; the tokenizer's class then sets them.
    """
    token_map = read_json(folder / "special_tokens_map.json")
    sources = [token_map, config] if "added_tokens_decoder" in config else [config, token_map]
    tokens: dict[str, str | AddedToken | None] = {}
    for source in sources:
        for name in names:
            if source is token_map and token_map.get(name) is None:
                continue
            if name in source:
                value = source[name]
                tokens[name] = None if value is None else AddedToken.from_json(value).content
                if isinstance(value, Mapping):
                    tokens[name] = dataclasses.replace(AddedToken.from_json(value), special=True)
    return tokens


def listed_tokens(fast: Mapping[str, Any], path: pathlib.Path) -> list[AddedToken]:
    """Reads the added tokens of a tokenizer.json.

    Raises:
        ConfigError: `added_tokens` is not a list of tokens, or is too long.
    """
    values = fast.get("added_tokens")
    if values is None:
        return []
    if not isinstance(values, list):
        raise ConfigError(f"Expected added_tokens as a list in {path}, received {values!r:.80}.")
    _check_count(values, path)
    return [AddedToken.from_json(value) for value in values]


def _check_count(tokens: Sized, path: pathlib.Path) -> None:
    if len(tokens) > _TOKENS_LIMIT:
        raise ConfigError(
            f"Expected at most {_TOKENS_LIMIT:,} added tokens in {path}, received {len(tokens):,}."
        )


def read_added_tokens(
    folder: pathlib.Path, config: Mapping[str, Any], fast: Mapping[str, Any]
) -> dict[str, AddedToken]:
    """Reads all added tokens of a directory, by content, with their ids where a file has them.

    The tokens come from tokenizer.json, from `added_tokens_decoder` of tokenizer_config.json (which
    wins), or from the added_tokens.json of older versions. The lists of additional special tokens
    follow.

    Raises:
        ConfigError: a token or an id is invalid, or one token has two ids.
    """
    tokens: dict[str, AddedToken] = {}
    for token in listed_tokens(fast, folder / "tokenizer.json"):
        tokens[token.content] = token
    for token in _decoder_tokens(config, folder / "tokenizer_config.json"):
        previous = tokens.get(token.content)
        if previous is not None and previous.id not in (None, token.id):
            raise ConfigError(
                f"Expected one id for the added token {token.content!r:.80} in {folder}, received "
                f"{previous.id} and {token.id}. Correct tokenizer.json or tokenizer_config.json."
            )
        tokens[token.content] = token
    extra = [
        AddedToken.from_json(value)
        for key in ("additional_special_tokens", "extra_special_tokens")
        for source in (config, read_json(folder / "special_tokens_map.json"))
        for value in _listed(source.get(key))
    ]
    specific = config.get("model_specific_special_tokens")
    extra += [AddedToken.from_json(value) for value in _listed(specific)]
    special = {token.content for token in extra}
    for named in named_tokens(folder, config, ALL_NAMED).values():
        if named is not None:
            special.add(named if isinstance(named, str) else named.content)
    older = {} if "added_tokens_decoder" in config else read_json(folder / "added_tokens.json")
    _check_count(older, folder / "added_tokens.json")
    for content, token_id in older.items():
        # transformers matches these in the normalized text, unless they are special.
        flags = {"normalized": content not in special, "special": content in special}
        tokens.setdefault(
            content, AddedToken.from_json({"content": content, "id": token_id} | flags)
        )
    for token in extra:
        _add_special(tokens, token)
    _check_count(tokens, folder)
    for content in tokens:
        if len(content) > _CHARACTERS_LIMIT:
            raise ConfigError(
                f"Expected added tokens of at most {_CHARACTERS_LIMIT} characters in {folder}, "
                f"received {content!r:.80}... of {len(content):,}."
            )
    return tokens


def _decoder_tokens(config: Mapping[str, Any], path: pathlib.Path) -> list[AddedToken]:
    """Reads the `added_tokens_decoder` of a tokenizer_config.json."""
    decoder = config.get("added_tokens_decoder")
    decoder = {} if decoder is None else decoder
    if not isinstance(decoder, Mapping):
        raise ConfigError(
            f"Expected added_tokens_decoder as an object in {path}, received {decoder!r:.80}."
        )
    _check_count(decoder, path)
    tokens = []
    for token_id, value in decoder.items():
        if not (token_id.isascii() and token_id.isdigit()) or len(token_id) > 18:
            raise ConfigError(
                f"Expected ids as the keys of added_tokens_decoder in {path}, received "
                f"{token_id!r:.80}."
            )
        tokens.append(AddedToken.from_json(value, token_id=int(token_id)))
    return tokens


def _add_special(tokens: dict[str, AddedToken], token: AddedToken) -> None:
    """Adds a token if it is new, and makes it special."""
    known = tokens.setdefault(token.content, token)
    tokens[token.content] = dataclasses.replace(known, special=True)


def with_flags(
    added: Mapping[str, AddedToken],
    named: Mapping[str, AddedToken | None],
    ids: Mapping[str, int],
) -> list[AddedToken]:
    """Returns added and named tokens in the order of their ids; tokens without an id come last.

    Args:
        added: dict of content to token.
        named: dict of name to token.
        ids: dict of token to id, for tokens that have no id yet.
    """
    tokens = dict(added)
    for token in named.values():
        if token is not None:
            _add_special(tokens, token)
    with_ids = [
        token if token.id is not None else dataclasses.replace(token, id=ids.get(content))
        for content, token in tokens.items()
    ]
    return sorted(with_ids, key=lambda token: 1 << 40 if token.id is None else token.id)


def _listed(value: Any) -> list[Any]:
    """Returns the tokens of a list, or the values of an object."""
    if isinstance(value, Mapping):
        return list(value.values())
    if value is None:
        return []
    if not isinstance(value, list):
        raise ConfigError(
            f"Expected special tokens as a list or an object, received {value!r:.80}."
        )
    return value


def warn_without_mask(folder: pathlib.Path, token: str) -> None:
    """Warns that a tokenizer is loaded without its mask token."""
    warn_once(
        _logger,
        f"{folder}: the vocabulary has no mask_token {token!r:.80}. The tokenizer is loaded "
        "without it. Only masked language models need it.",
    )


def config_entries(options: TokenizerOptions) -> dict[str, Any]:
    """Returns the entries of a tokenizer_config.json for special tokens and the longest input."""
    entries: dict[str, Any] = {
        **{key: getattr(options, key) for key in NAMED},
        "additional_special_tokens": list(options.additional_special_tokens),
        "added_tokens_decoder": {str(token.id): token.to_json() for token in options.added_by_id},
    }
    if options.max_length is not None:
        entries["model_max_length"] = options.max_length
    return entries
