"""A retriever and a reader as one model: its graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.tasks.answering import AnsweringModel, as_bytes, largest_difference
from keras_bert_zoo.tasks.embedding.index import DocumentSearch, check_count
from keras_bert_zoo.tasks.inputs import document_texts
from keras_bert_zoo.tasks.open_domain.answers import best_answers, passage_spans
from keras_bert_zoo.tasks.open_domain.passages import Passages, embed_passages
from keras_bert_zoo.tasks.question_answering.spans import best_spans

if TYPE_CHECKING:
    from keras_bert_zoo.tasks.embedding.text_embedder import TextEmbedder
    from keras_bert_zoo.tasks.question_answering.question_answerer import QuestionAnswerer


_MOST_PASSAGES = 1000
_MOST_ANSWERS = 100  # the search for each of a passage's spans is a part of the graph


class PassageReader(DocumentSearch):
    """Base of `OpenDomainQuestionAnswerer`, where all is explained: from questions to answers.

    As a Keras model it is the retriever; the reader is the second of its `stages`.
    """

    takes_datasets: ClassVar[bool] = False
    # Rounding to bfloat16 would change which passages are read; a question is short.
    keeps_dtype: ClassVar[bool] = True

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
        texts = document_texts(documents)
        if not len(texts):
            raise DataError("There are no documents: expected at least one text.")
        if passage_tokens is None:
            passage_tokens = embedder.max_length
        _check_at_most("passage_tokens", passage_tokens, embedder.max_length)
        check_search(top_passages=top_passages, top_k=top_k, retriever_weight=retriever_weight)
        stored = [as_bytes(text) for text in texts]
        if passages is None:
            passages = embed_passages(
                embedder,
                stored,
                tokens=passage_tokens,
                overlap=passage_overlap,
                batch_size=batch_size,
                verbose=verbose,
            )
        super().__init__(embedder, passages.vectors, top_k=top_passages)
        # Not through Keras, which would count their weights among this model's.
        self.__dict__.update(retriever=embedder, reader=reader)
        self.documents = stored
        self.passages = passages
        self._passage_tokens, self._passage_overlap = passage_tokens, passage_overlap
        self.top_k = top_k
        self.retriever_weight = retriever_weight
        self._by_passage = False
        texts = passages.texts(stored)
        self._size = sum(map(len, texts))
        with tf.init_scope(), tf.device("CPU:0"):
            self._texts = tf.constant(texts, tf.string)
            self._places = tf.constant(
                np.stack([passages.document_id, passages.start, passages.start_character], axis=1)
            )  # (N, 3)

    @property
    def passage_tokens(self) -> int:
        """The retriever's tokens of a passage, at most; as the documents were cut."""
        return self._passage_tokens

    @property
    def passage_overlap(self) -> int | None:
        """Tokens that neighbouring passages share; None: a quarter. As the documents were cut."""
        return self._passage_overlap

    @property
    def top_passages(self) -> int:
        """How many passages are read for a question; ConfigError unless from 1 to 1000."""
        return int(self.head.top_k)

    @top_passages.setter
    def top_passages(self, value: int) -> None:
        check_search(top_passages=value)
        self.head.top_k = min(value, len(self.passages))

    @property
    def top_k(self) -> int:
        """How many answers are given; ConfigError unless from 1 to 100."""
        return self._top_k

    @top_k.setter
    def top_k(self, value: int) -> None:
        check_search(top_k=value)
        self._top_k = value

    @property
    def retriever_weight(self) -> float:
        """Of a passage's similarity beside logits; ConfigError unless from 0 to below 1e6."""
        return self._retriever_weight

    @retriever_weight.setter
    def retriever_weight(self, value: float) -> None:
        self._retriever_weight = checked_weight(value)

    @property
    def null_threshold(self) -> float | None:
        """The reader's, of `no_answer`; None: every question is answered."""
        return self.reader.null_threshold

    # === The graph ===

    def stages(self) -> Sequence[AnsweringModel]:
        """This model, which finds passages; and the reader."""
        return (self, self.reader)

    def text_specs(self, *, pair: bool | None = None) -> dict[str, tf.TensorSpec]:
        """`question`, string (B,)."""
        return {"question": tf.TensorSpec([None], tf.string, name="question")}

    def answers(self, outputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """For callers who send token ids: the passages that are nearest.

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
        self, runs: Sequence[Callable[[dict[str, tf.Tensor]], Any]], *texts: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Finds passages for questions and reads them; see `AnsweringModel`.

        Legend: B questions, P passages read for each, K answers.
        """
        search, read = runs
        (question,) = texts
        inputs, _ = self.encode_texts(question)
        found = self.answers(search(inputs))
        passages = tf.reshape(found["passage"], [-1])  # (B * P,)
        inputs, context = self.reader.encode_texts(tf.repeat(question, self.top_passages), passages)
        top_k = 1 if self._by_passage else self.top_k
        best = best_spans(
            read(inputs),
            context,
            tf.size(passages),
            top_k=top_k,
            max_tokens=self.reader.max_answer_tokens,
        )
        threshold = self.null_threshold
        spans = passage_spans(found, best, less_null=threshold is not None)
        if self._by_passage:
            return {
                "answer": spans.columns["answer"][:, :, 0],
                "reader_score": spans.scores[:, :, 0],
                "no_answer": spans.no_answer,
                "passage_score": found["passage_score"],
            }
        answers = best_answers(
            spans,
            found["passage_score"],
            top_k=top_k,
            weight=self.retriever_weight,
            null_threshold=threshold,
        )
        if top_k == 1:
            answers = {
                name: values if name == "no_answer" else values[:, 0]
                for name, values in answers.items()
            }
        return answers

    def _graph_key(self) -> tuple[Any, ...]:
        return (
            *super()._graph_key(),
            self.top_k,
            self.top_passages,
            self.retriever_weight,
            self._by_passage,
            *self.reader._graph_key(),
            *(id(variable) for variable in self.reader.weights),
        )

    def answer_difference(
        self, expected: dict[str, np.ndarray], got: dict[str, np.ndarray], tolerance: float
    ) -> float | None:
        """Compares two answers; spans that are as good as equally probable may change places."""
        if "answer" not in expected:  # passages, for token ids
            names = ("document_id", "start", "passage")
            different = np.logical_or.reduce([expected[n] != got[n] for n in names])
            differences = np.abs(expected["passage_score"] - got["passage_score"])
            if (differences[different] > 2 * tolerance).any():
                return None
            return largest_difference(expected["passage_score"], got["passage_score"])
        places = ("answer", "document_id", "start", "end", "start_character", "end_character")
        different = np.logical_or.reduce([expected[n] != got[n] for n in places])
        if different.any():
            # One step of rounding in the logits is one factor of the probability.
            scores = [np.maximum(answer["score"], 1e-30) for answer in (expected, got)]
            if (np.abs(np.log(scores[0] / scores[1]))[different] > 20 * tolerance).any():
                return None
        similarities = [np.where(different, 0, a["passage_score"]) for a in (expected, got)]
        return max(
            # Rounding of similarities counts as often as their weight says.
            largest_difference(expected["score"], got["score"])
            / max(1.0, self.retriever_weight / 10),
            largest_difference(*similarities),
            # A sum of four logits.
            largest_difference(expected["no_answer"], got["no_answer"]) / 4,
        )

    def _text_bytes(self) -> int:
        return self._size


def check_search(*, top_passages: Any = 1, top_k: Any = 1, retriever_weight: Any = 0.0) -> None:
    """Raises ConfigError for what `PassageReader` does not take: one graph holds all of it."""
    _check_at_most("top_passages", top_passages, _MOST_PASSAGES)
    _check_at_most("top_k", top_k, _MOST_ANSWERS)
    checked_weight(retriever_weight)


def checked_weight(value: Any) -> float:
    """Returns a weight as a float; raises ConfigError for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6:
        raise ConfigError(
            f"`retriever_weight` must be a number of at least 0 and below 1,000,000, got {value!r}."
        )
    return float(value)


def _check_at_most(name: str, value: Any, most: int) -> None:
    check_count(name, value)
    if value > most:
        raise ConfigError(f"`{name}` must be at most {most}, got {value}.")
