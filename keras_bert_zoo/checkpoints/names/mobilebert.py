"""MobileBERT's tensors in Hugging Face's checkpoints."""

from __future__ import annotations

from keras_bert_zoo.checkpoints.names.bert import (
    BLOCK,
    BUFFERS,
    CLASSIFIER,
    EMBEDDINGS,
    MASKED_LM,
    MULTIPLE_CHOICE,
    NEXT_SENTENCE,
    POOLER,
    SPAN,
    TOKEN_CLASSIFIER,
    prefixed,
    repeated,
)
from keras_bert_zoo.checkpoints.names.family import FamilyNames
from keras_bert_zoo.config import EncoderConfig

_EMBEDDINGS = EMBEDDINGS | {
    "embeddings/projection/kernel": "embeddings.embedding_transformation.weight",
    "embeddings/projection/bias": "embeddings.embedding_transformation.bias",
}

# The last feed-forward network has the names of BERT's.
_LAST = ("intermediate", "output_dense", "output_norm")
_BLOCK = {_path: _name for _path, _name in BLOCK.items() if _path.split("/")[1] not in _LAST} | {
    _path.replace("{i}/", "{i}/feed_forward/"): _name
    for _path, _name in BLOCK.items()
    if _path.split("/")[1] in _LAST
}

_BOTTLENECK = {
    "dense/kernel": "dense.weight",
    "dense/bias": "dense.bias",
    "norm/gamma": "LayerNorm.weight",
    "norm/beta": "LayerNorm.bias",
}
_BOTTLENECKS = {
    f"block_{{i}}/{ours}/{path}": f"encoder.layer.{{i}}.{theirs}.{name}"
    for ours, theirs in (
        ("input_bottleneck", "bottleneck.input"),
        ("query_key_bottleneck", "bottleneck.attention"),
        ("output_bottleneck", "output.bottleneck"),
    )
    for path, name in _BOTTLENECK.items()
}

_FEED_FORWARD = {
    "intermediate/kernel": "intermediate.dense.weight",
    "intermediate/bias": "intermediate.dense.bias",
    "output_dense/kernel": "output.dense.weight",
    "output_dense/bias": "output.dense.bias",
    "output_norm/gamma": "output.LayerNorm.weight",
    "output_norm/beta": "output.LayerNorm.bias",
}


def _encoder(config: EncoderConfig) -> dict[str, str]:
    # `config` is a MobileBertConfig. EncoderConfig itself has no such attribute.
    count: int = getattr(config, "num_feedforward", 1)
    feed_forwards = {
        f"block_{{i}}/feed_forward_{j}/{path}": f"encoder.layer.{{i}}.ffn.{j}.{name}"
        for j in range(count - 1)
        for path, name in _FEED_FORWARD.items()
    }
    block = _BLOCK | _BOTTLENECKS | feed_forwards
    return prefixed("mobilebert.", _EMBEDDINGS | repeated(block, config))


_MASKED_LM = MASKED_LM | {"masked_lm/extra_table": "cls.predictions.dense.weight"}

NAMES = FamilyNames(
    prefix="mobilebert.",
    encoder=_encoder,
    poolers={"": prefixed("mobilebert.", POOLER)},
    heads={
        "classification": CLASSIFIER,
        "token_classification": TOKEN_CLASSIFIER,
        "question_answering": SPAN,
        "multiple_choice": MULTIPLE_CHOICE,
        "next_sentence": NEXT_SENTENCE,
        "masked_lm": _MASKED_LM,
    },
    architectures={
        "": "MobileBertModel",
        "classification": "MobileBertForSequenceClassification",
        "token_classification": "MobileBertForTokenClassification",
        "question_answering": "MobileBertForQuestionAnswering",
        "multiple_choice": "MobileBertForMultipleChoice",
        "next_sentence": "MobileBertForNextSentencePrediction",
        "masked_lm": "MobileBertForMaskedLM",
        "masked_lm+next_sentence": "MobileBertForPreTraining",
    },
    tied={
        "cls.predictions.decoder.weight": "mobilebert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    ignored=BUFFERS,
)
