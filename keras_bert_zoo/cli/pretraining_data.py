"""keras-bert-zoo pretraining-data: converts text files to shards of pretraining examples."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from typing import Any, TextIO

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.masking_options import add_masking_options
from keras_bert_zoo.cli.messages import show
from keras_bert_zoo.cli.options import Parser
from keras_bert_zoo.cli.status_line import StatusLine
from keras_bert_zoo.data.masking_options import Masking
from keras_bert_zoo.errors import ConfigError

DESCRIPTION = """\
Convert text files to TFRecord files of pretraining examples, with a tokenizer of `vocabulary` or of
a preset. Memory does not grow with the texts. A build that was interrupted goes on when the same
command is started again. The result does not depend on --processes."""

EXAMPLES = """
  keras-bert-zoo pretraining-data --texts 'wiki/**/*.txt.gz' --tokenizer runs/tokenizer \\
      --output runs/data
  keras-bert-zoo pretraining-data --texts pages.jsonl --field body --tokenizer runs/tokenizer \\
      --pairs next_sentence --max-length 512 --processes 8 --output runs/data512
"""


def add_arguments(parser: Parser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "--texts",
        nargs="+",
        required=True,
        metavar="FILE",
        help="files or patterns in quotes: plain text or JSON Lines, also with .gz or .zst",
    )
    parser.add_argument(
        "--tokenizer",
        required=True,
        metavar="NAME_OR_DIR",
        help="directory of a tokenizer, or a preset",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="directory to write")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace data of other texts or options"
    )
    add_data_arguments(parser)
    parser.add_argument(
        "--processes", type=options.positive_int, default=1, help="processes that work at a time"
    )
    parser.add_argument(
        "--runner",
        metavar="NAME",
        help="run an Apache Beam pipeline, such as on DirectRunner, FlinkRunner or DataflowRunner",
    )
    parser.add_argument(
        "--runner-options",
        metavar="FLAGS",
        help="flags of the pipeline in one string, such as '--direct_num_workers=2 --streaming'",
    )
    parser.add_argument("--seed", type=options.seed_int, default=0, help="seed of random choices")
    parser.add_argument("--json", action="store_true", help="print the description as JSON")


def add_data_arguments(parser: Parser) -> None:
    """Adds the options of examples and of the texts' format."""
    group = parser.add_group("examples")
    group.add_argument(
        "--max-length", type=options.positive_int, default=128, help="tokens of an example"
    )
    group.add_argument(
        "--pairs",
        choices=("none", "next_sentence", "sentence_order"),
        default="none",
        help="segment pairs, for an objective besides the masked tokens",
    )
    group.add_argument(
        "--sentences",
        metavar="HOW",
        help="how lines are split: lines (not at all), rules, or MODULE:FUNCTION of your own; "
        "default: lines without pairs, otherwise rules",
    )
    group.add_argument(
        "--short-share",
        type=options.share,
        help="share of shorter examples; default: 0.1 with pairs, otherwise 0",
    )
    group.add_argument(
        "--crosses-documents",
        action="store_true",
        help="let examples without pairs go on with the next document",
    )
    group.add_argument(
        "--pack-examples",
        action="store_true",
        help="put several short examples without pairs into a record; none sees another one",
    )
    group.add_argument(
        "--copies",
        type=options.positive_int,
        default=1,
        help="how often the texts are divided into examples",
    )
    group.add_argument(
        "--static-masks", action="store_true", help="mask tokens now, not anew in each epoch"
    )
    group.add_argument(
        "--word-boundaries",
        choices=("vocabulary", "spaces", "jieba"),
        default="vocabulary",
        help="where words begin, for masking whole words of languages without spaces",
    )
    add_masking_options(parser.add_group("masks, with --static-masks"))
    group = parser.add_group("files")
    group.add_argument(
        "--heldout", type=options.share, default=0.01, help="share of held-out documents"
    )
    group.add_argument(
        "--shards", type=options.positive_int, help="training files; default: one per 32 MB of text"
    )
    group.add_argument("--compress", action="store_true", help="compress the files with gzip")
    group.add_argument(
        "--documents",
        choices=("blank-line", "file", "line"),
        default="blank-line",
        help="the end of a document in plain text",
    )
    group.add_argument("--field", help="key of the text in JSON Lines; default: text")
    group.add_argument("--encoding", default="utf-8", help="the files' encoding")


def data_options(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the options of `add_data_arguments` as arguments of `build_pretraining_data`."""
    names = (
        "max_length", "pairs", "sentences", "short_share", "crosses_documents", "pack_examples",
        "copies", "word_boundaries", "heldout", "shards", "compress", "documents", "encoding",
    )  # fmt: skip
    masking = Masking.from_options(args) if args.static_masks else None
    chosen = {name: getattr(args, name) for name in names}
    return chosen | {"text_field": args.field, "masking": masking}


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    from keras_bert_zoo.pretraining.beam_options import check_runner
    from keras_bert_zoo.pretraining.corpus import corpus_files
    from keras_bert_zoo.pretraining.word_begins import word_finder

    corpus_files(args.texts)
    if Masking.from_options(args) != Masking() and not args.static_masks:
        raise ConfigError(
            "the options of masks need --static-masks; without it, the tokens are masked while a "
            "model is trained, as the options of pretrain have it"
        )
    word_finder(args.word_boundaries)
    check_runner(args.runner, shlex.split(args.runner_options or ""))

    from keras_bert_zoo.cli.runtime import start_tensorflow

    start_tensorflow(verbose=args.verbose)

    from keras_bert_zoo.pretraining.build import build_pretraining_data
    from keras_bert_zoo.text.tokenizer import Tokenizer

    meter = BuildMeter(sys.stderr)
    try:
        data = build_pretraining_data(
            args.texts,
            args.output,
            Tokenizer.from_preset(args.tokenizer),
            **data_options(args),
            processes=args.processes,
            runner=args.runner,
            runner_options=shlex.split(args.runner_options or ""),
            seed=args.seed,
            overwrite=args.overwrite,
            progress=meter,
        )
    finally:
        meter.close()
    if args.json:
        examples = {
            split: sum(shard.examples for shard in getattr(data, split))
            for split in ("train", "heldout")
        }
        print(json.dumps({"path": args.output, **examples, "statistics": data.statistics}))
        return 0
    for line in describe(data):
        show(line)
    return 0


def describe(data: Any) -> list[str]:
    """Returns the counts of a data set as lines of text."""
    statistics = data.statistics
    lines = [
        (
            f"{statistics['documents']:,} documents of {statistics['files']:,} files, "
            f"{statistics['characters']:,} characters"
        )
    ]
    for split in ("train", "heldout"):
        shards, counts = getattr(data, split), statistics.get(split)
        if not counts:
            continue
        line = (
            f"{split}: {count_examples(counts)} in {len(shards):,} files, "
            f"{counts['new_tokens']:,} tokens"
        )
        if counts["repeated_tokens"]:
            line += f", {counts['repeated_tokens']:,} repeated as random second segments"
        lines.append(line)
        for reason, tokens in sorted(counts["dropped_tokens"].items()):
            lines.append(f"{split}: {tokens:,} tokens dropped ({reason})")
    return lines


def count_examples(counts: dict[str, Any]) -> str:
    """Returns the number of examples as text, with that of the records if they are packed."""
    examples, records = counts["examples"], counts["records"]
    packed = f" in {records:,} rows" if records != examples else ""
    return f"{examples:,} examples{packed}"


class BuildMeter:
    """Shows the progress of a build.

    Args:
        stream: where to write.
    """

    def __init__(self, stream: TextIO) -> None:
        self._line = StatusLine(stream)

    def __call__(self, phase: str, done: int, total: int, characters: int) -> None:
        """Shows what is done; see `build.Progress`."""
        if not self._line.is_due(phase):
            return
        if phase == "text":
            rate = characters / 1e6 / self._line.seconds
            text = f"tokenizing: {characters / 1e6:,.1f} million characters, {rate:.1f} million/s"
            if done:
                text += f", {done / total:.0%} of the files"
        else:
            text = f"writing examples: {done} of {total} files"
        self._line.show(text)

    def close(self) -> None:
        """Ends the line on a terminal."""
        self._line.close()
