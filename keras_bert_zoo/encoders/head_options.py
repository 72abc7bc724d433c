"""The options of the heads of BERT."""

from __future__ import annotations

from typing import Any

__all__ = ["bert_head_options"]


def bert_head_options(config: Any, kind: str) -> dict[str, Any]:
    """Returns the options of a BERT head.

    Args:
        config: EncoderConfig, of the family.
        kind: str. The head: "classification", "token_classification", "question_answering",
            "multiple_choice", "next_sentence", "sentence_order", "masked_lm" or
            "replaced_token_detection".

    Returns:
        dict, arguments of the head's layer. For all heads:

        - `dropout`: float, before the last linear layer;
        - `transform_units`: int or None, width of a dense layer before the last one (None: no
          such layer), with `transform_activation`: str and `transform_bias`: bool;
        - `norm_epsilon`: float or None, of a LayerNorm after that dense layer (None: no
          LayerNorm), with `norm_bias`: bool;
        - `initializer_range`: float.

        For masked_lm also:

        - `tied`: bool, whether the last kernel is the token embedding. The width of the token
          embedding is then `transform_units` - `extra_units`;
        - `extra_units`: int or None, width of the part of the last kernel that is not in the
          token embedding (MobileBERT);
        - `decoder_bias`: bool, whether a bias is added to the logits.

    Source: Hugging Face's modeling_bert.py: BertLMPredictionHead and the Bert...For... classes.
    """
    rate = config.dropout if config.classifier_dropout is None else config.classifier_dropout
    has_dropout = kind in ("classification", "token_classification", "multiple_choice")
    options: dict[str, Any] = {
        "dropout": rate if has_dropout else 0.0,
        "transform_units": None,
        "transform_activation": config.activation,
        "transform_bias": True,
        "norm_epsilon": None,
        "norm_bias": True,
        "initializer_range": config.initializer_range,
    }
    if kind == "replaced_token_detection":
        options["transform_units"] = config.hidden_dim
    if kind == "masked_lm":
        options |= {
            "transform_units": config.hidden_dim,
            "norm_epsilon": config.layer_norm_epsilon,
            "tied": config.tie_word_embeddings,
            "extra_units": None,
            "decoder_bias": True,
        }
    return options
