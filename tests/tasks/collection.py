"""A tiny collection, with models of random weights."""

from typing import Any

import numpy as np

import keras_bert_zoo as kbz
from tests.helpers import ASSETS

# See tools/tasks/embedding_goldens.py and tools/tasks/qa_goldens.py.
RETRIEVER = ASSETS / "sentence_transformers" / "prompted"
READER = ASSETS / "question_answering"
DOCUMENTS = [
    "the king rome was in a city",
    "in paris the river was born . in 12 the war of rome was in paris the king was born",
    "12 river",
    b"the \xff king \xc3 paris was",
    "",
    "日本 the war é of a king " * 3,
]
QUESTIONS = ["king ?", "the river", "", "war in paris ?", "日本", "was rome born in 12"]


def make_models() -> tuple[Any, Any]:
    """Makes a retriever, and a reader whose windows hold a whole passage."""
    reader = kbz.QuestionAnswerer.load(READER, max_length=48, stride=8)
    return kbz.TextEmbedder.load(RETRIEVER), reader


def make_collection(models: tuple[Any, Any], **options: Any) -> kbz.OpenDomainQuestionAnswerer:
    """Makes a collection of `DOCUMENTS` that reads three passages per question."""
    return kbz.OpenDomainQuestionAnswerer(
        *models, DOCUMENTS, passage_tokens=20, top_passages=3, **options
    )


def check_places(task: Any, answers: Any) -> None:
    """Checks that every answer is at its place in its document."""
    names = ("document_id", "start", "end", "start_character", "end_character", "answer")
    rows = [np.ravel(answers[name]) for name in names]
    for number, start, end, first, last, answer in zip(*rows, strict=True):
        if number < 0:
            assert (start, end, first, last, answer) == (0, 0, 0, 0, b"")
            continue
        document = task.documents[number]
        assert document[start:end] == answer
        assert answer
        text = "".join(chr(byte) for byte in document if byte & 0xC0 != 0x80)
        assert len(text[:first]) == sum(byte & 0xC0 != 0x80 for byte in document[:start])
        assert last - first == sum(byte & 0xC0 != 0x80 for byte in answer)
