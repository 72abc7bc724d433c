"""Layer-wise learning rate decay: lower layers of the encoder learn more slowly."""

from __future__ import annotations

from typing import Any

from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.validation import check_number


def layer_rates(model: Any, decay: float) -> dict[str, float]:
    """Returns factors of the learning rate, smaller for lower layers.

    With n blocks, the factors are those of ELECTRA:

    - heads and poolers: 1;
    - block i, from 0 to n - 1: `decay ** (n + 1 - i)`, so the last block has `decay ** 2`;
    - embeddings, and tables that all blocks share: `decay ** (n + 2)`.

    ELECTRA gives embeddings the depth 0, block i the depth i + 1 and heads the depth n + 2. It has
    no layer at depth n + 1. A block that an encoder applies several times (ALBERT) has the factor
    of its last use. A norm after the last block has the factor 1.

    Args:
        model: Task, HeadedModel or Encoder. Call `freeze` and `add_lora` before.
        decay: float in [0, 1]. ELECTRA uses 0.8 for its base size, and 0.9 for large.

    Returns:
        dict, path of a trainable variable -> factor; the `rate_factors` of an optimizer.

    Raises:
        ConfigError: not a model with one encoder, or `decay` is out of range.

    Example:
        >>> import keras_bert_zoo as kbz
        >>> encoder = kbz.Encoder.from_preset("tests/assets/bert_gelu")
        >>> rates = layer_rates(encoder, 0.5)
        >>> len(encoder.blocks), rates["block_1/attention/query/kernel"]
        (2, 0.25)
        >>> rates["embeddings/token_table"]
        0.0625

    Source: arXiv 2003.10555, appendix B; google-research/electra, model/optimization.py,
    `_get_layer_lrs`.
    """
    encoder = getattr(model, "encoder", model)
    if not isinstance(encoder, Encoder):
        raise ConfigError(
            f"Expected a task, a HeadedModel or an Encoder, received a {type(model).__name__}."
        )
    check_number("decay", decay, minimum=0, maximum=1)
    count = len(encoder.blocks)
    exponents: dict[int, int] = {}
    for layer in (encoder.embeddings, encoder.parts.context):
        if layer is not None:
            exponents |= {id(weight): count + 2 for weight in layer.weights}
    for i, block in enumerate(encoder.blocks):
        exponents |= {id(weight): count + 1 - i for weight in block.weights}
    rates: dict[str, float] = {}
    for weight in model.trainable_variables:
        rate = float(decay ** exponents.get(id(weight), 0))
        if rates.setdefault(weight.path, rate) != rate:
            raise ConfigError(
                f"Expected one encoder for a layer decay of {decay}, received a model with two, "
                f"which both have a variable {weight.path!r}: leave the layer decay out."
            )
    return rates
