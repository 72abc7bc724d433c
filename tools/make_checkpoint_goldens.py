"""Writes the small checkpoints in other formats for tests/checkpoints.

    python tools/make_checkpoint_goldens.py torch    needs torch
    python tools/make_checkpoint_goldens.py keras    needs transformers 4, tf_keras and torch
    python tools/make_checkpoint_goldens.py google   needs transformers 4, tensorflow and torch

- torch: tests/assets/pytorch_zip and pytorch_legacy, one state dict in both formats of torch.save:
  several dtypes; tied, transposed, sliced, empty and scalar tensors. expected.safetensors contains
  the same values, made contiguous by torch.
- keras: tests/assets/keras_h5_*, tf_model.h5 as saved by transformers 4 for random TensorFlow
  models. expected.safetensors is its conversion to PyTorch by transformers 4.
- google: tests/assets/google_*, TF1 checkpoints with Google's variables and the optimizer's slots
  (google_bert is a copy, see its SOURCE.txt). expected*.safetensors are their conversions by
  load_tf_weights_in_bert, _albert and _electra of transformers 4.
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


def write_expected(folder, tensors, name="expected.safetensors"):
    contiguous = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    save_file(contiguous, folder / name)


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
    module_like = torch.nn.Linear(2, 3).state_dict()  # an OrderedDict with _metadata
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
        for weight in model.weights:  # zeros and ones would hide swapped weights
            weight.assign(random.normal(size=weight.shape))
        model.save_pretrained(folder)
        converted = torch_class.from_pretrained(folder, from_tf=True)
        write_expected(folder, converted.state_dict())


def dense(scope, inputs, outputs):
    return {f"{scope}/kernel": (inputs, outputs), f"{scope}/bias": (outputs,)}


def norm(scope, width):
    return {f"{scope}/gamma": (width,), f"{scope}/beta": (width,)}


def google_embeddings(scope, width):
    return {
        f"{scope}/word_embeddings": (SMALL["vocab_size"], width),
        f"{scope}/position_embeddings": (SMALL["max_position_embeddings"], width),
        f"{scope}/token_type_embeddings": (2, width),
        **norm(f"{scope}/LayerNorm", width),
    }


def google_albert():
    """google-research/albert, modeling.py and run_pretraining.py, as a TF Hub module."""
    hidden, inner, width = SMALL["hidden_size"], SMALL["intermediate_size"], 4
    shapes = google_embeddings("bert/embeddings", width)
    shapes |= dense("bert/encoder/embedding_hidden_mapping_in", width, hidden)
    for group in range(2):
        for block in range(2):
            scope = f"bert/encoder/transformer/group_{group}/inner_group_{block}"
            for name in ("query", "key", "value"):
                shapes |= dense(f"{scope}/attention_1/self/{name}", hidden, hidden)
            shapes |= dense(f"{scope}/attention_1/output/dense", hidden, hidden)
            shapes |= norm(f"{scope}/LayerNorm", hidden)
            shapes |= dense(f"{scope}/ffn_1/intermediate/dense", hidden, inner)
            shapes |= dense(f"{scope}/ffn_1/intermediate/output/dense", inner, hidden)
            shapes |= norm(f"{scope}/LayerNorm_1", hidden)
    shapes |= dense("bert/pooler/dense", hidden, hidden)
    shapes |= dense("cls/predictions/transform/dense", hidden, width)
    shapes |= norm("cls/predictions/transform/LayerNorm", width)
    shapes["cls/predictions/output_bias"] = (SMALL["vocab_size"],)
    shapes |= {
        "cls/seq_relationship/output_weights": (2, hidden),
        "cls/seq_relationship/output_bias": (2,),
    }
    return {f"module/{name}": shape for name, shape in shapes.items()}


def google_electra():
    """google-research/electra, run_pretraining.py; this width has one head there."""
    width, vocabulary = 4, SMALL["vocab_size"]
    shapes = google_embeddings("electra/embeddings", width)
    for scope, hidden in (("electra", 16), ("generator", 8)):
        shapes |= dense(f"{scope}/embeddings_project", width, hidden)
        layer = f"{scope}/encoder/layer_0"
        for name in ("query", "key", "value"):
            shapes |= dense(f"{layer}/attention/self/{name}", hidden, hidden)
        shapes |= dense(f"{layer}/attention/output/dense", hidden, hidden)
        shapes |= norm(f"{layer}/attention/output/LayerNorm", hidden)
        shapes |= dense(f"{layer}/intermediate/dense", hidden, 16)
        shapes |= dense(f"{layer}/output/dense", 16, hidden)
        shapes |= norm(f"{layer}/output/LayerNorm", hidden)
    shapes |= dense("discriminator_predictions/dense", 16, 16)
    shapes |= dense("discriminator_predictions/dense_1", 16, 1)
    shapes |= dense("generator_predictions/dense", 8, width)
    shapes |= norm("generator_predictions/LayerNorm", width)
    return shapes | {
        "generator_predictions/output_bias": (vocabulary,),
        "generator_predictions/temperature": (),
    }


def make_google():
    import json

    import numpy as np
    import tensorflow as tf
    import transformers
    from transformers.models.albert.modeling_albert import load_tf_weights_in_albert
    from transformers.models.bert.modeling_bert import load_tf_weights_in_bert
    from transformers.models.electra.modeling_electra import load_tf_weights_in_electra

    random = np.random.default_rng(0)

    def write(prefix, shapes):
        values = {"global_step": np.int64(7)}
        for name, shape in shapes.items():
            values[name] = random.normal(size=shape).astype(np.float32)
            if len(shape) == 1:
                for slot in ("adam_m", "adam_v"):
                    values[f"{name}/{slot}"] = np.zeros(shape, np.float32)
        names = sorted(values)
        tf.raw_ops.SaveV2(
            prefix=str(prefix),
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            tensors=[values[name] for name in names],
        )

    folder = ASSETS / "google_bert"
    config = transformers.BertConfig.from_json_file(folder / "bert_config.json")
    model = transformers.BertForPreTraining(config)
    load_tf_weights_in_bert(model, config, str(folder / "bert_model.ckpt"))
    model.tie_weights()
    write_expected(folder, model.state_dict())

    folder = new_folder("google_albert")
    write(folder / "model.ckpt-best", google_albert())
    sizes = SMALL | {
        "embedding_size": 4,
        "num_hidden_layers": 4,
        "num_hidden_groups": 2,
        "inner_group_num": 2,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0,
        "attention_probs_dropout_prob": 0,
        "initializer_range": 0.02,
        "net_structure_type": 0,
        "gap_size": 0,
        "num_memory_blocks": 0,
        "down_scale_factor": 1,
    }
    (folder / "albert_config.json").write_text(json.dumps(sizes, indent=2) + "\n")
    config = transformers.AlbertConfig.from_json_file(folder / "albert_config.json")
    model = transformers.AlbertForPreTraining(config)
    load_tf_weights_in_albert(model, config, str(folder / "model.ckpt-best"))
    model.tie_weights()
    write_expected(folder, model.state_dict())

    folder = new_folder("google_electra")
    prefix = folder / "electra_tiny"
    write(prefix, google_electra())
    for kind, hidden, tiny in (
        ("discriminator", 16, transformers.ElectraForPreTraining),
        ("generator", 8, transformers.ElectraForMaskedLM),
    ):
        config = transformers.ElectraConfig(
            vocab_size=SMALL["vocab_size"],
            embedding_size=4,
            hidden_size=hidden,
            num_hidden_layers=1,
            num_attention_heads=1,
            intermediate_size=16,
            max_position_embeddings=SMALL["max_position_embeddings"],
        )
        model = tiny(config)
        load_tf_weights_in_electra(model, config, str(prefix), kind)
        model.tie_weights()
        write_expected(folder, model.state_dict(), f"expected_{kind}.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", choices=("torch", "keras", "google"))
    options = parser.parse_args()
    {"torch": make_torch, "keras": make_keras, "google": make_google}[options.source]()


if __name__ == "__main__":
    main()
