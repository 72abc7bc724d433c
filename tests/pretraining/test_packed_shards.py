"""Packed examples in shards: the same examples, which do not see each other."""

import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.data.masking_options import Masking
from keras_bert_zoo.data.pipeline import NO_LABEL
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.pretraining import reading
from keras_bert_zoo.pretraining.build import build_pretraining_data
from keras_bert_zoo.pretraining.phases import Phase, PretrainingPhases
from keras_bert_zoo.pretraining.reading import RecordBatches
from keras_bert_zoo.pretraining.records import read_records
from tests.helpers import eagerly
from tests.pretraining.shard_training import make_electra
from tests.tasks.every_task import make_tokenizer, spread_weights

LENGTH = 24


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """150 lines of 1 to 30 letters; each is a document."""
    random = np.random.default_rng(0)
    lines = {" ".join(random.choice(list("abcdefgh"), random.integers(1, 31))) for _ in range(150)}
    path = tmp_path_factory.mktemp("text") / "lines.txt"
    path.write_text("\n".join(sorted(lines)))
    return path


def build(text, folder, **options):
    given = {"max_length": LENGTH, "documents": "line", "shards": 2, "heldout": 0.2}
    return build_pretraining_data([text], folder, make_tokenizer(), **given | options)


@pytest.fixture(scope="module")
def packed(text, tmp_path_factory):
    return build(text, tmp_path_factory.mktemp("packed") / "data", pack_examples=True)


def records_of(data, split="train"):
    for shard in getattr(data, split):
        yield from read_records(data.directory / shard.name)


def examples_of(data):
    """The token ids of all training examples, sorted."""
    examples = []
    for record in records_of(data):
        ids = list(record["token_ids"])
        for length in record.get("example_lengths", [len(ids)]):
            examples.append(tuple(ids[:length]))
            del ids[:length]
        assert not ids
    return sorted(examples)


def test_the_examples_are_those_without_packing(text, packed, tmp_path):
    plain = build(text, tmp_path / "plain")
    assert plain.examples_per_record == 1
    assert packed.examples_per_record >= 3
    assert examples_of(packed) == examples_of(plain)
    one, other = packed.statistics["train"], plain.statistics["train"]
    for name in ("tokens", "new_tokens", "documents", "dropped_tokens"):
        assert one[name] == other[name]
    tokens = sum(shard.tokens for shard in packed.train)
    records = sum(shard.examples for shard in packed.train)
    assert tokens == sum(shard.tokens for shard in plain.train)
    assert tokens / (records * LENGTH) > 0.95  # best-fit decreasing leaves little room
    assert records == one["records"] < one["examples"] == other["examples"] == other["records"]
    again = kbz.PretrainingData.open(packed.directory)
    assert again.train == packed.train


def one_batch(task, data, **options):
    source = task.batch_source(data, batch_size=8, **options)
    return next(iter(source.one_pass()))


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_no_example_sees_another_one(packed, layout):
    task = make_electra(token_layout=layout)
    spread_weights(task)
    inputs, targets = one_batch(task, packed)
    outputs = task(inputs)["masked_lm"].numpy()
    ids = inputs["example_ids"].numpy()
    starts = inputs["example_starts"].numpy()
    assert (starts >= 0).sum(axis=1).max() >= 3
    for row, positions in enumerate(inputs["mask_positions"].numpy()):
        present = targets["masked_lm"].numpy()[row] != NO_LABEL
        for example, start in enumerate(starts[row]):
            own = np.flatnonzero(ids[row] == example + 1)
            chosen = present & np.isin(positions, own)
            if start < 0 or not chosen.any():
                continue
            assert own[0] == start
            alone = {
                name: inputs[name][row : row + 1, start : own[-1] + 1]
                for name in ("token_ids", "segment_ids", "padding_mask")
            }
            at = tf.constant(positions[chosen][np.newaxis] - start)
            expected = task({**alone, "mask_positions": at})["masked_lm"]
            np.testing.assert_allclose(outputs[row, chosen], expected[0], atol=1e-5)


def test_masks_do_not_touch_special_tokens(packed):
    task = make_electra()
    seen, chosen = 0, 0
    source = task.batch_source(packed, batch_size=8, heldout=False)
    special = [task.tokenizer.token_to_id(token) for token in task.tokenizer.special_tokens]
    for _, targets in source.one_pass():
        original = targets["replaced_token_detection"].numpy()
        labels = targets["masked_lm"].numpy()
        assert not np.isin(labels[labels != NO_LABEL], special).any()
        seen += int((~np.isin(original, [*special, NO_LABEL])).sum())
        chosen += int((labels != NO_LABEL).sum())
    # Rows without a draw below the rate have one mask all the same.
    assert 0.13 < chosen / seen < 0.2


def test_static_masks_and_words_of_packed_examples(text, tmp_path):
    masking = Masking(rate=0.3, whole_words=True)
    data = build(text, tmp_path / "data", pack_examples=True, masking=masking)
    tokenizer = make_tokenizer()
    special = [tokenizer.token_to_id(token) for token in tokenizer.special_tokens]
    for record in records_of(data):
        ids = np.array(record["token_ids"])
        at, labels = np.array(record["masked_positions"]), record["masked_token_ids"]
        assert not np.isin(labels, special).any()
        starts = np.cumsum([0, *record["example_lengths"]])[:-1]
        assert not np.isin(at, starts).any()
        assert (ids[starts] == tokenizer.cls_token_id).all()
    words = build(text, tmp_path / "words", pack_examples=True, word_boundaries="spaces")
    for record in records_of(words):  # each letter is a word, and each example begins one
        special_at = np.isin(record["token_ids"], special)
        expected = np.flatnonzero(~special_at)
        assert set(expected) <= set(record["word_begins"])


def test_a_run_on_packed_examples(packed, text, tmp_path, monkeypatch):
    """Equal with accumulation, and measured as `evaluate` does."""
    monkeypatch.setattr(reading, "_WINDOW", 32)
    monkeypatch.setattr(reading, "_LEAST_BATCHES", 2)
    weights = []
    with eagerly():
        for parts in (1, 2):
            task = make_electra()
            spread_weights(task)
            task.fit(
                packed, batch_size=6, epochs=1, steps_per_epoch=2, learning_rate=1e-2,
                accumulation_steps=parts, verbose=0,
            )  # fmt: skip
            weights.append(task.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-5)
    report, figures = task.report(packed), task.evaluate(packed, verbose=0, return_dict=True)
    for name in ("masked_lm_loss", "replaced_token_detection_accuracy"):
        assert report[name] == pytest.approx(figures[name], rel=1e-5)
    batches = RecordBatches(data=packed, batch_size=8)
    assert batches.steps * 8 >= batches.records
    plain = build(text, tmp_path / "plain")
    with pytest.raises(ConfigError, match="packed examples in all phases or in none"):
        PretrainingPhases([Phase(data=packed, steps=1), Phase(data=plain, steps=1)])


def test_pairs_are_not_packed(text, tmp_path):
    with pytest.raises(ConfigError, match="pairs='none' with `pack_examples`"):
        build(text, tmp_path / "data", pack_examples=True, pairs="next_sentence")
