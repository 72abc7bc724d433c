"""KerasHub models with random weights, for the tests of its presets."""

import functools
import json

import numpy as np
from safetensors.numpy import save_file

from keras_bert_zoo.checkpoints.keras_hub.names import FAMILIES
from keras_bert_zoo.checkpoints.keras_hub.reader import open_keras_hub, read_keras_hub_config

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
    """Assigns random values to every weight, including norms and biases."""
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


def contents(arrays):
    """The arrays' numbers, whatever their order and orientation."""
    return sorted(np.sort(array, axis=None).tobytes() for array in arrays)


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


def from_preset(presets, name, kind=""):
    """A canonical checkpoint, read from a preset of random weights."""
    folder = presets(name, kind)
    return read_keras_hub_config(folder), read_all(open_keras_hub(folder))


# The families of the other encoders are there with their heads.
