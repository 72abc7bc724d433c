"""Which operations an export may consist of."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from tensorflow.core.protobuf import saved_model_pb2

from keras_bert_zoo.errors import ExportError

# Ops that run Python, which is not there in TF Serving.
_PYTHON = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})

# Ops that are random: dropout that was left on.
_RANDOM = ("RandomUniform", "RandomStandardNormal", "TruncatedNormal", "StatelessRandom", "Dropout")

# Ops of XLA, which TF Serving on CPU does not compile with.
_XLA = ("Xla", "_Xla")

# Attributes that make a function compile or fail.
_MUST_COMPILE = ("_XlaMustCompile", "jit_compile")

# tf.text's ops with a name space, out of those that TF Serving has. It lacks, up to 2.19.1,
# TFText>RoundRobinTrim, and that fails at the first request, not when the model is loaded.
_NAMESPACED = frozenset({"TFText>ByteSplitWithOffsets", "TFText>ByteSplitByOffsets"})


def audit_saved_model(directory: str | os.PathLike[str]) -> set[str]:
    """Checks every node of a SavedModel, those of its functions included.

    Args:
        directory: of the SavedModel.

    Returns:
        the names of all ops in it.

    Raises:
        ExportError: listing the ops that stock TF Serving could not run.
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
            f"The graph holds what TF Serving cannot run: {'; '.join(sorted(refused))}."
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
        return "is not in every TF Serving"
    return None
