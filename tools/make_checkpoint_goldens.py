"""Writes the small checkpoints in other formats that tests/checkpoints reads.

    python tools/make_checkpoint_goldens.py torch    needs torch
    python tools/make_checkpoint_goldens.py keras    needs transformers 4, tf_keras and torch

- torch: tests/assets/pytorch_zip and pytorch_legacy, one state dict in both formats of torch.save:
  several dtypes, tied tensors, transposed, sliced, empty and scalar ones. expected.safetensors
  holds the same values, made contiguous by torch.
- keras: tests/assets/keras_h5_*, tf_model.h5 as transformers 4 saves it from random TensorFlow
  models. expected.safetensors is what its own converter makes of it for PyTorch.
"""

import argparse
import os
import pathlib
import shutil

import torch
from safetensors.torch import save_file

ASSETS = pathlib.Path(__file__).resolve().parent.parent / "tests" / "assets"

SMALL = {
    "vocab_size": 19,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 10,
}


def new_folder(name):
    folder = ASSETS / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def write_expected(folder, tensors):
    contiguous = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    save_file(contiguous, folder / "expected.safetensors")


def make_torch():
    torch.manual_seed(0)
    base = torch.randn(6, 8)
    state = {
        "embeddings.LayerNorm.gamma": torch.nn.Parameter(torch.randn(8)),
        "table": base,
        "tied": base,
        "transposed": base.t(),
        "slice": base[2:5, 1:7:2],
        "row": base[3],
        "half": torch.randn(3, 4).half(),
        "brain": torch.randn(5, 4).bfloat16(),
        "double": torch.randn(2, 2, 2, dtype=torch.float64),
        "ids": torch.arange(5),
        "flags": torch.tensor([True, False]),
        "scalar": torch.tensor(2.5),
        "nothing": torch.zeros(0, 4),
    }
    module_like = torch.nn.Linear(2, 3).state_dict()  # an OrderedDict with the usual _metadata
    module_like.update(state)
    for name, is_zip in (("pytorch_zip", True), ("pytorch_legacy", False)):
        folder = new_folder(name)
        torch.save(module_like, folder / "pytorch_model.bin", _use_new_zipfile_serialization=is_zip)
        write_expected(folder, module_like)


def make_keras():
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import numpy as np
    import transformers

    random = np.random.default_rng(0)
    families = {
        "keras_h5_bert": (
            transformers.TFBertForPreTraining,
            transformers.BertForPreTraining,
            transformers.BertConfig(**SMALL),
        ),
        "keras_h5_albert": (
            transformers.TFAlbertForSequenceClassification,
            transformers.AlbertForSequenceClassification,
            transformers.AlbertConfig(**SMALL, embedding_size=4, num_labels=3),
        ),
    }
    for name, (tensorflow_class, torch_class, config) in families.items():
        folder = new_folder(name)
        model = tensorflow_class(config)
        model.build_in_name_scope()
        for weight in model.weights:  # no zeros and ones, which would hide a mix-up
            weight.assign(random.normal(size=weight.shape))
        model.save_pretrained(folder)
        converted = torch_class.from_pretrained(folder, from_tf=True)
        write_expected(folder, converted.state_dict())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("torch", "keras"))
    options = parser.parse_args()
    {"torch": make_torch, "keras": make_keras}[options.what]()


if __name__ == "__main__":
    main()
