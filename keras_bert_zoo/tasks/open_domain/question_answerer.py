"""Open-domain question answering: a question against a collection, not against a given text."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Self

import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.squad import Answer, QuestionExamples
from keras_bert_zoo.directories.replacing import find_directory, replace_directory
from keras_bert_zoo.errors import CheckpointError, ConfigError, DataError
from keras_bert_zoo.files import SIDE_FILE, write_json
from keras_bert_zoo.heads.embedder import unit_length
from keras_bert_zoo.metrics.open_domain import OpenDomainReport, best_weight
from keras_bert_zoo.metrics.question_answering import Segmentation
from keras_bert_zoo.tasks.files import read_side_file
from keras_bert_zoo.tasks.inputs import as_examples
from keras_bert_zoo.tasks.open_domain.files import read_documents, write_documents
from keras_bert_zoo.tasks.open_domain.measuring import measure
from keras_bert_zoo.tasks.open_domain.model import PassageReader, checked_weight
from keras_bert_zoo.tasks.open_domain.passages import Passages, check_passages
from keras_bert_zoo.tasks.question_answering.training import answer_texts

RETRIEVER, READER = "retriever", "reader"
"""Folders of a saved collection."""
WEIGHTS = (0.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 75.0, 100.0, 150.0)
"""What `tune_weight` tries."""

_SEARCHED_AT_ONCE = 256  # questions; bounds the memory of their similarities to all passages


class OpenDomainQuestionAnswerer(PassageReader):
    """Answers a question from a collection of documents: a retriever, then a reader.

    Documents are cut into overlapping passages, which are embedded once. A question is embedded,
    the nearest passages are found, exactly, and the reader looks for the answer in each of them.
    There is no training of its own: it is made of two trained models.

    Spans of all passages that are read compete by

        reader's logits of start and end + `retriever_weight` * similarity of the passage.

    Of a reader with a `null_threshold` the logits of no answer, in the same passage, are subtracted
    first: they say how likely the passage is to answer at all. Passages in which no answer exceeds
    the best span by more than the threshold give none.

    `predict` and the exported model take `question` and answer with

    - `answer` str, cut out of a document; "" where no passage answers;
    - `score` float32, its probability: a softmax over the sums above, of all spans of all passages
      that are read, with that of no answer in each where the reader has a `null_threshold`;
    - `document_id` int32, the document's number in the collection, from 0; -1 without an answer;
    - `start`, `end` int32, bytes of the document: `document_bytes[start:end]` is the answer;
      `start_character`, `end_character` int32, the same in characters, counted at each byte other
      than 0b10xxxxxx. All are 0 where there is no answer;
    - `passage` str, the part of the document that was read, and `passage_score` float32, its
      similarity with the question: a cosine, or a dot product where the embedder compares by these;
    - `no_answer` float32 (questions,): by how much the logits of no answer exceed those of the best
      span, in the passage where they do so least.

    They are of the shape (questions,), or with `top_k` above 1 of (questions, top_k), from the best
    to the least, each span of a document once; places without an answer are filled as above.

    Args:
        embedder: TextEmbedder, the retriever.
        reader: QuestionAnswerer. Its `top_k` is not used.
        documents: list of str or bytes; Examples, of which the texts are taken.
        passage_tokens: int. The retriever's tokens of a passage, with its special tokens; at most
            its `max_length`, which is the default. Shorter documents are one passage, whole.
        passage_overlap: int. Tokens that neighbouring passages share; None: a quarter of a passage.
        top_passages: int. How many are read for a question, at most 1000; all where they are
            fewer.
        top_k: int. How many answers are given, at most 100.
        retriever_weight: float, from 0 to below 1e6. See above; the default was the best for
            MiniLM and a reader trained on TyDi QA, with cosines. `tune_weight` finds one for other
            models.
        passages: Passages with vectors, made of these documents by this retriever before. None:
            documents are cut and embedded.
        batch_size: int. Passages embedded at once.
        verbose: 1 shows a progress bar.

    Raises:
        DataError: there are no documents.
        ConfigError: a number that makes no sense.

    Attributes:
        documents: list of bytes.
        passages: Passages.
        top_passages, top_k, retriever_weight: as above; can be set, and are checked.

    Source: retriever and reader as in arXiv 1704.00051; scores put together as in arXiv 1902.01718.
    """

    task_name: ClassVar[str] = "open-domain-question-answering"

    # === Questions ===

    def _examples(self, x: Any) -> Any:
        return x if isinstance(x, QuestionExamples) else as_examples(x)

    def _text_columns(self, examples: Any) -> tuple[Sequence[Any], ...]:
        if isinstance(examples, QuestionExamples):
            return (examples.questions,)
        if examples.text_pairs is not None:
            raise DataError(
                "Expected questions alone, got pairs: the texts to read are those of the "
                "collection. A QuestionAnswerer reads a given text."
            )
        return (examples.texts,)

    def find_passages(
        self, questions: Sequence[str | bytes], *, top_passages: int, batch_size: int = 64
    ) -> tuple[np.ndarray, np.ndarray]:
        """Finds the passages that are nearest to questions, without reading them.

        Args:
            questions: list of str or bytes.
            top_passages: int. How many; all where they are fewer.
            batch_size: int.

        Returns:
            int64 (questions, passages), numbers of `passages`, the nearest first, of equally near
            ones the first; and float32 of the same shape, their similarities.
        """
        prompt = "query" if "query" in self.retriever.prompts else None
        vectors = self.retriever.embed(questions, prompt=prompt, batch_size=batch_size)
        if self.head.normalize:
            vectors = unit_length(tf.constant(vectors)).numpy()
        count = min(top_passages, len(self.passages))
        numbers, scores = [np.zeros((0, count), np.int64)], [np.zeros((0, count), np.float32)]
        for begin in range(0, len(vectors), _SEARCHED_AT_ONCE):
            similarity = vectors[begin : begin + _SEARCHED_AT_ONCE] @ self.passages.vectors.T
            order = np.argsort(-similarity, axis=1, kind="stable")[:, :count]
            numbers.append(order)
            scores.append(np.take_along_axis(similarity, order, 1))
        return np.concatenate(numbers), np.concatenate(scores)

    # === Measuring ===

    def report(
        self,
        x: Any,
        y: Any = None,
        *,
        batch_size: int = 64,
        segmentation: Segmentation = "auto",
    ) -> OpenDomainReport:
        """Exact match and F1 of the answers, and how often the right passage is found.

        Args:
            x: QuestionExamples with answers. Their contexts are not read; where they are documents
                of the collection, they say which passages are right.
            y: or questions' answers, a list for each: of texts, of (text, start), or as SQuAD has
                them, `{"text": [...], "answer_start": [...]}`.
            batch_size: int. Questions at once.
            segmentation: see `question_report`.

        Returns:
            OpenDomainReport.

        Raises:
            DataError: there are no questions, or no answers to compare with.
        """
        examples, targets, references = self._right_answers(x, y)
        return measure(self, examples, targets, references, batch_size, segmentation)

    def evaluate(
        self,
        x: Any,
        y: Any = None,
        *,
        batch_size: int | None = None,
        verbose: Any = 0,
        segmentation: Segmentation = "auto",
        return_dict: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Gives the figures of `report`; there is no loss.

        Args:
            x: as in `report`.
            y: as in `report`.
            batch_size: int. Questions at once; None: 64.
            verbose: not used.
            segmentation: as in `report`.
            return_dict: bool. False: the numbers alone.
            **kwargs: none.

        Returns:
            dict, as of `OpenDomainReport.to_dict`; or a list of its numbers, in their order.

        Raises:
            DataError: there are no questions, or no answers to compare with.
            ConfigError: an argument that is unknown here, such as `steps`.
        """
        if kwargs:
            raise ConfigError(
                f"`evaluate` of a collection does not take {', '.join(map(repr, kwargs))}: it "
                "answers all questions; give it some of them."
            )
        report = self.report(x, y, batch_size=batch_size or 64, segmentation=segmentation)
        figures = report.to_dict()
        if return_dict:
            return figures
        return [figure for figure in figures.values() if not isinstance(figure, str)]

    def tune_weight(
        self,
        x: Any,
        y: Any = None,
        *,
        weights: Sequence[float] = WEIGHTS,
        batch_size: int = 64,
        segmentation: Segmentation = "auto",
    ) -> float:
        """Sets `retriever_weight` to the one with the best F1 on held-out data.

        Args:
            x: QuestionExamples with answers.
            y: or questions' answers, as in `report`.
            weights: floats to choose from; of equally good ones the first.
            batch_size: int. Questions at once.
            segmentation: as for `report`.

        Returns:
            float, the weight.

        Raises:
            DataError: there are no questions, or no answers to compare with.
            ConfigError: there are no weights, or one is negative.
        """
        tried = [checked_weight(weight) for weight in weights]
        if not tried:
            raise ConfigError("Expected `weights` to choose from, got none.")
        examples, _, references = self._right_answers(x, y)
        try:
            self._by_passage = True
            spans = self.predict(examples, batch_size=batch_size)
        finally:
            self._by_passage = False
        self.retriever_weight = best_weight(
            spans,
            references,
            weights=tried,
            null_threshold=self.null_threshold,
            segmentation=segmentation,
        )
        return self.retriever_weight

    def _right_answers(
        self, x: Any, y: Any
    ) -> tuple[QuestionExamples, list[list[Answer]], list[list[str]]]:
        """Questions, their answers of known place, and the texts of all their answers."""
        examples = self._examples(x)
        if not len(examples):
            raise DataError("There are no examples: expected at least one question.")
        if not isinstance(examples, QuestionExamples):
            (questions,) = self._text_columns(examples)
            examples = QuestionExamples(list(questions), [""] * len(questions))
        if y is not None:
            references, targets = answer_texts(y, examples)
            return examples, targets, references
        known = examples.right_texts()
        if known is None:
            raise DataError(
                "There are no answers: give QuestionExamples with answers, or `y`: for each "
                "question a list of texts, or of (text, start), start in characters of its context."
            )
        return examples, examples.answers or [[] for _ in known], known

    def _training_hint(self) -> str:
        return (
            "train the TextEmbedder and the QuestionAnswerer, and build it of them; `tune_weight` "
            "sets its only number, and `report` measures it"
        )

    # === Files ===

    @classmethod
    def from_preset(cls, preset: str | os.PathLike[str], **kwargs: Any) -> NoReturn:
        """Raises ConfigError: there is no preset of a collection, which has documents."""
        raise ConfigError(
            f"A collection is not built on a preset but of two models and documents: "
            f"{cls.__name__}(embedder, reader, documents); `load` reads a saved one."
        )

    @classmethod
    def load(cls, directory: str | os.PathLike[str], **kwargs: Any) -> Self:
        """Loads what `save` wrote; the passages are not embedded again.

        Args:
            directory: path.
            **kwargs: `top_passages`, `top_k` and `retriever_weight`, as for the constructor; left
                out, they are as saved. `token_layout`, `allow_pickle` and `ignore_config_keys`, of
                both models, and `dtype`, `max_length`, `stride`, `max_answer_tokens` and
                `null_threshold`, of the reader, as for `QuestionAnswerer.from_preset`; the
                retriever computes in float32.

        Returns:
            OpenDomainQuestionAnswerer.

        Raises:
            CheckpointError: the directory is not there or not whole, or its passages were embedded
                by another retriever than the one that is there now.
            ConfigError: an option that makes no sense, or that cannot be changed any more.
        """
        from keras_bert_zoo.tasks.embedding.text_embedder import TextEmbedder
        from keras_bert_zoo.tasks.question_answering.question_answerer import QuestionAnswerer

        for name in kwargs:
            if name not in (*_CHANGEABLE, *_OF_BOTH, *_OF_READER):
                raise ConfigError(
                    f"`{name}` is no option of loading a collection, whose passages are cut and "
                    f"embedded: expected {', '.join((*_CHANGEABLE, *_OF_BOTH, *_OF_READER))}. "
                    "Build it anew for another."
                )
        directory = find_directory(directory)
        if not os.path.isdir(directory):
            raise CheckpointError(f"No directory {os.fspath(directory)!r} to load a model from.")
        side = read_side_file(directory)
        if side.get("task") != cls.task_name:
            raise CheckpointError(
                f"{os.fspath(directory)!r} holds no collection with its retriever and reader: "
                f"expected what {cls.__name__}.save wrote."
            )
        options = {name: side[name] for name in _OPTIONS if name in side}
        options |= {name: kwargs.pop(name) for name in _CHANGEABLE if name in kwargs}
        base = Path(directory)
        documents = read_documents(base)
        passages = Passages.load(base, documents)
        general = {name: kwargs[name] for name in _OF_BOTH if name in kwargs}
        retriever = TextEmbedder.load(base / RETRIEVER, **general)
        check_passages(passages, documents, retriever, where=os.fspath(directory))
        reader = QuestionAnswerer.load(base / READER, **kwargs)
        return cls(retriever, reader, documents, passages=passages, **options)

    def save(self, directory: str | os.PathLike[str], *, overwrite: bool = True) -> None:
        """Writes the two models, the documents and their passages into one directory.

        `retriever/` and `reader/`, as these two save themselves; documents.jsonl, one a line;
        passages.safetensors, their places and embeddings; and `keras_bert_zoo.json`. Written aside
        and renamed: an earlier save stays whole until the new one is.

        Args:
            directory: path; missing, empty, or an earlier save.
            overwrite: bool. Whether to replace an earlier save.

        Raises:
            CheckpointError: it cannot be written, or is there and not to be replaced.
        """
        if not overwrite and os.path.exists(find_directory(directory)):
            raise CheckpointError(f"{os.fspath(directory)!r} exists, and `overwrite` is False.")
        with replace_directory(directory, CheckpointError, marker=SIDE_FILE) as aside:
            self.retriever.save(aside / RETRIEVER)
            self.reader.save(aside / READER)
            write_documents(aside, self.documents)
            self.passages.save(aside)
            write_json(aside / "config.json", {"architectures": [type(self).__name__]})
            options = {name: getattr(self, name) for name in _OPTIONS}
            write_json(aside / SIDE_FILE, {"task": self.task_name, **options})


_CHANGEABLE = ("top_passages", "top_k", "retriever_weight")
_OPTIONS = ("passage_tokens", "passage_overlap", *_CHANGEABLE)
_OF_BOTH = ("token_layout", "allow_pickle", "ignore_config_keys")
_OF_READER = ("dtype", "max_length", "stride", "max_answer_tokens", "null_threshold")
