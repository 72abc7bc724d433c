"""Whether a checkpoint fits its config.json, told before a model of that size is built.

A config.json is a few hundred bytes that anybody can write: a thousand layers, or a vocabulary of
10 ** 12, would cost minutes and all memory before the first tensor is missed. So the shapes that
a model will have are computed from its configuration, as data, and compared with the file's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_bert_zoo.checkpoints.assign import assign_tensors
from keras_bert_zoo.checkpoints.source import TensorInfo, TensorSource
from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.heads.kinds import HEADS

Shapes = dict[str, tuple[int, ...]]

# Families whose classifiers on tokens have ModernBERT's prediction head before the last layer.
_TRANSFORMED = ("token_classification", "question_answering")


def check_fit(
    tensors: TensorSource,
    shapes: Mapping[str, tuple[int, ...]],
    names: Mapping[str, str],
    *,
    allow_unread: Iterable[str] = (),
) -> None:
    """Raises what `assign_tensors` would of variables of these shapes, and reads nothing.

    Args:
        tensors: an open checkpoint.
        shapes: variable path -> shape.
        names: see `assign_tensors`.
        allow_unread: see `assign_tensors`.

    Raises:
        CheckpointError: listing all tensors that are missing, unexpected or misshapen.
    """
    variables: Any = [_Expected(path, shape) for path, shape in shapes.items()]
    assign_tensors(_Unread(tensors), variables, names, allow_unread=allow_unread)


@dataclass(frozen=True)
class _Expected:
    """A variable that is not there yet."""

    path: str
    shape: tuple[int, ...]

    def assign(self, value: Any) -> None:
        """Drops what a file holds for it."""


class _Unread(TensorSource):
    """Tensors whose names, shapes and dtypes are told, and whose data stays in the file."""

    def __init__(self, tensors: TensorSource) -> None:
        infos = {name: TensorInfo((), tensors.dtype(name)) for name in tensors.names()}
        super().__init__(tensors.path, infos)
        self._tensors = tensors

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensors.shape(name)

    def read_into(self, name: str, out: np.ndarray) -> None:
        pass

    def _read(self, stored: str) -> np.ndarray:
        raise NotImplementedError


def encoder_shapes(config: EncoderConfig) -> Shapes:
    """The shape of every variable of an encoder without its pooler, by path.

    Args:
        config: EncoderConfig, of any family.

    Returns:
        dict. As many entries as the config has layers: compare the layers' number first.
    """
    shapes = _embeddings(config) | _context(config)
    for name, index in _blocks(config):
        shapes |= {f"{name}/{path}": shape for path, shape in _block(config, index).items()}
    if config.family == "modernbert":
        shapes |= _norm("final_norm", config.hidden_dim, bias=_has(config, "norm_bias"))
    return shapes


def pooler_shapes(config: EncoderConfig, pooled_for: str = "") -> Shapes:
    """The shape of every variable of an encoder's pooler, by path.

    Args:
        config: EncoderConfig.
        pooled_for: str. See `Encoder`.

    Returns:
        dict. Empty if the pooler has no weights.
    """
    if not config.pooler_is_learned(pooled_for):
        return {}
    width = config.hidden_dim
    if config.family != "modernbert":
        return _dense("pooler/dense", width, width)
    return _dense("pooler/dense", width, width, bias=_has(config, "classifier_bias")) | _norm(
        "pooler/norm", width, bias=_has(config, "norm_bias")
    )


def head_shapes(config: EncoderConfig, kind: str, units: int | None = None) -> Shapes:
    """The shape of every variable of a head, by path.

    Args:
        config: EncoderConfig.
        kind: str. One of `HEADS`.
        units: int. See `make_head`.

    Returns:
        dict.
    """
    found, width = HEADS[kind], config.hidden_dim
    if kind == "masked_lm":
        return _masked_lm(config)
    shapes: Shapes = {}
    if config.family == "modernbert" and kind in _TRANSFORMED:
        shapes |= _prediction_head(config, found.name, width)
    elif kind == "replaced_token_detection":
        shapes |= _dense(f"{found.name}/transform", width, width)
    return shapes | _dense(found.name, width, units or found.units or 1)


def _masked_lm(config: EncoderConfig) -> Shapes:
    width, rows = config.hidden_dim, config.vocabulary_size
    narrow = config.family in ("albert", "electra", "roformer") or _has(config, "legacy")
    units = _table_width(config) if narrow else width
    decoder_width = _table_width(config) if config.family == "mobilebert" else units
    if config.family == "modernbert":
        shapes = _prediction_head(config, "masked_lm", width)
    else:
        shapes = _dense("masked_lm/transform", width, units) | _norm("masked_lm/norm", units)
    # DeBERTa's second head has no decoder but the token embedding.
    if not config.tie_word_embeddings and getattr(config, "legacy", True):
        shapes["masked_lm/decoder/kernel"] = (decoder_width, rows)
    if config.family == "mobilebert":
        shapes["masked_lm/extra_table"] = (width - decoder_width, rows)
    if getattr(config, "decoder_bias", True):
        shapes["masked_lm/bias"] = (rows,)
    return shapes


def _prediction_head(config: EncoderConfig, name: str, width: int) -> Shapes:
    """ModernBERT's dense layer and norm before a last layer."""
    return _dense(f"{name}/transform", width, width, bias=_has(config, "classifier_bias")) | _norm(
        f"{name}/norm", width, bias=_has(config, "norm_bias")
    )


def _embeddings(config: EncoderConfig) -> Shapes:
    hidden, narrow = config.hidden_dim, _table_width(config)
    mobile, modern = config.family == "mobilebert", config.family == "modernbert"
    # MobileBERT's positions and segments are added behind the projection.
    width = hidden if mobile else narrow
    shapes: Shapes = {"embeddings/token_table": (config.vocabulary_size, narrow)}
    no_positions = config.family in ("roformer", "modernbert")
    if not no_positions and getattr(config, "position_biased_input", True):
        shapes["embeddings/position_table"] = (config.max_sequence_length, width)
    if config.num_segments and not modern:
        shapes["embeddings/segment_table"] = (config.num_segments, width)
    if _has(config, "has_task_types"):
        shapes["embeddings/task_table"] = (_number(config, "num_task_types"), width)
    if mobile:
        columns = 3 * narrow if _has(config, "trigram_input") else narrow
        shapes |= _dense("embeddings/projection", columns, hidden)
    elif config.family == "albert" or narrow != hidden:
        bias = config.family != "deberta-v2"
        shapes |= _dense("embeddings/projection", narrow, hidden, bias=bias)
    behind = config.family in ("mobilebert", "deberta-v2")  # the norm stands behind the projection
    norm_bias = _has(config, "norm_bias") if modern else True
    return shapes | _norm("embeddings/norm", hidden if behind else narrow, bias=norm_bias)


def _context(config: EncoderConfig) -> Shapes:
    """What all blocks share."""
    if config.family == "mpnet":
        return {"relative_positions/table": (_number(config, "relative_buckets"), config.num_heads)}
    if config.family == "roformer":
        return {"sinusoids/table": (config.max_sequence_length, config.head_dim)}
    if not _has(config, "relative_attention"):
        return {}
    buckets = _number(config, "position_buckets")
    span = buckets if buckets > 0 else _number(config, "distance_limit")
    shapes: Shapes = {"relative_distances/table": (2 * span, config.hidden_dim)}
    if _has(config, "normalize_distances"):
        shapes |= _norm("relative_distances/norm", config.hidden_dim)
    return shapes


def _blocks(config: EncoderConfig) -> list[tuple[str, int]]:
    """The names of the blocks that have weights, and their places."""
    if config.family != "albert":
        return [(f"block_{i}", i) for i in range(config.num_layers)]
    groups, inner = _number(config, "num_groups"), _number(config, "blocks_per_group")
    return [(f"group_{i}_block_{j}", j) for i in range(groups) for j in range(inner)]


def _block(config: EncoderConfig, index: int) -> Shapes:
    if config.family == "modernbert":
        return _pre_norm_block(config, index)
    if config.family == "mobilebert":
        return _bottleneck_block(config)
    width = config.hidden_dim
    shapes = _attention(width, width, width)
    shapes |= _feed_forward("", width, config.intermediate_dim)
    if _has(config, "relative_attention") and not _has(config, "share_attention_key"):
        for kind, name in (("c2p", "position_key"), ("p2c", "position_query")):
            if kind in getattr(config, "position_attention", ()):
                shapes |= _dense(f"attention/{name}", width, width)
    convolved = getattr(config, "conv_kernel_size", 0)
    if convolved and index == 0:
        inputs = width // _number(config, "conv_groups")
        shapes["convolution/kernel"] = (convolved, inputs, width)
        shapes["convolution/bias"] = (width,)
        shapes |= _norm("convolution/norm", width)
    return shapes


def _pre_norm_block(config: EncoderConfig, index: int) -> Shapes:
    """ModernBERT's; the first has no norm before its attention."""
    width, inner = config.hidden_dim, config.intermediate_dim
    attention, feed_forward, norm = (
        _has(config, f"{part}_bias") for part in ("attention", "feed_forward", "norm")
    )
    shapes = _dense("attention/projection", width, 3 * width, bias=attention)
    shapes |= _dense("attention_output", width, width, bias=attention)
    shapes |= _dense("feed_forward/expansion", width, 2 * inner, bias=feed_forward)
    shapes |= _dense("feed_forward/contraction", inner, width, bias=feed_forward)
    shapes |= _norm("feed_forward_norm", width, bias=norm)
    return shapes | (_norm("attention_norm", width, bias=norm) if index else {})


def _bottleneck_block(config: EncoderConfig) -> Shapes:
    """MobileBERT's; its narrow layers are `attention_dim` wide."""
    hidden, width = config.hidden_dim, config.attention_dim
    narrow = _has(config, "use_bottleneck") and _has(config, "use_bottleneck_attention")
    shared = _has(config, "use_bottleneck") and _has(config, "key_query_shared_bottleneck")
    shapes = _attention(width if narrow or shared else hidden, width if narrow else hidden, width)
    for name in [f"feed_forward_{i}/" for i in range(_number(config, "num_feedforward") - 1)]:
        shapes |= _feed_forward(name, width, config.intermediate_dim)
    shapes |= _feed_forward("feed_forward/", width, config.intermediate_dim)
    sides = [("input_bottleneck", hidden, width), ("output_bottleneck", width, hidden)]
    if shared:
        sides.append(("query_key_bottleneck", hidden, width))
    for name, inputs, units in sides if _has(config, "use_bottleneck") else []:
        shapes |= _dense(f"{name}/dense", inputs, units) | _norm(f"{name}/norm", units)
    return shapes


def _attention(inputs: int, value_inputs: int, width: int) -> Shapes:
    shapes = _dense("attention/query", inputs, width) | _dense("attention/key", inputs, width)
    shapes |= _dense("attention/value", value_inputs, width)
    return shapes | _dense("attention_output", width, width) | _norm("attention_norm", width)


def _feed_forward(prefix: str, width: int, inner: int) -> Shapes:
    shapes = _dense(f"{prefix}intermediate", width, inner)
    shapes |= _dense(f"{prefix}output_dense", inner, width)
    return shapes | _norm(f"{prefix}output_norm", width)


def _dense(path: str, inputs: int, units: int, *, bias: bool = True) -> Shapes:
    shapes: Shapes = {f"{path}/kernel": (inputs, units)}
    return shapes | ({f"{path}/bias": (units,)} if bias else {})


def _norm(path: str, width: int, *, bias: bool = True) -> Shapes:
    shapes: Shapes = {f"{path}/gamma": (width,)}
    return shapes | ({f"{path}/beta": (width,)} if bias else {})


def _table_width(config: EncoderConfig) -> int:
    return getattr(config, "embedding_dim", None) or config.hidden_dim


def _has(config: EncoderConfig, flag: str) -> bool:
    """A flag that some families' configurations have."""
    return bool(getattr(config, flag, False))


def _number(config: EncoderConfig, field: str) -> int:
    """A field that the family's own configuration has."""
    value: int = getattr(config, field)
    return value
