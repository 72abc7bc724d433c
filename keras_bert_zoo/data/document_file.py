"""The documents of a saved collection."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.files import parse_json

DOCUMENTS_FILE = "documents.jsonl"

_LINE_LIMIT_BYTES = 1 << 30  # offsets in a document are int32
_BEGIN_BYTES = 4096  # if these are not the start of an object, the line is not read further
_CONTAINER_LIMIT = 10_000  # lists and objects of a line that `write_documents` did not write
# A line of `write_documents`. Only its text is parsed.
_LINE = re.compile(rb'\s*\{\s*"text"\s*:\s*("(?:[^"\\]++|\\.)*+")\s*\}\s*', re.DOTALL)


def write_documents(directory: str | os.PathLike[str], documents: Sequence[bytes]) -> None:
    """Writes documents as JSON Lines, `{"text": ...}`; invalid UTF-8 bytes become surrogates.

    Args:
        directory: path of an existing directory.
        documents: list of bytes.
    """
    with open(Path(directory) / DOCUMENTS_FILE, "w", encoding="utf-8") as file:
        for document in documents:
            text = document.decode("utf-8", "surrogateescape")
            plain = not any("\ud800" <= character <= "\udfff" for character in text)
            file.write(json.dumps({"text": text}, ensure_ascii=not plain) + "\n")


def read_documents(directory: str | os.PathLike[str]) -> list[bytes]:
    """Reads what `write_documents` wrote.

    Raises:
        CheckpointError: the file is missing, not a regular file, or a line has another form.
    """
    path = Path(directory) / DOCUMENTS_FILE
    documents = []
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise CheckpointError(f"{path} cannot be read: it is not a regular file.")
            for number, begin in enumerate(iter(lambda: file.readline(_BEGIN_BYTES), b""), 1):
                document = None
                if begin.lstrip().startswith(b"{"):
                    rest = b"" if begin.endswith(b"\n") else file.readline(_LINE_LIMIT_BYTES)
                    document = _document(begin + rest)
                if document is None:
                    raise CheckpointError(
                        f'{path}:{number}: expected {{"text": ...}}, one document per line, as '
                        "saved by this package"
                    )
                documents.append(document)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from None
    return documents


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # opening a pipe would block


def _document(line: bytes) -> bytes | None:
    """Returns the document of a line, or None if the line has another form."""
    if len(line) > _LINE_LIMIT_BYTES:
        return None
    try:
        plain = _LINE.fullmatch(line)
        if plain is not None:
            text = json.loads(plain[1].decode("utf-8"))
        else:
            limits = {"limit": _LINE_LIMIT_BYTES, "containers": _CONTAINER_LIMIT}
            text = parse_json(line, DOCUMENTS_FILE, **limits).get("text")
        return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else None
    except (ValueError, ConfigError):
        return None
