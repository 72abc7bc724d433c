"""Loads the encoder and the heads of a preset, to continue its pretraining."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras

from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.data.masking_options import Masking
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import CheckpointError
from keras_bert_zoo.heads.kinds import HEADS, make_head
from keras_bert_zoo.metrics.replaced_token import REPLACED_TOKENS
from keras_bert_zoo.presets.find_heads import find_heads
from keras_bert_zoo.presets.load import Loaded, load
from keras_bert_zoo.presets.resolve import Checkpoint
from keras_bert_zoo.pretraining.dataset import hash_tokenizer
from keras_bert_zoo.pretraining.objectives import OBJECTIVES, head_kinds
from keras_bert_zoo.pretraining.replaced_tokens import Generator, different_embeddings
from keras_bert_zoo.pretraining.saving import GENERATOR_FOLDER
from keras_bert_zoo.tasks.loading import TaskSource
from keras_bert_zoo.tasks.masked_lm import MaskedLM
from keras_bert_zoo.tasks.options import PretrainingOptions

__all__ = ["PretrainingParts", "load_for_pretraining"]


class PretrainingParts(NamedTuple):
    """The result of `load_for_pretraining`.

    Attributes:
        arguments: the arguments of `Pretrainer`.
        config: the keys of config.json that do not describe the encoder.
    """

    arguments: dict[str, Any]
    config: dict[str, Any]


def load_for_pretraining(
    source: TaskSource,
    objectives: Sequence[str] | None,
    *,
    new_head: bool,
    generator: str | os.PathLike[str] | EncoderConfig | float | None,
    objective_weights: Mapping[str, float] | None,
    masking: Masking | None,
) -> PretrainingParts:
    """Loads the parts of a Pretrainer; see `Pretrainer.from_preset` for arguments and errors."""
    checkpoint, options = source.checkpoint, source.options
    present = _heads_of(checkpoint)
    if objectives is None:
        saved = source.side.get("objectives")
        objectives = saved or [name for name in OBJECTIVES if name in present] or ["masked_lm"]
        if REPLACED_TOKENS in objectives and "masked_lm" not in objectives:
            objectives = ["masked_lm", *objectives]
    kinds = head_kinds(checkpoint.config, tuple(objectives))
    with_generator = REPLACED_TOKENS in kinds
    loaded_kinds = {n: k for n, k in kinds.items() if not with_generator or n != "masked_lm"}
    missing = [name for name, kind in loaded_kinds.items() if kind not in present]
    if missing and not new_head:
        raise CheckpointError(
            f"{os.fspath(source.preset)!r} has no head for {', '.join(missing)}. Pass "
            "`new_head=True` to start with a new one, or other `objectives`."
        )
    token_layout = options.get("token_layout") or "packed"
    layout = {"token_layout": token_layout, "dtype": options.get("dtype")}
    encoder, heads = _encoder_and_heads(checkpoint, loaded_kinds, present, layout)
    if with_generator and not isinstance(generator, EncoderConfig | float | int):
        heads["masked_lm"] = _generator(source, generator, encoder, new_head=new_head)
        generator = None
    saved_options = PretrainingOptions(
        **PretrainingOptions.restored(source.side, {"max_length": options.get("max_length")})
    )
    weights = saved_options.objective_weights or {}
    if objective_weights is None:
        objective_weights = {name: weights[name] for name in kinds if name in weights}
    arguments = {
        "encoder": encoder,
        "tokenizer": checkpoint.tokenizer,
        "objectives": tuple(objectives),
        "head": {name: heads.get(kind) for name, kind in kinds.items()},
        "generator": generator,
        "objective_weights": objective_weights,
        "token_layout": token_layout,
        "masking": Masking.from_options(saved_options) if masking is None else masking,
        "max_length": saved_options.max_length,
    }
    return PretrainingParts(arguments, checkpoint.other_config())


def _generator(
    source: TaskSource,
    preset: str | os.PathLike[str] | None,
    encoder: Encoder,
    *,
    new_head: bool,
) -> Generator | None:
    """Loads a generator: the given preset, or that of the source; None: a new one."""
    if preset is None:
        preset = source.directory / GENERATOR_FOLDER
        if not preset.is_dir():
            if new_head:
                return None
            raise CheckpointError(
                f"{os.fspath(source.preset)!r} has no folder {GENERATOR_FOLDER!r}. Pass a preset "
                "as `generator`, or `new_head=True` to start with a new one."
            )
    model = TaskSource(MaskedLM, preset, **source.options).load(new_head=False)
    if hash_tokenizer(model.tokenizer) != hash_tokenizer(source.checkpoint.tokenizer):
        raise CheckpointError(
            f"{os.fspath(preset)!r}: expected the tokenizer of {os.fspath(source.preset)!r}, whose "
            "generator it shall be, received another one."
        )
    differs = different_embeddings(model.encoder, encoder)
    if differs:
        raise CheckpointError(
            f"{os.fspath(preset)!r}: expected the embeddings of {os.fspath(source.preset)!r}, "
            f"which a generator shares, received other values of {', '.join(differs)}."
        )
    return Generator(model.encoder, model.head, shared=encoder)


def _encoder_and_heads(
    checkpoint: Checkpoint, kinds: Mapping[str, str], present: set[str], layout: dict[str, Any]
) -> tuple[Encoder, dict[str, keras.layers.Layer]]:
    """Loads the encoder, and the heads that the checkpoint has."""
    chosen = [kind for kind in kinds.values() if kind in present]
    pooled = any(HEADS[kind].pooled for kind in kinds.values())
    if chosen and (not pooled or any(HEADS[kind].pooled for kind in chosen)):
        encoder, heads, _ = load(checkpoint, chosen, user="Pretrainer", **layout)
        return encoder, heads
    # A new head for pairs brings a new pooler, unless the checkpoint has one.
    new = [kind for kind in kinds.values() if HEADS[kind].pooled or not chosen]
    encoder, heads, _ = load(checkpoint, new, new_head=True, **layout)
    if chosen:
        read = load(checkpoint, chosen, user="Pretrainer")
        heads = {**heads, **_copied_heads(read, encoder)}
    return encoder, heads


def _heads_of(checkpoint: Checkpoint) -> set[str]:
    """The kinds of heads that a checkpoint has weights for; empty for an encoder alone."""
    try:
        with checkpoint.open() as tensors:
            return set(find_heads(checkpoint.names, checkpoint.raw, tensors))
    except CheckpointError:
        return set()


def _copied_heads(loaded: Loaded, encoder: Encoder) -> dict[str, keras.layers.Layer]:
    """Makes heads on another encoder with the same weights."""
    heads = {}
    for kind, source in loaded.heads.items():
        heads[kind] = make_head(kind, encoder, HEADS[kind].units)
        heads[kind].set_weights(source.get_weights())
    return heads
