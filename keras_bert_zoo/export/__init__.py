"""Exports: files that answer raw strings without this package."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.errors import ConfigError

if TYPE_CHECKING:
    from keras_bert_zoo.export.saved_model import SavedModelExport
    from keras_bert_zoo.tasks.task import Task

FORMATS = ("saved_model",)


def export_task(
    task: Task, path: str | os.PathLike[str], format: str = "saved_model", **options: Any
) -> SavedModelExport:
    """Exports a task; the function of `Task.export`.

    Args:
        task: Task.
        path: path of the export.
        format: one of `FORMATS`.
        **options: options of the format. For "saved_model", see `export_saved_model`.

    Returns:
        SavedModelExport.

    Raises:
        ConfigError: the format or an option is not supported.
        ExportError: the export cannot be written, or its outputs differ from the task's.
    """
    if format not in FORMATS:
        raise ConfigError(
            f"Export format {format!r} is not supported. Expected one of: {', '.join(FORMATS)}."
        )
    from keras_bert_zoo.export.saved_model import export_saved_model

    return export_saved_model(task, path, **options)
