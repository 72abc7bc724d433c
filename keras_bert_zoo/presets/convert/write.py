"""Writers of a conversion, one per format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from keras_bert_zoo.checkpoints.google.writer import write_google_checkpoint
from keras_bert_zoo.checkpoints.keras_hub.writer import write_keras_hub_preset
from keras_bert_zoo.checkpoints.safetensors import LazyTensor, write_safetensors
from keras_bert_zoo.checkpoints.source import FLOAT_DTYPES, TensorSource
from keras_bert_zoo.files import write_json
from keras_bert_zoo.presets.convert.models import Model
from keras_bert_zoo.presets.headed_model import HeadedModel
from keras_bert_zoo.presets.save import save
from keras_bert_zoo.text.tokenizer import Tokenizer


def write_preset(aside: Path, model: Model, tokenizer: Tokenizer | None) -> None:
    """Writes the format of this package."""
    if isinstance(model.call, HeadedModel):
        model.call.tokenizer = tokenizer
        model.call.save(aside)
    else:
        save(aside, model.encoder, {}, config=model.encoder.other_config, tokenizer=tokenizer)


def write_huggingface(
    aside: Path, config: Mapping[str, Any], tensors: TensorSource, files: Path | None
) -> None:
    """Writes Hugging Face's format. Keeps all tensors and their dtypes."""
    write_json(aside / "config.json", dict(config))
    if files is not None:
        for file in files.iterdir():
            (aside / file.name).write_bytes(file.read_bytes())
    write_safetensors(
        aside,
        (
            (
                name,
                LazyTensor(tensors.shape(name), tensors.dtype(name), partial(tensors.read, name)),
            )
            for name in tensors.names()
            if tensors.dtype(name) in FLOAT_DTYPES
        ),
    )


def write_google(
    aside: Path,
    config: Mapping[str, Any],
    tensors: TensorSource,
    files: Path | None,
    ignored: Iterable[str],
) -> None:
    """Writes Google's TF1 format."""
    vocabulary = None
    if files is not None:
        vocabulary = next(iter([*files.glob("vocab.txt"), *files.glob("*.model")]), None)
    write_google_checkpoint(aside, config, tensors, vocabulary, ignore_config_keys=ignored)


def write_keras_hub(
    aside: Path,
    config: Mapping[str, Any],
    tensors: TensorSource,
    files: Path | None,
    approximate_gelu: bool,
) -> None:
    """Writes a KerasHub preset."""
    write_keras_hub_preset(aside, config, tensors, files, approximate_gelu=approximate_gelu)
