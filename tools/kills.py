"""Kills processes while they write, and checks that what they replaced can always be loaded.

    python -m tools.kills lines                 every line of the code that replaces a directory
    python -m tools.kills save 200              SIGKILL at random moments of Task.save
    python -m tools.kills save 200 --two-steps  the same where directories cannot be exchanged
    python -m tools.kills export 50             SIGKILL at random moments of Task.export
    python -m tools.kills exports-at-once 20    pairs of exports to one path at the same time

After a kill the name must load: the earlier model or the new one, by its weights and its answers.
The next save must leave no hidden directory. A line a kill goes to standard error, and a figure for
each check to standard output; the exit status is 1 if one of them failed. `lines` needs no
TensorFlow and takes seconds; `save` and `export` kill forks that only write, of a process that has
made the models. The same --seed gives the same moments, as far as a machine's speed allows.
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
PATIENCE = 180  # seconds
LOADS_EVERY = 10  # saved models are compared byte by byte, and so many are loaded and asked
VERIFIED_EVERY = 5  # pairs; the check of the others, which writes nothing, is left out


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


# === Saves ===


def kill_saves(folder: Path, count: int, moments: random.Random) -> dict[str, Any]:
    """Forks itself with two loaded tasks, saves them in turn, and kills the fork."""
    from keras_bert_zoo import TextClassifier

    tasks = make_tasks(folder)
    scores = {name: task.predict(TEXTS)["scores"] for name, task in tasks.items()}
    models = folder / "models"
    models.mkdir()
    target = models / "model"

    def save() -> None:
        for name in "BA" * (SAVES_IN_A_ROW // 2):
            tasks[name].save(target)

    def found_model(load: bool) -> str:
        """The task's name, by every byte of its files; by its answers, too."""
        there = files_of(find_directory(target))
        names = [name for name in tasks if there == files_of(folder / name)]
        if names and load:
            answers = TextClassifier.load(target).predict(TEXTS)["scores"]
            return names[0] if (abs(answers - scores[names[0]]) < 1e-5).all() else "other answers"
        return names[0] if names else f"files that differ: {sorted(there)}"

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
        found = found_model(load)
        figures["found"][found] += 1
        report(f"kill {figures['kills']}: {found}")
        tasks["A"].save(target)
        rest = sorted(path.name for path in models.iterdir())
        if found not in tasks or rest != ["model"] or found_model(False) != "A":
            figures["faults"].append(f"kill {figures['kills']}: {found}; then {rest}")
    return figures


def make_tasks(folder: Path) -> dict[str, Any]:
    """Two small classifiers of other weights, saved under their names in a folder."""
    import keras

    from keras_bert_zoo import TextClassifier
    from tests.export.conftest import make_task

    tasks = {}
    for seed, name in enumerate("AB"):
        made = make_task("single_label")
        task = TextClassifier(made.encoder, made.tokenizer, made.labels, max_length=48)
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
    """Kills a fork; returns whether it was still at work."""
    os.kill(process, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1])


# === Exports ===


class Worker:
    """A fork that talks over a pipe. What forks it has imported TensorFlow and computed nothing."""

    def __init__(self, run: Callable[[Any], None]) -> None:
        import tensorflow  # noqa: F401  (once, for all forks)

        import keras_bert_zoo.export.saved_model
        import keras_bert_zoo.tasks.text_classifier  # noqa: F401

        self._pipe, theirs = multiprocessing.Pipe()
        self.process = in_child(lambda: run(theirs))

    def ask(self, question: Any) -> Any:
        self._pipe.send(question)
        return self.answer()

    def answer(self) -> Any:
        if not self._pipe.poll(PATIENCE):
            raise TimeoutError("a process does not answer")
        return self._pipe.recv()


def start_judge(folder: Path) -> Worker:
    """A process that makes the tasks, and says whose answers an export gives."""

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
    """A process that loads a task, says so, and exports it when asked; it answers the version."""

    def run(pipe: Any) -> None:
        from keras_bert_zoo import TextClassifier
        from keras_bert_zoo.export import saved_model

        if not verify:
            saved_model.Verifier = Agreeing
        task = TextClassifier.load(folder / name)
        pipe.send("ready")
        pipe.recv()
        begin = time.monotonic()
        version = task.export(base).version
        pipe.send((version, time.monotonic() - begin))

    worker = Worker(run)
    worker.answer()
    return worker


class Agreeing:
    """Stands in for the check of an export, which writes nothing."""

    def __enter__(self) -> Agreeing:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def check(self, *_: Any, **__: Any) -> Any:
        from keras_bert_zoo.export.verify import Verification

        return Verification(0, 0.0)


def kill_exports(folder: Path, count: int, moments: random.Random) -> dict[str, Any]:
    """Forks itself with two tasks whose graphs are built, has them exported, and kills the fork."""
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
            found = answers_of(base / version, scores)
            figures["found"][found] += 1
            if found not in tasks:
                figures["faults"].append(f"{moment}: {version}: {found}")
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
    """Makes two tasks, exports one of them, and leaves to exports only what they write.

    A fork cannot compute with TensorFlow, whose threads it does not have. So the graphs are built
    here, the requests for warming up are those of the first export, and nothing is verified.

    Returns:
        the tasks by their names; and their scores.
    """
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)

    from keras_bert_zoo.export import saved_model

    tasks = make_tasks(folder)
    scores = {name: task.predict(TEXTS)["scores"] for name, task in tasks.items()}
    report("two tasks are made")
    first = tasks["A"].export(base).path  # as users do it
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

    for name, stand_in in (
        ("build_serving_graph", built),
        ("write_warmup_requests", write_requests),
        ("Verifier", Agreeing),
    ):
        setattr(saved_model, name, stand_in)
    report("their graphs are built")
    return tasks, scores


def answers_of(export: Path, scores: dict[str, Any]) -> str:
    """The name of the task whose answers an export gives, or what is wrong."""
    import tensorflow as tf

    try:
        signature = tf.saved_model.load(str(export)).signatures["serving_default"]
        found = signature(text=tf.constant(TEXTS))["scores"].numpy()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    same = [name for name, x in scores.items() if (abs(found - x) < 1e-5).all()]
    return same[0] if same else "other answers"


def report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def export_pairs(folder: Path, count: int, moments: random.Random) -> dict[str, Any]:
    base = folder / "exports" / "model"
    judge = start_judge(folder)
    figures: dict[str, Any] = {"pairs": 0, "found": Counter(), "faults": []}
    for pair in range(1, count + 1):
        if pair % 2:  # every other pair begins with a path that is not there
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
        found = [judge.ask(base / str(version)) for version in versions]
        figures["pairs"] += 1
        figures["found"].update(found)
        report(f"pair {pair}: versions {versions}")
        there = sorted(path.name for path in base.iterdir())
        wanted = list(map(str, range(1, first + 2)))
        if sorted(versions) != [first, first + 1] or found != ["A", "B"] or there != wanted:
            figures["faults"].append(f"pair {pair}: printed {versions}, {found}, there {there}")
    kill(judge.process)
    return figures


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    sys.exit(main())
