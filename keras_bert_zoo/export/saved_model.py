"""Writing a task as a SavedModel for stock TF Serving."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from keras_bert_zoo.directories.renames import rename_new
from keras_bert_zoo.directories.replacing import sync_name, sync_tree, write_aside
from keras_bert_zoo.errors import ConfigError, ExportError
from keras_bert_zoo.export.audit import audit_saved_model
from keras_bert_zoo.export.serving_files import write_batching_parameters, write_warmup_requests
from keras_bert_zoo.export.signatures import (
    build_serving_graph,
    compute_dtype,
    weight_bytes,
)
from keras_bert_zoo.export.verify import TOLERANCES, Verifier
from keras_bert_zoo.tasks.task import Task

_logger = logging.getLogger(__name__)

# A SavedModel's graph is one protobuf message, which ends at 2 GiB; the rest is for all the other
# nodes and for the copy that saving makes of them.
_LARGEST_FROZEN = 1_500_000_000  # bytes
_LAST_VERSION = 2**63 - 1  # TF Serving does not see what is beyond
# Texts come in order of arrival here; see `TokenLayout`.
ATTENTION_GROUPS = 6


@dataclass(frozen=True)
class SavedModelExport:
    """What `export_saved_model` wrote.

    Attributes:
        path: Path of the version's folder.
        version: int.
        signatures: tuple of str.
        dtype: str. What the encoder computes in.
        frozen: bool. Whether the weights are constants of the graph.
        model_bytes: int. Size of the folder.
        weight_bytes: int. The weights' part of it.
        texts: int. How many texts were answered alike by the export and the model.
        largest_difference: float. Between their scores; relative where they are beyond 1.
        seconds: float. What it all took.
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


def export_saved_model(
    task: Task,
    path: str | os.PathLike[str],
    *,
    version: int | None = None,
    dtype: str | None = None,
    freeze: bool | None = None,
    attention_groups: int = ATTENTION_GROUPS,
    pair: bool | None = None,
) -> SavedModelExport:
    """Writes PATH/VERSION/, a SavedModel that takes strings and holds all that it needs.

    Signatures: `serving_default` takes `text` string (B,), and `text_pair` for a task on pairs;
    `tokens` takes `token_ids`, `segment_ids` and `padding_mask` int32 (B, S); `examples` takes
    `examples` string (B,), serialized tf.Examples with features of the names above. All of them
    return what `predict` does.

    The folder is written under another name, loaded in an interpreter that does not import this
    package, asked hostile texts, compared with the task's own answers, and only then renamed: TF
    Serving, which polls `path`, never sees a version that is not whole.

    Args:
        task: Task.
        path: of the model: saved_models/NAME.
        version: int. None: 1, or one more than the newest there when the export is complete, so
            that exports at the same time get a version each.
        dtype: "float32" or "bfloat16", what the encoder computes in; None: as the task does.
        freeze: bool. Whether weights become constants of the graph, which is faster on CPU. None:
            where they fit.
        attention_groups: int. See `TokenLayout`.
        pair: bool. Whether the export takes pairs of texts, `text` and `text_pair`; None: as the
            task's attribute `pair` says, single texts where that is not known.

    Returns:
        SavedModelExport.

    Raises:
        ConfigError: an option that is not possible.
        ExportError: it cannot be written, or does not answer as the task does. Nothing is left
            behind, and earlier versions are as they were.
    """
    begin = time.monotonic()
    _check_pair(task, pair)
    base = Path(path).absolute()
    own_dtype = compute_dtype(task)
    dtype = own_dtype if dtype is None else dtype
    if dtype not in TOLERANCES:
        raise ConfigError(f"`dtype` must be one of {', '.join(TOLERANCES)} or None, got {dtype!r}.")
    try:
        is_new = not base.exists()
        target = base / str(_version(base, version))
    except OSError as failure:  # a name that is too long, a folder that cannot be read
        raise ExportError(
            f"Cannot write {base}: {failure.strerror or failure}. Nothing was changed there."
        ) from failure
    if freeze is None:
        freeze = weight_bytes(task, dtype) <= _LARGEST_FROZEN
    elif freeze and weight_bytes(task, dtype) > _LARGEST_FROZEN:
        raise ConfigError(
            "`freeze=True` does not fit: the weights take "
            f"{weight_bytes(task, dtype) / 1e9:.1f} GB, and a graph ends at 2 GiB."
        )
    tolerance = max(TOLERANCES[dtype], TOLERANCES[own_dtype])
    try:
        with (
            Verifier() as verifier,
            # Not named after the version: that may be another in the end.
            write_aside(target, ExportError, stem="version") as hidden,
        ):
            aside = hidden.path
            graph = build_serving_graph(
                task, dtype=dtype, freeze=freeze, attention_groups=attention_groups, pair=pair
            )
            _save(graph.module, graph.signatures, aside)
            write_batching_parameters(aside)
            write_warmup_requests(aside, task, model_name=base.name, pair=pair)
            audit_saved_model(aside)
            verification = verifier.check(aside, task, tolerance=tolerance, pair=pair)
            size = sum(file.stat().st_size for file in aside.rglob("*") if file.is_file())
            sync_tree(aside)
            target = _place(aside, target, version)
    finally:
        if is_new:
            with contextlib.suppress(OSError):  # it is not there, or not empty
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
    )


def _check_pair(task: Task, pair: bool | None) -> None:
    """Raises ConfigError for a `pair` that the task does not take; warns of a doubtful one."""
    if pair not in (None, True, False):
        raise ConfigError(f"`pair` must be True, False or None, got {pair!r}.")
    if task.takes_pairs is not None:
        if pair not in (None, task.takes_pairs):
            raise ConfigError(
                f"`pair={pair}` is not possible: a {type(task).__name__} takes "
                f"{' and '.join(task.text_specs())}. Leave it out."
            )
    elif pair is None and task.pair is None:
        _logger.warning(
            "The export takes single texts: whether this model was trained on pairs of texts is "
            "not known. If it was (NLI, cross-encoders), export it with pair=True, on the command "
            "line --pairs; if not, pair=False or --no-pairs says so."
        )
    elif None not in (pair, task.pair) and pair != task.pair:
        kinds = ("single texts", "pairs of texts")
        _logger.warning(
            "The export takes %s, but this model was trained on %s.",
            kinds[bool(pair)],
            kinds[bool(task.pair)],
        )


def _version(base: Path, version: int | None) -> int:
    """The number to write, checked against those that are there."""
    there = []
    if base.is_dir():
        names = [path.name for path in base.iterdir()]
        there = [int(n) for n in names if n.isascii() and n.isdigit() and int(n) <= _LAST_VERSION]
    if version is None:
        return max(there, default=0) + 1
    if isinstance(version, bool) or not isinstance(version, int) or version < 0:
        raise ConfigError(f"`version` must be an integer of at least 0, got {version!r}.")
    if version > _LAST_VERSION:
        raise ConfigError(f"`version` must be at most {_LAST_VERSION}, got {version!r}.")
    if version in there:
        raise ExportError(
            f"Version {version} is already in {base} (newest: {max(there)}). A server may have "
            "loaded it: export another version, or leave `version` out for the next one."
        )
    return version


def _place(aside: Path, target: Path, version: int | None) -> Path:
    """Gives a complete export its version; returns its path.

    Raises:
        ExportError: another process has written that `version` meanwhile.
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
    # The layers' gradients are of no use to who serves.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    try:
        tf.saved_model.save(module, str(directory), signatures=signatures, options=options)
    except tf.errors.OpError as error:
        # TensorFlow's own file system reports a full disk in its own way.
        raise OSError(error.error_code, error.message.splitlines()[0]) from error
