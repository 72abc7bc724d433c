"""Search of a collection by meaning: an embedder with the embeddings of its documents."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.heads.embedder import EmbeddingHead, unit_length
from keras_bert_zoo.tasks.answering import largest_difference
from keras_bert_zoo.tasks.inputs import as_examples
from keras_bert_zoo.tasks.task import Task

if TYPE_CHECKING:
    from keras_bert_zoo.tasks.text_embedder import TextEmbedder

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


class SemanticSearch(Task):
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
    takes_datasets: ClassVar[bool] = True
    can_probe: ClassVar[bool] = False

    def __init__(
        self,
        embedder: TextEmbedder,
        documents: Any,
        *,
        top_k: int = 10,
        batch_size: int = 64,
        verbose: Any = 0,
    ) -> None:
        texts = documents.texts if hasattr(documents, "texts") else as_examples(documents).texts
        if not len(texts):
            raise DataError("There are no documents: expected at least one text.")
        if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
            raise ConfigError(f"`top_k` must be a positive integer, got {top_k!r}.")
        if embedder.similarity not in ("cosine", "dot"):
            raise ConfigError(
                f"This embedder compares by {embedder.similarity!r}; a search does by 'cosine' or "
                "'dot'. Set `embedder.similarity`."
            )
        prompts = embedder.prompts
        vectors = embedder.embed(
            texts,
            prompt="document" if "document" in prompts else None,
            batch_size=batch_size,
            verbose=verbose,
        )
        cosine = embedder.similarity == "cosine"
        if cosine:
            vectors = unit_length(tf.constant(vectors)).numpy()
        head = SearchHead(embedder.head, vectors, top_k=min(top_k, len(texts)), normalize=cosine)
        super().__init__(
            embedder.encoder,
            embedder.tokenizer,
            head,
            max_length=embedder.max_length,
            token_layout=embedder.token_layout,
        )
        self.prompt = prompts.get("query", prompts.get(embedder.default_prompt or "", ""))
        self.documents = [
            text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
            for text in texts
        ]
        with tf.init_scope(), tf.device("CPU:0"):
            self._texts = tf.constant(self.documents, tf.string)

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
        from keras_bert_zoo.tasks.text_embedder import TextEmbedder

        return head(
            TextEmbedder.connect(
                encoder,
                head.embedding,
                inputs,
                token_layout=token_layout,
                attention_groups=attention_groups,
            )
        )

    def encode_texts(self, *texts: tf.Tensor) -> tuple[dict[str, tf.Tensor], dict[str, Any]]:
        """Puts the prompt of queries before texts and tokenizes them; see `AnsweringModel`."""
        (text,) = texts
        if self.prompt:
            text = tf.strings.join([self.prompt, text])
        return self.tokenizer(text, max_length=self.max_length), {}

    def answers(self, outputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Adds the documents' texts; see the class."""
        return {"document": tf.gather(self._texts, outputs["document_id"]), **outputs}

    def _graph_key(self) -> tuple[Any, ...]:
        return (*super()._graph_key(), self.prompt)

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
        size = sum(map(len, self.documents))
        if size > _MOST_TEXT_BYTES:
            raise ConfigError(
                f"The documents have {size:,} bytes of text; an export holds at most "
                f"{_MOST_TEXT_BYTES:,} in its graph. Index shorter texts, titles or ids for one, "
                "and keep the documents elsewhere."
            )
        rows, width = self.head.corpus.shape
        if rows * width * 4 > _MOST_CONSTANT_BYTES:
            kwargs = {"freeze": False} | kwargs
        return super().export(path, format, **kwargs)

    def save(self, directory: str | os.PathLike[str], *, overwrite: bool = True) -> NoReturn:
        """Raises ConfigError: what is saved is the embedder; an index is made of it anew."""
        raise ConfigError(
            "A search is not saved but made: save the TextEmbedder, load it, and call `index`; or "
            "`export` the search."
        )
