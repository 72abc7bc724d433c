"""What all tasks share beyond their model: loading, saving and exporting."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any, ClassVar, Self

import keras

from keras_bert_zoo.adaptation.lora import merged_lora
from keras_bert_zoo.directories.replacing import find_directory
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import CheckpointError
from keras_bert_zoo.presets.headed import load_headed, save_headed
from keras_bert_zoo.presets.io import find_preset, load_tokenizer
from keras_bert_zoo.tasks.files import check_saved_length, read_side_file
from keras_bert_zoo.tasks.own_weights import save_own_weights
from keras_bert_zoo.tasks.text_model import TextModel
from keras_bert_zoo.text.tokenizer import Tokenizer

# Tables of embeddings are padded to a multiple of 64, 128 or so, and leave room for new tokens.
_SPARE_ROWS = 1024


class Task(TextModel):
    """Base of the tasks: a `TextModel` that comes from a preset and goes to a directory."""

    task_name: ClassVar[str]
    """The task's name in the side file; see `tasks.registry.TASKS`."""
    head_kind: ClassVar[str]
    """Which of a family's heads the task has; see `FamilyNames.heads`. "": none of them."""

    @classmethod
    def load(cls, directory: str | os.PathLike[str], **kwargs: Any) -> Self:
        """Loads what `save` wrote, or any Hugging Face directory with this task's head.

        Args:
            directory: path.
            **kwargs: `token_layout`, `dtype`, `allow_pickle`, `ignore_config_keys`.

        Returns:
            the task.

        Raises:
            ConfigError: the config asks for something unsupported.
            CheckpointError: the directory is not there, has no head or does not fit.
        """
        directory = find_directory(directory)
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
        allow_pickle: bool = False,
        new_head: bool | None = None,
    ) -> tuple[Encoder, Tokenizer, Any, dict[str, Any]]:
        """Loads an encoder and a tokenizer, and the head where `head_width` is None.

        `new_head` says so for kinds of heads whose width is not to be chosen.

        Returns the encoder, the tokenizer, the head's layer and what `SIDE_FILE` holds.
        """
        if new_head is None:
            new_head = head_width is not None
        directory = find_preset(preset, allow_pickle=allow_pickle)
        tokenizer = load_tokenizer(directory)
        encoder, heads, _ = load_headed(
            directory,
            (cls.head_kind,),
            units=head_width,
            new_head=new_head,
            user=cls.__name__,
            new_head_hint=cls._head_hint(),
            allow_pickle=allow_pickle,
            ignore_config_keys=ignore_config_keys,
            dtype=dtype,
        )
        config = encoder.config
        spare = config.vocabulary_size - tokenizer.vocabulary_size
        if spare > max(_SPARE_ROWS, config.vocabulary_size // 50):
            raise CheckpointError(
                f"{os.fspath(preset)!r} has a tokenizer of {tokenizer.vocabulary_size} tokens, but "
                f"its token embedding has {config.vocabulary_size} rows: this is another model's "
                "vocabulary, or a part of one. If it is meant, build the task from an Encoder and "
                "a Tokenizer."
            )
        side = {}
        if not new_head:
            # A head from elsewhere answers texts as long as its model takes them.
            longest = min(tokenizer.max_length or config.max_tokens, config.max_tokens)
            side = {"max_length": longest} | read_side_file(directory)
            check_saved_length(side, config.max_tokens, directory)
        return encoder, tokenizer, heads[cls.head_kind], side

    @classmethod
    def _head_hint(cls) -> str:
        raise NotImplementedError(f"{cls.__name__} must define `_head_hint`.")

    def _task_config(self) -> dict[str, Any]:
        """The task's part of config.json."""
        raise NotImplementedError(f"{type(self).__name__} must define `_task_config`.")

    def _restore(self, side: dict[str, Any]) -> None:
        """Takes over what `SIDE_FILE` says beyond the constructor's arguments."""
        self.training_record = side.get("training", {})
        self.column_options = dict(side.get("columns") or {})
        if self.takes_pairs is None:
            # Earlier versions saved False, too, where it was not known.
            known = side.get("pair") or self.training_record
            self.pair = bool(side.get("pair")) if known else None

    def _side_config(self) -> dict[str, Any]:
        """What `SIDE_FILE` holds."""
        return {
            "task": self.task_name,
            "max_length": self.max_length,
            **({} if self.pair is None else {"pair": self.pair}),
            "training": self.training_record,
            **self._column_config(),
        }

    def _column_config(self) -> dict[str, Any]:
        """The key of `SIDE_FILE` with the options by which the training file was read, if any."""
        return {"columns": dict(self.column_options)} if self.column_options else {}

    def _own_layers(self) -> dict[str, keras.layers.Layer]:
        """Layers that transformers has not; their weights go to a file beside, by these names."""
        return {}

    def _saved_heads(self) -> dict[str, keras.layers.Layer]:
        """The heads that transformers has, by kind; of the others, see `_own_layers`."""
        return {self.head_kind: self.head} if self.head_kind else {}

    def save(self, directory: str | os.PathLike[str], *, overwrite: bool = True) -> None:
        """Writes a Hugging Face directory, which transformers and `load` read.

        config.json (labels inside), model.safetensors (float32), the tokenizer's files, and
        `keras_bert_zoo.json` with what only this package knows; weights that transformers has not,
        in `keras_bert_zoo.safetensors`. Written aside and put in place in one step: an earlier
        save stays whole until the new one is. Files in the directory that are not the model's are
        kept; weights of other formats are refused by name.

        Args:
            directory: path; missing, empty, or an earlier save.
            overwrite: bool. Whether to replace an earlier save.

        Raises:
            CheckpointError: it cannot be written, or is there and not to be replaced.
        """
        own = self._own_layers()
        with merged_lora(self.encoder):
            save_headed(
                directory,
                self.encoder,
                self._saved_heads(),
                config=self._task_config(),
                tokenizer=self.tokenizer,
                side=self._side_config(),
                write_more=(lambda folder: save_own_weights(folder, own)) if own else None,
                overwrite=overwrite,
            )

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

        with ExitStack() as merged:
            for stage in self.stages():
                merged.enter_context(merged_lora(stage.encoder))
            return export_task(self, path, format, **kwargs)
