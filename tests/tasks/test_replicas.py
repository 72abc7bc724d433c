"""Every row counts once, on one, two and three replicas."""

import subprocess
import sys

import pytest

from tests.tasks.every_task import TRAINED


def check_replicas(repository, *names):
    finished = subprocess.run(
        [sys.executable, "-m", "tests.tasks.replicas_script", *names],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert finished.stdout.endswith("equal\n"), finished.stderr[-3000:]


def test_a_classifier_trains_and_measures_alike_on_any_number_of_replicas(repository):
    check_replicas(repository, "classification")


# Twenty seconds of processor time each.
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TRAINED if name != "classification"])
def test_every_task_trains_and_measures_alike_on_any_number_of_replicas(name, repository):
    check_replicas(repository, name)
