"""Open-domain question answering: finds the answers to questions in a collection of documents."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Sequence
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.inputs import as_examples, document_bytes
from keras_bert_zoo.data.passages import Passages
from keras_bert_zoo.data.questions import QuestionExamples
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.heads.embedder import unit_length
from keras_bert_zoo.metrics.open_domain import (
    RECALL_CUTOFFS,
    OpenDomainReport,
    best_weight,
    passage_recall,
)
from keras_bert_zoo.metrics.question_answering import Segmentation, question_report
from keras_bert_zoo.tasks.embedding.index import DocumentSearch, search_cost
from keras_bert_zoo.tasks.embedding.text_embedder import TextEmbedder
from keras_bert_zoo.tasks.open_domain.answers import collection_difference, select_answers
from keras_bert_zoo.tasks.open_domain.checks import check_search, checked_weight
from keras_bert_zoo.tasks.open_domain.files import (
    CHANGEABLE,
    collection_config,
    collection_from_config,
    collection_parts,
    load_collection,
)
from keras_bert_zoo.tasks.open_domain.passages import embed_passages, nearest_passages
from keras_bert_zoo.tasks.options import CollectionOptions, TaskOption
from keras_bert_zoo.tasks.predicting import predict_texts
from keras_bert_zoo.tasks.question_answering.question_answerer import QuestionAnswerer
from keras_bert_zoo.tasks.question_answering.spans import best_spans
from keras_bert_zoo.tasks.saving import SavedParts
from keras_bert_zoo.tasks.spec import TaskSpec
from keras_bert_zoo.tasks.task import Context
from keras_bert_zoo.training.question_answering import reference_answers
from keras_bert_zoo.validation import check_integer

WEIGHTS = (0.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 75.0, 100.0, 150.0)
"""The default candidates of `tune_weight`."""


@keras.saving.register_keras_serializable("keras_bert_zoo")
class OpenDomainQuestionAnswerer(DocumentSearch):
    """Answers a question from a collection of documents: a retriever, then a reader.

    Documents are split into overlapping passages, which are embedded once. A question is embedded,
    an exact search returns the nearest passages, and the reader looks for the answer in each of
    them. It is not trained: it consists of two trained models. As a Keras model it is the
    retriever; the reader is the second of its `stages`.

    The spans of all passages are compared by

        reader's logits of start and end + `retriever_weight` * similarity of the passage.

    If the reader has a `null_threshold`, the logits of no answer in the passage are subtracted
    first: they say how likely the passage is to contain an answer. A passage whose no-answer logits
    exceed those of its best span by more than the threshold gives no answer.

    `predict` and the exported model take `question` and return

    - `answer` str, a substring of a document; "" if no passage has an answer;
    - `score` float32, its probability: a softmax over the sums above, of all spans of the passages
      that are read and, if the reader has a `null_threshold`, of no answer in each passage;
    - `document_id` int32, the document's number in the collection, from 0; -1 without an answer;
    - `start`, `end` int32, bytes of the document: `document_bytes[start:end]` is the answer;
      `start_character`, `end_character` int32, the same in characters, counted at each byte other
      than 0b10xxxxxx. All are 0 without an answer;
    - `passage` str, the part of the document that was read, and `passage_score` float32, its
      similarity to the question: a cosine, or a dot product if that is the embedder's similarity;
    - `no_answer` float32 (questions,): logits of no answer minus those of the best span, in the
      passage with the lowest difference.

    Their shape is (questions,) or, with `top_k` above 1, (questions, top_k), best first. Each span
    of a document occurs once. Missing answers are padded as above.

    Args:
        embedder: TextEmbedder, the retriever.
        reader: QuestionAnswerer. Its `top_k` is not used.
        documents: list of str or bytes; or Examples, whose texts are used.
        passage_tokens: int. The retriever's tokens of a passage, with special tokens; at most its
            `max_length`, the default. A shorter document is one passage.
        passage_overlap: int. Tokens that neighbouring passages share; None: a quarter of a passage.
        top_passages: int. Passages to read for a question, at most 1000; all if there are fewer.
        top_k: int. Answers per question, at most 100.
        retriever_weight: float, from 0 to below 1e6. See above. The default was the best for MiniLM
            with cosines and a reader trained on TyDi QA. `tune_weight` finds one for other models.
        passages: Passages with vectors, made earlier of these documents with this retriever. None:
            documents are split and embedded.
        batch_size: int. Passages per batch.
        verbose: 1 shows a progress bar.

    Raises:
        DataError: there are no documents.
        ConfigError: a number is invalid.

    Attributes:
        documents: list of bytes.
        passages: Passages.
        top_passages, top_k, retriever_weight: as above; can be set, and are checked.

    Source: retriever and reader as in arXiv 1704.00051; scores combined as in arXiv 1902.01718.
    """

    advice = (
        "Train the TextEmbedder and the QuestionAnswerer, and build the collection from them. "
        "`tune_weight` sets its weight, and `report` measures it."
    )
    spec = TaskSpec(
        name="open-domain-question-answering",
        head_hint="",
        options=CollectionOptions,
        texts=("question",),
        constants=("reader_constants",),
        stages=("reader",),
        # Rounding to bfloat16 would change which passages are read; a question is short.
        keeps_dtype=True,
        extra_cost=search_cost,
    )
    top_k: TaskOption[int] = TaskOption(lambda value: check_search(top_k=value))
    retriever_weight: TaskOption[float] = TaskOption(checked_weight)
    # Read-only, because the passages are already embedded.
    passage_tokens = property(operator.attrgetter("options.passage_tokens"))
    passage_overlap = property(operator.attrgetter("options.passage_overlap"))

    retriever: TextEmbedder
    reader: QuestionAnswerer

    def __init__(
        self,
        embedder: TextEmbedder,
        reader: QuestionAnswerer,
        documents: Any,
        *,
        passage_tokens: int | None = None,
        passage_overlap: int | None = None,
        top_passages: int = 5,
        top_k: int = 1,
        retriever_weight: float = 50.0,
        passages: Passages | None = None,
        batch_size: int = 64,
        verbose: Any = 0,
    ) -> None:
        texts = document_bytes(documents)
        longest = embedder.max_length
        tokens = longest if passage_tokens is None else passage_tokens
        tokens = check_integer("passage_tokens", tokens, minimum=1, maximum=longest)
        check_search(top_passages=top_passages, top_k=top_k, retriever_weight=retriever_weight)
        if passages is None:
            passages = embed_passages(
                embedder,
                texts,
                tokens=tokens,
                overlap=passage_overlap,
                batch_size=batch_size,
                verbose=verbose,
            )
        options = CollectionOptions(
            passage_tokens=tokens,
            passage_overlap=passage_overlap,
            top_passages=top_passages,
            top_k=top_k,
            retriever_weight=float(retriever_weight),
        )
        super().__init__(
            embedder, passages.texts(texts), passages.vectors, top_k=top_passages, options=options
        )
        # Not through Keras, which would count their weights among this model's.
        self.__dict__.update(retriever=embedder, reader=reader)
        self.documents = texts
        self.passages = passages
        places = [passages.document_id, passages.start, passages.start_character]
        with tf.init_scope(), tf.device("CPU:0"):
            self._places = tf.constant(np.stack(places, axis=1))  # (N, 3)

    @property
    def options(self) -> CollectionOptions:
        """The options; setting them checks them."""
        options: CollectionOptions = self._options
        return options

    @options.setter
    def options(self, value: CollectionOptions) -> None:
        check_search(**{name: getattr(value, name) for name in CHANGEABLE})
        self._options = value

    @property
    def top_passages(self) -> int:
        """Number of passages to read for a question."""
        return int(self.head.top_k)

    @top_passages.setter
    def top_passages(self, value: int) -> None:
        self.options = self.options.replace(top_passages=value)
        self.head.top_k = min(value, len(self.passages))

    @property
    def null_threshold(self) -> float | None:
        """The reader's threshold on `no_answer`; None: every question is answered."""
        return self.reader.null_threshold

    @property
    def reader_constants(self) -> tuple[Any, ...]:
        """The reader's constants in a traced graph."""
        weights = (id(variable) for variable in self.reader.weights)
        return (self.reader.options, *self.reader.graph_constants(), *weights)

    # === Files ===

    @classmethod
    def from_preset(cls, preset: str | os.PathLike[str], **kwargs: Any) -> Self:
        """Loads a saved collection; the passages are not embedded again.

        Args:
            preset: path of a directory.
            **kwargs: `top_passages`, `top_k` and `retriever_weight`, as for the constructor; by
                default as saved. `token_layout`, `allow_pickle` and `ignore_config_keys` of both
                models, and `dtype`, `max_length`, `stride`, `max_answer_tokens` and
                `null_threshold` of the reader, as for `QuestionAnswerer.from_preset`. The
                retriever computes in float32.

        Returns:
            OpenDomainQuestionAnswerer.

        Raises:
            CheckpointError: the directory is missing or incomplete, or its passages were embedded
                by another retriever.
            ConfigError: an option is invalid, or cannot be changed after the passages are embedded.
        """
        retriever, reader, documents, options = load_collection(preset, cls.spec.name, kwargs)
        return cls(retriever, reader, documents, **options)

    def saved_parts(self) -> SavedParts:
        """The files of a collection.

        They are `retriever/` and `reader/`, the saved models; documents.jsonl, a document per line;
        passages.safetensors, the passages' offsets and embeddings; and the side file.
        """
        return collection_parts(self)

    def get_config(self) -> dict[str, Any]:
        """Returns everything but the weights: the two models' configs, and the documents."""
        return collection_config(self)

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        """Builds the collection with random weights of both models from `get_config`."""
        task: Self = collection_from_config(cls, config)
        return task

    # === The graph ===

    def decode(
        self, outputs: dict[str, tf.Tensor], context: Context | None, *, options: Any = None
    ) -> dict[str, tf.Tensor]:
        """Returns the nearest passages, for callers that send token ids.

        `passage`, `document_id`, `start`, `start_character` and `passage_score`: (B, passages).
        """
        places = tf.gather(self._places, outputs["document_id"])
        return {
            "passage": tf.gather(self._texts, outputs["document_id"]),
            "document_id": places[:, :, 0],
            "start": places[:, :, 1],
            "start_character": places[:, :, 2],
            "passage_score": outputs["score"],
        }

    def answer_with(
        self,
        runs: Sequence[Callable[[dict[str, tf.Tensor]], Any]],
        *texts: tf.Tensor,
        options: Any = None,
    ) -> dict[str, tf.Tensor]:
        """Finds passages for questions (B,) and reads them; see `Task.answer_with`."""
        options = self.options if options is None else options
        search, read = runs
        (question,) = texts
        inputs, _ = self.encode_texts(question)
        passages = self.decode(search(inputs), None)
        passage_texts = tf.reshape(passages["passage"], [-1])  # (B * P,)
        inputs, context = self.reader.encode_texts(
            tf.repeat(question, self.top_passages), passage_texts
        )
        best = best_spans(
            read(inputs),
            context,
            tf.size(passage_texts),
            top_k=1 if options.by_passage else options.top_k,
            max_tokens=self.reader.max_answer_tokens,
        )
        return select_answers(passages, best, options, null_threshold=self.null_threshold)

    def answer_difference(
        self, expected: dict[str, np.ndarray], got: dict[str, np.ndarray], tolerance: float
    ) -> float | None:
        """Compares two answers; spans or passages with equal scores may be in any order."""
        return collection_difference(expected, got, tolerance, weight=self.retriever_weight)

    # === Questions ===

    def examples(self, x: Any, y: Any = None, *, labelled: bool = True) -> Any:
        """Converts questions or QuestionExamples; contexts are not read."""
        if isinstance(x, QuestionExamples):
            return x if labelled else Examples(x.questions, rows=x.rows, path=x.path)
        examples = as_examples(x)
        if examples.text_pairs is not None:
            raise DataError(
                "Expected only questions, received pairs. The collection contains the texts to "
                "read; use a QuestionAnswerer to read given texts."
            )
        if not labelled:
            return examples
        return QuestionExamples(examples.texts, [""] * len(examples))

    def find_passages(
        self, questions: Sequence[str | bytes], *, top_passages: int, batch_size: int = 64
    ) -> tuple[np.ndarray, np.ndarray]:
        """Finds the nearest passages to questions, without reading them.

        Args:
            questions: list of str or bytes.
            top_passages: int. Number of passages; at most all.
            batch_size: int.

        Returns:
            int64 (questions, passages), numbers of `passages`, the nearest first, and of equally
            near ones the lower number first; and float32 of the same shape, their similarities.
        """
        prompt = "query" if "query" in self.retriever.prompts else None
        vectors = self.retriever.embed(questions, prompt=prompt, batch_size=batch_size)
        if self.head.normalize:
            vectors = unit_length(tf.constant(vectors)).numpy()
        return nearest_passages(vectors, self.passages, min(top_passages, len(self.passages)))

    # === Evaluation ===

    def report(
        self,
        x: Any,
        y: Any = None,
        *,
        batch_size: int = 64,
        segmentation: Segmentation = "auto",
    ) -> OpenDomainReport:
        """Measures exact match and F1 of the answers, and the recall of the correct passages.

        Args:
            x: QuestionExamples with answers. A passage is correct if it contains the answer and the
                question's context is its document. Contexts are not read.
            y: or a list of answers for each question: texts, (text, start), or as in SQuAD
                `{"text": [...], "answer_start": [...]}`.
            batch_size: int. Questions per batch.
            segmentation: see `question_report`.

        Returns:
            OpenDomainReport.

        Raises:
            DataError: there are no questions, or no answers to compare with.
        """
        examples = self.examples(x)
        targets, references = reference_answers(examples, y)
        options = self.options.replace(top_k=1)
        answers = predict_texts(self, examples, batch_size=batch_size, verbose=0, options=options)
        cutoffs = sorted({*RECALL_CUTOFFS, self.top_passages})
        retrieved, _ = self.find_passages(
            examples.questions, top_passages=cutoffs[-1], batch_size=batch_size
        )
        collection = (self.passages, self.documents, examples.contexts)
        recall = passage_recall(retrieved, *collection, targets, references, cutoffs)
        return OpenDomainReport(
            question_report(answers["answer"].tolist(), references, segmentation=segmentation),
            **recall,
            documents=len(self.documents),
            passages=len(self.passages),
        )

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
        """Returns the numbers of `report`; there is no loss.

        Args: as in `report`; `return_dict=False` returns a list of numbers.

        Raises:
            ConfigError: another argument of Keras, such as `steps`.
        """
        if kwargs:
            raise ConfigError(
                f"`evaluate` of a collection does not take {', '.join(map(repr, kwargs))}: it "
                "answers all questions. Pass fewer questions instead."
            )
        report = self.report(x, y, batch_size=batch_size or 64, segmentation=segmentation)
        values = report.to_dict()
        return values if return_dict else [v for v in values.values() if not isinstance(v, str)]

    def tune_weight(
        self,
        x: Any,
        y: Any = None,
        *,
        weights: Sequence[float] = WEIGHTS,
        batch_size: int = 64,
        segmentation: Segmentation = "auto",
    ) -> float:
        """Sets `retriever_weight` to the value with the best F1 on held-out data.

        Args: as in `report`; `weights` are the candidates. The first of equally good ones wins.

        Returns:
            float, the weight.

        Raises:
            DataError: as in `report`.
            ConfigError: `weights` is empty, or a weight is invalid.
        """
        candidates = [checked_weight(weight) for weight in weights]
        if not candidates:
            raise ConfigError("Expected at least one candidate in `weights`, received none.")
        examples = self.examples(x)
        _, references = reference_answers(examples, y)
        options = self.options.replace(by_passage=True)
        spans = predict_texts(self, examples, batch_size=batch_size, verbose=0, options=options)
        self.retriever_weight = best_weight(
            spans,
            references,
            weights=candidates,
            null_threshold=self.null_threshold,
            segmentation=segmentation,
        )
        return self.retriever_weight
