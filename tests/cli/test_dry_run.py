"""`train --dry-run` prints the plan of a run, and `train` refuses what cannot fit."""

import json

from keras_bert_zoo.training import plan
from tests.cli.conftest import fast


def arguments(preset, data, output, *more):
    return ["train", *fast(preset, "--train", data / "train.csv", "--dev", data / "dev.csv"),
            "--output", output, "--batch-size", "8", "--epochs", "5", *more]  # fmt: skip


def test_a_dry_run_prints_the_plan_and_trains_nothing(run, preset, data, tmp_path):
    done = run(*arguments(preset, data, tmp_path / "run", "--dry-run"))
    assert done.status == 0
    lines = done.out.splitlines()
    assert lines[0] == "would train on 48 texts, 12 held out, float32"
    names = [line.split()[0] for line in lines[1:]]
    assert names == ["rows", "tokens", "steps", "parameters", "memory", "operations", "time"]
    assert "6 per epoch, 30 in all, 8 examples each" in done.out
    assert "best epoch" in done.out
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_as_json(run, preset, data, tmp_path):
    done = run(*arguments(preset, data, tmp_path / "run", "--dry-run", "--json"))
    (line,) = done.out.splitlines()
    values = json.loads(line)
    assert (values["examples"], values["held_out"], values["steps"]) == (48, 12, 30)
    assert values["memory"]["total"] < values["memory_limit"]
    assert values["seconds"] == 30 * values["seconds_per_step"]
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_cannot_fit_is_refused(run, refused, preset, data, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "available_memory", lambda **_: 1e8)
    message = refused(*arguments(preset, data, tmp_path / "run"))
    assert message.startswith("expected a training run of at most 0.1 GB")
    assert message.endswith(
        "train a smaller model, or use more memory; without the memory check, it trains anyway"
    )
    assert list(tmp_path.iterdir()) == []
    done = run(*arguments(preset, data, tmp_path / "run", "--no-memory-check"))
    assert done.status == 0
    assert (tmp_path / "run" / "model.safetensors").exists()
