"""The engines that benchmarks compare: an export in a session, and peers on the same weights.

Each is a function from a list of str to a float32 array, tokenization included, or from a batch of
token ids. The peers use Hugging Face's tokenizers and pad to the longest text of the batch. They
need the extra `parity`.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

import nncf
import numpy as np
import onnxruntime
import openvino
import torch
from onnxruntime.quantization import quantize_dynamic
from transformers import AutoTokenizer

from keras_bert_zoo.export.session import ExportSession

Batch = dict[str, np.ndarray]  # the names are those of transformers: input_ids, ...
Engine = Callable[[list[str]], np.ndarray]
# Converts the model's first output (B, ...) and the padding mask (B, S) to the answer (B, ...).
Finish = Callable[[np.ndarray, np.ndarray], np.ndarray]


def export_engine(path: Path, output: str) -> Engine:
    """An export in a session, as in TF Serving, without eager execution."""
    session = ExportSession(path)
    return lambda texts: session.run({"text": texts})[output]


def peer_engines(
    directory: Path,
    kind: Any,
    finish: Finish,
    *,
    max_length: int,
    names: Sequence[str] | None = None,
    calibration: Sequence[str] = (),
) -> dict[str, Engine]:
    """Builds the engines of the peers.

    Args:
        directory: a Hugging Face directory.
        kind: the class of transformers that loads the model, such as `AutoModel`.
        finish: see `Finish`.
        max_length: int. Longer texts are truncated.
        names: keys of `PEERS`; None selects all. Without `calibration`, that is all but
            `CALIBRATED`.
        calibration: texts for the peer `CALIBRATED`.

    Returns:
        dict, name -> engine.
    """
    tokenizer = AutoTokenizer.from_pretrained(directory)

    def tokenized(texts: list[str]) -> Batch:
        return dict(
            tokenizer(
                texts, padding=True, truncation=True, max_length=max_length, return_tensors="np"
            )
        )

    def engine(run: Callable[[Batch], np.ndarray]) -> Engine:
        def answer(texts: list[str]) -> np.ndarray:
            batch = tokenized(texts)
            return finish(np.asarray(run(batch), np.float32), batch["attention_mask"])

        return answer

    batches = [tokenized([text]) for text in calibration]
    runs = peer_runs(directory, kind, tokenized(["an example", "another"]), names, batches)
    return {name: engine(run) for name, run in runs.items()}


def peer_runs(
    directory: Path,
    kind: Any,
    example: Batch,
    names: Sequence[str] | None = None,
    calibration: Sequence[Batch] = (),
) -> dict[str, Callable[[Batch], Any]]:
    """Builds the peers as functions from a batch of token ids to the model's first output.

    Args:
        directory: a Hugging Face directory.
        kind: the class of transformers that loads the model.
        example: a batch with at least two rows, for tracing.
        names: as in `peer_engines`.
        calibration: batches for the peer `CALIBRATED`.

    Returns:
        dict, name -> function.
    """
    if names is None:
        names = [name for name in PEERS if calibration or name != CALIBRATED]
    tensors = {name: torch.from_numpy(np.asarray(ids)) for name, ids in example.items()}

    def load(dtype: torch.dtype) -> Any:
        model = kind.from_pretrained(directory, dtype=dtype, attn_implementation="sdpa")
        return model.eval()

    return {name: PEERS[name](load, tensors, directory, calibration) for name in names}


def softmax(logits: np.ndarray, _: Any = None) -> np.ndarray:
    """Returns the probabilities of logits (B, labels)."""
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def unit_mean(states: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Returns the mean of the tokens' states (B, S, H), with unit norm."""
    mask = mask[..., np.newaxis].astype(np.float32)
    mean = (states * mask).sum(1) / mask.sum(1)
    return mean / np.linalg.norm(mean, axis=-1, keepdims=True)


def _torch(dtype: torch.dtype) -> Any:
    def build(load: Any, *_: Any) -> Any:
        model = load(dtype)

        def run(batch: Batch) -> np.ndarray:
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
    def build(load: Any, example: dict[str, torch.Tensor], directory: Path, _: Any) -> Any:
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


def _openvino(precision: str, *, quantized: bool = False) -> Any:
    def build(
        load: Any, example: dict[str, torch.Tensor], _: Path, calibration: Sequence[Batch]
    ) -> Any:
        with torch.inference_mode():
            model = openvino.convert_model(load(torch.float32), example_input=example)
        if quantized:
            data = nncf.Dataset(calibration)
            size = len(calibration)
            kind = nncf.ModelType.TRANSFORMER
            model = nncf.quantize(model, data, model_type=kind, subset_size=size)
        options = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        compiled = openvino.Core().compile_model(model, "CPU", options)
        return lambda batch: compiled(batch)[0]

    return build


CALIBRATED = "OpenVINO int8 (static)"
PEERS = {
    "torch float32": _torch(torch.float32),
    "torch bfloat16": _torch(torch.bfloat16),
    "ONNX Runtime float32": _onnx_runtime(quantized=False),
    "ONNX Runtime int8 (dynamic)": _onnx_runtime(quantized=True),
    "OpenVINO float32": _openvino("f32"),
    "OpenVINO bfloat16": _openvino("bf16"),
    CALIBRATED: _openvino("bf16", quantized=True),
}
