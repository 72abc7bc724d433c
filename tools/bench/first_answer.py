"""Time from the start of a process to the first answer of an export, against an earlier export.

    python tools/bench/first_answer.py EXPORT [--before EXPORT] [--rounds 5]

EXPORT is the directory of a version, saved_models/NAME/1, of a model of single texts. Each round
starts one process per export, in turns. It imports TensorFlow and TensorFlow Text, loads the export
with `tf.saved_model.load`, and answers one text twice. The figures are medians in seconds, of the
time and of the processor time. The latter are steadier if other programs run.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
from pathlib import Path

from tables import Table, add_json_option, report

PROGRAM = """
import json, sys, time
steps = {}
def step(name, call):
    wall, own = time.perf_counter(), time.process_time()
    result = call()
    steps[name] = time.perf_counter() - wall, time.process_time() - own
    return result
tf = step("import", lambda: (__import__("tensorflow"), __import__("tensorflow_text"))[0])
model = step("load", lambda: tf.saved_model.load(sys.argv[1]))
serve, text = model.signatures["serving_default"], tf.constant(["My card has not arrived yet."])
step("first answer", lambda: serve(text=text))
step("second answer", lambda: serve(text=text))
print(json.dumps(steps))
"""


def measure(path: Path) -> dict[str, list[float]]:
    """Runs the program in a new process."""
    command = [sys.executable, "-c", PROGRAM, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    steps: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    steps["load + first"] = [
        sum(pair) for pair in zip(steps["load"], steps["first answer"], strict=True)
    ]
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("export", type=Path)
    parser.add_argument("--before", type=Path, help="an earlier export, for a ratio")
    parser.add_argument("--rounds", type=int, default=5)
    add_json_option(parser)
    options = parser.parse_args()

    paths = [path for path in (options.export, options.before) if path]
    rounds: list[list[dict[str, list[float]]]] = [[] for _ in paths]
    for _ in range(options.rounds):
        for index in random.sample(range(len(paths)), len(paths)):
            rounds[index].append(measure(paths[index]))
    columns = {"s": ".2f", "processor time, s": ".2f"}
    if options.before:
        columns |= {"before, s": ".2f", "before, processor time, s": ".2f", "ratio": ".2f"}
    rows = {}
    for step in rounds[0][0]:
        times = [
            [statistics.median(run[step][k] for run in runs) for k in (0, 1)] for runs in rounds
        ]
        rows[step] = [value for pair in times for value in pair]
        if options.before:
            rows[step].append(times[0][1] / times[1][1])
    table = Table("first_answer", "step", columns, rows, "s", ["s", "processor time, s"])
    report([table], options.json)


if __name__ == "__main__":
    main()
