"""Semantic search: an embedder with the embeddings of documents."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NoReturn

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.inputs import document_bytes
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.heads.embedder import EmbeddingHead, unit_length
from keras_bert_zoo.tasks.options import EmbeddingOptions
from keras_bert_zoo.tasks.predicting import largest_difference
from keras_bert_zoo.tasks.spec import TaskSpec
from keras_bert_zoo.tasks.task import Context, Task
from keras_bert_zoo.validation import check_choice, check_integer

# The documents' texts are a constant of an export's graph, which is limited to 2 GiB.
_MOST_TEXT_BYTES = 400_000_000
# Larger embeddings are variables of an export, outside its graph.
_MOST_CONSTANT_BYTES = 500_000_000


@keras.saving.register_keras_serializable("keras_bert_zoo")
class SearchHead(keras.layers.Layer):
    """Finds the nearest vectors by an exact search: one product with all of them.

    Args:
        embedding: EmbeddingHead of the queries.
        vectors: float32 (N, D), of the documents.
        top_k: int. Number of results; at most N.
        normalize: bool. Whether queries are scaled to length 1, for cosines.

    Call arguments:
        queries: float32 (B, D), output of `embedding`.

    Returns:
        dict: `score` float32 (B, K), dot products in descending order; `document_id` int32 (B, K),
        rows of `vectors`. Of equal scores, the lower row comes first.
    """

    def __init__(
        self,
        embedding: EmbeddingHead,
        vectors: np.ndarray,
        *,
        top_k: int,
        normalize: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", "name": "search"} | kwargs)
        self.embedding = embedding
        self.top_k = top_k
        self.normalize = normalize
        self.corpus = self.add_weight(
            name="corpus", shape=vectors.shape, initializer="zeros", trainable=False
        )
        self.corpus.assign(vectors)
        self.built = True

    def call(self, queries: tf.Tensor) -> dict[str, tf.Tensor]:
        """Searches; see the class."""
        if self.normalize:
            queries = unit_length(queries)
        scores = tf.matmul(queries, tf.convert_to_tensor(self.corpus), transpose_b=True)
        score, document_id = tf.math.top_k(scores, k=self.top_k)
        return {"score": score, "document_id": document_id}


def document_vectors(
    embedder: Any, texts: Sequence[str | bytes], *, batch_size: int = 64, verbose: Any = 0
) -> np.ndarray:
    """Embeds documents for a `DocumentSearch`.

    Args:
        embedder: TextEmbedder. Its prompt "document" is used if it exists.
        texts: list of str or bytes.
        batch_size: int.
        verbose: 1 shows a progress bar.

    Returns:
        float32 (texts, D); of length 1 if the embedder's similarity is cosine.

    Raises:
        ConfigError: the similarity is neither cosine nor dot product.
    """
    check_choice("embedder.similarity", embedder.similarity, ("cosine", "dot"))
    vectors = embedder.embed(
        texts,
        prompt="document" if "document" in embedder.prompts else None,
        batch_size=batch_size,
        verbose=verbose,
    )
    return unit_length(tf.constant(vectors)).numpy() if embedder.similarity == "cosine" else vectors


def _untrainable(name: str) -> Callable[..., NoReturn]:
    """Makes a method that refuses to train or measure."""

    def method(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
        raise ConfigError(
            f"A collection is not trained, so `{name}` is not supported. {self.advice}"
        )

    method.__name__ = name
    method.__doc__ = "Raises ConfigError: a collection is not trained."
    return method


@keras.saving.register_keras_serializable("keras_bert_zoo")
class DocumentSearch(Task):
    """Base class of tasks that search documents for the embedding of a text.

    Args:
        embedder: TextEmbedder.
        texts: list of bytes. The texts that an answer contains.
        vectors: float32 (N, D), of `document_vectors`.
        top_k: int. Number of results; at most all.
        options: EmbeddingOptions; None: the default.
        **kwargs: as for `Task`.
    """

    advice: ClassVar[str]
    """The models to train and the methods to measure instead."""

    def __init__(
        self,
        embedder: Any,
        texts: Sequence[bytes],
        vectors: np.ndarray,
        *,
        top_k: int,
        options: EmbeddingOptions | None = None,
        **kwargs: Any,
    ) -> None:
        head = SearchHead(
            embedder.head,
            vectors,
            top_k=min(top_k, len(vectors)),
            normalize=embedder.similarity == "cosine",
        )
        super().__init__(
            embedder.encoder,
            embedder.tokenizer,
            head,
            options=(options or EmbeddingOptions()).replace(
                max_length=embedder.max_length,
                prompt=embedder.prompts.get("query", embedder.options.prompt),
            ),
            token_layout=embedder.token_layout,
            **kwargs,
        )
        self._text_bytes = sum(map(len, texts))
        with tf.init_scope(), tf.device("CPU:0"):
            self._texts = tf.constant(texts, tf.string)

    compile = _untrainable("compile")
    fit = _untrainable("fit")
    evaluate: Any = _untrainable("evaluate")
    train_on_batch = _untrainable("train_on_batch")
    test_on_batch = _untrainable("test_on_batch")

    @classmethod
    def connect(cls, encoder: Encoder, head: Any, inputs: Mapping[str, Any], **layout: Any) -> Any:
        """Searches for the embeddings of inputs; see `SearchHead` and `Task.connect`."""
        return head(connect_embedding(encoder, head.embedding, inputs, **layout))

    def encode_texts(
        self, *texts: tf.Tensor, options: Any = None
    ) -> tuple[dict[str, tf.Tensor], Context]:
        """Adds the prompt of queries to texts and tokenizes them; see `Task.encode_texts`."""
        return encode_with_prompt(self, *texts, options=options)

    def export(
        self, path: str | os.PathLike[str], format: str = "saved_model", **kwargs: Any
    ) -> Any:
        """Writes the search as one file that takes raw strings; see `Task.export`.

        It contains the documents' texts and embeddings. Embeddings of more than 500 MB, and then
        also the encoder's weights, are variables outside the graph, which is limited to 2 GiB.

        Raises:
            ConfigError: the documents' texts exceed 400 MB, or an option is not possible.
            ExportError: it cannot be written, or its answers differ from this model's.
        """
        if self._text_bytes > _MOST_TEXT_BYTES:
            raise ConfigError(
                f"The documents have {self._text_bytes:,} bytes of text; an export holds at most "
                f"{_MOST_TEXT_BYTES:,} in its graph. Index shorter texts, such as titles or ids, "
                "and keep the documents elsewhere."
            )
        rows, width = self.head.corpus.shape
        if format == "saved_model" and rows * width * 4 > _MOST_CONSTANT_BYTES:
            kwargs = {"freeze": False} | kwargs
        return super().export(path, format, **kwargs)


def search_cost(task: Any, inputs: Any) -> int:
    """Memory of the similarities to all documents, in tokens: 1000 cost about as one token."""
    return int(task.head.corpus.shape[0]) // 1000


@keras.saving.register_keras_serializable("keras_bert_zoo")
class SemanticSearch(DocumentSearch):
    """Returns the nearest documents to a text; made by `TextEmbedder.index`.

    `predict` and the exported model return `document` (texts, K) str, the nearest first;
    `document_id` (texts, K) int32, their numbers, from 0; and `score` (texts, K) float32: cosines,
    or dot products if that is the embedder's similarity. The search is exact.

    Args:
        embedder: TextEmbedder.
        documents: list of str or bytes.
        top_k: int. K; at most all documents.
        batch_size: int. Documents per batch.
        verbose: 1 shows a progress bar.

    Raises:
        DataError: there are no documents.
        ConfigError: `top_k` is not positive, or the embedder has another similarity.

    Attributes:
        documents: list of bytes.
    """

    spec = TaskSpec(name="semantic-search", options=EmbeddingOptions, extra_cost=search_cost)
    advice = "Train the TextEmbedder, measure it by its `report`, and call its `index`."

    def __init__(
        self,
        embedder: Any,
        documents: Any,
        *,
        top_k: int = 10,
        batch_size: int = 64,
        verbose: Any = 0,
    ) -> None:
        texts = document_bytes(documents)
        check_integer("top_k", top_k, minimum=1)
        vectors = document_vectors(embedder, texts, batch_size=batch_size, verbose=verbose)
        super().__init__(embedder, texts, vectors, top_k=top_k)
        self.documents = texts

    def get_config(self) -> NoReturn:
        """Raises ConfigError: a search is made from a saved TextEmbedder."""
        raise ConfigError(
            "A SemanticSearch is not saved. Save its TextEmbedder and call `index` again, or "
            "`export` the search."
        )

    def decode(
        self, outputs: dict[str, tf.Tensor], context: Context | None, *, options: Any = None
    ) -> dict[str, tf.Tensor]:
        """Adds the documents' texts; see the class."""
        return {"document": tf.gather(self._texts, outputs["document_id"]), **outputs}

    def answer_difference(
        self, expected: dict[str, np.ndarray], got: dict[str, np.ndarray], tolerance: float
    ) -> float | None:
        """Compares two answers; documents with equal scores may be in any order."""
        scores = [
            dict(zip(answer["document_id"].tolist(), answer["score"], strict=True))
            for answer in (expected, got)
        ]
        last = min(expected["score"].min(), got["score"].min())
        for number in scores[0].keys() | scores[1].keys():
            if abs(scores[0].get(number, last) - scores[1].get(number, last)) > 2 * tolerance:
                return None
        texts = [self.documents[number] for number in got["document_id"].tolist()]
        if got["document"].tolist() != texts:
            return None
        return largest_difference(expected["score"], got["score"])

    def save(self, directory: str | os.PathLike[str], *, overwrite: bool = True) -> NoReturn:
        """Raises ConfigError: save the embedder instead."""
        raise ConfigError(
            "A search cannot be saved. Save the TextEmbedder, load it, and call `index`; or "
            "`export` the search."
        )


def encode_with_prompt(
    task: Task, text: tf.Tensor, *, options: Any = None
) -> tuple[dict[str, tf.Tensor], Context]:
    """Adds the prompt to texts and tokenizes them; see `Task.encode_texts`."""
    prompt = (task.options if options is None else options).prompt
    if prompt:
        text = tf.strings.join([prompt, text])
    return task.tokenizer(text, max_length=task.max_length), {}


def connect_embedding(
    encoder: Encoder, head: EmbeddingHead, inputs: Mapping[str, Any], **layout: Any
) -> Any:
    """Computes embeddings from the states that an embedding head reads; see `Task.connect`.

    Args:
        encoder: Encoder.
        head: EmbeddingHead.
        inputs: as for the encoder.
        **layout: `token_layout` and `attention_groups`; see `Task.connect`.

    Returns:
        float32 (B, D).
    """
    if head.reads_first_token:
        first, _ = encoder.token_states(dict(inputs), first_token_only=True, **layout)
        return head(first)
    read = encoder.token_states if head.layer_start is None else encoder.layer_states
    return head(*read(dict(inputs), **layout))
