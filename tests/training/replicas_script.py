"""Optimizers and regularization on one and two replicas; test_optimizers.py runs it."""

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.training.optimizers import OPTIMIZERS, make_optimizer
from tests.helpers import eagerly
from tests.tasks.every_task import make, spread_weights

SHAPES = {"block_0/kernel": (6, 4), "embeddings/token_table": (9, 4), "block_0/bias": (4,)}
STEPS = 5
# The share of each replica in the gradient of each variable.
SHARES = {1: [[1.0, 1.0, 1.0]], 2: [[0.25, 1.5, 0.9], [0.75, -0.5, 0.1]]}


def make_variables():
    random = np.random.default_rng(0)
    result = []
    for path, shape in SHAPES.items():
        scope, name = path.split("/")
        with keras.name_scope(scope):
            result.append(keras.Variable(random.normal(size=shape), dtype="float32", name=name))
    return result


def run(name, strategy, **options):
    """Returns the weights after each step, and at last the averages of the weights."""
    random = np.random.default_rng(1)
    kernels, rows, biases = (
        tf.constant(random.normal(size=(STEPS, *shape)), tf.float32) for shape in SHAPES.values()
    )
    with strategy.scope():
        variables = make_variables()
        optimizer = make_optimizer(
            name, 0.1, weight_decay=0.2, global_clipnorm=0.5, use_ema=True, ema_momentum=0.5,
            rate_factors={"block_0/kernel": 0.5}, **options,
        )  # fmt: skip
        optimizer.build(variables)

    def update(step):
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        share = tf.gather(tf.constant(SHARES[strategy.num_replicas_in_sync]), replica)
        # Row 2 occurs twice: its gradient is the sum.
        table = tf.IndexedSlices(
            rows[step, :3] * share[1], tf.constant([2, 5, 2]), tf.constant([9, 4])
        )
        optimizer.apply([kernels[step] * share[0], table, biases[step] * share[2]], variables)

    # As `fit` does: without autograph, which would convert all of Keras' code.
    train = tf.function(lambda step: strategy.run(update, args=(step,)), autograph=False)
    result = []
    for step in range(STEPS):
        train(tf.constant(step))
        result += [variable.numpy() for variable in variables]
    optimizer.finalize_variable_values(variables)
    return result + [variable.numpy() for variable in variables]


def compare(name, one, two, **options):
    expected, values = run(name, one, **options), run(name, two, **options)
    for value, other in zip(values, expected, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-4, atol=1e-5, err_msg=f"{name} {options}")
    count = len(SHAPES)
    for i in range(count):
        *weights, average = values[i::count]
        if options:  # the last step overwrites the weights with their averages
            np.testing.assert_array_equal(average, weights[-1])
            continue
        mean = weights[0].astype(np.float64)
        for later in weights[1:]:
            mean = 0.5 * mean + 0.5 * later
        np.testing.assert_allclose(average, mean, rtol=1e-5, atol=1e-6)


# Task -> options of `fit`; together, all terms of the loss and all perturbations.
TRICKS = {
    "classification": [
        {"r_drop": 1.0, "adversarial": "fgm"},
        {"adversarial": "smart"},
        {"mixup": 0.5, "adversarial": "freelb", "focal_loss": 2.0, "label_smoothing": 0.1},
    ],
    "token-classification": [{"r_drop": 1.0, "adversarial": "smart"}],
    "embedding": [{"adversarial": "fgm"}],  # a loss of the whole batch
}


def train(name, strategy, **options):
    """Trains an epoch in batches of 5 and 2 rows, so that shares have copies of rows."""
    with strategy.scope():
        task, x, y = make(name)
    spread_weights(task)
    weights = np.linspace(0.5, 2, 7).astype(np.float32)
    history = task.fit(
        x, y, sample_weight=weights, batch_size=5, epochs=1, learning_rate=1e-2,
        global_clipnorm=0.5, verbose=0, **options,
    )  # fmt: skip
    return [np.array(history.history["loss"]), *task.get_weights()]


def compare_tricks(name, one, two, **options):
    for value, other in zip(train(name, two, **options), train(name, one, **options), strict=True):
        np.testing.assert_allclose(value, other, rtol=2e-4, atol=2e-5, err_msg=f"{name} {options}")


def main():
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    one = tf.distribute.get_strategy()
    two = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
    for name in OPTIMIZERS:
        compare(name, one, two)
    compare("lamb", one, two, ema_overwrite_frequency=STEPS)
    with eagerly():
        for name, combinations in TRICKS.items():
            for options in combinations:
                compare_tricks(name, one, two, **options)
    print("equal")


if __name__ == "__main__":
    main()
