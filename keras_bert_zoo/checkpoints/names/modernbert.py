"""ModernBERT's tensors in Hugging Face's checkpoints."""

from __future__ import annotations

from keras_bert_zoo.checkpoints.names.bert import prefixed, repeated
from keras_bert_zoo.checkpoints.names.family import FamilyNames
from keras_bert_zoo.config import EncoderConfig

_SHARED = {
    "embeddings/token_table": "embeddings.tok_embeddings.weight",
    "embeddings/norm/gamma": "embeddings.norm.weight",
    "embeddings/norm/beta": "embeddings.norm.bias",
    "final_norm/gamma": "final_norm.weight",
    "final_norm/beta": "final_norm.bias",
}

_BLOCK = {
    "block_{i}/attention_norm/gamma": "layers.{i}.attn_norm.weight",
    "block_{i}/attention_norm/beta": "layers.{i}.attn_norm.bias",
    "block_{i}/attention/projection/kernel": "layers.{i}.attn.Wqkv.weight",
    "block_{i}/attention/projection/bias": "layers.{i}.attn.Wqkv.bias",
    "block_{i}/attention_output/kernel": "layers.{i}.attn.Wo.weight",
    "block_{i}/attention_output/bias": "layers.{i}.attn.Wo.bias",
    "block_{i}/feed_forward_norm/gamma": "layers.{i}.mlp_norm.weight",
    "block_{i}/feed_forward_norm/beta": "layers.{i}.mlp_norm.bias",
    "block_{i}/feed_forward/expansion/kernel": "layers.{i}.mlp.Wi.weight",
    "block_{i}/feed_forward/expansion/bias": "layers.{i}.mlp.Wi.bias",
    "block_{i}/feed_forward/contraction/kernel": "layers.{i}.mlp.Wo.weight",
    "block_{i}/feed_forward/contraction/bias": "layers.{i}.mlp.Wo.bias",
}


def _encoder(config: EncoderConfig) -> dict[str, str]:
    return prefixed("model.", _SHARED | repeated(_BLOCK, config))


def _head(dense: str, norm: str, last: str) -> dict[str, str]:
    """Returns the table of a head: a prediction head and a linear layer, outside the encoder."""
    return {
        f"{dense}/kernel": "head.dense.weight",
        f"{dense}/bias": "head.dense.bias",
        f"{norm}/gamma": "head.norm.weight",
        f"{norm}/beta": "head.norm.bias",
        f"{last}/kernel": "classifier.weight",
        f"{last}/bias": "classifier.bias",
    }


def _pooler_and(last: str) -> tuple[dict[str, str], dict[str, str]]:
    table = _head("pooler/dense", "pooler/norm", last)
    pooler = {path: name for path, name in table.items() if path.startswith("pooler/")}
    return pooler, {path: name for path, name in table.items() if path not in pooler}


_POOLER, _CLASSIFIER = _pooler_and("classifier")
_, _MULTIPLE_CHOICE = _pooler_and("multiple_choice")

NAMES = FamilyNames(
    prefix="model.",
    encoder=_encoder,
    poolers={"": _POOLER},
    heads={
        "classification": _CLASSIFIER,
        "multiple_choice": _MULTIPLE_CHOICE,
        "token_classification": _head(
            "token_classifier/transform", "token_classifier/norm", "token_classifier"
        ),
        "question_answering": _head("span/transform", "span/norm", "span"),
        "masked_lm": {
            "masked_lm/transform/kernel": "head.dense.weight",
            "masked_lm/transform/bias": "head.dense.bias",
            "masked_lm/norm/gamma": "head.norm.weight",
            "masked_lm/norm/beta": "head.norm.bias",
            "masked_lm/decoder/kernel": "decoder.weight",
            "masked_lm/bias": "decoder.bias",
        },
    },
    architectures={
        "": "ModernBertModel",
        "classification": "ModernBertForSequenceClassification",
        "multiple_choice": "ModernBertForMultipleChoice",
        "token_classification": "ModernBertForTokenClassification",
        "question_answering": "ModernBertForQuestionAnswering",
        "masked_lm": "ModernBertForMaskedLM",
    },
    tied={"decoder.weight": "model.embeddings.tok_embeddings.weight"},
    other_heads=(r"head\..*", r"decoder\..*", r"classifier\..*"),
)
