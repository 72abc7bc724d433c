"""The exported graph is written in the forms that oneDNN fuses: count them."""

from collections import Counter

import tensorflow as tf
from tensorflow.python.eager import context

from tests.export.conftest import ATTENTION_GROUPS
from tests.helpers import executed_ops, onednn_is_on, run_with_onednn


def test_the_served_graph_is_fused(request):
    if not onednn_is_on():
        run_with_onednn(f"{__file__}::test_the_served_graph_is_fused")
        return
    single = request.getfixturevalue("single")
    blocks, groups = single.task.encoder.config.num_layers, ATTENTION_GROUPS
    # Loaded anew: only the first call shows the graph.
    serve = tf.saved_model.load(str(single.export.path)).signatures["serving_default"]
    with context.collect_graphs(optimized=True) as graphs:
        serve(text=tf.constant(["the card", "the card has not arrived"]))
    counts: Counter[str] = Counter()
    for graph in graphs:
        for node in graph.node:
            fused = [name.decode() for name in node.attr["fused_ops"].list.s]
            counts[" ".join([node.op, *fused])] += 1
    expected = {
        "_FusedMatMul BiasAdd GeluExact": blocks,
        "_FusedMatMul BiasAdd Add": 2 * blocks,  # all residual sums
        "_MklFusedBatchMatMulV2 Mul Add": blocks,  # of the group for few tokens
    }
    assert {name: counts[name] for name in expected} == expected
    # Custom gradients add this op, which passes its inputs on.
    assert counts["IdentityN"] <= blocks

    # Layers call the same functions for several groups and for many rows.
    ops = executed_ops(single.export.path, {"text": ["the card " * (1 + n) for n in range(12)]})
    # The last block computes only the first tokens, whose norm is not fused.
    expected = {"_MklFusedBatchMatMulV2": groups * blocks, "_MklLayerNorm": 2 * blocks - 1}
    assert {name: ops[name] for name in expected} == expected
    assert not ops["FusedBatchNormV3"]
