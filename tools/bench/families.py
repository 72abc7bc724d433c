"""Inference speed of every family against transformers in torch, both in bfloat16.

    python tools/bench/families.py [--family NAME ...] [--layers 4] [--turns 9]

Each family has the widths of its base model (see `WIDTHS`), random weights and `--layers` layers.
The engines get ids and compute mean-pooled embeddings: an export of this package in a session, and
transformers in torch. The batches are 32 rows of 128 tokens, and 32 rows of mixed lengths from 8 to
256 tokens (evenly in the logarithm), padded to the longest. The engines alternate, so that other
load on the machine affects both equally. Ratios above 1: this package is faster. Each turn has its
own ratio; the result is their median. The cosine compares embeddings with transformers in float32;
it is the lowest one. Needs the extra `parity`.
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
import torch

import keras_bert_zoo as kbz
from keras_bert_zoo.cli.runtime import processor
from keras_bert_zoo.export.session import ExportSession
from keras_bert_zoo.text import WordPieceTokenizer
from tools.zoo.reference import Case, families

ROWS, FULL, SHORTEST, LONGEST = 32, 128, 8, 256
# The options of the base model that differ from transformers' defaults.
BASE = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
WIDTHS = {
    "albert": BASE,
    "deberta_v2": BASE
    | {
        "vocab_size": 128100,
        "relative_attention": True,
        "position_buckets": 256,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
        "type_vocab_size": 0,
    },
    "electra": BASE | {"embedding_size": 768},
}


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
            states = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
            sums = (states * mask[..., None]).sum(1)
            return torch.nn.functional.normalize(sums, dim=-1).numpy()

    return run


def export_engine(session, batch):
    inputs = {name: batch[name] for name in session.inputs}
    return lambda: session.run(inputs)["embedding"]


def measure(engines, turns):
    """Returns the seconds (turns, engines): of each engine's turn, the faster of two calls."""
    seconds = np.zeros((turns, len(engines)))
    for turn in range(turns):
        for column, run in enumerate(engines):
            times = []
            for _ in range(3):
                begin = time.perf_counter()
                run()
                times.append(time.perf_counter() - begin)
            # In the first call, the threads of the other engine still use the cores.
            seconds[turn, column] = min(times[1:])
    return seconds


def compare(family, layers, turns):
    """Returns a row of the table: milliseconds and ratio of both batches, and the cosine."""
    case = Case(family, "", "")
    torch.manual_seed(0)
    config = case.module.CONFIG(num_hidden_layers=layers, **WIDTHS.get(family, {}))
    model = case.module.MODELS[""](config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # TensorFlow would remove the sum with a bias of zeros
                parameter += 0.02 * torch.randn_like(parameter)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [f"w{i}" for i in range(config.vocab_size - len(special))]
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        task = kbz.TextEmbedder(
            kbz.Encoder.from_preset(folder, pooler=False),
            WordPieceTokenizer([*special, *words]),
            max_length=LONGEST,
        )
        path = task.export(f"{folder}/export", dtype="bfloat16").path
        session = ExportSession(path, signature="tokens")
        cells, worst = [], 1.0
        batches = make_batches(config.vocab_size)
        expected = {name: torch_engine(model, batch)() for name, batch in batches.items()}
        model = model.to(torch.bfloat16)
        for name, batch in batches.items():
            engines = [export_engine(session, batch), torch_engine(model, batch)]
            answer = engines[0]()
            worst = min(worst, float((answer * expected[name]).sum(-1).min()))
            seconds = measure(engines, turns)
            ratio = np.median(seconds[:, 1] / seconds[:, 0])
            cells += [*(1e3 * np.median(seconds, axis=0)), ratio]
    keras.backend.clear_session()
    return cells, worst


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", nargs="+", default=families(), choices=families())
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--turns", type=int, default=9)
    options = parser.parse_args()
    print(f"{options.layers} layers, {ROWS} rows, {options.turns} turns, {processor()}")
    print(
        f"{'family':12}{'full ms':>9}{'torch':>8}{'ratio':>7}{'mixed ms':>10}{'torch':>8}", end=""
    )
    print(f"{'ratio':>7}{'cosine':>9}")
    for family in options.family:
        (full, theirs, ratio, mixed, their_mixed, mixed_ratio), worst = compare(
            family, options.layers, options.turns
        )
        print(
            f"{family:12}{full:9.0f}{theirs:8.0f}{ratio:7.2f}{mixed:10.0f}{their_mixed:8.0f}"
            f"{mixed_ratio:7.2f}{worst:9.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
