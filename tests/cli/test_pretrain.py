"""The command pretrain: from text to a preset, options, resume and the plan."""

import dataclasses
import fcntl
import os
import random
import shutil

import numpy as np
import pytest

import keras_bert_zoo as kbz
from keras_bert_zoo.cli import options
from keras_bert_zoo.cli.main import command_parser
from keras_bert_zoo.cli.pretraining_options import check_options
from keras_bert_zoo.pretraining.dataset import PretrainingData
from keras_bert_zoo.pretraining.run_length import steps_for_tokens, steps_of_phases
from keras_bert_zoo.pretraining.sizes import FAMILIES, sized_config
from keras_bert_zoo.pretraining.unigram import UnigramWarning, unigram_loss
from keras_bert_zoo.training.schedules import BudgetDecay
from tests.helpers import eagerly
from tests.pretraining.shards import write_data
from tests.tasks.every_task import make_tokenizer

TINY = ("--size", "tiny", "--batch-size", 8, "--heldout", 0.2, "--dtype", "float32")


def write_text(path):
    """Documents of words that predict the next one."""
    draw = random.Random(0)
    words = ["red rose", "blue sea", "green leaf", "old tree", "new moon", "tall man"]
    documents = ["\n".join(" ".join(draw.choices(words, k=6)) for _ in range(3)) for _ in range(60)]
    path.write_text("\n\n".join(documents))
    return path


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("text") / "text.txt")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("shards"), [40, 24], heldout=[16]).directory


def test_from_text_to_a_preset(run, text, tmp_path):
    """Vocabulary, shards, two phases, checkpoints, evaluation; then fine-tuning from it."""
    output = tmp_path / "model"
    with eagerly():
        finished = run(
            "pretrain", "--train", text, "--vocabulary-size", 60, *TINY, "--steps", 5,
            "--phases", "12:0.6,24:0.4", "--evaluate-every", 2, "--checkpoint-every", 1,
            "--output", output,
        )  # fmt: skip
    assert finished.status == 0, finished
    lines = finished.out.splitlines()
    assert lines[0].startswith("vocabulary: ")
    assert [line.split(",")[0].split(" of ")[-1] for line in lines[1:3]] == [
        "at most 12 tokens", "at most 24 tokens",
    ]  # fmt: skip
    assert "pretraining for 5 steps, 12 tokens, 24 tokens" in finished.out
    assert finished.out.count("Epoch ") == 3
    assert "held-out examples: " in finished.out
    assert "that of a unigram model" in finished.out
    work = tmp_path / "model.pretraining"
    assert sorted(path.name for path in work.iterdir()) == ["data-12", "data-24", "tokenizer"]
    assert not (tmp_path / "model.checkpoints").exists()
    record = kbz.Encoder.from_preset(output)
    assert record.config.hidden_dim == 128
    task = kbz.TextClassifier.from_preset(output, labels=["a", "b"])
    assert task.predict_logits(["red rose"]).shape == (1, 2)


def test_a_run_goes_on(run, shards, tmp_path, monkeypatch):
    """ELECTRA's two models; the weights are equal to those of an uninterrupted run."""
    common = ("pretrain", "--data", shards, "--family", "electra", *TINY, "--steps", 6,
              "--evaluate-every", 3, "--checkpoint-every", 1)  # fmt: skip

    def weights(output):
        task = kbz.Pretrainer.load(output)
        assert task.options.objectives == ("masked_lm", "replaced_token_detection")
        return task.get_weights()

    with eagerly():
        whole = run(*common, "--output", tmp_path / "whole")
        assert whole.status == 0, whole
        for name in ("masked lm loss", "replaced share entropy"):
            assert f" {name} " in whole.out
        assert f"{tmp_path / 'whole' / 'generator'}\n" in whole.out
        from keras_bert_zoo.training.run_checkpoints import CheckpointWriter

        save, calls = CheckpointWriter.on_train_batch_end, []

        def interrupted(self, batch, logs=None):
            save(self, batch, logs)
            calls.append(batch)
            if len(calls) == 4:
                raise KeyboardInterrupt

        monkeypatch.setattr(CheckpointWriter, "on_train_batch_end", interrupted)
        stopped = run(*common, "--output", tmp_path / "parts")
        assert stopped.status == 130
        assert "--resume goes on" in stopped.err
        assert run(*common, "--output", tmp_path / "parts", "--resume").status == 0
    for own, other in zip(weights(tmp_path / "parts"), weights(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(own, other)


def test_the_plan_needs_no_data(run, text, tmp_path):
    finished = run(
        "pretrain", "--train", text, *TINY, "--phases", "128:0.9:16,512:0.1", "--steps", 1000,
        "--output", tmp_path / "none", "--dry-run", "--json",
    )  # fmt: skip
    first, second = finished.json["phases"]
    assert (first["steps"], first["rows_per_step"], first["tokens_per_step"]) == (900, 16, 2048)
    assert (second["steps"], second["rows_per_step"], second["tokens_per_step"]) == (100, 4, 2048)
    assert second["seconds"] == pytest.approx(100 * second["seconds_per_step"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--steps", 1), "expected --size, --encoder-config or --preset, one of the three"),
        (("--size", "tiny"), "expected --steps, --tokens or --budget-minutes"),
        (("--size", "tiny", "--steps", 1, "--tokens", 2), "one of the three, received several"),
        (("--size", "tiny", "--steps", 1, "--objectives", "nsp"), "received nsp"),
        (
            ("--size", "tiny", "--steps", 1, "--span-mean", 20),
            "expected `--span-mean` from 1 to 10 words",
        ),
        (
            ("--size", "tiny", "--steps", 1, "--generator-size", 0.5),
            "belong to the objective replaced_token_detection, received --objectives masked_lm",
        ),
        (
            ("--size", "tiny", "--steps", 1, "--family", "electra", "--generator", "dir"),
            "--generator needs --preset",
        ),
        (("--size", "tiny", "--steps", 1, "--phases", "8:1,16"), "received '16'"),
        (("--size", "tiny", "--steps", 1, "--phases", "8:0.7"), "add up to 1, received 0.7"),
        (
            ("--size", "tiny", "--budget-minutes", 1, "--phases", "12:0.5,24:0.5"),
            "--phases needs --steps or --tokens",
        ),
        (
            ("--size", "tiny", "--steps", 1, "--objectives", "masked_lm,next_sentence"),
            "with pretraining-data --pairs next_sentence",
        ),
        (("--size", "tiny", "--steps", 1, "--max-length", 8), "examples of at most 8 tokens"),
        (
            ("--size", "tiny", "--steps", 1, "--tokens-per-batch", 9, "--batch-size", 2),
            "expected --tokens-per-batch or --batch-size",
        ),
    ],
)
def test_impossible_options_are_refused(refused, shards, tmp_path, options, message):
    output = tmp_path / "model"
    assert message in refused("pretrain", "--data", shards, *options, "--output", output)
    assert not output.exists()


def test_a_preset_without_the_head_is_refused_before_the_data_are_made(refused, text, tmp_path):
    output = tmp_path / "model"
    options = ("--preset", "minilm_l6_en_uncased", "--train", text, "--steps", 1)
    assert "no head for masked_lm. Pass `--new-head`" in refused(
        "pretrain", *options, "--output", output
    )
    assert list(tmp_path.iterdir()) == []


def test_the_objectives_of_a_preset_are_the_default(tmp_path):
    (tmp_path / "keras_bert_zoo.json").write_text('{"objectives": ["masked_lm", "next_sentence"]}')
    flags = ["--steps", "1", "--train", __file__, "--output", "x", "--preset"]
    for preset, expected in ((tmp_path, ["masked_lm", "next_sentence"]), ("bert", ["masked_lm"])):
        argv = [*flags, str(preset)]
        args = options.parse(command_parser("pretrain", argv), argv)
        check_options(args)
        assert args.objectives == expected


def test_options_of_masks_without_an_effect_are_refused(refused, text, tmp_path):
    data = write_data(tmp_path / "data", [20])
    dataclasses.replace(data, static_masks=True).write()
    output = tmp_path / "model"
    assert "expected no options of masks for examples with static masks" in refused(
        "pretrain", "--data", data.directory, "--size", "tiny", "--steps", 1, "--mask-rate", 0.3,
        "--output", output,
    )  # fmt: skip
    assert "the options of masks need --static-masks" in refused(
        "pretraining-data", "--texts", text, "--tokenizer", data.directory / "tokenizer",
        "--whole-words", "--output", output,
    )  # fmt: skip
    assert not output.exists()


def test_one_process_at_a_time_writes_an_output(refused, shards, tmp_path):
    work = tmp_path / "m.pretraining"
    work.mkdir()
    (work / "shard").touch()
    descriptor = os.open(work, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        options = ("--data", shards, "--size", "tiny", "--steps", 1, "--output", tmp_path / "m")
        message = refused("pretrain", *options)
    finally:
        os.close(descriptor)
    assert message == f"{work}: another pretraining is running here"
    assert (work / "shard").exists()


def test_missing_inputs_are_refused(refused, shards, tmp_path):
    output = ("--size", "tiny", "--steps", 1, "--output", tmp_path / "model")
    assert "--train FILES or --data DIR" in refused("pretrain", *output)
    assert "received none" in refused("pretrain", "--data", tmp_path, *output)
    copy = tmp_path / "copy"
    shutil.copytree(shards, copy)
    next(copy.glob("train-00001*")).unlink()
    assert "1 are missing" in refused("pretrain", "--data", copy, *output)


def test_steps_of_phases():
    assert steps_of_phases(10, [0.99, 0.01]) == [9, 1]
    assert steps_of_phases(1000, [0.9, 0.1]) == [900, 100]
    assert sum(steps_of_phases(7, [0.3, 0.3, 0.4])) == 7
    assert steps_for_tokens(100, [1.0], [32.0]) == 4


@pytest.mark.parametrize("family", FAMILIES)
def test_sizes_fit_each_family(family):
    config = sized_config(
        family, "mini", vocabulary_size=100, pad_token_id=1 if "roberta" in family else 0,
        max_length=64,
    )  # fmt: skip
    assert (config.num_layers, config.hidden_dim, config.num_heads) == (4, 256, 4)
    assert config.max_tokens == 64


def test_the_unigram_loss_is_that_of_the_counts(shards):
    data, tokenizer = PretrainingData.open(shards), make_tokenizer()
    from keras_bert_zoo.pretraining.records import read_records

    def tokens(split):
        return [
            token
            for shard in split
            for record in read_records(shards / shard.name)
            for token in record["token_ids"][1:-1]
        ]

    train, held_out = tokens(data.train), tokens(data.heldout)
    special = len(tokenizer.special_tokens)
    total = len(train) + tokenizer.vocabulary_size - special
    expected = -np.mean([np.log((train.count(token) + 1) / total) for token in held_out])
    assert unigram_loss(data, tokenizer) == pytest.approx(expected, rel=1e-6)


def test_a_loss_above_the_unigram_loss_is_a_warning(caplog):
    class Model:
        class optimizer:
            iterations = np.array(20)

    def budget(elapsed):
        return BudgetDecay(1.0, budget_seconds=100.0, warmup_fraction=0.2, elapsed=elapsed)

    for schedule, steps, warns in (
        (1e-3, 10, True), (1e-3, 30, False), (budget(10.0), 0, False), (budget(30.0), 0, True),
    ):  # fmt: skip
        caplog.clear()
        callback = UnigramWarning(5.0, warmup_steps=steps)
        Model.optimizer._learning_rate = schedule
        callback.set_model(Model())
        for _ in range(2):
            callback.on_epoch_end(0, {"val_masked_lm_loss": 6.0})
        assert caplog.text.count("above the loss of a unigram model") == int(warns)
