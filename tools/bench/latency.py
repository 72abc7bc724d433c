"""Time of one request with one text, by its length: exports against peers.

    python tools/bench/latency.py [--preset NAME_OR_DIR] [--tokens 14 64 256] [--rounds 20]
    TF_NUM_INTRAOP_THREADS=1 python tools/bench/latency.py --data DIR

The second form is the fastest setting for short requests: each operation of TensorFlow uses one
thread. With --data, a folder as for serving.py, there are also int8 engines, calibrated on 200 of
its texts.

Needs the extra `parity`. All engines compute the mean-pooled embedding of a text, tokenization
included. They take turns in a random order. In each turn, an engine answers a few requests in a
row. The results are the median of their times, and the least cosine to float32. Times of different
runs are not comparable.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import transformers
from peers import CALIBRATED, PEERS, export_engine, peer_engines, unit_mean
from serving import calibration_texts
from tables import Table, add_json_option, report
from turns import take_turns

import keras_bert_zoo as kbz

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
    parser.add_argument("--peers", nargs="*", choices=PEERS)
    parser.add_argument("--data", type=Path, help="texts to calibrate int8 engines")
    parser.add_argument("--before", type=Path, help="an earlier export, for a ratio")
    add_json_option(parser)
    options = parser.parse_args()
    if not options.data and CALIBRATED in (options.peers or []):
        parser.error(f"{CALIBRATED} needs --data, texts to calibrate it")

    task = kbz.TextEmbedder.from_preset(options.preset, max_length=max(options.tokens))
    engines = {}
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        calibration = calibration_texts(options.data) if options.data else []
        calibrated = {"bfloat16": {}, "float32": {}}
        if calibration:
            calibrated["int8"] = {"calibration": calibration}
        for dtype, more in calibrated.items():
            path = task.export(directory / dtype, dtype=dtype, **more).path
            engines[f"this package, {dtype}"] = export_engine(path, "embedding")
        if options.before:
            engines["this package, before"] = export_engine(options.before, "embedding")
        task.save(directory / "huggingface")
        engines |= peer_engines(
            directory / "huggingface",
            transformers.AutoModel,
            unit_mean,
            max_length=max(options.tokens),
            names=options.peers,
            calibration=calibration,
        )
    columns = {f"{count} tokens, ms": ".1f" for count in options.tokens}
    measured = [measure(engines, task, text_of(count), options.rounds) for count in options.tokens]
    rows = {
        name: [
            *(1e3 * seconds[name] for seconds, _ in measured),
            min(cosines[name] for _, cosines in measured),
        ]
        for name in engines
    }
    print(f"{options.preset}, one text per request, {options.rounds} rounds")
    table = Table(
        "latency", "engine", columns | {"least cosine": ".4f"}, rows, "ms", list(columns),
        logarithmic=True,
    )  # fmt: skip
    report([table], options.json)


def measure(engines, task, text, rounds):
    """Returns the medians of the seconds and the cosines to float32 in Python, by engine."""
    reference = task.predict([text])["embedding"][0]
    cosines = {}
    for name, engine in engines.items():
        for _ in range(5):
            embedding = engine([text])[0]
        cosines[name] = float(embedding @ reference) / float(
            np.linalg.norm(embedding) * np.linalg.norm(reference)
        )
    runs = {name: lambda engine=engine: engine([text]) for name, engine in engines.items()}
    seconds = take_turns(runs, rounds, ignored=IGNORED, counted=COUNTED)
    return {name: float(np.median(times)) for name, times in seconds.items()}, cosines


if __name__ == "__main__":
    main()
