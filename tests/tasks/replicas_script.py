"""Trains every task on one, two and three replicas: run by test_replicas.py in its own process."""

import contextlib
import sys
import time

import keras
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 3)

from keras_bert_zoo.errors import ConfigError  # noqa: E402
from keras_bert_zoo.training.strategies import make_strategy  # noqa: E402
from tests.tasks.every_task import TRAINED, make  # noqa: E402

STRATEGIES = {
    1: tf.distribute.get_strategy(),
    # Collectives of a process know one number of devices.
    2: tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    ),
    3: make_strategy("mirrored"),
}


def run(name, replicas, **options):
    """Two epochs of batches of 5 and 2 rows, and what is measured then."""
    strategy = STRATEGIES[replicas]
    with strategy.scope():
        task, x, y = make(name)
    # Initializers draw other numbers under a strategy.
    random = np.random.default_rng(0)
    for variable in task.trainable_weights:
        variable.assign(random.normal(scale=0.3, size=variable.shape))
    weight = np.linspace(0.5, 2, 7).astype(np.float32)
    weighted = {} if name == "masked-lm" else {"sample_weight": weight}
    history = task.fit(
        x,
        y,
        validation_data=(x, y),
        validation_batch_size=3,
        batch_size=5,
        epochs=2,
        learning_rate=1e-2,
        verbose=0,
        **weighted,
        **options,
    )
    found = {name: np.array(values) for name, values in history.history.items()}
    found |= {f"evaluated {k}": v for k, v in task.evaluate(
        x, y, batch_size=4, verbose=0, return_dict=True, **weighted).items()}  # fmt: skip
    for index, value in enumerate(task.get_weights()):
        found[f"weight {index}"] = value
    with contextlib.suppress(ConfigError):  # some tasks have no logits of texts
        found["logits"] = task.predict_logits(x, batch_size=4)
    return found


def compare(name, **options):
    one = run(name, 1, **options)
    assert all(np.isfinite(value).all() for value in one.values()), name
    for replicas in (2, 3):
        several = run(name, replicas, **options)
        assert several.keys() == one.keys()
        for key, value in one.items():
            np.testing.assert_allclose(
                several[key], value, rtol=2e-4, atol=2e-5,
                err_msg=f"{name} {options}: {key} on {replicas} replicas",
            )  # fmt: skip


chosen = sys.argv[1:] or TRAINED
for name in chosen:
    begin = time.time()
    compare(name)
    print(f"{name}: {time.time() - begin:.1f} s", file=sys.stderr, flush=True)
    keras.backend.clear_session()
if "classification" in chosen:
    compare("classification", probe_epochs=2)
print("equal")
