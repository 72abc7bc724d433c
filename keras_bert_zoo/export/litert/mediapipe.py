"""LiteRT files for the text tasks of MediaPipe and of TensorFlow Lite's Task Library.

These clients take strings, but tokenize them in their own code: the file has token ids as inputs,
the vocabulary, and metadata that name both. Their tokenizer is not BERT's. It lower-cases ASCII
letters alone, keeps accents and control characters, and knows no special tokens. The export counts
the texts for which this matters.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import Any

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.export.litert.exporter import LiteRTExport, write_model
from keras_bert_zoo.export.litert.mediapipe_tokenizer import compare_tokenization
from keras_bert_zoo.export.litert.metadata import TensorInfo, with_metadata
from keras_bert_zoo.export.verify import hostile_rows
from keras_bert_zoo.tasks.embedding.text_embedder import TextEmbedder
from keras_bert_zoo.tasks.predicting import text_columns
from keras_bert_zoo.tasks.question_answering.question_answerer import QuestionAnswerer
from keras_bert_zoo.tasks.relation_classifier import RelationClassifier
from keras_bert_zoo.tasks.task import Task
from keras_bert_zoo.tasks.text_classifier import TextClassifier
from keras_bert_zoo.text.wordpiece.tokenizer import WordPieceTokenizer

_INPUTS = {
    "token_ids": TensorInfo("ids", "Token ids of the text."),
    "padding_mask": TensorInfo("mask", "1 for tokens, 0 for padding."),
    "segment_ids": TensorInfo("segment_ids", "0 for the first text, 1 for the second."),
}
_QUESTION_LENGTH = 384  # fixed by the Task Library


def export_mediapipe(
    task: Task,
    path: str | os.PathLike[str],
    *,
    dtype: str = "float32",
    length: int | None = None,
    pair: bool | None = None,
    texts: Sequence[str | bytes] | None = None,
    examples: Any = None,
    max_drop: float | None = None,
) -> LiteRTExport:
    """Writes a .tflite file for a text task of MediaPipe or of the Task Library.

    A TextClassifier is for MediaPipe's TextClassifier and the Task Library's BertNLClassifier, a
    TextEmbedder for MediaPipe's TextEmbedder, and a QuestionAnswerer for the Task Library's
    BertQuestionAnswerer.

    Args:
        task: TextClassifier, TextEmbedder or QuestionAnswerer, with a WordPiece tokenizer that
            lower-cases.
        path: path of the file, which ends in .tflite.
        dtype: see `export_litert`.
        length: int. Tokens per text, padding included. None: the task's `max_length`; for a
            QuestionAnswerer always 384.
        pair: None or False: these clients take single texts.
        texts: texts whose tokenization is compared; None: those of `examples`, otherwise hostile
            texts.
        examples: see `export_litert`.
        max_drop: see `export_litert`.

    Returns:
        LiteRTExport, with `tokenization`.

    Raises:
        ConfigError: the task, the tokenizer or an option is not possible.
        ExportError: see `export_litert`.

    Example: `export_mediapipe(classifier, "intents.tflite", dtype="int8").tokenization.different`
    """
    outputs = _outputs(task, pair)
    tokenizer = _checked_tokenizer(task.tokenizer)
    if isinstance(task, QuestionAnswerer):
        if length not in (None, _QUESTION_LENGTH):
            raise ConfigError(f"Expected `length` to be {_QUESTION_LENGTH}, received {length}.")
        length = _QUESTION_LENGTH
    finish = functools.partial(
        with_metadata,
        name=type(task).__name__,
        description=f"{type(task).__name__} of keras_bert_zoo.",
        inputs=_INPUTS,
        outputs=outputs,
        vocabulary="vocab.txt",
    )
    export = write_model(
        task,
        path,
        dtype=dtype,
        input="ids",
        pair=pair,
        batch_size=1,
        length=length or task.max_length,
        examples=examples,
        max_drop=max_drop,
        outputs=tuple(outputs),
        finish=finish,
    )
    if texts is None and examples is not None:
        given = examples[0] if isinstance(examples, tuple) else examples
        texts = [text for column in text_columns(task, given) for text in column]
    if texts is None:
        texts = [text for row in hostile_rows(task, pair=pair) for text in row]
    differences = compare_tokenization(tokenizer, texts)
    return dataclasses.replace(export, tokenization=differences)


def _outputs(task: Task, pair: bool | None) -> dict[str, TensorInfo]:
    """Returns the outputs by their names in the task's answers."""
    if isinstance(task, TextClassifier) and not isinstance(task, RelationClassifier):
        if pair or (pair is None and task.pair):
            raise ConfigError("MediaPipe classifies single texts, received a model of pairs.")
        scores = TensorInfo("probability", "Probabilities of the labels.", ("labels.txt",))
        return {"scores": scores}
    if isinstance(task, TextEmbedder):
        return {"embedding": TensorInfo("embedding", "The embedding of the text.")}
    if isinstance(task, QuestionAnswerer):
        return {
            "end_logits": TensorInfo("end_logits", "Logits of the answer's last token."),
            "start_logits": TensorInfo("start_logits", "Logits of the answer's first token."),
        }
    raise ConfigError(
        "MediaPipe and the Task Library have tasks for a TextClassifier, a TextEmbedder and a "
        f'QuestionAnswerer, received a {type(task).__name__}. Use format="litert".'
    )


def _checked_tokenizer(tokenizer: Any) -> WordPieceTokenizer:
    if not isinstance(tokenizer, WordPieceTokenizer) or not tokenizer.lowercase:
        kind = type(tokenizer).__name__
        cased = " that keeps upper case" if isinstance(tokenizer, WordPieceTokenizer) else ""
        raise ConfigError(
            "MediaPipe has BERT's lower-casing WordPiece tokenizer alone, received a "
            f'{kind}{cased}. Use format="litert".'
        )
    return tokenizer
