"""The tokenizer and the data of `pretrain`, made from text if they are not given."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.pretraining_data import BuildMeter, count_examples
from keras_bert_zoo.cli.vocabulary import VocabularyMeter
from keras_bert_zoo.data.masking_options import Masking
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.files import read_json
from keras_bert_zoo.pretraining.objectives import pair_objective

if TYPE_CHECKING:
    from keras_bert_zoo.pretraining.dataset import PretrainingData
    from keras_bert_zoo.pretraining.run_length import PhaseOptions

__all__ = [
    "add_data_options",
    "check_data_options",
    "make_data",
    "make_tokenizer",
    "open_data",
]


def add_data_options(parser: Any) -> None:
    """Adds the options of the text, the vocabulary and the shards."""
    parser.add_argument(
        "--train",
        nargs="+",
        metavar="FILE",
        help="text files or patterns in quotes: plain text or JSON Lines, also with .gz or .zst",
    )
    parser.add_argument(
        "--data",
        nargs="+",
        metavar="DIR",
        help="directories that pretraining-data wrote, instead of --train; one for each phase",
    )
    parser.add_argument(
        "--tokenizer",
        metavar="DIR",
        help="tokenizer directory; default: that of --data or --preset, or a new vocabulary",
    )
    group = parser.add_group("text, with --train")
    group.add_argument(
        "--vocabulary-size",
        type=options.positive_int,
        metavar="N",
        help="tokens of a new vocabulary; default: 30,000, or fewer if the text gives no more",
    )
    group.add_argument("--field", help="key of the text in JSON Lines; default: text")
    group.add_argument("--encoding", default="utf-8", help="the files' encoding")
    group.add_argument(
        "--documents",
        choices=("blank-line", "file", "line"),
        default="blank-line",
        help="where a document ends",
    )
    group.add_argument(
        "--pack-examples",
        action="store_true",
        help="put several short documents into a row; none sees another one",
    )
    group.add_argument(
        "--heldout",
        type=options.open_share,
        default=0.01,
        metavar="F",
        help="share of the documents to evaluate on",
    )
    group.add_argument(
        "--processes",
        type=options.positive_int,
        default=1,
        metavar="N",
        help="processes that make the shards",
    )


def check_data_options(args: argparse.Namespace) -> None:
    """Raises ConfigError or DataError for inputs that are missing or contradict each other."""
    if bool(args.train) == bool(args.data):
        raise ConfigError("expected --train FILES or --data DIR, one of the two")
    if args.train and args.strategy == "multi-worker":
        raise ConfigError(
            "--strategy multi-worker needs --data, which all workers read; make it with "
            "pretraining-data"
        )
    if args.train:
        from keras_bert_zoo.pretraining.corpus import corpus_files

        corpus_files(args.train)
    if args.data and args.tokenizer:
        raise ConfigError("--data has its own tokenizer, received --tokenizer, too; leave it out")
    pairs = pair_objective(args.objectives)
    if args.pack_examples and (args.data or pairs):
        raise ConfigError(
            "--pack-examples belongs to --train and objectives without pairs, received "
            f"{'--data; pass it to pretraining-data' if args.data else pairs}"
        )
    if args.preset and args.tokenizer:
        raise ConfigError("--preset has its own tokenizer, received --tokenizer, too; leave it out")


def length_of(directory: str) -> int:
    """Reads the maximum length of the examples in a directory, without TensorFlow.

    Raises:
        DataError: the directory has no complete data.
    """
    path = Path(directory) / "dataset.json"
    if not path.is_file():
        raise DataError(
            f"{directory}: expected pretraining data with a dataset.json, received none; make them "
            "with pretraining-data"
        )
    length = read_json(path).get("max_length")
    if not isinstance(length, int):
        raise DataError(f"{path}: expected a number `max_length`, received {length!r:.60}")
    return length


def work_directory(args: argparse.Namespace) -> Path:
    """The directory of what the command makes on the way."""
    return Path(f"{args.output.rstrip('/')}.pretraining")


def make_tokenizer(args: argparse.Namespace, out: TextIO) -> Any:
    """Returns the tokenizer of --data, --preset or --tokenizer, or trains a vocabulary.

    Without --resume, an earlier one of the same output is replaced.
    """
    from keras_bert_zoo.text.tokenizer import Tokenizer

    if args.data:
        from keras_bert_zoo.pretraining.dataset import PretrainingData

        return PretrainingData.open(args.data[0]).tokenizer()
    if args.preset or args.tokenizer:
        return Tokenizer.from_preset(args.preset or args.tokenizer)
    from keras_bert_zoo.pretraining.corpus import corpus_files
    from keras_bert_zoo.pretraining.vocabulary import train_tokenizer

    directory = work_directory(args) / "tokenizer"
    if directory.is_dir():
        if args.resume:
            print(f"vocabulary: {directory}", file=out, flush=True)
            return Tokenizer.from_preset(directory)
        shutil.rmtree(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(VocabularyMeter(sys.stderr, len(corpus_files(args.train)))) as meter:
        tokenizer = train_tokenizer(
            args.train, directory, family=args.family, vocabulary_size=args.vocabulary_size,
            text_field=args.field, encoding=args.encoding, documents=args.documents,
            max_length=args.longest, seed=args.seed, progress=meter,
        )  # fmt: skip
    print(f"vocabulary: {tokenizer.vocabulary_size:,} tokens, {directory}", file=out, flush=True)
    return tokenizer


def open_data(args: argparse.Namespace, phases: Sequence[PhaseOptions]) -> list[PretrainingData]:
    """Opens the directories of --data, one for each phase.

    Raises:
        ConfigError: they do not fit the phases or the objectives.
    """
    from keras_bert_zoo.pretraining.dataset import PretrainingData

    pairs = pair_objective(args.objectives)
    data = [PretrainingData.open(directory) for directory in args.data]
    if len(data) not in (1, len(phases)):
        raise ConfigError(
            f"expected one --data directory, or one for each of {len(phases)} phases, received "
            f"{len(data)}"
        )
    data = data * len(phases) if len(data) == 1 else data
    for part, phase in zip(data, phases, strict=True):
        if pairs not in (None, part.pairs):
            raise ConfigError(
                f"{part.directory}: expected examples with pairs of {pairs}, received "
                f"{part.pairs!r}; build them with pretraining-data --pairs "
                f"{pairs}"
            )
        if part.static_masks and Masking.from_options(args) != Masking():
            raise ConfigError(
                f"{part.directory}: expected no options of masks for examples with static masks, "
                "received some: leave them out, or build the data without --static-masks"
            )
        if part.max_length > phase.max_length:
            raise ConfigError(
                f"{part.directory}: expected examples of at most {phase.max_length} tokens, as "
                f"--phases or --max-length has it, received {part.max_length}"
            )
    return data


def make_data(
    args: argparse.Namespace, phases: Sequence[PhaseOptions], tokenizer: Any, out: TextIO
) -> list[PretrainingData]:
    """Returns the data of each phase: those of --data, or made from --train.

    Raises:
        ConfigError: see `open_data`.
    """
    from keras_bert_zoo.pretraining.dataset import PretrainingData

    if args.data:
        return open_data(args, phases)
    from keras_bert_zoo.pretraining.build import build_pretraining_data

    result: list[PretrainingData] = []
    for phase in phases:
        directory = work_directory(args) / f"data-{phase.max_length}"
        complete = (directory / "dataset.json").is_file()
        if directory.is_dir() and not args.resume:
            shutil.rmtree(directory)
            complete = False
        if complete:
            made = PretrainingData.open(directory)
        else:
            with contextlib.closing(BuildMeter(sys.stderr)) as meter:
                made = build_pretraining_data(
                    args.train, directory, tokenizer=tokenizer, max_length=phase.max_length,
                    pairs=pair_objective(args.objectives) or "none", text_field=args.field,
                    encoding=args.encoding, documents=args.documents, heldout=args.heldout,
                    pack_examples=args.pack_examples, processes=args.processes, seed=args.seed,
                    progress=meter,
                )  # fmt: skip
        tokens = sum(shard.tokens for shard in made.train)
        print(
            f"data: {count_examples(made.statistics['train'])} of at most {phase.max_length} "
            f"tokens, {tokens:,} tokens, {directory}",
            file=out,
            flush=True,
        )
        result.append(made)
    return result
