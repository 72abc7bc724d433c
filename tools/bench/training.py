"""Fine-tuning speed against keras-hub and transformers, in rows per second.

    python tools/bench/training.py [--data DIR] [--steps 60]

Texts of similar length come from Banking77. Mixed lengths need the data of serving.py, `--data`:
short questions, movie reviews and paragraphs of up to 256 tokens, with random labels. keras-hub
trains as in its guides, batches padded to a fixed length, with Keras' AdamW; transformers trains in
torch under bfloat16 autocast, batches padded to their longest text. All have the same weights,
dropout, clipping and schedule. This package trains as its `train` command: packed batches bucketed
by length. The engines alternate, `--steps` steps each, so that other load on the machine affects
all of them equally. Needs the extra `parity`.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import keras_hub
import numpy as np
import tensorflow as tf
import torch
from serving import read_texts
from tables import Table, add_json_option, report
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from turns import take_turns

import keras_bert_zoo as kbz
from keras_bert_zoo.data.labels import LabelMap
from keras_bert_zoo.data.tables import read_table
from keras_bert_zoo.presets.resolve import find_preset
from keras_bert_zoo.training.compiling import prepare_updates
from keras_bert_zoo.training.loop import run_fit
from keras_bert_zoo.training.optimizers import AdamW
from keras_bert_zoo.training.schedules import WarmupLinearDecay

BANKING77 = Path(__file__).parents[1] / "data" / "banking77" / "train.csv.gz"
RATE = 2e-4


def banking77(rows):
    """Texts of similar length and their labels (rows,), and the number of labels."""
    examples = read_table(BANKING77, label="category")
    labels = LabelMap.learn(examples)
    examples = examples.subset(np.random.default_rng(0).permutation(len(examples))[:rows])
    return list(examples.texts), labels.to_ids(examples), len(labels)


def mixed_lengths(data, rows):
    """Texts of mixed lengths and random labels (rows,), and the number of labels."""
    rng = np.random.default_rng(0)
    return list(rng.permutation(read_texts(data))[:rows]), rng.integers(0, 3, rows), 3


def schedule():
    return WarmupLinearDecay(RATE, total_steps=100_000, warmup_steps=100)


def this_package(directory, texts, targets, count, length, batch_size, dtype):
    task = kbz.TextClassifier.from_preset(
        directory, labels=list(map(str, range(count))), max_length=length, dtype=dtype
    )
    task.compile(AdamW(schedule()))
    batches = task.make_dataset(texts, list(map(str, targets)), batch_size=batch_size)
    prepare_updates(task)
    return lambda: run_fit(
        task, batches, validation=None, monitor=("val_loss", "min"), patience=None, epochs=1,
        callbacks=[], verbose=0,
    )  # fmt: skip


def keras_hub_engine(directory, texts, targets, count, length, batch_size):
    backbone = keras_hub.models.BertBackbone.from_preset(directory, dtype="float32")
    hidden = keras.layers.Dropout(0.1)(backbone.output["pooled_output"])
    model = keras.Model(backbone.input, keras.layers.Dense(count)(hidden))
    optimizer = keras.optimizers.AdamW(schedule(), weight_decay=0.01, global_clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    tokenizer = kbz.Tokenizer.from_preset(directory)
    inputs = tokenizer(texts, max_length=length, padding="max_length")
    batches = tf.data.Dataset.from_tensor_slices((inputs, targets))
    batches = batches.batch(batch_size).prefetch(4)
    # As in this package: closing an autotuned iterator waits, see data/pipeline.py.
    fixed = tf.data.Options()
    fixed.autotune.enabled = False
    batches = batches.with_options(fixed)
    return lambda: model.fit(batches, epochs=1, verbose=0, shuffle=False)


def transformers_engine(directory, texts, targets, count, length, batch_size):
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForSequenceClassification.from_pretrained(directory, num_labels=count)
    model.train()
    no_decay = [p for p in model.parameters() if p.ndim == 1]
    decay = [p for p in model.parameters() if p.ndim > 1]
    groups = [{"params": decay}, {"params": no_decay, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, eps=1e-6, weight_decay=0.01, fused=True)
    labels = torch.tensor(targets, dtype=torch.long)

    def run():
        order = np.random.default_rng(0).permutation(len(texts))
        for begin in range(0, len(texts), batch_size):
            rows = order[begin : begin + batch_size]
            batch = tokenizer(
                [texts[row] for row in rows],
                padding=True,
                truncation=True,
                max_length=length,
                return_tensors="pt",
            )
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = model(**batch, labels=labels[rows]).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="minilm_l6_en_uncased")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    add_json_option(parser)
    options = parser.parse_args()

    directory = str(find_preset(options.preset))
    count = options.batch_size * options.steps
    sets = {"Banking77": (banking77(count), 64)}
    if options.data:
        sets["mixed lengths"] = mixed_lengths(options.data, count // 3), 256
    rows: dict[str, list[float]] = {}
    for (texts, targets, labels), length in sets.values():
        common = directory, texts, targets, labels, length, options.batch_size
        engines = {
            "transformers, torch, bfloat16 autocast": transformers_engine(*common),
            "keras-hub, float32, padded": keras_hub_engine(*common),
            "this package, float32": this_package(*common, "float32"),
            "this package, bfloat16": this_package(*common, "mixed_bfloat16"),
        }
        for run in engines.values():
            run()  # traces and compiles the step
        seconds = take_turns(engines, options.rounds, ignored=0, counted=1)
        medians = {engine: float(np.median(times)) for engine, times in seconds.items()}
        base = next(iter(medians.values()))
        for engine, median in medians.items():
            rows.setdefault(engine, []).extend([len(texts) / median, base / median])
    columns = {}
    for name in sets:
        columns |= {f"{name}, rows/s": ".1f", f"{name}, times torch": ".2f"}
    print(f"{options.preset}, batch {options.batch_size}, {options.rounds} rounds")
    plotted = [f"{name}, rows/s" for name in sets]
    report([Table("training", "engine", columns, rows, "rows/s", plotted)], options.json)


if __name__ == "__main__":
    main()
