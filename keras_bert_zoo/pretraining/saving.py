"""Saves a pretrained encoder with all heads, and its generator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from keras_bert_zoo.metrics.replaced_token import REPLACED_TOKENS
from keras_bert_zoo.presets.save import save
from keras_bert_zoo.pretraining.objectives import head_kinds
from keras_bert_zoo.tasks.masked_lm import MaskedLM
from keras_bert_zoo.tasks.options import MaskedLMOptions
from keras_bert_zoo.tasks.saving import SavedParts

__all__ = ["GENERATOR_FOLDER", "pretraining_parts"]

GENERATOR_FOLDER = "generator"
"""The folder of the generator in the directory of the encoder that it trained."""


def pretraining_parts(task: Any) -> SavedParts:
    """Returns the contents of a Pretrainer's directory.

    It has the class that transformers has for all heads. A generator is a masked language model in
    the folder `GENERATOR_FOLDER`.

    Args:
        task: Pretrainer.
    """
    kinds = head_kinds(task.encoder.config, task.options.objectives)
    heads = {kind: task.head[name] for name, kind in kinds.items()}
    generator = heads.pop("masked_lm") if REPLACED_TOKENS in kinds else None

    def save_generator(folder: Path) -> None:
        if generator is not None:
            options = {name: getattr(task.options, name) for name in MaskedLMOptions.schema()}
            save(
                folder / GENERATOR_FOLDER,
                generator.encoder,
                {"masked_lm": generator.head},
                config=task.source_config,
                tokenizer=task.tokenizer,
                side={"task": MaskedLM.spec.name, **options},
            )

    def save_all(directory: Any, side: dict[str, Any], overwrite: bool) -> None:
        save(
            directory,
            task.encoder,
            heads,
            config=task.source_config,
            tokenizer=task.tokenizer,
            side=side,
            write_more=save_generator,
            overwrite=overwrite,
        )

    # Commands that load the directory answer as a MaskedLM.
    side = {"task": MaskedLM.spec.name, **task.options.to_side()}
    side["objectives"] = list(side["objectives"])
    side["training"] = task.training_record
    return SavedParts(side=side, save=save_all)
