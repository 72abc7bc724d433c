"""Exports a task as a SavedModel for stock TF Serving."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_bert_zoo.directories.renames import rename_new
from keras_bert_zoo.directories.replacing import sync_name, sync_tree, write_aside
from keras_bert_zoo.errors import ConfigError, ExportError
from keras_bert_zoo.export.audit import audit_saved_model
from keras_bert_zoo.export.int8 import Int8Report, quantize
from keras_bert_zoo.export.serving_files import (
    write_batching_parameters,
    write_requirements,
    write_warmup_requests,
)
from keras_bert_zoo.export.signatures import (
    build_serving_graph,
    compute_dtype,
    weight_bytes,
)
from keras_bert_zoo.export.verify import TOLERANCES, Verifier
from keras_bert_zoo.tasks.task import Task

_logger = logging.getLogger(__name__)

# A SavedModel's graph is one protobuf message of at most 2 GiB. The other nodes, and the copy of
# them that saving makes, need the rest.
_LARGEST_FROZEN = 1_500_000_000  # bytes
_LAST_VERSION = 2**63 - 1  # TF Serving ignores larger numbers
# The compute dtype of the encoder in the graph. Products in int8 belong to its layers.
_GRAPH_DTYPES = {"float32": "float32", "bfloat16": "bfloat16", "int8": "bfloat16"}
# A server receives texts in any order of length; see `TokenLayout`.
ATTENTION_GROUPS = 6


@dataclass(frozen=True)
class SavedModelExport:
    """The result of `export_saved_model`.

    Attributes:
        path: Path of the version's directory.
        version: int.
        signatures: tuple of str.
        dtype: str. The compute dtype of the encoder.
        frozen: bool. Whether the weights are constants of the graph.
        model_bytes: int. Size of the directory.
        weight_bytes: int. Size of the weights in it.
        texts: int. The number of texts on which the export and the model agree.
        largest_difference: float. Between their scores; relative for scores beyond 1.
        seconds: float. Duration of the export.
        int8: Int8Report or None. For int8: its layers, and the loss of accuracy.
        fallback: Path or None. The version in bfloat16, with the option `fallback`.
    """

    path: Path
    version: int
    signatures: tuple[str, ...]
    dtype: str
    frozen: bool
    model_bytes: int
    weight_bytes: int
    texts: int
    largest_difference: float
    seconds: float
    int8: Int8Report | None = None
    fallback: Path | None = None


def export_saved_model(
    task: Task,
    path: str | os.PathLike[str],
    *,
    version: int | None = None,
    dtype: str | None = None,
    freeze: bool | None = None,
    attention_groups: int = ATTENTION_GROUPS,
    pair: bool | None = None,
    calibration: Any = None,
    examples: Any = None,
    max_drop: float | None = None,
    fallback: bool = False,
) -> SavedModelExport:
    """Writes PATH/VERSION/, a self-contained SavedModel that takes strings.

    Signatures: `serving_default` takes `text` string (B,), and `text_pair` for a task on pairs;
    `tokens` takes `token_ids`, `segment_ids` and `padding_mask` int32 (B, S); `examples` takes
    `examples` string (B,), serialized tf.Examples with features of the names above. All of them
    return the results of `predict`.

    The export is written to a temporary directory and loaded in an interpreter without this
    package. Its answers to hostile texts are compared with the task's. Then the directory is
    renamed. So TF Serving, which polls `path`, never reads an incomplete version.

    Args:
        task: Task.
        path: path of the model: saved_models/NAME.
        version: int. None: 1, or the newest version + 1. The number is chosen when the export is
            complete, so concurrent exports get different versions.
        dtype: "float32", "bfloat16" or "int8". The compute dtype of the encoder. None: the task's,
            and float32 for float16.
            In int8, the dense layers of the blocks multiply int8 numbers, and the rest is bfloat16.
            The file then needs an x86-64 CPU. See `export.int8.quantize`.
        freeze: bool. Whether weights become constants of the graph, which is faster on CPU. None:
            True if they fit into the graph.
        attention_groups: int. See `TokenLayout`.
        pair: bool. Whether the export takes pairs of texts, `text` and `text_pair`. None: the
            task's attribute `pair`, or single texts if it is None too.
        calibration: texts for int8, what `task.predict` takes: about 100 to 1,000 like those that
            will be served.
        examples: labelled examples for int8, what `task.report` takes, or (x, y), or None. The
            result has the change of the task's main figure.
        max_drop: float or None. For int8: the largest accepted drop of this figure.
        fallback: bool. For int8: also write the bfloat16 model, as the version before.

    Returns:
        SavedModelExport.

    Raises:
        ConfigError: an option is not supported.
        ExportError: the export cannot be written, or its outputs differ from the task's. No files
            remain, and earlier versions are unchanged.
    """
    begin = time.monotonic()
    check_pair(task, pair)
    base = Path(path).absolute()
    own_dtype = compute_dtype(task)
    if dtype is None:
        dtype = "float32" if own_dtype == "float16" else own_dtype
    if dtype not in TOLERANCES:
        raise ConfigError(
            f"Expected `dtype` to be one of {', '.join(TOLERANCES)} or None, received {dtype!r}."
        )
    _check_int8(dtype, freeze, calibration, examples, max_drop, fallback)
    try:
        is_new = not base.exists()
        nearest = next(parent for parent in (base, *base.parents) if parent.exists())
        if not nearest.is_dir():
            raise ExportError(f"Expected a directory or a new path, received the file {nearest}.")
        target = base / str(_version(base, version))
    except OSError as failure:  # the name is too long, or the directory is unreadable
        raise ExportError(
            f"Cannot write {base}: {failure.strerror or failure}. Nothing was changed there."
        ) from failure
    if freeze is None:
        freeze = weight_bytes(task, dtype) <= _LARGEST_FROZEN
    elif freeze and weight_bytes(task, dtype) > _LARGEST_FROZEN:
        raise ConfigError(
            f"Expected weights of at most {_LARGEST_FROZEN / 1e9:.1f} GB for `freeze=True`, "
            f"received {weight_bytes(task, dtype) / 1e9:.1f} GB. Pass `freeze=False`."
        )
    tolerance = max(TOLERANCES[dtype], TOLERANCES.get(own_dtype, TOLERANCES["bfloat16"]))
    exact, report, bfloat16 = task, None, None
    if dtype == "int8":
        task, report = quantize(task, calibration, examples=examples, max_drop=max_drop)
    try:
        with (
            Verifier() as verifier,
            # The name has no version, because another process may take the number meanwhile.
            write_aside(target, ExportError, stem="version") as hidden,
        ):
            aside = hidden.path
            graph = build_serving_graph(
                task,
                dtype=_GRAPH_DTYPES[dtype],
                freeze=freeze,
                attention_groups=attention_groups,
                pair=pair,
            )
            _save(graph.module, graph.signatures, aside)
            write_batching_parameters(aside)
            write_warmup_requests(aside, task, model_name=base.name, pair=pair)
            if report is not None:
                write_requirements(aside)
            audit_saved_model(aside)
            verification = verifier.check(aside, task, tolerance=tolerance, pair=pair)
            size = sum(file.stat().st_size for file in aside.rglob("*") if file.is_file())
            sync_tree(aside)
            if fallback:  # now that the int8 model has passed: a failure leaves no files
                bfloat16 = export_saved_model(
                    exact,
                    path,
                    version=version,
                    dtype="bfloat16",
                    attention_groups=attention_groups,
                    pair=pair,
                )
                version = None if version is None else bfloat16.version + 1
                target = base / str(_version(base, version))
            target = place_version(aside, target, version)
    finally:
        if is_new:
            with contextlib.suppress(OSError):  # missing, or not empty
                base.rmdir()
    return SavedModelExport(
        path=target,
        version=int(target.name),
        signatures=tuple(graph.signatures),
        dtype=dtype,
        frozen=freeze,
        model_bytes=size,
        weight_bytes=graph.weight_bytes,
        texts=verification.texts,
        largest_difference=verification.largest_difference,
        seconds=time.monotonic() - begin,
        int8=report,
        fallback=None if bfloat16 is None else bfloat16.path,
    )


def _check_int8(
    dtype: str,
    freeze: bool | None,
    calibration: Any,
    examples: Any,
    max_drop: float | None,
    fallback: bool,
) -> None:
    """Raises ConfigError for options that belong to int8 alone, or that it lacks."""
    if dtype != "int8":
        given = {
            "calibration": calibration is not None,
            "examples": examples is not None,
            "max_drop": max_drop is not None,
            "fallback": fallback,
        }
        for name in (name for name, is_given in given.items() if is_given):
            raise ConfigError(f'`{name}` applies only to dtype="int8", received {dtype!r}.')
        return
    if calibration is None:
        raise ConfigError(
            "Expected `calibration` for int8: about 100 to 1,000 texts like those that will be "
            "served. Their ranges become constants of the export."
        )
    if freeze is False:
        raise ConfigError("Expected `freeze` to be True or None for int8: weights are constants.")
    if max_drop is not None and examples is None:
        raise ConfigError("Expected labelled `examples` with `max_drop`, received None.")
    if platform.machine() not in ("x86_64", "AMD64"):
        raise ConfigError(
            f"Expected an x86-64 CPU for int8, received {platform.machine()}: the export is "
            'verified here. Use dtype="bfloat16".'
        )


def check_pair(task: Task, pair: bool | None) -> None:
    """Raises ConfigError if the task does not support `pair`; warns if it may be wrong."""
    if pair not in (None, True, False):
        raise ConfigError(f"Expected `pair` to be True, False or None, received {pair!r}.")
    if task.spec.pairs is not None:
        if pair not in (None, task.spec.pairs):
            raise ConfigError(
                f"Expected no `pair`, received {pair}: {type(task).__name__} takes "
                f"{' and '.join(task.text_specs())}. Omit it."
            )
    elif pair is None and task.pair is None:
        _logger.warning(
            "The export takes single texts, but the model may have been trained on pairs of texts. "
            "For a model of pairs (NLI, cross-encoders), pass pair=True, or --pairs on the command "
            "line. For a model of single texts, pass pair=False or --no-pairs."
        )
    elif None not in (pair, task.pair) and pair != task.pair:
        kinds = ("single texts", "pairs of texts")
        _logger.warning(
            "The export takes %s, but this model was trained on %s.",
            kinds[bool(pair)],
            kinds[bool(task.pair)],
        )


def _version(base: Path, version: int | None) -> int:
    """Returns the number of the new version. It must not be in use."""
    used = []
    if base.is_dir():
        names = [path.name for path in base.iterdir()]
        used = [int(n) for n in names if n.isascii() and n.isdigit() and int(n) <= _LAST_VERSION]
    if version is None:
        return max(used, default=0) + 1
    if isinstance(version, bool) or not isinstance(version, int) or version < 0:
        raise ConfigError(f"Expected `version` to be an integer >= 0, received {version!r}.")
    if version > _LAST_VERSION:
        raise ConfigError(f"Expected `version` to be <= {_LAST_VERSION}, received {version!r}.")
    if version in used:
        raise ExportError(
            f"Version {version} is already in {base} (newest: {max(used)}). A server may have "
            "loaded it. Pass another `version`, or omit it for the next one."
        )
    return version


def place_version(aside: Path, target: Path, version: int | None) -> Path:
    """Renames a complete export to its version, and returns its path.

    Raises:
        ExportError: another process has written `version` meanwhile.
    """
    base = target.parent
    while True:
        try:
            rename_new(aside, target)
        except FileExistsError:
            target = base / str(_version(base, version))
        else:
            sync_name(target, ExportError)
            return target


def _save(module: tf.Module, signatures: dict[str, object], directory: Path) -> None:
    # Serving needs no gradients.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    try:
        tf.saved_model.save(module, str(directory), signatures=signatures, options=options)
    except tf.errors.OpError as error:
        # TensorFlow reports a full disk as an OpError.
        raise OSError(error.error_code, error.message.splitlines()[0]) from error
