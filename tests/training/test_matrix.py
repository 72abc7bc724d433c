"""Every strategy with every dtype, optimizer and accumulation: it trains, saves and resumes."""

import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
CASES = 3 * 2 * 2


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.training.matrix_script", *map(str, arguments)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def losses_of(process):
    """Returns the losses of each case that a process prints."""
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    rows = [line.split() for line in out.splitlines()]
    found = {name: np.array(values, float) for name, *values in rows}
    assert len(found) == CASES
    return found


def addresses(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ",".join(f"127.0.0.1:{port}" for port in ports)


@pytest.mark.slow
def test_every_combination_trains_saves_and_resumes(tmp_path):
    one = losses_of(start(tmp_path, "default"))
    two = losses_of(start(tmp_path, "mirrored"))
    workers = addresses(2)
    processes = [start(tmp_path, "multi-worker", workers, index) for index in range(2)]
    first = losses_of(processes[0])
    _, err = processes[1].communicate(timeout=60)
    assert processes[1].returncode == 0, err
    for name, losses in one.items():
        # Shares of a batch are rounded in other places.
        tolerance = 1e-5 if name.startswith("float32") else 0.02
        np.testing.assert_allclose(two[name], losses, rtol=tolerance, err_msg=name)
        np.testing.assert_allclose(first[name], losses, rtol=tolerance, err_msg=name)
    for optimizer in ("adamw", "lamb"):  # batches in one and in four parts
        parts = [one[f"float32-{optimizer}-{count}"] for count in (1, 4)]
        np.testing.assert_allclose(*parts, rtol=1e-5)
