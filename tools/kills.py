"""Kills processes while they write, and checks that what they replaced can always be loaded.

    python -m tools.kills lines                 every line of the code that replaces a directory
    python -m tools.kills save 200              SIGKILL at random moments of Task.save
    python -m tools.kills save 200 --two-steps  the same where directories cannot be exchanged
    python -m tools.kills export 50             SIGKILL at random moments of Task.export
    python -m tools.kills exports-at-once 20    pairs of exports to one path at the same time

After a kill the name must load: the earlier model or the new one, by its weights and its answers.
The next save must leave no hidden directory. A figure for each check is printed; the exit status
is 1 if one of them failed. `lines` needs no TensorFlow and takes seconds. The same --seed gives the
same moments, as far as a machine's speed allows.
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
SAVES_IN_A_ROW = 4  # a kill comes within so many
PATIENCE = 120  # seconds


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("lines", "save", "export", "exports-at-once"))
    parser.add_argument("count", nargs="?", type=int, default=20, help="kills, or pairs")
    parser.add_argument("--every", type=int, default=1, help="lines: every how many lines")
    parser.add_argument("--two-steps", action="store_true", help="no exchange of directories")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.getLogger("keras_bert_zoo").setLevel(logging.ERROR)  # each recovery is a warning
    if args.two_steps:
        forbid_renames()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kills_") as folder:
        if args.what == "lines":
            figures = kill_at_lines(Path(folder), args.every, args.seed)
        else:
            run = {"save": kill_saves, "export": kill_exports, "exports-at-once": export_pairs}
            figures = run[args.what](Path(folder), args.count, random.Random(args.seed))
    figures["seconds"] = round(time.monotonic() - begin, 1)
    print(json.dumps(figures))
    return 1 if figures.get("faults") else 0


def forbid_renames() -> None:
    """Has the system answer as one without renameat2."""

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    renames._renameat2 = refuse


# === Every line ===


def kill_at_lines(folder: Path, every: int, seed: int) -> dict[str, Any]:
    """Ends a process before its first, second, ... line of `directories`."""
    os.fsync = lambda _: None  # a kill leaves what the kernel has; this is not about power cuts
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
        found = read_files(find_directory(target))
        figures["found"][found] += 1
        if found not in ("old", "new"):
            figures["faults"].append(f"line {i}: {found}")
        write_files(target, "old")
        rest = sorted(path.name for path in folder.iterdir())
        if rest != ["model"] or read_files(target) != "old":
            figures["faults"].append(f"line {i}: after the next save {rest}, {read_files(target)}")
        if not os.WIFSIGNALED(status):
            return figures
        figures["kills"] += 1


def write_files(target: Path, text: str) -> None:
    with replace_directory(target, CheckpointError, marker="config.json") as aside:
        for name in ("config.json", "model.safetensors"):
            (aside / name).write_text(text)


def read_files(target: Path) -> str:
    """Which model is there: "old", "new", or what is wrong."""
    try:
        texts = {(target / name).read_text() for name in ("config.json", "model.safetensors")}
        kept = [(target / name).read_text() for name in ("notes.txt", "plots/loss.png")]
    except OSError as error:
        return str(error)
    return texts.pop() if len(texts) == 1 and kept == ["mine", "mine"] else f"{texts} {kept}"


def die_at_line(number: int, write: Callable[[], None]) -> None:
    """Runs a write up to a line of the package's."""
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


# === Saves and exports ===


class Judge:
    """A process that loads what is there; the first one computes nothing, so that it can fork."""

    def __init__(self, folder: Path) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        import tensorflow  # noqa: F401  (once, for all forks)

        import keras_bert_zoo.export.saved_model
        import keras_bert_zoo.tasks.text_classifier  # noqa: F401

        self.process = in_child(lambda: judge(theirs, folder))

    def ask(self, what: str, *values: Any) -> Any:
        self._pipe.send((what, *values))
        if not self._pipe.poll(PATIENCE):
            raise TimeoutError(what)
        return self._pipe.recv()


def judge(pipe: Any, folder: Path) -> None:
    import keras
    import numpy as np
    import tensorflow as tf

    from keras_bert_zoo import TextClassifier
    from tests.export.conftest import make_task

    models = {}
    for name in ("A", "B"):
        made = make_task("single_label")
        task = TextClassifier(made.encoder, made.tokenizer, made.labels, max_length=48)
        for variable in task.head.weights:
            variable.assign_add(keras.random.normal(variable.shape, seed=len(models)))
        task.save(folder / name)
        weights = [np.array(variable) for variable in task.weights]
        models[name] = (weights, task.predict(TEXTS)["scores"])

    def saved(path: Path, answers: bool) -> str:
        task = TextClassifier.load(path)
        weights = [np.array(variable) for variable in task.weights]
        for name, (theirs, scores) in models.items():
            if all(map(np.array_equal, weights, theirs)):
                if answers and not np.allclose(task.predict(TEXTS)["scores"], scores, atol=1e-5):
                    return f"{name} with other answers"
                task.save(path)
                return name
        return "other weights"

    def exported(path: Path) -> str:
        signature = tf.saved_model.load(str(path)).signatures["serving_default"]
        scores = signature(text=tf.constant(TEXTS))["scores"].numpy()
        same = [n for n, (_, theirs) in models.items() if np.allclose(scores, theirs, atol=1e-5)]
        return same[0] if same else "other answers"

    pipe.send("ready")
    while True:
        what, *values = pipe.recv()
        try:
            pipe.send({"saved": saved, "exported": exported}[what](*values))
        except Exception as error:
            pipe.send(f"{type(error).__name__}: {error}")


class Child:
    """A fork that loads tasks, says that it is ready, waits for a word and does its work."""

    def __init__(self, work: Callable[[Callable[[], Any]], None], folder: Path) -> None:
        self._pipe, theirs = multiprocessing.Pipe()

        def run() -> None:
            from keras_bert_zoo import TextClassifier

            tasks = itertools.cycle([TextClassifier.load(folder / name) for name in ("B", "A")])
            theirs.send("ready")
            theirs.recv()
            theirs.send(work(lambda: next(tasks)))

        self.process = in_child(run)
        self.receive()

    def start(self) -> None:
        self._pipe.send("go")

    def receive(self) -> Any:
        if not self._pipe.poll(PATIENCE):
            raise TimeoutError("a process does not answer")
        return self._pipe.recv()

    def kill_after(self, seconds: float) -> bool:
        """Returns whether it was still at work."""
        time.sleep(seconds)
        os.kill(self.process, signal.SIGKILL)
        return os.WIFSIGNALED(os.waitpid(self.process, 0)[1])

    def end(self) -> Any:
        answer = self.receive()
        os.waitpid(self.process, 0)
        return answer


def ready_judge(folder: Path) -> Judge:
    judge = Judge(folder)
    judge._pipe.poll(PATIENCE)
    judge._pipe.recv()
    return judge


def kill_saves(folder: Path, count: int, moments: random.Random) -> dict[str, Any]:
    models = folder / "models"
    models.mkdir()
    target = models / "model"
    judge = ready_judge(folder)

    def save(next_task: Callable[[], Any]) -> float:
        begin = time.monotonic()
        for _ in range(SAVES_IN_A_ROW):
            next_task().save(target)
        return (time.monotonic() - begin) / SAVES_IN_A_ROW

    child = Child(save, folder)
    child.start()
    length = child.end()
    figures: dict[str, Any] = {
        "kills": 0, "save_ms": round(1000 * length, 1), "missing": 0, "left_hidden": 0,
        "found": Counter(), "faults": [],
    }  # fmt: skip
    while figures["kills"] < count:
        child = Child(save, folder)
        child.start()
        if not child.kill_after(moments.uniform(0, (SAVES_IN_A_ROW - 1) * length)):
            continue
        figures["kills"] += 1
        figures["missing"] += not target.exists()
        figures["left_hidden"] += len(list(models.iterdir())) > target.exists()
        found = judge.ask("saved", target, figures["kills"] % 10 == 1)
        figures["found"][found] += 1
        rest = sorted(path.name for path in models.iterdir())
        if found not in ("A", "B") or rest != ["model"]:
            figures["faults"].append(f"kill {figures['kills']}: {found}, {rest}")
    os.kill(judge.process, signal.SIGKILL)
    return figures


def kill_exports(folder: Path, count: int, moments: random.Random) -> dict[str, Any]:
    base = folder / "exports" / "model"
    judge = ready_judge(folder)

    def export(next_task: Callable[[], Any]) -> float:
        begin = time.monotonic()
        next_task().export(base)
        return time.monotonic() - begin

    figures: dict[str, Any] = {"kills": 0, "left_hidden": 0, "found": Counter(), "faults": []}
    child = Child(export, folder)
    child.start()
    length = child.end()
    figures["export_s"] = round(length, 1)
    checked: set[str] = set()

    def check(moment: str) -> None:
        names = {path.name for path in base.iterdir()}
        versions = {name for name in names if name.isdigit()}
        if not checked <= versions:
            figures["faults"].append(f"{moment}: {checked - versions} gone")
        for version in versions - checked:
            found = judge.ask("exported", base / version)
            figures["found"][found] += 1
            if found not in ("A", "B"):
                figures["faults"].append(f"{moment}: {version}: {found}")
        checked.update(versions)
        figures["left_hidden"] += len(names) > len(versions)

    check("first")
    while figures["kills"] < count:
        child = Child(export, folder)
        child.start()
        if child.kill_after(moments.uniform(0, 1.1 * length)):
            figures["kills"] += 1
        check(f"kill {figures['kills']}")
    child = Child(export, folder)
    child.start()
    child.end()
    check("last")
    if rest := [path.name for path in base.iterdir() if not path.name.isdigit()]:
        figures["faults"].append(f"after the last export: {rest}")
    os.kill(judge.process, signal.SIGKILL)
    return figures


def export_pairs(folder: Path, count: int, moments: random.Random) -> dict[str, Any]:
    base = folder / "exports" / "model"
    judge = ready_judge(folder)

    def export(next_task: Callable[[], Any]) -> int:
        return int(next_task().export(base).version)

    figures: dict[str, Any] = {"pairs": 0, "found": Counter(), "faults": []}
    for pair in range(1, count + 1):
        if pair % 2:  # every other pair begins with a path that is not there
            shutil.rmtree(base, ignore_errors=True)
        first = 1 if pair % 2 else 3
        # The second takes its other task first, so that the two exports can be told apart.
        children = [
            Child(export, folder),
            Child(lambda task: (task(), export(task))[1], folder),
        ]
        for child in children:
            child.start()
            time.sleep(moments.choice((0.0, 0.0, 0.05)))
        versions = [child.end() for child in children]
        found = [judge.ask("exported", base / str(version)) for version in versions]
        figures["pairs"] += 1
        figures["found"].update(found)
        there = sorted(path.name for path in base.iterdir())
        wanted = list(map(str, range(1, first + 2)))
        if sorted(versions) != [first, first + 1] or found != ["B", "A"] or there != wanted:
            figures["faults"].append(f"pair {pair}: printed {versions}, {found}, there {there}")
    os.kill(judge.process, signal.SIGKILL)
    return figures


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    sys.exit(main())
