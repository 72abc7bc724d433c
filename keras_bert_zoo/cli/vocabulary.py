"""keras-bert-zoo vocabulary: trains a tokenizer on text files."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TextIO

from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.messages import show
from keras_bert_zoo.cli.options import Parser
from keras_bert_zoo.cli.status_line import StatusLine

DESCRIPTION = """\
Train a vocabulary on text files, in any language: WordPiece (BERT), byte-level BPE (RoBERTa) or
SentencePiece unigram (ALBERT, XLM-R). The output is a tokenizer directory in Hugging Face's format.
Needs the extra `pretraining`."""

EXAMPLES = """
  keras-bert-zoo vocabulary --texts 'wiki/**/*.txt.gz' --output runs/tokenizer
  keras-bert-zoo vocabulary --texts pages.jsonl --field body --family roberta \\
      --vocabulary-size 50265 --output runs/tokenizer
  keras-bert-zoo vocabulary --texts zh.txt --kind unigram --no-lowercase --output runs/tokenizer
"""

_STAGES = {
    "characters": "counting characters",
    "words": "counting words",
    "text": "reading",
    "training": "training",
}


def add_arguments(parser: Parser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "--texts",
        nargs="+",
        required=True,
        metavar="FILE",
        help="files or patterns in quotes: plain text or JSON Lines, also with .gz or .zst",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="directory to write")
    group = parser.add_group("vocabulary")
    group.add_argument(
        "--kind", metavar="KIND", help="wordpiece, byte_bpe or unigram; default: of the family"
    )
    group.add_argument(
        "--family",
        metavar="NAME",
        help="encoder family, which sets special tokens and normalization; default: bert, roberta "
        "or albert, by --kind",
    )
    group.add_argument(
        "--vocabulary-size",
        type=options.positive_int,
        metavar="N",
        help="tokens; default: 30,000, or fewer if the text gives no more",
    )
    group.add_argument(
        "--lowercase",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="lowercase the text; default: of the family",
    )
    group.add_argument(
        "--strip-accents",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="remove accents; default: as --lowercase for BERT, always for ALBERT",
    )
    group.add_argument(
        "--special-tokens", nargs="+", default=(), metavar="TOKEN", help="further special tokens"
    )
    group.add_argument(
        "--max-length", type=options.positive_int, default=512, help="longest input of the model"
    )
    group = parser.add_group("training")
    group.add_argument(
        "--min-frequency",
        type=options.positive_int,
        help="smallest count of a merged pair; default: 2 (wordpiece, byte_bpe)",
    )
    group.add_argument(
        "--character-coverage",
        type=options.share,
        help="share of the characters of the text in the vocabulary; default: 0.9999 for "
        "wordpiece, 0.9995 for unigram",
    )
    group.add_argument(
        "--limit-alphabet",
        type=options.positive_int,
        help="largest number of characters; default: no limit (wordpiece)",
    )
    group.add_argument(
        "--sample-lines",
        type=options.positive_int,
        help="largest number of lines to train on; default: 1,000,000 (unigram)",
    )
    group.add_argument("--seed", type=options.seed_int, default=0, help="seed of the sample")
    group = parser.add_group("format of the texts")
    group.add_argument("--field", help="key of the text in JSON Lines; default: text")
    group.add_argument("--encoding", default="utf-8", help="the files' encoding")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    from keras_bert_zoo.cli.output import check_output
    from keras_bert_zoo.pretraining.vocabulary_options import VocabularyOptions

    check_output(args.output)
    chosen = {
        name: getattr(args, name)
        for name in (
            "kind", "family", "vocabulary_size", "lowercase", "strip_accents", "min_frequency",
            "limit_alphabet", "character_coverage", "special_tokens", "max_length",
            "sample_lines", "seed", "encoding",
        )
    } | {"text_field": args.field}  # fmt: skip
    checked = VocabularyOptions.checked(args.texts, **chosen)

    from keras_bert_zoo.cli.runtime import start_tensorflow

    start_tensorflow(verbose=args.verbose)

    from keras_bert_zoo.pretraining.vocabulary import train_tokenizer

    meter = VocabularyMeter(sys.stderr, len(checked.files))
    try:
        tokenizer = train_tokenizer(args.texts, args.output, progress=meter, **chosen)
    finally:
        meter.close()
    figures = {
        "path": args.output,
        "kind": checked.kind,
        "family": checked.family,
        "vocabulary_size": tokenizer.vocabulary_size,
        "files": len(checked.files),
        "characters": meter.characters,
    }
    if args.json:
        print(json.dumps(figures))
        return 0
    show(
        f"{tokenizer.vocabulary_size:,} tokens ({checked.kind}, {checked.family}) from "
        f"{meter.characters:,} characters, in {args.output}"
    )
    return 0


class VocabularyMeter:
    """Counts the characters that were read, and shows the progress.

    Args:
        stream: where to write.
        files: int. The number of files.
    """

    def __init__(self, stream: TextIO, files: int) -> None:
        self.characters = 0
        self._files = files
        self._line = StatusLine(stream)

    def __call__(self, stage: str, characters: int, files: int) -> None:
        """Shows what is read; see `vocabulary.train_tokenizer`."""
        self.characters = max(self.characters, characters)
        if not self._line.is_due(stage):
            return
        text = _STAGES[stage]
        if characters:
            rate = characters / 1e6 / self._line.seconds
            text += (
                f": {files} of {self._files} files, {characters / 1e6:,.1f} million characters, "
                f"{rate:.1f} million/s"
            )
        self._line.show(text)

    def close(self) -> None:
        """Ends the line on a terminal."""
        self._line.close()
