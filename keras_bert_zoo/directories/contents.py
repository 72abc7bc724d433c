"""Which files of a saved model are the model's, and keeping those that are not.

A new save replaces the model's own files. Whatever else lies in its directory belongs to the user
and stays: notes, plots, logs, a .git. Weights of other formats neither stay nor go: they describe
the earlier model, and a loader may read them in place of the new one.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from pathlib import Path

from keras_bert_zoo.files import GOOGLE_CONFIGS, SENTENCEPIECE_FILES, SIDE_FILE

# The classes of sentence-transformers: a module's folder is its number and its class.
_MODULES = (
    "Adapter|Asym|BoW|CLIPModel|CNN|Dense|Dropout|LayerNorm|LSTM|MLMTransformer|Normalize|Pooling|"
    "Router|SparseAutoEncoder|SparseStaticEmbedding|SpladePooling|StaticEmbedding|Transformer|"
    "WeightedLayerPooling|WordEmbeddings|WordWeights"
)
_ENCODERS = "bert|roberta|distilbert|camembert|albert|xlm-roberta|xlnet"

# Files and folders that a save of this package writes, or that transformers and
# sentence-transformers read as a part of such a model.
MODEL_PARTS = re.compile(
    "|".join(
        [
            *map(re.escape, (SIDE_FILE, *SENTENCEPIECE_FILES)),
            r"keras_bert_zoo\.safetensors|documents\.jsonl|passages\.safetensors",
            r"config\.json|generation_config\.json|config_sentence_transformers\.json",
            rf"modules\.json|sentence_({_ENCODERS})_config\.json",
            r"model\.safetensors|model-[0-9]+-of-[0-9]+\.safetensors|model\.safetensors\.index\.json",
            r"vocab\.txt|vocab\.json|merges\.txt|(tokenizer|special_tokens_map|added_tokens)\.json",
            r"tokenizer_config\.json",
            rf"[0-9]+_({_MODULES})|target_tokenizer|retriever|reader",  # folders
        ]
    )
)

# Names that a user may choose, too, and the file that lies beside those of a model.
_COMMON_NAMES = {
    "retriever": "passages.safetensors",
    "reader": "passages.safetensors",
    "documents.jsonl": "passages.safetensors",
    "target_tokenizer": "generation_config.json",
}

# What KerasHub's `save_to_preset` writes.
KERAS_HUB_PARTS = re.compile(
    r"(config|metadata|task|preprocessor|tokenizer)\.json|(model|task)\.weights\.h5|assets"
)

# What a loader may take for the model, although a save does not write it.
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
    """Names the files of an earlier model that can neither be kept nor be deleted.

    Args:
        directory: path of what is to be replaced.
        parts: matches the names of the model's own files and folders.

    Returns:
        list of str, names in the directory.

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
    """Returns the mount point that a directory is or that it holds; None: there is none.

    Example:
        >>> find_mount(Path("/"))
        '/'
    """
    if os.path.ismount(directory):
        return os.fspath(directory)
    # Not every mount is another device: this finds the others where there is such a list.
    with contextlib.suppress(OSError):
        below = os.path.join(directory, "")
        for line in _MOUNTS.read_text("utf-8", "surrogateescape").splitlines():
            point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), line.split(" ")[4])
            if point == os.fspath(directory) or point.startswith(below):
                return point
    return None


def keep_others(earlier: Path, new: Path, parts: re.Pattern[str]) -> bool:
    """Brings what is not the model's from an earlier directory into the new one.

    Files become links to the same data, so nothing is copied where the file system has links, and
    the earlier directory stays as it was. Names that the new one has already are left alone.

    Args:
        earlier: path of a directory.
        new: path of a directory on the same file system; made where something is to be kept.
        parts: matches the names of the model's own files and folders.

    Returns:
        bool. Whether anything was brought.

    Raises:
        OSError: something cannot be read or linked.

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
    kept = False
    for path in sorted(earlier.iterdir()):
        target = new / path.name
        is_folder = path.is_dir() and not path.is_symlink()
        is_part = _is_part(path, parts)
        if is_folder and (is_part or target.is_dir()):
            kept = keep_others(path, target, parts) or kept
        elif not is_part and not os.path.lexists(target):
            kept = True
            new.mkdir(parents=True, exist_ok=True)
            if is_folder:
                shutil.copytree(path, target, symlinks=True, copy_function=_link)
            else:
                _link(path, target)
    return kept


def _is_part(path: Path, parts: re.Pattern[str]) -> bool:
    """Whether a file or folder is the model's."""
    if not parts.fullmatch(path.name):
        return False
    beside = _COMMON_NAMES.get(path.name)
    return beside is None or (path.parent / beside).is_file()


def _link(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Links a file, or copies it where links are not possible."""
    try:
        os.link(source, target, follow_symlinks=False)
    except FileNotFoundError:
        return  # removed by its owner in the meantime
    except OSError:
        if stat.S_ISREG(os.lstat(source).st_mode) or os.path.islink(source):
            shutil.copy2(source, target, follow_symlinks=False)
            return
        raise
