"""Exports a task as one LiteRT file for devices."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_bert_zoo.directories.replacing import sync_name, sync_path, write_aside
from keras_bert_zoo.errors import ConfigError, ExportError
from keras_bert_zoo.export.litert.conversion import convert
from keras_bert_zoo.export.litert.graph import INPUTS, build_graph
from keras_bert_zoo.export.litert.interpreter import LiteRTModel, make_interpreter
from keras_bert_zoo.export.litert.measuring import Figures, check_measurable, measure
from keras_bert_zoo.export.litert.mediapipe_tokenizer import Differences
from keras_bert_zoo.export.litert.model_file import SUFFIX, is_litert_file, joined
from keras_bert_zoo.export.litert.ops import Delegation, delegation
from keras_bert_zoo.export.litert.quantization import quantized
from keras_bert_zoo.export.litert.verification import check_model
from keras_bert_zoo.export.saved_model import check_pair
from keras_bert_zoo.extras import check_package
from keras_bert_zoo.tasks.embedding.index import SemanticSearch
from keras_bert_zoo.tasks.task import Task
from keras_bert_zoo.text.wordpiece.tokenizer import WordPieceTokenizer
from keras_bert_zoo.validation import check_choice, check_integer

_logger = logging.getLogger(__name__)

DTYPES = ("float32", "float16", "int8")


@dataclass(frozen=True)
class LiteRTExport:
    """The result of `export_litert`.

    Attributes:
        path: Path of the file.
        input: str. "text" or "ids".
        dtype: str. The dtype of the weights.
        inputs: name -> shape, with None for any size.
        outputs: names.
        model_bytes: int. Size of the file.
        texts: int. The number of texts on which the file in float32 and the task agree.
        largest_difference: float. Between their scores; relative for scores beyond 1.
        equal_answers: float or None. For float16 and int8: the share of these texts whose answers
            agree.
        delegation: Delegation. The operations that XNNPACK computes, and the others.
        seconds: float. Duration of the export.
        figures: Figures or None. The task's main figure before and after, with `examples`.
        tokenization: Differences or None. For MediaPipe: the texts that it tokenizes differently.
    """

    path: Path
    input: str
    dtype: str
    inputs: dict[str, tuple[int | None, ...]]
    outputs: tuple[str, ...]
    model_bytes: int
    texts: int
    largest_difference: float
    equal_answers: float | None
    delegation: Delegation
    seconds: float
    figures: Figures | None = None
    tokenization: Differences | None = None


def export_litert(
    task: Task,
    path: str | os.PathLike[str],
    *,
    dtype: str = "float32",
    input: str | None = None,
    pair: bool | None = None,
    batch_size: int | None = 1,
    length: int | None = None,
    examples: Any = None,
    max_drop: float | None = None,
) -> LiteRTExport:
    """Writes one .tflite file for LiteRT, the runtime of Android, iOS and small computers.

    With `input="text"`, the file takes strings and contains the tokenizer, in ops of tf.text that
    an app links in addition to LiteRT. With `input="ids"`, it takes `token_ids`, `segment_ids` and
    `padding_mask`, int32 (B, S), and has built-in ops alone, which every runtime has. Both return
    the results of `predict`; from ids alone without offsets, see `Task.answers`.

    The model is converted in float32 and loaded in an interpreter without this package. Its answers
    to hostile texts are compared with the task's. Then the weights get their dtype. The file
    appears when it is complete. A zip archive at its end has the vocabulary and the labels.

    Args:
        task: Task.
        path: path of the file, which ends in .tflite.
        dtype: "float32", "float16" or "int8". The dtype of the weights; see `quantized`.
        input: "text" or "ids". None: "text" if the tokenizer allows it.
        pair: bool. See `export_saved_model`.
        batch_size: int. Rows per request. None: any, which XNNPACK computes less of.
        length: int. For `input="ids"`: tokens per row, padding included. None: any.
        examples: labelled examples, what `task.report` takes, or (x, y), or None. The result has
            the change of the task's main figure.
        max_drop: float or None. The largest accepted drop of this figure.

    Returns:
        LiteRTExport.

    Raises:
        ConfigError: an option is not supported, or a package of the extra `litert` is missing.
        ExportError: LiteRT lacks an op, the file cannot be written, its answers differ from the
            task's, or the figure drops too much. No file remains, and an earlier one is unchanged.

    Example: `export_litert(task, "intents.tflite", dtype="int8").model_bytes`
    """
    input = _checked_input(task, input, length)
    return write_model(
        task,
        path,
        dtype=dtype,
        input=input,
        pair=pair,
        batch_size=batch_size,
        length=length,
        examples=examples,
        max_drop=max_drop,
    )


def write_model(
    task: Task,
    path: str | os.PathLike[str],
    *,
    dtype: str,
    input: str,
    pair: bool | None,
    batch_size: int | None,
    length: int | None,
    examples: Any,
    max_drop: float | None,
    outputs: Sequence[str] | None = None,
    finish: Callable[[bytes], bytes] | None = None,
) -> LiteRTExport:
    """Writes a file of any format; see `export_litert`.

    Args:
        task: Task.
        path: see `export_litert`.
        dtype: see `export_litert`.
        input: "text" or "ids".
        pair: see `export_litert`.
        batch_size: see `export_litert`.
        length: see `export_litert`.
        examples: see `export_litert`.
        max_drop: see `export_litert`.
        outputs: names of the outputs; None: all.
        finish: function that adds to the flatbuffer what the format needs.
    """
    begin = time.monotonic()
    check_pair(task, pair)
    check_choice("dtype", dtype, DTYPES)
    target = _checked_path(path)
    _check_sizes(task, batch_size, length)
    if examples is not None:
        check_measurable(task)
    elif max_drop is not None:
        raise ConfigError("Expected labelled `examples` with `max_drop`, received None.")
    packages = {"ai_edge_litert": "ai-edge-litert"}
    if dtype != "float32":
        packages["ai_edge_quantizer"] = "ai-edge-quantizer"
    for module, package in packages.items():
        check_package(module, "LiteRT models", package=package, extra="litert")
    is_text = input == "text"
    graph = build_graph(
        task, inputs=input, pair=pair, batch_size=batch_size, length=length, outputs=outputs
    )
    with write_aside(target, ExportError) as hidden:
        model = convert(graph, text=is_text)
        agreement = check_model(
            task,
            model,
            hidden.path,
            text=is_text,
            pair=pair,
            batch_size=batch_size,
            length=length,
            outputs=outputs,
        )
        equal = None
        if dtype != "float32":
            model = quantized(model, dtype)
            equal = agreement.again(model)
        figures = None
        if examples is not None:
            figures = measure(task, dtype, examples, max_drop=max_drop)
        if finish is not None:
            model = finish(model)
        info = {
            "format": 1,
            "task": task.spec.name,
            "input": input,
            "dtype": dtype,
            "command": _command(task),
            "texts": list(task.text_specs(pair=pair)),
            "columns": task.column_options,
        }
        file = hidden.path / "model"
        file.write_bytes(joined(model, info, _files(task)))
        interpreter = make_interpreter(model, text=is_text)
        interpreter.allocate_tensors()
        split = delegation(interpreter)
        runner = LiteRTModel(interpreter, info)
        sync_path(file)
        size = file.stat().st_size
        os.replace(file, target)
        sync_name(target, ExportError)
    return LiteRTExport(
        path=target,
        input=input,
        dtype=dtype,
        inputs=runner.inputs,
        outputs=runner.outputs,
        model_bytes=size,
        texts=agreement.texts,
        largest_difference=agreement.largest_difference,
        equal_answers=equal,
        delegation=split,
        seconds=time.monotonic() - begin,
        figures=figures,
    )


def _checked_path(path: str | os.PathLike[str]) -> Path:
    target = Path(path).absolute()
    if not is_litert_file(target):
        raise ConfigError(
            f"Expected the path of a LiteRT model to end in {SUFFIX}, received {str(path)!r}."
        )
    if target.is_dir():
        raise ExportError(f"Expected a file or a new path, received the directory {target}.")
    return target


def _checked_input(task: Task, input: str | None, length: int | None) -> str:
    """Returns the chosen input; "ids" if the tokenizer needs ops that LiteRT lacks."""
    possible = isinstance(task.tokenizer, WordPieceTokenizer)
    if input is None:
        if length is not None:
            return "ids"
        if not possible:
            _logger.warning(
                "The export takes token ids: LiteRT lacks ops of the %s.",
                type(task.tokenizer).__name__,
            )
        return "text" if possible else "ids"
    check_choice("input", input, INPUTS)
    if input == "text" and not possible:
        raise ConfigError(
            f"LiteRT lacks ops of the {type(task.tokenizer).__name__}: expected `input` to be "
            "'ids', received 'text'."
        )
    if input == "text" and length is not None:
        raise ConfigError(
            "`length` applies only to input='ids': texts are as long as they are, up to the "
            f"model's `max_length` of {task.max_length} tokens."
        )
    return input


def _check_sizes(task: Task, batch_size: int | None, length: int | None) -> None:
    if batch_size is not None:
        check_integer("batch_size", batch_size, minimum=1)
    if length is not None:
        check_integer("length", length, minimum=3, maximum=task.encoder.config.max_tokens)


def _command(task: Task) -> str:
    """Returns the name of the command that reads texts for a task."""
    if getattr(task, "multi_label", False):
        return "multi-label"
    return "embedding" if isinstance(task, SemanticSearch) else task.spec.name


def _files(task: Task) -> dict[str, bytes]:
    """Returns the tokenizer's files and the labels, by name."""
    with tempfile.TemporaryDirectory() as folder:
        task.tokenizer.save(folder)
        files = {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}
    labels = getattr(task, "labels", None)
    if labels:
        files["labels.txt"] = "".join(f"{label}\n" for label in labels).encode()
    return files
