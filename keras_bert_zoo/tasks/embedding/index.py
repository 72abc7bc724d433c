"""Search of a collection by meaning: an embedder with the embeddings of its documents."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.heads.embedder import EmbeddingHead, unit_length
from keras_bert_zoo.tasks.answering import as_bytes, largest_difference
from keras_bert_zoo.tasks.inputs import document_texts
from keras_bert_zoo.tasks.task import Task

if TYPE_CHECKING:
    from keras_bert_zoo.tasks.embedding.text_embedder import TextEmbedder

# The documents' texts are a constant of an export's graph, which ends at 2 GiB with all else in it.
_MOST_TEXT_BYTES = 400_000_000
# Embeddings beyond this are variables of an export, which are not in its graph.
_MOST_CONSTANT_BYTES = 500_000_000


class SearchHead(keras.layers.Layer):
    """Finds the nearest of some vectors, exactly: one product with all of them.

    Args:
        embedding: EmbeddingHead, of the queries.
        vectors: float32 (N, D), of the documents.
        top_k: int. How many to find; at most N.
        normalize: bool. Whether queries are scaled to length 1, for cosines.

    Call arguments:
        queries: float32 (B, D), what `embedding` gave.

    Returns:
        dict: `score` float32 (B, K), dot products, falling; `document_id` int32 (B, K), rows of
        `vectors`, of equal scores the lower first.
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
    embedder: TextEmbedder, texts: Sequence[str | bytes], *, batch_size: int = 64, verbose: Any = 0
) -> np.ndarray:
    """Embeds documents for a `DocumentSearch`.

    Args:
        embedder: TextEmbedder. Its prompt "document" is put before each, where there is one.
        texts: list of str or bytes.
        batch_size: int.
        verbose: 1 shows a progress bar.

    Returns:
        float32 (texts, D); of length 1 where the embedder compares by cosines.

    Raises:
        ConfigError: it compares by neither cosine nor dot product.
    """
    if embedder.similarity not in ("cosine", "dot"):
        raise ConfigError(
            f"This embedder compares by {embedder.similarity!r}; a search does by 'cosine' or "
            "'dot'. Set `embedder.similarity`."
        )
    vectors = embedder.embed(
        texts,
        prompt="document" if "document" in embedder.prompts else None,
        batch_size=batch_size,
        verbose=verbose,
    )
    return unit_length(tf.constant(vectors)).numpy() if embedder.similarity == "cosine" else vectors


class DocumentSearch(Task):
    """Base of what searches a collection: a text's embedding against those of documents.

    Args:
        embedder: TextEmbedder.
        vectors: float32 (N, D), of `document_vectors`.
        top_k: int. How many are found; all of them where they are fewer.
        **kwargs: as for `Task`.
    """

    takes_datasets: ClassVar[bool] = True
    can_probe: ClassVar[bool] = False

    def __init__(
        self, embedder: TextEmbedder, vectors: np.ndarray, *, top_k: int, **kwargs: Any
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
            max_length=embedder.max_length,
            token_layout=embedder.token_layout,
            **kwargs,
        )
        prompts = embedder.prompts
        self.prompt = prompts.get("query", prompts.get(embedder.default_prompt or "", ""))

    @classmethod
    def connect(
        cls,
        encoder: Encoder,
        head: Any,
        inputs: Mapping[str, Any],
        *,
        token_layout: str = "packed",
        attention_groups: int = 1,
    ) -> Any:
        """Connects an encoder and a search to inputs; see `SearchHead` for the outputs."""
        from keras_bert_zoo.tasks.embedding.text_embedder import TextEmbedder

        return head(
            TextEmbedder.connect(
                encoder,
                head.embedding,
                inputs,
                token_layout=token_layout,
                attention_groups=attention_groups,
            )
        )

    # === What there is nothing to train for ===

    def _training_hint(self) -> str:
        """What to train, and how to measure, instead."""
        return "train the TextEmbedder, measure it by its `report`, and call `index`"

    def _refuse_training(self, method: str) -> NoReturn:
        raise ConfigError(
            f"A collection is not trained, so `{method}` is not supported: {self._training_hint()}."
        )

    def compile(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises ConfigError: there is nothing to train."""
        self._refuse_training("compile")

    def fit(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises ConfigError: there is nothing to train."""
        self._refuse_training("fit")

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Raises ConfigError: there is no loss."""
        self._refuse_training("evaluate")

    def train_on_batch(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises ConfigError: there is nothing to train."""
        self._refuse_training("train_on_batch")

    def test_on_batch(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises ConfigError: there is no loss."""
        self._refuse_training("test_on_batch")

    # === The graph ===

    def row_cost(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """See `AnsweringModel.row_cost`; a thousand similarities cost about as much as a token."""
        return super().row_cost(inputs) + self.head.corpus.shape[0] // 1000

    def encode_texts(self, *texts: tf.Tensor) -> tuple[dict[str, tf.Tensor], dict[str, Any]]:
        """Puts the prompt of queries before texts and tokenizes them; see `AnsweringModel`."""
        (text,) = texts
        if self.prompt:
            text = tf.strings.join([self.prompt, text])
        return self.tokenizer(text, max_length=self.max_length), {}

    def _graph_key(self) -> tuple[Any, ...]:
        return (*super()._graph_key(), self.prompt)

    def export(
        self, path: str | os.PathLike[str], format: str = "saved_model", **kwargs: Any
    ) -> Any:
        """Writes the search as one file that takes raw strings; see `Task.export`.

        The documents' texts and embeddings are inside. Embeddings of more than 500 MB, and the
        encoder's weights with them, are variables beside the graph, which ends at 2 GiB.

        Args:
            path: of the model; a SavedModel goes to the folder of its version inside.
            format: "saved_model".
            **kwargs: options of the format.

        Returns:
            what was written and how it was checked.

        Raises:
            ConfigError: the documents' texts are more than 400 MB; or an option is not possible.
            ExportError: it cannot be written, or does not answer as this model does.
        """
        size = self._text_bytes()
        if size > _MOST_TEXT_BYTES:
            raise ConfigError(
                f"The documents have {size:,} bytes of text; an export holds at most "
                f"{_MOST_TEXT_BYTES:,} in its graph. Index shorter texts, such as titles or ids, "
                "and keep the documents elsewhere."
            )
        rows, width = self.head.corpus.shape
        if rows * width * 4 > _MOST_CONSTANT_BYTES:
            kwargs = {"freeze": False} | kwargs
        return super().export(path, format, **kwargs)

    def _text_bytes(self) -> int:
        """How much text an export has to hold."""
        raise NotImplementedError(f"{type(self).__name__} must define `_text_bytes`.")


class SemanticSearch(DocumentSearch):
    """Answers a text with the nearest documents of a collection; `TextEmbedder.index` makes it.

    `predict` and the exported model answer with `document` (texts, K) str, the nearest first;
    `document_id` (texts, K) int32, their numbers in the collection, from 0; and `score` (texts, K)
    float32: cosines, or dot products where the embedder compares by these. The search is exact.

    Args:
        embedder: TextEmbedder.
        documents: list of str or bytes.
        top_k: int. K; all of them where they are fewer.
        batch_size: int. Documents embedded at once.
        verbose: 1 shows a progress bar.

    Raises:
        DataError: there are no documents.
        ConfigError: `top_k` is not positive, or the embedder compares otherwise.

    Attributes:
        documents: list of bytes.
    """

    task_name: ClassVar[str] = "semantic-search"

    def __init__(
        self,
        embedder: TextEmbedder,
        documents: Any,
        *,
        top_k: int = 10,
        batch_size: int = 64,
        verbose: Any = 0,
    ) -> None:
        texts = document_texts(documents)
        if not len(texts):
            raise DataError("There are no documents: expected at least one text.")
        check_count("top_k", top_k)
        vectors = document_vectors(embedder, texts, batch_size=batch_size, verbose=verbose)
        super().__init__(embedder, vectors, top_k=top_k)
        self.documents = list(map(as_bytes, texts))
        with tf.init_scope(), tf.device("CPU:0"):
            self._texts = tf.constant(self.documents, tf.string)

    def answers(self, outputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Adds the documents' texts; see the class."""
        return {"document": tf.gather(self._texts, outputs["document_id"]), **outputs}

    def answer_difference(
        self, expected: dict[str, np.ndarray], got: dict[str, np.ndarray], tolerance: float
    ) -> float | None:
        """Compares two answers; documents that are as good as equally near may change places."""
        wanted, found = (
            dict(zip(answer["document_id"].tolist(), answer["score"], strict=True))
            for answer in (expected, got)
        )
        last = min(expected["score"].min(), got["score"].min())
        for number in wanted.keys() | found.keys():
            if abs(wanted.get(number, last) - found.get(number, last)) > 2 * tolerance:
                return None
        texts = [self.documents[number] for number in got["document_id"].tolist()]
        if got["document"].tolist() != texts:
            return None
        return largest_difference(expected["score"], got["score"])

    def _text_bytes(self) -> int:
        return sum(map(len, self.documents))

    def save(self, directory: str | os.PathLike[str], *, overwrite: bool = True) -> NoReturn:
        """Raises ConfigError: what is saved is the embedder; an index is made of it anew."""
        raise ConfigError(
            "A search is not saved but made: save the TextEmbedder, load it, and call `index`; or "
            "`export` the search."
        )


def check_count(name: str, value: Any) -> None:
    """Raises ConfigError for what is no positive integer."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"`{name}` must be a positive integer, got {value!r}.")
