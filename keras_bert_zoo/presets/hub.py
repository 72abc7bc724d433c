"""Downloads checkpoints from the Hugging Face hub, checks them, and finds them in the cache."""

from __future__ import annotations

import fnmatch
import hashlib
import importlib.util
import logging
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_bert_zoo.checkpoints.messages import one_line
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.files import GOOGLE_CONFIGS, SENTENCEPIECE_FILES

_logger = logging.getLogger(__name__)

PREFIX = "hf://"
_HANDLE = re.compile(r"(?P<repository>[\w][\w.-]*/[\w][\w.-]*)(?:@(?P<revision>[\w][\w./-]*))?")
_SHA256 = re.compile(r"[0-9a-f]{64}")

# Files of a checkpoint without its weights. Code (*.py) is never downloaded.
_FILES = (
    "config.json",
    *GOOGLE_CONFIGS,
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    *SENTENCEPIECE_FILES,
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    # The directories of sentence-transformers' modules.
    "?_*Pooling/config.json",
    "?_WeightedLayerPooling/model.safetensors",
    "?_Dense/config.json",
    "?_Dense/model.safetensors",
    "?_Normalize/config.json",
    "keras_bert_zoo.json",
)

# KerasHub's files of a tokenizer.
_KERAS_HUB_FILES = ("task.json", "metadata.json", "preprocessor.json", "assets/tokenizer/*")

# Patterns of file names. A tokenizer has at least one of these files.
TOKENIZERS = (
    "vocab.txt",
    "vocab.json",
    "tokenizer.json",
    *SENTENCEPIECE_FILES,
    "assets/tokenizer/*",
)

# Formats of weights, in order of preference. Only one is downloaded.
_WEIGHTS: tuple[tuple[str, ...], ...] = (
    ("model.safetensors",),
    ("model.safetensors.index.json", "model-*-of-*.safetensors"),
    ("model.weights.h5", "task.weights.h5", *_KERAS_HUB_FILES),
    ("tf_model.h5",),
    ("bert_model.ckpt.index", "bert_model.ckpt.data-*"),
)
_PICKLES: tuple[tuple[str, ...], ...] = (
    ("pytorch_model.bin",),
    ("pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin"),
)


def is_handle(preset: str | os.PathLike[str]) -> bool:
    """Whether a preset has the form hf://owner/name."""
    return os.fspath(preset).startswith(PREFIX)


def is_repository(name: str) -> bool:
    """Whether a name has the form of a repository: owner/name.

    >>> is_repository("google-bert/bert-base-uncased"), is_repository("runs/a/b")
    (True, False)
    """
    return _HANDLE.fullmatch(name) is not None and ".." not in name


def parse_handle(handle: str) -> tuple[str, str | None]:
    """Splits hf://owner/name or hf://owner/name@revision into the repository and the revision.

    >>> parse_handle("hf://google-bert/bert-base-uncased@main")
    ('google-bert/bert-base-uncased', 'main')

    Raises:
        ConfigError: the handle is malformed.
    """
    match = _HANDLE.fullmatch(handle.removeprefix(PREFIX))
    if match is None or ".." in handle:
        raise ConfigError(
            f"Expected hf://owner/name or hf://owner/name@revision, received {handle!r:.200}."
        )
    return match["repository"], match["revision"]


def fetch(
    repository: str,
    revision: str | None = None,
    *,
    sha256: str = "",
    allow_pickle: bool = False,
    weights: bool = True,
) -> Path:
    """Downloads the checkpoint of a repository if needed, and returns its directory.

    Before use, downloaded files are compared with the checksums from the hub, and the weights with
    `sha256`. The files are in the hub's cache (HF_HOME, HF_HUB_CACHE), where they are found without
    a network. The cache names large files by their checksums, which are then compared again. Set
    HF_HUB_OFFLINE=1 to avoid all network access.

    Args:
        repository: str, owner/name.
        revision: str or None. Branch, tag or commit. None: main.
        sha256: str. Checksum of model.safetensors. If it is given, other weights are refused.
        allow_pickle: bool. Whether to download a pytorch_model.bin if there is no other format.
        weights: bool. False downloads only the config and the tokenizer.

    Returns:
        Path.

    Raises:
        CheckpointError: huggingface_hub is not installed; the repository is not in the cache and
            cannot be reached; it has no checkpoint; or a checksum differs.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise CheckpointError(
            f"The download of hf://{repository} needs huggingface_hub, which is not installed. "
            "Run: pip install 'keras_bert_zoo[hub]'. Or download the repository on another machine "
            "and pass its directory."
        )
    import huggingface_hub
    from huggingface_hub import constants, errors

    request = _Request(sha256, allow_pickle, weights)
    known = (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled)
    if constants.HF_HUB_OFFLINE:
        return _from_cache(repository, revision, request, "HF_HUB_OFFLINE is set")
    api = huggingface_hub.HfApi()
    try:
        info = api.model_info(repository, revision=revision, files_metadata=True)
    except errors.RepositoryNotFoundError:
        raise CheckpointError(
            f"The hub has no repository {repository!r}, or it is private or gated. Check the name, "
            "or log in with `hf auth login`."
        ) from None
    except errors.RevisionNotFoundError:
        raise CheckpointError(f"{repository} has no revision {revision!r}.") from None
    except (*known, OSError) as error:
        return _from_cache(repository, revision, request, one_line(error))
    except Exception as error:
        # The HTTP library raises other errors, which depend on the version of huggingface_hub.
        if not type(error).__module__.startswith(("httpx", "httpcore", "requests", "urllib3")):
            raise
        return _from_cache(repository, revision, request, one_line(error))
    siblings = {file.rfilename: file for file in info.siblings or ()}
    names = _choose(repository, siblings, request)
    _logger.info("downloading %s at %s: %s", repository, info.sha, ", ".join(names))
    try:
        # `revision` may be a branch. The cache then stores which commit it was.
        snapshot = huggingface_hub.snapshot_download(
            repository, revision=revision, allow_patterns=names
        )
    except (*known, OSError) as error:
        raise CheckpointError(
            f"{repository} cannot be downloaded: {one_line(error)}. Try again. Complete files stay "
            "in the cache."
        ) from None
    directory = Path(snapshot)
    for name in names:
        announced = siblings[name].lfs
        if announced is not None:
            _check_sum(directory / name, announced.sha256, "the hub")
    _check_pinned(directory, request)
    return directory


@dataclass(frozen=True)
class _Request:
    """The options of `fetch`."""

    sha256: str
    allow_pickle: bool
    weights: bool

    @property
    def formats(self) -> tuple[tuple[str, ...], ...]:
        """Patterns of the allowed formats, by preference. The first of each must match a file."""
        if not self.weights:
            return tuple((name, *_KERAS_HUB_FILES) for name in TOKENIZERS)
        if self.sha256:
            return _WEIGHTS[:1]
        return _WEIGHTS + (_PICKLES if self.allow_pickle else ())


def _from_cache(repository: str, revision: str | None, request: _Request, reason: str) -> Path:
    import huggingface_hub
    from huggingface_hub import errors

    for patterns in request.formats:
        try:  # checks that all downloaded files of this format still exist
            snapshot = huggingface_hub.snapshot_download(
                repository,
                revision=revision,
                allow_patterns=[*patterns, *_FILES],
                local_files_only=True,
            )
        except (errors.LocalEntryNotFoundError, OSError, ValueError):
            continue
        directory = Path(snapshot)
        if any(directory.glob(patterns[0])):
            _check_cached(directory, [*patterns, *_FILES])
            _check_pinned(directory, request)
            return directory
    at = f" --revision {revision}" if revision else ""
    raise CheckpointError(
        f"{repository} is not in the cache, and the hub cannot be reached ({reason}). On a machine "
        f"with a network, run `hf download {repository}{at} --local-dir DIRECTORY`, copy the "
        "directory to this machine, and pass its path."
    )


def _choose(repository: str, names: Iterable[str], request: _Request) -> list[str]:
    """Returns the files to download: one format of weights, then the other files."""
    names = list(names)
    for patterns in request.formats:
        if any(fnmatch.fnmatchcase(name, patterns[0]) for name in names):
            weights = _matching(names, patterns)
            return weights + [name for name in _matching(names, _FILES) if name not in weights]
    if not request.weights:
        raise CheckpointError(
            f"{repository} has no tokenizer. Expected one of {', '.join(TOKENIZERS)}."
        )
    if request.sha256:
        raise CheckpointError(
            f"Expected model.safetensors with the catalogue's sha256 {request.sha256}, received "
            f"{repository} without it. Other weights are not used instead. To use them, pass "
            f"{PREFIX}{repository}, or download them and pass their directory."
        )
    if _matching(names, [pattern for patterns in _PICKLES for pattern in patterns]):
        raise CheckpointError(
            f"{repository} has weights only in pytorch_model.bin, a pickle, which is not read by "
            "default. Pass `allow_pickle=True`: its contents are then checked against a closed "
            "list, and nothing in it is executed."
        )
    raise CheckpointError(
        f"{repository} has no supported checkpoint. Expected one of "
        f"{', '.join(patterns[0] for patterns in _WEIGHTS)}."
    )


def _matching(names: Sequence[str], patterns: Iterable[str]) -> list[str]:
    patterns = list(patterns)
    return [n for n in names if any(fnmatch.fnmatchcase(n, pattern) for pattern in patterns)]


def _check_pinned(directory: Path, request: _Request) -> None:
    if request.sha256 and request.weights:
        _check_sum(directory / "model.safetensors", request.sha256, "the catalogue")


def _check_cached(directory: Path, patterns: Iterable[str]) -> None:
    """Compares cached files with their names: the cache names large files by their sha256."""
    for pattern in patterns:
        for path in directory.glob(pattern):
            name = os.path.basename(os.path.realpath(path))  # no error for a loop of links
            if path.is_symlink() and _SHA256.fullmatch(name):
                _check_sum(path, name, "the cache")


def _check_sum(path: Path, expected: str, source: str) -> None:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != expected:
        raise CheckpointError(
            f"Expected {path} with the sha256 {expected} of {source}, received {digest}. The file "
            "is damaged or was replaced. Delete it and download it again."
        )
