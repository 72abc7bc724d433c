"""Writing a Hugging Face checkpoint as a KerasHub preset.

KerasHub's encoders hard-code their activation, their epsilons and more: a checkpoint that asks for
anything else is refused by name. The preset is built by KerasHub itself (its constructor, its
`save_to_preset`) and the weights are then put into the file that it wrote.
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

# Buffers that older transformers wrote beside the weights.
_BUFFERS = re.compile(r"embeddings\.(position_ids|token_type_ids)")
# What other heads' tensors are called, for a message that says what they are.
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
    """Writes a checkpoint as a preset that `keras_hub.models.*.from_preset` loads.

    With a sequence classifier (or RoBERTa's masked-LM head) in the checkpoint the preset is a
    TextClassifier (MaskedLM), otherwise a backbone. An encoder without a pooler, where KerasHub's
    always has one, gets a pooler of zeros. RoBERTa's row for the one segment is added to its
    positions. Names of labels, for which KerasHub has no place, are kept in metadata.json.

    Args:
        directory: path to write; it may be missing, empty, or an earlier preset.
        config: contents of a Hugging Face config.json.
        tensors: under Hugging Face's names.
        tokenizer_directory: path of a Hugging Face directory whose tokenizer to write, or None.
        leave_out: regular expressions for tensors that are not to be written, tested against
            whole names without the encoder's prefix.
        approximate_gelu: bool. Write an encoder with erf-GELU although KerasHub computes the tanh
            approximation in this family (BERT, ALBERT, ELECTRA, FNet). Its outputs then differ:
            by up to 3.4e-3 in MiniLM-L6, whose outputs reach 5.9.

    Raises:
        ConfigError: the config asks for something that KerasHub does not compute, by name.
        CheckpointError: listing all tensors that are missing, unexpected or misshapen; or the
            directory cannot be written.
    """
    family = find_family(config)
    architecture = read_architecture(config)
    left_out = re.compile("|".join(f"(?:{pattern})" for pattern in leave_out) or r"(?!)")
    found = _unprefixed(family, tensors, left_out)
    kind, head = find_head(family, architecture, found)
    options = backbone_options(family, head, config, approximate_gelu)
    task_options = head_options(family, kind, head, config)
    sizes = layer_sizes(family, options) | {"labels": task_options.get("num_classes", 0)}
    backbone, zeros = _backbone_variables(family, head, options, sizes, found)
    parts = [
        part for layer in (head.layers if head else ()) for part in layer_variables(layer, sizes)
    ]
    offset = 0
    if family.position_offset is not None:
        offset = family.position_offset + pad_token_id(family, config)
    _check(family, tensors, [*backbone, *parts], found, offset)

    import keras_hub

    with replace_directory(
        directory, CheckpointError, marker=METADATA_FILE, parts=KERAS_HUB_PARTS
    ) as aside:
        tokenizer = None
        if tokenizer_directory is not None:
            tokenizer = build_tokenizer(family.name, tokenizer_directory)
            if tokenizer.vocabulary_size() > sizes["vocabulary"]:
                raise CheckpointError(
                    f"The tokenizer in {os.fspath(tokenizer_directory)!r} has "
                    f"{tokenizer.vocabulary_size()} tokens, the model {sizes['vocabulary']}."
                )
        model = getattr(keras_hub.models, family.backbone)(**options)
        if kind:
            preprocessor = None
            if tokenizer is not None:
                build = getattr(keras_hub.models, f"{family.name}{kind}Preprocessor")
                length = options["max_sequence_length"]
                preprocessor = build(tokenizer, sequence_length=length)
            # Compiled, as it is by default: KerasHub refuses the weights of one that is not.
            task = getattr(keras_hub.models, f"{family.name}{kind}")
            model = task(backbone=model, preprocessor=preprocessor, **task_options)
        # One file, however large: it is opened again below.
        model.save_to_preset(str(aside), max_shard_size=None)
        if tokenizer is not None and not kind:
            tokenizer.save_to_preset(str(aside))
        segment = found.get(family.segment_table)
        read = _Reader(tensors, found, offset, segment)
        _fill(aside / KERAS_HUB_FILE, backbone, zeros, read)
        if parts:
            _fill(aside / "task.weights.h5", parts, [], read)
        _note_labels(aside / METADATA_FILE, config, task_options)


class _Reader:
    """Reads tensors as the arrays that Keras wants."""

    def __init__(
        self,
        tensors: TensorSource | Mapping[str, np.ndarray],
        found: Mapping[str, str],
        offset: int,
        segment: str | None,
    ) -> None:
        self._tensors = tensors
        self._found = found
        self._offset = offset
        self._segment = segment

    def __call__(self, part: Variable) -> np.ndarray:
        value = _read(self._tensors, self._found[part.name])
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
    """Returns name without the encoder's prefix -> name in `tensors`."""
    names = tensors.names() if isinstance(tensors, TensorSource) else list(tensors)
    short = {name.removeprefix(family.prefix): name for name in names}
    if len(short) != len(names):
        raise CheckpointError(f"Some tensors stand there with and without {family.prefix!r}.")
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
    found: Mapping[str, str],
) -> tuple[list[Variable], list[Variable]]:
    """Returns the variables that tensors fill, and those that are left at zero."""
    layers = backbone_layers(family, options)
    variables = [part for layer in layers for part in layer_variables(layer, sizes)]
    pooler = pooler_layer(family, options)
    if pooler is None:
        return variables, []
    pooled = layer_variables(pooler, sizes)
    if pooler.name and (head or any(part.name in found for part in pooled)):
        return [*variables, *pooled], []
    return variables, pooled


def _check(
    family: Family,
    tensors: TensorSource | Mapping[str, np.ndarray],
    parts: Iterable[Variable],
    found: Mapping[str, str],
    offset: int,
) -> None:
    """Raises CheckpointError unless the tensors are just those that are written."""
    wanted = {part.name: part.tensor_shape for part in parts}
    positions = "embeddings.position_embeddings.weight"
    if offset:
        rows, width = wanted[positions]
        wanted[positions] = (rows + offset, width)
    if family.segment_table in found:
        wanted[family.segment_table] = (1, wanted[positions][1])
    tied = _tied(tensors, found)
    missing = [f"{name} {shape}" for name, shape in wanted.items() if name not in found]
    unexpected = [name for name in found if name not in wanted and name not in tied]
    misshapen = [
        f"{name} (expected {shape}, found {_shape(tensors, found[name])})"
        for name, shape in wanted.items()
        if name in found and _shape(tensors, found[name]) != shape
    ]
    wrong_dtype = [
        f"{name} ({_dtype(tensors, found[name])})"
        for name in wanted
        if name in found and _dtype(tensors, found[name]) not in FLOAT_DTYPES
    ]
    problems = [
        f"{label}: {list_some(names)}"
        for label, names in (
            ("missing", missing),
            ("not floating-point", wrong_dtype),
            ("KerasHub has no place for", [_describe(name) for name in unexpected]),
            ("misshapen", misshapen),
        )
        if names
    ]
    if problems:
        raise CheckpointError(
            f"These tensors cannot be written as KerasHub's {family.backbone}. "
            f"{'; '.join(problems)}. What need not be written can be named in `leave_out`; "
            "the encoder alone is converted with `encoder_only=True`."
        )


def _tied(
    tensors: TensorSource | Mapping[str, np.ndarray], found: Mapping[str, str]
) -> frozenset[str]:
    """Returns tensors of a masked-LM head that repeat another tensor's values."""
    same = {
        "lm_head.decoder.weight": "embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    }
    return frozenset(
        name
        for name, other in same.items()
        if name in found
        and other in found
        and np.array_equal(_read(tensors, found[name]), _read(tensors, found[other]))
    )


def _describe(name: str) -> str:
    kind = next((kind for prefix, kind in _OTHER_HEADS if name.startswith(prefix)), "")
    return f"{name} ({kind})" if kind else name


def _fill(path: Path, parts: Iterable[Variable], zeros: Iterable[Variable], read: _Reader) -> None:
    """Puts arrays into the file that KerasHub wrote."""
    wanted = {part.path: part for part in parts}
    empty = {part.path: part for part in zeros}
    with h5py.File(path, "r+") as file:
        held: dict[str, tuple[int, ...]] = {}

        def note(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and not name.startswith("optimizer/"):
                held[name] = tuple(item.shape)

        file.visititems(note)
        expected = {name: part.shape for name, part in (wanted | empty).items()}
        if held != expected:
            odd = list_some([f"{n} {s}" for n, s in sorted(held.items() ^ expected.items())])
            raise CheckpointError(
                f"This version of KerasHub lays out {path.name} otherwise than 0.32 does: {odd}."
            )
        for name, part in wanted.items():
            file[name][...] = read(part)
        for name in empty:
            file[name][...] = 0


def _note_labels(path: Path, config: Mapping[str, Any], task_options: Mapping[str, Any]) -> None:
    if "num_classes" not in task_options:
        return
    noted: dict[str, Any] = {}
    if config.get("id2label"):
        labels = {int(i): label for i, label in config["id2label"].items()}
        noted["labels"] = [labels[i] for i in sorted(labels)]
    if config.get("problem_type"):
        noted["problem_type"] = config["problem_type"]
    if noted:
        metadata = json.loads(path.read_text("utf-8")) | {OUR_METADATA: noted}
        path.write_text(json.dumps(metadata, indent=4, ensure_ascii=False) + "\n", "utf-8")
