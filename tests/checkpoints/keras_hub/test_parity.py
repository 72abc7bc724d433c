"""transformers computes the same from converted presets."""

import json

import numpy as np
import pytest

from keras_bert_zoo.checkpoints.config_file import read_config
from keras_bert_zoo.checkpoints.formats import open_checkpoint
from keras_bert_zoo.checkpoints.keras_hub.names import FAMILIES
from keras_bert_zoo.checkpoints.keras_hub.reader import open_keras_hub
from keras_bert_zoo.checkpoints.keras_hub.writer import write_keras_hub_preset
from tests.checkpoints.keras_hub.models import (
    FAMILY_NAMES,
    HEADS,
    SIZES,
    as_huggingface,
    backbone,
    inputs,
    read_all,
    task,
)


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
        outputs = loaded(given)
        if kind == "TextClassifier":
            left, right = np.asarray(outputs), answer.logits.numpy()
        elif kind:
            left, right = np.asarray(outputs)[mask], answer.logits.numpy()[mask]
        else:
            outputs = outputs["sequence_output"] if isinstance(outputs, dict) else outputs
            left, right = np.asarray(outputs)[mask], answer.last_hidden_state.numpy()[mask]
        worst = max(worst, float(np.abs(left - right).max()))
    print(f"{name}{kind}: {worst:.2e}")
    assert worst <= 1e-5
