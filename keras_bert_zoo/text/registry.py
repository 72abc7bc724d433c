"""Which tokenizer a directory holds, and loading it."""

from __future__ import annotations

import importlib
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.files import GOOGLE_CONFIGS, SENTENCEPIECE_FILES
from keras_bert_zoo.text import tokenizer_files
from keras_bert_zoo.text.tokenizer import Tokenizer

# Kind -> the class that reads a directory of it, imported when there is one.
_CLASSES = {
    "WordPiece": "keras_bert_zoo.text.wordpiece.tokenizer:WordPieceTokenizer",
    "byte-level BPE": "keras_bert_zoo.text.byte_bpe.tokenizer:ByteBpeTokenizer",
    "SentencePiece": "keras_bert_zoo.text.sentencepiece.tokenizer:SentencePieceTokenizer",
}
_SUPPORTED = (
    "tokenizer.json (WordPiece, byte-level BPE or Unigram); vocab.txt (WordPiece); vocab.json with "
    f"merges.txt (byte-level BPE); {', '.join(SENTENCEPIECE_FILES)} or another single .model file "
    "(SentencePiece)"
)
# Classes of transformers whose files look like those of a kind that is supported.
_REFUSED = {
    "BertweetTokenizer": "BPE over words with a normalizer for tweets",
    "BioGptTokenizer": "BPE over words that Moses splits",
    "CLIPTokenizer": "BPE over words that end in </w>",
    "CTRLTokenizer": "BPE over words",
    "FlaubertTokenizer": "BPE over words that Moses splits",
    "HerbertTokenizer": "BPE over words that end in </w>",
    "OpenAIGPTTokenizer": "BPE over words that end in </w>",
    "PhobertTokenizer": "BPE over words that are segmented beforehand",
    "XLMTokenizer": "BPE over words that Moses splits",
    "XLNetTokenizer": "it packs [CLS] behind the texts and pads on the left",
}
_BY_MODEL_TYPE = {
    "biogpt": "BioGptTokenizer",
    "clip": "CLIPTokenizer",
    "ctrl": "CTRLTokenizer",
    "flaubert": "FlaubertTokenizer",
    "openai-gpt": "OpenAIGPTTokenizer",
    "xlm": "XLMTokenizer",
    "xlnet": "XLNetTokenizer",
}


def load_tokenizer_directory(directory: str | os.PathLike[str]) -> Tokenizer:
    """Loads the tokenizer of a directory in Hugging Face's or Google's format.

    The class is chosen by what lies in the directory: the model in tokenizer.json, else the
    vocabulary files. Special tokens, templates and options are for the class to read.

    Args:
        directory: a directory with a tokenizer's files.

    Returns:
        Tokenizer.

    Raises:
        ConfigError: there is no tokenizer of a supported kind; a file is damaged or asks for what
            is not supported; the vocabulary is larger than the model's embedding.
    """
    folder = pathlib.Path(directory)
    kind = tokenizer_kind(folder)
    module, name = _CLASSES[kind].split(":")
    tokenizer: Tokenizer = getattr(importlib.import_module(module), name).from_directory(folder)
    _check_size(tokenizer, folder)
    return tokenizer


def tokenizer_kind(folder: pathlib.Path) -> str:
    """The kind of a directory's tokenizer: "WordPiece", "byte-level BPE" or "SentencePiece".

    Raises:
        ConfigError: it is of another kind, or there is none.
    """
    name = tokenizer_files.class_name(folder, _BY_MODEL_TYPE)
    if name in _REFUSED:
        raise ConfigError(
            f"tokenizer_class {name!r} in {folder} is not supported: {_REFUSED[name]}; expected "
            f"{_SUPPORTED}"
        )
    fast = tokenizer_files.read_json(folder / "tokenizer.json")
    if fast:
        return _kind_of_model(fast, folder / "tokenizer.json")
    is_there = tokenizer_files.is_there
    if is_there(folder / "vocab.json") and is_there(folder / "merges.txt"):
        return "byte-level BPE"
    models = [name for name in SENTENCEPIECE_FILES if is_there(folder / name)]
    pieces = is_there(folder / "vocab.txt")
    if not models and not pieces:
        models = sorted(path.name for path in folder.glob("*.model") if path.is_file())
    if len(models) > 1 or (models and pieces):
        raise ConfigError(
            f"expected one vocabulary in {folder}, got {[*models, *['vocab.txt'] * pieces]}; "
            "delete the files that do not belong to the model"
        )
    if models:
        return "SentencePiece"
    if pieces:
        return "WordPiece"
    raise ConfigError(f"expected a tokenizer in {folder}: {_SUPPORTED}; found none of them")


def _kind_of_model(fast: Mapping[str, Any], path: pathlib.Path) -> str:
    """The kind of tokenizer that a tokenizer.json is."""
    model = fast.get("model")
    if not isinstance(model, Mapping):
        raise ConfigError(f"expected a model in {path}, got {model!r:.80}")
    kind = model.get("type")
    if kind is None:
        # Files of 2020 and earlier do not name it.
        if "merges" in model:
            kind = "BPE"
        elif isinstance(model.get("vocab"), list):
            kind = "Unigram"
        else:
            kind = "WordPiece"
    if kind == "WordPiece":
        return "WordPiece"
    if kind == "Unigram":
        return "SentencePiece"
    if kind == "BPE" and "ByteLevel" in _types(fast.get("pre_tokenizer")):
        return "byte-level BPE"
    without = " without a ByteLevel pre_tokenizer" if kind == "BPE" else ""
    raise ConfigError(
        f"expected a model of WordPiece, byte-level BPE or Unigram in {path}, got {kind!r:.80}"
        f"{without}"
    )


def _types(step: Any) -> set[str]:
    """The types of a step of a tokenizer.json, and of what it is a sequence of."""
    if not isinstance(step, Mapping):
        return set()
    parts = step.get("pretokenizers")
    parts = parts if isinstance(parts, list) else []
    found = {str(step.get("type"))}
    return found.union(*(_types(part) for part in parts))


def _check_size(tokenizer: Tokenizer, folder: pathlib.Path) -> None:
    """Raises ConfigError if there are tokens that the model beside has no embedding of."""
    for name in ("config.json", *GOOGLE_CONFIGS):
        size = tokenizer_files.read_json(folder / name).get("vocab_size")
        if isinstance(size, int) and tokenizer.vocabulary_size > size:
            raise ConfigError(
                f"expected a tokenizer of at most {size} tokens in {folder}, as {name} says "
                f"(vocab_size), got {tokenizer.vocabulary_size}; the vocabulary is another model's"
            )
