"""Finds the kind of tokenizer in a directory, and loads it."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.files import SENTENCEPIECE_FILES
from keras_bert_zoo.text.byte_bpe.tokenizer import ByteBpeTokenizer
from keras_bert_zoo.text.sentencepiece.tokenizer import SentencePieceTokenizer
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.text.tokenizer_config import class_name, embedding_rows
from keras_bert_zoo.text.vocabulary_files import exists, read_json
from keras_bert_zoo.text.wordpiece.tokenizer import WordPieceTokenizer

_LOADERS: dict[str, Callable[[pathlib.Path], Tokenizer]] = {
    "WordPiece": WordPieceTokenizer.from_directory,
    "byte-level BPE": ByteBpeTokenizer.from_directory,
    "SentencePiece": SentencePieceTokenizer.from_directory,
}
_SUPPORTED = (
    "tokenizer.json (WordPiece, byte-level BPE or Unigram); vocab.txt (WordPiece); vocab.json with "
    f"merges.txt (byte-level BPE); {', '.join(SENTENCEPIECE_FILES)} or another single .model file "
    "(SentencePiece)"
)
# Classes of transformers whose files look like those of a supported kind.
_REFUSED = {
    "BertweetTokenizer": "BPE over words with a normalizer for tweets",
    "BioGptTokenizer": "BPE over words from Moses",
    "CLIPTokenizer": "BPE over words that end in </w>",
    "CTRLTokenizer": "BPE over words",
    "FlaubertTokenizer": "BPE over words from Moses",
    "HerbertTokenizer": "BPE over words that end in </w>",
    "OpenAIGPTTokenizer": "BPE over words that end in </w>",
    "PhobertTokenizer": "BPE over words that are segmented first",
    "XLMTokenizer": "BPE over words from Moses",
    "XLNetTokenizer": "it packs [CLS] after the texts and pads on the left",
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
    r"""Loads the tokenizer of a directory in Hugging Face's or Google's format.

    The model in tokenizer.json sets the class; without it, the vocabulary files do. The class then
    reads special tokens, template and options.

    Args:
        directory: contains the files of a tokenizer.

    Returns:
        Tokenizer.

    Raises:
        ConfigError: the directory has no supported tokenizer; a file is damaged or has an
            unsupported option; the vocabulary is larger than the model's embedding.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "vocab.txt")
        ...     _ = path.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ncat\n")
        ...     load_tokenizer_directory(folder).tokenize("cat").numpy().tolist()
        [5]
    """
    folder = pathlib.Path(directory)
    tokenizer = _LOADERS[tokenizer_kind(folder)](folder)
    _check_size(tokenizer, folder)
    return tokenizer


def tokenizer_kind(folder: pathlib.Path) -> str:
    """Returns the kind of a directory's tokenizer: "WordPiece", "byte-level BPE", "SentencePiece".

    Raises:
        ConfigError: the tokenizer is missing or of another kind.
    """
    name = class_name(folder, _BY_MODEL_TYPE)
    if name in _REFUSED:
        raise ConfigError(
            f"Expected {_SUPPORTED} in {folder}, received the tokenizer_class {name!r}, which is "
            f"not supported: {_REFUSED[name]}."
        )
    fast = read_json(folder / "tokenizer.json")
    if fast:
        return _kind_of_model(fast, folder / "tokenizer.json")
    if exists(folder / "vocab.json") and exists(folder / "merges.txt"):
        return "byte-level BPE"
    models = [name for name in SENTENCEPIECE_FILES if exists(folder / name)]
    has_vocabulary = exists(folder / "vocab.txt")
    if not models and not has_vocabulary:
        models = sorted(path.name for path in folder.glob("*.model") if path.is_file())
    if len(models) > 1 or (models and has_vocabulary):
        raise ConfigError(
            f"Expected one vocabulary in {folder}, received "
            f"{[*models, *['vocab.txt'] * has_vocabulary]}. Delete the files that do not belong to "
            "the model."
        )
    if models:
        return "SentencePiece"
    if has_vocabulary:
        return "WordPiece"
    raise ConfigError(
        f"Expected a tokenizer in {folder}: {_SUPPORTED}; received none of them. Copy the files of "
        "the checkpoint's tokenizer."
    )


def _kind_of_model(fast: Mapping[str, Any], path: pathlib.Path) -> str:
    """Returns the kind of the model in a tokenizer.json."""
    model = fast.get("model")
    if not isinstance(model, Mapping):
        raise ConfigError(f"Expected a model in {path}, received {model!r:.80}.")
    kind = model.get("type")
    if kind is None:
        # Files of 2020 and earlier have no type.
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
        f"Expected a model of WordPiece, byte-level BPE or Unigram in {path}, received "
        f"{kind!r:.80}{without}. Others are not supported."
    )


def _types(step: Any) -> set[str]:
    """Returns the types of a pre-tokenizer and of the steps in it."""
    if not isinstance(step, Mapping):
        return set()
    parts = step.get("pretokenizers")
    parts = parts if isinstance(parts, list) else []
    return {str(step.get("type"))}.union(*(_types(part) for part in parts))


def _check_size(tokenizer: Tokenizer, folder: pathlib.Path) -> None:
    """Raises ConfigError if the model's embedding has fewer rows than the tokenizer has tokens."""
    rows = embedding_rows(folder)
    if rows is not None and tokenizer.vocabulary_size > rows[0]:
        raise ConfigError(
            f"Expected a tokenizer of at most {rows[0]} tokens in {folder}, the vocab_size in "
            f"{rows[1]}, received {tokenizer.vocabulary_size}. The vocabulary belongs to another "
            "model."
        )
