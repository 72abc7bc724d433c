"""MPNet's tensors in Hugging Face's checkpoints."""

from __future__ import annotations

from keras_bert_zoo.checkpoints.names.bert import (
    BUFFERS,
    MULTIPLE_CHOICE,
    POOLER,
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
    "relative_positions/table": "encoder.relative_attention_bias.weight",
}

_BLOCK = {
    "block_{i}/attention/query/kernel": "encoder.layer.{i}.attention.attn.q.weight",
    "block_{i}/attention/query/bias": "encoder.layer.{i}.attention.attn.q.bias",
    "block_{i}/attention/key/kernel": "encoder.layer.{i}.attention.attn.k.weight",
    "block_{i}/attention/key/bias": "encoder.layer.{i}.attention.attn.k.bias",
    "block_{i}/attention/value/kernel": "encoder.layer.{i}.attention.attn.v.weight",
    "block_{i}/attention/value/bias": "encoder.layer.{i}.attention.attn.v.bias",
    "block_{i}/attention_output/kernel": "encoder.layer.{i}.attention.attn.o.weight",
    "block_{i}/attention_output/bias": "encoder.layer.{i}.attention.attn.o.bias",
    "block_{i}/attention_norm/gamma": "encoder.layer.{i}.attention.LayerNorm.weight",
    "block_{i}/attention_norm/beta": "encoder.layer.{i}.attention.LayerNorm.bias",
    "block_{i}/intermediate/kernel": "encoder.layer.{i}.intermediate.dense.weight",
    "block_{i}/intermediate/bias": "encoder.layer.{i}.intermediate.dense.bias",
    "block_{i}/output_dense/kernel": "encoder.layer.{i}.output.dense.weight",
    "block_{i}/output_dense/bias": "encoder.layer.{i}.output.dense.bias",
    "block_{i}/output_norm/gamma": "encoder.layer.{i}.output.LayerNorm.weight",
    "block_{i}/output_norm/beta": "encoder.layer.{i}.output.LayerNorm.bias",
}


def _encoder(config: EncoderConfig) -> dict[str, str]:
    return prefixed("mpnet.", _EMBEDDINGS | repeated(_BLOCK, config))


NAMES = FamilyNames(
    prefix="mpnet.",
    encoder=_encoder,
    poolers={
        # The dense layer before a classifier belongs to the classifier.
        "classification": {
            "pooler/dense/kernel": "classifier.dense.weight",
            "pooler/dense/bias": "classifier.dense.bias",
        },
        "": prefixed("mpnet.", POOLER),
    },
    heads={
        "classification": {
            "classifier/kernel": "classifier.out_proj.weight",
            "classifier/bias": "classifier.out_proj.bias",
        },
        "token_classification": TOKEN_CLASSIFIER,
        "question_answering": SPAN,
        "multiple_choice": MULTIPLE_CHOICE,
        "masked_lm": {
            "masked_lm/transform/kernel": "lm_head.dense.weight",
            "masked_lm/transform/bias": "lm_head.dense.bias",
            "masked_lm/norm/gamma": "lm_head.layer_norm.weight",
            "masked_lm/norm/beta": "lm_head.layer_norm.bias",
            "masked_lm/decoder/kernel": "lm_head.decoder.weight",
            "masked_lm/bias": "lm_head.bias",
        },
    },
    architectures={
        "": "MPNetModel",
        "classification": "MPNetForSequenceClassification",
        "token_classification": "MPNetForTokenClassification",
        "question_answering": "MPNetForQuestionAnswering",
        "multiple_choice": "MPNetForMultipleChoice",
        "masked_lm": "MPNetForMaskedLM",
    },
    tied={
        "lm_head.decoder.weight": "mpnet.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
    ignored=BUFFERS,
)
