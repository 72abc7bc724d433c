"""ALBERT's tensors in Hugging Face's checkpoints."""

from __future__ import annotations

from typing import Any

from keras_bert_zoo.checkpoints.names.bert import (
    BUFFERS,
    CLASSIFIER,
    EMBEDDINGS,
    MULTIPLE_CHOICE,
    SPAN,
    TOKEN_CLASSIFIER,
    prefixed,
)
from keras_bert_zoo.checkpoints.names.family import FamilyNames
from keras_bert_zoo.config import EncoderConfig

_PROJECTION = {
    "embeddings/projection/kernel": "encoder.embedding_hidden_mapping_in.weight",
    "embeddings/projection/bias": "encoder.embedding_hidden_mapping_in.bias",
}

# Layer of a block -> module of an AlbertLayer.
_MODULES = {
    "attention/query": "attention.query",
    "attention/key": "attention.key",
    "attention/value": "attention.value",
    "attention_output": "attention.dense",
    "attention_norm": "attention.LayerNorm",
    "intermediate": "ffn",
    "output_dense": "ffn_output",
    "output_norm": "full_layer_layer_norm",
}


def _block(group: int, block: int) -> dict[str, str]:
    table: dict[str, str] = {}
    for layer, module in _MODULES.items():
        ours = f"group_{group}_block_{block}/{layer}"
        theirs = f"encoder.albert_layer_groups.{group}.albert_layers.{block}.{module}"
        weight, bias = ("gamma", "beta") if layer.endswith("norm") else ("kernel", "bias")
        table |= {f"{ours}/{weight}": f"{theirs}.weight", f"{ours}/{bias}": f"{theirs}.bias"}
    return table


def _encoder(config: EncoderConfig) -> dict[str, str]:
    albert: Any = config  # an AlbertConfig
    table = EMBEDDINGS | _PROJECTION
    for group in range(albert.num_groups):
        for block in range(albert.blocks_per_group):
            table |= _block(group, block)
    return prefixed("albert.", table)


NAMES = FamilyNames(
    prefix="albert.",
    encoder=_encoder,
    poolers={
        "": {
            "pooler/dense/kernel": "albert.pooler.weight",
            "pooler/dense/bias": "albert.pooler.bias",
        }
    },
    heads={
        "classification": CLASSIFIER,
        "token_classification": TOKEN_CLASSIFIER,
        "question_answering": SPAN,
        "multiple_choice": MULTIPLE_CHOICE,
        "masked_lm": {
            "masked_lm/transform/kernel": "predictions.dense.weight",
            "masked_lm/transform/bias": "predictions.dense.bias",
            "masked_lm/norm/gamma": "predictions.LayerNorm.weight",
            "masked_lm/norm/beta": "predictions.LayerNorm.bias",
            "masked_lm/decoder/kernel": "predictions.decoder.weight",
            "masked_lm/bias": "predictions.bias",
        },
        "sentence_order": {
            "next_sentence/kernel": "sop_classifier.classifier.weight",
            "next_sentence/bias": "sop_classifier.classifier.bias",
        },
    },
    architectures={
        "": "AlbertModel",
        "classification": "AlbertForSequenceClassification",
        "token_classification": "AlbertForTokenClassification",
        "question_answering": "AlbertForQuestionAnswering",
        "multiple_choice": "AlbertForMultipleChoice",
        "masked_lm": "AlbertForMaskedLM",
        "masked_lm+sentence_order": "AlbertForPreTraining",
    },
    tied={
        "predictions.decoder.weight": "albert.embeddings.word_embeddings.weight",
        "predictions.decoder.bias": "predictions.bias",
    },
    ignored=BUFFERS,
)
