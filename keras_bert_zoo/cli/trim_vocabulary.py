"""keras-bert-zoo trim-vocabulary: writes a model with only the tokens of given texts."""

from __future__ import annotations

import argparse
import json
from typing import Any

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.columns import named_flags
from keras_bert_zoo.cli.messages import show
from keras_bert_zoo.cli.options import Parser
from keras_bert_zoo.errors import DataError

DESCRIPTION = """\
Write a smaller model: its vocabulary has only the tokens that occur in a file of texts. Most of a
multilingual model is its token table. Texts of these tokens get the same outputs. SRC is a
directory in Hugging Face's format, a saved model, a catalogued name or hf://owner/name."""

EXAMPLES = """
  keras-bert-zoo trim-vocabulary hf://FacebookAI/xlm-roberta-base xlm-roberta-de --texts wiki.txt.gz
  keras-bert-zoo trim-vocabulary runs/banking77 runs/small --texts train.csv --min-frequency 2
"""

_COMPARED = 32


def add_arguments(parser: Parser) -> None:
    """Adds the command's options."""
    parser.add_argument("source", metavar="SRC", help="directory, catalogued name or handle")
    parser.add_argument("destination", metavar="DST", help="directory to write, missing or empty")
    parser.add_argument(
        "--texts", required=True, metavar="FILE", help="texts like those of the application"
    )
    parser.add_argument(
        "--min-frequency",
        type=options.positive_int,
        default=1,
        metavar="N",
        help="remove tokens that occur fewer than N times in the texts",
    )
    group = parser.add_group("columns and format of the texts")
    group.add_argument("--text", metavar="COLUMN", help="column of the text; default: text")
    options.add_columns_option(group)
    group.add_argument(
        "--format",
        choices=("text", "jsonl", "csv", "tsv"),
        help="default: detected from the name, which may end in .gz; text: one per line",
    )
    options.add_delimiter_option(group)
    group.add_argument("--encoding", help="the file's encoding; default: utf-8")
    options.add_ignore_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    from keras_bert_zoo.cli.output import check_output

    check_output(args.destination)
    with named_flags(argparse.Namespace(text=args.text or "text")):
        texts = _read_texts(args)

    from keras_bert_zoo.cli.runtime import start_tensorflow

    start_tensorflow(verbose=args.verbose)

    from keras_bert_zoo.adaptation.trim import trim_vocabulary

    model = _load(args)
    smaller, tokenizer = trim_vocabulary(
        model, model.tokenizer, texts, min_frequency=args.min_frequency
    )
    figures = {
        "path": args.destination,
        "tokens_before": model.tokenizer.vocabulary_size,
        "tokens": tokenizer.vocabulary_size,
        "weights_before": model.count_params(),
        "weights": smaller.count_params(),
        "largest_difference": _largest_difference(model, smaller, tokenizer, texts),
    }
    smaller.save(args.destination)
    if args.json:
        print(json.dumps(figures))
        return 0
    show(
        f"{figures['tokens_before']:,} -> {figures['tokens']:,} tokens, "
        f"{figures['weights_before']:,} -> {figures['weights']:,} weights, in {args.destination}"
    )
    difference = figures["largest_difference"]
    if difference is None:
        show("compared: none of the first texts has only tokens that remain")
    else:
        show(f"compared: the same hidden states within {difference:.1e}")
    return 0


def _read_texts(args: argparse.Namespace) -> list[str]:
    from keras_bert_zoo.cli.tasks.base import file_format
    from keras_bert_zoo.data.tables import read_table

    table = {n: value for n, value in options.table_options(args).items() if value is not None}
    table.setdefault("format", file_format(args.texts))
    texts: list[str] = read_table(args.texts, label=None, **table).texts
    if not any(text.strip() for text in texts):
        raise DataError(f"{args.texts}: expected texts, but all are empty")
    return texts


def _load(args: argparse.Namespace) -> Any:
    """Loads a saved task, or else the encoder and the heads of a checkpoint."""
    from keras_bert_zoo.presets.headed_model import HeadedModel
    from keras_bert_zoo.presets.resolve import find_preset
    from keras_bert_zoo.presets.sentence_transformers import MODULES_FILE
    from keras_bert_zoo.tasks.files import read_side_file
    from keras_bert_zoo.tasks.registry import load_task

    directory = find_preset(args.source)
    ignored = {"ignore_config_keys": args.ignore_config_keys}
    if "task" in read_side_file(directory) or (directory / MODULES_FILE).exists():
        return load_task(directory, **ignored)
    model = HeadedModel.from_preset(directory, **ignored)
    if model.tokenizer is None:
        raise DataError(f"{args.source}: expected a checkpoint with a tokenizer, received none")
    return model


def _largest_difference(model: Any, smaller: Any, tokenizer: Any, texts: list[str]) -> float | None:
    """Compares the encoders on the first texts whose tokens remain."""
    import numpy as np

    first = [text for text in texts[: 8 * _COMPARED] if text.strip()]
    remaining = set(tokenizer.vocabulary)
    ids = model.tokenizer.tokenize(first).to_list()
    same = [
        text
        for text, row in zip(first, ids, strict=True)
        if all(model.tokenizer.vocabulary[i] in remaining for i in row)
    ][:_COMPARED]
    if not same:
        return None
    length = min(128, model.encoder.config.max_tokens)
    states = [
        each.encoder(own(same, max_length=length))["sequence_output"].numpy()
        for each, own in ((model, model.tokenizer), (smaller, tokenizer))
    ]
    return float(np.abs(states[0] - states[1]).max())
