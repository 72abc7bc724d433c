"""Tests of functions that several layers of an export call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.layers.attention import SelfAttention
from keras_bert_zoo.layers.scopes import serving_scope
from keras_bert_zoo.layers.shared_functions import share
from keras_bert_zoo.layers.token_layout import TokenLayout


def called(concrete: Any) -> list[str]:
    """Returns the names of the functions that a concrete function calls, in its branches, too."""
    graph = concrete.graph.as_graph_def()
    bodies = [graph.node, *(function.node_def for function in graph.library.function)]
    calls = [node for body in bodies for node in body if node.op.endswith("PartitionedCall")]
    return [node.attr["f"].func.name for node in calls]


def scaled(values: dict[str, Any], factor: float) -> tf.Tensor:
    return values["x"] * factor


def scale_all(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    parts = [
        share(scaled, {"x": x, "unread": y}, 2.0)(),
        share(scaled, {"x": y, "unread": x}, 2.0)(),
        share(scaled, {"x": y, "unread": x}, 3.0)(),
        share(scaled, {"x": tf.stack([x, y]), "unread": y}, 2.0)(),
        tf.cond(x[0] > 0, share(scaled, {"x": x, "unread": y}, 2.0), lambda: x),
    ]
    return tf.concat([tf.reshape(part, [-1]) for part in parts], axis=0)


def test_calls_with_equal_bodies_share_a_function() -> None:
    x, y = tf.constant([1.0, 2.0]), tf.constant([3.0, 4.0])
    with serving_scope():
        run = tf.function(scale_all, autograph=False).get_concrete_function(x, y)
    np.testing.assert_array_equal(run(x, y), [2, 4, 6, 8, 9, 12, 2, 4, 6, 8, 2, 4])
    names = called(run)
    assert len(names) == 5
    assert len(set(names)) == 3  # two factors and two shapes
    inputs = [len(op.inputs) for op in run.graph.get_operations() if op.type == "PartitionedCall"]
    assert inputs == [1] * 4


def test_only_exports_share_functions() -> None:
    x = tf.constant([1.0, 2.0])
    assert not called(tf.function(scale_all, autograph=False).get_concrete_function(x, x))


def attend(
    layers: list[SelfAttention], ids: Any, mask: Any, x: tf.Tensor, *, first_token_only: bool
) -> tf.Tensor:
    layout = TokenLayout("packed", attention_groups=2)(ids, tf.zeros_like(ids), mask)
    tokens = tf.gather(x, layout["token_ids"])
    for layer in layers[:-1]:
        tokens += layer(tokens, layout)[0]
    last, _ = layers[-1](tokens, layout, first_token_only=first_token_only)
    return last if first_token_only else tf.gather(tokens + last, layout["unpack"][:, 0])


# With groups, and without padding. The others are one flat group: they call no shared function.
BATCHES = [(3, 80, False), (4, 50, True), (1, 9, True), (3, 9, False)]


@pytest.mark.parametrize(
    ("heads", "known", "first_token_only"),
    [
        ([2, 2], "nothing", False),
        ([2, 4, 4], "nothing", True),
        ([2, 2], "shape", True),
    ],
)
def test_layers_with_equal_attention_share_it(
    heads: list[int], known: str, first_token_only: bool
) -> None:
    layers = [
        SelfAttention(hidden_dim=8, num_heads=number, dropout=0.1, name=f"attention_{index}")
        for index, number in enumerate(heads)
    ]
    generator = np.random.default_rng(0)
    table = tf.constant(generator.normal(size=(30, 8)), tf.float32)

    def trace(*shape: int | None) -> Any:
        spec = tf.TensorSpec(shape, tf.int32)
        with serving_scope():
            graph = tf.function(attend, autograph=False).get_concrete_function(
                layers, spec, spec, table, first_token_only=first_token_only
            )
        names = [(number, part) for number in heads for part in ("groups", "full")]
        if first_token_only:
            names[-2:] = [(heads[-1], "groups of first tokens")]
        assert len(set(called(graph))) == len(set(names))
        return graph

    graph = trace(None, None) if known == "nothing" else None
    for rows, columns, full in BATCHES if graph else BATCHES[:2]:
        serve = graph or trace(rows, columns)
        lengths = [[columns // (1 if full else row + 1)] for row in range(rows)]
        mask = np.arange(columns) < np.array(lengths)
        ids = generator.integers(1, 30, (rows, columns)) * mask
        arrays = tf.constant(ids, tf.int32), tf.constant(mask, tf.int32)
        op_by_op = attend(layers, *arrays, table, first_token_only=first_token_only)
        np.testing.assert_allclose(serve(*arrays, table), op_by_op, atol=1e-6)


def test_a_function_that_reads_other_tensors_is_not_shared() -> None:
    variable = tf.Variable(5.0)

    @tf.function(autograph=False)
    def run(x: tf.Tensor) -> list[tf.Tensor]:
        local = [share(lambda x, n=n: n * x, tf.constant(1.0))() for n in (2 * x, 3 * x)]
        return [*local, share(lambda x: variable * x, x)()]

    with serving_scope():
        concrete = run.get_concrete_function(tf.constant(1.0))
    assert [float(y) for y in concrete(tf.constant(1.0))] == [2.0, 3.0, 5.0]
    assert not called(concrete)
