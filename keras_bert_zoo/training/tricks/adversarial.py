"""Adversarial training: perturbations of the word embeddings of a training step.

Legend: B rows of the model's inputs, S columns, W width of the table of tokens.

A perturbation belongs to one text: its L2 norm is that of all embeddings of the text together. It
exists only within the step. The gradient of a perturbation is divided by its norm, so neither the
number of replicas nor a scale of the loss matters.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.layers.training_hooks import perturbed_words
from keras_bert_zoo.training.gradients import Gradient, mean_of_gradients
from keras_bert_zoo.training.outputs import Outputs
from keras_bert_zoo.training.replicas import Gradients, Part
from keras_bert_zoo.training.tricks.divergence import divergence, shared_mean
from keras_bert_zoo.training.tricks.passes import Passes

__all__ = ["FREELB_STEPS", "fgm", "freelb", "smart"]

FREELB_STEPS = 3
"""Steps of `freelb`; the paper uses 2 to 5."""


def fgm(part: Part, passes: Passes, *, epsilon: float) -> Gradients:
    """Averages the loss and that of texts that are perturbed along its gradient.

    A step computes the model and its gradients twice.

    Args:
        part: Part.
        passes: computes the loss.
        epsilon: float. The L2 norm of the perturbation of a text.

    Returns:
        see `Gradients`.

    Example: `task.fit(texts, labels, adversarial="fgm")`

    Source: arXiv 1605.07725, equation 5. The paper adds the losses; their mean is as large as the
    loss without perturbation.
    """
    clean = _step(part, passes, tf.zeros(_shape(part)))
    worst = epsilon * _directions(clean.of_perturbation, part)
    return _mean([clean, _step(part, passes, worst)])


def freelb(part: Part, passes: Passes, *, epsilon: float, seed: int) -> Gradients:
    """Averages the losses of `FREELB_STEPS` perturbations, each a step of ascent from the last.

    A step moves by half of `epsilon` along the gradient. The first perturbation is random.

    Args:
        part: Part.
        passes: computes the loss.
        epsilon: float. The largest L2 norm of the perturbation of a text.
        seed: int. Of the random perturbation, with the number of updates.

    Returns:
        see `Gradients`.

    Example: `task.fit(texts, labels, adversarial="freelb")`

    Source: arXiv 1909.11764, algorithm 1.
    """
    perturbation = 0.5 * epsilon * _noise(part, seed)
    steps = [_step(part, passes, perturbation)]
    while len(steps) < FREELB_STEPS:
        perturbation += 0.5 * epsilon * _directions(steps[-1].of_perturbation, part)
        perturbation = _inside(perturbation, epsilon)
        steps.append(_step(part, passes, perturbation))
    return _mean(steps)


def smart(part: Part, passes: Passes, *, epsilon: float, seed: int, outputs: Outputs) -> Gradients:
    """Adds the largest change of the outputs under a perturbation, as their divergence.

    The perturbation starts as noise with a tenth of the norm, and takes one step along the gradient
    of the divergence. The labels are not used for it. A step computes the model three times, and
    gradients twice.

    Args:
        part: Part.
        passes: computes the loss.
        epsilon: float. The largest L2 norm of the perturbation of a text.
        seed: int. Of the noise, with the number of updates.
        outputs: Outputs of the task.

    Returns:
        see `Gradients`.

    Example: `task.fit(texts, labels, adversarial="smart")`

    Source: arXiv 1911.03437, equations 1 to 3, with one step of ascent, the weight 1, and an L2
    norm of the whole text. The paper's second part, the proximal point method, is not used.
    """

    def change(perturbation: tf.Tensor, clean: tf.Tensor) -> tf.Tensor:
        with perturbed_words(perturbation):
            moved = part.outputs()
        # The paper adds both directions of the divergence, whose mean `divergence` is.
        return shared_mean(part, 2.0 * divergence(moved, clean, outputs))

    noise = 0.1 * epsilon * _noise(part, seed)
    with tf.GradientTape() as tape:
        passed = passes(part)
        with tape.stop_recording(), tf.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(noise)
            moved = part.updates.scaled(change(noise, tf.stop_gradient(passed.outputs)))
        with tape.stop_recording():
            worst = noise + epsilon * _directions(inner.gradient(moved, noise), part)
            worst = _inside(worst, epsilon)
        loss = passed.loss + tf.cast(change(worst, passed.outputs), passed.loss.dtype)
        scaled = part.updates.scaled(loss)
    return loss, passed.outputs, tape.gradient(scaled, part.model.trainable_variables)


class _Step(NamedTuple):
    """The loss under a perturbation, and the gradients of the scaled loss."""

    loss: tf.Tensor
    outputs: Any
    gradients: list[Gradient | None]
    of_perturbation: tf.Tensor | None


def _step(part: Part, passes: Passes, perturbation: tf.Tensor) -> _Step:
    with tf.GradientTape() as tape:
        tape.watch(perturbation)
        with perturbed_words(perturbation):
            passed = passes(part)
        scaled = part.updates.scaled(passed.loss)
    variables = part.model.trainable_variables
    *gradients, last = tape.gradient(scaled, [*variables, perturbation])
    return _Step(passed.loss, passed.outputs, gradients, last)


def _mean(steps: list[_Step]) -> Gradients:
    """The mean of losses and gradients, with the outputs of the first step."""
    loss = tf.add_n([step.loss for step in steps]) / len(steps)
    gradients = zip(*(step.gradients for step in steps), strict=True)
    return loss, steps[0].outputs, [mean_of_gradients(each) for each in gradients]


def _mask(part: Part) -> tf.Tensor:
    """float32 (B, S, 1). 0 at padding."""
    mask = part.x["padding_mask"]
    return tf.cast(tf.reshape(mask, [-1, tf.shape(mask)[-1]])[..., tf.newaxis] != 0, tf.float32)


def _shape(part: Part) -> tf.Tensor:
    """The shape of a perturbation: (B, S, W)."""
    rows = tf.shape(_mask(part))
    return tf.stack([rows[0], rows[1], part.model.encoder.embeddings.token_table.shape[1]])


def _noise(part: Part, seed: int) -> tf.Tensor:
    """float32 (B, S, W). Random directions of the norm 1, equal on any number of replicas."""
    shape = _shape(part)
    replicas = tf.distribute.get_replica_context().num_replicas_in_sync
    of_all = tf.random.stateless_normal(
        tf.concat([shape[:1] * replicas, shape[1:]], 0),
        seed=tf.stack([tf.constant(seed, tf.int64), part.updates.count.value()]),
    )
    if replicas > 1:
        group = shape[0] // tf.shape(part.places)[0]  # rows of the model's inputs per row
        of_all = tf.gather(of_all, part.places[0] * group + tf.range(shape[0]))
    return _directions(of_all, part)


def _directions(gradient: tf.Tensor | None, part: Part) -> tf.Tensor:
    """Divides the gradient of each text by its norm, (B, S, W); a gradient of 0 stays 0."""
    if gradient is None:
        raise ConfigError(
            f"Expected an encoder that looks words up in its table for `adversarial`, received "
            f"{type(part.model.encoder).__name__}, whose loss does not depend on word embeddings."
        )
    gradient = tf.cast(gradient, tf.float32) * _mask(part)
    # Squares of small gradients would be 0.
    largest = tf.reduce_max(tf.abs(gradient), axis=[1, 2], keepdims=True)
    gradient = tf.math.divide_no_nan(gradient, largest)
    return tf.math.divide_no_nan(gradient, _norm(gradient))


def _inside(perturbation: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Projects the perturbation of each text onto the ball of a radius."""
    return perturbation * epsilon / tf.maximum(_norm(perturbation), epsilon)


def _norm(perturbation: tf.Tensor) -> tf.Tensor:
    """float32 (B, 1, 1)."""
    return tf.norm(perturbation, axis=[1, 2], keepdims=True)
