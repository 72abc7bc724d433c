"""KerasHub's tokenizers in and out."""

import json
import shutil

import numpy as np
import pytest

import keras_bert_zoo as kbz
from keras_bert_zoo.checkpoints.keras_hub.reader import open_keras_hub, read_keras_hub_config
from keras_bert_zoo.checkpoints.keras_hub.tokenizers import materialise_tokenizer
from keras_bert_zoo.checkpoints.keras_hub.writer import write_keras_hub_preset
from keras_bert_zoo.errors import CheckpointError, ConfigError
from tests.checkpoints.keras_hub.models import (
    backbone,
    edit,
    from_preset,
    read_all,
)

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##a", "é"]
TOKENS = ["<s>", "<pad>", "</s>", "<unk>", *"abĠ", "ab", "<mask>"]


def sentencepiece_model(**options):
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the quick brown fox jumps over the lazy dog"] * 5),
        model_writer=model,
        vocab_size=40,
        hard_vocab_limit=False,
        minloglevel=2,
        **options,
    )
    return model.getvalue()


def test_wordpiece_tokenizer_in_and_out(presets, tmp_path):
    import keras_hub

    preset, folder = tmp_path / "preset", tmp_path / "folder"
    folder.mkdir()
    theirs = keras_hub.models.BertTokenizer(vocabulary=WORDS, lowercase=True)
    theirs.save_to_preset(str(preset))
    written = materialise_tokenizer(preset, folder, max_length=16)
    assert sorted(path.name for path in written) == ["tokenizer_config.json", "vocab.txt"]
    tokenizer = kbz.Tokenizer.from_preset(folder)
    # By default, KerasHub lowercases and keeps the accents.
    text = "A Baa É zz"
    assert tokenizer.tokenize([text]).to_list() == [np.asarray(theirs(text)).tolist()]
    assert tokenizer.max_length == 16
    shutil.copytree(presets("Bert"), preset, dirs_exist_ok=True)
    assert read_keras_hub_config(preset)["pad_token_id"] == 0
    config, tensors = from_preset(presets, "Bert", "TextClassifier")
    write_keras_hub_preset(tmp_path / "out", config, tensors, folder)
    model = keras_hub.models.TextClassifier.from_preset(str(tmp_path / "out"))
    again = model.preprocessor.tokenizer
    assert again.get_vocabulary() == WORDS
    assert np.asarray(again(text)).tolist() == np.asarray(theirs(text)).tolist()
    assert model.preprocessor.sequence_length == 16
    materialise_tokenizer(tmp_path / "out", tmp_path, max_length=16)
    assert (tmp_path / "vocab.txt").read_bytes() == (folder / "vocab.txt").read_bytes()
    assert (tmp_path / "tokenizer_config.json").read_bytes() == (
        folder / "tokenizer_config.json"
    ).read_bytes()


def test_bpe_tokenizer_in_and_out(presets, tmp_path):
    import keras_hub

    ids = {token: i for i, token in enumerate(TOKENS)}
    preset, folder = tmp_path / "preset", tmp_path / "folder"
    shutil.copytree(presets("Roberta"), preset)
    folder.mkdir()
    keras_hub.models.RobertaTokenizer(vocabulary=ids, merges=["a b"]).save_to_preset(str(preset))
    materialise_tokenizer(preset, folder)
    assert (folder / "merges.txt").read_text() == "#version: 0.2\na b\n"
    assert json.loads((folder / "vocab.json").read_text()) == ids
    config = read_keras_hub_config(preset)
    assert (config["pad_token_id"], config["max_position_embeddings"]) == (1, 18)
    write_keras_hub_preset(tmp_path / "out", config, read_all(open_keras_hub(preset)), folder)
    again = keras_hub.models.Tokenizer.from_preset(str(tmp_path / "out"))
    assert np.asarray(again("ab b")).tolist() == [ids["ab"], ids["Ġ"], ids["b"]]


def test_positions_begin_behind_the_padding_token(presets, tmp_path):
    import keras_hub

    shutil.copytree(presets("Roberta"), tmp_path, dirs_exist_ok=True)
    ids = {token: i for i, token in enumerate(["x", "y", *TOKENS])}  # <pad> is 3
    keras_hub.models.RobertaTokenizer(vocabulary=ids, merges=["a b"]).save_to_preset(str(tmp_path))
    config = read_keras_hub_config(tmp_path)
    assert (config["pad_token_id"], config["max_position_embeddings"]) == (3, 20)
    tensors = read_all(open_keras_hub(tmp_path))
    positions = tensors["embeddings.position_embeddings.weight"]
    original = np.asarray(backbone("Roberta").embeddings.position_embedding.position_embeddings)
    np.testing.assert_array_equal(positions[4:], original)
    write_keras_hub_preset(tmp_path / "out", config, tensors)
    assert (
        json.loads((tmp_path / "out" / "config.json").read_text())["config"]["max_sequence_length"]
        == 16
    )


# KerasHub 0.32 reads a model with `open(path).read()` and never closes it.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("name", "file", "special"),
    [
        ("XLMRoberta", "sentencepiece.bpe.model", {}),
        (
            "Albert",
            "spiece.model",
            {"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3, "pad_piece": "<pad>"}
            | {"bos_piece": "[CLS]", "eos_piece": "[SEP]", "user_defined_symbols": "[MASK]"},
        ),
        (
            "DebertaV3",
            "spm.model",
            {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "pad_piece": "[PAD]"}
            | {"bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"},
        ),
    ],
)
def test_sentencepiece_tokenizers_in_and_out(presets, tmp_path, name, file, special):
    import keras_hub

    pytest.importorskip("sentencepiece", reason="trains a tiny model")
    model = sentencepiece_model(**special)
    theirs = getattr(keras_hub.models, f"{name}Tokenizer")(proto=model)
    preset, folder = tmp_path / "preset", tmp_path / "folder"
    folder.mkdir()
    theirs.save_to_preset(str(preset))
    materialise_tokenizer(preset, folder)
    assert (folder / file).read_bytes() == model
    config, tensors = from_preset(presets, name)
    write_keras_hub_preset(tmp_path / "out", config, tensors, folder)
    again = keras_hub.models.Tokenizer.from_preset(str(tmp_path / "out"))
    text = "the quick dog"
    assert np.asarray(again(text)).tolist() == np.asarray(theirs(text)).tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"suffix_indicator": "@@"}, r"`suffix_indicator` = '@@' is not supported \(expected '##'"),
        ({"vocabulary": "/etc/passwd"}, "`vocabulary` = '/etc/passwd' is not supported"),
        ({"sequence_length": 8}, "`sequence_length` = 8 is not supported"),
        ({"byte_fallback": True}, "`byte_fallback` = True is unknown"),
    ],
)
def test_refuses_tokenizer_options(tmp_path, change, message):
    import keras_hub

    keras_hub.models.BertTokenizer(vocabulary=WORDS).save_to_preset(str(tmp_path))
    edit(tmp_path / "tokenizer.json", lambda config: config["config"].update(change))
    with pytest.raises(ConfigError, match=message):
        materialise_tokenizer(tmp_path, tmp_path)


def test_refuses_a_tokenizer_with_more_tokens_than_the_model(presets, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*WORDS, *(f"w{i}" for i in range(40))]))
    config, tensors = from_preset(presets, "Bert")
    with pytest.raises(CheckpointError, match="at most 40 tokens, .* received 49"):
        write_keras_hub_preset(tmp_path / "out", config, tensors, tmp_path)
    assert not (tmp_path / "out").exists()


def test_refuses_a_tokenizer_that_keras_hub_has_not(presets, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenize_chinese_chars": false}')
    config, tensors = from_preset(presets, "Bert")
    with pytest.raises(ConfigError, match="`tokenize_chinese_chars` = false"):
        write_keras_hub_preset(tmp_path / "out", config, tensors, tmp_path)
    assert not (tmp_path / "out").exists()
    with pytest.raises(CheckpointError, match="Expected KerasHub's tokenizer.json"):
        materialise_tokenizer(presets("Bert"), tmp_path)
