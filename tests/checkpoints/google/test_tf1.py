"""Google's TF1 checkpoints of BERT, ALBERT and ELECTRA: read, written, and refused."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.checkpoints.config_file import read_config
from keras_bert_zoo.checkpoints.formats import detect_format, open_checkpoint
from keras_bert_zoo.checkpoints.google.config import to_google_config
from keras_bert_zoo.checkpoints.google.names import HEADS, NameTable, find_family
from keras_bert_zoo.checkpoints.google.tf1 import open_google, read_google_config
from keras_bert_zoo.checkpoints.google.writer import write_google_checkpoint
from keras_bert_zoo.checkpoints.safetensors import open_safetensors
from keras_bert_zoo.errors import CheckpointError, ConfigError
from tests.helpers import ASSETS

# google_bert is from the wild (see its SOURCE.txt); tools/make_checkpoint_goldens.py made the
# others, and has transformers 4.44.2 say what all of them hold.
FOLDERS = ["google_bert", "google_albert", "google_electra"]
TIED = {
    "cls.predictions.decoder.weight",
    "cls.predictions.decoder.bias",
    "predictions.decoder.weight",
    "predictions.decoder.bias",
    "generator_lm_head.weight",
}


def variables_of(folder):
    """All variables of a directory's checkpoint, as TensorFlow reads them."""
    reader = tf.train.load_checkpoint(str(next(Path(folder).glob("*.index")).with_suffix("")))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def tensors_of(folder):
    with open_checkpoint(folder) as source:
        return {name: source.read(name) for name in source.names()}


def save(folder, variables, name="bert_model.ckpt"):
    names = sorted(variables)
    tf.raw_ops.SaveV2(
        prefix=str(folder / name),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[variables[name] for name in names],
    )


@pytest.fixture
def folder(tmp_path):
    """A copy of a BERT checkpoint that a test may change."""
    target = tmp_path / "bert"
    shutil.copytree(ASSETS / "google_bert", target)
    return target


@pytest.mark.parametrize(
    ("name", "golden", "options"),
    [
        ("google_bert", "expected", {}),
        ("google_albert", "expected", {}),
        ("google_electra", "expected_discriminator", {}),
        ("google_electra", "expected_generator", {"generator": True}),
    ],
)
def test_reads_what_transformers_4_reads(name, golden, options):
    with (
        open_google(ASSETS / name, **options) as source,
        open_safetensors(ASSETS / name / f"{golden}.safetensors") as expected,
    ):
        names = {n for n in source.names() if not n.startswith("generator") or options}
        assert names == set(expected.names()) - TIED
        for tensor_name in names:
            value = source.read(tensor_name)
            assert source.shape(tensor_name) == value.shape
            assert source.dtype(tensor_name) == np.float32
            np.testing.assert_array_equal(value, expected.read(tensor_name))


def test_presents_the_generator_beside_the_discriminator():
    with open_checkpoint(ASSETS / "google_electra") as source:
        assert source.shape("generator.encoder.layer.0.attention.self.key.weight") == (8, 8)
        assert source.shape("generator.embeddings_project.weight") == (8, 4)
        assert source.shape("generator_lm_head.bias") == (19,)
    with pytest.raises(CheckpointError, match="is of bert, which has no generator"):
        open_google(ASSETS / "google_bert", generator=True)


def test_reads_configs():
    assert read_config(ASSETS / "google_bert") == {
        "model_type": "bert",
        "architectures": ["BertForPreTraining"],
        "vocab_size": 15,
        "hidden_size": 4,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 16,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "max_position_embeddings": 16,
        "type_vocab_size": 2,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-12,
    }
    albert = read_config(ASSETS / "google_albert")
    assert albert["architectures"] == ["AlbertForPreTraining"]
    assert albert["hidden_act"] == "gelu_new"  # the tanh form is what Google's ALBERT calls gelu
    assert (albert["num_hidden_groups"], albert["inner_group_num"]) == (2, 2)
    assert "gap_size" not in albert
    electra = read_config(ASSETS / "google_electra")
    assert electra["architectures"] == ["ElectraForPreTraining"]
    assert electra["model_type"] == "electra"
    assert (electra["hidden_size"], electra["embedding_size"]) == (16, 4)
    assert (electra["num_hidden_layers"], electra["num_attention_heads"]) == (1, 1)
    generator = read_google_config(ASSETS / "google_electra", generator=True)
    assert generator["architectures"] == ["ElectraForMaskedLM"]
    assert (generator["hidden_size"], generator["num_attention_heads"]) == (8, 1)
    assert [detect_format(ASSETS / name) for name in FOLDERS] == ["google"] * 3


@pytest.mark.parametrize("name", FOLDERS)
def test_writing_and_reading_again_loses_nothing(tmp_path, name):
    before = tensors_of(ASSETS / name)
    vocabulary = ASSETS / "google_bert" / "vocab.txt"
    config = read_config(ASSETS / name)
    written = write_google_checkpoint(tmp_path, config, before, vocabulary)
    assert sorted(os.listdir(tmp_path)) == sorted(written)
    assert (tmp_path / "vocab.txt").read_bytes() == vocabulary.read_bytes()
    # Google's code reads the same variables, except the optimizer's slots.
    original = {
        key.removeprefix("module/"): value
        for key, value in variables_of(ASSETS / name).items()
        if not key.endswith(("adam_m", "adam_v", "global_step", "temperature"))
    }
    variables = variables_of(tmp_path)
    assert variables.keys() == original.keys()
    for key, value in original.items():
        assert variables[key].dtype == value.dtype
        np.testing.assert_array_equal(variables[key], value)
    # And so is what we read.
    after = tensors_of(tmp_path)
    assert after.keys() == before.keys()
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], value)
    assert read_config(tmp_path) == config


def test_writes_google_s_config(tmp_path):
    config = read_config(ASSETS / "google_bert")
    write_google_checkpoint(tmp_path, config, tensors_of(ASSETS / "google_bert"))
    ours = json.loads((tmp_path / "bert_config.json").read_text())
    original = json.loads((ASSETS / "google_bert" / "bert_config.json").read_text())
    unread = {key for key in original if key.startswith("pooler") or key == "directionality"}
    assert ours == {key: value for key, value in original.items() if key not in unread}


def test_name_tables_run_both_ways():
    for name in FOLDERS:
        variables = list(variables_of(ASSETS / name))
        table = NameTable(find_family(variables))
        seen = set()
        for variable in variables:
            there = table.to_huggingface(variable)
            if there is None:
                assert variable.endswith(("adam_m", "adam_v", "global_step", "temperature"))
                continue
            back = table.to_google(there.name)
            assert back.name == variable.removeprefix("module/")
            assert back.transposed == there.transposed
            assert there.name not in seen
            seen.add(there.name)


@pytest.mark.parametrize(
    ("scope", "head", "architecture"),
    [
        ("", "classifier", "ForSequenceClassification"),
        ("cls/squad/", "qa_outputs", "ForQuestionAnswering"),
    ],
)
def test_fine_tuned_heads(tmp_path, scope, head, architecture):
    variables = {
        name: value
        for name, value in variables_of(ASSETS / "google_bert").items()
        if name.startswith("bert/")
    }
    weights = np.arange(12, dtype=np.float32).reshape(3, 4)
    if head == "qa_outputs":
        weights = weights[:2]
    variables |= {f"{scope}output_weights": weights, f"{scope}output_bias": weights[:, 0]}
    save(tmp_path, variables)
    shutil.copy(ASSETS / "google_bert" / "bert_config.json", tmp_path)
    tensors = tensors_of(tmp_path)
    np.testing.assert_array_equal(tensors[f"{head}.weight"], weights)
    np.testing.assert_array_equal(tensors[f"{head}.bias"], weights[:, 0])
    config = read_config(tmp_path)
    assert config["architectures"] == ["Bert" + architecture]
    if head == "classifier":
        assert config["id2label"] == {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}
    again = tmp_path / "again"
    again.mkdir()
    write_google_checkpoint(again, config, tensors)
    np.testing.assert_array_equal(variables_of(again)[f"{scope}output_weights"], weights)


@pytest.mark.parametrize("shape", [(), (3,), (0, 4), (2, 4, 1)])
def test_refuses_a_classifier_without_labels(folder, shape):
    encoder = {n: v for n, v in variables_of(folder).items() if n.startswith("bert/")}
    save(folder, encoder | {"output_weights": np.zeros(shape, np.float32)})
    with pytest.raises(CheckpointError, match=r"a classifier of shape \(labels, width\), received"):
        read_config(folder)


def test_refuses_an_electra_without_a_table(tmp_path):
    shutil.copytree(ASSETS / "google_electra", tmp_path / "electra")
    folder = tmp_path / "electra"
    variables = variables_of(folder)
    variables["electra/embeddings/word_embeddings"] = np.zeros(3, np.float32)
    save(folder, variables, next(folder.glob("*.index")).stem)
    (folder / "electra_config.json").write_text('{"hidden_act": "gelu"}')
    with pytest.raises(CheckpointError, match="is not an ELECTRA"):
        read_config(folder)


def test_variables_without_a_name_keep_theirs(folder):
    save(folder, variables_of(folder) | {"crf_loss/transition": np.zeros((2, 2), np.float32)})
    with open_checkpoint(folder) as source:
        assert "crf_loss/transition" in source
        assert "global_step" not in source
        assert not [name for name in source.names() if "adam" in name]


def test_writes_bare_and_tied_models_of_hugging_face(tmp_path):
    config = read_config(ASSETS / "google_bert")
    tensors = tensors_of(ASSETS / "google_bert")
    bare = {k.removeprefix("bert."): v for k, v in tensors.items() if k.startswith("bert.")}
    bare["embeddings.position_ids"] = np.arange(16)[None]
    bare = {name: value.astype(np.float16).astype(np.float64) for name, value in bare.items()}
    write_google_checkpoint(tmp_path, config, bare)
    variables = variables_of(tmp_path)
    assert {name.split("/")[0] for name in variables} == {"bert"}
    assert {value.dtype for value in variables.values()} == {np.dtype(np.float32)}
    kernel = variables["bert/encoder/layer_1/output/dense/kernel"]
    np.testing.assert_array_equal(kernel, bare["encoder.layer.1.output.dense.weight"].T)

    words = tensors["bert.embeddings.word_embeddings.weight"]
    tied = tensors | {
        "cls.predictions.decoder.weight": words,
        "cls.predictions.decoder.bias": tensors["cls.predictions.bias"],
    }
    again = tmp_path / "again"
    again.mkdir()
    write_google_checkpoint(again, config, tied)
    with pytest.raises(CheckpointError, match="not tied: cls.predictions.decoder.weight"):
        write_google_checkpoint(
            tmp_path, config, tied | {"cls.predictions.decoder.weight": words + 1}
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "roberta"}, "Google has no format for `model_type` = 'roberta'"),
        ({"layer_norm_eps": 1e-5}, r"`layer_norm_eps` = 1e-05 \(expected 1e-12\)"),
        ({"position_embedding_type": "relative_key"}, "`position_embedding_type` = 'relative_key'"),
        ({"is_decoder": True}, "`is_decoder` = True"),
        ({"hidden_act": "silu"}, "`hidden_act` = 'silu'"),
        ({"hidden_act": "gelu_new"}, "`hidden_act` = 'gelu_new'"),
        ({"classifier_dropout": 0.3}, r"`classifier_dropout` = 0.3 \(expected None or 0.1\)"),
        ({"problem_type": "regression"}, "`problem_type` = 'regression'"),
        ({"pad_token_id": 5}, "`pad_token_id` = 5"),
        ({"id2label": {"0": "no", "1": "yes"}}, r"`id2label`, the label names \(no, yes\)"),
        ({"rotary_value": True}, r"`rotary_value` = True \(there is no such option\)"),
    ],
)
def test_refuses_configs_that_google_cannot_say(tmp_path, change, message):
    config = read_config(ASSETS / "google_bert") | change
    tensors = tensors_of(ASSETS / "google_bert")
    with pytest.raises(ConfigError, match=message):
        write_google_checkpoint(tmp_path, config, tensors)
    assert os.listdir(tmp_path) == []
    if "id2label" in change:
        write_google_checkpoint(tmp_path, config, tensors, ignore_config_keys=["id2label"])


def test_refuses_tensors_that_google_cannot_hold(tmp_path):
    config = read_config(ASSETS / "google_bert")
    tensors = tensors_of(ASSETS / "google_bert")
    value = np.zeros(4, np.float32)
    for change, message in (
        ({"bert.adapter.weight": value}, "not supported: bert.adapter.weight"),
        ({"bert.encoder.layer.2.output.dense.bias": value}, "not supported: bert.encoder.lay"),
        ({"bert.pooler.dense.bias": None}, "missing: bert/pooler/dense/bias"),
        ({"bert.encoder.layer.1.output.dense.bias": None}, "missing: bert/encoder/layer_1/output/"),
        ({"cls.predictions.bias": None}, "missing: cls/predictions/output_bias"),
        (
            {"bert.embeddings.word_embeddings.weight": np.zeros((3, 4), np.float32)},
            r"bert.embeddings.word_embeddings.weight \(expected \(15, 4\), received \(3, 4",
        ),
        ({"bert.pooler.dense.bias": np.zeros(4, np.int64)}, r"not floating-point: bert.pooler.den"),
        ({"bert.pooler.dense.bias": np.full(4, 0.1)}, "bert.pooler.dense.bias has float64 values"),
    ):
        changed = {k: v for k, v in (tensors | change).items() if v is not None}
        with pytest.raises(CheckpointError, match=message):
            write_google_checkpoint(tmp_path, config, changed)
    assert os.listdir(tmp_path) == []


def test_refuses_an_electra_generator_alone(tmp_path):
    config = read_google_config(ASSETS / "google_electra", generator=True)
    with (
        open_google(ASSETS / "google_electra", generator=True) as source,
        pytest.raises(CheckpointError, match="not supported: generator_lm_head.bias"),
    ):
        write_google_checkpoint(tmp_path, config, source)


def test_reports_a_disk_that_refuses(tmp_path):
    config = read_config(ASSETS / "google_bert")
    with pytest.raises(CheckpointError, match="Cannot write") as caught:
        write_google_checkpoint(
            tmp_path / "none" / "such", config, tensors_of(ASSETS / "google_bert")
        )
    assert "\n" not in str(caught.value)


def test_several_checkpoints_must_be_told_apart(folder):
    for suffix in (".index", ".data-00000-of-00001"):
        shutil.copy(folder / f"bert_model.ckpt{suffix}", folder / f"model.ckpt-1000{suffix}")
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(folder)
    assert "received 2: bert_model.ckpt, model.ckpt-1000. Move one" in str(caught.value)


def test_the_checkpoint_file_s_paths_are_not_followed(folder):
    # TensorFlow writes paths into it; a hostile one could lead anywhere.
    (folder / "checkpoint").write_text('model_checkpoint_path: "/etc/passwd"\n')
    with open_checkpoint(folder) as source:
        assert source.path == str(folder / "bert_model.ckpt")


def test_refuses_missing_data(folder):
    (folder / "bert_model.ckpt.data-00000-of-00001").rename(
        folder / "bert_model.ckpt.data-00000-of-00002"
    )
    with pytest.raises(CheckpointError, match="Some data files .* are missing"):
        open_checkpoint(folder)
    (folder / "bert_model.ckpt.data-00000-of-00002").unlink()
    with pytest.raises(CheckpointError, match="Some data files .* are missing"):
        open_checkpoint(folder)


def test_refuses_truncated_data(folder):
    path = folder / "bert_model.ckpt.data-00000-of-00001"
    os.truncate(path, 2000)
    with pytest.raises(CheckpointError, match="but the file has only 2,000 bytes"):
        tensors_of(folder)


def test_refuses_damaged_data(folder):
    path = folder / "bert_model.ckpt.data-00000-of-00001"
    content = bytearray(path.read_bytes())
    content[100:110] = bytes(10)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read"):
        tensors_of(folder)


@pytest.mark.parametrize("keep", [0, 50, 4000])
def test_refuses_a_truncated_index(folder, keep):
    os.truncate(folder / "bert_model.ckpt.index", keep)
    with pytest.raises(CheckpointError, match="is not a complete TF1 checkpoint") as caught:
        open_checkpoint(folder)
    assert "\n" not in str(caught.value)


def test_refuses_shapes_beyond_the_data_before_taking_memory(folder):
    # The data is only as large as one variable; the index claims many.
    save(folder, {"bert/encoder/layer_0/x": np.zeros((4096, 4), np.float32)})
    os.truncate(folder / "bert_model.ckpt.data-00000-of-00001", 1000)
    with pytest.raises(
        CheckpointError,
        match=r"the shape \(4096, 4\), 65,536 bytes at 0, but the file has only",
    ):
        open_checkpoint(folder)


def test_refuses_other_checkpoints(tmp_path):
    save(tmp_path, {"resnet/conv/kernel": np.zeros(3, np.float32)})
    with pytest.raises(CheckpointError, match="a checkpoint of another model: expected the var"):
        open_checkpoint(tmp_path)
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    tf.train.Checkpoint(x=tf.Variable(1.0)).write(str(tmp_path / "ckpt"))
    with pytest.raises(CheckpointError, match="an object-based checkpoint of TF2"):
        open_checkpoint(tmp_path)


def test_refuses_two_variables_for_one_tensor(tmp_path):
    variables = variables_of(ASSETS / "google_bert")
    variables["module/bert/pooler/dense/bias"] = np.zeros(4, np.float32)
    save(tmp_path, variables)
    with pytest.raises(CheckpointError, match="has bert.pooler.dense.bias twice"):
        open_checkpoint(tmp_path)


def test_a_directory_named_as_the_checkpoint_is_not_followed(folder, tmp_path):
    # `tf.train.load_checkpoint` would look into it, and go where its `checkpoint` file says.
    other = tmp_path / "other"
    shutil.copytree(ASSETS / "google_electra", other)
    prefix = next(other.glob("*.index")).with_suffix("")
    (folder / "bert_model.ckpt").mkdir()
    (folder / "bert_model.ckpt" / "checkpoint").write_text(f'model_checkpoint_path: "{prefix}"\n')
    expected = tensors_of(ASSETS / "google_bert")
    tensors = tensors_of(folder)
    assert tensors.keys() == expected.keys()
    np.testing.assert_array_equal(
        tensors["bert.pooler.dense.bias"], expected["bert.pooler.dense.bias"]
    )


def test_pipes_are_not_waited_for(folder):
    data = folder / "bert_model.ckpt.data-00000-of-00001"
    data.unlink()
    os.mkfifo(data)
    with pytest.raises(CheckpointError, match="Some data files .* are missing"):
        open_checkpoint(folder)
    index = folder / "bert_model.ckpt.index"
    index.unlink()
    os.mkfifo(index)
    data.unlink()
    data.write_bytes(b"x")
    with pytest.raises(CheckpointError, match="is not a regular file"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gap_size": 3}, r"`gap_size` = 3 is not supported \(expected 0\)"),
        ({"net_structure_type": 1}, "`net_structure_type` = 1 is not supported"),
        ({"num_memory_blocks": 2}, "`num_memory_blocks` = 2 is not supported"),
        ({"down_scale_factor": 2}, "`down_scale_factor` = 2 is not supported"),
        ({"ln_type": "preln"}, "`ln_type` = 'preln' is not supported"),
        ({"hidden_act": "swish"}, "`hidden_act` = 'swish' is not supported"),
        ({"hidden_size": None}, "`hidden_size` is missing"),
        ({"rotary_value": True}, "`rotary_value` = True is not supported"),
    ],
)
def test_refuses_configs_of_other_models(tmp_path, change, message):
    shutil.copytree(ASSETS / "google_albert", tmp_path / "albert")
    path = tmp_path / "albert" / "albert_config.json"
    config = json.loads(path.read_text()) | change
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    with pytest.raises(ConfigError, match=message):
        read_config(tmp_path / "albert")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": None}, "`hidden_act` = None is not supported"),
        ({"hidden_act": ["gelu"]}, "`hidden_act` = .'gelu'. is not supported"),
        (
            {"num_attention_heads": "2"},
            "`num_attention_heads` must be an integer of 1 to .*, received '2",
        ),
        ({"num_attention_heads": None}, "`num_attention_heads` must be an integer"),
        ({"hidden_size": True}, "`hidden_size` must be an integer of 1 to 2,147,483,647, received"),
        ({"hidden_size": 4.0}, "`hidden_size` must be an integer"),
        ({"vocab_size": -1}, "`vocab_size` must be an integer"),
        ({"vocab_size": 10**30}, "`vocab_size` must be an integer"),
        ({"num_hidden_layers": 10**9}, "`num_hidden_layers` must be an integer of 1 to 1,000, r"),
        ({"hidden_dropout_prob": "0.1"}, "`hidden_dropout_prob` must be a number in .0, 1., r"),
        ({"hidden_dropout_prob": 1}, "`hidden_dropout_prob` must be a number in"),
        ({"initializer_range": None}, "`initializer_range` must be a number in"),
        ({"directionality": ["bidi"]}, "`directionality` = .'bidi'. is not supported"),
        ({"alibi": "x" * 10_000}, "`alibi` = 'xxx.* is not supported"),
    ],
)
def test_refuses_values_of_a_wrong_kind(folder, change, message):
    path = folder / "bert_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConfigError, match=message) as caught:
        read_config(folder)
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()
    if "directionality" not in change:
        config = read_config(ASSETS / "google_bert") | change
        with pytest.raises(ConfigError, match=next(iter(change))):
            write_google_checkpoint(folder, config, {})


def test_null_is_an_unset_key(folder):
    plain = read_config(folder)
    path = folder / "bert_config.json"
    nulls = dict.fromkeys(("directionality", "pooler_type", "is_decoder", "pooler_fc_size"))
    path.write_text(json.dumps(json.loads(path.read_text()) | nulls))
    assert read_config(folder) == plain
    config = plain | nulls | {"position_embedding_type": None}
    assert to_google_config(config, "bert") == to_google_config(plain, "bert")


def test_configs_must_be_there_and_single(folder):
    shutil.copy(folder / "bert_config.json", folder / "albert_config.json")
    with pytest.raises(ConfigError, match="received bert_config.json and albert_config.json"):
        read_config(folder)
    (folder / "albert_config.json").unlink()
    # A copy under this name, as in old instructions of Hugging Face, has no `model_type`.
    (folder / "bert_config.json").rename(folder / "config.json")
    assert read_config(folder)["model_type"] == "bert"
    (folder / "config.json").unlink()
    with pytest.raises(ConfigError, match="Expected bert_config.json next to"):
        read_config(folder)


def test_a_hugging_face_config_wins(folder):
    config = {"model_type": "bert", "hidden_size": 4}
    (folder / "config.json").write_text(json.dumps(config))
    assert read_config(folder) == config


def test_every_head_is_known_by_name():
    assert {family: sorted(heads) for family, heads in HEADS.items()} == {
        "bert": [
            "classification",
            "masked_lm",
            "next_sentence",
            "pooler",
            "question_answering",
        ],
        "albert": ["classification", "masked_lm", "pooler", "sentence_order"],
        "electra": ["generator", "generator_predictions", "replaced_tokens"],
    }
