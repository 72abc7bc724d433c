"""The record of a training run: its options, data, versions and devices, and its curves."""

from __future__ import annotations

import datetime
import functools
import math
import platform
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_text

import keras_bert_zoo
from keras_bert_zoo.processors import processor
from keras_bert_zoo.training.run_meter import RunMeter
from keras_bert_zoo.training.strategies import has_workers, on_tpu

__all__ = ["environment", "flat", "from_json", "run_record", "to_json"]


def to_json(value: Any) -> Any:
    """Converts numbers and arrays of them to values of JSON, which has no NaN.

    >>> to_json(np.array([1.0, np.nan]))
    [1.0, 'nan']
    """
    if isinstance(value, np.ndarray | np.generic | tf.Tensor):
        value = np.asarray(value).tolist()
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def from_json(value: Any) -> Any:
    """Converts what `to_json` returned for a number or an array back.

    >>> from_json([1.0, "nan"])
    [1.0, nan]
    """
    if isinstance(value, list):
        return [from_json(item) for item in value]
    return float(value) if isinstance(value, str) else value


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Joins the names of nested dicts with dots.

    >>> flat({"seed": 0, "versions": {"keras": "3.15"}})
    {'seed': 0, 'versions.keras': '3.15'}
    """
    result: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{name}.")
        else:
            result[prefix + name] = value
    return result


def environment(task: Any) -> dict[str, Any]:
    """Returns the versions, the devices and the strategy of a run.

    Args:
        task: Task.

    Returns:
        dict of str, int and dict, for JSON.
    """
    strategy = task.distribute_strategy
    gpus = [
        str(tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name))
        for gpu in tf.config.get_visible_devices("GPU")
    ]
    name = "default"
    if has_workers(strategy):
        name = "multi-worker"
    elif isinstance(strategy, tf.distribute.MirroredStrategy):
        name = "mirrored"
    elif on_tpu(strategy):
        name = "tpu"
    return {
        "versions": dict(_versions()),
        "processor": _processor(),
        "gpus": gpus,
        "strategy": name,  # as for `strategies.make_strategy`
        "replicas": int(strategy.num_replicas_in_sync),
        "dtype": str(task.encoder.blocks[0].dtype_policy.name),
    }


@functools.cache
def _versions() -> dict[str, str]:
    return {
        "keras_bert_zoo": keras_bert_zoo.__version__,
        "python": platform.python_version(),
        # The package of TensorFlow has other names, too: tensorflow-tpu.
        "tensorflow": tf.__version__,
        "tensorflow-text": tensorflow_text.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }


@functools.cache
def _processor() -> str:
    return processor()


def _finite(value: Any) -> Any:
    """Converts a number, or an array of them, for JSON, which has no NaN: None."""
    array = np.asarray(value, np.float64)
    if array.ndim:
        return [_finite(item) for item in array]
    return float(array) if np.isfinite(array) else None


def run_record(
    task: Any, meter: RunMeter, history: Mapping[str, list[Any]], **fields: Any
) -> dict[str, Any]:
    """Builds the record of a run, for JSON.

    Args:
        task: Task.
        meter: of the run.
        history: metric -> values by epoch.
        **fields: more entries.

    Returns:
        dict. See "Seeing a run" in docs/training.md.

    Example:
        >>> import keras_bert_zoo as kbz
        >>> task = kbz.TextClassifier.from_preset("tests/assets/bert_gelu", labels=["a", "b"])
        >>> record = run_record(task, RunMeter(), {"loss": [0.5]}, steps=1)
        >>> record["steps"], record["history"], record["environment"]["replicas"]
        (1, {'loss': [0.5]}, 1)
    """
    return {
        **fields,
        "options": dict(meter.options),
        "environment": environment(task),
        "ended": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(meter.total.seconds, 3),
        "tokens": meter.total.tokens,
        "history": {name: [_finite(value) for value in values] for name, values in history.items()},
        "curves": meter.curves(),
    }
