"""Training steps of a masked language model on sentences: bins of several against one per row.

    python tools/bench/packing.py --texts FILE

FILE has running text, such as that of WikiText-2; it is split into sentences. A step has 32 rows of
at most 128 tokens. Only tokens are counted, not padding. The engines alternate, so that other load
on the machine affects all of them equally.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

import numpy as np
import tensorflow as tf
from tables import Table, add_json_option, report
from turns import take_turns

import keras_bert_zoo as kbz
from keras_bert_zoo.training.optimizers import AdamW
from keras_bert_zoo.training.packed_rows import packed_rows
from keras_bert_zoo.training.static_shapes import batch_shape, widen_batches


def sentences(path, count):
    """Returns the first sentences of a text."""
    lines = path.read_text(encoding="utf-8").splitlines()
    parts = [part.strip() for line in lines for part in line.replace(" . ", " .\n").split("\n")]
    return [part for part in parts if part and not part.startswith("=")][:count]


def engine(task, batches):
    """Returns a function that trains on all batches, and their number of tokens."""
    batches = [(dict(inputs), labels) for inputs, labels in batches]
    optimizer = AdamW(1e-5, global_clipnorm=1.0)
    optimizer.build(task.trainable_variables)
    loss_of = task.objective().loss()

    @tf.function(reduce_retracing=True, autograph=False)
    def step(inputs, labels):
        with tf.GradientTape() as tape:
            loss = loss_of(labels, task(inputs, training=True))
        variables = task.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    def relaxed(tensor):
        return tf.TensorSpec([None, None], tensor.dtype)

    spec = tf.nest.map_structure(relaxed, batches[0])
    graph = step.get_concrete_function(*spec)

    def train():
        for inputs, labels in batches:
            graph(inputs, labels)

    return train, sum(int(tf.reduce_sum(inputs["padding_mask"])) for inputs, _ in batches)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--preset", default="minilm_l6_en_uncased")
    parser.add_argument("--dtype", choices=("float32", "mixed_bfloat16"), default="float32")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--sentences", type=int, default=4000)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=4)
    add_json_option(parser)
    options = parser.parse_args()

    texts = sentences(options.texts, options.sentences)
    engines, tokens = {}, {}
    for layout in ("packed", "padded"):
        task = kbz.MaskedLM.from_preset(
            options.preset, new_head=True, max_length=128, token_layout=layout, dtype=options.dtype
        )
        rows = task.rows(task.examples(texts), None)
        bins = packed_rows(task, rows)
        fill = bins.lengths.sum() / (len(bins) * bins.max_length)
        forms = {"one per row": (rows, False), "bins": (bins, False)}
        if layout == "padded":
            forms["one per row, 128 columns"] = (rows, True)
        for form, (source, static) in forms.items():
            batches = source.batches(batch_size=options.batch_size, seed=0).take(options.steps)
            if static:
                batches = widen_batches(batches, batch_shape(task, bins))
            name = f"{layout}, {form}"
            engines[name], tokens[name] = engine(task, batches)
    seconds = take_turns(engines, options.rounds)
    rates = {name: tokens[name] / float(np.median(times)) for name, times in seconds.items()}
    print(f"{len(texts):,} sentences, {rows.lengths.mean():.1f} tokens each; bins {fill:.1%} full")
    table = {
        name: [rate, rates[f"{name.split(',')[0]}, bins"] / rate] for name, rate in rates.items()
    }
    columns = {"tokens/s": ",.0f", "bins are faster by": ".2f"}
    report(
        [Table("packing", "layout and rows", columns, table, "tokens/s", ["tokens/s"])],
        options.json,
    )


if __name__ == "__main__":
    main()
