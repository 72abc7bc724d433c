"""Weights of a LiteRT model in int8 or float16."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from keras_bert_zoo.export.litert.ops import pack, schema, unpack

_LARGE = 1024  # bytes of a table that is worth it


def quantized(model: bytes, dtype: str) -> bytes:
    """Returns a model with weights in another dtype.

    "float16" halves the file; the runtime converts the weights once, and computes in float32.
    "int8" has one scale per row of a weight. XNNPACK quantizes the inputs of its products in each
    call, one scale per token ("dynamic range"); all else is float32.

    Args:
        model: bytes, a float32 flatbuffer.
        dtype: "float16" or "int8".

    Returns:
        bytes.
    """
    from ai_edge_quantizer import qtyping, quantizer, recipe, recipe_manager
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    if dtype == "int8":
        chosen = recipe.dynamic_wi8_afp32()
    else:
        manager = recipe_manager.RecipeManager()
        weights = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
        for name in (
            qtyping.TFLOperationName.FULLY_CONNECTED,
            qtyping.TFLOperationName.EMBEDDING_LOOKUP,
        ):
            manager.add_quantization_config(
                regex=".*",
                operation_name=name,
                op_config=qtyping.OpQuantizationConfig(
                    weight_tensor_config=weights,
                    compute_precision=qtyping.ComputePrecision.FLOAT,
                ),
                algorithm_key=AlgorithmName.FLOAT_CASTING,
            )
        chosen = manager.get_quantization_recipe()
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            for redirect in (contextlib.redirect_stdout, contextlib.redirect_stderr):
                stack.enter_context(redirect(io.StringIO()))
            path = Path(folder, "model.tflite")
            path.write_bytes(with_lookups(model))
            tool = quantizer.Quantizer(str(path))
            tool.load_quantization_recipe(chosen)
            tool.quantize().export_model(str(path), overwrite=True)
            return path.read_bytes()
    finally:
        logger.setLevel(level)


def with_lookups(model: bytes) -> bytes:
    """Replaces GATHER of a table's rows by EMBEDDING_LOOKUP, whose table may be int8 or float16.

    Args:
        model: bytes, a flatbuffer.

    Returns:
        bytes.
    """
    classes = schema()
    root = unpack(model)
    lookup = classes.OperatorCodeT()
    lookup.builtinCode = lookup.deprecatedBuiltinCode = classes.BuiltinOperator.EMBEDDING_LOOKUP
    lookup.version = 1
    codes = len(root.operatorCodes)
    for graph in root.subgraphs:
        for operator in graph.operators:
            if _looks_up(root, graph, operator, classes):
                table, ids = operator.inputs
                operator.inputs = np.array([ids, table], np.int32)
                operator.opcodeIndex = codes
                operator.builtinOptions, operator.builtinOptionsType = None, 0
                if len(root.operatorCodes) == codes:
                    root.operatorCodes.append(lookup)
    return pack(root)


def _looks_up(root: Any, graph: Any, operator: Any, classes: Any) -> bool:
    code = root.operatorCodes[operator.opcodeIndex]
    if max(code.builtinCode, code.deprecatedBuiltinCode) != classes.BuiltinOperator.GATHER:
        return False
    table, ids = (graph.tensors[index] for index in operator.inputs)
    data = root.buffers[table.buffer].data
    return (
        data is not None
        and len(data) >= _LARGE
        and table.type == classes.TensorType.FLOAT32
        and len(table.shape) == 2
        and ids.type == classes.TensorType.INT32
        and ids.shape is not None
        and len(ids.shape) == 1
        and not operator.builtinOptions.axis
        and not operator.builtinOptions.batchDims
    )
