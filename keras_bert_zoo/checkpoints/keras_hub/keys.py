"""Configuration keys of KerasHub and Hugging Face that several families share."""

from __future__ import annotations

from typing import Any

# Values of `hidden_act` for KerasHub's `gelu_approximate`, and for its "gelu".
TANH_GELU = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_python_tanh")
ERF_GELU = ("gelu", "gelu_python")

CONFIG = {
    "vocabulary_size": ("vocab_size",),
    "num_layers": ("num_hidden_layers",),
    "num_heads": ("num_attention_heads",),
    "hidden_dim": ("hidden_size",),
    "intermediate_dim": ("intermediate_size",),
    "dropout": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    "max_sequence_length": ("max_position_embeddings",),
}
SEGMENTS = {"num_segments": ("type_vocab_size",)}
BERT_DEFAULTS: dict[str, Any] = {
    "vocab_size": 30522,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "classifier_dropout": None,
}
ALWAYS: dict[str, tuple[Any, ...]] = {
    "is_decoder": (False, None),
    "is_encoder_decoder": (False, None),
    "add_cross_attention": (False, None),
    "pruned_heads": ({}, None),
    "quantization_config": (None,),
}
ABSOLUTE = {"position_embedding_type": ("absolute", None), **ALWAYS}
