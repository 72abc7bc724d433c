"""The options of `pretrain` and their checks, without TensorFlow."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.masking_options import add_masking_options
from keras_bert_zoo.cli.monitoring import check_monitoring_options
from keras_bert_zoo.cli.pretraining_inputs import check_data_options, length_of
from keras_bert_zoo.cli.training_options import check_batch_options, check_distribution_options
from keras_bert_zoo.data.masking_options import Masking
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.files import SIDE_FILE, read_json
from keras_bert_zoo.pretraining.objectives import OBJECTIVES, check_objectives, head_kinds
from keras_bert_zoo.pretraining.run_length import PhaseOptions, parse_phases
from keras_bert_zoo.pretraining.sizes import ELECTRA_RATE, FAMILIES, LEARNING_RATE, SIZES

__all__ = [
    "BATCH_SIZE",
    "add_length_options",
    "add_model_options",
    "add_objective_options",
    "check_options",
]

_DEFAULT_OBJECTIVES = {"electra": ["masked_lm", "replaced_token_detection"]}
BATCH_SIZE = 32


def add_model_options(group: Any) -> None:
    """Adds the options of the model."""
    group.add_argument(
        "--preset", metavar="NAME_OR_DIR", help="go on from a pretrained model, with its tokenizer"
    )
    group.add_argument(
        "--new-head",
        action="store_true",
        help="with --preset: start heads that it does not have with fresh weights",
    )
    group.add_argument("--family", choices=FAMILIES, default="bert", help="encoder family")
    group.add_argument(
        "--size",
        choices=tuple(SIZES),
        help="layers and width: "
        + ", ".join(f"{name} {s.num_layers}/{s.hidden_dim}" for name, s in SIZES.items()),
    )
    group.add_argument(
        "--encoder-config", metavar="FILE", help="config.json of an encoder, instead of --size"
    )


def add_objective_options(group: Any) -> None:
    """Adds the options of the objectives and the masks."""
    group.add_argument(
        "--objectives",
        type=options.comma_separated,
        metavar="NAME,...",
        help=f"the objectives: {', '.join(OBJECTIVES)}; default: those that --preset was "
        "pretrained with, or masked_lm, and for a new ELECTRA also replaced_token_detection",
    )
    group.add_argument(
        "--generator",
        metavar="DIR",
        help="with --preset and replaced_token_detection: the generator; default: the folder "
        "generator of the preset",
    )
    group.add_argument(
        "--generator-size",
        type=options.positive_share,
        metavar="F",
        help="width of a new generator, as a share of the encoder's; default: 0.25",
    )
    add_masking_options(group)


def add_length_options(group: Any) -> None:
    """Adds the options of the phases and the length of the run."""
    group.add_argument("--steps", type=options.positive_int, help="steps of the run")
    group.add_argument(
        "--tokens", type=options.positive_int, help="tokens to read, instead of --steps"
    )
    group.add_argument(
        "--budget-minutes",
        type=options.positive_float,
        metavar="M",
        help="minutes of training, instead of --steps; the learning rate decays to the end",
    )
    group.add_argument(
        "--max-length",
        type=options.positive_int,
        help="tokens of an example; default: 128, or that of --data",
    )
    group.add_argument(
        "--phases",
        metavar="LENGTH:SHARE[:BATCH],...",
        help="lengths, shares of the steps and batch sizes of phases: 128:0.9:256,512:0.1:64",
    )
    group.add_argument(
        "--batch-size", type=options.positive_int, help=f"examples per step; default: {BATCH_SIZE}"
    )
    group.add_argument(
        "--tokens-per-batch",
        type=options.positive_int,
        metavar="N",
        help="mean number of tokens per step, instead of --batch-size",
    )
    group.add_argument(
        "--evaluate-every",
        type=options.positive_int,
        metavar="STEPS",
        help="steps between evaluations on the held-out examples; default: a tenth of the run",
    )


def check_options(args: argparse.Namespace) -> list[PhaseOptions]:
    """Checks all options without TensorFlow; returns the phases."""
    Masking.from_options(args)
    family = _family(args)
    default = _saved_objectives(args.preset) if args.preset else _DEFAULT_OBJECTIVES.get(family)
    args.objectives = args.objectives or default or ["masked_lm"]
    check_objectives(args.objectives)
    if family in FAMILIES:
        head_kinds(family, args.objectives)
    if "replaced_token_detection" not in args.objectives and (
        args.generator or args.generator_size
    ):
        raise ConfigError(
            "--generator and --generator-size belong to the objective replaced_token_detection, "
            f"received --objectives {','.join(args.objectives)}"
        )
    if args.generator and not args.preset:
        raise ConfigError("--generator needs --preset, which shares its embeddings")
    if args.generator and args.generator_size:
        raise ConfigError("expected --generator or --generator-size, received both")
    given = [bool(args.preset), bool(args.encoder_config), bool(args.size)]
    if sum(given) != 1:
        raise ConfigError(
            "expected --size, --encoder-config or --preset, one of the three, received "
            f"{'none' if not any(given) else 'several'}"
        )
    if args.learning_rate is None:
        args.learning_rate = SIZES[args.size].learning_rate if args.size else LEARNING_RATE
        if "replaced_token_detection" in args.objectives:
            args.learning_rate = min(args.learning_rate, ELECTRA_RATE)
    lengths = [bool(args.steps), bool(args.tokens), bool(args.budget_minutes)]
    if sum(lengths) != 1:
        raise ConfigError(
            "expected --steps, --tokens or --budget-minutes, one of the three, received "
            f"{'none' if not any(lengths) else 'several'}"
        )
    check_data_options(args)
    check_batch_options(args)
    check_distribution_options(args)
    check_monitoring_options(args)
    if args.tokens_per_batch and (args.batch_size or args.per_replica_batch_size):
        raise ConfigError("expected --tokens-per-batch or --batch-size, received both")
    if args.tokens_per_batch and (args.jit_compile or args.strategy == "tpu"):
        raise ConfigError("--tokens-per-batch has no static shapes; pass --batch-size")
    phases = _phases(args)
    args.longest = max(phase.max_length for phase in phases)
    if args.budget_minutes and len(phases) > 1:
        raise ConfigError("--phases needs --steps or --tokens, received --budget-minutes")
    if args.budget_minutes and args.schedule == "inverse_sqrt":
        raise ConfigError("--budget-minutes needs a --schedule that ends, received inverse_sqrt")
    if args.budget_minutes and args.layer_decay != 1:
        raise ConfigError("--layer-decay needs --steps or --tokens, received --budget-minutes")
    if args.budget_minutes and args.strategy == "multi-worker":
        raise ConfigError(
            "--budget-minutes needs one clock, received several workers; pass --steps"
        )
    return phases


def _saved_objectives(preset: str) -> list[str] | None:
    """The objectives that a directory of `pretrain` was trained with."""
    side = Path(preset) / SIDE_FILE
    names = read_json(side).get("objectives") if side.is_file() else None
    return [str(name) for name in names] if isinstance(names, list) else None


def _family(args: argparse.Namespace) -> str:
    """The family of a new encoder; "" with --preset."""
    if args.preset:
        return ""
    if args.encoder_config:
        return str(read_json(args.encoder_config).get("model_type", ""))
    return str(args.family)


def _phases(args: argparse.Namespace) -> list[PhaseOptions]:
    if args.phases and args.max_length:
        raise ConfigError("expected --phases or --max-length, received both; leave one out")
    if args.phases:
        return parse_phases(args.phases)
    # Without TensorFlow; the other checks of the data follow when they are opened.
    longest = max(map(length_of, args.data)) if args.data else 128
    return [PhaseOptions(args.max_length or longest, 1.0)]
