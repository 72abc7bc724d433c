"""Distillation: losses against NumPy, and students that learn from their teachers."""

import keras
import numpy as np
import pytest

import keras_bert_zoo as kbz
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.training.distillation import DistillationLoss, distill
from tests.helpers import eagerly
from tests.tasks.every_task import NAMES, TEXTS, make


@pytest.fixture(autouse=True)
def op_by_op():
    """Tracing a step of a tiny model takes longer than training it."""
    with eagerly():
        yield


def softmax(x):
    exponentials = np.exp(x - x.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


@pytest.fixture(scope="module")
def teacher():
    """A classifier that knows seven texts by heart."""
    task = make("classification")[0]
    with eagerly():
        task.fit(TEXTS, NAMES, epochs=12, batch_size=4, learning_rate=0.05, verbose=0)
    return task


@pytest.fixture
def classifiers(teacher):
    """The teacher, and a student with other weights."""
    student = make("classification")[0]
    for variable in student.trainable_variables:
        variable.assign(np.random.default_rng(1).normal(0, 0.3, variable.shape))
    return teacher, student


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("label_weight", [0.0, 0.25, 1.0])
def test_the_loss_is_the_formula_of_the_paper(temperature, label_weight):
    random = np.random.default_rng(0)
    teacher, student = random.normal(size=(2, 5, 3)).astype(np.float32)
    truth = np.eye(3, dtype=np.float32)[[0, 2, 1, 1, 0]]
    options = {"temperature": temperature, "label_weight": label_weight}
    loss = DistillationLoss(**options)
    targets = np.concatenate([teacher, truth], 1)

    def crossentropy(p, logits):
        return -(p * np.log(softmax(logits))).sum(1).mean()

    soft = crossentropy(softmax(teacher / temperature), student / temperature)
    expected = (1 - label_weight) * temperature**2 * soft
    expected += label_weight * crossentropy(truth, student)
    assert float(loss(targets, student)) == pytest.approx(expected, rel=1e-5)
    several = DistillationLoss(multi_label=True, **options)

    def binary(p, logits):
        q = 1 / (1 + np.exp(-logits))
        return -(p * np.log(q) + (1 - p) * np.log(1 - q)).mean()

    soft = binary(1 / (1 + np.exp(-teacher / temperature)), student / temperature)
    expected = (1 - label_weight) * temperature**2 * soft + label_weight * binary(truth, student)
    assert float(several(targets, student)) == pytest.approx(expected, rel=1e-5)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(several))
    assert copy.get_config() == several.get_config()


def test_a_student_learns_from_texts_without_labels(classifiers):
    teacher, student = classifiers
    wanted = teacher.predict(TEXTS)
    assert wanted["label"].tolist() == NAMES
    before = np.abs(student.predict(TEXTS)["scores"] - wanted["scores"]).max()
    history = distill(
        teacher, student, TEXTS, epochs=12, batch_size=4, learning_rate=0.05, verbose=0
    )
    after = student.predict(TEXTS)
    assert after["label"].tolist() == wanted["label"].tolist()
    assert np.abs(after["scores"] - wanted["scores"]).max() < before / 3
    assert history.history["accuracy"][-1] == 1.0
    # Training and measuring as usual, afterwards.
    assert student.evaluate(TEXTS, NAMES, verbose=0, return_dict=True)["loss"] < 0.3
    student.fit(TEXTS, NAMES, epochs=1, verbose=0)


def test_the_best_epoch_of_held_out_texts_remains(classifiers):
    teacher, student = classifiers
    answers = []

    def function(texts):
        answers.append(list(texts))
        return teacher.predict_logits(texts)

    history = distill(
        function, student, TEXTS, NAMES, validation_data=(TEXTS[:3], NAMES[:3]), epochs=3,
        label_weight=0.5, learning_rate=0.05, batch_size=4, verbose=0,
    )  # fmt: skip
    assert answers == [TEXTS, TEXTS[:3]]  # once each
    best = max(history.history["val_accuracy"])
    labels = student.predict(TEXTS[:3])["label"].tolist()
    assert np.mean([a == b for a, b in zip(labels, NAMES, strict=False)]) == pytest.approx(best)


def test_hidden_states_of_the_student_approach_those_of_the_teacher(classifiers):
    teacher, student = classifiers

    def distance():
        inputs = teacher.tokenizer(TEXTS)
        real = inputs["padding_mask"].numpy() == 1
        pair = [each.encoder(inputs)["sequence_output"].numpy()[real] for each in classifiers]
        cosines = np.sum(pair[0] * pair[1], 1) / np.prod(
            [np.linalg.norm(x, axis=1) for x in pair], 0
        )
        return float(np.mean(1 - cosines))

    first = distance()
    own = [variable.numpy() for variable in teacher.weights]
    options = {"epochs": 8, "batch_size": 4, "learning_rate": 0.05, "verbose": 0}
    history = distill(teacher, student, TEXTS, hidden_weight=5.0, **options)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert distance() < 0.75 * first
    for variable, value in zip(teacher.weights, own, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_several_labels_per_text():
    task, x, y = make("classification multi-label")
    student = make("classification multi-label")[0]
    for variable in student.trainable_variables:
        variable.assign(np.random.default_rng(1).normal(0, 0.3, variable.shape))
    wanted = task.predict_logits(x)
    before = np.abs(student.predict_logits(x) - wanted).mean()
    distill(task, student, x, y, validation_data=(x, y), epochs=6, learning_rate=0.1, verbose=0)
    assert np.abs(student.predict_logits(x) - wanted).mean() < before / 2


def test_what_does_not_fit_is_refused(classifiers):
    teacher, student = classifiers
    tagger = make("token-classification")[0]
    other = kbz.TextClassifier(student.encoder, student.tokenizer, ["xyz", "abc"], max_length=12)
    for arguments, options, error, message in [
        ((tagger, student, TEXTS), {}, ConfigError, "as the teacher, received a TokenClassifier"),
        ((teacher, tagger, TEXTS), {}, ConfigError, "as the student, received a TokenClassifier"),
        ((teacher, other, TEXTS), {}, ConfigError, "labels of its teacher, in the same order"),
        ((teacher, student, TEXTS), {"label_weight": 0.5}, ConfigError, "Expected labels with"),
        ((teacher, student, TEXTS), {"label_weight": 1.5}, ConfigError, "from 0 to 1, received"),
        ((teacher, student, TEXTS), {"temperature": 0}, ConfigError, "`temperature` to be"),
        ((teacher, student, TEXTS), {"epochs": 0}, ConfigError, "`epochs` must be an integer"),
        ((teacher, student, TEXTS, ["no"] * 7), {}, DataError, "no"),
        ((lambda x: np.zeros([7, 3]), student, TEXTS), {}, ConfigError, r"shape \(7, 2\)"),
        (
            (teacher.predict_logits, student, TEXTS),
            {"hidden_weight": 1.0},
            ConfigError,
            "received an export or a function",
        ),
    ]:
        with pytest.raises(error, match=message):
            distill(*arguments, **options)
