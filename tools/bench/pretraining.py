"""Pretraining speed against keras-hub and transformers, and the cost of reading shards.

    python tools/bench/pretraining.py [--text FILE] [--size small] [--quick]

All engines train a masked language model of the same size from fresh weights on the same examples:
the lines of a text, cut to `--length` tokens. The figures are tokens per second; padding is not
counted. keras-hub pads batches to a fixed length, as its guide does. transformers trains in torch
under bfloat16 autocast, and pads batches to their longest example. This package reads the examples
from shards, as its `pretrain` command. The engines alternate. The second table reads the same
examples from 1, 10 and 100 shards, without training. Needs the extras `parity` and `pretraining`.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import keras_hub
import numpy as np
import tensorflow as tf
import torch
from tables import Table, add_json_option, report
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertTokenizerFast,
    DataCollatorForLanguageModeling,
)
from turns import take_turns

import keras_bert_zoo as kbz
from keras_bert_zoo.data.masking import Masking
from keras_bert_zoo.presets.resolve import find_preset
from keras_bert_zoo.pretraining.dataset import PretrainingData, Shard, hash_tokenizer
from keras_bert_zoo.pretraining.phases import Phase, PretrainingPhases, phase_source
from keras_bert_zoo.pretraining.pretrainer import Pretrainer
from keras_bert_zoo.pretraining.records import serialize_examples, write_records
from keras_bert_zoo.pretraining.sizes import SIZES, sized_config
from keras_bert_zoo.training.optimizers import AdamW

RATE = 1e-4
LONG_LINES = Path(__file__).parents[2] / "CHANGELOG.md"


def examples_of(path, tokenizer, length, count):
    """Token ids of the lines of a text, with special tokens; repeated up to `count` rows."""
    lines = [line for line in path.read_text().splitlines() if len(line.split()) > 3]
    rows = []
    for begin in range(0, min(len(lines), count), 512):
        batch = tokenizer(lines[begin : begin + 512], max_length=length)
        lengths = batch["padding_mask"].numpy().sum(axis=1)
        rows += [row[:n] for row, n in zip(batch["token_ids"].numpy(), lengths, strict=True)]
    return [rows[index % len(rows)] for index in range(count)]


def write_shards(directory, rows, tokenizer, length, shards):
    """Writes rows to shards; returns PretrainingData."""
    directory.mkdir()
    written = []
    for number in range(shards):
        part = rows[number::shards]
        sizes = [len(row) for row in part]
        features = {
            "token_ids": (np.concatenate(part), np.cumsum([0, *sizes])),
            "first_length": (np.array(sizes), np.arange(len(part) + 1)),
        }
        name = f"train-{number:05d}-of-{shards:05d}.tfrecord"
        write_records(directory / name, iter(serialize_examples(features)))
        written.append(Shard(name, len(part), sum(sizes), max(sizes)))
    return PretrainingData(
        directory, hash_tokenizer(tokenizer), tokenizer.vocabulary_size, length, "none",
        static_masks=False, word_boundaries=False, train=tuple(written), heldout=(),
        statistics={}, options={},
    )  # fmt: skip


def this_package(data, tokenizer, size, length, batch_size, dtype):
    config = sized_config(
        "bert", size, vocabulary_size=tokenizer.vocabulary_size, pad_token_id=0, max_length=length
    )
    task = Pretrainer.from_scratch(
        config, tokenizer, max_length=length, dtype=dtype
    )  # fmt: skip
    task.compile(AdamW(RATE))
    return lambda: task.fit(data, batch_size=batch_size, epochs=1, verbose=0)


def masked(rows, tokenizer, length, seed=0):
    """Arrays padded to a fixed length, with 15 % of the tokens masked."""
    random = np.random.default_rng(seed)
    most = int(0.15 * length) + 8
    ids = np.zeros((len(rows), length), np.int32)
    positions, labels = (np.zeros((len(rows), most), np.int32) for _ in range(2))
    weights = np.zeros((len(rows), most), np.float32)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        chosen = 1 + np.flatnonzero(random.random(len(row) - 2) < 0.15)[:most]
        positions[index, : len(chosen)] = chosen
        labels[index, : len(chosen)] = row[chosen]
        weights[index, : len(chosen)] = 1
        ids[index, chosen] = tokenizer.mask_token_id
    inputs = {
        "token_ids": ids,
        "segment_ids": np.zeros_like(ids),
        "padding_mask": (np.arange(length) < [[len(row)] for row in rows]).astype(np.int32),
        "mask_positions": positions,
    }
    return inputs, labels, weights


def keras_hub_engine(rows, tokenizer, size, length, batch_size):
    layers, width, _ = SIZES[size]
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=tokenizer.vocabulary_size, num_layers=layers, num_heads=width // 64,
        hidden_dim=width, intermediate_dim=4 * width, max_sequence_length=length, dropout=0.1,
    )  # fmt: skip
    model = keras_hub.models.BertMaskedLM(backbone, preprocessor=None)
    optimizer = keras.optimizers.AdamW(RATE, weight_decay=0.01, global_clipnorm=1.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, weighted_metrics=["accuracy"])
    batches = tf.data.Dataset.from_tensor_slices(masked(rows, tokenizer, length))
    batches = batches.batch(batch_size).prefetch(4)
    # As in this package: closing an autotuned iterator waits, see data/pipeline.py.
    fixed = tf.data.Options()
    fixed.autotune.enabled = False
    batches = batches.with_options(fixed)
    return lambda: model.fit(batches, epochs=1, verbose=0)


def transformers_engine(rows, directory, size, length, batch_size):
    layers, width, _ = SIZES[size]
    tokenizer = BertTokenizerFast.from_pretrained(directory)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=width, num_hidden_layers=layers,
        num_attention_heads=width // 64, intermediate_size=4 * width,
        max_position_embeddings=length,
    )  # fmt: skip
    model = BertForMaskedLM(config)
    model.train()
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1]},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, eps=1e-6, weight_decay=0.01, fused=True)
    collate = DataCollatorForLanguageModeling(tokenizer)

    def run():
        order = np.random.default_rng(0).permutation(len(rows))
        for begin in range(0, len(rows), batch_size):
            chosen = [{"input_ids": rows[i].tolist()} for i in order[begin : begin + batch_size]]
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = model(**collate(chosen)).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    return run


def reading_speed(data, tokenizer, batch_size):
    """Tokens per second of a pass over shards, without training."""
    phases = PretrainingPhases([Phase(data=data)])
    source = phase_source(
        phases, tokenizer, masking=Masking(), batch_size=batch_size, seed=0
    )  # fmt: skip
    ((batches, _),) = source.batches(0)
    begin = time.perf_counter()
    for _ in batches.take(source.steps):
        pass
    return source.tokens / (time.perf_counter() - begin)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="minilm_l6_en_uncased", help="for its tokenizer")
    parser.add_argument("--text", type=Path, default=LONG_LINES)
    parser.add_argument("--size", choices=tuple(SIZES), default="small")
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tiny model, few steps")
    add_json_option(parser)
    options = parser.parse_args()
    if options.quick:
        options.size, options.steps, options.rounds = "tiny", 10, 2

    directory = str(find_preset(options.preset))
    tokenizer = kbz.Tokenizer.from_preset(directory)
    count = options.batch_size * options.steps
    rows = examples_of(options.text, tokenizer, options.length, count)
    tokens = sum(map(len, rows))
    with tempfile.TemporaryDirectory() as folder:
        data = write_shards(Path(folder, "data"), rows, tokenizer, options.length, 4)
        common = options.size, options.length, options.batch_size
        engines = {
            "transformers, torch, bfloat16 autocast": transformers_engine(rows, directory, *common),
            "keras-hub, float32, padded": keras_hub_engine(rows, tokenizer, *common),
            "this package, float32": this_package(data, tokenizer, *common, "float32"),
            "this package, bfloat16": this_package(data, tokenizer, *common, "mixed_bfloat16"),
        }
        for run in engines.values():
            run()  # traces and compiles the step
        seconds = take_turns(engines, options.rounds, ignored=0, counted=1)
        medians = {engine: float(np.median(times)) for engine, times in seconds.items()}
        base = next(iter(medians.values()))
        trained = {e: [tokens / t, base / t] for e, t in medians.items()}
        many = examples_of(
            options.text, tokenizer, options.length, 4000 if options.quick else 40000
        )
        read = {}
        for shards in (1, 10, 100):
            part = write_shards(Path(folder, str(shards)), many, tokenizer, options.length, shards)
            speeds = [
                reading_speed(part, tokenizer, options.batch_size) for _ in range(options.rounds)
            ]
            read[f"{shards}"] = [float(np.median(speeds))]
    print(f"{options.size}, batch {options.batch_size}, {options.rounds} rounds, {tokens:,} tokens")
    report(
        [
            Table(
                "pretraining", "engine", {"tokens/s": ",.0f", "times torch": ".2f"}, trained,
                "tokens/s", ["tokens/s"],
            ),
            Table(
                "reading shards", "shards", {"tokens/s": ",.0f"}, read, "tokens/s", ["tokens/s"]
            ),
        ],
        options.json,
    )  # fmt: skip


if __name__ == "__main__":
    main()
