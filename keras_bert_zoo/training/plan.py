"""The plan of a training run: its size, memory and time, before it begins."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from keras_bert_zoo.data.pipeline import NO_LABEL, LabelledRows
from keras_bert_zoo.training.cost import epoch_flops, measured_peak
from keras_bert_zoo.training.data import prepared, replicas_of
from keras_bert_zoo.training.fit_data import adopt_examples
from keras_bert_zoo.training.loss_units import loss_unit
from keras_bert_zoo.training.memory import (
    MARGIN,
    MemoryEstimate,
    available_memory,
    check_memory,
    estimate_memory,
    gigabytes,
    has_gpu,
)
from keras_bert_zoo.training.model_shapes import ModelShapes, task_shapes
from keras_bert_zoo.training.packed_rows import PackedBatches, packed_rows
from keras_bert_zoo.training.rows import RowBatches
from keras_bert_zoo.training.static_shapes import batch_shape
from keras_bert_zoo.training.step_time import StepTime, all_reduce_bytes, step_time
from keras_bert_zoo.training.tricks.options import Tricks

__all__ = ["SHARES", "TrainingPlan", "check_run", "estimate_run", "make_plan", "plan_training"]

_logger = logging.getLogger(__name__)

SHARES: Mapping[str, float] = {"CPU": 0.3, "GPU": 0.375}
"""The share of the peak that training steps reach; docs/at_scale.md fits that of GPUs."""


@dataclass(frozen=True)
class TrainingPlan:
    """The numbers of a training run, before it begins.

    Args:
        rows: int. Rows of tokens of one epoch.
        tokens: int. Tokens of one epoch, without padding.
        padding: float. The share of padding in the batches. The packed layout does not compute it.
        token_layout: "packed" or "padded".
        steps_per_epoch: int.
        epochs: int.
        batch_size: int. Examples or rows of a batch, over all replicas.
        replicas: int.
        parameters: int.
        trained_parameters: int.
        dtype: str. Keras dtype policy.
        memory: MemoryEstimate, of this process, or of one of its GPUs.
        memory_limit: float, bytes. The memory of this machine, container or GPU.
        flops_per_step: float. The mean over the batches.
        peak: float. Measured operations a second of this machine, or of one of its GPUs.
        share: float. The share of the peak that steps are expected to reach.
        step: StepTime, of a mean step, without the sum of the gradients.
        bytes_sent_per_step: float. Bytes that each replica sends to sum the gradients.
        unit: what `batch_size` counts: "examples", or "rows" of packed ones.
    """

    rows: int
    tokens: int
    padding: float
    token_layout: str
    steps_per_epoch: int
    epochs: int
    batch_size: int
    replicas: int
    parameters: int
    trained_parameters: int
    dtype: str
    memory: MemoryEstimate
    memory_limit: float
    flops_per_step: float
    peak: float
    share: float
    step: StepTime
    bytes_sent_per_step: float
    unit: str = "examples"

    @property
    def steps(self) -> int:
        """The number of steps of the run."""
        return self.steps_per_epoch * self.epochs

    @property
    def seconds(self) -> float:
        """The predicted time of all steps, without validation."""
        return self.steps * self.step.seconds

    @property
    def fits(self) -> bool:
        """Whether the estimate is within the memory; `fit` refuses only what is far above it."""
        return self.memory.total <= self.memory_limit

    def _warning(self) -> str:
        if self.fits:
            return ""
        may = self.memory.total <= MARGIN * self.memory_limit
        return "; it may not fit" if may else "; it does not fit"

    def to_dict(self) -> dict[str, Any]:
        """Returns all numbers, for JSON."""
        memory = self.memory.parts() | {"total": self.memory.total}
        limit = None if np.isinf(self.memory_limit) else self.memory_limit
        return asdict(self) | {
            "steps": self.steps,
            "memory": memory,
            "memory_limit": limit,
            "fits": self.fits,
            "step": asdict(self.step),
            "seconds_per_step": self.step.seconds,
            "seconds": self.seconds,
        }

    def lines(self) -> list[str]:
        """Returns the plan as lines of text."""
        limit = "" if np.isinf(self.memory_limit) else f" of {gigabytes(self.memory_limit)}"
        parts = ", ".join(
            f"{name.replace('_', ' ')} {gigabytes(size)}"
            for name, size in self.memory.parts().items()
        )
        padding = f"{100 * self.padding:.0f} % padding"
        if self.token_layout == "packed":
            padding += ", which is not computed"
        named = {
            "rows": f"{self.rows:,}, on average {self.tokens / max(self.rows, 1):.1f} tokens",
            "tokens": f"{self.tokens:,} per epoch; {padding}",
            "steps": f"{self.steps_per_epoch:,} per epoch, {self.steps:,} in all, "
            f"{self.batch_size:,} {self.unit} each",
            "parameters": f"{self.parameters:,}, {self.trained_parameters:,} of them trained",
            "memory": f"{gigabytes(self.memory.total)}{limit} ({parts}){self._warning()}",
            "operations": f"{self.flops_per_step / 1e12:.3g} TFLOP per step",
            "time": f"{_duration(self.step.seconds)} per step, {_duration(self.seconds)} in all, "
            f"without validation ({100 * self.share:.0f} % of {self.peak / 1e12:.3g} TFLOP/s)",
        }
        if self.replicas > 1:
            named["all-reduce"] = (
                f"{self.bytes_sent_per_step / 1e6:,.0f} MB sent per step by each of "
                f"{self.replicas} replicas; its time is not in the estimate"
            )
        return [f"{name:<11} {text}" for name, text in named.items()]


def plan_training(
    task: Any, x: Any, y: Any = None, *, pack_examples: bool = False, **options: Any
) -> TrainingPlan:
    """Plans a call of `fit`, without training.

    Like `fit`, it sets the attributes of the task that depend on the examples.

    Args:
        task: Task.
        x: texts or examples, as for `fit`. No batches.
        y: labels, or None.
        pack_examples: bool. See `Task.fit`.
        **options: see `make_plan`.

    Returns:
        TrainingPlan.

    Raises:
        DataError: labels are unknown or do not fit the texts.

    Example:
        >>> import keras_bert_zoo as kbz
        >>> task = kbz.TextClassifier.from_preset("minilm_l6_en_uncased", labels=["a", "b"])
        >>> plan = plan_training(task, ["one text"] * 10, ["a", "b"] * 5, batch_size=4, epochs=2)
        >>> plan.rows, plan.tokens, plan.steps
        (10, 40, 6)
    """
    examples, targets = prepared(task, x, y)
    adopt_examples(task, task.objective(examples), examples)
    rows = task.rows(examples, targets, None)
    return make_plan(task, packed_rows(task, rows) if pack_examples else rows, **options)


def make_plan(
    task: Any,
    rows: RowBatches,
    *,
    batch_size: int = 32,
    epochs: int = 3,
    seed: int = 0,
    static_shapes: bool = False,
    tricks: Tricks | None = None,
    **options: Any,
) -> TrainingPlan:
    """Plans a run on tokenized examples.

    It counts the tokens and the padding of the batches of the first epoch, and measures the peak of
    this machine, which takes about a second.

    Args:
        task: Task.
        rows: RowBatches.
        batch_size: int. Examples per step, over all replicas.
        epochs: int.
        seed: int. The order of the batches depends on it.
        static_shapes: bool. Whether all batches have one shape; see `training.static_shapes`.
        tricks: Tricks or None. See `TrickOptions`.
        **options: see `estimate_run`.

    Returns:
        TrainingPlan.

    Example: see `plan_training`, which tokenizes the examples.
    """
    tricks = Tricks() if tricks is None else tricks
    model, lengths, group = task_shapes(task), _row_lengths(rows), _rows_per_example(rows)
    batches: Counter[int] = Counter()  # width -> number of batches
    if isinstance(rows, PackedBatches):
        widths = np.full(len(rows), rows.max_length)
        batches[rows.max_length] = -(-len(rows) // batch_size)
    else:
        longest = lengths.reshape(-1, group).max(axis=1)
        widths = np.zeros(len(longest), np.int64)
        for numbers in rows.numbers(batch_size=batch_size, seed=seed).as_numpy_iterator():
            width = int(longest[numbers].max())
            widths[numbers] = width
            batches[width] += 1
        widths = np.repeat(widths, group)
    steps = batches.total()
    if static_shapes:
        width = batch_shape(task, rows).widths["tokens"]
        widths = np.full(steps * batch_size * group, width)
        batches = Counter({width: steps})
    padded = task.token_layout == "padded"
    flops = tricks.passes * epoch_flops(
        model,
        widths if padded else lengths,
        widths,
        batches,
        predicted=_predicted(task, rows),
        gradient_checkpointing=bool(options.get("gradient_checkpointing")),
    )
    replicas, local = replicas_of(task), _local_replicas(task)
    kind = "GPU" if has_gpu() else "CPU"
    dtype, share = _dtype(task), SHARES[kind]
    peak = measured_peak(dtype)
    # The parts of a CPU share its peak; GPUs and machines do not.
    step = step_time(
        flops / steps,
        peak=peak,
        share=share,
        replicas=replicas if kind == "GPU" else replicas // local,
    )
    return TrainingPlan(
        rows=len(lengths),
        tokens=int(lengths.sum()),
        padding=1 - float(lengths.sum() / max(1, widths.sum())),
        token_layout=task.token_layout,
        steps_per_epoch=steps,
        epochs=epochs,
        batch_size=batch_size,
        replicas=replicas,
        parameters=model.parameters,
        trained_parameters=model.trained_parameters,
        dtype=dtype,
        memory=estimate_run(
            task,
            rows,
            batch_size=batch_size,
            model=model,
            static_shapes=static_shapes,
            tricks=tricks,
            **options,
        ),
        memory_limit=available_memory(on_gpu=kind == "GPU"),
        flops_per_step=flops / steps,
        peak=peak,
        share=share,
        step=step,
        bytes_sent_per_step=all_reduce_bytes(
            model,
            replicas,
            tokens=int(lengths.sum() / steps / replicas),
            dense_tables=int(options.get("accumulation_steps", 1)) > 1,
        ),
        unit="rows" if isinstance(rows, PackedBatches) else "examples",
    )


def estimate_run(
    task: Any,
    rows: RowBatches,
    *,
    batch_size: int,
    model: ModelShapes | None = None,
    accumulation_steps: int = 1,
    gradient_checkpointing: bool = False,
    optimizer: str = "adamw",
    average_weights: bool = False,
    keeps_best: bool = False,
    static_shapes: bool = False,
    tricks: Tricks | None = None,
) -> MemoryEstimate:
    """Estimates the memory of this process, or of one of its GPUs, in a run.

    The longest examples make the largest batch.

    Args:
        task: Task.
        rows: RowBatches.
        batch_size: int. Examples per step, over all replicas.
        model: ModelShapes of the task, or None.
        accumulation_steps: int. See `Task.fit`.
        gradient_checkpointing: bool. See `Task.fit`.
        optimizer: str. See `Task.fit`.
        average_weights: bool. See `Task.fit`.
        keeps_best: bool. Whether the run has validation data.
        static_shapes: bool. See `make_plan`.
        tricks: Tricks or None.

    Returns:
        MemoryEstimate.

    Example:
        >>> import keras_bert_zoo as kbz
        >>> task = kbz.TextClassifier.from_preset("tests/assets/bert_gelu", labels=["a", "b"])
        >>> examples, targets = prepared(task, ["one text"] * 10, ["a", "b"] * 5)
        >>> rows = task.rows(examples, targets)
        >>> estimates = [estimate_run(task, rows, batch_size=size).total for size in (2, 8)]
        >>> estimates[0] < estimates[1]
        True
    """
    on_gpu, replicas, local = has_gpu(), replicas_of(task), _local_replicas(task)
    lengths = np.sort(_row_lengths(rows))[::-1]
    here = 1 if on_gpu else local  # replicas whose rows this memory holds
    count = -(-batch_size * _rows_per_example(rows) * here // replicas)
    predicted = int(min(1.0, count / max(1, len(lengths))) * _predicted(task, rows))
    if static_shapes:
        widths = batch_shape(task, rows).widths
        lengths = np.full(count, widths["tokens"])
        predicted = count * widths.get("predictions", 0)
    return estimate_memory(
        task_shapes(task) if model is None else model,
        lengths[:count],
        dtype=_dtype(task),
        optimizer=optimizer,
        accumulation_steps=accumulation_steps,
        average_weights=average_weights,
        keeps_best=keeps_best,
        gradient_checkpointing=gradient_checkpointing,
        predicted=predicted,
        token_layout=task.token_layout,
        tricks=tricks,
        replicas=1 if on_gpu else local,
        on_gpu=on_gpu,
    )


def check_run(task: Any, rows: RowBatches, **options: Any) -> None:
    """Refuses a run that does not fit into the memory.

    Args:
        task: Task.
        rows: RowBatches.
        **options: see `estimate_run`.

    Raises:
        ConfigError: the run cannot fit; the message has advice.
    """
    limit = available_memory(on_gpu=has_gpu())
    estimate = estimate_run(task, rows, **options)
    hints = [] if estimate.total <= MARGIN * limit else _advice(task, rows, limit, options)
    if not check_memory(estimate, limit, hints=hints):
        _logger.warning(
            "the run needs about %s, and the memory is %s; it may not fit",
            gigabytes(estimate.total),
            gigabytes(limit),
        )


def _advice(task: Any, rows: RowBatches, limit: float, options: dict[str, Any]) -> list[str]:
    """The changes after which the run would fit."""

    def fits(**changes: Any) -> bool:
        return estimate_run(task, rows, **options | changes).total <= limit

    hints = []
    size, parts = int(options["batch_size"]), int(options.get("accumulation_steps", 1))
    for power in range(1, size.bit_length()):
        if fits(batch_size=size >> power):
            hints.append(f"a batch size of {size >> power}")
            break
    unit = loss_unit(task.fit_loss or task.objective().loss())
    for power in range(1, size.bit_length() if unit in ("rows", "tokens") else 0):
        if fits(accumulation_steps=parts << power):
            hints.append(f"{parts << power} accumulation steps")
            break
    if not options.get("gradient_checkpointing") and fits(gradient_checkpointing=True):
        hints.append("gradient checkpointing")
    advice = " or ".join(hints)
    advice = f"train with {advice}" if advice else "train a smaller model, or use more memory"
    return [advice, "without the memory check, it trains anyway"]


def _row_lengths(rows: RowBatches) -> np.ndarray:
    """int64 (R,). The number of tokens of each row; an example may have several."""
    data = rows.data
    if isinstance(rows, PackedBatches) or not isinstance(data, LabelledRows):
        return rows.lengths
    return data.rows.lengths


def _rows_per_example(rows: RowBatches) -> int:
    return rows.data.group if isinstance(rows.data, LabelledRows) else 1


def _predicted(task: Any, rows: RowBatches) -> int:
    """The number of tokens that a masked language model predicts in an epoch."""
    masking = getattr(task, "masking", None)
    if masking is None:
        return 0
    return round(masking.rate * int((rows.data.token_labels != NO_LABEL).sum()))


def _local_replicas(task: Any) -> int:
    if replicas_of(task) == 1:
        return 1
    return len(task.distribute_strategy.extended.worker_devices)


def _dtype(task: Any) -> str:
    return str(task.encoder.blocks[0].dtype_policy.name)


def _duration(seconds: float) -> str:
    """Writes a time for people.

    >>> [_duration(s) for s in (0.0123, 75.0, 7200.0, 200_000.0)]
    ['0.012 s', '75 s', '2 hours', '2.3 days']
    """
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:.2g} s"
