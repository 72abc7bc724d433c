"""keras-bert-zoo trim-vocabulary and distill."""

import json

import keras
import numpy as np
import pytest

from keras_bert_zoo.tasks.text_classifier import TextClassifier
from keras_bert_zoo.training import distillation


def answers(directory, texts):
    return TextClassifier.load(directory).predict(texts)


def distance(one, other, texts):
    """The mean difference of probabilities. Those of the trained model are close to each other."""
    return np.abs(answers(one, texts)["scores"] - answers(other, texts)["scores"]).mean()


def test_a_trimmed_model_answers_the_same(run, refused, model, data, tmp_path):
    texts = ["the rose is here", "a sea is here"]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
    out = tmp_path / "small"
    finished = run("trim-vocabulary", model, out, "--texts", tmp_path / "texts.txt")
    assert finished.status == 0, finished.err
    counts, compared = finished.out.splitlines()
    assert counts.startswith("17 -> 12 tokens, ")
    assert counts.endswith(f" weights, in {out}")
    assert compared.startswith("compared: the same hidden states within 0.0e+00")
    np.testing.assert_array_equal(answers(out, texts)["scores"], answers(model, texts)["scores"])
    rare = run(
        "trim-vocabulary", model, tmp_path / "rare", "--texts", data / "train.csv",
        "--min-frequency", "20", "--json",
    ).json  # fmt: skip
    assert rare["tokens"] < rare["tokens_before"] == 17
    assert rare["weights"] == rare["weights_before"] - 16 * (17 - rare["tokens"])
    for arguments, message in [
        (("--texts", tmp_path / "none.txt"), "there is no such file"),
        (("--texts", data / "train.csv", "--text", "body"), "body"),
        (("--texts", data / "train.csv", "--min-frequency", "0"), "--min-frequency"),
    ]:
        assert message in refused("trim-vocabulary", model, tmp_path / "no", *arguments)
    (tmp_path / "empty.txt").write_text("\n \n")
    empty = run("trim-vocabulary", model, tmp_path / "no", "--texts", tmp_path / "empty.txt")
    assert empty.status == 2
    assert empty.err.endswith("expected texts, but all are empty\n")
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("labels", [True, False])
def test_a_student_gives_the_answers_of_its_teacher(labels, run, model, data, tmp_path):
    texts = [line.split(",")[0] for line in (data / "train.csv").read_text().splitlines()[1:]]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    train = ["--train", data / "train.csv", "--label-weight", "0.1", "--dev-fraction", "0.25"]
    if not labels:
        train = ["--train", tmp_path / "log.jsonl", "--no-labels", "--dev", data / "dev.csv"]
    out = tmp_path / "student"
    finished = run(
        "distill", "--teacher", model, "--layers", "1", *train, "--hidden-weight", "1",
        "--epochs", "2", "--learning-rate", "0.002", "--dtype", "float32", "--output", out,
        "--json",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    assert finished.json["dev"]["accuracy"] > 0.8
    assert "training on 36 texts" in finished.err if labels else "on 48 texts" in finished.err
    assert distance(out, model, texts) < 0.1
    record = TextClassifier.load(out).training_record
    assert record["layers"] == 1
    assert len(record["history"]["loss"]) == 2


@pytest.mark.parametrize("steps", [0, 2])
def test_an_interrupt_saves_the_weights_so_far(steps, run, model, data, tmp_path, monkeypatch):
    fit = distillation.run_fit

    def interrupted(model, batches, *, callbacks, **options):
        def interrupt(step, logs):
            if step == steps - 1:
                raise KeyboardInterrupt

        stop = keras.callbacks.LambdaCallback(on_train_batch_end=interrupt)
        if not steps:
            raise KeyboardInterrupt
        return fit(model, batches, callbacks=[*callbacks, stop], **options)

    monkeypatch.setattr(distillation, "run_fit", interrupted)
    finished = run(
        "distill", "--teacher", model, "--layers", "1", "--train", data / "train.csv",
        "--batch-size", "8", "--dtype", "float32", "--output", tmp_path / "out",
    )  # fmt: skip
    assert finished.status == 130
    assert "held-out" not in finished.out
    if not steps:
        assert finished.err.endswith("interrupted before the first step; nothing is saved\n")
        assert not (tmp_path / "out").exists()
        return
    assert finished.err.endswith(f"the weights so far are saved in {tmp_path / 'out'}\n")
    assert TextClassifier.load(tmp_path / "out").training_record["interrupted"]


def test_another_preset_as_the_student(run, model, preset, data, tmp_path):
    out = tmp_path / "student"
    finished = run(
        "distill", "--teacher", model, "--student", preset, "--train", data / "train.csv",
        "--epochs", "4", "--batch-size", "24", "--learning-rate", "0.05", "--dtype", "float32",
        "--output", out, "--dev", data / "dev.csv",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    assert "keras-bert-zoo evaluate" in finished.out
    assert "\nheld-out data (12 texts): accuracy 0." in finished.out
    texts = ["the rose is here", "a sea is here", "the leaf is here"]
    assert distance(out, model, texts) < distance(preset, model, texts)


def test_options_that_do_not_fit_are_refused(refused, model, preset, data, tmp_path):
    common = ("--teacher", model, "--train", data / "train.csv", "--output", tmp_path / "no")
    for arguments, message in [
        ((), "expected --layers N or --student NAME_OR_DIR, one of the two"),
        (("--layers", "1", "--student", preset), "one of the two"),
        (("--layers", "2"), "an integer from 1 to 1"),
        (("--layers", "1", "--patience", "1"), "--patience needs validation data"),
        (("--layers", "1", "--no-labels", "--label-weight", "0.5"), "--no-labels excludes"),
        (("--layers", "1", "--dev", data / "dev.csv", "--dev-fraction", "0.1"), "received both"),
        (("--layers", "1", "--temperature", "0"), "--temperature"),
        (("--layers", "1", "--label", "colour"), "colour"),
    ]:
        assert message in refused("distill", *common, *arguments)
    missing = ("--teacher", tmp_path / "none", *common[2:], "--layers", "1")
    assert "there is no such directory" in refused("distill", *missing)
    assert not (tmp_path / "no").exists()
