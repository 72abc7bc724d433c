"""Replacements for the clients of trackers, which record calls: the real ones are extras."""

import sys
from types import ModuleType, SimpleNamespace


class Calls(list):
    """The calls of a client: (name, positional arguments, named arguments)."""

    def function(self, name, result=None):
        """Returns a function that records its calls."""

        def call(*args, **kwargs):
            self.append((name, args, kwargs))
            return result

        return call

    def named(self, name):
        """The arguments of the calls of one function."""
        return [(args, kwargs) for each, args, kwargs in self if each == name]


def _install(monkeypatch, name, **members):
    module = ModuleType(name)
    vars(module).update(members)
    module.__spec__ = SimpleNamespace(name=name)  # find_spec returns it
    monkeypatch.setitem(sys.modules, name, module)


def replace_mlflow(monkeypatch):
    """Replaces mlflow; returns the calls of its client."""
    calls = Calls()
    run = SimpleNamespace(info=SimpleNamespace(run_id="run-1"))

    def client(**options):
        calls.append(("MlflowClient", (), options))
        return SimpleNamespace(
            get_experiment_by_name=calls.function("get_experiment_by_name"),
            create_experiment=calls.function("create_experiment", "7"),
            create_run=calls.function("create_run", run),
            log_batch=calls.function("log_batch"),
            log_artifact=calls.function("log_artifact"),
            set_terminated=calls.function("set_terminated"),
        )

    _install(monkeypatch, "mlflow", MlflowClient=client)
    entities = {"Param": lambda *values: values, "Metric": lambda *values: values}
    _install(monkeypatch, "mlflow.entities", **entities)
    return calls


def replace_wandb(monkeypatch, folder):
    """Replaces wandb, whose run keeps its files in a folder; returns the calls."""
    calls = Calls()
    run = SimpleNamespace(
        dir=str(folder), log=calls.function("log"), finish=calls.function("finish")
    )
    _install(monkeypatch, "wandb", init=calls.function("init", run), Settings=dict)
    return calls
