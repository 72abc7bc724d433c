"""Freezing the lower part of an encoder."""

from __future__ import annotations

from keras_bert_zoo.encoders.parts import Parts
from keras_bert_zoo.errors import ConfigError


def freeze_blocks(parts: Parts, blocks: int | None = None, *, embeddings: bool = True) -> None:
    """Freezes the lower part of an encoder; see `Encoder.freeze`.

    Args:
        parts: Parts of the encoder.
        blocks: int. Number of frozen blocks, from the bottom. None: the whole encoder.
        embeddings: bool. Whether the embeddings are frozen.

    Raises:
        ConfigError: `blocks` is out of range, or a frozen block shares weights with a trained one.
    """
    count = len(parts.blocks)
    whole = blocks is None
    frozen = count if blocks is None else blocks
    if isinstance(frozen, bool) or not isinstance(frozen, int) or not 0 <= frozen <= count:
        raise ConfigError(f"`blocks` must be between 0 and {count} or None, received {blocks!r}.")
    lower = {id(block) for block in parts.blocks[:frozen]}
    if any(id(block) in lower for block in parts.blocks[frozen:]):
        raise ConfigError(
            f"The first {frozen} blocks share weights with later ones: this encoder can be "
            "frozen as a whole (`freeze()`) or not at all."
        )
    for block in parts.blocks:
        block.trainable = id(block) not in lower
    parts.embeddings.trainable = not embeddings
    rest = (parts.context, parts.final, parts.pooler)
    for layer in rest:
        if layer is not None:
            layer.trainable = not whole
