"""The kinds of heads, with the layer and the input of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.encoders import shapes
from keras_bert_zoo.encoders.encoder import Encoder
from keras_bert_zoo.encoders.registry import encoder_class
from keras_bert_zoo.encoders.shapes import Shapes
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.heads.classifier import ClassificationHead
from keras_bert_zoo.heads.masked_lm import MaskedLMHead
from keras_bert_zoo.heads.replaced_token import ReplacedTokenHead
from keras_bert_zoo.heads.token_classifier import TokenClassificationHead
from keras_bert_zoo.layers.scopes import root_scope


@dataclass(frozen=True, kw_only=True)
class HeadKind:
    """Properties of a head that are the same on every encoder.

    Attributes:
        layer: class of the head.
        name: str. Name of the layer. The paths of its variables start with it.
        pooled: bool. Whether it reads the pooled output; otherwise it reads the tokens' states.
        units: int or None. Number of logits. None: one per label.
        labelled: bool. Whether transformers takes the number of logits from the number of labels.
    """

    layer: type[keras.layers.Layer]
    name: str
    pooled: bool = False
    units: int | None = None
    labelled: bool = False


HEADS: dict[str, HeadKind] = {
    "classification": HeadKind(
        layer=ClassificationHead, name="classifier", pooled=True, labelled=True
    ),
    "token_classification": HeadKind(
        layer=TokenClassificationHead, name="token_classifier", labelled=True
    ),
    "question_answering": HeadKind(
        layer=TokenClassificationHead, name="span", units=2, labelled=True
    ),
    "multiple_choice": HeadKind(
        layer=ClassificationHead, name="multiple_choice", pooled=True, units=1
    ),
    "next_sentence": HeadKind(layer=ClassificationHead, name="next_sentence", pooled=True, units=2),
    "sentence_order": HeadKind(
        layer=ClassificationHead, name="next_sentence", pooled=True, units=2, labelled=True
    ),
    "masked_lm": HeadKind(layer=MaskedLMHead, name="masked_lm"),
    "replaced_token_detection": HeadKind(layer=ReplacedTokenHead, name="replaced_token", units=1),
}
"""Kind -> HeadKind, for all heads."""


def head_kind(kind: str) -> HeadKind:
    """Looks up a kind of head.

    Raises:
        ConfigError: unknown kind; the message lists the known ones.
    """
    if kind not in HEADS:
        raise ConfigError(f"Expected the head to be one of {', '.join(HEADS)}, received {kind!r}.")
    return HEADS[kind]


def make_head(kind: str, encoder: Encoder, units: int | None = None) -> keras.layers.Layer:
    """Builds a head with fresh weights for an encoder.

    Args:
        kind: str. One of `HEADS`.
        encoder: Encoder whose output it reads. A tied masked_lm head uses its token embedding.
        units: int. Number of labels, only for the kinds whose `units` are None.

    Returns:
        Keras layer of the kind's class, built.

    Raises:
        ConfigError: unknown kind; `units` is missing or wrong; or the head needs a pooler, and
            the encoder has none.
    """
    spec = head_kind(kind)
    options: dict[str, Any] = encoder.head_options(kind)
    if spec.pooled and not encoder.has_pooler:
        raise ConfigError(f"Expected an encoder with `pooler=True` for {kind}, received False.")
    source = encoder.output["pooled_output" if spec.pooled else "sequence_output"]
    policy = encoder.embeddings.dtype_policy
    if kind == "masked_lm":
        if units is not None:
            raise ConfigError(f"Expected no `units` for a masked_lm head, received {units!r}.")
        tied = options.pop("tied")
        options.pop("dropout")
        head = spec.layer(
            encoder.config.vocabulary_size,
            embeddings=encoder.embeddings if tied else None,
            dtype=policy,
            name=spec.name,
            **options,
        )
    else:
        count = spec.units if units is None else units
        if count is None or count < 1 or spec.units not in (None, count):
            expected = "a positive integer" if spec.units is None else str(spec.units)
            raise ConfigError(
                f"Expected `units` of the head {kind} to be {expected}, received {units!r}."
            )
        head = spec.layer(count, transform_dtype=policy, name=spec.name, **options)
    with root_scope():
        head.build((None, source.shape[-1]))
    return head


def head_shapes(config: EncoderConfig, kind: str, units: int | None = None) -> Shapes:
    """Returns the shapes of the variables of a head.

    Args:
        config: EncoderConfig of the encoder.
        kind: str. One of `HEADS`.
        units: int. See `make_head`.

    Returns:
        dict, variable path -> shape.

    Raises:
        ConfigError: unknown kind.

    Example:
        >>> head_shapes(EncoderConfig(), "classification", 3)
        {'classifier/kernel': (768, 3), 'classifier/bias': (3,)}
    """
    head = head_kind(kind)
    options = encoder_class(config.family).options_for_head(config, kind)
    result: Shapes = {}
    width = config.hidden_dim
    transform_units = options["transform_units"]
    if transform_units is not None:
        path = f"{head.name}/transform"
        result |= shapes.dense(path, width, transform_units, bias=options["transform_bias"])
        width = transform_units
    if options["norm_epsilon"] is not None:
        result |= shapes.norm(f"{head.name}/norm", width, bias=options["norm_bias"])
    if kind != "masked_lm":
        return result | shapes.dense(head.name, width, units or head.units or 1)
    rows, extra = config.vocabulary_size, options["extra_units"]
    if not options["tied"]:
        result[f"{head.name}/decoder/kernel"] = (width - (extra or 0), rows)
    if extra is not None:
        result[f"{head.name}/extra_table"] = (extra, rows)
    if options["decoder_bias"]:
        result[f"{head.name}/bias"] = (rows,)
    return result
