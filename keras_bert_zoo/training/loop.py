"""One training run: schedule, early stopping, and the best weights after an interrupt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training.optimizers import AdamW, WarmupLinearDecay


def sets_the_rate(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback is a Keras callback that sets the optimizer's learning rate."""
    return isinstance(
        callback, keras.callbacks.LearningRateScheduler | keras.callbacks.ReduceLROnPlateau
    )


def was_validated(logs: Any) -> bool:
    """Whether an epoch's logs have validation metrics; see `validation_freq` of Keras."""
    return logs is None or "val_loss" in logs


def default_optimizer(
    steps_per_epoch: int,
    *,
    epochs: int,
    learning_rate: float,
    warmup_fraction: float,
    weight_decay: float,
    global_clipnorm: float | None,
    initial_epoch: int = 0,
    constant: bool = False,
) -> AdamW:
    """Returns AdamW with a linear warm-up and a linear decay to 0 over all steps of a run.

    Args:
        steps_per_epoch: int. Below 1: unknown.
        epochs: int.
        learning_rate: float. The peak.
        warmup_fraction: float in [0, 1]. Share of the steps in which the rate rises.
        weight_decay: float.
        global_clipnorm: float or None.
        initial_epoch: int. The epoch at which the run continues.
        constant: bool. Whether the rate is constant, so that callbacks can set it.

    Returns:
        AdamW.

    Raises:
        ConfigError: the number of steps is unknown.
    """
    rate: Any = float(learning_rate)
    if not constant:
        steps = epochs * steps_per_epoch
        if steps < 1:
            raise ConfigError(
                "The number of steps of this dataset is unknown, and the schedule needs it: pass "
                "`steps_per_epoch`, call `compile` first, or apply "
                "tf.data.experimental.assert_cardinality."
            )
        rate = WarmupLinearDecay(
            rate,
            total_steps=steps,
            warmup_steps=int(warmup_fraction * steps),
            first_step=initial_epoch * steps_per_epoch,
        )
    return AdamW(rate, weight_decay, global_clipnorm=global_clipnorm)


class BestEpoch(keras.callbacks.EarlyStopping):
    """Restores the weights of the best epoch; ignores epochs without validation."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Compares the epoch with the best."""
        if logs and self.monitor in logs:
            super().on_epoch_end(epoch, logs)


def run_fit(
    model: keras.Model,
    batches: tf.data.Dataset,
    *,
    validation: tf.data.Dataset | None,
    monitor: tuple[str, str],
    patience: int | None,
    epochs: int,
    callbacks: Sequence[keras.callbacks.Callback],
    verbose: Any,
    **options: Any,
) -> keras.callbacks.History:
    """Runs Keras' `fit` and restores the weights of the best epoch.

    Args:
        model: compiled.
        batches: shuffled batches of one epoch.
        validation: batches to evaluate each epoch on, or None.
        monitor: name of the metric that compares epochs, and "max" or "min".
        patience: int or None. Epochs without improvement before training stops; None: never.
        epochs: int.
        callbacks: Keras callbacks.
        verbose: as in Keras.
        **options: further arguments of Keras' `fit`.

    Returns:
        keras.callbacks.History.

    Raises:
        ConfigError: `patience` without validation data.
        KeyboardInterrupt: raised again, after the best weights so far are restored.
    """
    best = None
    if validation is not None:
        best = BestEpoch(
            monitor[0],
            mode=monitor[1],
            patience=epochs if patience is None else patience,
            restore_best_weights=True,
        )
    elif patience is not None:
        raise ConfigError("`patience` needs `validation_data` to measure improvement on.")
    try:
        return keras.Model.fit(
            model,
            batches,
            validation_data=validation,
            epochs=epochs,
            callbacks=[*callbacks, *([] if best is None else [best])],
            verbose=verbose,
            shuffle=False,  # the batches are already shuffled
            **options,
        )
    except KeyboardInterrupt:
        if best is not None and best.best_weights is not None:
            model.set_weights(best.best_weights)
        raise
