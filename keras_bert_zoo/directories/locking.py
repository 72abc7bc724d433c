"""Directories whose files one process at a time extends, line by line."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from keras_bert_zoo.errors import ConfigError, DataError

__all__ = ["cut_torn_line", "locked_directory"]


@contextlib.contextmanager
def locked_directory(directory: str | os.PathLike[str], running: str) -> Iterator[Path]:
    """Creates a directory if it is missing, and locks it for this process.

    Args:
        directory: the directory.
        running: str. The noun for the work of another process, such as "another search".

    Yields:
        Path of the directory.

    Raises:
        ConfigError: another process has the lock.
        DataError: the directory cannot be created or read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with locked_directory(Path(folder, "runs"), "another search") as path:
        ...         path.name
        'runs'
    """
    try:
        Path(directory).mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError as error:
        raise DataError(
            f"{os.fspath(directory)}: cannot write: {error.strerror or error}"
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{os.fspath(directory)}: {running} is running here") from None
        except OSError:  # a file system without locks
            pass
        yield Path(directory)
    finally:
        os.close(descriptor)


def cut_torn_line(file: Path) -> None:
    r"""Removes a line that a killed process did not complete: the next one would be added to it.

    Args:
        file: Path. It may be missing.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "log")
        ...     _ = file.write_text('{"a": 1}\n{"b"')
        ...     cut_torn_line(file)
        ...     file.read_text()
        '{"a": 1}\n'
    """
    with contextlib.suppress(FileNotFoundError), open(file, "r+b") as opened:
        content = opened.read()
        end = content.rfind(b"\n") + 1
        if end < len(content):
            opened.truncate(end)
