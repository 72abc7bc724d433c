"""BERT's tensors in Hugging Face's checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

from keras_bert_zoo.checkpoints.names.family import FamilyNames
from keras_bert_zoo.config import EncoderConfig

EMBEDDINGS = {
    "embeddings/token_table": "embeddings.word_embeddings.weight",
    "embeddings/position_table": "embeddings.position_embeddings.weight",
    "embeddings/segment_table": "embeddings.token_type_embeddings.weight",
    "embeddings/norm/gamma": "embeddings.LayerNorm.weight",
    "embeddings/norm/beta": "embeddings.LayerNorm.bias",
}

BLOCK = {
    "block_{i}/attention/query/kernel": "encoder.layer.{i}.attention.self.query.weight",
    "block_{i}/attention/query/bias": "encoder.layer.{i}.attention.self.query.bias",
    "block_{i}/attention/key/kernel": "encoder.layer.{i}.attention.self.key.weight",
    "block_{i}/attention/key/bias": "encoder.layer.{i}.attention.self.key.bias",
    "block_{i}/attention/value/kernel": "encoder.layer.{i}.attention.self.value.weight",
    "block_{i}/attention/value/bias": "encoder.layer.{i}.attention.self.value.bias",
    "block_{i}/attention_output/kernel": "encoder.layer.{i}.attention.output.dense.weight",
    "block_{i}/attention_output/bias": "encoder.layer.{i}.attention.output.dense.bias",
    "block_{i}/attention_norm/gamma": "encoder.layer.{i}.attention.output.LayerNorm.weight",
    "block_{i}/attention_norm/beta": "encoder.layer.{i}.attention.output.LayerNorm.bias",
    "block_{i}/intermediate/kernel": "encoder.layer.{i}.intermediate.dense.weight",
    "block_{i}/intermediate/bias": "encoder.layer.{i}.intermediate.dense.bias",
    "block_{i}/output_dense/kernel": "encoder.layer.{i}.output.dense.weight",
    "block_{i}/output_dense/bias": "encoder.layer.{i}.output.dense.bias",
    "block_{i}/output_norm/gamma": "encoder.layer.{i}.output.LayerNorm.weight",
    "block_{i}/output_norm/beta": "encoder.layer.{i}.output.LayerNorm.bias",
}

POOLER = {
    "pooler/dense/kernel": "pooler.dense.weight",
    "pooler/dense/bias": "pooler.dense.bias",
}

# The last layer of a classifier. It has no prefix, because it is outside the encoder.
CLASSIFIER = {
    "classifier/kernel": "classifier.weight",
    "classifier/bias": "classifier.bias",
}

# The heads of BERT, and of families with the same names.
TOKEN_CLASSIFIER = {
    "token_classifier/kernel": "classifier.weight",
    "token_classifier/bias": "classifier.bias",
}
SPAN = {"span/kernel": "qa_outputs.weight", "span/bias": "qa_outputs.bias"}
MULTIPLE_CHOICE = {
    "multiple_choice/kernel": "classifier.weight",
    "multiple_choice/bias": "classifier.bias",
}
NEXT_SENTENCE = {
    "next_sentence/kernel": "cls.seq_relationship.weight",
    "next_sentence/bias": "cls.seq_relationship.bias",
}
MASKED_LM = {
    "masked_lm/transform/kernel": "cls.predictions.transform.dense.weight",
    "masked_lm/transform/bias": "cls.predictions.transform.dense.bias",
    "masked_lm/norm/gamma": "cls.predictions.transform.LayerNorm.weight",
    "masked_lm/norm/beta": "cls.predictions.transform.LayerNorm.bias",
    "masked_lm/decoder/kernel": "cls.predictions.decoder.weight",
    "masked_lm/bias": "cls.predictions.bias",
}

# Buffers that older transformers wrote, not weights.
BUFFERS = (
    r"(?:\w+\.)?embeddings\.position_ids",
    r"(?:\w+\.)?embeddings\.token_type_ids",
)


def repeated(block: Mapping[str, str], config: EncoderConfig) -> dict[str, str]:
    """Returns a table of all blocks, from a table of one block in which `{i}` is its number."""
    return {
        path.format(i=i): name.format(i=i)
        for i in range(config.num_layers)
        for path, name in block.items()
    }


def prefixed(prefix: str, table: Mapping[str, str]) -> dict[str, str]:
    """Returns a table with `prefix` added to the names of all tensors."""
    return {path: prefix + name for path, name in table.items()}


def _encoder(config: EncoderConfig) -> dict[str, str]:
    return prefixed("bert.", EMBEDDINGS | repeated(BLOCK, config))


NAMES = FamilyNames(
    prefix="bert.",
    encoder=_encoder,
    poolers={"": prefixed("bert.", POOLER)},
    heads={
        "classification": CLASSIFIER,
        "token_classification": TOKEN_CLASSIFIER,
        "question_answering": SPAN,
        "multiple_choice": MULTIPLE_CHOICE,
        "next_sentence": NEXT_SENTENCE,
        "masked_lm": MASKED_LM,
    },
    architectures={
        "": "BertModel",
        "classification": "BertForSequenceClassification",
        "token_classification": "BertForTokenClassification",
        "question_answering": "BertForQuestionAnswering",
        "multiple_choice": "BertForMultipleChoice",
        "next_sentence": "BertForNextSentencePrediction",
        "masked_lm": "BertForMaskedLM",
        "masked_lm+next_sentence": "BertForPreTraining",
    },
    tied={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    ignored=BUFFERS,
    other_heads=(r"cls\..*", r"classifier\..*", r"qa_outputs\..*"),
)
