"""ELECTRA's tensors in Hugging Face's checkpoints."""

from __future__ import annotations

from keras_bert_zoo.checkpoints.names.bert import (
    BLOCK,
    BUFFERS,
    EMBEDDINGS,
    MULTIPLE_CHOICE,
    SPAN,
    TOKEN_CLASSIFIER,
    prefixed,
    repeated,
)
from keras_bert_zoo.checkpoints.names.family import FamilyNames
from keras_bert_zoo.config import EncoderConfig

_PROJECTION = {
    "embeddings/projection/kernel": "embeddings_project.weight",
    "embeddings/projection/bias": "embeddings_project.bias",
}


def _encoder(config: EncoderConfig) -> dict[str, str]:
    # Without a projection, no variable has these paths.
    return prefixed("electra.", EMBEDDINGS | _PROJECTION | repeated(BLOCK, config))


NAMES = FamilyNames(
    prefix="electra.",
    encoder=_encoder,
    poolers={
        "classification": {
            "pooler/dense/kernel": "classifier.dense.weight",
            "pooler/dense/bias": "classifier.dense.bias",
        },
        "multiple_choice": {
            "pooler/dense/kernel": "sequence_summary.summary.weight",
            "pooler/dense/bias": "sequence_summary.summary.bias",
        },
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
            "masked_lm/transform/kernel": "generator_predictions.dense.weight",
            "masked_lm/transform/bias": "generator_predictions.dense.bias",
            "masked_lm/norm/gamma": "generator_predictions.LayerNorm.weight",
            "masked_lm/norm/beta": "generator_predictions.LayerNorm.bias",
            "masked_lm/decoder/kernel": "generator_lm_head.weight",
            "masked_lm/bias": "generator_lm_head.bias",
        },
        "replaced_token_detection": {
            "replaced_token/transform/kernel": "discriminator_predictions.dense.weight",
            "replaced_token/transform/bias": "discriminator_predictions.dense.bias",
            "replaced_token/kernel": "discriminator_predictions.dense_prediction.weight",
            "replaced_token/bias": "discriminator_predictions.dense_prediction.bias",
        },
    },
    architectures={
        "": "ElectraModel",
        "classification": "ElectraForSequenceClassification",
        "token_classification": "ElectraForTokenClassification",
        "question_answering": "ElectraForQuestionAnswering",
        "multiple_choice": "ElectraForMultipleChoice",
        "masked_lm": "ElectraForMaskedLM",
        "replaced_token_detection": "ElectraForPreTraining",
    },
    tied={"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"},
    ignored=BUFFERS,
)
