"""RoFormer's tensors in Hugging Face's checkpoints."""

from __future__ import annotations

from keras_bert_zoo.checkpoints.names.bert import (
    BLOCK,
    BUFFERS,
    EMBEDDINGS,
    MASKED_LM,
    MULTIPLE_CHOICE,
    SPAN,
    TOKEN_CLASSIFIER,
    prefixed,
    repeated,
)
from keras_bert_zoo.checkpoints.names.family import FamilyNames
from keras_bert_zoo.config import EncoderConfig

_EMBEDDINGS = {
    path: name for path, name in EMBEDDINGS.items() if path != "embeddings/position_table"
} | {
    "embeddings/projection/kernel": "embeddings_project.weight",
    "embeddings/projection/bias": "embeddings_project.bias",
    "sinusoids/table": "encoder.embed_positions.weight",
}


def _encoder(config: EncoderConfig) -> dict[str, str]:
    return prefixed("roformer.", _EMBEDDINGS | repeated(BLOCK, config))


NAMES = FamilyNames(
    prefix="roformer.",
    encoder=_encoder,
    poolers={
        "classification": {
            "pooler/dense/kernel": "classifier.dense.weight",
            "pooler/dense/bias": "classifier.dense.bias",
        },
        "multiple_choice": {},
    },
    heads={
        "classification": {
            "classifier/kernel": "classifier.out_proj.weight",
            "classifier/bias": "classifier.out_proj.bias",
        },
        "token_classification": TOKEN_CLASSIFIER,
        "question_answering": SPAN,
        "multiple_choice": MULTIPLE_CHOICE,
        "masked_lm": MASKED_LM,
    },
    architectures={
        "": "RoFormerModel",
        "classification": "RoFormerForSequenceClassification",
        "token_classification": "RoFormerForTokenClassification",
        "question_answering": "RoFormerForQuestionAnswering",
        "multiple_choice": "RoFormerForMultipleChoice",
        "masked_lm": "RoFormerForMaskedLM",
    },
    tied={
        "cls.predictions.decoder.weight": "roformer.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    ignored=BUFFERS,
)
