"""Writing files, and a directory aside to put it in place whole."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keras_bert_zoo.errors import BertZooError

SIDE_FILE = "keras_bert_zoo.json"
"""Of a saved model: what Hugging Face's files have no place for (the longest input a task was
trained with, a threshold, the record of its training). By it an earlier save is known."""


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Writes a dict as readable JSON."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


@contextmanager
def replace_directory(
    path: str | os.PathLike[str], error: type[BertZooError], *, marker: str
) -> Iterator[Path]:
    """Yields a temporary directory that takes the place of `path` when the block ends well.

    A full disk, a read-only folder or any other failure leaves `path` as it was.

    Args:
        path: of the directory to write. It may be missing, empty, or an earlier result.
        error: what to raise on failure.
        marker: name of a file by which an earlier result is known; any other directory that is
            not empty is not replaced.

    Yields:
        Path of an empty directory on the same file system.

    Raises:
        BertZooError: of the kind `error`, in one line.
    """
    target = Path(path).resolve()  # of a link, what it points to is replaced
    if target.exists() and not target.is_dir():
        raise error(f"Cannot write the directory {target}: a file of that name exists.")
    if target.is_dir() and any(target.iterdir()) and not (target / marker).exists():
        raise error(
            f"Will not replace {target}: it is not empty and holds no {marker}, so it was not "
            "written by an earlier run. Name another directory or empty this one."
        )
    if target.is_dir() and os.path.ismount(target):
        raise error(f"Cannot replace {target}: it is a mount point. Name a directory inside it.")
    aside: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        # mkdtemp makes it private; the result should be as readable as any directory made here.
        umask = os.umask(0)
        os.umask(umask)
        aside.chmod(0o777 & ~umask)
        yield aside
        _swap(aside, target)
    except OSError as failure:
        raise error(
            f"Cannot write {target}: {failure.strerror or failure}. Nothing was changed there."
        ) from failure
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)


def _swap(aside: Path, target: Path) -> None:
    if not target.exists():
        aside.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        target.rename(old)  # onto an empty directory: allowed, and atomic
        aside.rename(target)
    except BaseException:  # Ctrl-C between the two is the worst that could happen
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
