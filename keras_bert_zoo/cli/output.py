"""Files that commands write: whole or not at all."""

from __future__ import annotations

import argparse
import contextlib
import gzip
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, cast

from keras_bert_zoo.directories.hidden import discard, discard_abandoned, make_hidden
from keras_bert_zoo.directories.replacing import replace_directory, sync_path
from keras_bert_zoo.errors import CheckpointError, DataError
from keras_bert_zoo.files import SIDE_FILE


def check_outputs(args: argparse.Namespace, names: Sequence[str]) -> None:
    """Refuses files to write that the command reads, or that are a part of its model.

    Args:
        args: of a command, as parsed.
        names: the options that name files to write.

    Raises:
        DataError: an output is the same file as another option's, by whatever path, or is inside
            the directory of `--model`; or two outputs are one file.
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
                        f"{output}: expected another file for {flag} than for "
                        f"--{other.replace('_', '-')}, which would be overwritten"
                    )
        model = getattr(args, "model", None)
        if model and Path(model).resolve() in Path(output).resolve().parents:
            raise DataError(
                f"{output}: expected a file for {flag} outside of the model's directory; a file of "
                "the model could be overwritten"
            )


def _is_device(output: str) -> bool:
    """Whether a name is of /dev/null, a pipe or the like, which takes any number of writers."""
    return os.path.exists(output) and not os.path.isfile(output)


def _is_same(output: str, other: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return os.path.samefile(output, other)
    return False


@contextlib.contextmanager
def written_file(path: str) -> Iterator[IO[bytes]]:
    """Yields a file to write to, which takes the place of `path` when the block ends well.

    "-" is standard output. A name that ends in ".gz" is written gzipped, as it is read. Pipes,
    /dev/null and the like are written to directly. A kill leaves an earlier file as it was, and a
    hidden one that the next run removes.

    Args:
        path: of the file, or "-".

    Yields:
        a binary file.

    Raises:
        DataError: it cannot be written; an earlier file there is left as it was.
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
        # Beside the target of a link, which stays a link.
        try:
            target = target.resolve()
        except RuntimeError as error:  # a ring of links
            raise OSError(str(error)) from None
        discard_abandoned(target)
        hidden, descriptor = make_hidden(target, directory=False)
        try:
            with os.fdopen(descriptor, "wb") as file:
                if target.suffix == ".gz":
                    with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
                        yield cast("IO[bytes]", packed)
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
    """Ends a trial."""


def check_output(output: str) -> None:
    """Goes the way of a task's `save` up to its last step, for hours should not end in a refusal.

    Only a directory with `SIDE_FILE` is replaced: a config.json alone may stand among files that
    somebody else put there.

    Args:
        output: the directory to be written.

    Raises:
        CheckpointError: it cannot be written.
    """
    with (
        contextlib.suppress(_Undo),
        replace_directory(output, CheckpointError, marker=SIDE_FILE) as aside,
    ):
        (aside / "trial").write_bytes(b"x")
        raise _Undo
