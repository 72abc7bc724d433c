"""BERT's tensors in Hugging Face's checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

from keras_bert_zoo.checkpoints.names import FamilyNames
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

# The last layer of a classifier; it stands beside the encoder, not inside it.
CLASSIFIER = {
    "classifier/kernel": "classifier.weight",
    "classifier/bias": "classifier.bias",
}

# Buffers that older transformers wrote, not weights.
BUFFERS = (
    r"(?:\w+\.)?embeddings\.position_ids",
    r"(?:\w+\.)?embeddings\.token_type_ids",
)


def repeated(block: Mapping[str, str], config: EncoderConfig) -> dict[str, str]:
    """A table for all blocks from the table of one, in which `{i}` is the block."""
    return {
        path.format(i=i): name.format(i=i)
        for i in range(config.num_layers)
        for path, name in block.items()
    }


def prefixed(prefix: str, table: Mapping[str, str]) -> dict[str, str]:
    """A table with `prefix` before every tensor's name."""
    return {path: prefix + name for path, name in table.items()}


def _encoder(config: EncoderConfig) -> dict[str, str]:
    return prefixed("bert.", EMBEDDINGS | repeated(BLOCK, config))


NAMES = FamilyNames(
    prefix="bert.",
    encoder=_encoder,
    poolers={"": prefixed("bert.", POOLER)},
    heads={"classification": CLASSIFIER},
    architectures={"": "BertModel", "classification": "BertForSequenceClassification"},
    ignored=BUFFERS,
    other_heads=(r"cls\..*", r"classifier\..*", r"qa_outputs\..*"),
)
