"""One vector for a text: semantic search, similarity, clustering."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.pairs import TextGroups
from keras_bert_zoo.data.pipeline import LabelledRows, TokenRows
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.encoders.lora import merged_lora
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.heads.embedder import EmbeddingHead, unit_length
from keras_bert_zoo.presets.headed import save_headed
from keras_bert_zoo.presets.io import find_preset, load_encoder, load_tokenizer
from keras_bert_zoo.tasks.embedding_files import (
    SIMILARITIES,
    SentenceModules,
    check_activation,
    load_module_weights,
    read_modules,
    write_modules,
)
from keras_bert_zoo.tasks.files import read_side_file
from keras_bert_zoo.tasks.inputs import as_examples
from keras_bert_zoo.tasks.task import Task
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.training.contrastive import ContrastiveLoss, make_loss
from keras_bert_zoo.training.retrieval_metrics import (
    RetrievalReport,
    SimilarityReport,
    TripletReport,
    retrieval_report,
    similarity_report,
    triplet_report,
)


class TextEmbedder(Task):
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
    takes_datasets: ClassVar[bool] = False
    can_probe: ClassVar[bool] = False

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
            raise ConfigError(f"`default_prompt` {default_prompt!r} is none of `prompts`.")
        if encoder.pooler is not None:
            encoder.pooler.trainable = False  # saved with the model, but nothing reads it
        super().__init__(
            encoder, tokenizer, head, max_length=max_length, token_layout=token_layout, **kwargs
        )
        self.prompts = dict(prompts or {})
        self.default_prompt = default_prompt
        self.similarity = similarity
        self._prompt = self.prompts.get(default_prompt or "", "")
        self._fit_loss: ContrastiveLoss | None = None
        self._data_kind = "pairs"

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
        task = cls(
            encoder,
            load_tokenizer(base),
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
        options = {"token_layout": token_layout, "attention_groups": attention_groups}
        if head.reads_first_token:
            first, _ = encoder.token_states(dict(inputs), first_token_only=True, **options)
            return head(first)
        if head.layer_start is None:
            return head(*encoder.token_states(dict(inputs), **options))
        return head(*encoder.layer_states(dict(inputs), **options))

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Embeds ids; groups of texts, (B, G, S), are taken apart and put together again."""
        ids = inputs["token_ids"] if isinstance(inputs, Mapping) else None
        if ids is None or len(ids.shape) != 3:
            return super().__call__(inputs, *args, **kwargs)
        shape = tf.shape(ids)
        flat = {name: tf.reshape(ids, [-1, shape[2]]) for name, ids in inputs.items()}
        embeddings = super().__call__(flat, *args, **kwargs)
        group = shape[1] if ids.shape[1] is None else ids.shape[1]
        return tf.reshape(embeddings, [shape[0], group, embeddings.shape[-1]])

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
            texts: list of str or bytes.
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
            answers = self.predict(list(texts), batch_size=batch_size, verbose=verbose)
        finally:
            self._prompt = before
        return answers["embedding"]

    def _examples(self, x: Any) -> TextGroups:
        if isinstance(x, TextGroups):
            return x
        if isinstance(x, Examples):
            return TextGroups.from_examples(x)
        columns = x if isinstance(x, tuple) else (x,)
        return TextGroups(tuple(as_examples(column).texts for column in columns))

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
                prompt.encode() + text if isinstance(text, bytes) else prompt + text  # type: ignore[misc]
                for text in texts
            ]
        return super().tokenize_rows(texts, text_pairs)

    # === Training ===

    def fit(  # type: ignore[override]
        self, x: Any, y: Any = None, *, loss: str | ContrastiveLoss | None = None, **kwargs: Any
    ) -> keras.callbacks.History:
        """Trains on groups of texts; see the class, and `TextModel.fit` for all other arguments.

        With `validation_data` the best epoch is told by Spearman's correlation (pairs with
        scores), the share of triplets told right, or the mean reciprocal rank among all positives
        of that data (pairs); for texts alone by the loss.

        Args:
            x: see the class.
            y: float scores, one a pair; or None.
            loss: "multiple_negatives", "cosent", "cosine", "triplet", or one of the losses of
                `training.contrastive`; None: as the data has it.
            **kwargs: as for `TextModel.fit`: `epochs`, `batch_size`, `validation_data`, ...

        Returns:
            keras.callbacks.History.

        Raises:
            DataError: the data does not fit the loss.
            ConfigError: options that contradict each other.
        """
        if loss is not None and self._compiled_by_caller:
            raise ConfigError("Give the loss to `compile` or to `fit`, not to both.")
        if kwargs.get("probe_epochs"):
            raise ConfigError("`probe_epochs` is not possible: there is no new head to train.")
        self._fit_loss = make_loss(loss) if isinstance(loss, str) else loss
        if not self._compiled_by_caller and not isinstance(x, tf.data.Dataset):
            self._data_kind = _kind(self._with_scores(self._examples(x), y))
        return super().fit(x, y, **kwargs)

    def _with_scores(self, groups: TextGroups, y: Any) -> TextGroups:
        if y is None:
            return groups
        scores = _floats(y)
        return TextGroups(groups.columns, scores, groups.labels, groups.rows, groups.path)

    def _training_loss(self) -> Any:
        if self._compiled_by_caller:
            return self.loss
        return self._default_loss()

    def _default_loss(self) -> keras.losses.Loss:
        if self._fit_loss is not None:
            return self._fit_loss
        return make_loss("cosent" if self._data_kind == "scored" else "multiple_negatives")

    def _default_metrics(self) -> list[keras.metrics.Metric]:
        return []

    def _prepared(self, x: Any, y: Any) -> tuple[TextGroups, np.ndarray]:
        groups = self._with_scores(self._examples(x), y)
        if not len(groups):
            raise DataError("There are no examples: expected at least one text.")
        return groups, self._targets(None, groups)

    def _targets(self, y: Any, examples: TextGroups) -> np.ndarray:
        loss = self._training_loss()
        needs = getattr(loss, "needs", None)
        kind = _kind(examples)
        allowed = {
            "scores": ("scored",),
            "groups": ("texts", "pairs", "triplets"),
            "negatives": ("triplets",),
        }.get(str(needs), (kind,))
        if kind not in allowed:
            raise DataError(
                f"{type(loss).__name__} takes {_DESCRIPTIONS[allowed[-1]]}, got "
                f"{_DESCRIPTIONS[kind]}."
            )
        if kind == "texts" and not self.encoder.config.dropout:
            raise ConfigError(
                "Texts alone are trained against themselves through dropout (SimCSE), but this "
                "encoder has none: `hidden_dropout_prob` is 0."
            )
        if examples.scores is not None:
            scores = np.asarray(examples.scores, np.float32)
            check = getattr(loss, "check_scores", None)
            if check is not None:
                check(scores)
            return scores
        return examples.kinship()

    def _labelled_rows(
        self, examples: TextGroups, targets: np.ndarray, weights: np.ndarray | None = None
    ) -> LabelledRows:
        columns = examples.columns * (2 if examples.size == 1 else 1)
        texts = [text for group in zip(*columns, strict=True) for text in group]
        return LabelledRows(self.tokenize_rows(texts), targets, weights=weights, group=len(columns))

    def _adopt(self, examples: TextGroups) -> None:
        """Takes nothing over: what is embedded is one text."""

    def _dev_callbacks(
        self, validation_data: Any, batch_size: int
    ) -> list[keras.callbacks.Callback]:
        x, y = validation_data if _is_labelled(validation_data) else (validation_data, None)
        groups = self._with_scores(self._examples(x), y)
        if _kind(groups) == "texts":
            self._monitored = ("val_loss", "min")
            return []
        self._monitored = (f"val_{_MEASURES[_kind(groups)]}", "max")
        return [_Measure(self, groups, batch_size, _MEASURES[_kind(groups)])]

    _monitored: tuple[str, str] = ("val_loss", "min")

    def _monitor(self) -> tuple[str, str]:
        return self._monitored

    def _validation_batches(self, validation_data: Any, batch_size: int) -> tf.data.Dataset:
        if _is_labelled(validation_data):
            return self._labelled_batches(*validation_data, batch_size)
        return self._labelled_batches(validation_data, None, batch_size)

    def report(
        self, x: Any, y: Any = None, *, batch_size: int = 64
    ) -> SimilarityReport | RetrievalReport | TripletReport:
        """Measures embeddings on groups of texts.

        Args:
            x: pairs with scores, pairs, or triplets, as in `fit`.
            y: as in `fit`.
            batch_size: int.

        Returns:
            for pairs with scores, SimilarityReport; for pairs, RetrievalReport: each anchor
            searches its positive (or those of its label) among all positives; for groups of more,
            TripletReport.

        Raises:
            DataError: texts alone, with which there is nothing to compare.
        """
        groups = self._with_scores(self._examples(x), y)
        kind = _kind(groups)
        if kind == "texts" or not len(groups):
            raise DataError("`report` needs pairs of texts, with scores or without, or triplets.")
        texts = list(dict.fromkeys(text for column in groups.columns for text in column))
        place = {text: index for index, text in enumerate(texts)}
        vectors = self.embed(texts, batch_size=batch_size)
        if self.similarity == "cosine":
            vectors = unit_length(tf.constant(vectors)).numpy()
        columns = [np.array([place[text] for text in column]) for column in groups.columns]
        if kind == "scored":
            similarities = np.sum(vectors[columns[0]] * vectors[columns[1]], axis=-1)
            return similarity_report(np.asarray(groups.scores), similarities)
        if kind == "triplets":
            return triplet_report(*(vectors[column] for column in columns))
        return retrieval_report(vectors, columns[0], columns[1], groups.labels)

    # === Files ===

    def _side_config(self) -> dict[str, Any]:
        return {
            "task": self.task_name,
            "max_length": self.max_length,
            "training": self.training_record,
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


class _Measure(keras.callbacks.Callback):
    """Measures the held-out data at the end of every epoch."""

    def __init__(self, task: TextEmbedder, groups: TextGroups, batch_size: int, name: str) -> None:
        super().__init__()
        self._task, self._groups, self._batch_size, self._name = task, groups, batch_size, name

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the measure to the logs."""
        report = self._task.report(self._groups, batch_size=self._batch_size)
        if logs is not None:
            logs[f"val_{self._name}"] = getattr(report, self._name)


_DESCRIPTIONS = {
    "texts": "texts alone",
    "pairs": "pairs of texts without scores",
    "scored": "pairs of texts with scores",
    "triplets": "an anchor, a positive and negatives",
}
# What tells epochs apart; a field of the report.
_MEASURES = {"scored": "spearman", "pairs": "mrr_at_10", "triplets": "accuracy"}


def _kind(groups: TextGroups) -> str:
    if groups.scores is not None:
        return "scored"
    return {1: "texts", 2: "pairs"}.get(groups.size, "triplets")


def _is_labelled(validation_data: Any) -> bool:
    """Whether it is (x, y), which a tuple of lists of texts is not."""
    if not isinstance(validation_data, tuple) or len(validation_data) != 2:
        return False
    y = validation_data[1]
    return y is None or not len(y) or not isinstance(y[0], str | bytes)


def _floats(y: Any) -> list[float]:
    try:
        scores = np.asarray(y, np.float64)
    except (TypeError, ValueError):
        raise DataError(f"Scores must be numbers, got {y[0]!r} among them.") from None
    if scores.ndim != 1 or not np.isfinite(scores).all():
        raise DataError("Scores must be finite numbers, one a pair.")
    return [float(score) for score in scores]
