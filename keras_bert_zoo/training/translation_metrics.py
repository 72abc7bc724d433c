"""The loss of writing a text token by token, and how good translations are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.data.pipeline import NO_LABEL
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training.metrics import format_values

__all__ = ["BLEU_TOKENIZERS", "SmoothedTokenLoss", "TranslationReport", "translation_report"]

BLEU_TOKENIZERS = ("13a", "intl", "zh", "char", "none")
"""How sacreBLEU cuts texts into words: "zh" for Chinese, "char" for others without spaces."""


class SmoothedTokenLoss(keras.losses.Loss):
    """Cross-entropy of the next token, with label smoothing, as a mean over a batch's tokens.

    Args:
        label_smoothing: float in [0, 1). Share of the probability that is wanted on all tokens
            alike; 0.1 is usual (arXiv 1706.03762, section 5.4).
    """

    def __init__(self, label_smoothing: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**{"name": "smoothed_token_loss"} | kwargs)
        self.label_smoothing = label_smoothing

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Computes the loss.

        Args:
            y_true: int32 (B, T), `NO_LABEL` where there is none.
            y_pred: float32 (B, T, V), logits.

        Returns:
            float32 (B,), such that their mean is that over the tokens.
        """
        labels = tf.cast(y_true, tf.int32)
        there = tf.cast(labels != NO_LABEL, y_pred.dtype)
        nats = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=tf.maximum(labels, 0), logits=y_pred
        )
        if self.label_smoothing:
            of_all = tf.reduce_logsumexp(y_pred, axis=-1) - tf.reduce_mean(y_pred, axis=-1)
            nats = (1 - self.label_smoothing) * nats + self.label_smoothing * of_all
        rows = tf.cast(tf.shape(there)[0], there.dtype)
        tokens = tf.maximum(tf.reduce_sum(there), 1)
        return tf.reduce_sum(nats * there, axis=1) * rows / tokens


@dataclass(frozen=True)
class TranslationReport:
    """sacreBLEU's scores of translations.

    Args:
        bleu: float. From 0 to 100.
        chrf: float. chrF2, from 0 to 100.
        rows: int. Texts.
        brevity_penalty: float. Below 1 where translations are shorter than the references.
        signature: str. sacreBLEU's account of how BLEU was computed, to be told beside it.
    """

    bleu: float
    chrf: float
    rows: int
    brevity_penalty: float
    signature: str

    def to_dict(self) -> dict[str, Any]:
        """Gives all numbers as plain Python values, ready for JSON."""
        return {
            "bleu": self.bleu,
            "chrf": self.chrf,
            "brevity_penalty": self.brevity_penalty,
            "signature": self.signature,
        }

    def to_text(self) -> str:
        """Sets the report as lines of text."""
        return format_values(
            [
                ("BLEU", f"{self.bleu:.2f}"),
                ("chrF2", f"{self.chrf:.2f}"),
                ("brevity penalty", f"{self.brevity_penalty:.3f}"),
                ("rows", f"{self.rows}"),
                ("signature", self.signature),
            ]
        )


def bleu_tokenizer(references: Sequence[str]) -> str:
    """Chooses how sacreBLEU is to cut texts into words, by the script of most of their letters.

    Args:
        references: list of str.

    Returns:
        str. "zh" for Chinese characters; "char" for kana, Thai, Lao, Khmer and Burmese, which
        sacreBLEU alone cannot cut; "13a", its default, for all others.
    """
    counts = {"zh": 0, "char": 0, "13a": 0}
    for text in references:
        for character in text:
            code = ord(character)
            if 0x3400 <= code <= 0x9FFF or 0x20000 <= code <= 0x3FFFF:
                counts["zh"] += 1
            elif 0x3040 <= code <= 0x30FF or 0x0E00 <= code <= 0x0EFF or 0x1000 <= code <= 0x109F:
                counts["char"] += 1
            elif 0x1780 <= code <= 0x17FF:
                counts["char"] += 1
            elif character.isalpha():
                counts["13a"] += 1
    # Japanese mixes kana with Chinese characters.
    if counts["char"] * 10 > counts["zh"] + counts["13a"]:
        return "char"
    return "zh" if counts["zh"] > counts["13a"] else "13a"


def check_bleu() -> None:
    """Raises ConfigError unless sacreBLEU is installed."""
    try:
        import sacrebleu  # noqa: F401
    except ImportError:
        raise ConfigError(
            "Translations are scored by sacreBLEU, which is not installed: pip install sacrebleu, "
            'or "keras_bert_zoo[translation]".'
        ) from None


def translation_report(
    translations: Sequence[str], references: Sequence[str], *, tokenize: str = "13a"
) -> TranslationReport:
    """Scores translations with sacreBLEU.

    Args:
        translations: list of str.
        references: list of str, one a translation.
        tokenize: str. One of `BLEU_TOKENIZERS`.

    Returns:
        TranslationReport.

    Raises:
        ConfigError: sacreBLEU is not installed, or an unknown `tokenize`.

    Source: Post 2018, aclanthology.org/W18-6319.
    """
    check_bleu()
    if tokenize not in BLEU_TOKENIZERS:
        raise ConfigError(
            f"`tokenize` must be one of {', '.join(BLEU_TOKENIZERS)}, got {tokenize!r}."
        )
    from sacrebleu.metrics import BLEU, CHRF

    scorer = BLEU(tokenize=tokenize)
    bleu = scorer.corpus_score(list(translations), [list(references)])
    chrf = CHRF().corpus_score(list(translations), [list(references)])
    return TranslationReport(
        bleu=float(bleu.score),
        chrf=float(chrf.score),
        rows=len(references),
        brevity_penalty=float(bleu.bp),
        signature=str(scorer.get_signature()),
    )
