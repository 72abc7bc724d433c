"""Peak memory of a process that answers requests of one megabyte with exports.

    python tools/bench/memory.py [--preset NAME_OR_DIR] [--megabytes 1] [--dtype float32]

An untrained QuestionAnswerer and an untrained TokenClassifier are exported. For each, a new process
without Python's TensorFlow loads the export (c_session.py), answers a short request and then a long
one: a question about a context of this size, or a text of this size. The result is the peak of its
resident memory, and the time of each step.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from c_session import CSession, describe
from tables import Table, add_json_option, report

STEPS = "loaded", "short request", "long request"
SENTENCE = "The card that I ordered in March 2024 has still not arrived at my address in Leeds. "


def peak_memory():
    """The peak of this process's memory so far, in MiB."""
    # Not `ru_maxrss`: a new process inherits that of its parent.
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def answer(path, names, megabytes):
    """Runs in the new process; prints the memory in MiB and the seconds of each step."""
    begin = time.perf_counter()
    session = CSession(path, names)
    print(peak_memory(), time.perf_counter() - begin)
    text = SENTENCE * int(megabytes * 1_000_000 / len(SENTENCE))
    for value in (SENTENCE, text):
        begin = time.perf_counter()
        inputs = {"text": [value], "question": ["Where?"], "context": [value]}
        session.run({key: inputs[key] for key in session.inputs})
        print(peak_memory(), time.perf_counter() - begin)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="minilm_l6_en_uncased")
    parser.add_argument("--megabytes", type=float, default=1.0)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--export", nargs=2, help=argparse.SUPPRESS)
    add_json_option(parser)
    options = parser.parse_args()
    if options.export:
        answer(*options.export, options.megabytes)
        return

    import keras_bert_zoo as kbz

    print(f"{options.preset}, {options.dtype}, {options.megabytes} MB")
    tasks = {
        "QuestionAnswerer": kbz.QuestionAnswerer.from_preset(options.preset, new_head=True),
        "TokenClassifier": kbz.TokenClassifier.from_preset(
            options.preset, labels=["person", "place"]
        ),
    }
    rows = {}
    for name, task in tasks.items():
        with tempfile.TemporaryDirectory() as folder:
            export = task.export(f"{folder}/model", dtype=options.dtype)
            arguments = ["--export", export.path, describe(export.path)]
            arguments += ["--megabytes", options.megabytes]
            command = [sys.executable, __file__, *map(str, arguments)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        for step, line in zip(STEPS, done.stdout.splitlines(), strict=True):
            rows[f"{name}, {step}"] = [float(value) for value in line.split()]
    columns = {"peak memory, MiB": ",.0f", "s": ".1f"}
    report([Table("memory", "step", columns, rows, "MiB", ["peak memory, MiB"])], options.json)


if __name__ == "__main__":
    main()
