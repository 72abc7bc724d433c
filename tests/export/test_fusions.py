"""The exported graph is written in the forms that oneDNN fuses: count them where it runs."""

import os
from collections import Counter
from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow.python.eager import context

from keras_bert_zoo.export.saved_model import ATTENTION_GROUPS

# tensorflow/core/util/util.cc: oneDNN is on by default where the CPU has one of these.
NEEDED = ("avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16")


def onednn_is_on() -> bool:
    chosen = os.environ.get("TF_ENABLE_ONEDNN_OPTS")
    if chosen is not None:
        return chosen.lower() in ("1", "true")
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and any(flag in cpuinfo.read_text() for flag in NEEDED)


@pytest.mark.skipif(not onednn_is_on(), reason="TensorFlow does not use oneDNN on this CPU")
def test_the_served_graph_is_fused(single):
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
    # All residual sums but one: of the last block only the first tokens' outputs are computed,
    # gathered in two ways, and TensorFlow cannot know that their shapes agree.
    expected = {
        "_FusedMatMul BiasAdd GeluExact": blocks,
        "_FusedMatMul BiasAdd Add": 2 * blocks - 1,
        "_MklFusedBatchMatMulV2 Mul Add": groups * blocks,
        "_MklLayerNorm": 2 * blocks + 1,
    }
    assert {name: counts[name] for name in expected} == expected
    assert not counts["FusedBatchNormV3"]
    assert not counts["IdentityN"]
