"""Exports: files that answer raw strings without this package."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.errors import ConfigError

if TYPE_CHECKING:
    from keras_bert_zoo.export.litert.exporter import LiteRTExport
    from keras_bert_zoo.export.litert.interpreter import LiteRTModel, litert_interpreter
    from keras_bert_zoo.export.saved_model import SavedModelExport
    from keras_bert_zoo.tasks.task import Task

__all__ = ["FORMATS", "LiteRTModel", "export_task", "litert_interpreter"]

FORMATS = ("saved_model", "litert", "mediapipe")


def __getattr__(name: str) -> Any:
    """Imports the functions for LiteRT files on first use: they need NumPy."""
    if name not in ("LiteRTModel", "litert_interpreter"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from keras_bert_zoo.export.litert import interpreter

    return getattr(interpreter, name)


def export_task(
    task: Task, path: str | os.PathLike[str], format: str = "saved_model", **options: Any
) -> SavedModelExport | LiteRTExport:
    """Exports a task; the function of `Task.export`.

    Args:
        task: Task.
        path: path of the export.
        format: one of `FORMATS`.
        **options: options of the format: see `export_saved_model`, `export_litert` and
            `export_mediapipe`.

    Returns:
        SavedModelExport or LiteRTExport.

    Raises:
        ConfigError: the format or an option is not supported.
        ExportError: the export cannot be written, or its outputs differ from the task's.
    """
    if format not in FORMATS:
        raise ConfigError(
            f"Export format {format!r} is not supported. Expected one of: {', '.join(FORMATS)}."
        )
    if format == "litert":
        from keras_bert_zoo.export.litert.exporter import export_litert

        return export_litert(task, path, **options)
    if format == "mediapipe":
        from keras_bert_zoo.export.litert.mediapipe import export_mediapipe

        return export_mediapipe(task, path, **options)
    from keras_bert_zoo.export.saved_model import export_saved_model

    return export_saved_model(task, path, **options)
