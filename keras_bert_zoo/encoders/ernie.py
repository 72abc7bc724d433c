"""ERNIE: BERT with embeddings of task types (arXiv 1904.09223, 1907.12412)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import tensorflow as tf

from keras_bert_zoo.config import EncoderConfig, check_flags, check_integers
from keras_bert_zoo.encoders.bert import BertEncoder
from keras_bert_zoo.encoders.encoder import Parts
from keras_bert_zoo.encoders.shapes import Shapes
from keras_bert_zoo.layers.embeddings import Embeddings
from keras_bert_zoo.layers.token_layout import Layout


@dataclasses.dataclass(frozen=True, kw_only=True)
class ErnieConfig(EncoderConfig):
    """Configuration of an ERNIE encoder, with the defaults of transformers' ErnieConfig.

    Args:
        num_task_types: int. Rows of the task embedding.
        has_task_types: bool. Whether there is a task embedding.
        **others: see `EncoderConfig`.
    """

    num_task_types: int = 3
    has_task_types: bool = False
    family: str = "ernie"

    names: ClassVar[Mapping[str, str]] = {
        **EncoderConfig.names,
        "task_type_vocab_size": "num_task_types",
        "use_task_id": "has_task_types",
    }
    fixed: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **EncoderConfig.fixed,
        # Written by PaddleNLP.
        "pool_act": ("tanh", None),
        "task_id": (0, None),
    }
    neutral: ClassVar[frozenset[str]] = frozenset({"enable_recompute", "fuse", "paddlenlp_version"})

    def problems(self) -> list[str]:
        """Adds the problems of the family's own fields."""
        return [
            *super().problems(),
            *check_integers(self, "num_task_types"),
            *check_flags(self, "has_task_types"),
        ]


@keras.saving.register_keras_serializable("keras_bert_zoo")
class ErnieEmbeddings(Embeddings):
    """`Embeddings` that add the embedding of task type 0 to every token.

    Callers of Hugging Face's ErnieModel may pass other task types. The default is 0, which is also
    usual for fine-tuning.
    """

    def __init__(self, config: ErnieConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.task_table = self.add_table("task_table", config.num_task_types)

    def embed(self, layout: Layout) -> tf.Tensor:
        """Sums the tables' rows; see `Embeddings.embed`."""
        return super().embed(layout) + self.task_table.value[0]


@keras.saving.register_keras_serializable("keras_bert_zoo")
class ErnieEncoder(BertEncoder):
    """An ERNIE encoder; see `Encoder` for arguments and outputs."""

    config_class = ErnieConfig
    config: ErnieConfig

    @classmethod
    def weight_shapes(cls, config: Any) -> Shapes:
        """Returns the shapes of the variables; see `Encoder.weight_shapes`."""
        table: Shapes = {}
        if config.has_task_types:
            table["embeddings/task_table"] = (config.num_task_types, config.hidden_dim)
        return super().weight_shapes(config) | table

    def make_parts(self, config: EncoderConfig, *, pooler: bool, dtype: Any) -> Parts:
        """Builds the layers; see `Encoder.make_parts`."""
        parts = super().make_parts(config, pooler=pooler, dtype=dtype)
        if not self.config.has_task_types:
            return parts
        embeddings = ErnieEmbeddings(self.config, dtype=dtype, name="embeddings")
        return dataclasses.replace(parts, embeddings=embeddings)
