"""Every strategy, dtype, optimizer and accumulation trains, saves and resumes, equally."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_bert_zoo.cli.launch import free_addresses

ROOT = Path(__file__).resolve().parents[2]


def start(module, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", f"tests.training.{module}", *map(str, arguments)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def losses_of(process):
    """Returns the losses of each case that a process prints."""
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    rows = [line.split() for line in out.splitlines()]
    return {name: np.array(values, float) for name, *values in rows}


def losses_of_workers(module, *arguments):
    """Returns the losses that the first of two workers prints."""
    workers = ",".join(free_addresses(2))
    processes = [start(module, *arguments, workers, index) for index in range(2)]
    losses = losses_of(processes[0])
    losses_of(processes[1])
    return losses


@pytest.mark.slow
def test_every_combination_trains_saves_and_resumes(tmp_path):
    one = losses_of(start("matrix_script", tmp_path, "default"))
    assert len(one) == 3 * 2 * 2
    two = losses_of(start("matrix_script", tmp_path, "mirrored"))
    workers = losses_of_workers("matrix_script", tmp_path, "multi-worker")
    assert one.keys() == two.keys() == workers.keys()
    for name, losses in one.items():
        # Shares of a batch are rounded in other places.
        tolerance = 1e-5 if name.startswith("float32") else 0.02
        for others in (two, workers):
            np.testing.assert_allclose(others[name], losses, rtol=tolerance, err_msg=name)
    for optimizer in ("adamw", "lamb"):
        parts = [one[f"float32-{optimizer}-{count}"] for count in (1, 4)]
        np.testing.assert_allclose(*parts, rtol=1e-5)


@pytest.mark.slow
def test_losses_of_a_real_model_are_equal_with_clipping():
    losses_by_name = losses_of(start("curves_script")) | losses_of_workers("curves_script")
    assert len(losses_by_name["one"]) == 20
    assert losses_by_name["one"][-1] < losses_by_name["one"][0]
    for name, losses in losses_by_name.items():
        np.testing.assert_allclose(losses, losses_by_name["one"], rtol=1e-5, err_msg=name)
