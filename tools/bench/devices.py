"""Time of one text on a device's runtime: LiteRT files against ONNX Runtime, token ids in.

    python tools/bench/devices.py [--preset NAME_OR_DIR] [--tokens 14 64 256] [--rounds 25]

Needs the extras `litert` and `parity`. All engines compute the logits of a classifier with 77
labels and random weights in its head, on one and on two threads. They take turns in a random order.
The results are medians. Times of different runs are not comparable.
"""

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import onnxruntime
import transformers
from peers import peer_runs
from tables import Table, add_json_option, report
from turns import take_turns

import keras_bert_zoo as kbz

PEERS = {
    "ONNX Runtime float32": "model.onnx",
    "ONNX Runtime int8 (dynamic)": "int8.onnx",
}
IGNORED, COUNTED = 3, 5  # requests per turn


def batch_of(tokens):
    """One row of token ids, under LiteRT's names and those of ONNX."""
    ids = np.random.default_rng(0).integers(1000, 20000, (1, tokens)).astype(np.int32)
    ours = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": 0 * ids + 1}
    names = ("input_ids", "token_type_ids", "attention_mask")
    theirs = dict(zip(names, (array.astype(np.int64) for array in ours.values()), strict=True))
    return ours, theirs


def onnx_session(path, threads):
    """A session of ONNX Runtime with a number of threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="minilm_l6_en_uncased")
    parser.add_argument("--tokens", type=int, nargs="+", default=[14, 64, 256])
    parser.add_argument("--rounds", type=int, default=25)
    add_json_option(parser)
    options = parser.parse_args()

    labels = [f"label {number}" for number in range(77)]
    task = kbz.TextClassifier.from_preset(options.preset, labels=labels, max_length=256)
    columns, rows = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        task.save(directory / "huggingface")
        kind = transformers.AutoModelForSequenceClassification
        example = {name: np.repeat(ids, 2, axis=0) for name, ids in batch_of(7)[1].items()}
        peer_runs(directory / "huggingface", kind, example, list(PEERS))  # writes the files
        for dtype in ("float32", "int8"):
            path = directory / f"{dtype}.tflite"
            task.export(path, "litert", dtype=dtype, input="ids", pair=False)
        for threads in (1, 2):
            for tokens in options.tokens:
                ours, theirs = batch_of(tokens)
                engines = {}
                for dtype in ("float32", "int8"):
                    model = kbz.export.litert_interpreter(
                        directory / f"{dtype}.tflite", threads=threads
                    )
                    engines[f"LiteRT {dtype}"] = lambda model=model, x=ours: model(**x)
                for name, file in PEERS.items():
                    session = onnx_session(directory / "huggingface" / file, threads)
                    engines[name] = lambda session=session, x=theirs: session.run(None, x)
                scores = engines["LiteRT float32"]()["scores"]
                logits = engines["ONNX Runtime float32"]()[0]
                assert scores.argmax() == logits.argmax()
                seconds = take_turns(engines, options.rounds, ignored=IGNORED, counted=COUNTED)
                columns[f"{tokens} tokens, {threads} thread{'s' * (threads > 1)}"] = ".2f"
                for name, times in seconds.items():
                    rows.setdefault(name, []).append(1e3 * float(np.median(times)))
    print(f"{options.preset}, one text per request, {options.rounds} rounds; milliseconds")
    plotted = [title for title in columns if title.startswith(str(options.tokens[0]))]
    table = Table("devices", "engine", columns, rows, "ms", plotted, logarithmic=True)
    report([table], options.json)


if __name__ == "__main__":
    main()
