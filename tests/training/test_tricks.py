"""Regularization: terms of the loss by hand, perturbations by differences, and whole runs."""

import dataclasses
import functools
import itertools
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.data.pipeline import NO_LABEL
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.layers import training_hooks
from keras_bert_zoo.training.outputs import Outputs
from keras_bert_zoo.training.replicas import Part, Share
from keras_bert_zoo.training.token_loss import SmoothedTokenLoss
from keras_bert_zoo.training.tricks import adversarial, passes
from keras_bert_zoo.training.tricks.divergence import divergence, shared_mean
from keras_bert_zoo.training.tricks.losses import label_loss
from keras_bert_zoo.training.tricks.options import (
    CRF_OR_NESTED,
    TRICKS,
    Tricks,
    check_tricks,
    tricks_of,
)
from keras_bert_zoo.training.tricks.step import make_regularizer
from tests.documents import ROOT
from tests.helpers import eagerly
from tests.tasks import every_task
from tests.tasks.every_task import make, spread_weights

LABEL = Outputs("label", "TextClassifier", 3)
OPTIONS = {
    "r_drop": {"r_drop": 2.0},
    "fgm": {"adversarial": "fgm", "adversarial_epsilon": 0.5},
    "freelb": {"adversarial": "freelb", "adversarial_epsilon": 0.5},
    "smart": {"adversarial": "smart", "adversarial_epsilon": 0.5},
    "label_smoothing": {"label_smoothing": 0.1},
    "focal_loss": {"focal_loss": 2.0},
    "mixup": {"mixup": 0.5},
}


@pytest.fixture(autouse=True)
def eager():
    with eagerly():
        yield


def softmax(x):
    exponents = np.exp(x - x.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


def logits(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape, scale=2).astype(np.float32)


# === Terms ===


def test_divergences_equal_written_out_sums():
    first, second = logits(4, 3), logits(4, 3, seed=1)
    p, q = softmax(first.astype(np.float64)), softmax(second.astype(np.float64))
    expected = [
        0.5 * sum(p[i, c] * np.log(p[i, c] / q[i, c]) + q[i, c] * np.log(q[i, c] / p[i, c])
                  for c in range(3))
        for i in range(4)
    ]  # fmt: skip
    np.testing.assert_allclose(divergence(first, second, LABEL), expected, rtol=1e-5)
    tokens = dataclasses.replace(LABEL, kind="tokens")
    of_tokens = divergence(first[np.newaxis], second[np.newaxis], tokens)
    np.testing.assert_allclose(of_tokens, [expected], rtol=1e-5)

    p, q = (1 / (1 + np.exp(-x.astype(np.float64))) for x in (first, second))
    both = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    both += q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))
    several = dataclasses.replace(LABEL, kind="labels")
    np.testing.assert_allclose(divergence(first, second, several), both.mean(1) / 2, rtol=1e-5)

    numbers = Outputs("number", "TextRegressor", scores=lambda x: 2 * x)
    x, y = np.float32([[1], [2]]), np.float32([[4], [1]])
    np.testing.assert_allclose(divergence(x, y, numbers), [36, 4])
    with pytest.raises(ConfigError, match="distributions or numbers, received those of a Tagger"):
        divergence(x, y, Outputs("other", "Tagger"))


def stub(share=None, y=None, weight=None, model=None, count=0):
    updates = types.SimpleNamespace(
        scaled=lambda loss: loss, count=tf.Variable(count, dtype=tf.int64), accumulation=1
    )
    x = {"padding_mask": np.ones([2, 3], np.int32)}
    return Part(model, x, y, weight, share, "rows", updates)


def test_means_leave_out_copies_and_unlabelled_tokens_and_take_weights():
    share = Share(tf.constant([True, False]), tf.constant(4.0), tf.constant(5.0))
    weight = tf.constant([[3.0], [7.0]])
    of_rows = tf.constant([2.0, 100.0])
    assert float(shared_mean(stub(share), of_rows)) == 2 / 4
    assert float(shared_mean(stub(share, weight=weight), of_rows)) == 3 * 2 / 4
    assert float(shared_mean(stub(), of_rows)) == 51
    labels = tf.constant([[0, NO_LABEL, 2], [1, 1, NO_LABEL]])
    of_tokens = tf.constant([[1.0, 100.0, 2.0], [4.0, 8.0, 100.0]])
    assert float(shared_mean(stub(share, labels), of_tokens)) == np.float32(3 / 5)
    assert float(shared_mean(stub(share, labels, weight), of_tokens)) == np.float32(9 / 5)
    assert float(shared_mean(stub(y=labels), of_tokens)) == 15 / 4
    assert float(shared_mean(stub(y=tf.fill([2, 3], NO_LABEL)), of_tokens)) == 0


class StubModel:
    """Returns given outputs, one after the other."""

    def __init__(self, *outputs):
        self.outputs = list(outputs)
        self.crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def __call__(self, x, training):
        assert training
        return tf.constant(self.outputs.pop(0))

    def compute_loss(self, x, y, y_pred, weight, training):
        return self.crossentropy(y, y_pred, weight)


def test_r_drop_equals_a_written_out_sum():
    first, second, y = logits(2, 3), logits(2, 3, seed=1), np.array([2, 0])
    part = stub(y=y, model=StubModel(first, second))
    passed = passes.r_drop(part, weight=4.0, outputs=LABEL)
    p, q = softmax(first), softmax(second)
    nats = [-np.log(each[np.arange(2), y]).mean() for each in (p, q)]
    kl = 0.5 * ((p * np.log(p / q)).sum(1) + (q * np.log(q / p)).sum(1)).mean()
    np.testing.assert_allclose(passed.loss, 0.5 * sum(nats) + 4 * kl, rtol=1e-5)
    np.testing.assert_array_equal(passed.outputs, first)


def test_the_passes_of_r_drop_have_different_dropout(monkeypatch):
    config = dataclasses.replace(every_task._config(), dropout=0.5)
    monkeypatch.setattr(every_task, "_config", lambda: config)
    _, part = real_part("classification")
    first, second = part.outputs().numpy(), part.outputs().numpy()
    assert (first != second).any(axis=1).all()
    two = dataclasses.replace(LABEL, count=2)
    losses = [float(passes.r_drop(part, weight=weight, outputs=two).loss) for weight in (0.0, 1e3)]
    assert losses[1] > 10 * losses[0]


# === Losses of labels ===


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_losses_of_one_label_equal_the_formula(smoothing, gamma):
    """With gamma 0, the formula is that of torch.nn.CrossEntropyLoss(label_smoothing=...)."""
    x, y = logits(5, 3), np.array([0, 1, 2, 1, 0])
    p = softmax(x.astype(np.float64))
    target = (1 - smoothing) * np.eye(3)[y] + smoothing / 3
    expected = -(target * (1 - p) ** gamma * np.log(p)).sum(1)
    options = {"label_smoothing": smoothing, "focal_loss": gamma}
    np.testing.assert_allclose(label_loss(LABEL, **options)(y, x), expected.mean(), rtol=1e-5)
    # Tokens without a label do not count.
    tokens = dataclasses.replace(LABEL, kind="tokens")
    labels = np.array([[0, 1, NO_LABEL], [2, 1, 0]], np.int32)
    rows = np.stack([x[[0, 1, 4]], x[2:5]])
    np.testing.assert_allclose(
        label_loss(tokens, **options)(labels, rows), expected.mean(), rtol=1e-5
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_losses_of_several_labels_equal_the_formula(smoothing):
    x, y = logits(5, 3), np.random.default_rng(2).integers(0, 2, (5, 3)).astype(np.float32)
    p = 1 / (1 + np.exp(-x.astype(np.float64)))
    target = (1 - smoothing) * y + smoothing / 2
    nats = -target * np.log(p) - (1 - target) * np.log(1 - p)
    outputs = dataclasses.replace(LABEL, kind="labels")
    made = label_loss(outputs, label_smoothing=smoothing)(y, x)
    np.testing.assert_allclose(made, nats.mean(), rtol=1e-5)
    focal = label_loss(outputs, label_smoothing=smoothing, focal_loss=2.0)(y, x)
    factor = (1 - (target * p + (1 - target) * (1 - p))) ** 2
    np.testing.assert_allclose(focal, (factor * nats).mean(), rtol=1e-5)


def test_the_focal_loss_of_tokens_equals_that_of_keras():
    x, y = logits(2, 4, 3), np.array([[0, 1, 2, 2], [1, 0, 0, 2]], np.int32)
    own = SmoothedTokenLoss(0.1, focal_gamma=1.5)
    same = SmoothedTokenLoss.from_config(own.get_config())
    assert (same.label_smoothing, same.focal_gamma) == (0.1, 1.5)
    other = keras.losses.CategoricalFocalCrossentropy(
        alpha=1.0, gamma=1.5, from_logits=True, label_smoothing=0.1
    )
    rows = other(np.eye(3, dtype=np.float32)[y.reshape(-1)], x.reshape(-1, 3))
    np.testing.assert_allclose(same(y, x), rows, rtol=1e-5)


def test_the_focal_loss_of_a_certain_label_has_a_finite_gradient():
    x = tf.constant([[[200.0, 0.0]]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = SmoothedTokenLoss(0.0, focal_gamma=0.5)(tf.constant([[0]]), x)
    assert np.isfinite(tape.gradient(loss, x)).all()


# === Perturbations ===


def real_part(name, count=0, **options):
    """A tiny task without dropout, and the part that is its whole data."""
    task, x, y = make(name, **options)
    spread_weights(task)
    task.compile("sgd")
    inputs, labels = next(iter(task.make_dataset(x, y, batch_size=7, shuffle=False)))
    stubbed = stub(y=labels, model=task, count=count)
    return task, dataclasses.replace(stubbed, x=inputs, unit=task.loss_unit)


def recorded(seen):
    """Plain passes that record the perturbation."""

    def function(part):
        seen.append(training_hooks._PERTURBATION.get().numpy())
        return passes.plain(part)

    return function


def loss_at(part, perturbation):
    with training_hooks.perturbed_words(tf.constant(perturbation)):
        return float(passes.plain(part).loss)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_fgm_perturbs_along_finite_differences(layout):
    _, part = real_part("classification", token_layout=layout)
    seen = []
    loss, _, gradients = adversarial.fgm(part, recorded(seen), epsilon=0.25)
    clean, worst = seen
    assert not clean.any()
    np.testing.assert_allclose(np.sqrt((worst**2).sum((1, 2))), 0.25, rtol=1e-5)
    assert not worst[part.x["padding_mask"].numpy() == 0].any()
    # Finite differences of the largest coordinates of each text.
    for row in range(2):
        size = np.abs(worst[row])
        places = [np.unravel_index(i, size.shape) for i in np.argsort(size.ravel())[-3:]]
        slopes = []
        for place in places:
            step = np.zeros_like(worst)
            step[row][place] = 0.01
            slopes.append((loss_at(part, step) - loss_at(part, -step)) / 0.02)
        values = [worst[row][place] for place in places]
        ratios = np.array(slopes) / values
        assert (ratios > 0).all()
        np.testing.assert_allclose(ratios, ratios.mean(), rtol=0.03)
    np.testing.assert_allclose(loss, (loss_at(part, clean) + loss_at(part, worst)) / 2, rtol=1e-5)
    assert loss_at(part, worst) > loss_at(part, clean)
    # The gradients are the mean of those of two plain steps.
    steps = []
    for perturbation in seen:
        with training_hooks.perturbed_words(tf.constant(perturbation)):
            steps.append(passes.unperturbed(part, passes.plain)[2])
    for own, first, second in zip(gradients, *steps, strict=True):
        assert (own is None) == (first is None)
        if own is not None:
            mean = (tf.convert_to_tensor(first) + tf.convert_to_tensor(second)) / 2
            np.testing.assert_allclose(tf.convert_to_tensor(own), mean, atol=1e-6)


def test_freelb_ascends_inside_of_the_ball():
    _, part = real_part("classification")
    seen = []
    loss, _, _ = adversarial.freelb(part, recorded(seen), epsilon=0.4, seed=3)
    assert len(seen) == 3
    norms = [np.sqrt((p**2).sum((1, 2))) for p in seen]
    np.testing.assert_allclose(norms[0], 0.2, rtol=1e-5)
    assert (np.array(norms) < 0.4 + 1e-5).all()
    losses = [loss_at(part, perturbation) for perturbation in seen]
    assert losses[0] < losses[1] < losses[2]
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-5)
    # The noise depends on the seed and on the number of updates alone.
    for seed, count, equal in ((3, 0, True), (4, 0, False), (3, 1, False)):
        part.updates.count.assign(count)
        noise = 0.2 * adversarial._noise(part, seed).numpy()
        assert np.array_equal(noise, seen[0]) == equal


def test_smart_adds_the_divergence_under_a_bad_perturbation(monkeypatch):
    _, part = real_part("classification")
    two = dataclasses.replace(LABEL, count=2)
    seen = []
    real = adversarial.perturbed_words
    monkeypatch.setattr(adversarial, "perturbed_words", lambda p: seen.append(p) or real(p))
    loss, _, _ = adversarial.smart(part, passes.plain, epsilon=0.5, seed=0, outputs=two)
    noise, worst = seen
    np.testing.assert_allclose(tf.norm(noise, axis=[1, 2]), 0.05, rtol=1e-5)
    assert (tf.norm(worst, axis=[1, 2]) < 0.5 + 1e-5).numpy().all()

    def change(perturbation):
        with training_hooks.perturbed_words(perturbation):
            p = softmax(part.outputs().numpy())
        q = softmax(part.outputs().numpy())
        return ((p - q) * np.log(p / q)).sum(1).mean()

    plain = float(passes.plain(part).loss)
    np.testing.assert_allclose(float(loss), plain + change(worst), rtol=1e-4)
    assert change(worst) > 2 * change(noise * 10)  # random directions of the same norm


def test_mixup_equals_a_written_out_interpolation():
    task, part = real_part("classification", count=5)
    mixup = passes.Mixup(0.5, seed=0)
    share = float(mixup.shares[5])
    distance = 1 + int(mixup.distances[5] * 6)
    partners = (np.arange(7) + distance) % 7
    inputs = {name: tf.constant(value) for name, value in part.x.items()}
    pooled = task.encoder(inputs)["pooled_output"].numpy()
    kernel, bias = task.head.get_weights()
    p = softmax((share * pooled + (1 - share) * pooled[partners]) @ kernel + bias)
    y = part.y.numpy()
    nats = -share * np.log(p[np.arange(7), y]) - (1 - share) * np.log(p[np.arange(7), y[partners]])
    np.testing.assert_allclose(mixup(part).loss, nats.mean(), rtol=1e-5)
    assert (passes.Mixup(0.5, seed=1).shares != mixup.shares).any()


def test_no_text_is_mixed_with_itself_or_with_a_copy():
    mixup = passes.Mixup(1.0, seed=0)
    real = tf.constant([True] * 4 + [False] * 2)
    part = stub(Share(real, tf.constant(9.0), tf.constant(0.0)))
    seen = set()
    for distance in (0.0, 0.34, 0.67, 0.9999):
        partners = mixup._partners(part, tf.constant(distance)).numpy()[:4]
        assert (partners < 4).all()
        assert (partners != np.arange(4)).all()
        seen.add(tuple(partners))
    assert len(seen) == 3
    alone = stub(Share(tf.constant([True]), tf.constant(1.0), tf.constant(0.0)))
    assert mixup._partners(alone, tf.constant(0.5)).numpy().tolist() == [0]


# === Options ===


def test_tricks_are_refused_with_one_line():
    check_tricks(Tricks(), "masked-lm")
    for task, (name, options) in itertools.product(TRICKS, OPTIONS.items()):
        if name in TRICKS[task]:
            check_tricks(Tricks(**options), task)
            continue
        with pytest.raises(ConfigError, match=f"Expected for {task}: .*; received .*"):
            check_tricks(Tricks(**options), task)
    for options, message in (
        ({"mixup": 1.0, "r_drop": 1.0}, "Expected `mixup` or `r_drop`, received both: mixed"),
        ({"mixup": 1.0, "adversarial": "smart"}, '`mixup` or `adversarial="smart"`, received both'),
        ({"adversarial_epsilon": 1.0}, '`adversarial_epsilon` needs `adversarial="fgm"`, '),
    ):
        with pytest.raises(ConfigError, match=message):
            check_tricks(Tricks(**options), "classification")
    with pytest.raises(TypeError, match="unexpected keyword argument 'bach_size'"):
        tricks_of({"bach_size": 3})


def test_the_page_lists_the_tricks_of_each_task():
    page = (ROOT / "docs" / "training.md").read_text("utf-8")
    lines = page[page.index("| task | r_drop |") :].split("\n\n")[0].splitlines()
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    listed = {
        task: {name for name, cell in zip(head[1:], cells, strict=True) if cell == "yes"}
        for task, *cells in rows
    }
    assert listed == {task: set(names) for task, names in TRICKS.items()}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("classification", {"r_drop": -1.0}, "`r_drop` must be a number of at least 0"),
        ("classification", {"label_smoothing": 1.0}, "from 0 to below 1, received 1.0"),
        ("classification", {"adversarial": "pgd"}, "one of 'fgm', 'freelb', 'smart', or None"),
        ("classification", {"adversarial": ["fgm"]}, "one of 'fgm', 'freelb', 'smart', or None"),
        ("classification", {"label_smoothing": 0.1, "loss": "ce"}, "received both: each of them"),
        ("token-classification crf", {"r_drop": 1.0}, f"Expected for {CRF_OR_NESTED}: "),
        ("token-classification nested", {"focal_loss": 1.0}, f"Expected for {CRF_OR_NESTED}: "),
        ("regression", {"focal_loss": 1.0}, "Expected for regression: `r_drop`, "),
    ],
)
def test_fit_refuses(name, options, message):
    task, x, y = make(name)
    with pytest.raises(ConfigError, match=message):
        task.fit(x, y, verbose=0, **options)


def test_a_compiled_loss_is_not_replaced():
    task, x, y = make("classification")
    task.compile("sgd")
    with pytest.raises(ConfigError, match="Give `loss` to `compile` or to `fit`, not to both"):
        task.fit(x, y, verbose=0, focal_loss=2.0)


# === Runs ===


def fit(name, *, made=None, **options):
    task, x, y = make(name) if made is None else made
    spread_weights(task)
    history = task.fit(
        x, y, **{"batch_size": 7, "epochs": 2, "learning_rate": 1e-2, "verbose": 0} | options
    )
    return history.history["loss"], task.get_weights(), task


plain_fit = functools.cache(lambda name: fit(name, epochs=1)[:2])
EACH = {
    "classification": [name for name in OPTIONS if name not in ("label_smoothing", "focal_loss")],
    "classification multi-label": ["r_drop", "mixup"],
    "regression": ["smart", "mixup"],
    "token-classification": ["smart", "focal_loss"],
    "token-classification nested": ["fgm"],
    "multiple-choice": ["fgm"],
    "relations": ["freelb"],
    "embedding": ["fgm"],
    "question-answering": ["fgm"],
    "translation": ["r_drop"],
}


@pytest.mark.parametrize("name", EACH)
def test_tasks_train_with_tricks(name):
    plain, weights = plain_fit(name)
    for trick in EACH[name]:
        losses, changed, task = fit(name, epochs=1, **OPTIONS[trick])
        assert np.isfinite(losses).all()
        if trick == "r_drop":  # without dropout, both passes are equal
            np.testing.assert_allclose(losses, plain, rtol=1e-6)
            for own, other in zip(changed, weights, strict=True):
                np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-5)
        else:
            assert abs(losses[0] - plain[0]) > 1e-7
            assert any((own != other).any() for own, other in zip(changed, weights, strict=True))
        recorded = task.training_record["options"]
        assert {key: recorded[key] for key in OPTIONS[trick]} == OPTIONS[trick]


@pytest.mark.parametrize("name", ["token-classification"])
def test_parts_give_the_update_of_the_batch(name):
    options = {"epochs": 1, **OPTIONS["r_drop"], **OPTIONS["fgm"]}
    losses, weights, _ = fit(name, **options)
    others, other_weights, _ = fit(name, **options, accumulation_steps=3)
    np.testing.assert_allclose(others, losses, rtol=1e-5)
    for own, other in zip(other_weights, weights, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-5)


def test_a_later_fit_is_plain_again():
    expected, weights, task = fit("classification")
    made = make("classification")
    made[0].compile("sgd")  # keeps its step
    fit("classification", made=made, r_drop=1.0, adversarial="fgm")
    steps = made[0].step_functions._functions
    assert "train_step" not in steps
    task, x, y = make("classification")
    fit("classification", made=(task, x, y), label_smoothing=0.3)
    again, other_weights, _ = fit("classification", made=(task, x, y))
    np.testing.assert_allclose(again, expected, rtol=1e-6)
    for own, other in zip(other_weights, weights, strict=True):
        np.testing.assert_array_equal(own, other)


COMBINATIONS = [
    ("mixed_float16", False, {"r_drop": 1.0, "adversarial": "fgm", "label_smoothing": 0.1}),
    ("mixed_bfloat16", True, {"mixup": 0.5, "adversarial": "freelb", "focal_loss": 2.0}),
    ("float32", True, {"r_drop": 1.0, "adversarial": "smart"}),
]


@pytest.mark.parametrize(("dtype", "eager_run", "options"), COMBINATIONS)
def test_combinations_train(dtype, eager_run, options):
    keras.utils.set_random_seed(0)  # mixup and dropout draw random numbers
    with eagerly(eager_run):
        losses, weights, task = fit(
            "classification", made=make("classification", dtype=dtype), **options, epochs=4,
            accumulation_steps=2, gradient_checkpointing=True, global_clipnorm=0.5, batch_size=4,
        )  # fmt: skip
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0], losses
    assert all(np.isfinite(weight).all() for weight in weights)
    assert (int(task.updates.count.numpy()), int(task.updates.skipped.numpy())) == (8, 0)


@pytest.mark.slow  # XLA compiles for several seconds
@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({"mixup": 0.5, "adversarial": "fgm", "focal_loss": 2.0}, 1e-4),
        # The noise depends on the width of the batch, and static shapes are wider.
        ({"r_drop": 1.0, "adversarial": "smart"}, 1e-2),
        ({"adversarial": "freelb"}, 1e-2),
    ],
)
def test_xla_compiles_the_step(options, tolerance):
    options = options | {"batch_size": 4, "epochs": 1}
    expected, _, _ = fit("classification", **options)
    with eagerly(False):
        made = make("classification", token_layout="padded")
        losses, _, _ = fit("classification", made=made, jit_compile=True, **options)
    np.testing.assert_allclose(losses, expected, rtol=tolerance)


def test_a_run_goes_on_with_equal_losses(tmp_path):
    import keras_bert_zoo as kbz

    options = {"mixup": 0.5, "adversarial": "freelb", "epochs": 2}
    whole, weights, _ = fit("classification", **options)

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                raise KeyboardInterrupt

    checkpoints = kbz.Checkpoints(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        fit("classification", checkpoints=checkpoints, callbacks=[Stop()], **options)
    with pytest.raises(ConfigError, match="mixup 0.5, now 0.25"):
        fit("classification", checkpoints=checkpoints, resume=True, **options | {"mixup": 0.25})
    losses, resumed, _ = fit("classification", checkpoints=checkpoints, resume=True, **options)
    assert losses == whole
    for own, other in zip(resumed, weights, strict=True):
        np.testing.assert_array_equal(own, other)


@pytest.mark.parametrize(("name", "epsilon"), [("fgm", 0.1), ("freelb", 0.1), ("smart", 1.0)])
def test_the_default_norm_of_a_perturbation(name, epsilon):
    tricks = Tricks(adversarial=name)
    assert make_regularizer(tricks, LABEL, 0).keywords["epsilon"] == epsilon
    given = dataclasses.replace(tricks, adversarial_epsilon=0.3)
    assert make_regularizer(given, LABEL, 0).keywords["epsilon"] == 0.3


def test_none_is_the_plain_step():
    assert make_regularizer(Tricks(label_smoothing=0.1, focal_loss=1.0), LABEL, 0) is None
