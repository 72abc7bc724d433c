"""The one form in which every checkpoint is seen: tensors under Hugging Face's names, and a config.

Each format has a reader that presents its tensors as a `TensorSource`: Hugging Face's (PyTorch)
names, shapes and orientation, so dense kernels are (output, input). What stands above (name
tables, strict assignment) knows nothing of files.
"""

from __future__ import annotations

import abc
import importlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import ml_dtypes
import numpy as np

from keras_bert_zoo.checkpoints.arrays import copy_array
from keras_bert_zoo.errors import CheckpointError, ConfigError

CONFIG_FILE = "config.json"
SAFETENSORS_FILE = "model.safetensors"
SAFETENSORS_INDEX = "model.safetensors.index.json"
PYTORCH_FILE = "pytorch_model.bin"
PYTORCH_INDEX = "pytorch_model.bin.index.json"
KERAS_FILE = "tf_model.h5"
KERAS_HUB_FILE = "model.weights.h5"
KERAS_HUB_INDEX = "model.weights.json"
GOOGLE_CONFIGS = ("bert_config.json", "albert_config.json", "electra_config.json")

Format = Literal["huggingface", "google", "keras-hub"]

# dtypes that are weights; what else a checkpoint holds (buffers of ids, counters) is not.
FLOAT_DTYPES = frozenset(
    np.dtype(kind) for kind in (np.float16, np.float32, np.float64, ml_dtypes.bfloat16)
)

# A name longer than this, or with a line break in it, is nobody's variable.
_NAME_LIMIT = 512
_RANK_LIMIT = 16
_SIZE_LIMIT = 1 << 40  # elements, dimensions of 0 not counted
_LISTED = 12  # items named in one error; the rest are counted

# JSON that describes a checkpoint is small: the largest config.json of the field (its label
# tables) has some hundred kilobytes.
JSON_LIMIT_BYTES = 10_000_000
_JSON_DEPTH_LIMIT = 64

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
            name = normalize_name(stored)
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
    if reader == "pytorch_bin" and not allow_pickle:
        raise CheckpointError(
            f"{directory} holds its weights in {path.name} alone, a pickle, which is not read "
            "unless asked for. Convert it to model.safetensors, or pass `allow_pickle=True`: it is "
            "then read with a closed list of allowed contents, and nothing in it is executed."
        )
    module = importlib.import_module(f"keras_bert_zoo.checkpoints.{reader}")
    source: TensorSource = getattr(module, _OPENERS[reader])(path)
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
            module = importlib.import_module("keras_bert_zoo.checkpoints.keras_hub_config")
            translated: dict[str, Any] = module.read_keras_hub_config(directory)
            return translated
        # Some copied Google's bert_config.json to config.json; it has no `model_type`.
        if "model_type" in config or not _is_google(directory):
            return config
    if _is_google(directory):
        module = importlib.import_module("keras_bert_zoo.checkpoints.google_tf1")
        translated = module.read_google_config(directory)
        return translated
    raise ConfigError(
        f"No config.json in {str(directory)!r}. A preset directory holds config.json, "
        "model.safetensors and vocab.txt."
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
    formats: dict[str, Format] = {"keras_hub": "keras-hub", "google_tf1": "google"}
    return formats.get(reader, "huggingface")


# Reader's module -> what opens a file there. All take the path that `_find_weights` found.
_OPENERS = {
    "safetensors_files": "open_safetensors",
    "keras_hub": "open_keras_hub",
    "keras_h5": "open_keras_h5",
    "google_tf1": "open_google",
    "pytorch_bin": "open_pytorch_bin",
}


def _find_weights(directory: Path) -> tuple[str, Path]:
    """Returns the reader's module and the path it takes."""
    for reader, name in (
        ("safetensors_files", SAFETENSORS_FILE),
        ("safetensors_files", SAFETENSORS_INDEX),
        ("keras_hub", KERAS_HUB_FILE),
        ("keras_hub", KERAS_HUB_INDEX),
        ("keras_h5", KERAS_FILE),
        ("google_tf1", ""),
        ("pytorch_bin", PYTORCH_FILE),
        ("pytorch_bin", PYTORCH_INDEX),
    ):
        if reader == "google_tf1":
            if any(directory.glob("*.index")):
                return reader, directory
        elif (directory / name).is_file():
            return reader, directory if reader == "keras_hub" else directory / name
    raise CheckpointError(
        f"No {SAFETENSORS_FILE} in {str(directory)!r}, nor another checkpoint that can be read: "
        f"{SAFETENSORS_INDEX} with its shards, {KERAS_HUB_FILE} (KerasHub), {KERAS_FILE} "
        f"(transformers 4), *.ckpt.index with its data (Google's TF1) or {PYTORCH_FILE}."
    )


def _is_google(directory: Path) -> bool:
    has_config = any((directory / name).is_file() for name in GOOGLE_CONFIGS)
    return has_config or any(directory.glob("*.index"))


def is_keras_hub_config(config: Mapping[str, Any]) -> bool:
    """Whether a config.json describes a serialized KerasHub object."""
    return "registered_name" in config and "class_name" in config


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a small JSON object, strictly.

    Args:
        path: of the file.

    Returns:
        dict.

    Raises:
        ConfigError: it is not a JSON object, larger than 10 MB, nested deeply, or holds NaN, an
            infinity or a key twice.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            data = file.read(JSON_LIMIT_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}.") from None
    return parse_json(data, str(path))


def parse_json(data: bytes, path: str, *, limit: int = JSON_LIMIT_BYTES) -> dict[str, Any]:
    """Parses a JSON object as `read_json` does.

    Args:
        data: the file's bytes.
        path: for messages.
        limit: int, bytes.

    Returns:
        dict.

    Raises:
        ConfigError: see `read_json`.
    """
    if len(data) > limit:
        raise ConfigError(f"{path} is larger than {limit:,} bytes, which no such file is.")
    try:
        value = json.loads(
            data.decode("utf-8"),
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=_unique,
        )
        if _depth_exceeds(value, _JSON_DEPTH_LIMIT):
            raise ValueError(f"nested deeper than {_JSON_DEPTH_LIMIT} levels")
    except RecursionError:
        raise ConfigError(f"{path} cannot be read as JSON: nested too deeply.") from None
    except ValueError as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}.") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path} must hold a JSON object, got {type(value).__name__}.")
    return value


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:32]} is beyond a float")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:_NAME_LIMIT]!r} stands there twice")
    return found


def _depth_exceeds(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        children: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                children += item.values()
            elif isinstance(item, list):
                children += item
        if not children:
            return False
        level = children
    return True


def _existing(directory: str | os.PathLike[str]) -> Path:
    path = Path(directory)
    if not path.is_dir():
        raise CheckpointError(f"{str(path)!r} is not a directory.")
    return path


def _check_tensor(path: str, name: str, info: TensorInfo) -> None:
    if not isinstance(name, str) or not name or len(name) > _NAME_LIMIT or not name.isprintable():
        raise CheckpointError(
            f"{path} holds a tensor whose name is none: {str(name)[:_NAME_LIMIT]!a}. Expected 1 to "
            f"{_NAME_LIMIT} printable characters."
        )
    if len(info.shape) > _RANK_LIMIT or math.prod(max(n, 1) for n in info.shape) > _SIZE_LIMIT:
        raise CheckpointError(
            f"{path}: {name} has the shape {str(info.shape)[:256]}, which no variable has."
        )


def list_some(items: list[str]) -> str:
    """Returns the first items for an error message, and how many more there are.

    >>> list_some(["a", "b"])
    'a, b'
    """
    rest = len(items) - _LISTED
    return ", ".join(items[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")
