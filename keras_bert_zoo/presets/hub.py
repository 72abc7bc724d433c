"""Checkpoints from the Hugging Face hub: fetched once, checked, then found without a network."""

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

# What belongs to a checkpoint beside its weights. No code (*.py) is ever fetched.
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
    # The folders of sentence-transformers' modules.
    "?_*Pooling/config.json",
    "?_WeightedLayerPooling/model.safetensors",
    "?_Dense/config.json",
    "?_Dense/model.safetensors",
    "?_Normalize/config.json",
    "keras_bert_zoo.json",
)

# What KerasHub keeps of a tokenizer, and what says which one it is.
_KERAS_HUB_FILES = ("task.json", "metadata.json", "preprocessor.json", "assets/tokenizer/*")

# One of these, at least, a tokenizer has: patterns in its directory.
TOKENIZERS = (
    "vocab.txt",
    "vocab.json",
    "tokenizer.json",
    *SENTENCEPIECE_FILES,
    "assets/tokenizer/*",
)

# Formats of weights, the best first: of a repository that holds several, one is fetched.
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
    """Whether a preset is named as hf://owner/name."""
    return os.fspath(preset).startswith(PREFIX)


def is_repository(name: str) -> bool:
    """Whether a name has the form of a repository's, owner/name.

    >>> is_repository("google-bert/bert-base-uncased"), is_repository("runs/a/b")
    (True, False)
    """
    return _HANDLE.fullmatch(name) is not None and ".." not in name


def parse_handle(handle: str) -> tuple[str, str | None]:
    """Takes hf://owner/name or hf://owner/name@revision apart.

    >>> parse_handle("hf://google-bert/bert-base-uncased@main")
    ('google-bert/bert-base-uncased', 'main')

    Raises:
        ConfigError: it is not of this form.
    """
    match = _HANDLE.fullmatch(handle.removeprefix(PREFIX))
    if match is None or ".." in handle:
        raise ConfigError(
            f"Expected hf://owner/name or hf://owner/name@revision, got {handle!r:.200}."
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
    """Returns the directory of a repository's checkpoint, fetching what is not there.

    What was fetched is compared with the checksums that the hub announces, and the weights with
    `sha256`, before anything reads it. It stays in the hub's own cache (HF_HOME, HF_HUB_CACHE), in
    which it is found without a network, and compared with the checksums again by which the cache
    names large files; HF_HUB_OFFLINE=1 keeps from trying a network.

    Args:
        repository: str, owner/name.
        revision: str or None. Branch, tag or commit; None: main.
        sha256: str. Of model.safetensors, where it is known: no other weights are then taken.
        allow_pickle: bool. Whether a pytorch_model.bin is fetched where there is nothing better.
        weights: bool. False fetches the config and the tokenizer alone.

    Returns:
        Path.

    Raises:
        CheckpointError: huggingface_hub is not installed; the repository is not in the cache and
            cannot be reached; it holds no checkpoint; or a file is not what was announced.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise CheckpointError(
            f"hf://{repository} is fetched with huggingface_hub, which is not installed. Install "
            "it with: pip install 'keras_bert_zoo[hub]'; or download the repository elsewhere and "
            "pass its directory."
        )
    import huggingface_hub
    from huggingface_hub import constants, errors

    wish = _Wish(sha256, allow_pickle, weights)
    known = (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled)
    if constants.HF_HUB_OFFLINE:
        return _from_cache(repository, revision, wish, "HF_HUB_OFFLINE is set")
    api = huggingface_hub.HfApi()
    try:
        info = api.model_info(repository, revision=revision, files_metadata=True)
    except errors.RepositoryNotFoundError:
        raise CheckpointError(
            f"The hub has no repository {repository!r}, or it is private or gated (log in with "
            "`hf auth login`)."
        ) from None
    except errors.RevisionNotFoundError:
        raise CheckpointError(f"{repository} has no revision {revision!r}.") from None
    except (*known, OSError) as error:
        return _from_cache(repository, revision, wish, one_line(error))
    except Exception as error:
        # The library's transport raises kinds of its own, which differ between its versions.
        if not type(error).__module__.startswith(("httpx", "httpcore", "requests", "urllib3")):
            raise
        return _from_cache(repository, revision, wish, one_line(error))
    siblings = {file.rfilename: file for file in info.siblings or ()}
    wanted = _choose(repository, siblings, wish)
    _logger.info("fetching %s at %s: %s", repository, info.sha, ", ".join(wanted))
    try:
        # By the name of the revision, so that the cache remembers which commit it stood for.
        found = huggingface_hub.snapshot_download(
            repository, revision=revision, allow_patterns=wanted
        )
    except (*known, OSError) as error:
        raise CheckpointError(
            f"{repository} cannot be fetched: {one_line(error)}. Try again: what is complete "
            "stays in the cache."
        ) from None
    directory = Path(found)
    for name in wanted:
        announced = siblings[name].lfs
        if announced is not None:
            _check_sum(directory / name, announced.sha256, "the hub announces")
    _check_pinned(directory, wish)
    return directory


@dataclass(frozen=True)
class _Wish:
    """What of a repository is wanted; see `fetch`."""

    sha256: str
    allow_pickle: bool
    weights: bool

    @property
    def formats(self) -> tuple[tuple[str, ...], ...]:
        """Patterns of the formats that will do, the best first; the first pattern must be there."""
        if not self.weights:
            return tuple((name, *_KERAS_HUB_FILES) for name in TOKENIZERS)
        if self.sha256:
            return _WEIGHTS[:1]
        return _WEIGHTS + (_PICKLES if self.allow_pickle else ())


def _from_cache(repository: str, revision: str | None, wish: _Wish, reason: str) -> Path:
    import huggingface_hub
    from huggingface_hub import errors

    for patterns in wish.formats:
        try:  # whether all that was fetched of this format is there
            found = huggingface_hub.snapshot_download(
                repository,
                revision=revision,
                allow_patterns=[*patterns, *_FILES],
                local_files_only=True,
            )
        except (errors.LocalEntryNotFoundError, OSError, ValueError):
            continue
        directory = Path(found)
        if any(directory.glob(patterns[0])):
            _check_cached(directory, [*patterns, *_FILES])
            _check_pinned(directory, wish)
            return directory
    at = f" --revision {revision}" if revision else ""
    raise CheckpointError(
        f"{repository} is not in the cache, and the hub cannot be asked for it ({reason}). On a "
        f"machine with a network run `hf download {repository}{at} --local-dir DIRECTORY`, copy "
        "the directory here, and pass its path."
    )


def _choose(repository: str, names: Iterable[str], wish: _Wish) -> list[str]:
    """Which files to fetch: one format of weights, then what goes with it."""
    names = list(names)
    for patterns in wish.formats:
        if any(fnmatch.fnmatchcase(name, patterns[0]) for name in names):
            weights = _matching(names, patterns)
            return weights + [name for name in _matching(names, _FILES) if name not in weights]
    if not wish.weights:
        raise CheckpointError(
            f"{repository} holds no tokenizer: expected one of {', '.join(TOKENIZERS)}."
        )
    if wish.sha256:
        raise CheckpointError(
            f"{repository} holds no model.safetensors, which the catalogue knows by its sha256 "
            f"{wish.sha256}; other weights are not taken in its place. Fetch what you trust "
            f"yourself and give its directory, or name the repository: {PREFIX}{repository}."
        )
    if _matching(names, [pattern for patterns in _PICKLES for pattern in patterns]):
        raise CheckpointError(
            f"{repository} holds its weights only in pytorch_model.bin, a pickle, which is not "
            "read by default. Pass `allow_pickle=True`: its contents are then checked against a "
            "closed list, and nothing in it is executed."
        )
    raise CheckpointError(
        f"{repository} holds no checkpoint that can be read: expected one of "
        f"{', '.join(patterns[0] for patterns in _WEIGHTS)}."
    )


def _matching(names: Sequence[str], patterns: Iterable[str]) -> list[str]:
    patterns = list(patterns)
    return [n for n in names if any(fnmatch.fnmatchcase(n, pattern) for pattern in patterns)]


def _check_pinned(directory: Path, wish: _Wish) -> None:
    if wish.sha256 and wish.weights:
        _check_sum(directory / "model.safetensors", wish.sha256, "the catalogue has")


def _check_cached(directory: Path, patterns: Iterable[str]) -> None:
    """Compares cached files with their names: the cache calls a large file by its sha256."""
    for pattern in patterns:
        for path in directory.glob(pattern):
            name = os.path.basename(os.path.realpath(path))  # raises at no ring of links
            if path.is_symlink() and _SHA256.fullmatch(name):
                _check_sum(path, name, "the cache calls it")


def _check_sum(path: Path, expected: str, who: str) -> None:
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise CheckpointError(
            f"{path} has the sha256 {found}, but {who} {expected}: it is damaged or not the "
            "original. Delete it, and fetch it again."
        )
