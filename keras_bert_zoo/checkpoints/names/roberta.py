"""The tensors of RoBERTa, XLM-RoBERTa and CamemBERT in Hugging Face's checkpoints."""

from __future__ import annotations

from keras_bert_zoo.checkpoints.names.bert import (
    BLOCK,
    BUFFERS,
    EMBEDDINGS,
    MULTIPLE_CHOICE,
    POOLER,
    SPAN,
    TOKEN_CLASSIFIER,
    prefixed,
    repeated,
)
from keras_bert_zoo.checkpoints.names.family import FamilyNames
from keras_bert_zoo.config import EncoderConfig

_HEADS = {
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
}

_ARCHITECTURES = {
    "": "Model",
    "classification": "ForSequenceClassification",
    "token_classification": "ForTokenClassification",
    "question_answering": "ForQuestionAnswering",
    "multiple_choice": "ForMultipleChoice",
    "masked_lm": "ForMaskedLM",
}


def _encoder(config: EncoderConfig) -> dict[str, str]:
    return prefixed("roberta.", EMBEDDINGS | repeated(BLOCK, config))


def roberta_names(classes: str) -> FamilyNames:
    """Returns the tables of a family that differs from RoBERTa only in its class names.

    Args:
        classes: str. Prefix of the family's class names in transformers.
    """
    return FamilyNames(
        prefix="roberta.",
        encoder=_encoder,
        poolers={
            # The dense layer before a classifier belongs to the classifier.
            "classification": {
                "pooler/dense/kernel": "classifier.dense.weight",
                "pooler/dense/bias": "classifier.dense.bias",
            },
            "": prefixed("roberta.", POOLER),
        },
        heads=_HEADS,
        architectures={head: classes + name for head, name in _ARCHITECTURES.items()},
        tied={
            "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
            "lm_head.decoder.bias": "lm_head.bias",
        },
        ignored=BUFFERS,
    )


NAMES = roberta_names("Roberta")
