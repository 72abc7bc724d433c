"""Names of variables here and of tensors in Hugging Face's BERT checkpoints, as data.

Each table maps our variable's path to their tensor's name, `{i}` being the block. It is read in
both directions. Hugging Face stores every matrix of a dense layer as (output, input): the
variables named `kernel` are transposed on the way.
"""

from __future__ import annotations

from collections.abc import Iterable

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

# BertForSequenceClassification's own tensors; they stand beside the encoder, not inside it.
CLASSIFIER = {
    "classifier/kernel": "classifier.weight",
    "classifier/bias": "classifier.bias",
}

# Where a model with a head keeps its encoder. A bare BertModel has no prefix.
ENCODER_PREFIX = "bert."

# Not weights: buffers that older transformers wrote.
IGNORED = (r"(bert\.)?embeddings\.position_ids", r"(bert\.)?embeddings\.token_type_ids")

# Heads of other tasks: left unread when only the encoder is asked for.
OTHER_HEADS = (r"cls\..*", r"classifier\..*", r"qa_outputs\..*")

# LayerNorm's tensors in checkpoints that Google's TF1 names reached unchanged.
LEGACY_SUFFIXES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def encoder_names(num_layers: int, *, pooler: bool = True) -> dict[str, str]:
    """Returns the whole table of a BERT encoder, without a prefix.

    Args:
        num_layers: int. Number of blocks.
        pooler: bool. Whether the encoder has a pooler.

    Returns:
        dict, variable path -> tensor name.
    """
    names = dict(EMBEDDINGS)
    for i in range(num_layers):
        names |= {ours.format(i=i): theirs.format(i=i) for ours, theirs in BLOCK.items()}
    return names | POOLER if pooler else names


def is_transposed(path: str) -> bool:
    """Whether a variable is stored as its transpose in Hugging Face's checkpoints."""
    return path.endswith("/kernel")


def normalize_names(names: Iterable[str]) -> dict[str, str]:
    """Maps current tensor names to the names found in a file, LayerNorm's older ones included."""
    normalized = {}
    for name in names:
        current = name
        for old, new in LEGACY_SUFFIXES.items():
            if name.endswith(old):
                current = name[: -len(old)] + new
        normalized[current] = name
    return normalized
