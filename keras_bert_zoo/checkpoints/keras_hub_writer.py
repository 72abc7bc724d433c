"""Writing a Hugging Face checkpoint as a KerasHub preset.

KerasHub's encoders hard-code their activation, their epsilons and more: a checkpoint that asks for
anything else is refused by name. The preset is built by KerasHub itself (its constructor, its
`save_to_preset`) and the weights are then put into the file that it wrote.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from keras_bert_zoo.checkpoints.keras_hub import Variable, layer_sizes, layer_variables
from keras_bert_zoo.checkpoints.keras_hub_config import METADATA_FILE, OUR_METADATA
from keras_bert_zoo.checkpoints.keras_hub_names import (
    FAMILIES,
    TANH_GELU,
    Family,
    Head,
    Layer,
    backbone_layers,
    pooler_layer,
)
from keras_bert_zoo.checkpoints.keras_hub_tokenizers import build_tokenizer
from keras_bert_zoo.checkpoints.tensors import KERAS_HUB_FILE, TensorSource
from keras_bert_zoo.config import _NEUTRAL_KEYS
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.files import replace_directory

_LISTED = 12
_OURS = frozenset({"model_type", "initializer_range", "pad_token_id", "tie_word_embeddings"})
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

_logger = logging.getLogger(__name__)


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
            by some 1e-3 in BERT-base.

    Raises:
        ConfigError: the config asks for something that KerasHub does not compute, by name.
        CheckpointError: listing all tensors that are missing, unexpected or misshapen; or the
            directory cannot be written.
    """
    family = _family(config)
    architecture = _architecture(config)
    left_out = re.compile("|".join(f"(?:{pattern})" for pattern in leave_out) or r"(?!)")
    found = _unprefixed(family, tensors, left_out)
    kind, head = _find_head(family, architecture, found)
    options = _backbone_options(family, head, config, approximate_gelu)
    head_options = _head_options(family, kind, head, config, found)
    sizes = layer_sizes(family, options) | {"labels": head_options.get("num_classes", 0)}
    backbone, zeros = _backbone_variables(family, head, options, sizes, found)
    parts = [
        part for layer in (head.layers if head else ()) for part in layer_variables(layer, sizes)
    ]
    offset = 0
    if family.position_offset is not None:
        offset = family.position_offset + _pad_token_id(family, config)
    _check(family, tensors, [*backbone, *parts], found, offset)

    import keras_hub

    with replace_directory(directory, CheckpointError, marker=METADATA_FILE) as aside:
        tokenizer = None
        if tokenizer_directory is not None:
            tokenizer = build_tokenizer(family.name, tokenizer_directory)
        model = getattr(keras_hub.models, family.backbone)(**options)
        if kind:
            preprocessor = None
            if tokenizer is not None:
                build = getattr(keras_hub.models, f"{family.name}{kind}Preprocessor")
                length = options["max_sequence_length"]
                preprocessor = build(tokenizer, sequence_length=length)
            # Compiled, as it is by default: KerasHub refuses the weights of one that is not.
            task = getattr(keras_hub.models, f"{family.name}{kind}")
            model = task(backbone=model, preprocessor=preprocessor, **head_options)
        # One file, however large: it is opened again below.
        model.save_to_preset(str(aside), max_shard_size=None)
        if tokenizer is not None and not kind:
            tokenizer.save_to_preset(str(aside))
        segment = found.get(family.segment_table)
        read = _Reader(tensors, found, offset, segment)
        _fill(aside / KERAS_HUB_FILE, backbone, zeros, read)
        if parts:
            _fill(aside / "task.weights.h5", parts, [], read)
        _note_labels(aside / METADATA_FILE, config, head_options)


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


def _family(config: Mapping[str, Any]) -> Family:
    families = {family.model_type: family for family in FAMILIES.values()}
    if config.get("model_type") not in families:
        raise ConfigError(
            f"KerasHub has no encoder for `model_type` = {config.get('model_type')!r}. Expected "
            f"one of: {', '.join(sorted(families))}."
        )
    return families[config["model_type"]]


def _architecture(config: Mapping[str, Any]) -> str:
    given = config.get("architectures") or [""]
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != 1:
        raise ConfigError(f"`architectures` must be a list of one name, got {given!r}.")
    return str(given[0])


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


def _find_head(
    family: Family, architecture: str, found: Mapping[str, str]
) -> tuple[str, Head | None]:
    """Returns the kind and the head that a checkpoint has, or ("", None)."""
    if architecture in ("", family.model):
        heads = {head.layers[-1].name: head.architecture for head in family.heads.values()}
        for name, expected in heads.items():
            if any(other.startswith(name) for other in found):
                raise ConfigError(
                    f"There are tensors of a head ({name}), but `architectures` does not say "
                    f"which; expected [{expected!r}]. Without the head, leave its tensors out."
                )
        return "", None
    for kind, head in family.heads.items():
        if head.architecture == architecture:
            return kind, head
    reason = f" ({family.refused['MaskedLM']})" if architecture.endswith("ForMaskedLM") else ""
    supported = [family.model, *(head.architecture for head in family.heads.values())]
    raise ConfigError(
        f"KerasHub cannot hold the head of {architecture}{reason}. Of this family it holds: "
        f"{', '.join(supported)}. To write the encoder alone, give {family.model} in "
        "`architectures` and leave out the head's tensors."
    )


def _value(family: Family, config: Mapping[str, Any], key: str) -> Any:
    """Returns what a config.json says, or what holds where it says nothing."""
    if key in config:
        return config[key]
    if key in family.defaults:
        return family.defaults[key]
    return family.fixed[key][0] if key in family.fixed else None


def _pad_token_id(family: Family, config: Mapping[str, Any]) -> int:
    pad = config.get("pad_token_id", 1)
    if isinstance(pad, bool) or not isinstance(pad, int) or pad < 0:
        raise ConfigError(
            f"`pad_token_id` must be an integer of at least 0 in a {family.model_type} model, "
            f"whose positions begin after it; got {pad!r}."
        )
    return pad


def _backbone_options(
    family: Family, head: Head | None, config: Mapping[str, Any], approximate_gelu: bool
) -> dict[str, Any]:
    """Returns the options of KerasHub's constructor, or raises ConfigError with all reasons."""
    heads = family.heads.values()
    known = {key for keys in family.config.values() for key in keys}
    known |= {*family.fixed, *family.neutral, *_OURS, *_NEUTRAL_KEYS}
    known |= {key for other in heads for key in (*other.config.values(), *other.fixed)}
    problems = [
        f"`{key}` = {value!r:.80} is unknown" for key, value in config.items() if key not in known
    ]
    fixed = {**family.fixed, **(head.fixed if head else {})}
    for key, values in fixed.items():
        value = _value(family, config, key)
        if key == "max_relative_positions" and value == config.get("max_position_embeddings"):
            continue
        gelu = TANH_GELU in (values, fixed.get("hidden_act")) and key == "hidden_act"
        if gelu and approximate_gelu and value in ("gelu", "gelu_python"):
            continue
        if value not in values:
            hint = ""
            if gelu and value in ("gelu", "gelu_python"):
                hint = (
                    "; its tanh approximation, about 1e-3 off, is written with "
                    "`approximate_gelu=True`"
                )
            problems.append(
                f"`{key}` = {value!r:.80}, where KerasHub always has {values[0]!r}{hint}"
            )
    options: dict[str, Any] = {}
    for ours, keys in family.config.items():
        given = [_value(family, config, key) for key in keys]
        options[ours] = given[0]
        if len(set(map(repr, given))) > 1:
            named = " and ".join(f"`{key}` = {v!r}" for key, v in zip(keys, given, strict=True))
            problems.append(f"{named}, where KerasHub has one `{ours}`")
        elif not (_is_rate(given[0]) if ours == "dropout" else _is_size(given[0])):
            problems.append(f"`{keys[0]}` = {given[0]!r:.80}")
    if family.position_offset is not None and not problems:
        options["max_sequence_length"] -= family.position_offset + _pad_token_id(family, config)
        if options["max_sequence_length"] < 1:
            problems.append("`max_position_embeddings` leaves no position")
    if not problems:
        for part, whole in (("num_heads", "hidden_dim"), ("num_groups", "num_layers")):
            if part in options and options[whole] % options[part]:
                problems.append(f"`{part}` must divide `{whole}`")
    if problems:
        raise ConfigError(
            f"KerasHub's {family.backbone} cannot be this {family.model_type} model: "
            + "; ".join(problems)
            + "."
        )
    return options


def _head_options(
    family: Family,
    kind: str,
    head: Head | None,
    config: Mapping[str, Any],
    found: Mapping[str, str],
) -> dict[str, Any]:
    """Returns the options of a task's constructor besides the backbone."""
    if head is None or kind != "TextClassifier":
        return {}
    labels = config.get("id2label")
    count = len(labels) if labels else config.get("num_labels", 2)
    hidden = _value(family, config, next(iter(family.config["dropout"])))
    dropout = _value(family, config, head.config["dropout"])
    options = {"num_classes": count, "dropout": hidden if dropout is None else dropout}
    problems = [] if _is_size(count) else [f"`num_labels` = {count!r:.80}"]
    if not _is_rate(options["dropout"]):
        problems.append(f"`{head.config['dropout']}` = {options['dropout']!r:.80}")
    if family.model_type == "deberta-v2":
        own = config.get("cls_dropout")
        if own not in (None, hidden):
            problems.append(f"`cls_dropout` = {own!r:.80}, where KerasHub has the encoder's")
        width = _value(family, config, "hidden_size")
        if config.get("pooler_hidden_size", width) != width:
            problems.append("`pooler_hidden_size` must be `hidden_size`")
    if problems:
        raise ConfigError(
            f"KerasHub's {family.name}{kind} cannot be this classifier: {'; '.join(problems)}."
        )
    return options


def _backbone_variables(
    family: Family,
    head: Head | None,
    options: Mapping[str, Any],
    sizes: Mapping[str, int],
    found: Mapping[str, str],
) -> tuple[list[Variable], list[Variable]]:
    """Returns the variables that tensors fill, and those that are left at zero."""
    layers: list[Layer] = backbone_layers(family, options)
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
    problems = [
        f"{label}: {_enumerate(names)}"
        for label, names in (
            ("missing", missing),
            ("KerasHub has no place for", [_describe(name) for name in unexpected]),
            ("misshapen", misshapen),
        )
        if names
    ]
    if problems:
        raise CheckpointError(
            f"These tensors cannot be written as KerasHub's {family.backbone}. "
            f"{'; '.join(problems)}. What need not be written can be named in `leave_out`."
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
            odd = sorted(set(held.items()) ^ set(expected.items()))[:_LISTED]
            raise CheckpointError(
                f"This version of KerasHub lays out {path.name} otherwise than 0.32 does: {odd}."
            )
        for name, part in wanted.items():
            file[name][...] = read(part)
        for name in empty:
            file[name][...] = 0


def _note_labels(path: Path, config: Mapping[str, Any], head_options: Mapping[str, Any]) -> None:
    if "num_classes" not in head_options:
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


def _is_rate(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _enumerate(items: list[str]) -> str:
    rest = len(items) - _LISTED
    return ", ".join(items[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")
