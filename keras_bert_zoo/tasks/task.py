"""What all tasks share beyond their model: loading, saving and exporting."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from typing import Any, ClassVar, Self

from keras_bert_zoo.checkpoints.huggingface import assign_tensors, write_tensors
from keras_bert_zoo.checkpoints.names import names_of
from keras_bert_zoo.checkpoints.tensors import open_checkpoint, read_config
from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.encoders.registry import build_encoder
from keras_bert_zoo.errors import CheckpointError
from keras_bert_zoo.files import SIDE_FILE, replace_directory, write_json
from keras_bert_zoo.heads.classifier import ClassificationHead
from keras_bert_zoo.presets.io import find_preset, load_encoder, load_tokenizer
from keras_bert_zoo.tasks.files import read_side_file
from keras_bert_zoo.tasks.text_model import TextModel
from keras_bert_zoo.text.tokenizer import Tokenizer

_logger = logging.getLogger(__name__)


class Task(TextModel):
    """Base of the tasks: a `TextModel` that comes from a preset and goes to a directory."""

    head_kind: ClassVar[str]
    """Which of a family's heads the task has; see `FamilyNames.heads`."""

    @classmethod
    def load(cls, directory: str | os.PathLike[str], **kwargs: Any) -> Self:
        """Loads what `save` wrote, or any Hugging Face directory with this task's head.

        Args:
            directory: path.
            **kwargs: `token_layout`, `dtype`, `ignore_config_keys`.

        Returns:
            the task.

        Raises:
            ConfigError: the config asks for something unsupported.
            CheckpointError: the directory is not there, has no head or does not fit.
        """
        if not os.path.isdir(directory):
            raise CheckpointError(f"No directory {os.fspath(directory)!r} to load a model from.")
        return cls.from_preset(directory, **kwargs)

    @classmethod
    def from_preset(cls, preset: str | os.PathLike[str], **kwargs: Any) -> Self:
        """Builds the task on a preset; see the subclass."""
        raise NotImplementedError(f"{cls.__name__} must define `from_preset`.")

    @classmethod
    def _load_parts(
        cls,
        preset: str | os.PathLike[str],
        *,
        head_width: int | None,
        ignore_config_keys: Iterable[str],
        dtype: Any,
    ) -> tuple[Encoder, Tokenizer, Any, dict[str, Any]]:
        """Loads an encoder and a tokenizer, and the head where `head_width` is None.

        Returns the encoder, the tokenizer, the head's layer and what `SIDE_FILE` holds.
        """
        directory = find_preset(preset)
        raw = read_config(directory)
        config = EncoderConfig.from_huggingface(raw, ignore=ignore_config_keys)
        tokenizer = load_tokenizer(directory)
        if head_width is not None:
            # A head for new labels is trained from scratch, and a missing pooler with it.
            encoder = load_encoder(directory, ignore_config_keys=ignore_config_keys, dtype=dtype)
            if not encoder.has_pooler:
                _logger.warning("%s has no pooler: a new one starts from random weights", directory)
                weights = {v.path: v.numpy() for v in encoder.weights}
                encoder = build_encoder(config, pooler=True, dtype=dtype)
                for variable in encoder.weights:
                    if variable.path in weights:
                        variable.assign(weights[variable.path])
            return encoder, tokenizer, cls._make_head(config, head_width), {}
        family = names_of(config.family)
        head_names = family.heads[cls.head_kind]
        with open_checkpoint(directory) as tensors:
            kernel, bias = head_names.values()
            if kernel not in tensors or bias not in tensors:
                raise CheckpointError(
                    f"{tensors.path} has no head for {cls.__name__} ({kernel}, {bias}). "
                    f"To train one, say what it is for: {cls._head_hint()}."
                )
            encoder = build_encoder(config, pooler=True, dtype=dtype)
            head = cls._make_head(config, tensors.shape(kernel)[0])
            head.build((None, config.hidden_dim))
            names = family.encoder(config) | family.pooler(cls.head_kind) | head_names
            assign_tensors(
                tensors,
                [*encoder.weights, *head.weights],
                family.in_file(names, family.prefix_of(tensors.names())),
                allow_unread=family.ignored,
            )
        return encoder, tokenizer, head, read_side_file(directory)

    @classmethod
    def _make_head(cls, config: EncoderConfig, width: int) -> ClassificationHead:
        dropout = config.dropout if config.classifier_dropout is None else config.classifier_dropout
        return ClassificationHead(
            width,
            dropout=dropout,
            initializer_range=config.initializer_range,
            name="classifier",
        )

    @classmethod
    def _head_hint(cls) -> str:
        raise NotImplementedError(f"{cls.__name__} must define `_head_hint`.")

    def _task_config(self) -> dict[str, Any]:
        """The task's part of config.json."""
        raise NotImplementedError(f"{type(self).__name__} must define `_task_config`.")

    def _restore(self, side: dict[str, Any]) -> None:
        """Takes over what `SIDE_FILE` says beyond the constructor's arguments."""
        self.pair = bool(side.get("pair", False))
        self.training_record = side.get("training", {})

    def _side_config(self) -> dict[str, Any]:
        """What `SIDE_FILE` holds."""
        return {
            "max_length": self.max_length,
            "pair": self.pair,
            "training": self.training_record,
        }

    def save(self, directory: str | os.PathLike[str], *, overwrite: bool = True) -> None:
        """Writes a Hugging Face directory, which transformers and `load` read.

        config.json (labels inside), model.safetensors (float32), the tokenizer's files, and
        `keras_bert_zoo.json` with what only this package knows. Written aside and renamed: an
        earlier save stays whole until the new one is.

        Args:
            directory: path; missing, empty, or an earlier save.
            overwrite: bool. Whether to replace an earlier save.

        Raises:
            CheckpointError: it cannot be written, or is there and not to be replaced.
        """
        if not overwrite and os.path.exists(directory):
            raise CheckpointError(f"{os.fspath(directory)!r} exists, and `overwrite` is False.")
        family = names_of(self.encoder.config.family)
        config = {
            "architectures": [family.architectures[self.head_kind]],
            **self.encoder.config.to_huggingface(),
            **self._task_config(),
        }
        names = (
            family.encoder(self.encoder.config)
            | family.pooler(self.head_kind)
            | family.heads[self.head_kind]
        )
        with replace_directory(directory, CheckpointError, marker=SIDE_FILE) as aside:
            write_json(aside / "config.json", config)
            write_json(aside / SIDE_FILE, self._side_config())
            self.tokenizer.save(aside)
            write_tensors(aside, [*self.encoder.weights, *self.head.weights], names)

    def export(
        self, path: str | os.PathLike[str], format: str = "saved_model", **kwargs: Any
    ) -> Any:
        """Writes one file that takes raw strings; see `export.saved_model.export_saved_model`.

        Args:
            path: of the model; a SavedModel goes to the folder of its version inside.
            format: "saved_model".
            **kwargs: options of the format.

        Returns:
            what was written and how it was checked.

        Raises:
            ConfigError: an unknown format or option.
            ExportError: it cannot be written, or does not answer as this model does.
        """
        # Exports know about tasks, not the other way round.
        from keras_bert_zoo.export import export_task

        return export_task(self, path, format, **kwargs)
