"""The cost of a training step on paper: floating-point operations, and the measured peak.

Legend: L tokens of a row, T tokens and B rows of a batch, H hidden width, A width of all attention
heads together, P relative distances that occur in a batch, V vocabulary.

An operation is a multiplication or an addition, as in the data sheets of processors: a product of
matrices (m, k) and (k, n) has 2 m k n of them. Only products are counted. Look-ups, norms,
activations, dropout and the optimizer are few operations, and limited by memory.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.layers.token_layout import TOKEN_LAYOUTS
from keras_bert_zoo.training.model_shapes import OF_ALL_TOKENS, ModelShapes, model_shapes

__all__ = ["epoch_flops", "measured_peak", "training_flops"]


def training_flops(
    model: EncoderConfig | ModelShapes,
    lengths: Sequence[int] | np.ndarray,
    *,
    head: str | None = None,
    units: int | None = None,
    predicted: int = 0,
    token_layout: str = "packed",
    gradient_checkpointing: bool = False,
    frozen_blocks: int = 0,
    frozen_embeddings: bool | None = None,
    training: bool = True,
) -> float:
    """Counts the floating-point operations of a training step on a batch.

    It counts the products of the embeddings' projection, of the blocks, of attention (scores and
    contexts), of the pooler and of the head. Embeddings are look-ups, without operations. A
    product costs the same again for the gradient of each of its operands: three times in all where
    everything is trained, four times with gradient checkpointing. A frozen layer has no gradient of
    its weights, and a frozen layer below all trained ones has none at all.

    With the packed layout, attention costs L squared per row. With the padded layout, every row
    costs as much as the longest. Local attention (ModernBERT) costs as much as global attention,
    because its scores are computed and then masked.

    Args:
        model: EncoderConfig of any family, or ModelShapes, with the frozen weights in it.
        lengths: int (B,). The number of tokens of each row.
        head: str. One of `heads.kinds.HEADS`; None: the encoder alone. Only for a config.
        units: int. Number of labels, for the heads that have labels. Only for a config.
        predicted: int. Number of tokens in the batch that a masked language model predicts.
        token_layout: "packed" or "padded".
        gradient_checkpointing: bool. Whether blocks are computed again for the gradient.
        frozen_blocks: int. See `Encoder.freeze`. Only for a config.
        frozen_embeddings: bool. Whether the embeddings are frozen; None: if blocks are. Only for a
            config.
        training: bool. Whether to count the gradients.

    Returns:
        float. Additions and multiplications.

    Raises:
        ConfigError: unknown head or layout.

    Source: arXiv 2001.08361, section 2.1; arXiv 2205.05198, appendix A, for the recomputation.

    Example:
        >>> from keras_bert_zoo import EncoderConfig
        >>> bert_base = EncoderConfig()
        >>> step = training_flops(bert_base, [128] * 256, head="masked_lm", predicted=20 * 256)
        >>> round(step / 1e12, 1)
        17.9
    """
    if isinstance(model, EncoderConfig):
        model = model_shapes(
            model,
            head=head,
            units=units,
            frozen_blocks=frozen_blocks,
            frozen_embeddings=frozen_embeddings,
        )
    if token_layout not in TOKEN_LAYOUTS:
        known = ", ".join(TOKEN_LAYOUTS)
        raise ConfigError(
            f"Expected `token_layout` to be one of {known}, received {token_layout!r}."
        )
    batch = _Batch.of(lengths, predicted, padded=token_layout == "padded")
    models = [model] if model.generator is None else [model, model.generator]
    return sum(_Count(one, batch, gradient_checkpointing, training).total() for one in models)


def epoch_flops(
    model: ModelShapes,
    lengths: np.ndarray,
    widths: np.ndarray,
    batches: Mapping[int, int],
    *,
    predicted: int = 0,
    gradient_checkpointing: bool = False,
) -> float:
    """Counts the operations of an epoch.

    All batches of one width are counted together. DeBERTa projects its table of distances in each
    batch; the table is as long as the batch is wide.

    Args:
        model: ModelShapes.
        lengths: int (R,). The number of tokens of each row that are computed.
        widths: int (R,). The width of the batch of each row.
        batches: width -> number of batches.
        predicted: int. Tokens of the epoch that a masked language model predicts.
        gradient_checkpointing: bool.

    Returns:
        float. Additions and multiplications.

    Example:
        >>> from keras_bert_zoo import EncoderConfig
        >>> model = model_shapes(EncoderConfig())
        >>> lengths = np.array([5, 7, 9])  # a batch of two rows and one of one
        >>> flops = epoch_flops(model, lengths, np.array([7, 7, 9]), {7: 1, 9: 1})
        >>> flops == training_flops(model, [5, 7]) + training_flops(model, [9])
        True
    """
    count = functools.partial(training_flops, model, gradient_checkpointing=gradient_checkpointing)
    flops = count([], predicted=predicted) - count([])  # an empty batch has a table, too
    for width, number in batches.items():
        flops += count(lengths[widths == width])
        if number > 1:
            # Two rows in two batches have two tables; in one batch, they share one.
            flops += (number - 1) * (2 * count([width]) - count([width, width]))
    return flops


@dataclass(frozen=True)
class _Batch:
    rows: int
    tokens: int
    pairs: int  # sum of L * L
    columns: int
    predicted: int

    @classmethod
    def of(cls, lengths: Any, predicted: int, *, padded: bool) -> _Batch:
        lengths = np.asarray(lengths, np.int64).reshape(-1)
        rows, columns = len(lengths), int(lengths.max(initial=0))
        if padded:
            return cls(rows, rows * columns, rows * columns**2, columns, predicted)
        return cls(rows, int(lengths.sum()), int((lengths**2).sum()), columns, predicted)


class _Count:
    """Sums the products of a step, and follows which tensors have gradients."""

    def __init__(
        self, model: ModelShapes, batch: _Batch, checkpointing: bool, training: bool
    ) -> None:
        self.model = model
        self.batch = batch
        self.checkpointing = checkpointing
        self.training = training
        self.flops = 0.0
        self.again = 0.0  # the forward products of the current block

    def total(self) -> float:
        model, batch = self.model, self.batch
        embeddings = [path for path in model.shapes if path.startswith("embeddings/")]
        gradient = model.is_trained(path for path in embeddings if path.endswith("_table"))
        if "embeddings/projection/kernel" in model.shapes:
            self.affine("embeddings/projection", batch.tokens, gradient)
        gradient = model.is_trained(embeddings)
        names = model.blocks()
        for i, name in enumerate(names):
            gradient = self.block(name, gradient, model.first_token_only and i == len(names) - 1)
        gradient = gradient or self.is_trained("final_norm/")
        if "pooler/dense/kernel" in model.shapes:
            self.affine("pooler/dense", batch.rows, gradient)
            gradient = gradient or self.is_trained("pooler/")
        self.head(gradient)
        return self.flops

    def is_trained(self, prefix: str) -> bool:
        """Whether any variable below this path is trained."""
        model = self.model
        return model.is_trained(path for path in model.shapes if path.startswith(prefix))

    def product(self, m: int, k: int, n: int, *gradients: bool) -> None:
        """Counts a product; `gradients`: which of its operands have gradients."""
        forward = 2.0 * m * k * n
        self.again += forward
        self.flops += forward * (1 + (sum(gradients) if self.training else 0))

    def affine(self, path: str, rows: int, gradient: bool) -> bool:
        """Counts a dense layer on some rows; returns whether its output has a gradient."""
        model = self.model
        k, n = model.shapes[f"{path}/kernel"][-2:]
        if len(model.shapes[f"{path}/kernel"]) == 3:  # a convolution: one product with neighbours
            k *= model.shapes[f"{path}/kernel"][0]
        trained = f"{path}/kernel" not in model.frozen
        self.product(rows, k, n, gradient, trained)
        if f"{path}/lora_a" in model.shapes:
            rank = model.shapes[f"{path}/lora_a"][1]
            a, b = (f"{path}/{name}" not in model.frozen for name in ("lora_a", "lora_b"))
            self.product(rows, k, rank, gradient, a)
            self.product(rows, rank, n, gradient or a, b)
        return gradient or self.is_trained(f"{path}/")

    def block(self, name: str, gradient: bool, first_only: bool) -> bool:
        """Counts a block; returns whether its output has a gradient."""
        self.again = 0.0
        model, batch = self.model, self.batch
        layers = [
            path.removesuffix("/kernel")
            for path in model.of_block(name)
            if path.endswith("/kernel")
        ]
        if "convolution" in layers:
            first_only = False
        inside = self.bottlenecks(name, layers, gradient)
        norm_first = any(path.startswith("feed_forward_norm/") for path in model.of_block(name))
        if norm_first:  # the norm is between the input and the projection
            inside = inside or self.is_trained(f"{name}/attention_norm/")
        context = self.attention(name, layers, gradient, inside, first_only)
        rows = batch.rows if first_only else batch.tokens
        rest = context or gradient or inside
        for layer in layers:
            if layer.startswith(("attention/", "input_bottleneck", "query_key_bottleneck")):
                continue
            if layer == "attention_output":
                rest = self.affine(f"{name}/{layer}", rows, context) or rest
                rest = rest or self.is_trained(f"{name}/attention_norm/")
            elif layer == "convolution":
                self.affine(f"{name}/{layer}", rows, gradient)
            else:
                before = self.again
                rest = self.affine(f"{name}/{layer}", rows, rest) or rest
                if norm_first and layer == "feed_forward/contraction":
                    # The residual sum ends the block: no gradient depends on this output.
                    self.again = before
        gradient = rest or self.is_trained(f"{name}/")
        if self.training and self.checkpointing and gradient:
            self.flops += self.again
        return gradient

    def bottlenecks(self, name: str, layers: Sequence[str], gradient: bool) -> bool:
        """Counts the products before MobileBERT's attention, on all tokens."""
        config: Any = self.model.config
        inside = gradient
        for layer in layers:
            unused = layer.startswith("query_key") and config.use_bottleneck_attention
            if layer.startswith(("input_bottleneck", "query_key_bottleneck")) and not unused:
                self.affine(f"{name}/{layer}", self.batch.tokens, gradient)
                inside = inside or self.is_trained(f"{name}/{layer.partition('/')[0]}/")
        return inside

    def attention(
        self, name: str, layers: Sequence[str], gradient: bool, inside: bool, first_only: bool
    ) -> bool:
        """Counts projections, scores and contexts; returns whether contexts have a gradient."""
        model, batch = self.model, self.batch
        config: Any = model.config
        has = {}
        for layer in layers:
            part = layer.removeprefix("attention/")
            if part == layer or part.startswith("position_"):
                continue
            first = first_only and part not in OF_ALL_TOKENS
            wide = "input_bottleneck/dense" in layers and part == "value"
            reads_x = wide and not config.use_bottleneck_attention
            rows = batch.rows if first else batch.tokens
            has[part] = self.affine(f"{name}/{layer}", rows, gradient if reads_x else inside)
        query, key, value = (has.get(part, has.get("projection", False)) for part in (
            "query", "key", "value"
        ))  # fmt: skip
        pairs = batch.tokens if first_only else batch.pairs
        queries = batch.rows if first_only else batch.tokens
        width = config.attention_dim
        scores = query or key
        self.product(pairs, width, 1, query, key)
        if "relative_positions/table" in model.shapes:  # MPNet
            scores = scores or self.is_trained("relative_positions/")
        if getattr(config, "relative_attention", False):  # DeBERTa
            scores = self.distances(name, queries, query, key) or scores
        self.product(pairs, width, 1, scores, value)
        return scores or value

    def distances(self, name: str, queries: int, query: bool, key: bool) -> bool:
        """Counts the scores of relative distances; returns whether they have a gradient."""
        config: Any = self.model.config
        count = count_distances(config, self.batch.columns)
        table = self.is_trained("relative_distances/")
        any_gradient = False
        for kind, layer, tokens, other in (
            ("c2p", "key", queries, query),
            ("p2c", "query", self.batch.tokens, key),
        ):
            if kind not in config.position_attention:
                continue
            prefix = "" if config.share_attention_key else "position_"
            of_table = self.affine(f"{name}/attention/{prefix}{layer}", count, table)
            self.product(tokens, config.attention_dim, count, other, of_table)
            any_gradient = any_gradient or other or of_table
        return any_gradient

    def head(self, gradient: bool) -> None:
        """Counts the products of the head."""
        model, batch = self.model, self.batch
        if not model.head:
            return
        rows = {"pooled": batch.rows, "tokens": batch.tokens, "predicted": batch.predicted}
        layers = [
            path.removesuffix("/kernel")
            for path in model.shapes
            if path.startswith(f"{model.head}/") and path.endswith("/kernel")
        ]
        # The transform is applied before the layer of the logits.
        for layer in sorted(layers, key=lambda layer: not layer.endswith("/transform")):
            self.affine(layer, rows[model.reads], gradient)
            gradient = gradient or self.is_trained(f"{model.head}/")
        extra = f"{model.head}/extra_table"
        for path in [extra] if extra in model.shapes else []:
            k, n = model.shapes[path]
            self.product(rows[model.reads], k, n, gradient, path not in model.frozen)
        if model.tied:
            table = "embeddings/token_table"
            n, k = model.shapes[table]
            self.product(rows[model.reads], k, n, gradient, table not in model.frozen)


def count_distances(config: Any, columns: int) -> int:
    """Returns P for rows of at most `columns` tokens; see `layers.disentangled_attention`."""
    buckets, limit = config.position_buckets, config.distance_limit
    span = buckets if buckets > 0 else limit
    farthest = max(columns - 1, 0)
    middle = buckets // 2
    if buckets > 0 and limit > 0 and farthest > middle:
        ratio = math.log(farthest / middle) / math.log((limit - 1) / middle)
        farthest = math.ceil(ratio * (middle - 1)) + middle
    return min(2 * span - 1, span + farthest) - max(0, span - farthest) + 1


@functools.cache
def measured_peak(dtype: str = "float32") -> float:
    """Measures how many floating-point operations a second this device does in large products.

    The first call of a process takes about a second. It is the peak that steps can be compared
    with. GPUs compute float32 products in TF32, if TensorFlow may (its default).

    Args:
        dtype: str. A dtype or a Keras dtype policy, such as "mixed_bfloat16".

    Returns:
        float. Operations a second, on the first GPU or, without GPUs, on all cores of the CPU.

    Raises:
        ConfigError: a dtype that is not float32, bfloat16 or float16.

    Example:
        >>> measured_peak("float32") > 1e9
        True
    """
    name = dtype.removeprefix("mixed_")
    if name not in ("float32", "bfloat16", "float16"):
        raise ConfigError(
            f"Expected `dtype` to be float32, bfloat16 or float16, received {dtype!r}."
        )
    size, best = 512, 0.0
    end = time.perf_counter() + 1.0
    while True:
        seconds = _seconds_of_product(size, name)
        best = max(best, 2.0 * size**3 / seconds)
        if time.perf_counter() + 2 * seconds > end:
            return best
        if seconds < 0.02 and size < 8192:
            size *= 2


def _seconds_of_product(size: int, dtype: str) -> float:
    """Measures a product of square matrices, without the time of starting it."""
    product = _products(dtype)
    x = tf.ones([size, size], dtype)
    float(product(x))  # the first call allocates memory and compiles kernels
    begin = time.perf_counter()
    float(product(x))
    return (time.perf_counter() - begin) / _CHAINED


_CHAINED = 4


@functools.cache
def _products(dtype: str) -> Callable[[tf.Tensor], tf.Tensor]:
    @tf.function(reduce_retracing=True)
    def product(x: tf.Tensor) -> tf.Tensor:
        y = x
        for _ in range(_CHAINED):
            y = tf.matmul(y, x) * tf.cast(1 / 8192, dtype)
        return tf.cast(y[0, 0], tf.float32)

    return product
