"""Inference speed of the encoder against keras-hub: same weights, same ids, one run.

    python tools/bench/encoder.py [--preset DIR_OR_NAME] [--batch-size 32] [--length 128]

Needs only the dependencies of this package. The engines alternate in each round, so that other load
on the machine affects all of them equally. The result is the ratio of the medians. Times of
different runs are not comparable.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import keras_hub
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

import keras_bert_zoo as kbz
from keras_bert_zoo.presets.resolve import find_preset


def compiled(model, inputs, *, frozen=False):
    """A model as one graph function; if `frozen`, variables become constants."""
    signature = {k: tf.TensorSpec([None, None], tf.int32, name=k) for k in inputs}
    function = tf.function(
        lambda batch: model(batch, training=False)["sequence_output"], input_signature=[signature]
    )
    if not frozen:
        return lambda: function(inputs)
    concrete = convert_variables_to_constants_v2(function.get_concrete_function())
    names = [t.name.split(":")[0] for t in concrete.inputs]
    ordered = [next(v for k, v in inputs.items() if name.endswith(k)) for name in names]
    return lambda: concrete(*ordered)[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="minilm_l6_en_uncased")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()

    directory = str(find_preset(options.preset))
    vocabulary = kbz.Tokenizer.from_preset(directory).vocabulary_size
    shape = (options.batch_size, options.length)
    ids = np.random.default_rng(0).integers(1000, vocabulary, shape).astype("int32")
    ours = {
        "token_ids": tf.constant(ids),
        "segment_ids": tf.zeros(shape, tf.int32),
        "padding_mask": tf.ones(shape, tf.int32),
    }
    print(f"{options.preset}, batch {shape[0]}, length {shape[1]}, {options.rounds} rounds")
    print(f"{'dtype':9}{'engine':34}{'sequences/s':>12}{'ratio':>8}{'difference':>12}")
    for dtype in ("float32", "bfloat16"):
        policy = "float32" if dtype == "float32" else "mixed_bfloat16"
        hub = keras_hub.models.BertBackbone.from_preset(directory, dtype=policy)
        packed = kbz.Encoder.from_preset(directory, dtype=policy, token_layout="packed")
        padded = kbz.Encoder.from_preset(directory, dtype=policy, token_layout="padded")
        engines = {
            "keras-hub BertBackbone": compiled(hub, ours),
            "this package, packed": compiled(packed, ours),
            "this package, padded": compiled(padded, ours),
            "this package, packed, frozen": compiled(packed, ours, frozen=True),
            "this package, padded, frozen": compiled(padded, ours, frozen=True),
        }
        reference = None
        times = {name: [] for name in engines}
        for _ in range(3):
            outputs = {name: run().numpy() for name, run in engines.items()}
        for _ in range(options.rounds):
            for name, run in engines.items():
                begin = time.perf_counter()
                run().numpy()
                times[name].append(time.perf_counter() - begin)
        reference = outputs["keras-hub BertBackbone"].astype("float32")
        base = np.median(times["keras-hub BertBackbone"])
        for name, seconds in times.items():
            difference = np.abs(outputs[name].astype("float32") - reference).max()
            median = np.median(seconds)
            print(
                f"{dtype:9}{name:34}{shape[0] / median:12.1f}{base / median:8.2f}{difference:12.1e}"
            )
        keras.backend.clear_session()


if __name__ == "__main__":
    main()
