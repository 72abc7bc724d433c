"""DeBERTa v2's and v3's tensors in Hugging Face's checkpoints."""

from __future__ import annotations

import dataclasses

from keras_bert_zoo.checkpoints.names.bert import (
    BLOCK,
    BUFFERS,
    CLASSIFIER,
    EMBEDDINGS,
    POOLER,
    prefixed,
    repeated,
)
from keras_bert_zoo.checkpoints.names.family import FamilyNames
from keras_bert_zoo.config import EncoderConfig

_EMBEDDINGS = EMBEDDINGS | {"embeddings/projection/kernel": "embeddings.embed_proj.weight"}

_SELF = "encoder.layer.{i}.attention.self."
_BLOCK = BLOCK | {
    "block_{i}/attention/query/kernel": _SELF + "query_proj.weight",
    "block_{i}/attention/query/bias": _SELF + "query_proj.bias",
    "block_{i}/attention/key/kernel": _SELF + "key_proj.weight",
    "block_{i}/attention/key/bias": _SELF + "key_proj.bias",
    "block_{i}/attention/value/kernel": _SELF + "value_proj.weight",
    "block_{i}/attention/value/bias": _SELF + "value_proj.bias",
    "block_{i}/attention/position_key/kernel": _SELF + "pos_key_proj.weight",
    "block_{i}/attention/position_key/bias": _SELF + "pos_key_proj.bias",
    "block_{i}/attention/position_query/kernel": _SELF + "pos_query_proj.weight",
    "block_{i}/attention/position_query/bias": _SELF + "pos_query_proj.bias",
}

_SHARED = {
    "relative_distances/table": "encoder.rel_embeddings.weight",
    "relative_distances/norm/gamma": "encoder.LayerNorm.weight",
    "relative_distances/norm/beta": "encoder.LayerNorm.bias",
    "block_0/convolution/kernel": "encoder.conv.conv.weight",
    "block_0/convolution/bias": "encoder.conv.conv.bias",
    "block_0/convolution/norm/gamma": "encoder.conv.LayerNorm.weight",
    "block_0/convolution/norm/beta": "encoder.conv.LayerNorm.bias",
}


def _encoder(config: EncoderConfig) -> dict[str, str]:
    return prefixed("deberta.", _EMBEDDINGS | repeated(_BLOCK, config) | _SHARED)


NAMES = FamilyNames(
    prefix="deberta.",
    encoder=_encoder,
    poolers={"": POOLER},
    heads={
        "classification": CLASSIFIER,
        "token_classification": {
            "token_classifier/kernel": "classifier.weight",
            "token_classifier/bias": "classifier.bias",
        },
        "question_answering": {
            "span/kernel": "qa_outputs.weight",
            "span/bias": "qa_outputs.bias",
        },
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
        "": "DebertaV2Model",
        "classification": "DebertaV2ForSequenceClassification",
        "token_classification": "DebertaV2ForTokenClassification",
        "question_answering": "DebertaV2ForQuestionAnswering",
        "multiple_choice": "DebertaV2ForMultipleChoice",
        "masked_lm": "DebertaV2ForMaskedLM",
    },
    tied={
        "cls.predictions.decoder.weight": "deberta.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    # transformers ignores the absolute positions if the config has none. v3's checkpoints contain
    # the head of the generator or of the discriminator.
    ignored=(
        *BUFFERS,
        r"(?:deberta\.)?embeddings\.position_embeddings\.weight",
        r"mask_predictions\..*",
    ),
    other_heads=(r"cls\..*", r"lm_predictions\..*", r"mask_predictions\..*"),
)

# transformers' second head, which is in DeBERTa v3's original checkpoints. Its decoder is the token
# embedding.
_LM_HEAD = {
    "masked_lm/transform/kernel": "lm_predictions.lm_head.dense.weight",
    "masked_lm/transform/bias": "lm_predictions.lm_head.dense.bias",
    "masked_lm/norm/gamma": "lm_predictions.lm_head.LayerNorm.weight",
    "masked_lm/norm/beta": "lm_predictions.lm_head.LayerNorm.bias",
    "masked_lm/bias": "lm_predictions.lm_head.bias",
}


def names_for(config: EncoderConfig) -> FamilyNames:
    """Returns the tables of a model with its masked-language-model head, one of two."""
    if getattr(config, "legacy", True):
        return NAMES
    return dataclasses.replace(NAMES, heads={**NAMES.heads, "masked_lm": _LM_HEAD}, tied={})
