"""Time and memory of loading a safetensors file into Keras variables, against a plain read.

    python tools/bench/loading.py [--mebibytes 400] [--rounds 15]

Writes a file with the shapes of BERT-base (dense kernels must be transposed) and reads it once into
the page cache. Each round then reads the file into one buffer with `open(..., "rb").readinto`, and
its tensors into existing Keras variables. The buffer is a new bytearray, or a new NumPy array,
which gets huge pages. The results are the ratios of the medians. Times of different runs are not
comparable. Memory is measured last, in a new process: peak growth relative to the weights.

Then `Encoder.from_preset` is measured on BERT-base, model building included. Each run is a new
process. It first loads a tiny encoder, so that the start of TensorFlow and Keras is not measured.
Then it loads the preset and reads the file plainly.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from tables import Table, add_json_option, report

from keras_bert_zoo.arrays import aligned_zeros
from keras_bert_zoo.checkpoints.formats import open_checkpoint
from keras_bert_zoo.checkpoints.loading import load_values
from keras_bert_zoo.checkpoints.safetensors import write_safetensors
from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.encoders.registry import build_encoder
from keras_bert_zoo.layers.initializers import untouched_weights
from keras_bert_zoo.presets.encoder_files import load_encoder

TINY = Path(__file__).resolve().parents[2] / "tests" / "assets" / "zoo" / "bert-encoder-plain"


class Untouched(keras.initializers.Initializer):
    """Zeros in untouched memory, without random numbers."""

    def __call__(self, shape, dtype=None):
        return tf.raw_ops.Identity(input=aligned_zeros(tuple(shape), dtype))


def write_file(directory, mebibytes):
    """Writes random tensors; kernels are 4/5 of them, as in BERT-base."""
    random = np.random.default_rng(0)
    tensors, size = {}, 0
    while size < mebibytes * 2**20:
        i = len(tensors)
        for name, shape in (
            (f"table_{i}", (2500, 768)),
            (f"layer_{i}.query.weight", (768, 768)),
            (f"layer_{i}.key.weight", (768, 768)),
            (f"layer_{i}.value.weight", (768, 768)),
            (f"layer_{i}.output.weight", (768, 768)),
            (f"layer_{i}.up.weight", (3072, 768)),
            (f"layer_{i}.down.weight", (768, 3072)),
            (f"layer_{i}.bias", (768,)),
        ):
            tensors[name] = random.standard_normal(shape, dtype=np.float32)
            size += tensors[name].nbytes
    write_safetensors(directory, tensors.items())
    return os.path.join(directory, "model.safetensors")


def is_kernel(name):
    return name.endswith(".weight")


def make_variables(source):
    return [
        keras.Variable(
            Untouched(),
            shape=source.shape(name)[::-1] if is_kernel(name) else source.shape(name),
            dtype="float32",
        )
        for name in source.names()
    ]


def load(directory, variables):
    """Loads variables; returns the seconds, opening the file included."""
    begin = time.perf_counter()
    with open_checkpoint(directory) as source:
        requests = [(name, is_kernel(name)) for name in source.names()]
        for variable, value in zip(variables, load_values(source, requests), strict=True):
            variable.assign(value)
    return time.perf_counter() - begin


def read_plainly(path, make_buffer):
    begin = time.perf_counter()
    buffer = make_buffer(os.path.getsize(path))
    view = memoryview(buffer)
    with open(path, "rb", buffering=0) as file:
        while len(view):
            view = view[file.readinto(view) :]
    return time.perf_counter() - begin


def peak_bytes():
    # Not ru_maxrss, which a child process inherits from its parent.
    with open("/proc/self/status", encoding="ascii") as file:
        line = next(line for line in file if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def measure_memory(directory):
    """Prints the peak growth of this process while it creates and loads variables."""
    keras.Variable(np.zeros(3, np.float32))  # starts TensorFlow
    before = peak_bytes()
    with open_checkpoint(directory) as source:
        variables = make_variables(source)
    load(directory, variables)
    print(peak_bytes() - before)


def write_preset(directory):
    """Saves BERT-base with zero weights as a preset."""
    with untouched_weights():
        build_encoder(EncoderConfig()).save(directory)


def measure_preset(directory):
    """Prints the seconds of a plain read and of `from_preset`, its peak growth, and the size."""
    load_encoder(TINY)
    before = peak_bytes()
    begin = time.perf_counter()
    encoder = load_encoder(directory)
    seconds = time.perf_counter() - begin
    peak = peak_bytes() - before
    path = os.path.join(directory, "model.safetensors")
    plain = statistics.median(
        read_plainly(path, lambda count: np.empty(count, np.uint8)) for _ in range(3)
    )
    print(plain, seconds, peak, sum(variable.numpy().nbytes for variable in encoder.weights))


def run_process(*arguments):
    """Runs this file in a new process; returns the numbers that it prints."""
    finished = subprocess.run(
        [sys.executable, __file__, *arguments], capture_output=True, text=True, check=True
    )
    return [float(number) for number in finished.stdout.split()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mebibytes", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--presets", type=int, default=5, help="number of runs of from_preset")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--preset-at", help=argparse.SUPPRESS)
    add_json_option(parser)
    options = parser.parse_args()
    if options.memory_of:
        measure_memory(options.memory_of)
        return
    if options.preset_at:
        measure_preset(options.preset_at)
        return
    with tempfile.TemporaryDirectory() as directory:
        path = write_file(directory, options.mebibytes)
        size = os.path.getsize(path)
        times = {"plain, bytearray": [], "plain, NumPy array": [], "into Keras variables": []}
        for _ in range(options.rounds):
            with open_checkpoint(directory) as source:
                variables = make_variables(source)
            times["into Keras variables"].append(load(directory, variables))
            del variables
            times["plain, bytearray"].append(read_plainly(path, bytearray))
            times["plain, NumPy array"].append(
                read_plainly(path, lambda count: np.empty(count, np.uint8))
            )
        print(f"{size / 2**20:,.0f} MiB, {options.rounds} rounds")
        mebibytes = size / 2**20
        rows = {
            f"{name}, {mebibytes:,.0f} MiB": [statistics.median(seconds), min(seconds), None]
            for name, seconds in times.items()
        }
        (peak,) = run_process("--memory-of", directory)
        rows[f"into Keras variables, {mebibytes:,.0f} MiB"][2] = peak / size
    with tempfile.TemporaryDirectory() as directory:
        write_preset(directory)
        runs = [run_process("--preset-at", directory) for _ in range(options.presets)]
    plain, _, peak, weights = (statistics.median(values) for values in zip(*runs, strict=True))
    mebibytes = weights / 2**20
    rows[f"plain, NumPy array, {mebibytes:,.0f} MiB"] = [plain, min(run[0] for run in runs), None]
    rows[f"Encoder.from_preset, {mebibytes:,.0f} MiB"] = [
        statistics.median(run[1] for run in runs),
        min(run[1] for run in runs),
        peak / weights,
    ]
    columns = {"median, s": ".2f", "least, s": ".2f", "peak memory / weights": ".2f"}
    report([Table("loading", "way", columns, rows, "s", ["median, s"])], options.json)


if __name__ == "__main__":
    main()
