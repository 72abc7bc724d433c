"""Writes small presets for tests of files and tasks, and one reference with real texts.

    python tools/make_goldens.py            needs the extra `parity` (torch, transformers)

tools/zoo/goldens.py writes the references of encoders and heads. This tool writes outputs of
transformers (torch, float32) to tests/assets/:

- bert_*/: random BERT models with unusual configurations, as saved by transformers, each with a
  tokenizer and golden.npz: inputs with random segments and padding masks, all hidden states,
  attention probabilities, pooled output and, for models with a head, logits.
- minilm_l6/golden.npz: real texts of different lengths and the outputs of the preset.
"""

import json
import pathlib
import shutil

import numpy as np
import torch
import transformers

from keras_bert_zoo.presets.resolve import find_preset

ASSETS = pathlib.Path(__file__).resolve().parent.parent / "tests" / "assets"

SMALL = {
    "vocab_size": 61,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 24,
    # Large enough that every part of the model affects the outputs.
    "initializer_range": 0.3,
}
VARIANTS = {
    "bert_gelu": {},
    "bert_tanh_gelu": {
        "hidden_act": "gelu_new",
        "layer_norm_eps": 1e-5,
        "type_vocab_size": 1,
        "num_attention_heads": 2,
    },
    "bert_relu_no_pooler": {"hidden_act": "relu", "type_vocab_size": 3, "vocab_size": 67},
    "bert_one_head": {"hidden_act": "silu", "num_attention_heads": 1, "num_hidden_layers": 3},
    "bert_classifier": {
        "num_labels": 3,
        "id2label": {0: "no", 1: "maybe", 2: "yes"},
        "label2id": {"no": 0, "maybe": 1, "yes": 2},
        "classifier_dropout": 0.2,
        "problem_type": "single_label_classification",
    },
}
TEXTS = [
    "I am still waiting on my card?",
    "What can I do if my card still hasn't arrived after 2 weeks?",
    "",
    "Why?",
    "The Crown and Anchor's café in Zürich — naïve, but 100% worth it!",
    "我的卡还没有到。",
    "simplistic , silly and tedious .",
    (
        "the rock is destined to be the 21st century's new \" conan \" and that he's going to make "
        "a splash even greater than arnold schwarzenegger , jean-claud van damme or steven segal ."
    ),
]


def make_variant(name, overrides):
    torch.manual_seed(len(name))
    config = transformers.BertConfig(**SMALL | overrides)
    config._attn_implementation = "eager"
    if "num_labels" in overrides:
        model = transformers.BertForSequenceClassification(config)
    else:
        model = transformers.BertModel(config, add_pooling_layer="no_pooler" not in name)
    for parameter in model.parameters():  # biases and LayerNorm too
        torch.nn.init.normal_(parameter, std=0.3)
    model.eval()
    random = np.random.default_rng(0)
    shape = (5, 17)
    inputs = {
        "token_ids": random.integers(0, config.vocab_size, shape),
        "segment_ids": random.integers(0, config.type_vocab_size, shape),
        "padding_mask": random.random(shape) < 0.7,
    }
    inputs["padding_mask"][:, 0] = True
    inputs["padding_mask"][1] = True
    with torch.no_grad():
        outputs = model(
            input_ids=torch.tensor(inputs["token_ids"]),
            token_type_ids=torch.tensor(inputs["segment_ids"]),
            attention_mask=torch.tensor(inputs["padding_mask"]).long(),
            output_hidden_states=True,
            output_attentions=True,
        )
    golden = {key: value.astype(np.int32) for key, value in inputs.items()}
    golden["hidden_states"] = np.stack([state.numpy() for state in outputs.hidden_states])
    golden["attention_scores"] = np.stack([scores.numpy() for scores in outputs.attentions])
    if outputs.get("pooler_output") is not None:
        golden["pooled_output"] = outputs.pooler_output.numpy()
    if "logits" in outputs:
        golden["logits"] = outputs.logits.numpy()
    folder = ASSETS / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary += [chr(c) for c in range(ord("a"), ord("z") + 1)]
    vocabulary += ["##" + chr(c) for c in range(ord("a"), ord("z") + 1)]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}) + "\n")
    np.savez_compressed(folder / "golden.npz", **golden)


def make_minilm():
    directory = find_preset("minilm_l6_en_uncased")
    model = transformers.BertModel.from_pretrained(directory).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    inputs = tokenizer(TEXTS, padding=True, truncation=True, max_length=64, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    folder = ASSETS / "minilm_l6"
    folder.mkdir(parents=True, exist_ok=True)
    mask = inputs["attention_mask"].numpy().astype(bool)
    np.savez_compressed(
        folder / "golden.npz",
        texts=np.array(TEXTS),
        token_ids=inputs["input_ids"].numpy().astype(np.int32),
        padding_mask=mask.astype(np.int32),
        # Only the states of real tokens, all rows concatenated.
        sequence_output=outputs.last_hidden_state.numpy()[mask],
        pooled_output=outputs.pooler_output.numpy(),
    )


def main():
    for name, overrides in VARIANTS.items():
        make_variant(name, overrides)
    make_minilm()
    print(f"wrote {', '.join(VARIANTS)} and minilm_l6 to {ASSETS}")


if __name__ == "__main__":
    main()
