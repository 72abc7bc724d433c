"""One training run: schedule, early stopping, and what is kept when it is interrupted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training.optimizers import AdamW, WarmupLinearDecay


def sets_the_rate(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback is one of Keras' that set the optimizer's learning rate."""
    return isinstance(
        callback, keras.callbacks.LearningRateScheduler | keras.callbacks.ReduceLROnPlateau
    )


def was_validated(logs: Any) -> bool:
    """Whether an epoch's logs have held-out data in them; see `validation_freq` of Keras."""
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
    """AdamW with a linear warm-up and a linear decay to zero over all steps of a run.

    Args:
        steps_per_epoch: int. Below 1: unknown.
        epochs: int.
        learning_rate: float. The peak.
        warmup_fraction: float in [0, 1]. Share of the steps in which the rate rises.
        weight_decay: float.
        global_clipnorm: float or None.
        initial_epoch: int. The epoch at which the run goes on.
        constant: bool. A constant rate, which callbacks may set.

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
    """Keeps the weights of the best epoch, among those that held-out data was measured in."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Compares the epoch with the best."""
        if logs and self.monitor in logs:
            super().on_epoch_end(epoch, logs)


def run_fit(
    model: keras.Model,
    fit: Callable[..., keras.callbacks.History],
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
    """Runs Keras' `fit` such that the weights of the best epoch are what remains.

    Args:
        model: compiled.
        fit: Keras' own `fit` of it.
        batches: shuffled batches of one epoch.
        validation: batches to measure each epoch on, or None.
        monitor: name of the metric that tells epochs apart, and "max" or "min".
        patience: int or None. Epochs without improvement before training stops; None: never.
        epochs: int.
        callbacks: Keras callbacks.
        verbose: as in Keras.
        **options: more for Keras' `fit`.

    Returns:
        keras.callbacks.History.

    Raises:
        ConfigError: `patience` without validation data.
        KeyboardInterrupt: passed on, after the best weights so far were restored.
    """
    keeper = None
    if validation is not None:
        keeper = BestEpoch(
            monitor[0],
            mode=monitor[1],
            patience=epochs if patience is None else patience,
            restore_best_weights=True,
        )
    elif patience is not None:
        raise ConfigError("`patience` needs `validation_data` to measure improvement on.")
    try:
        return fit(
            batches,
            validation_data=validation,
            epochs=epochs,
            callbacks=[*callbacks, *([] if keeper is None else [keeper])],
            verbose=verbose,
            shuffle=False,  # is for arrays; these batches come shuffled
            **options,
        )
    except KeyboardInterrupt:
        if keeper is not None and keeper.best_weights is not None:
            model.set_weights(keeper.best_weights)
        raise
