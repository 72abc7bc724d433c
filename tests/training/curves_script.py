"""Losses of 20 steps of a real model: on one device, on two replicas, in four parts, on workers.

test_matrix.py runs it as a process, and for two workers as two.
"""

import sys
from pathlib import Path

import keras
import numpy as np

import keras_bert_zoo as kbz
from keras_bert_zoo.data.tables import read_table
from keras_bert_zoo.training.strategies import make_strategy

BANKING77 = Path(__file__).resolve().parents[2] / "tools" / "data" / "banking77" / "train.csv.gz"
STEPS = 20


class Losses(keras.callbacks.Callback):
    """The loss of each step."""

    def __init__(self):
        super().__init__()
        self.values = []

    def on_train_batch_begin(self, batch, logs=None):
        self.model.reset_metrics()

    def on_train_batch_end(self, batch, logs=None):
        # The logs of a step have the share of this worker.
        self.values.append(float(self.model.get_metrics_result()["loss"]))


def curve(strategy, **options):
    """Returns the losses of the steps. All gradients are clipped."""
    examples = read_table(BANKING77, label="category")
    examples = examples.subset(np.random.default_rng(0).permutation(len(examples))[: 32 * STEPS])
    keras.utils.set_random_seed(0)
    with strategy.scope():
        task = kbz.TextClassifier.from_preset(
            "minilm_l6_en_uncased", labels=sorted(set(examples.labels)), max_length=32
        )
    head = task.head.trainable_variables[0]
    head.assign(np.random.default_rng(0).normal(scale=0.02, size=head.shape))
    for layer in task._flatten_layers():  # dropout draws other numbers on replicas
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    losses = Losses()
    task.fit(
        examples, batch_size=32, epochs=1, learning_rate=1e-4, global_clipnorm=0.05, verbose=0,
        callbacks=[losses], **options,
    )  # fmt: skip
    return losses.values


def main(workers="", index=0):
    if workers:
        addresses = workers.split(",")
        strategy = make_strategy("multi-worker", workers=addresses, worker_index=int(index))
        print("workers", *curve(strategy))
        return
    mirrored = make_strategy("mirrored", replicas=2)
    one = make_strategy("default")
    print("one", *curve(one))
    print("replicas", *curve(mirrored))
    print("parts", *curve(one, accumulation_steps=4))


if __name__ == "__main__":
    main(*sys.argv[1:])
