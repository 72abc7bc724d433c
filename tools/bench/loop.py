"""The training loop against Keras' `fit`, and two replicas against one device.

    python tools/bench/loop.py

All train one preset on the same batches, with this package's AdamW. The texts are questions of
Banking77, `--joined` of them each. Keras' `fit` runs
Keras' training step. Two replicas divide each batch and the cores of this machine. The engines
alternate, so that other load on the machine affects all of them equally.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
from tables import Table, add_json_option, report
from turns import take_turns

import keras_bert_zoo as kbz
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.tables import read_table
from keras_bert_zoo.training.compiling import build_shared, prepare_updates
from keras_bert_zoo.training.data import divided_batches
from keras_bert_zoo.training.loop import run_fit
from keras_bert_zoo.training.optimizers import AdamW
from keras_bert_zoo.training.strategies import make_strategy

BANKING77 = Path(__file__).parents[1] / "data" / "banking77" / "train.csv.gz"


class StepOfKeras(kbz.TextClassifier):
    """A classifier with the training step of Keras."""

    def train_step(self, data):
        return keras.Model.train_step(self, data)


def make(kind, options, examples, strategy):
    """Returns a compiled task and its batches."""
    names = sorted(set(examples.labels))
    with strategy.scope():
        task = kind.from_preset(options.preset, labels=names, max_length=128, dtype=options.dtype)
        task.compile(AdamW(2e-5, global_clipnorm=1.0))
    return task, task.make_dataset(examples, batch_size=options.batch_size, shuffle=False)


def our_loop(options, examples, strategy):
    """Returns a function that trains an epoch with this package's loop."""
    task, batches = make(kbz.TextClassifier, options, examples, strategy)
    batches = divided_batches(task, batches, None, options.batch_size)
    build_shared(task, batches)
    prepare_updates(task)
    return lambda: run_fit(
        task, batches, validation=None, monitor=("val_loss", "min"), patience=None, epochs=1,
        callbacks=[], verbose=0,
    )  # fmt: skip


def keras_fit(options, examples, strategy):
    """Returns a function that trains an epoch with Keras' `fit`."""
    task, batches = make(StepOfKeras, options, examples, strategy)
    return lambda: keras.Model.fit(task, batches, epochs=1, verbose=0, shuffle=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="minilm_l6_en_uncased")
    parser.add_argument("--dtype", choices=("float32", "mixed_bfloat16"), default="float32")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--joined", type=int, default=1, help="questions per text")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=8)
    add_json_option(parser)
    options = parser.parse_args()

    mirrored = make_strategy("mirrored", replicas=2)  # before TensorFlow starts
    examples = read_table(BANKING77, label="category")
    chosen = np.random.default_rng(0).permutation(len(examples))
    examples = examples.subset(chosen[: options.batch_size * options.steps])
    texts = [" ".join([text] * options.joined) for text in examples.texts]
    examples = Examples(texts, labels=list(examples.labels))
    one = make_strategy("default")
    engines = {
        "Keras' fit": keras_fit(options, examples, one),
        "this package": our_loop(options, examples, one),
        "this package, two replicas": our_loop(options, examples, mirrored),
    }
    for run in engines.values():
        run()  # traces the step
    seconds = take_turns(engines, options.rounds, ignored=0, counted=1)
    base = np.array(seconds["this package"])
    rows = {
        name: [
            1000 * float(np.median(times)) / options.steps,
            *(float(np.quantile(np.array(times) / base, q)) for q in (0.25, 0.5, 0.75)),
        ]
        for name, times in seconds.items()
    }
    title = "times this package's loop"
    columns = {"ms per step": ".1f", f"{title}, first quartile": ".2f", f"{title}, median": ".2f"}
    columns[f"{title}, third quartile"] = ".2f"
    print(
        f"{options.preset}, {options.dtype}, batch {options.batch_size}, texts of {options.joined} "
        f"questions, {options.rounds} rounds"
    )
    report([Table("loop", "loop", columns, rows, "ms", ["ms per step"])], options.json)


if __name__ == "__main__":
    main()
