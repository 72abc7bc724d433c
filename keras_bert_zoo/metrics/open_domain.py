"""Metrics of open-domain question answering: answers and retrieved passages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_bert_zoo.data.inputs import as_bytes, byte_span
from keras_bert_zoo.data.passages import Passages
from keras_bert_zoo.data.questions import Answer
from keras_bert_zoo.metrics.classification import format_values
from keras_bert_zoo.metrics.question_answering import (
    QuestionReport,
    Segmentation,
    answer_scores,
)

RECALL_CUTOFFS = (1, 5, 20)
"""Numbers of retrieved passages at which recall is measured."""


@dataclass(frozen=True)
class OpenDomainReport:
    """Metrics of open-domain question answering.

    Args:
        answers: QuestionReport. Exact match and F1.
        recall: cutoff -> float. The share of `located` questions with a correct passage among the
            first retrieved ones: a passage of the question's document that holds the answer.
        answer_recall: cutoff -> float. The share of answerable questions with the answer's text in
            any of the first retrieved passages.
        located: int. The number of questions whose context is in the collection.
        documents: int. The number of documents.
        passages: int. The number of passages of the documents.
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
        """Returns all numbers as plain Python values for JSON."""
        return {
            **self.answers.to_dict(),
            **({f"recall_at_{k}": share for k, share in self.recall.items()}),
            **({f"answer_recall_at_{k}": share for k, share in self.answer_recall.items()}),
            "located": self.located,
            "documents": self.documents,
            "passages": self.passages,
        }

    def to_text(self) -> str:
        """Formats the report as a text table."""
        rows = [(f"passage found, first {k}", f"{v:.4f}") for k, v in self.recall.items()]
        rows += [(f"answer's text, first {k}", f"{v:.4f}") for k, v in self.answer_recall.items()]
        if self.recall:
            rows.append(("questions on a document", f"{self.located:,}"))
        rows += [("documents", f"{self.documents:,}"), ("passages", f"{self.passages:,}")]
        return f"{self.answers.to_text()}\n\n{format_values(rows)}"


def found_shares(hits: Sequence[Sequence[bool]], cutoffs: Sequence[int]) -> dict[int, float]:
    """Computes the share of questions with a hit among the first results.

    Args:
        hits: for each question, whether each of its results is correct, in rank order.
        cutoffs: ints. The numbers of first results.

    Returns:
        cutoff -> float; empty without questions.
    """
    if not len(hits):
        return {}
    return {k: float(np.mean([any(row[:k]) for row in hits])) for k in cutoffs}


def holds_answer(passage: str, answers: Sequence[str]) -> bool:
    """Whether a passage holds one of the answers; ignores case and white space.

    The check of Dense Passage Retrieval (arXiv 2004.04906, section 5), without its tokenizer.
    """
    text = " ".join(passage.casefold().split())
    return any(" ".join(answer.casefold().split()) in text for answer in answers if answer.strip())


def correct_passages(
    passages: Passages,
    documents: Sequence[bytes],
    contexts: Sequence[str],
    answers: Sequence[Sequence[Answer]],
) -> list[set[int] | None]:
    """Finds the passages that contain the answers to questions.

    Args:
        passages: Passages.
        documents: list of bytes.
        contexts: list of str, the context of each question.
        answers: for each question its answers, with positions in its context.

    Returns:
        for each question the numbers of the passages that contain a whole answer, in the documents
        that equal its context. None if no document does, or if there is no answer.
    """
    same_text: dict[bytes, list[int]] = {}
    for number, document in enumerate(documents):
        same_text.setdefault(document, []).append(number)
    begins = np.searchsorted(passages.document_id, np.arange(len(documents) + 1))
    result: list[set[int] | None] = []
    for context, row in zip(contexts, answers, strict=True):
        numbers = same_text.get(as_bytes(context))
        if not numbers or not row:
            result.append(None)
            continue
        of_context = np.concatenate([np.arange(*begins[number : number + 2]) for number in numbers])
        correct: set[int] = set()
        for answer in row:
            start, end = byte_span(context, answer.start, answer.text)
            inside = (passages.start[of_context] <= start) & (end <= passages.end[of_context])
            correct.update(of_context[inside].tolist())
        result.append(correct)
    return result


def passage_recall(
    retrieved: np.ndarray,
    passages: Passages,
    documents: Sequence[bytes],
    contexts: Sequence[str],
    answers: Sequence[Sequence[Answer]],
    references: Sequence[Sequence[str]],
    cutoffs: Sequence[int],
) -> dict[str, Any]:
    """Counts how often the correct passages are among the first that are retrieved.

    Args:
        retrieved: int (questions, retrieved). Numbers of passages, best first.
        passages: see `correct_passages`, as for the next three arguments.
        documents: list of bytes.
        contexts: list of str.
        answers: for each question its answers.
        references: for each question the texts of its answers.
        cutoffs: ints.

    Returns:
        dict: `recall`, `answer_recall` and `located` of `OpenDomainReport`.
    """
    correct = correct_passages(passages, documents, contexts, answers)
    located = [
        [number in numbers for number in row]
        for row, numbers in zip(retrieved, correct, strict=True)
        if numbers is not None
    ]
    texts = [text.decode("utf-8", "replace") for text in passages.texts(documents)]
    containing = [
        [holds_answer(texts[number], right) for number in row]
        for row, right in zip(retrieved, references, strict=True)
        if right
    ]
    return {
        "recall": found_shares(located, cutoffs),
        "answer_recall": found_shares(containing, cutoffs),
        "located": len(located),
    }


def best_weight(
    spans: Mapping[str, np.ndarray],
    references: Sequence[Sequence[str]],
    *,
    weights: Sequence[float],
    null_threshold: float | None,
    segmentation: Segmentation = "auto",
) -> float:
    """Finds the weight of the passage scores with the best F1.

    Args:
        spans: arrays (questions, passages) for the passages read for each question: `answer` str,
            the best span; `reader_score` and `passage_score`, which are added with the weight;
            and `no_answer`.
        references: for each question its correct answers.
        weights: floats. The weights to try.
        null_threshold: float or None. A passage with `no_answer` above it gives no answer.
        segmentation: see `question_report`.

    Returns:
        float, the best weight; the first one of equal ones.
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
