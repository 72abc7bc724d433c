"""Models with heads: which heads a checkpoint has, strict loading, ties, saving."""

import json
import logging
import os

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file, save_file

import keras_bert_zoo as kbz
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.heads.kinds import HEADS, make_head
from tests.helpers import ASSETS, golden_inputs, load_golden

ZOO = ASSETS / "zoo"
ENCODER = "bert-encoder-plain"
CLASSIFIER = "bert-classification-labels"
PRETRAINED = "bert-masked_lm+next_sentence-relu"
MASKED = "bert-masked_lm-untied"
TABLE = "bert.embeddings.word_embeddings.weight"
DECODER = "cls.predictions.decoder.weight"


def changed(folder, name, *, config=None, tensors=None, drop=(), drop_keys=()):
    """A copy of a golden's model with other tensors or config keys."""
    contents = json.loads((ZOO / name / "config.json").read_text())
    contents = {key: value for key, value in contents.items() if key not in drop_keys}
    arrays = load_file(ZOO / name / "model.safetensors")
    arrays = {key: value for key, value in arrays.items() if key not in drop} | (tensors or {})
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(contents | (config or {})))
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def logits(model, name):
    return {
        kind: value.numpy()
        for kind, value in model(golden_inputs(load_golden(f"zoo/{name}"))).items()
    }


# === Which heads ===


@pytest.mark.parametrize("drop_keys", [(), ("architectures",)], ids=["architectures", "names"])
def test_finds_all_heads_of_a_checkpoint(tmp_path, drop_keys):
    model = kbz.HeadedModel.from_preset(changed(tmp_path, PRETRAINED, drop_keys=drop_keys))
    assert sorted(model.heads) == ["masked_lm", "next_sentence"]


def test_architectures_win_over_further_heads_in_the_file(tmp_path):
    """Google's own checkpoints are BertForMaskedLM by their config, and hold both heads."""
    folder = changed(tmp_path, PRETRAINED, config={"architectures": ["BertForMaskedLM"]})
    model = kbz.HeadedModel.from_preset(folder)
    assert list(model.heads) == ["masked_lm"]
    assert not model.encoder.has_pooler
    expected = load_golden(f"zoo/{PRETRAINED}")
    mask = expected["padding_mask"][..., np.newaxis]
    outputs = logits(model, PRETRAINED)["masked_lm"]
    assert np.abs((outputs - expected["masked_lm"]) * mask).max() < 1e-5


@pytest.mark.parametrize("head", ["masked_lm", "next_sentence", ("next_sentence", "masked_lm")])
def test_takes_the_heads_asked_for(head):
    model = kbz.HeadedModel.from_preset(ZOO / PRETRAINED, head)
    assert list(model.heads) == [head] if isinstance(head, str) else list(head)
    assert model.encoder.has_pooler == ("next_sentence" in model.heads)


def test_an_ambiguous_classifier_is_not_guessed(tmp_path):
    folder = changed(tmp_path, CLASSIFIER, drop_keys=("architectures",))
    with pytest.raises(
        CheckpointError,
        match=r'fit several kinds of head.*`head="classification"` or `head="multiple_choice"` or '
        r'`head="token_classification"`',
    ):
        kbz.HeadedModel.from_preset(folder)
    assert list(kbz.HeadedModel.from_preset(folder, "classification").heads) == ["classification"]


def test_a_bare_encoder_has_no_head():
    with pytest.raises(CheckpointError, match=r"Expected a head .*which has none.*new_head=True"):
        kbz.HeadedModel.from_preset(ZOO / ENCODER)
    with pytest.raises(
        CheckpointError, match=r"no head for classification \(classifier.bias, classifier.weight\)"
    ):
        kbz.HeadedModel.from_preset(ZOO / ENCODER, "classification")


def test_unknown_heads_and_combinations_are_refused():
    with pytest.raises(ConfigError, match="head to be one of class.*, received 'summary'"):
        kbz.HeadedModel.from_preset(ZOO / ENCODER, "summary")
    with pytest.raises(ConfigError, match="no model with 'classification\\+masked_lm'"):
        kbz.HeadedModel.from_preset(ZOO / PRETRAINED, ("masked_lm", "classification"))
    with pytest.raises(ConfigError, match="no model with 'replaced_token_detection'"):
        kbz.HeadedModel.from_preset(ZOO / ENCODER, "replaced_token_detection")
    with pytest.raises(ConfigError, match="at least one head"):
        kbz.HeadedModel(kbz.Encoder.from_preset(ZOO / ENCODER), {})


# === Strictness ===


def test_all_that_does_not_fit_is_in_one_error(tmp_path):
    folder = changed(
        tmp_path,
        CLASSIFIER,
        tensors={
            "classifier.weight": np.zeros((3, 15), np.float32),
            "classifier.extra": np.zeros(2, np.float32),
        },
        drop=("classifier.bias", "bert.pooler.dense.bias"),
    )
    with pytest.raises(CheckpointError) as caught:
        kbz.HeadedModel.from_preset(folder)
    message = str(caught.value)
    assert "missing: bert.pooler.dense.bias (16,), classifier.bias (3,)" in message
    assert "unexpected: classifier.extra (2,)" in message
    assert "misshapen: classifier.weight (expected (3, 16), received (3, 15))" in message


def test_the_labels_must_be_as_many_as_the_logits(tmp_path):
    folder = changed(tmp_path, CLASSIFIER, config={"id2label": {"0": "no", "1": "yes"}})
    with pytest.raises(CheckpointError, match=r"3 logits, but its config.json has 2 labels"):
        kbz.HeadedModel.from_preset(folder)


@pytest.mark.parametrize(
    "config",
    [
        {"architectures": 5},
        {"architectures": [["x"]]},
        {"id2label": 5},
        {"id2label": ["a", "b", "c"]},
        {"id2label": {"x": "a", "y": "b", "z": "c"}},
        {"id2label": None, "num_labels": "3"},
    ],
)
def test_malformed_labels_and_classes_are_refused_in_one_line(tmp_path, config):
    folder = changed(tmp_path, CLASSIFIER, config=config)
    *_, key = config
    with pytest.raises(ConfigError, match=f"^[^\\n]*`{key}` must be [^\\n]*, received [^\\n]*$"):
        kbz.HeadedModel.from_preset(folder)


def test_a_flat_kernel_is_refused(tmp_path):
    folder = changed(tmp_path, CLASSIFIER, tensors={"classifier.weight": np.zeros(3, np.float32)})
    with pytest.raises(
        CheckpointError, match=r"Expected classifier.weight of shape .*received \(3,\)"
    ):
        kbz.HeadedModel.from_preset(folder)


# === Ties ===


def test_a_repeated_embedding_stays_tied(tmp_path, caplog):
    table = load_file(ZOO / PRETRAINED / "model.safetensors")[TABLE]
    folder = changed(tmp_path, PRETRAINED, tensors={DECODER: table.copy()})
    model = kbz.HeadedModel.from_preset(folder)
    assert model.heads["masked_lm"].tied
    assert "untied" not in caplog.text
    for kind, value in logits(model, PRETRAINED).items():
        np.testing.assert_array_equal(
            value, logits(kbz.HeadedModel.from_preset(ZOO / PRETRAINED), PRETRAINED)[kind]
        )


def test_a_decoder_of_its_own_is_used_as_transformers_does(tmp_path, caplog):
    """transformers 5 does not tie what differs, whatever the config says (`tie_weights`)."""
    contents = load_file(ZOO / MASKED / "model.safetensors")
    assert (contents[DECODER] != contents[TABLE]).any()
    folder = changed(tmp_path / "a", MASKED, config={"tie_word_embeddings": True})
    with caplog.at_level(logging.WARNING):
        model = kbz.HeadedModel.from_preset(folder)
    assert "differs from bert.embeddings.word_embeddings.weight" in caplog.text
    golden = load_golden(f"zoo/{MASKED}")
    mask = golden["padding_mask"][..., np.newaxis]
    assert np.abs((logits(model, MASKED)["masked_lm"] - golden["masked_lm"]) * mask).max() < 1e-5
    model.save(tmp_path / "b")
    assert not json.loads((tmp_path / "b" / "config.json").read_text())["tie_word_embeddings"]
    np.testing.assert_array_equal(
        logits(kbz.HeadedModel.from_preset(tmp_path / "b"), MASKED)["masked_lm"],
        logits(model, MASKED)["masked_lm"],
    )


def test_an_untied_model_without_a_decoder_is_refused(tmp_path):
    folder = changed(tmp_path, MASKED, drop=(DECODER,))
    with pytest.raises(
        CheckpointError, match=r"missing: cls.predictions.decoder.weight \(61, 16\)"
    ):
        kbz.HeadedModel.from_preset(folder)


@pytest.mark.parametrize("name", ["cls.predictions.bias", "cls.predictions.decoder.bias"])
def test_the_bias_is_read_under_either_name(tmp_path, name):
    bias = load_file(ZOO / MASKED / "model.safetensors")["cls.predictions.decoder.bias"]
    both = ("cls.predictions.bias", "cls.predictions.decoder.bias")
    model = kbz.HeadedModel.from_preset(changed(tmp_path, MASKED, drop=both, tensors={name: bias}))
    np.testing.assert_array_equal(model.heads["masked_lm"].bias, bias.astype(np.float32))
    # Without its decoder a file's embedding comes from the table, whatever else it holds.
    encoder = kbz.Encoder.from_preset(tmp_path)
    table = load_file(tmp_path / "model.safetensors")[TABLE]
    np.testing.assert_array_equal(encoder.embeddings.token_table, table.astype(np.float32))


def test_the_table_is_read_from_the_decoder_where_only_that_is_there(tmp_path):
    table = load_file(ZOO / PRETRAINED / "model.safetensors")[TABLE]
    folder = changed(tmp_path, PRETRAINED, drop=(TABLE,), tensors={DECODER: table})
    model = kbz.HeadedModel.from_preset(folder)
    np.testing.assert_array_equal(model.encoder.embeddings.token_table, table.astype(np.float32))


def test_a_tied_head_trains_the_embedding():
    model = kbz.HeadedModel.from_preset(ZOO / PRETRAINED, "masked_lm")
    names = [variable.path for variable in model.trainable_variables]
    assert len(set(names)) == len(names)
    assert not [name for name in names if name.startswith("masked_lm/embeddings")]
    inputs = golden_inputs(load_golden(f"zoo/{PRETRAINED}"))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(inputs, training=True)["masked_lm"] ** 2)
    gradients = dict(zip(names, tape.gradient(loss, model.trainable_variables), strict=True))
    # Of words that stand in no row, too: through the logits alone.
    table = tf.convert_to_tensor(gradients["embeddings/token_table"]).numpy()
    absent = np.setdiff1d(np.arange(67), inputs["token_ids"])
    assert absent.size
    assert (np.abs(table[absent]).max(axis=1) > 0).all()
    for name, gradient in gradients.items():
        assert gradient is not None, name


# === New heads and saving ===


def test_a_new_head_has_its_labels_and_keeps_the_encoder(tmp_path):
    model = kbz.HeadedModel.from_preset(ZOO / MASKED, "token_classification", labels=["O", "PER"])
    expected = kbz.Encoder.from_preset(ZOO / MASKED)
    np.testing.assert_array_equal(
        model.encoder.embeddings.token_table, expected.embeddings.token_table
    )
    model.save(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["architectures"] == ["BertForTokenClassification"]
    assert config["id2label"] == {"0": "O", "1": "PER"}
    assert config["label2id"] == {"O": 0, "PER": 1}
    assert config["dtype"] == "float32"
    again = kbz.HeadedModel.from_preset(tmp_path / "saved")
    loaded, saved = logits(again, MASKED), logits(model, MASKED)
    np.testing.assert_array_equal(loaded["token_classification"], saved["token_classification"])


def test_a_new_head_gets_a_new_pooler_where_there_is_none(caplog):
    with caplog.at_level(logging.WARNING):
        model = kbz.HeadedModel.from_preset(ZOO / MASKED, "multiple_choice", new_head=True)
    assert "no pooler: a new one starts from random weights" in caplog.text
    assert logits(model, MASKED)["multiple_choice"].shape == (4, 1)
    with pytest.raises(ConfigError, match="A new head needs one kind, received None"):
        kbz.HeadedModel.from_preset(ZOO / MASKED, new_head=True)
    with pytest.raises(ConfigError, match="`units` of the head classification to be a pos"):
        kbz.HeadedModel.from_preset(ZOO / MASKED, "classification", new_head=True)
    with pytest.raises(ConfigError, match="`units` of the head question_answering to be 2"):
        kbz.HeadedModel.from_preset(ZOO / MASKED, "question_answering", labels=["a", "b", "c"])


def test_saving_keeps_what_the_config_says_beyond_the_encoder(tmp_path):
    folder = changed(tmp_path / "a", CLASSIFIER, config={"bos_token_id": 7, "language": "tlh"})
    model = kbz.HeadedModel.from_preset(folder)
    model.save(tmp_path / "b")
    model.save(tmp_path / "b")  # over an earlier save
    with pytest.raises(CheckpointError, match="`overwrite` is False"):
        model.save(tmp_path / "b", overwrite=False)
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    assert (config["bos_token_id"], config["language"]) == (7, "tlh")
    assert config["id2label"] == {"0": "no", "1": "maybe", "2": "yes"}
    assert config["problem_type"] == "single_label_classification"
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]
    with pytest.raises(CheckpointError, match="not empty and has no keras_bert_zoo.json"):
        model.save(folder)


def test_heads_that_no_class_has_together_are_not_saved(tmp_path):
    encoder = kbz.Encoder.from_preset(ZOO / ENCODER)
    model = kbz.HeadedModel(encoder, {"question_answering": None, "multiple_choice": None})
    assert sorted(logits(model, ENCODER)) == ["multiple_choice", "question_answering"]
    with pytest.raises(ConfigError, match="cannot be saved as one model"):
        model.save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_an_encoder_without_a_pooler_carries_no_head_that_reads_it():
    encoder = kbz.Encoder.from_preset(ZOO / ENCODER, pooler=False)
    with pytest.raises(ConfigError, match="Expected an encoder with `pooler=True`"):
        kbz.HeadedModel(encoder, "next_sentence")


@pytest.mark.parametrize("kind", list(HEADS))
def test_every_kind_gives_float32_logits_in_bfloat16(kind):
    encoder = kbz.Encoder.from_preset(ZOO / ENCODER, dtype="mixed_bfloat16")
    units = 3 if kind in ("classification", "token_classification") else None
    model = kbz.HeadedModel(encoder, {kind: make_head(kind, encoder, units)})
    outputs = model(golden_inputs(load_golden(f"zoo/{ENCODER}")))[kind]
    assert outputs.dtype == tf.float32
    widths = {"masked_lm": (7, 61), "question_answering": (7, 2), "token_classification": (7, 3)}
    widths |= {"replaced_token_detection": (7,), "classification": (3,), "multiple_choice": (1,)}
    assert outputs.shape == (4, *widths.get(kind, (2,)))
    assert {variable.dtype for variable in model.weights} == {"float32"}


# === Heads whose tensors are called alike ===


@pytest.mark.parametrize(
    ("name", "head", "actual"),
    [
        (CLASSIFIER, "token_classification", "classification"),
        (CLASSIFIER, "multiple_choice", "classification"),
        ("bert-token_classification-tanh_gelu", "classification", "token_classification"),
        ("bert-multiple_choice-plain", "classification", "multiple_choice"),
    ],
)
def test_architectures_say_whose_the_last_layer_is(name, head, actual):
    expected = rf'has a head for {actual} \(.*, not for {head}\. .*head="{actual}".*correct `archi'
    with pytest.raises(CheckpointError, match=expected):
        kbz.HeadedModel.from_preset(ZOO / name, head=head)
    new = None if head == "multiple_choice" else ["a", "b"]
    model = kbz.HeadedModel.from_preset(ZOO / name, head=head, labels=new, new_head=True)
    assert list(model.heads) == [head]


def test_a_tagger_is_not_loaded_as_a_classifier_by_a_task(tmp_path):
    for file in (ASSETS / "bert_classifier").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["architectures"] = ["BertForTokenClassification"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"not for TextClassifier\. .*labels=\[\.\.\.\]"):
        kbz.TextClassifier.from_preset(tmp_path)


def test_a_head_with_names_of_its_own_is_loaded_whatever_the_architecture(tmp_path):
    folder = changed(tmp_path, PRETRAINED, config={"architectures": ["BertForMaskedLM"]})
    assert list(kbz.HeadedModel.from_preset(folder, head="next_sentence").heads) == [
        "next_sentence"
    ]


@pytest.mark.parametrize(
    ("labels", "message"),
    [("card", "received 'card'"), (["a", "b", "a"], "these repeat: 'a'")],
)
def test_labels_are_checked(labels, message):
    with pytest.raises(ConfigError, match=message):
        kbz.HeadedModel.from_preset(ZOO / ENCODER, head="classification", labels=labels)


def test_a_wide_head_for_two_answers_is_blamed_on_num_labels(tmp_path):
    name = "albert-masked_lm+sentence_order-plain"
    tensors = load_file(ZOO / name / "model.safetensors")
    kernel, bias = "sop_classifier.classifier.weight", "sop_classifier.classifier.bias"
    wide = {kernel: np.tile(tensors[kernel], (2, 1)), bias: np.tile(tensors[bias], 2)}
    folder = changed(
        tmp_path, name, tensors=wide, config={"num_labels": 4}, drop_keys=("id2label",)
    )
    with pytest.raises(CheckpointError, match=r"of 2 logits .*received 4 .*`num_labels`"):
        kbz.HeadedModel.from_preset(folder)
