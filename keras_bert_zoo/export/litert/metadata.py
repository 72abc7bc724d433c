"""The metadata that MediaPipe's and the Task Library's text tasks read.

The metadata are a second flatbuffer in a buffer of the model. They name the inputs and outputs, the
tokenizer and the files at the end of the model's file.

Source: metadata_schema.fbs of MediaPipe, whose field numbers this module uses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_bert_zoo.export.litert.ops import pack, schema, unpack

__all__ = ["TensorInfo", "with_metadata"]

_NAME = "TFLITE_METADATA"
_IDENTIFIER = b"M001"
_PARSER = "1.1.0"  # the first version of the schema with tokenizers
# Enumerations of the schema.
_AXIS_LABELS, _VOCABULARY = 2, 5
_FEATURE_PROPERTIES = 1
_BERT_TOKENIZER = 4

Field = Callable[[Any], None]


@dataclass(frozen=True)
class TensorInfo:
    """The metadata of an input or an output.

    Attributes:
        name: str. The name that the task looks for, such as "ids".
        description: str.
        labels: names of files with the labels of the last axis.
    """

    name: str
    description: str
    labels: Sequence[str] = field(default=())


def with_metadata(
    model: bytes,
    *,
    name: str,
    description: str,
    inputs: Mapping[str, TensorInfo],
    outputs: Mapping[str, TensorInfo],
    vocabulary: str,
) -> bytes:
    """Adds metadata to a model of one subgraph.

    Args:
        model: bytes, a flatbuffer.
        name: str. Of the model.
        description: str.
        inputs: name in the signature -> TensorInfo.
        outputs: the same.
        vocabulary: str. The name of the file with the vocabulary of BERT's tokenizer.

    Returns:
        bytes.
    """
    classes = schema()
    root = unpack(model)
    (graph,) = root.subgraphs
    (signature,) = root.signatureDefs
    ordered = [
        [
            infos[names[int(index)]]
            for names in [{tensor.tensorIndex: tensor.name.decode() for tensor in tensors}]
            for index in indices
        ]
        for infos, tensors, indices in (
            (inputs, signature.inputs, graph.inputs),
            (outputs, signature.outputs, graph.outputs),
        )
    ]
    data = _metadata(name, description, *ordered, vocabulary=vocabulary)
    buffer = classes.BufferT()
    buffer.data = np.frombuffer(data, np.uint8)
    entry = classes.MetadataT()
    entry.name, entry.buffer = _NAME, len(root.buffers)
    root.buffers.append(buffer)
    root.metadata = [*(root.metadata or []), entry]
    return pack(root)


def _metadata(
    name: str,
    description: str,
    inputs: Sequence[TensorInfo],
    outputs: Sequence[TensorInfo],
    *,
    vocabulary: str,
) -> bytes:
    """Returns the flatbuffer of the metadata."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)

    def table(fields: Mapping[int, Field | None]) -> Any:
        builder.StartObject(max(fields, default=-1) + 1)
        for number, add in fields.items():
            if add is not None:
                add(number)
        return builder.EndObject()

    def offset(value: Any) -> Field:
        return lambda number: builder.PrependUOffsetTRelativeSlot(number, value, 0)

    def byte(value: int) -> Field:
        return lambda number: builder.PrependUint8Slot(number, value, 0)

    def string(value: str) -> Field:
        return offset(builder.CreateString(value))

    def vector(values: Sequence[Any]) -> Field | None:
        if not values:
            return None
        builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            builder.PrependUOffsetTRelative(value)
        return offset(builder.EndVector())

    def file(path: str, kind: int) -> Any:
        return table({0: string(path), 2: byte(kind)})

    def tensor(info: TensorInfo) -> Any:
        properties = table({})
        content = table({0: byte(_FEATURE_PROPERTIES), 1: offset(properties)})
        labels = vector([file(path, _AXIS_LABELS) for path in info.labels])
        return table(
            {0: string(info.name), 1: string(info.description), 3: offset(content), 6: labels}
        )

    tokenizer = table({0: vector([file(vocabulary, _VOCABULARY)])})
    unit = table({0: byte(_BERT_TOKENIZER), 1: offset(tokenizer)})
    subgraph = table(
        {
            2: vector([tensor(info) for info in inputs]),
            3: vector([tensor(info) for info in outputs]),
            5: vector([unit]),
        }
    )
    model = table(
        {
            0: string(name),
            1: string(description),
            3: vector([subgraph]),
            7: string(_PARSER),
        }
    )
    builder.Finish(model, _IDENTIFIER)
    return bytes(builder.Output())
