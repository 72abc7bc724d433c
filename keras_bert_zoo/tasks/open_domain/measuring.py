"""How well a collection answers questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from keras_bert_zoo.data.squad import Answer, QuestionExamples
from keras_bert_zoo.metrics.open_domain import (
    OpenDomainReport,
    found_shares,
    holds_answer,
)
from keras_bert_zoo.metrics.question_answering import Segmentation, question_report
from keras_bert_zoo.tasks.answering import as_bytes
from keras_bert_zoo.tasks.open_domain.passages import Passages

if TYPE_CHECKING:
    from keras_bert_zoo.tasks.open_domain.question_answerer import OpenDomainQuestionAnswerer

RECALL_CUTOFFS = (1, 5, 20)


def measure(
    task: OpenDomainQuestionAnswerer,
    examples: QuestionExamples,
    targets: Sequence[Sequence[Answer]],
    references: Sequence[Sequence[str]],
    batch_size: int,
    segmentation: Segmentation,
) -> OpenDomainReport:
    """Answers questions and compares; see `OpenDomainQuestionAnswerer.report`."""
    kept = task.top_k
    try:
        task.top_k = 1
        answers = task.predict(examples, batch_size=batch_size)
    finally:
        task.top_k = kept
    found = found_passages(task, examples, targets, batch_size, references)
    return OpenDomainReport(
        question_report(answers["answer"].tolist(), references, segmentation=segmentation),
        found.recall,
        found.answer_recall,
        located=found.located,
        documents=len(task.documents),
        passages=len(task.passages),
    )


class Found(NamedTuple):
    """How often the right passages are found; see `OpenDomainReport`."""

    recall: dict[int, float]
    answer_recall: dict[int, float]
    located: int


def found_passages(
    task: OpenDomainQuestionAnswerer,
    examples: QuestionExamples,
    targets: Sequence[Sequence[Answer]],
    batch_size: int = 64,
    references: Sequence[Sequence[str]] | None = None,
) -> Found:
    """Searches without reading, at `RECALL_CUTOFFS` and the number of passages that are read.

    Args:
        task: OpenDomainQuestionAnswerer.
        examples: QuestionExamples.
        targets: for each question its answers.
        batch_size: int. Questions at once.
        references: for each question the texts of its answers; None: those of `targets`.

    Returns:
        Found.
    """
    cutoffs = sorted({*RECALL_CUTOFFS, task.top_passages})
    found, _ = task.find_passages(
        examples.questions, top_passages=cutoffs[-1], batch_size=batch_size
    )
    right = right_passages(task.passages, task.documents, examples.contexts, targets)
    located = [
        [number in numbers for number in found[index]]
        for index, numbers in enumerate(right)
        if numbers is not None
    ]
    if references is None:
        references = [[answer.text for answer in row] for row in targets]
    texts = [text.decode("utf-8", "replace") for text in task.passages.texts(task.documents)]
    holding = [
        [holds_answer(texts[number], row) for number in found[index]]
        for index, row in enumerate(references)
        if row
    ]
    return Found(found_shares(located, cutoffs), found_shares(holding, cutoffs), len(located))


def right_passages(
    passages: Passages,
    documents: Sequence[bytes],
    contexts: Sequence[str],
    targets: Sequence[Sequence[Answer]],
) -> list[set[int] | None]:
    """Finds the passages in which a question's answers stand.

    Args:
        passages: Passages.
        documents: list of bytes.
        contexts: list of str, for each question the text it was asked of.
        targets: for each question its answers, with their places in its context.

    Returns:
        for each question numbers of `passages`: those that hold one of its answers whole, of the
        documents that are its context. None where no document is, or there is no answer.
    """
    of_text: dict[bytes, list[int]] = {}
    for number, document in enumerate(documents):
        of_text.setdefault(document, []).append(number)
    begins = np.searchsorted(passages.document_id, np.arange(len(documents) + 1))
    found: list[set[int] | None] = []
    for context, answers in zip(contexts, targets, strict=True):
        same = of_text.get(as_bytes(context), [])
        if not same or not answers:
            found.append(None)
            continue
        numbers: set[int] = set()
        for answer in answers:
            start = len(as_bytes(context[: answer.start]))
            end = start + len(as_bytes(answer.text))
            for number in same:
                own = np.arange(begins[number], begins[number + 1])
                inside = (passages.start[own] <= start) & (end <= passages.end[own])
                numbers.update(own[inside].tolist())
        found.append(numbers)
    return found
