"""Pretraining data as the batches of a run, whose phases may have other lengths and batch sizes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import tensorflow as tf

from keras_bert_zoo.data.masking import Masking
from keras_bert_zoo.data.pipeline import prefetched_map
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.pretraining.dataset import PretrainingData, hash_tokenizer
from keras_bert_zoo.pretraining.example_batches import (
    BatchColumns,
    ExampleBatches,
    default_buckets,
)
from keras_bert_zoo.pretraining.reading import RecordBatches, sample_lengths
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.training.batch_source import BatchSource
from keras_bert_zoo.training.strategies import on_tpu

__all__ = [
    "Phase",
    "PretrainingPhases",
    "as_phases",
    "batch_source",
    "heldout_source",
    "mean_tokens",
    "phase_source",
]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of a run.

    Args:
        data: PretrainingData.
        steps: int or None. None, for the last phase: to the end of the run.
        batch_size: int or None. Examples per batch; None: that of `fit`.
        tokens_per_batch: int or None. The mean number of tokens of a batch, instead of a number of
            examples.
    """

    data: PretrainingData
    steps: int | None = None
    batch_size: int | None = None
    tokens_per_batch: int | None = None


@dataclass(frozen=True)
class PretrainingPhases:
    """The phases of a run, as data for `Pretrainer.fit`.

    Args:
        phases: Phases, one after the other. With the steps of all, the run ends after them.
        buckets: lengths that batches are padded to; (): the longest row of each batch, and with
            static shapes `example_batches.default_buckets`.
        data_service: str or None. The address of a tf.data service, which makes the batches.

    Raises:
        ConfigError: no phase, a phase before the last one without steps, or other tokenizers.

    Example: `task.fit(PretrainingPhases([Phase(data=short, steps=900, batch_size=256),
    Phase(data=long, steps=100, batch_size=64)]), steps_per_epoch=100, epochs=10)`
    """

    phases: Sequence[Phase]
    buckets: tuple[int, ...] = ()
    data_service: str | None = None

    def __post_init__(self) -> None:
        """Checks the phases."""
        if not self.phases:
            raise ConfigError("expected at least one phase, received none")
        for phase in self.phases:
            for name in ("steps", "batch_size", "tokens_per_batch"):
                value = getattr(phase, name)
                if value is not None and value < 1:
                    raise ConfigError(
                        f"expected `{name}` of a phase to be at least 1, received {value}"
                    )
        if any(phase.steps is None for phase in self.phases[:-1]):
            raise ConfigError("expected `steps` for each phase but the last one, received None")
        first = self.phases[0].data
        for phase in self.phases[1:]:
            if phase.data.tokenizer_hash != first.tokenizer_hash:
                raise ConfigError(
                    f"expected one tokenizer for all phases, received those of {first.directory} "
                    f"and {phase.data.directory}, which differ: build them with the same one"
                )
            if phase.data.pairs != first.pairs:
                raise ConfigError(
                    f"expected the same pairs in all phases, received {first.pairs!r} and "
                    f"{phase.data.pairs!r}: build the data with one kind"
                )
            if (phase.data.examples_per_record > 1) != (first.examples_per_record > 1):
                raise ConfigError(
                    "expected packed examples in all phases or in none, received "
                    f"{first.directory} and {phase.data.directory}, which differ"
                )

    @property
    def total_steps(self) -> int | None:
        """The steps of all phases; None: the run has no end."""
        if self.phases[-1].steps is None:
            return None
        return sum(phase.steps or 0 for phase in self.phases)


def as_phases(x: Any) -> PretrainingPhases | None:
    """Returns the phases that `fit` received, one phase for PretrainingData, or None."""
    if isinstance(x, PretrainingData):
        return PretrainingPhases([Phase(data=x)])
    return x if isinstance(x, PretrainingPhases) else None


def phase_source(
    phases: PretrainingPhases,
    tokenizer: Tokenizer,
    *,
    masking: Masking | None,
    batch_size: int,
    seed: int,
    shuffle: bool = True,
    static: bool = False,
    one_length: bool = False,
) -> BatchSource:
    """Makes the batches of a run.

    Args:
        phases: PretrainingPhases.
        tokenizer: Tokenizer of the task.
        masking: Masking; None: no token is masked.
        batch_size: int. Examples per batch, of phases without a size.
        seed: int.
        shuffle: bool. False: the order of the records.
        static: bool. Whether all shapes of a bucket are static, for XLA.
        one_length: bool. Whether all batches of a phase have its maximum length, for TPUs.

    Returns:
        BatchSource.

    Raises:
        ConfigError: the tokenizer is not that of the data, or an option is not possible.
    """
    _check_tokenizer(phases, tokenizer)
    pieces: list[tuple[RecordBatches, ExampleBatches, int | None]] = []
    for number, phase in enumerate(phases.phases):
        if static and phase.tokens_per_batch is not None:
            raise ConfigError(
                "Expected a number of examples per batch with static shapes, received "
                f"`tokens_per_batch={phase.tokens_per_batch}`: set `batch_size`."
            )
        buckets = tuple(phases.buckets)
        if static:
            longest = phase.data.max_length
            buckets = (longest,) if one_length else buckets or default_buckets(longest)
        # Another seed in each phase: the same data are not read in the same order again.
        own_seed = seed + 1_000_003 * number
        records = RecordBatches(
            data=phase.data,
            batch_size=phase.batch_size or batch_size,
            tokens_per_batch=phase.tokens_per_batch,
            seed=own_seed,
            shuffle=shuffle,
            by_length=shuffle,
        )
        make = ExampleBatches(
            data=phase.data,
            tokenizer=tokenizer,
            masking=masking,
            columns=BatchColumns(buckets, static),
            seed=own_seed,
        )
        pieces.append((records, make, phase.steps))

    def piece_of(step: int) -> tuple[int, int]:
        """The number of the phase of a step, and the step in the phase."""
        for number, (_, _, steps) in enumerate(pieces[:-1]):
            if steps is None or step < steps:
                return number, step
            step -= steps
        return len(pieces) - 1, step

    def batches(step: int) -> list[tuple[tf.data.Dataset, int]]:
        number, step = piece_of(step)
        result = []
        for records, make, steps in pieces[number:]:
            dataset = records.read(step)
            if steps is not None:
                dataset = dataset.take(steps - step)
            result.append((_made(dataset, make, phases.data_service), records.most_rows))
            step = 0
        return result

    def examples_of(step: int) -> list[str]:
        number, step = piece_of(step)
        return pieces[number][0].examples_of(step)

    def check(step: int) -> None:
        number, step = piece_of(step)
        pieces[number][0].check(step)

    first = pieces[0][0]
    total = phases.total_steps
    return BatchSource(
        steps=first.steps if total is None or len(pieces) == 1 else total,
        total_steps=total,
        batch_size=max(records.most_rows for records, _, _ in pieces),
        hash=_hash(phases, masking, shuffle),
        batches=batches,
        one_pass=lambda: _made(first.read(passes=1), pieces[0][1], None),
        examples_of=examples_of,
        check=check,
        lengths=lambda: sample_lengths(max(pieces, key=lambda p: p[0].data.max_length)[0]),
        tokens=first.tokens,
        examples=first.records,
        predicted=0.0 if masking is None else masking.rate,
    )


def heldout_source(
    data: PretrainingData,
    tokenizer: Tokenizer,
    *,
    masking: Masking | None,
    batch_size: int,
    static: bool = False,
) -> BatchSource:
    """Makes the batches of the held-out examples, with the same masks in every pass.

    Args:
        data: PretrainingData.
        tokenizer: Tokenizer of the task.
        masking: Masking; None: no token is masked.
        batch_size: int. Examples per batch.
        static: bool. Whether all shapes are static.

    Returns:
        BatchSource; its `one_pass` has a known cardinality.

    Raises:
        ConfigError: the tokenizer is not that of the data, or no example is held out.
    """
    _check_tokenizer(PretrainingPhases([Phase(data=data)]), tokenizer)
    records = RecordBatches(data=data, heldout=True, batch_size=batch_size, shuffle=False)
    columns = BatchColumns((data.max_length,) if static else (), static)
    make = ExampleBatches(data=data, tokenizer=tokenizer, masking=masking, columns=columns)

    def one_pass() -> tf.data.Dataset:
        dataset = records.read(passes=1)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(records.steps))
        return _made(dataset, make, None)

    return BatchSource(
        steps=records.steps,
        total_steps=records.steps,
        batch_size=batch_size,
        hash=_hash(PretrainingPhases([Phase(data=data)]), masking, False),
        batches=lambda step: [(one_pass().skip(step), batch_size)],
        one_pass=one_pass,
        examples_of=records.examples_of,
        check=records.check,
        lengths=lambda: sample_lengths(records),
        tokens=records.tokens,
        examples=records.records,
    )


def _made(
    dataset: tf.data.Dataset, make: ExampleBatches, data_service: str | None
) -> tf.data.Dataset:
    made = prefetched_map(dataset, make)
    if data_service is None:
        return made
    # OFF: each worker of the service would make all batches, so it must have one worker.
    return made.apply(
        tf.data.experimental.service.distribute(
            tf.data.experimental.service.ShardingPolicy.OFF, data_service
        )
    )


def _check_tokenizer(phases: PretrainingPhases, tokenizer: Tokenizer) -> None:
    data = phases.phases[0].data
    if hash_tokenizer(tokenizer) != data.tokenizer_hash:
        raise ConfigError(
            f"expected the tokenizer of {data.directory} for its examples, received another one: "
            f"make the model with {data.directory / 'tokenizer'}, or build the data again"
        )


def _hash(phases: PretrainingPhases, masking: Masking | None, shuffle: bool) -> str:
    """A hash of all that the batches depend on, but for the batch size and the seed of `fit`."""
    parts: list[Any] = [shuffle, list(phases.buckets), None if masking is None else asdict(masking)]
    for phase in phases.phases:
        data = phase.data
        shards = [asdict(shard) for shard in (*data.train, *data.heldout)]
        parts.append([data.tokenizer_hash, data.options, shards])
        parts.append([phase.steps, phase.batch_size, phase.tokens_per_batch])
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def mean_tokens(phase: Phase, batch_size: int) -> float:
    """Returns the mean number of tokens of a batch of a phase, without padding.

    Args:
        phase: Phase.
        batch_size: int. Examples per batch, for a phase without a size.
    """
    if phase.tokens_per_batch is not None:
        return float(phase.tokens_per_batch)
    examples = sum(shard.examples for shard in phase.data.train)
    tokens = sum(shard.tokens for shard in phase.data.train)
    return (phase.batch_size or batch_size) * tokens / max(examples, 1)


def batch_source(
    task: Any,
    x: Any,
    *,
    masking: Masking | None,
    batch_size: int,
    seed: int = 0,
    shuffle: bool = True,
    heldout: bool = False,
) -> BatchSource | None:
    """Makes the batches of a task, as `TrainingSteps.batch_source` returns them.

    Args:
        task: Task.
        x: PretrainingData or PretrainingPhases; other data give None.
        masking: Masking; None: no token is masked.
        batch_size: int.
        seed: int.
        shuffle: bool.
        heldout: bool. Whether to read the held-out examples; with phases, those of the last one.

    Returns:
        BatchSource or None.

    Raises:
        ConfigError: the examples do not fit the task.
    """
    phases = as_phases(x)
    if phases is None:
        return None
    for phase in phases.phases:
        if phase.data.max_length > task.max_length:
            raise ConfigError(
                f"expected examples of at most {task.max_length} tokens, the `max_length` of this "
                f"{type(task).__name__}, received {phase.data.directory} with "
                f"{phase.data.max_length}"
            )
    options: dict[str, Any] = {
        "masking": masking, "batch_size": batch_size, "static": task.static_shapes,
    }  # fmt: skip
    if heldout:
        return heldout_source(phases.phases[-1].data, task.tokenizer, **options)
    one_length = on_tpu(task.distribute_strategy)
    return phase_source(
        phases, task.tokenizer, seed=seed, shuffle=shuffle, one_length=one_length, **options
    )
