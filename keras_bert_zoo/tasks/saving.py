"""Saving a task as a Hugging Face directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras

from keras_bert_zoo.adaptation.lora import merged_lora
from keras_bert_zoo.presets.extra_weights import save_extra_weights
from keras_bert_zoo.presets.save import save

__all__ = ["SavedParts", "save_task", "side_config"]


@dataclass(frozen=True)
class SavedParts:
    """The contents of a task's directory, besides the encoder and the tokenizer.

    Args:
        config: keys of config.json.
        side: contents of the side file; None: see `side_config`.
        extra_layers: name -> layer. Layers without a place in transformers. Their weights are saved
            in a separate file, under these names.
        write_more: writes further files into the given directory.
        save: writes the whole directory: `(directory, side, overwrite)`. None: the encoder, the
            tokenizer and the fields above are written.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    side: Mapping[str, Any] | None = None
    extra_layers: Mapping[str, keras.layers.Layer] = field(default_factory=dict)
    write_more: Callable[[Path], None] | None = None
    save: Callable[[Any, dict[str, Any], bool], None] | None = None


def side_config(task: Any) -> dict[str, Any]:
    """Returns the contents of a task's side file: its name, options and training record."""
    side: dict[str, Any] = {"task": task.spec.name, **task.options.to_side()}
    if task.spec.pairs is not False and task.pair is not None:
        side["pair"] = task.pair
    side["training"] = task.training_record
    if task.column_options:
        side["columns"] = dict(task.column_options)
    return side


def save_task(task: Any, directory: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Writes a task's directory, with LoRA's weights merged; see `Task.save`."""
    parts: SavedParts = task.saved_parts()
    side = dict(side_config(task) if parts.side is None else parts.side)

    def write_more(folder: Path) -> None:
        if parts.extra_layers:
            save_extra_weights(folder, parts.extra_layers)
        if parts.write_more is not None:
            parts.write_more(folder)

    extra = {id(layer) for layer in parts.extra_layers.values()}
    has_head = bool(task.spec.head) and id(task.head) not in extra
    with merged_lora(task.encoder):
        if parts.save is not None:
            parts.save(directory, side, overwrite)
            return
        save(
            directory,
            task.encoder,
            {task.spec.head: task.head} if has_head else {},
            config=parts.config,
            tokenizer=task.tokenizer,
            side=side,
            write_more=write_more,
            overwrite=overwrite,
        )
