"""Time of one request with one text, by its length: exports against peers.

    python tools/bench/latency.py [--preset NAME_OR_DIR] [--tokens 14 64 256] [--rounds 20]
    TF_NUM_INTRAOP_THREADS=1 python tools/bench/latency.py --data DIR

The second form is the fastest setting for short requests: each operation of TensorFlow uses one
thread. With --data, a folder as for serving.py, there is also an int8 export, calibrated on 200 of
its texts.

Needs the extra `parity`. All engines compute the mean-pooled embedding of a text, tokenization
included. They take turns in a random order, so that other load on the machine affects all of them
equally. In each turn, an engine answers a few requests in a row. The first ones don't count: the
threads of the previous engine still wait for work, and use the cores. The result is the median of
their times, and the ratio to the first engine. Times of different runs are not comparable.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path

import numpy as np
import transformers
from peers import PEERS, export_engine, peer_engines, unit_mean
from serving import calibration_texts

import keras_bert_zoo as kbz
from keras_bert_zoo.cli.runtime import processor

IGNORED, COUNTED = 3, 5  # requests per turn
WORDS = "how do i activate my new card please it has not arrived at my address yet".split()


def text_of(tokens):
    """A text of this many tokens, with [CLS] and [SEP]; each word is one token of BERT's."""
    return " ".join((WORDS * tokens)[: tokens - 2])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="minilm_l6_en_uncased")
    parser.add_argument("--tokens", type=int, nargs="+", default=[14, 64, 256])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS)
    parser.add_argument("--data", type=Path, help="texts to calibrate an int8 export")
    parser.add_argument("--before", type=Path, help="an earlier export, for a ratio")
    options = parser.parse_args()

    task = kbz.TextEmbedder.from_preset(options.preset, max_length=max(options.tokens))
    engines = {}
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        calibrated = {"bfloat16": {}, "float32": {}}
        if options.data:
            calibrated["int8"] = {"calibration": calibration_texts(options.data)}
        for dtype, more in calibrated.items():
            path = task.export(directory / dtype, dtype=dtype, **more).path
            engines[f"export {dtype}"] = export_engine(path, "embedding")
        if options.before:
            engines["export before"] = export_engine(options.before, "embedding")
        task.save(directory / "huggingface")
        engines |= peer_engines(
            directory / "huggingface",
            transformers.AutoModel,
            unit_mean,
            max_length=max(options.tokens),
            names=options.peers,
        )
    print(f"{options.preset}, one text per request, {options.rounds} rounds, {processor()}")
    print(f"{'engine':22}" + "".join(f"{count:>7} tokens  ratio" for count in options.tokens))
    columns = [measure(engines, task, text_of(count), options) for count in options.tokens]
    first = next(iter(engines))
    for name in engines:
        cells = [
            f"{1e3 * column[name][0]:11.2f} ms{column[name][0] / column[first][0]:7.2f}"
            for column in columns
        ]
        worst = min(column[name][1] for column in columns)
        print(f"{name:22}{''.join(cells)}   cosine {worst:.4f}")


def measure(engines, task, text, options):
    """Returns the median of the seconds and the cosine to float32 in Python, for each engine."""
    reference = task.predict([text])["embedding"][0]
    seconds = {name: [] for name in engines}
    cosines = {}
    for name, engine in engines.items():
        for _ in range(5):
            embedding = engine([text])[0]
        cosines[name] = float(embedding @ reference) / float(
            np.linalg.norm(embedding) * np.linalg.norm(reference)
        )
    generator = random.Random(0)
    for _ in range(options.rounds):
        for name in generator.sample(list(engines), len(engines)):
            for request in range(IGNORED + COUNTED):
                begin = time.perf_counter()
                engines[name]([text])
                if request >= IGNORED:
                    seconds[name].append(time.perf_counter() - begin)
    return {name: (float(np.median(seconds[name])), cosines[name]) for name in engines}


if __name__ == "__main__":
    main()
