"""The specification of a task: its name, inputs and options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.encoders.encoder import encoder_inputs
from keras_bert_zoo.tasks.options import TaskOptions

__all__ = ["TaskSpec"]


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """Declares a task.

    Args:
        name: str. The name in the side file and in `tasks.registry.TASKS`.
        head: str. The kind of head, see `FamilyNames.heads`; "": a head unknown to transformers.
        head_hint: str. The argument of `from_preset` that starts a new head, for messages.
        options: the class of the task's options.
        arguments: names of the constructor's other arguments. They are also attributes, and a
            .keras file holds them.
        head_argument: str. The constructor's argument for the head.
        pairs: bool or None. Whether the task takes pairs of texts; None: single texts or pairs.
        texts: names of the string inputs. Unless `pairs` is False, `text_pair` follows `text`.
        text_widths: name of a string input -> name of the attribute with its texts per row.
        default_max_length: int, tokens.
        inputs: makes the model's symbolic inputs.
        training_inputs: names of inputs that only training uses.
        constants: names of attributes that a traced graph holds as constants, besides the options.
        stages: names of attributes that hold further models, which run after this one.
        keeps_dtype: bool. Whether an export computes this model in its current dtype.
        windowed: bool. Whether texts are split into windows, so that batches must be smaller.
        extra_cost: `(task, inputs)` -> int or int32 (), the memory of a row besides its tokens, in
            tokens; see `run_in_chunks`.
    """

    name: str
    options: type[TaskOptions] = TaskOptions
    head: str = ""
    head_hint: str = "new_head=True"
    arguments: tuple[str, ...] = ()
    head_argument: str = "head"
    pairs: bool | None = False
    texts: tuple[str, ...] = ("text",)
    text_widths: Mapping[str, str] = field(default_factory=dict)
    default_max_length: int = 128
    inputs: Callable[[], dict[str, keras.KerasTensor]] = encoder_inputs
    training_inputs: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    keeps_dtype: bool = False
    windowed: bool = False
    extra_cost: Callable[[Any, dict[str, tf.Tensor]], Any] | None = None

    def serving_inputs(self) -> dict[str, keras.KerasTensor]:
        """Returns the model's symbolic inputs at inference."""
        return {n: x for n, x in self.inputs().items() if n not in self.training_inputs}

    def text_names(self, pair: bool) -> tuple[str, ...]:
        """Returns the names of the string inputs, for pairs of texts or for single texts."""
        return ("text", "text_pair") if pair and self.texts == ("text",) else self.texts
