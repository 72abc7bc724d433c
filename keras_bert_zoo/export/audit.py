"""Checks that TF Serving can run all operations of an export."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from tensorflow.core.protobuf import saved_model_pb2

from keras_bert_zoo.errors import ExportError

# Ops that run Python, which TF Serving does not have.
_PYTHON = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})

# Random ops. They show that dropout was not turned off.
_RANDOM = ("RandomUniform", "RandomStandardNormal", "TruncatedNormal", "StatelessRandom", "Dropout")

# Ops of XLA. TF Serving on CPU has no XLA compiler.
_XLA = ("Xla", "_Xla")

# Attributes of functions that must be compiled.
_MUST_COMPILE = ("_XlaMustCompile", "jit_compile")

# The ops of tf.text with a namespace that TF Serving has. Up to 2.19.1, it lacks
# TFText>RoundRobinTrim: the first request then fails, although the model was loaded.
_NAMESPACED = frozenset({"TFText>ByteSplitWithOffsets", "TFText>ByteSplitByOffsets"})


def audit_saved_model(directory: str | os.PathLike[str]) -> set[str]:
    """Checks every node of a SavedModel and of its functions.

    Args:
        directory: path of the SavedModel.

    Returns:
        set of str, the names of its ops.

    Raises:
        ExportError: TF Serving cannot run some ops. The message lists them.
    """
    saved_model = saved_model_pb2.SavedModel()
    with open(os.path.join(directory, "saved_model.pb"), "rb") as file:
        saved_model.ParseFromString(file.read())
    ops, refused = set(), set()
    for meta_graph in saved_model.meta_graphs:
        for where, node in _nodes(meta_graph.graph_def):
            ops.add(node.op)
            reason = _refusal(node)
            if reason:
                refused.add(f"{node.op} in {where} ({reason})")
        for function in meta_graph.graph_def.library.function:
            if any(function.attr[name].b for name in _MUST_COMPILE if name in function.attr):
                refused.add(f"{function.signature.name} (must be compiled by XLA)")
    if refused:
        raise ExportError(
            f"TF Serving cannot run these parts of the graph: {'; '.join(sorted(refused))}."
        )
    return ops


def _nodes(graph: Any) -> Iterator[tuple[str, Any]]:
    for node in graph.node:
        yield "the main graph", node
    for function in graph.library.function:
        for node in function.node_def:
            yield function.signature.name, node


def _refusal(node: Any) -> str | None:
    if node.op in _PYTHON:
        return "runs Python"
    if node.op.startswith(_RANDOM):
        return "is random"
    if node.op.startswith(_XLA) or any(
        node.attr[name].b for name in _MUST_COMPILE if name in node.attr
    ):
        return "must be compiled by XLA"
    if ">" in node.op and node.op not in _NAMESPACED:
        return "is missing in some versions of TF Serving"
    return None
