"""The one form in which every checkpoint is seen: tensors under Hugging Face's names, and a config.

Each format has a reader that presents its tensors as a `TensorSource`: Hugging Face's (PyTorch)
names, shapes and orientation, so dense kernels are (output, input). What stands above (name
tables, strict assignment) knows nothing of files.
"""

from __future__ import annotations

import abc
import importlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import ml_dtypes
import numpy as np

from keras_bert_zoo.checkpoints.arrays import copy_array
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.files import GOOGLE_CONFIGS as GOOGLE_CONFIGS
from keras_bert_zoo.files import parse_json as parse_json
from keras_bert_zoo.files import read_json as read_json
from keras_bert_zoo.notices import warn_once

_logger = logging.getLogger(__name__)

CONFIG_FILE = "config.json"
SAFETENSORS_FILE = "model.safetensors"
SAFETENSORS_INDEX = "model.safetensors.index.json"
PYTORCH_FILE = "pytorch_model.bin"
PYTORCH_INDEX = "pytorch_model.bin.index.json"
KERAS_FILE = "tf_model.h5"
KERAS_HUB_FILE = "model.weights.h5"
KERAS_HUB_INDEX = "model.weights.json"

Format = Literal["huggingface", "google", "keras-hub"]

# dtypes that are weights; what else a checkpoint holds (buffers of ids, counters) is not.
FLOAT_DTYPES = frozenset(
    np.dtype(kind) for kind in (np.float16, np.float32, np.float64, ml_dtypes.bfloat16)
)

# A name longer than this, or with a line break in it, is nobody's variable.
_NAME_LIMIT = 512
_RANK_LIMIT = 16
_SIZE_LIMIT = 1 << 40  # elements, dimensions of 0 not counted
_EMPTY_LIMIT = 1 << 16  # the same where one is 0: sizes without data are claims alone
LABEL_LIMIT = 1_000_000
_LISTED = 12  # items named in one error; the rest are counted

# Before all names in the state of a model that was wrapped for training: by DataParallel and
# DistributedDataParallel, by torch.compile.
_WRAPPERS = ("module.", "_orig_mod.")

# LayerNorm's tensors in checkpoints that Google's TF1 names reached unchanged.
_LEGACY_SUFFIXES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


class TensorInfo(NamedTuple):
    """What is known of a tensor before it is read.

    Args:
        shape: tuple of int, in Hugging Face's orientation.
        dtype: np.dtype, one of ml_dtypes' where numpy has none.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class TensorSource(abc.ABC):
    """The tensors of a checkpoint, by name; no data is read before it is asked for.

    A context manager. A reader derives from it, checks the file's structure before it calls
    this constructor, and implements `_read` and, where something stays open, `close`.

    Args:
        path: of the file or files, for messages.
        tensors: stored name -> TensorInfo. The names are Hugging Face's; LayerNorm's older
            `gamma` and `beta` are presented as `weight` and `bias`.

    Raises:
        CheckpointError: a name or a shape that no checkpoint has, or two tensors of one name.
    """

    # Whether several threads may read at once.
    parallel_reads = False

    def __init__(self, path: str, tensors: Mapping[str, TensorInfo]) -> None:
        self.path = path
        self._infos: dict[str, TensorInfo] = {}
        self._stored: dict[str, str] = {}  # current name -> name in the file
        for stored, info in tensors.items():
            _check_tensor(path, stored, info)
        wrapper = _wrapper(tensors)
        if wrapper:
            warn_once(
                _logger,
                f"{path}: all names begin with {wrapper!r}, which torch puts there for a wrapped "
                "model (DataParallel, compile). They are read without it.",
            )
        for stored, info in tensors.items():
            name = normalize_name(stored.removeprefix(wrapper))
            if name in self._stored:
                raise CheckpointError(
                    f"{path} holds {name} twice: as {self._stored[name]!r} and as {stored!r}."
                )
            self._stored[name] = stored
            self._infos[name] = info

    def __enter__(self) -> TensorSource:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __contains__(self, name: object) -> bool:
        return name in self._infos

    def __len__(self) -> int:
        return len(self._infos)

    def names(self) -> list[str]:
        """Returns the tensors' names, in the file's order."""
        return list(self._infos)

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns a tensor's shape without reading it.

        Raises:
            CheckpointError: there is no such tensor.
        """
        return self._info(name).shape

    def dtype(self, name: str) -> np.dtype[Any]:
        """Returns a tensor's dtype without reading it.

        Raises:
            CheckpointError: there is no such tensor.
        """
        return self._info(name).dtype

    def read(self, name: str) -> np.ndarray:
        """Reads one tensor.

        Returns:
            np.ndarray of the shape and dtype told. It may be read-only or not contiguous.

        Raises:
            CheckpointError: there is no such tensor, or its data cannot be read.
        """
        info = self._info(name)
        value = self._read(self._stored[name])
        if value.shape != info.shape or value.dtype != info.dtype:
            raise CheckpointError(
                f"{self.path}: {name} was announced as {info.dtype.name} {info.shape} but holds "
                f"{value.dtype.name} {value.shape}."
            )
        return value

    def read_into(self, name: str, out: np.ndarray) -> None:
        """Reads one tensor into memory that is there already.

        Args:
            name: of the tensor.
            out: array of the tensor's shape, of any strides (a transposed view of a kernel, for
                one) and of a dtype that it can be cast to.

        Raises:
            CheckpointError: there is no such tensor, or its data cannot be read.
            ValueError: `out` has another shape.
        """
        shape = self._info(name).shape
        if out.shape != shape:
            raise ValueError(f"{name} has the shape {shape}, not {out.shape}.")
        self._read_into(self._stored[name], out)

    def close(self) -> None:  # noqa: B027  (a reader that keeps nothing open has nothing to do)
        """Closes what is open. Arrays that were read stay usable."""

    @abc.abstractmethod
    def _read(self, stored_name: str) -> np.ndarray:
        """Reads the tensor that the file has under `stored_name`."""

    def _read_into(self, stored_name: str, out: np.ndarray) -> None:
        """Reads as `_read` does, into `out`; for readers that need no array in between."""
        copy_array(out, self._read(stored_name))

    def _info(self, name: str) -> TensorInfo:
        try:
            return self._infos[name]
        except KeyError:
            raise CheckpointError(f"{self.path} has no tensor named {name!r}.") from None


def _wrapper(names: Iterable[str]) -> str:
    """What torch's wrappers put before all names of a model."""
    listed = list(names)
    found = ""
    while listed:
        part = next((w for w in _WRAPPERS if all(n.startswith(found + w) for n in listed)), "")
        if not part or any(name == found + part for name in listed):
            break
        found += part
    return found


def normalize_name(name: str) -> str:
    """Returns a tensor's current name.

    >>> normalize_name("bert.embeddings.LayerNorm.gamma")
    'bert.embeddings.LayerNorm.weight'
    """
    for old, new in _LEGACY_SUFFIXES.items():
        if name.endswith(old):
            return name[: -len(old)] + new
    return name


def open_checkpoint(
    directory: str | os.PathLike[str], *, allow_pickle: bool = False
) -> TensorSource:
    """Opens a checkpoint in whichever format it is.

    Where a directory holds several, the first of these is taken: model.safetensors (whole, then
    in shards), KerasHub's model.weights.h5, tf_model.h5, Google's *.ckpt*.index, and last
    pytorch_model.bin, which is a pickle.

    Args:
        directory: path of an existing directory.
        allow_pickle: bool. Whether a pytorch_model.bin may be read. It is interpreted with a
            closed list of what may stand in it; nothing in it is ever executed. Still off by
            default: a safer file is to be preferred.

    Returns:
        TensorSource, to be closed (it is a context manager).

    Raises:
        CheckpointError: there is no checkpoint, or it is damaged or hostile.
    """
    directory = _existing(directory)
    reader, path = _find_weights(directory)
    if reader == "pytorch.bin" and not allow_pickle:
        raise CheckpointError(
            f"{directory} holds its weights in {path.name} alone, a pickle, which is not read "
            "unless asked for. Convert it to model.safetensors, or pass `allow_pickle=True`: it is "
            "then read with a closed list of allowed contents, and nothing in it is executed."
        )
    module = importlib.import_module(f"keras_bert_zoo.checkpoints.{reader}")
    try:
        source: TensorSource = getattr(module, _OPENERS[reader])(path)
    except CheckpointError:
        _check_is_downloaded(directory)
        raise
    return source


def read_config(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a checkpoint's configuration as the contents of a Hugging Face config.json.

    A bert_config.json (albert_config.json, ...) of Google's or the config.json of a KerasHub
    preset is translated. Paths that stand in it (`_name_or_path`, `auto_map`) are data: nothing
    opens them.

    Args:
        directory: path of an existing directory.

    Returns:
        dict, the parsed or translated JSON object.

    Raises:
        CheckpointError: no such directory.
        ConfigError: the file is missing, unreadable, hostile or not a JSON object.
    """
    directory = _existing(directory)
    path = directory / CONFIG_FILE
    if path.is_file():
        config = read_json(path)
        if is_keras_hub_config(config):
            module = importlib.import_module("keras_bert_zoo.checkpoints.keras_hub.config")
            translated: dict[str, Any] = module.read_keras_hub_config(directory)
            return translated
        # Some copied Google's bert_config.json to config.json; it has no `model_type`.
        if "model_type" in config or not _is_google(directory):
            return _check_config(config, path)
    if _is_google(directory):
        module = importlib.import_module("keras_bert_zoo.checkpoints.google.tf1")
        translated = module.read_google_config(directory)
        return translated
    raise ConfigError(
        f"No config.json in {str(directory)!r}. A preset directory holds config.json, "
        "model.safetensors and vocab.txt."
    )


def _check_config(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """Checks the keys that every reader relies on, whatever the family.

    Labels that are numbers or booleans become strings: transformers reads all of these. `id2label`
    is left out where it is null, or where `num_labels` is another number.

    Raises:
        ConfigError: listing what is not as transformers writes it.
    """
    problems = [
        f"`{key}` must be a string, got {config[key]!r:.80}"
        for key in ("model_type", "problem_type")
        if not isinstance(config.get(key), str | None)
    ]
    names = config.get("architectures")
    if names is not None and not (
        isinstance(names, list) and all(isinstance(name, str) for name in names)
    ):
        problems.append(f"`architectures` must be a list of names, got {names!r:.80}")
    for key in ("num_labels", "_num_labels"):
        count = config.get(key)
        if count is not None and (type(count) is not int or not 0 <= count <= LABEL_LIMIT):
            problems.append(
                f"`{key}` must be an integer of 0 to {LABEL_LIMIT:,}, got {count!r:.80}"
            )
    labels: Any = config.get("id2label")
    if labels is not None and not _are_labels(labels):
        problems.append(
            f"`id2label` must be an object of ids from 0 and their names, got {labels!r:.80}"
        )
    if problems:
        raise ConfigError(f"{path} is no config of a model: {'; '.join(problems)}.")
    count = config.get("num_labels")
    contradicted = bool(labels) and count not in (None, len(labels))
    if contradicted:
        warn_once(
            _logger,
            f"{path}: `num_labels` is {count}, but `id2label` names {len(labels)} labels; the "
            "number counts, as in transformers, and the names are dropped. Correct either of the "
            "two to keep them.",
        )
    named = {key: str(name) for key, name in (labels or {}).items() if name is not None}
    if contradicted or not named:  # null is what transformers' default labels are for
        dropped = ("id2label", "label2id") if contradicted else ("id2label",)
        return {key: value for key, value in config.items() if key not in dropped}
    return config | {"id2label": named}


def _are_labels(labels: Any) -> bool:
    return (
        isinstance(labels, dict)
        and len(labels) <= LABEL_LIMIT
        and all(key.isascii() and key.isdigit() and len(key) <= 7 for key in labels)
        and len({int(key) for key in labels}) == len(labels)
        and all(int(key) < LABEL_LIMIT for key in labels)
        and all(isinstance(name, str | int | float | None) for name in labels.values())
    )


def detect_format(directory: str | os.PathLike[str]) -> Format:
    """Tells in which format `open_checkpoint` will read a checkpoint.

    Args:
        directory: path of an existing directory.

    Returns:
        "huggingface", "google" or "keras-hub".

    Raises:
        CheckpointError: there is no checkpoint.
    """
    reader, _ = _find_weights(_existing(directory))
    formats: dict[str, Format] = {"keras_hub.reader": "keras-hub", "google.tf1": "google"}
    return formats.get(reader, "huggingface")


# Files of weights, of all formats.
_WEIGHTS = ("*.safetensors", "*.bin", "*.h5", "*.index", "*.data-*")
# Reader's module -> what opens a file there. All take the path that `_find_weights` found.
_OPENERS = {
    "safetensors": "open_safetensors",
    "keras_hub.reader": "open_keras_hub",
    "transformers_h5": "open_keras_h5",
    "google.tf1": "open_google",
    "pytorch.bin": "open_pytorch_bin",
}


def _find_weights(directory: Path) -> tuple[str, Path]:
    """Returns the reader's module and the path it takes."""
    for reader, name in (
        ("safetensors", SAFETENSORS_FILE),
        ("safetensors", SAFETENSORS_INDEX),
        ("keras_hub.reader", KERAS_HUB_FILE),
        ("keras_hub.reader", KERAS_HUB_INDEX),
        ("transformers_h5", KERAS_FILE),
        ("google.tf1", ""),
        ("pytorch.bin", PYTORCH_FILE),
        ("pytorch.bin", PYTORCH_INDEX),
    ):
        if reader == "google.tf1":
            if any(directory.glob("*.index")):
                return reader, directory
        elif (directory / name).is_file():
            return reader, directory if reader == "keras_hub.reader" else directory / name
    raise CheckpointError(
        f"No {SAFETENSORS_FILE} in {str(directory)!r}, nor another checkpoint that can be read: "
        f"{SAFETENSORS_INDEX} with its shards, {KERAS_HUB_FILE} (KerasHub), {KERAS_FILE} "
        f"(transformers 4), *.ckpt.index with its data (Google's TF1) or {PYTORCH_FILE}."
        + _other_names(directory)
    )


def _other_names(directory: Path) -> str:
    """What to say of files that look like weights under a name that nobody gives them."""
    usual = {".safetensors": SAFETENSORS_FILE, ".bin": PYTORCH_FILE, ".pt": PYTORCH_FILE}
    usual |= {".pth": PYTORCH_FILE, ".h5": KERAS_FILE}
    found = sorted(path.name for path in directory.iterdir() if path.suffix in usual)
    if not found:
        return ""
    name = usual[Path(found[0]).suffix]
    return (
        f" There is {list_some([show_name(name) for name in found])}: if that is the checkpoint, "
        f"rename {show_name(found[0])} to {name}."
    )


def _check_is_downloaded(directory: Path) -> None:
    """Raises CheckpointError where a file of weights is what a download left in its place."""
    for path in sorted(path for pattern in _WEIGHTS for path in directory.glob(pattern)):
        try:
            with open(
                path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)
            ) as f:
                start = f.read(256).lstrip().lower()
        except OSError:
            continue
        if start.startswith(b"version https://git-lfs"):
            raise CheckpointError(
                f"{path} is a pointer of Git LFS, not the file that it stands for. Fetch that with "
                f"`git lfs pull` in {os.fspath(path.parent)!r}."
            )
        if start.startswith((b"<!doctype html", b"<html")):
            raise CheckpointError(
                f"{path} is a web page, not the file that it is named as: a download got a page "
                "with a message, or a login, in its place. Open it to see which, and download the "
                "file again."
            )


def _is_google(directory: Path) -> bool:
    has_config = any((directory / name).is_file() for name in GOOGLE_CONFIGS)
    return has_config or any(directory.glob("*.index"))


def is_keras_hub_config(config: Mapping[str, Any]) -> bool:
    """Whether a config.json describes a serialized KerasHub object."""
    return "registered_name" in config and "class_name" in config


def _existing(directory: str | os.PathLike[str]) -> Path:
    path = Path(directory)
    if not path.is_dir():
        raise CheckpointError(f"{str(path)!r} is not a directory.")
    return path


def _check_tensor(path: str, name: str, info: TensorInfo) -> None:
    if not is_name(name):
        raise CheckpointError(
            f"{path} holds a tensor whose name is none: {str(name)[:_NAME_LIMIT]!a}. Expected 1 to "
            f"{_NAME_LIMIT} printable characters."
        )
    if count_elements(info.shape) is None:
        raise CheckpointError(
            f"{path}: {name} has the shape {show_shape(info.shape)}, which no variable has."
        )


def is_name(name: Any) -> bool:
    r"""Whether a name is one that a variable may have: short, and on one line.

    >>> is_name("bert.pooler.dense.bias"), is_name("a\nb"), is_name("")
    (True, False, False)
    """
    return isinstance(name, str) and 0 < len(name) <= _NAME_LIMIT and name.isprintable()


def count_elements(shape: Sequence[int]) -> int | None:
    """Returns the number of elements of a shape that a file claims, None if no variable has it.

    Nothing large is multiplied: a rank above 16 and a product beyond 2 ** 40 are known before.

    Args:
        shape: int, of any number and size.

    Returns:
        int or None.

    >>> count_elements((3, 4)), count_elements((0, 1 << 62)), count_elements([1] * 17)
    (12, None, None)
    """
    if len(shape) > _RANK_LIMIT or any(not 0 <= n <= _SIZE_LIMIT for n in shape):
        return None
    product = 1
    for n in shape:
        product *= max(n, 1)
    if 0 in shape:
        return 0 if product <= _EMPTY_LIMIT else None
    return product if product <= _SIZE_LIMIT else None


def show_shape(shape: Sequence[int]) -> str:
    """Returns a shape for a message, cut short if no variable has it."""
    return str(tuple(shape[: _RANK_LIMIT + 1]))[:256]


def show_name(name: str) -> str:
    r"""Returns a name from a file for a message, on one line and cut short.

    >>> show_name("hidden_size"), show_name("a\nb")
    ('hidden_size', 'a\\nb')
    """
    name = name[:200]
    return name if name.isprintable() else ascii(name)[1:-1]


def one_line(error: BaseException) -> str:
    r"""Returns what an error says, in one line and cut short.

    >>> one_line(ValueError("no\n  file. "))
    'no file'
    """
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__


def list_some(items: list[str]) -> str:
    """Returns the first items for an error message, and how many more there are.

    >>> list_some(["a", "b"])
    'a, b'
    """
    rest = len(items) - _LISTED
    return ", ".join(items[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")
