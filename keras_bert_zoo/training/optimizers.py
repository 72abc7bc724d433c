"""Optimizers: AdamW in one pass over each variable, and others with equal rules of clipping."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training.arguments import check_arguments
from keras_bert_zoo.training.lamb import Lamb
from keras_bert_zoo.training.summed_gradients import SummedGradients
from keras_bert_zoo.validation import check_choice

__all__ = ["OPTIMIZERS", "Adafactor", "AdamW", "Lion", "Muon", "make_optimizer"]


@keras.saving.register_keras_serializable(package="keras_bert_zoo")
class AdamW(SummedGradients, keras.optimizers.AdamW):
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
            google-research/bert. As in Keras, it is added to the uncorrected root of the second
            moment; PyTorch adds it to the corrected root, so its epsilon is in effect smaller.
        global_clipnorm: float or None. Gradients are scaled down to this global L2 norm.
        rate_factors: dict or None. See `SummedGradients`.
        **kwargs: as for `keras.optimizers.AdamW`. `amsgrad` is not supported.

    Raises:
        ConfigError: `amsgrad=True`, or a number is out of range.

    Source: arXiv 1711.05101.
    """

    def __init__(
        self,
        learning_rate: Any = 2e-5,
        weight_decay: float = 0.01,
        *,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        global_clipnorm: float | None = 1.0,
        rate_factors: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("amsgrad"):
            raise ConfigError("`amsgrad=True` is not supported by AdamW's fused kernel.")
        super().__init__(
            learning_rate,
            weight_decay=weight_decay,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            global_clipnorm=global_clipnorm,
            rate_factors=rate_factors,
            **kwargs,
        )

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable and its moments in place."""
        index = self._get_variable_index(variable)
        first, second = self._momentums[index].value, self._velocities[index].value
        if isinstance(variable, keras.Variable):
            variable = variable.value
        gradient = tf.cast(tf.convert_to_tensor(gradient), variable.dtype)
        rate = self.variable_rate(learning_rate, variable)
        step = self.next_step(variable.dtype)
        decay = self.decay_of(variable)
        if decay and self.compiles(variable):
            _update(
                variable, first, second, gradient, rate, step,
                betas=(self.beta_1, self.beta_2),
                epsilon=self.epsilon,
                decay=decay,
            )  # fmt: skip
            return
        if decay:
            variable.assign_sub(variable * (rate * tf.cast(decay, variable.dtype)))
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


@keras.saving.register_keras_serializable(package="keras_bert_zoo")
class Adafactor(SummedGradients, keras.optimizers.Adafactor):
    """Adafactor: Adam without the first moment, and with its own clipping of each update.

    The learning rate is relative to the size of a variable: `keras.optimizers.Adafactor` multiplies
    it by the root mean square of the weights, at least `epsilon_2`. So it is larger than that of
    AdamW, often 1e-3. Keras also limits it to `1 / sqrt(step)`. Keras stores the factored second
    moment in full, so Adafactor needs half of AdamW's memory, not less.

    Args:
        learning_rate: float or LearningRateSchedule.
        weight_decay: float. Biases and LayerNorm are excluded.
        global_clipnorm: float or None. Gradients are scaled down to this global L2 norm.
        rate_factors: dict or None. See `SummedGradients`.
        **kwargs: as for `keras.optimizers.Adafactor`.

    Raises:
        ConfigError: a number is out of range.

    Source: arXiv 1804.04235.
    """

    def __init__(self, learning_rate: Any, weight_decay: float = 0.0, **kwargs: Any) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)


@keras.saving.register_keras_serializable(package="keras_bert_zoo")
class Lion(SummedGradients, keras.optimizers.Lion):
    """Lion: every weight moves by the learning rate, in the direction of a moving average.

    It needs half of AdamW's memory. Compared with AdamW, its paper recommends a learning rate that
    is 3 to 10 times smaller, and a weight decay that is larger by the same factor.

    Args:
        learning_rate: float or LearningRateSchedule.
        weight_decay: float. Biases and LayerNorm are excluded.
        global_clipnorm: float or None. Gradients are scaled down to this global L2 norm.
        rate_factors: dict or None. See `SummedGradients`.
        **kwargs: as for `keras.optimizers.Lion`.

    Raises:
        ConfigError: a number is out of range.

    Source: arXiv 2302.06675.
    """

    def __init__(self, learning_rate: Any, weight_decay: float = 0.0, **kwargs: Any) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)


# A matrix of a block: block_0/attention/query/kernel, group_0_block_0/intermediate/kernel.
_BLOCK_KERNEL = re.compile(r"(^|[/_])block_\d+/(.+/)?kernel$")


@keras.saving.register_keras_serializable(package="keras_bert_zoo")
class Muon(SummedGradients, keras.optimizers.Muon):
    """Muon: orthogonalizes the momentum of each matrix of the encoder's blocks.

    Adam updates all other variables: embeddings, heads, poolers, biases, LayerNorm, the factors of
    LoRA, and kernels that are not matrices. Both share the learning rate. With `rms_rate`, an
    update of a matrix is about as large as one of Adam, so learning rates of AdamW fit.

    Args:
        learning_rate: float or LearningRateSchedule.
        weight_decay: float. Biases and LayerNorm are excluded.
        epsilon: float. That of Adam, as in google-research/bert.
        adam_weight_decay: float or None. The decay of variables that Adam updates. None:
            `weight_decay`.
        global_clipnorm: float or None. Gradients are scaled down to this global L2 norm.
        rate_factors: dict or None. See `SummedGradients`.
        **kwargs: as for `keras.optimizers.Muon`. `exclude_layers` are patterns of paths of further
            variables for Adam.

    Raises:
        ConfigError: a number is out of range.

    Source: arXiv 2502.16982; Keller Jordan et al., "Muon: An optimizer for hidden layers in neural
    networks" (2024).
    """

    def __init__(
        self,
        learning_rate: Any,
        weight_decay: float = 0.0,
        *,
        epsilon: float = 1e-6,
        adam_weight_decay: float | None = None,
        **kwargs: Any,
    ) -> None:
        if adam_weight_decay is None:
            adam_weight_decay = weight_decay
        check_arguments(weight_decay=adam_weight_decay)
        super().__init__(
            learning_rate,
            weight_decay=weight_decay,
            epsilon=epsilon,
            adam_weight_decay=adam_weight_decay,
            **kwargs,
        )

    def decay_of(self, variable: Any) -> float:
        """Returns the weight decay of a variable; 0.0 for biases and LayerNorm."""
        if self.adam_velocities[self._get_variable_index(variable)] is None:
            return super().decay_of(variable)
        return float(self.adam_weight_decay) if self._use_weight_decay(variable) else 0.0

    def _should_use_adamw(self, variable: Any) -> bool:
        in_block = _BLOCK_KERNEL.search(variable.path) is not None
        return not in_block or bool(super()._should_use_adamw(variable))


OPTIMIZERS: dict[str, type[SummedGradients]] = {
    "adamw": AdamW,
    "lamb": Lamb,
    "adafactor": Adafactor,
    "lion": Lion,
    "muon": Muon,
}
"""Name -> optimizer, for `make_optimizer`."""


def make_optimizer(
    name: str,
    learning_rate: Any,
    *,
    weight_decay: float,
    global_clipnorm: float | None,
    rate_factors: Mapping[str, float] | None = None,
    **kwargs: Any,
) -> SummedGradients:
    """Returns an optimizer by its name.

    Args:
        name: str. A key of `OPTIMIZERS`.
        learning_rate: float or LearningRateSchedule.
        weight_decay: float. Biases and LayerNorm are excluded.
        global_clipnorm: float or None. Gradients are scaled down to this global L2 norm.
        rate_factors: dict or None. See `layer_rates`.
        **kwargs: further arguments of the optimizer.

    Returns:
        SummedGradients.

    Raises:
        ConfigError: the name or an argument is unknown, or a number is out of range.

    Example:
        >>> make_optimizer("lion", 1e-5, weight_decay=0.1, global_clipnorm=1.0).weight_decay
        0.1
    """
    optimizer = OPTIMIZERS[check_choice("optimizer", name, OPTIMIZERS)]
    try:
        return optimizer(
            learning_rate,
            weight_decay=weight_decay,
            global_clipnorm=global_clipnorm,
            rate_factors=rate_factors,
            **kwargs,
        )
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"Expected arguments of {optimizer.__name__}, received "
            f"{', '.join(sorted(kwargs)) or repr(learning_rate)}: {error}"
        ) from error
