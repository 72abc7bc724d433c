"""Builds the tokenizer of a SentencePiece model file as transformers 5 does, class by class.

A class keeps the pieces with their scores, and adds its special tokens, normalizer and words.

The algorithm of the model's training is ignored. The classes of ALBERT, XLM-RoBERTa and
DeBERTa-v2 make a unigram model of word, character and BPE models, too. SentencePiece itself would
apply the original algorithm: a word model with the piece "the" makes "thesis" one unknown word, but
a unigram model of the same pieces finds "the" in it. This module follows transformers 5 and logs a
warning. CamembertTokenizer of transformers fails for such models, so they raise an error here.

Source: transformers 5.23, `TokenizersBackend._convert_from_sentencepiece`,
convert_slow_tokenizer.py and the tokenization_*.py of each class.
"""

from __future__ import annotations

import base64
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.text import added_tokens, tokenizer_config
from keras_bert_zoo.text.added_tokens import NAMED
from keras_bert_zoo.text.sentencepiece.model import (
    CONTROL,
    USER_DEFINED,
    SentencePieceModel,
    read_model,
)
from keras_bert_zoo.text.special_tokens import AddedToken

_logger = logging.getLogger(__name__)

_BY_MODEL_TYPE = {
    "albert": "AlbertTokenizer",
    "camembert": "CamembertTokenizer",
    "deberta-v2": "DebertaV2Tokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "xlm-roberta-xl": "XLMRobertaTokenizer",
}
_FAIRSEQ = {
    "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "cls_token": "<s>",
    "sep_token": "</s>", "pad_token": "<pad>", "mask_token": "<mask>",
}  # fmt: skip
_HEAD = ("<unk>", "<s>", "</s>")  # SentencePiece's special tokens, in all models of fairseq
# The default special tokens and options of each class.
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


def from_model(
    folder: pathlib.Path, path: pathlib.Path, config: Mapping[str, Any]
) -> tuple[list[tuple[str, float]], dict[str, Any]]:
    """Reads a model file as the directory's tokenizer class does.

    Args:
        folder: the directory, which names the class.
        path: the model file.
        config: dict, the contents of tokenizer_config.json.

    Returns:
        list of (str, float), the pieces with their scores; dict, fields of `SentencePieceOptions`.

    Raises:
        ConfigError: the class is missing or unknown, or does not support this model.
    """
    name = tokenizer_config.class_name(folder, _BY_MODEL_TYPE)
    if name not in _FAMILIES:
        raise ConfigError(
            f"Expected tokenizer_class of {', '.join(_FAMILIES)} for {path}, received {name!r}. "
            f"Set it in {folder / 'tokenizer_config.json'}, or save a tokenizer.json."
        )
    model = read_model(path)
    _check_algorithm(name, model, path)
    defaults, bools = _FAMILIES[name]
    flags = _flags(bools, config, folder)
    named = {**defaults, **added_tokens.named_tokens(folder, config, defaults)}
    names: dict[str, AddedToken | None] = {
        key: AddedToken(token, lstrip=name == "CamembertTokenizer" and key == "mask_token")
        if isinstance(token, str)
        else token
        for key, token in named.items()
    }
    tokens = {key: token.content for key, token in names.items() if token is not None}
    missing = [key for key in defaults if key not in tokens and key != "mask_token"]
    if missing:
        raise ConfigError(
            f"Expected {', '.join(missing)} in {folder}, received none. Set them in "
            "tokenizer_config.json."
        )
    options: dict[str, Any] = {key: tokens.get(key) for key in NAMED}
    pieces = _pieces(name, model, tokens, path)
    if name in ("XLMRobertaTokenizer", "CamembertTokenizer"):
        options.update(separators_between=2, second_segment_id=0)
        options["cls_token"], options["sep_token"] = tokens["bos_token"], tokens["eos_token"]
    unk_id = {"AlbertTokenizer": 1, "DebertaV2Tokenizer": model.unk_id}.get(name, 3)
    if name == "DebertaV2Tokenizer" and (tokens["unk_token"], 0.0) in pieces:
        unk_id = pieces.index((tokens["unk_token"], 0.0))
    if unk_id >= len(pieces) or pieces[unk_id][0] != tokens["unk_token"]:
        raise ConfigError(
            f"Expected unk_token {tokens['unk_token']!r} as piece {unk_id} of {path}, received "
            f"{pieces[unk_id][0] if unk_id < len(pieces) else None!r}. Correct "
            f"{folder / 'tokenizer_config.json'}."
        )
    options["prefix"] = "always"
    if not flags["add_prefix_space"]:
        options["prefix"] = "first" if name == "DebertaV2Tokenizer" else "never"
    options["split_at_whitespace"] = name != "DebertaV2Tokenizer"
    options["split_at_punctuation"] = flags.get("split_by_punct", False)
    options["normalizer"] = class_normalizer(name, flags, model.charsmap)
    ids = {piece: i for i, (piece, _) in enumerate(pieces)}
    added = {
        piece.text: AddedToken(piece.text, special=piece.kind == CONTROL, normalized=False)
        for piece in model.pieces
        if piece.kind in (CONTROL, USER_DEFINED)
    }
    added.update(added_tokens.read_added_tokens(folder, config, {}))
    new = [token for token in added if token not in ids and token not in tokens.values()]
    if new and any(token not in ids for token in tokens.values()):
        raise ConfigError(
            f"Expected all added tokens among the pieces of {path}, received {new[:3]}. Save the "
            "tokenizer with transformers, which writes a tokenizer.json."
        )
    options["added_tokens"] = added_tokens.with_flags(added, names, ids)
    return pieces, options


def _check_algorithm(name: str, model: SentencePieceModel, path: pathlib.Path) -> None:
    """Raises ConfigError or warns if the model's algorithm is not unigram."""
    if model.algorithm == "unigram":
        return
    if name == "CamembertTokenizer":
        raise ConfigError(
            f"Expected a unigram model in {path}, received a {model.algorithm} model. {name} of "
            "transformers does not support it."
        )
    _logger.warning(
        "%s has a %s model. Its pieces are used as a unigram model, as in transformers 5. "
        "SentencePiece itself would split texts differently.",
        path,
        model.algorithm,
    )


def _flags(
    defaults: Mapping[str, bool], config: Mapping[str, Any], folder: pathlib.Path
) -> dict[str, bool]:
    """Returns the options of a class, with the values of tokenizer_config.json."""
    path = folder / "tokenizer_config.json"
    return {
        key: bool(tokenizer_config.read_flag(config, key, path, default=default))
        for key, default in defaults.items()
    }


def _pieces(
    name: str, model: SentencePieceModel, tokens: Mapping[str, str], path: pathlib.Path
) -> list[tuple[str, float]]:
    """Returns the pieces with the special tokens of the class, in the order of their ids."""
    pieces = [(piece.text, piece.score) for piece in model.pieces]
    if name not in ("XLMRobertaTokenizer", "CamembertTokenizer"):
        return pieces
    # fairseq puts its special tokens before those of SentencePiece.
    head = tuple(piece for piece, _ in pieces[:3])
    if name == "XLMRobertaTokenizer":
        # The first three pieces are always dropped.
        if head[:1] != _HEAD[:1] or set(head) != set(_HEAD):
            _logger.warning(
                "%s begins with the pieces %s instead of %s. It was not made for %s, which drops "
                "them, as in transformers.",
                path, head, _HEAD, name,
            )  # fmt: skip
        first = [tokens[key] for key in ("bos_token", "pad_token", "eos_token", "unk_token")]
        pieces = [*((token, 0.0) for token in first), *pieces[3:]]
    else:
        if head[:1] != _HEAD[:1] or set(head) != set(_HEAD):
            raise ConfigError(f"Expected {_HEAD} as the first pieces of {path}, received {head}.")
        pieces = [
            ("<s>NOTUSED", 0.0), (tokens["pad_token"], 0.0), ("</s>NOTUSED", 0.0),
            (tokens["unk_token"], 0.0), ("<unk>NOTUSED", -100.0), *pieces[1:],
        ]  # fmt: skip
    if "mask_token" in tokens:
        pieces.append((tokens["mask_token"], 0.0))
    return pieces


def class_normalizer(
    name: str, flags: Mapping[str, bool], charsmap: bytes
) -> dict[str, Any] | None:
    """Returns the normalizer of a class in transformers 5."""
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
        # DeBERTa-v2 ignores the character map of the model.
        steps += [lowercase] if flags["do_lower_case"] else []
        steps += [
            {"type": "Replace", "pattern": {"Regex": r"\s{2,}|[\n\r\t]"}, "content": " "},
            {"type": "NFC"},
            {"type": "Strip", "strip_left": False, "strip_right": True},
        ]
        return {"type": "Sequence", "normalizers": steps}
    return precompiled if charsmap else None
