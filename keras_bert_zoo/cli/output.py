"""Atomic output files of commands."""

from __future__ import annotations

import argparse
import contextlib
import errno
import gzip
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

from keras_bert_zoo.directories.hidden import discard, discard_abandoned, make_hidden
from keras_bert_zoo.directories.replacing import replace_directory, sync_path
from keras_bert_zoo.errors import CheckpointError, DataError
from keras_bert_zoo.files import SIDE_FILE


def check_outputs(args: argparse.Namespace, names: Sequence[str]) -> None:
    """Rejects output files that cannot be written, or that would overwrite an input.

    Args:
        args: the parsed arguments of a command.
        names: the options with output files.

    Raises:
        DataError: an output and another option name the same file, an output is inside the
            directory of `--model`, or its folder is missing or read-only.
    """
    inputs = {name: value for name, value in vars(args).items() if name not in names}
    written: dict[Path, str] = {}
    for name in names:
        output = getattr(args, name, None)
        if not output or output == "-" or _is_device(output):
            continue
        flag = f"--{name.replace('_', '-')}"
        other = written.setdefault(Path(output).resolve(), flag)
        if other != flag:
            raise DataError(f"{output}: expected different files for {other} and {flag}")
        for other, values in inputs.items():
            for value in values if isinstance(values, list) else [values]:
                if isinstance(value, str) and _is_same(output, value):
                    raise DataError(
                        f"{output}: expected different files for {flag} and "
                        f"--{other.replace('_', '-')}, which would be overwritten"
                    )
        model = getattr(args, "model", None)
        if model and Path(model).resolve() in Path(output).resolve().parents:
            raise DataError(
                f"{output}: expected a file for {flag} outside the model's directory; a file of "
                "the model could be overwritten"
            )
        check_folder(output)


def check_folder(output: str, *, create: bool = False) -> None:
    """Checks the folder of an output file before the work.

    Args:
        output: the file.
        create: bool. Whether the caller creates missing folders.

    Raises:
        DataError: as `written_file` would raise it after the work.
    """
    folder = Path(output).resolve().parent
    while create and not folder.exists():
        folder = folder.parent
    code = None
    if not folder.exists():
        code = errno.ENOENT
    elif not folder.is_dir():
        code = errno.ENOTDIR
    elif not os.access(folder, os.W_OK):
        code = errno.EACCES
    if code is not None:
        raise DataError(f"{output}: cannot write: {os.strerror(code)}; nothing was changed there")


def _is_device(output: str) -> bool:
    """Whether a path is /dev/null, a pipe or similar, which several options may share."""
    return os.path.exists(output) and not os.path.isfile(output)


def _is_same(output: str, other: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return os.path.samefile(output, other)
    return False


@contextlib.contextmanager
def written_file(path: str) -> Iterator[IO[bytes]]:
    """Yields a file to write; it replaces `path` when the block ends without an error.

    "-" is standard output. The file is gzipped if its name ends in ".gz". Pipes, /dev/null and
    similar files are written directly. After a kill the earlier file is unchanged. The next run
    removes the hidden file that remains.

    Args:
        path: of the file, or "-".

    Yields:
        a binary file.

    Raises:
        DataError: the file cannot be written; an earlier file is unchanged.
    """
    if path == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = Path(path)
    try:
        if target.exists() and not target.is_file():
            with open(target, "wb") as file:
                yield file
            return
        # A link stays a link: its target is replaced.
        try:
            target = target.resolve()
        except RuntimeError as error:  # circular links
            raise OSError(str(error)) from None
        discard_abandoned(target)
        hidden, descriptor = make_hidden(target, directory=False)
        try:
            with os.fdopen(descriptor, "wb") as file:
                if target.suffix == ".gz":
                    with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as gzipped:
                        yield cast("IO[bytes]", gzipped)
                else:
                    yield file
                file.flush()
                sync_path(hidden.path)
                hidden.path.replace(target)
        finally:
            discard(hidden)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise DataError(
            f"{path}: cannot write: {error.strerror or error}; nothing was changed there"
        ) from None


class _Undo(Exception):
    """Ends a trial save."""


def check_output(output: str) -> None:
    """Tests that a task can be saved in a directory, before hours of training.

    A directory is replaced only if it has `SIDE_FILE`. A config.json alone may belong to files of
    another program.

    Args:
        output: the directory to write.

    Raises:
        CheckpointError: the directory cannot be written.
    """
    with (
        contextlib.suppress(_Undo),
        replace_directory(output, CheckpointError, marker=SIDE_FILE) as temporary,
    ):
        (temporary / "trial").write_bytes(b"x")
        raise _Undo


def check_space(output: str, task: Any) -> None:
    """Checks the free space for a model, before hours of training.

    Raises:
        CheckpointError: the disk has too little.
    """
    needed = 4 * task.count_params()
    free = shutil.disk_usage(Path(output).absolute().parent).free
    if free < needed:
        raise CheckpointError(
            f"Cannot write {output}: the model takes {needed / 2**20:,.0f} MiB, but only "
            f"{free / 2**20:,.0f} MiB are free there. Training was not started."
        )


def save_model(task: Any, output: str) -> None:
    """Saves a trained task.

    Raises:
        CheckpointError: `output` cannot be written. The message names a directory for temporary
            files where the task is saved instead, if possible.
    """
    try:
        task.save(output)
    except CheckpointError as error:
        try:
            name = Path(output).absolute().name
            fallback = Path(tempfile.mkdtemp(prefix=f"keras-bert-zoo-{name}-")) / name
            task.save(fallback)
        except (CheckpointError, OSError):
            raise error from None
        raise CheckpointError(f"{error} The trained model is saved in {fallback}") from None
