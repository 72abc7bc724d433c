"""Small files as JSON values, for the config of a .keras file."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keras_bert_zoo.errors import CheckpointError

__all__ = ["pack_files", "unpacked_files"]

_BASE64 = "base64:"


def pack_files(write: Callable[[Path], Any]) -> dict[str, str]:
    """Returns the files that a function writes into a directory.

    Args:
        write: function of the path of an empty temporary directory.

    Returns:
        dict, file name -> contents. Contents that are not UTF-8 are in base64.

    Example:
    >>> pack_files(lambda folder: (folder / "vocab.txt").write_text("[PAD]"))
    {'vocab.txt': '[PAD]'}
    """
    with tempfile.TemporaryDirectory(prefix="keras_bert_zoo_") as folder:
        write(Path(folder))
        return {path.name: _text(path.read_bytes()) for path in sorted(Path(folder).iterdir())}


@contextmanager
def unpacked_files(files: Mapping[str, str]) -> Iterator[Path]:
    """Writes packed files into a temporary directory.

    Args:
        files: result of `pack_files`.

    Yields:
        Path of the directory.

    Raises:
        CheckpointError: `files` is not a dict of plain file names and contents.

    Example:
    >>> with unpacked_files({"vocab.txt": "[PAD]"}) as folder:
    ...     (folder / "vocab.txt").read_text()
    '[PAD]'
    """
    if not isinstance(files, Mapping):
        raise CheckpointError(f"Expected a dict of files, received {type(files).__name__}.")
    with tempfile.TemporaryDirectory(prefix="keras_bert_zoo_") as folder:
        for name, contents in files.items():
            # No path may leave the directory.
            if not isinstance(name, str) or not isinstance(contents, str) or not _is_plain(name):
                raise CheckpointError(
                    f"Expected file names without a directory, and text, received {name!r:.80}."
                )
            (Path(folder) / name).write_bytes(_bytes(contents))
        yield Path(folder)


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and not set(name) & set("/\\:\0")


def _text(contents: bytes) -> str:
    try:
        text = contents.decode("utf-8")
    except UnicodeDecodeError:
        text = _BASE64
    if text.startswith(_BASE64):
        return _BASE64 + base64.b64encode(contents).decode("ascii")
    return text


def _bytes(text: str) -> bytes:
    if not text.startswith(_BASE64):
        return text.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(text.removeprefix(_BASE64), validate=True)
    except ValueError as error:
        raise CheckpointError(f"A packed file is damaged: {error}.") from None
