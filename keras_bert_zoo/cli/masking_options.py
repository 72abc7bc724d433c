"""The options of token masking of commands."""

from __future__ import annotations

from typing import Any

from keras_bert_zoo.cli import options

__all__ = ["MASKING_OPTIONS", "add_masking_options"]

MASKING_OPTIONS = (
    "mask_rate", "whole_words", "mask_share", "random_share", "max_ngram", "span_mean",
)  # fmt: skip
"""The names of the parsed arguments."""


def add_masking_options(group: Any) -> None:
    """Adds the options of `Masking`."""
    group.add_argument(
        "--mask-rate", type=options.open_share, default=0.15, help="share of the words to predict"
    )
    group.add_argument(
        "--whole-words", action="store_true", help="mask all tokens of a word together"
    )
    group.add_argument(
        "--mask-share",
        type=options.share,
        default=0.8,
        help="share of the words to predict that become the mask token",
    )
    group.add_argument(
        "--random-share", type=options.share, default=0.1, help="share that become random tokens"
    )
    group.add_argument(
        "--max-ngram",
        type=options.positive_int,
        default=1,
        metavar="N",
        help="mask up to N words in a row, as ALBERT",
    )
    group.add_argument(
        "--span-mean",
        type=options.positive_float,
        metavar="L",
        help="mask spans with a mean of L words, as SpanBERT, which has 5",
    )
