"""The memory of a training run on paper, and the memory that a machine has.

The constants are fitted to measured peaks of whole processes on a CPU; see
tools/bench/training_memory.py. On a GPU the estimate is that of its memory, with the same
constants, which were not measured there.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training.cost import count_distances
from keras_bert_zoo.training.model_shapes import OF_ALL_TOKENS, ModelShapes
from keras_bert_zoo.training.tricks.options import Tricks

__all__ = ["MARGIN", "MemoryEstimate", "available_memory", "check_memory", "estimate_memory"]

MARGIN = 1.2
"""The estimate may be this many times too high, so that no run is refused that would fit."""

# TensorFlow, its compiled functions and the package, without variables and activations.
_BASE = 1.15e9
# Stored for the gradient, per output of a dense layer in a block: the output itself and the results
# of activations, sums, dropout and norms after it.
_PER_OUTPUT = 1.7
# Stored for the gradient, per pair of tokens and head: probabilities before and after dropout.
_PER_PAIR = 2.2
# The backward pass of a block, as a share of its activations, while all others are stored.
_WORKING = 0.5
# Embeddings: their sum, its norm, and the gradients of the tables, float32.
_PER_EMBEDDING = 8
# Logits, their float32 form, the loss and the gradient.
_PER_LOGIT = 4

# Of the gradients' size: those that exist while most activations are stored; and the gradients, the
# clipped ones and the work of the update, after the activations are freed.
_EARLY_GRADIENTS = 0.25
_UPDATE = 2.4

# Variables of the optimizer per trained parameter; see `_optimizer_bytes` for the others.
_SLOTS = {"adamw": 2, "lamb": 2, "adafactor": 1, "lion": 1, "muon": 1}


@dataclass(frozen=True)
class MemoryEstimate:
    """The peak memory of a training run by cause, in bytes.

    Args:
        base: TensorFlow and the process; 0 on a GPU.
        weights: the weights.
        gradients: of all trained weights, as far as the activations are no longer stored.
        optimizer: its variables.
        accumulation: the sums of gradients over the parts of a batch.
        averages: the moving average of the weights.
        best_epoch: the weights of the best epoch.
        activations: the results that the gradient needs, and weights in the compute dtype.
        logits: of the head, with their gradients.

    Example:
        >>> round(MemoryEstimate(base=1e9, weights=5e8).total / 1e9, 1)
        1.5
    """

    base: float = 0.0
    weights: float = 0.0
    gradients: float = 0.0
    optimizer: float = 0.0
    accumulation: float = 0.0
    averages: float = 0.0
    best_epoch: float = 0.0
    activations: float = 0.0
    logits: float = 0.0

    @property
    def total(self) -> float:
        """The sum, in bytes."""
        return float(sum(self.parts().values()))

    def plus(self, other: MemoryEstimate) -> MemoryEstimate:
        """Adds the estimate of a model that is trained in the same step."""
        names = [field.name for field in fields(self)]
        return MemoryEstimate(**{n: getattr(self, n) + getattr(other, n) for n in names})

    def parts(self) -> dict[str, float]:
        """Returns cause -> bytes, without those that are 0."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value}


def estimate_memory(
    model: ModelShapes,
    lengths: Sequence[int] | np.ndarray,
    *,
    dtype: str = "float32",
    optimizer: str = "adamw",
    accumulation_steps: int = 1,
    average_weights: bool = False,
    keeps_best: bool = False,
    gradient_checkpointing: bool = False,
    predicted: int = 0,
    token_layout: str = "packed",
    tricks: Tricks | None = None,
    replicas: int = 1,
    on_gpu: bool = False,
) -> MemoryEstimate:
    """Estimates the peak memory of a training run.

    The data is not part of it. On CPU the estimate is that of the whole process. It is within 20 %
    of the measured peaks in docs/training.md. Families with other attention than BERT's, and heads
    on pairs of tokens, differ more.

    Args:
        model: ModelShapes, with the frozen weights in it.
        lengths: int (B,). The number of tokens of each row of the largest batch.
        dtype: str. Keras dtype policy, such as "mixed_bfloat16".
        optimizer: str. A key of `optimizers.OPTIMIZERS`.
        accumulation_steps: int. Parts of a batch.
        average_weights: bool. Whether the moving average of the weights is computed.
        keeps_best: bool. Whether the weights of the best epoch are stored.
        gradient_checkpointing: bool. Whether blocks are computed again for the gradient.
        predicted: int. Number of tokens in the batch that a masked language model predicts.
        token_layout: "packed" or "padded".
        tricks: Tricks or None. Some store several passes through the model.
        replicas: int. Replicas that share this memory, as the parts of a CPU do.
        on_gpu: bool. Whether the memory is that of a GPU, without the process.

    Returns:
        MemoryEstimate.

    Raises:
        ConfigError: unknown optimizer.

    Example:
        >>> from keras_bert_zoo import EncoderConfig
        >>> from keras_bert_zoo.training.model_shapes import model_shapes
        >>> model = model_shapes(EncoderConfig(), head="classification", units=2)
        >>> estimate = estimate_memory(model, [256] * 16)
        >>> 4e9 < estimate.total < 8e9, estimate.optimizer == 2 * 4 * model.parameters
        (True, True)
    """
    if optimizer not in _SLOTS:
        raise ConfigError(
            f"Expected `optimizer` to be one of {', '.join(_SLOTS)}, received {optimizer!r}."
        )
    if model.generator is not None:
        options: dict[str, Any] = {
            "dtype": dtype, "optimizer": optimizer, "accumulation_steps": accumulation_steps,
            "average_weights": average_weights, "keeps_best": keeps_best,
            "gradient_checkpointing": gradient_checkpointing, "predicted": predicted,
            "token_layout": token_layout, "tricks": tricks, "replicas": replicas,
        }  # fmt: skip
        alone = replace(model, generator=None)
        own = estimate_memory(alone, lengths, on_gpu=on_gpu, **options)
        return own.plus(estimate_memory(model.generator, lengths, on_gpu=True, **options))
    trained, size = 4.0 * model.trained_parameters, 4 if dtype == "float32" else 2
    accumulates = accumulation_steps > 1
    # The longest part of a batch decides. Its rows are those of one part.
    lengths = np.sort(np.asarray(lengths, np.int64).reshape(-1))[::-1]
    rows = -(-len(lengths) // accumulation_steps)
    tricks = Tricks() if tricks is None else tricks
    activations = tricks.stored_passes * _activation_bytes(
        model,
        lengths[:rows],
        size,
        checkpointing=gradient_checkpointing,
        padded=token_layout == "padded",
    )
    if size == 2:
        in_blocks = tuple(f"{name}/" for name in set(model.blocks()))
        activations += (
            replicas
            * size
            * sum(
                math.prod(shape)
                for path, shape in model.shapes.items()
                if path.startswith(in_blocks)
            )
        )
    logits = tricks.stored_passes * _logit_bytes(
        model, lengths[:rows], -(-predicted // accumulation_steps)
    )
    more = replicas * (tricks.stored_gradients - 1) * trained
    update = replicas * (_UPDATE + accumulates) * trained - activations - logits
    return MemoryEstimate(
        base=0.0 if on_gpu else _BASE,
        weights=replicas * 4.0 * model.parameters,
        gradients=max(replicas * _EARLY_GRADIENTS * trained, update) + more,
        optimizer=replicas * _optimizer_bytes(model, optimizer),
        accumulation=replicas * trained if accumulates else 0.0,
        averages=replicas * trained if average_weights else 0.0,
        best_epoch=4.0 * model.parameters if keeps_best else 0.0,
        activations=activations,
        logits=logits,
    )


def _optimizer_bytes(model: ModelShapes, optimizer: str) -> float:
    count = float(_SLOTS[optimizer] * model.trained_parameters)
    for path, shape in model.own.items():
        if path in model.frozen:
            continue
        if optimizer == "muon" and not (path.split("/")[0] in model.blocks() and len(shape) == 2):
            count += math.prod(shape)  # Adam's second variable
        elif optimizer == "adafactor" and len(shape) >= 2:
            count += math.prod(shape[:-1]) + math.prod(shape[:-2]) * shape[-1]
    return 4 * count


def _activation_bytes(
    model: ModelShapes, lengths: np.ndarray, size: int, *, checkpointing: bool, padded: bool
) -> float:
    rows, columns = len(lengths), int(lengths.max(initial=0))
    tokens = rows * columns if padded else int(lengths.sum())
    # Attention pads the rows of a batch to the longest one in both layouts.
    pairs = rows * columns**2
    stored, largest = 0.0, 0.0
    gradient = model.is_trained(path for path in model.shapes if path.startswith("embeddings/"))
    names = model.blocks()
    for i, name in enumerate(names):
        shapes = model.of_block(name)
        gradient = gradient or model.is_trained(f"{name}/{path}" for path in shapes)
        first = model.first_token_only and i == len(names) - 1
        outputs = 0.0
        for path, shape in shapes.items():
            if path.endswith("/kernel"):
                layer = path.removesuffix("/kernel").removeprefix("attention/").split("/")[0]
                outputs += (rows if first and layer not in OF_ALL_TOKENS else tokens) * shape[-1]
        scores = model.config.num_heads * (rows * columns if first else pairs)
        of_block = size * (
            _PER_OUTPUT * outputs + _PER_PAIR * scores * _score_tensors(model, columns)
        )
        largest = max(largest, of_block)
        if gradient:
            stored += size * tokens * model.config.hidden_dim if checkpointing else of_block
    working = largest * (1 + _WORKING if checkpointing else _WORKING)
    return stored + working + 4.0 * _PER_EMBEDDING * tokens * model.config.hidden_dim


def _score_tensors(model: ModelShapes, columns: int) -> float:
    """The memory of attention scores, compared with that of BERT."""
    config: Any = model.config
    if not getattr(config, "relative_attention", False) or not columns:
        return 1.0
    distances = count_distances(config, columns)
    return 1 + len(config.position_attention) * (1 + distances / columns)


def _logit_bytes(model: ModelShapes, lengths: np.ndarray, predicted: int) -> float:
    if not model.head:
        return 0.0
    if model.reads == "predicted":
        return 4.0 * _PER_LOGIT * predicted * model.config.vocabulary_size
    rows = len(lengths) if model.reads == "pooled" else len(lengths) * int(lengths.max(initial=0))
    kernel = model.shapes.get(f"{model.head}/kernel", (0, 0))
    return 4.0 * _PER_LOGIT * rows * kernel[-1]


def available_memory(*, on_gpu: bool = False) -> float:
    """Returns the memory that a process can use at most.

    Args:
        on_gpu: bool. Whether to return that of the first GPU.

    Returns:
        float, bytes: the memory of the machine, or of the container if its limit is lower; infinity
        if it is unknown.

    Example:
        >>> available_memory() > 1e8
        True
    """
    if on_gpu:
        # The module that lists devices with their limits has no public name.
        from tensorflow.python.client import device_lib

        limits = [d.memory_limit for d in device_lib.list_local_devices() if d.device_type == "GPU"]
        return float(min(limits, default=math.inf))
    return min(_machine_memory(), container_memory())


def _machine_memory() -> float:
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError, AttributeError):  # not on this platform
        return math.inf


def container_memory(
    root: str | os.PathLike[str] = "/sys/fs/cgroup",
    own: str | os.PathLike[str] = "/proc/self/cgroup",
) -> float:
    """Returns the smallest memory limit of the control groups of this process.

    Args:
        root: the folder where the control groups are mounted.
        own: the file that names the groups of this process.

    Returns:
        float, bytes; infinity without a limit.
    """
    limits = []
    folders = {Path(root), Path(root) / "memory"}
    try:
        lines = Path(own).read_text("utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:  # 0::/user.slice/session (version 2), 5:memory:/docker/ID (version 1)
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            base = Path(root) / controllers
            group = base / path.lstrip("/")
            folders |= {group, *(folder for folder in group.parents if base in folder.parents)}
    for folder in folders:
        for name in ("memory.max", "memory.limit_in_bytes"):
            try:
                limits.append(float((folder / name).read_text("utf-8")))
            except (OSError, ValueError):  # no such group, or "max"
                continue
    return min(limits, default=math.inf)


def check_memory(estimate: MemoryEstimate, limit: float, *, hints: Sequence[str] = ()) -> bool:
    """Compares an estimate with the memory that exists.

    Args:
        estimate: MemoryEstimate.
        limit: float, bytes. See `available_memory`.
        hints: str. Advice for the message.

    Returns:
        bool. Whether the estimate is within the limit. If it is not, but by less than `MARGIN`,
        the run may fit.

    Raises:
        ConfigError: the run cannot fit, even if the estimate is `MARGIN` times too high.

    Example:
        >>> check_memory(MemoryEstimate(base=1e9), 2e9)
        True
    """
    if estimate.total <= MARGIN * limit:
        return estimate.total <= limit
    largest = sorted(estimate.parts().items(), key=lambda part: -part[1])[:3]
    parts = ", ".join(f"{name.replace('_', ' ')} {gigabytes(size)}" for name, size in largest)
    advice = "; ".join(hints) or "train with a smaller batch"
    raise ConfigError(
        f"expected a training run of at most {gigabytes(limit)}, the memory of this machine, "
        f"received one that needs about {gigabytes(estimate.total)} ({parts}); {advice}"
    )


def gigabytes(size: float) -> str:
    """Writes a number of bytes for people.

    >>> gigabytes(2.34e9), gigabytes(2.5e7)
    ('2.3 GB', '0.03 GB')
    """
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e9:.2f} GB"


def has_gpu() -> bool:
    """Returns whether TensorFlow trains on a GPU here."""
    return bool(tf.config.get_visible_devices("GPU"))
