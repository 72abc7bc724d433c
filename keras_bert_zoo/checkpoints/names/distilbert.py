"""DistilBERT's tensors in Hugging Face's checkpoints."""

from __future__ import annotations

from keras_bert_zoo.checkpoints.names.bert import (
    BUFFERS,
    CLASSIFIER,
    MULTIPLE_CHOICE,
    SPAN,
    TOKEN_CLASSIFIER,
    prefixed,
    repeated,
)
from keras_bert_zoo.checkpoints.names.family import FamilyNames
from keras_bert_zoo.config import EncoderConfig

_EMBEDDINGS = {
    "embeddings/token_table": "embeddings.word_embeddings.weight",
    "embeddings/position_table": "embeddings.position_embeddings.weight",
    "embeddings/norm/gamma": "embeddings.LayerNorm.weight",
    "embeddings/norm/beta": "embeddings.LayerNorm.bias",
}

_BLOCK = {
    "block_{i}/attention/query/kernel": "transformer.layer.{i}.attention.q_lin.weight",
    "block_{i}/attention/query/bias": "transformer.layer.{i}.attention.q_lin.bias",
    "block_{i}/attention/key/kernel": "transformer.layer.{i}.attention.k_lin.weight",
    "block_{i}/attention/key/bias": "transformer.layer.{i}.attention.k_lin.bias",
    "block_{i}/attention/value/kernel": "transformer.layer.{i}.attention.v_lin.weight",
    "block_{i}/attention/value/bias": "transformer.layer.{i}.attention.v_lin.bias",
    "block_{i}/attention_output/kernel": "transformer.layer.{i}.attention.out_lin.weight",
    "block_{i}/attention_output/bias": "transformer.layer.{i}.attention.out_lin.bias",
    "block_{i}/attention_norm/gamma": "transformer.layer.{i}.sa_layer_norm.weight",
    "block_{i}/attention_norm/beta": "transformer.layer.{i}.sa_layer_norm.bias",
    "block_{i}/intermediate/kernel": "transformer.layer.{i}.ffn.lin1.weight",
    "block_{i}/intermediate/bias": "transformer.layer.{i}.ffn.lin1.bias",
    "block_{i}/output_dense/kernel": "transformer.layer.{i}.ffn.lin2.weight",
    "block_{i}/output_dense/bias": "transformer.layer.{i}.ffn.lin2.bias",
    "block_{i}/output_norm/gamma": "transformer.layer.{i}.output_layer_norm.weight",
    "block_{i}/output_norm/beta": "transformer.layer.{i}.output_layer_norm.bias",
}

_POOLER = {
    "pooler/dense/kernel": "pre_classifier.weight",
    "pooler/dense/bias": "pre_classifier.bias",
}

_MASKED_LM = {
    "masked_lm/transform/kernel": "vocab_transform.weight",
    "masked_lm/transform/bias": "vocab_transform.bias",
    "masked_lm/norm/gamma": "vocab_layer_norm.weight",
    "masked_lm/norm/beta": "vocab_layer_norm.bias",
    "masked_lm/decoder/kernel": "vocab_projector.weight",
    "masked_lm/bias": "vocab_projector.bias",
}


def _encoder(config: EncoderConfig) -> dict[str, str]:
    return prefixed("distilbert.", _EMBEDDINGS | repeated(_BLOCK, config))


NAMES = FamilyNames(
    prefix="distilbert.",
    encoder=_encoder,
    poolers={"classification": _POOLER, "multiple_choice": _POOLER},
    heads={
        "classification": CLASSIFIER,
        "token_classification": TOKEN_CLASSIFIER,
        "question_answering": SPAN,
        "multiple_choice": MULTIPLE_CHOICE,
        "masked_lm": _MASKED_LM,
    },
    architectures={
        "": "DistilBertModel",
        "classification": "DistilBertForSequenceClassification",
        "token_classification": "DistilBertForTokenClassification",
        "question_answering": "DistilBertForQuestionAnswering",
        "multiple_choice": "DistilBertForMultipleChoice",
        "masked_lm": "DistilBertForMaskedLM",
    },
    tied={"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"},
    ignored=BUFFERS,
)
