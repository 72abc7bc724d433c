"""The file of a LiteRT model: a flatbuffer, then a zip archive of the files that belong to it.

The runtime reads the flatbuffer, which begins the file, and ignores the archive. The metadata of
TensorFlow Lite prescribe this place for vocabularies and labels.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_bert_zoo.errors import DataError
from keras_bert_zoo.files import SIDE_FILE

__all__ = ["SUFFIX", "is_litert_file", "joined", "read_model"]

SUFFIX = ".tflite"
_LARGEST_INFO = 1_000_000  # bytes
_DATE = (2020, 1, 1, 0, 0, 0)  # equal models are equal files


def is_litert_file(path: str | os.PathLike[str]) -> bool:
    """Returns whether a path has the suffix of a LiteRT model.

    Args:
        path: path, which need not exist.

    Returns:
        bool.

    Example:
        >>> is_litert_file("intents.tflite"), is_litert_file("runs/intents")
        (True, False)
    """
    return Path(path).suffix.lower() == SUFFIX


def joined(model: bytes, info: Mapping[str, Any], files: Mapping[str, bytes]) -> bytes:
    """Returns the contents of a file.

    Args:
        model: bytes, the flatbuffer.
        info: what `read_model` returns, for JSON.
        files: name -> contents, such as labels.txt.

    Returns:
        bytes.
    """
    digest = {"bytes": len(model), "sha256": hashlib.sha256(model).hexdigest()}
    side = json.dumps({**info, "model": digest}, indent=1, ensure_ascii=False) + "\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # stored: some readers do not decompress
        for name, data in {SIDE_FILE: side.encode(), **files}.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), data)
    return model + buffer.getvalue()


def read_model(path: str | os.PathLike[str]) -> tuple[bytes, dict[str, Any]]:
    """Reads a file that an export has written, and checks that it is complete and unchanged.

    Args:
        path: path of the file.

    Returns:
        bytes, the flatbuffer; dict, what the export knows of it: "task", "input", "dtype" and so
        on.

    Raises:
        DataError: the file is missing, damaged, or not an export of this package.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as failure:
        raise DataError(f"Cannot read {path}: {failure.strerror or failure}.") from failure
    hint = f"Expected a LiteRT model that `export` of this package has written, received {path}"
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if archive.getinfo(SIDE_FILE).file_size > _LARGEST_INFO:
                raise ValueError("the description is too large")
            info = json.loads(archive.read(SIDE_FILE))
        size, digest = info["model"]["bytes"], info["model"]["sha256"]
        if not isinstance(info["command"], str) or not all(
            isinstance(t, str) for t in info["texts"]
        ):
            raise ValueError("the description is damaged")
        intact = hashlib.sha256(data[:size]).hexdigest() == digest
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, NotImplementedError) as failure:
        raise DataError(
            f"{hint}. It is another file, or it was cut short or changed. Copy it again."
        ) from failure
    if not intact:
        raise DataError(f"{hint}. Its contents were changed: the checksum differs. Copy it again.")
    return data[:size], info
