"""Distribution strategies by name."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Sequence

import tensorflow as tf

from keras_bert_zoo.errors import ConfigError

STRATEGIES = ("default", "mirrored", "multi-worker", "tpu")


def make_strategy(
    name: str,
    *,
    replicas: int | None = None,
    workers: Sequence[str] = (),
    worker_index: int | None = None,
    tpu: str | None = None,
) -> tf.distribute.Strategy:
    """Returns a tf.distribute strategy; models are built in its `scope()`.

    Args:
        name: "default" (one device), "mirrored" (every GPU of this machine; without GPUs, every
            logical CPU device), "multi-worker" (the GPUs or the CPU of several machines), or "tpu".
        replicas: int or None. For "mirrored" on a CPU: the number of logical devices to create.
        workers: addresses "host:port" of all workers, in the same order on each; empty: those of
            the environment variable TF_CONFIG. For "multi-worker".
        worker_index: int or None. The place of this process among `workers`.
        tpu: str or None. For "tpu": the name or the address of the TPU; "local", the default, on a
            TPU VM.

    Returns:
        tf.distribute.Strategy.

    Raises:
        ConfigError: unknown name, options that do not fit, or devices that are not there.

    Example: `make_strategy("multi-worker", workers=["10.0.0.1:9000", "10.0.0.2:9000"],
    worker_index=0)`
    """
    if name not in STRATEGIES:
        raise ConfigError(
            f"Strategy {name!r} is unknown. Expected one of: {', '.join(STRATEGIES)}."
        )
    if name != "mirrored" and replicas is not None:
        raise ConfigError(f"Expected the strategy 'mirrored' for `replicas`, received {name!r}.")
    if name != "multi-worker" and (workers or worker_index is not None):
        raise ConfigError(f"Expected the strategy 'multi-worker' for `workers`, received {name!r}.")
    if name != "tpu" and tpu is not None:
        raise ConfigError(f"Expected the strategy 'tpu' for `tpu`, received {name!r}.")
    if name == "tpu":
        return _tpu("local" if tpu is None else tpu)
    if name == "mirrored":
        return _mirrored(replicas)
    if name == "multi-worker":
        return _multi_worker(workers, worker_index)
    return tf.distribute.get_strategy()


def has_workers(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether several processes train a model together."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def on_tpu(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether a model runs on TPUs."""
    return isinstance(strategy, tf.distribute.TPUStrategy)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process writes the files: the only one, or the first worker."""
    return bool(strategy.extended.should_checkpoint)


def wait_for_workers(strategy: tf.distribute.Strategy) -> None:
    """Waits until all workers have called this function; returns at once without workers.

    Args:
        strategy: tf.distribute.Strategy.

    Raises:
        tf.errors.OpError: another worker has ended.
    """
    if has_workers(strategy):
        ones = strategy.run(lambda: tf.constant(1))
        strategy.reduce(tf.distribute.ReduceOp.SUM, ones, axis=None)


@functools.cache
def _mirrored(replicas: int | None) -> tf.distribute.Strategy:
    # Cached, because a second strategy would use the collectives of the first one.
    if tf.config.get_visible_devices("GPU"):
        if replicas is not None:
            raise ConfigError("Expected a machine without GPUs for `replicas`, received GPUs.")
        kind = "GPU"
    else:
        kind = "CPU"
        if replicas is not None:
            _split_cpu(replicas)
    return tf.distribute.MirroredStrategy(
        [device.name for device in tf.config.list_logical_devices(kind)]
    )


def _split_cpu(count: int) -> None:
    """Divides the CPU into logical devices, which is possible only before TensorFlow starts."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    devices = [tf.config.LogicalDeviceConfiguration()] * count
    try:
        tf.config.set_logical_device_configuration(cpu, devices)
    except RuntimeError as error:
        if len(tf.config.list_logical_devices("CPU")) != count:
            raise ConfigError(
                f"Expected `replicas={count}` before the first use of TensorFlow, received it "
                "afterwards: make the strategy first."
            ) from error


def _multi_worker(workers: Sequence[str], index: int | None) -> tf.distribute.Strategy:
    if workers:
        if index is None or not 0 <= index < len(workers):
            raise ConfigError(
                f"Expected `worker_index` from 0 to {len(workers) - 1} with `workers`, received "
                f"{index}."
            )
        task = {"type": "worker", "index": index}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": list(workers)}, "task": task})
    elif index is not None:
        raise ConfigError("Expected `workers` with `worker_index`, received none.")
    try:
        config = json.loads(os.environ.get("TF_CONFIG", "{}"))
        addresses = config["cluster"]["worker"]
        place = int(config["task"]["index"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            "Expected `workers` and `worker_index`, or an environment variable TF_CONFIG with "
            '{"cluster": {"worker": [...]}, "task": {"type": "worker", "index": N}}, received '
            f"{os.environ.get('TF_CONFIG', 'none')}."
        ) from error
    if not 0 <= place < len(addresses):
        raise ConfigError(
            f"Expected a task index from 0 to {len(addresses) - 1} in TF_CONFIG, received {place}."
        )
    return _collective()


@functools.cache
def _collective() -> tf.distribute.Strategy:
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise ConfigError(
            "Expected the strategy 'multi-worker' before the first use of TensorFlow, received it "
            "afterwards: make the strategy first."
        ) from error


@functools.cache
def _tpu(name: str) -> tf.distribute.Strategy:
    # Cached, because a second initialization would delete what is on the TPU.
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        if name != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        raise ConfigError(
            f"Expected a TPU for `tpu={name!r}`, received: {_first_line(error)}. On a TPU VM, "
            f"install tensorflow-tpu {tf.__version__}: it needs the version of TensorFlow."
        ) from error
    return tf.distribute.TPUStrategy(resolver)


def _first_line(error: Exception) -> str:
    return str(getattr(error, "message", error)).strip().partition("\n")[0].rstrip(".")
