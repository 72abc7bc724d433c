"""Training on bins of several examples equals training on one example per row."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.data.pipeline import LabelledRows, TokenRows
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.layers.dropout import Dropout
from keras_bert_zoo.training.packed_rows import packed_rows
from keras_bert_zoo.training.packing_options import PACKED_TASKS, check_packing
from keras_bert_zoo.training.rows import LabelledBatches
from keras_bert_zoo.training.tricks.options import Tricks
from tests.helpers import eagerly
from tests.tasks.every_task import TRAINED, make, spread_weights

# Of each: a loss of rows with weights, one of tokens, and one of masked positions.
TASKS = ("classification", "token-classification", "masked-lm")
MORE = ("classification multi-label", "regression", "next-sentence")


def fit(name, *, layout="packed", eager=True, **options):
    """Trains on all examples in one batch; returns the history and the weights."""
    keras.utils.set_random_seed(0)
    task, x, y = make(name, token_layout=layout)
    spread_weights(task)
    if name in ("classification", "regression"):
        options["sample_weight"] = np.linspace(0.5, 2, 7).astype(np.float32)
    options = {"epochs": 2, "batch_size": 32, "learning_rate": 1e-2, "verbose": 0} | options
    with eagerly(eager):
        return task.fit(x, y, **options).history, task.get_weights()


def check_equal(received, expected):
    for name, values in expected[0].items():
        np.testing.assert_allclose(received[0][name], values, rtol=1e-5, err_msg=name)
    for value, other in zip(received[1], expected[1], strict=True):
        np.testing.assert_allclose(value, other, atol=1e-5)


@pytest.mark.parametrize(
    "name", [*TASKS, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)]
)
def test_bins_train_as_their_examples_do(name):
    expected = fit(name)
    check_equal(fit(name, pack_examples=True, accumulation_steps=2), expected)
    check_equal(fit(name, layout="padded", pack_examples=True), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_xla_trains_on_bins(name):
    check_equal(
        fit(name, layout="padded", pack_examples=True, jit_compile=True, eager=False), fit(name)
    )


def make_rows(lengths, **labels):
    splits = np.concatenate([[0], np.cumsum(lengths)])
    data = LabelledRows(TokenRows(np.arange(splits[-1], dtype=np.int32), splits), **labels)
    return LabelledBatches(data, 0)


def test_bins_have_the_labels_and_weights_of_their_examples():
    task = make("classification")[0]  # of 12 tokens
    numbers = np.arange(6, dtype=np.int32)
    rows = make_rows([12, 5, 7, 3, 4, 5], labels=numbers, weights=numbers.astype(np.float32))
    bins = packed_rows(task, rows)
    assert len(bins) == 3
    assert bins.lengths.tolist() == [12] * 3
    assert bins.widths() == {"tokens": 12, "examples": 3}
    for inputs, labels, weights in bins.batches(batch_size=2, seed=0):
        for row, starts in enumerate(inputs["example_starts"].numpy()):
            for start, label, weight in zip(starts, labels[row], weights[row], strict=True):
                if start >= 0:  # tokens count from 0, so the first one of an example is its begin
                    begin = rows.data.rows.row_splits[int(label)]
                    assert int(inputs["token_ids"][row, start]) == begin
                    assert float(weight) == int(label)
                else:
                    assert (int(label), float(weight)) == (-1, 0.0)
    seen = np.concatenate(list(bins.numbers(batch_size=2, seed=0).as_numpy_iterator()))
    assert sorted(seen) == list(range(6))


def test_layers_train_in_bins(monkeypatch):
    task, x, _ = make("classification", token_layout="padded")
    rows = packed_rows(task, task.rows(task.examples(x), None))
    inputs, *_ = next(iter(rows.batches(batch_size=4, seed=0)))
    modes = []
    call = Dropout.call

    def spy(layer, x, training=False):
        modes.append(training)
        return call(layer, x, training=training)

    monkeypatch.setattr(Dropout, "call", spy)
    for training in (False, True):
        modes.clear()
        outputs = task(inputs, training=training)
        assert set(modes) == {training}
        assert outputs.shape == (inputs["example_starts"].shape.num_elements(), 2)


def test_what_cannot_be_packed_is_refused_by_name():
    for name in sorted({*TRAINED} - {*TASKS, *MORE}):
        if name == "translation":
            continue  # its texts have another form
        task, x, y = make(name)
        with pytest.raises(
            ConfigError, match="`pack_examples` is not possible for .*: leave it out"
        ):
            task.fit(x, y, pack_examples=True, verbose=0)
    task, x, y = make("classification")
    for options, words in (
        ({"r_drop": 1.0}, "not possible with `r_drop`: leave one out"),
        ({"adversarial": "fgm"}, "not possible with `adversarial`"),
        ({"probe_epochs": 1}, "not possible with `probe_epochs`"),
        ({"shuffle": False}, "does not keep the order of examples"),
        ({"loss": lambda a, b: tf.reduce_sum(b)}, "mean over rows or tokens for `pack_examples`"),
    ):
        with pytest.raises(ConfigError, match=words):
            task.fit(x, y, pack_examples=True, verbose=0, **options)
    batches = tf.data.Dataset.from_tensors((tf.constant(["a"]), tf.constant([0])))
    with pytest.raises(ConfigError, match="`pack_examples` needs texts in memory"):
        task.fit(batches, pack_examples=True, verbose=0)
    task, x, y = make("token-classification")
    with pytest.raises(ConfigError, match="received `sample_weight` for token-classification"):
        task.fit(x, y, sample_weight=np.ones(7), pack_examples=True, verbose=0)
    with pytest.raises(ConfigError, match="--pack-examples is not possible with --adversarial"):
        check_packing("classification", Tricks(adversarial="fgm"), flags=True)
    assert "multi-label" in PACKED_TASKS


@pytest.mark.slow
def test_runs_on_bins_go_on_from_checkpoints(tmp_path):
    whole = fit("classification", pack_examples=True, batch_size=1, epochs=3)
    stop = keras.callbacks.LambdaCallback(on_train_batch_end=_stop_at(2))
    options = {"pack_examples": True, "batch_size": 1, "epochs": 3}
    options["checkpoints"] = kbz.Checkpoints(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fit("classification", callbacks=[stop], **options)
    check_equal(fit("classification", resume=True, **options), whole)


def _stop_at(count):
    steps = []

    def stop(batch, logs):
        steps.append(batch)
        if len(steps) == count:
            raise KeyboardInterrupt

    return stop


def test_plans_count_bins():
    from keras_bert_zoo.training.plan import plan_training

    task, x, y = make("classification", token_layout="padded")
    alone, packed = (
        plan_training(task, x * 20, y * 20, batch_size=4, epochs=1, pack_examples=packs)
        for packs in (False, True)
    )
    assert packed.tokens == alone.tokens
    assert packed.steps < alone.steps
    assert packed.padding < 0.1
    assert f"{packed.batch_size} rows each" in "\n".join(packed.lines())
