"""LAMB, for pretraining with large batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training.summed_gradients import SummedGradients


@keras.saving.register_keras_serializable(package="keras_bert_zoo")
class Lamb(SummedGradients):
    """Adam with a learning rate per variable: the ratio of the norms of weights and update.

    With Adam's bias-corrected moments m and v of the gradient, weights w and weight decay d:

        update = m / (sqrt(v) + epsilon) + d * w
        w = w - learning_rate * (norm(w) / norm(update)) * update

    The ratio is 1 if a norm is 0. `keras.optimizers.Lamb` differs from the paper: it applies the
    decay outside of the ratio, and the ratio to biases and LayerNorm, too. Here these have neither
    decay nor ratio, as in google-research/albert.

    Args:
        learning_rate: float or LearningRateSchedule.
        weight_decay: float. Biases and LayerNorm are excluded.
        beta_1, beta_2, epsilon: floats. Defaults of google-research/albert, lamb_optimizer.py.
        global_clipnorm: float or None. Gradients are scaled down to this global L2 norm.
        exclude_from_layer_adaptation: list of str or None. Substrings of the names of variables
            whose ratio is 1. None: the variables without weight decay.
        rate_factors: dict or None. See `SummedGradients`.
        **kwargs: as for `keras.optimizers.Optimizer`.

    Raises:
        ConfigError: a number is out of range, or `exclude_from_layer_adaptation` is not a list of
            strings.

    Example:
        >>> optimizer = Lamb(1e-3, weight_decay=0.01)
        >>> kernel = keras.Variable([[3.0, 4.0]], name="kernel")
        >>> optimizer.apply([tf.constant([[1.0, 1.0]])], [kernel])
        >>> round(5 - float(tf.norm(kernel)), 4)  # about 1e-3 times the norm
        0.005

    Source: arXiv 1904.00962, algorithm 2.
    """

    def __init__(
        self,
        learning_rate: Any,
        weight_decay: float = 0.01,
        *,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        global_clipnorm: float | None = 1.0,
        exclude_from_layer_adaptation: Sequence[str] | None = None,
        rate_factors: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        names = exclude_from_layer_adaptation
        if names is not None and (
            isinstance(names, str) or not all(isinstance(name, str) for name in names)
        ):
            raise ConfigError(
                "Expected `exclude_from_layer_adaptation` to be None or a list of strings, "
                f"received {names!r}."
            )
        super().__init__(
            learning_rate,
            weight_decay=weight_decay,
            global_clipnorm=global_clipnorm,
            rate_factors=rate_factors,
            **kwargs,
        )
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.exclude_from_layer_adaptation = None if names is None else tuple(names)

    def build(self, variables: Sequence[Any]) -> None:
        """Creates the moments."""
        if self.built:
            return
        super().build(variables)
        self._momentums, self._velocities = self.add_optimizer_variables(
            variables, ["momentum", "velocity"]
        )

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable and its moments in place."""
        index = self._get_variable_index(variable)
        first, second = self._momentums[index].value, self._velocities[index].value
        if isinstance(variable, keras.Variable):
            variable = variable.value
        update = _compiled_update if self.compiles(variable) else _update
        update(
            variable,
            first,
            second,
            tf.cast(tf.convert_to_tensor(gradient), variable.dtype),
            self.variable_rate(learning_rate, variable),
            self.next_step(tf.float64),
            betas=(self.beta_1, self.beta_2),
            epsilon=self.epsilon,
            decay=self.decay_of(variable),
            adapts=self._adapts(variable),
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        names = self.exclude_from_layer_adaptation
        return super().get_config() | {
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "exclude_from_layer_adaptation": None if names is None else list(names),
        }

    def _adapts(self, variable: tf.Variable) -> bool:
        """Whether the update of a variable is scaled by the ratio."""
        if self.exclude_from_layer_adaptation is None:
            return bool(self._use_weight_decay(variable))
        return not any(name in variable.name for name in self.exclude_from_layer_adaptation)


def _update(
    variable: tf.Variable,
    first: tf.Variable,
    second: tf.Variable,
    gradient: tf.Tensor,
    rate: tf.Tensor,
    step: tf.Tensor,
    *,
    betas: tuple[float, float],
    epsilon: float,
    decay: float,
    adapts: bool,
) -> None:
    """Updates a variable and its moments. `step` is float64: 1 - 0.999 has few digits in float32.

    The arguments after `step` are constants of the compiled function.
    """
    corrections = [tf.cast(1 - tf.pow(tf.constant(b, step.dtype), step), rate.dtype) for b in betas]
    moment = first + (gradient - first) * (1 - betas[0])
    square = second + (tf.square(gradient) - second) * (1 - betas[1])
    update = (moment / corrections[0]) / (tf.sqrt(square / corrections[1]) + epsilon)
    if decay:
        update += decay * variable
    if adapts:
        size, change = tf.norm(variable), tf.norm(update)
        rate *= tf.where((size > 0) & (change > 0), size / change, tf.ones_like(size))
    variable.assign_sub(rate * update)
    first.assign(moment)
    second.assign(square)


_compiled_update = tf.function(_update, jit_compile=True, autograph=False)
