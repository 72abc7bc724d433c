"""The exported graph is written in the forms that oneDNN fuses: count them."""

from collections import Counter

import tensorflow as tf
from tensorflow.python.eager import context

from keras_bert_zoo.export import signatures
from tests.export.conftest import ATTENTION_GROUPS
from tests.export.test_families import small_task
from tests.helpers import executed_ops, onednn_is_on, run_with_onednn


def count_nodes(graphs):
    counts: Counter[str] = Counter()
    for graph in graphs:
        for node in graph.node:
            fused = [name.decode() for name in node.attr["fused_ops"].list.s]
            counts[" ".join([node.op, *fused])] += 1
    return counts


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
    counts = count_nodes(graphs)
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


def test_gated_layers_without_biases_are_fused(tokenizer):
    """ModernBERT's: TensorFlow fuses neither a bias of zeros nor a half of a product."""
    if not onednn_is_on():
        run_with_onednn(f"{__file__}::test_gated_layers_without_biases_are_fused")
        return
    task = small_task("modernbert", tokenizer)
    blocks = task.encoder.config.num_layers
    assert not task.encoder.blocks[0].feed_forward.expansion.use_bias
    stage = signatures._Stage(task, dtype="float32", freeze=True, attention_groups=2)
    texts = tf.constant(["the card " * (1 + n) for n in range(12)])
    with context.collect_graphs(optimized=True) as graphs:
        task.answer_with([stage.run], texts, options=task.options)
    counts = count_nodes(graphs)
    expected = {
        "_FusedMatMul BiasAdd GeluExact": blocks + 1,  # and the head's
        "_FusedMatMul BiasAdd Add": 2 * blocks,  # all residual sums
    }
    assert {name: counts[name] for name in expected} == expected, counts
    assert not counts["Erf"] + counts["FusedBatchNormV3"]
