"""RoFormer's tensors in Hugging Face's checkpoints."""

from __future__ import annotations

from keras_bert_zoo.checkpoints.names import FamilyNames
from keras_bert_zoo.checkpoints.names.bert import BLOCK, BUFFERS, EMBEDDINGS, prefixed, repeated
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
        "token_classification": {
            "token_classifier/kernel": "classifier.weight",
            "token_classifier/bias": "classifier.bias",
        },
        "question_answering": {"span/kernel": "qa_outputs.weight", "span/bias": "qa_outputs.bias"},
        "multiple_choice": {
            "multiple_choice/kernel": "classifier.weight",
            "multiple_choice/bias": "classifier.bias",
        },
        "masked_lm": {
            "masked_lm/transform/kernel": "cls.predictions.transform.dense.weight",
            "masked_lm/transform/bias": "cls.predictions.transform.dense.bias",
            "masked_lm/norm/gamma": "cls.predictions.transform.LayerNorm.weight",
            "masked_lm/norm/beta": "cls.predictions.transform.LayerNorm.bias",
            "masked_lm/decoder/kernel": "cls.predictions.decoder.weight",
            "masked_lm/bias": "cls.predictions.bias",
        },
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
