"""One vector for a text: semantic search, similarity, clustering."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import tensorflow as tf

from keras_bert_zoo.adaptation.lora import merged_lora
from keras_bert_zoo.data.pipeline import TokenRows
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.heads.embedder import EmbeddingHead
from keras_bert_zoo.presets.headed import save_headed
from keras_bert_zoo.presets.io import find_preset, load_encoder, load_tokenizer
from keras_bert_zoo.tasks.embedding.files import (
    SIMILARITIES,
    SentenceModules,
    check_activation,
    check_lowercase,
    load_module_weights,
    read_modules,
    write_modules,
)
from keras_bert_zoo.tasks.embedding.index import SemanticSearch
from keras_bert_zoo.tasks.embedding.training import GroupTask
from keras_bert_zoo.tasks.files import read_side_file
from keras_bert_zoo.tasks.inputs import as_texts
from keras_bert_zoo.text.tokenizer import Tokenizer


class TextEmbedder(GroupTask):
    """Makes a vector of a text, such that texts of like meaning lie near each other.

    `predict` and the exported model answer with `embedding` (texts, D) float32; `embed` returns
    that array alone. `index` makes a search of documents, which `export(index=...)` writes.

    Called on ids (B, S) the model gives (B, D); on groups of texts (B, G, S) it gives (B, G, D),
    which is what its losses take.

    `fit` takes, and by default minimizes,

    - a list of texts: SimCSE, each text against itself through another dropout;
    - a tuple of lists (anchors, positives) or (anchors, positives, negatives, ...): multiple
      negatives ranking, where the other rows' positives and all negatives are the wrong answers;
    - a tuple of two lists with `y`, scores of how alike they are: CoSENT;
    - `TextGroups`, or `Examples` with text pairs, which are one of these.

    Args:
        encoder: Encoder.
        tokenizer: Tokenizer.
        head: EmbeddingHead; None: a new one, mean pooling to length 1.
        prompts: name -> what is put before a text, "query" and "document" among them; as
            sentence-transformers has them.
        default_prompt: str or None. The name of the prompt that texts get; None: they get none.
        similarity: "cosine" or "dot", what embeddings are compared by.
        max_length: int, tokens. Longer texts are truncated; default 128.
        token_layout: "packed" or "padded"; see `Encoder`.

    Raises:
        ConfigError: a `max_length` beyond the encoder's positions, a head that does not fit the
            encoder, or an unknown prompt or similarity.
    """

    task_name: ClassVar[str] = "embedding"
    head_kind: ClassVar[str] = ""

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
        token_layout: str = "packed",
        **kwargs: Any,
    ) -> None:
        head = head or EmbeddingHead(name="embedding_head")
        head.connect_weights(len(encoder.blocks), encoder.output["sequence_output"].shape[-1])
        if similarity not in SIMILARITIES:
            raise ConfigError(
                f"`similarity` must be one of {', '.join(SIMILARITIES)}, got {similarity!r}."
            )
        if default_prompt is not None and default_prompt not in (prompts or {}):
            names = ", ".join(map(repr, prompts or ())) or "none"
            raise ConfigError(
                f"Expected `default_prompt` to be a name of `prompts` ({names}), received "
                f"{default_prompt!r}."
            )
        if encoder.pooler is not None:
            encoder.pooler.trainable = False  # saved with the model, but nothing reads it
        super().__init__(
            encoder, tokenizer, head, max_length=max_length, token_layout=token_layout, **kwargs
        )
        self.prompts = dict(prompts or {})
        self.default_prompt = default_prompt
        self.similarity = similarity
        self._prompt = self.prompts.get(default_prompt or "", "")

    @classmethod
    def from_preset(  # type: ignore[override]
        cls,
        preset: str | os.PathLike[str],
        *,
        pooling: str | Sequence[str] | None = None,
        layer_start: int | None = None,
        dense: Sequence[Mapping[str, Any]] | None = None,
        normalize: bool | None = None,
        dimensions: int | None = None,
        max_length: int | None = None,
        token_layout: str = "packed",
        dtype: Any = None,
        allow_pickle: bool = False,
        ignore_config_keys: Iterable[str] = (),
    ) -> Self:
        """Builds an embedder on a preset: of sentence-transformers, or any encoder.

        A directory with a modules.json is loaded as sentence-transformers would, with equal
        embeddings. A bare encoder gets mean pooling and vectors of length 1.

        Args:
            preset: catalogued name or directory.
            pooling: see `EmbeddingHead`. This or one of the next two, if given, makes a new head.
            layer_start: likewise.
            dense: likewise.
            normalize: bool. None: as the directory says, otherwise True.
            dimensions: int. Keep only so many of the first numbers. None: as the directory says.
            max_length: int, tokens. None: as the directory says, otherwise 128.
            token_layout: "packed" or "padded".
            dtype: Keras dtype policy of the encoder, "mixed_bfloat16" for one.
            allow_pickle: bool. Whether a pytorch_model.bin may be read; see `open_checkpoint`.
            ignore_config_keys: config.json keys to leave unread although they are unknown.

        Returns:
            TextEmbedder.

        Raises:
            ConfigError: an option, the preset's config or one of its modules is not supported.
            CheckpointError: the preset is not there, or does not fit.
        """
        directory = find_preset(preset, allow_pickle=allow_pickle)
        modules = read_modules(directory)
        new_head = not (pooling is None and layer_start is None and dense is None)
        found = modules or SentenceModules()
        options = {} if new_head else dict(found.head)
        if new_head:
            options = {
                "pooling": pooling or "mean",
                "layer_start": layer_start,
                "dense": dense or (),
                "normalize": found.head.get("normalize", True),
            }
        if normalize is not None:
            options["normalize"] = normalize
        if dimensions is not None:
            options["dimensions"] = dimensions
        head = EmbeddingHead(**options, name="embedding_head")
        for layer in head.dense:
            check_activation(layer.activation)
        base = Path(directory) / found.encoder
        encoder = load_encoder(
            base,
            allow_pickle=allow_pickle,
            ignore_config_keys=ignore_config_keys,
            token_layout=token_layout,
            dtype=dtype,
        )
        side = read_side_file(directory)
        if max_length is None:
            max_length = side.get("max_length") or found.max_length
            if max_length is not None:
                max_length = min(max_length, encoder.config.max_tokens)
        tokenizer = load_tokenizer(base)
        check_lowercase(found, tokenizer)
        task = cls(
            encoder,
            tokenizer,
            head,
            prompts=found.prompts,
            default_prompt=found.default_prompt,
            similarity=found.similarity,
            max_length=max_length,
            token_layout=token_layout,
        )
        if modules is not None and not new_head:
            load_module_weights(directory, modules, head, allow_pickle=allow_pickle)
        if side.get("task") == cls.task_name:
            task._restore(side)
        return task

    # === The graph ===

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
        """Connects an encoder and a head; the output is float32 (B, D). See `AnsweringModel`."""
        options: dict[str, Any] = {
            "token_layout": token_layout,
            "attention_groups": attention_groups,
        }
        if head.reads_first_token:
            first, _ = encoder.token_states(dict(inputs), first_token_only=True, **options)
            return head(first)
        if head.layer_start is None:
            return head(*encoder.token_states(dict(inputs), **options))
        return head(*encoder.layer_states(dict(inputs), **options))

    def encode_texts(self, *texts: tf.Tensor) -> tuple[dict[str, tf.Tensor], dict[str, Any]]:
        """Puts the prompt before texts and tokenizes them; see `AnsweringModel`."""
        (text,) = texts
        if self._prompt:
            text = tf.strings.join([self._prompt, text])
        return self.tokenizer(text, max_length=self.max_length), {}

    def answers(self, outputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Names the output `embedding`."""
        return {"embedding": outputs}

    def _graph_key(self) -> tuple[Any, ...]:
        return (*super()._graph_key(), self._prompt)

    # === Texts ===

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
            prompt: str or None. The name of the prompt that they get instead of the default one.
            batch_size: int.
            verbose: 1 shows a progress bar.

        Returns:
            float32 (texts, D).

        Raises:
            DataError: `texts` are not texts.
            ConfigError: an unknown `prompt`.
        """
        before = self._prompt
        if prompt is not None:
            if prompt not in self.prompts:
                known = ", ".join(map(repr, self.prompts)) or "none"
                raise ConfigError(f"Prompt {prompt!r} is unknown; there are: {known}.")
            self._prompt = self.prompts[prompt]
        try:
            answers = self.predict(as_texts(texts), batch_size=batch_size, verbose=verbose)
        finally:
            self._prompt = before
        return answers["embedding"]

    def index(
        self, documents: Any, *, top_k: int = 10, batch_size: int = 64, verbose: Any = 0
    ) -> SemanticSearch:
        """Makes a search of documents: a text in, the nearest of them out.

        Documents get the prompt "document", texts the prompt "query", where there are such;
        otherwise the default one. Later training of this embedder is not seen by the index, whose
        documents are embedded now, but by its queries: make it anew then.

        Args:
            documents: list of str or bytes; Examples, of which the texts are taken.
            top_k: int. How many documents an answer has.
            batch_size: int.
            verbose: 1 shows a progress bar.

        Returns:
            SemanticSearch.

        Raises:
            DataError: there are no documents.
            ConfigError: `top_k` is not positive, or embeddings are compared by neither cosine nor
                dot product.
        """
        return SemanticSearch(self, documents, top_k=top_k, batch_size=batch_size, verbose=verbose)

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
            path: of the model; a SavedModel goes to the folder of its version inside.
            format: "saved_model".
            index: documents to search, as `index` takes them: the export then answers as
                `SemanticSearch` does. None: it returns embeddings.
            top_k: int. How many documents an answer has.
            **kwargs: options of the format.

        Returns:
            what was written and how it was checked.

        Raises:
            ConfigError: an unknown format or option, or too much text for an export.
            ExportError: it cannot be written, or does not answer as this model does.
        """
        if index is None:
            return super().export(path, format, **kwargs)
        return self.index(index, top_k=top_k).export(path, format, **kwargs)

    def _text_columns(self, examples: Any) -> tuple[Sequence[Any], ...]:
        if examples.size != 1:
            raise DataError(
                f"Expected texts to embed, got groups of {examples.size}: embed them one column "
                "at a time."
            )
        return (examples.texts,)

    def tokenize_rows(
        self, texts: Sequence[str], text_pairs: Sequence[str] | None = None
    ) -> TokenRows:
        """Puts the prompt before texts and tokenizes them; see `TextModel`."""
        if self._prompt:
            prompt = self._prompt
            texts = [
                prompt.encode() + text if isinstance(text, bytes) else prompt + text
                for text in texts
            ]
        return super().tokenize_rows(texts, text_pairs)

    # === Files ===

    def _side_config(self) -> dict[str, Any]:
        return {
            "task": self.task_name,
            "max_length": self.max_length,
            "training": self.training_record,
            **self._column_config(),
        }

    def save(self, directory: str | os.PathLike[str], *, overwrite: bool = True) -> None:
        """Writes a directory that sentence-transformers and `load` read, with equal embeddings.

        A Hugging Face directory of the bare encoder with its tokenizer, modules.json, a folder a
        module, and `keras_bert_zoo.json`. Written aside and renamed. (sentence-transformers does
        not scale embeddings again that it has cut to `dimensions`: ask it for
        `normalize_embeddings=True`.)

        Args:
            directory: path; missing, empty, or an earlier save.
            overwrite: bool. Whether to replace an earlier save.

        Raises:
            CheckpointError: it cannot be written, or is there and not to be replaced.
        """

        def write_more(aside: Path) -> None:
            write_modules(
                aside,
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
            config["output_hidden_states"] = True  # where WeightedLayerPooling finds the layers
        with merged_lora(self.encoder):
            save_headed(
                directory,
                self.encoder,
                {},
                config=config,
                tokenizer=self.tokenizer,
                side=self._side_config(),
                write_more=write_more,
                overwrite=overwrite,
            )
