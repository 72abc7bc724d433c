"""Fine-tuning speed on Banking77 against keras-hub, in rows per second.

    python tools/bench/training.py [--data tools/data/banking77/train.csv.gz] [--steps 60]

keras-hub trains as in its guides: float32, batches padded to 64 tokens, Keras' AdamW, and the same
weights, dropout, clipping and schedule. This package trains as its `train` command: packed batches
bucketed by length, bfloat16 and float32. The engines alternate, `--steps` steps each, so that other
load on the machine affects all of them equally.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import keras_hub
import numpy as np
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.data.labels import LabelMap
from keras_bert_zoo.data.tables import read_table
from keras_bert_zoo.presets.resolve import find_preset
from keras_bert_zoo.training.optimizers import AdamW, WarmupLinearDecay

LENGTH = 64
HERE = os.path.dirname(os.path.abspath(__file__))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="minilm_l6_en_uncased")
    parser.add_argument(
        "--data", default=os.path.join(HERE, os.pardir, "data", "banking77", "train.csv.gz")
    )
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    directory = str(find_preset(options.preset))
    examples = read_table(options.data, label="category")
    labels = LabelMap.learn(examples)
    rows = options.batch_size * options.steps
    examples = examples.subset(np.random.default_rng(0).permutation(len(examples))[:rows])
    targets = labels.to_ids(examples)
    schedule = WarmupLinearDecay(2e-4, total_steps=100_000, warmup_steps=100)

    def ours(dtype):
        task = kbz.TextClassifier.from_preset(directory, labels=labels.names, dtype=dtype)
        task.compile(AdamW(schedule))
        batches = task.make_dataset(examples.texts, targets, batch_size=options.batch_size)
        return lambda: keras.Model.fit(task, batches, epochs=1, verbose=0, shuffle=False)

    def theirs():
        backbone = keras_hub.models.BertBackbone.from_preset(directory, dtype="float32")
        hidden = keras.layers.Dropout(0.1)(backbone.output["pooled_output"])
        model = keras.Model(backbone.input, keras.layers.Dense(len(labels))(hidden))
        optimizer = keras.optimizers.AdamW(schedule, weight_decay=0.01, global_clipnorm=1.0)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        model.compile(
            optimizer,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        tokenizer = kbz.Tokenizer.from_preset(directory)
        inputs = tokenizer(examples.texts, max_length=LENGTH, padding="max_length")
        batches = tf.data.Dataset.from_tensor_slices((inputs, targets))
        batches = batches.batch(options.batch_size).prefetch(4)
        # As in this package: closing an autotuned iterator waits, see data/pipeline.py.
        fixed = tf.data.Options()
        fixed.autotune.enabled = False
        batches = batches.with_options(fixed)
        return lambda: model.fit(batches, epochs=1, verbose=0, shuffle=False)

    engines = {
        f"keras-hub, float32, padded to {LENGTH}": theirs(),
        "this package, float32": ours("float32"),
        "this package, bfloat16": ours("mixed_bfloat16"),
    }
    times = {name: [] for name in engines}
    for run in engines.values():
        run()  # traces and compiles the step
    for _ in range(options.rounds):
        for name, run in engines.items():
            begin = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - begin)
    base = np.median(next(iter(times.values())))
    print(f"{options.preset}, batch {options.batch_size}, {options.rounds} x {options.steps} steps")
    for name, seconds in times.items():
        median = np.median(seconds)
        print(f"{name:36}{rows / median:8.1f} rows/s{base / median:8.2f}")


if __name__ == "__main__":
    main()
