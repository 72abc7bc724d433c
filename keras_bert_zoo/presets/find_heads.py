"""Finds the heads of a checkpoint, and checks them before a model is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_bert_zoo.checkpoints.names import FamilyNames
from keras_bert_zoo.checkpoints.source import TensorSource
from keras_bert_zoo.errors import CheckpointError
from keras_bert_zoo.heads.kinds import HEADS
from keras_bert_zoo.presets.labels import architectures_of, label_count


def find_heads(
    family: FamilyNames, raw: Mapping[str, Any], tensors: TensorSource
) -> tuple[str, ...]:
    """Returns the kinds of the heads of a checkpoint.

    The `architectures` of config.json decide, else the names of the tensors.

    Args:
        family: FamilyNames.
        raw: dict. The contents of config.json.
        tensors: an open checkpoint.

    Returns:
        tuple of str, not empty.

    Raises:
        CheckpointError: the checkpoint has no known head, or its tensors fit several kinds.

    Example:
    >>> from keras_bert_zoo.presets.resolve import resolve
    >>> checkpoint = resolve("tests/assets/bert_classifier")
    >>> with checkpoint.open() as tensors:
    ...     find_heads(checkpoint.names, checkpoint.raw, tensors)
    ('classification',)
    """
    classes = {name: key for key, name in family.architectures.items()}
    for name in architectures_of(raw):
        if classes.get(name):
            return tuple(classes[name].split("+"))
    complete = complete_heads(family, tensors)
    for names in complete.values():
        rivals = sorted(other for other, theirs in complete.items() if names & theirs)
        if len(rivals) > 1:
            choices = " or ".join(f'`head="{other}"`' for other in rivals)
            raise CheckpointError(
                f"{tensors.path} has tensors ({', '.join(sorted(names))}) that fit several kinds "
                f"of head, and its config.json has no `architectures`. Pass {choices}."
            )
    if not complete:
        choices = ", ".join(sorted(family.heads))
        raise CheckpointError(
            f"Expected a head ({choices}) in {tensors.path}, which has none. For a new head, pass "
            "`head` and `labels` or `new_head=True`. For the encoder alone, use "
            "Encoder.from_preset."
        )
    return tuple(sorted(complete))


def complete_heads(family: FamilyNames, tensors: TensorSource) -> dict[str, set[str]]:
    """Returns the heads whose tensors a file has.

    Args:
        family: FamilyNames.
        tensors: an open checkpoint.

    Returns:
        dict, kind -> names of the head's tensors, without those that repeat another tensor.

    Example:
    >>> from keras_bert_zoo.presets.resolve import resolve
    >>> checkpoint = resolve("tests/assets/masked_lm")
    >>> with checkpoint.open() as tensors:
    ...     sorted(complete_heads(checkpoint.names, tensors))
    ['masked_lm']
    """
    complete = {}
    for kind, table in family.heads.items():
        names = set(table.values()) - set(family.tied)
        if names and all(name in tensors for name in names):
            complete[kind] = names
    return complete


def check_presence(
    family: FamilyNames, kind: str, tensors: TensorSource, user: str, hint: str
) -> None:
    """Checks that a file has a head. Assignment reports the missing part of an incomplete head.

    Args:
        family: FamilyNames.
        kind: str. The kind of the head.
        tensors: an open checkpoint.
        user: str. The name of the head in messages.
        hint: str. The arguments that start a new head, for messages.

    Raises:
        CheckpointError: no tensor of the head is in the file.
    """
    names = sorted(set(family.heads[kind].values()) - set(family.tied))
    if not any(name in tensors for name in names):
        raise CheckpointError(
            f"{tensors.path} has no head for {user} ({', '.join(names)}). To train a new one, "
            f"pass {hint}."
        )


def check_architecture(
    family: FamilyNames,
    kind: str,
    raw: Mapping[str, Any],
    tensors: TensorSource,
    user: str,
    hint: str,
) -> None:
    """Checks that the tensors of a head are not those of another head, by `architectures`.

    For example, the last layers of a token classifier and of a text classifier have the same
    names and shapes.

    Args:
        family: FamilyNames.
        kind: str. The kind of the head.
        raw: dict. The contents of config.json.
        tensors: an open checkpoint.
        user: str. The name of the head in messages.
        hint: str. The arguments that start a new head, for messages.

    Raises:
        CheckpointError: the head is of another kind.
    """
    classes = {name: key for key, name in family.architectures.items()}
    listed = [name for name in architectures_of(raw) if classes.get(name)]
    kinds = {other for name in listed for other in classes[name].split("+")}
    own = set(family.heads[kind].values())
    rivals = sorted(other for other in kinds if own & set(family.heads[other].values()))
    if not listed or kind in kinds or not rivals:
        return
    right = family.architectures.get(kind)
    correct = f', or correct `architectures` to ["{right}"] if it is wrong' if right else ""
    raise CheckpointError(
        f"{tensors.path} has a head for {' and '.join(rivals)} ({', '.join(listed)} in its "
        f"config.json), not for {user}. Load that head "
        f'(`HeadedModel.from_preset(..., head="{rivals[0]}")` or its task), start a new head '
        f"({hint}){correct}."
    )


def count_units(
    family: FamilyNames, kind: str, raw: Mapping[str, Any], tensors: TensorSource
) -> int | None:
    """Returns the number of logits of a head in a file.

    Args:
        family: FamilyNames.
        kind: str. The kind of the head.
        raw: dict. The contents of config.json.
        tensors: an open checkpoint.

    Returns:
        int. None: the kind fixes the number.

    Raises:
        CheckpointError: the number differs from that of config.json, or the head is malformed.
    """
    head = HEADS[kind]
    if head.units is not None and head.labelled:
        _check_fixed_units(family, kind, raw, tensors)
    if head.units is not None or kind == "masked_lm":
        return None
    kernel = family.heads[kind][f"{head.name}/kernel"]
    if kernel not in tensors:
        return 1  # assignment reports the missing tensor
    shape = tensors.shape(kernel)
    labels = label_count(raw)
    names = raw.get("id2label")
    if (
        labels is not None
        and isinstance(names, Mapping)
        and set(names) != set(map(str, range(labels)))
    ):
        # The ids have gaps: transformers builds a head with one output per name.
        labels = shape[0] if shape and shape[0] in (labels, max(map(int, names)) + 1) else labels
    if len(shape) != 2 or shape[0] < 1:
        raise CheckpointError(
            f"Expected {kernel} of shape (labels, width) in {tensors.path}, received {shape}."
        )
    if labels is not None and labels != shape[0]:
        raise CheckpointError(
            f"{tensors.path} has a head of {shape[0]} logits, but its config.json has {labels} "
            "labels (`id2label`, `num_labels`). Correct the config, or start a new head."
        )
    return shape[0]


def _check_fixed_units(
    family: FamilyNames, kind: str, raw: Mapping[str, Any], tensors: TensorSource
) -> None:
    """Raises if transformers built a head of another width, from the number of labels."""
    head = HEADS[kind]
    kernel = family.heads[kind][f"{head.name}/kernel"]
    shape = tensors.shape(kernel) if kernel in tensors else ()
    count = shape[0] if shape else head.units
    if count != head.units and count == label_count(raw):
        raise CheckpointError(
            f"Expected a head for {kind} of {head.units} logits in {tensors.path}, received "
            f"{count} ({kernel}): transformers uses the {count} labels of config.json "
            "(`num_labels`, `id2label`). Such a head is not supported. For the encoder alone, use "
            "Encoder.from_preset."
        )
