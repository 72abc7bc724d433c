"""Tests of functions that several layers call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.layers.attention import SelfAttention
from keras_bert_zoo.layers.shared_functions import share
from keras_bert_zoo.layers.token_layout import TokenLayout


def called(concrete: Any) -> list[str]:
    """Returns the names of the functions that a concrete function calls, in its branches, too."""
    graph = concrete.graph.as_graph_def()
    bodies = [graph.node, *(function.node_def for function in graph.library.function)]
    calls = [node for body in bodies for node in body if node.op.endswith("PartitionedCall")]
    return [node.attr["f"].func.name for node in calls]


def test_calls_with_one_key_share_a_function() -> None:
    calls = []

    def scale(values: dict[str, Any], factor: float) -> tf.Tensor:
        calls.append(factor)
        return values["x"] * factor

    @tf.function(autograph=False)
    def run(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        parts = [
            share("scale", scale, {"x": x, "unread": y}, 2.0)(),
            share("scale", scale, {"x": y, "unread": x}, 2.0)(),
            share("scale", scale, {"x": y, "unread": x}, 3.0)(),
            share("another key", scale, {"x": x, "unread": y}, 2.0)(),
            share("scale", scale, {"x": tf.stack([x, y]), "unread": y}, 2.0)(),
        ]
        return tf.concat([tf.reshape(part, [-1]) for part in parts], axis=0)

    x, y = tf.constant([1.0, 2.0]), tf.constant([3.0, 4.0])
    np.testing.assert_array_equal(run(x, y), [2, 4, 6, 8, 9, 12, 2, 4, 2, 4, 6, 8])
    names = called(run.get_concrete_function(x, y))
    assert names[0] == names[1]
    assert len(set(names)) == 4
    graph = run.get_concrete_function(x, y).graph
    inputs = [len(op.inputs) for op in graph.get_operations() if op.type == "PartitionedCall"]
    assert inputs == [1] * 5
    assert len(calls) == 2 * 4  # traced twice each


def attend(layers: list[SelfAttention], ids: Any, mask: Any, x: tf.Tensor) -> tf.Tensor:
    layout = TokenLayout("packed", attention_groups=3)(ids, tf.zeros_like(ids), mask)
    tokens = tf.gather(x, layout["token_ids"])
    for layer in layers:
        tokens += layer(tokens, layout)[0]
    return tf.gather(tokens, layout["unpack"][:, 0])


@pytest.mark.parametrize("equal", [True, False])
def test_layers_with_equal_configs_share_attention(equal: bool) -> None:
    layers = [
        SelfAttention(hidden_dim=8, num_heads=heads, dropout=0.1, name=f"attention_{index}")
        for index, heads in enumerate([2, 2, 2] if equal else [2, 4, 1])
    ]
    generator = np.random.default_rng(0)
    table = tf.constant(generator.normal(size=(30, 8)), tf.float32)
    graph = tf.function(attend, autograph=False).get_concrete_function(
        layers, tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None, None], tf.int32), table
    )
    # One with groups and one for batches without padding.
    assert len(set(called(graph))) == 2 * (1 if equal else 3)
    for rows, columns, full in ((3, 40, False), (4, 50, True), (1, 9, True)):
        lengths = [[columns]] * rows if full else [[columns // (row + 1)] for row in range(rows)]
        mask = np.arange(columns) < np.array(lengths)
        ids = generator.integers(1, 30, (rows, columns)) * mask
        arrays = tf.constant(ids, tf.int32), tf.constant(mask, tf.int32)
        expected = attend(layers, *arrays, table)  # op by op
        np.testing.assert_allclose(graph(*arrays, table), expected, atol=1e-6)


def test_gradients_pass_through_a_call() -> None:
    @tf.function(autograph=False)
    def gradient(x: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(share("square", tf.square, x)())
        return tape.gradient(y, x)

    np.testing.assert_array_equal(gradient(tf.constant([1.0, 2.0])), [2.0, 4.0])


def test_a_function_that_reads_other_tensors_is_not_shared() -> None:
    variable = tf.Variable(5.0)

    @tf.function(autograph=False)
    def run(x: tf.Tensor) -> list[tf.Tensor]:
        local = [share("key", lambda x, n=n: n * x, tf.constant(1.0))() for n in (2 * x, 3 * x)]
        return [*local, share("variable", lambda x: variable * x, x)()]

    assert [float(y) for y in run(tf.constant(1.0))] == [2.0, 3.0, 5.0]
    assert not called(run.get_concrete_function(tf.constant(1.0)))
