"""Translation metrics, computed by sacreBLEU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

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
"""The tokenizers of sacreBLEU: "zh" for Chinese, "char" for other languages without spaces."""

_CHINESE = ((0x3400, 0x9FFF), (0x20000, 0x3FFFF))
# Kana; Thai and Lao; Burmese; Khmer.
_UNSPACED = ((0x3040, 0x30FF), (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF))


@dataclass(frozen=True)
class TranslationReport:
    """sacreBLEU's scores of translations.

    Args:
        bleu: float. From 0 to 100.
        chrf: float. chrF2, from 0 to 100.
        rows: int. The number of texts.
        brevity_penalty: float. Below 1 if the translations are shorter than the references.
        signature: str. sacreBLEU's description of the BLEU computation, to report with the score.
    """

    main_figure: ClassVar[str] = "bleu"
    """The figure that compares models; higher is better."""

    bleu: float
    chrf: float
    rows: int
    brevity_penalty: float
    signature: str

    def to_dict(self) -> dict[str, Any]:
        """Returns all numbers as plain Python values for JSON."""
        return {
            "bleu": self.bleu,
            "chrf": self.chrf,
            "brevity_penalty": self.brevity_penalty,
            "signature": self.signature,
        }

    def to_text(self) -> str:
        """Formats the report as lines of text."""
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
    """Chooses the tokenizer of sacreBLEU by the most frequent script.

    Args:
        references: list of str.

    Returns:
        str. "zh" for Chinese characters; "char" for kana, Thai, Lao, Khmer and Burmese, which
        sacreBLEU cannot split into words; "13a", its default, for all others.
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
            # One word with spaces counts as much as one character of the other scripts.
            if script and not script == before == "13a":
                counts[script] += 1
            before = script
    # Japanese mixes kana with Chinese characters.
    if counts["char"] * 10 > counts["zh"] + counts["13a"]:
        return "char"
    return "zh" if counts["zh"] > counts["13a"] else "13a"


def check_bleu(tokenize: str | None = None) -> None:
    """Raises ConfigError if sacreBLEU is not installed, or for an unknown `tokenize`."""
    try:
        import sacrebleu  # noqa: F401
    except ImportError:
        raise ConfigError(
            "Expected sacreBLEU to score translations, but it is not installed; use `pip install "
            'sacrebleu`, or install "keras_bert_zoo[translation]".'
        ) from None
    if tokenize not in (None, *BLEU_TOKENIZERS):
        raise ConfigError(
            f"Expected `tokenize` to be one of {', '.join(BLEU_TOKENIZERS)}, received {tokenize!r}."
        )


def translation_report(
    translations: Sequence[str], references: Sequence[str], *, tokenize: str = "13a"
) -> TranslationReport:
    """Scores translations with sacreBLEU.

    Args:
        translations: list of str.
        references: list of str, one per translation.
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
    """chrF2 of one translation, from 0 to 100: the overlap of character n-grams.

    Raises:
        ConfigError: sacreBLEU is not installed.
    """
    check_bleu()
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF().sentence_score(translation, [reference]).score)
