"""Products of dense layers in int8, with the fused kernel of TensorFlow's oneDNN build."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2

LEVELS = 127
"""The number of steps from 0 to the end of a range."""

# The op's names of the activations that it computes in the same pass. The others follow it.
FUSED_ACTIVATIONS = {
    "linear": (),
    "gelu": ("GeluExact",),
    "gelu_python": ("GeluExact",),
    "gelu_new": ("GeluApproximate",),
    "gelu_fast": ("GeluApproximate",),
    "gelu_pytorch_tanh": ("GeluApproximate",),
    "gelu_python_tanh": ("GeluApproximate",),
    "relu": ("Relu",),
}


@dataclass(frozen=True, eq=False)
class Int8Product:
    """The constants of a dense layer in int8.

    A range is the number whose int8 value is 127. Each column of the kernel has its range, and the
    input has one. If some of the input's columns are far wider than others, it is divided by
    `factors` first, and the kernel's rows are multiplied by them (SmoothQuant, arXiv 2211.10438).

    Attributes:
        kernel: int8 (in, out).
        kernel_range: float32 (out,).
        bias: float32 (out,).
        input_range: float.
        factors: float32 (in,) or None.
        activation: str. Of the layer.
        output_range: float or None. If not None, the output stays int8, for another such product.
    """

    kernel: np.ndarray
    kernel_range: np.ndarray
    bias: np.ndarray
    input_range: float
    factors: np.ndarray | None
    activation: str
    output_range: float | None = None

    @property
    def fuses(self) -> bool:
        """Whether the kernel computes the activation, too."""
        return self.activation in FUSED_ACTIVATIONS

    @property
    def nbytes(self) -> int:
        """Size of the constants, in bytes."""
        factors = 0 if self.factors is None else self.factors.nbytes
        return self.kernel.nbytes + self.kernel_range.nbytes + self.bias.nbytes + factors


def join_products(products: Sequence[Int8Product]) -> Int8Product:
    """Joins the products of one input: their outputs are side by side."""
    first = products[0]
    return Int8Product(
        kernel=np.concatenate([part.kernel for part in products], axis=1),
        kernel_range=np.concatenate([part.kernel_range for part in products]),
        bias=np.concatenate([part.bias for part in products]),
        input_range=first.input_range,
        factors=first.factors,
        activation=first.activation,
    )


def quantized(x: np.ndarray, most: np.ndarray | float) -> np.ndarray:
    """Rounds float (..., n) to int8, as TensorFlow does; `most` is the range, () or (n,)."""
    scale = np.float32(LEVELS) / np.asarray(most, np.float32)
    return np.clip(np.rint(x * scale), -LEVELS - 1, LEVELS).astype(np.int8)


def int8_affine(
    product: Int8Product, x: tf.Tensor, *, dtype: str, residual: tf.Tensor | None = None
) -> tf.Tensor:
    """Computes `x @ kernel + bias + residual` or, without `residual`, the activation of it.

    The kernel runs on x86-64 CPUs.

    Args:
        product: Int8Product.
        x: float (T, in), or qint8 from a product with an `output_range`.
        dtype: "float32" or "bfloat16". Of the result and of `residual`.
        residual: float (T, out) or None. Only without an activation.

    Returns:
        float (T, out), or qint8 with an `output_range`.
    """
    if tf.executing_eagerly():  # the op has no eager kernel
        arguments = [x] if residual is None else [x, residual]
        graph = tf.function(
            lambda x, residual=None: int8_affine(product, x, dtype=dtype, residual=residual),
            autograph=False,
        )
        result: tf.Tensor = graph.get_concrete_function(*arguments)(*arguments)
        return result
    if x.dtype != tf.qint8:
        x = tf.cast(x, tf.float32)
        if product.factors is not None:
            x *= (1 / product.factors).astype(np.float32)
        x = _quantize(x, product.input_range)
    kernel = tf.bitcast(tf.constant(product.kernel), tf.qint8)
    inputs = [x, kernel, tf.constant(product.bias)]
    fused = ["BiasAdd"]
    if residual is not None:
        inputs.append(residual)
        fused.append("Add")
    elif product.fuses:
        fused += FUSED_ACTIVATIONS[product.activation]
    inputs += [_constant(-product.input_range), _constant(product.input_range)]
    inputs += [tf.constant(-product.kernel_range), tf.constant(product.kernel_range)]
    outputs = [tf.as_dtype(dtype)]
    if product.output_range is None:
        fused.append("Dequantize")
    else:
        fused.append("Requantize")
        inputs += [_constant(-product.output_range), _constant(product.output_range)]
        outputs = [tf.qint8, tf.float32, tf.float32]
    result = (
        tf.compat.v1.get_default_graph()
        .create_op(
            "_QuantizedMatMul",
            inputs,
            outputs,
            name="int8_product",
            attrs={
                "Tdevice_inputs": _types([]),
                "Thost_inputs": _types([tensor.dtype for tensor in inputs]),
                "Tdevice_outputs": _types([]),
                "Thost_outputs": _types(outputs),
                "T1": _type(tf.qint8),
                "T2": _type(tf.qint8),
                "Tbias": _type(tf.float32),
                "U": _type(tf.float32 if residual is None else residual.dtype),
                "Tout": _type(outputs[0]),
                "transpose_a": attr_value_pb2.AttrValue(b=False),
                "transpose_b": attr_value_pb2.AttrValue(b=False),
                "is_weight_const": attr_value_pb2.AttrValue(b=True),
                "is_bias_const": attr_value_pb2.AttrValue(b=True),
                "fused_ops": attr_value_pb2.AttrValue(
                    list=attr_value_pb2.AttrValue.ListValue(s=[name.encode() for name in fused])
                ),
                "input_quant_mode": attr_value_pb2.AttrValue(s=b"SCALED"),
                "output_quant_mode": attr_value_pb2.AttrValue(s=b"SCALED"),
                "leakyrelu_alpha": attr_value_pb2.AttrValue(f=0.0),
            },
        )
        .outputs[0]
    )
    result.set_shape([x.shape[0], product.kernel.shape[1]])
    return result


def _quantize(x: tf.Tensor, most: float) -> tf.Tensor:
    return tf.raw_ops.QuantizeV2(
        input=x, min_range=_constant(-most), max_range=_constant(most), T=tf.qint8, mode="SCALED"
    ).output


def _constant(value: float) -> tf.Tensor:
    return tf.constant(value, tf.float32)


def _type(dtype: tf.DType) -> attr_value_pb2.AttrValue:
    return attr_value_pb2.AttrValue(type=dtype.as_datatype_enum)


def _types(dtypes: Sequence[tf.DType]) -> attr_value_pb2.AttrValue:
    values = [dtype.as_datatype_enum for dtype in dtypes]
    return attr_value_pb2.AttrValue(list=attr_value_pb2.AttrValue.ListValue(type=values))
