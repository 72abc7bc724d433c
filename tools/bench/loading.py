"""Time and memory of reading a safetensors file into Keras variables, against plainly reading it.

    python tools/bench/loading.py [--mebibytes 400] [--rounds 15]

Writes a file of BERT-base's shapes (dense kernels must be transposed on the way), reads it once so
that the page cache has it, and then, round after round, in turns: the file into one buffer with
`open(..., "rb").readinto` (into a fresh bytearray, and into a fresh NumPy array, which gets huge
pages), and its tensors into Keras variables that exist already. The ratios of the medians are the
result; times of one run cannot be compared with times of another. Memory is measured last, in a
process of its own: its peak over what it had before reading, as a multiple of the weights.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from keras_bert_zoo.checkpoints.arrays import aligned_zeros
from keras_bert_zoo.checkpoints.loading import load_values
from keras_bert_zoo.checkpoints.safetensors_files import write_safetensors
from keras_bert_zoo.checkpoints.tensors import open_checkpoint


class Untouched(keras.initializers.Initializer):
    """Zeros whose memory is not touched, let alone filled with random numbers."""

    def __call__(self, shape, dtype=None):
        return tf.raw_ops.Identity(input=aligned_zeros(tuple(shape), dtype))


def write_file(directory, mebibytes):
    """Kernels are 4/5 of BERT-base; here as well."""
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
    """Reads into variables; returns the seconds it took, opening included."""
    begin = time.perf_counter()
    with open_checkpoint(directory) as source:
        wanted = [(name, is_kernel(name)) for name in source.names()]
        for variable, value in zip(variables, load_values(source, wanted), strict=True):
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
    # Not ru_maxrss, which a child takes over from the process that started it.
    with open("/proc/self/status", encoding="ascii") as file:
        line = next(line for line in file if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def measure_memory(directory):
    """Prints the peak growth of this process while variables are made and loaded."""
    keras.Variable(np.zeros(3, np.float32))  # TensorFlow has started
    before = peak_bytes()
    with open_checkpoint(directory) as source:
        variables = make_variables(source)
    load(directory, variables)
    print(peak_bytes() - before)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mebibytes", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        measure_memory(options.memory_of)
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
        print(f"{size / 2**20:,.0f} MiB, {options.rounds} rounds, {os.cpu_count()} cores")
        ours = statistics.median(times["into Keras variables"])
        print(f"{'':22}{'median s':>10}{'least s':>10}{'ours / it':>11}")
        for name, seconds in times.items():
            median = statistics.median(seconds)
            print(f"{name:22}{median:>10.3f}{min(seconds):>10.3f}{ours / median:>11.2f}")
        finished = subprocess.run(
            [sys.executable, __file__, "--memory-of", directory],
            capture_output=True,
            text=True,
            check=True,
        )
        print(f"peak memory: {int(finished.stdout) / size:.2f} x the weights")


if __name__ == "__main__":
    main()
