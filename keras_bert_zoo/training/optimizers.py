"""AdamW in one pass over each variable, and its learning rate schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.layers.devices import on_cpu
from keras_bert_zoo.training.arguments import check_arguments

# Substrings of variable names without weight decay: biases, and LayerNorm's scale and shift
# (google-research/bert, optimization.py).
NO_DECAY = ("bias", "gamma", "beta")

# The least size of a variable that a compiled function updates: starting it takes longer than the
# passes that it saves on fewer numbers.
LARGE = 65_536


@keras.saving.register_keras_serializable(package="keras_bert_zoo")
class AdamW(keras.optimizers.AdamW):
    """Adam with decoupled weight decay: a faster `keras.optimizers.AdamW` with equal updates.

    A compiled function decays and updates a large variable in one pass. TensorFlow's fused
    ResourceApplyAdam updates the others, and all under a distribution strategy. Keras needs a dozen
    elementwise operations, and each reads the whole variable. The global norm of a sparse gradient
    uses only its rows. On CPU, Keras' update of a small batch costs more than the forward and
    backward pass.

    Args:
        learning_rate: float or LearningRateSchedule.
        weight_decay: float. Biases and LayerNorm are excluded.
        beta_1, beta_2, epsilon: floats. Defaults of arXiv 1810.04805, appendix A.2; epsilon as in
            google-research/bert.
        global_clipnorm: float or None. Gradients are scaled down to this global L2 norm.
        **kwargs: as for `keras.optimizers.AdamW`. `amsgrad` is not supported.

    Raises:
        ConfigError: `amsgrad=True`, or a number is out of range.

    Attributes:
        clips_sums: bool. Whether it clips the sum of the gradients of all replicas, not those of
            each replica.

    Source: arXiv 1711.05101.
    """

    clips_sums: ClassVar[bool] = True

    def __init__(
        self,
        learning_rate: Any = 2e-5,
        weight_decay: float = 0.01,
        *,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        global_clipnorm: float | None = 1.0,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("amsgrad"):
            raise ConfigError("`amsgrad=True` is not supported by AdamW's fused kernel.")
        if isinstance(learning_rate, int | float):
            check_arguments(learning_rate=learning_rate)
            learning_rate = float(learning_rate)
        check_arguments(weight_decay=weight_decay, global_clipnorm=global_clipnorm)
        super().__init__(
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            global_clipnorm=global_clipnorm,
            **kwargs,
        )
        # A GPU has a faster kernel.
        self._compiles = on_cpu()

    def build(self, variables: Sequence[Any]) -> None:
        """Creates the moments; excludes biases and LayerNorm from the decay."""
        if not self.built:
            self.exclude_from_weight_decay(var_names=list(NO_DECAY))
        super().build(variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable and its moments in place."""
        index = self._get_variable_index(variable)
        first, second = self._momentums[index].value, self._velocities[index].value
        if isinstance(variable, keras.Variable):
            variable = variable.value
        gradient = tf.cast(tf.convert_to_tensor(gradient), variable.dtype)
        rate = tf.cast(learning_rate, variable.dtype)
        step = tf.cast(self.iterations.value + 1, variable.dtype)
        decays = bool(self.weight_decay) and self._use_weight_decay(variable)
        large = variable.shape.num_elements() >= LARGE
        # A compiled function knows nothing of a strategy's variables, one for each device.
        if decays and large and self._compiles and not tf.distribute.has_strategy():
            _update(
                variable, first, second, gradient, rate, step,
                betas=(self.beta_1, self.beta_2),
                epsilon=self.epsilon,
                decay=self.weight_decay,
            )  # fmt: skip
            return
        if decays:
            variable.assign_sub(variable * (rate * tf.cast(self.weight_decay, variable.dtype)))
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=first.handle,
            v=second.handle,
            beta1_power=tf.pow(tf.cast(self.beta_1, variable.dtype), step),
            beta2_power=tf.pow(tf.cast(self.beta_2, variable.dtype), step),
            lr=rate,
            beta1=tf.cast(self.beta_1, variable.dtype),
            beta2=tf.cast(self.beta_2, variable.dtype),
            epsilon=tf.cast(self.epsilon, variable.dtype),
            grad=gradient,
        )

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Does nothing: `update_step` also applies the decay."""

    def _clips_sums(self) -> bool:
        """Whether this is one of several replicas and gradients are clipped."""
        replica = tf.distribute.get_replica_context()
        several = replica is not None and replica.num_replicas_in_sync > 1
        return several and bool(self.clipnorm or self.global_clipnorm or self.clipvalue)

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> list[Any]:
        if self._clips_sums():  # `_clip_gradients` has already summed them
            return list(grads_and_vars)
        return list(super()._all_reduce_sum_gradients(grads_and_vars))

    def _clip_gradients(self, grads: Sequence[Any]) -> list[Any]:
        if self._clips_sums():
            summed = super()._all_reduce_sum_gradients([(grad, grad) for grad in grads])
            grads = [grad for grad, _ in summed]
        if not self.global_clipnorm:
            return list(super()._clip_gradients(grads))
        merged = [_merge_rows(g) if isinstance(g, tf.IndexedSlices) else g for g in grads]
        clipped, _ = tf.clip_by_global_norm(merged, self.global_clipnorm)
        return list(clipped)


@tf.function(jit_compile=True, autograph=False)
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
) -> None:
    """Decays and updates a variable in one pass over the memory."""
    power_1, power_2 = (tf.pow(tf.cast(beta, step.dtype), step) for beta in betas)
    moment = first + (gradient - first) * (1 - betas[0])
    square = second + (tf.square(gradient) - second) * (1 - betas[1])
    corrected = rate * tf.sqrt(1 - power_2) / (1 - power_1)
    decayed = variable - variable * (rate * decay)
    variable.assign(decayed - corrected * moment / (tf.sqrt(square) + epsilon))
    first.assign(moment)
    second.assign(square)


def _merge_rows(gradient: tf.IndexedSlices) -> tf.IndexedSlices:
    # A repeated token has several rows. The norm needs their sum.
    rows, places = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, places, tf.size(rows))
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


@keras.saving.register_keras_serializable(package="keras_bert_zoo")
class WarmupLinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly from 0 to `learning_rate`, then falls linearly to 0.

    Args:
        learning_rate: float. The peak.
        total_steps: int. Training steps; the rate is 0 from here on.
        warmup_steps: int. Steps of the rise.
        first_step: int. The step of the schedule at step 0 of the optimizer, to continue a run.

    Call arguments:
        step: int, or a scalar tensor.

    Returns:
        float32 scalar.

    Raises:
        ConfigError: `warmup_steps` is not in [0, total_steps], or `total_steps` is below 1.

    Source: google-research/bert, optimization.py.
    """

    def __init__(
        self,
        learning_rate: float,
        *,
        total_steps: int,
        warmup_steps: int = 0,
        first_step: int = 0,
    ) -> None:
        super().__init__()
        check_arguments(learning_rate=learning_rate)
        if total_steps < 1 or not 0 <= warmup_steps <= total_steps:
            raise ConfigError(
                "Expected 0 <= `warmup_steps` <= `total_steps` and `total_steps` >= 1, received "
                f"{warmup_steps} and {total_steps}."
            )
        self.learning_rate = learning_rate
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.first_step = first_step

    def __call__(self, step: Any) -> tf.Tensor:
        """Returns the rate at `step`."""
        step = tf.cast(step, tf.float32) + float(self.first_step)
        # Steps start at 0, where a rate of 0 would waste the first step.
        rise = (step + 1.0) / float(self.warmup_steps + 1)
        fall = (self.total_steps - step) / float(max(1, self.total_steps - self.warmup_steps))
        return self.learning_rate * tf.clip_by_value(tf.minimum(rise, fall), 0.0, 1.0)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "learning_rate": self.learning_rate,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "first_step": self.first_step,
        }
