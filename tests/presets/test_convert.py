"""Conversion between formats: nothing is lost, and what cannot be said is refused."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import keras_bert_zoo as kbz
from keras_bert_zoo.checkpoints.config_file import read_config
from keras_bert_zoo.checkpoints.formats import open_checkpoint
from keras_bert_zoo.checkpoints.sentencepiece_writer import model_bytes
from keras_bert_zoo.errors import CheckpointError, ConfigError
from keras_bert_zoo.presets import convert
from keras_bert_zoo.presets.convert import conversion, convert_checkpoint
from keras_bert_zoo.text.sentencepiece.model import parse_model
from keras_bert_zoo.text.sentencepiece.tokenizer import SentencePieceTokenizer
from keras_bert_zoo.text.special_tokens import AddedToken
from tests.helpers import ASSETS, eagerly

GOOGLE = ASSETS / "google_bert"


@pytest.fixture(autouse=True, scope="module")
def op_by_op():
    with eagerly():
        yield


def tensors_of(directory):
    with open_checkpoint(directory) as tensors:
        return {name: np.array(tensors.read(name)) for name in tensors.names()}


def test_a_tf1_checkpoint_returns_from_every_format_as_it_was(tmp_path):
    """Google's, with its masked-LM and next-sentence heads: there and back, in a chain."""
    expected = tensors_of(GOOGLE)
    steps = [("preset", "preset"), ("huggingface", "huggingface"), ("google", "google")]
    source = GOOGLE
    for name, to in steps:
        done = convert_checkpoint(source, tmp_path / name, to)
        assert done.largest_difference == 0.0
        assert done.heads == ("masked_lm", "next_sentence")
        assert not done.differing
        source = tmp_path / name
    tensors = tensors_of(source)
    assert tensors.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(tensors[name], value, strict=True)
    shared = {"vocab_size", "hidden_size", "num_hidden_layers", "max_position_embeddings"}
    ours, theirs = read_config(source), read_config(GOOGLE)
    assert {key: ours[key] for key in shared} == {key: theirs[key] for key in shared}
    ours, theirs = ((folder / "vocab.txt").read_text("utf-8") for folder in (source, GOOGLE))
    assert ours.split("\n")[:-1] == theirs.split("\n")  # the original ends without a line end


def test_huggingface_keeps_dtypes_labels_and_the_tokenizer(tmp_path):
    source = tmp_path / "half"
    source.mkdir()
    for file in (ASSETS / "bert_classifier").iterdir():
        if file.suffix in (".json", ".txt"):
            (source / file.name).write_bytes(file.read_bytes())
    tensors = load_file(ASSETS / "bert_classifier" / "model.safetensors")
    half = {name: value.astype(np.float16) for name, value in tensors.items()}
    save_file(half, source / "model.safetensors", metadata={"format": "pt"})
    done = convert_checkpoint(source, tmp_path / "out", "huggingface")
    assert (done.heads, done.tensors, done.tokenizer) == (("classification",), len(half), True)
    assert {value.dtype for value in tensors_of(tmp_path / "out").values()} == {np.dtype("float16")}
    labels = json.loads((tmp_path / "out" / "config.json").read_text())["id2label"]
    assert list(labels.values()) == ["no", "maybe", "yes"]
    assert kbz.Tokenizer.from_preset(tmp_path / "out").tokenize("abc").shape == (3,)


def test_what_a_format_cannot_say_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(ConfigError, match="`hidden_act` = 'gelu_new'"):
        convert_checkpoint(ASSETS / "bert_tanh_gelu", tmp_path / "out", "google")
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_that_the_format_cannot_say_is_refused(tmp_path):
    """A cased tokenizer without capital letters: Google's directories do not say what it is."""
    source = tmp_path / "cased"
    shutil.copytree(ASSETS / "bert_gelu", source)
    (source / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    with pytest.raises(CheckpointError, match="converted tokenizer splits .*Hello World"):
        convert_checkpoint(source, tmp_path / "out", "google")
    assert not (tmp_path / "out").exists()


def test_a_result_that_computes_something_else_is_not_kept(tmp_path, monkeypatch):
    def spoil(aside, config, tensors, files):
        real(aside, config, tensors, files)
        path = aside / "model.safetensors"
        changed = load_file(path)
        changed["pooler.dense.bias"] = changed["pooler.dense.bias"] + 1
        save_file(changed, path)

    real = conversion.write_huggingface
    monkeypatch.setattr(conversion, "write_huggingface", spoil)
    with pytest.raises(CheckpointError, match=r"outputs of the result differ: .*pooled_output"):
        convert_checkpoint(ASSETS / "bert_gelu", tmp_path / "out", "huggingface")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("both", [True, False])
def test_nan_is_equal_to_nan_alone(tmp_path, monkeypatch, both):
    """One of two outputs is NaN; a bit-identical NaN tensor does not differ."""
    source = tmp_path / "source"
    shutil.copytree(ASSETS / "zoo" / "bert-masked_lm+next_sentence-relu", source)
    name = "bert.pooler.dense.bias"
    tensors = load_file(source / "model.safetensors")
    tensors[name][0] = np.nan
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    if both:
        done = convert_checkpoint(source, tmp_path / "out", "huggingface")
        assert not done.differing
        assert done.largest_difference == 0.0
        return

    def mend(aside, config, tensors, files):
        real(aside, config, tensors, files)
        path = aside / "model.safetensors"
        changed = load_file(path)
        changed[name][0] = 0
        save_file(changed, path)

    real = conversion.write_huggingface
    monkeypatch.setattr(conversion, "write_huggingface", mend)
    with pytest.raises(CheckpointError, match=r"the largest difference is inf \(next_sentence\)"):
        convert_checkpoint(source, tmp_path / "out", "huggingface")


def test_the_largest_difference_does_not_hide_nan():
    assert np.isnan(convert.largest({"a": 1.0, "b": float("nan"), "c": 0.0}))
    one = np.array([np.nan, np.inf, 1.0, 2.0])
    assert convert.difference(one, one) == 0.0
    assert convert.difference(one, np.array([np.nan, np.inf, 1.0, 2.5])) == 0.5
    assert convert.difference(one, np.array([np.nan, -np.inf, 1.0, 2.0])) == np.inf
    assert convert.difference(one, np.array([0.0, np.inf, 1.0, 2.0])) == np.inf


def test_does_not_write_over_what_is_there(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(CheckpointError, match="which is not empty"):
        convert_checkpoint(ASSETS / "bert_gelu", tmp_path, "preset")


def test_refuses_an_unknown_format(tmp_path):
    with pytest.raises(ConfigError, match="Expected `to` to be one of huggingface, google, k"):
        convert_checkpoint(ASSETS / "bert_gelu", tmp_path / "out", "onnx")


# === The encoder alone ===

GELU = {"approximate_gelu": True}
PRETRAINED = ASSETS / "zoo" / "bert-masked_lm+next_sentence-relu"


@pytest.mark.parametrize("to", ["huggingface", "preset", "google", "keras-hub"])
def test_the_encoder_alone_goes_to_every_format(tmp_path, to):
    """The result has the pooler and no heads. The omitted heads are reported."""
    done = convert_checkpoint(GOOGLE, tmp_path / "out", to, encoder_only=True, **GELU)
    assert (done.heads, done.heads_left_out) == ((), ("masked_lm", "next_sentence"))
    assert sorted(done.outputs) == ["pooled_output", "sequence_output"]
    assert done.tokenizer
    assert not done.differing
    assert all(name.startswith("cls.") for name in done.left_out)
    assert not any(name.startswith("cls.") for name in tensors_of(tmp_path / "out"))
    assert kbz.Encoder.from_preset(tmp_path / "out").has_pooler


def test_a_refused_head_names_the_way_around(tmp_path):
    with pytest.raises(ConfigError, match=r"the head of BertForPreTraining.*`encoder_only=True`"):
        convert_checkpoint(PRETRAINED, tmp_path / "out", "keras-hub", **GELU)


def test_what_belongs_to_a_head_is_not_the_encoders_pooler(tmp_path):
    """RoBERTa's classifier has a separate dense layer instead of the pooler."""
    source = ASSETS / "zoo" / "roberta-classification-relu"
    done = convert_checkpoint(source, tmp_path / "out", "huggingface", encoder_only=True)
    assert done.heads_left_out == ("classification",)
    assert list(done.outputs) == ["sequence_output"]
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] == ["RobertaModel"]
    assert not {"id2label", "label2id", "problem_type"} & config.keys()


# === SentencePiece tokenizers in a tokenizer.json alone ===


def pieces_alone(folder, **options):
    """A small ALBERT whose tokenizer is saved as transformers 5 does: without a model file."""
    convert_checkpoint(ASSETS / "google_albert", folder, "huggingface", encoder_only=True)
    for file in folder.iterdir():
        if file.name not in ("config.json", "model.safetensors"):
            file.unlink()
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    special = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
    letters = "\u2581helowrdits'29"
    pieces = [(token, 0.0) for token in special]
    pieces += [(letter, -2.0 - i / 7) for i, letter in enumerate(dict.fromkeys(letters))]
    assert len(pieces) <= size
    sequence = [
        {"type": "Replace", "pattern": {"String": quotes}, "content": '"'}
        for quotes in ("``", "''")
    ]
    lower = [{"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}]
    tokenizer = SentencePieceTokenizer(
        pieces,
        **{"normalizer": {"type": "Sequence", "normalizers": sequence + lower}} | options,
        unk_token="<unk>", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
        added_tokens=[AddedToken(token, special=True, normalized=False) for token in special],
    )  # fmt: skip
    tokenizer.save(folder)
    assert not list(folder.glob("*.model"))
    return tokenizer


def test_a_model_file_is_made_of_a_tokenizer_json(tmp_path):
    ours = pieces_alone(tmp_path / "source")
    done = convert_checkpoint(tmp_path / "source", tmp_path / "out", "google")
    assert done.tokenizer
    assert (tmp_path / "out" / "spiece.model").is_file()
    assert not (tmp_path / "out" / "tokenizer.json").exists()
    theirs = kbz.Tokenizer.from_preset(tmp_path / "out")
    text = ["Hello World [MASK]", "“it's” ``CRÈME'' 2 weeks\tago…"]
    assert theirs.tokenize(text).to_list() == ours.tokenize(text).to_list()


def test_sentencepiece_reads_the_model_file_that_is_made(tmp_path):
    import tensorflow_text

    tokenizer = pieces_alone(tmp_path / "source", normalizer=None)
    data = model_bytes(tokenizer)
    read = parse_model(data)
    assert [(piece.text, np.float32(piece.score)) for piece in read.pieces] == [
        (text, np.float32(score)) for text, score in tokenizer.pieces
    ]
    assert (read.algorithm, read.unk_id, read.byte_fallback) == ("unigram", 1, False)
    theirs = tensorflow_text.SentencepieceTokenizer(data)
    text = "hello world it's 29"
    assert theirs.tokenize(text).numpy().tolist() == tokenizer.tokenize(text).numpy().tolist()


def test_a_tokenizer_that_no_model_file_says_is_refused_by_its_directory(tmp_path):
    pieces_alone(tmp_path / "source", split_at_punctuation=True)
    expected = rf"{tmp_path}/source has only a tokenizer.json, .*split_at_punctuation\. "
    with pytest.raises(ConfigError, match=expected + r"Copy .* \(spiece\.model\)"):
        convert_checkpoint(tmp_path / "source", tmp_path / "out", "google")
    assert not (tmp_path / "out").exists()
