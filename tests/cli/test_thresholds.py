"""train --tune-thresholds, on the format of GoEmotions: no header, comma-separated label ids."""

import json

import pytest

from tests.cli.conftest import fast, texts


@pytest.fixture
def emotions(tmp_path):
    """train.tsv and dev.tsv: text, ids, key."""
    ids = {"red": "0", "blue": "1", "green": "0,2"}
    for name, count in (("train", 48), ("dev", 12)):
        lines = [f"{text}\t{ids[label]}\tkey{i}" for i, (text, label) in enumerate(texts(count))]
        (tmp_path / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path


COLUMNS = ("--columns", "text,labels,key", "--label", "labels")


@pytest.mark.slow
def test_thresholds_are_tuned_saved_and_used(run, preset, emotions):
    finished = run(
        "train", *fast(preset, "--task", "multi-label", "--tune-thresholds", "--epochs", "12"),
        "--train", emotions / "train.tsv", "--dev", emotions / "dev.tsv", *COLUMNS,
        "--output", emotions / "m", "--json",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    side = json.loads((emotions / "m" / "keras_bert_zoo.json").read_text())
    assert len(side["threshold"]) == 3
    assert all(0 < threshold < 1 for threshold in side["threshold"])
    assert side["threshold"] != [0.5] * 3
    assert side["training"]["tune_thresholds"] is True
    measured = run("evaluate", "--model", emotions / "m", "--data", emotions / "dev.tsv", *COLUMNS,
                   "--json")  # fmt: skip
    assert measured.json["macro_f1"] == finished.json["dev"]["macro_f1"] > 0.6
    answered = run("predict", "--model", emotions / "m", "--input", emotions / "dev.tsv",
                   "--columns", "text,labels,key")  # fmt: skip
    assert any(len(row["label"]) == 2 for row in answered.rows)
    assert all(len(row["label"]) == len(row["score"]) for row in answered.rows)


def test_contradictory_options(refused, preset, data, tmp_path):
    out = ("--output", tmp_path / "m")
    several = data / "several.jsonl"
    said = refused("train", *fast(preset, "--task", "multi-label", "--tune-thresholds"),
                   "--train", several, *out)  # fmt: skip
    assert said == "--tune-thresholds needs validation data: --dev or --dev-fraction"
    said = refused("train", *fast(preset, "--tune-thresholds"), "--dev-fraction", "0.5",
                   "--train", data / "train.csv", *out)  # fmt: skip
    assert said == "--tune-thresholds does not apply to --task classification"
