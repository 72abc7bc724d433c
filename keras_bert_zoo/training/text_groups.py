"""Training of embedders on groups of texts: examples, targets, rows and the objective."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_bert_zoo.data.columns import listed, numbers
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.inputs import as_texts, is_text
from keras_bert_zoo.data.pairs import TextGroups
from keras_bert_zoo.data.pipeline import LabelledRows
from keras_bert_zoo.errors import DataError
from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.training.contrastive import ContrastiveLoss, make_loss
from keras_bert_zoo.training.rows import LabelledBatches, packed_rows

__all__ = [
    "MEASURES",
    "as_groups",
    "default_loss",
    "group_rows",
    "group_targets",
    "is_labelled",
]

MEASURES = {"scored": "spearman", "pairs": "mrr_at_10", "triplets": "accuracy"}
"""Kind of groups -> the field of the report that compares epochs."""

_DESCRIPTIONS = {
    "texts": "single texts",
    "pairs": "pairs of texts without scores",
    "scored": "pairs of texts with scores",
    "triplets": "an anchor, a positive and negatives",
}
# `ContrastiveLoss.needs` -> kinds of groups.
_ACCEPTED = {
    "scores": ("scored",),
    "groups": ("texts", "pairs", "triplets"),
    "negatives": ("triplets",),
}


def as_groups(x: Any, y: Any = None) -> TextGroups:
    """Converts texts, tuples of lists, Examples or TextGroups to groups; `y` scores the pairs."""
    if isinstance(x, Examples):
        x = TextGroups.from_examples(x)
    elif not isinstance(x, TextGroups):
        x = TextGroups(tuple(map(as_texts, x if isinstance(x, tuple) else (x,))))
    if y is None:
        return x
    scores = [float(score) for score in numbers(listed(y, "scores"), "Scores", x)]
    return TextGroups(x.columns, scores, x.labels, x.rows, x.path)


def default_loss(kind: str) -> ContrastiveLoss:
    """Returns the loss for a kind of groups."""
    return make_loss("cosent" if kind == "scored" else "multiple_negatives")


def group_targets(groups: TextGroups, loss: Any) -> np.ndarray:
    """Returns the scores, float32 (groups,), or `TextGroups.kinship` without scores.

    Args:
        groups: TextGroups.
        loss: the loss to train with; None: the default.

    Raises:
        DataError: the loss does not accept the groups or their scores.
    """
    loss = default_loss(groups.kind) if loss is None else loss
    accepted = _ACCEPTED.get(str(getattr(loss, "needs", None)), (groups.kind,))
    if groups.kind not in accepted:
        raise DataError(
            f"{type(loss).__name__} takes {_DESCRIPTIONS[accepted[-1]]}, received "
            f"{_DESCRIPTIONS[groups.kind]}."
        )
    if groups.scores is None:
        return groups.kinship()
    scores = np.asarray(groups.scores, np.float32)
    if hasattr(loss, "check_scores"):
        loss.check_scores(scores)
    return scores


def group_rows(
    tokenizer: Tokenizer,
    groups: TextGroups,
    targets: np.ndarray,
    weights: np.ndarray | None,
    *,
    prompt: str,
    max_length: int,
) -> LabelledBatches:
    """Tokenizes the texts of groups; a single text is paired with itself."""
    columns = groups.columns * (2 if groups.size == 1 else 1)
    texts = [
        prompt.encode() + text if isinstance(text, bytes) else prompt + text
        for group in zip(*columns, strict=True)
        for text in group
    ]
    rows = packed_rows(tokenizer, texts, max_length=max_length)
    data = LabelledRows(rows, targets, weights=weights, group=len(columns))
    return LabelledBatches(data, tokenizer.pad_token_id)


def is_labelled(validation_data: tuple[Any, ...]) -> bool:
    """Whether a tuple is (x, y) or (x, y, weights) rather than lists of texts."""
    if len(validation_data) not in (2, 3):
        return False
    y = validation_data[1]
    return y is None or not len(y) or not is_text(list(y))
