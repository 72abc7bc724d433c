"""How good translations are: sacreBLEU's scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.metrics.classification import format_values

__all__ = [
    "BLEU_TOKENIZERS",
    "TranslationReport",
    "bleu_tokenizer",
    "check_bleu",
    "likeness",
    "translation_report",
]

BLEU_TOKENIZERS = ("13a", "intl", "zh", "char", "none")
"""How sacreBLEU cuts texts into words: "zh" for Chinese, "char" for others without spaces."""

_CHINESE = ((0x3400, 0x9FFF), (0x20000, 0x3FFFF))
# Kana; Thai and Lao; Burmese; Khmer.
_UNSPACED = ((0x3040, 0x30FF), (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF))


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
    """Chooses how sacreBLEU is to cut texts into words, by the script of most of their words.

    Args:
        references: list of str.

    Returns:
        str. "zh" for Chinese characters; "char" for kana, Thai, Lao, Khmer and Burmese, which
        sacreBLEU alone cannot cut; "13a", its default, for all others.
    """
    counts = {"zh": 0, "char": 0, "13a": 0}
    for text in references:
        before = ""
        for character in text:
            code, script = ord(character), ""
            if any(first <= code <= last for first, last in _CHINESE):
                script = "zh"
            elif any(first <= code <= last for first, last in _UNSPACED):
                script = "char"
            elif character.isalpha():
                script = "13a"
            # Of scripts with spaces a word counts as much as a character of the others.
            if script and not script == before == "13a":
                counts[script] += 1
            before = script
    # Japanese mixes kana with Chinese characters.
    if counts["char"] * 10 > counts["zh"] + counts["13a"]:
        return "char"
    return "zh" if counts["zh"] > counts["13a"] else "13a"


def check_bleu(tokenize: str | None = None) -> None:
    """Raises ConfigError unless sacreBLEU is installed, and `tokenize` is one it has, or None."""
    try:
        import sacrebleu  # noqa: F401
    except ImportError:
        raise ConfigError(
            "Translations are scored by sacreBLEU, which is not installed: pip install sacrebleu, "
            'or "keras_bert_zoo[translation]".'
        ) from None
    if tokenize not in (None, *BLEU_TOKENIZERS):
        raise ConfigError(
            f"`tokenize` must be one of {', '.join(BLEU_TOKENIZERS)}, got {tokenize!r}."
        )


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
    check_bleu(tokenize)
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

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


def likeness(translation: str, reference: str) -> float:
    """chrF2 of one translation, from 0 to 100: how many short pieces of text the two share.

    Raises:
        ConfigError: sacreBLEU is not installed.
    """
    check_bleu()
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF().sentence_score(translation, [reference]).score)
