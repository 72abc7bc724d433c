"""ELECTRA's pretraining: samples, shared embeddings, loss, files, compared with transformers."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.data.masking_options import Masking
from keras_bert_zoo.data.pipeline import NO_LABEL
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.metrics.replaced_token import base_rate_entropy, replaced_labels
from keras_bert_zoo.pretraining.replaced_tokens import generator_config, sample_tokens
from keras_bert_zoo.training.model_shapes import task_shapes
from tests.helpers import eagerly
from tests.pretraining.shard_training import make as make_bert
from tests.pretraining.shard_training import make_electra
from tests.tasks.every_task import VOCABULARY, make_tokenizer, spread_weights

TEXTS = ["c a t s a t", "a d o g r a n h o m e", "w h o s a t t h e r e", "t h e d o g"]
OPTIONS = {"batch_size": 2, "epochs": 1, "learning_rate": 1e-2, "verbose": 0}


def make(**options):
    task = make_electra(**options)
    spread_weights(task)
    return task


def batch_of(task, seed=0):
    return task.rows(task.examples(TEXTS), None).one_batch(seed=seed)


def test_the_losses_and_the_logits_are_those_of_transformers(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    task = make()
    inputs, targets = batch_of(task)
    task.save(tmp_path / "saved")
    outputs = task(inputs)
    logits, read = np.moveaxis(outputs["replaced_token_detection"].numpy(), -1, 0)
    original = targets["replaced_token_detection"].numpy()
    present = inputs["padding_mask"].numpy() != 0

    def tensors(token_ids):
        return {
            "input_ids": torch.tensor(token_ids).long(),
            "token_type_ids": torch.tensor(inputs["segment_ids"].numpy()).long(),
            "attention_mask": torch.tensor(inputs["padding_mask"].numpy()).long(),
        }

    with torch.no_grad():
        expected = transformers.AutoModelForPreTraining.from_pretrained(tmp_path / "saved").eval()(
            **tensors(read), labels=torch.tensor((read != original) & present).long()
        )
        generated = transformers.AutoModelForMaskedLM.from_pretrained(
            tmp_path / "saved" / "generator"
        ).eval()(**tensors(inputs["token_ids"].numpy()))
    np.testing.assert_allclose(logits[present], expected.logits.numpy()[present], atol=1e-5)
    picked = tf.gather(generated.logits.numpy(), inputs["mask_positions"], batch_dims=1)
    np.testing.assert_allclose(outputs["masked_lm"], picked, atol=1e-5)
    labels = targets["masked_lm"].numpy()
    of_generator = torch.nn.functional.cross_entropy(
        torch.tensor(picked.numpy()).flatten(0, 1),
        torch.tensor(labels).flatten().long(),
        ignore_index=NO_LABEL,
    )
    total = float(of_generator) + 50 * float(expected.loss)
    assert float(task.objective().loss()(targets, outputs)) == pytest.approx(total, rel=1e-5)


def test_the_targets_are_the_original_tokens():
    task = make()
    inputs, targets = batch_of(task)
    plain = task.tokenizer(TEXTS, max_length=24)
    mask = plain["padding_mask"].numpy() != 0
    expected = np.where(mask, plain["token_ids"].numpy(), NO_LABEL)
    np.testing.assert_array_equal(targets["replaced_token_detection"], expected)
    read = task(inputs)["replaced_token_detection"].numpy()[..., 1].astype(int)
    chosen = np.zeros(mask.shape, bool)
    for row, columns in enumerate(inputs["mask_positions"].numpy()):
        chosen[row, columns[columns > 0]] = True
    np.testing.assert_array_equal(read[~chosen & mask], expected[~chosen & mask])
    assert chosen.sum() >= len(TEXTS)
    assert (chosen & (read == task.tokenizer.mask_token_id)).sum() < chosen.sum()


def test_the_loss_by_hand():
    original = tf.constant([[2, 7, 8, 3], [2, 9, 3, NO_LABEL]])
    read = np.array([[2, 6, 8, 3], [2, 9, 3, 0]], np.float32)
    logits = np.array([[-1.0, 2.0, 0.5, -3.0], [-2.0, 1.0, 0.0, 9.0]], np.float32)
    labels, _ = replaced_labels(original, tf.stack([logits, read], axis=-1))
    np.testing.assert_array_equal(labels, [[0, 1, 0, 0], [0, 0, 0, NO_LABEL]])
    p = 1 / (1 + np.exp(-logits[original != NO_LABEL]))
    replaced = np.array([0, 1, 0, 0, 0, 0, 0])
    expected = -np.mean(np.where(replaced, np.log(p), np.log(1 - p)))
    task = make(objective_weights={"masked_lm": 0.0, "replaced_token_detection": 1.0})
    targets = {"masked_lm": tf.fill([2, 1], NO_LABEL), "replaced_token_detection": original}
    outputs = {
        "masked_lm": tf.zeros([2, 1, len(VOCABULARY)]),
        "replaced_token_detection": tf.stack([logits, read], axis=-1),
    }
    assert float(task.objective().loss()(targets, outputs)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("vocabulary", [5, 300])
def test_samples_have_the_probabilities_of_the_logits(vocabulary):
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, vocabulary).astype(np.float32)
    logits[[0, -1]] = -50.0  # never drawn
    count = 20_000
    numbers = random.random(count, np.float32)
    samples = sample_tokens(tf.tile(logits[np.newaxis], [count, 1]), tf.constant(numbers)).numpy()
    p = np.exp(logits - np.logaddexp.reduce(logits))
    observed = np.bincount(samples, minlength=vocabulary)
    assert observed[0] == observed[-1] == 0
    # Each count is binomial: within 6 standard deviations, and 5 for counts near 0.
    assert (np.abs(observed - count * p) <= 6 * np.sqrt(count * p * (1 - p)) + 5).all()
    ends = sample_tokens(tf.constant([logits] * 2), tf.constant([0.0, 1.0])).numpy()
    assert ((ends >= 0) & (ends < vocabulary)).all()


def test_samples_depend_on_their_row_alone():
    """So replicas and parts of a batch have those of the whole batch; other masks have others."""
    task = make()
    inputs, _ = batch_of(task)
    whole = task(inputs)["replaced_token_detection"].numpy()[..., 1]
    for row in range(len(TEXTS)):
        alone = task({name: value[row : row + 1] for name, value in inputs.items()})
        np.testing.assert_array_equal(
            alone["replaced_token_detection"].numpy()[0, :, 1], whole[row]
        )
    generator = task.head["masked_lm"]
    flat = generator.head.bias
    flat.assign(tf.zeros_like(flat))
    draws = [task(batch_of(task, seed)[0])["replaced_token_detection"] for seed in range(20)]
    read = np.concatenate([draw.numpy()[..., 1].reshape(-1) for draw in draws])
    assert len(np.unique(read)) > 15


def test_the_embeddings_are_shared_and_trained():
    task = make()
    generator, encoder = task.head["masked_lm"].encoder, task.encoder
    tables = {variable.path: variable for variable in encoder.embeddings.weights}
    for name in ("token_table", "position_table", "segment_table", "norm/gamma", "norm/beta"):
        path = f"embeddings/{name}"
        (own,) = [v for v in generator.embeddings.weights if v.path == path]
        assert own is tables[path]
    assert generator.embeddings.projection is not encoder.embeddings.projection
    assert len({id(v) for v in task.weights}) == len(task.weights)
    assert task_shapes(task).parameters == task.count_params()
    before = {id(v): v.numpy() for v in task.trainable_variables}
    task.fit(TEXTS, **OPTIONS)
    unchanged = {v.path for v in task.trainable_variables if (v.numpy() == before[id(v)]).all()}
    assert unchanged <= {"block_0/attention/key/bias"}  # softmax does not depend on it


def test_the_detector_does_not_train_the_generator():
    task = make(objective_weights={"masked_lm": 0.0})
    inputs, targets = batch_of(task)
    with tf.GradientTape() as tape:
        loss = task.objective().loss()(targets, task(inputs))
    generator = task.head["masked_lm"]
    own = [v for v in generator.trainable_variables if v.path.startswith("block_")]
    for gradient in tape.gradient(loss, own):
        assert gradient is None or not np.asarray(gradient).any()


def test_the_directory_holds_both_models(tmp_path):
    task = make(generator=0.5, masking=Masking(rate=0.3, whole_words=True))
    inputs, _ = batch_of(task)
    task.save(tmp_path / "saved")
    again = kbz.Pretrainer.load(tmp_path / "saved")
    assert again.options == task.options
    assert again.options.objective_weights == {"masked_lm": 1.0, "replaced_token_detection": 50.0}
    for name, values in task(inputs).items():
        np.testing.assert_array_equal(again(inputs)[name], values)
    texts = ["a [MASK] t"]
    generator = kbz.MaskedLM.load(tmp_path / "saved" / "generator")
    assert generator.encoder.config == generator_config(task.encoder.config, 0.5)
    assert generator.encoder.config.hidden_dim == 8
    assert generator.masking == Masking(rate=0.3, whole_words=True)
    np.testing.assert_array_equal(generator.predict(texts)["score"], task.predict(texts)["score"])
    # The encoder of every task is the detector's, not the generator's.
    classifier = kbz.TextClassifier.from_preset(tmp_path / "saved", labels=["a", "b"])
    np.testing.assert_array_equal(
        classifier.encoder.embeddings.token_table, task.encoder.embeddings.token_table
    )
    assert classifier.encoder.config == task.encoder.config
    # Another generator's tables would be lost.
    strange = kbz.MaskedLM.load(tmp_path / "saved" / "generator")
    strange.encoder.embeddings.token_table.assign_add(tf.ones([len(VOCABULARY), 8]))
    strange.save(tmp_path / "strange")
    with pytest.raises(CheckpointError, match="other values of embeddings/token_table"):
        kbz.Pretrainer.from_preset(tmp_path / "saved", generator=tmp_path / "strange")
    bare = tmp_path / "bare"
    (tmp_path / "saved").rename(bare)
    (bare / "generator").rename(tmp_path / "generator")
    with pytest.raises(CheckpointError, match=r"no folder 'generator'.*new_head=True"):
        kbz.Pretrainer.load(bare)
    kbz.Pretrainer.from_preset(bare, generator=tmp_path / "generator")
    new = kbz.Pretrainer.from_preset(bare, new_head=True)
    assert new.head["masked_lm"].encoder.config.hidden_dim == 4


def electra_config():
    return make_electra().encoder.config


@pytest.mark.parametrize(
    "options",
    [
        {"accumulation_steps": 2},
        {"gradient_checkpointing": True},
        pytest.param({"jit_compile": True}, marks=pytest.mark.slow),  # XLA compiles both models
    ],
)
def test_steps_have_equal_results(options):
    layout = {"token_layout": "padded"} if "jit_compile" in options else {}
    tasks = make(**layout), make(**layout)
    with eagerly("jit_compile" not in options):
        histories = [
            task.fit(TEXTS, **OPTIONS | given).history
            for task, given in zip(tasks, ({}, options), strict=True)
        ]
    assert histories[0].keys() == histories[1].keys()
    for one, other in zip(tasks[0].get_weights(), tasks[1].get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-5)


def test_the_report_has_the_base_rate():
    task = make()
    report = task.report(TEXTS)
    assert report == task.report(TEXTS)
    p = report["replaced_share"]
    assert 0 < p < 0.5
    assert report["replaced_share_entropy"] == pytest.approx(
        -p * np.log(p) - (1 - p) * np.log(1 - p)
    )
    assert base_rate_entropy(0.0) == base_rate_entropy(1.0) == 0.0
    figures = task.evaluate(TEXTS, verbose=0, return_dict=True)
    for name in ("replaced_token_detection_loss", "replaced_token_detection_accuracy"):
        assert figures[name] == pytest.approx(report[name], rel=1e-5)


def test_what_does_not_fit_is_refused():
    task = make()
    with pytest.raises(ConfigError, match="leave the layer decay out"):
        task.fit(TEXTS, layer_decay=0.9, **OPTIONS)
    with pytest.raises(ConfigError, match="embeddings of the encoder's shapes"):
        make(generator=dataclasses.replace(electra_config(), embedding_dim=4))
    with pytest.raises(ConfigError, match=r"bert has: .*masked_lm and next_sentence"):
        kbz.Pretrainer.from_scratch(
            make_bert().encoder.config,
            make_tokenizer(),
            ("masked_lm", "replaced_token_detection"),
        )
    with pytest.raises(ConfigError, match="electra has: .*masked_lm and replaced_token_detection"):
        kbz.Pretrainer.from_scratch(
            electra_config(), make_tokenizer(), ("masked_lm", "next_sentence")
        )
    with pytest.raises(ConfigError, match=r"share of a generator in \(0, 1\], received 0"):
        make(generator=0)
    with pytest.raises(ConfigError, match="Expected no `generator`"):
        kbz.Pretrainer.from_preset("tests/assets/masked_lm", generator="tests/assets/masked_lm")
