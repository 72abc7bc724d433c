"""One training run: schedule, early stopping, and what is kept when it is interrupted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training.optimizers import AdamW, WarmupLinearDecay


def default_optimizer(
    batches: tf.data.Dataset,
    *,
    epochs: int,
    learning_rate: float,
    warmup_fraction: float,
    weight_decay: float,
    global_clipnorm: float | None,
) -> AdamW:
    """AdamW with a linear warm-up and a linear decay to zero over all steps of a run.

    Args:
        batches: one epoch of batches, of known cardinality.
        epochs: int.
        learning_rate: float. The peak.
        warmup_fraction: float in [0, 1]. Share of the steps in which the rate rises.
        weight_decay: float.
        global_clipnorm: float or None.

    Returns:
        AdamW.

    Raises:
        ConfigError: the number of steps is unknown, or `warmup_fraction` is out of range.
    """
    if not 0 <= warmup_fraction <= 1:
        raise ConfigError(f"`warmup_fraction` must be in [0, 1], got {warmup_fraction}.")
    steps = epochs * int(batches.cardinality())
    if steps < 1:
        raise ConfigError(
            "The number of steps of this dataset is unknown, and the schedule needs it: call "
            "`compile` first, or apply tf.data.experimental.assert_cardinality."
        )
    schedule = WarmupLinearDecay(
        learning_rate, total_steps=steps, warmup_steps=int(warmup_fraction * steps)
    )
    return AdamW(schedule, weight_decay, global_clipnorm=global_clipnorm)


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

    Returns:
        keras.callbacks.History.

    Raises:
        ConfigError: `patience` without validation data.
        KeyboardInterrupt: passed on, after the best weights so far were restored.
    """
    keeper = None
    if validation is not None:
        keeper = keras.callbacks.EarlyStopping(
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
        )
    except KeyboardInterrupt:
        if keeper is not None and keeper.best_weights is not None:
            model.set_weights(keeper.best_weights)
        raise
