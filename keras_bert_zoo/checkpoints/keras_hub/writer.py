"""Writes a Hugging Face checkpoint as a KerasHub preset.

KerasHub's encoders have a fixed activation, fixed epsilons and other fixed values. Checkpoints with
other values are refused. KerasHub itself builds and saves the preset. Then the weights are written
to its file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from keras_bert_zoo.checkpoints.file_names import KERAS_HUB_FILE
from keras_bert_zoo.checkpoints.keras_hub.config import METADATA_FILE, OUR_METADATA
from keras_bert_zoo.checkpoints.keras_hub.layout import (
    Family,
    Head,
    Variable,
    backbone_layers,
    layer_sizes,
    layer_variables,
    pooler_layer,
)
from keras_bert_zoo.checkpoints.keras_hub.options import (
    backbone_options,
    find_family,
    find_head,
    head_options,
    pad_token_id,
    read_architecture,
)
from keras_bert_zoo.checkpoints.keras_hub.tokenizers import build_tokenizer
from keras_bert_zoo.checkpoints.messages import list_some
from keras_bert_zoo.checkpoints.source import FLOAT_DTYPES, TensorSource
from keras_bert_zoo.directories.contents import KERAS_HUB_PARTS
from keras_bert_zoo.directories.replacing import replace_directory
from keras_bert_zoo.errors import CheckpointError

# Buffers in files of older transformers versions.
_BUFFERS = re.compile(r"embeddings\.(position_ids|token_type_ids)")
# Prefix of a tensor -> name of its head, for messages.
_OTHER_HEADS = (
    ("cls.seq_relationship", "next-sentence prediction"),
    ("cls.predictions", "masked language modelling"),
    ("predictions", "masked language modelling"),
    ("vocab_", "masked language modelling"),
    ("lm_predictions", "masked language modelling"),
    ("lm_head", "masked language modelling"),
    ("generator_", "ELECTRA's generator"),
    ("discriminator_predictions", "ELECTRA's discriminator"),
    ("sop_classifier", "sentence order"),
    ("qa_outputs", "question answering"),
    ("pooler", "a pooler"),
    ("classifier", "classification"),
)


def write_keras_hub_preset(
    directory: str | os.PathLike[str],
    config: Mapping[str, Any],
    tensors: TensorSource | Mapping[str, np.ndarray],
    tokenizer_directory: str | os.PathLike[str] | None = None,
    *,
    leave_out: Iterable[str] = (),
    approximate_gelu: bool = False,
) -> None:
    """Writes a checkpoint as a preset for `keras_hub.models.*.from_preset`.

    A checkpoint with a sequence classifier becomes a TextClassifier, and one with RoBERTa's
    masked-LM head a MaskedLM. All others become a backbone. If only KerasHub's encoder has a
    pooler, it is filled with zeros. RoBERTa's segment embedding is added to its positions. KerasHub
    has no place for label names, so they are saved in metadata.json.

    Args:
        directory: path to write. It may be missing, empty, or an earlier preset.
        config: contents of a Hugging Face config.json.
        tensors: tensors by Hugging Face's names.
        tokenizer_directory: path of a Hugging Face directory with a tokenizer to write, or None.
        leave_out: regular expressions of tensors to omit. They must match complete names without
            the encoder's prefix.
        approximate_gelu: bool. Whether to write an encoder with erf-GELU although KerasHub computes
            the tanh approximation in this family (BERT, ALBERT, ELECTRA, FNet). The outputs then
            differ: for MiniLM-L6, by up to 3.4e-3 with outputs of up to 5.9.

    Raises:
        ConfigError: KerasHub does not support some values of the config. The message lists them.
        CheckpointError: tensors are missing, unexpected or misshapen, and the message lists them;
            or the directory cannot be written.
    """
    family = find_family(config)
    architecture = read_architecture(config)
    left_out = re.compile("|".join(f"(?:{pattern})" for pattern in leave_out) or r"(?!)")
    names = _unprefixed(family, tensors, left_out)
    kind, head = find_head(family, architecture, names)
    options = backbone_options(family, head, config, approximate_gelu)
    task_options = head_options(family, kind, head, config)
    sizes = layer_sizes(family, options) | {"labels": task_options.get("num_classes", 0)}
    backbone, zeros = _backbone_variables(family, head, options, sizes, names)
    parts = [
        part for layer in (head.layers if head else ()) for part in layer_variables(layer, sizes)
    ]
    offset = 0
    if family.position_offset is not None:
        offset = family.position_offset + pad_token_id(family, config)
    _check(family, tensors, [*backbone, *parts], names, offset)

    import keras_hub

    with replace_directory(
        directory, CheckpointError, marker=METADATA_FILE, parts=KERAS_HUB_PARTS
    ) as aside:
        tokenizer = None
        if tokenizer_directory is not None:
            tokenizer = build_tokenizer(family.name, tokenizer_directory)
            if tokenizer.vocabulary_size() > sizes["vocabulary"]:
                raise CheckpointError(
                    f"Expected at most {sizes['vocabulary']} tokens, the model's vocabulary size, "
                    f"received {tokenizer.vocabulary_size()} from the tokenizer in "
                    f"{os.fspath(tokenizer_directory)!r}."
                )
        model = getattr(keras_hub.models, family.backbone)(**options)
        if kind:
            preprocessor = None
            if tokenizer is not None:
                build = getattr(keras_hub.models, f"{family.name}{kind}Preprocessor")
                length = options["max_sequence_length"]
                preprocessor = build(tokenizer, sequence_length=length)
            # The task is compiled by default. KerasHub needs this to load its weights.
            task = getattr(keras_hub.models, f"{family.name}{kind}")
            model = task(backbone=model, preprocessor=preprocessor, **task_options)
        # The weights must be in one file, which is opened below.
        model.save_to_preset(str(aside), max_shard_size=None)
        if tokenizer is not None and not kind:
            tokenizer.save_to_preset(str(aside))
        segment = names.get(family.segment_table)
        read = _Reader(tensors, names, offset, segment)
        _fill(aside / KERAS_HUB_FILE, backbone, zeros, read)
        if parts:
            _fill(aside / "task.weights.h5", parts, [], read)
        _note_labels(aside / METADATA_FILE, config, task_options)


class _Reader:
    """Reads tensors in the form of Keras' variables."""

    def __init__(
        self,
        tensors: TensorSource | Mapping[str, np.ndarray],
        names: Mapping[str, str],
        offset: int,
        segment: str | None,
    ) -> None:
        self._tensors = tensors
        self._names = names
        self._offset = offset
        self._segment = segment

    def __call__(self, part: Variable) -> np.ndarray:
        value = _read(self._tensors, self._names[part.name])
        if part.name.endswith("position_embeddings.weight") and self._offset:
            value = value[self._offset :]
            if self._segment:
                value = value + _read(self._tensors, self._segment)[0]
        return (value.T if part.transposed else value).reshape(part.shape)


def _read(tensors: TensorSource | Mapping[str, np.ndarray], name: str) -> np.ndarray:
    value = tensors.read(name) if isinstance(tensors, TensorSource) else tensors[name]
    return np.asarray(value).astype(np.float32)


def _shape(tensors: TensorSource | Mapping[str, np.ndarray], name: str) -> tuple[int, ...]:
    return tensors.shape(name) if isinstance(tensors, TensorSource) else tuple(tensors[name].shape)


def _dtype(tensors: TensorSource | Mapping[str, np.ndarray], name: str) -> np.dtype[Any]:
    return tensors.dtype(name) if isinstance(tensors, TensorSource) else tensors[name].dtype


def _unprefixed(
    family: Family,
    tensors: TensorSource | Mapping[str, np.ndarray],
    left_out: re.Pattern[str],
) -> dict[str, str]:
    """Returns a dict, name without the encoder's prefix -> name in `tensors`."""
    names = tensors.names() if isinstance(tensors, TensorSource) else list(tensors)
    short = {name.removeprefix(family.prefix): name for name in names}
    if len(short) != len(names):
        raise CheckpointError(f"Some tensors occur both with and without {family.prefix!r}.")
    return {
        name: full
        for name, full in short.items()
        if not left_out.fullmatch(name) and not _BUFFERS.fullmatch(name)
    }


def _backbone_variables(
    family: Family,
    head: Head | None,
    options: Mapping[str, Any],
    sizes: Mapping[str, int],
    names: Mapping[str, str],
) -> tuple[list[Variable], list[Variable]]:
    """Returns the variables with tensors, and the variables that are zero."""
    layers = backbone_layers(family, options)
    variables = [part for layer in layers for part in layer_variables(layer, sizes)]
    pooler = pooler_layer(family, options)
    if pooler is None:
        return variables, []
    pooled = layer_variables(pooler, sizes)
    if pooler.name and (head or any(part.name in names for part in pooled)):
        return [*variables, *pooled], []
    return variables, pooled


def _check(
    family: Family,
    tensors: TensorSource | Mapping[str, np.ndarray],
    parts: Iterable[Variable],
    names: Mapping[str, str],
    offset: int,
) -> None:
    """Raises CheckpointError unless the tensors are exactly those to write."""
    expected = {part.name: part.tensor_shape for part in parts}
    positions = "embeddings.position_embeddings.weight"
    if offset:
        rows, width = expected[positions]
        expected[positions] = (rows + offset, width)
    if family.segment_table in names:
        expected[family.segment_table] = (1, expected[positions][1])
    tied = _tied(tensors, names)
    missing = [f"{name} {shape}" for name, shape in expected.items() if name not in names]
    unexpected = [name for name in names if name not in expected and name not in tied]
    misshapen = [
        f"{name} (expected {shape}, received {_shape(tensors, names[name])})"
        for name, shape in expected.items()
        if name in names and _shape(tensors, names[name]) != shape
    ]
    wrong_dtype = [
        f"{name} ({_dtype(tensors, names[name])})"
        for name in expected
        if name in names and _dtype(tensors, names[name]) not in FLOAT_DTYPES
    ]
    problems = [
        f"{label}: {list_some(items)}"
        for label, items in (
            ("missing", missing),
            ("not floating-point", wrong_dtype),
            ("not supported by KerasHub", [_describe(name) for name in unexpected]),
            ("misshapen", misshapen),
        )
        if items
    ]
    if problems:
        raise CheckpointError(
            f"These tensors cannot be written as KerasHub's {family.backbone}. "
            f"{'; '.join(problems)}. Pass `leave_out` to omit tensors, or `encoder_only=True` to "
            "convert only the encoder."
        )


def _tied(
    tensors: TensorSource | Mapping[str, np.ndarray], names: Mapping[str, str]
) -> frozenset[str]:
    """Returns the tensors of a masked-LM head that equal other tensors."""
    same = {
        "lm_head.decoder.weight": "embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    }
    return frozenset(
        name
        for name, other in same.items()
        if name in names
        and other in names
        and np.array_equal(_read(tensors, names[name]), _read(tensors, names[other]))
    )


def _describe(name: str) -> str:
    kind = next((kind for prefix, kind in _OTHER_HEADS if name.startswith(prefix)), "")
    return f"{name} ({kind})" if kind else name


def _fill(path: Path, parts: Iterable[Variable], zeros: Iterable[Variable], read: _Reader) -> None:
    """Writes arrays to a file that KerasHub has saved."""
    filled = {part.path: part for part in parts}
    empty = {part.path: part for part in zeros}
    with h5py.File(path, "r+") as file:
        stored: dict[str, tuple[int, ...]] = {}

        def note(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and not name.startswith("optimizer/"):
                stored[name] = tuple(item.shape)

        file.visititems(note)
        expected = {name: part.shape for name, part in (filled | empty).items()}
        if stored != expected:
            pairs = sorted(stored.items() ^ expected.items())
            raise CheckpointError(
                f"Expected KerasHub 0.32's layout of {path.name}. The installed version differs: "
                f"{list_some([f'{name} {shape}' for name, shape in pairs])}."
            )
        for name, part in filled.items():
            file[name][...] = read(part)
        for name in empty:
            file[name][...] = 0


def _note_labels(path: Path, config: Mapping[str, Any], task_options: Mapping[str, Any]) -> None:
    if "num_classes" not in task_options:
        return
    values: dict[str, Any] = {}
    if config.get("id2label"):
        labels = {int(i): label for i, label in config["id2label"].items()}
        values["labels"] = [labels[i] for i in sorted(labels)]
    if config.get("problem_type"):
        values["problem_type"] = config["problem_type"]
    if values:
        metadata = json.loads(path.read_text("utf-8")) | {OUR_METADATA: values}
        path.write_text(json.dumps(metadata, indent=4, ensure_ascii=False) + "\n", "utf-8")
