"""The base class of tasks that can be trained: Keras' training methods, on text."""

from __future__ import annotations

from typing import Any, Unpack

import keras
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.tasks.training_steps import TrainingSteps
from keras_bert_zoo.training.arguments import check_optimizer
from keras_bert_zoo.training.checkpoints import Checkpoints
from keras_bert_zoo.training.compiling import DEFAULT_LEARNING_RATE, compile_task
from keras_bert_zoo.training.fit import evaluate_task, fit_task, make_dataset
from keras_bert_zoo.training.optimizers import AdamW
from keras_bert_zoo.training.tricks.options import TrickOptions, tricks_of


@keras.saving.register_keras_serializable("keras_bert_zoo")
class TrainableTask(TrainingSteps):
    """A task that can be trained and evaluated on labelled text.

    Subclasses define the hooks of `TrainingSteps`. `training.fit` uses them to train on any number
    of replicas.
    """

    def compile(
        self, optimizer: Any = None, loss: Any = None, *, metrics: Any = None, **kwargs: Any
    ) -> None:
        """Configures training, as `keras.Model.compile` does.

        Names, Keras functions and Keras classes mean losses and metrics on logits:
        `loss="sparse_categorical_crossentropy"`, `metrics=["accuracy", "AUC"]`. See
        `training.outputs.resolve_loss` and `training.keras_metrics.resolve_metrics`.

        Args:
            optimizer: Keras optimizer. None: AdamW with a constant rate of 2e-5. If `compile` is
                not called, `fit` uses a schedule for its number of steps instead.
            loss: Keras loss, by name or on logits; None: the task's default.
            metrics: list of Keras metrics; None: the task's default.
            **kwargs: further arguments of Keras' `compile`.

        Raises:
            ConfigError: a loss or metric does not fit the task's outputs, or the learning rate of
                the optimizer is negative.
        """
        optimizer = AdamW(DEFAULT_LEARNING_RATE) if optimizer is None else optimizer
        compile_task(self, check_optimizer(optimizer), loss, metrics, **kwargs)
        self.compiled_by_caller = True
        self.measures_default = metrics is None
        arguments = {"loss": self.loss if isinstance(loss, type) else loss, **kwargs}
        arguments["metrics"] = metrics
        for name in ("metrics", "weighted_metrics"):
            if isinstance(arguments.get(name), list | tuple):
                # Keras writes objects, not classes.
                arguments[name] = [m() if isinstance(m, type) else m for m in arguments[name]]
        self._compile_arguments = lambda: arguments  # a function, because Keras wraps containers

    def get_compile_config(self) -> dict[str, Any]:
        """Returns the arguments of `compile`, for .keras files; empty after `fit` alone."""
        if not self.compiled_by_caller:
            return {}
        arguments = {"optimizer": self.optimizer, **self._compile_arguments()}
        config: dict[str, Any] = keras.saving.serialize_keras_object(arguments)
        return config

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Calls `compile` with the arguments of `get_compile_config`."""
        if config:
            self.compile(**keras.saving.deserialize_keras_object(config))
            self.optimizer.build(self.trainable_variables)

    def fit(
        self,
        x: Any,
        y: Any = None,
        *,
        validation_data: Any = None,
        batch_size: int | None = 32,
        epochs: int = 3,
        learning_rate: float = 5e-5,
        warmup_fraction: float = 0.1,
        weight_decay: float = 0.01,
        global_clipnorm: float | None = 1.0,
        optimizer: str = "adamw",
        schedule: str = "linear",
        layer_decay: float = 1.0,
        average_weights: bool = False,
        class_weight: Any = None,
        sample_weight: Any = None,
        patience: int | None = None,
        probe_epochs: int = 0,
        seed: int = 0,
        callbacks: Any = (),
        verbose: Any = "auto",
        shuffle: bool = True,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_split: float = 0.0,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: Any = 1,
        loss: Any = None,
        gradient_checkpointing: bool = False,
        steps_per_execution: int = 1,
        accumulation_steps: int = 1,
        jit_compile: bool = False,
        pack_examples: bool = False,
        checkpoints: Checkpoints | None = None,
        resume: bool = False,
        check_memory: bool = False,
        **tricks: Unpack[TrickOptions],
    ) -> keras.callbacks.History:
        """Fine-tunes on text.

        Batches are bucketed by length. Unless `compile` was called before, the optimizer is AdamW
        with a linear warm-up and a linear decay to 0 over all steps; `optimizer` and `schedule`
        select others. With `validation_data` the weights of the best epoch are restored, also
        after Ctrl-C.

        Args:
            x: list of str, or a NumPy array or pandas Series of them; a tuple of two of these for
                pairs; Examples; or batches (texts, labels) or (texts, labels, weights): a
                tf.data.Dataset, a `keras.utils.PyDataset`, or a generator.
            y: labels, one per text: list, NumPy array or pandas Series. None if `x` is Examples
                with labels, or batches.
            validation_data: (x, y), (x, y, sample_weight), Examples with labels, or batches. A
                generator is read once, to its end or up to `validation_steps`.
            batch_size: int. Texts per step, over all devices. None: 32.
            epochs: int.
            learning_rate: float. The peak of the schedule. With a callback that sets the rate
                (LearningRateScheduler, ReduceLROnPlateau) there is no schedule: the rate is
                constant until the callback sets it.
            warmup_fraction: float in [0, 1]. Share of the steps in which the rate rises.
            weight_decay: float. Biases and LayerNorm are excluded.
            global_clipnorm: float or None. Gradients are scaled down to this global L2 norm.
            optimizer: "adamw", "lamb", "adafactor", "lion" or "muon"; see `training.optimizers`.
            schedule: the decay after the warm-up: "linear", "cosine", "polynomial", "constant" or
                "inverse_sqrt"; see `training.schedules`.
            layer_decay: float in (0, 1]. Below 1, lower layers have smaller rates; see
                `training.layer_rates`.
            average_weights: bool. End with the exponential moving average of the weights, and not
                with those of the best epoch.
            class_weight: dict from label (or id) to float; list or array with one number per
                label, in the order of the labels; or "balanced". Single-label only.
            sample_weight: float, one per text.
            patience: int or None. Epochs without improvement on `validation_data` before training
                stops; None: never.
            probe_epochs: int. Epochs in which only the head is trained, on the encoder's frozen
                outputs, before fine-tuning (arXiv 2202.10054). For a new head, 30 epochs take
                seconds and save an epoch or more.
            seed: int. Only the order of the batches depends on it. Initial weights and dropout
                depend on `keras.utils.set_random_seed`.
            callbacks: Keras callbacks; among them Throughput and Tracker.
            verbose: as in Keras.
            shuffle: bool. False: batches are in the order of the texts. Not used for a
                tf.data.Dataset.
            initial_epoch: int. The epoch at which an earlier run continues: the schedule and the
                order of the batches continue from there.
            steps_per_epoch: int or None. Steps per epoch; None: one pass over the data. The data
                is repeated if necessary.
            validation_split: float in [0, 1). Share of the texts to validate on, from the end. Not
                used with `validation_data`, and not possible for datasets.
            validation_steps: int or None. Number of batches to validate on; None: all. An infinite
                generator or dataset needs it. Measures of whole texts and rankings, such as
                `val_f1` of entities and answers, always use all validation data.
            validation_batch_size: int or None. None: `batch_size`.
            validation_freq: int, or a list of the epochs to validate in, from 1.
            loss: a loss for this and later calls, as for `compile`; None: the loss given to
                `compile`, or else the task's default.
            gradient_checkpointing: bool. Save memory: store only the inputs of the encoder's
                blocks, and compute the blocks again for the gradient. See
                `Encoder.gradient_checkpointing`.
            steps_per_execution: int. Steps per call of the compiled function, as for Keras'
                `compile`. Callbacks see the last of them.
            accumulation_steps: int. Parts of a batch that are computed one after the other, before
                one update of the weights: a batch of 32 in 4 parts needs the memory of 8 texts. The
                update is that of the whole batch. The loss must be a mean over rows or tokens.
            jit_compile: bool. Whether XLA compiles the training step, on one device. All batches
                are then padded to one shape: `batch_size` rows, as long as the longest text. The
                encoder needs `token_layout="padded"`. On TPUs this is always so.
            pack_examples: bool. Whether several texts share a row of `max_length` tokens, a bin,
                where they do not see each other. `batch_size` then counts bins. Loss and update are
                those of the same texts in separate rows. The longest text matters less for
                the cost of a batch. For tasks with one loss per text or per token, and not for
                batches. Validation data is not packed.
            checkpoints: Checkpoints or None. Where and how often to save the run.
            resume: bool. Go on from the newest of `checkpoints`, if there is one. The data and the
                options must be the same. The numbers of replicas and of parts may differ.
            check_memory: bool. Whether to refuse a run that cannot fit into the memory of the
                machine, of the container or of the GPU. Not for batches. See
                `training.memory.estimate_memory`.
            **tricks: options for regularization, such as `r_drop`; see `TrickOptions`.

        Returns:
            keras.callbacks.History.

        Raises:
            DataError: labels are unknown or do not fit the texts.
            ConfigError: options are out of range or contradict each other, a run is resumed with
                other options, or the run cannot fit into the memory.
            CheckpointError: a checkpoint cannot be read or written.
            TrainingError: gradients are not finite.
        """
        return fit_task(
            self, x, y, validation_data=validation_data, batch_size=batch_size, epochs=epochs,
            learning_rate=learning_rate, warmup_fraction=warmup_fraction,
            weight_decay=weight_decay, global_clipnorm=global_clipnorm, optimizer=optimizer,
            schedule=schedule, layer_decay=layer_decay, average_weights=average_weights,
            class_weight=class_weight, sample_weight=sample_weight, patience=patience,
            probe_epochs=probe_epochs, seed=seed, callbacks=callbacks, verbose=verbose,
            shuffle=shuffle, initial_epoch=initial_epoch, steps_per_epoch=steps_per_epoch,
            validation_split=validation_split, validation_steps=validation_steps,
            validation_batch_size=validation_batch_size, validation_freq=validation_freq,
            loss=loss, gradient_checkpointing=gradient_checkpointing,
            steps_per_execution=steps_per_execution, accumulation_steps=accumulation_steps,
            jit_compile=jit_compile, pack_examples=pack_examples, checkpoints=checkpoints,
            resume=resume, check_memory=check_memory, tricks=tricks_of(tricks),
        )  # fmt: skip

    def make_dataset(
        self,
        x: Any,
        y: Any = None,
        *,
        batch_size: int = 32,
        sample_weight: Any = None,
        class_weight: Any = None,
        shuffle: bool = True,
        seed: int = 0,
    ) -> tf.data.Dataset:
        """Tokenizes examples into batches, for custom training loops and `keras.Model.fit`.

        These are the batches of `fit`. Examples of similar length are in one batch. Each iteration
        over the dataset has a different order.

        Args:
            x: as in `fit`.
            y: as in `fit`.
            batch_size: int.
            sample_weight: as in `fit`.
            class_weight: as in `fit`.
            shuffle: bool. False: batches are in the order of the examples.
            seed: int, for the order.

        Returns:
            tf.data.Dataset of (inputs, targets) or (inputs, targets, weights). The inputs are those
            of the model, int32 (B, S); the targets are those of the task's loss.

        Raises:
            ConfigError: an argument is out of range.
            DataError: as `fit`.
        """
        return make_dataset(
            self, x, y, batch_size=batch_size, sample_weight=sample_weight,
            class_weight=class_weight, shuffle=shuffle, seed=seed,
        )  # fmt: skip

    def evaluate(
        self,
        x: Any,
        y: Any = None,
        *,
        batch_size: int | None = 64,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Computes the loss and the compiled metrics; see `report` for all metrics.

        Args:
            x: as in `fit`.
            y: as in `fit`.
            batch_size: int. None: 64.
            verbose: as in Keras.
            sample_weight: float, one per text, for the loss and for `weighted_metrics`.
            steps: int or None. Number of batches to evaluate on; None: all. Infinite data needs it:
                an infinite dataset raises ConfigError, an infinite generator never ends.
            callbacks: Keras callbacks.
            return_dict: bool. Whether to return a dict.
            **kwargs: arguments that Keras passes from within `fit`.

        Returns:
            as Keras: float, the loss; with metrics a list that starts with the loss; with
            `return_dict=True` a dict, name -> float.

        Raises:
            DataError: labels are unknown or do not fit the texts.
            ConfigError: an argument is out of range or unknown.
        """
        if "_use_cached_eval_dataset" in kwargs:  # a call by Keras, from within `fit`
            return super().evaluate(
                x, y, verbose=verbose, callbacks=callbacks, return_dict=return_dict, **kwargs
            )
        if kwargs:
            raise ConfigError(f"`evaluate` does not take {', '.join(map(repr, kwargs))}.")
        return evaluate_task(
            self,
            x,
            y,
            batch_size=batch_size,
            verbose=verbose,
            sample_weight=sample_weight,
            steps=steps,
            callbacks=callbacks,
            return_dict=return_dict,
        )
