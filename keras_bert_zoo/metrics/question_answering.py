"""Exact match and F1 of answers, as the scorers of SQuAD 1.1, SQuAD 2.0 and CMRC 2018 compute them.

Scores are shares, 0 to 1, where those scorers print per cent.

Sources: the official evaluate-v1.1.py, evaluate-v2.0.py and cmrc2018_evaluate.py.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.metrics.classification import format_values

__all__ = [
    "QuestionReport",
    "Segmentation",
    "answer_scores",
    "best_threshold",
    "question_report",
]

Segmentation = Literal["auto", "words", "characters"]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = frozenset(string.punctuation)

# Scripts without spaces between words: Chinese characters (CMRC's scorer knows those alone, and
# of them the first 20,902), Japanese, Thai, Lao, Myanmar, Khmer.
_UNSEGMENTED = re.compile(
    "[\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]"
)
# What CMRC's scorer takes away. (Its list has the ellipsis as two characters, which no single one
# equals, so that it stays.)
_CMRC_PUNCTUATION = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
# The rules of NLTK's word_tokenize that matter here; contractions stay whole, for example.
_WORDS = re.compile(r"""[;@#$%&?!()\[\]{}<>"]|,(?!\d)|(?:[^\s;@#$%&?!()\[\]{}<>",]|,(?=\d))+""")


@dataclass(frozen=True)
class QuestionReport:
    """How well questions were answered.

    Where questions have no answer (SQuAD 2.0), "" is right for them and for no other.

    Args:
        exact_match: float. The share of answers that are right to the letter, but for case,
            punctuation and articles.
        f1: float. Mean F1 of the words, or characters, that answer and reference share.
        questions: int.
        segmentation: "words", as SQuAD counts, or "characters", as CMRC does.
        answerable: int. Questions that have an answer.
        answerable_exact_match: float. Of those alone; 0 where there are none.
        answerable_f1: float. Likewise.
        unanswerable_accuracy: float or None. The share of the others that were left unanswered;
            None where there are none.
        best_exact_match: float or None. What the best threshold on `no_answer` would give.
        best_exact_match_threshold: float or None. That threshold.
        best_f1: float or None. Likewise for F1.
        best_f1_threshold: float or None. Likewise.
    """

    exact_match: float
    f1: float
    questions: int
    segmentation: str
    answerable: int
    answerable_exact_match: float
    answerable_f1: float
    unanswerable_accuracy: float | None = None
    best_exact_match: float | None = None
    best_exact_match_threshold: float | None = None
    best_f1: float | None = None
    best_f1_threshold: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Gives all numbers as plain Python values, ready for JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def to_text(self) -> str:
        """Sets the report as a text table of several lines."""
        unit = "words" if self.segmentation == "words" else "characters"
        rows = [
            ("exact match", f"{self.exact_match:.4f}"),
            (f"F1 ({unit})", f"{self.f1:.4f}"),
            ("questions", f"{self.questions:,}"),
        ]
        if self.unanswerable_accuracy is not None:
            rows += [
                ("exact match, answerable", f"{self.answerable_exact_match:.4f}"),
                ("F1, answerable", f"{self.answerable_f1:.4f}"),
                ("answerable", f"{self.answerable:,}"),
                ("left unanswered, rightly", f"{self.unanswerable_accuracy:.4f}"),
            ]
        if self.best_f1 is not None:
            best = f"{self.best_f1:.4f} at {self.best_f1_threshold:.4f}"
            rows.append(("best F1, at no_answer", best))
        return format_values(rows)


def question_report(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    no_answer: np.ndarray | None = None,
    null_threshold: float | None = None,
    segmentation: Segmentation = "auto",
) -> QuestionReport:
    """Compares answers with the right ones.

    Questions without any reference make it a comparison by the rules of SQuAD 2.0.

    Args:
        predictions: an answer a question; "" for none.
        references: for each question its right answers; none: there is no answer.
        no_answer: float (questions,). The surer that there is no answer, the larger.
        null_threshold: float. Where `no_answer` is above it, the prediction counts as "".
        segmentation: "words": articles and punctuation are taken away and words counted, as
            SQuAD does; "characters": characters of languages without spaces, words of others,
            and the longest run that both have, as CMRC does; "auto": characters where the
            references are mostly of such languages.

    Returns:
        QuestionReport.

    Raises:
        DataError: there are no questions, or not as many predictions.
        ConfigError: unknown `segmentation`.
    """
    how = _segmentation(references, segmentation)
    exact, f1 = answer_scores(predictions, references, segmentation=how)
    has_answer = _has_answer(references)
    found: dict[str, Any] = {}
    mixed = not has_answer.all()
    if no_answer is not None and mixed:
        given = np.array([bool(text) for text in predictions])
        for name, scores in (("exact_match", exact), ("f1", f1)):
            best, threshold = _find_best_threshold(scores, given, has_answer, no_answer)
            found |= {f"best_{name}": best, f"best_{name}_threshold": threshold}
    if no_answer is not None and null_threshold is not None:
        left = np.asarray(no_answer) > null_threshold
        exact, f1 = (np.where(left, ~has_answer, scores) for scores in (exact, f1))
    answerable = int(has_answer.sum())
    return QuestionReport(
        exact_match=float(exact.mean()),
        f1=float(f1.mean()),
        questions=len(f1),
        segmentation=how,
        answerable=answerable,
        answerable_exact_match=float(exact[has_answer].mean()) if answerable else 0.0,
        answerable_f1=float(f1[has_answer].mean()) if answerable else 0.0,
        unanswerable_accuracy=float(exact[~has_answer].mean()) if mixed else None,
        **found,
    )


def answer_scores(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    segmentation: Segmentation = "auto",
) -> tuple[np.ndarray, np.ndarray]:
    """Compares each answer with the right ones; the best counts.

    Args:
        predictions: an answer a question.
        references: for each question its right answers.
        segmentation: see `question_report`.

    Returns:
        exact match and F1, float64 (questions,) each.

    Raises:
        DataError: there are no questions, or not as many predictions.
        ConfigError: unknown `segmentation`.
    """
    if len(predictions) != len(references):
        raise DataError(f"There are {len(references)} questions but {len(predictions)} answers.")
    if not len(references):
        raise DataError("expected at least one question to evaluate, got none")
    how = _segmentation(references, segmentation)
    version2 = not _has_answer(references).all()
    pairs = []
    for prediction, answers in zip(predictions, references, strict=True):
        if how == "characters":
            scored = [_cmrc(prediction, answer) for answer in answers or [""]]
        else:
            if version2:  # which passes over references that are articles and punctuation alone
                answers = [answer for answer in answers if _normalized(answer)] or [""]
            scored = [_squad(prediction, answer, version2) for answer in answers]
        pairs.append([max(scores) for scores in zip(*scored, strict=True)])
    exact, f1 = np.array(pairs, np.float64).T
    return exact, f1


def best_threshold(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    no_answer: np.ndarray,
    *,
    segmentation: Segmentation = "auto",
) -> float:
    """Finds the threshold on `no_answer` with the best F1.

    It lies halfway between two questions' scores, such that rounding does not carry one over it.

    Args:
        predictions: an answer a question, never "" where there is a text to take it from.
        references: for each question its right answers; none: there is no answer.
        no_answer: float (questions,).
        segmentation: see `question_report`.

    Returns:
        float: above it, a question is best left unanswered.

    Raises:
        DataError: see `question_report`.
        ConfigError: unknown `segmentation`.
    """
    how = _segmentation(references, segmentation)
    _, f1 = answer_scores(predictions, references, segmentation=how)
    given = np.array([bool(text) for text in predictions])
    scores = np.asarray(no_answer, np.float64)
    _, found = _find_best_threshold(f1, given, _has_answer(references), scores)
    below, above = scores[scores <= found], scores[scores > found]
    if not len(above):
        return float(below.max()) + 1.0
    return float((below.max() + above.min()) / 2) if len(below) else float(above.min()) - 1.0


def _segmentation(references: Sequence[Sequence[str]], wanted: Segmentation) -> Segmentation:
    if wanted not in get_args(Segmentation):
        raise ConfigError(
            f"expected segmentation to be one of {', '.join(get_args(Segmentation))}, "
            f"got {wanted!r}"
        )
    if wanted != "auto":
        return wanted
    letters = [
        char for answers in references for text in answers for char in text if char.isalpha()
    ]
    unsegmented = sum(_UNSEGMENTED.match(char) is not None for char in letters)
    return "characters" if 2 * unsegmented > len(letters) else "words"


def _has_answer(references: Sequence[Sequence[str]]) -> np.ndarray:
    """Whether questions have a reference: bool (questions,)."""
    return np.array([bool(answers) for answers in references])


def _normalized(text: str) -> str:
    text = "".join(char for char in text.lower() if char not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


def _squad(prediction: str, answer: str, version2: bool) -> tuple[float, float]:
    prediction, answer = _normalized(prediction), _normalized(answer)
    exact = float(prediction == answer)
    words, right = prediction.split(), answer.split()
    if version2 and not (words and right):
        return exact, float(words == right)
    shared = sum((Counter(words) & Counter(right)).values())
    return exact, _f1(shared, len(words), len(right))


def _cmrc(prediction: str, answer: str) -> tuple[float, float]:
    segments, right = _mixed_segments(prediction), _mixed_segments(answer)
    exact = float(_without_punctuation(prediction) == _without_punctuation(answer))
    if not answer:  # CMRC has no such question; as SQuAD 2.0 does
        return exact, exact
    return exact, _f1(_longest_run(segments, right), len(segments), len(right))


def _f1(shared: int, predicted: int, right: int) -> float:
    if not shared:
        return 0.0
    precision, recall = shared / predicted, shared / right
    return 2 * precision * recall / (precision + recall)


def _without_punctuation(text: str) -> str:
    return "".join(char for char in text.lower().strip() if char not in _CMRC_PUNCTUATION)


def _mixed_segments(text: str) -> list[str]:
    """Characters of languages without spaces, words of others.

    CMRC's scorer splits the others by NLTK's word_tokenize; here by the gist of it.
    """
    segments: list[str] = []
    other = ""
    for char in _without_punctuation(text):
        if _UNSEGMENTED.match(char):
            segments += [*_words(other), char]
            other = ""
        else:
            other += char
    return segments + _words(other)


def _words(text: str) -> list[str]:
    words: list[str] = _WORDS.findall(text)
    if words and words[-1].endswith(".") and len(words[-1]) > 1:  # of a sentence
        words[-1:] = [words[-1][:-1], "."]
    return words


def _longest_run(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest run of segments that both have."""
    longest = 0
    above = [0] * (len(right) + 1)
    for segment in left:
        row = [0]
        for j, other in enumerate(right):
            row.append(above[j] + 1 if segment == other else 0)
        longest = max(longest, *row)
        above = row
    return longest


def _find_best_threshold(
    scores: np.ndarray, given: np.ndarray, has_answer: np.ndarray, no_answer: np.ndarray
) -> tuple[float, float]:
    """The best mean score over all thresholds, and the threshold.

    As SQuAD 2.0's `find_best_thresh`, but for one case: where nothing should be answered it says
    0, which is below all scores as long as they are probabilities.
    """
    order = np.argsort(no_answer, kind="stable")
    gains = np.where(has_answer, scores, -given.astype(np.float64))[order]
    totals = (~has_answer).sum() + np.concatenate([[0.0], np.cumsum(gains)])
    best = int(totals.argmax())
    if best:
        threshold = float(no_answer[order[best - 1]])
    else:
        threshold = min(0.0, float(no_answer.min()) - 1.0)
    return float(totals[best] / len(scores)), threshold
