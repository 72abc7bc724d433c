"""`launch` runs workers that train one model, and starts them again after a failure."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from keras_bert_zoo.cli import launch
from keras_bert_zoo.cli.launch import free_addresses
from tests.helpers import ASSETS

ROOT = Path(__file__).resolve().parents[2]
ROWS = 22
LAUNCH = ["launch", "--workers", "2", "--"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny preset without dropout, which differs between replicas, and a file of examples."""
    folder = tmp_path_factory.mktemp("launch")
    shutil.copytree(ASSETS / "bert_gelu", folder / "preset")
    config = json.loads((folder / "preset" / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "preset" / "config.json").write_text(json.dumps(config))
    rows = [{"text": "a b c"[: 1 + 2 * (i % 3)], "label": "xy"[i % 2]} for i in range(ROWS)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def arguments(folder, output, *more):
    return ["train", "--preset", folder / "preset", "--train", folder / "train.jsonl", "--output",
            folder / output, "--epochs", "3", "--batch-size", "5", "--learning-rate", "0.01",
            "--max-length", "8", "--dtype", "float32", "--clip-norm", "0.1", *more]  # fmt: skip


def start(*argv):
    return subprocess.Popen(
        [sys.executable, "-m", "keras_bert_zoo", *map(str, argv)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, status=0):
    out, err = process.communicate(timeout=400)
    assert process.returncode == status, err
    return out, err


def weights(path):
    return load_file(path / "model.safetensors")


@pytest.fixture(scope="module")
def alone(folder):
    """The weights of a run on one device, in four parts of each batch."""
    out, _ = finish(start(*arguments(folder, "alone", "--accumulation-steps", "2")))
    assert f"training on {ROWS} texts" in out
    return weights(folder / "alone")


def check_equal(path, alone):
    for name, value in weights(path).items():
        np.testing.assert_allclose(value, alone[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_two_workers_train_the_model_of_one(folder, alone):
    out, _ = finish(
        start(*LAUNCH, *arguments(folder, "two", "--strategy", "multi-worker", "--resume"))
    )
    assert out.count(f"training on {ROWS} texts") == 1
    check_equal(folder / "two", alone)
    assert not (folder / "two.checkpoints").exists()


def workers_of(process):
    """The process ids of the workers that a launcher has started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children]


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_workers_start_again_after_one_was_killed(folder, alone, killed):
    output = f"killed-{killed}"
    more = ["--strategy", "multi-worker", "--checkpoint-every", "1", "--resume"]
    restarts = [*LAUNCH[:-1], "--restarts", "1", "--"]
    process = start(*restarts, *arguments(folder, output, *more))
    checkpoints = folder / f"{output}.checkpoints"
    while not (checkpoints / "step-00000003").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.kill(workers_of(process)[killed], signal.SIGKILL)
    _, err = finish(process)
    assert "a worker ended with status 137; restart 1 of 1" in err
    check_equal(folder / output, alone)


def start_workers(code, folder, output):
    """Starts two workers without `launch`, as on two machines, after some Python code."""
    workers = ",".join(free_addresses(2))
    more = ["--strategy", "multi-worker", "--workers", workers]
    code += "\nimport sys; from keras_bert_zoo.cli.main import main; sys.exit(main())"
    return [
        subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments(folder, output, *more)),
             "--worker-index", str(index), "--epochs", "1"],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for index in range(2)
    ]  # fmt: skip


@pytest.mark.slow
def test_the_second_worker_fails_if_the_first_dies_while_it_saves(folder):
    """Each machine restarts a worker by its status, so that both must fail."""
    code = (
        "import os; from keras_bert_zoo.cli import run_end\n"
        "run_end.save_model = lambda *arguments: os.kill(os.getpid(), 9)"
    )
    first, second = start_workers(code, folder, "dies")
    finish(first, status=-signal.SIGKILL)
    _, err = finish(second, status=1)
    assert "UnavailableError" in err


def test_a_failure_of_all_workers_is_reported(folder):
    process = start("launch", "--workers", "2", "--", "train", "--train", folder / "missing.csv")
    _, err = finish(process, status=2)
    assert "error: " in err


def test_a_command_is_needed(refused):
    assert "expected a command after --" in refused("launch", "--workers", "2")


WORKER = """
import pathlib, signal, sys, time
folder, kind = pathlib.Path(sys.argv[1]), sys.argv[2]
def end(number, frame):
    (folder / f"{kind} {number}").touch()
    if kind == "waits":  # for another worker, in a call that no signal ends
        time.sleep(60)
    for _ in range(10 if kind == "saves" else 0):
        (folder / "model").write_bytes(bytes(10))
        time.sleep(0.1)
    (folder / f"{kind} ended").touch()
    sys.exit(130)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, end)
(folder / f"{kind} runs").touch()
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_workers_soon_unless_they_save(tmp_path, monkeypatch, number):
    monkeypatch.setattr(launch, "_PATIENCE", 0.6)
    workers = []
    kinds = ("saves", "waits", "ends")
    try:
        for kind in kinds:
            workers.append(subprocess.Popen([sys.executable, "-c", WORKER, tmp_path, kind]))
        while len(list(tmp_path.glob("* runs"))) < 3:
            time.sleep(0.01)
        launch._end(workers, number)
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.wait() for worker in workers] == [130, -signal.SIGKILL, 130]
    assert all((tmp_path / f"{kind} {int(number)}").exists() for kind in kinds)
    assert (tmp_path / "saves ended").exists()
