"""The operations of a LiteRT model: which are custom, and which XNNPACK computes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["TEXT_OPS", "Delegation", "custom_ops", "delegation", "pack", "schema", "unpack"]

# tf.text's ops in `tflite_registrar.SELECT_TFTEXT_OPS` that this package's graphs use.
TEXT_OPS = frozenset(
    {
        "FastBertNormalize",
        "FastWordpieceTokenizeWithOffsets",
        "TFText>ByteSplitByOffsets",
        "TFText>ByteSplitWithOffsets",
    }
)


@dataclass(frozen=True)
class Delegation:
    """The operations that XNNPACK computes.

    Attributes:
        nodes: int. The operations of the main graph.
        outside: name of an operation -> count, of those that XNNPACK does not compute.
    """

    nodes: int
    outside: dict[str, int]

    def __str__(self) -> str:
        """Returns one line."""
        inside = self.nodes - sum(self.outside.values())
        others = ", ".join(f"{name} {count}" for name, count in self.outside.items())
        text = f"XNNPACK computes {inside} of {self.nodes} operations"
        return f"{text}; others: {others}" if others else text


def schema() -> Any:
    """Returns the module with the classes of the flatbuffer."""
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


def unpack(model: bytes) -> Any:
    """Converts a flatbuffer to objects that can be changed.

    Args:
        model: bytes. Buffers may follow the flatbuffer, as ai-edge-quantizer writes them.

    Returns:
        ModelT.
    """
    classes = schema()
    root = classes.ModelT.InitFromObj(classes.Model.GetRootAs(model, 0))
    for buffer in root.buffers:
        if buffer.offset > 1:  # 0 and 1 mean that the data is in the buffer
            part = model[buffer.offset : buffer.offset + buffer.size]
            buffer.data = np.frombuffer(part, np.uint8)
        buffer.offset = buffer.size = 0
    return root


def pack(root: Any) -> bytes:
    """Converts the result of `unpack` to a flatbuffer."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(root.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def custom_ops(model: bytes) -> Iterator[tuple[str, str]]:
    """Yields the custom operations of a model.

    Args:
        model: bytes, a flatbuffer.

    Yields:
        the op, and the name of its first output.
    """
    root = schema().Model.GetRootAs(model, 0)
    for number in range(root.SubgraphsLength()):
        graph = root.Subgraphs(number)
        for index in range(graph.OperatorsLength()):
            operator = graph.Operators(index)
            code = root.OperatorCodes(operator.OpcodeIndex()).CustomCode()
            if code:
                output = graph.Tensors(operator.Outputs(0)).Name()
                yield code.decode(), output.decode(errors="replace")


def delegation(interpreter: Any) -> Delegation:
    """Returns which operations of the main graph XNNPACK computes.

    Args:
        interpreter: LiteRT's Interpreter, with allocated tensors.
    """
    details = interpreter._get_ops_details()
    delegates = [op for op in details if op["op_name"] == "DELEGATE"]
    nodes = [op for op in details if op["op_name"] != "DELEGATE"]
    producers = {int(output): op for op in nodes for output in op["outputs"]}
    inside = {int(output) for op in delegates for output in op["outputs"]}
    # The others compute the inputs of the delegates and the outputs of the graph.
    pending = [int(x) for op in delegates for x in op["inputs"]]
    pending += [int(output["index"]) for output in interpreter.get_output_details()]
    outside: dict[int, str] = {}
    while pending:
        tensor = pending.pop()
        op = producers.get(tensor)
        if tensor not in inside and op is not None and op["index"] not in outside:
            outside[op["index"]] = op["op_name"]
            pending += [int(x) for x in op["inputs"]]
    return Delegation(len(nodes), dict(Counter(outside.values()).most_common()))
