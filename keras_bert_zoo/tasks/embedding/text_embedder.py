"""Text embeddings for semantic search, similarity and clustering."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, Unpack

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.inputs import as_texts
from keras_bert_zoo.data.pairs import TextGroups
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.heads.embedder import EmbeddingHead, unit_length
from keras_bert_zoo.metrics.retrieval import (
    RetrievalReport,
    SimilarityReport,
    TripletReport,
    group_report,
)
from keras_bert_zoo.presets.sentence_transformers import (
    SIMILARITIES,
    SentenceModules,
    check_activation,
    check_lowercase,
    load_module_weights,
    read_modules,
    write_modules,
)
from keras_bert_zoo.tasks.embedding.index import (
    SemanticSearch,
    connect_embedding,
    encode_with_prompt,
)
from keras_bert_zoo.tasks.loading import TaskSource
from keras_bert_zoo.tasks.options import EmbeddingOptions, LoadOptions
from keras_bert_zoo.tasks.predicting import predict_texts
from keras_bert_zoo.tasks.saving import SavedParts
from keras_bert_zoo.tasks.spec import TaskSpec
from keras_bert_zoo.tasks.task import Context
from keras_bert_zoo.tasks.trainable import TrainableTask
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.training.contrastive import LOSSES
from keras_bert_zoo.training.objective import Objective
from keras_bert_zoo.training.outputs import Outputs
from keras_bert_zoo.training.rows import LabelledBatches
from keras_bert_zoo.training.text_groups import (
    MEASURES,
    as_groups,
    default_loss,
    group_rows,
    group_targets,
    is_labelled,
)
from keras_bert_zoo.validation import check_choice


@keras.saving.register_keras_serializable("keras_bert_zoo")
class TextEmbedder(TrainableTask):
    """Computes a vector per text, so that texts with similar meanings have similar vectors.

    `predict` and the exported model return `embedding` (texts, D) float32; `embed` returns the
    array itself. `index` makes a search of documents, which `export(index=...)` writes.

    Called on ids (B, S), the model returns (B, D). Called on groups of texts (B, G, S), it returns
    (B, G, D), which the losses take.

    `fit` accepts, with these default losses,

    - a list of texts: SimCSE, each text against itself with another dropout mask;
    - a tuple of lists (anchors, positives) or (anchors, positives, negatives, ...): multiple
      negatives ranking, with the positives of other rows and all negatives as wrong answers;
    - a tuple of two lists with `y`, their similarity scores: CoSENT;
    - `TextGroups`, or `Examples` with text pairs, which are one of these.

    Args:
        encoder: Encoder.
        tokenizer: Tokenizer.
        head: EmbeddingHead; None: a new one, mean pooling to length 1.
        prompts: name -> text to put before every input, for example "query" and "document", as in
            sentence-transformers.
        default_prompt: str or None. The name of the default prompt; None: no prompt.
        similarity: str. How to compare embeddings: "cosine", "dot", "euclidean" or "manhattan".
        max_length: int, tokens. Longer texts are truncated; default 128.
        token_layout: "packed" or "padded"; see `Encoder`.

    Raises:
        ConfigError: `max_length` exceeds the encoder's positions, the head does not fit the
            encoder, or a prompt or the similarity is unknown.
    """

    spec = TaskSpec(
        name="embedding",
        options=EmbeddingOptions,
        arguments=("prompts", "default_prompt", "similarity"),
    )

    def __init__(
        self,
        encoder: Encoder,
        tokenizer: Tokenizer,
        head: EmbeddingHead | None = None,
        *,
        prompts: Mapping[str, str] | None = None,
        default_prompt: str | None = None,
        similarity: str = "cosine",
        max_length: int | None = None,
        **kwargs: Any,
    ) -> None:
        head = head or EmbeddingHead(name="embedding_head")
        head.connect_weights(len(encoder.blocks), encoder.output["sequence_output"].shape[-1])
        check_choice("similarity", similarity, SIMILARITIES)
        prompts = dict(prompts or {})
        if default_prompt is not None:
            _check_prompt("default_prompt", default_prompt, prompts)
        if encoder.pooler is not None:
            encoder.pooler.trainable = False  # saved with the model, but not used
        prompt = prompts.get(default_prompt or "", "")
        options = EmbeddingOptions(max_length=max_length, prompt=prompt)
        super().__init__(encoder, tokenizer, head, options=options, **kwargs)
        self.prompts = prompts
        self.default_prompt = default_prompt
        self.similarity = similarity
        self._data_kind = "pairs"

    @classmethod
    def from_preset(
        cls,
        preset: str | os.PathLike[str],
        *,
        pooling: str | Sequence[str] | None = None,
        layer_start: int | None = None,
        dense: Sequence[Mapping[str, Any]] | None = None,
        normalize: bool | None = None,
        dimensions: int | None = None,
        **load: Unpack[LoadOptions],
    ) -> Self:
        """Builds an embedder from a preset: of sentence-transformers, or any encoder.

        A directory with a modules.json gives the same embeddings as in sentence-transformers. An
        encoder without one gets mean pooling and vectors of length 1.

        Args:
            preset: catalogued name or directory.
            pooling: see `EmbeddingHead`. If this, `layer_start` or `dense` is given, the head is
                new.
            layer_start: see `EmbeddingHead`.
            dense: see `EmbeddingHead`.
            normalize: bool. None: as in the directory, otherwise True.
            dimensions: int. Keeps only the first numbers. None: as in the directory.
            **load: see `LoadOptions`. A `max_length` of None is as in the directory, otherwise
                128.

        Returns:
            TextEmbedder.

        Raises:
            ConfigError: an option, the preset's config or one of its modules is not supported.
            CheckpointError: the preset is missing, or does not fit.
        """
        source = TaskSource(cls, preset, **load)
        modules = read_modules(source.directory)
        new_head = not (pooling is None and layer_start is None and dense is None)
        saved = modules or SentenceModules()
        options = dict(saved.head)
        if new_head:
            options = {
                "pooling": pooling or "mean",
                "layer_start": layer_start,
                "dense": dense or (),
                "normalize": options.get("normalize", True),
            }
        changes = {"normalize": normalize, "dimensions": dimensions}
        options |= {name: value for name, value in changes.items() if value is not None}
        head = EmbeddingHead(**options, name="embedding_head")
        for layer in head.dense:
            check_activation(layer.activation)
        side = source.side if source.side.get("task") == cls.spec.name else {}
        parts = source.load_bare(
            side={}, folder=saved.encoder, token_layout=load.get("token_layout", "packed")
        )
        length = source.side.get("max_length") or saved.max_length
        if length is not None:
            parts.side = side | {"max_length": min(length, parts.encoder.config.max_tokens)}
        check_lowercase(saved, parts.tokenizer)
        task = parts.build(
            cls,
            head,
            prompts=saved.prompts,
            default_prompt=saved.default_prompt,
            similarity=saved.similarity,
        )
        if modules is not None and not new_head:
            allow_pickle = load.get("allow_pickle", False)
            load_module_weights(source.directory, modules, head, allow_pickle=allow_pickle)
        return task

    def saved_parts(self) -> SavedParts:
        """The modules of sentence-transformers, which can load the directory.

        It does not normalize embeddings again after truncation to `dimensions`, unless called with
        `normalize_embeddings=True`.
        """

        def write_more(directory: Path) -> None:
            write_modules(
                directory,
                self.head,
                hidden_dim=self.encoder.output["sequence_output"].shape[-1],
                num_layers=len(self.encoder.blocks),
                max_length=self.max_length,
                prompts=self.prompts,
                default_prompt=self.default_prompt,
                similarity=self.similarity,
            )

        config = {k: v for k, v in self.encoder.other_config.items() if k != "output_hidden_states"}
        if self.head.layer_start is not None:
            config["output_hidden_states"] = True  # WeightedLayerPooling reads all layers
        return SavedParts(config, write_more=write_more)

    def export(
        self,
        path: str | os.PathLike[str],
        format: str = "saved_model",
        *,
        index: Any = None,
        top_k: int = 10,
        **kwargs: Any,
    ) -> Any:
        """Writes one file that takes raw strings and returns embeddings, or documents.

        Args:
            path: see `Task.export`.
            format: see `Task.export`.
            index: documents to search, as in `index`: the export then returns the same as
                `SemanticSearch`. None: it returns embeddings.
            top_k: int. Documents per answer.
            **kwargs: options of the format.

        Returns:
            see `Task.export`.

        Raises:
            ConfigError: an unknown format or option, or too much text for an export.
            ExportError: it cannot be written, or its answers differ from this model's.
        """
        if index is None:
            return super().export(path, format, **kwargs)
        return self.index(index, top_k=top_k).export(path, format, **kwargs)

    # === The graph ===

    @classmethod
    def connect(cls, encoder: Encoder, head: Any, inputs: Mapping[str, Any], **layout: Any) -> Any:
        """Computes embeddings, float32 (B, D); see `Task.connect`."""
        return connect_embedding(encoder, head, inputs, **layout)

    def encode_texts(
        self, *texts: tf.Tensor, options: Any = None
    ) -> tuple[dict[str, tf.Tensor], Context]:
        """Adds the prompt to texts and tokenizes them; see `Task.encode_texts`."""
        return encode_with_prompt(self, *texts, options=options)

    def decode(
        self, outputs: tf.Tensor, context: Context | None, *, options: Any = None
    ) -> dict[str, tf.Tensor]:
        """Names the output `embedding`."""
        return {"embedding": outputs}

    # === Embeddings ===

    @property
    def embedding_dim(self) -> int:
        """The length of an embedding."""
        return int(self.output_shape[-1])

    def embed(
        self,
        texts: Sequence[str | bytes],
        *,
        prompt: str | None = None,
        batch_size: int = 64,
        verbose: Any = 0,
    ) -> np.ndarray:
        """Embeds texts.

        Args:
            texts: list of str or bytes, or a NumPy array or pandas Series of them.
            prompt: str or None. The name of the prompt to use instead of the default.
            batch_size: int.
            verbose: 1 shows a progress bar.

        Returns:
            float32 (texts, D).

        Raises:
            DataError: `texts` are not texts.
            ConfigError: an unknown `prompt`.
        """
        options = self.options
        if prompt is not None:
            _check_prompt("prompt", prompt, self.prompts)
            options = options.replace(prompt=self.prompts[prompt])
        answers = predict_texts(
            self, as_texts(texts), batch_size=batch_size, verbose=verbose, options=options
        )
        return answers["embedding"]

    def index(
        self, documents: Any, *, top_k: int = 10, batch_size: int = 64, verbose: Any = 0
    ) -> SemanticSearch:
        """Makes a search of documents: it takes texts and returns the nearest documents.

        Documents get the prompt "document" and texts the prompt "query" if these exist, otherwise
        the default prompt. The documents are embedded now. If this embedder is trained later, make
        a new index: the old one embeds only its queries with the new weights.

        Args:
            documents: list of str or bytes; or Examples, whose texts are used.
            top_k: int. Documents per answer.
            batch_size: int.
            verbose: 1 shows a progress bar.

        Returns:
            SemanticSearch.

        Raises:
            DataError: there are no documents.
            ConfigError: `top_k` is not positive, or the similarity is neither cosine nor dot
                product.
        """
        return SemanticSearch(self, documents, top_k=top_k, batch_size=batch_size, verbose=verbose)

    # === Training and evaluation ===

    def examples(self, x: Any, y: Any = None, *, labelled: bool = True) -> TextGroups:
        """Converts texts, tuples of lists, Examples or TextGroups; `y` are scores of pairs."""
        groups = as_groups(x, y)
        if not labelled and groups.size != 1:
            raise DataError(
                f"Expected texts to embed, received groups of {groups.size}: embed them one column "
                "at a time."
            )
        return groups

    def targets(self, examples: TextGroups, y: Any = None) -> np.ndarray:
        """Returns scores float32 (groups,), or the groups' ids; see `TextGroups.kinship`."""
        loss = self.loss if self.compiled_by_caller else self.fit_loss
        targets = group_targets(examples, loss)
        if examples.kind == "texts" and not self.encoder.config.dropout:
            raise ConfigError(
                "Expected an encoder with dropout to train on texts alone (SimCSE), received "
                "`hidden_dropout_prob` 0."
            )
        return targets

    def rows(
        self, examples: TextGroups, targets: np.ndarray, weights: np.ndarray | None = None
    ) -> LabelledBatches:
        """Tokenizes groups; a single text is paired with itself."""
        return group_rows(
            self.tokenizer,
            examples,
            targets,
            weights,
            prompt=self.options.prompt,
            max_length=self.max_length,
        )

    def objective(self, examples: Any = None) -> Objective:
        """A contrastive loss and a measure, by the kind of the data.

        With `validation_data` the best epoch has the highest Spearman correlation (pairs with
        scores), accuracy (triplets) or mean reciprocal rank (pairs). For single texts it has the
        lowest loss.
        """
        if examples is not None:
            self._data_kind = examples.kind
        kind = self._data_kind
        measure = MEASURES.get(kind)
        return Objective(
            outputs=Outputs("other", type(self).__name__, losses=LOSSES),
            loss=lambda: default_loss(kind),
            metrics=list,
            monitor=("val_loss", "min") if measure is None else (f"val_{measure}", "max"),
            measure=None if measure is None else self._measure,
            is_labelled=is_labelled,
        )

    def _measure(self, groups: TextGroups, _: Any, batch_size: int) -> dict[str, float]:
        name = MEASURES[groups.kind]
        return {name: getattr(self.report(groups, batch_size=batch_size), name)}

    def report(
        self, x: Any, y: Any = None, *, batch_size: int = 64
    ) -> SimilarityReport | RetrievalReport | TripletReport:
        """Measures embeddings on groups of texts.

        Args:
            x: pairs with scores, pairs, or triplets, as in `fit`.
            y: as in `fit`.
            batch_size: int.

        Returns:
            SimilarityReport for pairs with scores; RetrievalReport for pairs: each anchor searches
            its positive (or those of its label) among all positives; TripletReport for larger
            groups.

        Raises:
            DataError: `x` is single texts.
        """
        groups = self.examples(x, y)
        if groups.kind == "texts" or not len(groups):
            raise DataError("`report` needs pairs of texts, with scores or without, or triplets.")
        _, vectors, columns = self.group_vectors(groups, batch_size=batch_size)
        return group_report(groups, vectors, columns)

    def group_vectors(
        self, groups: TextGroups, *, batch_size: int = 64
    ) -> tuple[list[str], np.ndarray, list[np.ndarray]]:
        """Embeds the distinct texts of groups.

        Args:
            groups: TextGroups.
            batch_size: int.

        Returns:
            the distinct texts; float32 (texts, D), whose dot products are the similarities; and for
            each column int (groups,), the numbers of its texts.
        """
        texts, columns = groups.numbered()
        vectors = self.answer_rows(texts, batch_size=batch_size)["embedding"]
        if self.similarity == "cosine":
            vectors = unit_length(tf.constant(vectors)).numpy()
        return texts, vectors, columns


def _check_prompt(argument: str, name: str, prompts: Mapping[str, str]) -> None:
    if name not in prompts:
        raise ConfigError(
            f"Expected `{argument}` to be a name of `prompts` "
            f"({', '.join(map(repr, prompts)) or 'there are none'}), received {name!r}."
        )
