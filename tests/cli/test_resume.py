"""`train --resume` goes on after Ctrl-C, SIGTERM and SIGKILL, to the same weights."""

import os
import random
import signal
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from keras_bert_zoo.training.checkpoints import STATE_FILE, Checkpoints, find_position
from tests.cli.conftest import fast
from tests.cli.test_launch import start


def arguments(preset, data, output, *more):
    return ["train", *fast(preset, "--train", data / "train.csv", "--dev", data / "dev.csv"),
            "--output", output, "--batch-size", "8", "--epochs", "5", *more]  # fmt: skip


def weights(path):
    return load_file(path / "model.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, preset, data):
    """The weights of an uninterrupted run, with dropout."""
    folder = tmp_path_factory.mktemp("whole")
    process = start(*arguments(preset, data, folder / "run"))
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return weights(folder / "run")


def check_equal(path, whole):
    # Threads add in any order, so two runs differ by rounding. Adam enlarges it where the gradient
    # is only rounding, as that of the biases of keys. A step changes weights by about 2e-2.
    for name, value in weights(path).items():
        np.testing.assert_allclose(value, whole[name], rtol=1e-4, atol=1e-4, err_msg=name)


def wait_for_step(process, checkpoints, step):
    while True:
        position = find_position(checkpoints)
        if position is not None and 6 * position.epoch + position.step >= step:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


@pytest.mark.slow
def test_sigterm_saves_the_run(tmp_path, preset, data, whole):
    output = tmp_path / "run"
    checkpoints = Checkpoints(f"{output}.checkpoints")
    more = ["--checkpoint-every", "4", "--resume"]
    process = start(*arguments(preset, data, output, *more))
    wait_for_step(process, checkpoints, 4)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 143
    assert "--resume goes on with the run" in err
    process = start(*arguments(preset, data, output, *more))
    process.communicate(timeout=300)
    assert process.returncode == 0
    check_equal(output, whole)
    assert not checkpoints.directory.exists()


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_has_the_same_weights(tmp_path, preset, data, whole):
    output = tmp_path / "run"
    checkpoints = Checkpoints(f"{output}.checkpoints")
    more = ["--checkpoint-every", "1", "--resume"]
    generator = random.Random(0)
    for step in range(1, 21):
        process = start(*arguments(preset, data, output, *more))
        wait_for_step(process, checkpoints, step)
        time.sleep(generator.uniform(0, 0.05))  # also while a checkpoint is written
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert find_position(checkpoints) is not None
    process = start(*arguments(preset, data, output, *more))
    process.communicate(timeout=300)
    assert process.returncode == 0
    check_equal(output, whole)


def test_other_options_are_refused_on_resume(tmp_path, preset, data, run, refused):
    output = tmp_path / "run"
    small = [*arguments(preset, data, output), "--epochs", "1", "--checkpoint-every", "2"]
    assert run(*small).status == 0
    assert not (tmp_path / "run.checkpoints").exists()  # the model is saved
    directory = tmp_path / "run.checkpoints" / "step-00000002"
    directory.mkdir(parents=True)
    (directory / STATE_FILE).write_text('{"version": 0}')
    message = refused(*small, "--resume")
    assert "expected version 1 of a training state, received 0" in message
