"""The manifest for Kubernetes and the script for Slurm start workers that know each other."""

import json
import os
import shutil
import socket
import stat
import subprocess
import sys

import pytest

from tests.documents import ROOT
from tests.helpers import ASSETS

yaml = pytest.importorskip("yaml", reason="needs PyYAML, which transformers installs")

FOLDER = ROOT / "docs" / "clusters"
PAGE = ROOT / "docs" / "clusters.md"


def write_program(path, text):
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def programs(tmp_path):
    """A folder of programs, and the environment that finds them first."""
    folder = tmp_path / "programs"
    folder.mkdir()
    return folder, os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def manifest():
    """The service and the job."""
    service, job = yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text("utf-8"))
    return service, job


def container_of(job):
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return container


def test_the_parts_of_the_manifest_agree(manifest):
    service, job = manifest
    assert (service["kind"], job["kind"]) == ("Service", "Job")
    name, pod = job["metadata"]["name"], job["spec"]["template"]["spec"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": name}
    assert pod["subdomain"] == service["metadata"]["name"]
    assert job["spec"]["completionMode"] == "Indexed"
    container = container_of(job)
    (workers,) = (e["value"] for e in container["env"] if e["name"] == "WORKERS")
    assert int(workers) == job["spec"]["completions"] == job["spec"]["parallelism"]
    assert pod["restartPolicy"] == "Never"  # a condition of podFailurePolicy
    assert job["spec"]["backoffLimit"] == 3 * job["spec"]["completions"]  # three restarts
    exit_codes = job["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"]
    assert exit_codes["containerName"] == container["name"]
    assert container["ports"][0]["containerPort"] == service["spec"]["ports"][0]["port"]
    (mount,) = container["volumeMounts"]
    assert mount["name"] in [volume["name"] for volume in pod["volumes"]]


def test_each_pod_makes_its_config(manifest, programs):
    _, job = manifest
    folder, environment = programs
    write_program(
        folder / "keras-bert-zoo", '#!/bin/sh\necho "$TF_CONFIG"\nfor a; do echo "$a"; done\n'
    )
    container = container_of(job)
    count = 3
    addresses = [f"bert-train-{index}.bert-train:9000" for index in range(count)]
    for index in range(count):
        done = subprocess.run(
            [*container["command"], *container["args"]],
            env=environment | {"WORKERS": str(count), "JOB_COMPLETION_INDEX": str(index)},
            capture_output=True,
            text=True,
            check=True,
        )
        config, *arguments = done.stdout.splitlines()
        assert json.loads(config) == {
            "cluster": {"worker": addresses},
            "task": {"type": "worker", "index": index},
        }
        assert arguments[:3] == ["train", "--strategy", "multi-worker"]
        assert arguments[-1] == "--resume"


# Starts the command once per task, as srun does, kills the others after a failure, and returns the
# highest status.
SRUN = """#!/usr/bin/env python3
import os, signal, subprocess, sys, time
assert sys.argv[1] == "--kill-on-bad-exit=1"
tasks = [
    subprocess.Popen(
        sys.argv[2:], env=os.environ | {"SLURM_PROCID": str(index)}, start_new_session=True
    )
    for index in range(int(os.environ["SLURM_NTASKS"]))
]
with open(os.environ["SRUN_LOG"], "a") as log:
    log.write("srun\\n")
while any(task.poll() is None for task in tasks) and not any(task.poll() for task in tasks):
    time.sleep(0.05)
for task in tasks:
    if task.poll() is None:
        os.killpg(task.pid, signal.SIGKILL)
statuses = [task.wait() for task in tasks]
sys.exit(max(status if status >= 0 else 128 - status for status in statuses))
"""
SCONTROL = """#!/bin/sh
[ "$1 $2 $3" = "show hostnames $SLURM_JOB_NODELIST" ] || exit 1
printf '%s\\n' $HOSTS
"""


def slurm_environment(programs, *, hosts, per_node, job=123):
    folder, environment = programs
    write_program(folder / "srun", SRUN)
    write_program(folder / "scontrol", SCONTROL)
    return environment | {
        "SLURM_JOB_ID": str(job),
        "SLURM_JOB_NODELIST": "nodes[1-2]",
        "SLURM_NTASKS": str(per_node * len(hosts)),
        "SLURM_NTASKS_PER_NODE": str(per_node),
        "HOSTS": " ".join(hosts),
        "SRUN_LOG": str(folder / "srun.log"),
    }


def run_sbatch(environment):
    return subprocess.run(
        ["bash", FOLDER / "slurm.sbatch"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )


# One worker ends with the status, and the others wait until srun kills them.
@pytest.mark.parametrize(
    ("status", "tries", "returned"), [(0, 1, 0), (2, 1, 2), (1, 3, 137), (143, 3, 143)]
)
def test_slurm_starts_one_worker_per_task(programs, tmp_path, status, tries, returned):
    environment = slurm_environment(programs, hosts=["n1", "n2"], per_node=2)
    log = tmp_path / "log"
    waits = 'case "$*" in *"--worker-index 1 "*) ;; *) sleep 100 ;; esac\n' if status else ""
    write_program(
        programs[0] / "keras-bert-zoo", f'#!/bin/sh\necho "$*" >> {log}\n{waits}exit {status}\n'
    )
    data = tmp_path / "shared"
    (data / "runs").mkdir(parents=True)
    done = run_sbatch(environment | {"DATA": str(data)})
    assert done.returncode == returned, done.stderr
    assert (programs[0] / "srun.log").read_text().count("srun") == tries
    assert list((data / "runs").iterdir()) == []
    lines = log.read_text().splitlines()
    port = 20000 + 123
    workers = f"n1:{port},n1:{port + 1},n2:{port},n2:{port + 1}"
    assert all(f"--workers {workers} --worker-index " in line for line in lines)
    indices = [int(line.split("--worker-index ")[1].split()[0]) for line in lines]
    assert set(indices) <= set(range(4))
    if status == 0:
        assert sorted(indices) == [0, 1, 2, 3]
    failures = done.stderr.count(f"a worker failed with status {returned}, attempt ")
    assert failures == (tries if tries > 1 else 0)


def free_job():
    """A job id whose ports are free."""
    for job in range(1, 20000):
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("127.0.0.1", 20000 + job))
                second.bind(("127.0.0.1", 20001 + job))
            except OSError:
                continue
            return job
    raise AssertionError("no free ports")


@pytest.mark.slow
def test_the_slurm_script_trains_a_model_with_two_workers(programs, tmp_path):
    shutil.copytree(ASSETS / "bert_gelu", tmp_path / "preset")
    rows = [f"{'a b c'[: 1 + 2 * (i % 3)]},{'xy'[i % 2]}" for i in range(12)]
    (tmp_path / "train.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    (tmp_path / "runs").mkdir()
    write_program(
        programs[0] / "keras-bert-zoo",
        f'#!/bin/sh\nexec {sys.executable} -m keras_bert_zoo "$@" --max-length 8\n',
    )
    environment = slurm_environment(programs, hosts=["127.0.0.1"], per_node=2, job=free_job())
    done = run_sbatch(environment | {"DATA": str(tmp_path), "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("training on 12 texts") == 1
    assert (tmp_path / "runs" / "intents" / "model.safetensors").exists()


def test_the_page_includes_the_files():
    text = PAGE.read_text("utf-8")
    for path in FOLDER.iterdir():
        assert f"{{literalinclude}} clusters/{path.name}" in text
