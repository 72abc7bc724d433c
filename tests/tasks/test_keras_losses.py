"""Losses and metrics by their Keras names, on logits: compared with scikit-learn."""

import keras
import numpy as np
import pytest
import sklearn.metrics as sk
import tensorflow as tf

from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.training.keras_metrics import resolve_metrics
from keras_bert_zoo.training.outputs import Outputs, resolve_loss
from tests.tasks.every_task import TRAINED, make

RANDOM = np.random.default_rng(0)
LOGITS = (RANDOM.normal(size=(200, 3)) * 2).astype(np.float32)
IDS = RANDOM.integers(0, 3, 200)
BINARY = IDS % 2
ROWS = RANDOM.integers(0, 2, (200, 3)).astype(np.float32)
TWO = Outputs("label", "TextClassifier", 2)
THREE = Outputs("label", "TextClassifier", 3)
MULTI = Outputs("labels", "TextClassifier", 3)
SOFTMAX2 = tf.nn.softmax(LOGITS[:, :2]).numpy()
SOFTMAX3 = tf.nn.softmax(LOGITS).numpy()
SIGMOID = tf.sigmoid(LOGITS).numpy()


def test_a_classifier_has_the_same_loss_by_name_as_by_default():
    task, x, y = make("classification")
    own = task.evaluate(x, y, verbose=0)[0]
    for loss in (
        "sparse_categorical_crossentropy",
        "SparseCategoricalCrossentropy",
        "crossentropy",
        "categorical_crossentropy",
        keras.losses.sparse_categorical_crossentropy,
        keras.losses.CategoricalCrossentropy,
        [keras.losses.SparseCategoricalCrossentropy(from_logits=True)],
    ):
        task.compile("adam", loss, metrics=["accuracy", "AUC"])
        found = task.evaluate(x, y, verbose=0, return_dict=True)
        assert found["loss"] == pytest.approx(own, rel=1e-5)
        scores = task.predict(x)["scores"][:, 1]
        truth = [name == "xyz" for name in y]
        # Keras' AUC has only 200 thresholds; several scores may be between two of them.
        area = float(keras.metrics.AUC()(truth, scores))
        assert found["AUC"] == pytest.approx(area, abs=1e-6)
        assert found["AUC"] == pytest.approx(sk.roc_auc_score(truth, scores), abs=0.05)
    assert own == pytest.approx(np.log(2), abs=0.3)


class Pairs(keras.utils.PyDataset):
    """One batch of texts and labels."""

    def __init__(self, *batch):
        super().__init__()
        self.batch = batch

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.batch


def test_the_labels_of_datasets_may_be_ids_names_rows_and_shares():
    task, x, y = make("classification")
    ids = np.array([["abc", "xyz"].index(name) for name in y])
    rows = np.eye(2, dtype=np.float32)[ids]
    shares = np.abs(rows - 0.25)
    logits = task.predict_logits(x)
    log = np.log(tf.nn.softmax(logits))

    def measured(labels):
        """Computes loss and metrics as for a batch of a dataset."""
        targets = task.objective().dataset_targets(tf.constant(labels))
        names = ["accuracy", "AUC", "sparse_categorical_crossentropy", "ce"]
        metrics = resolve_metrics(names, task.objective().outputs)
        for metric in metrics:
            metric.update_state(targets, logits)
        return [float(task.loss(targets, logits)), *(float(m.result()) for m in metrics)]

    nats = sk.log_loss(ids, np.exp(log))
    area = float(keras.metrics.AUC()(ids, np.exp(log)[:, 1]))
    expected = [nats, np.mean(logits.argmax(-1) == ids), area, nats, nats]
    for loss in ("sparse_categorical_crossentropy", "categorical_crossentropy"):
        task.compile("sgd", loss)
        for labels in (y, ids, ids[:, None], rows, rows.astype(np.int64)):
            assert measured(labels) == pytest.approx(expected, rel=1e-5)
    soft_nats = -np.mean((shares * log).sum(-1))
    assert measured(shares) == pytest.approx([soft_nats, *expected[1:]], rel=1e-5)
    with pytest.raises(
        DataError,
        match=r"\(B,\) or \(B, 2\) in a dataset, "
        r"received float32 \(7, 3\)",
    ):
        measured(np.ones((7, 3), np.float32))
    # Whole passes with the default metrics.
    dataset = tf.data.Dataset.from_tensor_slices((x, shares)).batch(4)
    task.compile(keras.optimizers.SGD(0.0), "categorical_crossentropy")
    found = task.fit(dataset, epochs=1, verbose=0).history
    assert found["loss"] == pytest.approx([soft_nats], rel=1e-5)
    assert found["accuracy"] == pytest.approx(expected[1:2])
    assert task.evaluate(Pairs(x, rows), verbose=0) == pytest.approx(expected[:2], rel=1e-5)


def test_a_custom_loss_gets_unchanged_rows_or_ids():
    task, _, y = make("classification")
    task.compile("sgd", lambda y_true, y_pred: tf.reduce_sum(y_true * y_pred, axis=-1))
    wide = np.arange(9, dtype=np.float32).reshape(3, 3)
    for labels in (wide, wide[:, :2]):
        np.testing.assert_array_equal(task.objective().dataset_targets(tf.constant(labels)), labels)
    for labels in (y[:3], [[0], [1], [0]], [0, 1, 0]):
        assert task.objective().dataset_targets(tf.constant(labels)).numpy().tolist() == [0, 1, 0]
    (accuracy,) = resolve_metrics(["accuracy"], TWO)
    with pytest.raises(
        DataError, match=r"labels of shape \(B,\) or \(B, 2\), received \(3, 3\): pass m"
    ):
        accuracy.update_state(wide, LOGITS[:3, :2])
    task.compile("sgd")  # the default loss does not accept shares
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"shares need .*'categorical_cross"):
        task.objective().dataset_targets(tf.constant(wide[:, :2]))


def test_losses_and_metrics_of_a_regressor_use_its_scores():
    task, x, y = make("regression")
    task.activation = "sigmoid"
    scores = tf.sigmoid(task.predict_logits(x)[:, 0])
    own = task.evaluate(x, y, verbose=0)
    task.compile("sgd", "mse", metrics=["mae", keras.metrics.RootMeanSquaredError()])
    loss, mae, root = task.evaluate(x, y, verbose=0)
    assert [loss, mae] == pytest.approx(own, rel=1e-5)
    assert loss == pytest.approx(sk.mean_squared_error(y, scores), rel=1e-5)
    assert mae == pytest.approx(sk.mean_absolute_error(y, scores), rel=1e-5)
    assert root == pytest.approx(loss**0.5, rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "outputs", "labels", "wanted"),
    [
        ("sparse_categorical_crossentropy", THREE, IDS, sk.log_loss(IDS, SOFTMAX3)),
        ("categorical_crossentropy", THREE, IDS, sk.log_loss(IDS, SOFTMAX3)),
        (
            "categorical_focal_crossentropy", THREE, IDS,
            keras.losses.CategoricalFocalCrossentropy()(np.eye(3)[IDS], SOFTMAX3),
        ),
        (
            "categorical_hinge", THREE, IDS,
            keras.losses.CategoricalHinge()(np.eye(3)[IDS], LOGITS),
        ),
        (
            "binary_crossentropy", MULTI, ROWS,
            -np.mean(ROWS * np.log(SIGMOID) + (1 - ROWS) * np.log(1 - SIGMOID)),
        ),
        (
            "binary_focal_crossentropy", MULTI, ROWS,
            keras.losses.BinaryFocalCrossentropy()(ROWS, SIGMOID),
        ),
        ("hinge", MULTI, ROWS, sk.hinge_loss(ROWS.ravel(), LOGITS.ravel())),
        ("mse", Outputs("number", "R"), ROWS[:, :1], np.mean((ROWS[:, 0] - LOGITS[:, 0]) ** 2)),
    ],
)  # fmt: skip
def test_losses_by_name_take_logits(loss, outputs, labels, wanted):
    logits = LOGITS[:, :1] if outputs.kind == "number" else LOGITS
    found = resolve_loss(loss, outputs)(labels, logits)
    assert float(found) == pytest.approx(float(wanted), rel=1e-4)


@pytest.mark.parametrize("name", TRAINED)
def test_every_task_accepts_a_loss_name_or_lists_the_names_it_accepts(name):
    task, x, y = make(name)
    kind = task.objective().outputs.kind
    fitting = {
        "label": "sparse_categorical_crossentropy",
        "labels": "binary_crossentropy",
        "number": "mean_squared_error",
        "tokens": "sparse_categorical_crossentropy",
    }.get(kind)
    # The default loss of a translator has label smoothing.
    if fitting is not None and name != "translation":
        own = task.evaluate(x, y, verbose=0, return_dict=True)["loss"]
        task.compile("sgd", fitting)
        found = task.evaluate(x, y, verbose=0, return_dict=True)["loss"]
        assert found == pytest.approx(own, rel=1e-5)
    for loss in ("dice", "kl_divergence", "nonsense", "mse", "binary_crossentropy"):
        if loss == fitting or (loss == "mse" and kind == "number"):
            continue
        with pytest.raises(ConfigError, match=r"(is no loss for a|is unknown)[^.]*\. Expected "):
            task.compile("sgd", loss)
    if name.startswith("embedding"):
        task.compile("sgd", "cosent" if "scored" in name else "multiple_negatives")
    with pytest.raises(ConfigError, match="is unknown"):
        task.compile("sgd", metrics=["nonsense"])
    if kind not in ("label", "labels"):
        with pytest.raises(ConfigError, match="AUC is no metric for a"):
            task.compile("sgd", metrics=["AUC"])


@pytest.mark.parametrize(
    ("loss", "outputs", "message"),
    [
        (
            keras.losses.SparseCategoricalCrossentropy(), THREE,
            r"SparseCategoricalCrossentropy\(from_logits=False\) does not fit.*`from_logits=True`",
        ),
        (keras.losses.BinaryCrossentropy(), MULTI, r"\(from_logits=False\).*`from_logits=True`"),
        (
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            Outputs("tokens", "MaskedLM"), "pass `ignore_class=-1`",
        ),
        ("binary_crossentropy", TWO, "its labels exclude each other.*'sparse_categorical"),
        (["mse", "mse"], THREE, "one output: expected one `loss`, received 2"),
        (3, THREE, "Loss 3 is unknown"),
    ],
)  # fmt: skip
def test_losses_on_probabilities_are_refused(loss, outputs, message):
    with pytest.raises(ConfigError, match=message):
        resolve_loss(loss, outputs)


def measure(metric, outputs, labels, logits):
    (found,) = resolve_metrics([metric], outputs)
    for part in np.array_split(np.arange(len(labels)), 3):
        found.update_state(labels[part], logits[part])
    return float(found.result())


@pytest.mark.parametrize(
    ("metric", "wanted"),
    [
        ("accuracy", sk.accuracy_score(BINARY, SOFTMAX2.argmax(1))),
        ("AUC", sk.roc_auc_score(BINARY, SOFTMAX2[:, 1])),
        (keras.metrics.AUC(from_logits=True), sk.roc_auc_score(BINARY, SOFTMAX2[:, 1])),
        ("Precision", sk.precision_score(BINARY, SOFTMAX2.argmax(1))),
        (keras.metrics.Recall(), sk.recall_score(BINARY, SOFTMAX2.argmax(1))),
        (keras.metrics.Recall(thresholds=0), sk.recall_score(BINARY, SOFTMAX2.argmax(1))),
        ("F1Score", sk.f1_score(BINARY, SOFTMAX2.argmax(1))),
        (
            keras.metrics.F1Score(average="macro"),
            sk.f1_score(BINARY, SOFTMAX2.argmax(1), average="macro"),
        ),
        ("binary_accuracy", sk.accuracy_score(BINARY, SOFTMAX2.argmax(1))),
        ("categorical_accuracy", sk.accuracy_score(BINARY, SOFTMAX2.argmax(1))),
        ("sparse_categorical_crossentropy", sk.log_loss(BINARY, SOFTMAX2)),
        ("binary_crossentropy", sk.log_loss(BINARY, SOFTMAX2)),
    ],
)
def test_metrics_of_two_labels_equal_scikit_learn(metric, wanted):
    assert measure(metric, TWO, BINARY, LOGITS[:, :2]) == pytest.approx(wanted, abs=3e-3)


@pytest.mark.parametrize(
    ("metric", "wanted"),
    [
        ("acc", sk.accuracy_score(IDS, SOFTMAX3.argmax(1))),
        ("AUC", sk.roc_auc_score(IDS, SOFTMAX3, multi_class="ovr")),
        ("f1_score", sk.f1_score(IDS, SOFTMAX3.argmax(1), average="macro")),
        ("categorical_crossentropy", sk.log_loss(IDS, SOFTMAX3)),
        ("crossentropy", sk.log_loss(IDS, SOFTMAX3)),
        (
            keras.metrics.SparseTopKCategoricalAccuracy(2),
            sk.top_k_accuracy_score(IDS, SOFTMAX3, k=2),
        ),
    ],
)
def test_metrics_of_three_labels_equal_scikit_learn(metric, wanted):
    assert measure(metric, THREE, IDS, LOGITS) == pytest.approx(wanted, abs=3e-3)


@pytest.mark.parametrize(
    ("metric", "wanted"),
    [
        ("accuracy", ((SIGMOID > 0.5) == ROWS).mean()),
        ("AUC", sk.roc_auc_score(ROWS, SIGMOID, average="macro")),
        (keras.metrics.AUC(), sk.roc_auc_score(ROWS.ravel(), SIGMOID.ravel())),
        ("Precision", sk.precision_score(ROWS, SIGMOID > 0.5, average="micro")),
        ("Recall", sk.recall_score(ROWS, SIGMOID > 0.5, average="micro")),
        ("F1Score", sk.f1_score(ROWS, SIGMOID > 0.5, average="macro")),
        (keras.metrics.BinaryAccuracy(threshold=0.0), ((SIGMOID > 0.5) == ROWS).mean()),
    ],
)
def test_metrics_of_several_labels_per_text_equal_scikit_learn(metric, wanted):
    assert measure(metric, MULTI, ROWS, LOGITS) == pytest.approx(wanted, abs=3e-3)


@pytest.mark.parametrize(
    ("metric", "outputs", "message"),
    [
        ("Precision", THREE, "it needs one of 3 labels; pass `class_id"),
        ("mse", THREE, "MeanSquaredError is no metric for a TextClassifier: take one of"),
        (keras.metrics.F1Score(), THREE, "has a value per label: pass `average='macro'`"),
        (keras.metrics.F1Score("macro"), MULTI, "takes one label per text: pass `threshold=0.5`"),
        ("accuracy", Outputs("number", "TextRegressor"), "take mean_absolute_error"),
        ("AUC", Outputs("tokens", "MaskedLM"), "AUC is no metric for a MaskedLM"),
    ],
)
def test_metrics_that_do_not_fit_are_refused(metric, outputs, message):
    with pytest.raises(ConfigError, match=message):
        resolve_metrics([metric], outputs)


def test_custom_metrics_and_losses_are_unchanged():
    def loss(y_true, y_pred):
        return tf.reduce_sum(y_pred, axis=-1)

    assert resolve_loss(loss, THREE)(IDS, LOGITS).shape == ()
    mean = keras.metrics.Mean("own")
    assert resolve_metrics([mean, loss], THREE) == [mean, loss]
