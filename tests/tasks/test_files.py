"""Files that only this package writes: valid, damaged and hostile ones."""

import json
import os
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from keras_bert_zoo import notices
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.files import SIDE_FILE
from keras_bert_zoo.presets.extra_weights import EXTRA_WEIGHTS_FILE, load_extra_weights
from keras_bert_zoo.tasks.files import SIDE_SCHEMA, check_saved_length, read_side_file
from tests.helpers import ASSETS

GOOD = {
    "task": "classification", "heads": ["masked_lm"], "pair": True, "training": {"loss": [None]},
    "columns": {"text": "a", "labels": ["b"], "header": False, "pair": None, "tag": -1},
    "max_length": 128, "threshold": [0.5, 0.25], "pooling": "mean", "num_choices": 4,
    "stride": None, "scheme": "IOB2", "legal_only": True, "crf": False, "nested": False,
    "max_answer_tokens": 30, "null_threshold": -1.5, "top_k": 5, "mask_rate": 0.15,
    "whole_words": True, "num_beams": 4, "length_penalty": 1.0, "max_target_length": 64,
    "label_smoothing": 0.1, "passage_tokens": 100, "passage_overlap": 25, "top_passages": 5,
    "retriever_weight": 50.0, "objectives": ["masked_lm"], "objective_weights": {"masked_lm": 2.0},
    "mask_share": 0.8, "random_share": 0.1, "max_ngram": 3, "span_mean": None,
}  # fmt: skip
WRONG = [
    ("max_length", "x"), ("max_length", -1), ("max_length", 10**9), ("max_length", True),
    ("max_length", 2), ("threshold", "a"), ("threshold", [0.5, "a"]), ("threshold", 1),
    ("threshold", {}), ("pair", 1), ("training", []), ("training", None), ("task", ["a"]),
    ("columns", {"text": [1]}), ("columns", []), ("stride", -1), ("top_k", 0), ("top_k", 1.5),
    ("mask_rate", 0), ("num_beams", "4"), ("retriever_weight", -1), ("nested", "yes"),
    ("pooling", "sum"), ("heads", "masked_lm"), ("null_threshold", 10**50),
    ("objectives", "masked_lm"), ("objective_weights", {"masked_lm": -1}), ("max_ngram", 0),
    ("span_mean", 0.5), ("mask_share", 2),
]  # fmt: skip


def write(folder, side):
    (folder / SIDE_FILE).write_text(side if isinstance(side, str) else json.dumps(side))
    return folder


def test_every_key_is_declared(tmp_path):
    assert read_side_file(write(tmp_path, GOOD | {"of a later version": [1]}))["max_length"] == 128
    assert SIDE_SCHEMA.keys() == GOOD.keys()
    (tmp_path / SIDE_FILE).unlink()
    assert read_side_file(tmp_path) == {}


@pytest.mark.parametrize(("key", "value"), WRONG, ids=lambda value: str(value)[:20])
def test_wrong_values_are_named(tmp_path, key, value):
    with pytest.raises(CheckpointError, match=rf"{SIDE_FILE}: '{key}' must be ") as caught:
        read_side_file(write(tmp_path, GOOD | {key: value}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100 + "1" + "}" * 100, "nested deeper than"),
        ("[" + "[]," * 1_500_000 + "[]]", "more than 1,000,000 lists and objects"),
        ('{"task": "a", "task": "b"}', "is given twice"),
        ('{"threshold": NaN}', "NaN is not JSON"),
        ("[]", "Expected a JSON object in .*, received list"),
        (" " * 10_000_001, "is larger than 10,000,000 bytes"),
        ("{", "cannot be read as JSON"),
    ],
)
def test_hostile_contents_are_refused(tmp_path, contents, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        read_side_file(write(tmp_path, contents))
    assert "\n" not in str(caught.value)


def test_special_files_are_refused_without_waiting(tmp_path):
    path = tmp_path / SIDE_FILE
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match="it is not a regular file"):
        read_side_file(tmp_path)
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="No such file"):
        read_side_file(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(CheckpointError, match="not a regular file|Is a directory"):
        read_side_file(tmp_path)


def test_a_length_beyond_the_model_is_refused(tmp_path):
    check_saved_length({"max_length": 512}, 512, tmp_path)
    check_saved_length({"max_length": None}, 512, tmp_path)
    with pytest.raises(
        CheckpointError,
        match=r"'max_length' must be at most 512, .*, "
        r"received 513\.",
    ):
        check_saved_length({"max_length": 513}, 512, tmp_path)


# === Weights ===


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, np.bool_])
def test_weights_that_are_not_floats_are_refused(tmp_path, dtype):
    import keras

    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    weights = {"crf.kernel": np.ones((3, 2), dtype), "crf.bias": np.zeros(2, np.float16)}
    save_file(weights, tmp_path / EXTRA_WEIGHTS_FILE)
    before = layer.get_weights()
    with pytest.raises(CheckpointError, match=rf"floating-point .* crf.kernel \({np.dtype(dtype)}"):
        load_extra_weights(tmp_path, {"crf": layer})
    for left, right in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


# === Directories from elsewhere ===


def test_a_directory_with_many_oddities_loads(tmp_path, caplog):
    """Names of DataParallel, gaps in id2label, no [MASK], and an unknown key."""
    import keras_bert_zoo as kbz

    notices.forget()
    source = ASSETS / "bert_classifier"
    plain = kbz.TextClassifier.load(source, max_length=24)
    for name in ("tokenizer_config.json", "config.json"):
        shutil.copy(source / name, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"id2label": {"0": "no", "2": "yes"}, "num_labels": 2, "my_notes": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    lines = (source / "vocab.txt").read_text().splitlines()
    lines[lines.index("[MASK]")] = "[unused0]"
    (tmp_path / "vocab.txt").write_text("\n".join([*lines, "", ""]))
    tensors = load_file(source / "model.safetensors")
    save_file({f"module.{name}": t for name, t in tensors.items()}, tmp_path / "model.safetensors")
    task = kbz.TextClassifier.load(tmp_path, max_length=24)
    assert task.labels == ["no", "LABEL_1", "yes"]
    assert task.tokenizer.mask_token is None
    texts = ["a b c", "x"]
    np.testing.assert_array_equal(task.predict_logits(texts), plain.predict_logits(texts))
    for said in (
        "`my_notes`",
        "'module.'",
        "ids [1]",
        "no mask_token '[MASK]'",
        "1 blank line keeps",
    ):
        assert caplog.text.count(said) == 1, said
    task.save(tmp_path / "again")
    saved = json.loads((tmp_path / "again" / "config.json").read_text())
    assert saved["id2label"] == {"0": "no", "1": "LABEL_1", "2": "yes"}
    assert "num_labels" not in saved  # transformers would use the old number instead of the names
    with pytest.raises(ConfigError, match="MaskedLM needs a tokenizer with a mask token"):
        kbz.MaskedLM(task.encoder, task.tokenizer)
