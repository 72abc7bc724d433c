"""The files of a unigram tokenizer in a Hugging Face directory, read and written.

A tokenizer.json is followed as it stands, as `tokenizers` does. (Some classes of transformers 5
take only the pieces from it and put in their own normalizer; what a model was trained with is what
its file says.) Where there is only SentencePiece's model file, the tokenizer is that of the class
that the directory names, as transformers 5 builds it.

What a file asks for and `SentencePieceTokenizer` does not do is refused by name, never passed over.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text import sentencepiece_model, tokenizer_files
from keras_bert_zoo.text.special_tokens import AddedToken
from keras_bert_zoo.text.tokenizer_files import NAMED, Packing, Template

if TYPE_CHECKING:
    from keras_bert_zoo.text.sentencepiece import SentencePieceTokenizer

SPACE_SIGN = "\u2581"
MODEL_FILES = (
    "sentencepiece.bpe.model", "spiece.model", "spm.model", "tokenizer.model",
    "sentencepiece.model",
)  # fmt: skip
_BY_MODEL_TYPE = {
    "albert": "AlbertTokenizer",
    "camembert": "CamembertTokenizer",
    "deberta-v2": "DebertaV2Tokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "xlm-roberta-xl": "XLMRobertaTokenizer",
}
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
    unknown = sorted(set(config) - _KNOWN_FIELDS)
    if unknown:
        raise ConfigError(f"expected options of a SentencePiece tokenizer in {path}, got {unknown}")
    kwargs = config.get("sp_model_kwargs")
    if kwargs:
        raise ConfigError(f"sp_model_kwargs={kwargs!r:.80} in {path} is not supported")
    tokenizer_files.check_sides(config, fast, folder)
    models = [name for name in MODEL_FILES if (folder / name).is_file()]
    if not models and not fast:
        models = sorted(path.name for path in folder.glob("*.model") if path.is_file())
    if len(models) > 1:
        raise ConfigError(f"expected one SentencePiece model in {folder}, got {models}")
    if fast:
        options = _from_fast(folder, fast, config)
    elif models:
        options = _from_model(folder, folder / models[0], config)
    else:
        raise ConfigError(
            f"expected tokenizer.json or one of {', '.join(MODEL_FILES)} in {folder}, found none"
        )
    options["max_length"] = tokenizer_files.max_length(config, path)
    options["model_file"] = (models[0], (folder / models[0]).read_bytes()) if models else None
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
    options["added_tokens"] = _with_flags(added, names, ids)
    ids |= {token.content: token.id for token in options["added_tokens"] if token.id is not None}
    template.check_ids(ids, path)
    return options


def _model_options(model: Mapping[str, Any], path: pathlib.Path) -> dict[str, Any]:
    """The options of a tokenizer.json's model."""
    unknown = sorted(set(model) - {"type", "unk_id", "vocab", "byte_fallback"})
    if model.get("type", "Unigram") != "Unigram" or unknown:
        raise ConfigError(
            f"expected a Unigram model in {path}, got {model.get('type')!r:.80}"
            + (f" with the options {unknown[:5]}" if unknown else "")
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
        raise ConfigError(f"expected byte_fallback of true or false in {path}, got {fallback!r}")
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


def _with_flags(
    added: Mapping[str, AddedToken],
    named: Mapping[str, AddedToken | None],
    ids: Mapping[str, int],
) -> list[AddedToken]:
    """The added tokens in the order of their ids; those that have none yet come last."""
    tokens = dict(added)
    for token in named.values():
        if token is not None:
            tokens.setdefault(token.content, token)
            tokens[token.content] = dataclasses.replace(tokens[token.content], special=True)
    placed = {
        content: token if token.id is not None else dataclasses.replace(token, id=ids.get(content))
        for content, token in tokens.items()
    }
    return sorted(placed.values(), key=lambda token: 1 << 40 if token.id is None else token.id)


# SentencePiece's model file


def _from_model(
    folder: pathlib.Path, path: pathlib.Path, config: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments for a model file."""
    name = tokenizer_files.class_name(folder, _BY_MODEL_TYPE)
    if name not in _FAMILIES:
        raise ConfigError(
            f"expected tokenizer_class of {', '.join(_FAMILIES)} for {path}, got {name!r}; name it "
            f"in {folder / 'tokenizer_config.json'}, or save a tokenizer.json"
        )
    model = sentencepiece_model.read_model(path)
    if model.algorithm != "unigram":
        raise ConfigError(
            f"the {model.algorithm} model in {path} is not supported; only unigram models"
        )
    defaults, bools = _FAMILIES[name]
    flags = dict(bools)
    for key in flags:
        if key in config:
            if not isinstance(config[key], bool):
                raise ConfigError(
                    f"expected {key} of true or false in {folder / 'tokenizer_config.json'}, got "
                    f"{config[key]!r:.80}"
                )
            flags[key] = config[key]
    named = {**defaults, **tokenizer_files.named_tokens(folder, config, defaults)}
    names: dict[str, AddedToken | None] = {
        key: AddedToken(token, lstrip=name == "CamembertTokenizer" and key == "mask_token")
        if isinstance(token, str)
        else token
        for key, token in named.items()
    }
    tokens = {key: token.content for key, token in names.items() if token is not None}
    missing = [key for key in defaults if key not in tokens and key != "mask_token"]
    if missing:
        raise ConfigError(f"expected {', '.join(missing)} in {folder}, got none")
    options: dict[str, Any] = {key: tokens.get(key) for key in NAMED}
    pieces = [(piece.text, piece.score) for piece in model.pieces]
    if name in ("XLMRobertaTokenizer", "CamembertTokenizer"):
        # What fairseq did: its special tokens before SentencePiece's own.
        heads = {piece.text for piece in model.pieces[:3]}
        if heads != {"<unk>", "<s>", "</s>"} or model.pieces[0].text != "<unk>":
            raise ConfigError(
                f"expected <unk>, <s>, </s> as the first pieces of {path}, got {heads}"
            )
        if name == "XLMRobertaTokenizer":
            first = [tokens[key] for key in ("bos_token", "pad_token", "eos_token", "unk_token")]
            pieces = [*((token, 0.0) for token in first), *pieces[3:]]
        else:
            pieces = [
                ("<s>NOTUSED", 0.0), (tokens["pad_token"], 0.0), ("</s>NOTUSED", 0.0),
                (tokens["unk_token"], 0.0), ("<unk>NOTUSED", -100.0), *pieces[1:],
            ]  # fmt: skip
        if "mask_token" in tokens:
            pieces.append((tokens["mask_token"], 0.0))
        options.update(separators_between=2, second_segment_id=0)
        options["cls_token"], options["sep_token"] = tokens["bos_token"], tokens["eos_token"]
    unk_id = {"AlbertTokenizer": 1, "DebertaV2Tokenizer": model.unk_id}.get(name, 3)
    if name == "DebertaV2Tokenizer" and (tokens["unk_token"], 0.0) in pieces:
        unk_id = pieces.index((tokens["unk_token"], 0.0))
    if unk_id >= len(pieces) or pieces[unk_id][0] != tokens["unk_token"]:
        raise ConfigError(
            f"expected unk_token {tokens['unk_token']!r} as piece {unk_id} of {path}, got "
            f"{pieces[unk_id][0] if unk_id < len(pieces) else None!r}"
        )
    options["pieces"] = pieces
    options["prefix"] = "always"
    if not flags["add_prefix_space"]:
        options["prefix"] = "first" if name == "DebertaV2Tokenizer" else "never"
    options["split_at_whitespace"] = name != "DebertaV2Tokenizer"
    options["split_at_punctuation"] = flags.get("split_by_punct", False)
    options["normalizer"] = _family_normalizer(name, flags, model.charsmap)
    ids = {piece: i for i, (piece, _) in enumerate(pieces)}
    own = {
        piece.text: AddedToken(
            piece.text, special=piece.kind == sentencepiece_model.CONTROL, normalized=False
        )
        for piece in model.pieces
        if piece.kind in (sentencepiece_model.CONTROL, sentencepiece_model.USER_DEFINED)
    }
    own.update(tokenizer_files.added_tokens(folder, config, {}))
    behind = [token for token in own if token not in ids and token not in tokens.values()]
    if behind and any(token not in ids for token in tokens.values()):
        raise ConfigError(
            f"expected all added tokens among the pieces of {path}, got {behind[:3]}; save the "
            "tokenizer with transformers, which writes a tokenizer.json"
        )
    options["added_tokens"] = _with_flags(own, names, ids)
    return options


def _family_normalizer(
    name: str, flags: Mapping[str, bool], charsmap: bytes
) -> dict[str, Any] | None:
    """The normalizer that transformers 5 gives a class."""
    steps: list[dict[str, Any]] = []
    lowercase = {"type": "Lowercase"}
    encoded = base64.b64encode(charsmap).decode("ascii")
    precompiled = {"type": "Precompiled", "precompiled_charsmap": encoded}
    if name == "AlbertTokenizer":
        steps += [
            {"type": "Replace", "pattern": {"String": quotes}, "content": '"'}
            for quotes in ("``", "''")
        ]
        if not flags["keep_accents"]:
            steps += [{"type": "NFKD"}, {"type": "StripAccents"}]
        steps += [lowercase] if flags["do_lower_case"] else []
        steps += [precompiled] if charsmap else []
        return {"type": "Sequence", "normalizers": steps}
    if name == "DebertaV2Tokenizer":
        # It leaves the model's own map out.
        steps += [lowercase] if flags["do_lower_case"] else []
        steps += [
            {"type": "Replace", "pattern": {"Regex": r"\s{2,}|[\n\r\t]"}, "content": " "},
            {"type": "NFC"},
            {"type": "Strip", "strip_left": False, "strip_right": True},
        ]
        return {"type": "Sequence", "normalizers": steps}
    return precompiled if charsmap else None


_FAIRSEQ = {
    "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "cls_token": "<s>",
    "sep_token": "</s>", "pad_token": "<pad>", "mask_token": "<mask>",
}  # fmt: skip
# The named tokens and the options that a class has unless a directory says otherwise.
_FAMILIES: dict[str, tuple[dict[str, str], dict[str, bool]]] = {
    "AlbertTokenizer": (
        {
            "bos_token": "[CLS]", "eos_token": "[SEP]", "unk_token": "<unk>", "cls_token": "[CLS]",
            "sep_token": "[SEP]", "pad_token": "<pad>", "mask_token": "[MASK]",
        },
        {"do_lower_case": True, "keep_accents": False, "add_prefix_space": True},
    ),
    "CamembertTokenizer": (_FAIRSEQ, {"add_prefix_space": True}),
    "DebertaV2Tokenizer": (
        {
            "bos_token": "[CLS]", "eos_token": "[SEP]", "unk_token": "[UNK]", "cls_token": "[CLS]",
            "sep_token": "[SEP]", "pad_token": "[PAD]", "mask_token": "[MASK]",
        },
        {"do_lower_case": False, "split_by_punct": False, "add_prefix_space": True},
    ),
    "XLMRobertaTokenizer": (_FAIRSEQ, {"add_prefix_space": True}),
}  # fmt: skip


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
    stale = {*MODEL_FILES, "special_tokens_map.json", "added_tokens.json"} - set(files)
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
