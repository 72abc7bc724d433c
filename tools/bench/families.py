"""Inference speed of every family against transformers in torch, both in bfloat16.

    python tools/bench/families.py [--family NAME ...] [--layers 4] [--turns 9]

Each family has the widths of its base model (see `WIDTHS`), random weights and `--layers` layers.
The engines get ids and compute mean-pooled embeddings: an export of this package in a session, and
transformers in torch. The batches are 32 rows of 128 tokens, and 32 rows of mixed lengths from 8 to
256 tokens (evenly in the logarithm), padded to the longest. The engines take turns. Of each turn,
the faster of two calls counts. The results are the medians of the times and of the turns' ratios
(above 1: this package is faster), and the least cosine of an embedding to transformers in float32.
Needs the extra `parity`.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parents[2]))

import keras
import numpy as np
import torch
from tables import Table, add_json_option, report
from turns import take_turns

import keras_bert_zoo as kbz
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


def compare(family, layers, turns):
    """Returns a row of the table: times and ratio of both batches, and the least cosine."""
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
            engines = {
                "export": export_engine(session, batch),
                "torch": torch_engine(model, batch),
            }
            answer = engines["export"]()
            worst = min(worst, float((answer * expected[name]).sum(-1).min()))
            seconds = take_turns(engines, turns)
            ours, theirs = (
                np.reshape(seconds[name], (turns, -1)).min(-1) for name in ("export", "torch")
            )
            cells += [1e3 * np.median(ours), 1e3 * np.median(theirs), np.median(theirs / ours)]
    keras.backend.clear_session()
    return [*map(float, cells), worst]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", nargs="+", default=families(), choices=families())
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--turns", type=int, default=9)
    add_json_option(parser)
    options = parser.parse_args()
    rows = {}
    for family in options.family:
        rows[family] = compare(family, options.layers, options.turns)
        print(family, *(f"{value:.3f}" for value in rows[family]), flush=True)
    columns = {
        "full, ms": ".0f", "torch, ms": ".0f", "full, ratio": ".2f",
        "mixed, ms": ".0f", "torch, mixed, ms": ".0f", "mixed, ratio": ".2f",
        "least cosine": ".4f",
    }  # fmt: skip
    print(f"{options.layers} layers, {ROWS} rows, {options.turns} turns")
    plotted = ["full, ratio", "mixed, ratio"]
    axis = "times the speed of transformers in torch"
    report([Table("families", "family", columns, rows, axis, plotted)], options.json)


if __name__ == "__main__":
    main()
