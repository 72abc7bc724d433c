"""Reads and writes the tokenizer.json of a WordPiece tokenizer."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text.post_processor import template_of, write_template
from keras_bert_zoo.text.tokenizer_config import check_keys, read_flag
from keras_bert_zoo.text.vocabulary_files import tokens_in_order
from keras_bert_zoo.text.wordpiece.classes import MPNET
from keras_bert_zoo.text.wordpiece.options import WordPieceOptions

# The allowed keys of each section, besides its type.
_NORMALIZER: dict[str, bool | None] = {
    "clean_text": True,
    "handle_chinese_chars": True,
    "strip_accents": None,
    "lowercase": True,
}
_SECTIONS: dict[str, frozenset[str]] = {
    "model": frozenset(
        {"unk_token", "continuing_subword_prefix", "max_input_chars_per_word", "vocab"}
    ),
    "normalizer": frozenset(_NORMALIZER),
    "pre_tokenizer": frozenset(),
    "decoder": frozenset({"prefix", "cleanup"}),
}


def read_tokenizer_json(
    fast: Mapping[str, Any], path: pathlib.Path
) -> tuple[list[str], dict[str, Any]]:
    """Reads the vocabulary and the options of a tokenizer.json.

    Args:
        fast: dict, the contents of the file.
        path: the file.

    Returns:
        list of str, the vocabulary; dict, the fields of `WordPieceOptions` that the file sets.

    Raises:
        ConfigError: an option is not supported.
    """
    model = _section(fast, "model", "WordPiece", path)
    prefix = model.get("continuing_subword_prefix", "##")
    if prefix != "##":
        raise ConfigError(
            f"Expected continuing_subword_prefix='##' in {path}, received {prefix!r:.80}. Other "
            "prefixes are not supported."
        )
    unk_token = model.get("unk_token", "[UNK]")
    if not isinstance(unk_token, str):
        raise ConfigError(f"Expected unk_token as a string in {path}, received {unk_token!r:.80}.")
    longest = model.get("max_input_chars_per_word", 100)
    if isinstance(longest, bool) or not isinstance(longest, int) or not 1 <= longest < 1 << 31:
        raise ConfigError(
            f"Expected max_input_chars_per_word as an int from 1 to {(1 << 31) - 1} in {path}, "
            f"received {longest!r:.80}."
        )
    normalizer = _section(fast, "normalizer", "BertNormalizer", path)
    flags = {
        key: read_flag(
            normalizer,
            key,
            f"the normalizer of {path}",
            default=default,
            null=key == "strip_accents",
        )
        for key, default in _NORMALIZER.items()
    }
    if not flags.pop("clean_text"):
        raise ConfigError(
            f"Expected a BertNormalizer with clean_text=true in {path}, received false. Texts "
            "without cleaning are not supported."
        )
    _section(fast, "pre_tokenizer", "BertPreTokenizer", path)
    if fast.get("decoder") is not None:
        decoder = _section(fast, "decoder", "WordPiece", path)
        # `detokenize` never cleans up spaces, so both values of `cleanup` are accepted.
        if decoder.get("prefix", "##") != "##" or not isinstance(
            decoder.get("cleanup", True), bool
        ):
            raise ConfigError(
                f"Expected a WordPiece decoder with the prefix '##' in {path}, received "
                f"{decoder!r:.120}."
            )
    options = {**flags, "unk_token": unk_token, "max_characters_per_word": longest}
    return tokens_in_order(model.get("vocab"), path, gaps=True), options


def _section(
    fast: Mapping[str, Any], key: str, expected: str, path: pathlib.Path
) -> Mapping[str, Any]:
    """Returns a section of tokenizer.json; checks its type and keys."""
    section = fast.get(key)
    received = None
    if isinstance(section, Mapping):
        # Files of 2020 and earlier do not have the model's type.
        received = section.get("type", expected if key == "model" else None)
    if not isinstance(section, Mapping) or received != expected:
        value = section if received is None else received
        raise ConfigError(f"Expected a {expected} {key} in {path}, received {value!r:.80}.")
    check_keys(section, {"type"} | _SECTIONS[key], f"a {expected} {key}", path)
    return section


def tokenizer_json(pieces: Sequence[str], options: WordPieceOptions) -> dict[str, Any]:
    """Returns the contents of a tokenizer.json.

    Raises:
        ConfigError: no post-processor of `tokenizers` has these options.
    """
    if options.trim_offsets and not MPNET.match(options):
        raise ConfigError(
            "Expected trim_offsets=False, or separators_between=2 with second_segment_id=0, "
            "received another combination. No post-processor of `tokenizers` supports it."
        )
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": token.id, **token.to_json()} for token in options.added_by_id],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": options.handle_chinese_chars,
            "strip_accents": options.strip_accents,
            "lowercase": options.lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": write_template(template_of(options, trim_offsets=options.trim_offsets)),
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False},
        "model": {
            "type": "WordPiece",
            "unk_token": options.unk_token,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": options.max_characters_per_word,
            "vocab": {token: i for i, token in enumerate(pieces)},
        },
    }
