"""The files of a saved model, and the other files in its directory.

A new save replaces the model's files. Other files in its directory belong to the user and are kept:
notes, plots, logs, a .git. A save is refused if the directory has weights of other formats. They
belong to the earlier model, and a loader may read them instead of the new one.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from pathlib import Path

from keras_bert_zoo.files import GOOGLE_CONFIGS, SENTENCEPIECE_FILES, SIDE_FILE

# Classes of sentence-transformers. The directory of a module is named NUMBER_CLASS.
_MODULES = (
    "Adapter|Asym|BoW|CLIPModel|CNN|Dense|Dropout|LayerNorm|LSTM|MLMTransformer|Normalize|Pooling|"
    "Router|SparseAutoEncoder|SparseStaticEmbedding|SpladePooling|StaticEmbedding|Transformer|"
    "WeightedLayerPooling|WordEmbeddings|WordWeights"
)
_ENCODERS = "bert|roberta|distilbert|camembert|albert|xlm-roberta|xlnet"

# Files and directories that a save of this package writes, or that transformers and
# sentence-transformers read as parts of a model.
MODEL_PARTS = re.compile(
    "|".join(
        [
            *map(re.escape, (SIDE_FILE, *SENTENCEPIECE_FILES)),
            r"keras_bert_zoo\.safetensors|documents\.jsonl|passages\.safetensors",
            r"config\.json|generation_config\.json|config_sentence_transformers\.json",
            rf"modules\.json|sentence_({_ENCODERS})_config\.json",
            r"model\.safetensors|model-[0-9]+-of-[0-9]+\.safetensors|model\.safetensors\.index\.json",
            r"vocab\.txt|vocab\.json|merges\.txt|(tokenizer|special_tokens_map|added_tokens)\.json",
            r"tokenizer_config\.json|training_curves\.(png|html)",
            rf"[0-9]+_({_MODULES})|target_tokenizer|retriever|reader|generator",  # directories
        ]
    )
)

# Names that a user may choose too -> a file that is always next to the model's file of that name.
_COMMON_NAMES = {
    "retriever": "passages.safetensors",
    "reader": "passages.safetensors",
    "documents.jsonl": "passages.safetensors",
    "target_tokenizer": "generation_config.json",
    "generator": f"generator/{SIDE_FILE}",
}

# Files that KerasHub's `save_to_preset` writes.
KERAS_HUB_PARTS = re.compile(
    r"(config|metadata|task|preprocessor|tokenizer)\.json|(model|task)\.weights\.h5|assets"
)

# Files that a loader may read as the model, although a save does not write them.
_RIVALS = re.compile(
    "|".join(
        [
            *map(re.escape, GOOGLE_CONFIGS),
            r"pytorch_model.*\.bin(\.index\.json)?|tf_model.*\.h5|flax_model.*\.msgpack",
            r"(model|task)\.weights\.h5|.*\.ckpt\.(index|meta|data-[0-9]+-of-[0-9]+)",
            r"adapter_config\.json|adapter_model\.\w+|openvino|onnx|.*\.onnx",
        ]
    )
)

_MOUNTS = Path("/proc/self/mountinfo")


def find_rivals(directory: Path, parts: re.Pattern[str]) -> list[str]:
    """Returns the files of an earlier model that a save can neither keep nor delete.

    Args:
        directory: path of the directory to replace.
        parts: matches the names of the model's files and directories.

    Returns:
        list of str, the names of the files.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("model.safetensors", "pytorch_model.bin", "notes.txt"):
        ...         Path(folder, name).touch()
        ...     find_rivals(Path(folder), MODEL_PARTS)
        ['pytorch_model.bin']
    """
    names = (path.name for path in directory.iterdir())
    return sorted(n for n in names if _RIVALS.fullmatch(n) and not parts.fullmatch(n))


def find_mount(directory: Path) -> str | None:
    """Returns the mount point at or inside a directory, or None.

    Example:
        >>> find_mount(Path("/"))
        '/'
    """
    if os.path.ismount(directory):
        return os.fspath(directory)
    # A mount may be on the same device. Then only this list shows it.
    with contextlib.suppress(OSError):
        below = os.path.join(directory, "")
        for line in _MOUNTS.read_text("utf-8", "surrogateescape").splitlines():
            point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), line.split(" ")[4])
            if point == os.fspath(directory) or point.startswith(below):
                return point
    return None


def keep_others(earlier: Path, new: Path, parts: re.Pattern[str]) -> bool:
    """Links the files that are not the model's from an earlier directory into the new one.

    The links point to the same data, so nothing is copied if the file system has links. The earlier
    directory is unchanged. Files of the new directory are not replaced.

    Args:
        earlier: path of a directory.
        new: path of a directory on the same file system. It is created if there are such files.
        parts: matches the names of the model's files and directories.

    Returns:
        bool. Whether there were such files.

    Raises:
        OSError: a file cannot be read or linked.

    Example:
        >>> import tempfile
        >>> earlier, new = (Path(tempfile.mkdtemp()) for _ in range(2))
        >>> for name in ("model.safetensors", "notes.txt"):
        ...     _ = (earlier / name).write_text("mine")
        >>> keep_others(earlier, new, MODEL_PARTS)
        True
        >>> os.listdir(new)
        ['notes.txt']
        >>> for folder in (earlier, new):
        ...     shutil.rmtree(folder)
    """
    any_linked = False
    for path in sorted(earlier.iterdir()):
        target = new / path.name
        is_folder = path.is_dir() and not path.is_symlink()
        belongs = is_part(path, parts)
        if is_folder and (belongs or target.is_dir()):
            any_linked = keep_others(path, target, parts) or any_linked
        elif not belongs and not os.path.lexists(target):
            any_linked = True
            new.mkdir(parents=True, exist_ok=True)
            if is_folder:
                shutil.copytree(path, target, symlinks=True, copy_function=_link)
            else:
                _link(path, target)
    return any_linked


def is_part(path: Path, parts: re.Pattern[str]) -> bool:
    """Whether a file or directory belongs to the model."""
    if not parts.fullmatch(path.name):
        return False
    companion = _COMMON_NAMES.get(path.name)
    return companion is None or (path.parent / companion).is_file()


def _link(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Links a file, or copies it if links are not possible."""
    try:
        os.link(source, target, follow_symlinks=False)
    except FileNotFoundError:
        return  # removed meanwhile
    except OSError:
        if stat.S_ISREG(os.lstat(source).st_mode) or os.path.islink(source):
            shutil.copy2(source, target, follow_symlinks=False)
            return
        raise
