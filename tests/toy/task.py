"""A toy task: classification of texts by `FirstTokenHead`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.data.labels import LabelMap
from keras_bert_zoo.heads.kinds import make_head
from keras_bert_zoo.presets.labels import label_config
from keras_bert_zoo.tasks.loading import TaskSource, saved_labels
from keras_bert_zoo.tasks.options import TaskOptions
from keras_bert_zoo.tasks.saving import SavedParts
from keras_bert_zoo.tasks.spec import TaskSpec
from keras_bert_zoo.tasks.trainable import TrainableTask
from keras_bert_zoo.training.keras_metrics import resolve_metrics
from keras_bert_zoo.training.objective import Objective
from keras_bert_zoo.training.outputs import Outputs
from keras_bert_zoo.training.rows import labelled_texts


@keras.saving.register_keras_serializable("tests")
class ToyClassifier(TrainableTask):
    """Predicts `label`, str (texts,)."""

    spec = TaskSpec(name="toy", arguments=("labels",))

    def __init__(
        self, encoder, tokenizer, labels: Sequence[str], *, head=None, max_length=None, **kwargs
    ) -> None:
        head = head or make_head("first_token", encoder, len(labels))
        options = TaskOptions(max_length=max_length)
        super().__init__(encoder, tokenizer, head, options=options, **kwargs)
        self.label_map = LabelMap(tuple(labels))

    @property
    def labels(self) -> list[str]:
        """The names of the labels."""
        return list(self.label_map.names)

    @classmethod
    def from_preset(cls, preset, *, labels=None, **options):
        """Builds the task from a preset, or loads a saved one."""
        source = TaskSource(cls, preset, **options)
        side = {} if labels else source.side
        parts = source.load_bare(side=side, pooler=False)
        task = parts.build(cls, labels or saved_labels(source.config))
        if side:
            parts.load_extra_weights(task)
        return task

    def saved_parts(self) -> SavedParts:
        """The labels, and the head, which transformers lacks."""
        return SavedParts(label_config(self.labels), extra_layers={"first_token": self.head})

    @classmethod
    def connect(cls, encoder, head, inputs, *, token_layout="packed", attention_groups=1):
        """Computes float32 logits (B, labels)."""
        states, layout = encoder.token_states(
            dict(inputs), token_layout=token_layout, attention_groups=attention_groups
        )
        return head(states, layout)

    def decode(self, outputs, context, *, options: Any = None) -> dict[str, tf.Tensor]:
        """Returns the best label."""
        return {"label": tf.gather(tf.constant(self.labels), tf.argmax(outputs, axis=-1))}

    def targets(self, examples, y=None) -> np.ndarray:
        """int32 (texts,), ids of labels."""
        labels = examples.labels if y is None else y
        return self.label_map.targets(labels, examples, multi_label=False)

    def rows(self, examples, targets, weights=None):
        """Tokenizes the texts."""
        return labelled_texts(self, examples, targets, weights)

    def objective(self, examples=None) -> Objective:
        """Cross-entropy of the logits."""
        outputs = Outputs("label", "ToyClassifier", count=len(self.labels))
        return Objective(
            outputs=outputs,
            loss=lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=lambda: resolve_metrics(["accuracy"], outputs),
        )
