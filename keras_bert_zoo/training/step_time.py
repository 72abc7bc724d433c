"""A model of the time of a training step: operations, sums over replicas, and input.

It has three terms. The operations of a step take their number over the peak of all replicas times a
measured share of it. The sum of the gradients takes the bytes that a replica sends over the speed
of its link. The input takes the rows of a batch over the rows that one worker prepares a second;
it runs at the same time as the rest. The model ignores the latency of the network and stragglers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.training.model_shapes import ModelShapes

__all__ = ["GRADIENT_BYTES", "StepTime", "all_reduce_bytes", "step_time"]

GRADIENT_BYTES = 4
"""Bytes of a number in a gradient: variables and gradients are float32 in all precisions."""

_TABLES = ("embeddings/token_table", "embeddings/position_table", "embeddings/segment_table")


@dataclass(frozen=True)
class StepTime:
    """The time of a training step, in seconds.

    Args:
        compute: float. Forward and backward pass.
        all_reduce: float. The sum of the gradients over the replicas, as far as it does not overlap
            with the backward pass.
        input: float. Preparing a batch, while the step before it runs.

    Example:
        >>> StepTime(compute=0.5, all_reduce=0.1, input=0.2).seconds
        0.6
    """

    compute: float
    all_reduce: float = 0.0
    input: float = 0.0

    @property
    def seconds(self) -> float:
        """The time of a step: input and computation run at the same time."""
        return max(self.compute + self.all_reduce, self.input)


def all_reduce_bytes(
    model: ModelShapes, replicas: int, tokens: int = 0, *, dense_tables: bool = False
) -> float:
    """Computes the bytes that each replica sends for the sum of the gradients of a step.

    A ring sends every dense gradient 2 (N - 1) / N times. The gradients of embeddings are the rows
    of the tokens. Each replica sends its rows to all others, N - 1 times. With a masked language
    model that shares the token embedding, its gradient is dense.

    Args:
        model: ModelShapes.
        replicas: int, N.
        tokens: int. Tokens of a batch on one replica.
        dense_tables: bool. Whether the gradients of embeddings are dense, as they are with
            accumulation.

    Returns:
        float, bytes. 0 with one replica.

    Source: Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of
    workstations" (2009).

    Example:
        >>> from keras_bert_zoo import EncoderConfig
        >>> from keras_bert_zoo.training.model_shapes import model_shapes
        >>> model = model_shapes(EncoderConfig(), head="masked_lm")
        >>> round(all_reduce_bytes(model, 8, tokens=4096) / 1e6)
        940
    """
    if replicas < 1:
        raise ConfigError(f"Expected `replicas` to be at least 1, received {replicas}.")
    dense, rows = 0, 0
    for path, shape in model.own.items():
        if path in model.frozen:
            continue
        of_rows = path in _TABLES and not (model.tied and path == _TABLES[0])
        if of_rows and not dense_tables:
            rows += tokens * shape[-1]
        else:
            dense += math.prod(shape)
    ring = 2 * (replicas - 1) / replicas
    sent = GRADIENT_BYTES * (ring * dense + (replicas - 1) * rows)
    if model.generator is None:
        return sent
    return sent + all_reduce_bytes(model.generator, replicas, tokens, dense_tables=dense_tables)


def step_time(
    flops: float,
    *,
    peak: float,
    share: float,
    replicas: int = 1,
    bytes_sent: float = 0.0,
    link: float = math.inf,
    overlap: float = 0.0,
    rows: int = 0,
    input_rate: float = math.inf,
) -> StepTime:
    """Predicts the time of a training step.

    Args:
        flops: float. Operations of the whole batch; see `training_flops`.
        peak: float. Operations a second of one replica.
        share: float in (0, 1]. The measured share of the peak that steps reach on one replica.
        replicas: int.
        bytes_sent: float. See `all_reduce_bytes`.
        link: float. Bytes a second that a replica sends.
        overlap: float in [0, 1]. Share of the sum of the gradients that runs during the backward
            pass. This package sums all gradients after it: 0.
        rows: int. Rows of the whole batch.
        input_rate: float. Rows a second that the input of the whole batch reaches.

    Returns:
        StepTime.

    Raises:
        ConfigError: a number is out of range.

    Example:
        >>> step = step_time(1e12, peak=1e14, share=0.4, replicas=2, bytes_sent=4e8, link=1e11)
        >>> round(step.compute, 4), round(step.all_reduce, 4), round(step.seconds, 4)
        (0.0125, 0.004, 0.0165)
    """
    for name, value, fits in (
        ("flops", flops, flops >= 0),
        ("peak", peak, peak > 0),
        ("share", share, 0 < share <= 1),
        ("replicas", replicas, replicas >= 1),
        ("bytes_sent", bytes_sent, bytes_sent >= 0),
        ("link", link, link > 0),
        ("overlap", overlap, 0 <= overlap <= 1),
        ("input_rate", input_rate, input_rate > 0),
    ):
        if not fits:
            raise ConfigError(f"`{name}` is out of range: received {value}.")
    return StepTime(
        compute=flops / (replicas * peak * share),
        all_reduce=(1 - overlap) * bytes_sent / link,
        input=rows / input_rate,
    )
