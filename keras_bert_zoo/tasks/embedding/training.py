"""What embedders share in training and measuring: groups of texts in, losses and reports out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.columns import listed, numbers
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.pairs import TextGroups
from keras_bert_zoo.data.pipeline import LabelledRows
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.heads.embedder import unit_length
from keras_bert_zoo.metrics.retrieval import (
    RetrievalReport,
    SimilarityReport,
    TripletReport,
    retrieval_report,
    similarity_report,
    triplet_report,
)
from keras_bert_zoo.tasks.batches import is_batched
from keras_bert_zoo.tasks.inputs import as_texts
from keras_bert_zoo.tasks.keras_model import is_text
from keras_bert_zoo.tasks.task import Task
from keras_bert_zoo.training.contrastive import LOSSES, ContrastiveLoss, make_loss
from keras_bert_zoo.training.loop import was_validated
from keras_bert_zoo.training.outputs import Outputs
from keras_bert_zoo.training.replicas import split_rows


class GroupTask(Task):
    """A task that is trained on groups of texts, by the vectors that it makes of them.

    Called on ids (B, S) it gives (B, D); on groups of texts (B, G, S) it gives (B, G, D), which is
    what its losses take. A subclass says how texts become vectors (`connect`), and answers with
    them as `embedding`.
    """

    takes_datasets: ClassVar[bool] = False
    can_probe: ClassVar[bool] = False

    similarity: str

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._fit_loss: ContrastiveLoss | None = None
        self._data_kind = "pairs"
        self._monitored = ("val_loss", "min")

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Embeds ids; groups of texts, (B, G, S), are taken apart and put together again."""
        inputs, _ = split_rows(inputs)
        ids = inputs["token_ids"] if isinstance(inputs, Mapping) else None
        if ids is None or len(ids.shape) != 3:
            return super().__call__(inputs, *args, **kwargs)
        shape = tf.shape(ids)
        flat = {name: tf.reshape(ids, [-1, shape[2]]) for name, ids in inputs.items()}
        embeddings = super().__call__(flat, *args, **kwargs)
        group = shape[1] if ids.shape[1] is None else ids.shape[1]
        return tf.reshape(embeddings, [shape[0], group, embeddings.shape[-1]])

    def _examples(self, x: Any) -> TextGroups:
        if isinstance(x, TextGroups):
            return x
        if isinstance(x, Examples):
            return TextGroups.from_examples(x)
        columns = x if isinstance(x, tuple) else (x,)
        return TextGroups(tuple(map(as_texts, columns)))

    # === Training ===

    def fit(
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
        if not is_batched(x):  # which `TextModel` refuses
            x, y = self._with_scores(self._examples(x), y), None
            if not self._compiled_by_caller:
                self._data_kind = _kind(x)
        return super().fit(x, y, **kwargs)

    def evaluate(self, x: Any, y: Any = None, **kwargs: Any) -> Any:
        """Computes the loss; see `report` for what says more, and `TextModel.evaluate`."""
        if not is_batched(x):
            x, y = self._with_scores(self._examples(x), y), None
        if not (is_batched(x) or self._compiled_by_caller or self._fit_loss):
            self._data_kind = _kind(x)
            if self.compiled and type(self.loss) is not type(self._default_loss()):
                with self._scope():  # it was trained on data of another kind
                    self._compile(self.optimizer)
        return super().evaluate(x, y, **kwargs)

    def _with_scores(self, groups: TextGroups, y: Any) -> TextGroups:
        if y is None:
            return groups
        scores = [float(score) for score in numbers(listed(y, "scores"), "Scores", groups)]
        return TextGroups(groups.columns, scores, groups.labels, groups.rows, groups.path)

    def _training_loss(self) -> Any:
        if self._compiled_by_caller:
            return self.loss
        return self._default_loss()

    def _default_loss(self) -> keras.losses.Loss:
        if self._fit_loss is not None:
            return self._fit_loss
        return make_loss("cosent" if self._data_kind == "scored" else "multiple_negatives")

    def _output_kind(self) -> Outputs:
        return Outputs("other", type(self).__name__, losses=LOSSES)

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
        self, examples: TextGroups, targets: np.ndarray, batch_size: int
    ) -> list[keras.callbacks.Callback]:
        if _kind(examples) == "texts":
            self._monitored = ("val_loss", "min")
            return []
        self._monitored = (f"val_{_MEASURES[_kind(examples)]}", "max")
        return [_Measure(self, examples, batch_size, _MEASURES[_kind(examples)])]

    def _monitor(self) -> tuple[str, str]:
        return self._monitored

    def _validation_parts(self, validation_data: Any) -> tuple[Any, Any, Any]:
        if _is_labelled(validation_data):
            return super()._validation_parts(validation_data)
        return validation_data, None, None

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
        _, vectors, columns = group_vectors(self, groups, batch_size)
        if kind == "scored":
            similarities = np.sum(vectors[columns[0]] * vectors[columns[1]], axis=-1)
            return similarity_report(np.asarray(groups.scores), similarities)
        if kind == "triplets":
            return triplet_report(*(vectors[column] for column in columns))
        return retrieval_report(vectors, columns[0], columns[1], groups.labels)


def group_vectors(
    task: GroupTask, groups: TextGroups, batch_size: int
) -> tuple[list[str], np.ndarray, list[np.ndarray]]:
    """Embeds the texts of groups, each once, as they are compared.

    Args:
        task: of embeddings.
        groups: TextGroups.
        batch_size: int.

    Returns:
        the distinct texts; float32 (texts, D), whose dot products are the similarities; and for
        each column int (groups,), the numbers of its texts.
    """
    texts = list(dict.fromkeys(text for column in groups.columns for text in column))
    place = {text: index for index, text in enumerate(texts)}
    vectors = task.answer_rows(texts, batch_size=batch_size)["embedding"]
    if task.similarity == "cosine":
        vectors = unit_length(tf.constant(vectors)).numpy()
    columns = [np.array([place[text] for text in column]) for column in groups.columns]
    return texts, vectors, columns


class _Measure(keras.callbacks.Callback):
    """Measures the held-out data at the end of every epoch."""

    def __init__(self, task: GroupTask, groups: TextGroups, batch_size: int, name: str) -> None:
        super().__init__()
        self._task, self._groups, self._batch_size, self._name = task, groups, batch_size, name

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the measure to the logs."""
        if not was_validated(logs):
            return
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
    """Whether it is (x, y) or (x, y, weights), which a tuple of lists of texts is not."""
    if not isinstance(validation_data, tuple) or len(validation_data) not in (2, 3):
        return False
    y = validation_data[1]
    return y is None or not len(y) or not is_text(list(y))
