"""Fetching a KerasHub preset that is named by a handle, through KerasHub's own download code."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from keras_bert_zoo.checkpoints.config_checks import is_keras_hub_config
from keras_bert_zoo.checkpoints.file_names import CONFIG_FILE, KERAS_HUB_FILE, KERAS_HUB_INDEX
from keras_bert_zoo.checkpoints.keras_hub.config import METADATA_FILE, TASK_FILE
from keras_bert_zoo.checkpoints.keras_hub.h5 import read_shards
from keras_bert_zoo.checkpoints.keras_hub.tokenizers import (
    ASSETS,
    BPE_MERGES,
    BPE_VOCABULARY,
    PREPROCESSOR_FILE,
    SENTENCEPIECE,
    TOKENIZER_FILE,
    WORDPIECE,
)
from keras_bert_zoo.errors import CheckpointError
from keras_bert_zoo.files import read_json

# Scheme -> what it looks like, and the package that KerasHub fetches it with.
SCHEMES = {
    "kaggle": ("kaggle://OWNER/MODEL/keras/VARIATION[/VERSION]", "kagglehub"),
    "gs": ("gs://BUCKET/PATH", "tensorflow"),
}

_OPTIONAL = (
    TASK_FILE,
    "task.weights.h5",
    METADATA_FILE,
    TOKENIZER_FILE,
    PREPROCESSOR_FILE,
    *((ASSETS / name).as_posix() for name in (WORDPIECE, BPE_VOCABULARY, BPE_MERGES)),
    (ASSETS / SENTENCEPIECE).as_posix(),
)


def is_handle(preset: str | os.PathLike[str]) -> bool:
    """Whether a preset is named by a handle rather than a path.

    >>> is_handle("kaggle://keras/bert/keras/bert_tiny_en_uncased"), is_handle("models/bert")
    (True, False)
    """
    return isinstance(preset, str) and preset.partition("://")[0] in SCHEMES and "://" in preset


def fetch_keras_hub_preset(handle: str) -> Path:
    """Downloads a preset's files, or finds them where they were downloaded before.

    Args:
        handle: str. See `SCHEMES`.

    Returns:
        Path of a directory that `open_keras_hub` reads. It lies in the cache of the package that
        fetched it.

    Raises:
        CheckpointError: an unknown scheme, a package that is not installed, or a preset that
            cannot be fetched; the message says what to do.
    """
    scheme = handle.partition("://")[0]
    if not is_handle(handle):
        expected = ", ".join(form for form, _ in SCHEMES.values())
        raise CheckpointError(f"{handle!r} is no handle of a KerasHub preset. Expected {expected}.")
    form, package = SCHEMES[scheme]
    for needed in ("keras_hub", package):
        if importlib.util.find_spec(needed) is None:
            name = needed.replace("_", "-")
            raise CheckpointError(
                f"Fetching {handle!r} needs the package {name!r}. Install it with: pip install "
                f"{name}. Or download the preset elsewhere and give its directory."
            )
    fetch = _Fetcher(handle, form)
    config = fetch(CONFIG_FILE)
    root = config.parent
    if not is_keras_hub_config(read_json(config)):
        raise CheckpointError(
            f"{handle!r} is not a KerasHub preset: its {CONFIG_FILE} has no `registered_name`. A "
            "Hugging Face model is given as a directory."
        )
    # The weights last: where a cache has them, it has all that there is.
    files = [fetch.optional(name) for name in _OPTIONAL]
    weights = fetch.optional(KERAS_HUB_FILE)
    files.append(weights)
    if weights is None:
        index = fetch(KERAS_HUB_INDEX)
        files += [fetch(name) for name in read_shards(index)]
    fetch.check()
    astray = [str(path) for path in files if path is not None and root not in path.parents]
    if astray:
        raise CheckpointError(f"The files of {handle!r} lie apart: {root} and {astray[0]}.")
    return root


class _Fetcher:
    """Fetches files of one preset."""

    def __init__(self, handle: str, form: str) -> None:
        self._handle = handle
        self._form = form
        self._absent: list[str] = []
        self._unknown: list[str] = []  # not in the cache, and nobody to ask

    def __call__(self, name: str) -> Path:
        """Fetches a file that must be there."""
        path = self.optional(name)
        if path is not None:
            return path
        if name in self._unknown:
            raise self._failure("no network, and it is not in the cache")
        raise CheckpointError(
            f"{self._handle!r} has no {name}. Expected a KerasHub preset under {self._form}."
        )

    def optional(self, name: str) -> Path | None:
        """Fetches a file, or returns None if the preset has none of that name."""
        # KerasHub exports no function for it.
        from keras_hub.src.utils.preset_utils import get_file

        try:
            return Path(get_file(self._handle, name))
        except FileNotFoundError as error:
            # huggingface_hub's for "not in the cache, and the network is down"; KerasHub takes it
            # for "there is no such file".
            offline = type(error.__cause__).__name__ == "LocalEntryNotFoundError"
            (self._unknown if offline else self._absent).append(name)
            return None
        except Exception as error:  # whatever the network and three libraries raise
            raise self._failure(_cause(error)) from error

    def check(self) -> None:
        """Raises CheckpointError if the network failed half-way."""
        if self._absent and self._unknown:
            raise self._failure(f"the network failed at {self._unknown[0]}")

    def _failure(self, reason: str) -> CheckpointError:
        return CheckpointError(
            f"{self._handle!r} cannot be fetched: {reason}. Without a "
            "network (or without access to the model), download the preset elsewhere and give its "
            "directory."
        )


def _cause(error: BaseException) -> str:
    """What went wrong first, in one line: the libraries on the way each add a page."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    return f"{type(error).__name__}: {lines[0][:120]}".rstrip(".: ")
