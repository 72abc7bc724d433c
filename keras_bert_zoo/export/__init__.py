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
    """Writes a task in a format; what `Task.export` calls.

    Args:
        task: to be exported.
        path: where to.
        format: one of `FORMATS`.
        **options: of the format; for "saved_model" see `export_saved_model`.

    Returns:
        what was written and how it was checked.

    Raises:
        ConfigError: an unknown format, or an option that is not possible.
        ExportError: it cannot be written, or does not answer as the task does.
    """
    if format not in FORMATS:
        raise ConfigError(
            f"Export format {format!r} is not supported. Expected one of: {', '.join(FORMATS)}."
        )
    from keras_bert_zoo.export.saved_model import export_saved_model

    return export_saved_model(task, path, **options)
