"""Says whether one sentence follows another."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Self

import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.columns import listed
from keras_bert_zoo.data.documents import NEXT_LABELS
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import DataError
from keras_bert_zoo.heads.classifier import ClassificationHead
from keras_bert_zoo.tasks.answering import largest_difference
from keras_bert_zoo.tasks.text_classifier import TextClassifier
from keras_bert_zoo.text.tokenizer import Tokenizer

# Its ids are those of transformers: True would be 1, "is not next".
_NO_BOOLEANS = (
    f"Expected labels {' and '.join(map(repr, NEXT_LABELS))}, or ids (0: is next), got booleans: "
    f"pass names, such as numpy.where(follows, {', '.join(map(repr, NEXT_LABELS))})."
)


class NextSentence(TextClassifier):
    """Says whether the second text of a pair follows the first.

    `predict` and the exported model take `text` and `text_pair`, and answer with `is_next` (texts,)
    float32, the probability that it follows; `label` (texts,) str, `is_next` or `not_next`; and
    `score` (texts,) float32, the label's probability.

    `fit` takes a tuple of two lists of str and labels, as names or as ids (0 = is next, as in
    transformers); or Examples, such as `data.documents.sentence_pairs` makes of running text.

    Args:
        encoder: Encoder with a pooler.
        tokenizer: Tokenizer.
        head: ClassificationHead with two units.
        max_length: int, tokens of both texts together; default 128.
        token_layout: "packed" or "padded"; see `Encoder`.

    Raises:
        ConfigError: a `max_length` beyond the encoder's positions.

    Source: arXiv 1810.04805, section 3.1; transformers' BertForNextSentencePrediction.
    """

    task_name = "next-sentence"
    head_kind = "next_sentence"
    takes_pairs = True

    def __init__(
        self,
        encoder: Encoder,
        tokenizer: Tokenizer,
        *,
        head: ClassificationHead | None = None,
        max_length: int | None = None,
        token_layout: str = "packed",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            encoder,
            tokenizer,
            NEXT_LABELS,
            head=head,
            max_length=max_length,
            token_layout=token_layout,
            **kwargs,
        )

    @classmethod
    def from_preset(  # type: ignore[override]
        cls,
        preset: str | os.PathLike[str],
        *,
        new_head: bool = False,
        max_length: int | None = None,
        token_layout: str = "packed",
        dtype: Any = None,
        allow_pickle: bool = False,
        ignore_config_keys: Iterable[str] = (),
    ) -> Self:
        """Builds the task on a preset.

        Args:
            preset: catalogued name or Hugging Face directory.
            new_head: bool. Whether the head starts from fresh weights; else it is the preset's.
            max_length: int, tokens. None: as saved with the head that is loaded, or what its model
                takes; 128 for a new one.
            token_layout: "packed" or "padded".
            dtype: Keras dtype policy of the encoder, "mixed_bfloat16" for one.
            allow_pickle: bool. Whether a pytorch_model.bin may be fetched and read.
            ignore_config_keys: config.json keys to leave unread although they are unknown.

        Returns:
            NextSentence.

        Raises:
            ConfigError: an option or the preset's config is not supported.
            CheckpointError: the preset is not there, does not fit, or has no head to load.
        """
        encoder, tokenizer, head, side = cls._load_parts(
            preset,
            head_width=None,
            new_head=new_head,
            ignore_config_keys=ignore_config_keys,
            dtype=dtype,
            allow_pickle=allow_pickle,
        )
        task = cls(
            encoder,
            tokenizer,
            head=head,
            max_length=side.get("max_length") if max_length is None else max_length,
            token_layout=token_layout,
        )
        task._restore(side)
        return task

    @classmethod
    def _head_hint(cls) -> str:
        return "new_head=True"

    def _task_config(self) -> dict[str, Any]:
        return {}

    def _side_config(self) -> dict[str, Any]:
        side = super()._side_config()
        del side["threshold"]
        return side

    def _examples(self, x: Any) -> Examples:
        examples: Examples = super()._examples(x)
        if examples.text_pairs is None:
            raise DataError("Expected pairs of texts, a tuple of two lists, got single texts.")
        return examples

    def _targets(self, y: Any, examples: Examples) -> np.ndarray:
        values = [] if y is None else listed(y, "labels", flatten=True)
        if any(isinstance(value, bool | np.bool_) for value in values):
            raise DataError(_NO_BOOLEANS)
        return super()._targets(y, examples)

    def _dataset_targets(self, y: Any) -> Any:
        if getattr(y, "dtype", None) == tf.bool:
            raise DataError(_NO_BOOLEANS)
        return super()._dataset_targets(y)

    def answers(self, logits: tf.Tensor) -> dict[str, tf.Tensor]:
        """Turns logits into `is_next`, `label` and `score`; see the class."""
        scores = tf.nn.softmax(logits)
        return {
            "is_next": scores[:, 0],
            "label": tf.gather(tf.constant(self.labels), tf.argmax(scores, axis=-1)),
            "score": tf.reduce_max(scores, axis=-1),
        }

    def answer_difference(
        self, expected: dict[str, np.ndarray], got: dict[str, np.ndarray], tolerance: float
    ) -> float | None:
        """Compares two answers; at even odds either label may win."""
        even = abs(float(expected["is_next"]) - 0.5) <= tolerance
        if not even and not np.array_equal(expected["label"], got["label"]):
            return None
        return max(largest_difference(expected[name], got[name]) for name in ("is_next", "score"))
