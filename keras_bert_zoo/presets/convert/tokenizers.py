"""The tokenizer of a conversion."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from keras_bert_zoo.checkpoints.sentencepiece_writer import model_bytes, normalizer_steps
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.files import write_json
from keras_bert_zoo.presets.resolve import Checkpoint
from keras_bert_zoo.text.sentencepiece.tokenizer import SentencePieceTokenizer
from keras_bert_zoo.text.tokenizer import Tokenizer

_logger = logging.getLogger(__name__)

# Texts on which tokenizers differ: case, accents, ideographs, punctuation, numbers, controls.
_TEXTS = ("Hello World, it's CRÈME brûlée!", "我的卡 arrived 2 weeks ago.", "naïve\tZürich\n ﬁ ½")

# Family -> name of its SentencePiece model file.
_MODEL_FILES = {
    "albert": "spiece.model",
    "deberta-v2": "spm.model",
    "xlm-roberta": "sentencepiece.bpe.model",
}
# Options of a tokenizer, besides its pieces, that the model file must preserve.
_PIECE_OPTIONS = (
    "vocabulary", "normalizer", "split_at_whitespace", "split_at_punctuation", "split_at_spaces",
    "prefix", "byte_fallback", "unk_token_id", "cls_token", "sep_token", "pad_token", "mask_token",
)  # fmt: skip


def tokenizer_or_none(checkpoint: Checkpoint) -> Tokenizer | None:
    """Returns the tokenizer of a checkpoint. None, with a warning: it is not supported."""
    try:
        return checkpoint.tokenizer
    except ConfigError as error:
        _logger.warning("the tokenizer is not converted: %s", error)
        return None


@contextmanager
def tokenizer_files(tokenizer: Tokenizer | None) -> Iterator[Path | None]:
    """Writes a tokenizer in Hugging Face's format to a temporary directory."""
    if tokenizer is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="keras_bert_zoo_") as folder:
        tokenizer.save(folder)
        yield Path(folder)


def make_model_file(
    tokenizer: Tokenizer | None, files: Path | None, config: Mapping[str, Any], directory: Path
) -> str:
    """Writes a SentencePiece model for a tokenizer without one. Returns its name, or "".

    Raises:
        ConfigError: a model file cannot describe the tokenizer.
    """
    if not isinstance(tokenizer, SentencePieceTokenizer) or files is None:
        return ""
    name = _MODEL_FILES.get(str(config.get("model_type")))
    if name is None or any(files.glob("*.model")):
        return ""

    try:
        data = model_bytes(tokenizer, fairseq=name == _MODEL_FILES["xlm-roberta"])
    except ConfigError as error:
        raise ConfigError(_no_model_file(directory, name, str(error))) from None
    (files / name).write_bytes(data)
    path = files / "tokenizer_config.json"
    write_json(path, json.loads(path.read_text("utf-8")) | _word_options(tokenizer))
    return name


def _word_options(tokenizer: SentencePieceTokenizer) -> dict[str, bool]:
    """Returns the options of the transformers class that a model file does not contain."""
    steps = {step.get("type") for step in normalizer_steps(tokenizer.normalizer)}
    return {
        "do_lower_case": "Lowercase" in steps,
        "keep_accents": "StripAccents" not in steps,
        "split_by_punct": tokenizer.split_at_punctuation,
    }


def write_albert_options(aside: Path, tokenizer: Tokenizer | None) -> None:
    """Writes ALBERT's options next to its model file. Google's code has them as flags."""
    if isinstance(tokenizer, SentencePieceTokenizer) and any(aside.glob("*.model")):
        options = {"tokenizer_class": "AlbertTokenizer"} | _word_options(tokenizer)
        write_json(aside / "tokenizer_config.json", options)


def _no_model_file(directory: Path, name: str, reason: str) -> str:
    return (
        f"This format needs a SentencePiece model file, but {directory} has only a tokenizer.json, "
        f"which cannot be converted: {reason}. Copy the original model file ({name}) into the "
        "directory. To convert only the weights, use a copy of the directory without the "
        "tokenizer's files."
    )


def compare_pieces(ours: Tokenizer, theirs: Tokenizer, name: str, directory: Path) -> None:
    """Raises ConfigError if the model file describes another tokenizer."""
    differing = [key for key in _PIECE_OPTIONS if _of(ours, key) != _of(theirs, key)]
    pieces = [
        [(text, np.float32(score)) for text, score in _of(side, "pieces") or ()]
        for side in (ours, theirs)
    ]
    if pieces[0] != pieces[1]:
        differing.insert(0, "pieces")
    if differing:
        raise ConfigError(
            _no_model_file(directory, name, f"it would be read with other {', '.join(differing)}")
        )


def _of(tokenizer: Tokenizer, name: str) -> Any:
    return getattr(tokenizer, name, None)


def compare_tokens(ours: Tokenizer, theirs: Tokenizer) -> None:
    """Raises CheckpointError if two tokenizers differ on the sample texts."""
    for text in _TEXTS:
        one, other = (tokenizer.tokenize(text).numpy().tolist() for tokenizer in (ours, theirs))
        if one != other:
            raise CheckpointError(
                f"The converted tokenizer splits {text!r} into {other[:8]}, expected {one[:8]}: "
                "the format does not support all of its options. Nothing was written."
            )
