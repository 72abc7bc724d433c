"""KerasHub's presets in and out: equal tensors, equal outputs, and refusals by name."""

import functools
import importlib.util
import json
import logging
import shutil
import tracemalloc

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_bert_zoo as kbz
from keras_bert_zoo.checkpoints.config_file import read_config
from keras_bert_zoo.checkpoints.formats import detect_format, open_checkpoint
from keras_bert_zoo.checkpoints.keras_hub import names as tables
from keras_bert_zoo.checkpoints.keras_hub.handles import fetch_keras_hub_preset
from keras_bert_zoo.checkpoints.keras_hub.names import FAMILIES
from keras_bert_zoo.checkpoints.keras_hub.options import backbone_options, find_family
from keras_bert_zoo.checkpoints.keras_hub.reader import open_keras_hub, read_keras_hub_config
from keras_bert_zoo.checkpoints.keras_hub.tokenizers import materialise_tokenizer
from keras_bert_zoo.checkpoints.keras_hub.writer import write_keras_hub_preset
from keras_bert_zoo.encoders.registry import encoder_class
from keras_bert_zoo.errors import CheckpointError, ConfigError

SIZES = {
    "vocabulary_size": 40,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 8,
    "intermediate_dim": 12,
    "max_sequence_length": 16,
}
OPTIONS = {
    "Bert": SIZES,
    "Roberta": SIZES,
    "XLMRoberta": SIZES,
    # Two groups of two blocks, each group used twice: no two of these counts may be confused.
    "Albert": SIZES
    | {"embedding_dim": 6, "num_layers": 4, "num_groups": 2, "num_inner_repetitions": 2},
    "DistilBert": SIZES,
    "DebertaV3": SIZES | {"bucket_size": 4},
    "Electra": {key: value for key, value in SIZES.items() if key != "vocabulary_size"}
    | {"vocab_size": 40, "embedding_dim": 6},
    "FNet": {key: value for key, value in SIZES.items() if key != "num_heads"},
}
FAMILY_NAMES = sorted(OPTIONS)
HEADS = [
    (name, kind) for name in FAMILY_NAMES for kind in sorted(FAMILIES[f"{name}Backbone"].heads)
]


def randomize(weights, seed):
    """Gives every weight, norms and biases included, a value of its own."""
    random = np.random.default_rng(seed)
    for weight in weights:
        scale = 0.3 if len(weight.shape) > 1 else 0.1
        shift = 1.0 if weight.name == "gamma" else 0.0
        weight.assign(shift + scale * random.normal(size=weight.shape))


@functools.cache
def backbone(name):
    import keras_hub

    model = getattr(keras_hub.models, f"{name}Backbone")(**OPTIONS[name])
    randomize(model.weights, seed=1)
    return model


@functools.cache
def task(name, kind):
    import keras_hub

    options = {"num_classes": 3} if kind == "TextClassifier" else {}
    build = getattr(keras_hub.models, f"{name}{kind}")
    model = build(backbone=backbone(name), **options)
    shared = {id(weight) for weight in model.backbone.weights}
    randomize([weight for weight in model.weights if id(weight) not in shared], seed=2)
    return model


@pytest.fixture(scope="module")
def presets(tmp_path_factory):
    """Directory of a family's preset, with a head if one is named."""
    root = tmp_path_factory.mktemp("presets")

    @functools.cache
    def make(name, kind=""):
        folder = root / f"{name}{kind}"
        (task(name, kind) if kind else backbone(name)).save_to_preset(str(folder))
        return folder

    return make


@pytest.fixture
def broken(presets, tmp_path):
    """A copy of BERT's preset that a test may damage."""

    def make(name="Bert", kind=""):
        folder = tmp_path / "broken"
        shutil.copytree(presets(name, kind), folder)
        return folder

    return make


def inputs(name, rows=3, length=9, seed=0):
    """Inputs with random padding at the end, as KerasHub and Hugging Face both number positions."""
    random = np.random.default_rng(seed)
    lengths = random.integers(2, length + 1, (rows, 1))
    mask = (np.arange(length) < lengths).astype(np.int32)
    # Neither RoBERTa's padding (1) nor another special token among the real ones.
    ids = np.where(mask, random.integers(5, 40, (rows, length)), 1).astype(np.int32)
    made = {"token_ids": ids, "padding_mask": mask}
    if name in ("Bert", "Albert", "Electra", "FNet"):
        made["segment_ids"] = random.integers(0, 2, (rows, length)).astype(np.int32)
    if name == "FNet":
        del made["padding_mask"]  # FNet mixes all tokens
    return made


def read_all(source):
    with source:
        return {name: source.read(name) for name in source.names()}


def edit(path, change):
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


# ---- in


def contents(arrays):
    """The arrays' numbers, whatever their order and orientation."""
    return sorted(np.sort(array, axis=None).tobytes() for array in arrays)


@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_every_weight_is_read_once_and_whole(presets, name):
    with open_keras_hub(presets(name)) as source:
        found = {tensor: source.read(tensor) for tensor in source.names()}
        for tensor, value in found.items():
            assert source.shape(tensor) == value.shape
            assert source.dtype(tensor) == value.dtype == np.float32
    weights = [np.asarray(weight) for weight in backbone(name).weights]
    if name == "Electra":  # Hugging Face's has no pooler, which is KerasHub's last layer
        weights = weights[:-2]
    if name in ("Roberta", "XLMRoberta"):
        positions = found["embeddings.position_embeddings.weight"]
        assert not positions[:2].any()
        found["embeddings.position_embeddings.weight"] = positions[2:]
        assert not found.pop("embeddings.token_type_embeddings.weight").any()
    assert contents(found.values()) == contents(weights)


def test_kernels_are_turned_and_heads_merged(presets):
    found = read_all(open_keras_hub(presets("Bert")))
    layer = backbone("Bert").get_layer("transformer_layer_1")
    query = np.asarray(layer._self_attention_layer.query_dense.kernel)  # (hidden, heads, head)
    theirs = found["encoder.layer.1.attention.self.query.weight"]
    for head in range(2):
        np.testing.assert_array_equal(theirs[4 * head : 4 * head + 4].T, query[:, head])
    output = np.asarray(layer._self_attention_layer.output_dense.kernel)  # (heads, head, hidden)
    theirs = found["encoder.layer.1.attention.output.dense.weight"]
    np.testing.assert_array_equal(theirs[:, 4:].T, output[1])
    np.testing.assert_array_equal(
        found["encoder.layer.1.intermediate.dense.weight"].T,
        np.asarray(layer._feedforward_intermediate_dense.kernel),
    )


def as_huggingface(preset, folder, **options):
    """Writes a preset as a Hugging Face directory."""
    folder.mkdir()
    config = read_keras_hub_config(preset, **options)
    (folder / "config.json").write_text(json.dumps(config))
    tensors = read_all(open_keras_hub(preset, **options))
    save_file(
        {name: np.ascontiguousarray(value) for name, value in tensors.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    return folder


@pytest.mark.parametrize("name", [name for name in FAMILY_NAMES if name != "FNet"])
def test_our_encoders_answer_as_keras_hub_does(presets, name):
    encoder = kbz.Encoder.from_preset(presets(name))
    given = inputs(name)
    expected = backbone(name)(given)
    if not isinstance(expected, dict):
        expected = {"sequence_output": expected}
    answer = encoder({"segment_ids": np.zeros_like(given["token_ids"]), **given})
    mask = given["padding_mask"].astype(bool)
    ours, theirs = (np.asarray(x["sequence_output"])[mask] for x in (answer, expected))
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)
    if name in ("Bert", "Albert"):
        ours, theirs = (np.asarray(x["pooled_output"]) for x in (answer, expected))
        np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)


def test_the_activation_makes_the_difference(presets, tmp_path):
    folder = as_huggingface(presets("Bert"), tmp_path / "bert")
    edit(folder / "config.json", lambda config: config.update(hidden_act="gelu"))
    given = inputs("Bert")
    other = np.asarray(kbz.Encoder.from_preset(folder)(given)["pooled_output"])
    assert np.abs(other - np.asarray(backbone("Bert")(given)["pooled_output"])).max() > 1e-4


def test_formats_are_told_apart(presets):
    assert detect_format(presets("Bert")) == "keras-hub"
    assert read_config(presets("Bert"))["hidden_act"] == "gelu_new"
    with open_checkpoint(presets("Bert")) as source:
        assert "pooler.dense.weight" in source


def test_classifier_config(presets):
    config = read_keras_hub_config(presets("Bert", "TextClassifier"))
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["classifier_dropout"] == 0.1
    assert config["id2label"] == {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}
    found = read_all(open_keras_hub(presets("Bert", "TextClassifier")))
    logits = task("Bert", "TextClassifier").get_layer("logits")
    np.testing.assert_array_equal(found["classifier.weight"].T, np.asarray(logits.kernel))
    assert "bert.pooler.dense.weight" in found
    bare = read_keras_hub_config(presets("Bert", "TextClassifier"), head=False)
    assert bare["architectures"] == ["BertModel"]
    assert "id2label" not in bare
    with open_keras_hub(presets("Bert", "TextClassifier"), head=False) as source:
        assert "pooler.dense.weight" in source
        assert "classifier.weight" not in source


@pytest.mark.parametrize(
    ("activation", "problem"),
    [("softmax", "single_label_classification"), ("sigmoid", "multi_label_classification")],
)
def test_what_a_classifier_does_to_its_logits_is_told(broken, activation, problem):
    folder = broken("Bert", "TextClassifier")
    edit(folder / "task.json", lambda task: task["config"].update(activation=activation))
    assert read_keras_hub_config(folder)["problem_type"] == problem


def test_a_head_that_cannot_be_expressed_is_left_out_loudly(presets, caplog):
    folder = presets("Bert", "MaskedLM")
    with caplog.at_level(logging.WARNING), open_keras_hub(folder) as source:
        assert not any(name.startswith("cls.") for name in source.names())
        assert "LayerNorm with epsilon 1e-5" in source.path  # so that a later error says it too
    assert "BertMaskedLM's head" in caplog.text
    assert read_keras_hub_config(folder)["architectures"] == ["BertModel"]
    with pytest.raises(CheckpointError, match=r"erf-GELU and a LayerNorm with epsilon 1e-5"):
        open_keras_hub(folder, head=True)
    caplog.clear()
    with open_keras_hub(folder, head=False):
        pass
    assert not caplog.records


def test_electras_pooler_is_left_out_loudly(presets, caplog):
    with caplog.at_level(logging.WARNING), open_keras_hub(presets("Electra")):
        pass
    assert "ElectraModel has none" in caplog.text


def test_shards(presets, tmp_path):
    folder = tmp_path / "sharded"
    shutil.copytree(presets("Bert"), folder)
    (folder / "model.weights.h5").unlink()
    backbone("Bert").save_weights(str(folder / "model.weights.json"), max_shard_size=4e-6)
    assert len(list(folder.glob("model_*.weights.h5"))) > 1
    whole, sharded = (read_all(open_keras_hub(path)) for path in (presets("Bert"), folder))
    assert whole.keys() == sharded.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(value, sharded[name])
    edit(
        folder / "model.weights.json",
        lambda index: index["weight_map"].update({"/layers/dense/vars": "../model.weights.h5"}),
    )
    with pytest.raises(CheckpointError, match=r"must have a `weight_map` of 1 to 512 shards"):
        open_keras_hub(folder)


def test_bfloat16(tmp_path):
    import keras_hub
    import ml_dtypes

    model = keras_hub.models.BertBackbone(**SIZES, dtype="bfloat16")
    model.save_to_preset(str(tmp_path))
    assert read_keras_hub_config(tmp_path)["dtype"] == "bfloat16"
    with open_keras_hub(tmp_path) as source:
        value = source.read("pooler.dense.weight")
    assert value.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(
        value.T.astype(np.float32), np.asarray(model.pooled_dense.kernel).astype(np.float32)
    )


# ---- refusals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"registered_name": "keras_hub>GemmaBackbone"},
            r"is of 'keras_hub>GemmaBackbone' \(class",
        ),
        ({"registered_name": "evil>BertBackbone"}, "Expected keras_hub>NAME or keras_nlp>NAME"),
        ({"config": None}, "it has no `config`"),
        ({"more": 1}, "the unknown keys 'more'"),
    ],
)
def test_refuses_other_objects(broken, change, message):
    folder = broken()
    edit(folder / "config.json", lambda config: config.update(change))
    with pytest.raises(ConfigError, match=message):
        read_keras_hub_config(folder)


@pytest.mark.parametrize("name", [*sorted(tables.UNSUPPORTED), "Sequential", "GemmaBackbone"])
def test_refuses_other_classes(broken, name):
    folder = broken()
    change = {"registered_name": f"keras_hub>{name}", "class_name": name}
    edit(folder / "config.json", lambda config: config.update(change))
    with pytest.raises(ConfigError, match=f"KerasHub's {name}, which is not supported") as caught:
        read_keras_hub_config(folder)
    assert tables.UNSUPPORTED.get(name, "") in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_layers": -1}, r"`num_layers` must be a positive integer up to 1,000, got -1"),
        ({"num_layers": 10**9}, r"`num_layers` must be a positive integer up to 1,000, got 1000"),
        ({"num_heads": True}, "`num_heads` must be a positive integer up to .*, got True"),
        ({"num_heads": 3}, "`num_heads` must divide `hidden_dim`"),
        ({"dropout": 2}, r"`dropout` must be a number in \[0, 1\), got 2"),
        ({"activation": "relu"}, "`activation` = 'relu' is unknown"),
        ({"dtype": "int8_from_float32"}, "quantized presets are not read"),
        ({"dtype": {"class_name": "DTypePolicyMap", "config": {}}}, "quantized presets"),
    ],
)
def test_refuses_options(broken, change, message):
    folder = broken()
    edit(folder / "config.json", lambda config: config["config"].update(change))
    with pytest.raises(ConfigError, match=message) as caught:
        read_keras_hub_config(folder)
    assert "\n" not in str(caught.value)


def test_old_packages_name_is_read(broken, presets):
    folder = broken()
    edit(folder / "config.json", lambda c: c.update(registered_name="keras_nlp>BertBackbone"))
    assert read_keras_hub_config(folder) == read_keras_hub_config(presets("Bert"))


def damage_by_external_link(file):
    del file["layers/dense/vars/0"]
    file["layers/dense/vars/0"] = h5py.ExternalLink("/etc/passwd", "x")


def damage_by_soft_link(file):
    del file["layers/dense/vars/0"]
    file["layers/dense/vars/0"] = h5py.SoftLink("/layers/embedding/vars/0")


def damage_by_cycle(file):
    file["layers/dense/vars/up"] = file["layers"]


def damage_by_external_data(file):
    del file["layers/dense/vars/1"]
    group = file["layers/dense/vars"]
    group.create_dataset("1", (8,), "f4", external=[("/etc/hostname", 0, 32)])


def damage_by_virtual_data(file):
    del file["layers/dense/vars/1"]
    layout = h5py.VirtualLayout((8,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (8,))
    file["layers/dense/vars"].create_virtual_dataset("1", layout)


def damage_by_claim(file):
    del file["layers/dense/vars/0"]
    file["layers/dense/vars"].create_dataset("0", (1 << 20, 1 << 20), "f4", chunks=(64, 64))


def damage_by_far_claim(file):
    del file["layers/dense/vars/0"]
    file["layers/dense/vars"].create_dataset("0", (1 << 20, 1 << 20), "f4")


def damage_by_names(file):
    file["layers/dense/vars/a\nb"] = np.zeros(3, np.float32)


def damage_by_strings(file):
    file["layers/dense/vars/2"] = ["text"]


def damage_by_compounds(file):
    file["layers/dense/vars/2"] = np.zeros(2, [("a", "u1"), ("b", "u1")])


def damage_by_filter(file):
    del file["layers/dense/vars/1"]
    file["layers/dense/vars"].create_dataset("1", data=np.zeros(8), compression="gzip")


def damage_by_absence(file):
    del file["layers/dense/vars/1"]
    file["layers/more/vars/0"] = np.zeros((2, 3), np.float32)
    del file["layers/embedding/vars/0"]
    file["layers/embedding/vars/0"] = np.zeros((3, 8), np.float32)


def damage_by_dtype(file):
    del file["layers/dense/vars/1"]
    file["layers/dense/vars/1"] = np.zeros(8, np.int32)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_by_external_link, "is a link to another place or file"),
        (damage_by_soft_link, "is a link to another place or file"),
        (damage_by_cycle, "is the same object as another"),
        (damage_by_external_data, "has its data in another file"),
        (damage_by_virtual_data, "has its data in another file"),
        (damage_by_claim, "is cut in chunks or compressed"),
        (damage_by_far_claim, "4,398,046,511,104 bytes, but 0 are in the file"),
        (damage_by_names, "holds an object whose name is none"),
        (damage_by_strings, "holds object, expected numbers"),
        (damage_by_compounds, "expected numbers"),
        (damage_by_filter, "is cut in chunks or compressed"),
        (damage_by_absence, r"missing: layers/dense/vars/1 \(8,\); unexpected: layers/more/vars/0"),
        (damage_by_absence, r"misshapen: layers/embedding/vars/0 \(expected \(2, 8\), found"),
        (damage_by_dtype, r"not floating-point: layers/dense/vars/1 \(int32\)"),
    ],
)
def test_refuses_hostile_and_damaged_weights(broken, damage, message):
    folder = broken()
    with h5py.File(folder / "model.weights.h5", "r+") as file:
        damage(file)
    with pytest.raises(CheckpointError, match=message) as caught:
        open_keras_hub(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "shards",
    [
        "abc",
        [],
        {},
        {"a": []},
        {"a": 5},
        {"a": [{"b": 1}]},
        {"a": [["model_00000.weights.h5"]]},
        {"a": "../model_00000.weights.h5"},
        {"a": [f"model_{i:05}.weights.h5" for i in range(513)]},
        {"a": ["x" * 100_000]},
    ],
    ids=lambda shards: str(shards)[:40],
)
def test_refuses_hostile_lists_of_shards(broken, shards):
    folder = broken()
    (folder / "model.weights.h5").unlink()
    (folder / "model.weights.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(CheckpointError, match="of 1 to 512 shards as model_00000") as caught:
        open_keras_hub(folder)
    assert len(str(caught.value)) < 1000


def test_refuses_counts_that_would_fill_the_memory(presets, tmp_path):
    shutil.copytree(presets("Albert"), tmp_path / "albert")
    path = tmp_path / "albert" / "config.json"
    counts = {"num_layers": 900, "num_groups": 900, "num_inner_repetitions": 900}
    edit(path, lambda config: config["config"].update(counts))
    with pytest.raises(ConfigError, match="`num_groups` x `num_inner_repetitions` must be up to 1"):
        open_keras_hub(path.parent)
    edit(path, lambda config: config["config"].update(num_layers=10**9))
    with pytest.raises(ConfigError, match="`num_layers` must be a positive integer up to 1,000"):
        open_keras_hub(path.parent)


def test_a_far_padding_token_makes_no_table(presets, tmp_path):
    # The position table of a RoBERTa has a row for every id up to that of the padding token.
    folder = tmp_path / "roberta"
    shutil.copytree(presets("Roberta"), folder)
    assets = folder / "assets" / "tokenizer"
    assets.mkdir(parents=True, exist_ok=True)
    (assets / "vocabulary.json").write_text(json.dumps({"<pad>": 2**30}))
    with pytest.raises(ConfigError, match="has the padding token at 1073741824, beyond the 40"):
        open_keras_hub(folder)
    for ids in ({"<pad>": -1}, {"<pad>": 2**40}, {"<pad>": True}, {"<pad>": None}):
        (assets / "vocabulary.json").write_text(json.dumps(ids))
        with pytest.raises(ConfigError, match="must hold an object of tokens and their ids"):
            open_keras_hub(folder)


@pytest.mark.slow
def test_a_vocabulary_of_line_breaks_takes_little_memory(presets, tmp_path):
    folder = tmp_path / "bert"
    shutil.copytree(presets("Bert"), folder)
    assets = folder / "assets" / "tokenizer"
    assets.mkdir(parents=True, exist_ok=True)
    (assets / "vocabulary.txt").write_bytes(b"\n" * 10_000_000)
    tracemalloc.start()
    with pytest.raises(ConfigError, match=r"has no \[PAD\]"):
        open_keras_hub(folder)
    assert tracemalloc.get_traced_memory()[1] < 30_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("keep", [0, 100, 3000])
def test_refuses_a_truncated_file(broken, keep):
    path = broken() / "model.weights.h5"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="is not a whole HDF5 file"):
        open_keras_hub(path.parent)


@pytest.mark.parametrize("signature", [b"TREE", b"HEAP", b"SNOD"])
def test_refuses_a_file_of_broken_structure(broken, signature):
    path = broken() / "model.weights.h5"
    path.write_bytes(path.read_bytes().replace(signature, b"XXXX"))
    with pytest.raises(CheckpointError, match="is not a whole HDF5 file") as caught:
        open_keras_hub(path.parent)
    assert "\n" not in str(caught.value)


def test_any_value_in_the_json_files_is_read_or_refused(broken):
    """No odd value, at any place, raises anything but our own errors."""
    folder = broken("Bert", "TextClassifier")
    odd = [None, True, -1, 1.5, "", [], {}, [[]], {"a": 1}, 10**30, "/etc/passwd", ["a"]]

    def places(value, path=()):
        for key in value:
            yield (*path, key)
            if isinstance(value[key], dict):
                yield from places(value[key], (*path, key))

    messages = []
    for name in ("config.json", "task.json"):
        original = (folder / name).read_text()
        for place in places(json.loads(original)):
            for value in odd:
                changed = json.loads(original)
                inner = changed
                for key in place[:-1]:
                    inner = inner[key]
                inner[place[-1]] = value
                (folder / name).write_text(json.dumps(changed))
                try:
                    json.dumps(read_keras_hub_config(folder))
                except (CheckpointError, ConfigError) as error:
                    messages.append(str(error))
        (folder / name).write_text(original)
    assert len(messages) > 200
    assert not any("\n" in message for message in messages)


def test_refuses_a_task_of_another_encoder(broken):
    folder = broken("Bert", "TextClassifier")
    edit(folder / "task.json", lambda t: t["config"]["backbone"]["config"].update(num_layers=3))
    with pytest.raises(ConfigError, match=r"describe different encoders \(`num_layers`\)"):
        read_keras_hub_config(folder)


# ---- out


def from_preset(presets, name, kind=""):
    """A canonical checkpoint, read from a preset of random weights."""
    folder = presets(name, kind)
    return read_keras_hub_config(folder), read_all(open_keras_hub(folder))


# The families of the other encoders are there with their heads.
@pytest.mark.parametrize(("name", "kind"), [("Bert", ""), ("Roberta", ""), ("Electra", ""), *HEADS])
def test_round_trip(presets, tmp_path, name, kind):
    """Hugging Face -> KerasHub -> Hugging Face, and KerasHub's own loader answers alike."""
    import keras_hub

    config, tensors = from_preset(presets, name, kind)
    if "id2label" in config:
        config["id2label"] = {"0": "negative", "1": "neutral", "2": "正"}
        config["label2id"] = {label: int(i) for i, label in config["id2label"].items()}
    write_keras_hub_preset(tmp_path / "out", config, tensors)
    assert read_keras_hub_config(tmp_path / "out") == config
    again = read_all(open_keras_hub(tmp_path / "out"))
    assert again.keys() == tensors.keys()
    for tensor, value in tensors.items():
        np.testing.assert_array_equal(value, again[tensor], err_msg=tensor)
    given = inputs(name)
    if kind:
        model = getattr(keras_hub.models, kind).from_preset(str(tmp_path / "out"))
        original = task(name, kind)
        if kind == "MaskedLM":
            given["mask_positions"] = np.array([[1], [0], [1]], np.int32)
    else:
        model = keras_hub.models.Backbone.from_preset(str(tmp_path / "out"))
        original = backbone(name)
    found, expected = model(given), original(given)
    if isinstance(found, dict):
        found, expected = found["sequence_output"], expected["sequence_output"]
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def test_an_encoder_without_pooler_gets_zeros_and_loses_them_again(presets, tmp_path):
    config, tensors = from_preset(presets, "Bert")
    bare = {name: value for name, value in tensors.items() if not name.startswith("pooler")}
    write_keras_hub_preset(tmp_path / "out", config, bare)
    assert read_all(open_keras_hub(tmp_path / "out")).keys() == bare.keys()


def test_robertas_segment_is_added_to_its_positions(presets, tmp_path):
    import keras_hub

    config, tensors = from_preset(presets, "Roberta")
    row = np.random.default_rng(0).normal(size=(1, 8)).astype(np.float32)
    tensors["embeddings.token_type_embeddings.weight"] = row
    # What stands before the first position is never looked at.
    tensors["embeddings.position_embeddings.weight"][:2] = np.nan
    write_keras_hub_preset(tmp_path / "out", config, tensors)
    model = keras_hub.models.Backbone.from_preset(str(tmp_path / "out"))
    positions = np.asarray(model.embeddings.position_embedding.position_embeddings)
    np.testing.assert_array_equal(
        positions, tensors["embeddings.position_embeddings.weight"][2:] + row
    )


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "Bert",
            {"hidden_act": "gelu"},
            r"`hidden_act` = 'gelu', where KerasHub always has 'gelu_n",
        ),
        ("Bert", {"hidden_act": "relu"}, r"`hidden_act` = 'relu', where"),
        ("Roberta", {"hidden_act": "gelu_new"}, "`hidden_act` = 'gelu_new', where"),
        ("Bert", {"layer_norm_eps": 1e-5}, r"`layer_norm_eps` = 1e-05, where KerasHub always has"),
        ("Roberta", {"type_vocab_size": 2}, "`type_vocab_size` = 2, where KerasHub always has 1"),
        ("Bert", {"attention_probs_dropout_prob": 0.3}, "where KerasHub has one `dropout`"),
        ("Bert", {"position_embedding_type": "relative_key"}, "`position_embedding_type`"),
        ("Bert", {"alibi": True}, "`alibi` = True is not supported"),
        ("DebertaV3", {"position_buckets": -1}, "`position_buckets` = -1"),
        ("DebertaV3", {"conv_kernel_size": 3}, "`conv_kernel_size` = 3, where KerasHub always"),
        ("Bert", {"architectures": ["BertForTokenClassification"]}, "cannot hold the head of Bert"),
        ("Bert", {"architectures": ["BertForMaskedLM"]}, r"erf-GELU and a LayerNorm with epsilon"),
        ("Bert", {"model_type": "modernbert"}, "no encoder for `model_type` = 'modernbert'"),
    ],
)
def test_refuses_to_write_what_keras_hub_does_not_compute(presets, tmp_path, name, change, message):
    config, tensors = from_preset(presets, name)
    with pytest.raises(ConfigError, match=message) as caught:
        write_keras_hub_preset(tmp_path / "out", config | change, tensors)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_other_names_of_keys_and_null_are_converted():
    config = {
        "model_type": "distilbert", "vocab_size": 61, "hidden_size": 16, "num_attention_heads": 4,
        "num_hidden_layers": 2, "hidden_dim": 24, "is_decoder": None, "add_cross_attention": None,
    }  # fmt: skip
    own = encoder_class("distilbert").config_class.with_own_names(config)
    options = backbone_options(find_family(own), None, own, approximate_gelu=False)
    sizes = ("hidden_dim", "num_heads", "num_layers", "intermediate_dim")
    assert [options[size] for size in sizes] == [16, 4, 2, 24]


def test_approximate_gelu_has_to_be_asked_for(presets, tmp_path):
    config, tensors = from_preset(presets, "Bert")
    config["hidden_act"] = "gelu"
    with pytest.raises(ConfigError, match="approximate_gelu=True"):
        write_keras_hub_preset(tmp_path / "out", config, tensors)
    write_keras_hub_preset(tmp_path / "out", config, tensors, approximate_gelu=True)
    assert read_keras_hub_config(tmp_path / "out")["hidden_act"] == "gelu_new"


def test_refuses_to_drop_tensors_unasked(presets, tmp_path):
    config, tensors = from_preset(presets, "Bert", "TextClassifier")
    tensors["cls.seq_relationship.weight"] = np.zeros((2, 8), np.float32)
    del tensors["bert.pooler.dense.bias"]
    with pytest.raises(CheckpointError) as caught:
        write_keras_hub_preset(tmp_path / "out", config, tensors)
    assert "missing: pooler.dense.bias (8,)" in str(caught.value)
    assert "cls.seq_relationship.weight (next-sentence prediction)" in str(caught.value)
    config["architectures"] = ["BertModel"]
    with pytest.raises(ConfigError, match="There are tensors of a head"):
        write_keras_hub_preset(tmp_path / "out", config, tensors)
    write_keras_hub_preset(
        tmp_path / "out", config, tensors, leave_out=[r"cls\..*", r"classifier\..*", r"pooler\..*"]
    )
    assert "pooler.dense.weight" not in read_all(open_keras_hub(tmp_path / "out"))


def test_a_tied_decoder_is_left_out_and_an_untied_one_refused(presets, tmp_path):
    config, tensors = from_preset(presets, "Roberta", "MaskedLM")
    words = tensors["roberta.embeddings.word_embeddings.weight"]
    tied = tensors | {
        "lm_head.decoder.weight": words,
        "lm_head.decoder.bias": tensors["lm_head.bias"],
    }
    write_keras_hub_preset(tmp_path / "out", config, tied)
    assert read_all(open_keras_hub(tmp_path / "out")).keys() == tensors.keys()
    with pytest.raises(CheckpointError, match=r"lm_head\.decoder\.weight \(masked language"):
        write_keras_hub_preset(
            tmp_path / "out", config, tied | {"lm_head.decoder.weight": words + 1}
        )


# ---- tokenizers

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
    # KerasHub lowercases and keeps the accents, unless it is told otherwise.
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
    with pytest.raises(CheckpointError, match="has 49 tokens, the model 40"):
        write_keras_hub_preset(tmp_path / "out", config, tensors, tmp_path)
    assert not (tmp_path / "out").exists()


def test_refuses_a_tokenizer_that_keras_hub_has_not(presets, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenize_chinese_chars": false}')
    config, tensors = from_preset(presets, "Bert")
    with pytest.raises(ConfigError, match="`tokenize_chinese_chars` = false"):
        write_keras_hub_preset(tmp_path / "out", config, tensors, tmp_path)
    assert not (tmp_path / "out").exists()
    with pytest.raises(CheckpointError, match="No tokenizer.json of KerasHub's"):
        materialise_tokenizer(presets("Bert"), tmp_path)


# ---- handles


class LocalEntryNotFoundError(Exception):
    """Named as huggingface_hub's, which tells a missing network from a missing file."""


@pytest.fixture
def served(monkeypatch):
    """Serves a directory in place of Kaggle's, Hugging Face's and Google's storage."""
    from keras_hub.src.utils import preset_utils

    def serve(folder, *, offline=()):
        asked = []

        def get_file(handle, name):
            asked.append(name)
            if name in offline:
                raise FileNotFoundError(name) from LocalEntryNotFoundError(name)
            if not (folder / name).is_file():
                raise FileNotFoundError(name)
            return str(folder / name)

        monkeypatch.setattr(preset_utils, "get_file", get_file)
        return asked

    return serve


def test_a_handle_is_fetched_whole(presets, served):
    folder = presets("Bert", "TextClassifier")
    asked = served(folder)
    assert fetch_keras_hub_preset("gs://keras/bert") == folder
    assert asked[-1] == "model.weights.h5"
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert present <= set(asked)


def test_refuses_handles_that_cannot_be_fetched(presets, served, tmp_path):
    with pytest.raises(CheckpointError, match="is no handle of a KerasHub preset"):
        fetch_keras_hub_preset("ftp://keras/bert")
    served(presets("Bert"), offline=["config.json"])
    with pytest.raises(CheckpointError, match="no network, and it is not in the cache"):
        fetch_keras_hub_preset("gs://keras/bert")
    served(presets("Bert"), offline=["task.json"])
    with pytest.raises(CheckpointError, match=r"the network failed at task\.json"):
        fetch_keras_hub_preset("gs://keras/bert")
    served(tmp_path)
    with pytest.raises(CheckpointError, match=r"has no config\.json\. Expected a KerasHub preset"):
        fetch_keras_hub_preset("gs://keras/bert")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="is not a KerasHub preset"):
        fetch_keras_hub_preset("gs://google/bert")


@pytest.mark.parametrize(("scheme", "package"), [("kaggle", "kagglehub")])
def test_a_missing_package_is_named(monkeypatch, scheme, package):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else found(name)
    )
    with pytest.raises(CheckpointError, match=f"pip install {package.replace('_', '-')}"):
        fetch_keras_hub_preset(f"{scheme}://keras/bert")


# ---- against transformers


@pytest.mark.parity
@pytest.mark.parametrize(("name", "kind"), [*((name, "") for name in FAMILY_NAMES), *HEADS])
def test_transformers_answers_as_keras_hub_does(presets, tmp_path, name, kind):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = as_huggingface(presets(name, kind), tmp_path / "folder")
    config = json.loads((folder / "config.json").read_text())
    build = getattr(transformers, config["architectures"][0])
    model, loading = build.from_pretrained(folder, output_loading_info=True)
    assert not loading["missing_keys"] or name in ("Roberta", "XLMRoberta")
    assert all("pooler" in key for key in loading["missing_keys"])
    assert not loading["unexpected_keys"]
    model.eval()
    worst = 0.0
    for seed in range(5):
        given = inputs(name, seed=seed)
        theirs = {
            "input_ids": given["token_ids"],
            "attention_mask": given.get("padding_mask"),
            "token_type_ids": given.get("segment_ids"),
        }
        theirs = {
            key: torch.from_numpy(value).long()
            for key, value in theirs.items()
            if value is not None
        }
        with torch.no_grad():
            answer = model(**theirs)
        mask = given.get("padding_mask", np.ones((3, 9))).astype(bool)
        if kind == "MaskedLM":
            given["mask_positions"] = np.tile(np.arange(9, dtype=np.int32), (3, 1))
        ours = (task(name, kind) if kind else backbone(name))(given)
        pairs = []
        if kind == "TextClassifier":
            pairs = [(ours, answer.logits)]
        elif kind:
            pairs = [(np.asarray(ours)[mask], answer.logits.numpy()[mask])]
        else:
            sequence = ours["sequence_output"] if isinstance(ours, dict) else ours
            pairs = [(np.asarray(sequence)[mask], answer.last_hidden_state.numpy()[mask])]
            if name in ("Bert", "Albert", "FNet"):
                pairs.append((ours["pooled_output"], answer.pooler_output))
        for left, right in pairs:
            worst = max(worst, float(np.abs(np.asarray(left) - np.asarray(right)).max()))
    print(f"{name}{kind}: {worst:.2e}")
    assert worst <= 1e-5


HUGGINGFACE = {
    "Bert": {"hidden_act": "gelu_new"},
    "Roberta": {"type_vocab_size": 1, "layer_norm_eps": 1e-5, "max_position_embeddings": 18},
    "XLMRoberta": {"type_vocab_size": 1, "layer_norm_eps": 1e-5, "max_position_embeddings": 18},
    "Albert": {
        "embedding_size": 6, "num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2
    },
    "DistilBert": {},
    "DebertaV3": {
        "relative_attention": True, "position_buckets": 4, "norm_rel_ebd": "layer_norm",
        "share_att_key": True, "pos_att_type": "p2c|c2p", "position_biased_input": False,
    },
    "Electra": {"hidden_act": "gelu_pytorch_tanh", "embedding_size": 6},
    "FNet": {"hidden_act": "gelu_new"},
}  # fmt: skip


@pytest.mark.parity
@pytest.mark.parametrize(("name", "kind"), [*((name, "") for name in FAMILY_NAMES), *HEADS])
def test_keras_hub_answers_as_transformers_does(tmp_path, name, kind):
    import keras_hub

    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    family = FAMILIES[f"{name}Backbone"]
    build = getattr(transformers, family.heads[kind].architecture if kind else family.model)
    sizes = {theirs[0]: SIZES[ours] for ours, theirs in family.config.items() if ours in SIZES} | {
        "vocab_size": 40
    }
    config = build.config_class(**sizes | HUGGINGFACE[name], num_labels=3)
    torch.manual_seed(0)
    model = build(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    model.save_pretrained(tmp_path / "huggingface")
    leave_out = [r"pooler\..*"] if name in ("Roberta", "XLMRoberta") and not kind else []
    with open_checkpoint(tmp_path / "huggingface") as tensors:
        write_keras_hub_preset(
            tmp_path / "out", read_config(tmp_path / "huggingface"), tensors, leave_out=leave_out
        )
        again = read_all(open_keras_hub(tmp_path / "out"))
        for tensor in tensors.names():
            if tensor in again and "position_embeddings" not in tensor:
                if "token_type_embeddings" in tensor and family.segment_table:
                    continue  # added to the positions
                np.testing.assert_array_equal(tensors.read(tensor), again[tensor], err_msg=tensor)
        if not family.segment_table:
            assert set(again) == set(tensors.names())
    load = getattr(keras_hub.models, kind or "Backbone").from_preset
    loaded = load(str(tmp_path / "out"))
    worst = 0.0
    for seed in range(5):
        given = inputs(name, seed=seed)
        theirs = {
            "input_ids": given["token_ids"],
            "attention_mask": given.get("padding_mask"),
            "token_type_ids": given.get("segment_ids"),
        }
        with torch.no_grad():
            answer = model(
                **{k: torch.from_numpy(v).long() for k, v in theirs.items() if v is not None}
            )
        mask = given.get("padding_mask", np.ones((3, 9))).astype(bool)
        if kind == "MaskedLM":
            given["mask_positions"] = np.tile(np.arange(9, dtype=np.int32), (3, 1))
        found = loaded(given)
        if kind == "TextClassifier":
            left, right = np.asarray(found), answer.logits.numpy()
        elif kind:
            left, right = np.asarray(found)[mask], answer.logits.numpy()[mask]
        else:
            found = found["sequence_output"] if isinstance(found, dict) else found
            left, right = np.asarray(found)[mask], answer.last_hidden_state.numpy()[mask]
        worst = max(worst, float(np.abs(left - right).max()))
    print(f"{name}{kind}: {worst:.2e}")
    assert worst <= 1e-5
