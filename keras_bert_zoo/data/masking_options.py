"""The options of token masking, without TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.validation import check_integer, is_number

__all__ = ["LONGEST_RUN", "Masking"]

LONGEST_RUN = 10
"""The most words that are masked together, as in SpanBERT."""


@dataclass(frozen=True)
class Masking:
    """The options of token masking.

    Args:
        rate: float in (0, 1). The share of words to predict; each row has at least one.
        whole_words: bool. Whether all tokens of a word are masked together.
        mask_share: float. The share of the chosen tokens that become the mask token.
        random_share: float. The share that become random tokens; the rest are unchanged.
        max_ngram: int. Up to this number of consecutive words are masked together, as in ALBERT
            (arXiv 1909.11942); 1: words are drawn independently.
        span_mean: float of at least 1, or None. The mean number of words of spans that are masked
            together, as in SpanBERT (arXiv 1907.10529), which has 5; see `length_shares`. All
            tokens of a span become masks, or random tokens, or none does.

    Raises:
        ConfigError: an invalid share or length, or n-grams and spans together.

    Source: arXiv 1810.04805, appendix A.1. Words are drawn independently, as in transformers'
    DataCollatorForLanguageModeling.
    """

    rate: float = 0.15
    whole_words: bool = False
    mask_share: float = 0.8
    random_share: float = 0.1
    max_ngram: int = 1
    span_mean: float | None = None

    def __post_init__(self) -> None:
        """Checks the shares."""
        if not 0.0 < self.rate < 1.0:
            raise ConfigError(f"expected a share of masked words in (0, 1), received {self.rate}")
        parts = (self.mask_share, self.random_share, 1 - self.mask_share - self.random_share)
        if min(parts) < -1e-9:
            raise ConfigError(
                "expected `mask_share` and `random_share` to be at least 0 and at most 1 together, "
                f"received {self.mask_share} and {self.random_share}"
            )
        check_integer("max_ngram", self.max_ngram, minimum=1, maximum=LONGEST_RUN)
        if self.span_mean is not None and not (
            is_number(self.span_mean) and 1 <= self.span_mean <= LONGEST_RUN
        ):
            raise ConfigError(
                f"expected `span_mean` from 1 to {LONGEST_RUN} words, received {self.span_mean!r}"
            )
        if self.span_mean is not None and self.max_ngram > 1:
            raise ConfigError(
                "expected `max_ngram` or `span_mean`, received both: n-grams and spans are two "
                "ways to mask consecutive words"
            )

    @classmethod
    def from_options(cls, options: Any) -> Masking:
        """Reads the fields from options of those names; `rate` is named `mask_rate` there.

        Args:
            options: PretrainingOptions, or the parsed arguments of a command.

        Raises:
            ConfigError: see the class.
        """
        return cls(
            rate=options.mask_rate,
            whole_words=options.whole_words,
            mask_share=options.mask_share,
            random_share=options.random_share,
            max_ngram=options.max_ngram,
            span_mean=options.span_mean,
        )

    @property
    def in_runs(self) -> bool:
        """Whether consecutive words are masked together."""
        return self.max_ngram > 1 or self.span_mean is not None
