"""The tokenizer that transformers 5 makes of a SentencePiece model file, class by class.

A class keeps the pieces and their scores, and brings its own special tokens, normalizer and words.

The algorithm that a model was trained for does not count: the classes of ALBERT, XLM-RoBERTa and
DeBERTa-v2 make a unigram model of every one, also of a word, character or BPE model, which
SentencePiece itself would apply otherwise (the word model of "the" makes "thesis" one unknown
word, the unigram model of the same pieces finds "the" in it). Here it is as in transformers 5, and
a warning is logged. CamembertTokenizer fails on such models there, and is refused here.

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
from keras_bert_zoo.text import tokenizer_files
from keras_bert_zoo.text.sentencepiece import model as sentencepiece_model
from keras_bert_zoo.text.sentencepiece.model import SentencePieceModel
from keras_bert_zoo.text.special_tokens import AddedToken
from keras_bert_zoo.text.tokenizer_files import NAMED

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
_HEAD = ("<unk>", "<s>", "</s>")  # SentencePiece's own, in all models of fairseq
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


def from_model(
    folder: pathlib.Path, path: pathlib.Path, config: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments of SentencePieceTokenizer for a model file.

    Args:
        folder: the directory, which names the class.
        path: the model file.
        config: the contents of tokenizer_config.json.

    Raises:
        ConfigError: the class is not named or not known, or makes no tokenizer of this model.
    """
    name = tokenizer_files.class_name(folder, _BY_MODEL_TYPE)
    if name not in _FAMILIES:
        raise ConfigError(
            f"expected tokenizer_class of {', '.join(_FAMILIES)} for {path}, got {name!r}; name it "
            f"in {folder / 'tokenizer_config.json'}, or save a tokenizer.json"
        )
    model = sentencepiece_model.read_model(path)
    _check_algorithm(name, model, path)
    defaults, bools = _FAMILIES[name]
    flags = _flags(bools, config, folder)
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
    pieces = _pieces(name, model, tokens, path)
    if name in ("XLMRobertaTokenizer", "CamembertTokenizer"):
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
    options["normalizer"] = _normalizer(name, flags, model.charsmap)
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
    options["added_tokens"] = tokenizer_files.with_flags(own, names, ids)
    return options


def _check_algorithm(name: str, model: SentencePieceModel, path: pathlib.Path) -> None:
    """Refuses, or warns of, a model that was trained for another algorithm than unigram."""
    if model.algorithm == "unigram":
        return
    if name == "CamembertTokenizer":
        raise ConfigError(
            f"the {model.algorithm} model in {path} is not supported: expected a unigram model, "
            f"as transformers does for {name}"
        )
    _logger.warning(
        "%s holds a %s model: its pieces are used as a unigram model's, as transformers 5 does; "
        "SentencePiece itself would cut texts otherwise",
        path,
        model.algorithm,
    )


def _flags(
    defaults: Mapping[str, bool], config: Mapping[str, Any], folder: pathlib.Path
) -> dict[str, bool]:
    """The options of a class, as a directory sets them."""
    flags = dict(defaults)
    for key in flags:
        if key in config:
            if not isinstance(config[key], bool):
                raise ConfigError(
                    f"expected {key} of true or false in {folder / 'tokenizer_config.json'}, got "
                    f"{config[key]!r:.80}"
                )
            flags[key] = config[key]
    return flags


def _pieces(
    name: str, model: SentencePieceModel, tokens: Mapping[str, str], path: pathlib.Path
) -> list[tuple[str, float]]:
    """The pieces with the special tokens of the class, in the order of their ids."""
    pieces = [(piece.text, piece.score) for piece in model.pieces]
    if name not in ("XLMRobertaTokenizer", "CamembertTokenizer"):
        return pieces
    # What fairseq did: its special tokens before SentencePiece's own.
    head = tuple(piece for piece, _ in pieces[:3])
    if name == "XLMRobertaTokenizer":
        # Whatever the first three pieces are, they are lost.
        if head[:1] != _HEAD[:1] or set(head) != set(_HEAD):
            _logger.warning(
                "%s begins with the pieces %s, not %s: it was not made for %s, which loses them, "
                "as in transformers",
                path, head, _HEAD, name,
            )  # fmt: skip
        first = [tokens[key] for key in ("bos_token", "pad_token", "eos_token", "unk_token")]
        pieces = [*((token, 0.0) for token in first), *pieces[3:]]
    else:
        if head[:1] != _HEAD[:1] or set(head) != set(_HEAD):
            raise ConfigError(f"expected {_HEAD} as the first pieces of {path}, got {head}")
        pieces = [
            ("<s>NOTUSED", 0.0), (tokens["pad_token"], 0.0), ("</s>NOTUSED", 0.0),
            (tokens["unk_token"], 0.0), ("<unk>NOTUSED", -100.0), *pieces[1:],
        ]  # fmt: skip
    if "mask_token" in tokens:
        pieces.append((tokens["mask_token"], 0.0))
    return pieces


def _normalizer(name: str, flags: Mapping[str, bool], charsmap: bytes) -> dict[str, Any] | None:
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
