"""Metrics of answering from a collection: answers, and whether the right passages are found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_bert_zoo.metrics.classification import format_values
from keras_bert_zoo.metrics.question_answering import (
    QuestionReport,
    Segmentation,
    answer_scores,
)


@dataclass(frozen=True)
class OpenDomainReport:
    """How well questions are answered from a collection.

    Args:
        answers: QuestionReport: exact match and F1.
        recall: cutoff -> float. The share of questions for which a passage with the answer, in the
            document it was asked of, is among the first so many that are found.
        answer_recall: cutoff -> float. The share of questions with an answer for which some passage
            among the first so many holds the answer's text.
        located: int. Questions that `recall` is of: those whose context is in the collection.
        documents: int.
        passages: int. Into which the documents are cut.
    """

    answers: QuestionReport
    recall: dict[int, float]
    answer_recall: dict[int, float]
    located: int
    documents: int
    passages: int

    @property
    def exact_match(self) -> float:
        """Exact match of the answers."""
        return self.answers.exact_match

    @property
    def f1(self) -> float:
        """F1 of the answers."""
        return self.answers.f1

    def to_dict(self) -> dict[str, Any]:
        """Gives all numbers as plain Python values, ready for JSON."""
        return {
            **self.answers.to_dict(),
            **({f"recall_at_{k}": share for k, share in self.recall.items()}),
            **({f"answer_recall_at_{k}": share for k, share in self.answer_recall.items()}),
            "located": self.located,
            "documents": self.documents,
            "passages": self.passages,
        }

    def to_text(self) -> str:
        """Sets the report as a text table of several lines."""
        rows = [(f"passage found, first {k}", f"{v:.4f}") for k, v in self.recall.items()]
        rows += [(f"answer's text, first {k}", f"{v:.4f}") for k, v in self.answer_recall.items()]
        if self.recall:
            rows.append(("questions on a document", f"{self.located:,}"))
        rows += [("documents", f"{self.documents:,}"), ("passages", f"{self.passages:,}")]
        return f"{self.answers.to_text()}\n\n{format_values(rows)}"


def found_shares(hits: Sequence[Sequence[bool]], cutoffs: Sequence[int]) -> dict[int, float]:
    """Counts how often something is among the first that are found.

    Args:
        hits: for each question, whether each of what was found for it is right.
        cutoffs: ints.

    Returns:
        cutoff -> float; empty where there are no questions.
    """
    if not len(hits):
        return {}
    return {k: float(np.mean([any(row[:k]) for row in hits])) for k in cutoffs}


def holds_answer(passage: str, answers: Sequence[str]) -> bool:
    """Whether one of some answers stands in a passage, whatever its case and white space.

    The check of Dense Passage Retrieval (arXiv 2004.04906, section 5), but without its tokenizer.
    """
    text = " ".join(passage.casefold().split())
    return any(" ".join(answer.casefold().split()) in text for answer in answers if answer.strip())


def best_weight(
    spans: Mapping[str, np.ndarray],
    references: Sequence[Sequence[str]],
    *,
    weights: Sequence[float],
    null_threshold: float | None,
    segmentation: Segmentation = "auto",
) -> float:
    """Finds the weight of passages' similarities with the best F1.

    Args:
        spans: of each passage read for each question, (questions, passages): `answer` str, the best
            span; `reader_score` and `passage_score`, which the weight adds up; `no_answer`.
        references: for each question its right answers.
        weights: floats.
        null_threshold: float or None. Of `no_answer`, above which a passage gives no answer.
        segmentation: see `question_report`.

    Returns:
        float, the first of the best.
    """
    count, width = spans["answer"].shape
    every = [list(answers) for answers in references for _ in range(width)]
    _, f1 = answer_scores(spans["answer"].ravel().tolist(), every, segmentation=segmentation)
    f1 = f1.reshape(count, width)
    empty = np.array([not answers for answers in references], np.float64)
    out = spans["answer"] == ""
    if null_threshold is not None:
        out |= spans["no_answer"] > null_threshold
    means = []
    for weight in weights:
        scores = np.where(out, -np.inf, spans["reader_score"] + weight * spans["passage_score"])
        chosen = scores.argmax(axis=1)
        means.append(np.where(out.all(axis=1), empty, f1[np.arange(count), chosen]).mean())
    return float(weights[int(np.argmax(means))])
