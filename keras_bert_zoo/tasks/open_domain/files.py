"""The files of a saved collection."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from keras_bert_zoo.checkpoints.safetensors import open_safetensors
from keras_bert_zoo.data.document_file import read_documents, write_documents
from keras_bert_zoo.data.passages import Passages
from keras_bert_zoo.directories.packed import pack_files, unpacked_files
from keras_bert_zoo.directories.replacing import find_directory, replace_directory
from keras_bert_zoo.encoders.keras_file import check_config, usable_config
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.files import SIDE_FILE, write_json
from keras_bert_zoo.tasks.embedding.text_embedder import TextEmbedder
from keras_bert_zoo.tasks.files import read_side_file, saved_directory
from keras_bert_zoo.tasks.keras_config import task_config
from keras_bert_zoo.tasks.open_domain.passages import check_passages
from keras_bert_zoo.tasks.question_answering.question_answerer import QuestionAnswerer
from keras_bert_zoo.tasks.saving import SavedParts

RETRIEVER, READER = "retriever", "reader"
"""Subdirectories of the two models."""
PASSAGES_FILE = "passages.safetensors"

CHANGEABLE = ("top_passages", "top_k", "retriever_weight")
"""Options that can change after the passages are embedded."""

_OPTIONS = ("passage_tokens", "passage_overlap", *CHANGEABLE)
_LOAD_BOTH = ("token_layout", "allow_pickle", "ignore_config_keys")
_LOAD_READER = ("dtype", "max_length", "stride", "max_answer_tokens", "null_threshold")
_FIELDS = tuple(field.name for field in fields(Passages))


def collection_parts(task: Any) -> SavedParts:
    """Returns the contents of a collection's directory; see `Task.saved_parts`."""

    def save(directory: Any, side: dict[str, Any], overwrite: bool) -> None:
        if not overwrite and os.path.exists(find_directory(directory)):
            raise CheckpointError(f"{os.fspath(directory)!r} exists, and `overwrite` is False.")
        with replace_directory(directory, CheckpointError, marker=SIDE_FILE) as aside:
            task.retriever.save(aside / RETRIEVER)
            task.reader.save(aside / READER)
            write_documents(aside, task.documents)
            save_passages(aside, task.passages)
            write_json(aside / "config.json", {"architectures": [type(task).__name__]})
            write_json(aside / SIDE_FILE, side)

    # Without lengths, which the two models save.
    options = {name: getattr(task.options, name) for name in _OPTIONS}
    return SavedParts(side={"task": task.spec.name, **options}, save=save)


def load_collection(
    preset: str | os.PathLike[str], name: str, changes: Mapping[str, Any]
) -> tuple[TextEmbedder, QuestionAnswerer, list[bytes], dict[str, Any]]:
    """Loads a collection and its models.

    Args:
        preset: path of a directory.
        name: str. The task's name in the side file.
        changes: options of `OpenDomainQuestionAnswerer.from_preset`.

    Returns:
        the retriever; the reader; the documents; and more arguments of the constructor.

    Raises:
        CheckpointError: a file is missing, invalid, or does not fit the others.
        ConfigError: an unknown option.
    """
    known = (*CHANGEABLE, *_LOAD_BOTH, *_LOAD_READER)
    for option in changes:
        if option not in known:
            raise ConfigError(
                f"Expected options to load a collection ({', '.join(known)}), received "
                f"{option!r}. Its passages are already embedded: build it again to change them."
            )
    base = saved_directory(preset)
    side = read_side_file(base)
    if side.get("task") != name:
        raise CheckpointError(
            f"Expected a collection in {os.fspath(base)!r}, found another model or none. Pass a "
            "saved collection, or build one: OpenDomainQuestionAnswerer(embedder, reader, "
            "documents)."
        )
    documents = read_documents(base)
    passages = load_passages(base, documents)
    for_both = {name: changes[name] for name in _LOAD_BOTH if name in changes}
    retriever = TextEmbedder.load(base / RETRIEVER, **for_both)
    check_passages(passages, documents, retriever, where=os.fspath(base))
    for_reader = {name: value for name, value in changes.items() if name not in CHANGEABLE}
    reader = QuestionAnswerer.load(base / READER, **for_reader)
    options = {name: side[name] for name in _OPTIONS if name in side}
    options |= {name: changes[name] for name in CHANGEABLE if name in changes}
    return retriever, reader, documents, {"passages": passages, **options}


def save_passages(directory: str | os.PathLike[str], passages: Passages) -> None:
    """Writes `PASSAGES_FILE` to a directory."""
    tensors = {name: np.ascontiguousarray(getattr(passages, name)) for name in _FIELDS}
    save_file(tensors, Path(directory) / PASSAGES_FILE)


def load_passages(directory: str | os.PathLike[str], documents: Sequence[bytes]) -> Passages:
    """Reads what `save_passages` wrote.

    Args:
        directory: path.
        documents: list of bytes, the documents of the passages.

    Returns:
        Passages.

    Raises:
        CheckpointError: the file is missing, is invalid, or does not fit the documents.
    """
    path = Path(directory) / PASSAGES_FILE
    with open_safetensors(path) as tensors:
        missing = sorted(set(_FIELDS) - set(tensors.names()))
        if missing:
            raise CheckpointError(f"{path} lacks {', '.join(missing)}.")
        passages = Passages(**{name: tensors.read(name) for name in _FIELDS})
    if not passages.are_of(documents):
        raise CheckpointError(
            f"{path} does not fit the collection's {len(documents):,} documents; build the "
            "collection again."
        )
    return passages


def collection_config(task: Any) -> dict[str, Any]:
    """Returns the config of a collection; see `Task.get_config`."""

    def write(folder: Path) -> None:
        write_documents(folder, task.documents)
        save_passages(folder, task.passages)

    return {
        "retriever": task_config(task.retriever),
        "reader": task_config(task.reader),
        "options": {name: getattr(task.options, name) for name in _OPTIONS},
        "files": pack_files(write),
        "max_length": task.max_length,
        "training_record": dict(task.training_record),
    }


def collection_from_config(cls: Any, config: Mapping[str, Any]) -> Any:
    """Builds a collection with random weights of both models from `collection_config`."""
    keys = ("retriever", "reader", "options", "files", "max_length", "training_record")
    with usable_config(cls.__name__):
        check_config(config, keys, cls.__name__)
        check_config(config["options"], _OPTIONS, cls.__name__)
        with unpacked_files(config["files"]) as folder:
            documents = read_documents(folder)
            passages = load_passages(folder, documents)
        retriever = TextEmbedder.from_config(config["retriever"])
        reader = QuestionAnswerer.from_config(config["reader"])
        task = cls(retriever, reader, documents, passages=passages, **config["options"])
        task.max_length = config["max_length"]
        task.training_record = dict(config["training_record"])
        return task
