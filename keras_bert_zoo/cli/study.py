"""The finished trials of a search, in a file, and the proposals for the next ones."""

from __future__ import annotations

import contextlib
import itertools
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keras_bert_zoo.cli.search_space import Choices, Range
from keras_bert_zoo.cli.trial import COMPLETE, FAILED, PRUNED
from keras_bert_zoo.directories.locking import cut_torn_line, locked_directory
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.validation import changed_options

__all__ = ["METHODS", "Study", "Trial", "open_study"]

METHODS = ("random", "halving", "tpe", "grid")

_FILE = "trials.log"
_ETA = 3  # a third of the trials goes on after each rung, as in arXiv 1603.06560
_TRIES = 100  # proposals before all combinations count as tried
_RESULT = "result"  # the attribute of a finished trial
_STOPPED = "stopped"  # that of a trial that is stopped: the epoch


@dataclass(frozen=True)
class Trial:
    """A finished trial.

    Args:
        number: int, from 1.
        values: option -> text, as on the command line.
        status: one of "complete", "pruned" and "failed".
        value: float or None. The best value of the metric over its epochs.
        epochs: int. The number of epochs it was measured.
        seconds: float.
        monitor: str. The metric, such as "val_accuracy"; empty if the trial failed before.
        mode: "max" or "min".
        message: str. Why it failed.
    """

    number: int
    values: dict[str, str]
    status: str
    value: float | None
    epochs: int
    seconds: float
    monitor: str = ""
    mode: str = "max"
    message: str = ""


class Study:
    """Proposes the values of trials and records the finished ones; see `open_study`.

    The values of a trial depend only on the seed, its number and the trials before it. So a search
    that goes on proposes what an uninterrupted one would.

    Args:
        study: optuna.Study.
        space: the options to search over.
        method: one of `METHODS`.
        seed: int.
    """

    def __init__(self, study: Any, space: Mapping[str, Choices | Range], method: str, seed: int):
        self._study = study
        self._space = dict(space)
        self._method = method
        self._seed = seed
        self._trial: Any = None
        self._number = 0

    def trials(self) -> list[Trial]:
        """Returns the finished trials in their order, without interrupted ones."""
        results = [
            trial.user_attrs.get(_RESULT) for trial in self._study.get_trials(deepcopy=False)
        ]
        return [Trial(**result) for result in results if result is not None]

    def propose(self) -> tuple[int, dict[str, str]] | None:
        """Returns the number of the next trial and its values; None: all combinations are tried."""
        done = [trial.values for trial in self.trials()]
        self._number = len(done) + 1
        if self._method == "grid" and len(done) >= len(self._grid()):
            return None
        distributions = {name: values.distribution() for name, values in self._space.items()}
        interrupted = self._running()
        for attempt in range(_TRIES):
            self._study.sampler = self._sampler(attempt)
            trial = interrupted.pop() if interrupted else self._study.ask(distributions)
            values = {name: v.text(trial.params[name]) for name, v in self._space.items()}
            if values not in done:
                self._trial = trial
                return self._number, values
            self._study.tell(trial, state=_state(FAILED))  # a repetition; it is not listed
        return None

    def _running(self) -> list[Any]:
        """The trial that a killed search left open, if it did; it begins again."""
        from optuna.trial import Trial

        frozen = self._study.get_trials(deepcopy=False, states=(_state("running"),))
        return [Trial(self._study, each._trial_id) for each in frozen]

    def goes_on(self, epoch: int, value: float, mode: str) -> bool:
        """Records the value of an epoch of the current trial; returns whether it goes on."""
        # A trial that begins again has reported some epochs before.
        reported = self._study.get_trials(deepcopy=False)[self._trial.number].intermediate_values
        if epoch not in reported:
            self._trial.report(_larger_is_better(value, mode), epoch)
            if self._trial.should_prune():
                self._trial.set_user_attr(_STOPPED, epoch)
        return bool(self._trial.user_attrs.get(_STOPPED) != epoch)

    def finish(self, result: Trial) -> None:
        """Records the end of the current trial."""
        self._trial.set_user_attr(_RESULT, asdict(result))
        self._tell(self._trial, asdict(result))

    def close_finished(self) -> None:
        """Ends the trial whose result a killed search has recorded."""
        for trial in self._running():
            if _RESULT in trial.user_attrs:
                self._tell(trial, trial.user_attrs[_RESULT])

    def _tell(self, trial: Any, result: Mapping[str, Any]) -> None:
        if result["status"] == COMPLETE:
            self._study.tell(trial, _larger_is_better(result["value"], result["mode"]))
        else:
            self._study.tell(trial, state=_state(result["status"]))

    def best(self) -> Trial | None:
        """Returns the complete trial with the best value, the earliest of equal ones."""
        complete = [trial for trial in self.trials() if trial.status == COMPLETE]
        return min(complete, key=rank, default=None)

    def _sampler(self, attempt: int) -> Any:
        import numpy as np
        from optuna.samplers import PartialFixedSampler, RandomSampler, TPESampler

        words = np.random.SeedSequence([self._seed, self._number, attempt]).generate_state(1)
        seed = int(words[0])
        if self._method == "tpe":
            return TPESampler(seed=seed)
        random = RandomSampler(seed=seed)
        if self._method != "grid":
            return random
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # older versions call it experimental
            return PartialFixedSampler(self._grid()[self._number - 1], random)

    def _grid(self) -> list[dict[str, str]]:
        """All combinations, in an order that depends on the seed: a part of them is a sample."""
        import numpy as np

        lists = {name: values.ends() for name, values in self._space.items()}
        grid = [dict(zip(lists, row, strict=True)) for row in itertools.product(*lists.values())]
        order = np.random.default_rng(self._seed).permutation(len(grid))
        return [grid[index] for index in order]


def rank(trial: Trial) -> tuple[Any, ...]:
    """A key that sorts trials: complete ones before pruned and failed ones, the best first."""
    order = (COMPLETE, PRUNED, FAILED).index(trial.status)
    value = math.inf if trial.value is None else -_larger_is_better(trial.value, trial.mode)
    return order, value, trial.number


@contextlib.contextmanager
def open_study(
    directory: str,
    run: Mapping[str, str],
    space: Mapping[str, Choices | Range],
    *,
    method: str,
    seed: int,
    resume: bool,
) -> Iterator[Study]:
    """Opens the file of a search, for this process alone.

    Args:
        directory: for the file; it is created if it is missing.
        run: dict of str, the options and data that must be the same when a search goes on.
        space: the options to search over.
        method: one of `METHODS`.
        seed: int.
        resume: bool. Whether to go on with an earlier search.

    Yields:
        Study.

    Raises:
        ConfigError: an earlier search is in the directory, and `resume` is False or it was another
            one; or another process uses it.
        DataError: the directory cannot be written, or its file is damaged.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with locked_directory(directory, "another search"):
        file = Path(directory, _FILE)
        if file.exists() and not resume:
            raise ConfigError(
                f"{directory}: expected no earlier search, received one: pass --resume to go on "
                "with it, or delete the directory"
            )
        cut_torn_line(file)
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
        if method == "halving":
            pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=_ETA)
        try:
            study = optuna.create_study(
                storage=JournalStorage(JournalFileBackend(str(file))),
                study_name="tune",
                direction="maximize",
                pruner=pruner,
                load_if_exists=True,
            )
        except (ValueError, KeyError, OSError) as error:
            raise DataError(f"{file}: expected the file of a search: {error}") from None
        earlier = study.user_attrs.get("run")
        if earlier is None:
            study.set_user_attr("run", dict(run))
        elif earlier != run:
            raise ConfigError(
                f"{directory}: expected the same options and data to go on with a search, received "
                f"{changed_options(earlier, run)}; repeat the earlier command, or delete the "
                "directory to start again"
            )
        opened = Study(study, space, method, seed)
        opened.close_finished()
        yield opened


def _larger_is_better(value: float, mode: str) -> float:
    return value if mode == "max" else -value


def _state(status: str) -> Any:
    from optuna.trial import TrialState

    return {
        COMPLETE: TrialState.COMPLETE,
        PRUNED: TrialState.PRUNED,
        FAILED: TrialState.FAIL,
        "running": TrialState.RUNNING,
    }[status]
