"""Options and the final report that the commands with a training share."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.columns import show_next
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training.packing_options import check_packing
from keras_bert_zoo.training.tricks.options import (
    ADVERSARIAL,
    CRF_OR_NESTED,
    Tricks,
    check_tricks,
)

if TYPE_CHECKING:
    from keras_bert_zoo.cli.tasks.base import TaskCommand
    from keras_bert_zoo.config import EncoderConfig


def add_validation_options(parser: Any) -> None:
    """Adds the options for validation data."""
    parser.add_argument(
        "--dev", metavar="FILE", help="validation data, which selects the best epoch"
    )
    parser.add_argument(
        "--dev-fraction",
        metavar="F",
        type=options.open_share,
        help="fraction of --train to hold out for validation instead, stratified by label",
    )


def add_schedule_options(
    group: Any,
    *,
    epochs: int | None,
    batch_size: int | str,
    learning_rate: float | None,
    patience: bool = True,
) -> None:
    """Adds the options for the length of a training.

    The parsed batch size is None by default; see `set_batch_size`.

    Args:
        group: of the parser.
        epochs: int. The default.
        batch_size: int, the default; or str, its description.
        learning_rate: float. The default.
        patience: bool. Whether validation data may end the training.
    """
    group.add_argument(
        "--epochs", type=options.positive_int, default=epochs, help="number of passes over --train"
    )
    group.add_argument(
        "--batch-size",
        type=options.positive_int,
        help=f"examples per step; default: {batch_size}",
    )
    group.add_argument(
        "--learning-rate",
        type=options.positive_float,
        default=learning_rate,
        help="peak learning rate",
    )
    if patience:
        group.add_argument(
            "--patience",
            type=options.positive_int,
            help="epochs without improvement on the validation data before training stops; "
            "default: never",
        )


def add_optimizer_options(group: Any) -> None:
    """Adds the options of the optimizer and its schedule; see `Task.fit`."""
    group.add_argument(
        "--warmup-fraction",
        type=options.share,
        default=0.1,
        help="fraction of the steps with a rising learning rate; then it decays, see --schedule",
    )
    group.add_argument(
        "--weight-decay",
        type=options.non_negative_float,
        default=0.01,
        help="weight decay; biases and LayerNorm have none",
    )
    group.add_argument(
        "--optimizer",
        choices=("adamw", "lamb", "adafactor", "lion", "muon"),
        default="adamw",
        help="optimizer",
    )
    group.add_argument(
        "--schedule",
        choices=("linear", "cosine", "polynomial", "constant", "inverse_sqrt"),
        default="linear",
        help="decay of the learning rate after the warm-up",
    )
    group.add_argument(
        "--layer-decay",
        type=options.share,
        default=1.0,
        metavar="F",
        help="factor of the learning rate from each layer to the one below it",
    )
    group.add_argument(
        "--average-weights",
        action="store_true",
        help="end with the exponential moving average of the weights",
    )
    group.add_argument(
        "--clip-norm",
        type=options.non_negative_float,
        default=1.0,
        help="maximum global norm of the gradients; 0: no clipping",
    )


def add_distribution_options(group: Any) -> None:
    """Adds the options for several devices and machines; see `training.strategies`."""
    group.add_argument(
        "--strategy",
        choices=("default", "mirrored", "multi-worker", "tpu"),
        default="default",
        help="mirrored: all GPUs of this machine; multi-worker: several machines; tpu: TPUs",
    )
    group.add_argument(
        "--replicas",
        type=options.positive_int,
        metavar="N",
        help="with --strategy mirrored and without GPUs: N parts of the CPU",
    )
    group.add_argument(
        "--workers",
        metavar="HOST:PORT,...",
        help="with --strategy multi-worker: the addresses of all workers, in the same order on "
        "each; default: those of the environment variable TF_CONFIG",
    )
    group.add_argument(
        "--worker-index",
        type=options.non_negative_int,
        metavar="I",
        help="the place of this process among --workers, from 0",
    )
    group.add_argument(
        "--tpu",
        metavar="NAME",
        help="with --strategy tpu: the name or address of the TPU; default: local, on a TPU VM",
    )
    group.add_argument(
        "--jit-compile",
        action="store_true",
        help="compile the training step with XLA; all batches are padded to one shape",
    )
    group.add_argument(
        "--per-replica-batch-size",
        type=options.positive_int,
        metavar="N",
        help="examples per step and replica, instead of --batch-size, which is for all replicas",
    )
    group.add_argument(
        "--accumulation-steps",
        type=options.positive_int,
        default=1,
        metavar="N",
        help="parts of a batch that are computed one by one before an update; saves memory",
    )


def add_regularization_options(group: Any) -> None:
    """Adds the options for regularization; see `training.tricks`."""
    group.add_argument(
        "--r-drop",
        type=options.non_negative_float,
        default=0.0,
        metavar="ALPHA",
        help="weight of the divergence of two passes with different dropout; twice the time",
    )
    group.add_argument(
        "--adversarial",
        choices=ADVERSARIAL,
        help="perturb the word embeddings of each text; two to three times the time",
    )
    group.add_argument(
        "--adversarial-epsilon",
        type=options.positive_float,
        metavar="E",
        help="with --adversarial: L2 norm of the perturbation of a text; default: 0.1, smart: 1",
    )
    group.add_argument(
        "--label-smoothing",
        type=options.share_below_one,
        metavar="S",
        help="share of the target probability that is uniform over the labels; default: 0, for "
        "translation 0.1 or as saved",
    )
    group.add_argument(
        "--focal-loss",
        type=options.non_negative_float,
        default=0.0,
        metavar="GAMMA",
        help="exponent of the focal loss, which gives easy examples a small weight",
    )
    group.add_argument(
        "--mixup",
        type=options.non_negative_float,
        default=0.0,
        metavar="ALPHA",
        help="interpolate two texts of a batch and their labels, with shares of Beta(ALPHA, ALPHA)",
    )


def regularization_of(args: argparse.Namespace) -> Tricks:
    """Returns the options of `add_regularization_options`.

    Raises:
        ConfigError: they do not fit the task, or each other.
    """
    given = {field.name: getattr(args, field.name) for field in dataclasses.fields(Tricks)}
    tricks = Tricks(**given | {"label_smoothing": args.label_smoothing or 0.0})
    other = args.task == "token-classification" and (args.crf or args.nested)
    kind = CRF_OR_NESTED if other else args.task
    check_tricks(tricks, kind, flags=True)
    if args.pack_examples:
        check_packing(kind, tricks, probe_epochs=args.probe_epochs, flags=True)
    return tricks


def add_checkpoint_options(group: Any) -> None:
    """Adds the options for checkpoints of a run; see `training.run_checkpoints`."""
    group.add_argument(
        "--checkpoint-every",
        type=options.positive_int,
        metavar="STEPS",
        help="save the run in OUTPUT.checkpoints after every STEPS steps and every epoch",
    )
    group.add_argument(
        "--checkpoint-minutes",
        type=options.positive_float,
        metavar="M",
        help="save the run after every M minutes and every epoch",
    )
    group.add_argument(
        "--keep-checkpoints",
        type=options.positive_int,
        default=2,
        metavar="K",
        help="number of checkpoints to keep; all are deleted when the model is saved",
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="go on from the newest checkpoint with the same command; without one, start",
    )


def add_plan_options(group: Any) -> None:
    """Adds the options for the plan of a run; see `training.plan`."""
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="print the steps, memory and time of the run, and train nothing",
    )


def add_memory_option(group: Any) -> None:
    """Adds the option that turns the check of the memory off; see `training.plan`."""
    group.add_argument(
        "--memory-check",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="refuse a run that cannot fit into the memory",
    )


def make_checkpoints(args: argparse.Namespace) -> Any:
    """Returns the Checkpoints of the options, or None without any of them."""
    if not (args.resume or args.checkpoint_every or args.checkpoint_minutes):
        return None
    from keras_bert_zoo.training.checkpoints import Checkpoints

    return Checkpoints(
        f"{args.output.rstrip('/')}.checkpoints",
        every_steps=args.checkpoint_every,
        every_minutes=args.checkpoint_minutes,
        keep=args.keep_checkpoints,
    )


def strategy_of(args: argparse.Namespace) -> Any:
    """Returns the tf.distribute strategy of the options."""
    from keras_bert_zoo.training.strategies import make_strategy

    return make_strategy(
        args.strategy,
        replicas=args.replicas,
        workers=args.workers.split(",") if args.workers else (),
        worker_index=args.worker_index,
        tpu=args.tpu,
    )


def set_batch_size(args: argparse.Namespace, default: int, replicas: int = 1) -> None:
    """Sets `args.batch_size`, the examples per step of all replicas."""
    per_replica = getattr(args, "per_replica_batch_size", None)
    args.batch_size = per_replica * replicas if per_replica else args.batch_size or default


def preset_config(args: argparse.Namespace) -> tuple[dict[str, Any], EncoderConfig]:
    """Reads the config of `args.preset`, and checks `args.max_length` against it.

    Returns:
        config.json, and the encoder's part of it.
    """
    from keras_bert_zoo.checkpoints.config_file import read_config
    from keras_bert_zoo.config import EncoderConfig
    from keras_bert_zoo.presets.resolve import find_preset

    raw = read_config(find_preset(args.preset))
    encoder = raw["encoder"] if isinstance(raw.get("encoder"), dict) else raw
    config = EncoderConfig.from_huggingface(encoder, ignore=args.ignore_config_keys)
    if args.max_length and not 3 <= args.max_length <= config.max_sequence_length:
        raise ConfigError(
            f"expected --max-length from 3 to {config.max_sequence_length}, the maximum length "
            f"of {args.preset}, received {args.max_length}"
        )
    return raw, config


def layout_options(args: argparse.Namespace) -> dict[str, str]:
    """Returns the options of a task whose batches have static shapes, for XLA and TPUs."""
    return {"token_layout": "padded"} if args.jit_compile or args.strategy == "tpu" else {}


def check_distribution_options(args: argparse.Namespace) -> None:
    """Raises ConfigError for options that one of the strategies does not allow."""
    if args.tpu and args.strategy != "tpu":
        raise ConfigError(f"--tpu needs --strategy tpu, received --strategy {args.strategy}")
    if args.strategy == "tpu":
        if args.dtype == "float16":
            raise ConfigError("--strategy tpu needs --dtype bfloat16 or float32, received float16")
        if args.dry_run:
            raise ConfigError("--dry-run measures this machine, and not a TPU; leave one out")
    if args.dry_run and args.task == "translation":
        raise ConfigError("--dry-run does not count the decoder of a translation; leave it out")
    if args.probe_epochs and args.strategy in ("multi-worker", "tpu"):
        raise ConfigError(f"--probe-epochs is not possible with --strategy {args.strategy}")
    several = args.strategy == "multi-worker" or (args.replicas or 1) > 1
    if args.jit_compile and several:
        raise ConfigError("--jit-compile needs one device, received several replicas; leave it out")


def check_validation_options(args: argparse.Namespace) -> None:
    """Raises ConfigError if the options of this module contradict each other."""
    if args.dev and args.dev_fraction:
        raise ConfigError("expected --dev or --dev-fraction, received both; leave one out")
    if args.patience and not (args.dev or args.dev_fraction):
        raise ConfigError("--patience needs validation data; pass --dev or --dev-fraction")


def check_batch_options(args: argparse.Namespace) -> None:
    """Raises ConfigError if the batch size is given twice."""
    if args.batch_size and args.per_replica_batch_size:
        raise ConfigError(
            "expected --batch-size or --per-replica-batch-size, received both; leave one out"
        )


def report_plan(
    args: argparse.Namespace, command: TaskCommand, task: Any, train: Any, dev: Any
) -> None:
    """Prints the plan of a run that --dry-run asks for.

    Args:
        args: with the options of this module.
        command: the task's command.
        task: the task to train.
        train: training data.
        dev: validation data, or None.
    """
    from keras_bert_zoo.training.plan import plan_training
    from keras_bert_zoo.training.strategies import is_chief

    plan = plan_training(
        task,
        train,
        batch_size=args.batch_size,
        epochs=args.epochs,
        seed=args.seed,
        accumulation_steps=args.accumulation_steps,
        gradient_checkpointing=args.gradient_checkpointing,
        optimizer=args.optimizer,
        average_weights=args.average_weights,
        keeps_best=dev is not None,
        static_shapes=args.jit_compile,
        pack_examples=args.pack_examples,
        tricks=regularization_of(args),
    )
    if not is_chief(task.distribute_strategy):
        return
    if args.json:
        counts = {"examples": len(train), "held_out": 0 if dev is None else len(dev)}
        print(json.dumps(counts | plan.to_dict()))
        return
    held_out = f", {len(dev):,} held out" if dev is not None else ""
    print(f"would train on {len(train):,} {command.unit}{held_out}, {plan.dtype}")
    for line in plan.lines():
        print(line)


def report_training(args: argparse.Namespace, command: TaskCommand, task: Any, dev: Any) -> None:
    """Measures a saved task on the validation data, and prints the figures and the next commands.

    Args:
        args: `json` and `output`.
        command: the task's command.
        task: the trained task.
        dev: validation data, or None.
    """
    report = task.report(dev) if dev is not None and command.measures(dev) else None
    if args.json:
        values = None
        if report is not None:
            values = {k: v for k, v in report.to_dict().items() if isinstance(v, int | float)}
        # The curves are in the saved directory.
        record = {n: v for n, v in task.training_record.items() if n != "curves"}
        print(json.dumps({"output": args.output, "dev": values, "training": record}))
        return
    if report is not None:
        numbers = ", ".join(
            f"{name.replace('_', ' ')} {value:.4f}"
            for name, value in report.to_dict().items()
            if isinstance(value, float)
        )
        print(f"held-out data ({len(dev):,} {command.unit}): {numbers}")
    show_next(args.output, predict=command.predict_hint(args))
