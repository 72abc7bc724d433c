"""Files of an export for TF Serving: warm-up requests and batching parameters."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_bert_zoo.tasks.task import Task

WARMUP_FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")
BATCHING_FILE = "batching_params.pbtxt"
REQUIREMENTS_FILE = os.path.join("assets.extra", "REQUIREMENTS.txt")

# Batch sizes of a server: single requests and joined requests.
_BATCH_SIZES = (1, 2, 4, 8, 16, 32)

_SENTENCE = "The quick brown fox jumps over the lazy dog, and 13 others don't. "

_BATCHING = """\
# For tensorflow_model_server --enable_batching --enable_per_model_batching_parameters. The server
# then joins requests that arrive together.

# Texts in a batch. Larger batches are not faster on a CPU, and every text waits for its batch.
max_batch_size { value: 32 }

# The waiting time of the first text of a batch: about a tenth of its computing time.
batch_timeout_micros { value: 1000 }

# Batches at the same time. Each of them uses several cores.
num_batch_threads { value: 2 }

# Batches that may wait. Further requests are refused (UNAVAILABLE, 503): their clients would
# time out before the answer.
max_enqueued_batches { value: 64 }

# Do not add pad_variable_length_inputs: it would fill `padding_mask` with ones.
# Send strings, or token ids that are padded to one length.
"""


_REQUIREMENTS = """\
This model multiplies matrices in int8, with the op _QuantizedMatMul of TensorFlow 2.20 or newer for
x86-64 CPUs (oneDNN). Other builds of TensorFlow refuse to load it.
It is fast on CPUs with AMX or AVX512_VNNI.
"""


def write_requirements(directory: Path) -> None:
    """Writes `REQUIREMENTS_FILE` of an int8 export into a version's directory.

    Args:
        directory: path of the version.

    Raises:
        OSError: the file cannot be written.
    """
    path = directory / REQUIREMENTS_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_REQUIREMENTS, encoding="utf-8")


def write_batching_parameters(directory: Path) -> None:
    """Writes `BATCHING_FILE` into a version's directory.

    Args:
        directory: path of the version.

    Raises:
        OSError: the file cannot be written.
    """
    (directory / BATCHING_FILE).write_text(_BATCHING, encoding="utf-8")


def write_warmup_requests(
    directory: Path, task: Task, *, model_name: str, pair: bool | None = None
) -> None:
    """Writes requests that TF Serving answers before it serves a version.

    The first call of a graph optimizes it, and oneDNN prepares its kernels for every new shape.
    Without warm-up, the first requests would be slow.

    Args:
        directory: path of the version.
        task: the exported task.
        model_name: the model's name in TF Serving.
        pair: bool. See `Task.text_specs`.

    Raises:
        OSError: the file cannot be written.
    """
    path = directory / WARMUP_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in _requests(task, pair):
            writer.write(_prediction_log(model_name, signature, inputs))


def _requests(task: Task, pair: bool | None) -> list[tuple[str, dict[str, np.ndarray]]]:
    requests = []
    for size in _BATCH_SIZES:
        # From a few words to the longest input that is not truncated.
        longest = max(1, task.max_length // 16)
        for repeats in (1, longest):
            texts = [_SENTENCE * (1 + i * (repeats - 1) // size) for i in range(size)]
            requests.append(("serving_default", _inputs(task, texts, pair)))
    columns = _inputs(task, [_SENTENCE], pair).values()
    tokens, _ = task.encode_texts(*map(tf.constant, columns))
    requests.append(("tokens", {name: tokens[name].numpy() for name in task.spec.serving_inputs()}))
    return requests


def _inputs(task: Task, texts: list[str], pair: bool | None) -> dict[str, np.ndarray]:
    """Returns the texts for every input, repeated to the number of its columns."""
    array = np.array([text.encode() for text in texts], dtype=object)
    inputs = {}
    for name, spec in task.text_specs(pair=pair).items():
        wider = array.reshape(-1, *[1] * (spec.shape.rank - 1))
        inputs[name] = np.tile(wider, [1, *spec.shape[1:]])
    return inputs


def _prediction_log(model_name: str, signature: str, inputs: dict[str, np.ndarray]) -> bytes:
    # The import is here because it also imports gRPC.
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name = model_name
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return bytes(log.SerializeToString())
