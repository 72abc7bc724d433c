"""Inference speed of every family against transformers in torch, both in bfloat16.

    python tools/bench/families.py [--family NAME ...] [--layers 4] [--rounds 9]

Each family has the widths of its default configuration, random weights and `--layers` layers. All
engines get ids. The batches are 32 rows of 128 tokens, and 32 rows of mixed lengths from 8 to 256
tokens (evenly in the logarithm), padded to the longest. Encoders are frozen, as in an export. The
engines alternate, so that other load on the machine affects both equally. The results are ratios
of medians: above 1, this package is faster. The cosine compares the states of all tokens with
transformers in float32; it is the lower one of the two batches. Needs the extra `parity`.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parents[2]))

import keras
import numpy as np
import tensorflow as tf
import torch
from encoder import compiled

import keras_bert_zoo as kbz
from keras_bert_zoo.cli.runtime import processor
from tools.zoo.reference import Case, families

ROWS, FULL, SHORTEST, LONGEST = 32, 128, 8, 256


def make_batches(vocabulary):
    """A batch without padding, and one of mixed lengths: name -> int32 inputs (rows, length)."""
    random = np.random.default_rng(0)
    mixed = np.exp(random.uniform(np.log(SHORTEST), np.log(LONGEST), ROWS)).astype(int)
    mixed[0] = LONGEST
    batches = {}
    for name, lengths in (("full", np.full(ROWS, FULL)), ("mixed", mixed)):
        mask = np.arange(lengths.max()) < lengths[:, np.newaxis]
        ids = random.integers(vocabulary // 2, vocabulary, mask.shape)
        batches[name] = {
            "token_ids": np.where(mask, ids, 0).astype(np.int32),
            "segment_ids": np.zeros(mask.shape, np.int32),
            "padding_mask": mask.astype(np.int32),
        }
    return batches


def torch_engine(model, batch):
    ids, mask = (torch.from_numpy(batch[name]).long() for name in ("token_ids", "padding_mask"))

    def run():
        with torch.inference_mode():
            return model(input_ids=ids, attention_mask=mask).last_hidden_state.float().numpy()

    return run


def measure(engines, rounds):
    """Returns the median of the seconds of each engine."""
    seconds = {name: [] for name in engines}
    for turn in range(rounds + 1):
        for name, run in engines.items():
            for call in range(3):
                begin = time.perf_counter()
                run()
                # The threads of the other engine still wait for work, and use the cores.
                if turn and call:
                    seconds[name].append(time.perf_counter() - begin)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def cosine(a, b, mask):
    a, b = a[mask > 0], b[mask > 0]
    return float(np.sum(a * b) / np.sqrt(np.sum(a * a) * np.sum(b * b)))


def compare(family, layers, rounds):
    """Returns a row of the table: milliseconds and ratio of both batches, and the cosine."""
    case = Case(family, "", "")
    torch.manual_seed(0)
    model = case.module.MODELS[""](case.module.CONFIG(num_hidden_layers=layers)).eval()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        encoder = kbz.Encoder.from_preset(folder, dtype="mixed_bfloat16")
    cells, worst = [], 1.0
    batches = make_batches(model.config.vocab_size)
    expected = {name: torch_engine(model, batch)() for name, batch in batches.items()}
    model = model.to(torch.bfloat16)
    for name, batch in batches.items():
        inputs = {key: tf.constant(batch[key]) for key in encoder.input}
        ours = compiled(encoder, inputs, frozen=True)
        engines = {"ours": lambda ours=ours: ours().numpy(), "torch": torch_engine(model, batch)}
        answer = engines["ours"]().astype(np.float32)
        worst = min(worst, cosine(answer, expected[name], batch["padding_mask"]))
        seconds = measure(engines, rounds)
        cells += [1e3 * seconds["ours"], 1e3 * seconds["torch"], seconds["torch"] / seconds["ours"]]
    keras.backend.clear_session()
    return cells, worst


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", nargs="+", default=families(), choices=families())
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    print(f"{options.layers} layers, {ROWS} rows, {options.rounds} rounds, {processor()}")
    print(
        f"{'family':12}{'full ms':>9}{'torch':>8}{'ratio':>7}{'mixed ms':>10}{'torch':>8}", end=""
    )
    print(f"{'ratio':>7}{'cosine':>9}")
    for family in options.family:
        (full, theirs, ratio, mixed, their_mixed, mixed_ratio), worst = compare(
            family, options.layers, options.rounds
        )
        print(
            f"{family:12}{full:9.0f}{theirs:8.0f}{ratio:7.2f}{mixed:10.0f}{their_mixed:8.0f}"
            f"{mixed_ratio:7.2f}{worst:9.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
