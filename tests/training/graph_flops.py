"""Counts the floating-point operations of a graph from the shapes of its products."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf


def graph_flops(function: Callable[[], Any]) -> float:
    """The operations of all products that the results of a function need, gradients included.

    TensorFlow would not compute the other operations of the graph. Products with one row of results
    are not counted: they are the sums of rows that biases have as gradients.

    Args:
        function: returns tensors; it is traced.
    """
    wrapped = tf.compat.v1.wrap_function(function, [])
    results = [tensor.op for tensor in tf.nest.flatten(wrapped.structured_outputs)]
    products = [op for op in _needed(results) if op.type in _PRODUCTS]
    with wrapped.graph.as_default():
        shapes = [(tf.shape(op.inputs[0]), tf.shape(op.outputs[0])) for op in products]
    flops = 0.0
    for op, (of_a, of_result) in zip(
        products, wrapped.prune([], shapes)() if shapes else [], strict=True
    ):
        if op.type == "MatMul" and np.asarray(of_result)[-2] == 1:
            continue
        transposed = op.get_attr("transpose_a" if op.type == "MatMul" else "adj_x")
        shared = np.asarray(of_a)[-2 if transposed else -1]
        flops += 2.0 * math.prod(np.asarray(of_result).tolist()) * int(shared)
    return flops


_PRODUCTS = ("MatMul", "BatchMatMulV2", "BatchMatMulV3", "BatchMatMul")


def _needed(results: list[tf.Operation]) -> list[tf.Operation]:
    """The operations that others depend on."""
    found, waiting = {}, list(results)
    while waiting:
        op = waiting.pop()
        if op.name in found:
            continue
        assert op.type not in ("While", "StatelessWhile", "If", "StatelessIf", "Einsum"), op
        found[op.name] = op
        waiting += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
    return list(found.values())
