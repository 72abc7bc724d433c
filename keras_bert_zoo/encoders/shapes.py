"""Shapes of an encoder's variables, computed from its configuration alone.

A config.json of a few hundred bytes may describe a model that does not fit into memory. Loading
compares these shapes with the checkpoint before it builds the model.

Each family returns its shapes from `Encoder.weight_shapes`. A test compares them with the
variables of the layers.
"""

from __future__ import annotations

from collections.abc import Iterable

from keras_bert_zoo.config import EncoderConfig

Shapes = dict[str, tuple[int, ...]]
"""Variable path -> shape."""


def dense(path: str, inputs: int, units: int, *, bias: bool = True) -> Shapes:
    """Returns the shapes of a dense layer.

    >>> dense("pooler/dense", 4, 2)
    {'pooler/dense/kernel': (4, 2), 'pooler/dense/bias': (2,)}
    """
    shapes: Shapes = {f"{path}/kernel": (inputs, units)}
    return shapes | ({f"{path}/bias": (units,)} if bias else {})


def norm(path: str, width: int, *, bias: bool = True) -> Shapes:
    """Returns the shapes of a LayerNorm.

    >>> norm("final_norm", 4, bias=False)
    {'final_norm/gamma': (4,)}
    """
    shapes: Shapes = {f"{path}/gamma": (width,)}
    return shapes | ({f"{path}/beta": (width,)} if bias else {})


def attention(inputs: int, value_inputs: int, width: int) -> Shapes:
    """Returns the shapes of self-attention with its output layer and norm.

    >>> attention(8, 8, 4)["attention/query/kernel"]
    (8, 4)
    """
    shapes = dense("attention/query", inputs, width) | dense("attention/key", inputs, width)
    shapes |= dense("attention/value", value_inputs, width)
    return shapes | dense("attention_output", width, width) | norm("attention_norm", width)


def feed_forward(prefix: str, width: int, intermediate: int) -> Shapes:
    """Returns the shapes of a feed-forward part with its norm.

    >>> feed_forward("", 4, 8)["intermediate/kernel"]
    (4, 8)
    """
    shapes = dense(f"{prefix}intermediate", width, intermediate)
    shapes |= dense(f"{prefix}output_dense", intermediate, width)
    return shapes | norm(f"{prefix}output_norm", width)


def embeddings(
    config: EncoderConfig,
    *,
    width: int | None = None,
    positions: bool = True,
    projected: bool | None = None,
) -> Shapes:
    """Returns the shapes of `layers.embeddings.Embeddings`.

    Args:
        config: EncoderConfig.
        width: int. Width of the tables. None: `hidden_dim`.
        positions: bool. Whether there is a table of positions.
        projected: bool. Whether a dense layer follows. None: if `width` is not `hidden_dim`.

    Returns:
        Shapes.

    Example:
    >>> embeddings(EncoderConfig())["embeddings/token_table"]
    (30522, 768)
    """
    width = width or config.hidden_dim
    shapes: Shapes = {"embeddings/token_table": (config.vocabulary_size, width)}
    if positions:
        shapes["embeddings/position_table"] = (config.max_sequence_length, width)
    if config.num_segments:
        shapes["embeddings/segment_table"] = (config.num_segments, width)
    if width != config.hidden_dim if projected is None else projected:
        shapes |= dense("embeddings/projection", width, config.hidden_dim)
    return shapes | norm("embeddings/norm", width)


def post_norm_block(config: EncoderConfig) -> Shapes:
    """Returns the shapes of `layers.encoder_block.EncoderBlock`.

    >>> post_norm_block(EncoderConfig())["attention_output/bias"]
    (768,)
    """
    width = config.hidden_dim
    return attention(width, width, width) | feed_forward("", width, config.intermediate_dim)


def blocks(names: Iterable[str], block: Shapes) -> Shapes:
    """Returns the shapes of equal blocks with these names.

    >>> blocks(["block_0", "block_1"], norm("norm", 4, bias=False))
    {'block_0/norm/gamma': (4,), 'block_1/norm/gamma': (4,)}
    """
    return {f"{name}/{path}": shape for name in names for path, shape in block.items()}


def numbered(config: EncoderConfig) -> list[str]:
    """Returns the names of the blocks of an encoder whose blocks share no weights.

    >>> numbered(EncoderConfig(num_layers=2))
    ['block_0', 'block_1']
    """
    return [f"block_{i}" for i in range(config.num_layers)]
