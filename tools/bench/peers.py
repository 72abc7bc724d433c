"""The engines that benchmarks compare: an export in a session, and peers on the same weights.

Each is a function from a list of str to a float32 array, tokenization included. The peers use
Hugging Face's tokenizers and pad to the longest text of the batch. They need the extra `parity`.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

import numpy as np
import onnxruntime
import openvino
import torch
from onnxruntime.quantization import quantize_dynamic
from transformers import AutoTokenizer

from keras_bert_zoo.export.session import ExportSession

Engine = Callable[[list[str]], np.ndarray]
# Converts the model's first output (B, ...) and the padding mask (B, S) to the answer (B, ...).
Finish = Callable[[np.ndarray, np.ndarray], np.ndarray]


def export_engine(path: Path, output: str) -> Engine:
    """An export in a session, as in TF Serving, without eager execution."""
    session = ExportSession(path)
    return lambda texts: session.run({"text": texts})[output]


def peer_engines(
    directory: Path, kind: Any, finish: Finish, *, max_length: int, names: list[str]
) -> dict[str, Engine]:
    """Builds the engines of the peers.

    Args:
        directory: a Hugging Face directory.
        kind: the class of transformers that loads the model, such as `AutoModel`.
        finish: see `Finish`.
        max_length: int. Longer texts are truncated.
        names: keys of `PEERS`.

    Returns:
        dict, name -> engine.
    """
    tokenizer = AutoTokenizer.from_pretrained(directory)

    def engine(run: Callable[[dict[str, np.ndarray]], np.ndarray]) -> Engine:
        def answer(texts: list[str]) -> np.ndarray:
            batch = dict(
                tokenizer(
                    texts, padding=True, truncation=True, max_length=max_length, return_tensors="np"
                )
            )
            return finish(np.asarray(run(batch), np.float32), batch["attention_mask"])

        return answer

    example = dict(tokenizer(["an example", "another one"], padding=True, return_tensors="pt"))
    return {
        name: engine(PEERS[name](lambda dtype: _load(kind, directory, dtype), example, directory))
        for name in names
    }


def softmax(logits: np.ndarray, _: Any = None) -> np.ndarray:
    """Returns the probabilities of logits (B, labels)."""
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def unit_mean(states: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Returns the mean of the tokens' states (B, S, H), with unit norm."""
    mask = mask[..., np.newaxis].astype(np.float32)
    mean = (states * mask).sum(1) / mask.sum(1)
    return mean / np.linalg.norm(mean, axis=-1, keepdims=True)


def _load(kind: Any, directory: Path, dtype: torch.dtype) -> Any:
    return kind.from_pretrained(directory, dtype=dtype, attn_implementation="sdpa").eval()


def _torch(dtype: torch.dtype) -> Any:
    def build(load: Any, *_: Any) -> Any:
        model = load(dtype)

        def run(batch: dict[str, np.ndarray]) -> np.ndarray:
            with torch.inference_mode():
                outputs = model(**{name: torch.from_numpy(ids) for name, ids in batch.items()})
            return outputs[0].float().numpy()

        return run

    return build


class _FirstOutput(torch.nn.Module):
    """A model as a function of tensors in order, which the exporter traces."""

    def __init__(self, model: Any, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        return self.model(**dict(zip(self.names, tensors, strict=True)))[0]


def _onnx_runtime(quantized: bool) -> Any:
    def build(load: Any, example: dict[str, torch.Tensor], directory: Path) -> Any:
        path = directory / "model.onnx"
        if not path.exists():
            axes = {name: {0: "rows", 1: "columns"} for name in example}
            with torch.inference_mode():
                torch.onnx.export(
                    _FirstOutput(load(torch.float32), list(example)),
                    tuple(example.values()), str(path), dynamo=False, opset_version=17,
                    input_names=list(example), output_names=["output"],
                    dynamic_axes=axes | {"output": {0: "rows"}},
                )  # fmt: skip
        if quantized:
            quantize_dynamic(path, directory / "int8.onnx")
            path = directory / "int8.onnx"
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return lambda batch: session.run(["output"], batch)[0]

    return build


def _openvino(precision: str) -> Any:
    def build(load: Any, example: dict[str, torch.Tensor], _: Path) -> Any:
        with torch.inference_mode():
            model = openvino.convert_model(load(torch.float32), example_input=example)
        options = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        compiled = openvino.Core().compile_model(model, "CPU", options)
        return lambda batch: compiled(batch)[0]

    return build


PEERS = {
    "torch float32": _torch(torch.float32),
    "torch bfloat16": _torch(torch.bfloat16),
    "ONNX Runtime float32": _onnx_runtime(quantized=False),
    "ONNX Runtime int8": _onnx_runtime(quantized=True),
    "OpenVINO float32": _openvino("f32"),
    "OpenVINO bfloat16": _openvino("bf16"),
}
