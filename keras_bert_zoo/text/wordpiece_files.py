"""The files of a WordPiece tokenizer in a Hugging Face directory, read and written.

What a file asks for and `WordPieceTokenizer` does not do is refused by name, never passed over.
"""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.errors import ConfigError

if TYPE_CHECKING:
    from keras_bert_zoo.text.wordpiece import WordPieceTokenizer

_NAMED = {
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "mask_token": "[MASK]",
}
# transformers writes int(1e30) where a model has no limit.
_NO_LIMIT = 10**9
# Fields of tokenizer_config.json that decide nothing about ids and offsets of texts.
_HARMLESS = frozenset(
    {
        "added_tokens_decoder", "additional_special_tokens", "auto_map", "backend",
        "clean_up_tokenization_spaces", "cls_token", "do_lower_case", "extra_special_tokens",
        "is_local", "local_files_only", "mask_token", "max_length", "max_len", "model_input_names",
        "model_max_length", "model_specific_special_tokens", "name_or_path", "pad_to_multiple_of",
        "pad_token", "pad_token_type_id", "padding", "padding_side", "processor_class", "sep_token",
        "special_tokens_map_file", "stride", "strip_accents", "tokenize_chinese_chars",
        "tokenizer_class", "tokenizer_file", "transformers_version", "truncation",
        "truncation_side", "truncation_strategy", "unk_token", "use_fast", "verbose", "vocab_file",
        "vocab_size",
    }
)  # fmt: skip


def read_vocabulary(path: str | os.PathLike[str]) -> list[str]:
    """The tokens of a vocab.txt, one a line.

    Raises:
        ConfigError: the file is missing, empty or not UTF-8.
    """
    try:
        text = pathlib.Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise ConfigError(f"expected a vocabulary at {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"expected a vocabulary in UTF-8 at {path}, got other bytes at {error.start}"
        ) from error
    # By "\n" alone: a vocabulary may hold other line separators as tokens.
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise ConfigError(f"expected a vocabulary of one token a line at {path}, got no line")
    return lines


def read_directory(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """The arguments of WordPieceTokenizer for a Hugging Face directory."""
    folder = pathlib.Path(directory)
    config = _read_json(folder / "tokenizer_config.json")
    fast = _read_json(folder / "tokenizer.json")
    options: dict[str, Any] = {}
    if fast:
        try:
            options.update(_from_fast(fast, folder / "tokenizer.json"))
        except (AttributeError, KeyError, TypeError) as error:
            raise ConfigError(
                f"expected a tokenizer as `tokenizers` writes it in {folder / 'tokenizer.json'}, "
                f"got another structure ({type(error).__name__}: {error})"
            ) from error
    if (folder / "vocab.txt").exists():
        vocabulary = read_vocabulary(folder / "vocab.txt")
        if options.get("vocabulary", vocabulary) != vocabulary:
            raise ConfigError(
                f"expected the same vocabulary in vocab.txt and tokenizer.json in {folder}, "
                f"got {len(vocabulary)} and {len(options['vocabulary'])} tokens that differ; "
                "delete the one that does not belong to the model"
            )
        options["vocabulary"] = vocabulary
    elif "vocabulary" not in options:
        raise ConfigError(f"expected vocab.txt or tokenizer.json in {folder}, found neither")
    added = {**options.pop("added", {})}
    named = _read_json(folder / "special_tokens_map.json")
    options.update({key: _content(named[key]) for key in _NAMED if named.get(key) is not None})
    options.update(_from_config(config, folder / "tokenizer_config.json"))
    added.update(options.pop("added", {}))
    unexplained = sorted(set(_read_json(folder / "added_tokens.json")) - set(added.values()))
    if unexplained:
        raise ConfigError(
            f"added_tokens.json in {folder} adds {unexplained[:3]} without saying how they are "
            "matched; save the tokenizer with a later transformers, which writes it into "
            "tokenizer_config.json"
        )
    options["additional_special_tokens"] = _in_order(added, options)
    return options


def _in_order(added: Mapping[int, str], options: Mapping[str, Any]) -> list[str]:
    """Special tokens besides the named ones; new ids must follow the vocabulary's."""
    known = {token: i for i, token in enumerate(options["vocabulary"])}
    named = {options.get(key, default) for key, default in _NAMED.items()}
    tokens = []
    behind = len(known)
    for token_id, token in sorted(added.items()):
        expected = known.get(token, behind)
        if token_id != expected:
            raise ConfigError(
                f"expected the added token {token!r} to have the id {expected}, got {token_id}; "
                "added tokens must follow the vocabulary without gaps"
            )
        behind += token not in known
        tokens.append(token)
    tokens += options.get("additional_special_tokens", [])
    return [token for token in dict.fromkeys(tokens) if token not in named]


def _from_config(config: Mapping[str, Any], path: pathlib.Path) -> dict[str, Any]:
    """Options that tokenizer_config.json names."""
    options: dict[str, Any] = {}
    unknown = sorted(set(config) - _HARMLESS - {"never_split", "do_basic_tokenize"})
    if unknown:
        raise ConfigError(f"expected options of a BERT tokenizer in {path}, got {unknown}")
    if config.get("never_split"):
        raise ConfigError(f"never_split={config['never_split']!r} in {path} is not supported")
    if config.get("do_basic_tokenize", True) is not True:
        raise ConfigError(f"do_basic_tokenize=false in {path} is not supported")
    for side in ("truncation_side", "padding_side"):
        if config.get(side, "right") != "right":
            raise ConfigError(f"{side}={config[side]!r} in {path} is not supported; only 'right'")
    for theirs, ours in (
        ("do_lower_case", "lowercase"),
        ("strip_accents", "strip_accents"),
        ("tokenize_chinese_chars", "handle_chinese_chars"),
    ):
        if theirs not in config:
            continue
        value = config[theirs]
        if not (isinstance(value, bool) or (value is None and theirs == "strip_accents")):
            raise ConfigError(f"expected {theirs} of true or false in {path}, got {value!r}")
        options[ours] = value
    for key in _NAMED:
        if key in config:
            options[key] = None if config[key] is None else _content(config[key])
    extra = config.get("additional_special_tokens") or config.get("extra_special_tokens") or []
    extra = list(extra.values()) if isinstance(extra, Mapping) else extra
    options["additional_special_tokens"] = [_content(token) for token in extra]
    options["added"] = {
        int(token_id): _added_token(token, path)
        for token_id, token in (config.get("added_tokens_decoder") or {}).items()
    }
    limit = config.get("model_max_length")
    if isinstance(limit, int | float) and limit < _NO_LIMIT:
        options["max_length"] = int(limit)
    return options


def _from_fast(fast: Mapping[str, Any], path: pathlib.Path) -> dict[str, Any]:
    """Options of a tokenizer.json."""
    model = fast.get("model") or {}
    if model.get("type", "WordPiece") != "WordPiece":
        raise ConfigError(f"expected a WordPiece model in {path}, got {model.get('type')!r}")
    if model.get("continuing_subword_prefix", "##") != "##":
        raise ConfigError(
            f"continuing_subword_prefix={model['continuing_subword_prefix']!r} in {path} is not "
            "supported; only '##'"
        )
    normalizer = fast.get("normalizer") or {}
    if normalizer.get("type") != "BertNormalizer" or not normalizer.get("clean_text", True):
        raise ConfigError(
            f"expected a BertNormalizer with clean_text in {path}, got {normalizer!r:.80}"
        )
    splitter = fast.get("pre_tokenizer") or {}
    if splitter.get("type") != "BertPreTokenizer":
        raise ConfigError(f"expected a BertPreTokenizer in {path}, got {splitter!r:.80}")
    _check_template(fast.get("post_processor") or {}, path)
    options: dict[str, Any] = {
        "lowercase": normalizer.get("lowercase", True),
        "strip_accents": normalizer.get("strip_accents"),
        "handle_chinese_chars": normalizer.get("handle_chinese_chars", True),
        "unk_token": model.get("unk_token", "[UNK]"),
        "max_characters_per_word": model.get("max_input_chars_per_word", 100),
        "added": {
            token["id"]: _added_token(token, path) for token in fast.get("added_tokens") or []
        },
    }
    pieces = model.get("vocab") or {}
    if sorted(pieces.values()) != list(range(len(pieces))):
        raise ConfigError(f"expected the ids 0 to {len(pieces) - 1} once each in {path}")
    options["vocabulary"] = sorted(pieces, key=pieces.__getitem__)
    return options


def _check_template(processor: Mapping[str, Any], path: pathlib.Path) -> None:
    """Raises ConfigError unless the special tokens stand as [CLS] a [SEP] b [SEP]."""
    kind = processor.get("type", "BertProcessing")
    if kind == "BertProcessing":
        return
    parts = [part for entry in processor.get("pair") or [] for part in entry.values()]
    names = [part["id"] for part in parts]
    types = [part["type_id"] for part in parts]
    if (
        kind != "TemplateProcessing"
        or types != [0, 0, 0, 1, 1]
        or (names[1], names[3]) != ("A", "B")
        or names[2] != names[4]
    ):
        raise ConfigError(
            f"expected a post_processor that gives [CLS] a [SEP] b [SEP] in {path}, "
            f"got {processor!r:.200}"
        )


def _added_token(token: Mapping[str, Any], path: pathlib.Path) -> str:
    """The content of an added token that is matched in the way that is supported."""
    for flag in ("lstrip", "rstrip", "single_word", "normalized"):
        if token.get(flag):
            raise ConfigError(
                f"{flag}=true of the added token {token.get('content')!r} in {path} is not "
                "supported; only tokens matched in the raw text as they are"
            )
    return _content(token)


def _content(token: Any) -> str:
    """A token written as a string, or as an object with `content`."""
    content = token.get("content") if isinstance(token, Mapping) else token
    if not isinstance(content, str):
        raise ConfigError(f"expected a token as a string, got {token!r:.80}")
    return content


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    """A JSON object, or an empty one if there is no such file."""
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"expected a JSON object in UTF-8 at {path}: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"expected a JSON object at {path}, got {type(value).__name__}")
    return value


def write_directory(directory: str | os.PathLike[str], tokenizer: WordPieceTokenizer) -> None:
    """Writes vocab.txt and tokenizer_config.json for `transformers.AutoTokenizer`."""
    if tokenizer.max_characters_per_word != 100:
        raise ConfigError(
            "expected max_characters_per_word of 100, the only one that vocab.txt and "
            f"tokenizer_config.json can say, got {tokenizer.max_characters_per_word}"
        )
    folder = pathlib.Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    unwritable = [token for token in tokenizer.pieces if "\n" in token or token.endswith("\r")]
    if unwritable:
        raise ConfigError(f"expected tokens without line ends, got {unwritable[0]!r}")
    config: dict[str, Any] = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": tokenizer.lowercase,
        "strip_accents": tokenizer.strip_accents,
        "tokenize_chinese_chars": tokenizer.handle_chinese_chars,
        **{key: getattr(tokenizer, key) for key in _NAMED},
        "additional_special_tokens": list(tokenizer.additional_special_tokens),
        "added_tokens_decoder": {
            str(tokenizer.token_to_id(token)): {
                "content": token,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": True,
            }
            for token in tokenizer.special_tokens
        },
    }
    if tokenizer.max_length is not None:
        config["model_max_length"] = tokenizer.max_length
    (folder / "vocab.txt").write_bytes("".join(f"{t}\n" for t in tokenizer.pieces).encode())
    (folder / "tokenizer_config.json").write_text(
        json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8"
    )
