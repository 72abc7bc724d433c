"""Forms of texts and labels: tasks accept them, or their error names the form."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.labels import LabelMap
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.tasks.registry import TASKS
from keras_bert_zoo.training.batches import evaluation_dataset, training_dataset
from keras_bert_zoo.training.data import batch_converter, dataset_to_train_on, validation_parts
from tests.frames import NA, DataFrame, Series
from tests.helpers import ASSETS, as_graphs
from tests.tasks.collection import make_collection, make_models
from tests.tasks.every_task import weights_of

TINY = ASSETS / "bert_gelu"
TEXTS = ["a b c", "x y", "c b a", "y z"]
LABELS = ["abc", "xyz", "abc", "xyz"]
OPTIONS = {
    "classification": {"labels": ["abc", "xyz"]},
    "token-classification": {"labels": ["PER", "1"]},
    "multiple-choice": {"num_choices": 2},
    "relations": {"labels": ["abc", "xyz"]},
}
HEADLESS = ("question-answering", "regression", "masked-lm", "next-sentence")


def make_task(name="classification", **options):
    keras.utils.set_random_seed(0)
    if name == "open-domain-question-answering":
        return make_collection(make_models())
    given = OPTIONS.get(name, {}) | ({"new_head": True} if name in HEADLESS else {}) | options
    return TASKS[name].from_preset(TINY, **given)


@functools.cache
def read_only(name="classification"):
    """A task that several tests share; no test changes it."""
    return make_task(name)


class Batches(keras.utils.PyDataset):
    """Batches of two texts."""

    def __init__(self, texts=TEXTS, labels=LABELS, **options):
        super().__init__(**options)
        self.texts, self.labels = np.array(texts, object), np.array(labels, object)
        self.seen, self.calls = [], []

    def __len__(self):
        return (len(self.texts) + 1) // 2

    def __getitem__(self, index):
        self.seen.append(index)
        rows = slice(2 * index, 2 * index + 2)
        return self.texts[rows], self.labels[rows]

    def on_epoch_begin(self):
        self.calls.append("begin")

    def on_epoch_end(self):
        self.calls.append("end")
        order = np.random.default_rng(len(self.calls)).permutation(len(self.texts))
        self.texts, self.labels = self.texts[order], self.labels[order]


@pytest.mark.parametrize("name", TASKS)
def test_every_task_names_the_type_of_an_input_that_is_not_a_list(name):
    task = read_only(name)
    frame = DataFrame({"text": TEXTS, "label": LABELS})
    refused = [
        (frame, "DataFrame"),
        ({"text": TEXTS}, "dict"),
        (set(TEXTS), "set"),
        ("a b", "one string|(received|received) a str"),
        (("a b", "x y"), "strings|one string"),
        (None, "None"),
    ]
    for x, message in refused:
        with pytest.raises(DataError, match=message):
            task.predict(x)
        if name != "open-domain-question-answering":  # it is not trainable
            with pytest.raises(DataError, match=message):
                task.fit(x, LABELS, verbose=0)
    with pytest.raises(DataError, match="single texts"):
        task.predict(iter(TEXTS))
    if name != "open-domain-question-answering" and not task.objective().dataset_targets:
        dataset = tf.data.Dataset.from_tensor_slices((TEXTS, LABELS)).batch(2)
        for x in (dataset, Batches(), iter([(TEXTS, LABELS)])):
            with pytest.raises(DataError, match="tf.data.Dataset|PyDataset|iterator"):
                task.fit(x, verbose=0)
            with pytest.raises(DataError, match="tf.data.Dataset|PyDataset|iterator"):
                task.evaluate(x, verbose=0)


def test_columns_of_all_kinds_have_the_answers_of_lists():
    task = read_only()
    expected = task.predict(TEXTS)["scores"]
    columns = [np.array(TEXTS), np.array(TEXTS, object), np.array(TEXTS, "S"), Series(TEXTS)]
    for column in [*columns, tf.constant(TEXTS)]:
        np.testing.assert_array_equal(task.predict(column)["scores"], expected)
    pairs = task.predict_logits((TEXTS, TEXTS[::-1]))
    found = task.predict_logits((Series(TEXTS), np.array(TEXTS[::-1])))
    np.testing.assert_array_equal(found, pairs)


def test_errors_of_missing_texts_and_lists_of_pairs_say_what_to_do():
    task = read_only()
    with pytest.raises(DataError, match=r"2 of 4 texts are missing .*: text 1, text 3; leave"):
        task.predict(Series(["a", None, "b", NA]))
    with pytest.raises(DataError, match="pairs are a tuple of two lists"):
        task.predict([("a", "b"), ("c", "d")])
    with pytest.raises(DataError, match="received 3 strings; put texts in a list"):
        task.predict(("a", "b", "c"))


def test_an_embedder_takes_columns_and_no_single_string():
    task = read_only("embedding")
    np.testing.assert_array_equal(task.embed(Series(TEXTS)), task.embed(TEXTS))
    with pytest.raises(DataError, match="one string"):
        task.embed("hello")
    with pytest.raises(DataError, match="DataFrame with the columns 'texts'"):
        task.index(DataFrame({"texts": TEXTS}))
    pairs = task.examples((Series(TEXTS), Series(TEXTS[::-1])))
    scores = [0.25, 1.0, 0.5, 0.0]
    assert task.examples(pairs, Series(scores)).scores == scores
    with pytest.raises(DataError, match="1 of 4 are missing"):
        task.examples(pairs, Series([0.1, None, 0.5, 0]))


# === Labels ===


def test_labels_in_every_form_follow_one_rule():
    task = read_only()
    examples = Examples(TEXTS)
    for y in (
        Series(LABELS),
        np.array(LABELS),
        np.array(LABELS, "S"),
        tf.constant(LABELS),
        Series([0.0, 1.0, 0.0, 1.0]),
        np.array([0, 1, 0, 1], np.int8),
        np.array([[0], [1], [0], [1]]),
        np.array([False, True, False, True]),
        np.eye(2)[[0, 1, 0, 1]],
        [np.int64(0), np.str_("xyz"), b"abc", 1],
    ):
        assert task.targets(examples, y).tolist() == [0, 1, 0, 1]
    assert task.targets(Examples(TEXTS, labels=[0, 1, 0, 1]), None).tolist() == [0, 1, 0, 1]
    with pytest.raises(DataError, match="There are 4 texts but 2 labels"):
        task.targets(examples, Series(LABELS[:2]))
    task = make_task(labels=[True, False])
    assert task.targets(Examples(["a"] * 2), np.array([True, False])).tolist() == [0, 1]
    with pytest.raises(DataError, match=r"1 of 2 labels are missing .* dev\.csv:9"):
        task.targets(Examples(["a"] * 2, rows=[4, 9], path="dev.csv"), Series([True, None]))
    examples = Examples(TEXTS)
    for y, message in ((DataFrame({"label": LABELS}), "DataFrame"), (set(LABELS), "set")):
        with pytest.raises(DataError, match=f"Expected a list of labels, received a {message}"):
            task.targets(examples, y)


def test_the_columns_of_a_table_of_dummies_are_labels():
    task = read_only()
    dummies = DataFrame({"xyz": [0, 1, 0, 1], "abc": [1, 0, 1, 0]})
    assert task.targets(Examples(TEXTS), dummies).tolist() == [0, 1, 0, 1]
    with pytest.raises(DataError, match=r"with the columns 'x': pass one .* such as y\['x'\]"):
        task.targets(Examples(["a"] * 2), DataFrame({"x": [0, 1]}))


def test_forms_that_keras_accepts():
    task = read_only()
    column = np.array(TEXTS, object)[:, np.newaxis]
    np.testing.assert_array_equal(task.predict(column)["scores"], task.predict(TEXTS)["scores"])
    x, y, weights = validation_parts(task.objective(), [TEXTS, LABELS])
    assert (x, y, weights) == (TEXTS, LABELS, None)
    for ask in (task.predict, task.predict_logits):
        for size in (0, -1):
            with pytest.raises(ConfigError, match="`batch_size` must be"):
                ask(TEXTS, batch_size=size)


def test_keys_of_class_weights_are_names_before_ids():
    targets = np.array([0, 1, 2])
    task = make_task(labels=["1", "2", "3"])
    assert weights_of(task, targets, {1: 10.0}, None).tolist() == [10, 1, 1]
    assert weights_of(task, targets, {"3": 2.0, 2.0: 3.0}, None).tolist() == [1, 3, 2]
    with pytest.raises(ConfigError, match="`class_weight` names an unknown label: 0"):
        weights_of(task, targets, {0: 1.0}, None)
    task.label_map = LabelMap(("a", "b", "c"))
    assert weights_of(task, targets, {1: 10.0, "c": 2.0}, None).tolist() == [1, 10, 2]
    with pytest.raises(ConfigError, match="`class_weight` names 'b' twice"):
        weights_of(task, targets, {1: 10.0, "b": 2.0}, None)
    task.label_map = LabelMap.of([True, False])
    assert weights_of(task, np.array([0, 1]), {True: 5.0}, None).tolist() == [5, 1]


def test_targets_of_a_regression():
    task = make_task("regression")
    examples = Examples(["a", "b"])
    for y in (Series([1, 2.5]), np.array([[1], [2.5]]), tf.constant([1, 2.5]), ["1", 2.5]):
        assert task.targets(examples, y).tolist() == [[1.0], [2.5]]
    with pytest.raises(DataError, match=r"1 of 2 are missing .* example 2"):
        task.targets(examples, Series([1.0, NA]))


def test_labels_of_the_other_tasks():
    choices = read_only("multiple-choice")
    examples = choices.examples((Series(["a", "b"]), np.array([["x", "y"], ["z", "y"]])))
    for y in (Series([1, 0]), Series([1.0, 0.0]), np.array([[0, 1], [1, 0]]), np.array([[1], [0]])):
        assert choices.targets(examples, y).tolist() == [1, 0]
    for y in ([1.5, 0], [None, 0], [True, 0], [[1, 1], [1, 0]]):
        with pytest.raises(DataError, match="index of a choice"):
            choices.targets(examples, y)
    sentences = read_only("next-sentence")
    assert sentences.targets(Examples(["a"] * 2), Series(["not_next", "is_next"])).tolist() == [
        1,
        0,
    ]
    with pytest.raises(DataError, match="received booleans. Pass names"):
        sentences.targets(Examples(["a"] * 2), np.array([True, False]))
    entities = read_only("token-classification")
    found = entities.targets(entities.examples(["a", "b"]), Series([[(0, 1, 1)], [(0, 1, b"PER")]]))
    assert [[entity.label for entity in row] for row in found] == [["1"], ["PER"]]
    with pytest.raises(DataError, match=r"example 1: expected a list of entities"):
        entities.targets(entities.examples(["a"]), ["B-PER"])
    answerer = read_only("question-answering")
    questions = answerer.examples((Series(["a"]), Series(["x yz"])))
    for y in (
        [[("yz", 2)]],
        Series([[("yz", np.int64(2))]]),
        [{"text": ["yz"], "answer_start": [2]}],
        [{"text": np.array(["yz"]), "answer_start": np.array([2])}],
    ):
        assert answerer.targets(answerer.examples(questions, y)) == [[("yz", 2)]]
    for y in (
        ["yz"],
        [["yz"]],
        [[("yz",)]],
        [[("yz", "2")]],
        [{"text": "yz"}],
        [{"text": "yz", "answer_start": 2}],
        [{"text": ["yz", "x"], "answer_start": [2]}],
    ):
        with pytest.raises(
            DataError, match=r"question 1 .*: Expected a list of answers \(text, start\)"
        ):
            answerer.examples(questions, y)


# === Batches ===


def to_train_on(task, x, callbacks=(), seed=None, steps=None):
    return dataset_to_train_on(task, task.objective(), x, callbacks, seed, steps)[0]


def labels_of(dataset):
    return [label for _, labels in dataset for label in labels.numpy().tolist()]


def test_labels_of_a_dataset_follow_the_same_rule():
    task = make_task(labels=["1", "2", "3"])
    dataset = tf.data.Dataset.from_tensor_slices((["a", "b"], [3, 1])).batch(2)
    assert labels_of(to_train_on(task, dataset)) == [2, 0]
    with pytest.raises(DataError, match=r"Expected labels of shape \(B,\) or \(B, 3\)"):
        to_train_on(task, tf.data.Dataset.from_tensor_slices((["a"], [[0, 1]])).batch(1))
    rows = tf.data.Dataset.from_tensor_slices({"text": ["a"], "label": [1]}).batch(1)
    with pytest.raises(
        DataError, match=r"a dict of 'text', 'label': map it, for example to \(row\["
    ):
        task.evaluate(rows)


def test_several_labels_in_batches():
    task = make_task(labels=["a", "b", "c"], multi_label=True)
    source = iter([(["a", "b"], [["a", "c"], []]), (["c"], [["b"]])])
    dataset = to_train_on(task, source, (), 0, 2)
    assert labels_of(dataset) == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_batches_made_in_python_are_read_like_lists():
    task = read_only()
    convert = batch_converter(task, task.objective(), Batches())
    first, second = (TEXTS[:2], LABELS[:2]), (TEXTS[2:], LABELS[2:])
    data = Batches()
    for x in (
        iter([first, second]),
        zip((TEXTS[:2], TEXTS[2:]), (np.array([0, 1]), np.array([0, 1])), strict=True),
        (list(batch) for batch in (first, second)),
        iter(tf.data.Dataset.from_tensor_slices((TEXTS, LABELS)).batch(2)),
        iter([(Series(first[0]), Series(first[1])), (*second, None)]),
        data,
    ):
        dataset = evaluation_dataset(x, convert)
        for _ in range(2):  # the batches of a generator are stored
            batches = list(dataset.as_numpy_iterator())
            assert [text.decode() for texts, _ in batches for text in texts] == TEXTS
            assert [task.labels[i] for _, labels in batches for i in labels] == LABELS
            if x is data:
                assert data.calls[-2:] == ["begin", "end"]
                data = Batches()
                dataset = evaluation_dataset(data, convert)
    weighted = iter([((TEXTS, TEXTS[::-1]), LABELS, np.arange(4))])
    ((texts, pairs), _, weights) = next(iter(evaluation_dataset(weighted, convert)))
    assert texts.numpy()[0] == pairs.numpy()[3]
    assert weights.numpy().tolist() == [0, 1, 2, 3]
    with pytest.raises(ConfigError, match="A dataset brings its own labels"):
        task.evaluate(Batches(), LABELS)


def test_batches_made_in_python_are_answered_like_lists():
    task = read_only()
    expected = task.predict(TEXTS)["scores"]
    pairs = task.predict_logits((TEXTS, TEXTS[::-1]))
    for x in (
        iter([TEXTS[:3], TEXTS[3:]]),
        iter([(TEXTS,)]),
        iter([(Series(TEXTS), [0, 1, 0, 1])]),
        Batches(labels=[0, 1, 0, 1]),
    ):
        np.testing.assert_allclose(task.predict(x)["scores"], expected, atol=1e-6)
    np.testing.assert_allclose(
        task.predict_logits(iter([((TEXTS, TEXTS[::-1]),)])), pairs, atol=1e-6
    )
    assert task.predict(iter([]))["scores"].shape == (0, 2)
    assert task.predict_logits(iter([])).shape == (0, 2)
    for x in (iter([(TEXTS, LABELS)]), Batches()):
        with pytest.raises(DataError, match="may be pairs, or texts and labels"):
            task.predict(x)


@as_graphs()  # the tokenizer is traced once
def test_every_epoch_reads_a_py_dataset_again():
    task = make_task()
    task.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    data = Batches()
    held_out = iter([(TEXTS[:2], LABELS[:2]), (TEXTS[2:], LABELS[2:])])
    history = task.fit(data, validation_data=held_out, epochs=2, verbose=0)
    # Every epoch is validated on the same batches of the generator.
    assert len(history.history["val_loss"]) == 2
    assert data.calls == ["begin", "end"] * 2
    assert set(data.seen) == {0, 1}
    assert len(data.seen) == 4
    assert task.training_record["steps"] == 4
    expected = task.evaluate(TEXTS, LABELS, verbose=0, return_dict=True)
    found = task.evaluate(Batches(), verbose=0, return_dict=True)
    assert found == pytest.approx(expected, abs=1e-6)
    with pytest.raises(
        DataError, match="at least one batch, received none from the PyDataset Batches"
    ):
        task.fit(Batches([], []))


def test_an_epoch_of_a_py_dataset_begins_before_its_first_batch_is_read():
    class Numbered(Batches):
        def __init__(self):
            super().__init__()
            self.log = []

        def __getitem__(self, index):
            self.log.append(index)
            return TEXTS[:2], [f"{len(self.log)} {index}"] * 2

        def on_epoch_begin(self):
            self.log.append("begin")

        def on_epoch_end(self):
            self.log.append("end")

    data = Numbered()
    dataset = evaluation_dataset(data, lambda batch: (np.array(batch[0]), np.array(batch[1])))
    for _ in range(2):
        list(dataset)
    assert data.log == ["begin", 0, 1, "end"] * 2
    next(iter(dataset))  # with fewer steps than batches the end is unknown
    assert data.log[8:10] == ["begin", 0]

    data = Numbered()
    dataset, (hooks, *_) = training_dataset(
        data, lambda batch: (np.array(batch[0]), np.array(batch[1]))
    )
    for epoch in range(2):
        hooks.on_epoch_begin(epoch)
        labels = [label[0] for _, label in dataset.as_numpy_iterator()]
        hooks.on_epoch_end(epoch)
        assert labels == [[b"2 0", b"3 1"], [b"6 0", b"7 1"]][epoch]
    assert data.log == ["begin", 0, 1, "end"] * 2


def test_the_batches_of_a_py_dataset_are_shuffled_in_every_epoch():
    data = Batches([f"{chr(97 + i)} x" for i in range(20)], ["abc"] * 20, workers=2)
    task = read_only()
    dataset, hooks = dataset_to_train_on(task, task.objective(), data, ["mine"], 1)
    assert int(dataset.cardinality()) == 10
    assert hooks[1:] == ["mine"]
    orders = [[x["token_ids"].numpy()[0].tobytes() for x, _ in dataset] for _ in range(2)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])
    again = to_train_on(task, data, (), 1)
    assert [x["token_ids"].numpy()[0].tobytes() for x, _ in again] == orders[0]


@as_graphs()  # the tokenizer is traced once
def test_each_epoch_trains_on_the_next_batches_of_a_generator():
    def endless():
        count = 0
        while True:
            yield [f"{'abc'[count % 3]} x"], [count % 2]
            count += 1

    task = make_task()
    dataset = to_train_on(task, endless(), (), 0, 2)
    ids = [int(x["token_ids"][0, 1]) for x, _ in dataset.take(2)]
    assert [task.tokenizer.vocabulary[i] for i in ids] == ["a", "b"]
    with pytest.raises(
        ConfigError, match="received a generator, which does not say how many .* give `steps_per"
    ):
        task.fit(endless(), verbose=0)
    dataset = to_train_on(task, iter([(TEXTS, LABELS)] * 2), (), 0, 2)
    assert len(list(dataset)) == 2
    task.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    history = task.fit(
        endless(),
        validation_data=endless(),
        epochs=2,
        steps_per_epoch=2,
        validation_steps=1,
        verbose=0,
    )
    assert len(history.history["val_loss"]) == 2
    assert task.training_record["steps"] == 4
    with pytest.raises(tf.errors.OpError, match="no batches left for another epoch"):
        list(dataset)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (iter(TEXTS), "Expected batches, received single texts from a list_iterator"),
        (iter([TEXTS]), r"received a tuple of 4"),
        (iter([{"text": TEXTS}]), "received a dict with the keys 'text'"),
        (iter([("a", "abc")]), "received single texts"),
        (iter([]), "at least one batch, received none from a list_iterator"),
        (iter([(TEXTS, ["abc", "xyz", "abc", "none"])]), "; received 'none'"),
        (iter([(TEXTS, LABELS, [1.0])]), r"expected shape \(4,\), received \(1,\)"),
        (iter([(TEXTS, LABELS[:3])]), "There are 4 texts but 3 labels"),
    ],
)
def test_batches_of_another_form_are_refused(x, message):
    with pytest.raises(DataError, match=message):
        read_only().fit(x, steps_per_epoch=1, verbose=0)


def test_infinite_data_needs_steps():
    task = make_task()
    endless = tf.data.Dataset.from_tensor_slices((TEXTS, LABELS)).batch(2).repeat()
    for measure, steps in (
        (lambda: task.evaluate(endless), "`steps`"),
        (lambda: task.fit(TEXTS, LABELS, validation_data=endless), "`validation_steps`"),
        (lambda: task.fit(endless), "`steps_per_epoch`"),
        (lambda: task.predict(endless.map(lambda x, y: x)), r"`dataset.take\(...\)`"),
        (lambda: task.predict_logits(endless.map(lambda x, y: x)), r"`dataset.take\(...\)`"),
    ):
        with pytest.raises(ConfigError, match=f"this one has none: .*{steps}"):
            measure()

    class Unbounded(Batches):
        num_batches = None

    for measure in (
        lambda: task.evaluate(Unbounded()),
        lambda: task.fit(TEXTS, LABELS, validation_data=Unbounded()),
        lambda: task.fit(Unbounded()),
        lambda: task.predict(Unbounded()),
    ):
        with pytest.raises(ConfigError, match="`(steps|validation_steps|steps_per_epoch|__len__)`"):
            measure()
    with pytest.raises(DataError, match=r"`text` of the shape \(None,\), received \(\): batch it"):
        task.predict(tf.data.Dataset.from_tensor_slices(TEXTS))


def test_the_number_of_texts_is_checked_in_every_form():
    task = make_task("next-sentence")
    single = tf.data.Dataset.from_tensor_slices((TEXTS, [0, 1, 0, 1])).batch(2)
    for ask in (
        lambda: task.predict(TEXTS),
        lambda: task.predict(iter([TEXTS])),
        lambda: task.predict(single.map(lambda x, y: x)),
        lambda: task.fit(single, verbose=0),
        lambda: task.fit(iter([(TEXTS, [0, 1, 0, 1])]), steps_per_epoch=1, verbose=0),
    ):
        with pytest.raises(DataError, match=r"[Ee]xpected .*pairs|text and text_pair"):
            ask()


def test_a_split_checks_the_number_of_labels_first():
    for y, weights, message in (
        (LABELS * 3, None, "There are 4 texts but 12 labels"),
        (LABELS[:3], None, "There are 4 texts but 3 labels"),
        (LABELS, [1.0] * 5, "There are 4 texts but 5 sample weights"),
    ):
        with pytest.raises(DataError, match=message):
            read_only().fit(TEXTS, y, sample_weight=weights, validation_split=0.5)


def test_a_regressor_takes_batches():
    task = make_task("regression")
    dataset = to_train_on(task, Batches(labels=[0.5, 1.0, 2.0, -1.0]))
    assert labels_of(dataset) == [[0.5], [1.0], [2.0], [-1.0]]
    with pytest.raises(tf.errors.InvalidArgumentError, match="finite"):
        task.objective().dataset_targets(tf.constant([0.5, np.nan]))
    with pytest.raises(
        DataError,
        match=r"\(B,\) or \(B, 1\) in a dataset.*"
        r"received shape \(4, 3\)",
    ):
        task.objective().dataset_targets(tf.zeros([4, 3]))
    with pytest.raises(DataError, match="must be numbers"):
        task.evaluate(tf.data.Dataset.from_tensor_slices((TEXTS, LABELS)).batch(2))
    with pytest.raises(DataError, match="Expected texts in memory, received the PyDataset Batch"):
        task.report(Batches())
