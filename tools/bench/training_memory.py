"""Peak memory of training: measured in new processes, and as `estimate_memory` predicts it.

    python tools/bench/training_memory.py [--only TEXT] [--steps 3] [--json FILE]

Each row of the table is one process that builds a model with random weights and trains it on texts
of equal length for a few steps. The measured number is the peak of its resident memory.
"""

import argparse
import json
import os
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from memory import peak_memory
from tables import Table, add_json_option, report

MINILM = {"hidden_dim": 384, "num_layers": 6, "intermediate_dim": 1536}
CONFIGS = {
    "MiniLM": ("bert", MINILM),
    "BERT base": ("bert", {}),
    "ModernBERT base": ("modernbert", {}),
    "ELECTRA small": ("electra", {}),
}
# Model, dtype, rows, tokens per row, and further options of a run.
RUNS = [
    ("MiniLM", "float32", 8, 32, {}),
    ("MiniLM", "float32", 32, 128, {}),
    ("MiniLM", "float32", 128, 128, {}),
    ("MiniLM", "float32", 16, 512, {}),
    ("MiniLM", "mixed_bfloat16", 32, 128, {}),
    ("MiniLM", "mixed_bfloat16", 32, 512, {}),
    ("MiniLM", "float32", 64, 128, {"gradient_checkpointing": True}),
    ("MiniLM", "float32", 32, 128, {"task": "masked_lm"}),
    ("MiniLM", "mixed_bfloat16", 64, 128, {"task": "masked_lm"}),
    ("MiniLM", "float32", 32, 128, {"task": "token_classification"}),
    ("MiniLM", "float32", 64, 128, {"accumulation_steps": 4}),
    ("BERT base", "float32", 2, 16, {}),
    ("BERT base", "float32", 2, 16, {"optimizer": "lamb"}),
    ("BERT base", "float32", 2, 16, {"optimizer": "adafactor"}),
    ("BERT base", "float32", 2, 16, {"optimizer": "lion"}),
    ("BERT base", "float32", 2, 16, {"optimizer": "muon"}),
    ("BERT base", "float32", 2, 16, {"average_weights": True}),
    ("BERT base", "float32", 2, 16, {"validates": True}),
    ("BERT base", "float32", 2, 16, {"accumulation_steps": 2}),
    ("BERT base", "mixed_bfloat16", 2, 16, {}),
    ("BERT base", "float32", 8, 128, {}),
    ("BERT base", "float32", 16, 256, {}),
    ("BERT base", "float32", 16, 256, {"gradient_checkpointing": True}),
    ("BERT base", "mixed_bfloat16", 16, 256, {}),
    ("BERT base", "mixed_bfloat16", 16, 256, {"gradient_checkpointing": True}),
    ("BERT base", "mixed_bfloat16", 4, 512, {}),
    ("ELECTRA small", "mixed_bfloat16", 32, 128, {}),
    ("ModernBERT base", "mixed_bfloat16", 8, 256, {}),
]


def make_task(name, dtype, length, task):
    """A task with random weights."""
    import keras_bert_zoo as kbz
    from keras_bert_zoo.config import config_class
    from keras_bert_zoo.encoders.registry import build_encoder

    family, options = CONFIGS[name]
    tokenizer = kbz.Tokenizer.from_preset("minilm_l6_en_uncased")
    encoder = build_encoder(config_class(family)(**options), dtype=dtype)
    if task == "masked_lm":
        return kbz.MaskedLM(encoder, tokenizer, max_length=length)
    if task == "token_classification":
        return kbz.TokenClassifier(encoder, tokenizer, ["PER", "LOC"], max_length=length)
    return kbz.TextClassifier(encoder, tokenizer, ["a", "b"], max_length=length)


def train(name, dtype, rows, length, *, steps, task="classification", validates=False, **options):
    """Trains for a few steps; prints the peak of the memory in bytes."""
    import keras

    keras.utils.set_random_seed(0)
    model = make_task(name, dtype, length, task)
    count = rows * steps
    texts = ["card " * length] * count
    data = {"x": texts, "y": ["a", "b"] * (count // 2)}
    if task == "masked_lm":
        data = {"x": texts}
    elif task == "token_classification":
        data = {"x": texts, "y": [[(0, 4, "PER")]] * count}
    if validates:
        data["validation_data"] = (texts[:rows], ["a"] * rows)
    model.fit(**data, batch_size=rows, epochs=1, verbose=0, **options)
    print(peak_memory() * 2**20)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="measure the rows whose name has this text")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    add_json_option(parser)
    options = parser.parse_args()
    if options.run:
        *positional, more = json.loads(options.run)
        train(*positional, steps=options.steps, **more)
        return

    rows = {}
    for run in RUNS:
        title = f"{run[0]}, {run[1]}, {run[2]} x {run[3]}"
        title += "".join(f", {name} {value}" for name, value in run[4].items())
        if options.only not in title:
            continue
        command = [sys.executable, __file__, "--steps", str(options.steps), "--run"]
        done = subprocess.run(
            [*command, json.dumps(run)], check=True, stdout=subprocess.PIPE, text=True
        )
        rows[title] = [float(done.stdout.split()[-1]) / 1e9]
        print(title, rows[title], flush=True)
    columns = {"measured, GB": ".2f"}
    report([Table("training_memory", "run", columns, rows, "GB", ["measured, GB"])], options.json)


if __name__ == "__main__":
    main()
