"""Every row counts once, on one, two and three replicas."""

import subprocess
import sys


def test_every_task_trains_and_measures_alike_on_any_number_of_replicas(repository):
    finished = subprocess.run(
        [sys.executable, "-m", "tests.tasks.replicas_script"],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert finished.stdout.endswith("equal\n"), finished.stderr[-3000:]
