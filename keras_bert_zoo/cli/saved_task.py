"""What a saved directory holds, told without loading it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from keras_bert_zoo.config import read_config_json
from keras_bert_zoo.errors import CheckpointError

if TYPE_CHECKING:
    from keras_bert_zoo.data.examples import LabelKind


def check_saved_task(directory: str) -> LabelKind:
    """Looks whether a directory can be a saved task, before TensorFlow is imported for it.

    Args:
        directory: path.

    Returns:
        the kind of its labels.

    Raises:
        CheckpointError: it is missing, or an export.
        ConfigError: its config.json cannot be read.
    """
    path = Path(directory)
    if not path.is_dir():
        raise CheckpointError(
            f"{directory}: there is no such directory; expected what `keras-bert-zoo train` wrote"
        )
    if not (path / "config.json").exists() and (
        (path / "saved_model.pb").exists() or any(path.glob("*/saved_model.pb"))
    ):
        raise CheckpointError(
            f"{directory} is an exported SavedModel, for TensorFlow to load; expected the "
            "directory that `keras-bert-zoo train` wrote and it was exported from"
        )
    kinds: dict[str, LabelKind] = {"regression": "float", "multi_label_classification": "multi"}
    return kinds.get(read_config_json(directory).get("problem_type", ""), "single")
