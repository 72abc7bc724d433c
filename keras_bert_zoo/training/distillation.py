"""Distillation: a smaller classifier learns the answers of a larger one.

Legend: B examples of a batch, C labels, T tokens of a batch, H width of a state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.encoders.parts import encoder_inputs
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training.arguments import as_callbacks, check_arguments
from keras_bert_zoo.training.compiling import build_shared, compile_task, prepare_updates
from keras_bert_zoo.training.data import prepared, replicas_of, validation_parts
from keras_bert_zoo.training.fit_data import adopt_examples
from keras_bert_zoo.training.guard import StopOnNonFinite
from keras_bert_zoo.training.loop import default_optimizer, run_fit
from keras_bert_zoo.training.replicas import even_batches
from keras_bert_zoo.validation import check_number

Teacher = Callable[[Any], np.ndarray]


def distill(
    teacher: Any,
    student: Any,
    x: Any,
    y: Any = None,
    *,
    validation_data: Any = None,
    temperature: float = 2.0,
    label_weight: float = 0.0,
    hidden_weight: float = 0.0,
    batch_size: int = 32,
    epochs: int = 10,
    learning_rate: float = 1e-4,
    warmup_fraction: float = 0.1,
    weight_decay: float = 0.01,
    global_clipnorm: float | None = 1.0,
    patience: int | None = None,
    seed: int = 0,
    callbacks: Any = (),
    verbose: Any = "auto",
) -> keras.callbacks.History:
    """Trains a classifier to give the answers of another one.

    The teacher answers each text once, before the training. Labels are optional: texts without
    labels teach, too. `select_layers` makes a student of some of the teacher's blocks.

    Args:
        teacher: TextClassifier; or a function that maps `x` to logits (examples, C), in the order
            of the student's labels.
        student: TextClassifier with the same labels. It is trained in place.
        x: as in `TextClassifier.fit`, in memory.
        y: labels, as in `fit`; None: `x` has labels, or there are none.
        validation_data: as in `fit`, with labels. The best epoch is restored.
        temperature: float above 0. Divides all logits. Above 1, the order of improbable labels
            counts more.
        label_weight: float from 0 to 1. The weight of the labels' cross-entropy; the rest is the
            weight of the teacher's answers.
        hidden_weight: float of at least 0. The weight of the cosine distance between the states of
            the student's layers and of the teacher's layers at the same relative depth. It needs a
            teacher with the same tokenizer and width, which then runs in every step.
        batch_size: int.
        epochs: int.
        learning_rate: float. The highest rate of the schedule.
        warmup_fraction: float. See `fit`.
        weight_decay: float. See `fit`.
        global_clipnorm: float or None. See `fit`.
        patience: int or None. See `fit`.
        seed: int. The order of the examples.
        callbacks: Keras callbacks.
        verbose: as in Keras.

    Returns:
        keras.callbacks.History, with `loss` and `accuracy`: the agreement with the labels, or
        without labels with the teacher.

    Raises:
        ConfigError: an argument is out of range, the labels differ, or the teacher has no hidden
            states that fit.
        DataError: the labels do not fit the texts.

    Example: `distill(teacher, select_layers(teacher, 3), texts, epochs=5)`.

    Source: arXiv 1503.02531 (logits), 1910.01108 (cosine of states).
    """
    check_arguments(
        batch_size=batch_size, epochs=epochs, learning_rate=learning_rate, patience=patience,
        warmup_fraction=warmup_fraction, weight_decay=weight_decay, seed=seed,
        global_clipnorm=global_clipnorm,
    )  # fmt: skip
    check_number("temperature", temperature, minimum=0, exclusive=True)
    check_number("label_weight", label_weight, minimum=0, maximum=1)
    check_number("hidden_weight", hidden_weight, minimum=0)
    if student.static_shapes:
        raise ConfigError(
            "`distill` is not possible on TPUs, nor after `compile(jit_compile=True)`."
        )
    answer = _teacher_function(teacher, student)
    rows = _rows(student, answer, x, y, needs_labels=label_weight > 0)
    objective = student.objective()
    batches = rows.batches(batch_size=batch_size, seed=seed)
    validation = None
    if validation_data is not None:
        held_x, held_y, _ = validation_parts(objective, validation_data)
        held = _rows(student, answer, held_x, held_y, needs_labels=True)
        validation = even_batches(
            held.batches(batch_size=batch_size, shuffle=False), replicas_of(student)
        )
    steps = int(batches.cardinality())
    loss = DistillationLoss(
        temperature=temperature, label_weight=label_weight, multi_label=student.multi_label
    )
    model: keras.Model = student
    if hidden_weight:
        model = _WithHiddenStates(student, teacher, hidden_weight)
    with student.distribute_strategy.scope():
        optimizer = default_optimizer(
            steps, epochs=epochs, learning_rate=learning_rate, warmup_fraction=warmup_fraction,
            weight_decay=weight_decay, global_clipnorm=global_clipnorm,
        )  # fmt: skip
        metric = keras.metrics.MeanMetricWrapper(
            _labels_agree if student.multi_label else _label_agrees, name="accuracy"
        )
        if hidden_weight:
            model.compile(optimizer, loss, metrics=[metric], jit_compile=False)
        else:
            compile_task(student, optimizer, loss, [metric])
    batches = even_batches(batches, replicas_of(student))
    hooks = as_callbacks(callbacks)
    if not hidden_weight:
        build_shared(student, batches)
        prepare_updates(student)
        hooks.append(StopOnNonFinite(steps, 0, 0, lambda step: None))
    return run_fit(
        model,
        batches,
        validation=validation,
        monitor=("val_loss", "min") if student.multi_label else ("val_accuracy", "max"),
        patience=patience,
        epochs=epochs,
        callbacks=hooks,
        verbose=verbose,
    )


def _teacher_function(teacher: Any, student: Any) -> Teacher:
    if not _is_classifier(student):
        raise ConfigError(
            f"Expected a TextClassifier as the student, received a {type(student).__name__}."
        )
    if not _is_classifier(teacher):
        if callable(teacher) and not isinstance(teacher, keras.Model):
            function: Teacher = teacher
            return function
        raise ConfigError(
            "Expected a TextClassifier or a function as the teacher, received a "
            f"{type(teacher).__name__}."
        )
    if teacher.labels != student.labels or teacher.multi_label != student.multi_label:
        raise ConfigError(
            "Expected a student with the labels of its teacher, in the same order, received "
            f"{len(student.labels)} labels, such as {student.labels[0]!r}; the teacher has "
            f"{len(teacher.labels)}, such as {teacher.labels[0]!r}."
        )
    return lambda x: teacher.predict_logits(x)


def _is_classifier(task: Any) -> bool:
    return hasattr(task, "multi_label") and hasattr(task, "predict_logits")


def _rows(student: Any, answer: Teacher, x: Any, y: Any, *, needs_labels: bool) -> Any:
    """Returns rows whose targets are the teacher's logits and the labels, (examples, 2 C)."""
    labelled = y is not None or getattr(x, "labels", None) is not None
    if needs_labels and not labelled:
        raise ConfigError("Expected labels with `label_weight` and for validation, received none.")
    examples, truth = prepared(student, x, y) if labelled else (student.examples(x, None), None)
    adopt_examples(student, student.objective(examples), examples)
    logits = np.asarray(answer(x), np.float32)
    count = len(student.labels)
    if logits.shape != (len(examples), count):
        raise ConfigError(
            f"Expected the teacher's logits of shape {(len(examples), count)}, received "
            f"{logits.shape}."
        )
    if truth is None:
        truth = logits > 0 if student.multi_label else logits.argmax(1)
    if not student.multi_label:
        truth = np.eye(count)[truth]
    return student.rows(examples, np.concatenate([logits, truth], 1).astype(np.float32), None)


@keras.saving.register_keras_serializable("keras_bert_zoo")
class DistillationLoss(keras.losses.Loss):
    """The cross-entropy with the teacher's probabilities, and with labels.

    Args:
        temperature: float. See `distill`. The term of the teacher is multiplied by its square, so
            that its gradients have the same size at every temperature.
        label_weight: float from 0 to 1.
        multi_label: bool. Whether the labels do not exclude each other (sigmoid, not softmax).

    Call arguments:
        y_true: float (B, 2 C), the teacher's logits, then the labels as rows of 0 and 1.
        y_pred: float (B, C), the student's logits.

    Returns:
        float32 (), the mean over examples.

    Example:
        >>> loss = DistillationLoss(temperature=1.0, label_weight=1.0)
        >>> round(float(loss([[0.0, 0.0, 1.0, 0.0]], [[0.0, 0.0]])), 3)
        0.693
    """

    def __init__(
        self,
        *,
        temperature: float = 2.0,
        label_weight: float = 0.0,
        multi_label: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"name": "distillation"} | kwargs)
        self.temperature = temperature
        self.label_weight = label_weight
        self.multi_label = multi_label

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {
            "temperature": self.temperature,
            "label_weight": self.label_weight,
            "multi_label": self.multi_label,
        }

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Computes the loss of each example; see the class."""
        teacher, truth = tf.split(tf.cast(y_true, tf.float32), 2, axis=-1)
        student = tf.cast(y_pred, tf.float32)
        if self.multi_label:
            probabilities = tf.sigmoid(teacher / self.temperature)
        else:
            probabilities = tf.nn.softmax(teacher / self.temperature)
        soft = self._crossentropy(probabilities, student / self.temperature)
        hard = self._crossentropy(truth, student)
        weight = self.label_weight
        return (1 - weight) * self.temperature**2 * soft + weight * hard

    def _crossentropy(self, probabilities: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        if self.multi_label:
            each = tf.nn.sigmoid_cross_entropy_with_logits(probabilities, logits)
            return tf.reduce_mean(each, axis=-1)
        return tf.nn.softmax_cross_entropy_with_logits(probabilities, logits)


def _label_agrees(y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
    truth = tf.split(y_true, 2, axis=-1)[1]
    return tf.cast(tf.argmax(truth, -1) == tf.argmax(y_pred, -1), tf.float32)


def _labels_agree(y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
    truth = tf.split(y_true, 2, axis=-1)[1]
    return tf.reduce_mean(tf.cast((truth > 0.5) == (y_pred > 0), tf.float32), axis=-1)


class _WithHiddenStates(keras.Model):
    """A student whose losses contain the distance of its states from its teacher's."""

    def __init__(self, student: Any, teacher: Any, weight: float) -> None:
        super().__init__()
        _check_states(student, teacher)
        inputs = encoder_inputs()
        states, layout = student.encoder.layer_states(inputs)
        logits = student.head(student.encoder.pooler(states[-1], layout))
        self._student = keras.Model(inputs, [logits, states, layout["attended"]])
        inputs = encoder_inputs()
        deeper, _ = teacher.encoder.layer_states(inputs)
        ratio = (len(deeper) - 1) / (len(states) - 1)
        chosen = [deeper[round(i * ratio)] for i in range(len(states))]
        answers = keras.Model(inputs, chosen)
        self._teacher_states = lambda values: answers(values, training=False)  # not tracked
        self._weight = weight

    def call(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Computes the student's logits, and adds the distance of states to its losses."""
        logits, states, attended = self._student(inputs, training=training)
        if training:
            real = tf.cast(attended, tf.float32)
            distances = [
                tf.reduce_sum(real * (1 - _cosine(mine, tf.stop_gradient(other))))
                for mine, other in zip(states, self._teacher_states(inputs), strict=True)
            ]
            mean = tf.add_n(distances) / (len(distances) * tf.reduce_sum(real))
            self.add_loss(self._weight * mean)
        return logits


def _cosine(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """float32 (T,). The cosines of states (T, H)."""
    left, right = (tf.math.l2_normalize(tf.cast(x, tf.float32), -1) for x in (left, right))
    return tf.reduce_sum(left * right, axis=-1)


def _check_states(student: Any, teacher: Any) -> None:
    if replicas_of(student) > 1:
        raise ConfigError("Expected one replica with `hidden_weight`, received a strategy of more.")
    own = getattr(teacher, "tokenizer", None)
    if own is None or own.vocabulary != student.tokenizer.vocabulary:
        raise ConfigError(
            "Expected a teacher with the student's vocabulary for `hidden_weight`, received "
            f"{'an export or a function' if own is None else 'another vocabulary'}."
        )
    widths = [each.encoder.config.hidden_dim for each in (student, teacher)]
    if widths[0] != widths[1]:
        raise ConfigError(
            f"Expected states of the width {widths[1]} of the teacher for `hidden_weight`, "
            f"received a student of width {widths[0]}."
        )
