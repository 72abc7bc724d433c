"""Downloads a KerasHub preset by its handle, with KerasHub's download code."""

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

# Scheme -> form of the handle, and the package that KerasHub uses for the download.
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
    """Whether a preset is given by a handle, not by a path.

    >>> is_handle("kaggle://keras/bert/keras/bert_tiny_en_uncased"), is_handle("models/bert")
    (True, False)
    """
    return isinstance(preset, str) and preset.partition("://")[0] in SCHEMES and "://" in preset


def fetch_keras_hub_preset(handle: str) -> Path:
    """Downloads the files of a preset, or finds them in the cache.

    Args:
        handle: str. See `SCHEMES`.

    Returns:
        Path of a directory for `open_keras_hub`, in the cache of the package that downloads it.

    Raises:
        CheckpointError: the scheme is unknown, a package is not installed, or the download fails.
    """
    scheme = handle.partition("://")[0]
    if not is_handle(handle):
        expected = ", ".join(form for form, _ in SCHEMES.values())
        raise CheckpointError(
            f"Expected a handle of a KerasHub preset ({expected}), received {handle!r}."
        )
    form, package = SCHEMES[scheme]
    for module in ("keras_hub", package):
        if importlib.util.find_spec(module) is None:
            name = module.replace("_", "-")
            raise CheckpointError(
                f"The download of {handle!r} needs the package {name!r}. Run: pip install {name}. "
                "Or download the preset on another machine and pass its directory."
            )
    fetch = Fetcher(handle, form)
    config = fetch(CONFIG_FILE)
    root = config.parent
    if not is_keras_hub_config(read_json(config)):
        raise CheckpointError(
            f"Expected a KerasHub preset, received {handle!r}, whose {CONFIG_FILE} has no "
            "`registered_name`. For a Hugging Face model, pass its directory."
        )
    # The weights are last: a cache that has them is complete.
    files = [fetch.optional(name) for name in _OPTIONAL]
    weights = fetch.optional(KERAS_HUB_FILE)
    files.append(weights)
    if weights is None:
        index = fetch(KERAS_HUB_INDEX)
        files += [fetch(name) for name in read_shards(index)]
    fetch.check()
    outside = [str(path) for path in files if path is not None and root not in path.parents]
    if outside:
        raise CheckpointError(
            f"Expected the files of {handle!r} in one directory, received {root} and {outside[0]}."
        )
    return root


class Fetcher:
    """Downloads the files of one preset."""

    def __init__(self, handle: str, form: str) -> None:
        self._handle = handle
        self._form = form
        self._absent: list[str] = []
        self._unknown: list[str] = []  # not in the cache, and there is no network

    def __call__(self, name: str) -> Path:
        """Downloads a required file."""
        path = self.optional(name)
        if path is not None:
            return path
        if name in self._unknown:
            raise self._failure("there is no network, and it is not in the cache")
        raise CheckpointError(
            f"Expected a KerasHub preset ({self._form}), received {self._handle!r} without {name}."
        )

    def optional(self, name: str) -> Path | None:
        """Downloads a file, or returns None if the preset does not have it."""
        # KerasHub has no public function for this.
        from keras_hub.src.utils.preset_utils import get_file

        try:
            return Path(get_file(self._handle, name))
        except FileNotFoundError as error:
            # Without a network, huggingface_hub raises this error for a file that is not cached.
            # KerasHub reports the file as missing.
            offline = type(error.__cause__).__name__ == "LocalEntryNotFoundError"
            (self._unknown if offline else self._absent).append(name)
            return None
        except Exception as error:  # the network and three libraries raise many kinds
            raise self._failure(_cause(error)) from error

    def check(self) -> None:
        """Raises CheckpointError if the network failed after some files."""
        if self._absent and self._unknown:
            raise self._failure(f"the network failed at {self._unknown[0]}")

    def _failure(self, reason: str) -> CheckpointError:
        return CheckpointError(
            f"{self._handle!r} cannot be downloaded: {reason}. Download the preset on a machine "
            "with a network and access to the model, and pass its directory."
        )


def _cause(error: BaseException) -> str:
    """Returns the first error of a chain, in one line."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    return f"{type(error).__name__}: {lines[0][:120]}".rstrip(".: ")
