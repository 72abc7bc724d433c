"""Exact match and F1 of answers, as in the scorers of SQuAD 1.1, SQuAD 2.0 and CMRC 2018.

Scores are shares from 0 to 1; those scorers print percentages.

Sources: the official evaluate-v1.1.py, evaluate-v2.0.py and cmrc2018_evaluate.py.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, get_args

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

# Scripts without spaces between words: Chinese characters, Japanese, Thai, Lao, Myanmar, Khmer.
# CMRC's scorer has only the first 20,902 Chinese characters.
_UNSEGMENTED = re.compile(
    "[\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]"
)
# The characters that CMRC's scorer removes. It does not remove the ellipsis: its list has it as a
# string of two characters, which never equals a single one.
_CMRC_PUNCTUATION = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
# The relevant rules of NLTK's word_tokenize; for example, contractions are not split.
_WORDS = re.compile(r"""[;@#$%&?!()\[\]{}<>"]|,(?!\d)|(?:[^\s;@#$%&?!()\[\]{}<>",]|,(?=\d))+""")


@dataclass(frozen=True)
class QuestionReport:
    """Question answering metrics.

    For questions without an answer (SQuAD 2.0), only the prediction "" is correct.

    Args:
        exact_match: float. The share of answers that equal a reference, ignoring case,
            punctuation and articles.
        f1: float. The mean F1 of the words or characters that answer and reference share.
        questions: int. The number of questions.
        segmentation: "words", as in SQuAD, or "characters", as in CMRC.
        answerable: int. The number of questions with an answer.
        answerable_exact_match: float. The exact match of these; 0 without any.
        answerable_f1: float. Likewise.
        unanswerable_accuracy: float or None. The accuracy on the others; None without any.
        best_exact_match: float or None. The exact match with the best threshold on `no_answer`.
        best_exact_match_threshold: float or None. This threshold.
        best_f1: float or None. Likewise for F1.
        best_f1_threshold: float or None. Likewise.
    """

    main_figure: ClassVar[str] = "f1"
    """The figure that compares models; higher is better."""

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
        """Returns all numbers as plain Python values for JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def to_text(self) -> str:
        """Formats the report as a text table."""
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
                ("accuracy, unanswerable", f"{self.unanswerable_accuracy:.4f}"),
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
    """Compares predicted with correct answers.

    The rules of SQuAD 2.0 apply if some questions have no reference.

    Args:
        predictions: one answer per question; "" for no answer.
        references: for each question a list of its correct answers; empty without an answer.
        no_answer: float (questions,). A larger score means that an answer is less likely.
        null_threshold: float. A prediction with `no_answer` above it counts as "".
        segmentation: "words": compares words without articles and punctuation, as in SQuAD.
            "characters": compares the longest common run of characters (of languages without
            spaces) and words (of others), as in CMRC. "auto": by the main script of references.

    Returns:
        QuestionReport.

    Raises:
        DataError: there are no questions, or the number of predictions differs.
        ConfigError: unknown `segmentation`.
    """
    how = _segmentation(references, segmentation)
    exact, f1 = answer_scores(predictions, references, segmentation=how)
    has_answer = _has_answer(references)
    best_scores: dict[str, Any] = {}
    mixed = not has_answer.all()
    if no_answer is not None and mixed:
        given = np.array([bool(text) for text in predictions])
        for name, scores in (("exact_match", exact), ("f1", f1)):
            best, threshold = _find_best_threshold(scores, given, has_answer, no_answer)
            best_scores |= {f"best_{name}": best, f"best_{name}_threshold": threshold}
    if no_answer is not None and null_threshold is not None:
        unanswered = np.asarray(no_answer) > null_threshold
        exact, f1 = (np.where(unanswered, ~has_answer, scores) for scores in (exact, f1))
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
        **best_scores,
    )


def answer_scores(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    segmentation: Segmentation = "auto",
) -> tuple[np.ndarray, np.ndarray]:
    """Compares each answer with its references; the best reference counts.

    Args:
        predictions: one answer per question.
        references: for each question its correct answers.
        segmentation: see `question_report`.

    Returns:
        exact match and F1, float64 (questions,) each.

    Raises:
        DataError: there are no questions, or the number of predictions differs.
        ConfigError: unknown `segmentation`.
    """
    if len(predictions) != len(references):
        raise DataError(
            f"expected {len(references)} answers, one per question, received {len(predictions)}"
        )
    if not len(references):
        raise DataError("expected at least one question to evaluate, received none")
    how = _segmentation(references, segmentation)
    version2 = not _has_answer(references).all()
    pairs = []
    for prediction, answers in zip(predictions, references, strict=True):
        if how == "characters":
            scored = [_cmrc(prediction, answer) for answer in answers or [""]]
        else:
            if version2:  # SQuAD 2.0 ignores references of only articles and punctuation
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

    The threshold is halfway between two scores, so rounding does not change the decisions.

    Args:
        predictions: one answer per question; "" only for an empty context.
        references: see `question_report`.
        no_answer: float (questions,).
        segmentation: see `question_report`.

    Returns:
        float. Questions with a higher `no_answer` are best left unanswered.

    Raises:
        DataError: see `question_report`.
        ConfigError: unknown `segmentation`.
    """
    how = _segmentation(references, segmentation)
    _, f1 = answer_scores(predictions, references, segmentation=how)
    given = np.array([bool(text) for text in predictions])
    scores = np.asarray(no_answer, np.float64)
    _, threshold = _find_best_threshold(f1, given, _has_answer(references), scores)
    below, above = scores[scores <= threshold], scores[scores > threshold]
    if not len(above):
        return float(below.max()) + 1.0
    return float((below.max() + above.min()) / 2) if len(below) else float(above.min()) - 1.0


def _segmentation(references: Sequence[Sequence[str]], option: Segmentation) -> Segmentation:
    if option not in get_args(Segmentation):
        raise ConfigError(
            f"expected segmentation to be one of {', '.join(get_args(Segmentation))}, "
            f"received {option!r}"
        )
    if option != "auto":
        return option
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
    if not answer:  # as in SQuAD 2.0; CMRC has only answerable questions
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

    CMRC's scorer finds words by NLTK's word_tokenize; `_words` has its main rules.
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
    if words and words[-1].endswith(".") and len(words[-1]) > 1:  # the end of a sentence
        words[-1:] = [words[-1][:-1], "."]
    return words


def _longest_run(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest common run of segments."""
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

    As in SQuAD 2.0's `find_best_thresh`, with one exception: if it is best to answer nothing, that
    returns 0, which is below all scores only if they are probabilities.
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
