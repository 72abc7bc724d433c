"""Files that commands write: whole or not at all."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from keras_bert_zoo.errors import DataError


@contextlib.contextmanager
def written_file(path: str) -> Iterator[IO[bytes]]:
    """Yields a file to write to, which takes the place of `path` when the block ends well.

    "-" is standard output. What is no plain file (a pipe, /dev/null) is written to directly.

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
        target = target.resolve()
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        aside = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
            umask = os.umask(0)
            os.umask(umask)
            aside.chmod(0o666 & ~umask)  # mkstemp makes it private
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise DataError(
            f"{path}: cannot write: {error.strerror or error}; nothing was changed there"
        ) from None
