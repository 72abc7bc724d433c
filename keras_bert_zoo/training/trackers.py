"""Trackers: callbacks that send the metrics of a run elsewhere, such as to MLflow."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_bert_zoo.errors import ConfigError, one_line
from keras_bert_zoo.extras import check_package
from keras_bert_zoo.training.run_meter import RunMeter
from keras_bert_zoo.training.run_record import flat
from keras_bert_zoo.training.strategies import is_chief

__all__ = ["MLflowTracker", "Tracker", "WandbTracker", "epoch_metrics"]

_logger = logging.getLogger(__name__)


class Tracker(keras.callbacks.Callback):
    """Sends the metrics of a run elsewhere; a subclass defines `log`, and often the other two.

    `fit` calls `start` once, then `log` for the points of the curves and for each epoch, then
    `finish`. Each metric is logged once per step. A run that goes on from a checkpoint logs its
    earlier points first. With several workers, only the first one calls the methods. If a method
    raises an exception, one warning is logged, and the run goes on without the tracker.

    Attributes:
        options: dict. More options for `start`, besides those of `fit`.
        ends_with_fit: bool. Whether `fit` calls `finish` at its end. If not, call `end`.
        failed: bool. In `finish`: whether an error ended the run. An interrupt is no error.

    Example:
        >>> class Lines(Tracker):
        ...     def log(self, metrics, step):
        ...         print(step, sorted(metrics))
        >>> Lines().log({"loss": 0.5}, step=16)
        16 ['loss']
    """

    options: Mapping[str, Any] = {}
    ends_with_fit = True
    failed = False
    _meter: RunMeter | None = None
    _is_open = False
    _is_first = True
    _logged_step = -1

    def start(self, options: Mapping[str, Any]) -> None:
        """Begins a run.

        Args:
            options: name -> number, str, bool, None, or a dict or list of these.
        """

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Receives metrics.

        Args:
            metrics: name -> value. By step: the loss and metrics of training, and the throughput,
                under their names in the curves. By epoch: `epoch_loss` and the like, `val_loss` and
                the like, and `epoch`, from 1.
            step: int. The number of steps so far. It never falls.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `log`.")

    def finish(self, files: Sequence[Path]) -> None:
        """Ends a run, also after an error of `start` or `log`.

        Args:
            files: plots and records to keep with the run; `fit` has none.
        """

    # === The calls ===

    def attach(self, meter: RunMeter) -> None:
        """Connects the tracker with the meter of a run; `fit` calls it."""
        self._meter = meter

    def end(self, files: Sequence[Path] = (), *, failed: bool = False) -> None:
        """Calls `finish` once, if the run was started.

        Args:
            files: for `finish`.
            failed: bool. Whether an error ended the run.
        """
        if self._is_open:
            self.failed = failed
            self._try(self.finish, list(files))
            self._is_open = False

    def on_train_begin(self, logs: Any = None) -> None:
        """Starts the run."""
        if self._meter is None or not is_chief(self.model.distribute_strategy):
            return
        self._is_open, self._is_first, self._logged_step = True, True, -1
        self._try(self.start, {**self._meter.options, **self.options})

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Logs new points."""
        self._log_points()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Logs the epoch."""
        self._log_points()
        if self._is_open and self._meter is not None:
            step = self._meter.curves()["epochs"]["step"][-1]
            self._try(self.log, epoch_metrics(epoch, logs or {}), step)

    def _log_points(self) -> None:
        if not self._is_open or self._meter is None:
            return
        rows = self._meter.points_after(self._logged_step)
        if self._is_first:  # a run that goes on has points and epochs already
            self._is_first = False
            steps = self._meter.curves()["epochs"]["step"]
            history = self.model.history
            for index, (epoch, step) in enumerate(zip(history.epoch, steps, strict=False)):
                values = {n: v[index] for n, v in history.history.items() if index < len(v)}
                rows.append((step, epoch_metrics(epoch, values)))
            rows.sort(key=lambda row: row[0])
        for step, metrics in rows:
            self._try(self.log, metrics, step)
            self._logged_step = step

    def _try(self, call: Callable[..., None], *arguments: Any) -> None:
        if not self._is_open:
            return
        try:
            call(*arguments)
        except Exception as error:
            self._is_open = False
            if call != self.finish:
                self.failed = True
                with contextlib.suppress(Exception):  # the first error is reported
                    self.finish([])
            reason = one_line(f"{type(error).__name__}: {error}")
            _logger.warning(
                "%s failed, so the run goes on without it: %s", type(self).__name__, reason
            )


def epoch_metrics(epoch: int, logs: Mapping[str, Any]) -> dict[str, float]:
    """Returns the logs of an epoch that are numbers, under the names of `Tracker.log`.

    Example:
        >>> epoch_metrics(0, {"loss": 0.5, "val_loss": 0.7})
        {'epoch': 1.0, 'epoch_loss': 0.5, 'val_loss': 0.7}
    """
    named = {n if n.startswith("val_") else f"epoch_{n}": v for n, v in logs.items()}
    return {"epoch": float(epoch + 1)} | {n: float(v) for n, v in named.items() if np.ndim(v) == 0}


class MLflowTracker(Tracker):
    """Logs a run with MLflow, in a directory: a SQLite database and the files of the runs.

    No server is needed. `mlflow ui --backend-store-uri sqlite:///DIRECTORY/mlflow.db` shows the
    runs. MLflow no longer accepts new stores of plain files.

    Args:
        directory: path; created if it is missing.
        experiment: str. The name of the experiment.
        run_name: str or None. The name of the run; None: MLflow chooses one.

    Raises:
        ConfigError: MLflow is not installed.

    Example: `task.fit(texts, labels, callbacks=[MLflowTracker("runs/mlflow")])`
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        experiment: str = "keras_bert_zoo",
        run_name: str | None = None,
    ) -> None:
        super().__init__()
        check_package("mlflow", "MLflow")
        self.directory = Path(directory).absolute()
        self.experiment = experiment
        self.run_name = run_name
        self._client: Any = None
        self._run = ""

    def start(self, options: Mapping[str, Any]) -> None:
        """See the base class."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it works offline
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self.directory.mkdir(parents=True, exist_ok=True)
        client = MlflowClient(tracking_uri=f"sqlite:///{self.directory / 'mlflow.db'}")
        experiment = client.get_experiment_by_name(self.experiment)
        if experiment is None:
            place = (self.directory / "artifacts").as_uri()
            number = client.create_experiment(self.experiment, artifact_location=place)
        else:
            number = experiment.experiment_id
        self._run = client.create_run(number, run_name=self.run_name).info.run_id
        self._client = client
        parameters = [Param(name, str(value)[:500]) for name, value in flat(options).items()]
        for begin in range(0, len(parameters), 100):  # at most, in one call
            client.log_batch(self._run, params=parameters[begin : begin + 100])

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """See the base class."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        values = [Metric(name, value, now, step) for name, value in metrics.items()]
        self._client.log_batch(self._run, metrics=values)

    def finish(self, files: Sequence[Path]) -> None:
        """See the base class."""
        for file in files:
            self._client.log_artifact(self._run, str(file))
        self._client.set_terminated(self._run, status="FAILED" if self.failed else "FINISHED")


class WandbTracker(Tracker):
    """Logs a run with Weights & Biases in its offline mode, in a directory.

    `wandb sync DIRECTORY/wandb/offline-run-*` uploads the runs later.

    Args:
        directory: path; created if it is missing.
        project: str. The name of the project.
        run_name: str or None. The name of the run; None: it is chosen when the run is uploaded.
        mode: "offline", or "online" to upload while the run trains.

    Raises:
        ConfigError: wandb is not installed, or the mode is unknown.

    Example: `task.fit(texts, labels, callbacks=[WandbTracker("runs")])`
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        project: str = "keras_bert_zoo",
        run_name: str | None = None,
        mode: str = "offline",
    ) -> None:
        super().__init__()
        check_package("wandb", "Weights & Biases")
        if mode not in ("offline", "online"):
            raise ConfigError(f"Expected the mode 'offline' or 'online', received {mode!r}.")
        self.directory = Path(directory)
        self.project = project
        self.run_name = run_name
        self.mode = mode
        self._run: Any = None

    def start(self, options: Mapping[str, Any]) -> None:
        """See the base class."""
        if self.mode == "offline":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self.directory.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=self.project, name=self.run_name, dir=str(self.directory), mode=self.mode,
            config=dict(options), settings=wandb.Settings(silent=True, console="off"),
        )  # fmt: skip

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """See the base class."""
        self._run.log(dict(metrics), step=step)

    def finish(self, files: Sequence[Path]) -> None:
        """See the base class."""
        for file in files:  # `Run.save` would only link to them
            shutil.copy(file, self._run.dir)
        self._run.finish(exit_code=int(self.failed))
