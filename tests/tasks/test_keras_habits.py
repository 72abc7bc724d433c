"""Arguments, results and callbacks as in Keras."""

import contextlib
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.training import fit as training
from keras_bert_zoo.training.data import prepared, split_examples
from keras_bert_zoo.training.objective import EpochMeasures
from keras_bert_zoo.training.optimizers import AdamW
from keras_bert_zoo.training.schedules import WarmupLinearDecay
from tests.frames import Series
from tests.helpers import as_graphs
from tests.tasks.every_task import EVERY_TASK, TRAINED, make, weights_of

unchanged = functools.cache(make)  # for tests that only read a task


class Steps(keras.callbacks.Callback):
    """Counts the steps of each epoch, and records the rates."""

    def __init__(self):
        super().__init__()
        self.steps, self.rates, self.epochs = [], [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.steps.append(0)
        self.epochs.append(epoch)

    def on_train_batch_end(self, batch, logs=None):
        self.steps[-1] += 1
        self.rates.append(float(self.model.optimizer.learning_rate))


def fit(task, x, y, **options):
    steps = Steps()
    callbacks = [*options.pop("callbacks", ()), steps]
    history = task.fit(
        x, y, **{"batch_size": 2, "epochs": 2, "verbose": 0} | options, callbacks=callbacks
    )
    return history.history, steps


@pytest.mark.parametrize("name", TRAINED)
def test_every_task_accepts_the_arguments_of_keras(name):
    task, x, y = make(name)
    history, steps = fit(
        task, x, y,
        validation_split=0.3, validation_freq=2, validation_steps=1, validation_batch_size=1,
        steps_per_epoch=1, initial_epoch=1, epochs=3, shuffle=False,
    )  # fmt: skip
    assert steps.steps == [1, 1]
    assert steps.epochs == [1, 2]
    assert len(history["loss"]) == 2
    assert len(history["val_loss"]) == 1
    # The schedule has 3 steps and continues after the first one.
    peak = WarmupLinearDecay(5e-5, total_steps=3, warmup_steps=0)
    np.testing.assert_allclose(steps.rates, [float(peak(step)) for step in (2, 3)], atol=1e-9)
    assert task.training_record["steps"] == 2

    weights = {} if name == "masked-lm" else {"sample_weight": [2.0] * 7}
    plain = task.evaluate(x, y, verbose=0, return_dict=True)
    values = task.evaluate(x, y, verbose=0, **weights)
    one = task.evaluate(x, y, verbose=0, batch_size=1, steps=1, return_dict=True)
    heavy, *values = values if isinstance(values, list) else [values]
    # Weights change no metric, and Keras sorts its dict by name.
    assert sorted(values) == pytest.approx(sorted(v for k, v in plain.items() if k != "loss"))
    assert np.isfinite(one["loss"])
    assert heavy == pytest.approx((2 if weights else 1) * plain["loss"], rel=1e-5)
    if weights and not name.startswith("embedding"):  # they have no labels or other labels
        history = task.fit(
            x, y, validation_data=(x, y, [2.0] * 7), epochs=1, verbose=0, learning_rate=0.0
        )
        assert history.history["val_loss"] == pytest.approx([heavy], rel=1e-5)


@pytest.mark.parametrize("name", TRAINED)
def test_every_task_accepts_single_batches(name):
    task, x, y = make(name)
    with pytest.raises(ConfigError, match="`train_on_batch` needs an optimizer: call `compile"):
        task.train_on_batch(x, y)
    loss = "cosent" if name == "embedding scored" else None
    task.compile(keras.optimizers.SGD(0.001), loss)
    before = task.test_on_batch(x, y, return_dict=True)
    assert before["loss"] == pytest.approx(
        task.evaluate(x, y, verbose=0, return_dict=True)["loss"], rel=1e-5
    )
    first = task.train_on_batch(x, y, return_dict=True)["loss"]
    if name != "masked-lm":  # training draws other masks
        assert first == pytest.approx(before["loss"], rel=1e-5)
        assert task.test_on_batch(x, y, return_dict=True)["loss"] < before["loss"]
    texts = tuple(x) if isinstance(x, tuple) else x
    if not name.startswith("embedding"):
        answers = task.predict(texts)
        for key, values in task.predict_on_batch(texts).items():
            np.testing.assert_array_equal(values, answers[key])


@pytest.mark.parametrize("name", EVERY_TASK)
def test_the_error_of_a_call_on_texts_names_predict(name):
    task = unchanged(name)[0]
    column = Series(["a"])
    for texts in (
        "a", ["a", "b"], (["a"], ["b"]), np.array(["a"]), tf.constant(["a"]), column, (column,) * 2,
    ):  # fmt: skip
        with pytest.raises(DataError, match=r"on a dict of token ids, received texts\. .*predict"):
            task(texts)


def without_training(monkeypatch):
    """Makes `fit` prepare the data without training; returns a list of the prepared runs."""
    runs = []

    def run(task, batches, **options):
        runs.append(options | {"batches": batches})
        history = keras.callbacks.History()
        history.epoch = []
        return history

    monkeypatch.setattr(training, "run_fit", run)
    return runs


@pytest.mark.parametrize("name", ["token-classification", "question-answering", "embedding scored"])
def test_data_is_prepared_once(name, monkeypatch):
    task, x, y = make(name)
    runs = without_training(monkeypatch)
    prepared, examples = [], []
    for method, calls in (("targets", prepared), ("examples", examples)):
        wrapped = getattr(task, method)
        monkeypatch.setattr(
            task, method, lambda *args, w=wrapped, c=calls, **k: c.append(args) or w(*args, **k)
        )
    task.fit(x, y, validation_data=x if y is None else (x, y), verbose=0)
    assert len(prepared) == 2  # for training and for validation
    given = [args for args in examples if args[0] is x]
    assert len(given) <= 2 + (name == "question-answering")
    (run,) = runs
    measures = [hook for hook in run["callbacks"] if isinstance(hook, EpochMeasures)]
    assert len(measures) == 1  # F1, or the correlation
    assert run["monitor"][0] in ("val_f1", "val_spearman")


def test_without_a_batch_size_the_default_is_used(monkeypatch):
    task, x, y = make("classification")
    expected = task.predict_logits(x)
    runs = without_training(monkeypatch)
    task.fit(x, y, batch_size=None, validation_data=(x, y))
    (run,) = runs
    assert len(next(iter(run["batches"]))[1]) == len(next(iter(run["validation"]))[1]) == 7
    assert task.training_record["batch_size"] == 32
    np.testing.assert_allclose(task.predict_logits(x, batch_size=None), expected, atol=1e-5)
    assert np.isfinite(task.evaluate(x, y, batch_size=None, verbose=0)[0])
    assert task.predict(x, batch_size=None)["scores"].shape == (7, 2)
    with pytest.raises(ConfigError, match="`batch_size` must be .*received 0"):
        task.fit(x, y, batch_size=0)


def test_evaluation_checks_the_number_of_texts_per_example():
    task, x, y = make("classification")
    task.compile(keras.optimizers.SGD(0.0))
    task.train_on_batch((x, x), y)
    assert task.pair
    task.test_on_batch((x, x), y)
    for measure in (task.test_on_batch, task.evaluate):
        with pytest.raises(DataError, match="Expected pairs of texts.*received single texts"):
            measure(x, y)


def test_weights_of_validation_data_are_used():
    task, x, y = make("classification")
    weight = np.linspace(0, 2, 7)
    history, _ = fit(task, x, y, validation_data=(x, y, weight), epochs=1, learning_rate=0.0)
    wanted = task.evaluate(x, y, verbose=0, sample_weight=weight)
    assert history["val_loss"][0] == pytest.approx(wanted[0], rel=1e-5)
    ids = [int(name == "xyz") for name in y]
    each = -np.log(task.predict(x)["scores"][np.arange(7), ids])
    assert wanted[0] == pytest.approx(np.mean(each * weight), rel=1e-4)


def test_a_split_is_the_last_part_and_class_weights_may_have_any_form():
    task, x, y = make("classification")
    train, _, _, held = split_examples(task, x, y, np.arange(7), 0.3)
    assert train.texts == x[:4]
    assert (held[0].texts, held[1]) == (x[4:], y[4:])
    assert held[2].tolist() == [4, 5, 6]
    with pytest.raises(ConfigError, match="`validation_split=0.99` of 7 examples leaves none to t"):
        split_examples(task, x, y, None, 0.99)
    targets = np.array([0, 1, 1])
    for weights in ([1.0, 3.0], np.array([1, 3]), (1, 3), {"abc": 1, "xyz": 3}):
        assert weights_of(task, targets, weights, None).tolist() == [1, 3, 3]
    for weights in ([1.0], [1.0, -1.0], [1.0, float("nan")], ["a", "b"], 3):
        with pytest.raises(ConfigError, match="`class_weight` must give each of the 2 labels"):
            weights_of(task, targets, weights, None)


def test_batches_in_order_and_more_steps_than_a_pass():
    task, x, y = make("classification")
    data = task.rows(*prepared(task, x, y))
    rows = [labels.numpy().tolist() for _, labels in data.batches(batch_size=3, in_order=True)]
    assert rows == [[0, 1, 0], [1, 0, 1], [0]]
    _, steps = fit(task, x, y, steps_per_epoch=5, epochs=2)
    assert steps.steps == [5, 5]
    endless = tf.data.Dataset.from_tensor_slices((x, y)).batch(2).repeat()
    _, steps = fit(task, endless, None, steps_per_epoch=3)
    assert steps.steps == [3, 3]


CALLBACKS = {
    "BackupAndRestore": lambda folder: keras.callbacks.BackupAndRestore(folder / "backup"),
    "CSVLogger": lambda folder: keras.callbacks.CSVLogger(folder / "log.csv"),
    "Callback": lambda folder: keras.callbacks.Callback(),
    "CallbackList": lambda folder: keras.callbacks.CallbackList([keras.callbacks.Callback()]),
    "EarlyStopping": lambda folder: keras.callbacks.EarlyStopping("val_loss"),
    "History": lambda folder: keras.callbacks.History(),
    "LambdaCallback": lambda folder: keras.callbacks.LambdaCallback(),
    "LearningRateScheduler": lambda folder: keras.callbacks.LearningRateScheduler(
        lambda epoch, rate: rate / 2
    ),
    "ModelCheckpoint": lambda folder: keras.callbacks.ModelCheckpoint(
        folder / "{epoch}.weights.h5", save_weights_only=True
    ),
    "MonitorCallback": None,  # a base class
    "OrbaxCheckpoint": None,  # needs the package orbax-checkpoint
    "ProgbarLogger": lambda folder: keras.callbacks.ProgbarLogger(),
    "ReduceLROnPlateau": lambda folder: keras.callbacks.ReduceLROnPlateau(
        "val_loss", factor=0.5, patience=1, min_delta=100.0
    ),
    "RemoteMonitor": None,  # sends to a server
    "SwapEMAWeights": lambda folder: keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
    "TensorBoard": None,  # needs the package tensorboard
    "TerminateOnNaN": lambda folder: keras.callbacks.TerminateOnNaN(),
}


def test_every_callback_of_keras_runs(tmp_path):
    known = {name for name in dir(keras.callbacks) if name[0].isupper()}
    assert known <= set(CALLBACKS), "a callback that is not tried here"
    made = {name: build(tmp_path) for name, build in CALLBACKS.items() if build is not None}
    task, x, y = make("classification")
    x, y = x[:2], y[:2]

    def run(callbacks, **options):
        options = {"epochs": 3, "verbose": 0, "learning_rate": 0.01} | options
        history = task.fit(x, y, validation_data=(x, y), callbacks=callbacks, **options)
        assert len(history.epoch) == options["epochs"]

    # A callback, a CallbackList and a list of callbacks.
    run(made.pop("Callback"), epochs=1)
    run(made.pop("CallbackList"), epochs=1)
    average, plateau = made.pop("SwapEMAWeights"), made.pop("ReduceLROnPlateau")
    run([*made.values()])
    assert (tmp_path / "3.weights.h5").exists()
    assert (tmp_path / "log.csv").read_text().count("\n") == 1 + 3  # epochs after a header
    task.compile(AdamW(1e-3, use_ema=True))  # SwapEMAWeights needs a compiled optimizer
    run([average, plateau])
    assert float(task.optimizer.learning_rate) < 1e-3


def test_callbacks_that_set_the_rate_replace_the_schedule():
    task, x, y = make("classification")
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    _, steps = fit(task, x, y, callbacks=[scheduler], batch_size=8, epochs=3, learning_rate=0.8)
    np.testing.assert_allclose(steps.rates, [0.4, 0.2, 0.1], rtol=1e-6)
    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=100.0)
    _, steps = fit(task, x, y, callbacks=[plateau], batch_size=8, epochs=4, learning_rate=0.8)
    np.testing.assert_allclose(steps.rates, [0.8, 0.8, 0.4, 0.2], rtol=1e-6)


@pytest.fixture(scope="module")
def classifier():
    return make("classification")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "`epochs` must be an integer of at least 1, received 0"),
        ({"epochs": True}, "`epochs` must be an integer"),
        ({"epochs": 2.0}, "`epochs` must be an integer"),
        ({"batch_size": 0}, "`batch_size` must be an integer of at least 1, received 0"),
        ({"batch_size": -3}, "`batch_size`"),
        (
            {"learning_rate": -1e-5},
            "`learning_rate` must be a number of at least 0, received -1e-05",
        ),
        ({"learning_rate": float("nan")}, "`learning_rate`"),
        (
            {"learning_rate": "fast"},
            "`learning_rate` must be a number of at least 0, received 'fast'",
        ),
        ({"warmup_fraction": 1.5}, "`warmup_fraction` must be a number from 0 to 1, received 1.5"),
        ({"warmup_fraction": float("nan")}, "`warmup_fraction`"),
        ({"weight_decay": -0.1}, "`weight_decay`"),
        ({"global_clipnorm": 0.0}, "`global_clipnorm` must be a number above 0 or None"),
        ({"patience": -1}, "`patience`"),
        ({"probe_epochs": -1}, "`probe_epochs`"),
        ({"seed": 1.5}, "`seed` must be an integer"),
        ({"shuffle": "yes"}, "`shuffle` must be True or False"),
        ({"gradient_checkpointing": 1}, "`gradient_checkpointing` must be True or False"),
        ({"accumulation_steps": 0}, "`accumulation_steps` must be an integer of at least 1"),
        ({"layer_decay": 0.0}, "`layer_decay` must be a number above 0 to 1, received 0.0"),
        ({"optimizer": "adamm"}, "`optimizer` to be one of .*lamb.*, received 'adamm'"),
        ({"steps_per_execution": 0}, "`steps_per_execution` must be an integer of at least 1"),
        ({"validation_split": 1.0}, "`validation_split` must be a number from 0 to below 1"),
        ({"validation_freq": 0}, "`validation_freq`"),
        ({"steps_per_epoch": 0}, "`steps_per_epoch`"),
        (
            {"initial_epoch": 3, "epochs": 3},
            "`initial_epoch` must be below `epochs`, 3, received 3",
        ),
        ({"epochs": 0, "batch_size": 0}, "`batch_size` must be .*; `epochs` must be"),
        ({"callbacks": ["stop"]}, "`callbacks` must be Keras callbacks, received 'stop'"),
        ({"sample_weight": [1.0] * 6 + [float("nan")]}, "`sample_weight` must hold finite"),
    ],
)
def test_arguments_out_of_range_are_refused(classifier, options, message):
    task, x, y = classifier
    with pytest.raises((ConfigError, DataError), match=message):
        task.fit(x, y, verbose=0, **options)


def test_optimizers_with_a_negative_rate_are_refused(classifier):
    task = classifier[0]
    with pytest.raises(
        ConfigError, match="`learning_rate` must be a number of at least 0, received -1"
    ):
        AdamW(-1.0)
    with pytest.raises(ConfigError, match="`learning_rate` must be a number of at least 0"):
        WarmupLinearDecay(-1.0, total_steps=3)
    with pytest.raises(
        ConfigError, match="`learning_rate` must be a number of at least 0, received -1"
    ):
        task.compile(keras.optimizers.SGD(-1.0))
    with pytest.raises(ConfigError, match="Expected a Keras optimizer or the name of one"):
        task.compile("adamm")
    with pytest.raises(ConfigError, match="does not take 'batchsize'"):
        task.evaluate(["a"], ["abc"], batchsize=3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["classification", "translation"])
def test_dtypes_that_cannot_train_are_refused_by_the_constructor(name, dtype):
    with pytest.raises(ConfigError, match=f"`dtype` .* train, received '{dtype}'.*mixed_bfloat16"):
        make(name, dtype=dtype)


def test_a_global_policy_that_cannot_train_is_refused():
    keras.config.set_dtype_policy("float16")
    try:
        with pytest.raises(ConfigError, match="can train, received 'float16'"):
            make("classification")
    finally:
        keras.config.set_dtype_policy("float32")
    assert isinstance(make("classification")[0], kbz.TextClassifier)


@as_graphs()
def test_float16_trains_with_a_scaled_loss():
    losses = []
    for dtype in ("float32", "mixed_float16"):
        task, x, y = make("classification", dtype=dtype)
        history = task.fit(x, y, batch_size=7, epochs=3, learning_rate=1e-2, verbose=0)
        losses.append(history.history["loss"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-2)
    assert losses[1][2] < losses[1][0]
    assert float(task.updates.loss_scale.scale) == 2.0**15
    assert int(task.updates.skipped) == 0


@as_graphs()
def test_recomputed_blocks_and_several_steps_per_call_train_the_same():
    results = []
    for options in ({}, {"gradient_checkpointing": True, "steps_per_execution": 3}):
        task, x, y = make("classification")
        history, steps = fit(task, x, y, learning_rate=0.01, **options)
        results.append((history["loss"], task.get_weights(), steps.steps))
        assert int(task.optimizer.iterations) == 8
        assert not task.encoder.gradient_checkpointing
        assert task.steps_per_execution == 1  # Keras would use it to predict, too
    (loss, weights, steps), (other_loss, other_weights, calls) = results
    np.testing.assert_allclose(other_loss, loss, rtol=1e-5)
    for ours, theirs in zip(weights, other_weights, strict=True):
        np.testing.assert_allclose(theirs, ours, atol=1e-5)
    assert (steps, calls) == ([4, 4], [2, 2])


def test_an_argument_of_compile_is_not_given_to_fit():
    task, x, y = make("classification")
    task.compile(AdamW(0.01), steps_per_execution=2)
    with pytest.raises(ConfigError, match="Give `steps_per_execution` to `compile` or to `fit`"):
        task.fit(x, y, steps_per_execution=2)


@as_graphs()
@pytest.mark.parametrize("strategy", [None, tf.distribute.OneDeviceStrategy("CPU:0")])
@pytest.mark.parametrize("call", ["fit", "keras_fit", "train_on_batch"])
def test_a_training_step_is_traced_once(monkeypatch, strategy, call):
    traces = []
    step = kbz.TextClassifier.train_step
    monkeypatch.setattr(
        kbz.TextClassifier, "train_step", lambda task, data: traces.append(1) or step(task, data)
    )
    with strategy.scope() if strategy else contextlib.nullcontext():
        task, x, y = make("classification")
        task.encoder.freeze(1)  # a step with few gradients is traced faster
        task.compile(AdamW(0.01))
    if call == "fit":
        task.fit(x, y, batch_size=4, epochs=2, verbose=0)
    elif call == "keras_fit":
        dataset = task.make_dataset(x, y, batch_size=4)
        keras.Model.fit(task, dataset, epochs=2, verbose=0, shuffle=False)
    else:
        task.train_on_batch(x, y)
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("question-answering", "max_answer_tokens", 0),
        ("question-answering", "null_threshold", "no"),
        ("token-classification", "stride", -1),
        ("masked-lm", "top_k", 1.5),
        ("multiple-choice", "num_choices", 1),
        ("translation", "label_smoothing", float("nan")),
    ],
)
def test_options_that_are_set_later_are_checked(name, option, value):
    task = unchanged(name)[0]
    before = getattr(task, option)
    with pytest.raises(ConfigError, match=f"Expected `{option}` to be .*, received {value!r}"):
        setattr(task, option, value)
    assert getattr(task, option) == before
