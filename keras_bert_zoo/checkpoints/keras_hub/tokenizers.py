"""Converts the tokenizer of a KerasHub preset to a Hugging Face directory, and back.

Vocabularies and options are converted, but the tokenization rules are Hugging Face's. For some rare
strings, KerasHub's tokenizers differ from those of the model's authors, so the ids differ.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from keras_bert_zoo.checkpoints.config_checks import is_keras_hub_config
from keras_bert_zoo.checkpoints.messages import one_line, show_name
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.files import parse_json, read_json, read_small_file
from keras_bert_zoo.text.wordpiece.files import read_directory

TOKENIZER_FILE = "tokenizer.json"
PREPROCESSOR_FILE = "preprocessor.json"
ASSETS = Path("assets", "tokenizer")
WORDPIECE, BPE_VOCABULARY, BPE_MERGES = "vocabulary.txt", "vocabulary.json", "merges.txt"
SENTENCEPIECE = "vocabulary.spm"

_MERGES_HEADER = b"#version: 0.2\n"
# Above the size of all known vocabularies (XLM-V's 900,000 tokens have 18 MB).
_ASSET_LIMIT_BYTES = 64_000_000

_BERT_TOKENS = {
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "mask_token": "[MASK]",
}
_ROBERTA_TOKENS = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}


class Kind(NamedTuple):
    """The form of a KerasHub tokenizer in a Hugging Face directory.

    Args:
        tokenizer_class: Hugging Face's class.
        files: file in the preset's assets -> file in the directory.
        options: fixed options of tokenizer_config.json.
        allowed: KerasHub's option -> its supported values. Empty: all values are supported.
    """

    tokenizer_class: str
    files: Mapping[str, str]
    options: Mapping[str, Any]
    allowed: Mapping[str, tuple[Any, ...]]


_COMMON: dict[str, tuple[Any, ...]] = {
    "name": (),
    "trainable": (),
    "dtype": (),
    "config_file": (),
    "sequence_length": (None,),
}
_WORDPIECE_OPTIONS = _COMMON | {
    "vocabulary": (None,),
    "lowercase": (True, False),
    "strip_accents": (True, False),
    "split": (True,),
    "split_on_cjk": (True, False),
    "suffix_indicator": ("##",),
    "oov_token": ("[UNK]",),
    "special_tokens": (None, []),
    "special_tokens_in_strings": (True, False),
}
_SENTENCEPIECE_OPTIONS = _COMMON | {"proto": (None,), "add_bos": (False,), "add_eos": (False,)}


def _wordpiece(tokenizer_class: str) -> Kind:
    return Kind(tokenizer_class, {WORDPIECE: "vocab.txt"}, _BERT_TOKENS, _WORDPIECE_OPTIONS)


def _sentencepiece(tokenizer_class: str, file: str, **options: Any) -> Kind:
    return Kind(tokenizer_class, {SENTENCEPIECE: file}, options, _SENTENCEPIECE_OPTIONS)


# KerasHub has no preprocessing before the SentencePiece model. So Hugging Face's preprocessing for
# ALBERT and FNet (lowercasing, stripping accents) is disabled.
_ALBERT_OPTIONS = _BERT_TOKENS | {
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "bos_token": "[CLS]",
    "eos_token": "[SEP]",
    "do_lower_case": False,
    "keep_accents": True,
    "remove_space": True,
}
KINDS: dict[str, Kind] = {
    "BertTokenizer": _wordpiece("BertTokenizer"),
    "DistilBertTokenizer": _wordpiece("DistilBertTokenizer"),
    "ElectraTokenizer": _wordpiece("ElectraTokenizer"),
    "RobertaTokenizer": Kind(
        "RobertaTokenizer",
        {BPE_VOCABULARY: "vocab.json", BPE_MERGES: "merges.txt"},
        _ROBERTA_TOKENS,
        _COMMON | {"add_prefix_space": (True, False), "unsplittable_tokens": ()},
    ),
    "XLMRobertaTokenizer": _sentencepiece(
        "XLMRobertaTokenizer", "sentencepiece.bpe.model", **_ROBERTA_TOKENS
    ),
    "AlbertTokenizer": _sentencepiece("AlbertTokenizer", "spiece.model", **_ALBERT_OPTIONS),
    "FNetTokenizer": _sentencepiece("FNetTokenizer", "spiece.model", **_ALBERT_OPTIONS),
    "DebertaV3Tokenizer": _sentencepiece(
        "DebertaV2Tokenizer",
        "spm.model",
        **_BERT_TOKENS,
        bos_token="[CLS]",
        eos_token="[SEP]",
        do_lower_case=False,
        split_by_punct=False,
        vocab_type="spm",
    ),
}


def has_tokenizer(directory: str | os.PathLike[str]) -> bool:
    """Whether a preset has a tokenizer."""
    return bool(_find(Path(directory))[1])


def find_pad_token_id(directory: str | os.PathLike[str]) -> int | None:
    """Returns the id of a preset's padding token, if its vocabulary is a list of tokens.

    Args:
        directory: path of a preset.

    Returns:
        int. None: there is no vocabulary.txt or vocabulary.json.

    Raises:
        ConfigError: the vocabulary is malformed, or has no padding token.
    """
    assets = Path(directory) / ASSETS
    if (assets / WORDPIECE).is_file():
        path, token = assets / WORDPIECE, "[PAD]"
        # Reads one line at a time. A list of all lines could need eight times the file's size.
        lines = io.BytesIO(_read_asset(path))
        pad_id = next((i for i, line in enumerate(lines) if line.rstrip() == token.encode()), None)
    elif (assets / BPE_VOCABULARY).is_file():
        path, token = assets / BPE_VOCABULARY, "<pad>"
        pad_id = _vocabulary(path).get(token)
    else:
        return None
    if pad_id is None:
        raise ConfigError(f"{path} has no {token}, which KerasHub's tokenizers need.")
    return pad_id


def materialise_tokenizer(
    preset_directory: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    max_length: int | None = None,
) -> list[Path]:
    """Writes the tokenizer of a preset to a Hugging Face directory.

    Args:
        preset_directory: path of a KerasHub preset.
        destination: path of an existing directory.
        max_length: int or None. The value of `model_max_length`.

    Returns:
        list of Path, the written files: tokenizer_config.json, and vocab.txt, vocab.json with
        merges.txt, or a SentencePiece model with the usual name of the family.

    Raises:
        CheckpointError: the preset has no tokenizer, or some of its files are missing.
        ConfigError: Hugging Face's tokenizer does not support some options. The message lists them.
    """
    directory, destination = Path(preset_directory), Path(destination)
    path, serialized = _find(directory)
    if not serialized:
        raise CheckpointError(
            f"Expected KerasHub's {TOKENIZER_FILE}, or a {PREPROCESSOR_FILE} with a tokenizer, in "
            f"{str(directory)!r}."
        )
    registered = str(serialized.get("registered_name"))
    package, _, name = registered.partition(">")
    if package not in ("keras_hub", "keras_nlp") or name not in KINDS:
        raise ConfigError(
            f"{path}: {registered!r:.80} is not supported. Expected one of: "
            f"{', '.join(sorted(KINDS))}."
        )
    kind, options = KINDS[name], serialized.get("config")
    if not isinstance(options, Mapping):
        raise ConfigError(f"{path} has no `config`.")
    _check_options(kind, options, path)
    config: dict[str, Any] = {"tokenizer_class": kind.tokenizer_class, **kind.options}
    if WORDPIECE in kind.files:
        config |= {
            "do_lower_case": options.get("lowercase", False),
            "strip_accents": options.get("strip_accents", False),
            "tokenize_chinese_chars": options.get("split_on_cjk", True),
        }
    elif BPE_VOCABULARY in kind.files:
        config["add_prefix_space"] = options.get("add_prefix_space", False)
    if max_length is not None:
        config["model_max_length"] = max_length
    contents = {
        theirs: _read_asset(directory / ASSETS / ours) for ours, theirs in kind.files.items()
    }
    # Hugging Face skips the first line of merges.txt.
    merges = contents.get("merges.txt", _MERGES_HEADER)
    if not merges.startswith(b"#version"):
        contents["merges.txt"] = _MERGES_HEADER + merges
    contents["tokenizer_config.json"] = (
        json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    ).encode()
    for file, data in contents.items():
        (destination / file).write_bytes(data)
    return [destination / file for file in contents]


def build_tokenizer(name: str, directory: str | os.PathLike[str]) -> Any:
    """Builds KerasHub's tokenizer from a Hugging Face directory.

    Args:
        name: KerasHub's name of the family: "Bert", "Roberta", ...
        directory: path of a Hugging Face directory.

    Returns:
        keras_hub.models.Tokenizer.

    Raises:
        CheckpointError: files are missing.
        ConfigError: KerasHub's tokenizer does not support some options. The message lists them.
    """
    import keras_hub

    directory = Path(directory)
    kind = KINDS[f"{name}Tokenizer"]
    build = getattr(keras_hub.models, f"{name}Tokenizer")
    config = directory / "tokenizer_config.json"
    options = read_json(config) if config.is_file() else {}
    if WORDPIECE in kind.files:
        return build(**_wordpiece_options(directory))
    for token, expected in kind.options.items():
        given = options.get(token, expected)
        given = given.get("content") if isinstance(given, Mapping) else given
        if token.endswith("_token") and given != expected:
            raise ConfigError(
                f"{config}: `{token}` = {given!r}, but KerasHub's {name}Tokenizer always has "
                f"{expected!r}."
            )
    if BPE_VOCABULARY in kind.files:
        vocabulary, merges = _bpe_files(directory)
        return build(
            vocabulary=vocabulary,
            merges=merges,
            add_prefix_space=options.get("add_prefix_space", False),
        )
    defaults = {"do_lower_case": name in ("Albert", "FNet"), "keep_accents": False}
    if options.get("do_lower_case", defaults["do_lower_case"]) or (
        name in ("Albert", "FNet") and not options.get("keep_accents", defaults["keep_accents"])
    ):
        raise ConfigError(
            f"{config}: KerasHub's {name}Tokenizer does not support lowercasing and stripping "
            "accents (`do_lower_case`, `keep_accents`)."
        )
    if options.get("split_by_punct"):
        raise ConfigError(f"{config}: KerasHub does not support `split_by_punct`.")
    return build(proto=_read_asset(directory / kind.files[SENTENCEPIECE]))


def _wordpiece_options(directory: Path) -> dict[str, Any]:
    vocabulary, wordpiece = read_directory(directory)
    options = vars(wordpiece)
    problems = [
        f"`{key}` = {options[key]!r} (expected {expected!r})"
        for key, expected in _BERT_TOKENS.items()
        if options.get(key, expected) != expected
    ]
    if not options.get("handle_chinese_chars", True):
        problems.append("`tokenize_chinese_chars` = false (KerasHub does not save it)")
    if options.get("max_characters_per_word", 100) != 100:
        problems.append("`max_input_chars_per_word` (expected 100)")
    if options.get("additional_special_tokens"):
        problems.append(f"`additional_special_tokens` = {options['additional_special_tokens']}")
    if problems:
        raise ConfigError(
            f"KerasHub does not support the tokenizer in {str(directory)!r}: "
            + "; ".join(problems)
            + "."
        )
    lowercase = options.get("lowercase", True)
    strip_accents = options.get("strip_accents")
    return {
        "vocabulary": vocabulary,
        "lowercase": lowercase,
        "strip_accents": lowercase if strip_accents is None else strip_accents,
        "special_tokens_in_strings": True,  # as in Hugging Face
    }


def _bpe_files(directory: Path) -> tuple[dict[str, int], list[str]]:
    """Returns the token ids and the merges of a Hugging Face directory."""
    if (directory / "vocab.json").is_file():
        lines = _text(directory / "merges.txt").split("\n")
        merges = [line.rstrip() for line in lines[lines[0].startswith("#version") :]]
        return _vocabulary(directory / "vocab.json"), [line for line in merges if line]
    path = directory / TOKENIZER_FILE
    if not path.is_file():
        raise CheckpointError(
            f"Expected vocab.json with merges.txt, or {path.name}, in {directory}."
        )
    model = parse_json(_read_asset(path), str(path), limit=_ASSET_LIMIT_BYTES).get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE":
        raise ConfigError(f"{path} has no BPE model.")
    vocabulary, pairs = model.get("vocab"), model.get("merges")
    if not isinstance(vocabulary, dict) or not isinstance(pairs, list):
        raise ConfigError(f"{path} has no BPE model: its `vocab` or `merges` is missing.")
    _check_ids(vocabulary, path)
    merges = [" ".join(pair) if _is_pair(pair) else pair for pair in pairs]
    wrong = next((merge for merge in merges if not isinstance(merge, str)), None)
    if wrong is not None:
        raise ConfigError(f"{path}: `merges` must be pairs of tokens, received {wrong!r:.80}.")
    return vocabulary, merges


def _text(path: Path) -> str:
    try:
        return _read_asset(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {one_line(error)}.") from None


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, str) for part in value)


def _check_options(kind: Kind, options: Mapping[str, Any], path: Path) -> None:
    problems = []
    for key, value in options.items():
        if key not in kind.allowed:
            problems.append(f"`{show_name(key)}` = {value!r:.80} is unknown")
        elif kind.allowed[key] and value not in kind.allowed[key]:
            expected = " or ".join(map(repr, kind.allowed[key]))
            problems.append(f"`{key}` = {value!r:.80} is not supported (expected {expected})")
    if problems:
        raise ConfigError(f"{path}: {'; '.join(problems)}.")


def _find(directory: Path) -> tuple[Path, Mapping[str, Any]]:
    """Returns the file of the serialized tokenizer, and its contents. Empty: there is none."""
    path = directory / TOKENIZER_FILE
    if path.is_file():
        serialized = read_json(path)
        if is_keras_hub_config(serialized):
            return path, serialized
    path = directory / PREPROCESSOR_FILE
    if path.is_file():
        config = read_json(path).get("config")
        tokenizer = config.get("tokenizer") if isinstance(config, Mapping) else None
        if isinstance(tokenizer, Mapping) and is_keras_hub_config(tokenizer):
            return path, tokenizer
    return path, {}


def _vocabulary(path: Path) -> dict[str, int]:
    vocabulary = parse_json(_read_asset(path), str(path), limit=_ASSET_LIMIT_BYTES)
    _check_ids(vocabulary, path)
    return vocabulary


def _check_ids(vocabulary: Mapping[str, Any], path: Path) -> None:
    if not all(type(value) is int and 0 <= value < 2**31 for value in vocabulary.values()):
        raise ConfigError(f"Expected an object of tokens and their ids in {path}.")


def _read_asset(path: Path) -> bytes:
    if not path.is_file():
        raise CheckpointError(f"No {path.name} in {str(path.parent)!r}.")
    return read_small_file(path, _ASSET_LIMIT_BYTES, CheckpointError)
