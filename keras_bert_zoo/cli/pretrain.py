"""keras-bert-zoo pretrain: pretrains an encoder on text, from scratch or from a preset."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import sys
import threading
from collections.abc import Iterator
from typing import Any, TextIO

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.columns import shell_path
from keras_bert_zoo.cli.failures import training_failures
from keras_bert_zoo.cli.masking_options import MASKING_OPTIONS
from keras_bert_zoo.cli.messages import say, show
from keras_bert_zoo.cli.monitoring import (
    add_monitoring_options,
    monitoring_callbacks,
    saved_files,
    tracked_run,
    write_curves,
)
from keras_bert_zoo.cli.options import Parser
from keras_bert_zoo.cli.output import check_output, check_space, save_model
from keras_bert_zoo.cli.pretraining_inputs import (
    add_data_options,
    make_data,
    make_tokenizer,
    work_directory,
)
from keras_bert_zoo.cli.pretraining_options import (
    BATCH_SIZE,
    add_length_options,
    add_model_options,
    add_objective_options,
    check_options,
)
from keras_bert_zoo.cli.pretraining_plan import report_plan, sizes_of_phases
from keras_bert_zoo.cli.run_begin import begin_run
from keras_bert_zoo.cli.run_end import end_run, is_untrained
from keras_bert_zoo.cli.signals import held_back_signals, name_of, status_of
from keras_bert_zoo.cli.training_options import (
    add_checkpoint_options,
    add_distribution_options,
    add_memory_option,
    add_optimizer_options,
    add_plan_options,
    layout_options,
    make_checkpoints,
)
from keras_bert_zoo.data.masking_options import Masking
from keras_bert_zoo.directories.locking import locked_directory
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.pretraining.run_length import (
    PhaseOptions,
    steps_for_tokens,
    steps_of_phases,
)
from keras_bert_zoo.pretraining.sizes import LEARNING_RATE

DESCRIPTION = """\
Pretrain an encoder on plain text, from scratch (--family and --size, or --encoder-config) or from
a preset (--preset). A vocabulary is trained first, unless a tokenizer is given. The output is a
Hugging Face directory for train and the other commands. The vocabulary and the shards are kept in
OUTPUT.pretraining, where --resume finds them again."""

EXAMPLES = """
  keras-bert-zoo pretrain --family bert --size small --train 'wiki/*.txt' --steps 100000 \\
      --output runs/bert
  keras-bert-zoo pretrain --family albert --size tiny --train news.jsonl.gz --field body \\
      --objectives masked_lm,sentence_order --budget-minutes 30 --output runs/albert
  keras-bert-zoo pretrain --size base --data shards/128 shards/512 --steps 1000000 \\
      --phases 128:0.9:256,512:0.1:64 --checkpoint-every 1000 --output runs/base
  keras-bert-zoo pretrain --preset minilm_l6_en_uncased --train notes.txt --steps 2000 \\
      --output runs/adapted
"""

_RUN_OPTIONS = ("preset", "family", "size", "train", "objectives", "phases", "steps",
                "tokens", "budget_minutes", "batch_size", "tokens_per_batch", "learning_rate",
                "warmup_fraction", "weight_decay", "clip_norm", "optimizer", "schedule", "seed",
                "generator", "generator_size", "pack_examples", *MASKING_OPTIONS,
                "accumulation_steps", "strategy", "jit_compile")  # fmt: skip


def add_arguments(parser: Parser) -> None:
    """Adds the command's options."""
    parser.add_argument("--output", required=True, metavar="DIR", help="directory to write")
    add_data_options(parser)
    add_model_options(parser.add_group("model"))
    add_objective_options(parser.add_group("objectives"))
    add_length_options(parser.add_group("length of the run"))
    group = parser.add_group("training")
    group.add_argument(
        "--learning-rate",
        type=options.positive_float,
        help="peak learning rate; default: 1e-3 for tiny and mini, 5e-4 for small, medium and "
        f"replaced tokens, otherwise {LEARNING_RATE:g}",
    )
    add_optimizer_options(group)
    options.add_dtype_option(group, default="auto")
    group.add_argument("--seed", type=options.seed_int, default=0, help="random seed")
    add_distribution_options(group)
    group.add_argument(
        "--gradient-checkpointing",
        action="store_true",
        help="save memory: compute the encoder's blocks again for the gradient; steps take longer",
    )
    group.add_argument(
        "--data-service",
        metavar="ADDRESS",
        help="a tf.data service that makes the batches: grpc://HOST:PORT of its dispatcher",
    )
    add_memory_option(group)
    options.add_ignore_option(group)
    group = parser.add_group("one run")
    add_checkpoint_options(group)
    add_plan_options(group)
    add_monitoring_options(group)
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object at the end, and the progress to standard error",
    )
    parser.set_defaults(task="pretraining", probe_epochs=0)


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    phases = check_options(args)
    if not args.dry_run:
        check_output(args.output)
    begun = threading.Event()
    with training_failures(begun.is_set), _locked(args):
        return _pretrain(args, phases, begun)


@contextlib.contextmanager
def _locked(args: argparse.Namespace) -> Iterator[None]:
    """Lets one process at a time write an output; the workers of one run share it."""
    if args.dry_run or args.strategy == "multi-worker":
        yield
        return
    with locked_directory(work_directory(args), "another pretraining") as directory:
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # missing, or not empty
                directory.rmdir()


def _pretrain(
    args: argparse.Namespace, phase_options: list[PhaseOptions], begun: threading.Event
) -> int:
    strategy, dtype, out = begin_run(args, BATCH_SIZE)
    import keras

    from keras_bert_zoo.pretraining.phases import Phase, PretrainingPhases, mean_tokens

    if args.dry_run:
        with strategy.scope():
            return report_plan(args, phase_options, lambda tokens: _build(args, tokens, dtype))
    tokenizer = make_tokenizer(args, out)
    keras.utils.set_random_seed(args.seed)
    with strategy.scope():  # before the data, which may take hours
        task = _build(args, tokenizer, dtype)
    check_space(args.output, task)
    data = make_data(args, phase_options, tokenizer, out)
    sizes = sizes_of_phases(args, phase_options)
    phases = [
        Phase(data=part, batch_size=size, tokens_per_batch=args.tokens_per_batch)
        for size, part in zip(sizes, data, strict=True)
    ]
    shares = [phase.share for phase in phase_options]
    steps = args.steps
    if args.tokens:
        per_step = [mean_tokens(phase, args.batch_size) for phase in phases]
        steps = steps_for_tokens(args.tokens, shares, per_step)
    if steps:
        counts = steps_of_phases(steps, shares)
        phases = [
            dataclasses.replace(phase, steps=count)
            for phase, count in zip(phases, counts, strict=True)
        ]
    everything = PretrainingPhases(phases, data_service=args.data_service)
    begin = ", ".join(f"{p.data.max_length} tokens" for p in phases)
    length = f"{steps:,} steps" if steps else f"{args.budget_minutes:g} minutes"
    print(
        f"pretraining for {length}, {begin}, {task.count_params():,} parameters, {dtype}",
        file=out,
        flush=True,
    )
    return _train(args, task, everything, dtype, out, begun)


def _build(args: argparse.Namespace, tokenizer: Any, dtype: str) -> Any:
    from keras_bert_zoo.pretraining.pretrainer import Pretrainer
    from keras_bert_zoo.pretraining.sizes import sized_config

    common: dict[str, Any] = {
        "objectives": tuple(args.objectives), "masking": Masking.from_options(args),
        "max_length": args.longest, "dtype": dtype,
        "generator": args.generator or args.generator_size, **layout_options(args),
    }  # fmt: skip
    if args.preset:
        return Pretrainer.from_preset(
            args.preset, new_head=args.new_head, ignore_config_keys=args.ignore_config_keys,
            **common,
        )  # fmt: skip
    if args.encoder_config:
        from keras_bert_zoo.config import EncoderConfig
        from keras_bert_zoo.files import read_json

        raw = read_json(args.encoder_config)
        config = EncoderConfig.from_huggingface(raw, ignore=args.ignore_config_keys)
        if config.vocabulary_size < tokenizer.vocabulary_size:
            raise ConfigError(
                f"{args.encoder_config}: expected a vocab_size of at least "
                f"{tokenizer.vocabulary_size}, the tokens of the tokenizer, received "
                f"{config.vocabulary_size}"
            )
    else:
        config = sized_config(
            args.family, args.size, vocabulary_size=tokenizer.vocabulary_size,
            pad_token_id=tokenizer.pad_token_id, max_length=args.longest,
        )  # fmt: skip
    return Pretrainer.from_scratch(config, tokenizer, **common)


def _train(
    args: argparse.Namespace,
    task: Any,
    phases: Any,
    dtype: str,
    out: TextIO,
    begun: threading.Event,
) -> int:
    """Trains, saves and reports; returns the exit status."""
    from keras_bert_zoo.pretraining.unigram import UnigramWarning, unigram_loss
    from keras_bert_zoo.training.strategies import is_chief

    strategy = task.distribute_strategy
    last = phases.phases[-1].data
    held_out = last if any(shard.examples for shard in last.heldout) else None
    masked = "masked_lm" in args.objectives
    unigram = unigram_loss(last, task.tokenizer) if held_out and masked else None
    total = phases.total_steps
    every = args.evaluate_every or max(1, math.ceil(total / 10) if total else 500)
    epochs = math.ceil(total / every) if total else _MANY
    options_of_run = {name: getattr(args, name) for name in _RUN_OPTIONS} | {
        "shards": args.data,  # `data` is the hash of the examples
        "dtype": dtype,
    }
    terminal = out.isatty()
    with contextlib.redirect_stdout(out):
        callbacks = monitoring_callbacks(
            args, options_of_run, terminal=terminal, open_end=not total
        )
    if unigram is not None:
        warmup = int(args.warmup_fraction * (total or 0))
        callbacks.append(UnigramWarning(unigram, warmup_steps=warmup))
    interrupt = None
    with tracked_run(callbacks) as run_files:
        with contextlib.redirect_stdout(out):
            interrupt = _fit(args, task, phases, held_out, callbacks, begun, every, epochs)
        if interrupt is not None and is_untrained(task, interrupt):
            say(f"{name_of(interrupt)} before the first step; nothing is saved")
            return status_of(interrupt)
        if is_chief(strategy):
            interrupt = _save(args, task, options_of_run, unigram, interrupt)
            run_files += saved_files(args.output)
    if interrupt:
        return status_of(interrupt)
    figures = {}
    if held_out is not None:
        if args.strategy in ("default", "mirrored"):
            figures = task.report(held_out, batch_size=args.batch_size)
        else:  # they compute only inside their steps
            figures = task.evaluate(
                held_out, batch_size=args.batch_size, verbose=0, return_dict=True
            )
    if is_chief(strategy):
        _report(args, task, figures, unigram)
    end_run(args, strategy)
    return 0


_MANY = 1_000_000  # evaluations of a run that its budget ends


def _fit(
    args: argparse.Namespace,
    task: Any,
    phases: Any,
    held_out: Any,
    callbacks: list[Any],
    begun: threading.Event,
    every: int,
    epochs: int,
) -> KeyboardInterrupt | None:
    """Trains; returns the interrupt that ended it, or None."""
    import keras

    start = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda step, logs: begun.set())
    callbacks = [*callbacks, start]
    if args.budget_minutes:
        callbacks.append(_compile_for_budget(args, task))
        of_optimizer = {}
    else:
        of_optimizer = {
            "learning_rate": args.learning_rate, "warmup_fraction": args.warmup_fraction,
            "weight_decay": args.weight_decay, "global_clipnorm": args.clip_norm or None,
            "optimizer": args.optimizer, "schedule": args.schedule,
            "layer_decay": args.layer_decay, "average_weights": args.average_weights,
            "jit_compile": args.jit_compile,
        }  # fmt: skip
    try:
        task.fit(
            phases,
            validation_data=held_out,
            batch_size=args.batch_size,
            epochs=epochs,
            steps_per_epoch=every,
            seed=args.seed,
            gradient_checkpointing=args.gradient_checkpointing,
            accumulation_steps=args.accumulation_steps,
            checkpoints=make_checkpoints(args),
            resume=args.resume,
            check_memory=args.memory_check,
            callbacks=callbacks,
            verbose=1 if sys.stdout.isatty() else 2,
            **of_optimizer,
        )
    except KeyboardInterrupt as interrupt:
        if sys.stdout.isatty():
            with contextlib.suppress(OSError):  # after SIGHUP the terminal may be closed
                print()  # ends the line of the progress bar
        return interrupt
    begun.set()  # also if the last checkpoint was at the end
    return None


def _compile_for_budget(args: argparse.Namespace, task: Any) -> Any:
    """Compiles a task with a schedule over time; returns the callback that measures it."""
    from keras_bert_zoo.training.optimizers import make_optimizer
    from keras_bert_zoo.training.schedules import BudgetDecay, BudgetTimer

    with task.distribute_strategy.scope():
        schedule = BudgetDecay(
            args.learning_rate,
            budget_seconds=60 * args.budget_minutes,
            warmup_fraction=args.warmup_fraction,
            kind=args.schedule,
        )
        optimizer = make_optimizer(
            args.optimizer,
            schedule,
            weight_decay=args.weight_decay,
            global_clipnorm=args.clip_norm or None,
            use_ema=args.average_weights,
        )
        task.compile(optimizer, jit_compile=args.jit_compile)
    return BudgetTimer(schedule)


def _save(
    args: argparse.Namespace,
    task: Any,
    options_of_run: dict[str, Any],
    unigram: float | None,
    interrupt: KeyboardInterrupt | None,
) -> KeyboardInterrupt | None:
    """Saves the model; returns the interrupt that ended the run, or None."""
    task.training_record = options_of_run | {
        "interrupted": interrupt is not None,
        "unigram_loss": unigram,
        **task.training_record,
    }
    try:
        with held_back_signals():
            save_model(task, args.output)
    except KeyboardInterrupt as late:  # raised after the block: the model is saved
        interrupt = interrupt or late
    write_curves(args, task.training_record)
    if interrupt:
        hint = "; --resume goes on with the run" if make_checkpoints(args) is not None else ""
        say(f"{name_of(interrupt)}; the weights so far are saved in {args.output}{hint}")
    return interrupt


def _report(
    args: argparse.Namespace, task: Any, figures: dict[str, Any], unigram: float | None
) -> None:
    numbers = {name: float(value) for name, value in figures.items()}
    if args.json:
        record = {n: v for n, v in task.training_record.items() if n != "curves"}
        line = {"output": args.output, "heldout": numbers, "unigram_loss": unigram}
        print(json.dumps(line | {"training": record}))
        return
    if numbers:
        shown = ", ".join(f"{n.replace('_', ' ')} {v:.4f}" for n, v in numbers.items())
        print(f"held-out examples: {shown}")
    loss = numbers.get("masked_lm_loss", numbers.get("loss"))
    if unigram is not None and loss is not None:
        print(
            f"masked LM loss {loss:.3f}, {unigram - loss:.3f} below that of a unigram model, "
            f"{unigram:.3f}"
            if loss < unigram
            else f"masked LM loss {loss:.3f}, not below that of a unigram model, {unigram:.3f}"
        )
    if "replaced_token_detection" in args.objectives:
        show(f"the generator, a masked language model: {shell_path(args.output)}/generator")
    show(f"saved in {args.output}; next:")
    show(f"  keras-bert-zoo train --preset {shell_path(args.output)} --train FILE --output DIR")
