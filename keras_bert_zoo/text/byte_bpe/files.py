"""The files of a byte-level BPE tokenizer in a Hugging Face directory, read and written.

What a file asks for and `ByteBpeTokenizer` does not do is refused by name, never passed over.
"""

from __future__ import annotations

import json
import logging
import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.files import parse_json
from keras_bert_zoo.notices import warn_once
from keras_bert_zoo.text import tokenizer_files
from keras_bert_zoo.text.byte_bpe import model as byte_bpe_model
from keras_bert_zoo.text.special_tokens import AddedToken
from keras_bert_zoo.text.tokenizer_files import ALL_NAMED, NAMED, Packing, Template

if TYPE_CHECKING:
    from keras_bert_zoo.text.byte_bpe.tokenizer import ByteBpeTokenizer

_logger = logging.getLogger(__name__)

# Classes that take RoBERTa's special tokens and template for granted.
_LIKE_ROBERTA = frozenset({"RobertaTokenizer", "LongformerTokenizer", "LEDTokenizer"})
_ROBERTA = {
    "unk_token": "<unk>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}
_BY_MODEL_TYPE = dict.fromkeys(("roberta", "longformer", "led"), "RobertaTokenizer")
# Options of the model in tokenizer.json, and the values that change nothing.
_MODEL_OPTIONS: dict[str, tuple[Any, ...]] = {
    "dropout": (None, 0, 0.0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "byte_fallback": (None, False),
    "ignore_merges": (None, False),
}
_MODEL_KEYS = frozenset({"type", "unk_token", "fuse_unk", "vocab", "merges", *_MODEL_OPTIONS})
_BYTE_LEVEL_KEYS = frozenset({"type", "add_prefix_space", "trim_offsets", "use_regex"})
# Fields of tokenizer_config.json that decide nothing about ids and offsets of texts, or that
# tokenizer_files reads.
_KNOWN = frozenset(
    {
        "add_prefix_space", "added_tokens_decoder", "additional_special_tokens", "auto_map",
        "backend", "clean_up_tokenization_spaces", "do_lower_case", "errors",
        "extra_special_tokens", "is_local", "local_files_only", "max_length", "max_len",
        "model_input_names", "model_max_length", "model_specific_special_tokens", "name_or_path",
        "pad_to_multiple_of", "pad_token_type_id", "padding", "padding_side", "processor_class",
        "special_tokens_map_file", "stride", "tokenizer_class", "tokenizer_file",
        "transformers_version", "trim_offsets", "truncation", "truncation_side",
        "truncation_strategy", "use_fast", "verbose", "vocab_file", "vocab_size", "vocab_type",
        "merges_file", *ALL_NAMED,
    }
)  # fmt: skip


def read_vocabulary(path: str | os.PathLike[str]) -> list[str]:
    """The tokens of a vocab.json in the order of their ids.

    Raises:
        ConfigError: the file is missing or damaged, or its ids are not 0 to the last, once each.
    """
    path = pathlib.Path(path)
    data = tokenizer_files.read_bytes(path)
    return tokenizer_files.tokens_in_order(parse_json(data, str(path), limit=len(data)), path)


def read_merges(path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """The pairs of a merges.txt.

    Raises:
        ConfigError: the file is missing or not UTF-8, or a line is not of two tokens.
    """
    merges = []
    blank = 0
    for number, line in enumerate(tokenizer_files.read_lines(path, "merges"), 1):
        line = line.removeprefix("\ufeff") if number == 1 else line
        if line.startswith("#version"):
            continue
        if not line.strip():
            blank += 1
            continue
        pair = line.split(" ")
        if len(pair) != 2 or not all(pair):
            raise ConfigError(
                f"expected two tokens and a space between them at line {number} of {path}, got "
                f"{line!r:.80}"
            )
        merges.append((pair[0], pair[1]))
    if blank:
        warn_once(_logger, f"{os.fspath(path)}: {blank:,} blank lines were passed over.")
    return merges


def read_directory(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """The arguments of ByteBpeTokenizer for a Hugging Face directory."""
    folder = pathlib.Path(directory)
    config = tokenizer_files.read_json(folder / "tokenizer_config.json")
    fast = tokenizer_files.read_json(folder / "tokenizer.json")
    path = folder / "tokenizer_config.json"
    tokenizer_files.check_fields(config, _KNOWN, path)
    tokenizer_files.check_sides(config, fast, folder)
    kind = tokenizer_files.class_name(folder, _BY_MODEL_TYPE)
    if not fast and kind is not None and kind not in _LIKE_ROBERTA:
        raise ConfigError(
            f"expected tokenizer.json in {folder}, as it is of {kind!r:.80}, whose special tokens "
            "and template vocab.json and merges.txt do not say; save the tokenizer with "
            "transformers, which writes it"
        )
    options = _from_fast(fast, folder) if fast else _from_lists(folder)
    added = tokenizer_files.added_tokens(folder, config, fast)
    _name_tokens(options, folder, config, added, kind)
    for key in ("add_prefix_space", "trim_offsets"):
        if key == "trim_offsets" and kind not in _LIKE_ROBERTA:
            continue  # in other classes, the template alone decides
        value = config.get(key)
        if value is None:
            continue
        if not isinstance(value, bool):
            raise ConfigError(f"expected {key} of true or false in {folder}, got {value!r:.80}")
        options[key] = value
    if kind not in _LIKE_ROBERTA:  # which have their own pad_token
        tokenizer_files.check_padding(options["pad_token"], folder, config, fast)
    options["max_length"] = tokenizer_files.max_length(config, path)
    return options


def _name_tokens(
    options: dict[str, Any],
    folder: pathlib.Path,
    config: Mapping[str, Any],
    added: dict[str, AddedToken],
    kind: str | None,
) -> None:
    """Puts the named and added tokens into the options."""
    known = {*options["vocabulary"], *(t.content for t in added.values() if t.id is not None)}
    named = tokenizer_files.named_tokens(folder, config, NAMED)
    for name in NAMED:
        token = named.get(name, options.get(name))
        if name not in named and token is None and (kind in _LIKE_ROBERTA or kind is None):
            token = _ROBERTA[name] if _ROBERTA[name] in known else None
        if isinstance(token, AddedToken):
            added.setdefault(token.content, token)
            token = token.content
        said = options.get(name)
        if said is not None and token != said:
            raise ConfigError(
                f"expected one {name} in {folder}, got {token!r:.60} in tokenizer_config.json and "
                f"{said!r:.60} in the post_processor of tokenizer.json"
            )
        if name == "mask_token" and token is not None and token not in known:
            warn_once(
                _logger,
                f"{folder}: the vocabulary has no mask_token {token!r:.80}; the tokenizer is "
                "loaded without one, which serves everything but masked language models.",
            )
            added.pop(token, None)
            token = None
        if token is None and name != "mask_token":
            raise ConfigError(
                f"expected {name} in {folder / 'tokenizer_config.json'}, found none; name the "
                "token that the model was trained with"
            )
        options[name] = token
    # Where no file says that the mask token takes the space before it, it does not, as in
    # transformers 5. (RoBERTa's own tokenizer.json says it; transformers 4 took it for granted.)
    options["added_tokens"] = list(added.values())


def _from_lists(folder: pathlib.Path) -> dict[str, Any]:
    """Options of vocab.json and merges.txt."""
    for name in ("vocab.json", "merges.txt"):
        if not tokenizer_files.is_there(folder / name):
            raise ConfigError(
                f"expected tokenizer.json, or vocab.json and merges.txt, in {folder}; found no "
                f"{name}"
            )
    return {
        "vocabulary": read_vocabulary(folder / "vocab.json"),
        "merges": read_merges(folder / "merges.txt"),
    }


def _from_fast(fast: Mapping[str, Any], folder: pathlib.Path) -> dict[str, Any]:
    """Options of a tokenizer.json."""
    path = folder / "tokenizer.json"
    try:
        model = dict(fast["model"])
        _check_model(model, path)
        options: dict[str, Any] = {
            "vocabulary": tokenizer_files.tokens_in_order(model.get("vocab"), path),
            "merges": _pairs(model.get("merges"), path),
            "nfc": _is_nfc(fast.get("normalizer"), path),
            "add_prefix_space": _prefix_of(fast.get("pre_tokenizer"), path),
        }
        _check_decoder(fast.get("decoder"), path)
    except ConfigError:  # a ValueError, too
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"expected a tokenizer as `tokenizers` writes it in {path}, got another structure "
            f"({type(error).__name__}: {error})"
        ) from error
    if model.get("unk_token") is not None:
        held = set(options["vocabulary"])
        options["unknown_bytes"] = any(
            char not in held for char in byte_bpe_model.byte_by_character()
        )
        if options["unknown_bytes"] and model.get("fuse_unk"):
            raise ConfigError(
                f"fuse_unk=true in {path} is not supported with a vocabulary that lacks bytes"
            )
        if options["unknown_bytes"]:
            options["unk_token"] = model["unk_token"]
    template = tokenizer_files.read_template(fast.get("post_processor"), path)
    if template is None:
        raise ConfigError(
            f"expected a post_processor in {path} that puts special tokens around texts, got none"
        )
    if template.trim_offsets and template.add_prefix_space != options["add_prefix_space"]:
        raise ConfigError(
            f"expected the same add_prefix_space in pre_tokenizer and post_processor of {path}, "
            f"got {options['add_prefix_space']} and {template.add_prefix_space}"
        )
    ids = {token: i for i, token in enumerate(options["vocabulary"])}
    for token in tokenizer_files.listed_tokens(fast, path):
        if token.id is not None:
            ids.setdefault(token.content, token.id)
    template.check_ids(ids, path)
    packing = template.packing
    return options | {
        "cls_token": template.cls_token,
        "sep_token": template.sep_token,
        "trim_offsets": template.trim_offsets,
        "separators_between": packing.separators_between,
        "second_segment_id": packing.second_segment_id,
        "cls_segment_id": packing.cls_segment_id,
    }


def _pairs(merges: Any, path: pathlib.Path) -> list[tuple[str, str]]:
    """Merges as `tokenizers` writes them: "a b", or since version 0.20 ["a", "b"]."""
    if not isinstance(merges, list):
        raise ConfigError(f"expected merges as a list in {path}, got {merges!r:.80}")
    pairs = []
    for number, merge in enumerate(merges, 1):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or not all(isinstance(token, str) and token for token in pair)
        ):
            raise ConfigError(
                f"expected merges of two tokens in {path}, got {merge!r:.80} (number {number})"
            )
        pairs.append((pair[0], pair[1]))
    return pairs


def _check_model(model: Mapping[str, Any], path: pathlib.Path) -> None:
    """Raises ConfigError for options of BPE that are not supported."""
    if model.get("type", "BPE") != "BPE":
        raise ConfigError(f"expected a BPE model in {path}, got {model['type']!r:.80}")
    tokenizer_files.check_keys(model, _MODEL_KEYS, "a BPE model", path)
    if not isinstance(model.get("unk_token"), str | None):
        raise ConfigError(
            f"expected unk_token as a string in {path}, got {model['unk_token']!r:.80}"
        )
    if not isinstance(model.get("fuse_unk"), bool | None):
        raise ConfigError(
            f"expected fuse_unk of true or false in {path}, got {model['fuse_unk']!r:.80}"
        )
    for key, allowed in _MODEL_OPTIONS.items():
        if model.get(key) not in allowed:
            raise ConfigError(
                f"{key}={model[key]!r:.80} of the model in {path} is not supported; only "
                f"{allowed[-1]!r}"
            )


def _is_nfc(normalizer: Any, path: pathlib.Path) -> bool:
    """Whether the normalizer is NFC and not none."""
    if normalizer is None:
        return False
    steps = normalizer["normalizers"] if normalizer["type"] == "Sequence" else [normalizer]
    kinds = {step["type"] for step in steps}
    if not kinds <= {"NFC"}:
        raise ConfigError(
            f"expected no normalizer or NFC in {path}, got {', '.join(sorted(kinds))}"
        )
    return bool(kinds)


def _prefix_of(splitter: Any, path: pathlib.Path) -> bool:
    """`add_prefix_space` of a ByteLevel pre-tokenizer, the only one that is supported."""
    kind = (splitter or {}).get("type")
    if kind == "Sequence" and len(splitter["pretokenizers"]) == 1:
        return _prefix_of(splitter["pretokenizers"][0], path)
    if kind != "ByteLevel" or splitter.get("use_regex", True) is not True:
        raise ConfigError(
            f"expected a ByteLevel pre_tokenizer with use_regex in {path}, got {splitter!r:.120}"
        )
    tokenizer_files.check_keys(splitter, _BYTE_LEVEL_KEYS, "a ByteLevel pre_tokenizer", path)
    prefix = splitter["add_prefix_space"]
    if not isinstance(prefix, bool):
        raise ConfigError(
            f"expected add_prefix_space of true or false in {path}, got {prefix!r:.80}"
        )
    return prefix


def _check_decoder(decoder: Any, path: pathlib.Path) -> None:
    """Raises ConfigError if ids are made texts in another way."""
    if decoder is not None and decoder["type"] != "ByteLevel":
        raise ConfigError(f"expected a ByteLevel decoder in {path}, got {decoder['type']!r:.80}")


def write_directory(directory: str | os.PathLike[str], tokenizer: ByteBpeTokenizer) -> None:
    """Writes tokenizer.json and tokenizer_config.json for `transformers.AutoTokenizer`."""
    packing = Packing.of(tokenizer)
    like_roberta = tokenizer.trim_offsets and packing == Packing(2, 0)
    if tokenizer.trim_offsets and not like_roberta:
        raise ConfigError(
            "expected trim_offsets=False to save, or separators_between=2 and second_segment_id=0:"
            " no post-processor of `tokenizers` does one without the other"
        )
    # The generic class takes all from tokenizer.json; RoBERTa's knows no NFC.
    own = like_roberta and not tokenizer.nfc and not tokenizer.unknown_bytes
    config: dict[str, Any] = {
        "tokenizer_class": "RobertaTokenizer" if own else "PreTrainedTokenizerFast",
        "add_prefix_space": tokenizer.add_prefix_space,
        **{key: getattr(tokenizer, key) for key in NAMED},
        "additional_special_tokens": list(tokenizer.additional_special_tokens),
        "added_tokens_decoder": {str(t.id): t.to_json() for t in _by_id(tokenizer)},
    }
    if own:
        config |= {"trim_offsets": True, "bos_token": tokenizer.cls_token}
        config["eos_token"] = tokenizer.sep_token
    if packing.second_segment_id == 0:
        config["model_input_names"] = ["input_ids", "attention_mask"]
    if tokenizer.max_length is not None:
        config["model_max_length"] = tokenizer.max_length
    folder = pathlib.Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    stale = ("vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json")
    tokenizer_files.remove_stale(folder, stale)
    for name, content in (("tokenizer.json", _fast(tokenizer)), ("tokenizer_config.json", config)):
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (folder / name).write_text(text, "utf-8")


def _by_id(tokenizer: ByteBpeTokenizer) -> list[AddedToken]:
    return sorted(tokenizer.added_tokens, key=lambda token: token.id or 0)


def _fast(tokenizer: ByteBpeTokenizer) -> dict[str, Any]:
    """The contents of tokenizer.json."""
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": tokenizer.add_prefix_space,
        "trim_offsets": True,
        "use_regex": True,
    }
    template = Template(
        tokenizer.cls_token,
        tokenizer.sep_token,
        Packing.of(tokenizer),
        (
            (tokenizer.cls_token, tokenizer.cls_token_id),
            (tokenizer.sep_token, tokenizer.sep_token_id),
        ),
        tokenizer.trim_offsets,
        tokenizer.add_prefix_space,
    )
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": t.id, **t.to_json()} for t in _by_id(tokenizer)],
        "normalizer": {"type": "NFC"} if tokenizer.nfc else None,
        "pre_tokenizer": byte_level,
        "post_processor": tokenizer_files.write_template(template),
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": tokenizer.unk_token if tokenizer.unknown_bytes else None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(tokenizer.pieces)},
            "merges": [list(pair) for pair in tokenizer.merges],
        },
    }
