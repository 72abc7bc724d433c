"""Kills processes while they write, and checks that the directory can always be loaded.

    python -m tools.kills lines                 kill at every line that replaces a directory
    python -m tools.kills save 200              SIGKILL at random moments of Task.save
    python -m tools.kills save 200 --two-steps  the same without exchange of directories
    python -m tools.kills checkpoints 50        SIGKILL at random moments of a run's checkpoints
    python -m tools.kills export 50             SIGKILL at random moments of Task.export
    python -m tools.kills exports-at-once 20    pairs of exports to one path at the same time

After a kill the path must load the earlier model or the new one, with its weights and predictions.
The next save must leave no hidden directory. Each kill prints a line to standard error. The counts
of all checks are printed to standard output. The exit status is 1 if a check failed. `lines` takes
seconds without TensorFlow. `save` and `export` build the models and kill forks that only write. The
same --seed gives the same moments, as far as the speed of the machine allows.
"""

from __future__ import annotations

import argparse
import errno
import itertools
import json
import logging
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_bert_zoo.directories import renames, replacing
from keras_bert_zoo.directories.replacing import find_directory, replace_directory
from keras_bert_zoo.errors import CheckpointError

TEXTS = ["the card has not arrived!", "天气 ünïcode", ""]
SAVES_IN_A_ROW = 4  # saves per fork; the kill comes during them
PATIENCE = 180  # seconds
LOADS_EVERY = 10  # kills; all models are compared by bytes, one in ten is also loaded
VERIFIED_EVERY = 5  # pairs; others skip the verification, which writes nothing


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "check", choices=("lines", "save", "checkpoints", "export", "exports-at-once")
    )
    parser.add_argument("count", nargs="?", type=int, default=20, help="kills, or pairs")
    parser.add_argument("--every", type=int, default=1, help="lines: kill at every Nth line")
    parser.add_argument("--two-steps", action="store_true", help="no exchange of directories")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.getLogger("keras_bert_zoo").setLevel(logging.ERROR)  # recoveries log warnings
    if args.two_steps:
        forbid_renames()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kills_") as folder:
        if args.check == "lines":
            figures = kill_at_lines(Path(folder), args.every, args.seed)
        else:
            run = {
                "save": kill_saves, "checkpoints": kill_checkpoints, "export": kill_exports,
                "exports-at-once": export_pairs,
            }  # fmt: skip
            figures = run[args.check](Path(folder), args.count, random.Random(args.seed))
    figures["seconds"] = round(time.monotonic() - begin, 1)
    print(json.dumps(figures))
    return 1 if figures.get("faults") else 0


def forbid_renames() -> None:
    """Makes renameat2 fail as on a system without it."""

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    renames._renameat2 = refuse


# === Every line ===


def kill_at_lines(folder: Path, every: int, seed: int) -> dict[str, Any]:
    """Kills a process before its first, second, ... line of `directories`."""
    os.fsync = lambda _: None  # only power cuts need it, not kills
    target = folder / "model"
    figures: dict[str, Any] = {"kills": 0, "missing": 0, "found": Counter(), "faults": []}
    write_files(target, "old")
    (target / "notes.txt").write_text("mine")
    (target / "plots").mkdir()
    (target / "plots" / "loss.png").write_text("mine")
    for i in itertools.count(seed % every, every):
        process = in_child(lambda line=i: die_at_line(line, lambda: write_files(target, "new")))
        status = os.waitpid(process, 0)[1]
        figures["missing"] += not target.exists()
        model = read_files(find_directory(target))
        figures["found"][model] += 1
        if model not in ("old", "new"):
            figures["faults"].append(f"line {i}: {model}")
        write_files(target, "old")
        rest = sorted(path.name for path in folder.iterdir())
        if rest != ["model"] or read_files(target) != "old":
            figures["faults"].append(f"line {i}: after the next save {rest}, {read_files(target)}")
        if not os.WIFSIGNALED(status):
            return figures
        figures["kills"] += 1


def write_files(target: Path, text: str) -> None:
    with replace_directory(target, CheckpointError, marker="config.json") as folder:
        for name in ("config.json", "model.safetensors"):
            (folder / name).write_text(text)


def read_files(target: Path) -> str:
    """The model in a directory: "old", "new", or an error."""
    try:
        texts = {(target / name).read_text() for name in ("config.json", "model.safetensors")}
        others = [(target / name).read_text() for name in ("notes.txt", "plots/loss.png")]
    except OSError as error:
        return str(error)
    return texts.pop() if len(texts) == 1 and others == ["mine", "mine"] else f"{texts} {others}"


def die_at_line(number: int, write: Callable[[], None]) -> None:
    """Runs a write up to a line of the package."""
    left = number
    package = os.path.dirname(replacing.__file__)

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.startswith(package):
            return None
        if event == "line":
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
        return trace

    sys.settrace(trace)
    write()


def in_child(run: Callable[[], object]) -> int:
    """Runs a function in a fork of this process; returns its id."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        run()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


# === Saves ===


def kill_saves(folder: Path, count: int, moments: random.Random) -> dict[str, Any]:
    """Forks a process with two tasks, which saves them alternately, and kills the fork."""
    from keras_bert_zoo import TextClassifier

    tasks = make_tasks(folder)
    scores = {name: task.predict(TEXTS)["scores"] for name, task in tasks.items()}
    models = folder / "models"
    models.mkdir()
    target = models / "model"

    def save() -> None:
        for name in "BA" * (SAVES_IN_A_ROW // 2):
            tasks[name].save(target)

    def saved_model(load: bool) -> str:
        """The name of the task with the same files and, with `load`, the same predictions."""
        files = files_of(find_directory(target))
        names = [name for name in tasks if files == files_of(folder / name)]
        if names and load:
            answers = TextClassifier.load(target).predict(TEXTS)["scores"]
            return names[0] if (abs(answers - scores[names[0]]) < 1e-5).all() else "other answers"
        return names[0] if names else f"files that differ: {sorted(files)}"

    save()
    begin = time.monotonic()
    save()
    length = time.monotonic() - begin
    figures: dict[str, Any] = {
        "kills": 0, "save_ms": round(1000 * length / SAVES_IN_A_ROW, 1), "missing": 0,
        "left_hidden": 0, "found": Counter(), "loaded": 0, "faults": [],
    }  # fmt: skip
    while figures["kills"] < count:
        process = in_child(save)
        time.sleep(moments.uniform(0, length))
        if not kill(process):
            continue
        figures["kills"] += 1
        figures["missing"] += not target.exists()
        figures["left_hidden"] += len(list(models.iterdir())) > target.exists()
        load = figures["kills"] % LOADS_EVERY == 1
        figures["loaded"] += load
        model = saved_model(load)
        figures["found"][model] += 1
        report(f"kill {figures['kills']}: {model}")
        tasks["A"].save(target)
        rest = sorted(path.name for path in models.iterdir())
        if model not in tasks or rest != ["model"] or saved_model(False) != "A":
            figures["faults"].append(f"kill {figures['kills']}: {model}; then {rest}")
    return figures


def make_tasks(folder: Path) -> dict[str, Any]:
    """Two small classifiers with different weights, saved under their names in a folder."""
    import keras

    from keras_bert_zoo import TextClassifier
    from tests.export.conftest import make_task

    tasks = {}
    for seed, name in enumerate("AB"):
        base = make_task("single_label")
        task = TextClassifier(base.encoder, base.tokenizer, base.labels, max_length=48)
        for variable in task.weights:
            variable.assign_add(keras.random.normal(variable.shape, stddev=0.3, seed=seed))
        task.save(folder / name)
        tasks[name] = task
    return tasks


def files_of(directory: Path) -> dict[str, bytes]:
    if not directory.is_dir():
        return {}
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def kill(process: int) -> bool:
    """Kills a fork; returns whether it was still running."""
    os.kill(process, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1])


# === Checkpoints of a run ===


def kill_checkpoints(folder: Path, count: int, moments: random.Random) -> dict[str, Any]:
    """Forks a process that writes checkpoints like a run, and kills the fork.

    All values of a checkpoint are its number, so that a mixture of two is seen.
    """
    import numpy as np

    from keras_bert_zoo import Checkpoints
    from keras_bert_zoo.training import run_checkpoints
    from keras_bert_zoo.training.checkpoints import STATE_FILE, find_position, saved_steps
    from tests.tasks.every_task import make

    checkpoints = Checkpoints(folder / "run", keep=2)
    task, x, y = make("classification")
    task.fit(x, y, epochs=1, batch_size=7, verbose=0, checkpoints=checkpoints)
    (first,) = saved_steps(checkpoints.directory)
    state = json.loads((first / STATE_FILE).read_text())
    arrays = [np.empty(size, np.float32) for size in (2_000_000, 1000, 1)]

    def write(number: int) -> None:
        for array in arrays:
            array.fill(number)
        values = {"state": arrays, "metric": []}
        path = checkpoints.directory / f"step-{number:08d}"
        run_checkpoints._write_step(path, values, state | {"epoch": number})
        for old in saved_steps(checkpoints.directory, complete=False)[: -checkpoints.keep]:
            shutil.rmtree(old, ignore_errors=True)

    def newest() -> tuple[int, bool]:
        """The number of the newest checkpoint, and whether it is whole."""
        position = find_position(checkpoints, resume=True)
        assert position is not None
        read = run_checkpoints._read(position.path, "state")
        whole = [array.shape for array in read] == [array.shape for array in arrays]
        return position.epoch, whole and all((array == position.epoch).all() for array in read)

    number = 1
    write(number + 1)
    begin = time.monotonic()
    write(number + 2)
    length = time.monotonic() - begin
    number += 2
    figures: dict[str, Any] = {
        "kills": 0, "save_ms": round(1000 * length, 1), "new": 0, "left_hidden": 0, "faults": [],
    }  # fmt: skip
    while figures["kills"] < count:

        def write_three(first: int = number) -> None:
            for step in range(3):
                write(first + 1 + step)

        process = in_child(write_three)
        time.sleep(moments.uniform(0, 3 * length))
        if not kill(process):
            number = newest()[0]
            continue
        figures["kills"] += 1
        found, whole = newest()
        figures["new"] += found > number
        names = [path.name for path in checkpoints.directory.iterdir()]
        figures["left_hidden"] += any(not name.startswith("step-") for name in names)
        report(f"kill {figures['kills']}: checkpoint {found}")
        write(found + 1)
        rest = sorted(path.name for path in checkpoints.directory.iterdir())
        expected = f"step-{found + 1:08d}"
        hidden = [name for name in rest if not name.startswith("step-")]
        if not whole or found < number or rest[-1] != expected or hidden:
            figures["faults"].append(f"kill {figures['kills']}: {found}; then {rest}")
        number = found + 1
    return figures


# === Exports ===


class Worker:
    """A fork with a pipe. Its parent has imported TensorFlow, but must not have computed."""

    def __init__(self, run: Callable[[Any], None]) -> None:
        import tensorflow  # noqa: F401  (once for all forks)

        import keras_bert_zoo.export.saved_model
        import keras_bert_zoo.tasks.text_classifier  # noqa: F401

        self._pipe, theirs = multiprocessing.Pipe()
        self.process = in_child(lambda: run(theirs))

    def request(self, value: Any) -> Any:
        self._pipe.send(value)
        return self.answer()

    def answer(self) -> Any:
        if not self._pipe.poll(PATIENCE):
            raise TimeoutError(f"a process has not answered after {PATIENCE} seconds")
        return self._pipe.recv()


def start_judge(folder: Path) -> Worker:
    """A process with the tasks, which answers the task of an export."""

    def run(pipe: Any) -> None:
        tasks = make_tasks(folder)
        scores = {name: task.predict(TEXTS)["scores"] for name, task in tasks.items()}
        pipe.send("ready")
        while True:
            pipe.send(answers_of(pipe.recv(), scores))

    judge = Worker(run)
    judge.answer()
    return judge


def start_export(folder: Path, name: str, base: Path, *, verify: bool) -> Worker:
    """A process that loads a task, exports it on request, and answers the version."""

    def run(pipe: Any) -> None:
        from keras_bert_zoo import TextClassifier
        from keras_bert_zoo.export import saved_model

        if not verify:
            saved_model.Verifier = NoVerifier
        task = TextClassifier.load(folder / name)
        pipe.send("ready")
        pipe.recv()
        begin = time.monotonic()
        version = task.export(base).version
        pipe.send((version, time.monotonic() - begin))

    worker = Worker(run)
    worker.answer()
    return worker


class NoVerifier:
    """Replaces the verification of an export, which writes nothing."""

    def __enter__(self) -> NoVerifier:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def check(self, *_: Any, **__: Any) -> Any:
        from keras_bert_zoo.export.verify import Verification

        return Verification(0, 0.0)


def kill_exports(folder: Path, count: int, moments: random.Random) -> dict[str, Any]:
    """Forks a process with two tasks and their graphs, which exports them, and kills the fork."""
    base = folder / "exports" / "model"
    tasks, scores = start_exports(folder, base)
    figures: dict[str, Any] = {
        "kills": 0, "exports": 0, "left_hidden": 0, "found": Counter(), "faults": []
    }  # fmt: skip
    checked: set[str] = set()

    def check(moment: str) -> None:
        names = {path.name for path in base.iterdir()}
        versions = {name for name in names if name.isdigit()}
        if not checked <= versions:
            figures["faults"].append(f"{moment}: {checked - versions} gone")
        for version in sorted(versions - checked):
            task = answers_of(base / version, scores)
            figures["found"][task] += 1
            if task not in tasks:
                figures["faults"].append(f"{moment}: {version}: {task}")
        checked.update(versions)
        figures["left_hidden"] += len(names) > len(versions)
        report(f"{moment}: {len(versions)} versions, {len(names) - len(versions)} hidden folders")

    def whole_export(name: str) -> float:
        begin = time.monotonic()
        process = in_child(lambda: tasks[name].export(base))
        while not (ended := os.waitpid(process, os.WNOHANG))[0]:
            if time.monotonic() - begin > PATIENCE:
                kill(process)
                raise TimeoutError(f"an export has not ended after {PATIENCE} seconds")
            time.sleep(0.005)
        if ended[1]:
            figures["faults"].append(f"an export ended with status {ended[1]}")
        figures["exports"] += 1
        return time.monotonic() - begin

    check("the export before all kills")
    length = max(whole_export(name) for name in "AB")
    figures["export_s"] = round(length, 2)
    check(f"two exports of {length:.2f} s")
    while figures["kills"] < count:
        process = in_child(lambda: tasks["AB"[figures["kills"] % 2]].export(base))
        moment = moments.uniform(0, 1.1 * length)
        time.sleep(moment)
        if kill(process):
            figures["kills"] += 1
            check(f"kill {figures['kills']} after {moment:.2f} s")
        else:
            figures["exports"] += 1
            check(f"an export ended within {moment:.2f} s")
    whole_export("A")
    check("the export after all kills")
    if rest := [path.name for path in base.iterdir() if not path.name.isdigit()]:
        figures["faults"].append(f"after the last export: {rest}")
    return figures


def start_exports(folder: Path, base: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Makes two tasks and exports one; later exports only write files.

    A fork cannot compute with TensorFlow, because it lacks its threads. Therefore the graphs are
    built here, the warm-up requests come from the first export, and nothing is verified.

    Returns:
        the tasks by name, and their scores.
    """
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)

    from keras_bert_zoo.export import saved_model

    tasks = make_tasks(folder)
    scores = {name: task.predict(TEXTS)["scores"] for name, task in tasks.items()}
    report("built two tasks")
    first = tasks["A"].export(base).path  # a complete export
    graphs: dict[int, Any] = {}

    def built(task: Any, **_: Any) -> Any:
        return graphs[id(task)]

    for task in tasks.values():
        graphs[id(task)] = saved_model.build_serving_graph(
            task,
            dtype="float32",
            freeze=True,
            attention_groups=saved_model.ATTENTION_GROUPS,
            pair=None,
        )
    requests = {
        file.relative_to(first): file.read_bytes() for file in first.glob("assets.extra/*warmup*")
    }

    def write_requests(directory: Path, *_: Any, **__: Any) -> None:
        for name, content in requests.items():
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).write_bytes(content)

    for name, replacement in (
        ("build_serving_graph", built),
        ("write_warmup_requests", write_requests),
        ("Verifier", NoVerifier),
    ):
        setattr(saved_model, name, replacement)
    report("built their graphs")
    return tasks, scores


def answers_of(export: Path, scores: dict[str, Any]) -> str:
    """The name of the task with the same predictions as an export, or an error."""
    import tensorflow as tf

    try:
        signature = tf.saved_model.load(str(export)).signatures["serving_default"]
        outputs = signature(text=tf.constant(TEXTS))["scores"].numpy()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    same = [name for name, x in scores.items() if (abs(outputs - x) < 1e-5).all()]
    return same[0] if same else "other answers"


def report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def export_pairs(folder: Path, count: int, moments: random.Random) -> dict[str, Any]:
    base = folder / "exports" / "model"
    judge = start_judge(folder)
    figures: dict[str, Any] = {"pairs": 0, "found": Counter(), "faults": []}
    for pair in range(1, count + 1):
        if pair % 2:  # every other pair begins with a missing path
            shutil.rmtree(base, ignore_errors=True)
        first = 1 if pair % 2 else 3
        verify = pair % VERIFIED_EVERY == 0
        workers = [start_export(folder, name, base, verify=verify) for name in "AB"]
        for worker in workers:
            worker._pipe.send("go")
            time.sleep(moments.choice((0.0, 0.0, 0.05)))
        versions = [worker.answer()[0] for worker in workers]
        for worker in workers:
            os.waitpid(worker.process, 0)
        tasks = [judge.request(base / str(version)) for version in versions]
        figures["pairs"] += 1
        figures["found"].update(tasks)
        report(f"pair {pair}: versions {versions}")
        names = sorted(path.name for path in base.iterdir())
        expected = list(map(str, range(1, first + 2)))
        if sorted(versions) != [first, first + 1] or tasks != ["A", "B"] or names != expected:
            figures["faults"].append(f"pair {pair}: printed {versions}, {tasks}, files {names}")
    kill(judge.process)
    return figures


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    sys.exit(main())
