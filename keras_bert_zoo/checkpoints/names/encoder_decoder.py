"""The tensors of transformers' EncoderDecoderModel with a BERT as the decoder."""

from __future__ import annotations

from keras_bert_zoo.checkpoints.names import names_of
from keras_bert_zoo.checkpoints.names.bert import MASKED_LM, NAMES, prefixed, repeated
from keras_bert_zoo.config import EncoderConfig

ARCHITECTURE = "EncoderDecoderModel"
MODEL_TYPE = "encoder-decoder"

_CROSS = "bert.encoder.layer.{i}.crossattention."
_CROSS_ATTENTION = {
    f"block_{{i}}/cross_attention/{name}/{ours}": f"{_CROSS}self.{name}.{theirs}"
    for name in ("query", "key", "value")
    for ours, theirs in (("kernel", "weight"), ("bias", "bias"))
} | {
    "block_{i}/cross_output/kernel": f"{_CROSS}output.dense.weight",
    "block_{i}/cross_output/bias": f"{_CROSS}output.dense.bias",
    "block_{i}/cross_norm/gamma": f"{_CROSS}output.LayerNorm.weight",
    "block_{i}/cross_norm/beta": f"{_CROSS}output.LayerNorm.bias",
}
_PROJECTION = {
    "memory_projection/kernel": "enc_to_dec_proj.weight",
    "memory_projection/bias": "enc_to_dec_proj.bias",
}
# Copies of tied tensors, unused poolers, and buffers.
IGNORED = (
    r"decoder\.cls\.predictions\.decoder\.(weight|bias)",
    r"(encoder|decoder\.bert)\.pooler\..*",
    r"(encoder|decoder)\.(\w+\.)?embeddings\.(position_ids|token_type_ids)",
)


def encoder_names(config: EncoderConfig) -> dict[str, str]:
    """Returns a dict, variable path -> tensor name, for the encoder of a translator."""
    family = names_of(config)
    return prefixed("encoder.", family.in_file(family.encoder(config), ""))


def decoder_names(config: EncoderConfig, *, projected: bool) -> dict[str, str]:
    """Returns a dict, variable path -> tensor name, for a `TransformerDecoder` named "decoder".

    Args:
        config: EncoderConfig of the decoder.
        projected: bool. Whether the decoder has a `memory_projection`.
    """
    tied = {path: name for path, name in MASKED_LM.items() if "decoder" not in path}
    table = NAMES.encoder(config) | repeated(_CROSS_ATTENTION, config) | tied
    table = prefixed("decoder.", table) | (_PROJECTION if projected else {})
    return {f"decoder/{path}": name for path, name in table.items()}
