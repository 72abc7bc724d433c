"""Loading a checkpoint with its heads, and writing one."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_bert_zoo.checkpoints.assign import assign_tensors, write_tensors
from keras_bert_zoo.checkpoints.names import FamilyNames, names_of
from keras_bert_zoo.checkpoints.source import TensorSource, open_checkpoint, read_config
from keras_bert_zoo.config import EncoderConfig, is_integer
from keras_bert_zoo.data.labels import LabelMap
from keras_bert_zoo.directories.replacing import find_directory, replace_directory
from keras_bert_zoo.encoders.encoder import Encoder, check_dtype
from keras_bert_zoo.encoders.registry import build_encoder
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.files import SIDE_FILE, write_json
from keras_bert_zoo.heads.kinds import HEADS, head_kind, make_head
from keras_bert_zoo.layers.initializers import untouched_weights
from keras_bert_zoo.presets.fit import Shapes, check_fit, encoder_shapes, head_shapes, pooler_shapes
from keras_bert_zoo.presets.io import (
    LABEL_KEYS,
    find_pooler,
    find_preset,
    find_tokenizer,
    other_keys,
)

if TYPE_CHECKING:
    import keras

    from keras_bert_zoo.text.tokenizer import Tokenizer

_logger = logging.getLogger(__name__)


def load_headed(
    preset: str | os.PathLike[str],
    kinds: Sequence[str] | None = None,
    *,
    labels: Sequence[str] | None = None,
    units: int | None = None,
    new_head: bool = False,
    user: str | None = None,
    new_head_hint: str = "`labels=[...]` or `new_head=True`",
    allow_pickle: bool = False,
    ignore_config_keys: Iterable[str] = (),
    **options: Any,
) -> tuple[Encoder, dict[str, keras.layers.Layer], dict[str, Any]]:
    """Loads an encoder and its heads; see `HeadedModel.from_preset`.

    Args:
        preset: see `find_preset`.
        kinds: of the heads; None: those of the checkpoint.
        labels: names for a new head.
        units: int. Number of labels of a new head, where there are no names.
        new_head: bool. Whether the heads start from fresh weights.
        user: str. Who the head is for, in messages; None: the kind.
        new_head_hint: str. What would start a new head, in messages.
        allow_pickle: bool. See `open_checkpoint`.
        ignore_config_keys: config.json keys to leave unread although they are unknown.
        **options: of the encoder.

    Returns:
        Encoder; dict, kind -> layer; and what of config.json is not the encoder's, with the new
        head's labels.

    Raises:
        ConfigError: the config or an option is not supported.
        CheckpointError: see `HeadedModel.from_preset`.
    """
    ignored = frozenset(ignore_config_keys)
    check_dtype(options.get("dtype"))
    if labels is not None:
        labels = LabelMap.of(labels).names
    directory = find_preset(preset, allow_pickle=allow_pickle)
    raw = read_config(directory)
    config = EncoderConfig.from_huggingface(raw, ignore=ignored)
    family = names_of(config)
    kept = other_keys(raw, config, ignored)
    _check_request(family, kinds, labels, new_head)
    with open_checkpoint(directory, allow_pickle=allow_pickle) as tensors:
        prefix = family.prefix_of(tensors.names())
        if kinds is None:
            kinds = _kinds_of(family, raw, tensors)
        if "masked_lm" in kinds and config.tie_word_embeddings and not new_head:
            tied = _is_tied(family, prefix, tensors)
            config = dataclasses.replace(config, tie_word_embeddings=tied)
        pooled = [kind for kind in kinds if HEADS[kind].pooled]
        pooler = pooled[0] if pooled else None
        pooled_for = pooled[0] if pooled else ""
        if pooler is not None and new_head:
            # A new head goes with whatever pooler there is, or with a new one.
            pooler = find_pooler(family, tensors)
            if pooler is None and config.pooler_is_learned(pooled_for):
                _logger.warning("%s has no pooler: a new one starts from random weights", directory)
        # === What is read, and whether the file has it ===
        names, shapes = family.encoder(config), encoder_shapes(config)
        if pooler is not None:
            names |= family.pooler(pooler)
            shapes |= pooler_shapes(config, pooled_for)
        counts: dict[str, int | None] = {}
        for kind in kinds:
            if new_head:
                counts[kind] = units if labels is None else len(labels)
                continue
            _check_presence(family, kind, tensors, user or kind, new_head_hint)
            _check_architecture(family, kind, raw, tensors, user or kind, new_head_hint)
            counts[kind] = _units(family, kind, raw, tensors)
            names |= family.heads[kind]
            shapes |= head_shapes(config, kind, counts[kind])
        names = family.in_file(names, prefix)
        unread = set(family.head_names(prefix))
        if "masked_lm" in kinds and not new_head:
            unread |= set(names.values())  # of what is there twice, one is read
            names = _follow_ties(family, prefix, names, shapes, tensors)
        others = [*family.ignored, *(re.escape(name) for name in sorted(unread))]
        check_fit(tensors, shapes, names, allow_unread=others)
        # === The model ===
        # Without random weights, unless a part of it is not in the file.
        untouched = untouched_weights() if pooler is not None or not pooled else nullcontext()
        with untouched:
            encoder = build_encoder(config, pooler=bool(pooled), pooled_for=pooled_for, **options)
        heads = {kind: make_head(kind, encoder, count) for kind, count in counts.items()}
        variables = _without_pooler(encoder) if pooled and pooler is None else encoder.weights
        if not new_head:
            variables = [*variables, *(weight for h in heads.values() for weight in h.weights)]
        assign_tensors(tensors, variables, names, allow_unread=others)
    encoder.tokenize_with(partial(find_tokenizer, directory))
    labelled = [count for kind, count in counts.items() if HEADS[kind].labelled and count]
    if not new_head and labelled and isinstance(kept.get("id2label"), Mapping):
        kept |= label_config(LabelMap.from_id2label(kept["id2label"], labelled[0]).names)
    if new_head:
        for key in LABEL_KEYS:
            kept.pop(key, None)
        if labels is not None:
            kept |= label_config(labels)
    return encoder, heads, kept


def architectures_of(raw: Mapping[str, Any]) -> list[str]:
    """The classes that a config.json names; what is no name is left out."""
    found = raw.get("architectures")
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def label_config(labels: Sequence[str]) -> dict[str, Any]:
    """The part of config.json that names labels."""
    return {
        "id2label": {str(i): str(label) for i, label in enumerate(labels)},
        "label2id": {str(label): i for i, label in enumerate(labels)},
    }


def save_headed(
    directory: str | os.PathLike[str],
    encoder: Encoder,
    heads: Mapping[str, keras.layers.Layer],
    *,
    config: Mapping[str, Any],
    tokenizer: Tokenizer | None = None,
    side: Mapping[str, Any] | None = None,
    write_more: Callable[[Path], None] | None = None,
    overwrite: bool = True,
) -> None:
    """Writes an encoder and its heads as a Hugging Face directory, aside and renamed.

    Args:
        directory: path; missing, empty, or an earlier save.
        encoder: Encoder.
        heads: dict, kind -> layer; empty for a bare encoder.
        config: dict. What config.json holds beside the encoder's part.
        tokenizer: Tokenizer or None.
        side: dict. Contents of `SIDE_FILE`, by which an earlier save is known.
        write_more: writes further files into the directory that it is given.
        overwrite: bool. Whether to replace an earlier save.

    Raises:
        ConfigError: the family has no transformers class with these heads.
        CheckpointError: it cannot be written, or is there and not to be replaced.
    """
    if not overwrite and os.path.exists(find_directory(directory)):
        raise CheckpointError(f"{os.fspath(directory)!r} exists, and `overwrite` is False.")
    family = names_of(encoder.config)
    kinds = "+".join(sorted(heads))
    if kinds not in family.architectures:
        known = ", ".join(repr(key) for key in family.architectures if key)
        raise ConfigError(
            f"transformers has no {encoder.config.family} class with the heads {kinds!r}, so they "
            f"cannot be saved as one model. Expected one of: {known}."
        )
    contents = {
        "architectures": [family.architectures[kinds]],
        **encoder.config.to_huggingface(),
        **config,
        "dtype": "float32",
    }
    for kind, head in heads.items():
        if HEADS[kind].labelled and _label_count(contents) != head.units:
            contents |= label_config([f"LABEL_{i}" for i in range(head.units)])
    if "id2label" in contents:  # names the labels and counts them; another count would win
        for key in ("num_labels", "_num_labels"):
            contents.pop(key, None)
    names = family.encoder(encoder.config)
    variables = list(encoder.weights)
    for kind in heads or [""]:
        if not kind or HEADS[kind].pooled:
            names |= family.pooler(kind)
    if heads and not any(HEADS[kind].pooled for kind in heads) and encoder.has_pooler:
        variables = _without_pooler(encoder)
    for kind, head in heads.items():
        names |= family.heads[kind]
        variables += head.weights
    if not heads:
        names = family.in_file(names, "")
    written = {names[variable.path] for variable in variables}
    copies = {}
    if "masked_lm" in heads and not heads["masked_lm"].tied:
        # Of an untied model transformers reads each of the names that a tied one repeats.
        copies = {
            source: name
            for name, source in family.tied.items()
            if source in written and name not in written
        }
    with replace_directory(directory, CheckpointError, marker=SIDE_FILE) as aside:
        write_json(aside / "config.json", contents)
        write_json(aside / SIDE_FILE, dict(side or {"heads": sorted(heads)}))
        if tokenizer is not None:
            tokenizer.save(aside)
        write_tensors(aside, variables, names, copies=copies)
        if write_more is not None:
            write_more(aside)


def _without_pooler(encoder: Encoder) -> list[keras.Variable]:
    own = {id(variable) for variable in (encoder.pooler.weights if encoder.pooler else ())}
    return [variable for variable in encoder.weights if id(variable) not in own]


def _check_request(
    family: FamilyNames, kinds: Sequence[str] | None, labels: Sequence[str] | None, new_head: bool
) -> None:
    for kind in kinds or ():
        head_kind(kind)
    if new_head and (kinds is None or len(kinds) != 1):
        raise ConfigError("A new head needs `head`, the one kind that it is of.")
    if new_head:
        return
    if labels is not None:
        raise ConfigError("`labels` are for a new head: leave out `new_head=False`.")
    if kinds is not None:
        key = "+".join(sorted(kinds))
        if key not in family.architectures or not key:
            known = ", ".join(repr(name) for name in family.architectures if name)
            raise ConfigError(f"This family has no model with {key!r}. Expected one of: {known}.")


def _kinds_of(
    family: FamilyNames, raw: Mapping[str, Any], tensors: TensorSource
) -> tuple[str, ...]:
    """Which heads a checkpoint has."""
    classes = {name: key for key, name in family.architectures.items()}
    for name in architectures_of(raw):
        if classes.get(name):
            return tuple(classes[name].split("+"))
    tied = set(family.tied)
    complete = {}
    for kind, table in family.heads.items():
        names = set(table.values()) - tied
        if names and all(name in tensors for name in names):
            complete[kind] = names
    for names in complete.values():
        rivals = sorted(other for other, theirs in complete.items() if names & theirs)
        if len(rivals) > 1:
            choices = " or ".join(f'`head="{other}"`' for other in rivals)
            raise CheckpointError(
                f"{tensors.path} does not say which head it has: its config.json names no "
                f"`architectures`, and {', '.join(sorted(names))} would fit several. Say which: "
                f"{choices}."
            )
    if not complete:
        choices = ", ".join(sorted(family.heads))
        raise CheckpointError(
            f"{tensors.path} has no head that is known ({choices}). To train a new one, name its "
            "kind with `head`, and `labels` or `new_head=True`; the encoder alone is loaded by "
            "Encoder.from_preset."
        )
    return tuple(sorted(complete))


def _check_presence(
    family: FamilyNames, kind: str, tensors: TensorSource, user: str, hint: str
) -> None:
    """Raises where a file lacks a head; half of one is reported tensor by tensor, later."""
    names = sorted(set(family.heads[kind].values()) - set(family.tied))
    if not any(name in tensors for name in names):
        raise CheckpointError(
            f"{tensors.path} has no head for {user} ({', '.join(names)}). To train one, say what "
            f"it is for: {hint}."
        )


def _check_architecture(
    family: FamilyNames,
    kind: str,
    raw: Mapping[str, Any],
    tensors: TensorSource,
    user: str,
    hint: str,
) -> None:
    """Raises where a head's tensors are another head's, as `architectures` says.

    A tagger's last layer is called as a classifier's is, and has its shape.
    """
    classes = {name: key for key, name in family.architectures.items()}
    told = [name for name in architectures_of(raw) if classes.get(name)]
    kinds = {other for name in told for other in classes[name].split("+")}
    own = set(family.heads[kind].values())
    rivals = sorted(other for other in kinds if own & set(family.heads[other].values()))
    if not told or kind in kinds or not rivals:
        return
    right = family.architectures.get(kind)
    correct = f', or correct `architectures` to ["{right}"] if it is wrong' if right else ""
    raise CheckpointError(
        f"{tensors.path} has a head for {' and '.join(rivals)} ({', '.join(told)}, as its "
        f"config.json says), not for {user}. Load it as what it is "
        f'(`HeadedModel.from_preset(..., head="{rivals[0]}")` or its task), start a new head '
        f"({hint}){correct}."
    )


def _units(
    family: FamilyNames, kind: str, raw: Mapping[str, Any], tensors: TensorSource
) -> int | None:
    """The number of logits of a head in a file; None: the kind's own."""
    found = HEADS[kind]
    if found.units is not None and found.labelled:
        _check_fixed_units(family, kind, raw, tensors)
    if found.units is not None or kind == "masked_lm":
        return None
    kernel = family.heads[kind][f"{found.name}/kernel"]
    if kernel not in tensors:
        return 1  # and it is reported as missing
    shape = tensors.shape(kernel)
    told = _label_count(raw)
    names = raw.get("id2label")
    if told is not None and isinstance(names, Mapping) and set(names) != set(map(str, range(told))):
        # With gaps: transformers makes a head of as many outputs as names.
        told = shape[0] if shape and shape[0] in (told, max(map(int, names)) + 1) else told
    if len(shape) != 2 or shape[0] < 1:
        raise CheckpointError(
            f"{tensors.path}: {kernel} has the shape {shape}; expected (labels, width)."
        )
    if told is not None and told != shape[0]:
        raise CheckpointError(
            f"{tensors.path} has a head of {shape[0]} logits, but its config.json tells of {told} "
            "labels (`id2label`, `num_labels`). Correct the config, or start a new head."
        )
    return shape[0]


def _check_fixed_units(
    family: FamilyNames, kind: str, raw: Mapping[str, Any], tensors: TensorSource
) -> None:
    """Raises where transformers made a head of another width, by the number of labels."""
    found = HEADS[kind]
    kernel = family.heads[kind][f"{found.name}/kernel"]
    shape = tensors.shape(kernel) if kernel in tensors else ()
    count = shape[0] if shape else found.units
    if count != found.units and count == _label_count(raw):
        raise CheckpointError(
            f"{tensors.path} has a head for {kind} of {count} logits ({kernel}), because its "
            f"config.json tells of {count} labels (`num_labels`, `id2label`): transformers takes "
            f"the number from there. Expected {found.units}. Such a head is not supported; the "
            "encoder alone is loaded by Encoder.from_preset."
        )


def _label_count(config: Mapping[str, Any]) -> int | None:
    """How many labels a config.json tells of; None: it does not say."""
    if isinstance(config.get("id2label"), Mapping):
        return len(config["id2label"])
    count = config.get("num_labels")
    return count if is_integer(count) else None


def _is_tied(family: FamilyNames, prefix: str, tensors: TensorSource) -> bool:
    """Whether the decoder is the token embedding, in a file whose config.json says that it is.

    A file may hold a decoder of its own all the same. As transformers 5 does, the decoder is then
    used, and the model is an untied one.
    """
    decoder = family.heads["masked_lm"].get("masked_lm/decoder/kernel", "")
    if decoder not in tensors or decoder not in family.tied:
        return True
    table = family.in_file({"": family.tied[decoder]}, prefix)[""]
    if table not in tensors or np.array_equal(tensors.read(decoder), tensors.read(table)):
        return True
    _logger.warning(
        "%s: config.json says `tie_word_embeddings`, but %s differs from %s. Both are loaded, "
        "untied, as transformers does.",
        tensors.path,
        decoder,
        table,
    )
    return False


def _follow_ties(
    family: FamilyNames,
    prefix: str,
    names: Mapping[str, str],
    shapes: Shapes,
    tensors: TensorSource,
) -> dict[str, str]:
    """Reads a tensor that a file has under two names from the one that transformers computes with.

    That is the repeating one where it is there (`cls.predictions.decoder.bias`), unless a variable
    of its own is read from it.
    """
    wanted = {names[path] for path in shapes}
    instead = {
        source: name
        for name, source in family.in_file(family.tied, prefix).items()
        if name in tensors and name not in wanted
    }
    return {path: instead.get(name, name) for path, name in names.items()}
