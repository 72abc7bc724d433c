"""Training with static shapes, which XLA compiles; see `training.static_shapes`."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.data.masking import Masking
from keras_bert_zoo.data.pipeline import NO_LABEL, LabelledRows, TokenRows
from keras_bert_zoo.errors import ConfigError, DataError
from keras_bert_zoo.training import epochs
from keras_bert_zoo.training.replicas import BATCH_ROWS, REAL_ROW, even_batches
from keras_bert_zoo.training.rows import MaskedBatches
from keras_bert_zoo.training.static_shapes import BatchShape, batch_shape, widen_batches
from keras_bert_zoo.training.strategies import make_strategy
from tests.helpers import eagerly
from tests.tasks.every_task import TRAINED, make, spread_weights

# Each takes ten seconds of processor time or more.
_DEFAULT = ("classification", "masked-lm")


def fit(name, *, parts, **options):
    """Trains on batches of 5 and 2 rows; returns the history, the measures and the weights."""
    task, x, y = make(name, token_layout="padded")
    spread_weights(task)
    if name != "masked-lm":
        options["sample_weight"] = np.linspace(0.5, 2, 7).astype(np.float32)
    history = task.fit(
        x, y, validation_data=None if name == "masked-lm" else (x, y), accumulation_steps=parts,
        batch_size=5, epochs=2, learning_rate=1e-2, verbose=0, **options,
    )  # fmt: skip
    measures = task.evaluate(x, y, batch_size=3, verbose=0, return_dict=True)
    return history.history, measures, task.get_weights()


@pytest.mark.parametrize(
    "name",
    [name if name in _DEFAULT else pytest.param(name, marks=pytest.mark.slow) for name in TRAINED],
)
def test_xla_trains_every_task_as_tensorflow_does(name, monkeypatch):
    compiled = []
    function = tf.function

    def spy(*args, **options):
        compiled.append(options.get("jit_compile"))
        return function(*args, **options)

    parts = 1 if name.startswith("embedding") else 2
    with eagerly():
        expected = fit(name, parts=parts)
    monkeypatch.setattr(epochs.tf, "function", spy)
    received = fit(name, parts=parts, jit_compile=True)
    assert compiled.count(True) >= 2
    for values, others in zip(received[:2], expected[:2], strict=True):
        assert list(values) == list(others)
        for key in values:
            np.testing.assert_allclose(values[key], others[key], rtol=1e-4, atol=1e-5, err_msg=key)
    for value, other in zip(received[2], expected[2], strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-3, atol=1e-4)


def test_batches_have_one_shape():
    task, x, y = make("classification", token_layout="padded")
    rows = task.rows(task.examples(x, y), np.arange(7, dtype=np.int32))
    shape = batch_shape(task, rows)
    assert dict(shape.widths) == {"tokens": 12}  # not above `max_length`
    batches = widen_batches(rows.batches(batch_size=4, shuffle=False), shape)
    last = list(even_batches(batches, 2, 2, rows=4))[-1]
    spec = even_batches(batches, 2, 2, rows=4).element_spec
    assert spec[0]["token_ids"].shape == (2, 12)
    assert spec[1].shape == (2,)
    assert last[0][REAL_ROW].numpy().tolist() == [1, 0]
    assert last[0][BATCH_ROWS].numpy().tolist() == [3, 3]
    longest = rows.data.rows.lengths.max()
    assert (last[0]["token_ids"].numpy()[:, longest:] == task.tokenizer.pad_token_id).all()
    assert not last[0]["padding_mask"].numpy()[:, longest:].any()
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 3 texts: set `batch_size`"):
        list(even_batches(batches, 1, rows=3))


def test_masked_positions_have_room_for_six_standard_deviations():
    lengths = [400, 100]
    words = np.arange(500, dtype=np.int32)
    words[0] = words[399] = words[400] = NO_LABEL
    words[1:4] = 1  # one word of three tokens
    rows = TokenRows(np.ones(500, np.int32), np.array([0, *np.cumsum(lengths)]))
    masked = MaskedBatches(
        LabelledRows(rows, token_labels=words), 0, masking=Masking(0.25), mask_id=2,
        vocabulary_size=9,
    )  # fmt: skip
    # 398 tokens; 395 words of 1 token and one of 3: a variance of 0.1875 * (395 + 9).
    expected = 398 * 0.25 + 6 * (0.1875 * 404) ** 0.5
    assert masked.widths() == {"tokens": 400, "predictions": int(np.ceil(expected)) + 3}
    counts = [(batch[1].numpy() >= 0).sum(axis=1).max() for batch in masked.batches(batch_size=2)]
    assert 0 < max(counts) < expected


def test_masked_positions_beyond_the_width_are_not_predicted():
    names = ("token_ids", "segment_ids", "padding_mask")
    inputs = dict.fromkeys(names, np.array([[1, 2, 3]], np.int32))
    batch = ({**inputs, "mask_positions": np.array([[0, 2]], np.int32)}, np.array([[7, 8]]))
    shape = BatchShape({"tokens": 4, "predictions": 1}, {"token_ids": 9}, "predictions")
    with pytest.raises(DataError, match="`mask_positions` of at most 1 columns, received 2"):
        widen_batches(tf.data.Dataset.from_tensors(batch), shape)

    columns = tf.nest.map_structure(lambda x: tf.TensorSpec([None, None], x.dtype), batch)
    unknown = tf.data.Dataset.from_generator(lambda: iter([batch]), output_signature=columns)
    inputs, labels = next(iter(widen_batches(unknown, shape)))
    assert inputs["token_ids"].numpy().tolist() == [[1, 2, 3, 9]]
    assert inputs["mask_positions"].numpy().tolist() == [[0]]
    assert labels.numpy().tolist() == [[7]]


class Rows(keras.metrics.Sum):
    """A metric that takes no weights."""

    def update_state(self, y_true, y_pred):
        super().update_state(tf.ones_like(y_true))


def test_refuses_what_xla_cannot_compile():
    task, x, y = make("classification")
    with pytest.raises(ConfigError, match='token_layout="padded" for static shapes, received "pac'):
        task.fit(x, y, jit_compile=True, verbose=0)
    task, x, y = make("classification", token_layout="padded")
    task.compile("sgd", metrics=[Rows()], jit_compile=True)
    with pytest.raises(ConfigError, match="`sample_weight` of `update_state`.*received Rows: add"):
        task.fit(x, y, verbose=0)
    task, x, y = make("classification", token_layout="padded")
    with pytest.raises(ConfigError, match="a loss that is a mean.*received FunctionLoss"):
        task.fit(x, y, loss=lambda a, b: tf.reduce_sum(b), jit_compile=True, verbose=0)
    task.compile("sgd", jit_compile=True)
    with pytest.raises(ConfigError, match="Give `jit_compile` to `compile` or to `fit`"):
        task.fit(x, y, jit_compile=True, verbose=0)
    assert not keras.Model(task.inputs, task.outputs).jit_compile  # not by default


def test_a_missing_tpu_is_one_line():
    advice = re.escape(f"install tensorflow-tpu {tf.__version__}: it needs")
    with pytest.raises(
        ConfigError, match=f"Expected a TPU for `tpu='local'`, received: .*{advice}"
    ):
        make_strategy("tpu")
    with pytest.raises(ConfigError, match="Expected the strategy 'tpu' for `tpu`"):
        make_strategy("default", tpu="local")


def test_labels_of_spans_may_be_narrower_than_the_outputs():
    task, x, y = make("token-classification nested", token_layout="padded")
    spread_weights(task)
    rows = task.rows(task.examples(x, y), task.targets(task.examples(x, y), y))
    inputs, labels = rows.one_batch(seed=0)
    loss = task.objective().loss()
    wide = {name: tf.pad(value, [[0, 0], [0, 5]]) for name, value in inputs.items()}
    expected, received = loss(labels, task(inputs)), loss(labels, task(wide))
    assert float(expected) > 0.1
    np.testing.assert_allclose(received, expected, rtol=1e-5)


def test_batches_that_do_not_fit_are_refused():
    task, x, y = make("classification", token_layout="padded")
    texts = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    with pytest.raises(DataError, match="Expected batches of at most 2 texts: set `batch_size`"):
        task.fit(texts, batch_size=2, epochs=1, verbose=0, jit_compile=True)
    task.compile("sgd", jit_compile=True)
    with pytest.raises(DataError, match="Expected batches of at most 2 texts"):
        task.evaluate(texts, batch_size=2, verbose=0)
    long = {
        name: tf.ones([4, 13], tf.int32) for name in ("token_ids", "segment_ids", "padding_mask")
    }
    tokens = tf.data.Dataset.from_tensors((long, np.zeros(4, np.int32)))
    with pytest.raises(DataError, match="`token_ids` of at most 12 columns, received 13"):
        task.fit(tokens, epochs=1, verbose=0)


def test_a_pydataset_keeps_its_labels():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return ["a b", "c"], np.array([[0.5], [1.0]])

    task, _, _ = make("regression", token_layout="padded")
    task.pair = False
    losses = []
    for jit in (False, True):
        spread_weights(task)
        with eagerly(not jit):
            history = task.fit(Batches(), epochs=1, verbose=0, shuffle=False, jit_compile=jit)
        losses.append(history.history["loss"][0])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
