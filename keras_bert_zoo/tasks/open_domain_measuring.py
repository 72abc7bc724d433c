"""How well a collection answers questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_bert_zoo.data.squad import Answer, QuestionExamples
from keras_bert_zoo.tasks.answering import as_bytes
from keras_bert_zoo.tasks.passages import Passages
from keras_bert_zoo.training.open_domain_metrics import (
    OpenDomainReport,
    found_shares,
    holds_answer,
)
from keras_bert_zoo.training.qa_metrics import Segmentation, question_report

if TYPE_CHECKING:
    from keras_bert_zoo.tasks.open_domain import OpenDomainQuestionAnswerer

RECALL_CUTOFFS = (1, 5, 20)


def measure(
    task: OpenDomainQuestionAnswerer,
    examples: QuestionExamples,
    targets: Sequence[Sequence[Answer]],
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
    references = [[answer.text for answer in row] for row in targets]
    cutoffs = sorted({*RECALL_CUTOFFS, task.top_passages})
    found, _ = task.find_passages(
        examples.questions, top_passages=cutoffs[-1], batch_size=batch_size
    )
    right = right_passages(task.passages, task.documents, examples.contexts, targets)
    asked = [(row, found[index]) for index, row in enumerate(right) if row is not None]
    answerable = [index for index, row in enumerate(references) if row]
    texts = [text.decode("utf-8", "replace") for text in task.passages.texts(task.documents)]
    return OpenDomainReport(
        question_report(answers["answer"].tolist(), references, segmentation=segmentation),
        found_shares([[number in row for number in numbers] for row, numbers in asked], cutoffs),
        found_shares(
            [
                [holds_answer(texts[number], references[index]) for number in found[index]]
                for index in answerable
            ],
            cutoffs,
        ),
        located=len(asked),
        documents=len(task.documents),
        passages=len(task.passages),
    )


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
