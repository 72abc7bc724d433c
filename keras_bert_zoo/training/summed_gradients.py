"""`SummedGradients`: the base of the package's optimizers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.layers.devices import on_cpu
from keras_bert_zoo.training.arguments import check_arguments
from keras_bert_zoo.training.gradients import clip_gradients, sum_gradients
from keras_bert_zoo.validation import check_number

__all__ = ["LARGE", "NO_DECAY", "SummedGradients"]

NO_DECAY = ("bias", "gamma", "beta")
"""Substrings of variable names without weight decay: biases, and LayerNorm's scale and shift.

Source: google-research/bert, optimization.py.
"""

LARGE = 65_536
"""The least size of a variable that a compiled function updates.

Starting it takes longer than the passes that it saves on fewer numbers.
"""

_SHOWN = 5  # paths in a message


class SummedGradients(keras.optimizers.Optimizer):
    """Base of optimizers with equal results on any number of replicas.

    Keras clips the gradients of each replica. This class sums them first, then clips the sum. The
    global norm of a sparse gradient uses only its rows. Biases and LayerNorm have no weight decay.
    The learning rate may differ between variables. With a moving average of the weights
    (`use_ema`), `ema_overwrite_frequency` works on several replicas, where that of Keras fails.

    A subclass names this class before an optimizer of Keras:
    `class Lion(SummedGradients, keras.optimizers.Lion)`. The update of Keras then receives dense
    gradients and the learning rate of the variable. A subclass with its own `update_step` uses
    `variable_rate` and `decay_of`.

    Args:
        learning_rate: float or LearningRateSchedule.
        weight_decay: float. Biases and LayerNorm are excluded. `exclude_from_weight_decay` replaces
            this rule, if it is called before the first step.
        global_clipnorm: float or None. Gradients are scaled down to this global L2 norm.
        rate_factors: dict or None. Variable path -> factor of the learning rate and of the weight
            decay. The factor of all other variables is 1. See `layer_rates`.
        **kwargs: as for the Keras optimizer.

    Raises:
        ConfigError: a number is out of range. When the optimizer is built: `rate_factors` has a
            path that none of the trained variables has.

    """

    def __init__(
        self,
        learning_rate: Any,
        *,
        weight_decay: float = 0.0,
        global_clipnorm: float | None = None,
        rate_factors: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(learning_rate, int | float):
            check_arguments(learning_rate=learning_rate)
            learning_rate = float(learning_rate)
        check_arguments(weight_decay=weight_decay, global_clipnorm=global_clipnorm)
        factors = {
            path: check_number(f"rate_factors[{path!r}]", factor, minimum=0)
            for path, factor in (rate_factors or {}).items()
        }
        super().__init__(
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            global_clipnorm=global_clipnorm,
            **kwargs,
        )
        self._rate_factors = lambda: factors  # a function, because Keras wraps dicts
        self._factors: tuple[float, ...] = ()
        self._compiles = on_cpu()  # a GPU has faster kernels
        self.exclude_from_weight_decay(var_names=list(NO_DECAY))

    @property
    def rate_factors(self) -> dict[str, float] | None:
        """Variable path -> factor of the learning rate; None: all factors are 1."""
        return dict(self._rate_factors()) or None

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config: dict[str, Any] = super().get_config()
        return config | {"rate_factors": self.rate_factors}

    def build(self, variables: Sequence[Any]) -> None:
        """Creates the optimizer's variables for the trained variables."""
        if not self.built:
            self._factors = self._factors_of(variables)
        super().build(variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Decays one variable and updates it in place, with its own learning rate."""
        rate = self.variable_rate(learning_rate, variable)
        # Keras would square the rows of a repeated token one by one.
        gradient = tf.cast(tf.convert_to_tensor(gradient), variable.dtype)
        gradient.set_shape(variable.shape)
        decay = self.decay_of(variable)
        if decay:
            variable.assign_sub(variable * (rate * tf.cast(decay, variable.dtype)))
        super().update_step(gradient, variable, rate)

    def variable_rate(self, learning_rate: Any, variable: Any) -> tf.Tensor:
        """Returns the learning rate of a variable, a scalar of its dtype."""
        rate = tf.cast(learning_rate, variable.dtype)
        if not self._factors:
            return rate
        return rate * tf.cast(self._factors[self._get_variable_index(variable)], variable.dtype)

    def decay_of(self, variable: Any) -> float:
        """Returns the weight decay of a variable; 0.0 for biases and LayerNorm."""
        return float(self.weight_decay or 0.0) if self._use_weight_decay(variable) else 0.0

    def compiles(self, variable: Any) -> bool:
        """Returns whether a compiled function updates a variable in one pass."""
        # A compiled function knows nothing of a strategy's variables, one for each device.
        large = variable.shape.num_elements() >= LARGE
        return large and self._compiles and not tf.distribute.has_strategy()

    def next_step(self, dtype: Any) -> tf.Tensor:
        """Returns the number of the current update, a scalar; the first is 1."""
        return tf.cast(tf.convert_to_tensor(self.iterations) + 1, dtype)

    def _factors_of(self, variables: Sequence[Any]) -> tuple[float, ...]:
        factors = self._rate_factors()
        if not factors:
            return ()
        paths = [getattr(variable, "path", variable.name) for variable in variables]
        unknown = sorted(set(factors) - set(paths))
        if unknown:
            raise ConfigError(
                "Expected `rate_factors` of trained variables, received paths of other variables: "
                f"{', '.join(unknown[:_SHOWN])}{', ...' * (len(unknown) > _SHOWN)}; call "
                "`layer_rates` after the model is built and frozen."
            )
        return tuple(factors.get(path, 1.0) for path in paths)

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Does nothing: `update_step` also applies the decay."""

    # === Clipping ===

    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        """Sums the gradients over the replicas, clips them and updates the variables."""
        present = sum_gradients([gradient for gradient in grads if gradient is not None])
        if not self.gradient_accumulation_steps:
            present, _ = clip_gradients(self, present)
        rest = iter(present)
        grads = [None if gradient is None else next(rest) for gradient in grads]
        self.apply_summed(grads, trainable_variables)

    def apply_summed(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        """Updates the variables with gradients that are summed over the replicas and clipped."""
        super().apply(grads, trainable_variables)

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> list[Any]:
        return list(grads_and_vars)

    def _clip_gradients(self, grads: Sequence[Any]) -> list[Any]:
        if self.gradient_accumulation_steps:
            # Keras sums the gradients of several steps, and then clips.
            return clip_gradients(self, grads)[0]
        return list(grads)

    # === Moving average of the weights ===

    def _update_model_variables_moving_average(self, trainable_variables: Sequence[Any]) -> None:
        """Updates the averages; in a replica, also overwrites the weights if that is due.

        Keras overwrites them in a branch of the graph, which TensorFlow refuses in a replica.
        """
        super()._update_model_variables_moving_average(trainable_variables)
        if not (self.ema_overwrite_frequency and _in_replica()):
            return
        averages = self._model_variables_moving_average
        pairs = [
            (_tensorflow_variable(variable), _tensorflow_variable(average))
            for variable, average in zip(trainable_variables, averages, strict=True)
            if average is not None
        ]

        def overwrite_all(strategy: tf.distribute.Strategy) -> None:
            for variable, average in pairs:
                strategy.extended.update(
                    variable, self._overwrite_if_due, args=(average,), group=False
                )

        tf.__internal__.distribute.interim.maybe_merge_call(
            overwrite_all, self._distribution_strategy
        )

    def _overwrite_model_variables_with_average_value(
        self, trainable_variables: Sequence[Any]
    ) -> None:
        if not _in_replica():  # see `_update_model_variables_moving_average`
            super()._overwrite_model_variables_with_average_value(trainable_variables)

    def _overwrite_if_due(self, variable: tf.Variable, average: tf.Tensor) -> None:
        due = tf.convert_to_tensor(self.iterations + 1) % self.ema_overwrite_frequency == 0
        variable.assign(tf.where(due, average, variable))


def _in_replica() -> bool:
    """Whether a distribution strategy runs this code in one of its replicas."""
    return tf.distribute.has_strategy() and not tf.distribute.in_cross_replica_context()


def _tensorflow_variable(variable: Any) -> tf.Variable:
    return variable.value if isinstance(variable, keras.Variable) else variable
