"""The plan that --dry-run of `pretrain` prints."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

from keras_bert_zoo.cli.pretraining_inputs import open_data
from keras_bert_zoo.pretraining.run_length import (
    PhaseOptions,
    steps_for_tokens,
    steps_of_phases,
)

__all__ = ["report_plan", "sizes_of_phases"]


def sizes_of_phases(args: argparse.Namespace, phases: Sequence[PhaseOptions]) -> list[int | None]:
    """Returns the examples per step of each phase; None with --tokens-per-batch.

    By default, each phase has the tokens per step of the first one.
    """
    if args.tokens_per_batch:
        return [None] * len(phases)
    first = phases[0].batch_size or args.batch_size
    return [
        phase.batch_size or max(1, first * phases[0].max_length // phase.max_length)
        for phase in phases
    ]


def report_plan(
    args: argparse.Namespace, phases: Sequence[PhaseOptions], build: Callable[[Any], Any]
) -> int:
    """Prints the plan of a run; it makes no vocabulary and no shards.

    Without --data, all examples are as long as possible.

    Args:
        args: the parsed arguments.
        phases: the phases of the run.
        build: makes the task from a tokenizer.

    Returns:
        the exit status.
    """
    import numpy as np

    from keras_bert_zoo.pretraining.planning import plan_lines, plan_phase
    from keras_bert_zoo.pretraining.reading import RecordBatches, sample_lengths
    from keras_bert_zoo.training.strategies import is_chief

    data = open_data(args, phases) if args.data else []
    task = build(data[0].tokenizer() if data else _tokenizer(args))
    if data:
        samples = [sample_lengths(RecordBatches(data=part, batch_size=64)) for part in data]
    else:
        samples = [np.full(1, phase.max_length) for phase in phases]
    rows, per_step = [], []
    for size, sample in zip(sizes_of_phases(args, phases), samples, strict=True):
        mean = float(sample.mean())
        rows.append(size or max(1, round(args.tokens_per_batch / mean)))
        per_step.append(rows[-1] * mean)
    shares = [phase.share for phase in phases]
    steps = args.steps
    if args.tokens:
        steps = steps_for_tokens(args.tokens, shares, per_step)
    counts: Sequence[int | None] = [None] * len(phases)
    if steps:
        counts = steps_of_phases(steps, shares)
    plans = [
        plan_phase(
            task,
            sample,
            max_length=phase.max_length,
            rows=size,
            steps=count,
            static_shapes=args.jit_compile,
            accumulation_steps=args.accumulation_steps,
            gradient_checkpointing=args.gradient_checkpointing,
            optimizer=args.optimizer,
            average_weights=args.average_weights,
        )
        for phase, sample, size, count in zip(phases, samples, rows, counts, strict=True)
    ]
    if not is_chief(task.distribute_strategy):
        return 0
    if args.json:
        print(json.dumps({"phases": [plan.to_dict() for plan in plans]}))
        return 0
    known = "examples of --data" if data else "examples of the maximum length"
    print(f"would pretrain on {known}, {plans[0].plan.dtype}")
    for line in plan_lines(plans):
        print(line)
    if args.budget_minutes:
        count = int(60 * args.budget_minutes / plans[0].plan.step.seconds)
        print(f"about {count:,} steps, {count * plans[0].tokens:,.0f} tokens in the budget")
    return 0


def _tokenizer(args: argparse.Namespace) -> Any:
    """The given tokenizer, or one of the size of the vocabulary that would be trained."""
    from keras_bert_zoo.pretraining.vocabulary_options import VOCABULARY
    from keras_bert_zoo.text.tokenizer import Tokenizer
    from keras_bert_zoo.text.wordpiece.tokenizer import WordPieceTokenizer

    if args.preset or args.tokenizer:
        return Tokenizer.from_preset(args.preset or args.tokenizer)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return WordPieceTokenizer(
        [*special, *(f"t{n}" for n in range((args.vocabulary_size or VOCABULARY) - 5))]
    )
