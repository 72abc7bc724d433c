"""The documents of a saved collection."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from keras_bert_zoo.errors import CheckpointError

DOCUMENTS_FILE = "documents.jsonl"


def write_documents(directory: str | os.PathLike[str], documents: Sequence[bytes]) -> None:
    """Writes documents as JSON Lines, `{"text": ...}`; bytes that are not UTF-8 as surrogates.

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
        CheckpointError: the file is not there, or a line is not of its form.
    """
    path = Path(directory) / DOCUMENTS_FILE
    documents = []
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    documents.append(json.loads(line)["text"].encode("utf-8", "surrogateescape"))
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                    raise CheckpointError(
                        f'{path}:{number}: expected {{"text": ...}}, a document a line, as this '
                        "package writes it"
                    ) from None
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from None
    return documents
