"""Loads the parts of a task: encoder, tokenizer, head and saved options."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, Unpack

from keras_bert_zoo.data.labels import LabelMap
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import CheckpointError
from keras_bert_zoo.presets.encoder_files import load_encoder
from keras_bert_zoo.presets.extra_weights import load_extra_weights
from keras_bert_zoo.presets.load import load
from keras_bert_zoo.presets.resolve import Checkpoint, find_preset, resolve
from keras_bert_zoo.tasks.files import check_saved_length, read_side_file
from keras_bert_zoo.tasks.options import LoadOptions
from keras_bert_zoo.tasks.task import Task
from keras_bert_zoo.text.tokenizer import Tokenizer

__all__ = ["AS_SAVED", "LoadedParts", "TaskSource", "restore_record", "saved_labels"]

# Embedding tables are often padded, such as to a multiple of 128, or have spare rows.
_SPARE_ROWS = 1024

AS_SAVED: Any = object()
"""The default of options that accept None as a value."""

AnyTask = TypeVar("AnyTask", bound=Task)


class TaskSource:
    """The preset that a task is loaded from.

    Args:
        task_class: a subclass of Task.
        preset: catalogued name or directory.
        **options: see `LoadOptions`.

    Attributes:
        directory: Path.
        checkpoint: Checkpoint. The preset, resolved once.
        config: dict. The contents of config.json, without the keys to ignore.
        side: dict. The contents of the side file.
        options: LoadOptions.

    Raises:
        CheckpointError: the preset is missing or cannot be read.
    """

    def __init__(
        self,
        task_class: type[Task],
        preset: str | os.PathLike[str],
        **options: Unpack[LoadOptions],
    ) -> None:
        self.task_class = task_class
        self.preset = os.fspath(preset)
        self.options = options
        self.directory = find_preset(preset, allow_pickle=options.get("allow_pickle", False))

    @functools.cached_property
    def checkpoint(self) -> Checkpoint:
        """The resolved preset."""
        return self._resolve(self.directory)

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The contents of config.json, without the keys to ignore."""
        checkpoint = self.checkpoint
        return {k: v for k, v in checkpoint.raw.items() if k not in checkpoint.ignored}

    @functools.cached_property
    def side(self) -> dict[str, Any]:
        """The contents of the side file."""
        return read_side_file(self.directory)

    @property
    def dtype(self) -> Any:
        """The dtype policy of the encoder."""
        return self.options.get("dtype")

    def _resolve(self, directory: Path) -> Checkpoint:
        return resolve(
            directory,
            allow_pickle=self.options.get("allow_pickle", False),
            ignore_config_keys=self.options.get("ignore_config_keys", ()),
        )

    def load(self, *, new_head: bool, units: int | None = None) -> LoadedParts:
        """Loads the encoder, the tokenizer and the head of the task's kind.

        Args:
            new_head: bool. Whether the head starts from fresh weights.
            units: int. The width of a new head; None: fixed by the kind of head.

        Raises:
            ConfigError: the preset's config is not supported.
            CheckpointError: the preset does not fit, or has no head to load.
        """
        spec = self.task_class.spec
        tokenizer = self.checkpoint.tokenizer
        encoder, heads, _ = load(
            self.checkpoint,
            (spec.head,),
            units=units,
            new_head=new_head,
            user=self.task_class.__name__,
            new_head_hint=spec.head_hint,
            dtype=self.dtype,
        )
        most = encoder.config.max_tokens
        self._check_vocabulary(encoder, tokenizer)
        side = {}
        if not new_head:
            # Without a saved length, texts may be as long as the model accepts.
            side = {"max_length": min(tokenizer.max_length or most, most)} | self.side
            check_saved_length(side, most, self.directory)
        return LoadedParts(self, encoder, tokenizer, heads[spec.head], side)

    def load_bare(
        self, *, side: dict[str, Any], folder: str = "", **encoder_options: Any
    ) -> LoadedParts:
        """Loads only the encoder and the tokenizer.

        Args:
            side: contents of the side file; {} for a new head.
            folder: str. The encoder's folder inside the preset.
            **encoder_options: further options of the encoder.
        """
        checkpoint = self._resolve(self.directory / folder) if folder else self.checkpoint
        encoder = load_encoder(checkpoint, dtype=self.dtype, **encoder_options)
        check_saved_length(side, encoder.config.max_tokens, self.directory)
        return LoadedParts(self, encoder, checkpoint.tokenizer, None, side)

    def _check_vocabulary(self, encoder: Encoder, tokenizer: Tokenizer) -> None:
        rows = encoder.config.vocabulary_size
        if rows - tokenizer.vocabulary_size > max(_SPARE_ROWS, rows // 50):
            raise CheckpointError(
                f"{self.preset!r} has a tokenizer of {tokenizer.vocabulary_size} tokens, but its "
                f"token embedding has {rows} rows: this is another model's vocabulary, or a part "
                "of one. If this is intended, build the task from an Encoder and a Tokenizer."
            )


@dataclass
class LoadedParts:
    """The loaded parts of a task.

    Attributes:
        source: TaskSource.
        encoder: Encoder.
        tokenizer: Tokenizer.
        head: the layer of the head; None: the constructor makes it.
        side: contents of the side file; {} for a new head.
    """

    source: TaskSource
    encoder: Encoder
    tokenizer: Tokenizer
    head: Any
    side: dict[str, Any]

    def build(self, task_class: type[AnyTask], *args: Any, **given: Any) -> AnyTask:
        """Constructs the task. Options are the given, the saved, or the default values.

        Args:
            task_class: a subclass of Task.
            *args: arguments of the constructor after encoder and tokenizer.
            **given: named arguments of the constructor. An option of None has its saved value.
        """
        names = task_class.spec.options.schema()
        options = {"max_length": self.source.options.get("max_length")}
        options |= {name: given.pop(name) for name in list(given) if name in names}
        values = task_class.spec.options.restored(self.side, options)
        layout = self.source.options.get("token_layout", "packed")
        make: Any = task_class
        task: AnyTask = make(
            self.encoder, self.tokenizer, *args, token_layout=layout, **given, **values
        )
        restore_record(task, self.side)
        return task

    def load_extra_weights(self, task: Task) -> None:
        """Loads weights without a place in transformers; see `SavedParts.extra_layers`."""
        load_extra_weights(self.source.directory, task.saved_parts().extra_layers)


def restore_record(task: Task, side: dict[str, Any]) -> None:
    """Restores the attributes in the side file that are not options."""
    task.training_record = side.get("training", {})
    task.column_options = dict(side.get("columns") or {})
    if task.spec.pairs is None:
        # Earlier versions saved False also if it was unknown.
        known = side.get("pair") or task.training_record
        task.pair = bool(side.get("pair")) if known else None


def saved_labels(config: dict[str, Any], count: int | None = None) -> list[str]:
    """Returns the label names in a config.json.

    Args:
        config: contents of config.json.
        count: int. The width of the loaded head, which must match; None: unknown.

    Returns:
        list of str: those of `id2label`, or else the default names of transformers.

    Raises:
        CheckpointError: the number of names differs.
    """
    if "id2label" not in config:
        return [f"LABEL_{i}" for i in range(count or 0)]
    names = LabelMap.from_id2label(config["id2label"], count).names
    if count is not None and len(names) != count:
        raise CheckpointError(
            f"config.json names {len(names)} labels, but the head in model.safetensors has {count}."
        )
    return list(names)
